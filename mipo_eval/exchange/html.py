"""The static report: one HTML file that needs nothing else and runs nothing foreign.

Every text from a model, a judge or a file is escaped. The page may run one script, ours, which
its content security policy names by hash; it loads nothing from anywhere.
"""

import base64
import hashlib
import math
from collections.abc import Sequence
from html import escape
from itertools import islice
from typing import Any

from mipo_eval import __version__
from mipo_eval.exchange.records import ItemRecord, RunRecord
from mipo_eval.exchange.scores import Cell, Table, shown, tables_of

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
        _signatures([table for _, table in tables]),
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


def _signatures(tables: Sequence[Table]) -> str:
    rows = (row for table in tables for _, row in table.rows)
    cells = (cell for row in rows for cell in row if cell is not None)
    lines = dict.fromkeys(cell.score.signature for cell in cells)
    return f"<ul>{''.join(f'<li><code>{escape(line)}</code></li>' for line in lines)}</ul>"
