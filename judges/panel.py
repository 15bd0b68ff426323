"""What verdicts come to: wins, ties and losses of one judge, panels and agreement of several."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import combinations
from typing import Literal, NamedTuple

import numpy as np

from mipo_eval.errors import DataError
from mipo_eval.metrics.aggregate import mean_score, same_length
from mipo_eval.metrics.agreement import Agreement, agreement
from mipo_eval.metrics.win_rate import METRIC_NAMES, outcome_rates
from mipo_eval.records import Score, Values
from mipo_eval.signature import NOTHING, Signature, join
from mipo_eval.stats import Comparison, compare
from mipo_eval.verdict import PairVerdict, Verdict, ahead


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


Panel = Literal["mean", "majority"]

NO_PANEL = "a judge of the panel has no verdict"


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """Two entrants over the items of one task, as one judge or a panel sees them."""

    win: Score
    """0-100, of the items with a verdict."""
    tie: Score
    loss: Score
    half: Score
    """The win rate when a tie is half a win."""
    net: Comparison | None
    """Wins less losses in points of 100; None without a single verdict."""
    flips: int | None
    """Ties because the two places named different responses; None where places play no part."""
    flip_rate: float | None
    """The same, 0-100 of the items that were asked about and have a verdict."""
    identical: int
    """Ties because both texts are the same."""
    rating: Comparison | None
    """Mean rating of the first less that of the second, in points of the scale."""


def balance(
    outcomes: Sequence[PairVerdict], *, groups: Sequence[Hashable | None], seed: int = 0
) -> Balance:
    """Return what the outcomes come to.

    Args:
        outcomes: one per item.
        groups: prompt group (and user) per item: what is resampled, and permuted, together.
        seed: of the bootstrap and the permutations.

    Raises:
        DataError: there are no outcomes, or the lengths differ.
    """
    if not outcomes:
        raise DataError("there is nothing to compare: no items")
    values = [outcome.credit for outcome in outcomes]
    if all(value is None for value in values):
        win = half = tie = loss = _absent(outcomes)
    else:
        reasons = [o.reason for o in outcomes]
        rates = outcome_rates(values, groups=groups, seed=seed, reasons=reasons)
        found = {score.metric: score for score in rates}
        win, half = found[METRIC_NAMES["loss"]], found[METRIC_NAMES["half"]]
        tie, loss = found["tie_rate"], _mirrored(found[METRIC_NAMES["win"]])
    asked = [o for o in outcomes if o.winner is not None and o.flipped is not None]
    flips = sum(bool(o.flipped) for o in asked) if _has_places(outcomes) else None
    margins = [None if o.margin is None else float(o.margin) for o in outcomes]
    return Balance(
        win=win,
        tie=replace(tie, metric="tie_rate"),
        loss=replace(loss, metric="loss_rate"),
        half=replace(half, metric="win_rate_half_ties"),
        net=_honest(_against_zero(_leads(values), groups, seed), win, loss),
        flips=flips,
        flip_rate=100 * flips / len(asked) if flips is not None and asked else None,
        identical=sum(o.identical for o in outcomes),
        rating=_against_zero(margins, groups, seed),
    )


def _has_places(outcomes: Sequence[PairVerdict]) -> bool:
    return any(outcome.flipped is not None for outcome in outcomes)


def _absent(outcomes: Sequence[PairVerdict]) -> Score:
    reasons: dict[str, int] = {}
    for outcome in outcomes:
        reasons[str(outcome.reason)] = reasons.get(str(outcome.reason), 0) + 1
    return Score(
        metric="win_rate_strict", value=None, n=0, unscored_reasons=reasons, signature=NOTHING
    )


def _mirrored(inclusive: Score) -> Score:
    """Return the loss rate: what is neither won nor tied."""
    low, high = inclusive.ci95 or (None, None)
    interval = None if low is None or high is None else (100 - high, 100 - low)
    value = None if inclusive.value is None else 100 - inclusive.value
    return replace(
        inclusive, metric="loss_rate", value=value, ci95=interval, signature=join(ties="counted")
    )


def _leads(values: Sequence[float | None]) -> list[float | None]:
    return [None if value is None else 200 * (value - 0.5) for value in values]


def _honest(net: Comparison | None, win: Score, loss: Score) -> Comparison | None:
    """Widen the interval where all items came out alike: resampling shows no doubt there."""
    if net is None or net.n not in {net.wins, net.ties, net.losses}:
        return net
    if net.ci95 is None or win.ci95 is None or loss.ci95 is None:
        return replace(net, detectable=None)
    interval = (win.ci95[0] - loss.ci95[1], win.ci95[1] - loss.ci95[0])
    return replace(net, ci95=interval, detectable=None)


def _against_zero(
    values: Sequence[float | None], groups: Sequence[Hashable | None], seed: int
) -> Comparison | None:
    """Compare paired differences with none at all."""
    if all(value is None for value in values):
        return None
    table = np.array([np.nan if value is None else value for value in values])
    return compare(table, np.where(np.isnan(table), np.nan, 0.0), groups, seed=seed)


def panel_outcomes(of_judges: Sequence[Sequence[PairVerdict]], how: Panel) -> list[PairVerdict]:
    """Return what several judges say together, item by item.

    "mean" adds up what they say: margins where all of them rate, else wins, ties and losses. It
    needs every judge's word. "majority" takes the entrant that more than half of the judges who
    have a verdict prefer; without one it is a tie.

    Args:
        of_judges: per judge, one outcome per item; all judges in the same order of items.
        how: "mean" or "majority".

    Raises:
        DataError: there is no judge, or the judges have different numbers of items.
    """
    if how == "majority":
        winners = panel_majority([[o.winner for o in outcomes] for outcomes in of_judges])
        sums: Sequence[Fraction | None] = [None] * len(winners)
    else:
        means = panel_mean([[o.credit for o in outcomes] for outcomes in of_judges])
        sums = [_margins(row) for row in zip(*of_judges, strict=True)]
        winners = [_ahead(mean, margin) for mean, margin in zip(means, sums, strict=True)]
    rows = list(zip(*of_judges, strict=True))
    return [
        PairVerdict(
            winner=winner,
            reason=None if winner else next((o.reason for o in row if o.reason), NO_PANEL),
            margin=margin,
            identical=all(o.identical for o in row),
        )
        for winner, margin, row in zip(winners, sums, rows, strict=True)
    ]


def _margins(row: Sequence[PairVerdict]) -> Fraction | None:
    """Return the mean margin of the judges of one item; None unless all of them rated it."""
    known = [outcome.margin for outcome in row if outcome.margin is not None]
    return sum(known, Fraction(0)) / len(row) if len(known) == len(row) else None


def _ahead(mean: float | None, margin: Fraction | None) -> Verdict | None:
    if mean is None:
        return None
    return ahead(mean - 0.5 if margin is None else margin)
