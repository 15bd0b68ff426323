"""How long work says how far it is."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

Done = TypeVar("Done")

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
            clock.cancel()
            with suppress(asyncio.CancelledError):
                await clock

    return asyncio.run(both())
