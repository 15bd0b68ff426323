"""What data files hold is read rightly or refused in one line, whatever they are called."""

import datetime
import gzip
import json
import os
import subprocess
import sys
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from mipo_eval.errors import ConfigError, DataError
from mipo_eval.rows import csv_cells, hub_rows, names_rows, read_rows, short_name
from mipo_eval.tasks.items import read_items
from tests.servers.hub_server import card, hub_server, jsonl
from tests.waiting import HANG

ROWS = [{"a": 1, "b": "é\u2028"}, {"a": None, "b": [{"c": 0.5}]}]
_packed = partial(gzip.compress, mtime=0)  # the names of tests are the same in every process
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
LIST = json.dumps(ROWS, indent=1).encode()


def data(name: str, content: bytes) -> list[dict[str, Any]]:
    Path(name).write_bytes(content)
    return [row.data for row in read_rows(name)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.jsonl", LINES),
        ("x.jsonl", b"\xef\xbb\xbf" + LINES),
        ("x.jsonl", b"\n \n" + LINES.replace(b"\n", b"\r\n\r\n")),
        ("x.jsonl", LINES.rstrip(b"\n")),
        ("x.json", LINES),  # objects one a line, under the other name
        ("x.jsonl", LIST),  # as lm-eval 0.4.0 to 0.4.2 wrote them
        ("x.json", LIST),
        ("x.json", b"\n\n" + LIST),
        ("x.jsonl.gz", _packed(LINES)),
        ("x.json.gz", _packed(LIST)),
        ("x.jsonl", _packed(LINES)),  # gzip is told by its first bytes
        ("x.jsonl.gz", _packed(LINES[:10]) + _packed(LINES[10:])),
    ],
)
def test_the_same_rows_come_from_every_form(name: str, content: bytes) -> None:
    assert data(name, content) == ROWS


def test_one_object_over_several_lines_is_one_row() -> None:
    assert data("x.json", json.dumps({"a": {"b": 1}}, indent=2).encode()) == [{"a": {"b": 1}}]
    assert data("y.json", b'{"a": 1}') == [{"a": 1}]


def test_what_no_database_holds_is_replaced_and_what_json_lacks_is_null() -> None:
    (row,) = data("x.jsonl", b'{"t": "a\\ud800\\u0000b", "n": NaN, "i": [Infinity, -Infinity]}\n')
    assert row == {"t": "a\ufffd\ufffdb", "n": None, "i": [None, None]}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.jsonl", b'{"a": ' + b"9" * 5000 + b"}", "line 1: holds a number of too many digits"),
        ("x.json", b'[{"a": ' + b"9" * 5000 + b"}]", "x.json: holds a number of too many digits"),
        ("x.jsonl", b'{"a": 1}\n{"a": 1e999}', "line 2, field a is inf, not a finite number"),
        ("x.jsonl", b'{"a": [' + b"9" * 400 + b"]}", "field a is .*|is inf, not a finite number"),
        ("x.jsonl", b"[" * 100_000, "is nested too deeply"),
        ("x.jsonl", b'{"a": ' * 100_000, "is nested too deeply"),
        ("x.jsonl", b'{"a": ' + b"[" * 300 + b"]" * 300 + b"}", "field a: is nested too deeply"),
        ("x.jsonl", b'{"a": 1, "b": {"c": 1, "c": 2}}', 'has the field "c" twice in one object'),
        (
            "x.jsonl",
            '{"a": 1}'.encode("utf-16"),
            "is UTF-16 or UTF-32 text; save the file as UTF-8",
        ),
        ("x.jsonl", b'{"a": 1}\n{"a": "\xff"}', r"line 2: is not UTF-8 text \(byte 8\)"),
        ("x.json", b'[\n{"a": "\xff"}]', "x.json: is not UTF-8 text"),
        ("x.jsonl", b'{"a": 1}\n{"a": ', r"line 2: is not JSON \(Expecting value, column 7\)"),
        ("x.jsonl", b'{"a": 1} {"a": 2}', r"line 1: is not JSON \(Extra data"),
        ("x.json", b'[{"a": 1},\n\n{]', "x.json, line 3: is not JSON"),
        ("x.json", b'[{"a": 1}, 7]', "row 2: is 7, not a JSON object"),
        ("x.jsonl", b'{"a": 1}\n[1]', "line 2: is a list, not a JSON object"),
        ("x.jsonl", b'"a"', 'line 1: is "a", not a JSON object'),
        ("x.jsonl.gz", _packed(LINES)[:-9], "is not a whole gzip file"),
        ("x.jsonl.gz", _packed(LINES)[:12] + b"\0" * 40, "is not a whole gzip file"),
        ("x.jsonl", '{"a": 1}'.encode("utf-32"), "is UTF-16 or UTF-32 text; save"),
        ("x.json", '{"a": 1}'.encode("utf-16-le"), "line 1: is not JSON"),
        ("x.parquet", b"PAR1 no", "is not a Parquet file that can be read"),
        ("x.parquet", b'{"a": 1}', "is not a Parquet file that can be read"),
        ("x.jsonl", b"PAR1 no", "is not a Parquet file that can be read"),
        ("x.csv", b"a,b\n1,2\n3\n", "line 3: has 1 cells, the header has 2"),
        ("x.csv", b"a,a\n1,2\n", "the column 'a' comes twice"),
        ("x.csv", b"a,b\n1,\xff\n", "is not UTF-8 text"),
        ("x.csv", b'a\n"b', None),
    ],
)
def test_what_cannot_be_read_is_one_line(name: str, content: bytes, message: str | None) -> None:
    if message is None:
        assert data(name, content) == [{"a": "b"}]
        return
    with pytest.raises(DataError, match=message) as caught:
        data(name, content)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(name)


@pytest.mark.parametrize("content", [b"", b"\n \n\n", b"\xef\xbb\xbf", _packed(b""), b"[]"])
def test_an_empty_file_has_no_rows(content: bytes) -> None:
    assert data("x.jsonl", content) == []


def test_what_is_not_there_and_folders_are_told_at_the_call() -> None:
    with pytest.raises(DataError, match=r"no\.jsonl is not there: check the path"):
        read_rows("no.jsonl")
    with pytest.raises(DataError, match="is a folder: name one file in it"):
        read_rows(".")


def test_lines_are_streamed() -> None:
    Path("x.jsonl").write_bytes(LINES + b"nonsense\n")
    rows = read_rows("x.jsonl")
    assert [next(rows).data, next(rows).data] == ROWS
    with pytest.raises(DataError, match="line 3"):
        next(rows)


def test_a_csv_cell_may_be_longer_than_the_library_lets_it() -> None:
    Path("x.csv").write_text("a\n" + "y" * 200_000 + "\n")
    assert [len(cells[0]) for _, cells in csv_cells(Path("x.csv"))] == [1, 200_000]


def test_parquet_has_what_json_has() -> None:
    rows = [
        {"t": "x", "n": Decimal("1.50"), "d": datetime.date(2026, 1, 2), "l": [1, None], "f": 1.0},
        {"t": None, "n": None, "d": None, "l": None, "f": float("nan")},
    ]
    parquet.write_table(pa.Table.from_pylist(rows), "x.parquet")
    assert [row.data for row in read_rows("x.parquet")] == [
        {"t": "x", "n": 1.5, "d": "2026-01-02", "l": [1, None], "f": 1.0},
        {"t": None, "n": None, "d": None, "l": None, "f": None},
    ]
    with pytest.raises(DataError, match="row 2, field f: holds NaN"):
        list(read_rows("x.parquet", exact=True))
    parquet.write_table(pa.table({"b": [b"\x00"]}), "b.parquet")
    with pytest.raises(DataError, match="row 1, field b: holds bytes"):
        list(read_rows("b.parquet"))


def test_items_come_the_same_from_lines_and_columns() -> None:
    rows = [
        {"item_id": "a", "prompt": "p", "rubric": ["r"], "preferences": ["x"], "meta": {"k": 1}},
        {"item_id": "b", "prompt": "q", "context": "c", "meta": {"l": "m"}},
    ]
    Path("i.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("i.jsonl.gz").write_bytes(_packed(Path("i.jsonl").read_bytes()))
    parquet.write_table(pa.Table.from_pylist(_filled(rows)), "i.parquet")
    wanted = list(read_items("i.jsonl"))
    assert [item.item_id for item in wanted] == ["a", "b"]
    for name in ("i.jsonl.gz", "i.parquet"):
        assert [item.key for item in read_items(name)] == [item.key for item in wanted]


def _filled(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows with null for what they lack and others have."""
    names = dict.fromkeys(name for row in rows for name in row)
    return [dict.fromkeys(names) | row for row in rows]


@pytest.mark.parametrize(
    ("name", "is_one", "called"),
    [
        ("a/items.jsonl", True, "items"),
        ("a/items.v2.jsonl.gz", True, "items.v2"),
        ("items.parquet", True, "items"),
        ("items.json", True, "items"),
        ("hf://o/n:test", True, "o/n/test"),
        ("personalization", False, "personalization"),
        ("org/model", False, "model"),
    ],
)
def test_names_of_rows(name: str, is_one: bool, called: str) -> None:
    assert names_rows(name) is is_one
    assert short_name(name) == called


@pytest.mark.parametrize("name", ["hf://n", "hf://o/n:", "hf://", "hf://o/n@:test"])
def test_a_name_on_the_hub_that_is_none(name: str) -> None:
    with pytest.raises(ConfigError, match=r"write hf://OWNER/NAME"):
        list(read_rows(name))


def test_a_folder_here_does_not_stand_for_the_hub() -> None:
    Path("o/n").mkdir(parents=True)
    with pytest.raises(ConfigError, match="a folder o/n is here"):
        hub_rows("o/n", None, None, "test")


_COMMANDS = """
import sys
from mipo_eval.cli import main
suite = "hf://o/items:test"
commands = [
    ["data", "check", suite],
    ["judge", "hf://o/answers:good", "bad.jsonl", "--suite", suite, "--judge", "scripted:r.jsonl"],
    ["import", "hf://o/verdicts"],
    ["data", "check", "hf://o/items:tset"],
    ["data", "check", "hf://o/items/other:test"],
    ["data", "check", "hf://o/items"],
    ["data", "check", "hf://o/missing:test"],
]
for command in commands:
    print("exit", main(command), file=sys.stderr, flush=True)
"""


def test_data_sets_of_the_hub_are_read_wherever_files_are() -> None:
    items = [{"item_id": "a", "prompt": "Why?", "preferences": ["Short."], "reference": "So."}]
    verdict = {
        "instruction": "Say tea.",
        "output_1": "Coffee.",
        "generator_1": "base",
        "output_2": "Tea.",
        "generator_2": "m",
        "annotator": "j",
        "preference": 2.0,
    }
    repositories = {
        "o/items": {
            "README.md": card(test="test.jsonl", train="train.jsonl"),
            "test.jsonl": jsonl(*items),
            "train.jsonl": jsonl(*items),
        },
        "o/answers": {
            "README.md": card(good="good.jsonl"),
            "good.jsonl": jsonl({"item_id": "a", "response": "Because."}),
        },
        "o/verdicts": {"README.md": card(train="v.jsonl"), "v.jsonl": jsonl(verdict)},
    }
    Path("bad.jsonl").write_bytes(jsonl({"item_id": "a", "response": "No."}))
    Path("r.jsonl").write_bytes(jsonl(*[{"reply": "4"}] * 2))
    with hub_server(repositories) as server:
        environment = {k: v for k, v in os.environ.items() if "OFFLINE" not in k}
        environment |= {"HF_ENDPOINT": server.address, "HF_HOME": str(Path("home").absolute())}
        environment["PYTHONPATH"] = str(Path(__file__).parents[1])
        done = subprocess.run(
            [sys.executable, "-c", _COMMANDS],
            env=environment,
            capture_output=True,
            text=True,
            timeout=HANG,
            check=False,
        )
    told = done.stderr
    assert [line for line in told.splitlines() if line.startswith("exit")] == [
        *["exit 0"] * 3,
        *["exit 2"] * 4,
    ], told
    assert "Traceback" not in told
    assert 'Unknown split "tset"' in told
    assert "'other' not found" in told
    assert "o/items has the splits test, train: name one after a colon" in told
    assert "o/missing cannot be found on the hub" in told
    assert "1 of 1 rows imported" in done.stdout
