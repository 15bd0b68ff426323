"""Waiting for another process or thread: as long as the slowest machine needs, but not for ever."""

import subprocess
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

HANG = 1500.0
"""Seconds after which something hangs. Below pytest's own limit, so that a test can say what."""


def wait_until(reached: Callable[[], bool], *, what: str) -> None:
    """Return as soon as `reached()`; fail, naming `what`, if it hangs."""
    deadline = time.monotonic() + HANG
    while not reached():
        assert time.monotonic() < deadline, f"{what}: not within {HANG:.0f} s"
        time.sleep(0.02)


def wait_until_served(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Return once a server answers at `url`; fail, with the end of its log, if it ends first."""

    def served() -> bool:
        ended = process.poll()
        assert ended is None, f"the server ended with {ended}:\n{log.read_text()[-3000:]}"
        with suppress(OSError), urllib.request.urlopen(url, timeout=HANG) as answer:
            return bool(answer.status == 200)
        return False

    wait_until(served, what=f"an answer at {url}")
