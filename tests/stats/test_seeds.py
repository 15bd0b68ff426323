"""Seeds: what papers print, and an interval that covers items and seeds."""

import numpy as np
import pytest
from scipy import stats

from mipo_eval.errors import DataError
from mipo_eval.stats.seeds import Doubt, SeedSpread, inverse_chi_squared, seed_summaries
from tests.stats.columns import mean_interval

NAN = float("nan")


def table(seed: int, *, seeds: int = 3, items: int = 300, seed_sd: float = 0.0):
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=items)
    return shared + rng.normal(size=(seeds, 1)) * seed_sd + rng.normal(size=(seeds, items)) * 0.5


def width(interval) -> float:
    assert interval is not None
    return interval[1] - interval[0]


def test_mean_and_std_are_the_papers() -> None:
    (summary,) = seed_summaries([[[1, 0, 1, 0], [1, 1, 1, 0], [1, 1, 1, 1]]])
    assert summary.per_seed == (0.5, 0.75, 1.0)
    assert (summary.mean, summary.std) == (0.75, 0.25)
    assert (summary.n_seeds, summary.n_items) == (3, 4)


def test_one_seed_is_the_item_interval_and_no_more() -> None:
    values = table(0, seeds=1)
    (summary,) = seed_summaries([values])
    assert summary.std is None
    assert summary.ci95 is None
    assert summary.items_ci95 == pytest.approx(mean_interval(values[0]), abs=0.01)


def test_seeds_that_differ_widen_the_interval() -> None:
    calm, wild = seed_summaries([table(1), table(1, seed_sd=0.5)])
    assert width(calm.items_ci95) == pytest.approx(width(wild.items_ci95), rel=0.01)
    assert width(calm.ci95) < 1.5 * width(calm.items_ci95)
    # Three seeds: Student's t with two degrees of freedom reaches 4.3 standard errors.
    assert width(wild.ci95) > 2 * 4 * wild.std / 3**0.5  # type: ignore[operator]


@pytest.mark.parametrize(("seeds", "seed_sd"), [(2, 0.5), (3, 0.0), (3, 0.2), (5, 0.2)])
def test_the_interval_covers_other_seeds_and_other_items(seeds, seed_sd) -> None:
    held = []
    for draw in range(300):
        rng = np.random.default_rng((draw, 1))
        shared = rng.normal(size=100)
        spread = rng.normal(size=(seeds, 1)) * seed_sd
        (found,) = seed_summaries([shared + spread + rng.normal(size=(seeds, 100))])
        held.append(found.ci95[0] <= 0 <= found.ci95[1])  # type: ignore[index]
    assert np.mean(held) >= 0.92  # 95 % less two standard errors


def test_identical_seeds_add_nothing() -> None:
    (summary,) = seed_summaries([np.tile(table(2, seeds=1), (3, 1))])
    assert summary.std == pytest.approx(0)
    assert summary.ci95 == pytest.approx(summary.items_ci95, rel=1e-4)


def test_seeds_that_all_show_nothing_have_the_interval_of_the_items() -> None:
    """Two seeds of 0 % do not show that there would never be anything else."""
    (summary,) = seed_summaries([np.zeros((2, 48))], span=(0.0, 100.0))
    assert summary.std == 0
    assert summary.ci95 == summary.items_ci95
    assert summary.ci95 == pytest.approx((0.0, 100 * (1 - 0.025 ** (1 / 48))))


def test_clusters_are_kept_together() -> None:
    values = np.repeat(table(3, items=50), 4, axis=1)
    (together,) = seed_summaries([values], np.repeat(np.arange(50), 4).tolist())
    (single,) = seed_summaries([values[:, ::4]])
    assert together.items_ci95 == pytest.approx(single.items_ci95)
    assert together.ci95 == pytest.approx(single.ci95)


def test_absent_values_are_left_out() -> None:
    values = table(4)
    values[0, :30] = NAN
    values[:, -1] = NAN
    (summary,) = seed_summaries([values])
    assert summary.n_items == 299
    assert summary.per_seed[0] == pytest.approx(values[0, 30:-1].mean())


def test_one_group_has_no_interval() -> None:
    one = seed_summaries([table(9)], ["g"] * 300)[0]
    assert (one.items_ci95, one.ci95) == (None, None)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: seed_summaries([[[1, 2]], [[1, 2, 3]]]), "method 1 has 3 items, the first has 2"),
        (lambda: seed_summaries([[[1, 2], [NAN, NAN]]]), "a seed without any value"),
    ],
)
def test_errors(call, message) -> None:
    with pytest.raises(DataError, match=message):
        call()


@pytest.mark.parametrize("some", [0.0, 4.0])
def test_a_variance_that_is_mostly_nothing_has_an_error(some: float) -> None:
    """As of two methods that differ by the same on every item: only the seeds may vary."""
    doubt = Doubt(np.array([0.0, 0.0, 0.0, some]))
    assert doubt.error == (some / 4) ** 0.5
    assert doubt.degrees >= 1.0
    assert (doubt.around(1.0) is None) == (some == 0)


@pytest.mark.parametrize("degrees", [1.5, 5.0, 40.0])
def test_the_degrees_of_a_doubt_make_its_interval_students(degrees: float) -> None:
    found = Doubt(4.0 * inverse_chi_squared(0, degrees))
    interval = found.around(3.0)
    assert interval is not None
    reach = stats.t.ppf(0.975, found.degrees) * found.error
    assert interval == pytest.approx((3.0 - reach, 3.0 + reach))


def test_two_methods_with_other_numbers_of_seeds_share_their_spread() -> None:
    """Both vary by 6 between seeds: 6/2 and 6/3 as means, with three degrees of freedom."""
    spread = SeedSpread(np.array([6 / 2, 6 / 3]), np.zeros(2), np.array([1, 2]))
    doubt = spread.doubt(0.0, 9.0, [0, 1])
    assert doubt is not None
    assert doubt.variances == pytest.approx((6 / 2 + 6 / 3) * inverse_chi_squared(1, 3.0))
