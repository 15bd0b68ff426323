"""Answer entropy (Figures 4 and 5): how undecided a model is between the answer choices."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mipo_eval.errors import DataError


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
