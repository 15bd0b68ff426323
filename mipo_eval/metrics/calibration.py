"""Answer entropy and calibration of multiple-choice questions (Figures 4 and 5).

Everything starts from one log-probability per answer choice, which one forward pass gives.
MIPO is said to lower the entropy of questions answered correctly, so every entropy is also
reported for correct and for wrong predictions apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mipo_eval.errors import DataError
from mipo_eval.metrics.aggregate import mean_score, rate_score, same_length
from mipo_eval.records import Score, Values
from mipo_eval.signature import Signature, join
from mipo_eval.stats.bootstrap import Floats, Interval, Labels
from mipo_eval.stats.estimates import estimates, mean_covariance, normals, t_quantile

_DRAWS = 4_000
_SIZES = np.linspace(0.0, 3.0, 121)
"""Of an error, in parts of the one that was seen."""


def answer_entropy(choice_logprobs: Sequence[float] | NDArray[np.floating]) -> float:
    """Return the entropy over answer choices, in nats.

    Args:
        choice_logprobs: (choices,) log-probabilities in nats, unnormalised allowed; -inf is a
            choice the model excludes.

    Returns:
        0 where one choice has all the mass, log(choices) where all are equal.

    Raises:
        DataError: there is no choice, one is NaN or +inf, or all are -inf.
    """
    logprobs = np.asarray(choice_logprobs, dtype=np.float64)
    if logprobs.ndim != 1 or logprobs.size == 0:
        raise DataError(
            f"answer entropy needs a list of log-probabilities, one per choice; "
            f"got shape {logprobs.shape}"
        )
    if np.isnan(logprobs).any() or np.isposinf(logprobs).any():
        raise DataError(f"answer entropy: {logprobs.tolist()} holds NaN or +inf")
    if np.isneginf(logprobs).all():
        raise DataError("answer entropy: every choice has probability 0 (-inf)")
    from scipy.special import entr, softmax

    return float(entr(softmax(logprobs)).sum())


Logprobs = Sequence[float] | NDArray[np.floating]

BINS = 15
"""Equal-width bins of confidence, the usual number since Guo et al. (2017)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceOutcome:
    """What a model's probabilities over the choices say about one question."""

    predicted: int
    """Index of the likeliest choice; the first of equally likely ones."""
    correct: bool
    confidence: float
    """Probability of the predicted choice, 1/choices to 1."""
    entropy: float
    """Of the distribution over the choices, in nats, 0 to log(choices)."""
    brier: float
    """Squared distance to the right answer, summed over the choices, 0 to 2."""


def choice_outcome(choice_logprobs: Logprobs, gold: int) -> ChoiceOutcome:
    """Return entropy, confidence and Brier score of one question; `gold` is the right choice.

    Raises:
        DataError: `gold` is no choice, or the log-probabilities are no distribution.
    """
    entropy = answer_entropy(choice_logprobs)  # refuses what is no distribution
    logprobs = np.asarray(choice_logprobs, dtype=np.float64)
    if not 0 <= gold < len(logprobs):
        raise DataError(f"the right choice {gold} is none of the {len(logprobs)} choices")
    from scipy.special import softmax

    probabilities = softmax(logprobs)
    predicted = int(np.argmax(logprobs))
    missed = probabilities.copy()
    missed[gold] -= 1
    return ChoiceOutcome(
        predicted=predicted,
        correct=predicted == gold,
        confidence=float(probabilities[predicted]),
        entropy=entropy,
        brier=float(missed @ missed),
    )


def _gaps(outcomes: Sequence[ChoiceOutcome], bins: int) -> NDArray[np.float64]:
    """Return (questions, bins): confidence minus correctness in the question's own bin, else 0."""
    confidence = np.array([outcome.confidence for outcome in outcomes])
    correct = np.array([outcome.correct for outcome in outcomes], dtype=np.float64)
    # Bins are closed above, so that a confidence of exactly 1 lies in the last one.
    places = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    table = np.zeros((len(outcomes), bins))
    table[np.arange(len(outcomes)), places] = confidence - correct
    return table


def expected_calibration_error(outcomes: Sequence[ChoiceOutcome], *, bins: int = BINS) -> float:
    """Return the ECE, 0-1: how far confidence is from accuracy, averaged over the questions.

    sum over bins of (questions in bin / questions) * |accuracy in bin - mean confidence in bin|.
    It is 0 for a model that is right as often as it is sure, and biased upwards for few questions.

    Raises:
        DataError: there is no question.
    """
    if not outcomes:
        raise DataError("the calibration error of no questions is not defined")
    return float(np.abs(_gaps(outcomes, bins).mean(axis=0)).sum())


def calibration_scores(
    outcomes: Sequence[ChoiceOutcome | None],
    *,
    choices: str,
    groups: Labels = None,
    seed: int = 0,
    bins: int = BINS,
) -> list[Score]:
    """Return accuracy, entropies, Brier score and ECE of a set of questions as `Score`s.

    An outcome is None where the model gave no probabilities; `choices` is what they are of, for
    the signature: "letters" or "texts". Groups are clusters of questions (a passage, a subject).

    Returns:
        `accuracy` (0-100), `answer_entropy` (nats), `answer_entropy_correct` and
        `answer_entropy_wrong` where such predictions exist, `brier` (0-2), `ece` (0-1), and
        `ece_debiased` with its interval. The conditional entropies count the questions of the
        other kind as unscored.

    Raises:
        DataError: no question has an outcome, or the lengths differ.
    """
    same_length("outcomes", len(outcomes), "groups", groups)
    absent = ["no probabilities" if outcome is None else None for outcome in outcomes]
    signature = join(choices=choices)

    def score(metric: str, values: Values, reasons: Sequence[str | None] = absent) -> Score:
        return mean_score(metric, values, signature=signature, groups=groups, reasons=reasons)

    right = [None if o is None else 100.0 * o.correct for o in outcomes]
    scores = [
        rate_score("accuracy", right, signature=signature, groups=groups, reasons=absent),
        score("answer_entropy", [None if o is None else o.entropy for o in outcomes]),
    ]
    for name, wanted in (("correct", True), ("wrong", False)):
        values = [o.entropy if o is not None and o.correct is wanted else None for o in outcomes]
        if any(value is not None for value in values):
            reasons = [reason or f"not answered {name}" for reason in absent]
            scores.append(score(f"answer_entropy_{name}", values, reasons))
    scores.append(score("brier", [None if o is None else o.brier for o in outcomes]))
    return [*scores, *_ece_scores(outcomes, groups, seed, bins, signature)]


def _ece_scores(
    outcomes: Sequence[ChoiceOutcome | None],
    groups: Labels,
    seed: int,
    bins: int,
    signature: Signature,
) -> list[Score]:
    """Return the ECE as everybody prints it, and what is left of it without the noise in it."""
    kept = [outcome for outcome in outcomes if outcome is not None]
    labels = None if groups is None else [g for o, g in zip(outcomes, groups, strict=True) if o]
    absent = len(outcomes) - len(kept)
    plain = Score(
        metric="ece",
        value=expected_calibration_error(kept, bins=bins),
        n=len(kept),
        unscored_reasons={"no probabilities": absent} if absent else {},
        signature=signature.followed_by(join(bins=bins)),
    )
    found = _without_noise(_gaps(kept, bins), labels, seed)
    if found is None:
        return [plain]
    value, interval = found
    return [plain, replace(plain, metric="ece_debiased", value=value, ci95=interval)]


def _without_noise(gaps: Floats, groups: Labels, seed: int) -> tuple[float, Interval] | None:
    """Return the calibration error of which the one seen is the median, and its interval.

    Noise in the bins' gaps has an absolute value too: a perfectly calibrated model has an ECE above
    0, and a resample of it a higher one still. So errors of the shape that was seen and of every
    size are given this noise: the size that reaches the ECE seen in half of the draws is the value,
    and those that do in 2.5 to 97.5 % are the interval. None with fewer than two groups.
    """
    of_bins = estimates(gaps, groups)
    degrees = of_bins.degrees[0]
    if np.isnan(degrees):
        return None
    noise = normals(mean_covariance(gaps, groups), _DRAWS, seed)
    noise *= t_quantile(degrees) / t_quantile(np.inf)
    seen = float(np.abs(of_bins.means).sum())
    reached = [
        float((np.abs(size * of_bins.means + noise).sum(axis=1) >= seen).mean()) for size in _SIZES
    ]
    # The larger the error, the more draws reach what was seen.
    low, middle, high = np.interp([0.025, 0.5, 0.975], np.maximum.accumulate(reached), _SIZES)
    return seen * float(middle), (seen * float(low), seen * float(high))
