"""Validating a judge: ask it about labelled pairs and hostile texts, keep what was found.

Calls go through the ledger: a stopped validation continues, a finished one is shown again for
nothing. A pair whose replies are missing or unreadable has no verdict, with its reasons counted.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

from mipo_eval import __version__
from mipo_eval.judges.attacks import (
    Attack,
    AttackReport,
    HostileDuel,
    attack_json,
    attack_report,
)
from mipo_eval.judges.judge import (
    HIGH,
    LOW,
    ChoiceRequest,
    Judge,
    Protocol,
    choice_requests,
    rating_requests,
    read_choice,
    read_rating,
)
from mipo_eval.judges.labelled import LabelledPair, pairs_key
from mipo_eval.judges.parse import rating_probabilities
from mipo_eval.judges.presets import named_preset
from mipo_eval.judges.quality import Quality, quality, quality_json
from mipo_eval.judges.replies import PairReading, rated
from mipo_eval.keys import digest, item_rng
from mipo_eval.models.base import Request
from mipo_eval.models.prices import spending
from mipo_eval.models.spec import read_name
from mipo_eval.progress import Progress, Stage, run_shown
from mipo_eval.records import Item
from mipo_eval.signature import Signature, join, short
from mipo_eval.store import Store
from mipo_eval.store.engine import now
from mipo_eval.store.judges import put_judge
from mipo_eval.store.ledger import Call, Ledger
from mipo_eval.store.validations import Validation, put_validation
from mipo_eval.verdict import Verdict

ATTACKED_ITEMS = 10
"""How many honest responses each hostile text meets, where nobody says."""
FAILED_AT_MOST = 0.1
"""With a larger share of calls failed, a validation says too little to be kept."""
ATTACKS = "hostile responses"
"""What a validation by attacks is called in the store."""
_DATA_NAME = 64
_OUTCOMES: dict[Verdict | None, Literal["win", "loss", "tie"] | None] = {
    "a": "win",
    "b": "loss",
    "tie": "tie",
    None: None,
}
Advance = Callable[[int], None]


class _Place(NamedTuple):
    """Which request of which pair."""

    pair: int
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
    told: list[tuple[list[_Told], list[_Told]]] = [([], []) for _ in pairs]
    ledger: Ledger[_Place] = Ledger(store, judge.backend)
    async with aclosing(ledger.ask(_questions(judge, pairs))) as answers:
        async for place, call in answers:
            told[place.pair][place.side].append((place.request, call))
            advance(1)
    read = _rated if judge.protocol == "rubric" else _chosen
    return tuple(read(judge, pair, *sides) for pair, sides in zip(pairs, told, strict=True))


_Told = tuple[Request, Call]


def _questions(judge: Judge, pairs: Sequence[LabelledPair]) -> Iterator[tuple[_Place, Request]]:
    for number, pair in enumerate(pairs):
        item = pair.item()
        sides: Iterable[Iterable[Request]]
        if judge.protocol == "rubric":
            sides = (rating_requests(judge, item, text) for text in (pair.first, pair.second))
        else:
            sides = ((one,) for one in choice_requests(judge, item, pair.first, pair.second))
        for side, requests in enumerate(sides):
            for request in requests:
                yield _Place(number, side, request), request


def count_questions(judge: Judge, pairs: Sequence[LabelledPair]) -> int:
    """Return how many replies `judge_pairs` needs, those that the ledger has among them."""
    if judge.protocol != "rubric":
        return 2 * len(pairs)
    return sum(2 * len(pair.item().preferences) for pair in pairs)


def _trouble(calls: Iterable[Call]) -> str:
    return next((call.detail or call.status for call in calls if call.status != "ok"), "")


def _chosen(
    judge: Judge, pair: LabelledPair, first: Sequence[_Told], second: Sequence[_Told]
) -> PairReading:
    (straight, why), (swapped, why_swapped) = (
        read_choice(judge, request, call.text, call.status)
        for request, call in (*first, *second)
        if isinstance(request, ChoiceRequest)
    )
    return PairReading(
        pair=pair,
        straight=straight,
        swapped=swapped,
        replies=2,
        unread=tuple(reason for reason in (why, why_swapped) if reason is not None),
        trouble=_trouble(call for _, call in (*first, *second)),
    )


def _rated(
    _: Judge, pair: LabelledPair, first: Sequence[_Told], second: Sequence[_Told]
) -> PairReading:
    calls = [[call for _, call in side] for side in (first, second)]
    return rated(
        pair,
        *([read_rating(call.text, call.status) for call in side] for side in calls),
        probability=preference_probability(_spread(calls[0]), _spread(calls[1])),
        trouble=_trouble([*calls[0], *calls[1]]),
    )


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """One judge's quality on one set of labelled pairs."""

    judge_key: str
    judge: str
    data: str
    data_key: str
    signature: Signature
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
    return _examined(store, (judge.key, judge.signature_parts()), readings, data, seed)


def examine_replies(
    store: Store,
    judge: tuple[str, str | None],
    readings: Sequence[PairReading],
    data: str,
    *,
    seed: int = 0,
) -> Examination:
    """Store the quality of a judge whose replies were collected elsewhere; nobody is asked.

    Args:
        store: where the validation is kept.
        judge: its name, and its key if the store knows it; otherwise it has the key that
            `mipo-eval import` gives to a judge of that name.
        readings: what the judge said of labelled pairs.
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
    return _examined(store, (key, {"judge": name, "judge_key": short(key)}), readings, data, seed)


def _examined(
    store: Store,
    judge: tuple[str, Mapping[str, str]],
    readings: Sequence[PairReading],
    data: str,
    seed: int,
) -> Examination:
    """Return what readings say of a judge, given as its key and its signature; store it."""
    data_key = pairs_key([reading.pair for reading in readings])
    key, signed_by = judge
    signed = join(data=data, pairs=short(data_key), **signed_by, version=__version__)
    found = Examination(
        judge_key=key,
        judge=signed_by["judge"],
        data=data[:_DATA_NAME],
        data_key=data_key,
        signature=signed,
        quality=quality(readings, signature=signed, seed=seed),
    )
    if found.kept:
        figures = {"signature": signed, **quality_json(found.quality)}
        _put(store, key, (found.data, data_key), figures, found.quality.failings)
    return found


def _put(
    store: Store,
    judge_key: str,
    data: tuple[str, str],
    figures: Mapping[str, Any],
    failings: Sequence[str] = (),
) -> None:
    validation = Validation(
        judge_key=judge_key,
        data=data[0],
        data_key=data[1],
        figures=figures,
        failings=failings,
        created_at=now(),
    )
    put_validation(store, validation)


def protocol_for(spec: str, pairs: Sequence[LabelledPair]) -> Protocol:
    """Return how a judge is asked where nobody says: as its preset does, or by what pairs tell.

    For ratings, unless no pair names a wish to rate by.

    Raises:
        ConfigError: the preset cannot be read.
    """
    preset = named_preset(read_name(spec))
    if preset and preset.protocol:
        return preset.protocol
    return "rubric" if not pairs or any(pair.preferences for pair in pairs) else "pairwise"


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
    duels = [(item, attack) for item in items if item.reference for attack in hostile]
    pairs = [
        LabelledPair(
            pair_id=str(index),
            prompt=item.prompt,
            first=attack.text,
            second=item.reference or "",
            label="b",
            preferences=item.preferences,
        )
        for index, (item, attack) in enumerate(duels)
    ]
    readings = await judge_pairs(store, judge, pairs, advance=advance)
    return tuple(
        HostileDuel(
            attack,
            _OUTCOMES[reading.verdict],
            item.group,
            "" if reading.verdict else reading.trouble or next(iter(reading.unread), ""),
        )
        for (item, attack), reading in zip(duels, readings, strict=True)
    )


def attack_judge(
    store: Store,
    judge: Judge,
    items: Sequence[Item],
    hostile: Sequence[Attack],
    *,
    seed: int,
    progress: Progress,
) -> AttackReport:
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
    keys = [item.key for item in items]
    signed = join(items=short(digest(keys)), **judge.signature_parts())
    found = attack_report(duels, signature=signed, seed=seed)
    data = (ATTACKS, digest([keys, [attack.text for attack in hostile]]))
    _put(store, judge.key, data, {"pairs": len(duels), "attacks": attack_json(found)})
    return found
