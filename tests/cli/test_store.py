"""`mipo-eval store` from the outside."""

import io
import json
from pathlib import Path

import pytest
import sqlalchemy as sa

from mipo_eval.cli import main
from mipo_eval.records import Item
from mipo_eval.store import Store, tables
from mipo_eval.store.items import put_list


def _make(name: str, *ids: str) -> None:
    with Store.open(name) as store:
        put_list(store, [("t", [Item(item_id=i, prompt="What is tea?") for i in ids])])


def test_merge_says_what_is_new(capsys: pytest.CaptureFixture[str]) -> None:
    _make("a.db", "x", "y")
    _make("b.db", "y", "z")
    assert main(["store", "merge", "c.db", "a.db", "b.db", "--json"]) == 0
    merged = json.loads(capsys.readouterr().out)["merged"]
    assert [m["tables"]["items"] for m in merged] == [
        {"read": 2, "added": 2},
        {"read": 2, "added": 1},
    ]
    assert main(["store", "merge", "c.db", "a.db"]) == 0
    assert "a.db merged into c.db" in capsys.readouterr().out


def test_the_next_command_names_the_store_that_was_given(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Store.open("a b.db").close()
    assert main(["runs", "--store", "a b.db"]) == 0
    assert capsys.readouterr().out.endswith("Make some: mipo-eval demo --store 'a b.db'\n")


def test_a_missing_source_leaves_no_target_behind(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", "merge", "new.db", "missing.db"]) == 2
    assert "there is no store at missing.db" in capsys.readouterr().err
    assert not Path("new.db").exists()


def test_check_exits_with_two_only_when_broken(capsys: pytest.CaptureFixture[str]) -> None:
    _make("a.db", "x", "y")
    assert main(["store", "check", "--store", "a.db"]) == 0
    assert "a.db is in order" in capsys.readouterr().out
    with Store.open("a.db") as store, store.write() as connection:
        connection.execute(sa.delete(tables.items).where(tables.items.c.item_id == "x"))
    assert main(["store", "check", "--store", "a.db"]) == 2
    shown = capsys.readouterr().out
    assert "list entries without their item: 1" in shown
    assert "a.db is broken" in shown
    assert main(["store", "check", "--store", "a.db", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["broken"] is True


def test_vacuum_asks_first(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _make("a.db", "x", "y")
    assert main(["store", "vacuum", "--store", "a.db", "--json"]) == 2
    assert "add --yes" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert main(["store", "vacuum", "--store", "a.db"]) == 130
    assert main(["store", "vacuum", "--store", "a.db", "--yes", "--json"]) == 0
    out = capsys.readouterr().out
    assert json.loads(out[out.index("{") :])["dropped"] == {"item_lists": 2, "items": 2}
    assert main(["store", "vacuum", "--store", "a.db"]) == 0
    assert "nothing to delete" in capsys.readouterr().out


def test_vacuum_makes_no_store(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", "vacuum", "--store", "none.db"]) == 2
    assert not Path("none.db").exists()
    assert "no store at none.db" in capsys.readouterr().err
