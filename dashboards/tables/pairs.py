"""A run's responses against the references or another run's: who won where, and all that was said.

`pairings` reads no text: one line an item. `detail` reads one item.

One item in full: what was asked, what came back, and everything that judges said of it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd
import sqlalchemy as sa

from mipo_eval.dashboards.markup import label
from mipo_eval.records import Item, text_key
from mipo_eval.store import Store
from mipo_eval.store.judges import list_judges
from mipo_eval.store.responses import answered, paired_texts
from mipo_eval.store.runs import find_run
from mipo_eval.store.tables import calls, choices, item_lists, items, judges, responses, verdicts
from mipo_eval.store.verdicts import pair_verdicts
from mipo_eval.verdict import NOT_JUDGED, Pair, PairVerdict, Verdict

OUTCOMES: Mapping[Verdict, str] = {"a": "win", "tie": "tie", "b": "loss"}
"""What a verdict is called, from the first text's side."""
UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """One item of a run, with what judges made of it; no texts."""

    position: int
    """In the run's list of items; names the item in addresses."""
    task: str
    item_id: str
    verdicts: Mapping[str, PairVerdict]
    """By judge key."""

    @property
    def disputed(self) -> bool:
        """Whether judges that decided came to different outcomes."""
        said = {verdict.winner for verdict in self.verdicts.values() if verdict.winner}
        return len(said) > 1


def pairings(store: Store, first: str, second: str | None) -> list[Pairing]:
    """Return every item of a run, in order, with every judge's outcome.

    Args:
        store: where they are.
        first: id of the run.
        second: id of the run it is compared with; None compares with the references.
    """
    run = find_run(store, first)
    rows = paired_texts(store, run, find_run(store, second) if second else None)
    pairs = list(dict.fromkeys(row.pair for row in rows if row.pair))
    said: dict[Pair | None, dict[str, PairVerdict]] = {pair: {} for pair in pairs}
    for judge in list_judges(store):
        made = pair_verdicts(store, judge.key, pairs)
        if any(one.choices or not (one.identical or one.reason == NOT_JUDGED) for one in made):
            for pair, one in zip(pairs, made, strict=True):
                if one.reason != NOT_JUDGED or one.choices:
                    said[pair][judge.key] = one
    return [
        Pairing(
            position=row.position,
            task=row.task,
            item_id=row.item_id,
            verdicts=said.get(row.pair, {}),
        )
        for row in rows
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairFilter:
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


def matching(
    found: Sequence[Pairing], wanted: PairFilter, hits: frozenset[int] | None
) -> list[int]:
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


def outcome_of(verdict: PairVerdict) -> str:
    """Return what a verdict is called from the first text's side."""
    return OUTCOMES[verdict.winner] if verdict.winner else UNDECIDED


def _said(pairing: Pairing, wanted: PairFilter) -> bool:
    if not (wanted.outcomes or wanted.flipped or wanted.gap):
        return True
    return any(
        (not wanted.outcomes or outcome_of(verdict) in wanted.outcomes)
        and (verdict.flipped or not wanted.flipped)
        and (not wanted.gap or abs(float(verdict.margin or 0)) >= wanted.gap)
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


Which = Literal["a", "b"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairText:
    """One of the two texts."""

    text: str | None
    reason: str | None
    """Why there is no text."""
    note: str
    """What else is known of it: tokens, whether it was cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeReply:
    """One reply of a judge."""

    judge: str
    about: str
    """What it was asked: to rate a text on a preference, or to choose, in which order."""
    result: str
    """The rating or the winner, or why there is none."""
    reply: str | None
    """As it came; None where it was not kept."""
    call_key: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Detail:
    """One item with both texts and all verdicts."""

    item: Item
    task: str
    first: PairText
    second: PairText
    ratings: pd.DataFrame
    """One row per preference and judge: first, second, preference, judge."""
    said: tuple[JudgeReply, ...]


def detail(store: Store, first: str, second: str | None, position: int) -> Detail | None:
    """Return one item of a run; None where its list has no such position.

    Args:
        store: where it is.
        first: id of the run.
        second: id of the run it is compared with; None for the item's reference.
        position: in the run's list.
    """
    run = find_run(store, first)
    query = (
        sa.select(item_lists.c.task, items.c.item_key, items.c.body)
        .join(items, items.c.item_key == item_lists.c.item_key)
        .where(item_lists.c.list_key == run.list_key, item_lists.c.position == position)
    )
    with store.read() as connection:
        row = connection.execute(query).first()
        if row is None:
            return None
        item = Item.model_validate_json(row.body)
        one = _answer(connection, row.item_key, run.generation_key)
        if second is None:
            other = PairText(
                text=item.reference,
                reason=None if item.reference else "this item has no reference",
                note="",
            )
        else:
            key = find_run(store, second).generation_key
            other = _answer(connection, row.item_key, key)
        texts: dict[Which, str | None] = {"a": one.text, "b": other.text}
        keys = {which: text_key(text) for which, text in texts.items() if text is not None}
        ratings, rated = _ratings(connection, row.item_key, keys, item)
        said = (*_choices(connection, row.item_key, keys), *rated)
    return Detail(
        item=item, task=row.task, first=one, second=other, ratings=ratings, said=tuple(said)
    )


def _answer(connection: sa.Connection, item_key: str, generation_key: str) -> PairText:
    query = sa.select(
        responses.c.text,
        responses.c.reason,
        responses.c.finish_reason,
        responses.c.response_tokens,
    ).where(responses.c.generation_key == generation_key, responses.c.item_key == item_key)
    row = connection.execute(query).first()
    if row is None:
        return PairText(text=None, reason="not generated", note="")
    notes = [] if row.response_tokens is None else [f"{row.response_tokens:,} tokens"]
    notes += ["cut at the token limit"] if row.finish_reason == "length" else []
    return PairText(text=row.text, reason=row.reason, note=", ".join(notes))


def _ratings(
    connection: sa.Connection, item_key: str, keys: dict[Which, str], item: Item
) -> tuple[pd.DataFrame, list[JudgeReply]]:
    """Return ratings of both texts, a row a preference and judge, and the replies behind them."""
    cells: dict[tuple[int, str], dict[str, Any]] = {}
    said = []
    for which, key in keys.items():
        query = (
            sa.select(
                judges.c.name,
                verdicts.c.aspect,
                verdicts.c.rating,
                verdicts.c.reason,
                verdicts.c.call_key,
                calls.c.reply,
                calls.c.detail,
            )
            .join(judges, judges.c.judge_key == verdicts.c.judge_key)
            .outerjoin(calls, calls.c.call_key == verdicts.c.call_key)
            .where(
                # Named one by one, judges lead to the key of the verdicts.
                verdicts.c.judge_key.in_(sa.select(judges.c.judge_key)),
                verdicts.c.item_key == item_key,
                verdicts.c.text_key == key,
            )
            .order_by(verdicts.c.aspect, judges.c.name)
        )
        for row in connection.execute(query):
            cells.setdefault((row.aspect, row.name), {})[which] = row.rating
            told = str(row.rating) if row.rating is not None else f"no rating: {row.reason}"
            about = f"{'first' if which == 'a' else 'second'} text, preference {row.aspect + 1}"
            reply = row.reply if row.reply is not None else row.detail
            said.append(
                JudgeReply(
                    judge=row.name, about=about, result=told, reply=reply, call_key=row.call_key
                )
            )
    rows = [
        {
            "first": ratings.get("a"),
            "second": ratings.get("b"),
            "preference": label(f"{aspect + 1}. {_preference(item, aspect)}", 300),
            "judge": label(judge),
        }
        for (aspect, judge), ratings in sorted(cells.items())
    ]
    return pd.DataFrame(rows, columns=["first", "second", "preference", "judge"]), said


def _preference(item: Item, aspect: int) -> str:
    return item.preferences[aspect] if aspect < len(item.preferences) else ""


def _choices(connection: sa.Connection, item_key: str, keys: dict[Which, str]) -> list[JudgeReply]:
    if len(keys) < 2:
        return []
    pairs = ((keys["a"], keys["b"], False), (keys["b"], keys["a"], True))
    said = []
    for text_a, text_b, turned in pairs:
        query = (
            sa.select(choices, judges.c.name, calls.c.reply, calls.c.detail)
            .join(judges, judges.c.judge_key == choices.c.judge_key)
            .outerjoin(calls, calls.c.call_key == choices.c.call_key)
            .where(
                choices.c.judge_key.in_(sa.select(judges.c.judge_key)),
                choices.c.item_key == item_key,
                choices.c.text_key_a == text_a,
                choices.c.text_key_b == text_b,
            )
            .order_by(judges.c.name, choices.c.shown_first)
        )
        words = {"a": "second" if turned else "first", "b": "first" if turned else "second"}
        for row in connection.execute(query):
            order = words.get(row.shown_first)
            shown = f"{order} text shown first" if order else "order not recorded"
            won = {"tie": "a tie"}.get(row.winner) or (
                f"the {words[row.winner]} text is better" if row.winner else None
            )
            said.append(
                JudgeReply(
                    judge=row.name,
                    about=f"choice, {shown}",
                    result=won or f"no verdict: {row.reason}",
                    reply=row.reply if row.reply is not None else row.detail,
                    call_key=row.call_key,
                )
            )
    return said


def request_of(store: Store, call_key: str) -> str | None:
    """Return the messages a judge was sent, as text; None where the call was not kept."""
    query = sa.select(calls.c.request).where(calls.c.call_key == call_key)
    with store.read() as connection:
        found = connection.execute(query).scalar_one_or_none()
    if found is None:
        return None
    request = json.loads(found)
    messages = request.get("messages", [])
    if not messages:
        return json.dumps(request, indent=2, ensure_ascii=False)
    return "\n\n".join(f"[{turn.get('role')}]\n{turn.get('content')}" for turn in messages)
