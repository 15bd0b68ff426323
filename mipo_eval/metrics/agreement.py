"""Agreement of raters beyond what chance gives, and of ratings with human choices.

Kappa (of two raters) and alpha (of any number, with gaps) are both 1 less a ratio: the disagreement
seen over the one that chance would give. Their intervals are of the ratio's logarithm, so that
none reaches beyond 1, with the clustered error of how far each item moves it.
"""

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from mipo_eval.errors import DataError
from mipo_eval.metrics.aggregate import refuse_non_finite, same_length
from mipo_eval.records import Values
from mipo_eval.stats.bootstrap import Floats, Index, Interval, Labels
from mipo_eval.stats.estimates import estimates, t_quantile
from mipo_eval.stats.intervals import constant_interval, rare_variances, rate_intervals

Weights = Literal["linear", "quadratic"]
"""How much two labels disagree: their distance, or its square."""
Level = Literal["nominal", "ordinal", "interval"]
"""What labels are: names, steps in an order, or numbers whose distances mean something."""


def cohen_kappa(first: Sequence[Hashable], second: Sequence[Hashable]) -> float | None:
    """Return Cohen's kappa of two raters over the same items, -1 to 1.

    (observed - expected) / (1 - expected), with the agreement expected of two raters who keep
    their own frequencies and ignore the items. None where both always give one and the same label:
    chance alone would agree on everything, so there is nothing to measure.

    Args:
        first: one label per item.
        second: one label per item; leave out items that either rater did not label.

    Raises:
        DataError: the lengths differ, or there is no item.
    """
    same_length("first", len(first), "second", second)
    if not first:
        raise DataError("Cohen's kappa needs at least one item that both raters labelled")
    n = len(first)
    ours, theirs = Counter(first), Counter(second)
    # Exact integers up to the last division: published kappas are compared to all digits.
    observed = sum(a == b for a, b in zip(first, second, strict=True))
    expected = sum(count * theirs[label] for label, count in ours.items())
    if expected == n * n:
        return None
    return (n * observed - expected) / (n * n - expected)


def weighted_kappa(
    first: Sequence[float], second: Sequence[float], weights: Weights = "quadratic"
) -> float | None:
    """Return weighted kappa of two raters over the same items (Cohen 1968), at most 1.

    1 - observed / expected disagreement, where labels disagree by their distance or its square.
    None where both always give one and the same label.

    Args:
        first: one number per item.
        second: one number per item; leave out items that either rater did not label.
        weights: "linear" or "quadratic".

    Raises:
        DataError: the lengths differ, or there is no item.
    """
    same_length("first", len(first), "second", second)
    if not len(first):
        raise DataError("weighted kappa needs at least one item that both raters labelled")
    return _kappa(list(zip(first, second, strict=True)), weights).value


class Agreement(NamedTuple):
    """How two raters agree over the items that both labelled."""

    n: int
    """Items that both labelled."""
    share: float | None
    """0-100 of equal labels; None where there is no item in common."""
    kappa: float | None
    """Cohen's kappa; None also where both always give one and the same label."""
    share_ci95: Interval | None = None
    kappa_ci95: Interval | None = None
    weighted_kappa: float | None = None
    """With quadratic weights; None also where labels are no numbers."""
    weighted_kappa_ci95: Interval | None = None


def agreement(
    first: Sequence[Hashable | None], second: Sequence[Hashable | None], groups: Labels = None
) -> Agreement:
    """Return how two raters agree: the one place that counts equal labels of two lists.

    Args:
        first: one label per item; None is missing, and the item is left out.
        second: one label per item, in the same order.
        groups: one label per item, see `stats.bootstrap.Dependence`.

    Raises:
        DataError: the lengths differ.
    """
    same_length("first", len(first), "second", second)
    rows = zip(first, second, groups or [None] * len(first), strict=True)
    told = [(a, b, group) for a, b, group in rows if a is not None and b is not None]
    if not told:
        return Agreement(0, None, None)
    pairs, own = [(a, b) for a, b, _ in told], [group for *_, group in told]
    equal = np.array([[100.0 * (a == b)] for a, b in pairs])
    are_numbers = all(isinstance(label, int | float) for pair in pairs for label in pair)
    weighted = _kappa(pairs, "quadratic", own) if are_numbers else Coefficient(None, None)
    return Agreement(
        len(pairs),
        float(equal.mean()),
        cohen_kappa(*zip(*pairs, strict=True)),
        rate_intervals(equal, own)[0],
        _kappa(pairs, "nominal", own).ci95,
        *weighted,
    )


class Reliability(NamedTuple):
    """How any number of raters agree, each of whom may have left out some items."""

    n: int
    """Items with two labels or more."""
    share: float | None
    """0-100 of equal labels among two of an item; None without such an item."""
    share_ci95: Interval | None
    alpha: float | None
    """Krippendorff's; None also where all labels are the same."""
    alpha_ci95: Interval | None


def reliability(
    items: Iterable[Sequence[Hashable | None]], level: Level, groups: Labels = None
) -> Reliability:
    """Return how far raters agree on items (Krippendorff 2011).

    Args:
        items: per item the labels that raters gave it, in any order; None is missing.
        level: what labels are; only names need not be numbers.
        groups: one label per item, see `stats.bootstrap.Dependence`.
    """
    told = [[label for label in given if label is not None] for given in items]
    kept = [row for row, given in enumerate(told) if len(given) > 1]
    if not kept:
        return Reliability(0, None, None, None, None)
    of_items = [Counter(told[row]) for row in kept]
    labels = _ordered({label for counts in of_items for label in counts}, level)
    kinds: dict[tuple[int, ...], int] = {}
    """Items with the same labels move alpha alike: each such kind is looked at once."""
    which = [
        kinds.setdefault(tuple(counts[label] for label in labels), len(kinds))
        for counts in of_items
    ]
    counts = np.array(list(kinds), dtype=np.float64)
    size = counts.sum(axis=1)[:, None, None]
    pairs = counts[:, :, None] * counts[:, None, :] - counts[:, None, :] * np.eye(len(labels))
    own = None if groups is None else [groups[row] for row in kept]
    of_kind = np.array(which, dtype=np.intp)
    equal = 100 * np.trace(pairs / (size * (size - 1)), axis1=1, axis2=2)[of_kind]
    found = _coefficient(pairs / (size - 1), of_kind, _Alpha(labels, level), own)
    shares = rate_intervals(equal[:, None], own)
    return Reliability(len(kept), float(equal.mean()), shares[0], *found)


class Coefficient(NamedTuple):
    """A kappa or an alpha with its interval."""

    value: float | None
    ci95: Interval | None


class _Shares(NamedTuple):
    """What a table of label by label comes to."""

    observed: float
    """Mean disagreement."""
    expected: float
    """The same by chance."""
    distances: Floats
    """(labels, labels) how much they disagree."""


_Chance = Callable[[Floats], _Shares]


@dataclass(frozen=True, slots=True)
class _Kappa:
    """Of a table (labels, labels) of what the first and the second rater said."""

    labels: Sequence[Any]
    weights: Literal["nominal", "linear", "quadratic"]

    def __call__(self, table: Floats) -> _Shares:
        if self.weights == "nominal":
            apart = 1 - np.eye(len(table))
        else:
            apart = np.abs(np.subtract.outer(self.labels, self.labels, dtype=np.float64))
            apart **= 2 if self.weights == "quadratic" else 1
        by_chance = np.outer(table.sum(axis=1), table.sum(axis=0))
        n = float(table.sum())
        observed, expected = float((apart * table).sum()), float((apart * by_chance).sum())
        return _Shares(observed / n, expected / n**2, apart)


@dataclass(frozen=True, slots=True)
class _Alpha:
    """Of a table (labels, labels) of all pairs of labels within items, each way round."""

    labels: Sequence[Any]
    level: Level

    def __call__(self, table: Floats) -> _Shares:
        counts = table.sum(axis=0)
        n = float(counts.sum())
        if self.level == "nominal":
            apart = 1 - np.eye(len(table))
        else:
            ranks = np.cumsum(counts) - counts / 2
            places = ranks if self.level == "ordinal" else np.array(self.labels, dtype=np.float64)
            apart = np.subtract.outer(places, places) ** 2
        by_chance = float((apart * np.outer(counts, counts)).sum()) / (n * (n - 1))
        return _Shares(float((apart * table).sum()) / n, by_chance, apart)


def _ordered(labels: Iterable[Any], level: str) -> list[Any]:
    return sorted(labels, key=repr if level == "nominal" else None)


def _kappa(
    pairs: Sequence[tuple[Any, Any]],
    weights: Literal["nominal", "linear", "quadratic"],
    groups: Labels = None,
) -> Coefficient:
    labels = _ordered({label for pair in pairs for label in pair}, weights)
    places = {label: place for place, label in enumerate(labels)}
    kinds = {pair: kind for kind, pair in enumerate(dict.fromkeys(pairs))}
    tables = np.zeros((len(kinds), len(labels), len(labels)))
    for (a, b), kind in kinds.items():
        tables[kind, places[a], places[b]] = 1
    which = np.array([kinds[pair] for pair in pairs], dtype=np.intp)
    return _coefficient(tables, which, _Kappa(labels, weights), groups)


def _coefficient(
    tables: Floats, which: Index, chance: _Chance, groups: Labels = None
) -> Coefficient:
    """Return 1 less observed over expected disagreement, with its interval.

    Args:
        tables: (kinds, labels, labels) of one item of each kind.
        which: (items,) of what kind each is.
        chance: what a table comes to.
        groups: one label per item.
    """
    total = np.tensordot(np.bincount(which, minlength=len(tables)), tables, 1)
    found = chance(total)
    if found.expected == 0:
        return Coefficient(None, None)
    ratio = found.observed / found.expected
    apart = (tables * found.distances).sum(axis=(1, 2)) / tables.sum(axis=(1, 2))
    seen = estimates(apart[which][:, None], groups)
    degrees = float(seen.degrees[0])
    if math.isnan(degrees):
        return Coefficient(1 - ratio, None)
    if ratio == 0:
        most = constant_interval(0.0, degrees + 1, (0.0, float(found.distances.max())))[1]
        return Coefficient(1.0, (max(-1.0, 1 - most / found.expected), 1.0))
    without = np.array([_ratio(chance(total - table)) for table in tables])
    moved = np.where(np.isnan(without), 0.0, len(which) * (ratio - without))[which]
    # What disagrees seldom is not taken for more than it shows, as with rates.
    widest = (0.0, float(apart.max()))
    rare = rare_variances(apart[which][:, None], seen, widest) - seen.errors**2
    variance = estimates(moved[:, None], groups).errors ** 2 + rare / found.expected**2
    reach = min(float(t_quantile(degrees)) * math.sqrt(variance[0]) / ratio, 50.0)
    low, high = 1 - ratio * math.exp(reach), 1 - ratio * math.exp(-reach)
    return Coefficient(1 - ratio, (max(-1.0, low), high))


def _ratio(found: _Shares) -> float:
    return found.observed / found.expected if found.expected else math.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeAccuracy:
    """How a judge ranks human-chosen over human-rejected responses; rates are 0-100.

    Tie-tolerant accuracy alone can be gamed: a judge that always ties has 100. Show all three.
    """

    strict: float
    """Share of pairs with the chosen response rated strictly higher."""
    tie_tolerant: float
    """Share of pairs with the chosen response rated at least as high."""
    tie_rate: float
    n: int
    """Pairs with both ratings; at least 1."""
    unscored: int = 0
    """Pairs left out because a rating is missing."""


def judge_accuracy(chosen_scores: Values, rejected_scores: Values) -> JudgeAccuracy:
    """Return strict and tie-tolerant accuracy on human pairs, in percent (paper, Table 7).

    Args:
        chosen_scores: per pair the rating of the response the human chose; None where missing.
        rejected_scores: per pair the rating of the other response; None where missing.

    Raises:
        DataError: no pair has both ratings, a rating is NaN, or the lengths differ.
    """
    same_length("chosen_scores", len(chosen_scores), "rejected_scores", rejected_scores)
    refuse_non_finite("chosen_scores", chosen_scores)
    refuse_non_finite("rejected_scores", rejected_scores)
    pairs = [
        (chosen, rejected)
        for chosen, rejected in zip(chosen_scores, rejected_scores, strict=True)
        if chosen is not None and rejected is not None
    ]
    if not pairs:
        raise DataError(
            f"judge accuracy: none of {len(chosen_scores)} pairs has both ratings; "
            "check that the judge's replies could be read"
        )
    above = sum(chosen > rejected for chosen, rejected in pairs)
    level = sum(chosen == rejected for chosen, rejected in pairs)
    n = len(pairs)
    return JudgeAccuracy(
        strict=100 * above / n,
        tie_tolerant=100 * (above + level) / n,
        tie_rate=100 * level / n,
        n=n,
        unscored=len(chosen_scores) - n,
    )
