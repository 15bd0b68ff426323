"""How good a judge is, measured on labelled pairs before its verdicts are believed.

A number alone says little: a judge that always ties has a tie-tolerant accuracy of 100, and
choosing the longer response is right surprisingly often. Every figure therefore stands beside the
constant judge, which always ties, and the longest-response judge; a judge that does no better is
marked. Where several people labelled the pairs, their agreement with each other is the ceiling.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from typing import Any

from mipo_eval.errors import DataError
from mipo_eval.judges.judge import CUT, UNPARSED
from mipo_eval.judges.labelled import credits_of, people_agreement, people_together
from mipo_eval.judges.replies import PairReading
from mipo_eval.metrics.aggregate import mean_score, rate_score
from mipo_eval.metrics.agreement import Agreement, Reliability, agreement
from mipo_eval.metrics.calibration import choice_outcome, expected_calibration_error
from mipo_eval.records import Score
from mipo_eval.signature import Signature, join
from mipo_eval.stats.bootstrap import Interval
from mipo_eval.verdict import Verdict, constant

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
    kappa_ci95: Interval | None = None
    weighted_kappa: float | None = None
    """The same with quadratic weights: missing by a tie is a quarter of missing."""
    weighted_kappa_ci95: Interval | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderReport:
    """How verdicts depend on the places; rates are 0-100 over all pairs, unread replies included.

    A reply that could not be read is neither right nor agreement.
    """

    n: int
    unread: int
    """Replies without a verdict, of both orders."""
    accuracy_straight: float
    """Share of labels met with the first response in the first place."""
    accuracy_swapped: float
    """Share of labels met with the places exchanged."""
    accuracy_average: float
    accuracy_both: float
    """Share of labels met in both orders."""
    accuracy_by_sum: float
    """Share of labels that more verdicts are for than against, a tie being neither (JudgeBench's
    rule)."""
    agreement: float
    """Share of pairs whose two orders gave the same verdict."""
    kappa_straight: float | None
    """Cohen's kappa with the labels over the readable replies of the straight order."""
    kappa_swapped: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RatingSpread:
    """How a judge uses its scale."""

    counts: Mapping[float, int]
    entropy: float
    """In nats; 0 if there is one rating only, log 5 if all five are given alike."""
    largest_share: float
    """Share, 0-1, of its commonest rating."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthBias:
    """Whether a judge leans to the longer response more than the labels do; shares are 0-100."""

    n: int
    """Pairs of different length that both judge and label decide."""
    judge: float
    """Share for which the judge prefers the longer response."""
    label: float
    """Share for which the label does."""
    excess: float
    """How much more often the judge does, in points."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """What a validation found; `quality_json` shows its fields as they are."""

    pairs: int
    judged: int
    """Pairs with a verdict."""
    tied_labels: int
    """Pairs that people call a tie."""
    replies: int
    """Replies asked for."""
    unread: Mapping[str, int]
    """Replies without an answer, by reason."""
    unparsed_rate: float
    """Share of replies, 0-100, that came but named no one answer, cut ones among them."""
    failed_calls: int
    """Replies that never came."""
    judge: AgainstLabels
    longest: AgainstLabels
    constant: AgainstLabels
    over_longest: Score
    """How far the judge is ahead of the longest-response judge, in points; paired."""
    people: Mapping[tuple[int, int], Agreement]
    people_together: Reliability
    """Of all people, whoever labelled what."""
    orders: OrderReport | None
    """For judges that choose, over all pairs, unread replies counting as wrong; and for LLMBar's
    ratings, which that benchmark turns into forced choices."""
    first_place_rate: Score | None
    """Share of named responses that stood first; 50 for a judge that does not look at places."""
    same_verdict_rate: Score | None
    """Share of pairs whose two orders, both read, gave the same verdict."""
    length: LengthBias | None
    ratings: RatingSpread | None
    calibration: PreferenceCalibration | None
    subsets: Mapping[str, AgainstLabels]
    """By subset, where the data have several."""
    failings: tuple[str, ...]


def quality(readings: Sequence[PairReading], *, signature: Signature) -> Quality:
    """Return every figure about a judge, from what it said of each pair.

    Raises:
        DataError: no pair has a verdict; says why.
    """
    unread = Counter(reason for reading in readings for reason in reading.unread)
    judged = [reading for reading in readings if reading.verdict is not None]
    if not judged:
        raise DataError(_nothing(readings, unread))
    replies = sum(reading.replies for reading in readings)
    unparsed = unread[UNPARSED] + unread[CUT]
    failed = unread.total() - unparsed
    of_judge, longest, ties_alone = (
        against_labels(verdicts, readings, signature)
        for verdicts in (
            [r.verdict for r in readings],
            [r.longer if r.verdict else None for r in readings],
            ["tie" if r.verdict else None for r in readings],
        )
    )
    margin = _margin(readings, signature)
    both = [reading for reading in readings if reading.both_orders]
    chose = [reading for reading in both if reading.ratings is None]
    first_place, same_verdict = _places(chose, signature)
    spread = rating_spread(readings)
    return Quality(
        pairs=len(readings),
        judged=len(judged),
        tied_labels=sum(reading.pair.label == "tie" for reading in readings),
        replies=replies,
        unread=dict(unread.most_common()),
        unparsed_rate=100 * unparsed / (replies - failed) if replies > failed else 0.0,
        failed_calls=failed,
        judge=of_judge,
        longest=longest,
        constant=ties_alone,
        over_longest=margin,
        people=people_agreement([reading.pair for reading in readings]),
        people_together=people_together([reading.pair for reading in readings]),
        orders=order_report(readings) if both else None,
        first_place_rate=first_place,
        same_verdict_rate=same_verdict,
        length=length_bias(readings),
        ratings=spread,
        calibration=preference_calibration(readings),
        subsets=_subsets(readings, signature),
        failings=_failings(judged, spread, (of_judge, longest, ties_alone), margin),
    )


def _nothing(readings: Sequence[PairReading], unread: Mapping[str, int]) -> str:
    counted = ", ".join(f"{n} x {why}" for why, n in unread.items())
    trouble = next((reading.trouble for reading in readings if reading.trouble), "")
    said = f"; the first failure says: {trouble}" if trouble else ""
    return f"the judge gave no verdict on any of {len(readings)} pairs ({counted}){said}"


def against_labels(
    verdicts: Sequence[Verdict | None],
    readings: Sequence[PairReading],
    signature: Signature,
) -> AgainstLabels:
    """Return how verdicts, one per reading, meet the labels of readings.

    Raises:
        DataError: there is no verdict.
    """
    rate = partial(_rate, readings=readings, signature=signature)
    labels = [reading.pair.label for reading in readings]
    said = list(zip(verdicts, labels, strict=True))
    equal = [None if v is None else 100.0 * (v == label) for v, label in said]
    no_loss = [None if v is None else 100.0 * (v in {label, "tie"}) for v, label in said]
    tied = [None if v is None else 100.0 * (v == "tie") for v, _ in said]

    def decided(metric: str, values: Sequence[float | None]) -> Score | None:
        kept = [None if label == "tie" else v for v, label in zip(values, labels, strict=True)]
        return None if _is_empty(kept) else rate(metric, kept)

    told = [None if verdict is None else label for verdict, label in said]
    several = len({*told} - {None}) > 1
    groups = [reading.group for reading in readings]
    same = agreement(credits_of(verdicts), credits_of(told), groups)
    met = same if several else Agreement(same.n, same.share, None)
    return AgainstLabels(
        strict=decided("judge_accuracy_strict", equal),
        tie_tolerant=decided("judge_accuracy_tie_tolerant", no_loss),
        tie_rate=decided("judge_tie_rate", tied),
        half_ties=rate("judge_accuracy_half_ties", [points(v, label) for v, label in said]),
        agreement=rate("judge_agreement", equal),
        kappa=met.kappa,
        kappa_ci95=met.kappa_ci95,
        weighted_kappa=met.weighted_kappa,
        weighted_kappa_ci95=met.weighted_kappa_ci95,
    )


def _is_empty(values: Sequence[float | None]) -> bool:
    return all(value is None for value in values)


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


def _rate(
    metric: str,
    values: Sequence[float | None],
    readings: Sequence[PairReading],
    signature: Signature,
    why: str = NO_VERDICT,
) -> Score:
    groups, reasons = [reading.group for reading in readings], [why] * len(values)
    return rate_score(metric, values, signature=signature, groups=groups, reasons=reasons)


def _margin(readings: Sequence[PairReading], signature: Signature) -> Score:
    """Return by how many points a judge is ahead of one that takes the longer response."""

    def ahead(reading: PairReading) -> float | None:
        own = points(reading.verdict, reading.pair.label)
        rule = points(reading.longer, reading.pair.label)
        return None if own is None or rule is None else own - rule

    # A difference is no rate: it has no bounds that its interval would have to keep.
    return mean_score(
        "judge_over_longest",
        [ahead(reading) for reading in readings],
        signature=signature.followed_by(join(ties="half")),
        groups=[reading.group for reading in readings],
        reasons=[NO_VERDICT] * len(readings),
    )


def _failings(
    judged: Sequence[PairReading],
    spread: RatingSpread | None,
    rules: tuple[AgainstLabels, AgainstLabels, AgainstLabels],
    margin: Score,
) -> tuple[str, ...]:
    """Return why a judge must not be believed, one line each; empty for a judge that passes.

    It is constant, or no better than always calling a tie, or than taking the longer response.
    """
    judge, longest, ties_alone = (rule.half_ties.value or 0.0 for rule in rules)
    n = rules[0].half_ties.n

    def beside(other: float) -> str:
        return f"{judge:.1f} % and {other:.1f} % right, a tie being half, over {n} pairs"

    found = []
    ties = sum(reading.verdict == "tie" for reading in judged)
    if how := constant(spread.counts if spread else {}, ties, len(judged)):
        found.append(f"constant: {how}")
    elif judge <= ties_alone:
        found.append(f"no better than always calling it a tie ({beside(ties_alone)})")
    low = margin.ci95[0] if margin.ci95 else margin.value
    if margin.value is None or margin.value <= 0:
        found.append(f"no better than choosing the longer response ({beside(longest)})")
    elif low is None or low <= 0:
        found.append(f"not shown to be better than choosing the longer one ({beside(longest)})")
    return tuple(found)


def order_report(readings: Sequence[PairReading]) -> OrderReport:
    """Return how the verdicts of the two orders meet the labels and each other.

    Raises:
        DataError: no pair was asked in both orders.
    """
    asked = [(r.straight, r.swapped, r.pair.label) for r in readings if r.both_orders]
    if not asked:
        raise DataError("no pair was judged in both orders, so the orders cannot be compared")
    n = len(asked)
    firsts, seconds, labels = zip(*asked, strict=True)
    sign: dict[Verdict | None, int] = {"a": 1, "b": -1, "tie": 0, None: 0}
    right = [(first == label, second == label) for first, second, label in asked]
    one, other = sum(first for first, _ in right), sum(second for _, second in right)
    by_sum = sum((sign[first] + sign[second]) * sign[label] > 0 for first, second, label in asked)
    return OrderReport(
        n=n,
        unread=firsts.count(None) + seconds.count(None),
        accuracy_straight=100 * one / n,
        accuracy_swapped=100 * other / n,
        accuracy_average=(one + other) / (2 * n) * 100,
        accuracy_both=100 * sum(first and second for first, second in right) / n,
        accuracy_by_sum=100 * by_sum / n,
        agreement=100 * sum(a == b and a is not None for a, b, _ in asked) / n,
        kappa_straight=agreement(firsts, labels).kappa,
        kappa_swapped=agreement(seconds, labels).kappa,
    )


def _places(
    readings: Sequence[PairReading], signature: Signature
) -> tuple[Score | None, Score | None]:
    """Return how often the response named stood first, and how often both orders say the same."""
    straight: dict[Verdict | None, float] = {"a": 100.0, "b": 0.0}
    swapped: dict[Verdict | None, float] = {"a": 0.0, "b": 100.0}
    firsts = [v for r in readings for v in (straight.get(r.straight), swapped.get(r.swapped))]
    same = [
        None if r.straight is None or r.swapped is None else 100.0 * (r.straight == r.swapped)
        for r in readings
    ]

    def rate(
        metric: str, values: Sequence[float | None], of: Sequence[PairReading]
    ) -> Score | None:
        why = "no response named"
        return None if _is_empty(values) else _rate(metric, values, of, signature, why)

    twice = [reading for reading in readings for _ in range(2)]
    return rate("first_place_rate", firsts, twice), rate("same_verdict_rate", same, readings)


def _subsets(readings: Sequence[PairReading], signature: Signature) -> dict[str, AgainstLabels]:
    names = dict.fromkeys(r.pair.subset for r in readings if r.verdict is not None)
    own = {name: [r for r in readings if r.pair.subset == name] for name in names}
    return {
        name: against_labels([r.verdict for r in found], found, signature)
        for name, found in own.items()
        if len(own) > 1
    }


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
    return RatingSpread(
        counts=dict(sorted(given.items())),
        entropy=max(0.0, entropy),
        largest_share=max(given.values()) / total,
    )


def length_bias(readings: Sequence[PairReading]) -> LengthBias | None:
    """Return the lean to longer responses, or None where no pair can show it."""
    decided = [
        reading
        for reading in readings
        if "tie" not in {reading.longer, reading.pair.label} and reading.verdict in {"a", "b"}
    ]
    if not decided:
        return None
    n = len(decided)
    judge = 100 * sum(reading.verdict == reading.longer for reading in decided) / n
    label = 100 * sum(reading.pair.label == reading.longer for reading in decided) / n
    return LengthBias(n=n, judge=judge, label=label, excess=judge - label)


def preference_calibration(readings: Sequence[PairReading]) -> PreferenceCalibration | None:
    """Return how far the probabilities of ratings can be trusted; None where there are none.

    Pairs that people call a tie are left out: neither response is the right one.
    """
    outcomes = [
        choice_outcome([_log(probability), _log(1 - probability)], "ab".index(reading.pair.label))
        for reading in readings
        if (probability := reading.probability) is not None and reading.pair.label != "tie"
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


def _log(probability: float) -> float:
    return math.log(probability) if probability > 0 else -math.inf


def quality_json(found: Quality) -> dict[str, Any]:
    """Return the figures as `mipo-eval validate --json` shows them and the store keeps them."""
    known = {f.name: getattr(found, f.name) for f in fields(found)}
    known["people_together"] = found.people_together._asdict()
    people = [
        {"first": i, "second": j, **agreement._asdict()}
        for (i, j), agreement in known.pop("people").items()
    ]
    return {name: _dumped(value) for name, value in known.items()} | {"people": people}


def _dumped(value: Any) -> Any:
    if isinstance(value, Score):
        interval = list(value.ci95) if value.ci95 else None
        return {"value": value.value, "n": value.n, "ci95": interval}
    if is_dataclass(value):
        return {f.name: _dumped(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {k if isinstance(k, str) else f"{k:g}": _dumped(v) for k, v in value.items()}
    return list(value) if isinstance(value, tuple) else value
