"""Which of two texts a judge preferred, and grades on other scales than ours."""

from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from typing import Literal

import sqlalchemy as sa

from mipo_eval.store.engine import Store
from mipo_eval.store.tables import choices, grades, item_lists

Winner = Literal["a", "b", "tie"]
Shown = Literal["a", "b", "?"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One judge's choice between two texts for one item, in one order of presentation."""

    judge_key: str
    item_key: str
    text_key_a: str
    """The text under evaluation."""
    text_key_b: str
    """What it is compared with."""
    shown_first: Shown
    """Which text the judge saw first; "?" where nobody wrote it down."""
    winner: Winner | None
    """None when the reply named no winner; `reason` then says why."""
    preference: float | None = None
    """Probability that text a is better, 0-1, from judges that tell; `winner` follows it."""
    reason: str | None = None
    call_key: str | None = None
    """The ledger row of the raw reply; None where the reply was not kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grade:
    """One judge's grade of one text, on the scale that the judge's spec names."""

    judge_key: str
    item_key: str
    text_key: str
    value: float | None
    """None when the reply held no grade; `reason` then says why."""
    reason: str | None = None
    call_key: str | None = None


def put_choices(store: Store, connection: sa.Connection, made: Iterable[Choice]) -> None:
    """Store choices in the transaction of `connection`; one with a winner is never replaced."""
    store.put(
        connection,
        choices,
        [asdict(choice) for choice in made],
        replace=["winner", "preference", "reason", "call_key"],
        where=choices.c.winner.is_(None),
    )


def put_grades(store: Store, connection: sa.Connection, made: Iterable[Grade]) -> None:
    """Store grades in the transaction of `connection`; one with a value is never replaced."""
    store.put(
        connection,
        grades,
        [asdict(grade) for grade in made],
        replace=["value", "reason", "call_key"],
        where=grades.c.value.is_(None),
    )


def get_choices(store: Store, list_key: str, judge_key: str | None = None) -> list[Choice]:
    """Return the choices on the items of a list, of one judge or of all."""
    of_list = sa.select(item_lists.c.item_key).where(item_lists.c.list_key == list_key)
    query = sa.select(choices).where(choices.c.item_key.in_(of_list))
    if judge_key is not None:
        query = query.where(choices.c.judge_key == judge_key)
    with store.read() as connection:
        return [Choice(**row._mapping) for row in connection.execute(query)]


def choices_on(store: Store, judge_key: str, item_keys: Collection[str]) -> list[Choice]:
    """Return one judge's choices on these items."""
    query = sa.select(choices).where(
        choices.c.judge_key == judge_key, choices.c.item_key.in_(item_keys)
    )
    with store.read() as connection:
        return [Choice(**row._mapping) for row in connection.execute(query)]


def get_grades(store: Store, list_key: str, judge_key: str | None = None) -> list[Grade]:
    """Return the grades on the items of a list, of one judge or of all."""
    of_list = sa.select(item_lists.c.item_key).where(item_lists.c.list_key == list_key)
    query = sa.select(grades).where(grades.c.item_key.in_(of_list))
    if judge_key is not None:
        query = query.where(grades.c.judge_key == judge_key)
    with store.read() as connection:
        return [Grade(**row._mapping) for row in connection.execute(query)]
