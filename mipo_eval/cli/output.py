"""What the user sees: documents and tables on stdout, progress and remarks on stderr."""

import json
import sys
import time
from collections.abc import Callable, Mapping

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

_PLAIN_SECONDS = 10.0
_PLAIN_SHARE = 0.1
"""Of the time so far: the least between two lines, so that a day is not told in ten seconds."""


class Output:
    """Prints results, and draws the progress of one stage at a time."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._stdout = Console(highlight=False)
        self._stderr = Console(stderr=True, highlight=False)
        self._bar: Progress | None = None
        self._plain = _PlainProgress(self._stderr)

    def document(self, value: Mapping[str, object]) -> None:
        """Print one JSON document."""
        sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")

    def show(self, *parts: RenderableType) -> None:
        """Print tables and texts; nothing in `--json` mode."""
        if not self._as_json:
            for part in parts:
                # A line of text is the terminal's to wrap: what is copied from it stays whole.
                self._stdout.print(part, soft_wrap=isinstance(part, Text))

    def note(self, text: str) -> None:
        """Print a remark, such as the next useful command."""
        self.show(Text(text, style="dim"))

    def start(self, what: str, total: int, status: Callable[[], str] = str) -> None:
        """Begin a stage of `total` units; `status` says what else there is to say."""
        if not self._stderr.is_terminal:
            self._plain.start(what, total, status)
            return
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            _Status(status),
            console=self._stderr,
            transient=True,
        )
        self._bar.add_task(Text(what).plain, total=total)
        self._bar.start()

    def advance(self, units: int) -> None:
        """Note that more units are done."""
        if self._bar is None:
            self._plain.advance(units)
        else:
            self._bar.advance(self._bar.task_ids[0], units)

    def finish(self) -> None:
        """End the stage."""
        if self._bar is None:
            self._plain.finish()
        else:
            self._bar.stop()
            self._bar = None

    def steps(self, what: str) -> Callable[[int, int], None]:
        """Return a callback (done, total) that draws a stage from its first call to its last."""
        reached = 0

        def report(done: int, total: int) -> None:
            nonlocal reached
            if reached == 0:
                self.start(what, total)
            self.advance(done - reached)
            reached = done
            if done == total:
                self.finish()

        return report


class _Rate(ProgressColumn):
    """Units a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "", style="dim")


class _Status(ProgressColumn):
    """What a count cannot say: money spent, where a batch stands."""

    def __init__(self, status: Callable[[], str]) -> None:
        super().__init__()
        self._status = status

    def render(self, task: Task) -> Text:
        return Text(self._status(), style="dim")


class _PlainProgress:
    """Progress where there is no terminal: a line now and then, later on less often."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._what, self._total, self._done, self._began, self._said = "", 0, 0, 0.0, 0.0
        self._ended = False
        """The last line said that all is done, and need not be repeated."""
        self._status: Callable[[], str] = str

    def start(self, what: str, total: int, status: Callable[[], str]) -> None:
        self._what, self._total, self._done, self._ended = what, total, 0, False
        self._status = status
        self._began = self._said = time.monotonic()

    def advance(self, units: int) -> None:
        self._done += units
        now = time.monotonic()
        if now - self._said >= max(_PLAIN_SECONDS, _PLAIN_SHARE * (now - self._began)):
            self._say()

    def finish(self) -> None:
        if not self._ended:
            self._say()

    def _say(self) -> None:
        self._said, self._ended = time.monotonic(), self._done == self._total
        seconds = self._said - self._began
        rate = self._done / seconds if seconds else 0.0
        left = (
            f", {(self._total - self._done) / rate:.0f} s left"
            if rate and self._done < self._total
            else ""
        )
        status = self._status()
        said = f"{self._what}: {self._done}/{self._total} ({rate:.1f}/s, {seconds:.0f} s{left})"
        self._console.print(
            f"{said} {status}" if status else said,
            markup=False,
            soft_wrap=True,
        )
