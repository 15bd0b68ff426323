"""What judges said, and what they have not said yet."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import sqlalchemy as sa

from mipo_eval.records import Rating
from mipo_eval.store.engine import Store
from mipo_eval.store.tables import calls, choices, grades, item_lists, judges, verdicts

_KEYS = 500
"""Items named in one query."""


class Total(NamedTuple):
    """The ratings of one text for one item, summed over the item's preferences."""

    rated: int
    """How many preferences have a rating."""
    points: int
    """Sum of the ratings; an integer, so that comparing two texts is exact."""
    reason: str | None
    """Why a rating is missing, when one is."""


def put_judge(store: Store, judge_key: str, name: str, spec: Mapping[str, Any]) -> None:
    """Record who judges how under `judge_key`."""
    with store.write() as connection:
        row = {"judge_key": judge_key, "name": name, "spec": dict(spec)}
        store.put(connection, judges, [row])


def rated(store: Store, judge_key: str, item_keys: Collection[str]) -> set[tuple[str, str, int]]:
    """Return the (item key, text key, aspect) triples of these items that have a rating.

    A verdict without a rating does not count: a failed call is made again, and an unparsable
    reply is read again from the ledger without one.
    """
    query = sa.select(verdicts.c.item_key, verdicts.c.text_key, verdicts.c.aspect).where(
        verdicts.c.judge_key == judge_key,
        verdicts.c.item_key.in_(item_keys),
        verdicts.c.rating.is_not(None),
    )
    with store.read() as connection:
        return {(item, text, aspect) for item, text, aspect in connection.execute(query)}


def put_ratings(store: Store, ratings: Iterable[Rating]) -> None:
    """Store verdicts; a later verdict of the same judge on the same text replaces the earlier."""
    rows = [
        {
            "judge_key": rating.judge,
            "item_key": rating.item_key,
            "text_key": rating.text_key,
            "aspect": rating.aspect,
            "rating": rating.rating,
            "reason": rating.reason,
            "call_key": rating.call_key,
        }
        for rating in ratings
    ]
    with store.write() as connection:
        store.put(connection, verdicts, rows, replace=["rating", "reason", "call_key"])


def totals(store: Store, judge_key: str, list_key: str) -> dict[tuple[str, str], Total]:
    """Return, for every judged text of the list's items, its total; keyed (item key, text key)."""
    of_list = sa.select(item_lists.c.item_key).where(item_lists.c.list_key == list_key)
    query = (
        sa.select(
            verdicts.c.item_key,
            verdicts.c.text_key,
            sa.func.count(verdicts.c.rating),
            sa.func.coalesce(sa.func.sum(verdicts.c.rating), 0),
            sa.func.min(verdicts.c.reason),
        )
        .where(verdicts.c.judge_key == judge_key, verdicts.c.item_key.in_(of_list))
        .group_by(verdicts.c.item_key, verdicts.c.text_key)
    )
    with store.read() as connection:
        return {
            (item, text): Total(int(count), int(points), reason)
            for item, text, count, points, reason in connection.execute(query)
        }


def ratings_by(
    store: Store, judge_key: str, item_keys: Sequence[str]
) -> dict[tuple[str, str, int], int | None]:
    """Return one judge's ratings on these items, by item key, text key and aspect."""
    found: dict[tuple[str, str, int], int | None] = {}
    columns = (verdicts.c.item_key, verdicts.c.text_key, verdicts.c.aspect, verdicts.c.rating)
    with store.read() as connection:
        for start in range(0, len(item_keys), _KEYS):
            query = sa.select(*columns).where(
                verdicts.c.judge_key == judge_key,
                verdicts.c.item_key.in_(item_keys[start : start + _KEYS]),
            )
            found |= {
                (item, text, n): rating for item, text, n, rating in connection.execute(query)
            }
    return found


def first_tokens(
    store: Store, judge_key: str, list_key: str
) -> Iterator[tuple[str, str, Sequence[tuple[str, float]] | None]]:
    """Yield (item key, text key, log-probabilities of the reply's first token) of every verdict.

    The probabilities are None where the judge gave none; failed calls have no reply to weigh.
    """
    of_list = sa.select(item_lists.c.item_key).where(item_lists.c.list_key == list_key)
    query = (
        sa.select(verdicts.c.item_key, verdicts.c.text_key, calls.c.logprobs)
        .join(calls, calls.c.call_key == verdicts.c.call_key)
        .where(
            verdicts.c.judge_key == judge_key,
            verdicts.c.item_key.in_(of_list),
            calls.c.status == "ok",
        )
    )
    with store.read() as connection:
        for item, text, logprobs in connection.execute(query):
            yield item, text, [(token, logprob) for token, logprob in logprobs or ()] or None


def ratings_of(
    store: Store, item_key: str, text_key: str
) -> list[tuple[str, int, int | None, str | None]]:
    """Return (judge name, aspect, rating, reason) of every verdict on one text."""
    query = (
        sa.select(judges.c.name, verdicts.c.aspect, verdicts.c.rating, verdicts.c.reason)
        .join(judges, judges.c.judge_key == verdicts.c.judge_key)
        .where(verdicts.c.item_key == item_key, verdicts.c.text_key == text_key)
        .order_by(judges.c.name, verdicts.c.aspect)
    )
    with store.read() as connection:
        return [
            (name, aspect, rating, why) for name, aspect, rating, why in connection.execute(query)
        ]


class Remark(NamedTuple):
    """What a judge said about a text, with the raw reply it was read from."""

    judge: str
    value: str | None
    """A rating or grade; of a choice "this", "other" or "tie"; None: `reason` says why."""
    reason: str | None
    reply: str | None
    """None where the call brought none, or where nobody kept it."""
    preference: int | None = None
    """Which of the item's preferences was rated."""
    other_key: str | None = None
    """Of a choice: the text it was compared with."""
    shown_first: Literal["this", "other", "?"] | None = None


def remarks_on(store: Store, item_key: str, text_key: str) -> list[Remark]:
    """Return every rating, grade and choice about one text, by judge; choices in both orders."""
    found = []
    with store.read() as connection:
        for table in (verdicts, grades, choices):
            keys = [table.c.text_key] if "text_key" in table.c else list(table.c)[2:4]
            query = (
                sa.select(table, judges.c.name, calls.c.reply)
                .join(judges, judges.c.judge_key == table.c.judge_key)
                .outerjoin(calls, calls.c.call_key == table.c.call_key)
                .where(table.c.item_key == item_key, sa.or_(*(key == text_key for key in keys)))
                .order_by(judges.c.name, *table.primary_key)
            )
            found += [_remark(row, text_key) for row in connection.execute(query).mappings()]
    return found


def _remark(row: sa.RowMapping, text_key: str) -> Remark:
    told = (row["reason"], row["reply"])
    if "winner" not in row:
        value = row["rating"] if "rating" in row else row["value"]
        return Remark(
            row["name"], None if value is None else f"{value:g}", *told, row.get("aspect")
        )
    ours, theirs = ("a", "b") if row["text_key_a"] == text_key else ("b", "a")
    side: dict[str | None, Any] = {ours: "this", theirs: "other", "tie": "tie", "?": "?"}
    other_key = row[f"text_key_{theirs}"]
    return Remark(
        row["name"], side.get(row["winner"]), *told, None, other_key, side[row["shown_first"]]
    )
