"""How good a judge is, measured on labelled pairs before its verdicts are believed.

A number alone says little: a judge that always ties has a tie-tolerant accuracy of 100, and
choosing the longer response is right surprisingly often. Every report therefore stands beside the
constant judge and the longest-response judge, and a judge that does no better is marked.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mipo_eval.errors import DataError
from mipo_eval.judges.readings import PairReading
from mipo_eval.judges.verdict import Verdict
from mipo_eval.metrics import (
    JudgeAccuracy,
    choice_outcome,
    expected_calibration_error,
    judge_accuracy,
    mean_score,
    rate_score,
)
from mipo_eval.metrics.agreement import cohen_kappa
from mipo_eval.records import Score
from mipo_eval.signature import join

CONSTANT_SHARE = 0.95
"""A judge is constant if this share of its ratings are one number, or of its verdicts are ties."""

OVER_LONGEST = "judge_over_longest"


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderReport:
    """How verdicts depend on the places; rates are 0-100 over all pairs, unread replies included.

    A reply that could not be read is neither right nor agreement; `unread` says how many there are.
    """

    n: int
    unread: int
    """Replies without a verdict, of both orders."""
    right_straight: int
    right_swapped: int
    right_both: int
    right_by_sum: int
    """Pairs whose verdicts for the label outnumber those against it, a tie being neither
    (JudgeBench's rule)."""
    same: int
    """Pairs whose two orders gave the same verdict."""
    named_first: int
    """Verdicts, of both orders, for the response in the first place."""
    kappa_straight: float | None
    """Cohen's kappa with the labels over the readable replies of the straight order."""
    kappa_swapped: float | None

    @property
    def accuracy_straight(self) -> float:
        """Share of labels met with the first response in the first place."""
        return 100 * self.right_straight / self.n

    @property
    def accuracy_swapped(self) -> float:
        """Share of labels met with the places exchanged."""
        return 100 * self.right_swapped / self.n

    @property
    def accuracy_average(self) -> float:
        """Mean of the two orders."""
        return (self.right_straight + self.right_swapped) / (2 * self.n) * 100

    @property
    def accuracy_both(self) -> float:
        """Share of labels met in both orders."""
        return 100 * self.right_both / self.n

    @property
    def accuracy_by_sum(self) -> float:
        """Share of labels that more verdicts are for than against."""
        return 100 * self.right_by_sum / self.n

    @property
    def agreement(self) -> float:
        """Share of pairs whose two orders gave the same verdict."""
        return 100 * self.same / self.n

    @property
    def first_place_rate(self) -> float:
        """Share of verdicts for the first place; 50 for a judge that does not look at places."""
        return 100 * self.named_first / (2 * self.n)


def order_report(readings: Sequence[PairReading]) -> OrderReport:
    """Return how the verdicts of the two orders meet the labels and each other.

    Raises:
        DataError: no pair was asked in both orders.
    """
    asked = [reading for reading in readings if reading.both_orders]
    if not asked:
        raise DataError("no pair was judged in both orders, so places cannot be compared")
    straight = [reading.straight for reading in asked]
    swapped = [reading.swapped for reading in asked]
    labels = [reading.label for reading in asked]
    right = [
        (a == label, b == label) for a, b, label in zip(straight, swapped, labels, strict=True)
    ]
    pairs = list(zip(straight, swapped, strict=True))
    return OrderReport(
        n=len(asked),
        unread=straight.count(None) + swapped.count(None),
        right_straight=sum(one for one, _ in right),
        right_swapped=sum(other for _, other in right),
        right_both=sum(one and other for one, other in right),
        right_by_sum=sum(
            label != "tie" and (_SIGN[a] + _SIGN[b]) * _SIGN[label] > 0
            for (a, b), label in zip(pairs, labels, strict=True)
        ),
        same=sum(a == b and a is not None for a, b in pairs),
        named_first=straight.count("a") + swapped.count("b"),
        kappa_straight=_kappa(straight, labels),
        kappa_swapped=_kappa(swapped, labels),
    )


_SIGN: dict[Verdict | None, int] = {"a": 1, "b": -1, "tie": 0, None: 0}


def _kappa(said: Sequence[Verdict | None], labels: Sequence[Verdict]) -> float | None:
    read = [(s, label) for s, label in zip(said, labels, strict=True) if s is not None]
    return cohen_kappa(*zip(*read, strict=True)) if read else None


def rating_accuracy(readings: Sequence[PairReading]) -> JudgeAccuracy:
    """Return strict and tie-tolerant accuracy from ratings (paper, Table 7).

    Pairs that people call a tie have no chosen response and are left out.

    Raises:
        DataError: no pair with a chosen response has both ratings.
    """
    chosen, rejected = [], []
    for reading in readings:
        if reading.ratings is not None and reading.label != "tie":
            first, second = reading.ratings
            chosen.append(first if reading.label == "a" else second)
            rejected.append(second if reading.label == "a" else first)
    return judge_accuracy(chosen, rejected)


@dataclass(frozen=True, slots=True, kw_only=True)
class RatingSpread:
    """How a judge uses its scale."""

    counts: dict[float, int]
    entropy: float
    """In nats; 0 if there is one rating only, log 5 if all five are given alike."""

    @property
    def largest_share(self) -> float:
        """Share, 0-1, of its commonest rating."""
        return max(self.counts.values()) / sum(self.counts.values())


def rating_spread(readings: Sequence[PairReading]) -> RatingSpread | None:
    """Return the distribution of all ratings given, or None if none was."""
    given = Counter(
        rating
        for reading in readings
        for rating in reading.given or reading.ratings or ()
        if rating is not None
    )
    if not given:
        return None
    total = given.total()
    entropy = -math.fsum(n / total * math.log(n / total) for n in given.values())
    return RatingSpread(counts=dict(sorted(given.items())), entropy=max(0.0, entropy))


def points(verdict: Verdict | None, label: Verdict) -> float | None:
    """Return how right a verdict is: 100 or 0, and 50 for a tie where the label decides.

    Half for a tie makes judges comparable that tie often and that never do: guessing earns 50
    either way. None where there is no verdict.
    """
    if verdict is None:
        return None
    if verdict == label:
        return 100.0
    return 50.0 if "tie" in {verdict, label} else 0.0


def validation_scores(
    readings: Sequence[PairReading], *, signature: str, seed: int = 0
) -> tuple[Score, ...]:
    """Return the judge's accuracy with half points for ties, the two baselines', and the margin.

    `judge_accuracy_half_ties`, `longest_accuracy_half_ties` and `constant_accuracy_half_ties` are
    over the pairs with a verdict; `judge_over_longest` is their paired difference in points.

    Args:
        readings: one per pair.
        signature: which data and which judge; how ties count is added.
        seed: of the bootstrap.

    Raises:
        DataError: no pair has a verdict.
    """
    judge = [points(reading.verdict, reading.label) for reading in readings]

    def where_judged(verdict: Callable[[PairReading], Verdict]) -> list[float | None]:
        return [
            None if own is None else points(verdict(reading), reading.label)
            for own, reading in zip(judge, readings, strict=True)
        ]

    longest = where_judged(lambda reading: reading.longer)
    constant = where_judged(lambda _: "tie")
    margin = [
        None if a is None or b is None else a - b for a, b in zip(judge, longest, strict=True)
    ]
    named = {
        "judge_accuracy_half_ties": judge,
        "longest_accuracy_half_ties": longest,
        "constant_accuracy_half_ties": constant,
        OVER_LONGEST: margin,
    }
    groups = [reading.group or str(index) for index, reading in enumerate(readings)]
    signed = f"{signature}|{join(ties='half')}" if signature else join(ties="half")
    return tuple(
        # A difference is no rate: it has no bounds that its interval would have to keep.
        (mean_score if metric == OVER_LONGEST else rate_score)(
            metric,
            values,
            signature=signed,
            groups=groups,
            seed=seed,
            reasons=["no verdict in the judge's replies"] * len(values),
        )
        for metric, values in named.items()
    )


def failings(readings: Sequence[PairReading], scores: Sequence[Score]) -> tuple[str, ...]:
    """Return why a judge must not be believed, one line each; empty for a judge that passes.

    It is constant, or no better than always calling a tie, or than taking the longer response.

    Args:
        readings: one per pair.
        scores: what `validation_scores` says of them.
    """
    found = []
    spread = rating_spread(readings)
    verdicts = [reading.verdict for reading in readings if reading.verdict is not None]
    ties = verdicts.count("tie") / len(verdicts) if verdicts else 0.0
    if spread is not None and spread.largest_share >= CONSTANT_SHARE:
        commonest = max(spread.counts, key=lambda rating: spread.counts[rating])
        found.append(
            f"constant: {100 * spread.largest_share:.0f} % of its ratings are {commonest:g}"
        )
    elif ties >= CONSTANT_SHARE:
        found.append(f"constant: {100 * ties:.0f} % of its verdicts are ties")
    if not found and _value(scores, "judge") <= _value(scores, "constant"):
        found.append(f"no better than always calling it a tie ({_beside(scores, 'constant')})")
    margin = next(score for score in scores if score.metric == OVER_LONGEST)
    low = margin.ci95[0] if margin.ci95 else margin.value
    if margin.value is None or margin.value <= 0:
        found.append(f"no better than choosing the longer response ({_beside(scores)})")
    elif low is None or low <= 0:
        found.append(f"not shown to be better than choosing the longer one ({_beside(scores)})")
    return tuple(found)


def _named(scores: Sequence[Score], who: str) -> Score:
    return next(score for score in scores if score.metric == f"{who}_accuracy_half_ties")


def _value(scores: Sequence[Score], who: str) -> float:
    return _named(scores, who).value or 0.0


def _beside(scores: Sequence[Score], other: str = "longest") -> str:
    """Return the judge's and a rule's accuracy, as a reason names them."""
    judge, rule = _value(scores, "judge"), _value(scores, other)
    n = _named(scores, "judge").n
    return f"{judge:.1f} % and {rule:.1f} % right, a tie being half, over {n} pairs"


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthBias:
    """Whether a judge leans to the longer response more than the labels do; shares are 0-100."""

    n: int
    """Pairs of different length that both judge and label decide."""
    judge: float
    """Share for which the judge prefers the longer response."""
    label: float
    """Share for which the label does."""

    @property
    def excess(self) -> float:
        """How much more often the judge does, in points."""
        return self.judge - self.label


def length_bias(readings: Sequence[PairReading]) -> LengthBias | None:
    """Return the lean to longer responses, or None where no pair can show it."""
    decided = [
        reading
        for reading in readings
        if "tie" not in {reading.longer, reading.label} and reading.verdict in {"a", "b"}
    ]
    if not decided:
        return None
    n = len(decided)
    return LengthBias(
        n=n,
        judge=100 * sum(reading.verdict == reading.longer for reading in decided) / n,
        label=100 * sum(reading.label == reading.longer for reading in decided) / n,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceCalibration:
    """Whether a judge that is 80 % sure of the better response is right four times out of five."""

    n: int
    accuracy: float
    """0-100, of the likelier response."""
    ece: float
    """Expected calibration error, 0-1: how far confidence is from accuracy."""
    brier: float
    """Squared distance to the label, summed over both responses, 0-2; 0.5 for not knowing."""


def preference_calibration(readings: Sequence[PairReading]) -> PreferenceCalibration | None:
    """Return how far the probabilities of ratings can be trusted; None where there are none.

    Pairs that people call a tie are left out: neither response is the right one.
    """
    outcomes = [
        choice_outcome([_log(reading.probability), _log(1 - reading.probability)], gold)
        for reading in readings
        if reading.probability is not None and (gold := _GOLD.get(reading.label)) is not None
    ]
    if not outcomes:
        return None
    n = len(outcomes)
    return PreferenceCalibration(
        n=n,
        accuracy=100 * sum(outcome.correct for outcome in outcomes) / n,
        ece=expected_calibration_error(outcomes),
        brier=math.fsum(outcome.brier for outcome in outcomes) / n,
    )


_GOLD: dict[Verdict, int] = {"a": 0, "b": 1}


def _log(probability: float) -> float:
    return math.log(probability) if probability > 0 else -math.inf
