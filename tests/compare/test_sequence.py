"""Judging until it is decided: whole groups in an order of the seed, a look after each few."""

from collections.abc import Sequence

import pytest

from mipo_eval.compare.sequence import Stopped, Stopping, judge_until_decided
from mipo_eval.records import Item
from mipo_eval.verdict import PairVerdict, Verdict


def entries(count: int = 400) -> list[tuple[str, Item]]:
    return [
        (
            "tea",
            Item(item_id=f"t{n}", prompt=f"Tea {n}?", preferences=("x",), group_id=f"g{n // 4}"),
        )
        for n in range(count)
    ]


def walk(
    said: Verdict | None,
    *,
    of: list[tuple[str, Item]] | None = None,
    margin: float | None = None,
    seed: int = 0,
) -> tuple[Stopped, list[list[str]]]:
    """Return how it ended, and the items of each look."""
    asked: list[list[str]] = []
    listed = of or entries()

    def ask(rows: Sequence[int]) -> list[PairVerdict]:
        asked.append([listed[row][1].item_id for row in rows])
        return [PairVerdict(winner=said, reason=None if said else "no reply")] * len(rows)

    when = Stopping(margin=margin, alpha=0.05, seed=seed)
    return judge_until_decided(listed, ask, when)["tea"], asked


def test_it_stops_when_one_is_better_and_asks_whole_groups() -> None:
    stopped, asked = walk("a")
    assert stopped.decided == "first"
    assert walk("b")[0].decided == "second"
    assert [len(look) for look in asked] == [32] * len(asked)
    assert (stopped.looks, stopped.groups, stopped.n_groups) == (len(asked), 8 * len(asked), 100)
    assert len(stopped.rows) == 32 * len(asked) < 400
    for look in asked:
        groups = [int(name[1:]) // 4 for name in look]
        assert all(groups.count(group) == 4 for group in groups)


def test_the_order_is_the_seeds_and_not_the_files() -> None:
    first, again = walk("a")[1], walk("a", of=entries()[::-1])[1]
    assert [sorted(look) for look in first] == [sorted(look) for look in again]
    assert sorted(walk("a", seed=1)[1][0]) != sorted(first[0])
    assert sorted(first[0]) != sorted(name for name in (f"t{n}" for n in range(32)))


@pytest.mark.parametrize(("margin", "decided"), [(None, None), (40.0, "equivalent"), (0.5, None)])
def test_only_a_margin_can_show_that_nobody_is_better(
    margin: float | None, decided: str | None
) -> None:
    stopped, asked = walk("tie", margin=margin)
    assert stopped.decided == decided
    assert (len(stopped.rows) == 400) == (decided is None)
    assert len(asked[-2]) > 32 or decided  # later looks are larger


def test_without_a_verdict_everything_is_asked_and_nothing_decided() -> None:
    stopped, _ = walk(None)
    assert (stopped.decided, len(stopped.rows)) == (None, 400)
