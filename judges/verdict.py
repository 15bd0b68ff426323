"""What a judge says of a pair, and how what it said in the two orders is joined."""

from collections.abc import Mapping
from typing import Literal, overload

Winner = Literal["a", "b"]
Verdict = Literal["a", "b", "tie"]
"""Of a pair: "a" is its first text, "b" its second."""

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


def ahead(margin: float) -> Verdict:
    """Return who is ahead by a margin of the first text over the second."""
    return "tie" if margin == 0 else "a" if margin > 0 else "b"
