"""Opening stores: versions, errors, several processes at once."""

import multiprocessing
import os
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa

from mipo_eval.errors import ConfigError, StoreError
from mipo_eval.records import Response
from mipo_eval.store import Store
from mipo_eval.store.engine import EmptyStoreError
from mipo_eval.store.migrations import LATEST
from mipo_eval.store.responses import put_generation, put_responses
from mipo_eval.store.tables import metadata, responses
from tests.postgres import Server
from tests.waiting import HANG


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "any name?.db")
    return str(request.getfixturevalue("postgres_url"))


def test_opening_twice_creates_once(store_url: str) -> None:
    for _ in range(2):
        with Store.open(store_url) as store, store.read() as connection:
            assert set(metadata.tables) <= set(sa.inspect(connection).get_table_names())


def test_a_store_made_before_a_table_came_gets_it_when_it_is_written(store_url: str) -> None:
    with Store.open(store_url) as store, store.write() as connection:
        metadata.tables["validations"].drop(connection)
        kept = {"generation_key": "g", "spec": {}}
        store.put(connection, metadata.tables["generations"], [kept])
    with Store.open(store_url) as store, store.read() as connection:
        assert set(metadata.tables) <= set(sa.inspect(connection).get_table_names())
        query = sa.select(metadata.tables["generations"].c.generation_key)
        assert connection.execute(query).scalars().all() == ["g"]


def test_a_newer_store_is_refused(store_url: str) -> None:
    with Store.open(store_url) as store, store.write() as connection:
        connection.execute(
            sa.text("update schema_info set value = '99' where name = 'schema_version'")
        )
    with pytest.raises(
        StoreError, match=rf"newer mipo-eval \(schema 99, this one knows {LATEST}\): upgrade"
    ):
        Store.open(store_url)


def test_a_foreign_database_is_refused(store_url: str) -> None:
    with Store.open(store_url) as store, store.write() as connection:
        connection.execute(sa.text("drop table schema_info"))
    with pytest.raises(StoreError, match="contains other tables"):
        Store.open(store_url)


@pytest.mark.parametrize(
    ("url", "error", "message"),
    [
        ("nowhere/store.db", StoreError, "there is no folder nowhere"),
        (".", StoreError, "is a folder"),
        ("mysql://user:secret@host/name", ConfigError, "only SQLite files and PostgreSQL"),
        ("postgresql://user:secret@127.0.0.1:1/name", StoreError, "Connection refused"),
    ],
)
def test_urls_that_cannot_be_stores(url: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        Store.open(url)
    assert "secret" not in str(caught.value)


def test_reading_needs_a_store() -> None:
    with pytest.raises(StoreError, match=r"there is no store at absent\.db: run `mipo-eval demo`"):
        Store.open("absent.db", mode="read")
    assert not Path("absent.db").exists()


def test_a_database_without_tables_is_empty_until_it_is_written(store_url: str) -> None:
    if "://" not in store_url:
        Path(store_url).touch()
    for _ in range(2):  # reading it makes nothing
        with pytest.raises(EmptyStoreError, match="is empty: nothing was stored in it yet"):
            Store.open(store_url, mode="read")
    Store.open(store_url).close()
    Store.open(store_url, mode="read").close()


def test_a_database_with_another_encoding(postgres_server: Server) -> None:
    of = "TEMPLATE template0 LOCALE 'C'"
    for encoding in ("SQL_ASCII", "LATIN1"):
        postgres_server.execute(f"CREATE DATABASE {encoding} ENCODING '{encoding}' {of}")
    try:
        with Store.open(postgres_server.url("sql_ascii")) as store:
            put_generation(store, "g", {"model": "žluťoučký 🐎"})
        with Store.open(postgres_server.url("sql_ascii"), mode="read") as store:
            query = sa.select(metadata.tables["generations"].c.spec)
            assert store.fetch(query)[0][0] == {"model": "žluťoučký 🐎"}
        with pytest.raises(StoreError, match=r"in LATIN1, which lacks .* `createdb --encoding"):
            Store.open(postgres_server.url("latin1"))
        with pytest.raises(EmptyStoreError):  # and nothing was left in it
            Store.open(postgres_server.url("latin1"), mode="read")
    finally:
        for encoding in ("SQL_ASCII", "LATIN1"):
            postgres_server.execute(f"DROP DATABASE {encoding} WITH (FORCE)")


def test_a_text_file_is_not_a_store() -> None:
    Path("notes.db").write_text("no database " * 100)
    with pytest.raises(StoreError, match=r"notes\.db is not a database: name another file"):
        Store.open("notes.db")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_file(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    Store.open(str(path)).close()
    path.chmod(0o444)
    with Store.open(str(path)) as store, pytest.raises(StoreError, match="is read-only"):
        put_generation(store, "g", {})


def test_writing_through_a_reader_is_refused() -> None:
    Store.open("store.db").close()
    with Store.open("store.db", mode="read") as store, pytest.raises(StoreError, match="read-only"):
        put_generation(store, "g", {})


def _response(index: int) -> Response:
    return Response(item_key=f"{index:032}", text="word " * 200, prompt_hash="0" * 32)


def test_a_full_disk_loses_nothing_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    with Store.open("store.db") as store:
        put_responses(store, "g", [_response(0)])
    real = sqlite3.connect

    def small(*args: object, **kwargs: object) -> sqlite3.Connection:
        connection = real(*args, **kwargs)  # type: ignore[call-overload]
        connection.execute("pragma max_page_count = 40")  # SQLite's own "disk is full"
        return connection

    monkeypatch.setattr(sqlite3, "connect", small)
    with Store.open("store.db") as store:
        with pytest.raises(StoreError, match="no room left on its disk"):
            put_responses(store, "g", [_response(i) for i in range(1, 1000)])
        with store.read() as connection:
            assert connection.execute(sa.select(sa.func.count(responses.c.item_key))).scalar() == 1


def _write_some(url: str, first: int) -> None:
    with Store.open(url) as store:
        for index in range(first, first + 40):
            put_responses(store, "g", [_response(index), _response(0)])


def test_several_processes_write_at_once(store_url: str) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_write_some, args=(store_url, 1000 * n)) for n in range(1, 4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(HANG)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    with Store.open(store_url, mode="read") as store, store.read() as connection:
        assert connection.execute(sa.select(sa.func.count(responses.c.item_key))).scalar() == 121
