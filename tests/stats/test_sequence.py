"""Confidence sequences: a fair game, the same in any order, right over all looks."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from mipo_eval.stats import Crossed, compare
from mipo_eval.stats.intervals import NET
from mipo_eval.stats.sequence import (
    SequenceEvidence,
    at_any_time,
    crossing_note,
    sequence_evidence,
)

OUTCOMES = (-100.0, 0.0, 100.0)


def evidence(values: list[float], groups: list[int] | None = None) -> SequenceEvidence:
    found = sequence_evidence(np.array(values), groups, NET)
    assert found is not None
    return found


@pytest.mark.parametrize("above", [True, False])
def test_the_wealth_is_a_fair_game(*, above: bool) -> None:
    """Over all that three groups of two could be, weighed by their chances, it stays."""
    chances = dict(zip(OUTCOMES, (0.2, 0.3, 0.5), strict=True))
    mean = sum(value * chance for value, chance in chances.items())
    expected = 0.0
    for values in product(OUTCOMES, repeat=6):
        found = evidence([*values], [0, 0, 1, 1, 2, 2])
        wealth = np.exp(found._log_wealth((mean + 100) / 200, above=above))
        expected += wealth * float(np.prod([chances[value] for value in values]))
    assert expected == pytest.approx(1.0)


def test_interval_and_p_values_agree_and_know_no_order() -> None:
    rng = np.random.default_rng(0)
    values = rng.choice(OUTCOMES, p=(0.2, 0.3, 0.5), size=120)
    groups = np.arange(120) // 4
    found = evidence(values.tolist(), groups.tolist())
    low, high = found.interval()
    assert -100 < low < values.mean() < high < 100
    assert found.p_above(low) == pytest.approx(0.05, rel=1e-3)
    assert found.p_below(high) == pytest.approx(0.05, rel=1e-3)
    order = rng.permutation(120)
    again = evidence(values[order].tolist(), groups[order].tolist())
    assert again.interval() == pytest.approx((low, high), abs=1e-9)
    # Items that were not waited for change nothing but what the largest group can be.
    more = np.concatenate([values, np.full(8, np.nan)])
    assert evidence(more.tolist(), [*groups.tolist(), *[30, 31] * 4]).interval() == (low, high)


def test_what_is_turned_round_has_the_interval_turned_round() -> None:
    values = [*range(-40, 80, 10)]
    low, high = evidence([float(v) for v in values]).interval()
    assert evidence([-float(v) for v in values]).interval() == pytest.approx((-high, -low))
    assert -100 < low < 15 < high < 100


def test_the_ends_of_the_span() -> None:
    assert evidence([100.0] * 12).interval()[1] == 100
    assert evidence([-100.0] * 12).interval()[0] == -100
    found = evidence([100.0] * 12)
    assert found.p_above(0.0) < 0.05
    assert (found.p_above(-100.0), found.p_below(100.0)) == (0.0, 0.0)
    assert (found.p_above(100.0), found.p_below(-100.0)) == (1.0, 1.0)
    assert (found.p_above(150.0), found.p_below(-150.0)) == (1.0, 1.0)
    assert (found.p_above(-150.0), found.p_below(150.0)) == (0.0, 0.0)
    assert sequence_evidence(np.array([np.nan]), None, NET) is None


def test_five_of_a_hundred_over_all_looks_where_peeking_finds_more() -> None:
    rng = np.random.default_rng(2)
    betting = peeking = 0
    looks = range(20, 401, 20)
    for _ in range(200):
        values = rng.choice(OUTCOMES, p=(0.35, 0.3, 0.35), size=400)
        parts = [np.where(np.arange(400) < look, values, np.nan) for look in looks]
        found = [evidence(part.tolist()) for part in parts]
        betting += any(min(one.p_above(0.0), one.p_below(0.0)) < 0.05 for one in found)
        peeking += any(stats.ttest_1samp(values[:look], 0.0).pvalue < 0.05 for look in looks)
    assert betting <= 10
    assert peeking > 30


def test_comparisons_change_their_intervals_and_p_values() -> None:
    rng = np.random.default_rng(0)
    table = 100.0 * (rng.random((200, 2)) < (0.7, 0.4))
    fixed = compare(table[:, 0], table[:, 1], span=(0.0, 100.0))
    (found,) = at_any_time([fixed], (table[:, 0] - table[:, 1])[:, None], None, 100.0)
    assert fixed.ci95 is not None
    assert found.ci95 is not None
    assert found.ci95[0] < fixed.ci95[0] < fixed.ci95[1] < found.ci95[1]
    assert (found.difference, found.detectable, found.p_sign) == (fixed.difference, None, None)
    assert (fixed.p or 1) < (found.p or 0) < 0.05
    assert found.p_adjusted is None
    both = np.stack([table[:, 0] - table[:, 1]] * 2, axis=1)
    assert {one.p_adjusted for one in at_any_time([fixed] * 2, both, None, 100.0)} == {2 * found.p}


def test_what_is_taken_for_granted_where_prompts_and_users_cross() -> None:
    crossed = [Crossed(prompt, user) for prompt in range(30) for user in range(12)]
    assert crossing_note(crossed) == (
        "groups: the 12 users; prompts that they share count as different"
    )
    assert crossing_note([Crossed(n, n // 4) for n in range(40)]) is None


def test_a_p_value_is_at_most_1() -> None:
    found = sequence_evidence(np.array([0.0, 1.0] * 20), None, (0.0, 1.0))
    assert found is not None
    assert (found.p_above(0.5), found.p_below(0.5)) == (1.0, 1.0)
    assert (found.p_above(1.0), found.p_below(0.0)) == (1.0, 1.0)


def test_groups_without_a_value_are_not_counted() -> None:
    values = np.array([0.5, np.nan, 1.0, np.nan, np.nan, 0.0])
    found = sequence_evidence(values, ["a", "b", "c", "b", "d", "e"], (0.0, 1.0))
    assert found is not None
    assert found.groups == 3
