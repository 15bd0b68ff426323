"""Waiting for another process or thread: as long as the slowest machine needs, but not for ever."""

import time
from collections.abc import Callable

HANG = 1500.0
"""Seconds after which something hangs. Below pytest's own limit, so that a test can say what."""


def wait_until(reached: Callable[[], bool], *, what: str) -> None:
    """Return as soon as `reached()`; fail, naming `what`, if it hangs."""
    deadline = time.monotonic() + HANG
    while not reached():
        assert time.monotonic() < deadline, f"{what}: not within {HANG:.0f} s"
        time.sleep(0.02)
