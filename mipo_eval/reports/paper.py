"""The published numbers, and the store laid out as the paper's tables 1 to 7.

`published/SOURCE.md` names the source and the oddities of the numbers.
"""

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from mipo_eval.errors import ConfigError
from mipo_eval.evaluation.score import Snapshot
from mipo_eval.reports.leaderboard import Cell, LeaderboardQuery, Section, leaderboard
from mipo_eval.reports.names import RowRule, model_label
from mipo_eval.store.engine import Store
from mipo_eval.store.judges import Validation, largest_validations, list_judges

TASKS = {
    "CA": "ca",
    "PRISM": "prism",
    "MB": "mb",
    "GSM8K": "gsm8k",
    "SVAMP": "svamp",
    "ARC-Easy": "arc_easy",
    "ARC-Challenge": "arc_challenge",
}
"""Data set as the paper names it to our task."""

_WIN, _ACCURACY, _BLEU = "win_rate_tie_inclusive", "accuracy", "self_bleu_4"
_AVERAGE = "Average"
NOT_MEASURED = "not in the store"
NOT_VALIDATED = "not validated on these pairs: mipo-eval validate"

TITLES = {
    1: "Table 1: win rate on personalization, a tie is a win (%)",
    2: "Table 2: accuracy on math and multiple choice (%)",
    3: "Table 3: Self-BLEU-4, average over CA, PRISM and MB (0-1)",
    4: "Table 4: Self-BLEU-4 (0-1)",
    5: "Table 5: MIPO by how its negatives are made (%)",
    6: "Table 6: MIPO on MB by the number of negatives, win rate (%)",
    7: "Table 7: judges against human choices, accuracy (%)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One number as printed."""

    table: int
    model: str
    method: str
    """For table 5 how negatives are made, for 6 how many, for 7 the kind of accuracy."""
    dataset: str
    value: float
    std: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperEntry:
    """A published number with the store's own beside it."""

    published: Published
    measured: float | None = None
    std: float | None = None
    n: int | None = None
    seeds: int | None = None
    absent: str | None = None
    """Why there is no measured value; None when there is one."""
    best_of: str | None = None
    """"best of k (variant), corrected x" where the measured value was chosen among k."""

    @property
    def difference(self) -> float | None:
        """Measured minus published."""
        return None if self.measured is None else self.measured - self.published.value


@cache
def published(table: int) -> tuple[Published, ...]:
    """Return the numbers of one table as printed, in its order.

    Raises:
        ConfigError: the paper has no such table.
    """
    if table not in TITLES:
        raise ConfigError(f"table {table}: the paper's tables are 1 to 7")
    (file,) = (
        file
        for file in (resources.files("mipo_eval.reports") / "published").iterdir()
        if file.name.startswith(f"table{table}_")
    )
    rows = csv.DictReader(file.read_text(encoding="utf-8").splitlines())
    return tuple(number for row in rows for number in _numbers(table, row))


def _numbers(table: int, row: Mapping[str, str]) -> Iterable[Published]:
    method = row.get("method") or row.get("negatives") or row.get("negatives_per_positive") or ""
    dataset = row.get("dataset") or ("MB" if table == 6 else _AVERAGE)
    for column, value in row.items():
        if column.endswith("_pct") or column == "self_bleu_4":
            kind = column.removesuffix("_accuracy_pct").replace("_", "-")
            yield Published(
                table=table,
                model=row.get("model") or row.get("judge") or "",
                method=kind if table == 7 else method,
                dataset=dataset,
                value=float(value),
                std=float(row["std"]) if row.get("std") else None,
            )


def paper_table(
    store: Store, table: int, *, judge: str | None = None, rules: Sequence[RowRule] = ()
) -> list[PaperEntry]:
    """Return a table of the paper with what the store has measured beside each number.

    Args:
        store: where the runs are.
        table: 1 to 7.
        judge: name or key of the judge of the win rates; needed when several judged.
        rules: what runs are called; without them only base models are recognised.

    Raises:
        ConfigError: no such table, or several judges judged and none is named.
    """
    numbers = published(table)
    if table == 7:
        found = _validated(store)
        return [_validation_entry(number, found) for number in numbers]
    find = _finder(store, table, judge, rules)
    return [_measured(number, find) for number in numbers]


def published_judges(data: str) -> list[Published]:
    """Return the rows of table 7 about labelled pairs of this name; none for other pairs."""
    return [number for number in published(7) if TASKS.get(number.dataset) == data]


def _validated(store: Store) -> dict[tuple[str, str], Validation]:
    """Return validations by the judge's model in lower case and the name of the data."""
    models = {
        judge.key: model_label(str((judge.spec.get("backend") or {}).get("model", judge.name)))
        for judge in list_judges(store)
    }
    return {
        (models[own.judge_key].lower(), own.data): own
        for own in largest_validations(store)
        if own.judge_key in models
    }


def _validation_entry(number: Published, found: Mapping[tuple[str, str], Validation]) -> PaperEntry:
    own = found.get((number.model.lower(), TASKS[number.dataset]))
    score = own and own.figures.get("judge", {}).get(number.method.replace("-", "_"))
    if not score:
        return PaperEntry(published=number, absent=NOT_VALIDATED)
    return PaperEntry(published=number, measured=score["value"], n=score["n"], seeds=1)


Key = tuple[str, str, str | None, str]
"""Model, method, variant and task, in lower case."""
Find = Callable[[Published, str], Cell | None]


def _finder(store: Store, table: int, judge: str | None, rules: Sequence[RowRule]) -> Find:
    by_variant = table in {5, 6}
    now = Snapshot(store)
    cells: dict[str, dict[Key, Cell]] = {}
    metrics = {1: (_WIN,), 2: (_ACCURACY,), 3: (_BLEU,), 4: (_BLEU,), 6: (_WIN,)}
    for metric in metrics.get(table, (_WIN, _ACCURACY)):
        asked = LeaderboardQuery(
            metric=metric,
            judge=judge if metric == _WIN else None,
            rules=tuple(rules),
            variants_apart=by_variant,
            tasks=tuple(TASKS.values()),
            ranked=False,
        )
        cells[metric] = _cells(leaderboard(now, asked))

    def find(number: Published, dataset: str) -> Cell | None:
        verifiable = dataset in tuple(TASKS)[3:]
        metric = _BLEU if table in {3, 4} else _ACCURACY if verifiable else _WIN
        method = number.method.lower()
        variant: str | None = None
        if by_variant and method == "none (base)":
            method = "base" if verifiable else "personalized prompting"
        elif by_variant:
            method, variant = "mipo", _variant(method)
        return cells[metric].get((number.model.lower(), method, variant, TASKS[dataset]))

    return find


def _variant(column: str) -> str:
    """Return what a row of tables 5 and 6 is called here.

    Table 6 says how many negatives there are, and its caption that they are random.

    Example:
        >>> _variant("3"), _variant("missing")
        ('random x 3', 'missing')
    """
    if not column.isdigit():
        return column
    return "random" if column == "1" else f"random x {column}"


def _cells(sections: Sequence[Section]) -> dict[Key, Cell]:
    judges = sorted({section.judge for section in sections if section.judge})
    if len(judges) > 1:
        raise ConfigError(f"several judges judged: {', '.join(judges)}; choose one with --judge")
    return {
        (
            row.name.model.lower(),
            row.name.method.lower(),
            (row.name.variant or "").lower() or None,
            task,
        ): cell
        for section in sections
        for row in section.rows
        for task, cell in row.cells.items()
        if not cell.differs
    }


def _measured(number: Published, find: Find) -> PaperEntry:
    if number.dataset != _AVERAGE:
        cell = find(number, number.dataset)
        if cell is None or cell.value is None:
            why = NOT_MEASURED if cell is None else "no item could be scored"
            return PaperEntry(published=number, absent=why)
        return PaperEntry(
            published=number,
            measured=cell.value,
            std=cell.std,
            n=cell.n,
            seeds=cell.seeds,
            best_of=cell.best_of_text,
        )
    wanted = tuple(TASKS)[3:] if number.table == 2 else tuple(TASKS)[:3]
    cells = {dataset: find(number, dataset) for dataset in wanted}
    known = {d: cell for d, cell in cells.items() if cell is not None and cell.value is not None}
    if missing := [dataset for dataset in wanted if dataset not in known]:
        return PaperEntry(published=number, absent=f"{NOT_MEASURED}: {', '.join(missing)}")
    counts = [cell.n for cell in known.values() if cell.n is not None]
    return PaperEntry(
        published=number,
        measured=sum(cell.value or 0.0 for cell in known.values()) / len(known),
        n=sum(counts) if len(counts) == len(known) else None,
        seeds=min(cell.seeds for cell in known.values()),
    )


def entry_json(entry: PaperEntry) -> dict[str, Any]:
    """Return an entry as `--json` shows it."""
    number = entry.published
    return {
        "model": number.model,
        "method": number.method,
        "dataset": number.dataset,
        "published": number.value,
        "published_std": number.std,
        "measured": entry.measured,
        "measured_std": entry.std,
        "difference": entry.difference,
        "n": entry.n,
        "seeds": entry.seeds,
        "best_of": entry.best_of,
        "absent": entry.absent,
    }


def published_rows(section: Section) -> list[tuple[str, str, dict[str, Published]]]:
    """Return the published rows for a section: (model, method, numbers by task).

    Empty where the paper has no number of this metric for any of the section's tasks.
    """
    table = {_WIN: 1, _ACCURACY: 2, _BLEU: 4}.get(section.metric)
    if table is None:
        return []
    rows: dict[tuple[str, str], dict[str, Published]] = {}
    for number in published(table):
        task = TASKS.get(number.dataset)
        if task in section.tasks:
            rows.setdefault((number.model, number.method), {})[task] = number
    return [(model, method, numbers) for (model, method), numbers in rows.items()]
