"""What a verdict on a pair of texts is: who won, what a flip, a tie and a win's credit are.

Nobody else decides any of it. A judge that chooses is asked about every pair twice, the second time
with the places exchanged, since judges favour places (paper, figure 3):

    first   second     verdict
    a       a          a
    a       b          tie, and a position flip: it named the place, not the text
    a       tie        tie
    a       nothing    none: a pair is not decided on one order

So do Arena-Hard and MT-Bench. What the judges of other tools said is joined as far as it was made:
one order stands, two are joined as above. People are shown a pair once. A judge that rates prefers
the text it rates higher.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal, NamedTuple, overload

Winner = Literal["a", "b"]
Verdict = Literal["a", "b", "tie"]
"""Of a pair: "a" is its first text, "b" its second."""
Shown = Literal["a", "b", "?"]
"""Which text stood first; "?" where nobody wrote it down."""
Orders = Literal["both", "one", "as made"]
"""How often a judge has to have been asked: see `orders_of`."""

CREDIT: Mapping[Verdict, float] = {"a": 1.0, "tie": 0.5, "b": 0.0}
"""What a verdict is worth to the first text when a tie is half a win."""

RESTRAINT = "restraint"
"""The dimension of what nobody states and everybody expects: that a response keeps to what was
asked."""
SATISFIED = 4
"""The least rating of a preference that counts as satisfied."""

NOT_JUDGED = "not judged"
NOT_NEEDED = "not asked: decided early"
NOT_GENERATED = "not generated"
EMPTY = "empty response"
NO_WISH = "no such wish"
"""Why an item has no value that was never asked for one; it is not counted as left out."""
NO_REFERENCE = "item has no reference"
NO_PREFERENCES = "item has no preferences"

_ASKED_TWICE = frozenset({"arena_hard", "mt_bench"})
"""Other tools that ask about every pair in both orders."""
_EXCHANGED: Mapping[Verdict, Verdict] = {"a": "b", "b": "a", "tie": "tie"}


@overload
def exchanged(verdict: Verdict) -> Verdict: ...
@overload
def exchanged(verdict: Verdict | None) -> Verdict | None: ...
def exchanged(verdict: Verdict | None) -> Verdict | None:
    """Return a verdict in terms of the pair with its texts exchanged."""
    return None if verdict is None else _EXCHANGED[verdict]


def merge_orders(first: Verdict | None, second: Verdict | None) -> Verdict | None:
    """Join the verdicts of the two presentation orders, both in terms of a and b.

    Agreement wins; disagreement is a tie, the mark of position bias; a missing verdict leaves the
    pair undecided rather than deciding it on one order.
    """
    if first is None or second is None:
        return None
    return first if first == second else "tie"


def is_flip(first: Verdict | None, second: Verdict | None) -> bool:
    """Whether the two orders named different texts; naming one and calling a tie is no flip."""
    return {first, second} == {"a", "b"}


CONSTANT_SHARE = 0.95
"""A judge is constant if this share of its ratings are one number, or of its verdicts are ties."""


def constant(ratings: Mapping[float, int], ties: int, verdicts: int) -> str | None:
    """Return how a judge tells nothing apart, or None where it does.

    Args:
        ratings: how often it gave each rating; empty for a judge that chooses.
        ties: how many of its verdicts are ties.
        verdicts: how many verdicts it gave.
    """
    total = sum(ratings.values())
    commonest = max(ratings, key=lambda rating: ratings[rating], default=0.0)
    if total and ratings[commonest] >= CONSTANT_SHARE * total:
        share = 100 * ratings[commonest] / total
        return f"{share:.0f} % of its ratings are {commonest:g}"
    if verdicts and ties >= CONSTANT_SHARE * verdicts:
        return f"{100 * ties / verdicts:.0f} % of its verdicts are ties"
    return None


def ahead(margin: float | Fraction) -> Verdict:
    """Return who is ahead by a margin of the first text over the second."""
    return "tie" if margin == 0 else "a" if margin > 0 else "b"


@dataclass(frozen=True, slots=True)
class Choice:
    """One judge's choice between two texts for one item, in one order of presentation."""

    judge_key: str
    item_key: str
    text_key_a: str
    """The text under evaluation."""
    text_key_b: str
    """What it is compared with."""
    shown_first: Shown
    winner: Verdict | None
    """None when the reply named no winner; `reason` then says why."""
    preference: float | None = None
    """Probability that text a is better, 0-1, from judges that tell; `winner` follows it."""
    reason: str | None = None
    call_key: str | None = None
    """The ledger row of the raw reply; None where the reply was not kept."""

    def turned(self) -> "Choice":
        """Return the same choice in terms of the pair with its texts exchanged."""
        places: Mapping[Shown, Shown] = {"a": "b", "b": "a", "?": "?"}
        return replace(
            self,
            text_key_a=self.text_key_b,
            text_key_b=self.text_key_a,
            shown_first=places[self.shown_first],
            winner=exchanged(self.winner),
            preference=None if self.preference is None else 1 - self.preference,
        )


class Pair(NamedTuple):
    """Two texts about one item, by their keys."""

    item_key: str
    first: str
    second: str

    def turned(self) -> "Pair":
        """Return the pair with its texts exchanged."""
        return Pair(self.item_key, self.second, self.first)


class Total(NamedTuple):
    """The ratings of one text for one item, summed over the item's preferences."""

    rated: int
    """How many preferences have a rating."""
    points: int
    """Sum of the ratings; an integer, so that comparing two texts is exact."""
    reason: str | None
    """Why a rating is missing, when one is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairVerdict:
    """What one judge, or a panel, makes of one pair."""

    winner: Verdict | None
    """None when nothing can be said; `reason` then says why."""
    reason: str | None = None
    flipped: bool | None = None
    """Whether the two places named different texts; None where places play no part."""
    margin: Fraction | None = None
    """First less second, in points of the rating scale; None where nothing was rated."""
    identical: bool = False
    """Both texts are the same: a tie that nobody has to be asked about."""
    preference: float | None = None
    """Probability that the first text is better, from judges that tell."""
    choices: tuple[Choice, ...] = ()
    """What was said, in terms of this pair: with the first text shown first, then the second."""

    @property
    def credit(self) -> float | None:
        """What the verdict is worth to the first text, 0-1; None without a verdict."""
        if self.winner is None:
            return None
        return CREDIT[self.winner] if self.preference is None else self.preference


IDENTICAL = PairVerdict(winner="tie", identical=True)


def chooses(judge_spec: Mapping[str, Any]) -> bool:
    """Whether a judge of the store chooses between texts, as people do, and rates none."""
    protocol = str(judge_spec.get("protocol", ""))
    return protocol.startswith("pairwise") or not {"kind", "imported"}.isdisjoint(judge_spec)


def orders_of(judge_spec: Mapping[str, Any]) -> Orders:
    """Return in how many orders a judge of the store had to be asked about a pair.

    "both": a model asked by one of our pairwise protocols, or by a tool that asks twice as well.
    "one": a person, whose skips are no answers. "as made": the judge of any other tool.
    """
    if str(judge_spec.get("protocol", "")).startswith("pairwise"):
        return "both"
    if judge_spec.get("imported") in _ASKED_TWICE:
        return "both"
    return "one" if judge_spec.get("kind") == "human" else "as made"


def from_choices(pair: Pair, made: Iterable[Choice], orders: Orders) -> PairVerdict:
    """Join what one judge said of a pair, whichever way round it was asked.

    Args:
        pair: whose first text is "a" in the verdict.
        made: choices of one judge between its two texts.
        orders: how often the judge had to be asked.
    """
    own = [one if one.text_key_a == pair.first else one.turned() for one in made]
    if orders == "one":
        own = [one for one in own if one.winner is not None]
    places: dict[Shown, Choice] = {}
    for one in own:
        known = places.get(one.shown_first)
        if known is None or (known.winner is None and one.winner is not None):
            places[one.shown_first] = one
        elif orders == "one" and one.winner != known.winner:
            places["?"] = one  # who sees the same again and contradicts themselves calls a tie
    kept = tuple(places[shown] for shown in ("a", "b", "?") if shown in places)
    if not kept:
        return PairVerdict(winner=None, reason=NOT_JUDGED)
    if len(kept) == 1 and orders != "both":
        only = kept[0]
        reason = None if only.winner else only.reason or NOT_JUDGED
        preference = only.preference
        return PairVerdict(winner=only.winner, reason=reason, preference=preference, choices=kept)
    first, second = kept[0].winner, kept[1].winner if len(kept) > 1 else None
    winner = merge_orders(first, second)
    return PairVerdict(
        winner=winner,
        reason=None if winner else next((c.reason for c in kept if not c.winner), NOT_JUDGED),
        flipped=is_flip(first, second),
        preference=kept[0].preference if winner else None,
        choices=kept,
    )


def from_totals(first: Total | None, second: Total | None, n_preferences: int) -> PairVerdict:
    """Return what the ratings of a pair's two texts say; a missing rating leaves it undecided.

    Both texts have one rating a preference, so their sums compare exactly, as means would not.
    """
    if not n_preferences:
        return PairVerdict(winner=None, reason=NO_PREFERENCES)
    points = []
    for total in (first, second):
        if total is None or total.rated < n_preferences:
            return PairVerdict(winner=None, reason=(total and total.reason) or NOT_JUDGED)
        points.append(total.points)
    margin = Fraction(points[0] - points[1], n_preferences)
    return PairVerdict(winner=ahead(margin), margin=margin)
