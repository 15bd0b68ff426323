"""Reading stored replies again, after the parser changed."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from mipo_eval.judges.judge import Judge
from mipo_eval.judges.pairwise import read_verdict
from mipo_eval.judges.rubric import read_rating
from mipo_eval.store import Store
from mipo_eval.store.tables import calls, choices, judges, verdicts
from mipo_eval.store.verdicts import put_judge

_PAGE = 5_000


class Reparsed(NamedTuple):
    """What reading again made of the stored replies."""

    read: int
    """Ratings, or choices, read again."""
    changed: int
    """Those that are different now, or are there now, or are gone."""
    missing: int
    """Those that still have no value: failed calls, and replies that say nothing."""


def older_judges(store: Store, judge: Judge) -> tuple[str, ...]:
    """Return the keys of judges that asked the same in the same way and read it otherwise."""
    own = judge.stored_spec
    asked = {name: own[name] for name in ("protocol", "prompt", "backend", "sampling")}
    with store.read() as connection:
        rows = connection.execute(sa.select(judges.c.judge_key, judges.c.spec)).all()
    return tuple(
        key
        for key, spec in rows
        if key != judge.key
        and spec.get("parser") not in {None, own["parser"]}
        and {name: spec.get(name) for name in asked} == asked
    )


def reparse(
    store: Store,
    judge: Judge,
    from_keys: Sequence[str],
    *,
    advance: Callable[[int], None] = lambda _: None,
) -> Reparsed:
    """Read the replies behind older ratings or choices with the present parser, without a call.

    What was read before stays, under its own judge; the new values are stored under this one's
    key. Choices that no call stands behind (people's, imported ones) are left alone.

    Args:
        store: where verdicts and replies are.
        judge: under whose key the new values are stored; its protocol says what is read.
        from_keys: keys of judges whose replies are read again, as `older_judges` returns them.
        advance: called with how many more were read.
    """
    put_judge(store, judge.key, judge.name, judge.stored_spec)
    kind = _RATINGS if judge.protocol == "rubric" else _CHOICES
    read = changed = missing = 0
    for old_key in from_keys:
        for page in _pages(store, old_key, kind):
            made = [kind.read(judge, row) for row in page]
            with store.write() as connection:
                replace = [kind.value.name, "reason", "call_key"]
                store.put(connection, kind.table, made, replace=replace)
            values = [row[kind.value.name] for row in made]
            before = [getattr(row, kind.value.name) for row in page]
            read += len(made)
            changed += sum(new != old for new, old in zip(values, before, strict=True))
            missing += values.count(None)
            advance(len(made))
    return Reparsed(read, changed, missing)


def count_stored(store: Store, judge: Judge, from_keys: Sequence[str]) -> int:
    """Return how many ratings or choices `reparse` would read again."""
    table = (_RATINGS if judge.protocol == "rubric" else _CHOICES).table
    query = (
        sa.select(sa.func.count())
        .select_from(table)
        .where(table.c.judge_key.in_(from_keys), table.c.call_key.is_not(None))
    )
    with store.read() as connection:
        return int(connection.execute(query).scalar_one())


class _Kind(NamedTuple):
    """What a protocol's replies are read into."""

    table: sa.Table
    value: sa.Column[Any]
    place: tuple[sa.Column[Any], ...]
    """The primary key within one judge, by which pages are cut."""
    read: Callable[[Judge, Any], dict[str, Any]]
    """From a row with its reply to the row under a judge's key."""


def _rating(judge: Judge, row: Any) -> dict[str, Any]:
    rating, reason = read_rating(row.reply, row.status)
    return {
        "judge_key": judge.key,
        "item_key": row.item_key,
        "text_key": row.text_key,
        "aspect": row.aspect,
        "rating": rating,
        "reason": reason,
        "call_key": row.call_key,
    }


def _choice(judge: Judge, row: Any) -> dict[str, Any]:
    swapped = row.shown_first == "b"
    winner, reason = read_verdict(judge.protocol, row.reply, row.status, swapped=swapped)
    return {
        "judge_key": judge.key,
        "item_key": row.item_key,
        "text_key_a": row.text_key_a,
        "text_key_b": row.text_key_b,
        "shown_first": row.shown_first,
        "winner": winner,
        "preference": None,
        "reason": reason,
        "call_key": row.call_key,
    }


_RATINGS = _Kind(
    verdicts,
    verdicts.c.rating,
    (verdicts.c.item_key, verdicts.c.text_key, verdicts.c.aspect),
    _rating,
)
_CHOICES = _Kind(
    choices,
    choices.c.winner,
    (choices.c.item_key, choices.c.text_key_a, choices.c.text_key_b, choices.c.shown_first),
    _choice,
)


def _pages(store: Store, judge_key: str, kind: _Kind) -> Iterator[Sequence[Any]]:
    """Yield what a judge said with its replies, a page at a time, by primary key."""
    call_key = kind.table.c.call_key
    query = (
        sa.select(*kind.place, kind.value, call_key, calls.c.status, calls.c.reply)
        .join(calls, calls.c.call_key == call_key)
        .where(kind.table.c.judge_key == judge_key)
        .order_by(*kind.place)
        .limit(_PAGE)
    )
    after: tuple[Any, ...] | None = None
    while True:
        place = sa.tuple_(*kind.place)
        page_query = query if after is None else query.where(place > sa.tuple_(*after))
        with store.read() as connection:
            page = connection.execute(page_query).all()
        if not page:
            return
        yield page
        after = tuple(page[-1])[: len(kind.place)]
