"""Judge against judge: who agrees with whom, whether one favours its own family, and panels."""

from collections.abc import Hashable, Mapping, Sequence
from itertools import combinations
from typing import Literal, NamedTuple

from mipo_eval.errors import DataError
from mipo_eval.metrics import mean_score
from mipo_eval.metrics.aggregate import same_length
from mipo_eval.metrics.agreement import Agreement, agreement
from mipo_eval.records import Score, Values
from mipo_eval.signature import NOTHING, Signature, join
from mipo_eval.verdict import Verdict


def agreement_matrix(
    verdicts: Mapping[str, Sequence[Hashable | None]],
) -> dict[tuple[str, str], Agreement]:
    """Return the agreement of every two judges on the same responses.

    Args:
        verdicts: by judge, one verdict or rating per response in the same order; None is missing.

    Raises:
        DataError: the judges have different numbers of entries.
    """
    for name, said in verdicts.items():
        same_length("the first judge", len(next(iter(verdicts.values()))), name, said)
    return {
        (first, second): agreement(verdicts[first], verdicts[second])
        for first, second in combinations(verdicts, 2)
    }


class FamilyRatings(NamedTuple):
    """The ratings that two judges of two families give to responses of both, item by item."""

    own_of_own: Values
    """The first judge's ratings of its own family's responses."""
    own_of_other: Values
    """The first judge's ratings of the second family's responses."""
    other_of_own: Values
    """The second judge's ratings of the first family's responses."""
    other_of_other: Values
    """The second judge's ratings of its own family's responses."""


def family_preference(
    ratings: FamilyRatings,
    *,
    signature: Signature = NOTHING,
    groups: Sequence[Hashable | None] | None = None,
    seed: int = 0,
) -> Score:
    """Return by how much two judges together favour their own families, in points of the scale.

    The interaction (own_of_own - own_of_other) - (other_of_own - other_of_other), item by item: one
    judge being stricter, or one family being better, cancels out. Zero means that both judges see
    the same difference between the families; an interval above zero means self-preference.

    Args:
        ratings: one entry per item in each of the four lists; None is missing.
        signature: which judges and which responses.
        groups: prompt group per item.
        seed: of the bootstrap.

    Raises:
        DataError: no item has all four ratings, or the lengths differ.
    """
    for name, values in ratings._asdict().items():
        same_length("own_of_own", len(ratings.own_of_own), name, values)
    differences: list[float | None] = []
    for row in zip(*ratings, strict=True):
        a, b, c, d = row
        if a is None or b is None or c is None or d is None:
            differences.append(None)
        else:
            differences.append((a - b) - (c - d))
    return mean_score(
        "family_preference",
        differences,
        signature=signature or join(ratings="mean per item"),
        groups=groups,
        seed=seed,
        reasons=["a rating is missing"] * len(differences),
    )


def panel_mean(ratings: Sequence[Values]) -> list[float | None]:
    """Return the mean rating of several judges, item by item.

    An item that one judge could not rate has none: a mean over the others would compare items
    rated by different judges.

    Args:
        ratings: per judge, one rating per item; all judges in the same order of items.

    Raises:
        DataError: there is no judge, or the judges have different numbers of items.
    """
    _check_panel(ratings)
    return [
        None if None in row else sum(r for r in row if r is not None) / len(row)
        for row in zip(*ratings, strict=True)
    ]


def panel_majority(
    verdicts: Sequence[Sequence[Verdict | None]],
) -> list[Verdict | None]:
    """Return what more than half of the judges say, item by item; without a majority it is a tie.

    Judges without a verdict do not vote; an item nobody could decide has none.

    Args:
        verdicts: per judge, one verdict per item; all judges in the same order of items.

    Raises:
        DataError: there is no judge, or the judges have different numbers of items.
    """
    _check_panel(verdicts)
    found: list[Verdict | None] = []
    for row in zip(*verdicts, strict=True):
        votes = [vote for vote in row if vote is not None]
        winners: list[Literal["a", "b"]] = ["a", "b"]
        ahead = [winner for winner in winners if 2 * votes.count(winner) > len(votes)]
        found.append(None if not votes else ahead[0] if ahead else "tie")
    return found


def _check_panel(rows: Sequence[Sequence[object]]) -> None:
    if not rows:
        raise DataError("a panel needs at least one judge")
    for number, row in enumerate(rows[1:], 2):
        same_length("judge 1", len(rows[0]), f"judge {number}", row)
