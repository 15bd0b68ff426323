"""Whom a method serves well and whom badly: by user, by preference, by length of the response."""

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mipo_eval.evaluation.score import Snapshot
from mipo_eval.records import Item, Run
from mipo_eval.stats.bootstrap import Crossed, Floats, Index, Interval, Mask
from mipo_eval.stats.paired import Comparison, compare
from mipo_eval.stats.seeds import over_seeds
from mipo_eval.store.items import get_items
from mipo_eval.store.verdicts import run_ratings

_TENTH = 0.1
_SHUFFLES = 500
_RECURS = 5
"""Items from which on a preference has a line of its own."""
_LINES = 12
OTHER = "all other preferences"
_AS_LONG = 0.1
"""Share of the longer response by which two that are about as long may differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What a metric is for each user; units are those of the metric."""

    users: tuple[Hashable, ...]
    """Those with a value, the worst served first."""
    means: Floats
    """(users,) mean over a user's items."""
    items: Index
    """(users,) how many items that mean is over."""
    worst_tenth: float
    """Mean over the worst served tenth of users, one at least."""
    by_chance: float
    """What that tenth would be if all users were served alike: with few items a user, somebody is
    always unlucky."""
    p_alike: float
    """Share of shuffles of all items among users that have a tenth served as badly."""


def by_user(values: Floats, groups: Sequence[object], *, lower: bool = False) -> Served | None:
    """Return how a metric differs between users; None where fewer than two are named.

    Args:
        values: (items,); NaN where there is none.
        groups: of the items, with their users.
        lower: whether a lower value is better.
    """
    of = [group.user if isinstance(group, Crossed) else None for group in groups]
    has = ~np.isnan(values) & np.array([user is not None for user in of], dtype=bool)
    names = list(dict.fromkeys(user for user, known in zip(of, has, strict=True) if known))
    if len(names) < 2:
        return None
    place = {user: number for number, user in enumerate(names)}
    users = np.array([place[user] for user, known in zip(of, has, strict=True) if known])
    own = values[has]
    counts = np.bincount(users)
    sign = -1 if lower else 1
    random = np.random.default_rng(0)

    def means(order: Index) -> Floats:
        return np.bincount(users[order], own) / counts

    def tenth(found: Floats) -> float:
        worst = np.sort(sign * found)[: max(1, round(_TENTH * len(found)))]
        return float(sign * worst.mean())

    found = means(np.arange(len(own)))
    shuffled = np.array([tenth(means(random.permutation(len(own)))) for _ in range(_SHUFFLES)])
    worst = tenth(found)
    order = np.argsort(sign * found, kind="stable")
    as_bad = int((sign * shuffled <= sign * worst + 1e-9).sum())
    return Served(
        users=tuple(names[number] for number in order.tolist()),
        means=found[order],
        items=counts[order],
        worst_tenth=worst,
        by_chance=float(shuffled.mean()),
        p_alike=(1 + as_bad) / (1 + _SHUFFLES),
    )


class RatedPreferences(NamedTuple):
    """Ratings of several methods, one by one."""

    names: Sequence[str]
    """(ratings,) what was wished for."""
    values: Floats
    """(ratings, methods) means over seeds; NaN without a rating."""
    groups: Sequence[Crossed]


def by_preference(
    now: Snapshot, methods: Sequence[Sequence[Run]], judge: str, task: str
) -> RatedPreferences | None:
    """Return what a judge rated on each preference; None where it gave no ratings.

    A preference that recurs has its own name; where hardly one does, as when every user puts it in
    words of their own, they are told apart by their place among the item's.

    Args:
        now: the store.
        methods: each one's runs, one a seed.
        judge: its key.
        task: of whose items.
    """
    items: dict[str, Item] = {}
    for list_key in {run.list_key for runs in methods for run in runs}:
        items |= {item.key: item for of, item in get_items(now.store, list_key) if of == task}
    rows = [(key, aspect) for key, one in items.items() for aspect in range(len(one.preferences))]
    place = {row: number for number, row in enumerate(rows)}
    values = np.full((len(rows), len(methods), max(map(len, methods))), np.nan)
    for column, runs in enumerate(methods):
        for seed, run in enumerate(runs):
            rated = run_ratings(now.store, run, [judge])[judge]
            for (key, _, aspect), rating in rated.items():
                if (key, aspect) in place:
                    values[place[key, aspect], column, seed] = rating
    if np.isnan(values).all():
        return None
    return RatedPreferences(
        names=_names([(items[key].preferences[aspect], aspect) for key, aspect in rows]),
        values=over_seeds(values),
        groups=[Crossed(items[key].group, items[key].user_id) for key, _ in rows],
    )


def _names(wishes: Sequence[tuple[str, int]]) -> list[str]:
    found = Counter(text for text, _ in wishes)
    own = {text for text, n in found.most_common(_LINES) if n >= _RECURS}
    if not own:
        return [f"preference {aspect + 1} of an item" for _, aspect in wishes]
    return [text if text in own else OTHER for text, _ in wishes]


class Part(NamedTuple):
    """A difference on a part of the items."""

    name: str
    found: Comparison


def parts(
    names: Sequence[str], values: Floats, groups: Sequence[object], span: Interval | None
) -> list[Part]:
    """Return the difference of two columns for each name, the largest first.

    These are for looking where a difference comes from: none is corrected for the others.

    Args:
        names: one a line.
        values: (lines, 2).
        groups: of the items behind the lines.
        span: lowest and highest value there can be.
    """
    of = np.array(names, dtype=object)
    wanted = ((name, np.asarray(of == name)) for name in dict.fromkeys(names))
    found = [
        Part(name, one) for name, mask in wanted for one in _within(mask, values, groups, span)
    ]
    return sorted(found, key=lambda part: -part.found.difference)


def by_length(
    values: Floats, lengths: Floats, groups: Sequence[object], span: Interval | None
) -> list[Part]:
    """Return the difference of two methods where the first is longer, as long, and shorter."""
    first, second = lengths.T
    within = np.abs(first - second) <= _AS_LONG * np.fmax(first, second)
    masks = {
        "longer": (first > second) & ~within,
        "about as long": within,
        "shorter": (first < second) & ~within,
    }
    return [
        Part(name, one)
        for name, mask in masks.items()
        for one in _within(mask, values, groups, span)
    ]


def _within(
    mask: Mask, values: Floats, groups: Sequence[object], span: Interval | None
) -> Iterator[Comparison]:
    rows = np.flatnonzero(mask & ~np.isnan(values).any(axis=1))
    if len(rows):
        own = [groups[row] for row in rows.tolist()]
        yield compare(values[rows, 0], values[rows, 1], own, span=span)
