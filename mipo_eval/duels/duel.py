"""Judging entrants against each other, and what the verdicts come to."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from mipo_eval import __version__
from mipo_eval.duels.entrants import Entrant, Field, Text, responses_of
from mipo_eval.errors import ConfigError
from mipo_eval.judges.judge import Judge
from mipo_eval.judges.panel import Balance, Panel, balance, panel_outcomes
from mipo_eval.judges.run import TextPair, choose, is_open, is_unrated, rate
from mipo_eval.keys import digest
from mipo_eval.models.prices import spending
from mipo_eval.progress import Progress, Stage, run_shown
from mipo_eval.records import Item, text_key
from mipo_eval.signature import Signature, join, short
from mipo_eval.stats import Crossed, adjust
from mipo_eval.store import Store
from mipo_eval.store.verdicts import pair_verdicts, totals
from mipo_eval.verdict import NO_PREFERENCES, PairVerdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Two entrants over the items of one task, as one judge or the panel sees them."""

    task: str
    first: Entrant
    second: Entrant
    judge: str
    """Its name; of a panel, how it was made."""
    judge_key: str | None
    """None for a panel."""
    protocol: str
    balance: Balance
    signature: Signature
    entries: tuple["Entry", ...]
    """One per item of the task, in the suite's order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One item of a match."""

    item: Item
    first: Text
    second: Text
    outcome: PairVerdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is made of the verdicts."""

    panel: Panel | None = None
    seed: int = 0


def fight(
    store: Store,
    field: Field,
    entrants: Sequence[Entrant],
    judges: Sequence[Judge],
    wanted: Wanted,
    progress: Progress,
) -> list[Match]:
    """Judge the first entrant against each of the others.

    Args:
        store: where responses are, and where calls, choices and ratings go.
        field: the items.
        entrants: two or more; the first is compared with each of the others.
        judges: each by its own protocol; a judge that rates prefers what it rates higher.
        wanted: whether judges form a panel, and the seed of intervals.
        progress: told how far it is.

    Returns:
        A match for each other entrant, task and judge, panel last.

    Raises:
        ConfigError: an entrant has no response to any item, or two have the same responses.
        BackendError: a judge cannot be asked, or the limit on the cost is reached; what was
            answered is stored.
    """
    _check(entrants, judges, wanted.panel)
    items = field.items
    texts = {entrant.label: responses_of(store, entrant, items) for entrant in entrants}
    a, *others = entrants
    pairs = {b.label: list(zip(texts[a.label], texts[b.label], strict=True)) for b in others}
    names = _names(judges)
    sheets: dict[str, list[_Sheet]] = {b.label: [] for b in others}
    for judge in judges:
        ask = _ask_to_rate if judge.protocol == "rubric" else _ask_to_choose
        ask(store, judge, field, list(pairs.values()), progress)
        for b in others:
            sheet = _sheet(store, judge, items, pairs[b.label])
            sheets[b.label].append(replace(sheet, name=names[judge.key]))
    if wanted.panel:
        for of_pair in sheets.values():
            of_pair.append(_panel(of_pair, wanted.panel))
    matches = [
        _match(field, task, (a, b), sheet, pairs[b.label], wanted.seed)
        for task in dict.fromkeys(task for task, _ in field.entries)
        for b in others
        for sheet in sheets[b.label]
    ]
    return _corrected(matches) if len(others) > 1 else matches


def _check(entrants: Sequence[Entrant], judges: Sequence[Judge], panel: Panel | None) -> None:
    if len(entrants) < 2:
        raise ConfigError("a duel needs two entrants: mipo-eval judge A B --suite S --judge J")
    seen: dict[str, str] = {}
    for entrant in entrants:
        if entrant.key in seen:
            raise ConfigError(
                f"{entrant.name} has the very responses of {seen[entrant.key]}: nothing to compare"
            )
        seen[entrant.key] = entrant.name
    if panel and len(judges) < 2:
        raise ConfigError("a panel needs two judges or more: repeat --judge")


def _names(judges: Sequence[Judge]) -> dict[str, str]:
    """Return what tables call each judge; of two with one name, with the key's beginning."""
    count = Counter(judge.name for judge in judges)
    return {
        judge.key: judge.name if count[judge.name] == 1 else f"{judge.name} ({short(judge.key)})"
        for judge in judges
    }


_Texts = Sequence[tuple[Text, Text]]
"""Per item what the two entrants answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sheet:
    """What one judge says of one pair of entrants, over all items."""

    name: str
    key: str | None
    protocol: str
    about: Mapping[str, str]
    outcomes: Sequence[PairVerdict]


def _ask_to_choose(
    store: Store, judge: Judge, field: Field, pairs: list[_Texts], progress: Progress
) -> None:
    wanted = [pair for texts in pairs for pair in _both(field.items, texts)]
    verdicts = pair_verdicts(store, judge.key, [pair.key for pair in wanted])
    if any(verdict.winner is None and is_open(verdict.reason) for verdict in verdicts):
        asyncio.run(judge.backend.check())
    stage = Stage(f"choices by {judge.name}", 2 * len(wanted), partial(spending, judge.backend))
    run_shown(choose(store, judge, wanted, advance=progress.advance), progress, stage)


def _ask_to_rate(
    store: Store, judge: Judge, field: Field, pairs: list[_Texts], progress: Progress
) -> None:
    wanted = {
        (item.key, text_key(text)): (item, text)
        for texts in pairs
        for item, sides in zip(field.items, texts, strict=True)
        for text, _ in sides
        if text is not None and all(side[0] is not None for side in sides)
    }
    known = totals(store, judge.key, field.list_key)
    sizes = {key: len(item.preferences) for key, (item, _) in wanted.items()}
    if any(is_unrated(known.get(key), size) for key, size in sizes.items()):
        asyncio.run(judge.backend.check())
    stage = Stage(f"ratings by {judge.name}", sum(sizes.values()), partial(spending, judge.backend))
    run_shown(rate(store, judge, wanted.values(), advance=progress.advance), progress, stage)


def _both(items: Sequence[Item], texts: _Texts) -> list[TextPair]:
    """Return the pairs of the items that say what is wanted, and that both have a response to."""
    return [
        TextPair(item, first, second)
        for item, ((first, _), (second, _)) in zip(items, texts, strict=True)
        if item.preferences and first is not None and second is not None
    ]


def _sheet(store: Store, judge: Judge, items: Sequence[Item], texts: _Texts) -> _Sheet:
    """Read from the store what a judge says of two entrants."""
    pairs = [pair.key for pair in _both(items, texts)]
    said = dict(zip(pairs, pair_verdicts(store, judge.key, pairs), strict=True))
    outcomes = []
    for item, (first, second) in zip(items, texts, strict=True):
        if first[0] is None or second[0] is None:
            absent = f"A: {first[1]}" if first[0] is None else f"B: {second[1]}"
            outcomes.append(PairVerdict(winner=None, reason=absent))
        elif not item.preferences:
            outcomes.append(PairVerdict(winner=None, reason=NO_PREFERENCES))
        else:
            outcomes.append(said[TextPair(item, first[0], second[0]).key])
    return _Sheet(
        name=judge.name,
        key=judge.key,
        protocol=judge.protocol,
        about=judge.signature_parts(),
        outcomes=outcomes,
    )


def _panel(sheets: Sequence[_Sheet], how: Panel) -> _Sheet:
    names = "+".join(sheet.about["judge"] for sheet in sheets)
    keys = sorted(str(sheet.key) for sheet in sheets)
    return _Sheet(
        name=f"panel ({how})",
        key=None,
        protocol="/".join(dict.fromkeys(sheet.protocol for sheet in sheets)),
        about={"judge": names, "panel": how, "panel_key": short(digest(keys))},
        outcomes=panel_outcomes([sheet.outcomes for sheet in sheets], how),
    )


def _match(
    field: Field,
    task: str,
    entrants: tuple[Entrant, Entrant],
    sheet: _Sheet,
    texts: _Texts,
    seed: int,
) -> Match:
    rows = [row for row, (name, _) in enumerate(field.entries) if name == task]
    items = [field.entries[row][1] for row in rows]
    outcomes = [sheet.outcomes[row] for row in rows]
    first, second = entrants
    signature = join(
        suite=field.suite,
        items=short(digest([item.key for item in items])),
        first=short(first.key),
        second=short(second.key),
        **sheet.about,
        orders=None if sheet.protocol == "rubric" else "both-agree",
        seed=seed,
        version=__version__,
    )
    return Match(
        task=task,
        first=first,
        second=second,
        judge=sheet.name,
        judge_key=sheet.key,
        protocol=sheet.protocol,
        balance=balance(outcomes, groups=[Crossed(i.group, i.user_id) for i in items], seed=seed),
        signature=signature,
        entries=tuple(
            Entry(
                item=item,
                first=texts[row][0],
                second=texts[row][1],
                outcome=outcome,
            )
            for row, item, outcome in zip(rows, items, outcomes, strict=True)
        ),
    )


def _corrected(matches: Sequence[Match]) -> list[Match]:
    """Correct each judge's p-values for comparing the first entrant with several (Holm)."""
    families: dict[tuple[str, str, str | None], list[int]] = {}
    for number, match in enumerate(matches):
        net = match.balance.net
        if net is not None and net.p_permutation is not None:
            family = match.task, match.judge, match.judge_key
            families.setdefault(family, []).append(number)
    found = list(matches)
    for numbers in families.values():
        nets = [net for number in numbers if (net := found[number].balance.net)]
        adjusted = adjust([net.p_permutation or 0.0 for net in nets], "holm").tolist()
        for number, net, p in zip(numbers, nets, adjusted, strict=True):
            changed = replace(found[number].balance, net=replace(net, p_adjusted=p))
            found[number] = replace(found[number], balance=changed)
    return found
