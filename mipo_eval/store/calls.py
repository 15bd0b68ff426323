"""The ledger: every request to a judge is a row; a success is never paid for twice.

Rows are keyed by the digest of the full request (messages, backend, model, sampling, choices).
A failure is a state with a reason; it is asked again on the next run and replaced by a success.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from mipo_eval.errors import ConfigError
from mipo_eval.keys import canonical_json, clean_text
from mipo_eval.models.base import Failure, Reply, Request, was_cut
from mipo_eval.models.changes import NO_TEXT, holds_nothing
from mipo_eval.models.thinking import marked
from mipo_eval.store.asking import Answer, Asker, Tag
from mipo_eval.store.engine import RowError, Store, lasting, now, sample_below, whole
from mipo_eval.store.tables import calls, choices, grades, verdicts

_OF_REPLY = (calls.c.call_key, calls.c.reply, calls.c.thinking, calls.c.finish_reason)
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
_EMPTY = dict.fromkeys(column.name for column in calls.columns)
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


class Ledger(Asker[Tag, Call]):
    """Asks a backend only for what the ledger does not have."""

    def key(self, tag: Tag, request: Request) -> str:
        """Return the digest of the full request."""
        return request.key(self._backend.identity)

    def look_up(self, keys: Sequence[str], since: datetime) -> dict[str, Call]:
        """Return the calls that have a reply, and those that failed since then."""
        just_now = calls.c.created_at.between(since, now())
        failed = sa.and_(calls.c.status != "ok", just_now)
        query = sa.select(*_OF_REPLY, calls.c.status, calls.c.detail, calls.c.logprobs).where(
            calls.c.call_key.in_(keys), sa.or_(_ANSWERED, failed)
        )
        return {row.call_key: _call(row._asdict()) for row in self._store.fetch(query)}

    def save(self, answers: Sequence[Answer]) -> dict[str, Call]:
        """Store calls."""
        rows = self._save([self._row(answer) for answer in answers])
        return {row["call_key"]: _call(row, stored=False) for row in rows}

    def _save(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        try:
            self._put(rows)
        except RowError:
            return [self._put_alone(row) for row in rows]
        return rows

    @lasting
    def _put(self, rows: Sequence[Mapping[str, Any]]) -> None:
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

    def _row(self, answer: Answer) -> dict[str, Any]:
        outcome = answer.outcome
        row: dict[str, Any] = _EMPTY | {
            "call_key": answer.key,
            "backend": dict(self._backend.identity),
            "request": canonical_json(answer.request.to_json()),
            "created_at": now(),
        }
        if isinstance(outcome, Reply) and holds_nothing(outcome, answer.request):
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


def _call(row: Mapping[str, Any], *, stored: bool = True) -> Call:
    reply = row["reply"]
    if reply is not None:
        reply = marked(reply, apart=row["thinking"], finish=row["finish_reason"])
    return Call(
        key=row["call_key"],
        status=row["status"],
        detail=row["detail"],
        text=reply,
        logprobs=_pairs(row["logprobs"]),
        cut=was_cut(row["finish_reason"]),
        stored=stored,
    )


def _pairs(value: Any) -> tuple[tuple[str, float], ...] | None:
    """Return log-probabilities as they were before JSON made lists of them."""
    return tuple((token, logprob) for token, logprob in value) if value else None


def replies_of(store: Store, keys: Collection[str]) -> dict[str, str | None]:
    """Return the raw replies of calls, by their key; None where a call failed."""
    query = sa.select(calls.c.call_key, calls.c.reply).where(calls.c.call_key.in_(keys))
    return {key: reply for key, reply in store.fetch(query)}


@lasting
def forget(store: Store, name: str) -> str:
    """Drop a call, and what was read from it, so that it is asked again; return its key.

    Args:
        store: opened for writing.
        name: the call's key, or its beginning.

    Raises:
        ConfigError: no call, or more than one, has such a key.
    """
    with store.write() as connection:
        named = calls.c.call_key.startswith(clean_text(name.lower()), autoescape=True)
        found = connection.execute(sa.select(calls.c.call_key).where(named).limit(2)).scalars()
        keys = [str(key) for key in found]
        if not name or len(keys) != 1:
            some = "more than one call" if keys else "no call"
            raise ConfigError(f"{store.name} has {some} {name!r}: give the whole key")
        for table in (verdicts, choices, grades, calls):
            connection.execute(sa.delete(table).where(table.c.call_key == keys[0]))
    return keys[0]


def request_of(store: Store, call_key: str) -> str | None:
    """Return the request of a call, as JSON; None where it was not kept."""
    query = sa.select(calls.c.request).where(calls.c.call_key == call_key)
    return next((request for (request,) in store.fetch(query)), None)


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
    return [
        Spending(_backend(told), n, int(failed), whole(prompt), whole(completion), seconds)
        for told, n, failed, prompt, completion, seconds in store.fetch(query)
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
    return [(_backend(told), seconds) for told, seconds in store.fetch(query)]


def answered_calls(store: Store, keys: Sequence[str]) -> set[str]:
    """Return which of these calls have a reply."""
    query = sa.select(calls.c.call_key).where(_ANSWERED)
    return {key for (key,) in store.by_key(query, calls.c.call_key, keys)}


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
    return [CallSize(len(request), *took) for request, *took in store.fetch(query)]
