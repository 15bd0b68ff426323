"""A stored run as a record again, for writing it in the formats of others.

Scores of runs as rows, and as CSV, Parquet, Markdown, LaTeX and JSON.

The static report: one HTML file that needs nothing else and runs nothing foreign.

Every text from a model, a judge or a file is escaped. The page may run one script, ours, which
its content security policy names by hash; it loads nothing from anywhere.

Writing runs to files, each whole or not at all.
"""

import base64
import csv
import hashlib
import io
import json
import math
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Sequence
from html import escape
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa

from mipo_eval import __version__
from mipo_eval.errors import ConfigError, DataError
from mipo_eval.importers import alpaca_eval, lm_eval
from mipo_eval.importers.base import ItemRecord, JudgeRecord, RunRecord
from mipo_eval.metrics.directions import direction
from mipo_eval.records import Score
from mipo_eval.signature import rule, split
from mipo_eval.store import Store, tables
from mipo_eval.store.responses import answered
from mipo_eval.store.runs import Run, generation_spec, get_scores
from mipo_eval.store.validations import MARK, failing_by_signature, judge_in
from mipo_eval.store.verdicts import get_choices, get_grades, ratings_of, totals
from mipo_eval.verdict import Choice

_DERIVED = "from ratings"
_RATED = 20
"""Items whose single ratings are loaded: a report shows fewer."""


def load_record(store: Store, run: Run) -> RunRecord:
    """Return everything the store holds of a run.

    Ratings of response and reference are shown as the choice that follows from them: the higher
    sum wins; an item with a rating missing has no choice.
    """
    spec = generation_spec(store, run.generation_key)
    keys = _text_keys(store, run)
    entries = [
        ItemRecord(
            a.task,
            a.item,
            a.response.text if a.response else None,
            keys[a.item.key][0] or "",
            keys[a.item.key][1],
        )
        for a in answered(store, run.list_key, run.generation_key)
    ]
    ours = {(entry.item.key, entry.text_key) for entry in entries}
    choices = [c for c in get_choices(store, run.list_key) if (c.item_key, c.text_key_a) in ours]
    grades = [g for g in get_grades(store, run.list_key) if (g.item_key, g.text_key) in ours]
    judges = _judges(store)
    for key in _rubric_judges(store, run):
        choices += _from_ratings(store, run, key, entries)
    used = {c.judge_key for c in choices} | {g.judge_key for g in grades}
    return RunRecord(
        source=str(spec.get("imported", "mipo-eval")),
        model=run.model,
        suite=run.suite,
        entries=entries,
        judges=[judge for key, judge in judges.items() if key in used],
        choices=choices,
        grades=grades,
        ratings=_ratings(store, entries),
        scores=get_scores(store, run.run_id),
        failing=failing_by_signature(store),
        about={name: spec[name] for name in ("baseline",) if name in spec},
    )


def _judges(store: Store) -> dict[str, JudgeRecord]:
    query = sa.select(tables.judges).order_by(tables.judges.c.name, tables.judges.c.judge_key)
    with store.read() as connection:
        return {
            row.judge_key: JudgeRecord(
                source=str(row.spec.get("imported", _DERIVED)), name=row.name, stored=row.judge_key
            )
            for row in connection.execute(query)
        }


def _ratings(store: Store, entries: list[ItemRecord]) -> dict[tuple[str, str], list[str]]:
    """Return what was rated of the first items with a text, each preference beside its reference.

    Preferences are counted from 1, as a report lists them.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for entry in islice((entry for entry in entries if entry.text), _RATED):
        key = entry.item.key
        other = {
            (judge, aspect): rating
            for judge, aspect, rating, _ in ratings_of(store, key, entry.reference_key or "")
        }
        lines = [
            f"{judge}: preference {aspect + 1} rated {why if rating is None else rating}"
            f" (reference {other.get((judge, aspect)) or 'none'})"
            for judge, aspect, rating, why in ratings_of(store, key, entry.text_key)
        ]
        if lines:
            found[key, entry.text_key] = lines
    return found


def _rubric_judges(store: Store, run: Run) -> list[str]:
    of_list = sa.select(tables.item_lists.c.item_key).where(
        tables.item_lists.c.list_key == run.list_key
    )
    query = (
        sa.select(tables.verdicts.c.judge_key)
        .where(tables.verdicts.c.item_key.in_(of_list))
        .distinct()
        .order_by(tables.verdicts.c.judge_key)
    )
    with store.read() as connection:
        return list(connection.execute(query).scalars())


def _from_ratings(
    store: Store, run: Run, judge_key: str, entries: list[ItemRecord]
) -> list[Choice]:
    found = totals(store, judge_key, run.list_key)
    made = []
    for entry in entries:
        mine = found.get((entry.item.key, entry.text_key))
        other = found.get((entry.item.key, entry.reference_key or ""))
        wanted = len(entry.item.preferences)
        if mine is None or other is None or entry.reference_key is None:
            continue
        whole = mine.rated == other.rated == wanted
        ahead = mine.points - other.points
        made.append(
            Choice(
                judge_key=judge_key,
                item_key=entry.item.key,
                text_key_a=entry.text_key,
                text_key_b=entry.reference_key,
                shown_first="?",
                winner=None if not whole else "a" if ahead > 0 else "b" if ahead < 0 else "tie",
                reason=None if whole else mine.reason or other.reason,
            )
        )
    return made


def _text_keys(store: Store, run: Run) -> dict[str, tuple[str | None, str | None]]:
    """Return per item the keys of its response and of its reference; stand-ins among them."""
    query = (
        sa.select(
            tables.items.c.item_key, tables.responses.c.text_key, tables.items.c.reference_key
        )
        .join(tables.item_lists, tables.item_lists.c.item_key == tables.items.c.item_key)
        .outerjoin(
            tables.responses,
            (tables.responses.c.item_key == tables.items.c.item_key)
            & (tables.responses.c.generation_key == run.generation_key),
        )
        .where(tables.item_lists.c.list_key == run.list_key)
    )
    with store.read() as connection:
        return {item: (text, reference) for item, text, reference in connection.execute(query)}


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
            "metric": score.metric,
            "judge": split(score.signature).get("judge"),
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
    return run.failing.get(judge_in(score.signature) or "", ())


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
            parts = split(score.signature)
            judge = parts.get("judge", "")
            if failings := _failings(run, score):
                judge = f"{judge} {MARK}"
                notes[f"{judge} fails its validation on {'; on '.join(failings)}"] = None
            key = (score.task, score.metric, judge, rule(score.signature))
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


_SAMPLES = 5
_SAMPLE_CHARACTERS = 4000
_WIDTH, _ROW, _LEFT, _RIGHT, _NAME = 820, 26, 320, 70, 44

_STYLE = """
:root { color-scheme: light dark; --line: #d4d7dd; --soft: #f4f5f7; --dim: #5c6370;
  --mark: #1f5fbf; --paper: #fff; --ink: #1b1e24; }
@media (prefers-color-scheme: dark) { :root { --line: #3a3f4a; --soft: #23262d; --dim: #a3a9b5;
  --mark: #7fb0ff; --paper: #16181d; --ink: #e6e8ec; } }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 1100px; margin: 0 auto; padding: 24px 20px 60px; }
h1 { font-size: 24px; margin: 0 0 4px; } h2 { font-size: 19px; margin: 36px 0 8px; }
h3 { font-size: 16px; margin: 24px 0 6px; overflow-wrap: anywhere; }
p, figcaption { color: var(--dim); margin: 4px 0; }
.wide { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 6px 10px; text-align: left; border-bottom: 1px solid var(--line);
  vertical-align: top; }
tr:last-child td { border-bottom: 0; }
thead th { background: var(--soft); padding: 0; vertical-align: bottom; }
thead button { all: unset; cursor: pointer; padding: 6px 10px; font-weight: 600;
  display: block; max-width: 190px; overflow-wrap: break-word; }
thead button:focus-visible { outline: 2px solid var(--mark); outline-offset: -2px; }
th[aria-sort=ascending] button::after { content: " \\2191"; }
th[aria-sort=descending] button::after { content: " \\2193"; }
.number { text-align: right; } td.number { white-space: nowrap; }
td.number b { color: var(--mark); }
thead .number button { text-align: right; margin-left: auto; }
small { color: var(--dim); font-size: 12px; display: block; }
svg { max-width: 100%; height: auto; }
svg text { fill: var(--ink); font: 12px system-ui, sans-serif; }
svg .dim { fill: var(--dim); } svg line { stroke: var(--line); }
svg .span { stroke: var(--mark); stroke-width: 2; } svg circle { fill: var(--mark); }
details { border: 1px solid var(--line); border-radius: 6px; margin: 8px 0; padding: 6px 12px; }
summary { cursor: pointer; overflow-wrap: anywhere; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: var(--soft); padding: 8px 10px;
  border-radius: 6px; margin: 4px 0 10px; font: 13px/1.45 ui-monospace, monospace; }
code { font: 12px/1.5 ui-monospace, monospace; overflow-wrap: anywhere; color: var(--dim); }
li { margin: 2px 0; } .id { white-space: nowrap; } figure { margin: 12px 0 20px; }
"""

_SCRIPT = """
for (const button of document.querySelectorAll("thead button")) {
  button.addEventListener("click", () => {
    const head = button.parentElement;
    const table = head.closest("table");
    const body = table.tBodies[0];
    const column = [...head.parentElement.children].indexOf(head);
    const up = head.getAttribute("aria-sort") !== "ascending";
    const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
    const missing = (text) => text.trim() === "";
    const compare = (a, b) => {
      const [x, y] = [key(a), key(b)];
      if (missing(x) || missing(y)) return missing(x) - missing(y);
      const order = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
      return up ? order : -order;
    };
    for (const other of head.parentElement.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    body.append(...[...body.rows].sort(compare));
  });
}
"""


def report(runs: Sequence[tuple[str, RunRecord]]) -> str:
    """Return runs as one HTML page: scores, intervals as plots, responses with verdicts."""
    tables = tables_of(runs)
    title = "Evaluation report"
    sections = [
        f"<h1>{title}</h1>",
        f"<p>{len(runs)} {'run' if len(runs) == 1 else 'runs'}, written by mipo-eval "
        f"{escape(__version__)}. Click a column's head to sort.</p>",
        "<h2>Runs</h2>",
        _run_table(runs),
        "<h2>Scores</h2>",
        "<p>With 95 % intervals; the best of each row is marked where at least two runs have a "
        "number made by the same rules. Runs of a row that share a letter are not told apart "
        "(paired, 5 %, Holm).</p>",
        *(f"<h3>{escape(suite)}</h3>\n{_score_table(table)}" for suite, table in tables),
        "<h2>Intervals</h2>",
        *(f"<h3>{escape(suite)}</h3>\n{_plots(table)}" for suite, table in tables),
        "<h2>Responses</h2>",
        *(_responses(run_id, run) for run_id, run in runs),
        "<h2>Signatures</h2>",
        "<p>Every choice that changes a number; two numbers are comparable when these agree.</p>",
        _html_signatures([table for _, table in tables]),
    ]
    return _page(title, "\n".join(sections))


def _page(title: str, body: str) -> str:
    digest = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    style = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'sha256-{style}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n"
        f"<script>{_SCRIPT}</script>\n</body>\n</html>\n"
    )


def _head(names: Sequence[tuple[str, bool]]) -> str:
    cells = "".join(
        f"<th{' class=number' if number else ''}>"
        f'<button type="button" title="{escape(name)}">{escape(name)}</button></th>'
        for name, number in names
    )
    return f"<thead><tr>{cells}</tr></thead>"


def _table(head: Sequence[tuple[str, bool]], rows: Sequence[str]) -> str:
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    return f'<div class="wide"><table>{_head(head)}<tbody>\n{body}\n</tbody></table></div>'


def _number(value: float | None, text: str) -> str:
    told = "" if value is None else repr(value)
    return f'<td class="number" data-value="{told}">{text}</td>'


def _run_table(runs: Sequence[tuple[str, RunRecord]]) -> str:
    head = [("run", False), ("model", False), ("suite", False), ("items", True)]
    head += [("responses", True), ("judges", False)]
    rows = []
    for run_id, run in runs:
        done = sum(entry.text is not None for entry in run.entries)
        judges = ", ".join(dict.fromkeys(judge.name for judge in run.judges))
        rows.append(
            f"<td class=id><code>{escape(run_id[:12])}</code></td><td>{escape(run.model)}</td>"
            f"<td>{escape(run.suite)}</td>{_number(len(run.entries), str(len(run.entries)))}"
            f"{_number(done, str(done))}<td>{escape(judges)}</td>"
        )
    return _table(head, rows)


def _score_table(table: Table) -> str:
    head = [("task", False), ("metric", False), ("judge", False)]
    head += [(name, True) for name in table.runs]
    rows = [
        "".join(f"<td>{escape(name)}</td>" for name in names) + "".join(map(_score_cell, cells))
        for names, cells in table.rows
    ]
    told = "".join(f"<p>{escape(note)}</p>" for note in table.notes)
    return _table(head, rows) + told


def _score_cell(cell: Cell | None) -> str:
    if cell is None:
        return _number(None, "")
    value, interval = shown(cell.score)
    marked = f"<b>{value}</b>" if cell.best else value
    marked += f"<sup>{escape(cell.letters)}</sup>" if cell.letters else ""
    left_out = f", {cell.score.unscored} unscored" if cell.score.unscored else ""
    detail = f"<small>{interval} n {cell.score.n}{left_out}</small>"
    return _number(cell.score.value, marked + detail)


def _plots(table: Table) -> str:
    """Return a plot per metric of a task: a dot and its interval for each run and judge."""
    judges = {judge for (_, _, judge), _ in table.rows}
    told: dict[str, list[tuple[str, Cell]]] = {}
    for (task, metric, judge), cells in table.rows:
        for run, cell in zip(table.runs, cells, strict=True):
            if cell is None or cell.score.value is None or cell.score.ci95 is None:
                continue
            by_run = run if len(judges) == 1 else f"{run}, {judge}" if judge else run
            label = judge if judge and len(table.runs) == 1 else by_run
            told.setdefault(f"{metric}, {task}", []).append((label, cell))
    plots = (_plot(label, marks) for label, marks in told.items())
    return "\n".join(plots) or "<p>No score has an interval.</p>"


def _ticks(low: float, high: float) -> list[float]:
    """Return round numbers that span an interval, about five of them."""
    span = high - low or abs(high) or 1.0
    unit = 10.0 ** math.floor(math.log10(span / 4))
    step = next(unit * n for n in (1, 2, 5, 10) if unit * n >= span / 4)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [step * n for n in range(first, max(last, first + 1) + 1)]


def _plot(label: str, told: Sequence[tuple[str, Cell]]) -> str:
    ends = [end for _, cell in told for end in cell.score.ci95 or ()]
    values = [cell.score.value or 0.0 for _, cell in told]
    ticks = _ticks(min(*ends, *values), max(*ends, *values))
    low, high = ticks[0], ticks[-1]

    def x(value: float) -> float:
        return round(_LEFT + (value - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT), 1)

    height = _ROW * len(told) + 34
    marks = []
    for tick in ticks:
        marks.append(f'<line x1="{x(tick)}" x2="{x(tick)}" y1="4" y2="{height - 26}"/>')
        marks.append(
            f'<text class="dim" x="{x(tick)}" y="{height - 8}" text-anchor="middle">'
            f"{round(tick, 9):g}</text>"
        )
    for index, (name, cell) in enumerate(told):
        y = 4 + _ROW * index + _ROW / 2
        start, end = cell.score.ci95 or (0.0, 0.0)
        shortened = name if len(name) <= _NAME else f"{name[: _NAME // 2]}…{name[-_NAME // 2 :]}"
        marks.append(
            f'<text x="{_LEFT - 12}" y="{y + 4}" text-anchor="end">{escape(shortened)}'
            f"<title>{escape(name)}</title></text>"
            f'<line class="span" x1="{x(start)}" x2="{x(end)}" y1="{y}" y2="{y}"/>'
            f'<circle cx="{x(cell.score.value or 0.0)}" cy="{y}" r="4"/>'
            f'<text x="{_WIDTH - _RIGHT + 12}" y="{y + 4}">{shown(cell.score)[0]}</text>'
        )
    return (
        f'<figure><figcaption>{escape(label)}</figcaption><svg role="img" '
        f'aria-label="{escape(label)}" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" '
        f'height="{height}">{"".join(marks)}</svg></figure>'
    )


def _responses(run_id: str, run: RunRecord) -> str:
    said = _verdicts(run)
    judged = [e for e in run.entries if e.text and said.get((e.item.key, e.text_key))]
    others = [e for e in run.entries if e.text and not said.get((e.item.key, e.text_key))]
    absent = [e for e in run.entries if not e.text]
    chosen = list(islice((*judged, *others, *absent), _SAMPLES))
    title = f"{run.model} on {run.suite}"
    parts = [f"<h3>{escape(title)} <code>{escape(run_id[:12])}</code></h3>"]
    parts.append(f"<p>{len(chosen)} of {len(run.entries)} items.</p>")
    parts += [_sample(entry, said.get((entry.item.key, entry.text_key), [])) for entry in chosen]
    return "\n".join(parts)


def _verdicts(run: RunRecord) -> dict[tuple[str, str], list[str]]:
    """Return per (item, text) what judges said, in words."""
    names = {judge.key: judge.name for judge in run.judges}
    found = {key: list(lines) for key, lines in run.ratings.items()}
    words: dict[Any, str] = {
        "a": "prefers the response",
        "b": "prefers the reference",
        "tie": "tie",
    }
    for choice in run.choices:
        told = words.get(choice.winner, choice.reason or "no verdict")
        if choice.preference is not None:
            told += f" (probability of the response {choice.preference:.2f})"
        order = {"a": ", response shown first", "b": ", reference shown first"}
        line = f"{names.get(choice.judge_key, '?')}: {told}{order.get(choice.shown_first, '')}"
        found.setdefault((choice.item_key, choice.text_key_a), []).append(line)
    for grade in run.grades:
        told = f"{grade.value:g}" if grade.value is not None else grade.reason or "no grade"
        line = f"{names.get(grade.judge_key, '?')}: {told}"
        found.setdefault((grade.item_key, grade.text_key), []).append(line)
    return found


def _sample(entry: ItemRecord, said: Sequence[str]) -> str:
    item = entry.item
    parts = [("prompt", item.prompt), ("context", item.context), ("response", entry.text)]
    parts.append(("reference", item.reference))
    blocks = [f"<small>{name}</small><pre>{_long(text)}</pre>" for name, text in parts if text]
    if not entry.text:
        blocks.append("<p>No response is stored.</p>")
    if item.preferences:
        wanted = "".join(f"<li>{escape(text)}</li>" for text in item.preferences)
        blocks.append(f"<small>preferences</small><ul>{wanted}</ul>")
    verdicts = "".join(f"<li>{escape(line)}</li>" for line in said)
    blocks.append(f"<small>verdicts</small><ul>{verdicts}</ul>" if said else "<p>Not judged.</p>")
    name = f"{entry.task}: {item.item_id}"
    return f"<details><summary>{escape(name)}</summary>{''.join(blocks)}</details>"


def _long(text: str) -> str:
    if len(text) <= _SAMPLE_CHARACTERS:
        return escape(text)
    left = len(text) - _SAMPLE_CHARACTERS
    return f"{escape(text[:_SAMPLE_CHARACTERS])}\n[{left:,} more characters]"


def _html_signatures(tables: Sequence[Table]) -> str:
    rows = (row for table in tables for _, row in table.rows)
    cells = (cell for row in rows for cell in row if cell is not None)
    lines = dict.fromkeys(cell.score.signature for cell in cells)
    return f"<ul>{''.join(f'<li><code>{escape(line)}</code></li>' for line in lines)}</ul>"


Runs = Sequence[tuple[str, RunRecord]]
"""(run id, run), in the order they were named."""


def write(runs: Runs, wanted: str, path: Path, *, judge: str | None = None) -> list[Path]:
    """Write runs to `path` in a format of `FORMATS`, and return the files written.

    Args:
        runs: what to write; AlpacaEval's and lm-eval's formats take one run a file.
        wanted: a name of `FORMATS`.
        path: replaced when it exists; its folder has to exist.
        judge: whose choices AlpacaEval's format takes; needed when there are several.

    Raises:
        ConfigError: the folder is missing, or several runs or judges do not fit the format.
        DataError: the runs have nothing of what the format holds.
    """
    if not path.parent.is_dir():
        raise ConfigError(f"{path} cannot be written: the folder {path.parent} is not there")
    if path.is_dir():
        raise ConfigError(f"{path} is a folder: name a file")
    if wanted == "alpaca_eval":
        _replace(path, _json(alpaca_eval.annotations(_one(runs, wanted), _judge(runs, judge))))
        return [path]
    if wanted == "lm_eval":
        return _write_lm_eval(_one(runs, wanted), path)
    if not any(run.scores for _, run in runs):
        raise DataError("none of these runs has a score: finish one, or name another")
    if wanted == "parquet":
        _replace_with(path, lambda part: to_parquet(score_rows(runs), part))
    else:
        _replace(path, FORMATS[wanted](runs))
    return [path]


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


FORMATS: dict[str, Callable[[Runs], str]] = {
    "csv": lambda runs: to_csv(score_rows(runs)),
    "md": lambda runs: "\n".join(to_markdown(s, table) for s, table in tables_of(runs)),
    "latex": lambda runs: "\n".join(to_latex(s, table) for s, table in tables_of(runs)),
    "json": lambda runs: _json({"scores": score_rows(runs)}),
    "html": report,
}
"""Formats that are one text; parquet, alpaca_eval and lm_eval come beside them."""
NAMES = ("csv", "parquet", "md", "latex", "json", "html", "alpaca_eval", "lm_eval")


def _one(runs: Runs, wanted: str) -> RunRecord:
    if len(runs) != 1:
        raise ConfigError(f"a file in {wanted}'s format holds one run, not {len(runs)}")
    return runs[0][1]


def _judge(runs: Runs, name: str | None) -> JudgeRecord:
    run = _one(runs, "alpaca_eval")
    chose = {choice.judge_key for choice in run.choices}
    judges = [judge for judge in run.judges if judge.key in chose]
    if name is not None:
        judges = [judge for judge in judges if judge.name == name]
    if not judges:
        by = f" by {name!r}" if name is not None else ""
        raise DataError(f"this run has no pairwise choices{by} and no ratings beside references")
    if len(judges) > 1:
        names = ", ".join(judge.name for judge in judges)
        raise ConfigError(f"several judges chose in this run: name one with --judge ({names})")
    return judges[0]


def _write_lm_eval(run: RunRecord, path: Path) -> list[Path]:
    """Write the results document and, beside it, a file of samples per task."""
    if not (path.stem.startswith("results_") and path.suffix == ".json"):
        raise ConfigError(
            f"{path.name}: lm-eval finds samples by name; call the file results_TIME.json, as "
            "results_2026-01-31T12-00-00.json"
        )
    time = path.stem.removeprefix("results_")
    written = []
    for task, rows in lm_eval.samples(run).items():
        safe = "".join(c if c.isalnum() or c in "-_.," else "-" for c in task)
        if safe != task:
            raise ConfigError(f"task {task!r} cannot stand in a file name: lm-eval needs it there")
        beside = path.with_name(f"samples_{task}_{time}.jsonl")
        lines = (json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows)
        _replace(beside, "".join(f"{line}\n" for line in lines))
        written.append(beside)
    _replace(path, _json(lm_eval.results_document(run)))
    return [path, *written]


def _replace(path: Path, text: str) -> None:
    _replace_with(path, lambda part: part.write_text(text, encoding="utf-8", newline="\n"))


def _replace_with(path: Path, make: Callable[[Path], object]) -> None:
    """Make a file under another name first: a reader never sees half of it."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
        part = Path(name)
        try:
            make(part)
            part.chmod(0o644)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from None
