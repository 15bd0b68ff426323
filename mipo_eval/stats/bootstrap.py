"""Which items depend on each other, and what is resampled because of it.

Items that share a prompt, or a user, are not independent draws. `Dependence` says which kind of
groups an item belongs to, and everything that follows (errors, tests, resamples) asks it: groups of
one kind where the other kind lies within them or never comes back, two kinds that cross otherwise.

What is no mean (the best of k) is resampled group by group here. What is a mean needs no resamples:
see `estimates`.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Index = NDArray[np.intp]
Interval = tuple[float, float]
Mask = NDArray[np.bool_]
Labels = Sequence[Hashable | None] | None
"""One cluster label per item; None (for one item, or for all): the item is its own cluster."""

RESAMPLES = 10_000
CHUNK_CELLS = 2_000_000
"""Cells of a weight matrix held at once (16 MB): memory is bounded whatever is resampled."""
_KEPT_CELLS = 50_000_000
"""Largest weight matrix that is kept for the next caller (100 MB as small integers)."""
_HANDFUL = 10
"""Groups from which on resampling a kind makes sense where there is another kind to resample."""


class Crossed(NamedTuple):
    """A label for an item that belongs to a prompt and to a user.

    Items then depend on each other both ways, see `Dependence`. None: the item has none, and is
    alone in that direction.
    """

    prompt: Hashable | None
    user: Hashable | None


@dataclass(frozen=True, slots=True)
class Clusters:
    """Sufficient statistics of a mean, per cluster and column.

    `sums` and `counts` have the shape (clusters, columns); a cluster without a value in a column
    has count 0 there.
    """

    sums: Floats
    counts: Floats

    def __len__(self) -> int:
        """Return the number of clusters."""
        return len(self.sums)

    def means(self) -> Floats:
        """Return the mean over items of every column, shape (columns,); NaN where none."""
        return ratio(self.sums.sum(axis=0), self.counts.sum(axis=0))


def cluster_ids(groups: Labels, size: int) -> tuple[Index, int]:
    """Number the clusters of `size` items in order of first appearance.

    Args:
        groups: one label per item; None for an item (or for all) makes it a cluster of its own;
            a `Crossed` label counts by its prompt.
        size: how many items there are.

    Returns:
        (items,) cluster numbers, and how many clusters there are.
    """
    if groups is None:
        return np.arange(size), size
    if len(groups) != size:
        raise ValueError(f"{size} values but {len(groups)} groups")
    labels: Sequence[Hashable] = groups
    if any(issubclass(kind, Crossed) for kind in set(map(type, groups))):
        labels = [group.prompt if isinstance(group, Crossed) else group for group in groups]
    known: dict[Hashable, int] = {}
    # Where a label is met first; a million labels in a loop of Python would take a second.
    first = np.fromiter(map(known.setdefault, labels, range(size)), dtype=np.intp, count=size)
    if None in known:
        alone = np.array([label is None for label in labels])
        first[alone] = np.flatnonzero(alone)
    met, ids = np.unique(first, return_inverse=True)
    return ids.astype(np.intp), len(met)


@dataclass(frozen=True, slots=True)
class Dependence:
    """Which items of a list may depend on each other."""

    prompts: Index
    """(items,) numbers of the prompt groups, or of whatever the labels name."""
    users: Index | None
    """(items,) numbers of the users; None where no label tells of users."""

    @classmethod
    def of(cls, groups: Labels, size: int) -> "Dependence":
        """Return what the labels of `size` items say, see `cluster_ids`."""
        prompts, _ = cluster_ids(groups, size)
        if groups is None or not any(isinstance(group, Crossed) for group in groups):
            return cls(prompts, None)
        users = [group.user if isinstance(group, Crossed) else None for group in groups]
        return cls(prompts, cluster_ids(users, size)[0])

    def kinds(self, rows: Mask | None = None) -> tuple[Index, ...]:
        """Return the group numbers that errors are clustered by, for all items or those of `rows`.

        Prompts that each belong to one user lie within the users, who are then all there is to
        cluster by, and the other way round. A kind of which there is one group tells nothing.

        Returns:
            One array (items,) of numbers, or three where prompts and users cross: of the prompts,
            the users, and the pairs of both.
        """
        prompts = _renumbered(self.prompts if rows is None else self.prompts[rows])
        if self.users is None or not len(prompts):
            return (prompts,)
        users = _renumbered(self.users if rows is None else self.users[rows])
        n_prompts, n_users = int(prompts.max()) + 1, int(users.max()) + 1
        # Users who come once each tie no items together: what one prompt does is not theirs.
        if n_users < 2 or n_users == len(users):
            return (prompts,)
        if n_prompts < 2:
            return (users,)
        found, pairs = np.unique(prompts * n_users + users, return_inverse=True)
        n_pairs = len(found)
        if n_pairs == n_prompts:
            return (users,)
        if n_pairs == n_users:
            return (prompts,)
        return prompts, users, pairs

    def coarsest(self, rows: Mask | None = None) -> Index:
        """Return the numbers of the groups that are resampled: of two kinds, the one with fewer.

        A handful of groups cannot stand for a population, though; then it is the other kind.
        """
        kinds = sorted(self.kinds(rows)[:2], key=lambda ids: int(ids.max(initial=-1)))
        return kinds[0] if int(kinds[0].max(initial=-1)) + 1 >= _HANDFUL else kinds[-1]


def _renumbered(ids: Index) -> Index:
    """Number groups anew from 0 without gaps."""
    counts = np.bincount(ids)
    if counts.all():
        return ids
    return np.asarray((np.cumsum(counts > 0) - 1)[ids], dtype=np.intp)


def group_sums(table: Floats, ids: Index) -> Floats:
    """Return (groups, columns) sums of (items, columns); every group number has an item."""
    n = int(ids.max(initial=-1)) + 1
    if n == 0:
        return np.zeros((0, table.shape[1]))
    if n == len(table):
        sums = np.empty_like(table)
        sums[ids] = table
        return sums
    # `reduceat` adds up runs of a sorted table: one pass for all columns, where `bincount` would
    # take one for each.
    order = np.argsort(ids, kind="stable")
    return np.asarray(np.add.reduceat(table[order], np.searchsorted(ids[order], np.arange(n))))


def cluster(values: ArrayLike, groups: Labels = None) -> Clusters:
    """Sum values per cluster; where prompts and users cross, the rarer of them is the cluster.

    Args:
        values: (items,) or (items, columns); NaN marks a value that is absent and is left out.
        groups: one label per item, see `Dependence`.

    Returns:
        The clusters that hold at least one value, in the order of what they hold: the same items
        in another order give the same resamples.
    """
    table = np.asarray(values, dtype=np.float64)
    table = table[:, None] if table.ndim == 1 else table
    present = ~np.isnan(table)
    used: Mask = np.asarray(present.any(axis=1))
    ids = Dependence.of(groups, len(table)).coarsest(used)
    sums = group_sums(np.where(present, table, 0.0)[used], ids)
    counts = group_sums(present[used].astype(np.float64), ids)
    order = np.lexsort((*sums.T, *counts.T)) if len(sums) else np.arange(0)
    return Clusters(sums[order], counts[order])


def ratio(sums: Floats, counts: Floats) -> Floats:
    """Return sums / counts, NaN where nothing was counted."""
    return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)


def resample_weights(n_clusters: int, resamples: int, rng: np.random.Generator) -> Iterator[Floats]:
    """Yield bootstrap weights in chunks of bounded size.

    Each row says how often each cluster was drawn, with replacement, in one resample.

    Yields:
        (chunk, n_clusters) weights; every row sums to n_clusters.
    """
    rows = max(1, CHUNK_CELLS // max(n_clusters, 1))
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        drawn = rng.integers(n_clusters, size=(size, n_clusters), dtype=np.int64)
        drawn += np.arange(size)[:, None] * n_clusters
        counted = np.bincount(drawn.ravel(), minlength=size * n_clusters)
        yield counted.reshape(size, n_clusters).astype(np.float64)


@lru_cache(maxsize=2)
def _kept_weights(n_clusters: int, resamples: int, seed: int) -> NDArray[np.uint16]:
    """Return all weights of `resample_weights`, small enough to keep."""
    kept = np.empty((resamples, n_clusters), dtype=np.uint16)
    start = 0
    for weights in resample_weights(n_clusters, resamples, np.random.default_rng(seed)):
        kept[start : start + len(weights)] = weights
        start += len(weights)
    return kept


def seeded_weights(n_clusters: int, resamples: int, seed: int) -> Iterator[Floats]:
    """Yield the weights that belong to a seed, as `resample_weights` draws them.

    They depend on nothing else, so every metric and task of a report with as many clusters has
    the same: drawn once, they are kept.
    """
    if n_clusters > np.iinfo(np.uint16).max or n_clusters * resamples > _KEPT_CELLS:
        yield from resample_weights(n_clusters, resamples, np.random.default_rng(seed))
        return
    kept = _kept_weights(n_clusters, resamples, seed)
    rows = max(1, CHUNK_CELLS // max(n_clusters, 1))
    for start in range(0, resamples, rows):
        yield kept[start : start + rows].astype(np.float64)


def percentile_interval(drawn: Floats, *, level: float = 0.95) -> Interval:
    """Return the central interval of (resamples,) replicates; NaN ones are left out."""
    cut = (1 - level) / 2
    kept = drawn[~np.isnan(drawn)]
    low, high = np.quantile(kept, [cut, 1 - cut])
    return float(low), float(high)
