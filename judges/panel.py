"""What verdicts come to: wins, ties and losses of one judge, panels and agreement of several."""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import combinations
from typing import Literal, NamedTuple

import numpy as np

from mipo_eval.errors import DataError
from mipo_eval.metrics.aggregate import mean_score, same_length
from mipo_eval.metrics.agreement import Agreement, agreement
from mipo_eval.metrics.win_rate import METRIC_NAMES, Rates, outcome_rates, worth
from mipo_eval.records import Score, Values
from mipo_eval.signature import NOTHING, Signature, join
from mipo_eval.stats.bootstrap import Floats, Labels
from mipo_eval.stats.intervals import RATE
from mipo_eval.stats.paired import Comparison, compare_all
from mipo_eval.stats.seeds import seed_summaries
from mipo_eval.stats.sequence import at_any_time, sequence_intervals
from mipo_eval.verdict import PairVerdict, Verdict, ahead


def agreement_matrix(
    verdicts: Mapping[str, Sequence[Hashable | None]],
) -> dict[tuple[str, str], Agreement]:
    """Return the agreement of every two judges: one verdict or rating per response, or None.

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
    groups: Labels = None,
) -> Score:
    """Return by how much two judges together favour their own families, in points of the scale.

    The interaction (own_of_own - own_of_other) - (other_of_own - other_of_other), item by item: one
    judge being stricter, or one family being better, cancels out. Zero means that both judges see
    the same difference between the families; an interval above zero means self-preference.

    Raises:
        DataError: no item has all four ratings, or the lengths differ.
    """
    for name, values in ratings._asdict().items():
        same_length("own_of_own", len(ratings.own_of_own), name, values)
    differences = [
        None if a is None or b is None or c is None or d is None else (a - b) - (c - d)
        for a, b, c, d in zip(*ratings, strict=True)
    ]
    return mean_score(
        "family_preference",
        differences,
        signature=signature,
        groups=groups,
        reasons=["a rating is missing"] * len(differences),
    )


Panel = Literal["mean", "majority", "sample"]
"""What several judges come to: what they say of each item together, or "sample": what judges like
these say on average."""
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
    outcomes: Sequence[PairVerdict],
    *,
    groups: Sequence[Hashable | None],
    stopped_early: bool = False,
) -> Balance:
    """Return what the outcomes, one per item, come to.

    Args:
        outcomes: of every item, asked about or not.
        groups: the items' prompt groups (and users): what is resampled, and permuted, together.
        stopped_early: whether judging could stop when the outcomes told enough; intervals and
            p-values are then those that hold whenever one stops.

    Raises:
        DataError: there are no outcomes, or the lengths differ.
    """
    if not outcomes:
        raise DataError("there is nothing to compare: no items")
    values = [outcome.credit for outcome in outcomes]
    led = leads(outcomes)
    if all(value is None for value in values):
        why = dict(Counter(str(outcome.reason) for outcome in outcomes))
        win = half = tie = loss = Score(
            metric="win_rate_strict", value=None, n=0, unscored_reasons=why, signature=NOTHING
        )
    else:
        reasons = [o.reason for o in outcomes]
        rates = outcome_rates(values, groups=groups, reasons=reasons)
        if stopped_early:
            rates = _whenever_stopped(rates, led, groups)
        found = {score.metric: score for score in rates}
        win, half = found[METRIC_NAMES["loss"]], found[METRIC_NAMES["half"]]
        tie, loss = found["tie_rate"], _mirrored(found[METRIC_NAMES["win"]])
    asked = [o for o in outcomes if o.winner is not None and o.flipped is not None]
    has_places = any(o.flipped is not None for o in outcomes)
    flips = sum(bool(o.flipped) for o in asked) if has_places else None
    rated = margins(outcomes)
    return Balance(
        win=win,
        tie=replace(tie, metric="tie_rate"),
        loss=replace(loss, metric="loss_rate"),
        half=replace(half, metric="win_rate_half_ties"),
        net=_against_zero(led[:, None], groups, 100.0, stopped_early=stopped_early),
        flips=flips,
        flip_rate=100 * flips / len(asked) if flips is not None and asked else None,
        identical=sum(o.identical for o in outcomes),
        rating=_against_zero(rated[:, None], groups, 4.0, stopped_early=stopped_early),
    )


def leads(outcomes: Sequence[PairVerdict]) -> Floats:
    """Return what each outcome adds to wins less losses, in points of 100; NaN for none."""
    credits = (outcome.credit for outcome in outcomes)
    return np.array([np.nan if credit is None else 200 * (credit - 0.5) for credit in credits])


def margins(outcomes: Sequence[PairVerdict]) -> Floats:
    """Return by how much each outcome's first rating is above its second; NaN for none."""
    return np.array([np.nan if o.margin is None else float(o.margin) for o in outcomes])


def sample_balance(
    of_judges: Sequence[Sequence[PairVerdict]], *, groups: Sequence[Hashable | None]
) -> Balance:
    """Return the mean over judges that are a sample of judges like them, each counting alike.

    Judges are crossed with items as training seeds are (`stats.seeds`): the intervals are for other
    items and other judges, and wide where judges are few. An item counts that any judge decided;
    where fewer than two judges decided anything there is no number.

    Raises:
        DataError: there are no outcomes, or judges have different numbers of them.
    """
    together = panel_outcomes(of_judges, "majority")
    if not together:
        raise DataError("there is nothing to compare: no items")
    led, rated = (np.stack([of(o) for o in of_judges], 1) for of in (leads, margins))
    undecided = Counter(str(one.reason) for one in together if one.winner is None)
    if (~np.isnan(led).all(axis=0)).sum() < 2:
        led, undecided = np.full_like(led, np.nan), Counter({NO_PANEL: len(together)})
    inclusive, half, strict, tied = np.moveaxis(worth(led[:, ~np.isnan(led).all(axis=0)]), -1, 0)

    def rate(metric: str, values: Floats) -> Score:
        blank = Score(
            metric=metric, value=None, n=0, unscored_reasons=dict(undecided), signature=NOTHING
        )
        if not values.size:
            return blank
        (found,) = seed_summaries([values.T], groups, RATE)
        return replace(blank, value=found.mean, n=found.n_items, ci95=found.ci95)

    return Balance(
        win=rate("win_rate_strict", strict),
        tie=rate("tie_rate", tied),
        loss=rate("loss_rate", 100.0 - inclusive),
        half=rate("win_rate_half_ties", half),
        net=_against_zero(led, groups, 100.0),
        flips=None,
        flip_rate=None,
        identical=sum(outcome.identical for outcome in together),
        rating=None if np.isnan(rated).all(0).any() else _against_zero(rated, groups, 4.0),
    )


def _mirrored(inclusive: Score) -> Score:
    """Return the loss rate: what is neither won nor tied."""
    low, high = inclusive.ci95 or (None, None)
    interval = None if low is None or high is None else (100 - high, 100 - low)
    value = None if inclusive.value is None else 100 - inclusive.value
    return replace(
        inclusive, metric="loss_rate", value=value, ci95=interval, signature=join(ties="counted")
    )


def _whenever_stopped(rates: Rates, led: Floats, groups: Sequence[Hashable | None]) -> Rates:
    """Return win rates and tie rate with confidence sequences for intervals."""
    intervals = sequence_intervals(worth(led), groups, RATE)
    one, two, three, ties = (
        replace(score, ci95=ends) for score, ends in zip(rates, intervals, strict=True)
    )
    return one, two, three, ties


def _against_zero(
    values: Floats,
    groups: Sequence[Hashable | None],
    most: float,
    *,
    stopped_early: bool = False,
) -> Comparison | None:
    """Compare (items, judges) paired differences, of at most so much, with none at all."""
    if np.isnan(values).all():
        return None
    # Nothing is no sample of anything: beside judges it stands as a method of one seed.
    nothing = np.full(values.shape, np.nan)
    nothing[:, 0] = np.where(np.isnan(values).all(axis=1), np.nan, 0.0)
    table = np.stack([values, nothing], axis=1)
    found = compare_all(table, ["first", "second"], groups, span=(0.0, most))
    return at_any_time(found, values, groups, most)[0] if stopped_early else found[0]


def panel_outcomes(of_judges: Sequence[Sequence[PairVerdict]], how: Panel) -> list[PairVerdict]:
    """Return what several judges say together; each has one outcome per item, in the same order.

    "mean" adds up what they say: margins where all of them rate, else wins, ties and losses. It
    needs every judge's word. "majority" takes the entrant that more than half of the judges who
    have a verdict prefer; without one it is a tie.

    Raises:
        DataError: there is no judge, or the judges have different numbers of items.
    """
    if not of_judges:
        raise DataError("a panel needs at least one judge")
    for number, outcomes in enumerate(of_judges[1:], 2):
        same_length("judge 1", len(of_judges[0]), f"judge {number}", outcomes)
    found = []
    for row in zip(*of_judges, strict=True):
        winner, margin = (_majority(row), None) if how == "majority" else _mean(row)
        reason = None if winner else next((o.reason for o in row if o.reason), NO_PANEL)
        identical = all(o.identical for o in row)
        found.append(PairVerdict(winner=winner, reason=reason, margin=margin, identical=identical))
    return found


def _majority(row: Sequence[PairVerdict]) -> Verdict | None:
    votes = [outcome.winner for outcome in row if outcome.winner is not None]
    for name in votes:
        if 2 * votes.count(name) > len(votes):
            return name
    return "tie" if votes else None


def _mean(row: Sequence[PairVerdict]) -> tuple[Verdict | None, Fraction | None]:
    """Return who is ahead by the sum of what all say, and the mean margin if all of them rated."""
    margins = [outcome.margin for outcome in row if outcome.margin is not None]
    margin = sum(margins, Fraction(0)) / len(row) if len(margins) == len(row) else None
    credits = [outcome.credit for outcome in row if outcome.credit is not None]
    if len(credits) < len(row):
        return None, margin
    return ahead(sum(credits) / len(row) - 0.5 if margin is None else margin), margin
