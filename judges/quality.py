"""How good a judge is, measured on labelled pairs before its verdicts are believed.

A number alone says little: a judge that always ties has a tie-tolerant accuracy of 100, and
choosing the longer response is right surprisingly often. Every report therefore stands beside the
constant judge and the longest-response judge, and a judge that does no better is marked.

The quality of one judge on one set of labelled pairs: every figure, beside what it must beat.

The constant judge ties always, the longest-response judge names the longer text; where several
people labelled the pairs, their agreement with each other is the ceiling.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mipo_eval.errors import DataError
from mipo_eval.judges.benchmarks import PeopleAgreement, people_agreement
from mipo_eval.judges.labelled import LabelledPair
from mipo_eval.judges.replies import PairReading
from mipo_eval.judges.rubric import UNPARSED
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


NO_VERDICT = "no verdict in the judge's replies"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgainstLabels:
    """How verdicts meet the labels, of a judge or of a rule that it must beat; rates 0-100.

    All are over the pairs for which the judge gave a verdict.
    """

    strict: Score | None
    """The labelled response is preferred (paper, Table 7); pairs that people tie are left out."""
    tie_tolerant: Score | None
    """It is preferred or tied; 100 for a judge that always ties."""
    tie_rate: Score | None
    half_ties: Score
    """A tie is worth half; guessing earns 50 either way. Over all pairs."""
    agreement: Score
    """Verdict and label are the same, a tie being one of three labels. Over all pairs."""
    kappa: float | None
    """Cohen's kappa with the labels: agreement beyond chance; None for a single label."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """What a validation found."""

    pairs: int
    judged: int
    """Pairs with a verdict."""
    tied_labels: int
    """Pairs that people call a tie."""
    replies: int
    """Replies asked for."""
    unread: Mapping[str, int]
    """Replies without an answer, by reason."""
    judge: AgainstLabels
    longest: AgainstLabels
    constant: AgainstLabels
    margin: Score
    """How far the judge is ahead of the longest-response judge, in points; paired."""
    people: Mapping[tuple[int, int], PeopleAgreement]
    orders: OrderReport | None
    """For judges that choose, over all pairs, unread replies counting as wrong; and for LLMBar's
    ratings, which that benchmark turns into forced choices."""
    first_place: Score | None
    """Share of named responses that stood first; 50 for a judge that does not look at places."""
    same_verdict: Score | None
    """Share of pairs whose two orders, both read, gave the same verdict."""
    length: LengthBias | None
    ratings: RatingSpread | None
    calibration: PreferenceCalibration | None
    subsets: Mapping[str, AgainstLabels]
    """By subset, where the data have several."""
    failings: tuple[str, ...]

    @property
    def unparsed_rate(self) -> float:
        """Share of replies, 0-100, that came but named no one answer."""
        came = self.replies - sum(n for why, n in self.unread.items() if why != UNPARSED)
        return 100 * self.unread.get(UNPARSED, 0) / came if came else 0.0

    @property
    def failed_calls(self) -> int:
        """Replies that never came."""
        return sum(n for why, n in self.unread.items() if why != UNPARSED)


def quality(
    pairs: Sequence[LabelledPair], readings: Sequence[PairReading], *, signature: str, seed: int = 0
) -> Quality:
    """Return every figure about a judge.

    Args:
        pairs: the labelled pairs.
        readings: what the judge said, one per pair.
        signature: which data and which judge.
        seed: of the bootstrap.

    Raises:
        DataError: no pair has a verdict; says why.
    """
    unread = Counter(reason for reading in readings for reason in reading.unread)
    judged = [reading for reading in readings if reading.verdict is not None]
    if not judged:
        raise DataError(_nothing(readings, unread))
    scores = validation_scores(readings, signature=signature, seed=seed)
    both = [reading for reading in readings if reading.both_orders]
    chose = [reading for reading in both if reading.ratings is None]
    subsets = list(dict.fromkeys(reading.subset for reading in judged))
    return Quality(
        pairs=len(pairs),
        judged=len(judged),
        tied_labels=sum(pair.label == "tie" for pair in pairs),
        replies=sum(reading.replies for reading in readings),
        unread=dict(unread.most_common()),
        judge=against_labels([r.verdict for r in readings], readings, signature, seed),
        longest=against_labels([_where(r, r.longer) for r in readings], readings, signature, seed),
        constant=against_labels([_where(r, "tie") for r in readings], readings, signature, seed),
        margin=next(score for score in scores if score.metric == OVER_LONGEST),
        people=people_agreement(pairs),
        orders=order_report(readings) if both else None,
        first_place=_first_place(chose, signature, seed),
        same_verdict=_same_verdict(chose, signature, seed),
        length=length_bias(readings),
        ratings=rating_spread(readings),
        calibration=preference_calibration(readings),
        subsets=_subsets(readings, subsets, signature, seed) if len(subsets) > 1 else {},
        failings=failings(readings, scores),
    )


def _nothing(readings: Sequence[PairReading], unread: Mapping[str, int]) -> str:
    counted = ", ".join(f"{n} x {why}" for why, n in unread.items())
    trouble = next((reading.trouble for reading in readings if reading.trouble), "")
    said = f"; the first failure says: {trouble}" if trouble else ""
    return f"the judge gave no verdict on any of {len(readings)} pairs ({counted}){said}"


def _where(reading: PairReading, verdict: Verdict) -> Verdict | None:
    """Return what a rule says, where the judge has a verdict too."""
    return None if reading.verdict is None else verdict


def against_labels(
    verdicts: Sequence[Verdict | None],
    readings: Sequence[PairReading],
    signature: str,
    seed: int = 0,
) -> AgainstLabels:
    """Return how verdicts meet the labels of readings.

    Args:
        verdicts: one per reading; None is none.
        readings: for their labels and groups.
        signature: which data and which judge.
        seed: of the bootstrap.

    Raises:
        DataError: there is no verdict.
    """
    labels = [reading.label for reading in readings]
    said = list(zip(verdicts, labels, strict=True))
    groups = [reading.group or str(index) for index, reading in enumerate(readings)]

    def rate(metric: str, values: Sequence[float | None]) -> Score:
        reasons = [NO_VERDICT] * len(values)
        return rate_score(
            metric, values, signature=signature, groups=groups, seed=seed, reasons=reasons
        )

    def decided(metric: str, right: Sequence[float | None]) -> Score | None:
        kept = [
            None if label == "tie" else value for value, label in zip(right, labels, strict=True)
        ]
        return rate(metric, kept) if any(value is not None for value in kept) else None

    read = [(verdict, label) for verdict, label in said if verdict is not None]
    equal = [None if v is None else 100.0 * (v == label) for v, label in said]
    return AgainstLabels(
        strict=decided("judge_accuracy_strict", equal),
        tie_tolerant=decided(
            "judge_accuracy_tie_tolerant",
            [None if v is None else 100.0 * (v in {label, "tie"}) for v, label in said],
        ),
        tie_rate=decided(
            "judge_tie_rate", [None if v is None else 100.0 * (v == "tie") for v, _ in said]
        ),
        half_ties=rate("judge_accuracy_half_ties", [points(v, label) for v, label in said]),
        agreement=rate("judge_agreement", equal),
        kappa=cohen_kappa(*zip(*read, strict=True))
        if len({*(lab for _, lab in read)}) > 1
        else None,
    )


def _first_place(readings: Sequence[PairReading], signature: str, seed: int) -> Score | None:
    named: dict[tuple[bool, Verdict | None], float] = {
        (False, "a"): 100.0,
        (False, "b"): 0.0,
        (True, "a"): 0.0,
        (True, "b"): 100.0,
    }
    values = [
        named.get((swapped, said))
        for r in readings
        for swapped, said in ((False, r.straight), (True, r.swapped))
    ]
    return _rate_or_none(
        "first_place_rate", values, [r.group for r in readings for _ in range(2)], signature, seed
    )


def _same_verdict(readings: Sequence[PairReading], signature: str, seed: int) -> Score | None:
    values = [
        None if r.straight is None or r.swapped is None else 100.0 * (r.straight == r.swapped)
        for r in readings
    ]
    return _rate_or_none("same_verdict_rate", values, [r.group for r in readings], signature, seed)


def _rate_or_none(
    metric: str,
    values: Sequence[float | None],
    groups: Sequence[str],
    signature: str,
    seed: int,
) -> Score | None:
    if all(value is None for value in values):
        return None
    return rate_score(
        metric,
        values,
        signature=signature,
        groups=groups,
        seed=seed,
        reasons=["no response named"] * len(values),
    )


def _subsets(
    readings: Sequence[PairReading], names: Sequence[str], signature: str, seed: int
) -> dict[str, AgainstLabels]:
    found = {}
    for name in names:
        own = [reading for reading in readings if reading.subset == name]
        found[name] = against_labels([r.verdict for r in own], own, signature, seed)
    return found


_RATES = ("strict", "tie_tolerant", "tie_rate", "half_ties", "agreement")


def labels_json(found: AgainstLabels) -> dict[str, Any]:
    """Return how verdicts meet the labels as `--json` shows it, with intervals."""
    return {name: _score_json(getattr(found, name)) for name in _RATES} | {"kappa": found.kappa}


def _score_json(score: Score | None) -> dict[str, Any] | None:
    if score is None:
        return None
    return {"value": score.value, "n": score.n, "ci95": list(score.ci95) if score.ci95 else None}


def quality_json(found: Quality) -> dict[str, Any]:
    """Return the figures as `mipo-eval validate --json` shows them and the store keeps them."""
    orders, spread = found.orders, found.ratings
    return {
        "pairs": found.pairs,
        "judged": found.judged,
        "tied_labels": found.tied_labels,
        "replies": found.replies,
        "unread": dict(found.unread),
        "unparsed_rate": found.unparsed_rate,
        "failed_calls": found.failed_calls,
        "judge": labels_json(found.judge),
        "longest": labels_json(found.longest),
        "constant": labels_json(found.constant),
        "over_longest": _score_json(found.margin),
        "people": [
            {"first": i, "second": j, **agreement._asdict()}
            for (i, j), agreement in found.people.items()
        ],
        "orders": orders
        and {
            "n": orders.n,
            "unread": orders.unread,
            "accuracy_straight": orders.accuracy_straight,
            "accuracy_swapped": orders.accuracy_swapped,
            "accuracy_average": orders.accuracy_average,
            "accuracy_both": orders.accuracy_both,
            "accuracy_by_sum": orders.accuracy_by_sum,
            "agreement": orders.agreement,
            "kappa_straight": orders.kappa_straight,
            "kappa_swapped": orders.kappa_swapped,
        },
        "first_place_rate": _score_json(found.first_place),
        "same_verdict_rate": _score_json(found.same_verdict),
        "length": found.length and {**asdict(found.length), "excess": found.length.excess},
        "ratings": spread
        and {
            "counts": {f"{rating:g}": n for rating, n in spread.counts.items()},
            "entropy": spread.entropy,
            "largest_share": spread.largest_share,
        },
        "calibration": found.calibration and asdict(found.calibration),
        "subsets": {name: labels_json(own) for name, own in found.subsets.items()},
        "failings": list(found.failings),
    }
