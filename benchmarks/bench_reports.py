"""The speed of reports over a store of a million verdicts: leaderboard and comparisons.

    python benchmarks/bench_reports.py [STORE]

Makes the store (in a temporary folder, or at STORE, where it stays for the next time): 12 methods
x 3 seeds, each with responses to the same items, rated by one judge. Prints wall and processor
time beside the limit, and beside a plain reading of all verdicts with pandas in the same run.
"""

import itertools
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import sqlalchemy as sa
from generated_store import fill

from mipo_eval.evaluation.score import Snapshot
from mipo_eval.reports.comparison import ComparisonQuery, compare_runs
from mipo_eval.reports.leaderboard import LeaderboardQuery, leaderboard
from mipo_eval.store import Store
from mipo_eval.store.runs import list_runs
from mipo_eval.store.tables import verdicts

METHODS, SEEDS, PREFERENCES = 12, 3, 5
ITEMS = 5406
"""(36 runs + 1 reference) x 5406 items x 5 preferences = 1,000,110 verdicts."""
LIMIT_SECONDS = 1.5


def timed(call: Callable[[], object], times: int = 3) -> tuple[float, float]:
    """Return the shortest (wall, processor) time of some calls, in seconds."""
    found = []
    for _ in range(times):
        wall, cpu = time.perf_counter(), time.process_time()
        call()
        found.append((time.perf_counter() - wall, time.process_time() - cpu))
    return min(found)


def plain(store: Store) -> pd.Series:
    """Read every verdict and group it in pandas: what a notebook does."""
    columns = (verdicts.c.item_key, verdicts.c.text_key, verdicts.c.rating)
    with store.read() as connection:
        frame = pd.DataFrame(connection.execute(sa.select(*columns)).fetchall())
    return frame.groupby(["item_key", "text_key"])["rating"].sum()


def measure(store: Store) -> int:
    """Measure, print, and fail when the limit does not hold."""
    with store.read() as connection:
        count = connection.execute(sa.select(sa.func.count()).select_from(verdicts)).scalar_one()
    runs = [run.run_id for run in list_runs(store)]
    print(f"{count:,} verdicts, {len(runs)} runs, {METHODS} methods x {SEEDS} seeds")
    values = LeaderboardQuery(ranked=False)
    kept = Snapshot(store)
    # Another seed draws everything again: dearer than any filter of the board.
    seeds = itertools.count()
    rows: list[tuple[str, Callable[[], object]]] = [
        ("leaderboard with ranks and tie letters", lambda: leaderboard(store, LeaderboardQuery())),
        ("leaderboard: means, seeds, intervals, ties", lambda: leaderboard(store, values)),
        ("the board's next filter", lambda: leaderboard(kept, LeaderboardQuery(seed=next(seeds)))),
        ("two runs compared", lambda: compare_runs(store, runs[:2], ComparisonQuery())),
    ]
    rows[0][1]()  # imports of scipy
    leaderboard(kept, values)
    found = [(what, *timed(call)) for what, call in rows]
    for what, wall, cpu in found:
        print(f"{what}: {wall:.2f} s, {cpu:.2f} s of processor (limit {LIMIT_SECONDS} s)")
    wall, _ = timed(lambda: plain(store), 1)
    print(f"plain: every verdict read and grouped in pandas, no statistics: {wall:.2f} s")
    return 0 if found[0][1] <= LIMIT_SECONDS else 1


def main() -> int:
    """Make the store if it is not there, and measure."""
    with TemporaryDirectory() as folder:
        path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(folder) / "million.db"
        if not path.exists():
            with Store.open(str(path)) as store:
                size = {"methods": METHODS, "seeds": SEEDS}
                fill(store, **size, items=ITEMS, preferences=PREFERENCES)
        with Store.open(str(path), mode="read") as store, suppress(KeyboardInterrupt):
            return measure(store)
    return 1


if __name__ == "__main__":
    sys.exit(main())
