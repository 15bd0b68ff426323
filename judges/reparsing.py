"""Reading stored replies again, after the parser changed."""

from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import sqlalchemy as sa

from mipo_eval.errors import BackendError, ConfigError
from mipo_eval.judges.judge import Judge
from mipo_eval.judges.loading import prompt_for
from mipo_eval.judges.pairwise import read_verdict
from mipo_eval.judges.rubric import read_rating
from mipo_eval.models import Failure, Reply, Request, Sampling
from mipo_eval.signature import short
from mipo_eval.store import Store
from mipo_eval.store.judges import put_judge
from mipo_eval.store.tables import calls, choices, judges, verdicts

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
    return tuple(
        key
        for key, _, spec in _stored(store)
        if key != judge.key and spec["parser"] != own["parser"] and _asked(spec) == _asked(own)
    )


def _stored(store: Store) -> list[tuple[str, str, dict[str, Any]]]:
    """Return key, name and spec of every judge whose replies a parser of ours has read."""
    query = sa.select(judges.c.judge_key, judges.c.name, judges.c.spec).order_by(judges.c.judge_key)
    with store.read() as connection:
        rows = connection.execute(query).all()
    return [(key, name, spec) for key, name, spec in rows if spec.get("parser") is not None]


def _asked(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return how a judge was asked, whoever read its replies."""
    usual = {"sampling": asdict(Sampling()), "constrained": True}
    names = ("protocol", "prompt", "backend", "sampling", "constrained")
    return {name: spec.get(name, usual.get(name)) for name in names}


class Readers(NamedTuple):
    """Judges of a store as they read today, and judges that cannot be made again."""

    judges: tuple[Judge, ...]
    left_out: Mapping[str, str]
    """Name and key of a judge to why its replies cannot be read again."""


def readers(store: Store, names: Sequence[str] = ()) -> Readers:
    """Return the judges of a store, reading by the present parser; none of them can be asked.

    Args:
        store: where judges are.
        names: as users wrote them or as tables call them, or beginnings of keys; none: all.

    Raises:
        ConfigError: the store has no judge of one of these names.
    """
    stored = _stored(store)
    for wanted in names:
        if not any(_is_named(wanted, *row) for row in stored):
            known = ", ".join(sorted({name for _, name, _ in stored})) or "none yet"
            raise ConfigError(f"no judge {wanted!r} with stored replies; {store.name} has: {known}")
    found: dict[str, Judge] = {}
    left_out = {}
    for key, name, spec in stored:
        if names and not any(_is_named(wanted, key, name, spec) for wanted in names):
            continue
        prompt = prompt_for(spec["protocol"])
        if short(prompt.hash) != spec["prompt"]:
            left_out[f"{name} ({short(key)})"] = "it was asked with a prompt that is not ours"
            continue
        judge = Judge(
            name=name,
            spec=str(spec.get("spec", name)),
            backend=_Silent(spec["backend"]),
            prompt=prompt,
            protocol=spec["protocol"],
            sampling=Sampling(**_asked(spec)["sampling"]),
            constrained=_asked(spec)["constrained"],
        )
        found.setdefault(judge.key, judge)
    return Readers(tuple(found.values()), left_out)


def _is_named(wanted: str, key: str, name: str, spec: Mapping[str, Any]) -> bool:
    return wanted in {name, spec.get("spec")} or key.startswith(wanted)


class _Silent:
    """A backend that is only remembered: reading again asks nobody."""

    def __init__(self, identity: Mapping[str, str]) -> None:
        self.identity = identity

    async def check(self) -> None:
        """Raise: nobody is there."""
        raise BackendError("stored replies are read again without a call")

    async def answer(
        self, requests: Iterable[Request]
    ) -> AsyncGenerator[tuple[Request, Reply | Failure], None]:
        """Raise: nobody is there."""
        await self.check()
        for request in requests:  # pragma: no cover - what makes it a generator
            yield request, Failure(kind="refused", detail="")


def reparse_judge(
    store: Store, judge: Judge, *, advance: Callable[[int], None] = lambda _: None
) -> Reparsed:
    """Read what older parsers read of a judge again, or what this one did, if there are none."""
    return reparse(store, judge, older_judges(store, judge) or (judge.key,), advance=advance)


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
