"""Where two entrants differ most, and what the judges said there."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mipo_eval.duels.duel import Entry, Match
from mipo_eval.records import Item, text_key
from mipo_eval.store import Store
from mipo_eval.store.ledger import replies_of
from mipo_eval.store.verdicts import ratings_by
from mipo_eval.verdict import Verdict

_CREDIT: Mapping[Verdict | None, int] = {"a": 1, "b": -1, "tie": 0, None: 0}


class Placed(NamedTuple):
    """What a judge replied with one of the two responses in the first place."""

    shown_first: str
    """"a" or "b": the first entrant's response or the second's."""
    winner: Verdict | None
    reply: str | None


class Rated(NamedTuple):
    """What a judge rated the two responses on one preference."""

    preference: str
    first: int | None
    second: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What one judge said of one item."""

    judge: str
    winner: Verdict | None
    placed: tuple[Placed, ...]
    """Of judges that choose."""
    rated: tuple[Rated, ...]
    """Of judges that rate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One item that tells two entrants apart."""

    item: Item
    first: str
    second: str
    winner: Verdict
    said: tuple[Said, ...]


def examples(store: Store, matches: Sequence[Match], *, each: int) -> list[Example]:
    """Return the items where one entrant is most clearly preferred, for each of the two.

    Most clearly: by most judges, then by the largest difference in ratings, then between the
    texts that have the fewest words in common.

    Args:
        store: holds the replies.
        matches: of the same entrants and task, one per judge; panels are passed over.
        each: how many items per entrant.
    """
    of_judges = [match for match in matches if match.judge_key is not None]
    leads = []
    for row, entry in enumerate(of_judges[0].entries):
        outcomes = [match.entries[row].outcome for match in of_judges]
        lead = sum(_CREDIT[outcome.winner] for outcome in outcomes)
        margin = sum(float(outcome.margin or 0) for outcome in outcomes)
        if lead:
            leads.append((lead, margin, row, _distance(entry)))
    found: list[Example] = []
    for sign, winner in ((1, "a"), (-1, "b")):
        side = [found_row for found_row in leads if found_row[0] * sign > 0]
        side.sort(key=lambda row: (-sign * row[0], -sign * row[1], -row[3], row[2]))
        found += [
            _example(store, of_judges, row, "a" if winner == "a" else "b")
            for _, _, row, _ in side[:each]
        ]
    return found


def _distance(entry: Entry) -> float:
    """Return the share of words, 0-1, that only one of the texts has."""
    first, second = (set((text or "").lower().split()) for text, _ in (entry.first, entry.second))
    return len(first ^ second) / len(first | second) if first | second else 0.0


def _example(store: Store, matches: Sequence[Match], row: int, winner: Verdict) -> Example:
    entry = matches[0].entries[row]
    return Example(
        item=entry.item,
        first=entry.first[0] or "",
        second=entry.second[0] or "",
        winner=winner,
        said=tuple(_said(store, match, match.entries[row]) for match in matches),
    )


def _said(store: Store, match: Match, entry: Entry) -> Said:
    placed: tuple[Placed, ...] = ()
    rated: tuple[Rated, ...] = ()
    if choices := entry.outcome.choices:
        replies = replies_of(store, [choice.call_key for choice in choices if choice.call_key])
        placed = tuple(
            Placed(choice.shown_first, choice.winner, replies.get(choice.call_key or ""))
            for choice in choices
        )
    elif match.judge_key is not None:
        known = ratings_by(store, match.judge_key, [entry.item.key])
        rated = tuple(_rated(known, entry))
    return Said(judge=match.judge, winner=entry.outcome.winner, placed=placed, rated=rated)


_Ratings = Mapping[tuple[str, str, int], int | None]


def _rated(known: _Ratings, entry: Entry) -> list[Rated]:
    item = entry.item
    keys = [None if text is None else text_key(text) for text, _ in (entry.first, entry.second)]
    return [
        Rated(preference, *(known.get((item.key, str(key), aspect)) for key in keys))
        for aspect, preference in enumerate(item.preferences)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """How differently two entrants serve one preference."""

    judge: str
    preference: str
    n: int
    """Items that have it and where both responses are rated on it."""
    first: float
    """Mean rating of the first entrant."""
    second: float

    @property
    def difference(self) -> float:
        """First less second, in points of the scale."""
        return self.first - self.second


def gaps(store: Store, match: Match, *, most: int) -> list[Gap]:
    """Return the preferences that a judge's ratings differ most on.

    A preference of many items counts more than one of a single item with the same difference: by
    its difference times the root of their number. Judges that choose rate nothing.
    """
    if match.judge_key is None or match.protocol != "rubric":
        return []
    keys = [entry.item.key for entry in match.entries]
    known = ratings_by(store, match.judge_key, keys)
    pairs: dict[str, list[tuple[int, int]]] = {}
    for entry in match.entries:
        for rated in _rated(known, entry):
            if rated.first is not None and rated.second is not None:
                pairs.setdefault(rated.preference, []).append((rated.first, rated.second))
    found = [
        Gap(
            judge=match.judge,
            preference=preference,
            n=len(both),
            first=sum(a for a, _ in both) / len(both),
            second=sum(b for _, b in both) / len(both),
        )
        for preference, both in pairs.items()
    ]
    found = [gap for gap in found if gap.difference]
    found.sort(key=lambda gap: (-abs(gap.difference) * math.sqrt(gap.n), gap.preference))
    return found[:most]
