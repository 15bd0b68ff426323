"""A run's responses against the references or another run's: who won where, and all that was said.

`pairings` reads no text: one line an item, added up in the database. `detail` reads one item.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from mipo_eval.judges import merge_orders
from mipo_eval.reports.catalog import list_judges
from mipo_eval.store import Store
from mipo_eval.store.responses import answered
from mipo_eval.store.runs import Run, find_run
from mipo_eval.store.tables import choices, item_lists, items, responses, verdicts

Outcome = Literal["win", "tie", "loss"]
OUTCOMES: tuple[Outcome, ...] = ("win", "tie", "loss")
_OF_CHOICE: Mapping[str, Outcome] = {"a": "win", "b": "loss", "tie": "tie"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one judge made of one pair."""

    outcome: Outcome | None
    """Of the first text; None where something was not rated or not decided."""
    gap: float | None
    """Mean rating of the first text minus that of the second, over the item's preferences."""
    flipped: bool = False
    """The judge chose differently when the two were shown in the other order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """One item of a run, with what judges made of it; no texts."""

    position: int
    """In the run's list of items; names the item in addresses."""
    task: str
    item_id: str
    verdicts: Mapping[str, Verdict]
    """By judge key."""

    @property
    def disputed(self) -> bool:
        """Whether judges that decided came to different outcomes."""
        said = {verdict.outcome for verdict in self.verdicts.values() if verdict.outcome}
        return len(said) > 1


def pairings(store: Store, first: str, second: str | None) -> list[Pairing]:
    """Return every item of a run, in order, with every judge's outcome.

    Args:
        store: where they are.
        first: id of the run.
        second: id of the run it is compared with; None compares with the references.
    """
    run = find_run(store, first)
    other = find_run(store, second) if second else None
    query = (
        sa.select(item_lists.c.position, item_lists.c.task, item_lists.c.item_key, items.c.item_id)
        .join(items, items.c.item_key == item_lists.c.item_key)
        .where(item_lists.c.list_key == run.list_key)
        .order_by(item_lists.c.position)
    )
    with store.read() as connection:
        listed = connection.execute(query).all()
        said: dict[str, dict[str, Verdict]] = {}
        for judge in list_judges(store):
            for item, verdict in _of_judge(connection, judge.key, run, other):
                said.setdefault(item, {}).setdefault(judge.key, verdict)
    return [
        Pairing(
            position=row.position,
            task=row.task,
            item_id=row.item_id,
            verdicts=said.get(row.item_key, {}),
        )
        for row in listed
    ]


def _of_judge(
    connection: sa.Connection, judge: str, run: Run, other: Run | None
) -> Iterable[tuple[str, Verdict]]:
    """Yield (item key, verdict): the choices between the two first, then the ratings of both."""
    chosen: dict[str, list[str | None]] = {}
    for item, winner in _choices(connection, judge, run, other):
        chosen.setdefault(item, []).append(winner)
    for item, winners in chosen.items():
        decided = {winner for winner in winners if winner is not None}
        merged = _merged(winners)
        yield (
            item,
            Verdict(
                outcome=_OF_CHOICE[merged] if merged else None, gap=None, flipped=len(decided) > 1
            ),
        )
    own = _means(connection, judge, _texts(run, run.list_key))
    others = _means(connection, judge, _texts(other, run.list_key))
    for item in own.keys() | others.keys():
        a, b = own.get(item), others.get(item)
        if a is None or b is None:
            yield item, Verdict(outcome=None, gap=None)
        else:
            outcome: Outcome = "win" if a > b else "loss" if a < b else "tie"
            yield item, Verdict(outcome=outcome, gap=a - b)


def _merged(winners: Sequence[str | None]) -> str | None:
    """Return the winner over the orders that were asked: both, or the one there is."""
    if len(winners) == 1:
        return winners[0]
    first, second = winners[:2]
    return merge_orders(first, second)  # type: ignore[arg-type]


def _texts(run: Run | None, list_key: str) -> sa.Subquery:
    """Return (item key, text key, number of preferences) of a run's texts or the references."""
    columns = (items.c.item_key, items.c.n_preferences)
    listed = sa.select(*columns).join(item_lists, item_lists.c.item_key == items.c.item_key)
    if run is None:
        made = listed.add_columns(items.c.reference_key.label("text_key"))
    else:
        made = listed.join(
            responses,
            (responses.c.item_key == items.c.item_key)
            & (responses.c.generation_key == run.generation_key),
        ).add_columns(responses.c.text_key)
    return made.where(item_lists.c.list_key == list_key).distinct().subquery()


def _means(connection: sa.Connection, judge: str, texts: sa.Subquery) -> dict[str, float]:
    """Return, by item, the mean rating of a text that was rated on every preference."""
    query = (
        sa.select(
            texts.c.item_key,
            texts.c.n_preferences,
            sa.func.count(verdicts.c.rating),
            sa.func.sum(verdicts.c.rating),
        )
        .join(
            verdicts,
            (verdicts.c.judge_key == judge)
            & (verdicts.c.item_key == texts.c.item_key)
            & (verdicts.c.text_key == texts.c.text_key),
        )
        .group_by(texts.c.item_key, texts.c.n_preferences)
    )
    return {
        item: float(points) / wanted
        for item, wanted, rated, points in connection.execute(query)
        if wanted and rated == wanted
    }


def _choices(
    connection: sa.Connection, judge: str, run: Run, other: Run | None
) -> Iterable[tuple[str, str | None]]:
    """Yield (item key, winner in terms of first "a" and second "b"), whichever way it was asked."""
    own, others = _texts(run, run.list_key), _texts(other, run.list_key)
    for a, b, turned in ((own, others, False), (others, own, True)):
        query = (
            sa.select(choices.c.item_key, choices.c.winner)
            .join(a, (choices.c.item_key == a.c.item_key) & (choices.c.text_key_a == a.c.text_key))
            .join(b, (choices.c.item_key == b.c.item_key) & (choices.c.text_key_b == b.c.text_key))
            .where(choices.c.judge_key == judge)
        )
        for item, winner in connection.execute(query):
            yield item, {"a": "b", "b": "a"}.get(winner, winner) if turned else winner


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which items to show; an empty filter keeps all."""

    judge: str | None = None
    """Key of the judge that outcome, flip and gap are of; None: of any judge."""
    outcomes: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    flipped: bool = False
    """Only items on which the order decided."""
    disputed: bool = False
    """Only items on which judges differ."""
    gap: float = 0.0
    """Only items with at least this distance between the mean ratings."""


def matching(found: Sequence[Pairing], wanted: Wanted, hits: frozenset[int] | None) -> list[int]:
    """Return the positions of the items that pass all filters.

    Args:
        found: all items.
        wanted: filters.
        hits: positions that a search found; None without a search.
    """
    return [
        pairing.position
        for pairing in found
        if (hits is None or pairing.position in hits)
        and (not wanted.tasks or pairing.task in wanted.tasks)
        and (pairing.disputed or not wanted.disputed)
        and _said(pairing, wanted)
    ]


def _said(pairing: Pairing, wanted: Wanted) -> bool:
    if not (wanted.outcomes or wanted.flipped or wanted.gap):
        return True
    return any(
        (not wanted.outcomes or (verdict.outcome or "undecided") in wanted.outcomes)
        and (verdict.flipped or not wanted.flipped)
        and (not wanted.gap or abs(verdict.gap or 0.0) >= wanted.gap)
        for judge, verdict in pairing.verdicts.items()
        if wanted.judge in {None, judge}
    )


def search(store: Store, first: str, second: str | None, text: str) -> frozenset[int]:
    """Return the positions of the items whose texts hold this text, whatever its case.

    Prompt, context, preferences, reference and both responses are searched, one by one.
    """
    sought = text.casefold()
    run = find_run(store, first)
    keys = [run.generation_key]
    keys += [find_run(store, second).generation_key] if second else []
    found: set[int] = set()
    for key in dict.fromkeys(keys):
        for entry in answered(store, run.list_key, key):
            item = entry.item
            texts: list[Any] = [item.prompt, item.context, item.reference, *item.preferences]
            texts.append(entry.response.text if entry.response else None)
            if any(sought in part.casefold() for part in texts if part):
                found.add(entry.position)
    return frozenset(found)
