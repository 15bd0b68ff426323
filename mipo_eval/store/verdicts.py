"""What judges said: ratings, choices between two texts, grades on other tools' scales.

`pair_verdicts` is the one reader of who won a pair; what a verdict is, `verdict.py` decides.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, NamedTuple

import sqlalchemy as sa

from mipo_eval.records import Rating, Run
from mipo_eval.store.engine import Store, lasting
from mipo_eval.store.items import texts_of, with_verdicts
from mipo_eval.store.judges import specs_of
from mipo_eval.store.responses import PairedTexts, paired_texts
from mipo_eval.store.tables import (
    calls,
    choices,
    grades,
    item_lists,
    items,
    judges,
    responses,
    verdicts,
)
from mipo_eval.verdict import (
    IDENTICAL,
    NOT_JUDGED,
    Choice,
    Pair,
    PairVerdict,
    Total,
    chooses,
    from_choices,
    from_totals,
    orders_of,
)

_KEYS = 500
"""Items named in one query."""
_RATED = 25
"""Of ratings: SQLite looks for every named text under every named item."""


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
    return {(item, text, aspect) for item, text, aspect in store.fetch(query)}


@lasting
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
    return _totals(store, verdicts.c.judge_key == judge_key, verdicts.c.item_key.in_(of_list))


def _totals(
    store: Store, *which: sa.ColumnElement[bool], source: sa.FromClause = verdicts
) -> dict[tuple[str, str], Total]:
    key, rating = (verdicts.c.item_key, verdicts.c.text_key), verdicts.c.rating
    points = sa.func.coalesce(sa.func.sum(rating), 0)
    told = (sa.func.count(rating), points, sa.func.min(verdicts.c.reason))
    query = sa.select(*key, *told).select_from(source).where(*which).group_by(*key)
    return {
        (item, text): Total(int(count), int(points), reason)
        for item, text, count, points, reason in store.fetch(query)
        if item  # of an outer join, the texts without any verdict have none
    }


def _totals_of_pairs(
    store: Store, judge_key: str, pairs: Sequence[Pair]
) -> dict[tuple[str, str], Total]:
    of_judge = verdicts.c.judge_key == judge_key
    any_of_it = sa.select(verdicts.c.aspect).where(of_judge).limit(1)
    if not store.fetch(any_of_it):  # judges that choose have no ratings
        return {}
    found: dict[tuple[str, str], Total] = {}
    for start in range(0, len(pairs), _RATED):
        window = pairs[start : start + _RATED]
        item = verdicts.c.item_key.in_({pair.item_key for pair in window})
        text = verdicts.c.text_key.in_({key for pair in window for key in pair[1:]})
        found |= _totals(store, of_judge, item, text)
    return found


def pair_verdicts(
    store: Store, judge_key: str, pairs: Sequence[Pair], among: sa.Subquery | None = None
) -> list[PairVerdict]:
    """Return what one judge or person makes of each pair: the one reader of verdicts on pairs.

    A judge that chose has its choices joined (see `verdict.py`; whether it had to be asked in both
    orders, the store knows from its protocol), whichever text was named first when it was asked.
    One that rated prefers what it rated higher. Equal texts are a tie that no judge is asked about,
    and no word of a person.

    Args:
        store: where choices and ratings are.
        judge_key: of a judge, a person, or another tool's judge.
        pairs: any number, of any items.
        among: `items.texts_of` that hold all of these: faster than to name each one.
    """
    spec = specs_of(store, [judge_key]).get(judge_key, {})
    orders, rates = orders_of(spec), not chooses(spec)
    if among is None:
        ratings = _totals_of_pairs(store, judge_key, pairs)
    else:
        ratings = _totals(store, source=with_verdicts(among, judge_key))
    found: list[PairVerdict] = []
    for start in range(0, len(pairs), _KEYS):
        window = pairs[start : start + _KEYS]
        item_keys = {pair.item_key for pair in window}
        made: dict[Pair, list[Choice]] = {}
        for choice in () if rates else choices_on(store, judge_key, item_keys):
            key = Pair(choice.item_key, choice.text_key_a, choice.text_key_b)
            made.setdefault(key, []).append(choice)
        wanted = _preferences(store, item_keys) if ratings or rates else {}
        for pair in window:
            own = [*made.get(pair, ()), *made.get(pair.turned(), ())]
            first, second = (ratings.get((pair.item_key, text)) for text in pair[1:])
            if pair.first == pair.second and not rates and orders != "one":
                verdict = IDENTICAL
            elif own or pair.item_key not in wanted or not (rates or first or second):
                verdict = from_choices(pair, own, orders)
            else:
                verdict = from_totals(first, second, wanted.get(pair.item_key, 0))
                same = pair.first == pair.second and verdict.winner is not None
                verdict = replace(verdict, identical=same)
            found.append(verdict)
    return found


def verdicts_of_all(
    store: Store, run: Run, other: Run | None, judge_keys: Iterable[str]
) -> list[tuple[PairedTexts, dict[str, PairVerdict]]]:
    """Return `paired_texts`, each with the verdicts of the judges that said something of any."""
    rows = paired_texts(store, run, other)
    among = texts_of([one.generation_key for one in (run, other) if one], [run.list_key])
    pairs = list(dict.fromkeys(row.pair for row in rows if row.pair))
    found: dict[Pair, dict[str, PairVerdict]] = {pair: {} for pair in pairs}
    for key in judge_keys:
        own = {
            pair: one
            for pair, one in zip(pairs, pair_verdicts(store, key, pairs, among), strict=True)
            if one.choices or one.reason != NOT_JUDGED
        }
        # Equal texts are a tie to every judge, also to one that was never asked about these.
        if any(one.choices or not one.identical for one in own.values()):
            for pair, one in own.items():
                found[pair][key] = one
    return [(row, found[row.pair] if row.pair else {}) for row in rows]


def verdicts_on(
    store: Store, rows: Sequence[PairedTexts], judge_key: str
) -> list[tuple[PairedTexts, PairVerdict]]:
    """Return what one judge makes of every item of `paired_texts`, in order."""
    pairs = sorted({row.pair for row in rows if row.pair})  # an item's are looked up together
    known = dict(zip(pairs, pair_verdicts(store, judge_key, pairs), strict=True))
    return [
        (row, known[row.pair] if row.pair else PairVerdict(winner=None, reason=row.why_not))
        for row in rows
    ]


def _preferences(store: Store, item_keys: Collection[str]) -> dict[str, int]:
    """Return how many preferences each item has."""
    query = sa.select(items.c.item_key, items.c.n_preferences)
    return {key: n for key, n in store.fetch(query.where(items.c.item_key.in_(item_keys)))}


def judges_on(store: Store, list_key: str) -> set[str]:
    """Return the keys of the judges and people that chose or rated on the items of a list."""
    of_list = sa.select(item_lists.c.item_key).where(item_lists.c.list_key == list_key)
    queries = [
        sa.select(table.c.judge_key).where(table.c.item_key.in_(of_list))
        for table in (choices, verdicts)
    ]
    return {key for (key,) in store.fetch(sa.union(*queries))}


def ratings_by(
    store: Store, judge_key: str, item_keys: Sequence[str]
) -> dict[tuple[str, str, int], int | None]:
    """Return one judge's ratings on these items, by item key, text key and aspect."""
    columns = (verdicts.c.item_key, verdicts.c.text_key, verdicts.c.aspect, verdicts.c.rating)
    query = sa.select(*columns).where(verdicts.c.judge_key == judge_key)
    rows = store.by_key(query, verdicts.c.item_key, item_keys)
    return {(item, text, n): rating for item, text, n, rating in rows}


def run_ratings(
    store: Store, run: Run, judge_keys: Sequence[str]
) -> dict[str, dict[tuple[str, str, int], int]]:
    """Return every rating that judges gave to a run's own responses.

    By judge, keyed by item, text and preference; judges that rated nothing of it are there too.
    """
    of_list = sa.select(item_lists.c.item_key).where(item_lists.c.list_key == run.list_key)
    named = (
        sa.select(responses.c.item_key, responses.c.text_key)
        .where(responses.c.generation_key == run.generation_key, responses.c.item_key.in_(of_list))
        .subquery()
    )
    columns = [verdicts.c[name] for name in ("item_key", "text_key", "aspect", "rating")]
    found: dict[str, dict[tuple[str, str, int], int]] = {}
    for judge in judge_keys:
        rows = store.fetch(sa.select(*columns).select_from(with_verdicts(named, judge)))
        # What has no rating is left out here: asked for it, SQLite would not join outwards.
        found[judge] = {
            (item, text, aspect): rating
            for item, text, aspect, rating in rows
            if rating is not None
        }
    return found


class Counted(NamedTuple):
    """How much one judge or person said."""

    ratings: int
    choices: int


def count_verdicts(store: Store) -> dict[str, Counted]:
    """Return, by judge, how many ratings and choices the store has; also of those without one."""
    by_table: list[dict[str, int]] = []
    for key in (verdicts.c.judge_key, choices.c.judge_key):
        rows = store.fetch(sa.select(key, sa.func.count()).group_by(key))
        by_table.append({judge: int(n) for judge, n in rows})
    ratings, chosen = by_table
    return {key: Counted(ratings.get(key, 0), chosen.get(key, 0)) for key in ratings | chosen}


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
        .where(verdicts.c.judge_key == judge_key, calls.c.status == "ok")
    )
    keys = {key for (key,) in store.fetch(of_list)}
    for item, text, logprobs in store.by_key(query, verdicts.c.item_key, keys):
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
    return [(name, aspect, rating, why) for name, aspect, rating, why in store.fetch(query)]


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


def put_choices(
    store: Store, connection: sa.Connection, made: Iterable[Choice], *, again: bool = False
) -> None:
    """Store choices in the transaction of `connection`; one with a winner is never replaced.

    Args:
        store: whose transaction it is.
        connection: the transaction.
        made: the choices.
        again: replace those too: unlike a model, a person who looks again may know better.
    """
    store.put(
        connection,
        choices,
        [asdict(choice) for choice in made],
        replace=["winner", "preference", "reason", "call_key"],
        where=None if again else choices.c.winner.is_(None),
    )


def choices_on(
    store: Store, judge_key: str, item_keys: Collection[str] | None = None
) -> list[Choice]:
    """Return one judge's choices on these items, or on all."""
    query = sa.select(choices).where(choices.c.judge_key == judge_key)
    if item_keys is not None:
        query = query.where(choices.c.item_key.in_(item_keys))
    return [Choice(*row) for row in store.fetch(query)]


def chosen_pairs(store: Store, judge_keys: Collection[str]) -> list[Pair]:
    """Return the pairs that these judges or people chose between, each once, as it was stored."""
    keys = (choices.c.item_key, choices.c.text_key_a, choices.c.text_key_b)
    query = sa.select(*keys).where(choices.c.judge_key.in_(judge_keys)).distinct().order_by(*keys)
    found: dict[Pair, None] = {}
    for pair in (Pair(*row) for row in store.fetch(query)):
        if pair.turned() not in found:
            found[pair] = None
    return list(found)


def get_grades(store: Store, list_key: str) -> list[Grade]:
    """Return the grades on the items of a list."""
    of_list = sa.select(item_lists.c.item_key).where(item_lists.c.list_key == list_key)
    query = sa.select(grades).where(grades.c.item_key.in_(of_list))
    return [Grade(**row._mapping) for row in store.fetch(query)]


def grades_of(store: Store, run: Run, judge_key: str) -> list[tuple[float | None, str | None]]:
    """Return one judge's grade of each of a run's answers, or none and why, in the items' order."""
    answer = (responses.c.item_key == item_lists.c.item_key) & (
        responses.c.generation_key == run.generation_key
    )
    grade = (
        (grades.c.judge_key == judge_key)
        & (grades.c.item_key == item_lists.c.item_key)
        & (grades.c.text_key == responses.c.text_key)
    )
    query = (
        sa.select(grades.c.value, grades.c.reason)
        .select_from(item_lists.outerjoin(responses, answer).outerjoin(grades, grade))
        .where(item_lists.c.list_key == run.list_key)
        .order_by(item_lists.c.position)
    )
    return [tuple(row) for row in store.fetch(query)]


class Remark(NamedTuple):
    """What a judge said about a text, with the raw reply it was read from."""

    judge: str
    value: str | None
    """A rating or grade; of a choice "this", "other" or "tie"; None: `reason` says why."""
    reason: str | None
    reply: str | None
    """None where the call brought none, or where nobody kept it."""
    failure: str | None = None
    """What came back instead of a reply."""
    call_key: str | None = None
    preference: int | None = None
    """Which of the item's preferences was rated."""
    other_key: str | None = None
    """Of a choice: the text it was compared with."""
    shown_first: Literal["this", "other", "?"] | None = None
    thinking: str | None = None
    """What a server gave as thought, beside the reply."""


def grades_by(store: Store, judge_key: str) -> list[Grade]:
    """Return every grade of one judge."""
    query = sa.select(grades).where(grades.c.judge_key == judge_key)
    return [Grade(**row._mapping) for row in store.fetch(query)]


def remarks_on(store: Store, item_key: str, text_key: str) -> list[Remark]:
    """Return every rating, grade and choice about one text, by judge; choices in both orders."""
    found = []
    for table in (verdicts, grades, choices):
        keys = [table.c.text_key] if "text_key" in table.c else list(table.c)[2:4]
        query = (
            sa.select(table, judges.c.name, calls.c.reply, calls.c.detail, calls.c.thinking)
            .join(judges, judges.c.judge_key == table.c.judge_key)
            .outerjoin(calls, calls.c.call_key == table.c.call_key)
            .where(
                # Named one by one, judges lead to the key of the table.
                table.c.judge_key.in_(sa.select(judges.c.judge_key)),
                table.c.item_key == item_key,
                sa.or_(*(key == text_key for key in keys)),
            )
            .order_by(judges.c.name, *table.primary_key)
        )
        found += [_remark(row._mapping, text_key) for row in store.fetch(query)]
    return found


def _remark(row: sa.RowMapping, text_key: str) -> Remark:
    told = (row["reason"], row["reply"], row["detail"], row["call_key"])
    if "winner" not in row:
        value = row["rating"] if "rating" in row else row["value"]
        return Remark(
            row["name"],
            None if value is None else f"{value:g}",
            *told,
            row.get("aspect"),
            thinking=row["thinking"],
        )
    ours, theirs = ("a", "b") if row["text_key_a"] == text_key else ("b", "a")
    side: dict[str | None, Any] = {ours: "this", theirs: "other", "tie": "tie", "?": "?"}
    other_key = row[f"text_key_{theirs}"]
    return Remark(
        row["name"],
        side.get(row["winner"]),
        *told,
        None,
        other_key,
        side[row["shown_first"]],
        row["thinking"],
    )
