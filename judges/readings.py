"""What a judge said of one labelled pair: the material from which its quality is measured."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from mipo_eval.judges.rubric import UNPARSED
from mipo_eval.judges.verdict import Verdict, merge_orders

if TYPE_CHECKING:
    from mipo_eval.judges.labelled import LabelledPair


@dataclass(frozen=True, slots=True, kw_only=True)
class PairReading:
    """What a judge said of one labelled pair; "a" is the first response, wherever it was shown."""

    label: Verdict
    straight: Verdict | None = None
    """With the first response in the first place; None when the reply gave no verdict."""
    swapped: Verdict | None = None
    """With the places exchanged; None also when that was not asked."""
    both_orders: bool = True
    """Whether the exchanged order was asked."""
    ratings: tuple[float | None, float | None] | None = None
    """Of the first and second response, for judges that rate; None for judges that choose.

    Where there are several preferences these are sums over them."""
    given: tuple[int, ...] = ()
    """Every single rating, where there are several preferences."""
    probability: float | None = None
    """Of the first response being the better one, from the probabilities of its ratings."""
    lengths: tuple[int, int] = (0, 0)
    """Characters of the first and second response."""
    group: str = ""
    subset: str = ""
    replies: int = 0
    """How many the judge was asked for, over orders, responses and preferences."""
    unread: tuple[str, ...] = ()
    """Why replies gave nothing: one reason for each that is missing or unreadable."""
    trouble: str = ""
    """What the first call that failed said, in full."""

    @classmethod
    def of(
        cls,
        pair: "LabelledPair",
        straight: Verdict | None,
        swapped: Verdict | None,
        *,
        both_orders: bool = True,
        ratings: tuple[float | None, float | None] | None = None,
    ) -> Self:
        """Return the reading of `pair`; its label, lengths and group come from there.

        Every rating or order is one reply; one without a verdict could not be read.
        """
        said = ratings or ((straight, swapped) if both_orders else (straight,))
        return cls(
            label=pair.label,
            straight=straight,
            swapped=swapped,
            both_orders=both_orders,
            ratings=ratings,
            lengths=(len(pair.first), len(pair.second)),
            group=pair.group or pair.pair_id,
            subset=pair.subset,
            replies=len(said),
            unread=(UNPARSED,) * said.count(None),
        )

    @property
    def verdict(self) -> Verdict | None:
        """The judge's one verdict: from its ratings, or from both orders, or from the one asked."""
        if self.ratings is not None:
            return _higher(*self.ratings)
        return merge_orders(self.straight, self.swapped) if self.both_orders else self.straight

    @property
    def flipped(self) -> bool:
        """Whether the two orders named different responses."""
        return self.both_orders and {self.straight, self.swapped} == {"a", "b"}

    @property
    def longer(self) -> Verdict:
        """Which response is longer."""
        return _higher(*self.lengths) or "tie"


def _higher(first: float | None, second: float | None) -> Verdict | None:
    if first is None or second is None:
        return None
    return "tie" if first == second else "a" if first > second else "b"
