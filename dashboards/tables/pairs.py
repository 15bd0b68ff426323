"""A run's responses against the references or another run's: who won where, and all that was said.

`pairings` reads no text: one line an item. `detail` reads one item: what was asked, what came back,
and everything that judges said of it.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from mipo_eval.dashboards.markup import label, number
from mipo_eval.records import Item, text_key
from mipo_eval.reports.names import run_titles, stored_rules
from mipo_eval.store import calls
from mipo_eval.store.engine import Store
from mipo_eval.store.items import item_at
from mipo_eval.store.judges import list_judges
from mipo_eval.store.responses import Made, answered, responses_to
from mipo_eval.store.runs import find_run
from mipo_eval.store.verdicts import Remark, remarks_on, verdicts_of_all
from mipo_eval.verdict import PairVerdict, Verdict

OUTCOMES: Mapping[Verdict, str] = {"a": "A wins", "tie": "tie", "b": "B wins"}
"""What a verdict is called; A is the first text."""
UNDECIDED = "unscored"
REFERENCE = "the reference"
"""What the second side is called where it is no run."""
FLIPPED, DISPUTED = "flipped", "judges differ"
CHIPS = (*OUTCOMES.values(), FLIPPED, DISPUTED, UNDECIDED)
"""What items can be filtered for by one touch."""


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
    other = find_run(store, second) if second else None
    judges = list_judges(store)
    # Equal texts are a tie that no judge has to be asked about; people are not shown them.
    people = {judge.key for judge in judges if judge.is_person}
    return [
        Pairing(
            position=row.position,
            task=row.task,
            item_id=row.item_id,
            verdicts={
                key: one for key, one in said.items() if not (one.identical and key in people)
            },
        )
        for row, said in verdicts_of_all(store, run, other, [judge.key for judge in judges])
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
    """Return what a verdict is called."""
    return OUTCOMES[verdict.winner] if verdict.winner else UNDECIDED


def item_outcome(pairing: Pairing, judge: str | None) -> str:
    """Return what an item's verdicts come to, one of `CHIPS`; by one judge, or by all of them."""
    said = {
        outcome_of(verdict) for key, verdict in pairing.verdicts.items() if judge in {None, key}
    }
    known = said - {UNDECIDED}
    return DISPUTED if len(known) > 1 else next(iter(known), UNDECIDED)


def counted(found: Sequence[Pairing], judge: str | None) -> tuple[int, int, int]:
    """Return how many items A won, how many are ties, and how many B won."""
    told = Counter(item_outcome(pairing, judge) for pairing in found)
    return told[OUTCOMES["a"]], told[OUTCOMES["tie"]], told[OUTCOMES["b"]]


def verdict_text(pairing: Pairing, names: Mapping[str, str]) -> str:
    """Return what judges made of an item, in one sentence.

    Args:
        pairing: the item.
        names: of judges, by key.
    """
    said = []
    for key, verdict in pairing.verdicts.items():
        why = "the order decided" if verdict.flipped else "equal texts" if verdict.identical else ""
        why = why if verdict.winner else verdict.reason or ""
        margin = None if verdict.margin is None else float(verdict.margin)
        gap = "" if not margin else f" ({number(margin, 2, signed=True)})"
        by = f" by {names.get(key, key[:8])}"
        said.append(f"{outcome_of(verdict)}{by}{gap}{f': {why}' if why else ''}")
    told = "; ".join(said) or "not judged"
    return f"{told[:1].upper()}{told[1:]}"


def rated_text(ratings: pd.DataFrame) -> str:
    """Return what judges rated an item's first text, where there is no second one to compare."""
    points = ratings["first"].astype(float)
    means = points.groupby(ratings["judge"], sort=False).mean().dropna()
    told = "; ".join(f"rated {number(mean, 2)} on average by {by}" for by, mean in means.items())
    return f"R{told[1:]}; there is nothing to compare it with" if told else "Not judged"


def called(store: Store, *run_ids: str) -> dict[str, str]:
    """Return what runs are called beside each other, by their ids."""
    runs = [find_run(store, run_id) for run_id in run_ids]
    return run_titles(runs, stored_rules(store))


def example_text(shown: "PairDetail", verdict: str, names: tuple[str, str]) -> str:
    """Return an item as text for a paper or a chat: what was asked, wished, answered and said."""
    item = shown.item
    wishes = [
        f"- {row['preference']} ({row['judge']}: A {_stars(row['first'])}, "
        f"B {_stars(row['second'])})"
        for row in shown.ratings.to_dict("records")
    ]
    wishes = wishes or [f"- {wish}" for wish in item.preferences]
    parts = {
        "Item": f"{shown.task}, {item.item_id}",
        "Verdict": verdict,
        "Prompt": item.transcript,
        "Context": item.context,
        "Preferences": "\n".join(wishes),
        f"A: {names[0]}": shown.first.text,
        f"B: {names[1]}": shown.second.text,
    }
    return "\n\n".join(f"{name}\n{text}" for name, text in parts.items() if text)


def _stars(rating: Any) -> str:
    return "not rated" if pd.isna(rating) else f"{rating:.0f}"


def _said(pairing: Pairing, wanted: PairFilter) -> bool:
    if not (wanted.outcomes or wanted.flipped or wanted.gap):
        return True
    own = [key for key in pairing.verdicts if wanted.judge in {None, key}]
    if not own:
        return UNDECIDED in wanted.outcomes and not (wanted.flipped or wanted.gap)
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
            texts: list[Any] = [item.transcript, item.context, item.reference, *item.preferences]
            texts.append(entry.response.text if entry.response else None)
            if any(sought in part.casefold() for part in texts if part):
                found.add(entry.position)
    return frozenset(found)


class PairText(NamedTuple):
    """One of the two texts."""

    key: str | None
    text: str | None
    reason: str | None
    """Why there is no text."""
    note: str = ""
    """What else is known of it: tokens, whether it was cut."""
    thinking: str | None = None
    """What was thought before it."""


class JudgeReply(NamedTuple):
    """One reply of a judge."""

    judge: str
    about: str
    """What it was asked: to rate a text on a preference, or to choose, in which order."""
    result: str
    """The rating or the winner, or why there is none."""
    reply: str | None
    """As it came; None where it was not kept."""
    call_key: str | None
    thinking: str | None = None
    """What a server gave as thought, beside the reply."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairDetail:
    """One item with both texts and all verdicts."""

    item: Item
    task: str
    first: PairText
    second: PairText
    ratings: pd.DataFrame
    """One row per preference and judge: first, second, preference, judge."""
    said: tuple[JudgeReply, ...]


def detail(store: Store, first: str, second: str | None, position: int) -> PairDetail | None:
    """Return one item of a run; None where its list has no such position.

    Args:
        store: where it is.
        first: id of the run.
        second: id of the run it is compared with; None for the item's reference.
        position: in the run's list.
    """
    run = find_run(store, first)
    found = item_at(store, run.list_key, position)
    if found is None:
        return None
    task, item = found
    answers = responses_to(store, item.key)
    one = _pair_text(answers.get(run.generation_key))
    if second is not None:
        other = _pair_text(answers.get(find_run(store, second).generation_key))
    else:
        key = text_key(item.reference) if item.reference else None
        other = PairText(key, item.reference, None if key else "this item has no reference")
    told = [remarks_on(store, item.key, side.key) if side.key else [] for side in (one, other)]
    # A judge may have been asked about the pair either way round; both are remarks on either text.
    said = [_choice(remark) for remark in told[0] if other.key and remark.other_key == other.key]
    rated = [[remark for remark in own if remark.preference is not None] for own in told]
    for name, own in zip(("first", "second"), rated, strict=True):
        said += [_rating(remark, name) for remark in own]
    return PairDetail(
        item=item,
        task=task,
        first=one,
        second=other,
        ratings=_rating_table(item, *rated),
        said=tuple(said),
    )


def _pair_text(made: Made | None) -> PairText:
    if made is None:
        return PairText(None, None, "not generated")
    key, response = made
    tokens = response.response_tokens
    notes = [] if tokens is None else [f"{tokens:,} tokens"]
    thought = response.thinking_tokens
    notes += [] if thought is None else [f"{thought:,} tokens of thinking"]
    cut = response.finish_reason == "length" and response.text is not None
    notes += ["cut at the token limit"] if cut else []
    note = ", ".join(notes)
    return PairText(key, response.text, response.reason, note, response.thinking)


def _rating_table(item: Item, first: Sequence[Remark], second: Sequence[Remark]) -> pd.DataFrame:
    """Return the ratings of both texts, a row a preference and judge."""
    cells: dict[tuple[int, str], dict[str, Any]] = {}
    for name, own in (("first", first), ("second", second)):
        for remark in own:
            rating = None if remark.value is None else int(remark.value)
            cells.setdefault((remark.preference or 0, remark.judge), {})[name] = rating
    rows = [
        ratings | {"preference": label(_preference(item, number), 300), "judge": label(judge)}
        for (number, judge), ratings in sorted(cells.items())
    ]
    return pd.DataFrame(rows, columns=["first", "second", "preference", "judge"])


def _preference(item: Item, number: int) -> str:
    wish = item.preferences[number] if number < len(item.preferences) else ""
    return f"{number + 1}. {wish}"


def _rating(remark: Remark, which: str) -> JudgeReply:
    about = f"{which} text, preference {(remark.preference or 0) + 1}"
    return _reply(remark, about, remark.value or f"no rating: {remark.reason}")


def _choice(remark: Remark) -> JudgeReply:
    places = {"this": "first", "other": "second"}
    shown, winner = places.get(remark.shown_first or "?"), places.get(remark.value or "")
    about = f"choice, {shown} text shown first" if shown else "choice, order not recorded"
    result = "a tie" if remark.value == "tie" else f"no verdict: {remark.reason}"
    return _reply(remark, about, f"the {winner} text is better" if winner else result)


def _reply(remark: Remark, about: str, result: str) -> JudgeReply:
    reply = remark.failure if remark.reply is None else remark.reply
    return JudgeReply(remark.judge, about, result, reply, remark.call_key, remark.thinking)


def request_of(store: Store, call_key: str) -> str | None:
    """Return the messages a judge was sent, as text; None where the call was not kept."""
    found = calls.request_of(store, call_key)
    if found is None:
        return None
    request = json.loads(found)
    messages = request.get("messages", [])
    if not messages:
        return json.dumps(request, indent=2, ensure_ascii=False)
    return "\n\n".join(f"[{turn.get('role')}]\n{turn.get('content')}" for turn in messages)
