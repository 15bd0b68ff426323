"""Runs in files: scores as rows, side by side, or in a report of one page; other tools' formats."""

import base64
import csv
import hashlib
import io
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mipo_eval import __version__
from mipo_eval.errors import ConfigError, DataError
from mipo_eval.metrics.aggregate import direction
from mipo_eval.metrics.win_rate import METRIC_NAMES
from mipo_eval.records import Score
from mipo_eval.reports.exported_run import (
    ExportedRun,
    annotations,
    lm_eval_results,
    lm_eval_samples,
)
from mipo_eval.reports.labels import LABELS, decimals, metric_title, tied_group
from mipo_eval.store.judges import MARK, reasons_text
from mipo_eval.tasks.items import replacing

if TYPE_CHECKING:
    from jinja2 import Environment

NAMES = ("csv", "parquet", "md", "latex", "json", "html", "alpaca_eval", "lm_eval")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?([eE][-+]?\d+)?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]")
_LATEX_NAMES = {
    "\\": "backslash",
    "~": "asciitilde",
    "^": "asciicircum",
    "<": "less",
    ">": "greater",
    "|": "bar",
    '"': "quotedbl",
}
_LATEX = str.maketrans(
    {mark: f"\\{mark}" for mark in "{}$&#%_"}
    | {mark: f"\\text{name}{{}}" for mark, name in _LATEX_NAMES.items()}
)
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+!|~$])")

Runs = Sequence[ExportedRun]
"""In the order they were named."""


class ExportCell(NamedTuple):
    """One number of a table."""

    score: Score
    value: str
    """As it is shown, as is the interval; empty where there is none."""
    interval: str
    best: bool
    """Whether no other run is better, of at least two."""
    letters: str
    """Runs of a row that share one are not told apart; as they are shown."""


class ExportTable(NamedTuple):
    """Scores of several runs side by side: rows are metrics of a task by one judge."""

    runs: Sequence[str]
    """A name per column, each once."""
    rows: Sequence[tuple[tuple[str, str, str], Sequence[ExportCell | None]]]
    """(task, metric, judge), and a cell per run; a judge that failed its validation is marked."""
    notes: Sequence[str] = ()
    """Why marked judges failed, a line each."""

    @property
    def legend(self) -> str:
        """What bold, brackets and letters mean."""
        told = "Best of each row in bold; 95 % intervals in brackets."
        if any(cell.letters for _, cells in self.rows for cell in cells if cell):
            told += " Runs of a row that share a letter are not told apart (5 % over all pairs)."
        return told

    @property
    def by_task(self) -> list[tuple[str, list[tuple[str, Sequence[ExportCell | None]]]]]:
        """The rows by task, each with its metric, and its judge where there are several."""
        several = len({judge for (_, _, judge), _ in self.rows if judge}) > 1
        found: dict[str, list[tuple[str, Sequence[ExportCell | None]]]] = {}
        for (task, metric, judge), cells in self.rows:
            heading = f"{metric}, {judge}" if several and judge else metric
            found.setdefault(task, []).append((heading, cells))
        return list(found.items())

    @property
    def caption(self) -> str:
        """The legend, who judged, and what must be known of that."""
        judges = list(dict.fromkeys(judge for (_, _, judge), _ in self.rows if judge))
        by = [f"Judged by {judges[0]}."] if len(judges) == 1 else []
        legend = self.legend.replace("each row", "each column").replace("of a row", "of a column")
        return " ".join([*by, legend, *(f"{note}." for note in self.notes)])

    @property
    def signatures(self) -> list[str]:
        """Every signature once, in order."""
        cells = (cell for _, row in self.rows for cell in row if cell is not None)
        return list(dict.fromkeys(cell.score.signature for cell in cells))


def score_rows(runs: Runs) -> list[dict[str, Any]]:
    """Return one flat row per score of each run."""
    return [
        {
            "run_id": run.run_id,
            "name": name,
            "base_model": run.called.model,
            "method": run.called.method,
            "variant": run.called.variant,
            "prompting": run.prompting,
            "training_seed": run.trained_seed,
            "seed": run.seed,
            "model": run.model,
            "suite": run.suite,
            "task": score.task,
            "metric": score.name,
            "metric_label": metric_title(score.metric, score.control or ""),
            "judge": score.judge,
            "judge_failings": "; ".join(run.failings(score)) or None,
            "value": score.value,
            "ci95_low": score.ci95[0] if score.ci95 else None,
            "ci95_high": score.ci95[1] if score.ci95 else None,
            "n": score.n,
            "unscored": score.unscored,
            "unscored_reasons": dict(score.unscored_reasons),
            "signature": score.signature,
        }
        for run, name in zip(runs, column_names(runs), strict=True)
        for score in run.scores
    ]


def only_metrics(runs: Runs, metrics: Sequence[str]) -> list[ExportedRun]:
    """Return the runs with their scores of these metrics; all of them where none is named.

    Raises:
        ConfigError: no run has one of them.
    """
    known = {score.metric for run in runs for score in run.scores}
    if unknown := [metric for metric in metrics if metric not in known]:
        raise ConfigError(
            f"no metric {unknown[0]!r}: these runs have {', '.join(sorted(known)) or 'no scores'}"
        )
    return [
        replace(run, scores=[s for s in run.scores if not metrics or s.metric in metrics])
        for run in runs
    ]


_HEADLINE = (METRIC_NAMES["win"], "tie_rate", "accuracy")
"""What a table in a paper shows unless metrics are named."""


def _headline(runs: Runs) -> list[ExportedRun]:
    """Return the runs with what a paper shows of them, where they have it and more besides."""
    known = {score.metric for run in runs for score in run.scores if not score.control}
    shown = [metric for metric in _HEADLINE if metric in known]
    found = only_metrics(runs, shown if METRIC_NAMES["win"] in shown else ())
    return [replace(run, scores=[s for s in run.scores if not s.control]) for run in found]


def column_names(runs: Runs) -> list[str]:
    """Return a readable name for each run: what tells it from the others, and no more.

    The beginning of its id comes last, only where nothing else does.
    """
    called = [run.called for run in runs]
    models = len({name.model for name in called}) > 1
    methods = len({(name.method, name.variant) for name in called}) > 1
    names = []
    for name in called:
        method = name.whole_method
        shown = [name.model] * models + [method] * (methods and bool(method))
        names.append(", ".join(shown) or name.model)
    seeds = [
        f", training seed {run.trained_seed}" * (run.trained_seed is not None)
        + f", seed {run.seed}" * (run.seed != 0)
        for run in runs
    ]
    for more in (seeds, [f" ({run.run_id[:8]})" for run in runs]):
        alike = [name for name in names if names.count(name) > 1]
        names = [
            name + (told if name in alike else "") for name, told in zip(names, more, strict=True)
        ]
    return names


def tables_of(runs: Runs) -> list[tuple[str, ExportTable]]:
    """Return a table per suite, in the order the runs name them."""
    suites = dict.fromkeys(run.suite for run in runs)
    return [(suite, table_of([run for run in runs if run.suite == suite])) for suite in suites]


def table_of(runs: Runs) -> ExportTable:
    """Return the runs side by side, the best of each row marked.

    A run scored in two ways has a row for each; only numbers over the same items by the same
    rules, up to who answered, are in one row's competition.
    """
    found: dict[tuple[str, str, str, str, str], dict[int, Score]] = {}
    notes: dict[str, None] = {}
    better: dict[str, str] = {}
    for column, run in enumerate(runs):
        for score in sorted(run.scores, key=_place):
            judge = score.judge or ""
            if failings := run.failings(score):
                judge = f"{judge} {MARK}"
                notes[f"{judge} {reasons_text(failings)}"] = None
            metric = metric_title(score.metric, score.control or "")
            key = (score.task, metric, judge, score.signature.rule, score.name)
            better[metric] = score.metric
            found.setdefault(key, {})[column] = score
    rows = []
    for (task, metric, judge, _, _), scores in found.items():
        best = _best(better[metric], [s.value for s in scores.values() if s.value is not None])
        cells = [
            None if (own := scores.get(column)) is None else _cell(own, best, run)
            for column, run in enumerate(runs)
        ]
        rows.append(((task, metric, judge), cells))
    return ExportTable(column_names(runs), rows, list(notes))


def _place(score: Score) -> tuple[str, bool, int]:
    """Return where a score stands in a table: by task, the usual metrics first."""
    order = list(LABELS)
    known = score.metric in LABELS
    return score.task, bool(score.control), order.index(score.metric) if known else len(order)


def _cell(score: Score, best: float | None, run: ExportedRun) -> ExportCell:
    letters = run.letters.get((score.task, score.metric, score.signature), "")
    best_of_row = score.value is not None and score.value == best
    return ExportCell(score, *shown(score), best_of_row, tied_group(letters))


def _best(metric: str, values: list[float]) -> float | None:
    way = direction(metric)
    if len(values) < 2 or way is None:
        return None
    return min(values) if way == "lower" else max(values)


def shown(score: Score) -> tuple[str, str]:
    """Return a score's value and interval as tables show them; "none" where there is no value."""
    if score.value is None:
        return "none", ""
    largest = max(abs(x) for x in (score.value, *(score.ci95 or ())))
    of_others = 3 if largest < 1 else 2 if largest < 10 else 1
    digits = decimals(score.metric) if score.metric in LABELS else of_others
    interval = f"[{score.ci95[0]:.{digits}f}, {score.ci95[1]:.{digits}f}]" if score.ci95 else ""
    return f"{score.value:.{digits}f}", interval


def to_csv(rows: Sequence[dict[str, Any]]) -> str:
    """Return rows as CSV; text that a spreadsheet would run as a formula is quoted with '."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, rows[0], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _csv_value(value) for name, value in row.items()})
    return stream.getvalue()


def _csv_value(value: Any) -> Any:
    if isinstance(value, dict):
        value = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, str):
        return value
    # Spreadsheets skip blanks before the sign that makes a formula.
    risky = value.startswith(_FORMULA) or value.lstrip().startswith(_FORMULA)
    return f"'{value}" if risky and not _NUMBER.fullmatch(value) else value


def to_parquet(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write rows as Parquet; a column without a value has its type, too."""
    import pyarrow as pa
    from pyarrow import parquet

    numbers = dict.fromkeys(("value", "ci95_low", "ci95_high"), pa.float64())
    counts = dict.fromkeys(("n", "unscored", "training_seed", "seed"), pa.int64())
    types = dict.fromkeys(rows[0], pa.string()) | numbers | counts
    flat = [
        row | {"unscored_reasons": json.dumps(row["unscored_reasons"], ensure_ascii=False)}
        for row in rows
    ]
    parquet.write_table(pa.Table.from_pylist(flat, schema=pa.schema(list(types.items()))), path)


def one_line(text: str) -> str:
    """Return text without line breaks, control and direction characters."""
    return " ".join(_CONTROL.sub(" ", text).split())


def in_markdown(text: str) -> str:
    """Return foreign text as Markdown that shows it and does nothing else."""
    escaped = _MARKDOWN.sub(r"\\\1", one_line(text))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def in_latex(text: str) -> str:
    """Return foreign text as LaTeX that shows it and does nothing else."""
    return one_line(text).translate(_LATEX)


def _counts(cells: Sequence[ExportCell | None]) -> str:
    counts = sorted({c.score.n for c in cells if c is not None and c.score.n is not None})
    if not counts:
        return "?"
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]}-{counts[-1]}"


class IntervalPlot(NamedTuple):
    """One metric of a task: a dot and its interval for each run and judge."""

    label: str
    marks: Sequence[tuple[str, ExportCell]]
    ticks: Sequence[float]
    left: int = 320
    """Where the axis begins: names stand before it, values behind its end."""
    right: int = 750

    def x(self, value: float) -> float:
        """Return where a value stands."""
        low, high = self.ticks[0], self.ticks[-1]
        return round(self.left + (value - low) / (high - low) * (self.right - self.left), 1)


def _plots(table: ExportTable) -> list[IntervalPlot]:
    """Return a plot per metric of a task."""
    judges = {judge for (_, _, judge), _ in table.rows}
    told: dict[str, list[tuple[str, ExportCell]]] = {}
    ends: dict[str, list[float]] = {}
    for (task, metric, judge), cells in table.rows:
        for run, cell in zip(table.runs, cells, strict=True):
            if cell is None or cell.score.value is None or cell.score.ci95 is None:
                continue
            by_run = run if len(judges) == 1 else f"{run}, {judge}" if judge else run
            name = judge if judge and len(table.runs) == 1 else by_run
            label = f"{metric}, {task}"
            told.setdefault(label, []).append((name, cell))
            ends.setdefault(label, []).extend((cell.score.value, *cell.score.ci95))
    return [IntervalPlot(s, told[s], _ticks(min(ends[s]), max(ends[s]))) for s in told]


def _ticks(low: float, high: float) -> list[float]:
    """Return round numbers that span an interval, about five of them."""
    span = high - low or abs(high) or 1.0
    size = 10.0 ** math.floor(math.log10(span / 4))
    step = next(size * n for n in (1, 2, 5, 10) if size * n >= span / 4)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [step * n for n in range(first, max(last, first + 1) + 1)]


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@cache
def templates() -> "Environment":
    """Return the templates of files; what stands in HTML is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("mipo_eval.reports"),
        autoescape=lambda name: bool(name and ".html." in name),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {
        "one_line": one_line,
        "markdown": in_markdown,
        "latex": in_latex,
        "label": lambda text: re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-").lower(),
        "counts": _counts,
        "plots": _plots,
        "sha256": _sha256,
    }
    return made


def _rendered(name: str) -> Callable[[Runs], str]:
    def render(runs: Runs) -> str:
        tables = tables_of(runs)
        lines = dict.fromkeys(line for _, table in tables for line in table.signatures)
        template = templates().get_template(name)
        return template.render(runs=runs, tables=tables, signatures=lines, version=__version__)

    return render


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


TEXTS: Mapping[str, Callable[[Runs], str]] = {
    "csv": lambda runs: to_csv(score_rows(runs)),
    "md": _rendered("export.md.jinja"),
    "latex": _rendered("export.tex.jinja"),
    "json": lambda runs: _json({"scores": score_rows(runs)}),
    "html": _rendered("export.html.jinja"),
}
"""Formats of scores that are one text; parquet is not, and the formats of others hold one run."""


def write(
    runs: Runs, wanted: str, path: Path, *, judge: str | None = None, metrics: Sequence[str] = ()
) -> list[Path]:
    """Write runs to `path` in a format of `NAMES`, and return the files written.

    Args:
        runs: what to write; AlpacaEval's and lm-eval's formats take one run a file.
        wanted: a name of `NAMES`.
        path: replaced when it exists; its folder has to exist.
        judge: whose verdicts AlpacaEval's format takes; needed when there are several.
        metrics: only these; none: all of them, or what a table in a paper shows.

    Raises:
        ConfigError: the folder is missing, several runs or judges do not fit the format, or no run
            has a metric.
        DataError: the runs have nothing of what the format holds.
    """
    if metrics:
        runs = only_metrics(runs, metrics)
    elif wanted == "latex":
        runs = _headline(runs)
    if not path.parent.is_dir():
        raise ConfigError(f"{path} cannot be written: the folder {path.parent} is not there")
    if path.is_dir():
        raise ConfigError(f"{path} is a folder: name a file")
    if wanted in {"alpaca_eval", "lm_eval"} and len(runs) != 1:
        raise ConfigError(f"a file in {wanted} format can contain one run, not {len(runs)}")
    if wanted == "lm_eval":
        return _write_lm_eval(runs[0], path)
    if wanted == "alpaca_eval":
        write_text(path, _json(annotations(runs[0], judge)))
    elif not any(run.scores for run in runs):
        raise DataError("none of these runs has a score: finish one of them, or name another run")
    elif wanted == "parquet":
        with _written(path) as part:
            to_parquet(score_rows(runs), part)
    else:
        write_text(path, TEXTS[wanted](runs))
    return [path]


def write_text(path: Path, text: str) -> None:
    """Write a file as a whole or not at all.

    Raises:
        ConfigError: it cannot be written.
    """
    with _written(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n")


@contextmanager
def _written(path: Path) -> Iterator[Path]:
    try:
        with replacing(path) as part:
            yield part
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from None


def _write_lm_eval(run: ExportedRun, path: Path) -> list[Path]:
    """Write the results document and, beside it, a file of samples per task."""
    if not (path.stem.startswith("results_") and path.suffix == ".json"):
        raise ConfigError(
            f"{path.name}: lm-eval needs the file name results_TIME.json, such as "
            "results_2026-01-31T12-00-00.json"
        )
    time = path.stem.removeprefix("results_")
    written = []
    for task, rows in lm_eval_samples(run).items():
        safe = "".join(c if c.isalnum() or c in "-_.," else "-" for c in task)
        if safe != task:
            raise ConfigError(
                f"lm-eval needs the task in a file name, and {task!r} cannot be in one"
            )
        beside = path.with_name(f"samples_{task}_{time}.jsonl")
        lines = (json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows)
        write_text(beside, "".join(f"{line}\n" for line in lines))
        written.append(beside)
    write_text(path, _json(lm_eval_results(run)))
    return [path, *written]
