"""Reaching the database that a store is in: a file of SQLite, or PostgreSQL."""

import json
import math
import os
import sqlite3
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from mipo_eval.errors import ConfigError, StoreError
from mipo_eval.keys import masked

_BUSY_TIMEOUT_MS = 60_000
_ENCODINGS = frozenset({"UTF8", "SQL_ASCII"})
"""Of PostgreSQL's, those that keep every text; the second takes any bytes."""


def connected(url: str, mode: str) -> tuple[sa.Engine, str]:
    """Return an engine for a store's database, and what the store is called, without secrets.

    Args:
        url: a file (SQLite), or a SQLAlchemy URL of SQLite or PostgreSQL.
        mode: "write", which makes a file that is not there, or "read".

    Raises:
        ConfigError: `url` is neither.
        StoreError: a file cannot be opened or made.
    """
    if "://" not in url:
        return _sqlite_engine(Path(url), mode)
    try:
        parsed = sa.make_url(url)
    except (exc.ArgumentError, ValueError):  # the latter for a port that is no number
        shown = masked(url)
        raise ConfigError(f"--store {shown!r} is not a file and not a database URL") from None
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        return _sqlite_engine(Path(parsed.database), mode)
    if parsed.get_backend_name() != "postgresql":
        raise ConfigError(
            f"--store {parsed.render_as_string(hide_password=True)!r}: only SQLite files and "
            "PostgreSQL URLs (postgresql+psycopg://user@host/name) can be a store"
        )
    try:
        # A connection that was lost while nobody used it is replaced before somebody does.
        driver = parsed.set(drivername="postgresql+psycopg")
        engine = sa.create_engine(
            driver,
            json_serializer=_json_text,
            pool_pre_ping=True,
            # A database that knows no encoding (SQL_ASCII) would otherwise give out bytes.
            connect_args={"client_encoding": "utf8"},
        )
    except ModuleNotFoundError:
        raise ConfigError(
            "a PostgreSQL store needs psycopg: pip install 'mipo-eval[postgres]'"
        ) from None
    return engine, masked(parsed.render_as_string(hide_password=True))


def check_encoding(connection: sa.Connection, name: str) -> None:
    """Refuse to make a store where most languages cannot be written.

    Raises:
        StoreError: the database has an encoding that lacks characters.
    """
    if connection.dialect.name == "postgresql":
        encoding = connection.exec_driver_sql("show server_encoding").scalar_one()
        if encoding not in _ENCODINGS:
            raise StoreError(
                f"{name} keeps its text in {encoding}, which lacks most characters: make another "
                "database with `createdb --encoding UTF8 --template template0 NAME`"
            )


def _place(path: Path, mode: str) -> str:
    """Return the URI of a file that can be a store; a new one is for its owner's eyes only."""
    if path.is_dir():
        raise StoreError(f"the store {path} is a folder: name a file in it with --store")
    if mode == "read" and not path.exists():
        raise StoreError(
            f"there is no store at {path}: run `mipo-eval demo` or an evaluation first, "
            "or name another with --store"
        )
    if not path.parent.is_dir():
        raise StoreError(f"the store {path} cannot be created: there is no folder {path.parent}")
    if mode == "write":
        if not path.exists():
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        return f"{path.absolute().as_uri()}?mode=rwc"
    log = path.with_name(f"{path.name}-wal")
    frozen = not os.access(path.parent, os.W_OK) and not (log.exists() and log.stat().st_size)
    # SQLite reads a file in WAL mode with the help of another beside it, which it cannot make on a
    # read-only disk. Nobody can write there either, so it may take the file as it is.
    return f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' if frozen else ''}"


def _sqlite_engine(path: Path, mode: str) -> tuple[sa.Engine, str]:
    try:
        uri = _place(path, mode)
    except (OSError, ValueError) as error:  # a name that is too long, or holds NUL
        reason = getattr(error, "strerror", None) or error
        raise StoreError(f"the store {str(path)[:80]!r} cannot be opened: {reason}") from None

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(uri, uri=True, check_same_thread=False)

    # SQLAlchemy cannot pass a file name with a question mark on; sqlite3 takes it as a URI.
    engine = sa.create_engine(
        "sqlite://", creator=connect, poolclass=sa.QueuePool, json_serializer=_json_text
    )

    @sa.event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # transactions are begun below, not by the driver
        connection.execute(f"pragma busy_timeout = {_BUSY_TIMEOUT_MS}")
        if mode == "write":
            connection.execute("pragma journal_mode = wal")
            connection.execute("pragma synchronous = normal")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        # A writer that starts as a reader can fail to become one; asking at once waits instead.
        writes = connection.get_execution_options().get("mipo_write", False)
        connection.exec_driver_sql("begin immediate" if writes else "begin deferred")

    return engine, str(path)


def _json_text(value: Any) -> str:
    """Return JSON, which has no NaN and no infinity: null stands for them, as PostgreSQL wants."""
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(own) for name, own in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(own) for own in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
