"""What verdicts on pairs come to: wins, ties and losses with intervals, and who is ahead."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

import numpy as np

from mipo_eval.errors import DataError
from mipo_eval.judges.comparing import panel_majority, panel_mean
from mipo_eval.metrics.win_rate import METRIC_NAMES, outcome_rates
from mipo_eval.records import Score
from mipo_eval.signature import NOTHING, join
from mipo_eval.stats import Comparison, compare
from mipo_eval.verdict import PairVerdict, Verdict, ahead

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
