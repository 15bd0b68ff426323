"""The quality of one judge on one set of labelled pairs: every figure, beside what it must beat.

The constant judge ties always, the longest-response judge names the longer text; where several
people labelled the pairs, their agreement with each other is the ceiling.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mipo_eval.errors import DataError
from mipo_eval.judges.benchmarks import PeopleAgreement, people_agreement
from mipo_eval.judges.labelled import LabelledPair
from mipo_eval.judges.readings import PairReading
from mipo_eval.judges.rubric import UNPARSED
from mipo_eval.judges.validation import (
    OVER_LONGEST,
    LengthBias,
    OrderReport,
    PreferenceCalibration,
    RatingSpread,
    failings,
    length_bias,
    order_report,
    points,
    preference_calibration,
    rating_spread,
    validation_scores,
)
from mipo_eval.judges.verdict import Verdict
from mipo_eval.metrics import rate_score
from mipo_eval.metrics.agreement import cohen_kappa
from mipo_eval.records import Score

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
