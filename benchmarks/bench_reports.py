"""The speed of reports over a store of a million verdicts: leaderboard and comparisons.

12 methods x 3 seeds, each with responses to the same items, rated by one judge; beside a plain
reading of all verdicts with pandas.
"""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import sqlalchemy as sa

from benchmarks.generated_store import fill
from benchmarks.results import Result, compared, median_seconds
from mipo_eval.evaluation.score import Snapshot
from mipo_eval.reports.comparison import ComparisonQuery, compare_runs
from mipo_eval.reports.leaderboard import LeaderboardQuery, leaderboard
from mipo_eval.store import Store
from mipo_eval.store.runs import list_runs
from mipo_eval.store.tables import verdicts

METHODS, SEEDS, PREFERENCES = 12, 3, 5
ITEMS = 5406
"""(36 runs + 1 reference) x 5406 items x 5 preferences = 1,000,110 verdicts."""


def measure(quick: bool) -> Iterator[Result]:
    """Make the store, and time what is shown of it."""
    with TemporaryDirectory() as folder:
        path = str(Path(folder) / "million.db")
        with Store.open(path) as store:
            size = {"methods": METHODS, "seeds": SEEDS, "preferences": PREFERENCES}
            count = fill(store, items=40 if quick else ITEMS, **size)
        with Store.open(path, mode="read") as store:
            yield from _timed(store, f"{count:,} verdicts of {METHODS * SEEDS} runs")


def plain(store: Store) -> pd.Series:
    """Read every verdict and group it in pandas: what a notebook does."""
    columns = (verdicts.c.item_key, verdicts.c.text_key, verdicts.c.rating)
    with store.read() as connection:
        frame = pd.DataFrame(connection.execute(sa.select(*columns)).fetchall())
    return frame.groupby(["item_key", "text_key"])["rating"].sum()


def _timed(store: Store, size: str) -> Iterator[Result]:
    runs = [run.run_id for run in list_runs(store)]
    values = LeaderboardQuery(ranked=False)
    kept = Snapshot(store)
    # Another seed draws everything again: dearer than any filter of the board.
    seeds = itertools.count()
    rows: list[tuple[str, str, Callable[[], object]]] = [
        ("Leaderboard with ranks", "<= 1.5", lambda: leaderboard(store, LeaderboardQuery())),
        ("Leaderboard without ranks", "", lambda: leaderboard(store, values)),
        (
            "The board's next filter", "",
            lambda: leaderboard(kept, LeaderboardQuery(seed=next(seeds))),
        ),
        ("Two runs compared", "", lambda: compare_runs(store, runs[:2], ComparisonQuery())),
    ]  # fmt: skip
    rows[0][2]()  # imports of scipy
    leaderboard(kept, values)
    ours = {}
    for name, wanted, call in rows:
        ours[name] = median_seconds(call)
        yield Result(name=name, size=size, ours=ours[name], wanted=wanted)
    yield compared(
        lambda: median_seconds(lambda: plain(store), 1),
        name="Leaderboard, beside all verdicts read and grouped in pandas, no statistics",
        size=size, ours=ours["Leaderboard with ranks"],
    )  # fmt: skip
