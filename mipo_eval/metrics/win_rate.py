"""Win rates against reference responses, with every rule for ties, and the tie rate.

The paper counts a tie as a win (Table 1: all its single-run cells are whole counts only under that
rule). A judge that always ties then gives 100 %, so the tie rate and the other rules are computed
from the same ratings and belong beside it.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from mipo_eval.errors import ConfigError, DataError
from mipo_eval.metrics.aggregate import (
    NO_SCORE,
    Reasons,
    count_reasons,
    refuse_non_finite,
    same_length,
)
from mipo_eval.records import Score, Values
from mipo_eval.signature import join
from mipo_eval.stats.bootstrap import Floats, Labels
from mipo_eval.stats.intervals import rate_intervals

Ties = Literal["win", "half", "loss"]

NO_REFERENCE_SCORE = "no reference score"
NO_VERDICT = "no verdict"

TIE_CREDIT: Mapping[Ties, float] = {"win": 100.0, "half": 50.0, "loss": 0.0}
"""What a tie adds to the win rate, in percent of an item."""

Rates = tuple[Score, Score, Score, Score]
"""Tie-inclusive, half-ties and strict win rate, and tie rate, of the same items."""

METRIC_NAMES: Mapping[Ties, str] = {
    "win": "win_rate_tie_inclusive",
    "half": "win_rate_half_ties",
    "loss": "win_rate_strict",
}


def _floats(values: Values) -> Floats:
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)


def worth(margins: Floats) -> Floats:
    """Return what items are worth under every tie rule, then whether they tie, in percent.

    Args:
        margins: of any shape; above 0 is won, 0 tied, NaN absent.

    Returns:
        The same shape with a last axis of 4: the rules of `TIE_CREDIT`, and the tie.
    """
    won, tied = 100.0 * (margins > 0), margins == 0
    table = np.stack([*(won + tied * c for c in TIE_CREDIT.values()), 100.0 * tied], axis=-1)
    table[np.isnan(margins)] = math.nan
    return table


def _rates(
    margins: Floats,
    absent: Sequence[str | None],
    *,
    groups: Labels,
    reasons: Reasons,
) -> Rates:
    """Return the rate under every tie rule and the tie rate from (items,) margins.

    `absent` tells per item why it has no margin, None where it has one.
    """
    same_length("scores", len(absent), "groups", groups)
    unscored = count_reasons(absent, reasons, "win rate")
    table = worth(margins)
    means, intervals = np.nanmean(table, axis=0), rate_intervals(table, groups)

    def score(column: int, metric: str, ties: str) -> Score:
        return Score(
            metric=metric,
            value=float(means[column]),
            n=len(absent) - sum(unscored.values()),
            unscored_reasons=unscored,
            ci95=intervals[column],
            signature=join(ties=ties),
        )

    return (
        score(0, METRIC_NAMES["win"], "win"),
        score(1, METRIC_NAMES["half"], "half"),
        score(2, METRIC_NAMES["loss"], "loss"),
        score(3, "tie_rate", "counted"),
    )


def win_rates(
    scores: Values,
    reference_scores: Values,
    *,
    groups: Labels = None,
    reasons: Reasons = None,
) -> Rates:
    """Return the win rate under each tie rule, and the tie rate, from the same ratings.

    Args:
        scores: per item the response's rating; None where there is none.
        reference_scores: per item the reference response's rating; None where there is none.
        groups: prompt group per item, the unit of resampling; `Crossed(prompt, user)` where users
            come back; None (for one item, or for all): the item is its own group.
        reasons: per item, why one of the two ratings is missing; ignored where both exist.

    Returns:
        `win_rate_tie_inclusive`, `win_rate_half_ties`, `win_rate_strict`, `tie_rate`; 0-100.

    Raises:
        DataError: no item has both ratings, a rating is NaN, or the lengths differ.
    """
    same_length("scores", len(scores), "reference_scores", reference_scores)
    refuse_non_finite("scores", scores)
    refuse_non_finite("reference_scores", reference_scores)
    absent = [
        NO_SCORE if score is None else NO_REFERENCE_SCORE if reference is None else None
        for score, reference in zip(scores, reference_scores, strict=True)
    ]
    margins = _floats(scores) - _floats(reference_scores)
    return _rates(margins, absent, groups=groups, reasons=reasons)


def win_rate(
    scores: Values,
    reference_scores: Values,
    *,
    ties: Ties = "win",
    groups: Labels = None,
    reasons: Reasons = None,
) -> Score:
    """Return how often a response is rated above its reference (paper, section 5 and Table 1).

    An item with one rating missing is unscored, never a loss or a tie. Arguments and errors are
    those of `win_rates`, and `ties` is what an equal rating counts as: "win" is the paper's rule.

    Raises:
        ConfigError: `ties` is none of the three rules.
    """
    if ties not in TIE_CREDIT:
        raise ConfigError(f"ties {ties!r} is no tie rule; known: {', '.join(TIE_CREDIT)}")
    scored = win_rates(scores, reference_scores, groups=groups, reasons=reasons)
    return scored[list(TIE_CREDIT).index(ties)]


def outcome_rates(outcomes: Values, *, groups: Labels = None, reasons: Reasons = None) -> Rates:
    """Return what `win_rates` returns, from the verdicts of a pairwise judge.

    An outcome is 1 for a win, 0.5 for a tie, 0 for a loss, None without a verdict; a probability
    of winning counts as a win above 0.5. All else is as in `win_rates`.

    Raises:
        DataError: no item has a verdict, one is outside 0 to 1, or the lengths differ.
    """
    refuse_non_finite("outcomes", outcomes)
    for index, outcome in enumerate(outcomes):
        if outcome is not None and not 0 <= outcome <= 1:
            raise DataError(
                f"outcomes[{index}] is {outcome}; 1 is a win, 0.5 a tie, 0 a loss, None no verdict"
            )
    absent = [NO_VERDICT if outcome is None else None for outcome in outcomes]
    return _rates(_floats(outcomes) - 0.5, absent, groups=groups, reasons=reasons)
