"""Equivalence and non-inferiority, against scipy, Tango's score test and what must hold."""

import math

import numpy as np
import pytest
from scipy import optimize, stats

from mipo_eval.errors import ConfigError
from mipo_eval.stats import compare, compare_all
from mipo_eval.stats.bootstrap import Floats, Interval
from mipo_eval.stats.margin import Within, within


def told(
    differences: Floats,
    margin: float,
    groups: list[int] | None = None,
    span: Interval | None = None,
) -> Within:
    pair = compare(differences, np.zeros(len(differences)), groups, span=span)
    (found,) = within([pair.evidence], margin)
    assert found is not None
    return found


def test_independent_items_are_scipys_one_sided_t_tests() -> None:
    values = np.random.default_rng(0).normal(0.1, 1.0, size=60)
    found = told(values, 0.3)
    assert found.p_above == pytest.approx(
        stats.ttest_1samp(values, -0.3, alternative="greater").pvalue
    )
    assert found.p_below == pytest.approx(stats.ttest_1samp(values, 0.3, alternative="less").pvalue)


def tango(wins: int, losses: int, n: int, margin: float) -> float:
    """The score test for paired rates (Tango 1998): losses as likely as the margin makes them.

    With half an item against what is to be shown.
    """

    def likelihood(loss: float) -> float:
        win = loss - margin
        tied = 1 - win - loss
        return -(
            wins * math.log(win) + losses * math.log(loss) + (n - wins - losses) * math.log(tied)
        )

    ends = (margin + 1e-9, (1 + margin) / 2 - 1e-9)
    loss = float(optimize.minimize_scalar(likelihood, bounds=ends, method="bounded").x)
    spread = math.sqrt((2 * loss - margin - margin**2) / n)
    return float(stats.norm.sf(((wins - losses - 0.5) / n + margin) / spread))


@pytest.mark.parametrize(
    ("wins", "losses", "n", "margin"),
    [(20, 25, 300, 5), (5, 8, 400, 3), (60, 60, 400, 8), (30, 22, 200, 2), (1, 4, 500, 2)],
)
def test_yes_no_items_are_nearly_tangos_score_test(
    wins: int, losses: int, n: int, margin: float
) -> None:
    values = 100.0 * np.array([1] * wins + [-1] * losses + [0] * (n - wins - losses))
    found = told(values, margin, span=(0.0, 100.0))
    assert found.p_above == pytest.approx(tango(wins, losses, n, margin / 100), abs=0.01)


def test_items_that_are_all_alike_are_counted() -> None:
    """If 2 % of items were lost, 149 in a row without a loss would be seen in 4.9 of 100."""
    found = told(np.zeros(149), 2.0, span=(0.0, 100.0))
    assert found.p_above == found.p_below == pytest.approx(0.98**149)
    assert found.finding() == "equivalent"
    assert told(np.zeros(148), 2.0, span=(0.0, 100.0)).finding() is None
    # Five users of 100 items each are five users.
    users = np.repeat(np.arange(5), 100).tolist()
    assert told(np.zeros(500), 2.0, users, span=(0.0, 100.0)).p == pytest.approx(0.98**5)


def test_rare_losses_are_not_taken_for_a_proof() -> None:
    """Two of 100 items are lost, which is the margin: in 5 of 100 draws it may seem to be less."""
    rng = np.random.default_rng(3)
    draws = [-100.0 * (rng.random(200) < 0.02) for _ in range(400)]
    shown = [told(values, 2.0, span=(0.0, 100.0)).p_above < 0.05 for values in draws]
    assert 100 * np.mean(shown) <= 5
    by_interval = [
        (ends := compare(values, np.zeros(200), span=(0.0, 100.0)).ci95) and ends[0] > -2
        for values in draws
    ]
    assert sum(map(bool, by_interval)) <= 0.025 * len(draws)


def test_seeds_count_as_in_the_interval() -> None:
    rng = np.random.default_rng(1)
    table = rng.normal(size=(80, 1, 1)) + rng.normal(size=(80, 2, 3)) + rng.normal(size=(1, 2, 3))
    (pair,) = compare_all(table, ["a", "b"])
    assert pair.ci95 is not None
    assert pair.evidence is not None
    for one_sided in (pair.evidence.p_above(pair.ci95[0]), pair.evidence.p_below(pair.ci95[1])):
        assert one_sided == pytest.approx(0.025, rel=0.02)


def test_a_family_pays_for_its_size_and_what_cannot_be_told_is_none() -> None:
    values = np.random.default_rng(0).normal(size=(50, 3))
    pairs = compare_all(values, ["a", "b", "c"])
    together = within([pair.evidence for pair in pairs], 0.9)
    for pair, found in zip(pairs, together, strict=True):
        (alone,) = within([pair.evidence], 0.9)
        assert alone is not None
        assert found is not None
        assert found.p_above == pytest.approx(min(1.0, 3 * alone.p_above))
    one_group = compare([1.0, 2.0], [0.0, 1.0], [0, 0])
    no_ends = compare([1.0, 1.0, 1.0], [0.0, 0.0, 0.0])
    assert within([one_group.evidence, no_ends.evidence], 1.0) == [None, None]
    with pytest.raises(ConfigError, match="above 0"):
        within([], 0.0)
