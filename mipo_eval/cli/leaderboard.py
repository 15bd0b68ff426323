"""`mipo-eval leaderboard`: the store's methods, the paper's, and the paper's tables and figures."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mipo_eval.cli import options
from mipo_eval.cli.options import PUBLISHED, examples, reading

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

    from mipo_eval.cli.render import Grid, Output
    from mipo_eval.evaluation.score import Snapshot
    from mipo_eval.reports.leaderboard import Cell, LeaderboardQuery, Row, Section
    from mipo_eval.reports.paper import Published, Table
    from mipo_eval.reports.strengths import SuiteStrengths
    from mipo_eval.stats.length import LengthControlled
    from mipo_eval.store.engine import Store

    PublishedRows = Sequence[tuple[str, str, Mapping[str, Published]]]


@click.command(epilog=examples("leaderboard --suite demo", "leaderboard --table 1 -o table.tex"))
@click.option("--suite", metavar="SUITE", help="Show only this suite.")
@options.stored_judge_option()
@options.ties_option
@click.option(
    "--metric",
    metavar="M",
    help="Rank by another metric: net_win_rate, win_rate_excluding_ties, self_bleu_4, "
    "answer_entropy, context_lift, response_tokens, ...",
)
@click.option(
    "--paper", is_flag=True, help=f"Also show the paper's published numbers, marked {PUBLISHED}."
)
@click.option(
    "--control-length",
    is_flag=True,
    help="Also show what each win rate would be if responses were as long as the references.",
)
@click.option(
    "--strengths",
    is_flag=True,
    help="Show Bradley-Terry strengths (Elo) instead, from what `mipo-eval judge` compared.",
)
@click.option(
    "--table",
    type=click.Choice([*map(str, range(1, 8)), "results"]),
    metavar="N",
    help="Show table N (1 to 7) of the paper as it is printed, with your numbers beside the "
    "published ones; or results: published results of the paper's method on eight kinds of task.",
)
@click.option(
    "--others",
    type=click.Path(path_type=Path, dir_okay=False),
    multiple=True,
    metavar="FILE",
    help="Add numbers of other papers to --table: a CSV file or a YAML list of {model, method, "
    "dataset, value, source} and, if known, {std, n, metric}.",
)
@click.option(
    "--figure",
    type=click.IntRange(2, 5),
    metavar="N",
    help="Show figure N (2 to 5) of the paper from your own runs.",
)
@click.option(
    "-o",
    "--output",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the figure (.png, .svg, .vl.json for Vega-Lite, .csv, .json) or the table (.md, "
    ".tex, .html, .csv, .json) to this file.",
)
@options.rows_option
@partial(reading, needless="table")
def leaderboard(  # noqa: PLR0913 - one parameter per flag
    store: "Store",
    output: "Output",
    *,
    paper: bool,
    control_length: bool,
    strengths: bool,
    table: str | None,
    others: tuple[Path, ...],
    figure: int | None,
    path: Path | None,
    rows: Path | None,
    **given: Any,
) -> None:
    """Rank the methods in the store: who wins, and by how much?

    Each number has its 95 % interval, its rank and its tied group: rows that share a letter are not
    told apart by these items.
    """
    from mipo_eval.cli.paper_table import show_figure
    from mipo_eval.errors import ConfigError
    from mipo_eval.reports.leaderboard import LeaderboardQuery
    from mipo_eval.reports.names import read_rows

    asked = LeaderboardQuery(**given, rules=tuple(read_rows(rows) if rows else ()))
    if path is not None and figure is None and table is None:
        raise ConfigError(
            "--output writes a figure or a table: add --figure 2 to 5 or --table 1 to 7"
        )
    if others and table is None:
        raise ConfigError("--others adds to a table: add --table 1 to 7, or --table results")
    if figure is not None:
        show_figure(output, store, figure, asked, path)
    elif table is not None:
        number: Table = "results" if table == "results" else int(table)
        _show_table(output, store, number, asked, (others, path))
    elif strengths:
        _show_strengths(output, store, asked)
    else:
        _show_sections(output, store, asked, paper=paper, control_length=control_length)


def _check_known(now: "Snapshot", asked: "LeaderboardQuery") -> None:
    """Say what there is in place of what is asked for."""
    from mipo_eval.errors import ConfigError

    suites = sorted({run.suite for run, _ in now.scores})
    for what, name, known in (
        ("scores on the suite", asked.suite, suites),
        ("metric", asked.metric, now.metrics),
    ):
        if name and suites and name not in known:
            listed = ", ".join(known)
            raise ConfigError(f"{now.store.name} has no {what} {name!r}; it has {listed}")
    if suites and asked.suite and asked.metric:
        raise ConfigError(f"{now.store.name} has no {asked.metric} on the suite {asked.suite}")


def _show_sections(
    output: "Output",
    store: "Store",
    asked: "LeaderboardQuery",
    *,
    paper: bool,
    control_length: bool,
) -> None:
    from mipo_eval.errors import ConfigError
    from mipo_eval.evaluation.score import Snapshot
    from mipo_eval.reports.equal_length import against_references, controlled_json
    from mipo_eval.reports.leaderboard import leaderboard as build
    from mipo_eval.reports.leaderboard import section_json
    from mipo_eval.reports.paper import published_rows
    from mipo_eval.store.judges import failing_by_short_key

    now = Snapshot(store)
    sections = build(now, asked)
    if not sections:
        _check_known(now, asked)
    lengths = [against_references(now, one) if control_length else {} for one in sections]
    if control_length and not any(lengths):
        raise ConfigError(
            "--control-length is about win rates against references, and there are none here: "
            "leave it out"
        )
    failing = failing_by_short_key(store)
    known = [published_rows(section.metric, section.tasks) if paper else [] for section in sections]
    doubts = [_failings(section, failing) for section in sections]
    answers = [_answers(now, *about) for about in zip(sections, doubts, strict=True)]
    documents = [
        section_json(section)
        | {"judge_failings": list(failings), "headlines": said}
        | {"published": _published_json(published)}
        for section, published, failings, said in zip(sections, known, doubts, answers, strict=True)
    ]
    for document, controlled in zip(documents, lengths, strict=True):
        for (row, task), found in controlled.items():
            own = controlled_json(found, "characters") | {"ci95": found.ci95}
            document["rows"][row]["cells"][task]["at_equal_length"] = own
    output.document({"sections": documents})
    for section, published, failings, said, controlled in zip(
        sections, known, doubts, answers, lengths, strict=True
    ):
        output.show(*_section(section, published, failings, said))
        output.show(*_lengths(section, controlled))
        if paper and not published:
            tasks = ", ".join(section.tasks)
            output.note(f"The paper has no numbers of this kind on {tasks}.")
    if sections:
        cells = (next(iter(row.cells.values())) for row in sections[0].rows)
        best, *others = (cell.runs[0].run_id[:8] for cell in cells)
        told = ["compare", best, others[0]] if others else ["show", best]
        output.suggest("See it item by item", *told)
    else:
        output.suggest("No scores to rank yet. Make some", "--model", "demo", "--suite", "demo")


def _answers(now: "Snapshot", section: "Section", failings: Sequence[str]) -> dict[str, str]:
    """Return by task, in one sentence, who wins, by how much, and whether that is sure."""
    from mipo_eval.dashboards.tables.comparison import (
        OWN_BASE,
        against,
        against_own,
        usual_comparison,
    )
    from mipo_eval.dashboards.tables.headline import headline, short_names

    short = next((made.parts.get("judge_key") for made in section.signatures.values()), None)
    judge = next((one.key for one in now.judges if short and one.key.startswith(short)), None)
    usual = usual_comparison(section.rows)
    if usual == OWN_BASE:
        pairs, called = against_own(now, section, judge), OWN_BASE
    elif isinstance(usual, int):
        pairs, called = against(now, section, judge, usual), short_names(section.rows)[usual]
    else:
        pairs, called = {}, None
    return {task: headline(section, task, pairs, called, failings) for task in section.tasks}


def _lengths(
    section: "Section", found: "Mapping[tuple[int, str], LengthControlled]"
) -> "list[RenderableType]":
    """Return the win rates of a section at equal length; nothing where there are none."""
    from mipo_eval.cli.render import estimate, length_grid

    if not found:
        return []
    rows = [
        (
            _name(section.rows[row], section) + (f", {task}" if len(section.tasks) > 1 else ""),
            estimate(one.rate, one.ci95),
            f"{one.raw_rate:.1f}",
            "characters",
            one,
        )
        for (row, task), one in found.items()
    ]
    return length_grid("method", rows, "a response")


def _show_strengths(output: "Output", store: "Store", asked: "LeaderboardQuery") -> None:
    from mipo_eval.evaluation.score import Snapshot
    from mipo_eval.reports.strengths import strengths_json, suite_strengths

    found = suite_strengths(Snapshot(store), asked)
    output.document({"strengths": [strengths_json(one) for one in found]})
    for one in found:
        output.show(*_strengths(one))
    if not found:
        told = ("judge", "RUN", "RUN", "--judge", "JUDGE")
        output.suggest("No judge has compared two methods yet. Let one do it", *told)


def _strengths(found: "SuiteStrengths") -> "list[RenderableType]":
    from mipo_eval.cli.render import Grid, inert, interval

    title = inert(f"{found.suite}: strengths head to head, judged by {found.judge}", "bold")
    if found.reason:
        return [title, inert(found.reason)]
    table = Grid("method", numbers=("Elo", "95 %", "games"))
    table.columns[0].min_width = 20
    for one in found.strengths:
        table.add(one.name, f"{one.elo:.0f}", interval(one.elo_ci95, ".0f"), str(one.games))
    told = "Elo (Bradley-Terry): 1000 is the average method; a tie is half a win."
    return [title, table, inert(told, "dim")]


def _published_json(rows: "PublishedRows") -> list[dict[str, object]]:
    return [
        {
            "model": model,
            "method": method,
            "cells": {task: {"value": of.value, "std": of.std} for task, of in cells.items()},
        }
        for model, method, cells in rows
    ]


def _failings(section: "Section", failing: Mapping[str, Sequence[str]]) -> Sequence[str]:
    """Return why the section's judge failed its validation; nothing if it did not."""
    keys = (made.parts.get("judge_key", "") for made in section.signatures.values())
    return next((failing[key] for key in keys if key in failing), ())


def _section(
    section: "Section",
    published: "PublishedRows",
    failings: Sequence[str],
    answers: Mapping[str, str],
) -> "list[RenderableType]":
    from mipo_eval.cli.render import failing_lines, reference_lines, wrapped
    from mipo_eval.reports.labels import metric_title
    from mipo_eval.store.judges import MARK

    mark = f" {MARK}" if failings else ""
    by = f", judged by {section.judge}{mark}" if section.judge else ""
    model, method = _common(section)
    common = f", model {model}" if model else f", {method}" if method else ""
    marks = _marks(section)
    title = f"{section.suite}: {metric_title(section.metric)}{by}{common}"
    parts: list[RenderableType] = [wrapped(title, "bold")]
    for task, said in answers.items():
        parts.append(wrapped(f"{task}: {said}" if len(answers) > 1 else said))
    parts += failing_lines({"": failings}, {"": section.judge or ""})
    parts += reference_lines(section.signatures.items())
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


def _value(cell: "Cell", metric: str, marks: Mapping[str, int]) -> str:
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


def _grid(section: "Section", published: "PublishedRows", marks: Mapping[str, int]) -> "Grid":
    from mipo_eval.cli.render import Grid
    from mipo_eval.reports.labels import tied_group

    table = Grid("method", numbers=section.tasks)
    table.columns[0].min_width = 20
    for row in section.rows:
        cells = [row.cells.get(task) for task in section.tasks]
        shown = [
            f"{_value(cell, section.metric, marks)} {tied_group(cell.letters)}".rstrip()
            if cell
            else "-"
            for cell in cells
        ]
        table.add(_name(row, section), *shown)
    table.add_section()
    for model, method, numbers in published:
        found = [numbers.get(task) for task in section.tasks]
        shown = [_printed(number.value, number.std) if number else "-" for number in found]
        table.add(f"{model} {method} {PUBLISHED}", *shown, style="cyan")
    return table


def _details(section: "Section", task: str, marks: Mapping[str, int]) -> "Grid":
    from mipo_eval.cli.render import Grid, interval
    from mipo_eval.metrics.aggregate import sign
    from mipo_eval.reports.labels import decimals, tied_group

    down = -sign(section.metric)
    rows = [(row, cell) for row in section.rows if (cell := row.cells.get(task))]
    rows.sort(key=lambda both: (both[1].value is None, down * _level(both[1])))
    heads = ("value", "95 %", "rank", "tied\ngroup", "n", "tie\nrate")
    lines = []
    for row, cell in rows:
        seeds = f"x{cell.seeds}" if cell.seeds > 1 else ""
        unscored = f" ({cell.unscored})" if cell.unscored else ""
        shown = (
            _value(cell, section.metric, marks),
            interval(cell.ci95, f".{decimals(section.metric)}f"),
            _rank(cell),
            tied_group(cell.letters),
            f"{'?' if cell.n is None else cell.n}{seeds}{unscored}",
            "" if cell.tie_rate is None else f"{cell.tie_rate:.1f} %",
        )
        lines.append((_name(row, section), shown))
    told = [place for place in range(len(heads)) if any(shown[place] for _, shown in lines)]
    table = Grid(task, numbers=[heads[place] for place in told])
    table.padding = (0, 1, 0, 0)  # 80 columns are enough
    table.columns[0].min_width = 16
    for name, shown in lines:
        table.add(name, *(shown[place] for place in told))
    return table


def _level(cell: "Cell") -> float:
    return (cell.value or 0.0) if cell.level is None else cell.level


def _rank(cell: "Cell") -> str:
    if cell.rank is None or cell.rank_ci95 is None:
        return "" if cell.rank is None else str(cell.rank)
    low, high = cell.rank_ci95
    return str(cell.rank) if low == high == cell.rank else f"{cell.rank} ({low}-{high})"


def _notes(section: "Section", marks: Mapping[str, int], *, published: bool) -> "list[Text]":
    from mipo_eval.cli.render import inert
    from mipo_eval.evaluation.wishes import SATISFIED_WISHES

    warnings = [f"[{number}] made differently: {how}" for how, number in marks.items()]
    for row in section.rows:
        for task, cell in row.cells.items():
            if cell.best_of and cell.best_of_text:
                name = f"{row.name.model} {row.name.method}"
                warnings.append(f"B{cell.best_of.k} {name} on {task}: {cell.best_of_text}")
            if cell.missing:
                name = f"{row.name.model} {row.name.method}"
                warnings.append(
                    f"missing: {name} has no value on {cell.missing} items of {task} that others "
                    "have; rows are ranked by the items that all of them have"
                )
    cells = [cell for row in section.rows for cell in row.cells.values()]
    told = ["n: items x seeds (unscored)."]
    if any(cell.rank is not None for cell in cells):
        told.insert(
            0, "tied group: rows that share a letter are not told apart (5 % over all pairs)."
        )
    if any(cell.std is not None for cell in cells):
        told.append("value: mean \u00b1 standard deviation over seeds.")
    if section.metric == SATISFIED_WISHES:
        told.append(
            "A response that brings up what does not belong satisfies no wish; --metric followed "
            "counts the wishes alone, --metric restraint the responses that leave it out."
        )
    if published:
        told.append(f"{PUBLISHED} published (arXiv 2603.19294), from other runs and judge calls.")
    return [inert(line, "yellow") for line in warnings] + [inert(line, "dim") for line in told]


def _show_table(
    output: "Output",
    store: "Store",
    number: "Table",
    asked: "LeaderboardQuery",
    files: tuple[Sequence[Path], Path | None],
) -> None:
    """Print a table of the paper; `files` are of others' numbers, and the one to write."""
    from mipo_eval.cli.paper_table import grid_lines
    from mipo_eval.reports.others import read_others
    from mipo_eval.reports.paper import published
    from mipo_eval.reports.paper_entries import METRICS
    from mipo_eval.reports.paper_files import grid_json, write_table
    from mipo_eval.reports.paper_grid import paper_grid
    from mipo_eval.reports.paper_table import paper_table

    others = read_others(files[0])
    entries = paper_table(store, number, judge=asked.judge, rules=asked.rules, others=others)
    grid = paper_grid(number, entries)
    if files[1] is not None:
        write_table(number, grid, files[1])
    output.document(grid_json(number, grid))
    output.show(*grid_lines(grid, output.width))
    of_paper = published(number)
    measured = [entry for entry in entries if entry.measured is not None]
    both = sum(entry.published is not None for entry in measured)
    more = f", and {len(measured) - both} that the paper does not have" * (len(measured) > both)
    output.note(
        f"You have measured {both} of the {len(of_paper)} published numbers{more}. "
        "To say which run is which method: --rows FILE."
    )
    if left := sum(other.metric_name not in METRICS[number] for other in others):
        output.note(
            f"{left} of {len(others)} numbers of --others belong to another metric's table."
        )
    if files[1] is not None:
        output.note(f"Written: {files[1]}")


def _printed(value: float | None, std: float | None) -> str:
    """Return a number as the paper prints it, with its standard deviation over seeds."""
    if value is None:
        return "-"
    digits = 3 if abs(value) < 1 and value else 1
    return f"{value:.{digits}f}" + (f" \u00b1 {std:.{digits}f}" if std is not None else "")
