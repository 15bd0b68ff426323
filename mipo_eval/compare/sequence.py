"""Judging until the question is answered: groups of items in a seeded order, a look after each few.

What is asked in which order depends on the seed and the items alone, so a stopped command walks
through what it knows and goes on, and the same command always stops at the same look.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mipo_eval.keys import digest
from mipo_eval.records import Item
from mipo_eval.stats.bootstrap import Crossed, Dependence, Labels
from mipo_eval.stats.intervals import NET
from mipo_eval.stats.sequence import SequenceEvidence, sequence_evidence
from mipo_eval.verdict import PairVerdict

_FEWEST = 32
"""Items of a look: asked about twice each they are as many calls as a server gets at once."""
_SHARE = 8
"""A later look has an eighth of the items asked about before: more looks save less than they wait
for their slowest replies."""

Decision = Literal["first", "second", "equivalent"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopping:
    """When judging stops."""

    margin: float | None
    """In points of the net win rate: equivalence within it is an answer, too."""
    alpha: float
    """5 % over all looks; less where the first entrant meets several."""
    seed: int
    """Of the order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """How far the judging of one task went."""

    decided: Decision | None
    """None: everything was asked about and the question is open."""
    looks: int
    groups: int
    """Groups asked about."""
    n_groups: int
    rows: frozenset[int]
    """Places of the items asked about."""


def judge_until_decided(
    entries: Sequence[tuple[str, Item]],
    ask: Callable[[Sequence[int]], Sequence[PairVerdict]],
    when: Stopping,
) -> dict[str, Stopped]:
    """Have items judged, group after group, until each task's question is answered.

    Args:
        entries: task and item.
        ask: returns the verdicts on the items at these places; asks for them where needed.
        when: judging stops.

    Returns:
        By task.
    """
    places: dict[str, list[int]] = {}
    for row, (task, _) in enumerate(entries):
        places.setdefault(task, []).append(row)
    open_tasks = {
        task: _Walk(rows, [entries[row][1] for row in rows], when) for task, rows in places.items()
    }
    found: dict[str, Stopped] = {}
    while open_tasks:
        rows = [row for walk in open_tasks.values() for row in walk.next_rows()]
        verdicts = dict(zip(rows, ask(rows), strict=True))
        for task, walk in list(open_tasks.items()):
            if stopped := walk.look(verdicts):
                found[task] = stopped
                del open_tasks[task]
    return {task: found[task] for task in places}


class _Walk:
    """The way through one task's groups."""

    def __init__(self, rows: Sequence[int], items: Sequence[Item], when: Stopping) -> None:
        self._when, self._place = when, {row: place for place, row in enumerate(rows)}
        self._labels: Labels = [Crossed(item.group, item.user_id) for item in items]
        groups: dict[int, list[int]] = {}
        for row, number in zip(
            rows, Dependence.of(self._labels, len(rows)).coarsest().tolist(), strict=True
        ):
            groups.setdefault(number, []).append(row)
        # The order belongs to the seed and to the items, not to the order of the file.
        self._groups = sorted(
            groups.values(),
            key=lambda own: digest([when.seed, min(items[self._place[row]].key for row in own)]),
        )
        self._asked: list[int] = []
        self._walked = self._looks = 0
        self._leads = np.full(len(rows), np.nan)

    def next_rows(self) -> list[int]:
        """Return the items of the next look, whole groups."""
        wanted, rows = max(_FEWEST, len(self._asked) // _SHARE), list[int]()
        while self._walked < len(self._groups) and len(rows) < wanted:
            rows += self._groups[self._walked]
            self._walked += 1
        self._asked += rows
        return rows

    def look(self, verdicts: Mapping[int, PairVerdict]) -> Stopped | None:
        """Take in the verdicts on the last rows; returns how it ended, None where it goes on."""
        self._looks += 1
        for row, place in self._place.items():
            if row in verdicts and (credit := verdicts[row].credit) is not None:
                self._leads[place] = 200 * (credit - 0.5)
        decided = _decided(sequence_evidence(self._leads, self._labels, NET), self._when)
        if decided is None and self._walked < len(self._groups):
            return None
        return Stopped(
            decided=decided,
            looks=self._looks,
            groups=self._walked,
            n_groups=len(self._groups),
            rows=frozenset(self._asked),
        )


def _decided(evidence: SequenceEvidence | None, when: Stopping) -> Decision | None:
    if evidence is None:
        return None
    if evidence.p_above(0.0) < when.alpha:
        return "first"
    if evidence.p_below(0.0) < when.alpha:
        return "second"
    margin = when.margin
    if margin and max(evidence.p_above(-margin), evidence.p_below(margin)) < when.alpha:
        return "equivalent"
    return None
