"""Asking a judge about labelled pairs and hostile responses, through the ledger.

What was asked before costs nothing, as everywhere; a pair whose replies are missing or unreadable
has no verdict, with its reasons counted.

Validating a judge: ask it about labelled pairs and hostile texts, keep what was found.

Calls go through the ledger: a stopped validation continues, a finished one is shown again for
nothing.
"""

import math
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

from mipo_eval import __version__
from mipo_eval.backends.base import Request
from mipo_eval.backends.pacing import spending
from mipo_eval.errors import DataError
from mipo_eval.judges.attacks import Attack, Fooled, HostileDuel, attack_report, fooled_by
from mipo_eval.judges.benchmarks import Benchmark
from mipo_eval.judges.judge import Judge, Protocol
from mipo_eval.judges.labelled import LabelledPair, pairs_key
from mipo_eval.judges.loading import FAMILY, load_preset, preset_names
from mipo_eval.judges.pairwise import ChoiceRequest, choice_requests, read_choice
from mipo_eval.judges.parse import rating_probabilities
from mipo_eval.judges.quality import Quality, quality, quality_json
from mipo_eval.judges.replies import PairReading
from mipo_eval.judges.rubric import HIGH, LOW, RatingRequest, rating_requests, read_rating
from mipo_eval.judges.verdict import Verdict
from mipo_eval.keys import digest, item_rng
from mipo_eval.progress import Progress, Stage, run_shown
from mipo_eval.records import Item
from mipo_eval.signature import join, short
from mipo_eval.store import Store
from mipo_eval.store.engine import now
from mipo_eval.store.ledger import Call, Ledger
from mipo_eval.store.validations import Validation, put_validation
from mipo_eval.store.verdicts import put_judge

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


ATTACKED_ITEMS = 10
"""How many honest responses each hostile text meets, where nobody says."""
FAILED_AT_MOST = 0.1
"""With a larger share of calls failed, a validation says too little to be kept."""
ATTACKS = "hostile responses"
"""What a validation by attacks is called in the store."""
_DATA_NAME = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """One judge's quality on one set of labelled pairs."""

    judge_key: str
    judge: str
    data: str
    data_key: str
    signature: str
    quality: Quality

    @property
    def kept(self) -> bool:
        """Whether the store has it: not if too many calls failed, which repeating may cure."""
        return self.quality.failed_calls <= FAILED_AT_MOST * self.quality.replies


def examine(
    store: Store,
    judge: Judge,
    pairs: Sequence[LabelledPair],
    data: str,
    *,
    seed: int,
    progress: Progress,
) -> Examination:
    """Ask a judge about labelled pairs, and store what its quality is.

    Args:
        store: where calls and the validation are kept.
        judge: who is asked, by its own protocol.
        pairs: labelled ones.
        data: what they are called.
        seed: of the bootstrap.
        progress: told how many replies there are.

    Raises:
        BackendError: the judge cannot be asked any more; what it answered is stored.
        DataError: not one pair got a verdict.
    """
    put_judge(store, judge.key, judge.name, judge.stored_spec)
    total = count_questions(judge, pairs)
    stage = Stage(f"replies of {judge.name}", total, partial(spending, judge.backend))
    asked = judge_pairs(store, judge, pairs, advance=progress.advance)
    readings = run_shown(asked, progress, stage)
    signed = join(**_about(data, pairs), **judge.signature_parts(), version=__version__)
    found = Examination(
        judge_key=judge.key,
        judge=judge.name,
        data=data[:_DATA_NAME],
        data_key=pairs_key(pairs),
        signature=signed,
        quality=quality(pairs, readings, signature=signed, seed=seed),
    )
    _keep(store, found)
    return found


def examine_replies(
    store: Store, judge: tuple[str, str | None], replies: Benchmark, data: str, *, seed: int = 0
) -> Examination:
    """Store the quality of a judge whose replies were collected elsewhere; nobody is asked.

    Args:
        store: where the validation is kept.
        judge: its name, and its key if the store knows it; otherwise it has the key that
            `mipo-eval import` gives to a judge of that name.
        replies: pairs, and what the judge said of them.
        data: what the pairs are called.
        seed: of the bootstrap.

    Raises:
        DataError: not one pair got a verdict.
    """
    name, key = judge
    if key is None:
        spec = {"imported": "judge_replies", "name": name}
        key = digest(spec)
        put_judge(store, key, name, spec)
    signed = join(
        **_about(data, replies.pairs), judge=name, judge_key=short(key), version=__version__
    )
    found = Examination(
        judge_key=key,
        judge=name,
        data=data[:_DATA_NAME],
        data_key=pairs_key(replies.pairs),
        signature=signed,
        quality=quality(replies.pairs, replies.readings, signature=signed, seed=seed),
    )
    _keep(store, found)
    return found


def _about(data: str, pairs: Sequence[LabelledPair]) -> dict[str, str]:
    return {"data": data, "pairs": short(pairs_key(pairs))}


def _keep(store: Store, found: Examination) -> None:
    if not found.kept:
        return
    validation = Validation(
        judge_key=found.judge_key,
        data=found.data,
        data_key=found.data_key,
        figures={"signature": found.signature, **quality_json(found.quality)},
        failings=found.quality.failings,
        created_at=now(),
    )
    put_validation(store, validation)


def protocol_for(spec: str, pairs: Sequence[LabelledPair]) -> Protocol:
    """Return how a judge is asked where nobody says: as its preset does, or by what pairs tell.

    For ratings, unless no pair names a wish to rate by.

    Raises:
        ConfigError: the preset cannot be read.
    """
    name = spec.partition("@")[0]
    if name.endswith((".yaml", ".yml")) or name in set(preset_names()) - {FAMILY}:
        preferred = load_preset(name).protocol
        if preferred is not None:
            return preferred
    return "rubric" if not pairs or any(pair.preferences for pair in pairs) else "pairwise"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attacked:
    """How a judge stood up to hostile responses."""

    items: int
    """Honest responses that each hostile one met."""
    attacks: int
    undecided: int
    """Duels without a verdict."""
    fooled: tuple[Fooled, ...]
    """Over all duels, then by kind."""
    worst: tuple[str, ...]
    """Attacks that won most often."""


def honest_items(pairs: Sequence[LabelledPair], seed: int = 0) -> list[Item]:
    """Return pairs as items whose reference is the better response, in an order drawn by seed."""
    order = sorted(pairs, key=lambda pair: item_rng(seed, "attacked", pair.pair_id).random())
    return [
        pair.item().model_copy(
            update={"reference": pair.first if pair.label == "a" else pair.second}
        )
        for pair in order
        if pair.label != "tie"
    ]


def attack_judge(
    store: Store,
    judge: Judge,
    items: Sequence[Item],
    hostile: Sequence[Attack],
    *,
    seed: int,
    progress: Progress,
) -> Attacked:
    """Let every hostile text meet the honest response to every item, and store what came of it.

    Raises:
        BackendError: the judge cannot be asked any more; what it answered is stored.
        DataError: not one duel got a verdict.
    """
    put_judge(store, judge.key, judge.name, judge.stored_spec)
    each = sum(len(item.preferences) if judge.protocol == "rubric" else 1 for item in items)
    what = f"hostile responses before {judge.name}"
    stage = Stage(what, 2 * each * len(hostile), partial(spending, judge.backend))
    asked = judge_attacks(store, judge, items, hostile, advance=progress.advance)
    duels = run_shown(asked, progress, stage)
    report = attack_report(duels)
    if not report.n:
        raise DataError(
            f"the judge gave no verdict in any of {len(duels)} duels with hostile responses; the "
            f"first has none because: {duels[0].why if duels else 'no item has a reference'}"
        )
    signed = join(items=short(digest([i.key for i in items])), **judge.signature_parts())
    found = Attacked(
        items=len(items),
        attacks=len(hostile),
        undecided=report.undecided,
        fooled=fooled_by(duels, signature=signed, seed=seed),
        worst=report.worst,
    )
    validation = Validation(
        judge_key=judge.key,
        data=ATTACKS,
        data_key=digest([[item.key for item in items], [attack.text for attack in hostile]]),
        figures={"pairs": len(duels), "attacks": attacked_json(found)},
        failings=(),
        created_at=now(),
    )
    put_validation(store, validation)
    return found


def attacked_json(found: Attacked) -> dict[str, Any]:
    """Return an attack as `--json` shows it."""
    all_kinds, *by_kind = (_fooled_json(one) for one in found.fooled)
    return {
        "items": found.items,
        "attacks": found.attacks,
        "undecided": found.undecided,
        "hostile_win_rate": all_kinds,
        "by_kind": by_kind,
        "worst": list(found.worst),
        "signature": found.fooled[0].half.signature,
    }


def _fooled_json(one: Fooled) -> dict[str, Any]:
    intervals = [list(score.ci95) if score.ci95 else None for score in (one.half, one.beats)]
    return {
        "kind": one.kind,
        "value": one.half.value,
        "ci95": intervals[0],
        "beats": one.beats.value,
        "beats_ci95": intervals[1],
        "ties": one.ties,
        "n": one.half.n,
    }
