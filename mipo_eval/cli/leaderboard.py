"""`mipo-eval leaderboard`: the store's methods, the paper's, and the paper's tables."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from mipo_eval.cli.options import json_option, store_option

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

    from mipo_eval.cli.output import Output
    from mipo_eval.reports.comparison import SuiteStrengths
    from mipo_eval.reports.leaderboard import Cell, LeaderboardQuery, Row, Section
    from mipo_eval.reports.paper import Published

    PublishedRows = Sequence[tuple[str, str, Mapping[str, Published]]]

_PUBLISHED = "\u2020"


@click.command()
@click.option("--suite", metavar="S", help="Only this suite.")
@click.option("--judge", metavar="J", help="Only this judge: a name or key in the store.")
@click.option(
    "--ties",
    type=click.Choice(["win", "half", "loss"]),
    default="win",
    show_default=True,
    help="What a tie with the reference is worth.",
)
@click.option(
    "--metric",
    metavar="M",
    help="Another metric: net_win_rate, win_rate_excluding_ties, self_bleu_4, answer_entropy, "
    "context_lift, response_tokens, ...",
)
@click.option("--paper", is_flag=True, help=f"Add the published rows, marked {_PUBLISHED}.")
@click.option(
    "--strengths",
    is_flag=True,
    help="Bradley-Terry strengths instead: what judges say of methods head to head.",
)
@click.option(
    "--table",
    type=click.IntRange(1, 7),
    metavar="N",
    help="Table N (1-7) of the paper: published beside measured.",
)
@click.option(
    "--figure",
    "number",
    type=click.IntRange(2, 5),
    metavar="N",
    help="Figure N (2-5) of the paper, as data or a picture.",
)
@click.option(
    "-o",
    "--output",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The figure's: .png, .svg, .vl.json (Vega-Lite), .csv or .json.",
)
@click.option(
    "--rows",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="YAML list naming runs: {name or run, model, method, variant, seed}.",
)
@store_option
@json_option
def leaderboard(  # noqa: PLR0913, PLR0917 - one parameter per flag; limited by a test
    suite: str | None,
    judge: str | None,
    ties: Literal["win", "half", "loss"],
    metric: str | None,
    paper: bool,
    strengths: bool,
    table: int | None,
    number: int | None,
    path: Path | None,
    rows: Path | None,
    store: str,
    as_json: bool,
) -> None:
    """Show all methods of the store on all data sets, with ranks, ties and what is missing."""
    from mipo_eval.cli.output import Output
    from mipo_eval.cli.paper import show_figure, show_table
    from mipo_eval.errors import ConfigError
    from mipo_eval.evaluation.score import Snapshot
    from mipo_eval.reports.leaderboard import LeaderboardQuery, section_json
    from mipo_eval.reports.leaderboard import leaderboard as build
    from mipo_eval.reports.names import read_rows
    from mipo_eval.reports.paper import published_rows
    from mipo_eval.store import Store
    from mipo_eval.store.validations import failing_by_short_key

    output = Output(as_json=as_json)
    rules = read_rows(rows) if rows else []
    if path is not None and number is None:
        raise ConfigError("--output is of a figure: add --figure 2, 3, 4 or 5")
    if number is not None:
        show_figure(output, (store, number, judge), rules, path, as_json=as_json)
        return
    if table is not None:
        show_table(output, (store, table, judge), rules, as_json=as_json)
        return
    asked = LeaderboardQuery(suite=suite, judge=judge, ties=ties, metric=metric, rules=tuple(rules))
    if strengths:
        _show_strengths(output, store, asked, as_json=as_json)
        return
    with Store.open(store, mode="read") as opened:
        now = Snapshot(opened)
        sections = build(now, asked)
        if metric and not sections and now.scores:
            raise ConfigError(f"no {metric} in {opened.name}: it has {', '.join(now.metrics)}")
        failing = failing_by_short_key(opened)
    known = {index: published_rows(s) if paper else [] for index, s in enumerate(sections)}
    if as_json:
        documents = [
            section_json(section)
            | {"judge_failings": list(_failings(section, failing))}
            | {"published": _published(known[index])}
            for index, section in enumerate(sections)
        ]
        output.document({"sections": documents})
        return
    for index, section in enumerate(sections):
        output.show(*_section(section, known[index], _failings(section, failing)))
        if paper and not known[index]:
            output.note(f"The paper has no {section.metric} on {', '.join(section.tasks)}.")
    if not sections:
        output.note("No scores to rank yet: evaluate with a judge, or a verifiable suite.")


def _show_strengths(
    output: "Output", store: str, asked: "LeaderboardQuery", *, as_json: bool
) -> None:
    from mipo_eval.evaluation.score import Snapshot
    from mipo_eval.reports.comparison import strengths_json, suite_strengths
    from mipo_eval.store import Store

    with Store.open(store, mode="read") as opened:
        found = suite_strengths(Snapshot(opened), asked)
    if as_json:
        output.document({"strengths": [strengths_json(one) for one in found]})
        return
    for one in found:
        output.show(*_strengths(one))
    if not found:
        output.note("No judge compared two methods: mipo-eval judge RUN RUN --suite S --judge J.")


def _strengths(found: "SuiteStrengths") -> list["RenderableType"]:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from mipo_eval.cli.tables import inert

    title = inert(f"{found.suite}: strengths head to head, judged by {found.judge}")
    title.stylize("bold")
    if found.reason:
        return [title, inert(found.reason)]
    table = Table(header_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("method", overflow="fold", min_width=20)
    for column in ("Elo", "95 %", "games"):
        table.add_column(column, justify="right", no_wrap=True)
    for one in found.strengths:
        low, high = one.elo_ci95
        table.add_row(inert(one.name), f"{one.elo:.0f}", f"[{low:.0f}, {high:.0f}]", str(one.games))
    told = "Elo: Bradley-Terry, 1000 is the average method, a tie is half a win; by prompt group."
    return [title, table, Text(told, style="dim")]


def _published(rows: "PublishedRows") -> list[dict[str, object]]:
    def number(of: "Published") -> dict[str, float | None]:
        return {"value": of.value, "std": of.std}

    return [
        {"model": m, "method": n, "cells": {task: number(of) for task, of in cells.items()}}
        for m, n, cells in rows
    ]


def _failings(section: "Section", failing: "Mapping[str, Sequence[str]]") -> "Sequence[str]":
    """Return why the section's judge failed its validation; nothing if it did not."""
    keys = (made.parts.get("judge_key", "") for made in section.signatures.values())
    return next((failing[key] for key in keys if key in failing), ())


def _section(
    section: "Section", published: "PublishedRows", failings: "Sequence[str]" = ()
) -> list["RenderableType"]:
    from mipo_eval.cli.tables import failing_lines, inert
    from mipo_eval.store.validations import MARK

    mark = f" {MARK}" if failings else ""
    by = f", judged by {section.judge}{mark}" if section.judge else ""
    common = "".join(f", {part}" for part in _common(section) if part)
    title = inert(f"{section.suite}: {section.metric}{by}{common}")
    title.stylize("bold")
    marks = _marks(section)
    parts: list[RenderableType] = [title]
    parts += failing_lines({"": failings}, {"": section.judge or ""})
    if len(section.tasks) > 1 or published:
        parts.append(_grid(section, published, marks))
    parts += [_details(section, task, marks) for task in section.tasks]
    return [*parts, *_notes(section, marks, published=bool(published))]


def _marks(section: "Section") -> dict[str, int]:
    """Return a number for each way in which a row was made differently from its column."""
    found: dict[str, int] = {}
    for row in section.rows:
        for cell in row.cells.values():
            if cell.differs:
                found.setdefault(_differs(cell), len(found) + 1)
    return found


def _differs(cell: "Cell") -> str:
    return ", ".join(f"{name} {own} (not {its})" for name, (its, own) in cell.differs.items())


def _common(section: "Section") -> tuple[str | None, str | None]:
    """Return the model and the method, each where all rows have the same one."""
    models = {row.name.model for row in section.rows}
    methods = {row.name.method for row in section.rows}
    model = models.pop() if len(models) == 1 else None
    return model, methods.pop() if len(methods) == 1 and model is None else None


def _name(row: "Row", section: "Section") -> str:
    """Return what tells a row from the others."""
    model, method = _common(section)
    parts = ["" if model else row.name.model, "" if method else row.name.method]
    variant = f" ({row.name.variant})" if row.name.variant else ""
    return " ".join(part for part in parts if part) + variant


def _value(cell: "Cell", metric: str, marks: "Mapping[str, int]") -> str:
    from mipo_eval.reports.labels import decimals

    if cell.value is None:
        return "none"
    digits = decimals(metric)
    text = f"{cell.value:.{digits}f}"
    if cell.std is not None:
        text += f" \u00b1 {cell.std:.{digits}f}"
    if cell.best_of:
        text += f" B{cell.best_of.k}"
    return text + (f" [{marks[_differs(cell)]}]" if cell.differs else "")


def _grid(section: "Section", published: "PublishedRows", marks: "Mapping[str, int]") -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from mipo_eval.cli.paper import printed
    from mipo_eval.cli.tables import inert

    table = Table(header_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("method", overflow="fold", min_width=20)
    for task in section.tasks:
        table.add_column(inert(task), justify="right", no_wrap=True)
    for row in section.rows:
        cells = [row.cells.get(task) for task in section.tasks]
        shown = [
            f"{_value(cell, section.metric, marks)} {cell.letters}".rstrip() if cell else "-"
            for cell in cells
        ]
        table.add_row(inert(_name(row, section)), *shown)
    table.add_section()
    for model, method, numbers in published:
        found = [numbers.get(task) for task in section.tasks]
        shown = [printed(number.value, number.std) if number else "-" for number in found]
        table.add_row(f"{model} {method} {_PUBLISHED}", *shown, style="cyan")
    return table


def _details(section: "Section", task: str, marks: "Mapping[str, int]") -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from mipo_eval.cli.tables import inert
    from mipo_eval.metrics.aggregate import direction
    from mipo_eval.reports.labels import decimals

    table = Table(header_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column(inert(task), overflow="fold", min_width=16)
    for column in ("value", "95 %", "rank", "tie", "n", "ties"):
        table.add_column(column, justify="right", no_wrap=True)
    digits = decimals(section.metric)
    sign = 1 if direction(section.metric) == "lower" else -1
    rows = [(row, cell) for row in section.rows if (cell := row.cells.get(task))]
    rows.sort(key=lambda both: (both[1].value is None, sign * (both[1].value or 0.0)))
    for row, cell in rows:
        interval = cell.ci95 and f"[{cell.ci95[0]:.{digits}f}, {cell.ci95[1]:.{digits}f}]"
        table.add_row(
            inert(_name(row, section)),
            _value(cell, section.metric, marks),
            interval or "",
            _rank(cell),
            cell.letters,
            _count(cell),
            "" if cell.tie_rate is None else f"{cell.tie_rate:.0f} %",
        )
    return table


def _count(cell: "Cell") -> str:
    seeds = f"x{cell.seeds}" if cell.seeds > 1 else ""
    return f"{cell.n}{seeds} ({cell.unscored})" if cell.unscored else f"{cell.n}{seeds}"


def _rank(cell: "Cell") -> str:
    if cell.rank is None or cell.rank_ci95 is None:
        return "" if cell.rank is None else str(cell.rank)
    low, high = cell.rank_ci95
    return str(cell.rank) if low == high == cell.rank else f"{cell.rank} ({low}-{high})"


def _notes(section: "Section", marks: "Mapping[str, int]", *, published: bool) -> list["Text"]:
    from rich.text import Text

    from mipo_eval.cli.tables import inert

    lines = [inert(f"[{number}] made differently: {how}") for how, number in marks.items()]
    for row in section.rows:
        for task, cell in row.cells.items():
            if cell.best_of_text:
                about = f"B{cell.best_of.k if cell.best_of else ''}"
                name = f"{row.name.model} {row.name.method}"
                lines.append(inert(f"{about} {name} on {task}: {cell.best_of_text}"))
    for line in lines:
        line.stylize("yellow")
    cells = [cell for row in section.rows for cell in row.cells.values()]
    ranked = any(cell.rank is not None for cell in cells)
    seeds = any(cell.std is not None for cell in cells)
    told = ["tie: rows that share a letter are not told apart (paired, 5 %, Holm)."] * ranked
    told.append("n: items x seeds (without a value).")
    told += ["value \u00b1 standard deviation over seeds."] * seeds
    told += [
        f"{_PUBLISHED} published (arXiv 2603.19294): other runs, other judge calls."
    ] * published
    return [*lines, *(Text(line, style="dim") for line in told)]
