"""The ledger: every request to a judge is a row; a success is never paid for twice.

Rows are keyed by the digest of the full request (messages, backend, model, sampling, choices).
A failure is a state with a reason; it is asked again on the next run and replaced by a success.
"""

import json
import time
from collections import deque
from collections.abc import AsyncGenerator, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, NamedTuple, TypeVar

import sqlalchemy as sa

from mipo_eval.errors import BackendError, ConfigError
from mipo_eval.keys import canonical_json, clean_text
from mipo_eval.models.base import Backend, Failure, Reply, Request, was_cut
from mipo_eval.models.changes import NO_TEXT, holds_nothing
from mipo_eval.models.thinking import marked
from mipo_eval.store.engine import RowError, Store, now, sample_below, whole
from mipo_eval.store.tables import calls, choices, grades, verdicts

Tag = TypeVar("Tag")

_OF_REPLY = (calls.c.call_key, calls.c.reply, calls.c.thinking, calls.c.finish_reason)
_WINDOW = 32
_FLUSH_ROWS = 64
_FLUSH_SECONDS = 0.5
_MAX_WAITING_HITS = 4096
_KEYS = 500
"""Calls named in one query."""
_ANSWERED = sa.and_(calls.c.status == "ok", calls.c.reply != "")
"""That a call is not made again. Earlier versions kept empty replies as good: they are asked for
again, with more room where a model had used up its tokens with thinking."""
_OF_ANSWER = (
    "reply",
    "thinking",
    "model",
    "finish_reason",
    "prompt_tokens",
    "completion_tokens",
    "seconds",
    "logprobs",
)
_DETAIL = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One row of the ledger."""

    key: str
    status: str
    """"ok", or the kind of failure."""
    detail: str | None
    text: str | None
    """The raw reply; None unless the status is "ok". An opening mark stands for none at all, of a
    model that was cut inside a thinking which the server keeps apart."""
    logprobs: tuple[tuple[str, float], ...] | None
    """(token, log-probability) of the first token's alternatives, where they were asked for."""
    cut: bool
    """Whether the reply ended because there was no room for more."""
    stored: bool
    """True when the reply was in the ledger already: nothing was paid for it now."""


class Ledger(Generic[Tag]):
    """Asks a backend only for what the store does not have."""

    def __init__(self, store: Store, backend: Backend) -> None:
        self._store = store
        self._backend = backend
        self._stopped: Failure | None = None
        """Why nothing more is asked: the money is used up."""
        self._in_flight: dict[str, list[Tag]] = {}
        self._keys: dict[int, str] = {}
        """Of the requests in flight, by `id`: digesting one again costs a tenth of sending it."""
        self._hits: deque[tuple[Tag, Call]] = deque()

    async def ask(
        self, questions: Iterable[tuple[Tag, Request]]
    ) -> AsyncGenerator[tuple[Tag, Call], None]:
        """Yield each tag with its call, as calls complete; replies are stored before they appear.

        Equal requests in flight are sent once. Memory is bounded for any number of questions.
        When the iteration is stopped, finished replies are stored first.

        Raises:
            BackendError: the limit on the cost is reached. What was in flight then has come in.
        """
        # The backend pulls its requests from `_missing`, which looks a window ahead in the ledger
        # and puts what it finds there into `_hits`. Nobody reads those while the backend waits for
        # a server, so a call to it begins with a request that is really missing, and ends when
        # too many hits wait; the outer loop then goes on from where the source stands.
        source = iter(questions)
        while True:
            first = self._next_missing(source)
            while self._hits:
                yield self._hits.popleft()
            if first is None:
                return
            if not first:
                continue
            async with aclosing(self._ask_backend(self._missing(first, source))) as answers:
                async for tag, call in answers:
                    yield tag, call
                    while self._hits:
                        yield self._hits.popleft()
            if self._stopped:
                raise BackendError(
                    f"{self._stopped.detail.removeprefix('not asked: ')}; what was answered is "
                    "stored: the same command with a higher --max-cost goes on from there"
                )

    def _next_missing(self, source: Iterator[tuple[Tag, Request]]) -> list[Request] | None:
        """Return the missing requests of the first window that has any; None at the end.

        Hits of the windows passed on the way wait in `_hits`, up to a limit: then an empty list.
        """
        while window := list(islice(source, _WINDOW)):
            if missing := self._split(window):
                return missing
            if len(self._hits) >= _MAX_WAITING_HITS:
                return []
        return None

    def _missing(
        self, first: list[Request], source: Iterator[tuple[Tag, Request]]
    ) -> Iterator[Request]:
        yield from self._until_stopped(first)
        while not self._stopped and len(self._hits) < _MAX_WAITING_HITS:
            if not (window := list(islice(source, _WINDOW))):
                return
            yield from self._until_stopped(self._split(window))

    def _until_stopped(self, requests: list[Request]) -> Iterator[Request]:
        for request in requests:
            if self._stopped:
                return
            yield request

    def _split(self, window: list[tuple[Tag, Request]]) -> list[Request]:
        """Queue the hits of a window and return the requests that must be asked, each once."""
        keyed = [(request.key(self._backend.identity), tag, request) for tag, request in window]
        found = self._look_up([key for key, _, _ in keyed])
        missing = []
        for key, tag, request in keyed:
            if key in found:
                self._hits.append((tag, found[key]))
            elif key in self._in_flight:
                self._in_flight[key].append(tag)
            else:
                self._in_flight[key] = [tag]
                self._keys[id(request)] = key
                missing.append(request)
        return missing

    def _look_up(self, keys: list[str]) -> dict[str, Call]:
        query = sa.select(*_OF_REPLY, calls.c.logprobs).where(calls.c.call_key.in_(keys), _ANSWERED)
        with self._store.read() as connection:
            return {
                key: Call(
                    key=key,
                    status="ok",
                    detail=None,
                    text=marked(reply, apart=thinking, finish=finish),
                    logprobs=_pairs(logprobs),
                    cut=was_cut(finish),
                    stored=True,
                )
                for key, reply, thinking, finish, logprobs in connection.execute(query)
            }

    async def _ask_backend(
        self, requests: Iterator[Request]
    ) -> AsyncGenerator[tuple[Tag, Call], None]:
        rows: dict[str, dict[str, Any]] = {}
        flushed = time.monotonic()
        try:
            async with aclosing(self._backend.answer(requests)) as answers:
                async for request, outcome in answers:
                    if isinstance(outcome, Failure) and outcome.kind == "budget":
                        self._stopped = outcome  # it was never asked: there is nothing to keep
                        continue
                    row = self._row(request, outcome)
                    rows[row["call_key"]] = row
                    due = time.monotonic() - flushed > _FLUSH_SECONDS
                    if due or len(rows) >= _FLUSH_ROWS:
                        for answer in self._flush(rows):
                            yield answer
                        flushed = time.monotonic()
            for answer in self._flush(rows):
                yield answer
        finally:
            self._save(rows)  # what was answered when the iteration was stopped
            self._in_flight.clear()
            self._keys.clear()

    def _flush(self, rows: dict[str, dict[str, Any]]) -> list[tuple[Tag, Call]]:
        self._save(rows)
        answers: list[tuple[Tag, Call]] = []
        for key, row in rows.items():
            reply = row["reply"]
            if reply is not None:
                reply = marked(reply, apart=row["thinking"], finish=row["finish_reason"])
            call = Call(
                key=key,
                status=row["status"],
                detail=row["detail"],
                text=reply,
                logprobs=_pairs(row["logprobs"]),
                cut=was_cut(row["finish_reason"]),
                stored=False,
            )
            answers.extend((tag, call) for tag in self._in_flight.pop(key, []))
        rows.clear()
        return answers

    def _save(self, rows: dict[str, dict[str, Any]]) -> None:
        if not rows:
            return
        try:
            self._put(rows.values())
        except RowError:
            for key, row in rows.items():
                rows[key] = self._put_alone(row)

    def _put(self, rows: Iterable[Mapping[str, Any]]) -> None:
        columns = [column.name for column in calls.columns if not column.primary_key]
        with self._store.write() as connection:
            self._store.put(connection, calls, rows, replace=columns, where=sa.not_(_ANSWERED))

    def _put_alone(self, row: dict[str, Any]) -> dict[str, Any]:
        """Store a row, or that what it holds of the reply cannot be stored; return what was."""
        try:
            self._put([row])
        except RowError as error:
            told = {"status": "bad_reply", "detail": clean_text(str(error))[:_DETAIL]}
            row = row | dict.fromkeys(_OF_ANSWER) | told
            self._put([row])
        return row

    def _row(self, request: Request, outcome: Reply | Failure) -> dict[str, Any]:
        identity = dict(self._backend.identity)
        row: dict[str, Any] = dict.fromkeys(column.name for column in calls.columns)
        row |= {
            "call_key": self._keys.pop(id(request)),
            "backend": identity,
            "request": canonical_json(request.to_json()),
            "created_at": now(),
        }
        if isinstance(outcome, Reply) and holds_nothing(outcome):
            outcome = Failure(kind="bad_reply", detail=NO_TEXT)
        if isinstance(outcome, Failure):
            return row | {"status": outcome.kind, "detail": clean_text(outcome.detail)}
        return row | {
            "status": "ok",
            "reply": clean_text(outcome.text),
            "thinking": outcome.thinking and clean_text(outcome.thinking),
            "model": outcome.model,
            "finish_reason": outcome.finish_reason,
            "prompt_tokens": outcome.prompt_tokens,
            "completion_tokens": outcome.completion_tokens,
            "seconds": outcome.seconds,
            "logprobs": outcome.logprobs,
        }


def _pairs(value: Any) -> tuple[tuple[str, float], ...] | None:
    """Return log-probabilities as they were before JSON made lists of them."""
    return tuple((token, logprob) for token, logprob in value) if value else None


def replies_of(store: Store, keys: Collection[str]) -> dict[str, str | None]:
    """Return the raw replies of calls, by their key; None where a call failed."""
    query = sa.select(calls.c.call_key, calls.c.reply).where(calls.c.call_key.in_(keys))
    with store.read() as connection:
        return {key: reply for key, reply in connection.execute(query)}


def forget(store: Store, name: str) -> str:
    """Drop a call, and what was read from it, so that it is asked again; return its key.

    Args:
        store: opened for writing.
        name: the call's key, or its beginning.

    Raises:
        ConfigError: no call, or more than one, has such a key.
    """
    with store.write() as connection:
        named = calls.c.call_key.startswith(name.lower(), autoescape=True)
        found = connection.execute(sa.select(calls.c.call_key).where(named).limit(2)).scalars()
        keys = [str(key) for key in found]
        if not name or len(keys) != 1:
            some = "more than one call" if keys else "no call"
            raise ConfigError(f"{store.name} has {some} {name!r}: give its whole key")
        for table in (verdicts, choices, grades, calls):
            connection.execute(sa.delete(table).where(table.c.call_key == keys[0]))
    return keys[0]


def request_of(store: Store, call_key: str) -> str | None:
    """Return the request of a call, as JSON; None where it was not kept."""
    query = sa.select(calls.c.request).where(calls.c.call_key == call_key)
    with store.read() as connection:
        return connection.execute(query).scalar_one_or_none()


class Spending(NamedTuple):
    """What was asked of one backend, and what it took; None where no reply says."""

    backend: Mapping[str, str]
    """Its kind, model and URL, as far as it has them."""
    calls: int
    failed: int
    prompt_tokens: int | None
    completion_tokens: int | None
    seconds: float | None
    """Added up; calls ran side by side."""


def spending(store: Store, among: sa.Select[Any] | None = None) -> list[Spending]:
    """Return what all calls took, or those whose keys a query selects, by backend."""
    backend = sa.cast(calls.c.backend, sa.Text)
    query = sa.select(
        backend,
        sa.func.count(),
        sa.func.sum(sa.case((calls.c.status != "ok", 1), else_=0)),
        sa.func.sum(calls.c.prompt_tokens),
        sa.func.sum(calls.c.completion_tokens),
        sa.func.sum(calls.c.seconds),
    ).group_by(backend)
    if among is not None:
        own = among.distinct().subquery()
        query = query.join(own, own.c.call_key == calls.c.call_key)
    with store.read() as connection:
        return [
            Spending(_backend(told), n, int(failed), whole(prompt), whole(completion), seconds)
            for told, n, failed, prompt, completion, seconds in connection.execute(query)
        ]


def _backend(written: str) -> dict[str, str]:
    read = json.loads(written)
    return {name: str(value) for name, value in read.items()} if isinstance(read, dict) else {}


def latencies(store: Store, total: int) -> list[tuple[Mapping[str, str], float]]:
    """Return (backend, seconds) of a sample of the calls, of those that were measured.

    Args:
        store: whose ledger.
        total: how many calls there are.
    """
    below = sample_below(total)
    query = sa.select(sa.cast(calls.c.backend, sa.Text), calls.c.seconds).where(
        calls.c.seconds.is_not(None), *([] if below is None else [calls.c.call_key < below])
    )
    with store.read() as connection:
        return [(_backend(told), seconds) for told, seconds in connection.execute(query)]


def answered_calls(store: Store, keys: Sequence[str]) -> set[str]:
    """Return which of these calls have a reply."""
    found: set[str] = set()
    with store.read() as connection:
        for start in range(0, len(keys), _KEYS):
            query = sa.select(calls.c.call_key).where(
                calls.c.call_key.in_(keys[start : start + _KEYS]), _ANSWERED
            )
            found |= set(connection.execute(query).scalars())
    return found


class CallSize(NamedTuple):
    """What one answered call took; None where the reply does not say."""

    characters: int
    """Of the request, written as JSON."""
    prompt_tokens: int | None
    completion_tokens: int | None
    seconds: float | None


def call_sizes(store: Store, judge_key: str, limit: int) -> list[CallSize]:
    """Return what some of a judge's calls for ratings took."""
    own = sa.select(verdicts.c.call_key).where(verdicts.c.judge_key == judge_key)
    told = (calls.c.request, calls.c.prompt_tokens, calls.c.completion_tokens, calls.c.seconds)
    query = sa.select(*told).where(calls.c.status == "ok", calls.c.call_key.in_(own)).limit(limit)
    with store.read() as connection:
        return [CallSize(len(request), *took) for request, *took in connection.execute(query)]
