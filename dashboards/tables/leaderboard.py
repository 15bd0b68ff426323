"""The leaderboard's rows: which runs are behind each, and what the filters leave of them.

The leaderboard as tables: one line a number for the download, one line a method for the eye.

What stands above every table: judges that must not be believed, and controls that win.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import pandas as pd

from mipo_eval.dashboards import markup
from mipo_eval.dashboards.links import address, run_name
from mipo_eval.dashboards.markup import label
from mipo_eval.dashboards.tables.scores import MEASURED, PAPER
from mipo_eval.evaluation.controls import winners
from mipo_eval.evaluation.outcomes import DERIVED
from mipo_eval.keys import digest
from mipo_eval.metrics.aggregate import direction
from mipo_eval.metrics.win_rate import METRIC_NAMES
from mipo_eval.records import Score
from mipo_eval.reports.catalog import RowName, RowRule, column_signature, model_label, row_name
from mipo_eval.reports.cells import Cell
from mipo_eval.reports.labels import decimals
from mipo_eval.reports.leaderboard import Asked, Row, Section, leaderboard
from mipo_eval.reports.paper import published_rows
from mipo_eval.reports.snapshot import Snapshot
from mipo_eval.reports.trained import trained_rules
from mipo_eval.signature import Signature, short
from mipo_eval.stats import Comparison
from mipo_eval.store.judges import StoredJudge
from mipo_eval.store.runs import Run
from mipo_eval.store.validations import failing_judges


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """One suite under one judge, of which there is a leaderboard."""

    suite: str
    judge: StoredJudge | None
    """None for numbers without a judge."""
    metrics: tuple[str, ...]
    """Those that are stored, in order of first appearance; controls left out."""


def topics(now: Snapshot) -> list[Topic]:
    """Return what leaderboards a store has, the suite of the latest run first."""
    judges = {short(judge.key): judge for judge in now.judges}
    found: dict[tuple[str, str | None], dict[str, None]] = {}
    latest: dict[str, str] = {}
    for run, score in now.scores:
        by = score.judge_key
        latest[run.suite] = max(latest.get(run.suite, ""), run.created_at.isoformat())
        found.setdefault((run.suite, by), {})[score.metric] = None
    made = [
        Topic(suite=suite, judge=judges.get(by) if by else None, metrics=tuple(metrics))
        for (suite, by), metrics in found.items()
        if by is None or by in judges
    ]
    return sorted(made, key=lambda t: (latest[t.suite], t.judge is not None), reverse=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a leaderboard is asked to show."""

    suite: str
    judge: str | None
    """Key of the judge; None for numbers without a judge."""
    metric: str
    """As it is stored, or one of `outcomes.DERIVED`."""
    apart: bool = False
    """A row per variant of a method."""
    ranked: bool = True
    """With ranks and tie groups."""
    rules: tuple[RowRule, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A row of a leaderboard with the runs it is made of."""

    row: Row
    runs: Mapping[str, tuple[Run, ...]]
    """Task to runs, one a seed."""
    signatures: Mapping[str, Signature]
    """Task to what its cell was made with, less prompting and seed."""

    @property
    def label(self) -> str:
        """Model, method and variant in a line."""
        name = self.row.name
        variant = f" ({name.variant})" if name.variant else ""
        return f"{name.model} \u00b7 {name.method}{variant}"

    @property
    def all_runs(self) -> tuple[Run, ...]:
        """Each run once."""
        return tuple({run.run_id: run for runs in self.runs.values() for run in runs}.values())


def labels(methods: Sequence[Method]) -> list[str]:
    """Return each row's label; rows of one name, which were made differently, get a mark."""
    names = [method.label for method in methods]
    return [
        name
        if names.count(name) == 1
        else f"{name} [{short(digest(sorted(method.signatures.items())))}]"
        for name, method in zip(names, methods, strict=True)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A leaderboard with the runs behind its rows."""

    section: Section
    methods: tuple[Method, ...]


def standing(now: Snapshot, view: View) -> Standing | None:
    """Return the leaderboard of a view; None where there is no such number."""
    asked = Asked(
        suite=view.suite,
        judge=view.judge,
        metric=view.metric,
        rules=view.rules,
        variants_apart=view.apart,
        ranked=view.ranked,
    )
    wanted = next((j.label for j in now.judges if j.key == view.judge), None)
    for section in leaderboard(now, asked):
        if section.judge == wanted:
            return Standing(section=section, methods=tuple(_methods(now, section, view)))
    return None


def _methods(now: Snapshot, section: Section, view: View) -> list[Method]:
    behind = _runs_by_cell(now, section, view)
    found = []
    for row in section.rows:
        runs, made = {}, {}
        for task, cell in row.cells.items():
            own = dict(section.signatures[task].parts)
            own |= {part: value for part, (_, value) in cell.differs.items() if value is not None}
            for part, (_, value) in cell.differs.items():
                if value is None:
                    own.pop(part, None)
            variant = cell.best_of.name if cell.best_of else row.name.variant
            name = RowName(model=row.name.model, method=row.name.method, variant=variant or None)
            made[task] = Signature(own)
            runs[task] = tuple(behind.get((name, task, _comparable(made[task])), {}).values())
        found.append(Method(row=row, runs=runs, signatures=made))
    return found


_Behind = dict[tuple[RowName, str, str], dict[tuple[int, int], Run]]


def _runs_by_cell(now: Snapshot, section: Section, view: View) -> _Behind:
    """Return, by name, task and signature, the latest run of each seed."""
    rules = (*view.rules, *trained_rules(now.trainings))
    stored = METRIC_NAMES["win"] if section.metric in DERIVED else section.metric
    by = short(view.judge) if view.judge else None
    found: _Behind = {}
    for run, score in now.scores:
        same = (run.suite, score.metric) == (section.suite, stored)
        if same and score.judge_key == by:
            name, seeds = row_name(run, rules)
            signature = _comparable(column_signature(score.signature))
            found.setdefault((name, score.task, signature), {})[seeds] = run
    return found


def _comparable(signature: Signature) -> str:
    """Return a signature less the rule for ties, which is a choice of the reader."""
    return signature.less("ties")


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which rows to keep; an empty filter keeps all."""

    models: Sequence[str] = ()
    promptings: Sequence[str] = ()
    since: date | None = None
    """Rows with a run made on this day or later."""
    signature: Signature | None = None
    """Rows with a cell of this signature, as `Method.signatures` has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facets:
    """What can be filtered for."""

    models: tuple[str, ...] = ()
    promptings: tuple[str, ...] = ()
    signatures: tuple[Signature, ...] = field(default=())
    """Most frequent first."""


def signatures(methods: Sequence[Method]) -> set[Signature]:
    """Return how the numbers of these rows were made."""
    return {made for method in methods for made in method.signatures.values()}


def facets(found: Standing) -> Facets:
    """Return what the rows of a leaderboard differ in."""
    counts: dict[Signature, int] = {}
    for method in found.methods:
        for signature in method.signatures.values():
            counts[signature] = counts.get(signature, 0) + 1
    promptings = {run.prompting for method in found.methods for run in method.all_runs}
    return Facets(
        models=tuple(sorted({method.row.name.model for method in found.methods})),
        promptings=tuple(sorted(promptings - {""})),
        signatures=tuple(sorted(counts, key=lambda s: -counts[s])),
    )


def filtered(methods: Sequence[Method], filters: Filters) -> list[Method]:
    """Return the rows that all filters keep, in their order."""
    return [method for method in methods if _kept(method, filters)]


def _kept(method: Method, filters: Filters) -> bool:
    runs = method.all_runs
    made = (run.created_at.date() for run in runs)
    return (
        (not filters.models or method.row.name.model in filters.models)
        and (not filters.promptings or any(r.prompting in filters.promptings for r in runs))
        and (filters.since is None or any(day >= filters.since for day in made))
        and (filters.signature is None or filters.signature in method.signatures.values())
    )


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

Comparisons = Mapping[tuple[int, str], Comparison]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wide:
    """One row per method, indexed by its place among all; paper rows from `FROM_PAPER` on."""

    table: pd.DataFrame
    values: tuple[str, ...]
    """The columns that hold the metric's values."""
    apart: Mapping[str, str]
    """Value column to the signature parts in which it differs from its data set's first."""


def number_table(
    found: Standing, methods: Sequence[Method], comparisons: Comparisons
) -> pd.DataFrame:
    """Return one row per method and data set with everything that is known of the number.

    Args:
        found: the leaderboard.
        methods: the rows to show.
        comparisons: with a baseline, by place among all methods and task.
    """
    place = {id(method): index for index, method in enumerate(found.methods)}
    rows = [
        {"row": place[id(method)]}
        | _number(method, task, cell, comparisons.get((place[id(method)], task)))
        for method in methods
        for task, cell in method.row.cells.items()
    ]
    return pd.DataFrame(rows, columns=list(_FIELDS)).assign(metric=found.section.metric)


_FIELDS = (
    "row",
    "model",
    "method",
    "variant",
    "source",
    "task",
    "value",
    "ci_low",
    "ci_high",
    "std_seeds",
    "seeds",
    "n",
    "unscored",
    "tie_rate",
    "rank",
    "group",
    "best_of",
    "difference",
    "difference_low",
    "difference_high",
    "p_adjusted",
    "detectable",
    "made",
    "signature",
    "runs",
)


def _number(method: Method, task: str, cell: Cell, comparison: Comparison | None) -> dict[str, Any]:
    runs = method.runs.get(task, ())
    row: dict[str, Any] = {
        "model": label(method.row.name.model),
        "method": label(method.row.name.method),
        "variant": label(method.row.name.variant or ""),
        "source": MEASURED,
        "task": label(task),
        "value": cell.value,
        "ci_low": cell.ci95[0] if cell.ci95 else None,
        "ci_high": cell.ci95[1] if cell.ci95 else None,
        "std_seeds": cell.std,
        "seeds": cell.seeds,
        "n": cell.n,
        "unscored": cell.unscored,
        "tie_rate": cell.tie_rate,
        "rank": cell.rank,
        "group": cell.letters,
        "best_of": label(cell.best_of_text or ""),
        "made": max((run.created_at for run in runs), default=None),
        "signature": method.signatures.get(task),
        "runs": " ".join(run.run_id[:12] for run in runs),
    }
    if comparison is not None:
        p = comparison.p_permutation if comparison.p_adjusted is None else comparison.p_adjusted
        low, high = comparison.ci95 or (None, None)
        row |= {
            "difference": comparison.difference,
            "difference_low": low,
            "difference_high": high,
            "p_adjusted": p,
            "detectable": comparison.detectable,
        }
    return row


def paper_numbers(found: Standing, models: Sequence[str] = ()) -> pd.DataFrame:
    """Return the paper's numbers of this metric and these data sets; none for another metric.

    Args:
        found: the leaderboard.
        models: only these base models; all of them without.
    """
    rows = [
        {
            "row": FROM_PAPER + index,
            "model": model,
            "method": method,
            "variant": "",
            "source": PAPER,
            "task": task,
            "value": number.value,
            "std_seeds": number.std,
        }
        for index, (model, method, cells) in enumerate(published_rows(found.section))
        if not models or model in models
        for task, number in cells.items()
    ]
    return pd.DataFrame(rows, columns=list(_FIELDS)).assign(metric=found.section.metric)


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
    names, apart = _column_names(table, tasks, {str(signature): signature for signature in known})
    values = list(dict.fromkeys([*tasks, *names.values()]))
    lone = len(values) == 1
    lines: dict[int, dict[str, Any]] = {}
    for row in table.to_dict("records"):
        line = lines.setdefault(
            row["row"], {"model": row["model"], "method": _method(row), "source": row["source"]}
        )
        name = names.get((row["task"], row["signature"]), row["task"])
        line[name] = row["value"]
        line |= {_beside_name(name, part, lone=lone): _beside(row, part) for part in shown}
    columns = ["method", "model", "source"]
    for name in values:
        columns += [name, *(_beside_name(name, part, lone=lone) for part in shown)]
    made = pd.DataFrame(list(lines.values()), index=list(lines), columns=columns)
    kept = [name for name in columns if name == "method" or _told(made[name])]
    told = tuple(name for name in values if name in kept)
    return Wide(table=made[kept], values=told, apart=apart)


def _beside_name(name: str, part: str, *, lone: bool) -> str:
    return COLUMNS[part] if lone else f"{name} \u00b7 {COLUMNS[part]}"


def part_of(column: str) -> str:
    """Return which of `COLUMNS` a column is, by its title."""
    return column.rpartition(" \u00b7 ")[2]


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
        return "" if pd.isna(ends[0]) else markup.interval(ends, places)
    field = {
        "delta": "difference",
        "p": "p_adjusted",
        "ties": "tie_rate",
        "seeds": "std_seeds",
        "date": "made",
    }.get(part, part)
    return row[field]


def _column_names(
    table: pd.DataFrame, tasks: Sequence[str], made: Mapping[str, Signature]
) -> tuple[dict[tuple[str, str], str], dict[str, str]]:
    """Return (task, signature) to column, and what is different about columns with a number."""
    names: dict[tuple[str, str], str] = {}
    apart: dict[str, str] = {}
    for task in tasks:
        own = table[(table["task"] == task) & table["signature"].notna()]["signature"]
        for signature, _ in own.value_counts(sort=True).items():
            first = next((s for t, s in names if t == task), None)
            if first is None:
                names[task, str(signature)] = task
                continue
            name = f"{task} [{len(apart) + 1}]"
            names[task, str(signature)] = name
            apart[name] = ", ".join(
                f"{part} {label(str(its))} (not {label(str(others))})"
                for part, (others, its) in made[first].differences(made[str(signature)]).items()
            )
    return names, apart


def ordered(wide: Wide, by: str, *, lower: bool) -> pd.DataFrame:
    """Return the rows of a wide table, best first by one column or by the mean of all values.

    Rows without a value come last.
    """
    table = wide.table
    if by in {"model", "method"} and by in table:
        return table.sort_values(by, kind="stable")
    keys = table[by] if by in wide.values else table[list(wide.values)].mean(axis=1)
    return table.loc[keys.sort_values(ascending=lower, na_position="last", kind="stable").index]


def lower_is_better(metric: str) -> bool:
    """Return whether smaller numbers are the better ones."""
    return direction(metric) == "lower"


def linked(table: pd.DataFrame, methods: Sequence[Method]) -> pd.DataFrame:
    """Return a wide table with a column of links to the items behind each measured row."""
    links = []
    for row in table.index:
        runs = methods[row].all_runs if row < FROM_PAPER else ()
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
    shown = {part_of(str(name)) for name in wide.table}
    if COLUMNS["group"] in shown:
        lines.append("group: rows that share a letter are not told apart (paired, 5 %, Holm)")
    if COLUMNS["delta"] in shown and baseline is not None:
        lines.append(
            f"\u0394: paired difference to {baseline}; p by permutation, Holm over a column; "
            "detectable: the smallest difference these items could have shown (5 %, power 80 %)"
        )
    if table["seeds"].gt(1).any():
        lines.append("a value is a mean over seeds, \u00b1 seeds their standard deviation")
    if table["source"].eq(PAPER).any():
        lines.append("paper: published numbers (arXiv 2603.19294), of other runs and judge calls")
    return lines


def failings(now: Snapshot, judge: str | None) -> list[str]:
    """Return why the judge with this key must not be believed; None looks at every judge."""
    names = {known.key: known.label for known in now.judges}
    return [
        f"{names.get(key, short(key))}: {reason}"
        for key, reasons in failing_judges(now.store).items()
        if judge in {None, key}
        for reason in reasons
    ]


def winning_controls(now: Snapshot, suite: str, judge: str | None) -> list[str]:
    """Return a line for each control entrant that does as well as a model of this suite."""
    by = short(judge) if judge else None
    scores: dict[str, tuple[Run, list[Score]]] = {}
    for run, score in (*now.scores, *now.controls):
        if run.suite == suite and score.judge_key == by:
            current = now.numbers.current(run, score)
            scores.setdefault(run.run_id, (run, []))[1].append(current)
    return [
        f"{model_label(run.model)} ({run.run_id[:8]}): {winner}"
        for run, own in scores.values()
        for winner in winners(own)
    ]
