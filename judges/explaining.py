"""What a stored call was keyed on: why the same question is not paid for again, and another is."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa

from mipo_eval.errors import DataError
from mipo_eval.keys import digest
from mipo_eval.store import Store
from mipo_eval.store.runs import Run
from mipo_eval.store.tables import calls, choices, grades, items, judges, responses, verdicts

_SHOWN_APART = 80
"""Characters shown of texts that differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCall:
    """A row of the ledger, with all that its key is made of."""

    key: str
    status: str
    detail: str | None
    reply: str | None
    model: str | None
    """The model the server said answered."""
    backend: Mapping[str, Any]
    request: Mapping[str, Any]
    """Messages, sampling and choices: with the backend, everything that decides a reply."""
    created_at: str
    finish_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    seconds: float | None
    verdicts: tuple["Read", ...]
    """What was read from its reply."""


class Read(NamedTuple):
    """A verdict that was read from a call."""

    judge: str
    judge_key: str
    item_id: str
    about: str
    """The preference that was rated, or which text was shown first."""
    value: str | None
    """The rating, choice or grade; None where the reply held none."""
    reason: str | None


def explain_call(store: Store, key: str) -> StoredCall:
    """Return what a stored call was keyed on: why the same question is not paid for again.

    Args:
        store: where the ledger is.
        key: a call's key, or enough of its beginning to name one call.

    Raises:
        DataError: no call, or several, begin with that; or the row is not what its key says.
    """
    query = sa.select(calls).where(calls.c.call_key.startswith(key, autoescape=True)).limit(2)
    with store.read() as connection:
        rows = connection.execute(query).all()
    if len(rows) != 1:
        found = "several calls begin" if rows else "no call begins"
        raise DataError(f"{found} with {key!r} in {store.name}: give a call's key")
    [row] = rows
    request = json.loads(row.request)
    if _key_of(row, request) != row.call_key:
        raise DataError(f"call {row.call_key} is damaged: its request is not what its key says")
    return StoredCall(
        key=row.call_key,
        status=row.status,
        detail=row.detail,
        reply=row.reply,
        model=row.model,
        backend=row.backend,
        request=request,
        created_at=row.created_at.isoformat(),
        finish_reason=row.finish_reason,
        prompt_tokens=row.prompt_tokens,
        completion_tokens=row.completion_tokens,
        seconds=row.seconds,
        verdicts=tuple(
            _read(read)
            for table in (verdicts, choices, grades)
            for read in _rows(store, table, table.c.call_key == row.call_key)
        ),
    )


def _key_of(row: Any, request: Any) -> str:
    """Return the key that a call must have; an imported reply is keyed by itself, too."""
    if "imported" in row.backend:
        return digest([row.backend, row.request, row.reply])
    return digest({"backend": row.backend, **request})


class CallAbout(NamedTuple):
    """A verdict with the call it was read from."""

    key: str
    status: str
    of: str
    """"response" or "reference"; for a choice, what the response was compared with."""
    read: Read


def calls_about(store: Store, run: Run, item_keys: Sequence[str]) -> list[CallAbout]:
    """Return the calls behind a run's responses to items, and behind the items' references."""
    own = sa.select(responses.c.text_key).where(
        responses.c.generation_key == run.generation_key, responses.c.item_key.in_(item_keys)
    )
    reference = sa.select(items.c.reference_key).where(items.c.item_key.in_(item_keys))
    with store.read() as connection:
        ours = set(connection.execute(own).scalars())
        references = set(connection.execute(reference).scalars())
    found = []
    for table in (verdicts, choices, grades):
        for row in _rows(store, table, table.c.item_key.in_(item_keys)):
            of = _of(row, ours, references)
            if of is not None:
                found.append(CallAbout(row.call_key, row.status, of, _read(row)))
    return sorted(found, key=lambda one: (one.read.judge, one.of, one.read.item_id))


def _of(row: Any, ours: Collection[str], references: Collection[str]) -> str | None:
    """Return what a verdict is about, None if about another run's response."""
    if not hasattr(row, "text_key_a"):
        return (
            "response"
            if row.text_key in ours
            else "reference"
            if row.text_key in references
            else None
        )
    both = {row.text_key_a, row.text_key_b}
    if not both & set(ours):
        return None
    return "against the reference" if both & set(references) else "against another response"


_VALUES: Mapping[sa.Table, tuple[sa.Column[Any], ...]] = {
    verdicts: (verdicts.c.rating, verdicts.c.text_key, verdicts.c.aspect),
    choices: (
        choices.c.winner,
        choices.c.text_key_a,
        choices.c.text_key_b,
        choices.c.shown_first,
    ),
    grades: (grades.c.value, grades.c.text_key),
}
"""Table to the column with what was said, and what it was about."""


def _rows(store: Store, table: sa.Table, where: sa.ColumnElement[bool]) -> Sequence[Any]:
    value, *about = _VALUES[table]
    query = (
        sa.select(
            judges.c.name,
            judges.c.judge_key,
            items.c.item_id,
            items.c.body,
            value.label("value"),
            table.c.reason,
            calls.c.call_key,
            calls.c.status,
            *about,
        )
        .join(judges, judges.c.judge_key == table.c.judge_key)
        .join(items, items.c.item_key == table.c.item_key)
        .join(calls, calls.c.call_key == table.c.call_key)
        .where(where)
        .order_by(judges.c.name, items.c.item_id, *about)
    )
    with store.read() as connection:
        return connection.execute(query).all()


def _read(row: Any) -> Read:
    told = None if row.value is None else str(row.value)
    return Read(row.name, row.judge_key, row.item_id, _about(row), told, row.reason)


def _about(row: Any) -> str:
    if hasattr(row, "aspect"):
        return str(json.loads(row.body)["preferences"][row.aspect])
    return f"shown first: {row.shown_first}" if hasattr(row, "shown_first") else "the response"


def differing(first: StoredCall, second: StoredCall) -> dict[str, tuple[Any, Any]]:
    """Return the parts of two calls' keys that differ: why one is no hit for the other's request.

    Of messages that differ, what follows the text they have in common is shown.
    """
    found = {}
    parts = (("backend", first.backend, second.backend), ("", first.request, second.request))
    for prefix, one, other in parts:
        flat, other_flat = dict(_flat(prefix, one)), dict(_flat(prefix, other))
        for name in dict.fromkeys([*flat, *other_flat]):
            if flat.get(name) != other_flat.get(name):
                found[name] = _apart(flat.get(name), other_flat.get(name))
    return found


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield every leaf of a JSON value by its path."""
    parts: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        parts = value.items()
    elif isinstance(value, list):
        parts = enumerate(value)
    else:
        yield prefix, value
    for name, part in parts:
        yield from _flat(f"{prefix}.{name}" if prefix else str(name), part)


def _apart(one: Any, other: Any) -> tuple[Any, Any]:
    if not isinstance(one, str) or not isinstance(other, str):
        return one, other
    pairs = enumerate(zip(one, other, strict=False))
    same = next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))
    return tuple(  # type: ignore[return-value]
        text if same < _SHOWN_APART else f"...{text[same : same + _SHOWN_APART]}"
        for text in (one, other)
    )
