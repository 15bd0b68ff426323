"""Merging, checking and emptying stores, on both databases."""

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from mipo_eval.errors import ConfigError
from mipo_eval.records import Item, text_key
from mipo_eval.store import Store, tables
from mipo_eval.store.check import check, vacuum
from mipo_eval.store.items import put_list
from mipo_eval.store.merge import merge, total_rows
from mipo_eval.store.runs import list_runs

ITEMS = [
    Item(item_id=f"i{n}", prompt=f"What is tea {n}?", preferences=("Short.",)) for n in range(3)
]
MORNING = datetime(2026, 1, 2, 8, tzinfo=UTC)


def _store(tmp_path: Path, name: str) -> Store:
    return Store.open(str(tmp_path / f"{name}.db"))


@pytest.fixture(params=["sqlite", "postgresql"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    sqlite = request.param == "sqlite"
    url = tmp_path / "target.db" if sqlite else request.getfixturevalue("postgres_url")
    with Store.open(str(url)) as opened:
        yield opened


def _fill(
    store: Store, texts: list[str | None], *, rated: bool = True, at: datetime = MORNING
) -> None:
    """Put a run with one response per text, each rated; None is a failure and has no rating."""
    list_key, _ = put_list(store, [("t", ITEMS)])
    common = {"prompt_hash": "0" * 32, "created_at": at}
    responses = [
        {
            "generation_key": "g",
            "item_key": item.key,
            "text": text,
            "text_key": text and text_key(text),
            "reason": None if text else "server gone",
            "final": text is not None,
            "finish_reason": None,
            "prompt_tokens": 1,
            "response_tokens": 2,
            "choice_logprobs": (-1.5, -math.inf),
            **common,
        }
        for item, text in zip(ITEMS, texts, strict=False)
    ]
    call = dict.fromkeys((c.name for c in tables.calls.columns), None)
    calls = [
        call
        | {
            "call_key": f"c{n}",
            "backend": {"type": "t"},
            "request": f"ask {n} ü",
            "status": "ok" if text and rated else "timeout",
            "reply": "4" if text and rated else None,
            "created_at": at,
        }
        for n, text in enumerate(texts)
    ]
    verdicts = [
        {
            "judge_key": "j",
            "item_key": item.key,
            "text_key": text_key(text or "-"),
            "aspect": 0,
            "rating": 4 if text and rated else None,
            "reason": None if text and rated else "call failed",
            "call_key": f"c{n}",
        }
        for n, (item, text) in enumerate(zip(ITEMS, texts, strict=False))
    ]
    run = {
        "run_id": "run1",
        "model": "m",
        "suite": "s",
        "prompting": "",
        "seed": 0,
        "list_key": list_key,
        "n_items": 3,
        "generation_key": "g",
        "environment": {},
        "created_at": at,
        "updated_at": at,
    }
    rows: list[tuple[sa.Table, list[dict[str, Any]]]] = [
        (tables.generations, [{"generation_key": "g", "spec": {"model": "m"}}]),
        (tables.responses, responses),
        (tables.judges, [{"judge_key": "j", "name": "judge", "spec": {}}]),
        (tables.calls, calls),
        (tables.verdicts, verdicts),
        (tables.runs, [run]),
    ]
    with store.write() as connection:
        for table, made in rows:
            store.put(connection, table, made)
    _score(store, "judge:a|ties:win", 50.0, at)


def _score(store: Store, signature: str, value: float | None, at: datetime) -> None:
    row = {
        "run_id": "run1",
        "task": "t",
        "metric": "win_rate",
        "signature_key": signature,
        "value": value,
        "n": 2,
        "unscored_reasons": {"failed": 1},
        "ci_low": None,
        "ci_high": None,
        "signature": signature,
        "parts": dict(part.partition(":")[::2] for part in signature.split("|")),
        "outcomes_key": None,
        "created_at": at,
    }
    with store.write() as connection:
        store.put(connection, tables.scores, [row])


def _content(store: Store) -> dict[str, set[str]]:
    """Return every row of every table, without what depends on the database's idea of time."""
    with store.read() as connection:
        return {
            table.name: {
                str([v for v in row if not isinstance(v, datetime)])
                for row in connection.execute(sa.select(table))
            }
            for table in tables.metadata.sorted_tables
            if table.name != "schema_info"
        }


def _texts(store: Store) -> list[str | None]:
    columns = tables.responses.c
    query = sa.select(columns.item_key, columns.text)
    with store.read() as connection:
        found = {key: text for key, text in connection.execute(query)}
    return [found.get(item.key) for item in ITEMS]


def test_a_merge_is_a_union_that_can_be_repeated(target: Store, tmp_path: Path) -> None:
    with _store(tmp_path, "a") as a, _store(tmp_path, "b") as b:
        _fill(a, ["Tea.", None, None])
        _fill(b, [None, "Leaf."])
        for source in (a, b):
            merge(target, source)
        assert _texts(target) == ["Tea.", "Leaf.", None]
        once = _content(target)
        for source in (b, a, b):
            assert not any(taken.added for taken in merge(target, source))
        assert _content(target) == once


@pytest.mark.parametrize("success_first", [True, False])
def test_a_success_replaces_a_failure_and_never_the_reverse(
    target: Store, tmp_path: Path, success_first: bool
) -> None:
    with _store(tmp_path, "good") as good, _store(tmp_path, "bad") as bad:
        _fill(good, ["Tea."])
        _fill(bad, ["Tea."], rated=False)
        for source in (good, bad) if success_first else (bad, good):
            merge(target, source)
    with target.read() as connection:
        assert connection.execute(sa.select(tables.verdicts.c.rating)).scalars().all() == [4]
        status, reply = connection.execute(
            sa.select(tables.calls.c.status, tables.calls.c.reply)
        ).one()
    assert (status, reply) == ("ok", "4")


def test_there_and_back_between_the_databases_nothing_changes(
    target: Store, tmp_path: Path
) -> None:
    zone = timezone(timedelta(hours=5))
    with _store(tmp_path, "a") as a, _store(tmp_path, "back") as back:
        _fill(a, ["Tea.", None, "Leaf."], at=MORNING.astimezone(zone))
        merge(target, a)
        merge(back, target)
        assert _content(target) == _content(a) == _content(back)
        (run,), (again,) = list_runs(a), list_runs(back)
        assert again == run
        assert total_rows(back) == total_rows(a) > 0


def test_of_two_scores_the_later_one_with_a_value_stays(target: Store, tmp_path: Path) -> None:
    later = MORNING + timedelta(hours=1)
    with _store(tmp_path, "a") as a, _store(tmp_path, "b") as b, _store(tmp_path, "c") as c:
        for store, value, at in ((a, 10.0, MORNING), (b, 20.0, later), (c, None, later)):
            _score(store, "s", value, at)
        for source in (b, a, c):
            merge(target, source)
    with target.read() as connection:
        assert connection.execute(sa.select(tables.scores.c.value)).scalars().all() == [20.0]


def test_a_store_is_not_merged_into_itself(tmp_path: Path) -> None:
    with _store(tmp_path, "a") as a, pytest.raises(ConfigError, match="into itself"):
        merge(a, a)


def _found(store: Store) -> dict[str, tuple[str, ...]]:
    return {f.name: f.examples for f in check(store) if f.found}


def test_a_whole_store_has_no_findings(target: Store) -> None:
    _fill(target, ["Tea.", "Leaf.", "Cup."])
    assert _found(target) == {}


def test_what_needs_a_look_is_listed_and_is_not_broken(target: Store) -> None:
    _fill(target, ["Tea.", None])
    _score(target, "judge:a|ties:half", 40.0, MORNING)
    _score(target, "judge:b|ties:half", 40.0, MORNING)
    findings = [f for f in check(target) if f.found]
    assert {f.name: f.examples for f in findings} == {
        "scores with two signatures": ("run1 t win_rate: ties half / win",),
        "unfinished runs": ("run1: 1 of 3 responses",),
    }
    assert not any(f.broken for f in findings)


@pytest.mark.parametrize(
    ("table", "finding"),
    [
        ("calls", "verdicts without their call"),
        ("judges", "verdicts without their judge"),
        ("items", "responses without their item"),
        ("generations", "runs without their generation"),
        ("runs", "scores without their run"),
        ("item_lists", "runs whose item list is incomplete"),
    ],
)
def test_what_is_lost_is_broken(target: Store, table: str, finding: str) -> None:
    _fill(target, ["Tea.", "Leaf.", "Cup."])
    with target.write() as connection:
        connection.execute(sa.delete(tables.metadata.tables[table]))
    assert finding in {f.name for f in check(target) if f.broken and f.found}


def test_the_same_request_under_two_keys_is_repeated_work(target: Store) -> None:
    _fill(target, ["Tea.", "Leaf.", "Cup."])
    with target.write() as connection:
        connection.execute(sa.update(tables.calls).values(request="the same"))
    assert list(_found(target)) == ["requests asked twice"]


def test_vacuum_drops_what_no_run_refers_to_and_keeps_paid_replies(target: Store) -> None:
    _fill(target, ["Tea.", None, "Cup."])
    assert not any(vacuum(target).values())
    with target.write() as connection:
        connection.execute(sa.delete(tables.runs))
    before = _content(target)
    counted = vacuum(target, drop=False)
    assert _content(target) == before
    assert vacuum(target) == counted
    assert {name: n for name, n in counted.items() if n} == {
        "scores": 1,
        "item_lists": 3,
        "responses": 3,
        "verdicts": 3,
        "items": 3,
        "generations": 1,
        "judges": 1,
        "calls": 1,
    }
    left = _content(target)
    assert {name: len(rows) for name, rows in left.items() if rows} == {"calls": 2}
    target.compact()
    assert _content(target) == left
