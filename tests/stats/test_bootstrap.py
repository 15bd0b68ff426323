"""Who depends on whom, and the clustered bootstrap: by hand, against plain loops and theory."""

import numpy as np
import pytest

from mipo_eval.stats import bootstrap
from mipo_eval.stats.bootstrap import (
    Crossed,
    Dependence,
    cluster,
    cluster_ids,
    group_sums,
    percentile_interval,
    resample_weights,
    seeded_weights,
)

NAN = float("nan")


@pytest.mark.parametrize(
    ("groups", "ids", "n"),
    [
        (None, [0, 1, 2], 3),
        (["b", "a", "b"], [0, 1, 0], 2),
        ([None, "a", None], [0, 1, 2], 3),  # an item without a group is its own
        ([0, None, 0], [0, 1, 0], 2),
        ([Crossed("p", 1), Crossed("q", 1), Crossed("p", 2)], [0, 1, 0], 2),  # by prompt
    ],
)
def test_cluster_ids(groups, ids, n) -> None:
    numbers, count = cluster_ids(groups, 3)
    assert (numbers.tolist(), count) == (ids, n)


def test_cluster_sums_leave_out_what_is_absent() -> None:
    clusters = cluster([[1, 5], [2, NAN], [NAN, NAN]], ["x", "x", "y"])
    assert clusters.sums.tolist() == [[3, 5]]  # y holds no value, so it is no cluster
    assert clusters.counts.tolist() == [[2, 1]]
    assert clusters.means().tolist() == [1.5, 5]


def test_clusters_do_not_know_the_order_of_the_items() -> None:
    rng = np.random.default_rng(2)
    values, groups = rng.normal(size=(40, 2)), rng.integers(8, size=40)
    order = rng.permutation(40)
    one, other = cluster(values, groups.tolist()), cluster(values[order], groups[order].tolist())
    assert other.sums == pytest.approx(one.sums)
    assert other.counts.tolist() == one.counts.tolist()


@pytest.mark.parametrize(
    ("prompts", "users", "kinds"),
    [
        ("abcd", "uuvv", ["0011"]),  # prompts come once: the users are all there is
        ("aabb", "uvwx", ["0011"]),  # users come once: the prompts
        ("aabb", "uuvv", ["0011"]),  # prompts lie within users
        ("aabc", "uuuv", ["0001"]),
        ("aabb", "uvuv", ["0011", "0101", "0123"]),  # they cross: both, and their pairs
        ("aabb", [None] * 4, ["0011"]),
        ("aabb", "uuuu", ["0011"]),  # one user says nothing of users
        ("aaaa", "uvuv", ["0101"]),
        ("aaaa", "uvwx", ["0000"]),  # one prompt, and users who come once: nothing to go by
        ("aaaa", [None] * 4, ["0000"]),
        ([None] * 4, "uvuv", ["0101"]),
    ],
)
def test_kinds_of_dependence(prompts, users, kinds) -> None:
    labels = [Crossed(prompt, user) for prompt, user in zip(prompts, users, strict=True)]
    found = Dependence.of(labels, 4).kinds()
    assert [_partition(ids) for ids in found] == [_partition(kind) for kind in kinds]


def _partition(ids) -> set[frozenset[int]]:
    """Which items are together, whatever their group is called."""
    return {frozenset(i for i, one in enumerate(ids) if one == group) for group in set(ids)}


def test_kinds_are_those_of_the_items_that_count() -> None:
    labels = [Crossed(p, u) for p, u in zip("aabb", "uvuv", strict=True)]
    of_three = Dependence.of(labels, 4).kinds(np.array([True, False, True, True]))
    assert len(of_three) == 3
    of_two = Dependence.of(labels, 4).kinds(np.array([True, False, False, True]))
    assert [ids.tolist() for ids in of_two] == [[0, 1]]


def test_group_sums_are_sums() -> None:
    ids = np.array([2, 0, 1, 0])
    table = np.arange(8.0).reshape(4, 2)
    assert group_sums(table, ids).tolist() == [[8, 10], [4, 5], [0, 1]]
    assert group_sums(table, np.array([2, 0, 3, 1])).tolist() == table[[1, 3, 0, 2]].tolist()


def test_wrong_number_of_groups_is_refused() -> None:
    with pytest.raises(ValueError, match="3 values but 2 groups"):
        cluster([1, 2, 3], ["a", "b"])


@pytest.mark.parametrize("n_clusters", [1, 7, 500])
def test_every_resample_draws_as_many_clusters_as_there_are(n_clusters, monkeypatch) -> None:
    monkeypatch.setattr(bootstrap, "CHUNK_CELLS", 1000)
    chunks = list(resample_weights(n_clusters, 301, np.random.default_rng(0)))
    weights = np.concatenate(chunks)
    assert weights.shape == (301, n_clusters)
    assert (weights.sum(axis=1) == n_clusters).all()
    assert max(chunk.size for chunk in chunks) <= 1000


def test_weights_are_multinomial() -> None:
    weights = np.concatenate(list(resample_weights(10, 20_000, np.random.default_rng(1))))
    assert weights.mean(axis=0) == pytest.approx(np.ones(10), abs=0.05)
    assert weights.var(axis=0) == pytest.approx(np.full(10, 0.9), abs=0.05)


@pytest.mark.parametrize("kept_cells", [0, 1_000_000])
def test_weights_of_a_seed_are_the_same_kept_or_drawn_again(kept_cells, monkeypatch) -> None:
    monkeypatch.setattr(bootstrap, "_KEPT_CELLS", kept_cells)
    plain = np.concatenate(list(resample_weights(9, 70, np.random.default_rng(3))))
    for _ in range(2):
        assert (np.concatenate(list(seeded_weights(9, 70, 3))) == plain).all()


def test_percentile_interval_ignores_replicates_without_a_value() -> None:
    drawn = np.append(np.arange(101.0), [NAN] * 7)
    assert percentile_interval(drawn, level=0.9) == pytest.approx((5, 95))


@pytest.mark.parametrize(("users", "resampled"), [(9, 61), (10, 10)])
def test_a_handful_of_users_cannot_stand_for_all(users: int, resampled: int) -> None:
    groups = [Crossed(f"p{n % 61}", f"u{n % users}") for n in range(180)]
    ids = Dependence.of(groups, len(groups)).coarsest()
    assert int(ids.max()) + 1 == resampled
