"""Scores of runs as rows, and as CSV, Parquet, Markdown, LaTeX and JSON."""

import csv
import io
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mipo_eval.exchange.records import RunRecord
from mipo_eval.metrics.aggregate import direction
from mipo_eval.records import Score
from mipo_eval.store.validations import MARK

COLUMNS = (
    "run_id",
    "model",
    "suite",
    "task",
    "metric",
    "judge",
    "judge_fails",
    "value",
    "ci_low",
    "ci_high",
    "n",
    "unscored",
    "unscored_reasons",
    "signature",
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?([eE][-+]?\d+)?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]")
_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
}
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+!|~$])")


class Cell(NamedTuple):
    """One number of a table."""

    score: Score
    best: bool
    """Whether no other run is better, of at least two."""
    letters: str = ""
    """Runs of a row that share one are not told apart."""


class Table(NamedTuple):
    """Scores of several runs side by side: rows are metrics of a task by one judge."""

    runs: tuple[str, ...]
    """A name per column, each once."""
    rows: tuple[tuple[tuple[str, str, str], tuple[Cell | None, ...]], ...]
    """(task, metric, judge), and a cell per run; a judge that failed its validation is marked."""
    notes: tuple[str, ...] = ()
    """Why marked judges failed, a line each."""

    @property
    def legend(self) -> str:
        """What bold, brackets and letters mean."""
        told = "Best of each row in bold; 95 % intervals in brackets."
        if any(cell.letters for _, cells in self.rows for cell in cells if cell):
            told += " Runs of a row that share a letter are not told apart (paired, 5 %, Holm)."
        return told


def score_rows(runs: Iterable[tuple[str, RunRecord]]) -> list[dict[str, Any]]:
    """Return one flat row per score of each (run id, run)."""
    return [
        {
            "run_id": run_id,
            "model": run.model,
            "suite": run.suite,
            "task": score.task,
            "metric": score.name,
            "judge": score.judge,
            "judge_fails": "; ".join(_failings(run, score)) or None,
            "value": score.value,
            "ci_low": score.ci95[0] if score.ci95 else None,
            "ci_high": score.ci95[1] if score.ci95 else None,
            "n": score.n,
            "unscored": score.unscored,
            "unscored_reasons": dict(score.unscored_reasons),
            "signature": score.signature,
        }
        for run_id, run in runs
        for score in run.scores
    ]


def _failings(run: RunRecord, score: Score) -> Sequence[str]:
    """Return why the judge behind a score failed its validation; nothing if it did not."""
    return run.failing.get(score.judge_key or "", ())


def to_csv(rows: Sequence[dict[str, Any]]) -> str:
    """Return rows as CSV; text that a spreadsheet would run as a formula is quoted with '."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
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
    """Write rows as Parquet, with the types that the columns have when a table is empty too."""
    import pyarrow as pa
    from pyarrow import parquet

    numbers = dict.fromkeys(("value", "ci_low", "ci_high"), pa.float64())
    counts = dict.fromkeys(("n", "unscored"), pa.int64())
    types = dict.fromkeys(COLUMNS, pa.string()) | numbers | counts
    flat = [
        row | {"unscored_reasons": json.dumps(row["unscored_reasons"], ensure_ascii=False)}
        for row in rows
    ]
    schema = pa.schema([(name, types[name]) for name in COLUMNS])
    parquet.write_table(pa.Table.from_pylist(flat, schema=schema), path)


def tables_of(runs: Sequence[tuple[str, RunRecord]]) -> list[tuple[str, Table]]:
    """Return a table per suite, in the order the runs name them."""
    suites = dict.fromkeys(run.suite for _, run in runs)
    return [(s, table_of([named for named in runs if named[1].suite == s])) for s in suites]


def table_of(runs: Sequence[tuple[str, RunRecord]]) -> Table:
    """Return the runs side by side, the best of each row marked.

    A run scored in two ways has a row for each; only numbers over the same items by the same
    rules, up to who answered, are in one row's competition.
    """
    names = _names(runs)
    found: dict[tuple[str, str, str, str], dict[int, Score]] = {}
    notes: dict[str, None] = {}
    for column, (_, run) in enumerate(runs):
        for score in run.scores:
            judge = score.judge or ""
            if failings := _failings(run, score):
                judge = f"{judge} {MARK}"
                notes[f"{judge} fails its validation on {'; on '.join(failings)}"] = None
            key = (score.task, score.name, judge, score.signature.rule)
            found.setdefault(key, {})[column] = score
    rows = []
    for (task, metric, judge, _), scores in found.items():
        best = _best(metric, [s.value for s in scores.values() if s.value is not None])
        cells = tuple(
            None if (own := scores.get(column)) is None else _cell(own, best, run)
            for column, (_, run) in enumerate(runs)
        )
        rows.append(((task, metric, judge), cells))
    return Table(tuple(names), tuple(rows), tuple(notes))


def _cell(score: Score, best: float | None, run: RunRecord) -> Cell:
    letters = run.letters.get((score.task, score.metric, score.signature), "")
    return Cell(score, score.value is not None and score.value == best, letters)


def _best(metric: str, values: list[float]) -> float | None:
    way = direction(metric)
    if len(values) < 2 or way is None:
        return None
    return min(values) if way == "lower" else max(values)


def _names(runs: Sequence[tuple[str, RunRecord]]) -> list[str]:
    """Return a name per run: its model, and its id where two have the same model."""
    models = [run.model for _, run in runs]
    return [
        model if models.count(model) == 1 else f"{model} ({run_id[:8]})"
        for model, (run_id, _) in zip(models, runs, strict=True)
    ]


def shown(score: Score) -> tuple[str, str]:
    """Return a score's value and interval as tables show them; "none" where there is no value."""
    if score.value is None:
        return "none", ""
    largest = max(abs(x) for x in (score.value, *(score.ci95 or ())))
    digits = 3 if largest < 1 else 2 if largest < 10 else 1
    interval = f"[{score.ci95[0]:.{digits}f}, {score.ci95[1]:.{digits}f}]" if score.ci95 else ""
    return f"{score.value:.{digits}f}", interval


def one_line(text: str) -> str:
    """Return text without line breaks, control and direction characters."""
    return " ".join(_CONTROL.sub(" ", text).split())


def in_markdown(text: str) -> str:
    """Return foreign text as Markdown that shows it and does nothing else."""
    escaped = _MARKDOWN.sub(r"\\\1", one_line(text))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def in_latex(text: str) -> str:
    """Return foreign text as LaTeX that shows it and does nothing else."""
    return "".join(_LATEX.get(character, character) for character in one_line(text))


def to_markdown(title: str, table: Table) -> str:
    """Return a table in Markdown under its title: the best in bold, intervals beside the values."""
    head = ["task", "metric", "judge", *map(in_markdown, table.runs), "n"]
    lines = [
        f"## {in_markdown(title)}",
        "",
        f"| {' | '.join(head)} |",
        f"|{'|'.join([' --- '] * 3 + [' ---: '] * (len(table.runs) + 1))}|",
    ]
    for names, cells in table.rows:
        values = [_markdown_cell(cell) for cell in cells]
        lines.append(f"| {' | '.join([*map(in_markdown, names), *values, _counts(cells)])} |")
    signatures = _signatures(table)
    notes = ["", table.legend, ""]
    notes += [line for told in table.notes for line in (in_markdown(told), "")]
    return "\n".join([*lines, *notes, *(f"- {in_markdown(s)}" for s in signatures)]) + "\n"


def _markdown_cell(cell: Cell | None) -> str:
    if cell is None:
        return ""
    value, interval = shown(cell.score)
    bold = f"**{value}**" if cell.best else value
    bold += f"<sup>{in_markdown(cell.letters)}</sup>" if cell.letters else ""
    return f"{bold} {interval}".strip().replace("[", "\\[").replace("]", "\\]")


def _counts(cells: Sequence[Cell | None]) -> str:
    counts = sorted({cell.score.n for cell in cells if cell is not None})
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]}-{counts[-1]}"


def _signatures(table: Table) -> list[str]:
    """Return every signature of the table once, in order."""
    cells = (cell for _, row in table.rows for cell in row if cell is not None)
    return list(dict.fromkeys(cell.score.signature for cell in cells))


def to_latex(title: str, table: Table) -> str:
    """Return a table in LaTeX with booktabs: the best in bold; compiles as it is once input."""
    columns = "lll" + "r" * (len(table.runs) + 1)
    head = ["task", "metric", "judge", *map(in_latex, table.runs), "$n$"]
    lines = [
        f"% {one_line(title)}",
        "% needs \\usepackage{booktabs} and \\usepackage[T1]{fontenc}",
        f"\\begin{{tabular}}{{{columns}}}",
        "\\toprule",
        f"{' & '.join(head)} \\\\",
        "\\midrule",
    ]
    previous = None
    for names, cells in table.rows:
        if previous not in {None, names[0]}:
            lines.append("\\midrule")
        previous = names[0]
        values = [_latex_cell(cell) for cell in cells]
        counts = _counts(cells).replace("-", "--")
        lines.append(f"{' & '.join([*map(in_latex, names), *values, counts])} \\\\")
    lines += ["\\bottomrule", "\\end{tabular}"]
    lines.append(f"\\par\\noindent {in_latex(table.legend)}")
    lines += [f"\\par\\noindent {in_latex(told)}" for told in table.notes]
    lines += [f"% {one_line(signature)}" for signature in _signatures(table)]
    return "\n".join(lines) + "\n"


def _latex_cell(cell: Cell | None) -> str:
    if cell is None:
        return ""
    value, interval = shown(cell.score)
    bold = f"\\textbf{{{value}}}" if cell.best else value
    bold += f"\\textsuperscript{{{in_latex(cell.letters)}}}" if cell.letters else ""
    return f"{bold} {{\\scriptsize {interval}}}" if interval else bold
