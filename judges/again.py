"""A judge asked again about what it judged: its noise, and its drift since.

Both ask the same questions about a seeded part of a run's items, through the same ledger, and leave
the verdicts that count as they are. For noise each further asking is a draw of its own: where
replies are drawn at a temperature, with another seed. For drift it is the very same request, on
another day; the part that is asked about is the same every time, the judge's anchors.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from math import ceil
from typing import Literal, NamedTuple

import numpy as np

from mipo_eval.errors import DataError
from mipo_eval.judges.judge import (
    ChoiceRequest,
    Judge,
    choice_requests,
    rating_requests,
    read_choice,
    read_rating,
)
from mipo_eval.judges.run import TextPair, recorded
from mipo_eval.keys import item_rng
from mipo_eval.metrics.agreement import Reliability, reliability
from mipo_eval.models.base import Again, Request
from mipo_eval.models.prices import spending
from mipo_eval.progress import Progress, Stage, run_shown
from mipo_eval.records import Run
from mipo_eval.stats.bootstrap import Crossed
from mipo_eval.store.calls import Call, Ledger, answered_calls
from mipo_eval.store.engine import Store
from mipo_eval.store.items import items_by_key
from mipo_eval.store.responses import PairedTexts, paired_texts, texts_by_key
from mipo_eval.store.verdicts import verdicts_on
from mipo_eval.verdict import (
    CREDIT,
    IDENTICAL,
    Choice,
    PairVerdict,
    Total,
    from_choices,
    from_totals,
)


class Occasion(NamedTuple):
    """A time of asking."""

    name: str
    """Part of what a call is known by; empty for the first time, whose verdicts count."""
    seed: int = 0
    """What is added to the seed that replies are drawn with."""


FIRST = Occasion("")


class Sample(NamedTuple):
    """Which items of a task are asked about again."""

    share: float = 0.2
    seed: int = 0

    def of(self, keys: Sequence[str]) -> list[int]:
        """Return the places of the chosen among these item keys; a larger share holds a smaller."""
        drawn = [item_rng(self.seed, "asked again", key).random() for key in keys]
        return sorted(np.argsort(drawn)[: ceil(self.share * len(keys))].tolist())


class Said(NamedTuple):
    """What a judge said of one pair on one occasion."""

    verdict: PairVerdict
    replies: tuple[float | None, ...]
    """Every rating it gave; of choices, what each is worth to the first text."""


class AskedAgain(NamedTuple):
    """One task: what a judge made of all of it, and on several occasions of a part of it."""

    task: str
    rows: tuple[PairedTexts, ...]
    """Of the items with a verdict."""
    verdicts: tuple[PairVerdict, ...]
    places: tuple[int, ...]
    """Which of the rows were asked about again."""
    said: tuple[tuple[Said, ...], ...]
    """(places, occasions), the first occasion first."""

    def groups(self, *, asked: bool = True) -> list[Crossed]:
        """Return what each item that was asked about again, or each of all, shares with others."""
        rows = [self.rows[place] for place in self.places] if asked else self.rows
        return [Crossed(row.group, row.user_id) for row in rows]

    def missing(self) -> Mapping[str, int]:
        """Count the askings that brought no verdict, by reason."""
        told = (said.verdict for of_pair in self.said for said in of_pair)
        return Counter(one.reason or "" for one in told if one.winner is None)

    def agreement(self) -> tuple[Reliability, Reliability]:
        """Return how far verdicts, and single replies, are the same on all occasions."""
        verdicts = [
            [CREDIT[said.verdict.winner] if said.verdict.winner else None for said in of_pair]
            for of_pair in self.said
        ]
        groups = self.groups()
        replies = [zip(*(said.replies for said in of_pair), strict=True) for of_pair in self.said]
        units = [
            (list(unit), group) for of, group in zip(replies, groups, strict=True) for unit in of
        ]
        own = [group for _, group in units]
        return (
            reliability(verdicts, "ordinal", groups),
            reliability([unit for unit, _ in units], "ordinal", own),
        )


def ask_again(
    store: Store,
    judge: Judge,
    runs: tuple[Run, Run | None],
    occasions: Sequence[Occasion],
    sample: Sample,
    progress: Progress,
) -> list[AskedAgain]:
    """Ask a judge again about a part of each task of a run; nothing is asked twice for an occasion.

    Args:
        store: where verdicts are; calls go there.
        judge: who judged them, as it was asked then.
        runs: the run, and the one that it was compared with; None: the references.
        occasions: when, besides the first time.
        sample: which items.
        progress: told how far it is.

    Raises:
        DataError: the judge has judged no pair of the run.
        BackendError: the judge cannot be asked any more; what it answered is stored.
    """
    tasks: dict[str, list[tuple[PairedTexts, PairVerdict]]] = {}
    for row, verdict in verdicts_on(store, paired_texts(store, *runs), judge.key):
        if verdict.winner:
            tasks.setdefault(row.task, []).append((row, verdict))
    if not tasks:
        versus = f"run {runs[1].run_id[:12]}" if runs[1] else "the references"
        raise DataError(
            f"{judge.name} has no verdict on run {runs[0].run_id[:12]} against {versus}: judge "
            "the run first"
        )
    chosen = {task: sample.of([row.item_key for row, _ in of]) for task, of in tasks.items()}
    wanted = [tasks[task][place][0] for task, places in chosen.items() for place in places]
    pairs = _texts(store, wanted)
    first = [request for pair in pairs for request in _requests(judge, pair)]
    further = [_on(judge, request, occasion) for occasion in occasions for request in first]
    keys = {request.key(judge.backend.identity) for request in further}
    if len(answered_calls(store, list(keys))) < len(keys):
        asyncio.run(judge.backend.check())
    stage = Stage(f"{judge.name} asked again", len(further), partial(spending, judge.backend))
    asked = _ask(store, judge, pairs, [FIRST, *occasions], progress.advance)
    with recorded(store, judge):
        said = iter(run_shown(asked, progress, stage))
    return [
        AskedAgain(
            task,
            tuple(row for row, _ in of),
            tuple(verdict for _, verdict in of),
            tuple(chosen[task]),
            tuple(next(said) for _ in chosen[task]),
        )
        for task, of in tasks.items()
    ]


def _texts(store: Store, rows: Sequence[PairedTexts]) -> list[TextPair]:
    items = items_by_key(store, {row.item_key for row in rows})
    texts = texts_by_key(store, {key for row in rows for key in (row.first, row.second) if key})
    pairs = []
    for row in rows:
        item = items[row.item_key]
        second = texts.get(row.second or "", item.reference or "")
        pairs.append(TextPair(item, texts[row.first or ""], second))
    return pairs


def _requests(judge: Judge, pair: TextPair) -> Sequence[Request]:
    """Return what a judge is asked about a pair: of equal texts, a judge that chooses nothing."""
    if judge.protocol == "rubric":
        return [
            one
            for text in (pair.first, pair.second)
            for one in rating_requests(judge, pair.item, text)
        ]
    if pair.first == pair.second:
        return []
    return choice_requests(judge, pair.item, pair.first, pair.second)


async def _ask(
    store: Store,
    judge: Judge,
    pairs: Sequence[TextPair],
    occasions: Sequence[Occasion],
    advance: Callable[[int], None],
) -> list[tuple[Said, ...]]:
    """Return what a judge says of each pair on each occasion."""
    told: dict[tuple[int, int, int], Call] = {}

    def questions() -> Iterator[tuple[tuple[int, int, int], Request]]:
        for place, pair in enumerate(pairs):
            for number, occasion in enumerate(occasions):
                for position, request in enumerate(_requests(judge, pair)):
                    yield (place, number, position), _on(judge, request, occasion)

    ledger: Ledger[tuple[int, int, int]] = Ledger(store, judge.backend)
    async with aclosing(ledger.ask(questions())) as answers:
        async for where, call in answers:
            told[where] = call
            advance(int(where[1] > 0))
    return [
        tuple(
            _read(
                judge,
                pair,
                [
                    (request, told[place, number, position])
                    for position, request in enumerate(_requests(judge, pair))
                ],
            )
            for number in range(len(occasions))
        )
        for place, pair in enumerate(pairs)
    ]


def _on(judge: Judge, request: Request, occasion: Occasion) -> Request:
    if occasion == FIRST:
        return request
    again = Again(request.original_key(judge.backend.identity), occasion.name)
    sampling = replace(request.sampling, seed=request.sampling.seed + occasion.seed)
    return replace(request, again=again, sampling=sampling)


def _read(judge: Judge, pair: TextPair, told: Sequence[tuple[Request, Call]]) -> Said:
    """Return what the replies to a pair's requests, in their order, say."""
    if judge.protocol == "rubric":
        read = [read_rating(call.text, call.status, cut=call.cut) for _, call in told]
        n = len(pair.item.preferences)
        totals: list[Total] = []
        for side in (read[:n], read[n:]):
            known = [rating for rating, _ in side if rating is not None]
            totals.append(Total(len(known), sum(known), next((w for _, w in side if w), None)))
        return Said(from_totals(totals[0], totals[1], n), tuple(rating for rating, _ in read))
    made = []
    for request, call in told:
        if isinstance(request, ChoiceRequest):
            winner, reason = read_choice(judge, request, call.text, call.status, cut=call.cut)
            shown: Literal["a", "b"] = "b" if request.swapped else "a"
            made.append(Choice(judge.key, *pair.key, shown, winner, reason=reason))
    verdict = from_choices(pair.key, made, "both") if made else IDENTICAL
    return Said(verdict, tuple(one.winner and CREDIT[one.winner] for one in made))
