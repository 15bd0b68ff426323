"""Paired comparisons: counts, what is missing, families, tests and corrections."""

from itertools import combinations

import numpy as np
import pytest

from mipo_eval.errors import ConfigError, DataError
from mipo_eval.stats import paired as module
from mipo_eval.stats.bootstrap import Crossed
from mipo_eval.stats.estimates import estimates, standard_error
from mipo_eval.stats.paired import compare, compare_all, effect_sizes, told_apart
from mipo_eval.stats.power import detectable_from_error
from mipo_eval.stats.significance import adjust, permutation_test
from tests.stats.columns import mean_interval

NAN = float("nan")


def runs(seed: int = 0, items: int = 120, count: int = 4):
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(items, 1))
    return shared + rng.normal(size=(items, count)) + np.arange(count) * 0.3


def test_what_is_missing_is_reported() -> None:
    found = compare([1, 2, 3, NAN, NAN, 5], [1, 1, NAN, 4, NAN, 7], names=("new", "old"))
    assert (found.first, found.second) == ("new", "old")
    assert (found.n, found.only_first, found.only_second) == (3, 1, 1)
    assert (found.wins, found.losses, found.ties) == (1, 1, 1)
    assert found.difference == pytest.approx(-1 / 3)
    assert found.p_adjusted is None


def test_parts_agree_with_their_own_functions() -> None:
    table, groups = runs(), np.repeat(np.arange(40), 3).tolist()
    found = compare(table[:, 1], table[:, 0], groups)
    differences = table[:, 1] - table[:, 0]
    assert found.ci95 == pytest.approx(mean_interval(differences, groups))
    sums = differences.reshape(40, 3).sum(axis=1, keepdims=True)
    assert found.p == pytest.approx(permutation_test(sums)[0])
    error = standard_error(differences, groups)
    assert found.detectable == pytest.approx(detectable_from_error(error or 0.0, 39))
    assert found.effect_size == pytest.approx(differences.mean() / differences.std(ddof=1))


def test_swapping_the_sides_mirrors_everything() -> None:
    table = runs(1)
    forward, backward = compare(table[:, 0], table[:, 3]), compare(table[:, 3], table[:, 0])
    assert forward.difference == pytest.approx(-backward.difference)
    assert forward.ci95 == pytest.approx(tuple(-edge for edge in backward.ci95[::-1]))  # type: ignore[index]
    assert (forward.wins, forward.losses) == (backward.losses, backward.wins)
    assert forward.p_sign == backward.p_sign
    assert forward.p == backward.p


def test_all_pairs_are_corrected_together() -> None:
    found = compare_all(runs(2), list("abcd"))
    assert [(c.first, c.second) for c in found] == [
        ("a", "b"), ("a", "c"), ("a", "d"), ("b", "c"), ("b", "d"), ("c", "d"),
    ]  # fmt: skip
    assert all(c.p <= c.p_adjusted for c in found)  # type: ignore[operator]
    assert found[2].significant()  # the strongest


def test_holm_is_of_the_p_values_of_the_tests_alone() -> None:
    table, names = runs(2), list("abcd")
    by_t = [
        estimates(table[:, i] - table[:, j]).p_values()[0] for i, j in combinations(range(4), 2)
    ]
    found = compare_all(table, names, method="holm")
    wanted = np.maximum(adjust(by_t, "holm"), [c.p for c in found])
    assert [c.p_adjusted for c in found] == pytest.approx(wanted.tolist())


def test_baseline_compares_every_other_run_with_it() -> None:
    found = compare_all(runs(3), list("abcd"), baseline="b")
    assert [(c.first, c.second) for c in found] == [("a", "b"), ("c", "b"), ("d", "b")]


def test_chunks_change_nothing(monkeypatch) -> None:
    table = runs(4)
    table[np.random.default_rng(0).random(table.shape) < 0.1] = NAN
    whole = compare_all(table, list("abcd"))
    monkeypatch.setattr(module, "_CHUNK_PAIRS", 2)
    for one, other in zip(whole, compare_all(table, list("abcd")), strict=True):
        assert one.ci95 == pytest.approx(other.ci95)
        assert (one.n, one.p_adjusted) == (other.n, pytest.approx(other.p_adjusted))


def test_one_group_in_common_has_a_difference_but_no_interval() -> None:
    found = compare([1, 2, NAN], [2, 4, 1], ["g", "g", "h"])
    assert found.difference == -1.5
    assert (found.ci95, found.p, found.detectable) == (None, None, None)
    assert not found.significant()


def test_identical_runs_do_not_differ() -> None:
    found = compare([1, 2, 3], [1, 2, 3])
    assert (found.difference, found.p_sign, found.p) == (0, 1, 1)
    assert (found.ci95, found.effect_size, found.detectable) == (None, None, None)
    bounded = compare([0, 100, 0], [0, 100, 0], span=(0, 100))
    assert bounded.ci95 == pytest.approx((-70.8, 70.8), abs=0.1)  # 100 (1 - 0.025^(1/3))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: compare([1, NAN], [NAN, 1], names=("a", "b")), DataError, "a and b have no item"),
        (lambda: compare_all([[1, 2]], ["a"]), DataError, "1 runs are named"),
        (lambda: compare_all([[1, 2]], ["a", "a"]), ConfigError, "runs named twice: a"),
        (lambda: compare_all([[1, 2]], ["a", "b"], baseline="c"), ConfigError, "'c' is not among"),
        (lambda: compare_all([[1, np.inf]], ["a", "b"]), DataError, "infinite"),
    ],
)
def test_errors(call, error, message) -> None:
    with pytest.raises(error, match=message):
        call()


def test_runs_told_apart_are_those_of_the_comparisons() -> None:
    table, names = runs(count=5), list("abcde")
    table[:9, 2] = NAN
    found = compare_all(table, names)
    apart = {frozenset((pair.first, pair.second)) for pair in found if pair.significant()}
    assert 0 < len(apart) < len(found)
    assert told_apart(table, names) == apart
    with pytest.raises(DataError, match="a and c have no item in common"):
        told_apart([[1.0, 1.0, NAN], [NAN, 1.0, 1.0]], list("abc"))


def test_a_comparison_knows_neither_other_runs_nor_the_order_of_items() -> None:
    rng = np.random.default_rng(11)
    table = runs(5, items=90)
    table[:8, 2], table[50:, 3] = NAN, NAN
    labels = [Crossed(int(p), int(u)) for p, u in rng.integers(12, size=(90, 2))]
    order = rng.permutation(90)
    for found in compare_all(table, list("abcd"), labels):
        own = ["abcd".index(name) for name in (found.first, found.second)]
        one, other = table[order][:, own].T
        alone = compare(one, other, [labels[i] for i in order], names=(found.first, found.second))
        assert alone.ci95 == pytest.approx(found.ci95, rel=1e-9)
        assert alone.p == pytest.approx(found.p, rel=1e-9)
        assert alone.difference == pytest.approx(found.difference, rel=1e-9)


def test_users_who_come_back_are_not_forgotten() -> None:
    """Prompts come once and users eight times: by prompt alone a fifth is found by chance."""
    rng, found, forgotten = np.random.default_rng(12), 0, 0
    users = np.repeat(np.arange(24), 8)
    labels = [Crossed(prompt, int(user)) for prompt, user in enumerate(users)]
    for _ in range(300):
        differences = rng.normal(size=24)[users] + rng.normal(size=192)
        nothing = np.zeros(192)
        found += compare(differences, nothing, labels).significant()
        forgotten += compare(differences, nothing).significant()
    assert found <= 0.08 * 300  # 5 % and two standard errors
    assert forgotten > 0.2 * 300


def test_crossing_prompts_and_users_are_both_in_the_p_value() -> None:
    rng, found = np.random.default_rng(13), 0
    prompts, users = rng.integers(20, size=(2, 200))
    labels = [Crossed(p, u) for p, u in zip(prompts.tolist(), users.tolist(), strict=True)]
    for _ in range(300):
        differences = rng.normal(size=20)[prompts] + rng.normal(size=20)[users]
        differences += rng.normal(size=200)
        found += compare(differences, np.zeros(200), labels).significant()
    assert found <= 0.08 * 300


def seeded(rng, *, seeds: int, items: int = 100, seed_sd: float):
    """Two methods that are the same: (items, 2, seeds)."""
    shared = rng.normal(size=(items, 1, 1))
    return shared + rng.normal(size=(1, 2, seeds)) * seed_sd + rng.normal(size=(items, 2, seeds))


@pytest.mark.parametrize(("seeds", "seed_sd"), [(3, 0.0), (3, 0.3), (5, 0.3)])
def test_methods_that_are_alike_are_not_told_apart_by_their_seeds(seeds, seed_sd) -> None:
    rng, found, forgotten = np.random.default_rng(14), 0, 0
    for _ in range(200):
        table = seeded(rng, seeds=seeds, seed_sd=seed_sd)
        found += compare_all(table, ["a", "b"])[0].significant()
        forgotten += compare(*table.mean(axis=2).T).significant()
    assert found <= 0.08 * 200
    assert forgotten > 0.1 * 200 or seed_sd == 0


def test_one_seed_is_the_run_itself() -> None:
    table = runs(6)
    padded = np.stack([table, np.full_like(table, NAN)], axis=2)
    assert compare_all(padded, list("abcd")) == compare_all(table, list("abcd"))


def test_effect_sizes() -> None:
    nan = float("nan")
    table = np.array([[1.0, 2.0, 0.1, 3.0], [3.0, 2.0, nan, 5.0], [nan, 2.0, nan, 10.0]])
    sizes = effect_sizes(table)
    assert sizes[0] == pytest.approx(2 / np.sqrt(2))
    assert np.isnan(sizes[1:3]).all()  # no spread, and a single item
    assert sizes[3] == pytest.approx(6 / np.std([3, 5, 10], ddof=1))


def test_users_that_differ_more_than_prompts_decide() -> None:
    """Of 256 patterns of their signs two are as far from 0, and half of what is equal counts."""
    rng = np.random.default_rng(15)
    prompts, users = (of.ravel() for of in np.indices((40, 8)))
    labels = [Crossed(p, u) for p, u in zip(prompts.tolist(), users.tolist(), strict=True)]
    differences = 1 + rng.normal(scale=0.3, size=8)[users] + rng.normal(scale=0.1, size=320)
    found = compare(differences, np.zeros(320), labels)
    assert found.p == 1 / 256


def test_crossing_never_says_more_than_students_test() -> None:
    rng = np.random.default_rng(16)
    prompts, users = (of.ravel() for of in np.indices((12, 12)))
    labels = [Crossed(p, u) for p, u in zip(prompts.tolist(), users.tolist(), strict=True)]
    for _ in range(40):
        differences = 0.5 + rng.normal(size=12)[prompts] + rng.normal(size=12)[users]
        found = compare(differences, np.zeros(144), labels)
        assert found.p is not None
        assert found.p >= estimates(differences, labels).p_values()[0]


def test_no_correction_says_more_than_signs_could() -> None:
    """Prompts that agree to the last digit: their signs are one of 2^13 pairs of patterns."""
    base = np.random.default_rng(17).integers(3, size=14).astype(float)
    table = np.stack([base + 2, base + 1, base], axis=1)
    found = compare_all(table, ["a", "b", "c"], method="holm")
    assert [one.p_adjusted for one in found] == [3 * 2.0**-13] * 3
