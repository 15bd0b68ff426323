"""How long work says how far it is."""

import asyncio
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from functools import wraps
from threading import Event
from typing import Any, ParamSpec, Protocol, TypeVar

Done = TypeVar("Done")
_Asked = ParamSpec("_Asked")

_TICK_SECONDS = 1.0


class Progress(Protocol):
    """Told how far the work is; drawn by the command line."""

    def start(self, what: str, total: int, status: Callable[[], str] = str) -> None:
        """Begin a stage of `total` units; `status` says more than a count can, such as the cost."""
        ...

    def advance(self, units: int) -> None:
        """Note that more units are done; 0 only shows that time passes."""
        ...

    def finish(self) -> None:
        """End the stage."""
        ...

    def warn(self, text: str) -> None:
        """Say between two stages what the user should see before the work goes on."""
        ...


Told = Callable[[int], None]
"""Told how much more is done."""


@contextmanager
def shown(progress: Progress | None, what: str, total: int) -> Iterator[Told]:
    """Show a stage from here to the end of the block; what it gives is told of what is done."""
    if progress is None:
        yield lambda _: None
        return
    progress.start(what, total)
    try:
        yield progress.advance
    finally:
        progress.finish()


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the work, as its progress is shown."""

    what: str
    total: int
    status: Callable[[], str] = str


def run_shown(work: Coroutine[Any, Any, Done], progress: Progress, stage: Stage) -> Done:
    """Run `work` to its end as one stage; meanwhile show every second that time passes.

    Otherwise hours of waiting for a batch would look like a hang.
    """
    progress.start(stage.what, stage.total, stage.status)
    try:
        return run_ticking(work, progress)
    finally:
        progress.finish()


def run_ticking(work: Coroutine[Any, Any, Done], progress: Progress) -> Done:
    """Run `work` to its end within a stage, and show every second that time passes."""

    async def tick() -> None:
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            progress.advance(0)

    async def both() -> Done:
        clock = asyncio.create_task(tick())
        try:
            return await work
        finally:
            clock.cancel()  # not awaited: an interrupt just now would be taken for its end

    return asyncio.run(both())


def duration(seconds: float) -> str:
    """Return a time as it is shown to people."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


@dataclass(frozen=True, slots=True)
class Planned:
    """A stage that is still to come."""

    by: str
    """Who is asked; a step takes as long for each unit as an earlier one by the same."""
    units: int
    """How much of its total is left to do."""
    seconds: float | None
    """Of all its units, as far as it is known before any of them is done."""


class Steps:
    """Stages of one job: each says which step it is, and how long all that is left takes."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._coming: list[Planned] = []
        self._now = Planned("", 0, None)
        self._begun = self._total = self._done = 0
        self._began = 0.0
        self._pace: dict[str, float] = {}
        """Seconds a unit, of those who were asked in this job."""

    def plan(self, coming: Sequence[Planned]) -> None:
        """Say what comes after the stages that have begun; it may be said again, and better."""
        self._coming = list(coming)

    def start(self, what: str, total: int, status: Callable[[], str] = str) -> None:
        """Begin the next step."""
        self._now = self._coming.pop(0) if self._coming else Planned(what, total, None)
        self._begun, self._total, self._done = self._begun + 1, total, 0
        self._began = time.monotonic()
        n_steps = self._begun + len(self._coming)
        if n_steps == 1:
            self._progress.start(what, total, status)
            return

        def told() -> str:
            return "  ".join(part for part in (self.left(), status()) if part)

        self._progress.start(f"Step {self._begun} of {n_steps}: {what}", total, told)

    def advance(self, units: int) -> None:
        """Note what is done."""
        self._done += units
        self._progress.advance(units)

    def finish(self) -> None:
        """End the step, and remember how long it took."""
        self._measure()
        self._progress.finish()

    def warn(self, text: str) -> None:
        """Hand it on."""
        self._progress.warn(text)

    def left(self) -> str:
        """Return how long this step and all that come after it take, as far as that is known."""
        self._measure()
        todo = self._total - self._done
        steps = [Planned(self._now.by, todo, self._now.seconds if not self._made() else None)]
        steps += self._coming
        known = [self._seconds(step) for step in steps if step.units]
        seconds = sum(one for one in known if one is not None)
        unknown = known.count(None)
        if not known:
            return ""
        later = f"{unknown} step{'s' * (unknown > 1)} of unknown time"
        if unknown == len(known):
            return "time left not known yet" if todo else f"{later} left"
        others = f" and {later}" if unknown else ""
        return f"about {duration(seconds)} left in all{others}"

    def _made(self) -> int:
        """Return how much was done in this step, beside what was known before."""
        return max(0, self._done - (self._total - self._now.units))

    def _measure(self) -> None:
        if made := self._made():
            self._pace[self._now.by] = (time.monotonic() - self._began) / made

    def _seconds(self, step: Planned) -> float | None:
        pace = self._pace.get(step.by)
        return step.seconds if pace is None else pace * step.units


_STOPPED: ContextVar[Event | None] = ContextVar("_STOPPED", default=None)
"""Set when the caller was interrupted while the work went on in another thread."""


def outside_loop(function: Callable[_Asked, Done]) -> Callable[_Asked, Done]:
    """Let a function that runs event loops of its own be called inside one."""

    @wraps(function)
    def called(*args: _Asked.args, **kwargs: _Asked.kwargs) -> Done:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return function(*args, **kwargs)
        stopped = Event()

        def work() -> Done:
            _STOPPED.set(stopped)
            return function(*args, **kwargs)

        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(copy_context().run, work)
            try:
                return future.result()
            except KeyboardInterrupt:
                stopped.set()  # what is in flight ends, and is stored, before this returns
                raise

    return called


class Bars:
    """Draws one stage at a time: a bar in a terminal, and a notebook's own bar in a notebook."""

    def __init__(self) -> None:
        self._bar: Any = None

    def start(self, what: str, total: int, status: Callable[[], str] = str) -> None:
        """Begin a stage."""
        from tqdm.auto import tqdm

        self.finish()
        self._status = status
        # Not only where it is said: libraries are kept silent by TQDM_DISABLE.
        self._bar = tqdm(total=total, desc=what, disable=False, miniters=0)  # 0: time passes, too

    def advance(self, units: int) -> None:
        """Note what is done.

        Raises:
            KeyboardInterrupt: the caller was interrupted meanwhile.
        """
        if (stopped := _STOPPED.get()) and stopped.is_set():
            raise KeyboardInterrupt
        if self._bar is not None:
            self._bar.set_postfix_str(self._status(), refresh=False)
            self._bar.update(units)

    def finish(self) -> None:
        """End the stage."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def warn(self, text: str) -> None:
        """Print a line on stderr."""
        sys.stderr.write(f"mipo-eval: {text}\n")
