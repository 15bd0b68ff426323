"""The speed of the board over a store of a million verdicts and 200 runs, in a real browser.

Drives `mipo-eval board` with chromium: from the start of the server to the first page, other rules
for ties and other filters, every page from the menu, memory. Beside wall time stands the processor
time of the server, which other work on the machine changes less.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from playwright.sync_api import sync_playwright

from benchmarks.generated_store import fill
from benchmarks.results import Result
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
  let last = start;
  const watch = new MutationObserver(() => { last = performance.now(); });
  watch.observe(app, {attributes: true, characterData: true, childList: true, subtree: true});
  const look = setInterval(() => {
    const still = performance.now() - last > 1000 && element.ariaChecked === 'true';
    if (!still || app.dataset.testScriptState !== 'notRunning') return;
    clearInterval(look);
    watch.disconnect();
    done((last - start) / 1000);
  }, 50);
  element.click();
})"""
"""Click, and tell the seconds until the page changed for the last time before a second of rest."""


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


def shown(name: str, size: str, spent: Spent, limit: float | None = None) -> Result:
    """Return a row."""
    wanted = "" if limit is None else f"<= {limit:g}"
    note = f"{spent.processor:.2f} s of the server's processor"
    return Result(name=name, size=size, ours=spent.wall, wanted=wanted, note=note)


def turn(window: Visitor, title: str) -> None:
    """Turn to a page and wait until it is drawn."""
    window.turn_to(title)


def click(window: Visitor, name: str) -> float:
    """Choose one of the rules for ties, and return the seconds until the page is drawn."""
    return float(window.page.get_by_role("radio", name=name).evaluate(_CLICK))


def open_first(window: Visitor) -> None:
    """Open the first page and wait for its picture."""
    window.open("")
    window.page.locator(".mipo-forest").first.wait_for()


def measure(quick: bool) -> Iterator[Result]:
    """Measure over a store with next to nothing to read, then over a large one.

    The first is what the browser and Streamlit take by themselves.
    """
    with TemporaryDirectory() as folder:
        few, many = Path(folder) / "few.db", Path(folder) / "many.db"
        with Store.open(str(few)) as store:
            fill(store, methods=2, seeds=1, items=10, preferences=1)
        yield from _driven(few, "30 verdicts", ("Comparison",))
        with Store.open(str(many)) as store:
            size = {"methods": METHODS, "seeds": SEEDS, "preferences": PREFERENCES}
            count = fill(store, items=10 if quick else ITEMS, **size)
        yield from _driven(many, f"{count:,} verdicts of {METHODS * SEEDS} runs", _PAGES)


def _driven(path: Path, size: str, pages: tuple[str, ...]) -> Iterator[Result]:
    began = time.perf_counter()
    with sync_playwright() as driver, serve(path) as board:
        server = Server(board.pid)
        up = Spent(time.perf_counter() - began, server.processor())
        yield shown("The board's server is up", size, up)
        browser = start_browser(driver)
        window = open_window(browser, board)
        spent = server.timed(lambda: open_first(window))
        yield shown("First page, the browser's drawing included", size, spent, FIRST_PAGE)
        window.page.wait_for_timeout(1000 * _LOOK)
        for name in ("half", "a win"):
            spent = server.timed(partial(click, window, name))
            yield shown(f"The first page where a tie is {name}", size, spent, FILTER_CHANGE)
        for title in (*pages, "Leaderboard"):
            spent = server.timed(partial(turn, window, title))
            yield shown(f"Turning to the page {title}", size, spent)
        peak = server.peak()
        yield Result(
            name="Memory of the board's server", size=size, ours=peak, unit="MiB",
            wanted=f"<= {MEMORY}",
        )  # fmt: skip
        if window.errors:
            raise ValueError("; ".join(window.errors))
        browser.close()
