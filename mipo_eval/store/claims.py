"""Who asks for what: several processes, on several hosts, share one run and pay once.

A worker claims a key before it asks for it, and gives it back when the outcome is stored. A claim
holds as long as its worker lives, which the worker says again and again: what a process held that
was killed, others may claim a minute later. Times are those of the database, so that the clocks of
the hosts do not matter; a time too far ahead was written under another clock and counts for past.
"""

import threading
import uuid
from collections.abc import Collection, Iterable
from contextlib import suppress
from typing import Self

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from mipo_eval.errors import StoreError
from mipo_eval.store.engine import Store, lasting
from mipo_eval.store.tables import claims, workers

LEASE = 60.0
"""Seconds for which a worker is believed to live without a word of it."""

_GIVE_BACK = sa.delete(claims).where(
    claims.c.claim_key == sa.bindparam("key"), claims.c.worker == sa.bindparam("own")
)


class Claims:
    """What one worker of a store has claimed; a context manager, which gives back what is left.

    Args:
        store: of the work.
        lease: see LEASE.
    """

    def __init__(self, store: Store, *, lease: float = LEASE) -> None:
        self._store = store
        self._lease = lease
        self._worker = uuid.uuid4().hex
        self._take: sa.Insert | None = None
        self._ended = threading.Event()
        self._given_back: list[str] = []
        """Keys whose rows go with the next transaction: until then they keep nobody waiting, since
        what is known is looked up before it is claimed."""
        self._pulse: threading.Thread | None = None
        """A thread: a model in this process may keep the event loop for minutes."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pulse is None:
            return
        self._ended.set()
        self._pulse.join()
        with suppress(StoreError):  # what is not given back runs out
            self._leave()

    @lasting
    def take(self, keys: Collection[str]) -> set[str]:
        """Claim keys and return those that are ours now; the others are another worker's."""
        if self._pulse is None:
            self._register()
            self._pulse = threading.Thread(target=self._live, daemon=True)
            self._pulse.start()
        rows = [{"claim_key": key, "worker": self._worker} for key in sorted(keys)]
        with self._store.write() as connection:
            if self._given_back:
                back = [{"key": key, "own": self._worker} for key in sorted(self._given_back)]
                connection.execute(_GIVE_BACK, back)
            taken = connection.execute(self._taking(connection), rows)
            ours = set(keys)
            if taken.rowcount != len(ours):
                mine = claims.c.worker == self._worker
                query = sa.select(claims.c.claim_key).where(mine, claims.c.claim_key.in_(keys))
                ours = set(connection.execute(query).scalars())
        self._given_back.clear()
        return ours

    def _taking(self, connection: sa.Connection) -> sa.Insert:
        """Return the statement that claims a key, built once: that takes longer than to run it."""
        if self._take is None:
            insert = postgresql.insert if _is_postgresql(connection) else sqlite.insert
            dead = claims.c.worker.not_in(self._living(connection))
            self._take = insert(claims).on_conflict_do_update(
                index_elements=["claim_key"],
                set_={"worker": self._worker},
                where=sa.or_(claims.c.worker == self._worker, dead),
            )
        return self._take

    def release(self, keys: Iterable[str]) -> None:
        """Give keys back: their outcome is stored, or nobody asks for it here."""
        self._given_back += keys

    @lasting
    def _register(self) -> None:
        """Say that this worker lives; forget those that do not, and what they had claimed."""
        self._say()
        with self._store.write() as connection:
            living = self._living(connection)
            connection.execute(sa.delete(claims).where(claims.c.worker.not_in(living)))
            connection.execute(sa.delete(workers).where(workers.c.worker.not_in(living)))

    def _living(self, connection: sa.Connection) -> sa.Select[tuple[str]]:
        now = _now(connection)
        lives = workers.c.until.between(now, now + 2 * self._lease)
        return sa.select(workers.c.worker).where(lives)

    def _live(self) -> None:
        while not self._ended.wait(self._lease / 4):
            try:
                self._say()
            except StoreError:  # it is out of reach: what is asked for meanwhile will tell
                continue

    @lasting
    def _say(self) -> None:
        with self._store.write() as connection:
            insert = postgresql.insert if _is_postgresql(connection) else sqlite.insert
            until = _now(connection) + self._lease
            said = insert(workers).values(worker=self._worker, until=until)
            connection.execute(
                said.on_conflict_do_update(index_elements=["worker"], set_={"until": until})
            )

    @lasting
    def _leave(self) -> None:
        with self._store.write() as connection:
            for table in (claims, workers):
                connection.execute(sa.delete(table).where(table.c.worker == self._worker))


def _is_postgresql(connection: sa.Connection) -> bool:
    return connection.dialect.name == "postgresql"


def _now(connection: sa.Connection) -> sa.ColumnElement[float]:
    """The database's clock, in seconds since the epoch."""
    if _is_postgresql(connection):
        return sa.cast(sa.extract("epoch", sa.func.clock_timestamp()), sa.Float)
    return (sa.func.julianday("now") - 2440587.5) * 86400.0
