"""A run's responses against the references or another run's: who won where, and all that was said.

`pairings` reads no text: one line an item. `detail` reads one item.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mipo_eval.store import Store
from mipo_eval.store.judges import list_judges
from mipo_eval.store.responses import answered, paired_texts
from mipo_eval.store.runs import find_run
from mipo_eval.store.verdicts import pair_verdicts
from mipo_eval.verdict import NOT_JUDGED, Pair, PairVerdict, Verdict

OUTCOMES: Mapping[Verdict, str] = {"a": "win", "tie": "tie", "b": "loss"}
"""What a verdict is called, from the first text's side."""
UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """One item of a run, with what judges made of it; no texts."""

    position: int
    """In the run's list of items; names the item in addresses."""
    task: str
    item_id: str
    verdicts: Mapping[str, PairVerdict]
    """By judge key."""

    @property
    def disputed(self) -> bool:
        """Whether judges that decided came to different outcomes."""
        said = {verdict.winner for verdict in self.verdicts.values() if verdict.winner}
        return len(said) > 1


def pairings(store: Store, first: str, second: str | None) -> list[Pairing]:
    """Return every item of a run, in order, with every judge's outcome.

    Args:
        store: where they are.
        first: id of the run.
        second: id of the run it is compared with; None compares with the references.
    """
    run = find_run(store, first)
    rows = paired_texts(store, run, find_run(store, second) if second else None)
    pairs = list(dict.fromkeys(row.pair for row in rows if row.pair))
    said: dict[Pair | None, dict[str, PairVerdict]] = {pair: {} for pair in pairs}
    for judge in list_judges(store):
        made = pair_verdicts(store, judge.key, pairs)
        if any(one.choices or not (one.identical or one.reason == NOT_JUDGED) for one in made):
            for pair, one in zip(pairs, made, strict=True):
                if one.reason != NOT_JUDGED or one.choices:
                    said[pair][judge.key] = one
    return [
        Pairing(
            position=row.position,
            task=row.task,
            item_id=row.item_id,
            verdicts=said.get(row.pair, {}),
        )
        for row in rows
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairFilter:
    """Which items to show; an empty filter keeps all."""

    judge: str | None = None
    """Key of the judge that outcome, flip and gap are of; None: of any judge."""
    outcomes: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    flipped: bool = False
    """Only items on which the order decided."""
    disputed: bool = False
    """Only items on which judges differ."""
    gap: float = 0.0
    """Only items with at least this distance between the mean ratings."""


def matching(found: Sequence[Pairing], wanted: PairFilter, hits: frozenset[int] | None) -> list[int]:
    """Return the positions of the items that pass all filters.

    Args:
        found: all items.
        wanted: filters.
        hits: positions that a search found; None without a search.
    """
    return [
        pairing.position
        for pairing in found
        if (hits is None or pairing.position in hits)
        and (not wanted.tasks or pairing.task in wanted.tasks)
        and (pairing.disputed or not wanted.disputed)
        and _said(pairing, wanted)
    ]


def outcome_of(verdict: PairVerdict) -> str:
    """Return what a verdict is called from the first text's side."""
    return OUTCOMES[verdict.winner] if verdict.winner else UNDECIDED


def _said(pairing: Pairing, wanted: PairFilter) -> bool:
    if not (wanted.outcomes or wanted.flipped or wanted.gap):
        return True
    return any(
        (not wanted.outcomes or outcome_of(verdict) in wanted.outcomes)
        and (verdict.flipped or not wanted.flipped)
        and (not wanted.gap or abs(float(verdict.margin or 0)) >= wanted.gap)
        for judge, verdict in pairing.verdicts.items()
        if wanted.judge in {None, judge}
    )


def search(store: Store, first: str, second: str | None, text: str) -> frozenset[int]:
    """Return the positions of the items whose texts hold this text, whatever its case.

    Prompt, context, preferences, reference and both responses are searched, one by one.
    """
    sought = text.casefold()
    run = find_run(store, first)
    keys = [run.generation_key]
    keys += [find_run(store, second).generation_key] if second else []
    found: set[int] = set()
    for key in dict.fromkeys(keys):
        for entry in answered(store, run.list_key, key):
            item = entry.item
            texts: list[Any] = [item.prompt, item.context, item.reference, *item.preferences]
            texts.append(entry.response.text if entry.response else None)
            if any(sought in part.casefold() for part in texts if part):
                found.add(entry.position)
    return frozenset(found)
