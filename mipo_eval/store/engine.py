"""Opening a store, its transactions, and its errors."""

import json
import sqlite3
import time
import weakref
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache, wraps
from pathlib import Path
from typing import Any, Literal, NamedTuple, ParamSpec, TypeVar

import sqlalchemy as sa
from pydantic import ValidationError
from sqlalchemy import exc
from sqlalchemy.dialects import postgresql, sqlite

from mipo_eval import __version__
from mipo_eval.errors import StoreError
from mipo_eval.keys import clean_text
from mipo_eval.store.database import check_encoding, connected
from mipo_eval.store.migrations import LATEST, migrate, schema_version
from mipo_eval.store.tables import metadata, passing, schema_info

Asked = ParamSpec("Asked")
Found = TypeVar("Found")

_PATIENCE = 60.0
"""Seconds for which a database that is gone is waited for."""
_LOOK_AGAIN = 0.25
_PASSES = frozenset({"40001", "40P01", "57P01", "57P02", "57P03"})
"""What PostgreSQL calls errors that the same transaction need not meet again: a deadlock, or that
it shuts down or starts."""
_SAMPLE = 20_000
_EMPTY_LOG = "pragma wal_checkpoint(truncate)"
_KEYS = 500
_OF_A_ROW = (exc.DataError, exc.ProgrammingError)
"""What the two databases raise for a value of the wrong type, length or size."""
_READ_ONLY = "is read-only: make the file and its folder writable, or name another with --store"
_SQLITE_REMEDY = {
    "readonly": _READ_ONLY,
    "read-only": _READ_ONLY,
    "disk is full": "has no room left on its disk: free some and repeat the command; "
    "what was stored before is kept",
    "disk I/O error": "met a disk error: check the disk, then repeat the command; "
    "what was stored before is kept",
    "locked": "stayed locked by another process for a minute: repeat the command",
    "not a database": "is not a database: name another file with --store",
    "malformed": "is damaged: restore a copy, or name another file with --store",
    "unable to open": "cannot be opened: check that the folder exists and that you may write there",
}


def now() -> datetime:
    """Return the current time, in UTC."""
    return datetime.now(UTC)


def utc(time: datetime) -> datetime:
    """Return a time of a store in UTC: SQLite forgets the zone, PostgreSQL uses its own."""
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)


def whole(total: Any) -> int | None:
    """Return a sum as the number it is: PostgreSQL adds integers up to a decimal."""
    return None if total is None else int(total)


def sample_below(total: int) -> str | None:
    """Return the key below which about 20,000 of `total` rows lie; None: all of them.

    Keys are digests, so the rows below one are a sample, and the same whenever it is drawn.
    """
    return None if total <= _SAMPLE else f"{max(1, 16**4 * _SAMPLE // total):04x}"


class EmptyStoreError(StoreError):
    """A database to be read has no tables yet: what is written to it first makes them."""


class ConnectionLostError(StoreError):
    """The database ended the connection, or the transaction, in the middle of it."""


def lasting(function: Callable[Asked, Found]) -> Callable[Asked, Found]:
    """Let a function outlast a lost connection: it is done again, for up to a minute.

    It must be safe to repeat, and return all that it reads.
    """

    @wraps(function)
    def repeated(*args: Asked.args, **kwargs: Asked.kwargs) -> Found:
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                return function(*args, **kwargs)
            except ConnectionLostError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(_LOOK_AGAIN)

    return repeated


class RowError(StoreError):
    """A row holds what the database has no form for; others can be stored."""


class Rows(NamedTuple):
    """Rows for one table; columns that are not named are absent."""

    table: str
    rows: Sequence[Mapping[str, Any]]
    replace: Sequence[str] | None = ()
    """Columns taken from the new row where the key is there already; None: all of them."""


class Store:
    """One database, SQLite or PostgreSQL, checked to be ours and of a version we know."""

    def __init__(self, engine: sa.Engine, name: str) -> None:
        self._engine = engine
        # A notebook that forgets a store leaves no connection open.
        weakref.finalize(self, engine.dispose)
        self.name = name
        self._was_open = False
        """Whether it was once, so that a database that cannot be reached will come back."""

    @classmethod
    def open(cls, url: str, *, mode: Literal["write", "read"] = "write") -> "Store":
        """Open the store at `url`: a file (SQLite) or a SQLAlchemy URL of PostgreSQL.

        Mode "write" creates the store when it is not there; "read" changes nothing, except that a
        store of an earlier version is brought up to date first, in either mode.

        Raises:
            ConfigError: `url` is neither a file nor a URL of SQLite or PostgreSQL.
            EmptyStoreError: there is a database, to be read, with nothing in it.
            StoreError: the store cannot be opened, is not ours, is of a newer version, or of an
                earlier one and cannot be written.
        """
        engine, name = connected(url, mode)
        store = cls(engine, name)
        try:
            if mode == "write":
                store._create()
            version = store._checked_version()
        except BaseException:
            engine.dispose()
            raise
        if version == LATEST:
            store._was_open = True
            return store
        engine.dispose()
        try:
            cls.open(url, mode="write").close()
        except StoreError as error:
            raise StoreError(
                f"{name} was written by an older mipo-eval (schema {version}) and cannot be "
                f"updated: {error}"
            ) from error
        return cls.open(url, mode=mode)

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def version(self) -> str:
        """Return a text that changes whenever anything is committed; cheap."""
        if self._engine.dialect.name == "postgresql":
            return str(self.fetch(sa.text("select pg_current_snapshot()::text"))[0][0])
        path = Path(self.name)
        marks = []
        for file in (path, path.with_name(f"{path.name}-wal")):
            try:
                found = file.stat()
            except FileNotFoundError:  # without readers and writers there is no -wal
                continue
            marks.append(f"{found.st_ino}.{found.st_size}.{found.st_mtime_ns}")
        return " ".join(marks)

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A read transaction: one consistent view; large results can be streamed."""
        with self._errors(), self._connected(self._engine) as connection, self.decoding():
            yield connection.execution_options(yield_per=_KEYS)

    @contextmanager
    def decoding(self) -> Iterator[None]:
        """Say of what a row holds that it cannot be read."""
        try:
            yield
        except (json.JSONDecodeError, ValidationError, zlib.error) as error:
            raise StoreError(
                f"the store {self.name} contains a row that cannot be read: `mipo-eval store "
                "check` names it; restore a copy, or merge one into it"
            ) from error

    def by_key(
        self, query: sa.Select[Any], column: sa.ColumnElement[str], keys: Collection[str]
    ) -> Iterator[Any]:
        """Yield a query's rows whose column is one of these keys, some hundreds at a time."""
        wanted = sorted(keys)
        for start in range(0, len(wanted), _KEYS):
            yield from self.fetch(query.where(column.in_(wanted[start : start + _KEYS])))

    def in_order(self, query: sa.Select[Any]) -> Iterator[Any]:
        """Yield a query's rows by their `position`, which no two share; no page stays open."""
        position, last = query.selected_columns.position, -1
        while page := self.fetch(query.where(position > last).order_by(position).limit(_KEYS)):
            yield from page
            last = page[-1].position

    @lasting
    def fetch(self, query: sa.Executable) -> Sequence[Any]:
        """Return all rows of a query at once."""
        with self.read() as connection:
            return connection.execute(query).all()

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A write transaction: all of it or, on any error, nothing of it."""
        options = self._engine.execution_options(mipo_write=True)
        with self._errors():
            try:
                with self._connected(options) as connection, connection.begin():
                    yield connection
            except (exc.StatementError, OverflowError, UnicodeEncodeError) as error:
                if isinstance(error, exc.DBAPIError) and not isinstance(error, _OF_A_ROW):
                    raise
                reason = " ".join(str(getattr(error, "orig", None) or error).split())
                raise RowError(f"the store {self.name} cannot hold a row: {reason}") from error

    def put(
        self,
        connection: sa.Connection,
        table: sa.Table,
        rows: Iterable[Mapping[str, Any]],
        *,
        replace: Sequence[str] = (),
        where: sa.ColumnElement[bool] | None = None,
    ) -> None:
        """Insert rows; where the key is there already keep the old row, or replace some columns.

        Args:
            connection: of `write()`.
            table: one of `tables`.
            rows: column names to values.
            replace: columns taken from the new row when the key exists; none keeps the old row.
            where: which old rows may be replaced; all of them without it.

        Rows are written in the order of their keys: two processes that write the same rows in
        two orders would each wait for the other.
        """
        insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
        statement = insert(table)
        keys = [column.name for column in table.primary_key]
        if replace:
            new = {name: statement.excluded[name] for name in replace}
            statement = statement.on_conflict_do_update(index_elements=keys, set_=new, where=where)
        else:
            statement = statement.on_conflict_do_nothing(index_elements=keys)
        if values := [self._storable(table, row) for row in rows]:
            values.sort(key=lambda row: [row[name] for name in keys])
            try:
                connection.execute(statement, values)
            except TypeError as error:  # psycopg's, of what JSON has no form for
                raise RowError(f"the store {self.name} cannot hold a row: {error}") from error

    def _storable(self, table: sa.Table, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return a row as both databases hold it: SQLite would take what PostgreSQL refuses.

        Raises:
            RowError: a text or a number in it is too long.
        """
        kept = dict(row)
        for name, longest in _bounds(table).items():
            value = kept.get(name)
            if isinstance(value, str):
                kept[name] = value = clean_text(value)
            size = len(value) if isinstance(value, str) else value if isinstance(value, int) else 0
            if longest is not None and abs(size) > longest:
                told = repr(value)[:60]
                raise RowError(
                    f"the store {self.name} cannot hold a row: {table.name}.{name} is {told}, over "
                    f"the limit of {longest:,}"
                )
        return kept

    def put_rows(self, several: Iterable[Rows]) -> None:
        """Insert rows of several tables: all of them or, on any error, none."""
        with self.write() as connection:
            for name, rows, replace in several:
                table = metadata.tables[name]
                absent = dict.fromkeys(column.name for column in table.columns)
                others = [column.name for column in table.columns if not column.primary_key]
                filled = (absent | dict(row) for row in rows)
                self.put(connection, table, filled, replace=others if replace is None else replace)

    def compact(self) -> None:
        """Give the room of dropped rows back to the disk."""
        with self._errors():
            if self._engine.dialect.name == "postgresql":
                autocommit = self._engine.execution_options(isolation_level="AUTOCOMMIT")
                with autocommit.connect() as connection:
                    connection.exec_driver_sql("vacuum")
                return
            self._outside("vacuum", _EMPTY_LOG)

    def _outside(self, *statements: str) -> None:
        """Have SQLite do what it refuses inside a transaction."""
        raw = self._engine.raw_connection()
        try:
            for statement in statements:
                raw.cursor().execute(statement).fetchall()
        except sqlite3.Error as error:
            raise StoreError(f"the store {self.name} {_advice(str(error))}") from error
        finally:
            raw.close()

    def _create(self) -> None:
        if self._made_or_migrated() and self._engine.dialect.name == "sqlite":
            self._outside(_EMPTY_LOG)  # its pages are what the store once was

    def _made_or_migrated(self) -> bool:
        """Make the tables, or bring them up to date; whether there was anything to do."""
        with self.write() as connection:
            if connection.dialect.name == "postgresql":
                # Two processes creating the tables at once collide in PostgreSQL's catalogue.
                connection.execute(sa.text("select pg_advisory_xact_lock(260319294)"))
            tables = set(sa.inspect(connection).get_table_names())
            if schema_info.name in tables:
                old = schema_version(connection) < LATEST
                if old:
                    migrate(connection)
                known = {*metadata.tables, *passing.tables}
                if known - tables and schema_version(connection) == LATEST:
                    _create_tables(connection)  # those that came later
                return old
            if tables & set(metadata.tables):
                raise StoreError(f"{self.name} contains other tables: use another --store")
            check_encoding(connection, self.name)
            _create_tables(connection)
            about = {"schema_version": str(LATEST), "created_by": __version__}
            self.put(connection, schema_info, [{"name": n, "value": v} for n, v in about.items()])
            return True

    def _checked_version(self) -> int:
        with self.read() as connection:
            inspector = sa.inspect(connection)
            if not inspector.has_table(schema_info.name):
                if not inspector.get_table_names():
                    raise EmptyStoreError(f"{self.name} is empty: nothing was stored in it yet")
                raise StoreError(f"{self.name} is not a mipo-eval store: use another --store")
            version = schema_version(connection)
        if version > LATEST:
            raise StoreError(
                f"{self.name} was written by a newer mipo-eval (schema {version}, this one knows "
                f"{LATEST}): upgrade mipo-eval, or name another store with --store"
            )
        return version

    def _connected(self, engine: sa.Engine) -> sa.Connection:
        """Connect; a PostgreSQL that was there before is waited for while it restarts."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                return engine.connect()
            except exc.OperationalError:
                waits = self._was_open and engine.dialect.name == "postgresql"
                if not waits or time.monotonic() > deadline:
                    raise
            time.sleep(_LOOK_AGAIN)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except exc.DBAPIError as error:
            passes = getattr(error.orig, "sqlstate", None) in _PASSES
            kind = ConnectionLostError if error.connection_invalidated or passes else StoreError
            raise kind(f"the store {self.name} {_advice(str(error.orig).strip())}") from error


def _create_tables(connection: sa.Connection) -> None:
    metadata.create_all(connection)
    passing.create_all(connection)


@cache
def _bounds(table: sa.Table) -> Mapping[str, int | None]:
    """Return the most that columns hold: characters of texts (None: any), size of numbers."""
    found: dict[str, int | None] = {}
    for column in table.columns:
        if isinstance(column.type, sa.String):
            found[column.name] = column.type.length
        elif isinstance(column.type, sa.Integer):
            found[column.name] = 2**31 - 1
    return found


def _advice(text: str) -> str:
    for sign, remedy in _SQLITE_REMEDY.items():
        if sign in text:
            return remedy
    return f"failed: {' '.join(text.split())}"
