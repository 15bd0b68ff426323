"""What one database takes the other takes, too, and a store can be read wherever it lies."""

import json
import os
import sys
import warnings
from pathlib import Path

import pytest
import sqlalchemy as sa

from mipo_eval.cli import main
from mipo_eval.errors import StoreError
from mipo_eval.records import Item
from mipo_eval.store import Store
from mipo_eval.store.engine import RowError, Rows
from mipo_eval.store.items import put_list
from mipo_eval.store.judges import list_judges, put_judge
from mipo_eval.store.merge import merge
from mipo_eval.store.tables import item_lists, items


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    return "s.db" if request.param == "sqlite" else str(request.getfixturevalue("postgres_url"))


@pytest.mark.parametrize("size", [64, 255])
def test_a_name_that_a_file_can_have_is_taken_by_both(
    size: int, url: str, request: pytest.FixtureRequest
) -> None:
    with Store.open(url) as store, Store.open("other.db") as other:
        put_list(other, [("n" * size, [Item(item_id="i", prompt="Tea?")])])
        merge(store, other)
        with store.read() as connection:
            assert connection.execute(sa.select(item_lists.c.task)).scalar() == "n" * size


def test_what_is_too_long_is_refused_by_both(url: str) -> None:
    with Store.open(url) as store:
        with pytest.raises(RowError, match=r"item_lists.task is 'nnn.* over the limit of 255"):
            put_list(store, [("n" * 256, [Item(item_id="i", prompt="Tea?")])])
        row = {"list_key": "l", "position": 10**12, "task": "t", "item_key": "i"}
        with pytest.raises(RowError, match="over the limit of 2,147"):
            store.put_rows([Rows("item_lists", [row])])


def test_what_no_database_holds_is_cleaned_on_the_way_in(url: str) -> None:
    with Store.open(url) as store:
        put_judge(store, "k", "a\x00b\ud800", {"n": "\x00"})
        assert [judge.name for judge in list_judges(store)] == ["a\ufffdb\ufffd"]


def test_numbers_that_json_lacks_are_absent_in_both(url: str) -> None:
    """Also those that SQLite was given by earlier versions."""
    with Store.open("other.db") as other, other.write() as connection:
        connection.exec_driver_sql("insert into judges values ('o', 'old', '{\"a\": NaN}')")
    with Store.open(url) as store, Store.open("other.db", mode="read") as other:
        put_judge(store, "k", "new", {"a": float("nan"), "b": [float("-inf"), 1.5]})
        merge(store, other)
        found = {judge.name: judge.spec for judge in list_judges(store)}
    assert found == {"new": {"a": None, "b": [None, 1.5]}, "old": {"a": None}}


@pytest.mark.parametrize("name", ["a|b.jsonl", "n" * 80 + ".jsonl", "a\nb.jsonl", " .jsonl"])
def test_a_file_that_signatures_cannot_name_is_refused_before_anything_is_asked(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(name).write_text(json.dumps({"item_id": "i", "prompt": "Tea?"}), encoding="utf-8")
    assert main(["--model", "demo", "--suite", name]) == 2
    assert "the name of the file is the name of the suite" in capsys.readouterr().err


def test_a_key_that_comes_twice_in_an_item_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    text = '{"item_id": "i", "prompt": "Tea?", "meta": {"a": 1, "a": 2}}'
    Path("s.jsonl").write_text(text, encoding="utf-8")
    assert main(["--model", "demo", "--suite", "s.jsonl"]) == 2
    assert 'has the field "a" twice' in capsys.readouterr().err


@pytest.mark.parametrize(("table", "column"), [("items", "body"), ("generations", "spec")])
def test_check_finds_what_cannot_be_read(
    table: str, column: str, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with Store.open(url) as store:
        put_list(store, [("t", [Item(item_id="i", prompt="Tea?")])])
        with store.write() as connection:
            if table == "generations":
                if connection.dialect.name == "postgresql":
                    pytest.skip("PostgreSQL itself refuses what is no JSON")
                connection.exec_driver_sql("insert into generations values ('g', '{')")
            else:
                connection.exec_driver_sql("update items set body = '{\"prompt\": '")
    assert main(["store", "check", "--store", url]) == 2
    told = capsys.readouterr().out
    assert "rows that cannot be read: 1" in told
    assert column in told


def test_a_row_that_cannot_be_read_is_one_line(
    suite: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = ("--model", "demo", "--suite", str(suite), "--store", "s.db")
    assert main(["--json", *made]) == 0
    run = json.loads(capsys.readouterr().out)["run_id"]
    for broken in (
        "update items set body = '{'",
        "update items set body = '{}'",
        "update runs set environment = '{'",
        "update generations set spec = '{'",
    ):
        with Store.open("s.db") as store, store.write() as connection:
            connection.exec_driver_sql(broken)
        for words in (made, ("export", run, "--format", "lm_eval", "--output", "results_1.json")):
            code = main([*words] if "--store" in words else [*words, "--store", "s.db"])
            told = capsys.readouterr().err
            assert code == 0 or "cannot be read" in told
        if "runs" in broken:
            assert main(["runs", "--store", "s.db"]) == 2
            assert "cannot be read: `mipo-eval store check` names" in capsys.readouterr().err


@pytest.fixture
def suite() -> Path:
    item = {"item_id": "i", "prompt": "Tea?", "preferences": ["Short."], "reference": "Yes."}
    Path("tea.jsonl").write_text(json.dumps(item), encoding="utf-8")
    return Path("tea.jsonl")


def test_a_store_on_a_read_only_disk_can_be_read(tmp_path: Path) -> None:
    """Read by a user who may write neither the file nor its folder; root may write anywhere."""
    folder = tmp_path / "disk"
    folder.mkdir()
    with Store.open(str(folder / "s.db")) as store:
        put_list(store, [("t", [Item(item_id="i", prompt="Tea?")])])
    (folder / "s.db").chmod(0o444)
    folder.chmod(0o555)
    query = sa.select(items.c.item_id)

    def read() -> str:
        with Store.open(str(folder / "s.db"), mode="read") as store, store.read() as connection:
            return str(connection.execute(query).scalar())

    try:
        assert read() == "i"
        if os.geteuid() == 0:
            for parent in folder.parents:
                parent.chmod(parent.stat().st_mode | 0o111) if parent != Path("/") else None
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # later Pythons warn where there are threads
                child = os.fork()
            if child == 0:
                os.setuid(65534)
                os._exit(0 if read() == "i" else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        else:
            with pytest.raises(StoreError, match="read-only"):
                Store.open(str(folder / "s.db"))
    finally:
        folder.chmod(0o755)
        sys.stdout.flush()
