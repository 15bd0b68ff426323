"""Ratings weighted by the judge's probabilities, by hand."""

import math

import pytest

from mipo_eval.judges import weighted_rating


def logs(**weights: float) -> list[tuple[str, float]]:
    return [(token.strip("_"), math.log(weight)) for token, weight in weights.items()]


@pytest.mark.parametrize(
    ("weights", "value", "mass"),
    [
        ({"_4": 1.0}, 4.0, 1.0),
        ({"_4": 0.5, "_5": 0.5}, 4.5, 1.0),
        ({"_1": 0.25, "_5": 0.25, "_x": 0.5}, 3.0, 0.5),
        ({"_4": 0.6, "_6": 0.3, "_0": 0.1}, 4.0, 0.6),
        ({"_4": 0.4, "_The": 0.6}, None, 0.4),
    ],
)
def test_by_hand(weights: dict[str, float], value: float | None, mass: float) -> None:
    found = weighted_rating(logs(**weights))
    assert found.value == (None if value is None else pytest.approx(value))
    assert found.mass == pytest.approx(mass)


def test_spellings_of_one_rating_are_added_up() -> None:
    tokens = [("4", math.log(0.3)), (" 4", math.log(0.3)), ("２", math.log(0.2)), ("▁", -9.0)]
    found = weighted_rating(tokens)
    assert found.value == pytest.approx((0.6 * 4 + 0.2 * 2) / 0.8)


def test_without_probabilities_there_is_no_value() -> None:
    assert weighted_rating(None) == (None, 0.0)
    assert weighted_rating([]) == (None, 0.0)
