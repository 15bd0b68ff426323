"""The speed of the board over a store of a million verdicts and 200 runs, in a real browser.

    python benchmarks/bench_board.py [STORE]

Makes the store (in a temporary folder, or at STORE, where it stays for the next time), starts
`mipo-eval board` on it and drives it with chromium: from the start of the server to the first page,
other rules for ties and other filters, every page from the menu, memory. Beside wall time stands
the processor time of the server, which other work on the machine does not change much.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from generated_store import fill
from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1]))  # the tests' browser harness

from mipo_eval.store import Store
from tests.dashboards.browser.driving import (
    Visitor,
    open_window,
    serve,
    start_browser,
)

METHODS, SEEDS, ITEMS, PREFERENCES = 40, 5, 1000, 5
"""(200 runs + 1 reference) x 1000 items x 5 preferences = 1,005,000 verdicts."""
FIRST_PAGE, FILTER_CHANGE, MEMORY = 2.0, 0.5, 800
"""Seconds, seconds, MiB."""
_LOOK = 8
"""Seconds a reader looks at the first page before choosing anything; the server uses them."""
_PAGES = ("Comparison", "Pairs", "Diversity", "Judges", "Run", "Label")
_CLICK = """element => new Promise(done => {
  const app = document.querySelector('[data-testid=stApp]');
  const start = performance.now();
  let began = false;
  const watch = new MutationObserver(() => {
    const state = app.dataset.testScriptState;
    if (state !== 'notRunning') began = true;
    else if (began) { watch.disconnect(); done((performance.now() - start) / 1000); }
  });
  watch.observe(app, {attributes: true});
  element.click();
})"""
"""Click, and tell the seconds until the server has drawn everything again."""


class Spent(NamedTuple):
    """What something took."""

    wall: float
    processor: float


class Server(NamedTuple):
    """The server's process, as Linux counts what it uses."""

    pid: int

    def processor(self) -> float:
        """Seconds of processor time so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100

    def peak(self) -> float:
        """MiB of memory at most so far."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024

    def timed(self, call: Callable[[], float | None]) -> Spent:
        """Return what a call took; its own wall time where it tells one."""
        wall, processor = time.perf_counter(), self.processor()
        told = call()
        elapsed = time.perf_counter() - wall if told is None else told
        return Spent(elapsed, self.processor() - processor)


def shown(what: str, spent: Spent, limit: float | None = None) -> bool:
    """Print a time and whether its limit holds."""
    beside = "" if limit is None else f" (limit {limit} s)"
    print(f"{what}: {spent.wall:.2f} s, {spent.processor:.2f} s of processor{beside}", flush=True)
    return limit is None or spent.wall <= limit


def click(window: Visitor, name: str) -> float:
    """Choose one of the rules for ties, and return the seconds until the page is drawn."""
    return float(window.page.get_by_role("radio", name=name).evaluate(_CLICK))


def open_first(window: Visitor) -> None:
    """Open the first page and wait for its picture."""
    window.open("")
    window.page.locator(".mipo-forest").first.wait_for()


def measure_floor(folder: Path) -> None:
    """Print what the first page takes where there is next to nothing to read.

    What the browser and Streamlit take by themselves: on a busy machine compare with this.
    """
    path = folder / "few.db"
    with Store.open(str(path)) as store:
        fill(store, methods=2, seeds=1, items=10, preferences=1)
    with sync_playwright() as driver, serve(path) as board:
        browser = start_browser(driver)
        window = open_window(browser, board)
        spent = Server(board.pid).timed(lambda: open_first(window))
        shown("first page over 30 verdicts, browser included", spent)
        browser.close()


def measure(path: Path) -> int:
    """Measure, print, and fail when a limit does not hold."""
    began = time.perf_counter()
    with sync_playwright() as driver, serve(path) as board:
        server = Server(board.pid)
        shown("server healthy", Spent(time.perf_counter() - began, server.processor()))
        browser = start_browser(driver)
        window = open_window(browser, board)
        spent = server.timed(lambda: open_first(window))
        kept = [shown("first page, browser included", spent, FIRST_PAGE)]
        print(f"  of it, before the browser drew: {window.page.evaluate(_BLANK):.2f} s")
        window.page.wait_for_timeout(1000 * _LOOK)
        for name in ("half", "a loss", "half", "a win"):
            spent = server.timed(lambda name=name: click(window, name))
            kept.append(shown(f"a tie is {name}", spent, FILTER_CHANGE))
        for title in _PAGES:
            shown(title, server.timed(lambda title=title: window.turn_to(title) and None))
        again = server.timed(lambda: window.turn_to("Leaderboard") and None)
        shown("Leaderboard again", again)
        peak = server.peak()
        print(f"memory at most {peak:.0f} MiB (limit {MEMORY} MiB)")
        if errors := window.errors:
            print("\n".join(errors))
        browser.close()
        return 0 if all(kept) and peak <= MEMORY and not errors else 1


_BLANK = "performance.getEntriesByType('paint').at(-1).startTime / 1000"


def main() -> int:
    """Make the store if it is not there, and measure."""
    with TemporaryDirectory() as folder:
        path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(folder) / "million.db"
        if not path.exists():
            with Store.open(str(path)) as store:
                size = {"methods": METHODS, "seeds": SEEDS}
                count = fill(store, **size, items=ITEMS, preferences=PREFERENCES)
                print(f"{count:,} verdicts of {METHODS * SEEDS} runs")
        measure_floor(Path(folder))
        return measure(path)


if __name__ == "__main__":
    sys.exit(main())
