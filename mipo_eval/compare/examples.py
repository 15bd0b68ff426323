"""Where two entrants differ most, and what the judges said there."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mipo_eval.compare.head_to_head import JudgedItem, Match, sides_json
from mipo_eval.records import Item, text_key
from mipo_eval.store.calls import replies_of
from mipo_eval.store.engine import Store
from mipo_eval.store.verdicts import ratings_by
from mipo_eval.verdict import Verdict

_SIDES: tuple[tuple[int, Verdict], ...] = ((1, "a"), (-1, "b"))
_CREDIT: Mapping[Verdict | None, int] = {"a": 1, "b": -1, "tie": 0, None: 0}


class PlacedReply(NamedTuple):
    """What a judge replied with one of the two responses in the first place."""

    shown_first: str
    """"a" or "b": the first entrant's response or the second's."""
    winner: Verdict | None
    reply: str | None


class PreferenceRatings(NamedTuple):
    """What a judge rated the two responses on one preference."""

    preference: str
    first: int | None
    second: int | None


class Opinion(NamedTuple):
    """What one judge said of one item."""

    judge: str
    winner: Verdict | None
    placed: tuple[PlacedReply, ...]
    """Of judges that choose."""
    rated: tuple[PreferenceRatings, ...]
    """Of judges that rate."""


class Contrast(NamedTuple):
    """One item that tells two entrants apart."""

    item: Item
    first: str
    second: str
    winner: Verdict
    said: tuple[Opinion, ...]


def examples(store: Store, matches: Sequence[Match], *, each: int) -> list[Contrast]:
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
    found: list[Contrast] = []
    for sign, winner in _SIDES:
        side = [lead for lead in leads if lead[0] * sign > 0]
        side.sort(key=lambda lead: (-sign * lead[0], -sign * lead[1], -lead[3], lead[2]))
        found += [_example(store, of_judges, row, winner) for _, _, row, _ in side[:each]]
    return found


def _distance(entry: JudgedItem) -> float:
    """Return the share of words, 0-1, that only one of the texts has."""
    first, second = (set((text or "").lower().split()) for text, _ in (entry.first, entry.second))
    return len(first ^ second) / len(first | second) if first | second else 0.0


def _example(store: Store, matches: Sequence[Match], row: int, winner: Verdict) -> Contrast:
    entry = matches[0].entries[row]
    return Contrast(
        item=entry.item,
        first=entry.first[0] or "",
        second=entry.second[0] or "",
        winner=winner,
        said=tuple(_said(store, match, match.entries[row]) for match in matches),
    )


def _said(store: Store, match: Match, entry: JudgedItem) -> Opinion:
    placed: tuple[PlacedReply, ...] = ()
    rated: tuple[PreferenceRatings, ...] = ()
    if choices := entry.outcome.choices:
        replies = replies_of(store, [choice.call_key for choice in choices if choice.call_key])
        placed = tuple(
            PlacedReply(choice.shown_first, choice.winner, replies.get(choice.call_key or ""))
            for choice in choices
        )
    elif match.judge_key is not None:
        known = ratings_by(store, match.judge_key, [entry.item.key])
        rated = tuple(_rated(known, entry))
    return Opinion(judge=match.judge, winner=entry.outcome.winner, placed=placed, rated=rated)


_Ratings = Mapping[tuple[str, str, int], int | None]


def _rated(known: _Ratings, entry: JudgedItem) -> list[PreferenceRatings]:
    item = entry.item
    keys = [None if text is None else text_key(text) for text, _ in (entry.first, entry.second)]
    return [
        PreferenceRatings(preference, *(known.get((item.key, str(key), aspect)) for key in keys))
        for aspect, preference in enumerate(item.preferences)
    ]


class Gap(NamedTuple):
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
    found = []
    for preference, both in pairs.items():
        first, second = (sum(ratings) / len(both) for ratings in zip(*both, strict=True))
        found.append(Gap(match.judge, preference, len(both), first, second))
    found = [gap for gap in found if gap.difference]
    found.sort(key=lambda gap: (-abs(gap.difference) * math.sqrt(gap.n), gap.preference))
    return found[:most]


def example_json(match: Match, found: Contrast) -> dict[str, Any]:
    """Return one item that tells two entrants apart as `--json` shows it, with what judges said."""
    letters = {"a": match.first.label, "b": match.second.label, "tie": "tie", None: None}
    return sides_json(match) | {
        "item_id": found.item.item_id,
        "prompt": found.item.transcript,
        "winner": letters[found.winner],
        "responses": {letters["a"]: found.first, letters["b"]: found.second},
        "said": [_opinion_json(said, letters) for said in found.said],
    }


def _opinion_json(said: Opinion, letters: Mapping[str | None, str | None]) -> dict[str, Any]:
    return {
        "judge": said.judge,
        "winner": letters[said.winner],
        "replies": [
            {"shown_first": letters[reply.shown_first]}
            | {"winner": letters[reply.winner], "reply": reply.reply}
            for reply in said.placed
        ],
        "ratings": [
            {"preference": rated.preference}
            | {str(letters["a"]): rated.first, str(letters["b"]): rated.second}
            for rated in said.rated
        ],
    }


def gap_json(match: Match, gap: Gap) -> dict[str, Any]:
    """Return a preference that a judge's ratings differ on."""
    return sides_json(match) | {
        "judge": gap.judge,
        "preference": gap.preference,
        "n": gap.n,
        str(match.first.label): gap.first,
        str(match.second.label): gap.second,
        "difference": gap.difference,
    }
