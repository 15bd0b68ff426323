"""The leaderboard: what there is to choose, the rows, and tables of them.

`number_table` has one line a number, for the download; `wide` one line a method, for the eye.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, NamedTuple

import pandas as pd

from mipo_eval.dashboards.links import address, run_name
from mipo_eval.dashboards.markup import MEASURED, PAPER, interval, label
from mipo_eval.evaluation.outcomes import DERIVED
from mipo_eval.evaluation.score import Snapshot
from mipo_eval.keys import digest
from mipo_eval.metrics.win_rate import METRIC_NAMES
from mipo_eval.records import Run
from mipo_eval.reports.labels import LABELS, decimals
from mipo_eval.reports.leaderboard import Cell, LeaderboardQuery, Row, Section, leaderboard
from mipo_eval.reports.names import RowRule
from mipo_eval.reports.paper import published_rows
from mipo_eval.signature import Signature, short
from mipo_eval.stats.paired import Comparison
from mipo_eval.store.judges import NOTHING_APART, StoredJudge, failing_judges

WIN_RATE = "win rate (%)"
TIES = {
    "win_rate_tie_inclusive": "a win (paper)",
    "win_rate_half_ties": "half",
    "win_rate_strict": "a loss",
    "win_rate_excluding_ties": "left out",
    "net_win_rate": "wins \u2212 losses",
}
"""Metric to what a tie counts as under it."""

FROM_PAPER = 1_000_000
"""Place of the first published row."""

COLUMNS = {
    "interval": "95 %",
    "delta": "\u0394",
    "p": "p",
    "detectable": "detectable",
    "ties": "ties %",
    "n": "n",
    "unscored": "unscored",
    "seeds": "\u00b1 seeds",
    "rank": "rank",
    "group": "group",
    "date": "made",
}
"""What can stand beside each value, to what its column is called."""
SHOWN = ("interval", "delta", "ties", "n", "group")
"""Columns shown unless the reader chooses others."""

_CHOSEN = " *"
"""Marks a number that is the best of several, chosen on the items it is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """One suite under one judge, of which there is a leaderboard."""

    suite: str
    judge: StoredJudge | None
    """None for numbers without a judge."""
    metrics: tuple[str, ...]
    """Those that are stored, in order of first appearance; controls left out."""


def topics(now: Snapshot) -> list[Topic]:
    """Return what leaderboards a store has; what is shown while nobody has chosen is the first.

    That is the suite in which most runs were judged, of equal ones the latest, under the judge
    that judged most of them; one that must not be believed comes after those that may be, and one
    that tells nothing apart after everything else.
    """
    judges = {short(judge.key): judge for judge in now.judges}
    found: dict[tuple[str, str | None], dict[str, None]] = {}
    latest: dict[str, str] = {}
    runs: dict[tuple[str, str | None], set[str]] = {}
    for run, score in now.scores:
        by = score.judge_key
        latest[run.suite] = max(latest.get(run.suite, ""), run.created_at.isoformat())
        found.setdefault((run.suite, by), {})[score.metric] = None
        runs.setdefault((run.suite, by), set()).add(run.run_id)
    failing = failing_judges(now.store)

    def trust(by: str | None) -> int:
        reasons = failing.get(judges[by].key, ()) if by else ()
        if any(reason.startswith(NOTHING_APART) for reason in reasons):
            return 0
        return 1 if by is None else 2 if reasons else 3

    known = [(suite, by) for suite, by in found if by is None or by in judges]
    judged: dict[str, tuple[int, int]] = {}
    for suite, by in known:
        told = trust(by)
        rank = (told, len(runs[suite, by])) if told > 1 else (told, 0)
        judged[suite] = max(judged.get(suite, (0, 0)), rank)

    def usual(about: tuple[str, str | None]) -> tuple[object, ...]:
        suite, by = about
        return judged[suite], latest[suite], suite, trust(by), len(runs[about])

    return [
        Topic(suite=suite, judge=judges[by] if by else None, metrics=tuple(found[suite, by]))
        for suite, by in sorted(known, key=usual, reverse=True)
    ]


def section(now: Snapshot, asked: LeaderboardQuery) -> Section | None:
    """Return the leaderboard of one judge, or without a judge; None where there is no such number.

    Args:
        now: the store.
        asked: with the key of the judge; None for numbers without a judge.
    """
    wanted = next((judge.label for judge in now.judges if judge.key == asked.judge), None)
    return next((found for found in leaderboard(now, asked) if found.judge == wanted), None)


def by_suite(found: Sequence[Section]) -> dict[tuple[str, str], float]:
    """Return the values of several suites, by method and by suite (and data set of several)."""
    return {
        (name, section.suite if len(section.tasks) == 1 else f"{section.suite}: {task}"): cell.value
        for section in found
        for name, row in zip(labels(section.rows), section.rows, strict=True)
        for task, cell in row.cells.items()
        if cell.value is not None
    }


def runs_of(row: Row) -> list[Run]:
    """Return the runs behind a row, each once."""
    return list({run.run_id: run for cell in row.cells.values() for run in cell.runs}.values())


def labels(rows: Sequence[Row]) -> list[str]:
    """Return model, method and variant of each row; what shares its name with another is marked."""
    names = [row.name.in_full for row in rows]
    return [
        name if names.count(name) == 1 else f"{name} [{_made(row)}]"
        for name, row in zip(names, rows, strict=True)
    ]


def _made(row: Row) -> str:
    return short(digest(sorted((task, cell.signature) for task, cell in row.cells.items())))


def signatures(rows: Sequence[Row]) -> Counter[Signature]:
    """Return how the numbers of these rows were made, and how many that way."""
    return Counter(cell.signature for row in rows for cell in row.cells.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which rows to keep; an empty filter keeps all."""

    models: Sequence[str] = ()
    promptings: Sequence[str] = ()
    since: date | None = None
    """Rows with a run made on this day or later."""
    signature: Signature | None = None
    """Rows with a cell of this signature, as `Cell.signature` has it."""


class Facets(NamedTuple):
    """What can be filtered for."""

    models: tuple[str, ...]
    promptings: tuple[str, ...]
    signatures: tuple[Signature, ...]
    """Most frequent first."""


def facets(rows: Sequence[Row]) -> Facets:
    """Return what the rows of a leaderboard differ in."""
    promptings = {run.prompting for row in rows for run in runs_of(row)}
    return Facets(
        models=tuple(sorted({row.name.model for row in rows})),
        promptings=tuple(sorted(promptings - {""})),
        signatures=tuple(made for made, _ in signatures(rows).most_common()),
    )


def filtered(rows: Sequence[Row], filters: Filters) -> list[Row]:
    """Return the rows that all filters keep, in their order."""
    return [row for row in rows if _kept(row, filters)]


def _kept(row: Row, filters: Filters) -> bool:
    runs = runs_of(row)
    made = (run.created_at.date() for run in runs)
    return (
        (not filters.models or row.name.model in filters.models)
        and (not filters.promptings or any(r.prompting in filters.promptings for r in runs))
        and (filters.since is None or any(day >= filters.since for day in made))
        and (filters.signature is None or filters.signature in signatures([row]))
    )


Comparisons = Mapping[tuple[int, str], Comparison]
"""By place among all rows, and task."""

_FIELDS = (
    *("row", "model", "method", "variant", "source", "task", "value", "ci_low", "ci_high"),
    *("std_seeds", "seeds", "n", "unscored", "tie_rate", "rank", "group", "best_of"),
    *("difference", "difference_low", "difference_high", "p_adjusted", "detectable"),
    *("made", "signature", "runs"),
)


class Wide(NamedTuple):
    """One row per method, indexed by its place among all; paper rows from `FROM_PAPER` on."""

    table: pd.DataFrame
    """Columns have keys of our own, whatever data sets are called: method, model, source, "0" for
    the first data set's values and "0.n" for what stands beside them."""
    titles: Mapping[str, str]
    """Column to what it is called on a page; two may be called alike."""
    values: tuple[str, ...]
    """The columns that hold the metric's values."""
    apart: Mapping[str, str]
    """Title of a value column to the signature parts in which it differs from its data set's
    first."""


def number_table(found: Section, rows: Sequence[Row], comparisons: Comparisons) -> pd.DataFrame:
    """Return one line per row and data set with everything that is known of the number.

    Args:
        found: the leaderboard.
        rows: those to show.
        comparisons: with a baseline.
    """
    places = {id(row): place for place, row in enumerate(found.rows)}
    lines = [
        {"row": places[id(row)], "task": task}
        | {"model": label(row.name.model), "method": label(row.name.method)}
        | {"variant": label(row.name.variant or ""), "source": MEASURED}
        | _number(cell)
        | _difference(comparisons.get((places[id(row)], task)))
        for row in rows
        for task, cell in row.cells.items()
    ]
    return pd.DataFrame(lines, columns=list(_FIELDS)).assign(metric=found.metric)


def _number(cell: Cell) -> dict[str, Any]:
    low, high = cell.ci95 or (None, None)
    return {
        "value": cell.value,
        "ci_low": low,
        "ci_high": high,
        "std_seeds": cell.std,
        "seeds": cell.seeds,
        "n": cell.n,
        "unscored": cell.unscored,
        "tie_rate": cell.tie_rate,
        "rank": cell.rank,
        "group": cell.letters,
        "best_of": label(cell.best_of_text or ""),
        "made": max((run.created_at for run in cell.runs), default=None),
        "signature": cell.signature,
        "runs": " ".join(run.run_id[:12] for run in cell.runs),
    }


def _difference(pair: Comparison | None) -> dict[str, Any]:
    if pair is None:
        return {}
    low, high = pair.ci95 or (None, None)
    ends = {"difference_low": low, "difference_high": high}
    return (
        {"difference": pair.difference, "p_adjusted": p_of(pair)}
        | ends
        | {"detectable": pair.detectable}
    )


def p_of(pair: Comparison) -> float | None:
    """Return the p-value of a comparison, corrected where it is one of several."""
    return pair.p if pair.p_adjusted is None else pair.p_adjusted


def paper_numbers(found: Section, models: Sequence[str] = ()) -> pd.DataFrame:
    """Return the paper's numbers of this metric and these data sets; none for another metric.

    Args:
        found: the leaderboard.
        models: only these base models; all of them without.
    """
    lines = [
        {"row": FROM_PAPER + place, "model": model, "method": method, "variant": ""}
        | {"source": PAPER, "task": task, "value": number.value, "std_seeds": number.std}
        for place, (model, method, cells) in enumerate(published_rows(found.metric, found.tasks))
        if not models or model in models
        for task, number in cells.items()
    ]
    return pd.DataFrame(lines, columns=list(_FIELDS)).assign(metric=found.metric)


def wide(
    table: pd.DataFrame, tasks: Sequence[str], shown: Sequence[str], known: Iterable[Signature]
) -> Wide:
    """Return one row per method, with a group of columns per data set.

    Numbers of one data set that were made differently get columns of their own, so that no two
    signatures share one.

    Args:
        table: of `number_table`, with `paper_numbers` after it.
        tasks: data sets in order.
        shown: which of `COLUMNS`, in this order.
        known: signatures of the numbers.
    """
    columns = _value_columns(table, tasks, {str(signature): signature for signature in known})
    lone = len(columns.titles) == 1
    lines: dict[int, dict[str, Any]] = {}
    for row in table.to_dict("records"):
        line = lines.setdefault(
            row["row"], {"model": row["model"], "method": _method(row), "source": row["source"]}
        )
        key = columns.of.get((row["task"], row["signature"]), columns.first[row["task"]])
        line[key] = row["value"]
        line |= {f"{key}.{part}": _beside(row, part) for part in shown}
    titles = {name: name for name in ("method", "model", "source")}
    for key, title in columns.titles.items():
        titles[key] = title
        before = "" if lone else f"{title} \u00b7 "
        titles |= {f"{key}.{part}": f"{before}{COLUMNS[part]}" for part in shown}
    made = pd.DataFrame(list(lines.values()), index=list(lines), columns=list(titles))
    kept = [name for name in titles if name == "method" or _told(made[name])]
    told = tuple(key for key in columns.titles if key in kept)
    return Wide(made[kept], {name: titles[name] for name in kept}, told, columns.apart)


def part_of(column: str) -> str:
    """Return which of `COLUMNS` a column of a wide table is; empty for others."""
    return column.partition(".")[2]


def _told(column: "pd.Series[Any]") -> bool:
    """Return whether a column says anything: it is not empty, nor the same word everywhere."""
    if column.name in {"model", "source"}:
        return column.nunique() > 1
    return bool((column.notna() & (column != "")).any())


def _method(row: Mapping[Any, Any]) -> str:
    variant = f" ({row['variant']})" if row["variant"] else ""
    return f"{row['method']}{variant}{_CHOSEN if _best_of(row) else ''}"


def _best_of(row: Mapping[Any, Any]) -> str:
    told = row["best_of"]
    return told if isinstance(told, str) else ""


def _beside(row: Mapping[Any, Any], part: str) -> Any:
    """Return what stands beside a value, as text where it is more than a number."""
    places = decimals(row["metric"])
    if part == "interval":
        ends = (row["ci_low"], row["ci_high"])
        return "" if pd.isna(ends[0]) else interval(ends, places)
    field = {
        "delta": "difference",
        "p": "p_adjusted",
        "ties": "tie_rate",
        "seeds": "std_seeds",
        "date": "made",
    }.get(part, part)
    return row[field]


class _ValueColumns(NamedTuple):
    """The columns that hold values: a data set's, and one more for each other way of measuring."""

    of: Mapping[tuple[str, str], str]
    """(task, signature) to column."""
    first: Mapping[str, str]
    """Task to its first column."""
    titles: Mapping[str, str]
    apart: Mapping[str, str]


def _value_columns(
    table: pd.DataFrame, tasks: Sequence[str], made: Mapping[str, Signature]
) -> _ValueColumns:
    of: dict[tuple[str, str], str] = {}
    first: dict[str, str] = {}
    titles: dict[str, str] = {}
    apart: dict[str, str] = {}
    for number, task in enumerate(tasks):
        first[task] = str(number)
        titles[first[task]] = label(task)
        own = table[(table["task"] == task) & table["signature"].notna()]["signature"]
        for place, signature in enumerate(own.value_counts(sort=True).index):
            if place == 0:
                usual = made[str(signature)]
                of[task, str(signature)] = first[task]
                continue
            key, title = f"{number}+{place}", f"{label(task)} [{len(apart) + 1}]"
            of[task, str(signature)], titles[key] = key, title
            apart[title] = ", ".join(
                f"{part} {label(str(its))} (not {label(str(others))})"
                for part, (others, its) in usual.differences(made[str(signature)]).items()
            )
    return _ValueColumns(of, first, titles, apart)


def ordered(wide: Wide, by: str, *, lower: bool) -> pd.DataFrame:
    """Return the rows of a wide table, best first by one column or by the mean of all values.

    Rows without a value come last.
    """
    table = wide.table
    if by in {"model", "method"} and by in table:
        return table.sort_values(by, kind="stable")
    keys = table[by] if by in wide.values else table[list(wide.values)].mean(axis=1)
    return table.loc[keys.sort_values(ascending=lower, na_position="last", kind="stable").index]


def linked(table: pd.DataFrame, rows: Sequence[Row]) -> pd.DataFrame:
    """Return a wide table with a column of links to the items behind each measured row."""
    links = []
    for place in table.index:
        runs = runs_of(rows[place]) if place < FROM_PAPER else []
        links.append(address("pairs", a=run_name(runs[0])) if runs else None)
    made = table.copy()
    made.insert(1, "items", pd.Series(links, index=table.index, dtype=object))
    return made


def notes(table: pd.DataFrame, wide: Wide, baseline: str | None) -> list[str]:
    """Return the lines below a table that say what its marks and columns are.

    Args:
        table: all numbers shown, one a line.
        wide: the table shown.
        baseline: the row that others are compared with.
    """
    lines = [f"{name}: made differently, {how}" for name, how in wide.apart.items()]
    lines += [
        f"{_CHOSEN.strip()} {row['model']} {row['method']} on {row['task']}: {_best_of(row)}"
        for row in table.to_dict("records")
        if _best_of(row)
    ]
    shown = {part_of(name) for name in wide.titles}
    if "group" in shown:
        lines.append("group: rows that share a letter are not told apart (paired, 5 % in all)")
    if "delta" in shown and baseline is not None:
        lines.append(
            f"\u0394: paired difference to {baseline}, of what a best of several is worth on items "
            "that the choice did not see; p corrected over a column; "
            "detectable: the smallest difference these items could have shown (5 %, power 80 %)"
        )
    if table["seeds"].gt(1).any():
        lines.append("a value is a mean over seeds, \u00b1 seeds their standard deviation")
    if table["source"].eq(PAPER).any():
        lines.append("paper: published numbers (arXiv 2603.19294), of other runs and judge calls")
    return lines


def first_choices(known: Sequence[Topic], rules: tuple[RowRule, ...]) -> list[LeaderboardQuery]:
    """Return what is asked for while nobody has chosen, then the same with the other rules."""
    metric = numbers(known[0])[0]
    metrics = tie_rules(known[0]) if metric == WIN_RATE else [metric]
    return [query_of(known[0], one, rules) for one in metrics]


def query_of(topic: Topic, metric: str, rules: tuple[RowRule, ...]) -> LeaderboardQuery:
    """Return what is asked for by a topic and a metric; `rules` say what runs are called."""
    judge = topic.judge.key if topic.judge else None
    return LeaderboardQuery(suite=topic.suite, judge=judge, metric=metric, rules=rules)


def tie_rules(topic: Topic) -> dict[str, str]:
    """Return the rules for ties whose win rate is stored, or follows from one that is."""
    derived = DERIVED if METRIC_NAMES["win"] in topic.metrics else ()
    return {rule: told for rule, told in TIES.items() if rule in {*topic.metrics, *derived}}


def numbers(topic: Topic) -> list[str]:
    """Return the numbers of a topic, the usual ones first; win rates are one, ruled by ties."""
    rates = [name for name in topic.metrics if name in TIES]
    found = [WIN_RATE] * bool(rates) + [name for name in topic.metrics if name not in TIES]
    usual = [WIN_RATE, "accuracy", *LABELS]
    return sorted(found, key=lambda name: usual.index(name) if name in usual else len(usual))
