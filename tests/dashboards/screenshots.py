"""Pictures of the board for the README: `make screenshots` writes them to docs/screenshots.

They are taken of a store that `mipo-eval demo` fills, or of the one that is named: of a store with
runs on everyday, such as that of `make demo-real`, there is one picture, for docs/real_model.md.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from mipo_eval.dashboards.links import run_name
from mipo_eval.dashboards.tables.pairs import pairings
from mipo_eval.store import Store
from mipo_eval.store.runs import list_runs
from tests.dashboards.browser import driving

FOLDER = Path(__file__).parents[2] / "docs" / "screenshots"
_SIZES = {
    "leaderboard": (1440, 760),
    "pairs": (1180, 900),
    "comparison": (1180, 900),
    "everyday": (1180, 930),
}
_DRAWN = "!document.querySelector('[data-testid=stSkeleton]')"
"""Tables and plots come after the page itself."""
_COLOURS = 128
"""Of a picture: a page has few, and so its file is small."""


def _demo(folder: Path) -> Path:
    store = folder / "demo.db"
    subprocess.run(
        [sys.executable, "-m", "mipo_eval", "demo", "--store", str(store)], check=True, cwd=folder
    )
    return store


def _choices(store: Path) -> dict[str, dict[str, str]]:
    """Return what is chosen on each page: the last checkpoint against the demo's base model."""
    with Store.open(str(store), mode="read") as opened:
        if any(run.suite == "everyday" for run in list_runs(opened)):
            return {"everyday": {"suite": "everyday", "metric": "restraint"}}
        runs = [run for run in list_runs(opened) if run.suite == "demo"]
        base = next(run for run in runs if (run.model, run.prompting) == ("demo", "personalized"))
        found = pairings(opened, runs[0].run_id, base.run_id)
    won = [p.position for p in found if any(v.winner == "a" for v in p.verdicts.values())]
    pair = {"a": run_name(runs[0]), "b": run_name(base), "item": str(won[0] if won else 0)}
    return {"leaderboard": {"suite": "demo"}, "comparison": {"suite": "demo"}, "pairs": pair}


def _shrink(path: Path) -> None:
    from PIL import Image

    with Image.open(path) as picture:
        picture.convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE).save(
            path, optimize=True
        )


def take(store: Path) -> None:
    """Take every picture."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with driving.serve(store) as board, sync_playwright() as driver:
        browser = driving.start_browser(driver)
        for page, choices in _choices(store).items():
            width, height = _SIZES[page]
            visitor = driving.open_window(browser, board, width=width)
            visitor.page.set_viewport_size({"width": width, "height": height})
            visitor.open("" if page in {"leaderboard", "everyday"} else page, **choices)
            visitor.page.wait_for_function(_DRAWN)
            visitor.page.wait_for_timeout(1_000)  # plots grow into their place
            path = FOLDER / f"{page}.png"
            visitor.page.screenshot(path=path)
            _shrink(path)
        browser.close()


def main() -> None:
    """Take the pictures of the store named on the command line, or of a new demo."""
    if len(sys.argv) > 1:
        take(Path(sys.argv[1]).absolute())
        return
    with tempfile.TemporaryDirectory() as folder:
        take(_demo(Path(folder)))


if __name__ == "__main__":
    main()
