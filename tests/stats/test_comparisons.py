"""Paired comparisons: counts, what is missing, families, agreement with the parts."""

import numpy as np
import pytest

from mipo_eval.errors import ConfigError, DataError
from mipo_eval.stats import comparisons as module
from mipo_eval.stats.bootstrap import cluster, mean_interval
from mipo_eval.stats.comparisons import align, compare, compare_all, told_apart
from mipo_eval.stats.power import detectable_difference
from mipo_eval.stats.significance import adjust, permutation_test

NAN = float("nan")


def runs(seed: int = 0, items: int = 120, count: int = 4):
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(items, 1))
    return shared + rng.normal(size=(items, count)) + np.arange(count) * 0.3


def test_align_keeps_every_item_and_order() -> None:
    keys, names, table = align({"a": {"x": 1.0, "y": None}, "b": {"z": 2.0, "x": 3.0}})
    assert (keys, names) == (["x", "y", "z"], ["a", "b"])
    assert table == pytest.approx(np.array([[1, 3], [NAN, NAN], [NAN, 2]]), nan_ok=True)


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
    clusters = cluster(differences, groups)
    assert found.p_permutation == pytest.approx(permutation_test(clusters)[0])
    assert found.detectable == pytest.approx(
        detectable_difference(table[:, 1], table[:, 0], groups)
    )
    assert found.effect_size == pytest.approx(differences.mean() / differences.std(ddof=1))
    assert found.below_resolution == (abs(found.difference) < found.detectable)  # type: ignore[operator]


def test_swapping_the_sides_mirrors_everything() -> None:
    table = runs(1)
    forward, backward = compare(table[:, 0], table[:, 3]), compare(table[:, 3], table[:, 0])
    assert forward.difference == pytest.approx(-backward.difference)
    assert forward.ci95 == pytest.approx(tuple(-edge for edge in backward.ci95[::-1]))  # type: ignore[index]
    assert (forward.wins, forward.losses) == (backward.losses, backward.wins)
    assert forward.p_sign == backward.p_sign
    assert forward.p_permutation == backward.p_permutation


def test_all_pairs_are_corrected_together() -> None:
    found = compare_all(runs(2), list("abcd"))
    assert [(c.first, c.second) for c in found] == [
        ("a", "b"), ("a", "c"), ("a", "d"), ("b", "c"), ("b", "d"), ("c", "d"),
    ]  # fmt: skip
    p_values = [c.p_permutation for c in found]
    assert [c.p_adjusted for c in found] == adjust(p_values).tolist()  # type: ignore[arg-type]
    strongest = found[2]
    assert strongest.significant()
    assert not strongest.below_resolution


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
    assert (found.ci95, found.p_permutation, found.detectable) == (None, None, None)
    assert not found.significant()
    assert not found.below_resolution


def test_identical_runs_do_not_differ() -> None:
    found = compare([1, 2, 3], [1, 2, 3])
    assert (found.difference, found.ci95, found.p_sign, found.p_permutation) == (0, (0, 0), 1, 1)
    assert found.effect_size is None


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


@pytest.mark.parametrize("method", ["holm", "bh"])
def test_runs_told_apart_are_those_of_the_comparisons(method) -> None:
    table, names = runs(count=5), list("abcde")
    table[:9, 2] = NAN
    found = compare_all(table, names, method=method, seed=2)
    apart = {frozenset((pair.first, pair.second)) for pair in found if pair.significant()}
    assert 0 < len(apart) < len(found)
    assert told_apart(table, names, method=method, seed=2) == apart
    with pytest.raises(DataError, match="a and c have no item in common"):
        told_apart([[1.0, 1.0, NAN], [NAN, 1.0, 1.0]], list("abc"))
