"""Asking a judge about labelled pairs and hostile responses, through the ledger.

What was asked before costs nothing, as everywhere; a pair whose replies are missing or unreadable
has no verdict, with its reasons counted.
"""

import math
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import NamedTuple

from mipo_eval.backends.base import Request
from mipo_eval.judges.attacks import Attack, HostileDuel
from mipo_eval.judges.judge import Judge
from mipo_eval.judges.labelled import LabelledPair
from mipo_eval.judges.pairwise import ChoiceRequest, choice_requests, read_choice
from mipo_eval.judges.parse import rating_probabilities
from mipo_eval.judges.readings import PairReading
from mipo_eval.judges.rubric import HIGH, LOW, RatingRequest, rating_requests, read_rating
from mipo_eval.judges.verdict import Verdict
from mipo_eval.records import Item
from mipo_eval.store import Store
from mipo_eval.store.ledger import Call, Ledger

Advance = Callable[[int], None]


class _Place(NamedTuple):
    """Which request of which subject."""

    subject: int
    side: int
    """0 for the first text or order, 1 for the second."""
    request: Request


async def judge_pairs(
    store: Store, judge: Judge, pairs: Sequence[LabelledPair], *, advance: Advance = lambda _: None
) -> tuple[PairReading, ...]:
    """Return what a judge says of labelled pairs, by its protocol.

    A judge that rates is asked for every preference of both responses, one that chooses is asked
    in both orders.

    Raises:
        BackendError: the judge cannot be asked any more; what it answered is stored.
    """
    rates = judge.protocol == "rubric"
    questions = _pair_ratings(judge, pairs) if rates else _pair_choices(judge, pairs)
    sides: list[tuple[list[Call], list[Call]]] = [([], []) for _ in pairs]
    asked: dict[tuple[int, int], ChoiceRequest] = {}
    async for place, call in _answers(store, judge, questions):
        sides[place.subject][place.side].append(call)
        if isinstance(place.request, ChoiceRequest):
            asked[place.subject, place.side] = place.request
        advance(1)
    if rates:
        return tuple(_rated(pair, *calls) for pair, calls in zip(pairs, sides, strict=True))
    readings = []
    for index, pair in enumerate(pairs):
        said = [_chosen(judge, asked[index, side], sides[index][side][0]) for side in (0, 1)]
        made = PairReading.of(pair, said[0][0], said[1][0])
        calls = [*sides[index][0], *sides[index][1]]
        readings.append(replace(made, unread=_reasons(said), trouble=_trouble(calls)))
    return tuple(readings)


def count_questions(judge: Judge, pairs: Sequence[LabelledPair]) -> int:
    """Return how many replies `judge_pairs` needs, those that the ledger has among them."""
    if judge.protocol != "rubric":
        return 2 * len(pairs)
    return sum(2 * len(pair.item().preferences) for pair in pairs)


async def judge_attacks(
    store: Store,
    judge: Judge,
    items: Sequence[Item],
    hostile: Sequence[Attack],
    *,
    advance: Advance = lambda _: None,
) -> tuple[HostileDuel, ...]:
    """Return how hostile responses fare against the items' references, item by item.

    Args:
        store: where the calls are kept.
        judge: who rates ("rubric") or chooses.
        items: with preferences and an honest reference each.
        hostile: the responses that only ask to win.
        advance: called with how many more calls are done.

    Raises:
        BackendError: the judge cannot be asked any more; what it answered is stored.
    """
    subjects = [(item, attack) for item in items if item.reference for attack in hostile]
    pairs = [
        LabelledPair(
            pair_id=str(index),
            prompt=item.prompt,
            first=attack.text,
            second=item.reference or "",
            label="b",
            preferences=item.preferences,
        )
        for index, (item, attack) in enumerate(subjects)
    ]
    readings = await judge_pairs(store, judge, pairs, advance=advance)
    outcomes: dict[Verdict | None, str | None] = {"a": "win", "b": "loss", "tie": "tie", None: None}
    return tuple(
        HostileDuel(attack, outcomes[reading.verdict], item.group, why_not(reading))  # type: ignore[arg-type]
        for (item, attack), reading in zip(subjects, readings, strict=True)
    )


def why_not(reading: PairReading) -> str:
    """Return why a reading has no verdict; empty where it has one."""
    return "" if reading.verdict else reading.trouble or next(iter(reading.unread), "")


async def _answers(
    store: Store, judge: Judge, questions: Iterable[tuple[_Place, Request]]
) -> AsyncGenerator[tuple[_Place, Call], None]:
    ledger: Ledger[_Place] = Ledger(store, judge.backend)
    async with aclosing(ledger.ask(questions)) as answers:
        async for place, call in answers:
            yield place, call


def _pair_ratings(
    judge: Judge, pairs: Sequence[LabelledPair]
) -> Iterator[tuple[_Place, RatingRequest]]:
    for subject, pair in enumerate(pairs):
        item = pair.item()
        for side, text in enumerate((pair.first, pair.second)):
            for request in rating_requests(judge, item, text):
                yield _Place(subject, side, request), request


def _pair_choices(
    judge: Judge, pairs: Sequence[LabelledPair]
) -> Iterator[tuple[_Place, ChoiceRequest]]:
    for subject, pair in enumerate(pairs):
        for side, request in enumerate(
            choice_requests(judge, pair.item(), pair.first, pair.second)
        ):
            yield _Place(subject, side, request), request


def _chosen(judge: Judge, request: ChoiceRequest, call: Call) -> tuple[Verdict | None, str | None]:
    return read_choice(judge, request, call.text, call.status)


def _reasons(said: Iterable[tuple[object, str | None]]) -> tuple[str, ...]:
    return tuple(reason for _, reason in said if reason is not None)


def _trouble(calls: Iterable[Call]) -> str:
    return next((call.detail or call.status for call in calls if call.status != "ok"), "")


def _rated(pair: LabelledPair, first: Sequence[Call], second: Sequence[Call]) -> PairReading:
    read = [[read_rating(call.text, call.status) for call in calls] for calls in (first, second)]
    sums = (_total(read[0]), _total(read[1]))
    return replace(
        PairReading.of(pair, None, None, both_orders=False, ratings=sums),
        given=tuple(rating for rating, _ in (*read[0], *read[1]) if rating is not None),
        probability=preference_probability(_spread(first), _spread(second)),
        replies=len(first) + len(second),
        unread=_reasons([*read[0], *read[1]]),
        trouble=_trouble([*first, *second]),
    )


def _total(read: Sequence[tuple[int | None, str | None]]) -> int | None:
    """Return the exact sum of a text's ratings, None if one is missing."""
    ratings = [rating for rating, _ in read]
    return None if None in ratings else sum(rating for rating in ratings if rating is not None)


def _spread(calls: Sequence[Call]) -> tuple[float, ...] | None:
    """Return the probabilities of a text's sums of ratings, from the lowest, if all are known."""
    total: tuple[float, ...] = (1.0,)
    for call in calls:
        probabilities = rating_probabilities(call.logprobs, LOW, HIGH)
        if probabilities is None:
            return None
        total = _convolved(total, probabilities)
    return total


def _convolved(first: Sequence[float], second: Sequence[float]) -> tuple[float, ...]:
    sums = [0.0] * (len(first) + len(second) - 1)
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            sums[i + j] += a * b
    return tuple(sums)


def preference_probability(
    first: Sequence[float] | None, second: Sequence[float] | None
) -> float | None:
    """Return the probability that the first of two independent sums is higher, ties counting half.

    Args:
        first: probabilities of the first text's sums of ratings, from the lowest possible sum.
        second: the same of the second text, over the same preferences.
    """
    if first is None or second is None:
        return None
    parts = [
        a * b * (1.0 if i > j else 0.5 if i == j else 0.0)
        for i, a in enumerate(first)
        for j, b in enumerate(second)
    ]
    return min(1.0, math.fsum(parts))
