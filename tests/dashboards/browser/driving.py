"""A real browser in front of a real server: what it asked for, what it showed, what it ran."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from mipo_eval import settings
from tests.waiting import HANG, wait_until_served

if TYPE_CHECKING:
    from playwright.sync_api import (
        Browser,
        BrowserContext,
        Dialog,
        Locator,
        Page,
        Playwright,
        Request,
    )

SETTLED = '[data-testid="stApp"][data-test-script-state="notRunning"]'
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def find_chromium() -> str | None:
    """Where a browser is; None without one."""
    return next((path for name in _BROWSERS if (path := shutil.which(name))), None)


@dataclass
class Board:
    """A running `mipo-eval board`."""

    url: str
    store: Path
    pid: int
    """Of the server."""

    def address(self, page: str, **choices: str) -> str:
        """The address of a view."""
        return f"{self.url}/{page}" + (f"?{urlencode(choices)}" if choices else "")


@contextmanager
def serve(store: Path, *options: str) -> Iterator[Board]:
    """Run the command as a user does, until the end of the block."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mipo_eval", "board", "--store", str(store)]
    command += [f"--server.port={port}", "--server.address=127.0.0.1", "--server.headless=true"]
    log = store.with_suffix(".log")
    environment = {**os.environ, settings.STORE: str(store)}
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, *options], stdout=out, stderr=out, env=environment, cwd=store.parent
        )
        base = next((o.partition("=")[2] for o in options if "baseUrlPath" in o), "")
        board = Board(f"http://127.0.0.1:{port}" + (f"/{base}" if base else ""), store, process.pid)
        try:
            wait_until_served(f"{board.url}/_stcore/health", process, log)
            yield board
        finally:
            process.terminate()
            process.wait(HANG)
            print(log.read_text(), file=sys.stderr)  # noqa: T201 - shown where a test fails


@dataclass
class Visitor:
    """One person's browser window, and everything it did."""

    board: Board
    page: "Page"
    requests: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, board: Board, context: "BrowserContext") -> "Visitor":
        """Open a window that notes every request and every dialog."""
        visitor = cls(board, context.new_page())

        def note(request: "Request") -> None:
            visitor.requests.append(request.url)

        def answer(dialog: "Dialog") -> None:
            visitor.dialogs.append(dialog.message)
            dialog.dismiss()

        context.on("request", note)
        context.on(
            "dialog", lambda dialog: (visitor.dialogs.append(dialog.message), dialog.accept())
        )
        return visitor

    def open(self, page: str, **choices: str) -> "Visitor":
        """Go to a view by its address, and wait until all of it is there."""
        self.page.goto(self.board.address(page, **choices))
        self.page.get_by_test_id("stSidebarNavLink").first.wait_for(state="attached")
        return self.settle()

    def turn_to(self, title: str) -> "Visitor":
        """Go to a page by the menu, without loading the board anew."""
        unfold = self.page.get_by_test_id("stExpandSidebarButton")
        if unfold.is_visible():  # on a telephone the menu covers the page
            unfold.click()
        self.page.get_by_test_id("stSidebarNavLink").filter(has_text=title).click()
        self.page.get_by_role("heading", level=1, name=title, exact=True).wait_for()
        return self.settle()

    def settle(self) -> "Visitor":
        """Wait until the server has drawn everything."""
        self.page.wait_for_selector(SETTLED)
        self.page.wait_for_timeout(120)  # a rerun that an element asked for has begun by now
        self.page.wait_for_selector(SETTLED)
        return self

    @property
    def errors(self) -> list[str]:
        """Tracebacks and refusals on the page."""
        found: Locator = self.page.get_by_test_id("stException")
        refused = self.page.get_by_text("The board cannot show this.")
        return [*found.all_inner_texts(), *refused.all_inner_texts()]

    @property
    def foreign(self) -> list[str]:
        """Requests to anyone but the board's server."""
        own = (self.board.url, self.board.url.replace("http", "ws", 1), "data:", "blob:")
        return [url for url in self.requests if not url.startswith(own)]

    @property
    def faint(self) -> list[str]:
        """Texts whose contrast to what is behind them is below 4.5."""
        return list(self.page.evaluate(_FAINT))

    @property
    def overflow(self) -> int:
        """Pixels by which the page is wider than the window."""
        return int(
            self.page.evaluate(
                "document.querySelector('[data-testid=stMain]').scrollWidth"
                " - document.querySelector('[data-testid=stMain]').clientWidth"
            )
        )


_FAINT = """() => {
  const pen = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const read = colour => {
    pen.clearRect(0, 0, 1, 1); pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = pen.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, below) => [0, 1, 2].map(k => top[k] * top[3] + below[k] * (1 - top[3]));
  const light = colour => colour.map(c => c / 255)
    .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, k) => sum + c * [0.2126, 0.7152, 0.0722][k], 0);
  const left_out = '[disabled], [data-stale=true], [data-testid=stSlider], ' +
    '[data-testid=stIconMaterial], script, style, canvas, caption';
  const found = [];
  for (const one of document.querySelectorAll('body *')) {
    const own = [...one.childNodes].filter(n => n.nodeType === 3 && n.data.trim());
    if (!own.length || !one.checkVisibility({opacityProperty: true, visibilityProperty: true}))
      continue;
    if (one.closest(left_out)) continue;
    let ink = read(getComputedStyle(one).color), behind = [];
    for (let up = one; up; up = up.parentElement) {
      const style = getComputedStyle(up);
      behind.unshift(read(style.backgroundColor));
      ink[3] *= Number(style.opacity);
    }
    const ground = behind.reduce((below, top) => over(top, below), [255, 255, 255]);
    const [a, b] = [light(over(ink, ground)), light(ground)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) found.push(`${ratio.toFixed(2)} ${own[0].data.trim().slice(0, 60)}`);
  }
  return [...new Set(found)];
}"""
"""What is drawn on a canvas has no text to measure; disabled controls need no contrast, nor what is
about to be drawn anew."""


def open_window(
    browser: "Browser", board: Board, *, width: int = 1280, scheme: str = "light"
) -> Visitor:
    """Open a window of that width with the user's taste for light or dark."""
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme=scheme,  # type: ignore[arg-type]
        accept_downloads=True,
    )
    context.set_default_timeout(HANG * 1000)
    return Visitor.of(board, context)


def downloaded(visitor: Visitor, button: "Locator") -> str:
    """Press a download button and return what came."""
    with visitor.page.expect_download() as waited:
        button.click()
    return Path(waited.value.path()).read_text(encoding="utf-8-sig")


def start_browser(driver: "Playwright") -> "Browser":
    """Start the browser of this machine; root in a container has no sandbox to put it in."""
    sandboxless = ["--no-sandbox"] if os.geteuid() == 0 else []
    return driver.chromium.launch(executable_path=find_chromium(), args=sandboxless)
