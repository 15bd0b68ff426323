"""Scores, runs and responses as rich tables; every text of a model or a file is shown inert."""

import re
from collections.abc import Iterable, Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from mipo_eval.evaluation.controls import winners
from mipo_eval.records import Score
from mipo_eval.reports.labels import LABELS, decimals
from mipo_eval.store.runs import Run
from mipo_eval.store.validations import MARK

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")

_OF_CONTROLS = {"win_rate_half_ties", "rating_mean"}
"""What is shown of a control entrant; all of it is stored."""


def inert(text: str) -> Text:
    """Return text that prints as itself: no markup, no escape sequences, no direction marks."""
    return Text(_CONTROL.sub("\ufffd", text))


Failing = Mapping[str, Sequence[str]]
"""Judge key as signatures have it, to why the judge must not be believed."""


def failing_lines(failing: Failing, names: Mapping[str, str]) -> list[Text]:
    """Return a line for each of these judges that failed, with the data and the reason.

    Args:
        failing: why judges must not be believed.
        names: of the judges that a table uses, by their keys.
    """
    lines = []
    for key, name in names.items():
        if reasons := failing.get(key):
            line = inert(f"{MARK} {name} fails its validation on {'; on '.join(reasons)}")
            line.stylize("bold red")
            lines.append(line)
    return lines


def score_tables(
    scores: Sequence[Score], run: Run, failing: Failing | None = None
) -> list[RenderableType]:
    """Return a run's scores: a column per task, a section per judge; then what was left out.

    Args:
        scores: of the run.
        run: for the title.
        failing: judges that failed their validation; they are marked.
    """
    failing = failing or {}
    tasks = list(dict.fromkeys(score.task for score in scores))
    table = Table(header_style="bold", box=SIMPLE_HEAD)
    table.add_column("metric [95 % interval]")
    for task in tasks:
        table.add_column(inert(task), justify="right")
    for section in dict.fromkeys(_section(score) for score in sorted(scores, key=_judge_free)):
        found = _of_section(scores, section)
        heading = inert(_heading(section) + _mark(found.values(), failing))
        heading.stylize("italic")
        table.add_row(heading, *("" for _ in tasks))
        for metric, label in _labels(found).items():
            shown = section[1] is None or metric in _OF_CONTROLS
            if shown and any((task, metric) in found for task in tasks):
                table.add_row(inert(label), *(_cell(found.get((task, metric))) for task in tasks))
        firsts = [_first(found, task) for task in tasks]
        table.add_row("items scored (unscored)", *(_count(score) for score in firsts))
        table.add_section()
    prompting = f", {run.prompting} prompting" if run.prompting else ""
    title = inert(
        f"{run.model} on {run.suite}{prompting}, {run.n_items} items (run {run.run_id[:12]})"
    )
    title.stylize("bold")
    marked = failing_lines(failing, _judges(scores))
    return [title, table, *marked, *_alarms(scores), *_left_out(scores), *_how(scores)]


Section = tuple[str | None, str | None]
"""The judge, and the control in place of the model."""


def _judge_free(score: Score) -> bool:
    return _section(score)[0] is None


def _section(score: Score) -> Section:
    return score.judge, score.control


def _of_section(scores: Sequence[Score], section: Section) -> dict[tuple[str, str], Score]:
    """Return the scores of a section by task and plain metric."""
    return {(s.task, s.metric): s for s in scores if _section(s) == section}


def _judges(scores: Iterable[Score]) -> dict[str, str]:
    """Return the judges behind scores: key to name."""
    return {score.judge_key: score.judge or "" for score in scores if score.judge_key}


def _mark(scores: Iterable[Score], failing: Failing) -> str:
    return f" {MARK}" if any(key in failing for key in _judges(scores)) else ""


def _heading(section: Section) -> str:
    judge, control = section
    if judge is None:
        return "without a judge"
    return f"judged by {judge}" + (f": control {control}" if control else "")


def _first(found: Mapping[tuple[str, str], Score], task: str) -> Score | None:
    """Return the score whose counts stand for its section."""
    return next((found[task, metric] for metric in _labels(found) if (task, metric) in found), None)


def _labels(found: Mapping[tuple[str, str], Score]) -> dict[str, str]:
    """Return the label of every metric; one of another tool is called what that tool calls it."""
    return LABELS | {metric: metric for _, metric in found if metric not in LABELS}


def _count(score: Score | None) -> Text:
    if score is None:
        return Text("")
    counted = Text(str(score.n))
    if score.unscored:
        counted.append(f" ({score.unscored})", style="yellow")
    return counted


def _cell(score: Score | None) -> Text:
    if score is None:
        return Text("")
    if score.value is None:
        return Text("none", style="yellow")
    digits = decimals(score.metric)
    cell = Text(f"{score.value:.{digits}f}")
    if score.ci95:
        low, high = score.ci95
        cell.append(f" [{low:.{digits}f}, {high:.{digits}f}]", style="dim")
    return cell


def _left_out(scores: Sequence[Score]) -> list[Text]:
    """Return, per task and section, why items have no score."""
    lines = []
    for section, task in dict.fromkeys((_section(s), s.task) for s in scores):
        found = _of_section(scores, section)
        first = _first(found, task)
        if first is not None and first.unscored:
            reasons = ", ".join(f"{n} x {why}" for why, n in first.unscored_reasons.items())
            line = inert(f"unscored in {task}, {_heading(section)}: {reasons}")
            line.stylize("yellow")
            lines.append(line)
    return lines


def _alarms(scores: Sequence[Score]) -> list[Text]:
    """Return a line for each control that does as well as the model where it must not."""
    lines = [inert(str(winner)) for winner in winners(scores)]
    for line in lines:
        line.stylize("bold red")
    return lines


def _how(scores: Sequence[Score]) -> list[Text]:
    """Return the signature of each task's first score, as the table orders them."""
    order = list(LABELS | {score.metric: "" for score in scores})
    firsts: dict[str, str] = {}
    for score in sorted(scores, key=lambda score: order.index(score.metric)):
        firsts.setdefault(score.task, score.signature)
    lines = [inert(signature) for signature in firsts.values()]
    for line in lines:
        line.stylize("dim")
    return lines


def run_table(runs: Sequence[tuple[Run, int]]) -> Table:
    """Return one row per run; the number is of items that have a response."""
    table = Table(header_style="bold", box=SIMPLE_HEAD)
    table.add_column("run", no_wrap=True)
    table.add_column("model", overflow="fold", min_width=16)
    for column in ("suite", "prompting", "responses", "touched (UTC)"):
        table.add_column(column, no_wrap=True, justify="right" if column == "responses" else "left")
    for run, done in runs:
        table.add_row(
            run.run_id[:12],
            inert(run.model),
            inert(run.suite),
            run.prompting,
            Text(f"{done}/{run.n_items}", style="" if done == run.n_items else "yellow"),
            f"{run.updated_at:%m-%d %H:%M}",
        )
    return table
