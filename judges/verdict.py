"""What a judge says of a pair, and how what it said in the two orders is joined."""

from typing import Literal

Winner = Literal["a", "b"]
Verdict = Literal["a", "b", "tie"]


def merge_orders(first: Verdict | None, second: Verdict | None) -> Verdict | None:
    """Join the verdicts of the two presentation orders, both in terms of a and b.

    Agreement wins; disagreement is a tie, the mark of position bias; a missing verdict leaves the
    pair undecided rather than deciding it on one order.
    """
    if first is None or second is None:
        return None
    return first if first == second else "tie"
