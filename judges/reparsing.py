"""Reading stored replies again, after the parser changed; and what a stored call was keyed on."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa

from mipo_eval.errors import DataError
from mipo_eval.judges.judge import Judge
from mipo_eval.judges.rubric import read_rating
from mipo_eval.keys import digest
from mipo_eval.records import Rating
from mipo_eval.store import Store
from mipo_eval.store.tables import calls, judges, verdicts
from mipo_eval.store.verdicts import put_judge, put_ratings

_PAGE = 5_000


class Reparsed(NamedTuple):
    """What reading again made of the stored replies."""

    read: int
    """Ratings read again."""
    changed: int
    """Ratings that are different now, or are there now, or are gone."""
    missing: int
    """Ratings that still have no value: failed calls, and replies that say nothing."""


def older_judges(store: Store, judge: Judge) -> tuple[str, ...]:
    """Return the keys of judges that asked the same in the same way and read it otherwise."""
    own = dict(judge.signature_parts())
    asked = {name: own[name] for name in ("protocol", "prompt")}
    asked["backend"] = dict(judge.backend.identity)  # type: ignore[assignment]
    with store.read() as connection:
        rows = connection.execute(sa.select(judges.c.judge_key, judges.c.spec)).all()
    return tuple(
        key
        for key, spec in rows
        if key != judge.key
        and spec.get("parser") is not None
        and {name: spec.get(name) for name in asked} == asked
    )


def reparse(
    store: Store,
    judge: Judge,
    from_keys: Sequence[str],
    *,
    advance: Callable[[int], None] = lambda _: None,
) -> Reparsed:
    """Read the replies behind older ratings with the present parser, without a call.

    The older ratings stay, under their own judge; the new ones are stored under this one's key.

    Args:
        store: where ratings and replies are.
        judge: under whose key the new ratings are stored; its protocol must be "rubric".
        from_keys: keys of judges whose ratings are read again, as `older_judges` returns them.
        advance: called with how many more ratings were read.
    """
    put_judge(store, judge.key, judge.name, judge.stored_spec)
    read = changed = missing = 0
    for old_key in from_keys:
        for page in _pages(store, old_key):
            made = [_rating(judge, row) for row in page]
            put_ratings(store, made)
            read += len(made)
            changed += sum(new.rating != old.rating for new, old in zip(made, page, strict=True))
            missing += sum(new.rating is None for new in made)
            advance(len(made))
    return Reparsed(read, changed, missing)


def _pages(store: Store, judge_key: str) -> Iterator[Sequence[Any]]:
    """Yield the ratings of a judge with their replies, a page at a time, by primary key."""
    place = (verdicts.c.item_key, verdicts.c.text_key, verdicts.c.aspect)
    query = (
        sa.select(*place, verdicts.c.rating, verdicts.c.call_key, calls.c.status, calls.c.reply)
        .join(calls, calls.c.call_key == verdicts.c.call_key)
        .where(verdicts.c.judge_key == judge_key)
        .order_by(*place)
        .limit(_PAGE)
    )
    after: tuple[Any, ...] | None = None
    while True:
        page_query = query if after is None else query.where(sa.tuple_(*place) > sa.tuple_(*after))
        with store.read() as connection:
            page = connection.execute(page_query).all()
        if not page:
            return
        yield page
        last = page[-1]
        after = (last.item_key, last.text_key, last.aspect)


def _rating(judge: Judge, row: Any) -> Rating:
    rating, reason = read_rating(row.reply, row.status)
    return Rating(
        judge=judge.key,
        item_key=row.item_key,
        text_key=row.text_key,
        aspect=row.aspect,
        rating=rating,
        reason=reason,
        call_key=row.call_key,
    )


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
    if digest({"backend": row.backend, **request}) != row.call_key:
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
    )
