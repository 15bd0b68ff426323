"""How long work says how far it is."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
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
        self._bar = tqdm(total=total, desc=what, disable=False)

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
