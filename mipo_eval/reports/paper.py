"""The paper's published numbers: its tables 1 to 7, and what results pages give for its method.

`published/SOURCE.md` names the source and the oddities of the numbers.
"""

import csv
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

from mipo_eval.errors import ConfigError

TASKS = {
    "CA": "ca",
    "PRISM": "prism",
    "MB": "mb",
    "GSM8K": "gsm8k",
    "SVAMP": "svamp",
    "ARC-Easy": "arc_easy",
    "ARC-Challenge": "arc_challenge",
    "MMLU": "mmlu",
}
"""Data set as the paper names it to our task."""
JUDGED, CHECKED = tuple(TASKS)[:3], tuple(TASKS)[3:7]
"""Data sets of Table 1 and of Table 2."""

WIN, ACCURACY, BLEU = "win_rate_tie_inclusive", "accuracy", "self_bleu_4"
AVERAGE = "Average"
PAPER = "arXiv 2603.19294"

Table = int | Literal["results"]
"""A table of the paper, or the one of results pages."""

TITLES: Mapping[Table, str] = {
    1: "Table 1: win rate on personalization, a tie is a win (%)",
    2: "Table 2: accuracy on math and multiple choice (%)",
    3: "Table 3: Self-BLEU-4, average over CA, PRISM and MB (0-1)",
    4: "Table 4: Self-BLEU-4 (0-1)",
    5: "Table 5: MIPO by how its negatives are made (%)",
    6: "Table 6: MIPO on MB by the number of negatives, win rate (%)",
    7: "Table 7: judges against human choices, accuracy (%)",
    "results": "Results pages: the paper's method on eight kinds of task (%)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One number as printed."""

    table: Table
    model: str
    """Empty where it is not said."""
    method: str
    """For table 5 how negatives are made, for 6 how many, for 7 the kind of accuracy."""
    dataset: str
    value: float
    std: float | None = None
    source: str = PAPER


@cache
def published(table: Table) -> tuple[Published, ...]:
    """Return the numbers of one table as printed, in its order.

    Raises:
        ConfigError: the paper has no such table.
    """
    if table not in TITLES:
        raise ConfigError(f"table {table}: the paper's tables are 1 to 7")
    (file,) = (
        file
        for file in (resources.files("mipo_eval.reports") / "published").iterdir()
        if file.name.startswith("results" if table == "results" else f"table{table}_")
    )
    rows = csv.DictReader(file.read_text(encoding="utf-8").splitlines())
    return tuple(number for row in rows for number in _numbers(table, row))


def _numbers(table: Table, row: Mapping[str, str]) -> Iterable[Published]:
    method = row.get("method") or row.get("negatives") or row.get("negatives_per_positive") or ""
    dataset = row.get("dataset") or ("MB" if table == 6 else AVERAGE)
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


def published_judges(data: str) -> list[Published]:
    """Return the rows of table 7 about labelled pairs of this name; none for other pairs."""
    return [number for number in published(7) if TASKS.get(number.dataset) == data]


def published_rows(
    metric: str, tasks: Collection[str]
) -> list[tuple[str, str, dict[str, Published]]]:
    """Return the published rows of a metric for these tasks: (model, method, numbers by task).

    Empty where the paper has no number of this metric for any of them.
    """
    table = {WIN: 1, ACCURACY: 2, BLEU: 4}.get(metric)
    if table is None:
        return []
    rows: dict[tuple[str, str], dict[str, Published]] = {}
    for number in published(table):
        task = TASKS.get(number.dataset)
        if task is not None and task in tasks:
            rows.setdefault((number.model, number.method), {})[task] = number
    return [(model, method, numbers) for (model, method), numbers in rows.items()]
