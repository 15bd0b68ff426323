"""Answer entropy: hand values, invariance to scale, refusal of what is no distribution."""

import math

import numpy as np
import pytest

from mipo_eval.errors import DataError
from mipo_eval.metrics import answer_entropy

INF = math.inf


@pytest.mark.parametrize(
    ("logprobs", "nats"),
    [
        ([0.0], 0.0),
        ([-3.0, -3.0, -3.0, -3.0], math.log(4)),
        ([0.0, -INF, -INF, -INF], 0.0),
        ([math.log(0.5), math.log(0.5), -INF], math.log(2)),
        ([math.log(0.9), math.log(0.1)], -0.9 * math.log(0.9) - 0.1 * math.log(0.1)),
        ([-1e6, -1e6 - math.log(3)], -0.75 * math.log(0.75) - 0.25 * math.log(0.25)),
    ],
)
def test_hand_values(logprobs, nats) -> None:
    assert answer_entropy(logprobs) == pytest.approx(nats, abs=1e-9)


def test_only_the_distribution_counts() -> None:
    logprobs = np.random.default_rng(0).normal(size=5)
    assert answer_entropy(logprobs) == pytest.approx(answer_entropy(logprobs[::-1] - 700))


@pytest.mark.parametrize(
    ("logprobs", "message"),
    [
        ([], "one per choice"),
        ([[0.0, 1.0]], "one per choice"),
        ([0.0, math.nan], "holds NaN"),
        ([0.0, INF], r"\+inf"),
        ([-INF, -INF], "every choice has probability 0"),
    ],
)
def test_errors(logprobs, message) -> None:
    with pytest.raises(DataError, match=message):
        answer_entropy(logprobs)
