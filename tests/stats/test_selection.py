"""The selection guard: unbiased where all candidates are alike, harmless where one is clear."""

import numpy as np
import pytest

from mipo_eval.errors import DataError
from mipo_eval.stats import selection
from mipo_eval.stats.selection import best_of

NAN = float("nan")


def candidates(seed: int, *, items: int = 150, k: int = 6, gap: float = 0.0):
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(items, 1))
    return shared + rng.normal(size=(items, k)) + np.array([gap] + [0.0] * (k - 1))


def test_best_of_equals_is_not_better_than_they_are(monkeypatch) -> None:
    monkeypatch.setattr(selection, "RESAMPLES", 400)
    found = [best_of(candidates(seed), list("abcdef"), splits=20) for seed in range(60)]
    shown = np.mean([f.shown for f in found])
    corrected = np.mean([f.corrected for f in found])  # type: ignore[misc]
    nested = np.mean([f.nested for f in found])  # type: ignore[misc]
    assert shown > 0.07  # the truth is 0
    assert abs(corrected) < 0.04
    assert abs(nested) < 0.04


def test_a_clear_best_is_left_as_it_is() -> None:
    found = best_of(candidates(1, gap=3.0), list("abcdef"))
    assert (found.name, found.k, found.chosen_share) == ("a", 6, 100)
    assert found.corrected == pytest.approx(found.shown, abs=0.01)
    assert found.nested == pytest.approx(found.shown, abs=0.01)


def test_interval_moves_with_the_correction() -> None:
    found = best_of(candidates(2), list("abcdef"))
    assert found.ci95 is not None
    assert found.optimism is not None
    assert found.optimism > 0
    assert found.ci95[0] < found.corrected < found.ci95[1]  # type: ignore[operator]
    assert np.mean(found.ci95) == pytest.approx(found.corrected, abs=0.02)


def test_one_candidate_is_no_choice() -> None:
    found = best_of(candidates(3, k=1), ["only"])
    assert (found.k, found.optimism, found.chosen_share) == (1, 0, 100)


def test_groups_are_never_on_both_sides() -> None:
    table = candidates(4, items=40)
    repeated = best_of(
        np.repeat(table, 5, axis=0), list("abcdef"), np.repeat(np.arange(40), 5).tolist()
    )
    single = best_of(table, list("abcdef"))
    assert repeated.corrected == pytest.approx(single.corrected)
    assert repeated.nested == pytest.approx(single.nested)
    assert repeated.ci95 == pytest.approx(single.ci95)


def test_absent_values_and_same_seed() -> None:
    table = candidates(5)
    table[np.random.default_rng(0).random(table.shape) < 0.2] = NAN
    assert best_of(table, list("abcdef"), seed=3) == best_of(table, list("abcdef"), seed=3)


def test_one_group_cannot_be_split() -> None:
    found = best_of([[1.0, 2.0], [2.0, 4.0]], ["a", "b"], ["g", "g"])
    assert (found.name, found.shown) == ("b", 3)
    assert (found.corrected, found.nested, found.ci95, found.optimism) == (None,) * 4


@pytest.mark.parametrize(
    ("table", "message"),
    [([[1.0, NAN]], "without any value"), ([[1.0]], "2 candidates are named")],
)
def test_errors(table, message) -> None:
    with pytest.raises(DataError, match=message):
        best_of(table, ["a", "b"])
