"""What the user sees: documents, tables and lines on stdout, progress and remarks on stderr.

A string in a cell or a line is shown inert, as it stands: it may come from a model or a file.
"""

import json
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.padding import Padding
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
from rich.table import Table
from rich.text import Text

from mipo_eval import settings
from mipo_eval.evaluation.controls import winners
from mipo_eval.keys import masked
from mipo_eval.records import Run, Score
from mipo_eval.reports.labels import LABELS, decimals
from mipo_eval.reports.names import RowRule, run_names
from mipo_eval.signature import Signature
from mipo_eval.store.judges import MARK, reasons_text

if TYPE_CHECKING:
    from mipo_eval.stats.length import LengthControlled
    from mipo_eval.stats.paired import Comparison

Failing = Mapping[str, Sequence[str]]
"""By a judge's key, why the judge must not be believed."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_OF_CONTROLS = {"win_rate_half_ties", "rating_mean"}
"""What is shown of a control entrant; all of it is stored."""
_FOLDED = 160
"""Characters."""
_PLAIN_SECONDS = 10.0
_PLAIN_SHARE = 0.1
"""Of the time so far: the least between two lines, so that a day is not told in ten seconds."""


class Output:
    """Prints the result of a command, and draws the progress of one stage at a time."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._stdout = Console(highlight=False)
        self._stderr = Console(stderr=True, highlight=False)
        self._bar: Progress | None = None
        self._plain = _PlainProgress(self._stderr)

    @property
    def width(self) -> int:
        """Characters in a line of stdout."""
        return self._stdout.width

    def document(self, value: Mapping[str, object]) -> None:
        """Print one JSON document; nothing without `--json`."""
        if self._as_json:
            text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
            sys.stdout.write(text + "\n")

    def show(self, *parts: RenderableType) -> None:
        """Print tables and texts; nothing with `--json`."""
        if not self._as_json:
            for part in parts:
                # A line of text is the terminal's to wrap: what is copied from it stays whole.
                self._stdout.print(part, soft_wrap=isinstance(part, Text))

    def warn(self, text: str) -> None:
        """Print a line that must be seen whatever the output is read by: on stderr."""
        self._stderr.print(Text(f"mipo-eval: {text}", style="yellow"), soft_wrap=True)

    def tell(self, text: str) -> None:
        """Print how far the work is, as a line on stderr that stays."""
        self._stderr.print(inert(text), soft_wrap=True)

    def note(self, text: str) -> None:
        """Print a remark."""
        self.show(inert(text, "dim"))

    def suggest(self, what: str, *command: str) -> None:
        """Print the next useful command, with the store that this one was given."""
        context = click.get_current_context(silent=True)
        url = str(context.params.get("store") or "") if context else ""
        given = url and url != settings.store_url() and masked(url) == url
        line = shlex.join([*command, *(("--store", url) if given else ())])
        self.note(f"{what}: mipo-eval {line}")

    def start(self, what: str, total: int, status: Callable[[], str] = str) -> None:
        """Begin a stage of `total` units; `status` says what else there is to say."""
        if not self._stderr.is_terminal:
            self._plain.start(what, total, status)
            return
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Dim(lambda task: _pace(task.speed or 0.0)),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            _Dim(lambda _: status()),
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


def _pace(rate: float) -> str:
    """Return how fast it goes, from units per second; "" where that is not known."""
    if rate >= 0.1:
        return f"{rate:.1f}/s"
    return f"{1 / rate:.0f} s each" if rate else ""


class _Dim(ProgressColumn):
    """What is said besides the count: the rate, money spent, where a batch stands."""

    def __init__(self, said: Callable[[Task], str]) -> None:
        super().__init__()
        self._said = said

    def render(self, task: Task) -> Text:
        return Text(self._said(task), style="dim")


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
        unfinished = rate and not self._ended
        left = f", {(self._total - self._done) / rate:.0f} s left" if unfinished else ""
        pace = _pace(rate) + ", " if rate and seconds >= 1 else ""  # a blink has none
        said = f"{self._what}: {self._done}/{self._total} ({pace}{seconds:.0f} s{left})"
        self._console.print(f"{said} {self._status()}".rstrip(), markup=False, soft_wrap=True)


def inert(text: str, style: str = "") -> Text:
    """Return text that prints as itself: no markup, no escape sequences, no direction marks."""
    return Text(_CONTROL.sub("\ufffd", text), style=style)


def wrapped(text: str, style: str = "") -> RenderableType:
    """Return a sentence that is broken between words where the terminal ends."""
    return Padding(inert(text, style), 0)


def folded(text: str) -> str:
    """Return the beginning of a thinking: it is long, and seldom what is looked for."""
    if len(text) <= _FOLDED:
        return text
    return f"{text[:_FOLDED].rstrip()} ... ({len(text):,} characters; see all with --json)"


class Grid(Table):
    """A table as all commands draw it: words at the left, numbers at the right."""

    def __init__(
        self,
        *words: str,
        numbers: Iterable[str | Text] = (),
        last: str | None = None,
        wrap: bool = False,
        edge: bool = False,
    ) -> None:
        """Name the columns.

        Args:
            words: columns of text, which is folded where the terminal is narrow.
            numbers: columns of numbers, after the words.
            last: a column of text after the numbers.
            wrap: whether numbers may be wrapped, such as those with an interval.
            edge: whether a space stands before the first column.
        """
        super().__init__(header_style="bold", box=SIMPLE_HEAD, pad_edge=edge)
        for word in words:
            self.add_column(inert(word), overflow="fold")
        for number in numbers:
            header = inert(number) if isinstance(number, str) else number
            self.add_column(header, justify="right", no_wrap=not wrap)
        if last is not None:
            self.add_column(inert(last), overflow="fold")

    def add(self, *cells: str | Text, style: str = "") -> None:
        """Add a row."""
        shown = (inert(cell) if isinstance(cell, str) else cell for cell in cells)
        self.add_row(*shown, style=style or None)


def facts(rows: Iterable[Sequence[str]], style: str = "") -> Table:
    """Return rows of a name, in that style, and what is to be said of it."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True, style=style or None)
    for name, said in rows:
        table.add_row(inert(name), inert(said))
    table.columns[1].overflow = "fold"
    return table


def number(value: float | None, form: str = ".1f", *, absent: str = "") -> str:
    """Return a number as it is printed, or the word for one that is absent."""
    return absent if value is None else f"{value:{form}}"


def interval(ends: tuple[float, float] | None, form: str = ".1f") -> str:
    """Return an interval as it is printed; nothing where there is none."""
    return f"[{ends[0]:{form}}, {ends[1]:{form}}]" if ends else ""


def estimate(value: float | None, ends: tuple[float, float] | None, form: str = ".1f") -> Text:
    """Return a number with its interval."""
    if value is None:
        return Text("none", style="yellow")
    cell = Text(f"{value:{form}}")
    return cell.append(f" {interval(ends, form)}", style="dim") if ends else cell


def counted(n: int | None, unscored: int) -> Text:
    """Return how many items have a value, and in brackets how many have none."""
    cell = Text("?" if n is None else str(n))
    return cell.append(f" ({unscored})", style="yellow") if unscored else cell


def listed(reasons: Mapping[str, int]) -> str:
    """Return why items have no value, with how many each."""
    return ", ".join(f"{n} x {why}" for why, n in reasons.items())


def length_grid(
    what: str, rows: Sequence[tuple[str, Text, str, str, "LengthControlled"]], whose: str
) -> list[RenderableType]:
    """Return a table of numbers at equal length, with what its columns are.

    Args:
        what: the rows are.
        rows: a name, the number at equal length, the one that was seen, the unit of lengths, and
            what it rests on.
        whose: response is longer, or not.
    """
    columns = ("at equal length [95 %]", "raw", "longer", "by", "pays", "n")
    table = Grid(what, numbers=columns, edge=True)
    table.columns[0].min_width = min(12, max(len(name) for name, *_ in rows))
    for name, shown, raw, unit, found in rows:
        table.add(
            name,
            shown.append(" !" if found.extrapolated else "  "),
            raw,
            f"{found.share_longer:.0f} %",
            f"{found.mean_difference:+.0f}{'' if unit == 'tokens' else ' ch.'}",
            f"{found.length_effect:+.2f}",
            str(found.n),
        )
    told = [
        f"longer: how often {whose} is longer. by: how much on average, in tokens or characters "
        "(ch.).",
        "pays: log-odds of winning for one standard deviation more of length.",
    ]
    if any(found.extrapolated for *_, found in rows):
        told.append("!: nearly always longer, or always shorter, so equal length is a guess.")
    return [table, *(inert(line, "dim") for line in told)]


def p_text(p: float | None) -> str:
    """Return a p-value with three digits; small ones by their bound."""
    return "" if p is None else "<0.001" if p < 0.001 else f"{p:.3f}"


def p_of(found: "Comparison") -> str:
    """Return a comparison's p-value, corrected where it is one of several."""
    return p_text(found.p if found.p_adjusted is None else found.p_adjusted)


def mark_of(found: "Comparison") -> str:
    """Return * for what is told apart at 5 %."""
    return "*" if found.significant() else ""


def failing_lines(failing: Failing, names: Mapping[str, str]) -> list[Text]:
    """Return a line for each of these judges that must not be believed, with the reasons.

    Args:
        failing: why judges must not be believed.
        names: of the judges that a table uses, by their keys.
    """
    return [
        inert(f"{MARK} {name} {reasons_text(reasons)}", "bold red")
        for key, name in names.items()
        if (reasons := failing.get(key))
    ]


def reference_lines(signatures: Iterable[tuple[str, Signature]]) -> list[Text]:
    """Return a line for each task that is rated against other references than the paper's."""
    tasks = [task for task, made in signatures if made.parts.get("reference") == "published"]
    return [
        inert(
            f"{task}: rated against the published references; the paper has references of a model: "
            f"mipo-eval data prepare {task} --reference-model openai:gpt-4o",
            "yellow",
        )
        for task in dict.fromkeys(tasks)
    ]


def score_tables(
    scores: Sequence[Score], run: Run, failing: Failing, rules: Sequence[RowRule]
) -> list[RenderableType]:
    """Return a run's scores: a column per task, a section per judge; then what was left out.

    Args:
        scores: of the run.
        run: for the title.
        failing: judges that must not be believed; they are marked.
        rules: what runs of trained checkpoints are called.
    """
    tasks = list(dict.fromkeys(score.task for score in scores))
    # What another tool measured comes last, and is called what that tool calls it.
    labels = LABELS | {s.metric: s.metric for s in scores if s.metric not in LABELS}
    places = {metric: place for place, metric in enumerate(labels)}
    ranked = sorted(scores, key=lambda score: places[score.metric])
    # Of each task and section, the first score's counts stand for all, as its signature does.
    firsts: dict[tuple[Section, str], Score] = {}
    for score in ranked:
        firsts.setdefault((_section(score), score.task), score)
    table = Grid("metric [95 % interval]", numbers=tasks, wrap=True, edge=True)
    for section in sorted(dict.fromkeys(map(_section, scores)), key=lambda both: both[0] is None):
        found: dict[str, dict[str, Score]] = {}
        for score in ranked:
            if _section(score) == section:
                found.setdefault(score.metric, {})[score.task] = score
        own = [firsts.get((section, task)) for task in tasks]
        judged = {score.judge_key for score in scores if _section(score) == section}
        mark = f" {MARK}" if judged & failing.keys() else ""
        table.add(inert(f"{_heading(section)}{mark}", "italic"))
        for metric, of_task in found.items():
            if section[1] is None or metric in _OF_CONTROLS:
                table.add(labels[metric], *(_cell(of_task.get(task)) for task in tasks))
        counts = (counted(score.n, score.unscored) if score else "" for score in own)
        table.add("items scored (unscored)", *counts)
        table.add_section()
    (name,) = run_names([run], rules)
    prompting = f", {run.prompting} prompting" if run.prompting else ""
    title = f"{name} on {run.suite}{prompting}, {run.n_items} items (run {run.run_id[:8]})"
    judges = {score.judge_key: score.judge or "" for score in scores if score.judge_key}
    lines = [inert(f"model: {run.model}", "dim")] if run.model != name else []
    lines += failing_lines(failing, judges)
    lines += [inert(str(winner), "bold red") for winner in winners(scores)]
    for section, task in dict.fromkeys((_section(score), score.task) for score in scores):
        if (first := firsts[section, task]).unscored:
            said = f"Unscored in {task}, {_heading(section)}: {listed(first.unscored_reasons)}"
            lines.append(inert(said, "yellow"))
    lines += reference_lines((score.task, score.signature) for score in scores)
    signatures = {score.task: score.signature for score in reversed(ranked)}
    lines += [inert(signatures[task], "dim") for task in dict.fromkeys(s.task for s in ranked)]
    return [inert(title, "bold"), table, *lines]


Section = tuple[str | None, str | None]
"""The judge, and the control in place of the model."""


def _section(score: Score) -> Section:
    return score.judge, score.control


def _heading(section: Section) -> str:
    judge, control = section
    if judge is None:
        return "without a judge"
    return f"judged by {judge}" + (f": control {control}" if control else "")


def _cell(score: Score | None) -> Text:
    if score is None:
        return Text("")
    return estimate(score.value, score.ci95, f".{decimals(score.metric)}f")
