"""The published numbers that ship, and the store laid out as the paper's tables."""

import json
from pathlib import Path
from typing import Any

import pytest

from mipo_eval.cli import main
from mipo_eval.errors import ConfigError
from mipo_eval.reports.paper import published
from mipo_eval.tasks.items import write_items
from tests.reports.stores import Served, items

COUNTS = {1: 150, 2: 150, 3: 15, 4: 60, 5: 96, 6: 20, 7: 28}
"""Numbers per table; 7 has two a row."""


def _json(capsys: pytest.CaptureFixture[str], *argv: str) -> Any:
    capsys.readouterr()
    assert main([*argv, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(("table", "count"), COUNTS.items())
def test_every_table_ships(table: int, count: int) -> None:
    numbers = published(table)
    assert len(numbers) == count
    assert all(number.model and number.method and number.dataset for number in numbers)
    top = 1 if table in {3, 4} else 100
    assert all(0 <= number.value <= top for number in numbers)


@pytest.mark.parametrize(
    ("table", "model", "method", "dataset", "value", "std"),
    [
        (1, "Llama-3.2-1B-Instruct", "MIPO", "CA", 93.67, 1.26),
        (1, "Llama-3.2-1B-Instruct", "Default prompting", "MB", 59.52, None),
        (2, "Llama-3.2-1B-Instruct", "Base", "SVAMP", 51.67, None),
        (3, "Qwen2.5-7B-Instruct", "MIPO", "Average", 0.309, None),
        (6, "Qwen2.5-3B-Instruct", "10", "MB", 78.6, None),
        (7, "Qwen2.5-3B-Instruct", "strict", "CA", 6.0, None),
        (7, "Qwen2.5-3B-Instruct", "tie-tolerant", "CA", 100.0, None),
    ],
)
def test_numbers_stand_as_printed(
    table: int, model: str, method: str, dataset: str, value: float, std: float | None
) -> None:
    found = [
        number
        for number in published(table)
        if (number.model, number.method, number.dataset) == (model, method, dataset)
    ]
    assert [(number.value, number.std) for number in found] == [(value, std)]


def test_single_run_cells_of_table_1_are_whole_counts_when_a_tie_wins() -> None:
    """PAPER: 54 of them; under half-ties about half would not be whole."""
    sizes = {"CA": 200, "PRISM": 194, "MB": 84}
    single = [n for n in published(1) if n.std is None]
    for number in single:
        count = number.value * sizes[number.dataset] / 100
        # Printed to two digits, one of them (140 of 194) rounded twice.
        assert abs(count - round(count)) <= 0.01 * sizes[number.dataset] / 100
    assert len(single) == 54


def test_a_table_beyond_seven_is_refused() -> None:
    with pytest.raises(ConfigError, match="tables are 1 to 7"):
        published(8)


@pytest.fixture
def on_ca(served: Served, capsys: pytest.CaptureFixture[str]) -> Served:
    """Runs on a suite whose task is called ca, of the paper's smallest model."""
    write_items(Path("ca.jsonl"), items(12))
    Path("rows.yaml").write_text(
        '- {name: "openai:base@*", model: Llama-3.2-1B-Instruct}\n'
        '- {name: "openai:mipo*@*", model: Llama-3.2-1B-Instruct, method: MIPO}\n'
    )
    for name in ("base", "mipo-seed0"):
        argv = ["--model", f"openai:{name}@{served.model}", "--suite", "ca.jsonl"]
        _json(capsys, *argv, "--judge", served.judge)
    return served


def test_measured_stands_beside_published(
    on_ca: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    table = _json(capsys, "leaderboard", "--table", "1", "--rows", "rows.yaml")
    rows = {(r["model"], r["method"], r["dataset"]): r for r in table["rows"]}
    assert len(rows) == COUNTS[1]
    mipo = rows["Llama-3.2-1B-Instruct", "MIPO", "CA"]
    assert (mipo["measured"], mipo["published"], mipo["n"]) == (100.0, 93.67, 12)
    assert mipo["difference"] == pytest.approx(100 - 93.67)
    absent = rows["Llama-3.2-1B-Instruct", "MIPO", "PRISM"]
    assert (absent["measured"], absent["difference"]) == (None, None)
    assert absent["absent"] == "not in the store"
    assert sum(row["measured"] is not None for row in rows.values()) == 2
    assert main(["leaderboard", "--table", "1", "--rows", "rows.yaml"]) == 0
    shown = capsys.readouterr().out
    assert "measured 2 of the 150 published numbers" in shown
    assert "+6.3" in shown


@pytest.mark.parametrize(("table", "measured"), [(2, 0), (3, 0), (4, 2), (5, 1), (6, 0), (7, 0)])
def test_every_table_is_laid_out(
    on_ca: Served, capsys: pytest.CaptureFixture[str], table: int, measured: int
) -> None:
    rows = _json(capsys, "leaderboard", "--table", str(table), "--rows", "rows.yaml")["rows"]
    assert len(rows) == COUNTS[table]
    assert sum(row["measured"] is not None for row in rows) == measured
    assert all(row["absent"] for row in rows if row["measured"] is None)


def test_published_rows_are_added_with_their_mark(
    on_ca: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    sections = _json(capsys, "leaderboard", "--paper", "--suite", "ca")["sections"]
    (section,) = sections
    assert len(section["published"]) == 50
    assert section["published"][0]["cells"] == {"ca": {"value": 31.0, "std": None}}
    assert main(["leaderboard", "--paper", "--suite", "ca"]) == 0
    shown = capsys.readouterr().out
    assert "MIPO \u2020" in shown
    assert "93.7 \u00b1 1.3" in shown
    assert main(["leaderboard", "--paper", "--suite", "tea"]) == 0
    assert "The paper has no numbers of this kind on tea" in capsys.readouterr().out
