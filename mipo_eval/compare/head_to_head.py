"""Entrants judged against each other, and what the verdicts come to.

docs/judge.md describes the JSON document.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

from mipo_eval import __version__
from mipo_eval.compare.entrants import Answer, Entrant, Field, responses_of
from mipo_eval.compare.sequence import Stopped, Stopping, judge_until_decided
from mipo_eval.errors import ConfigError
from mipo_eval.judges.judge import Judge
from mipo_eval.judges.panel import Balance, Panel, balance, panel_outcomes, sample_balance
from mipo_eval.judges.run import TextPair, choose, is_open, is_unrated, rate
from mipo_eval.keys import digest
from mipo_eval.models.prices import Metered, spending
from mipo_eval.progress import Progress, Stage, run_shown
from mipo_eval.records import Item, Score, text_key
from mipo_eval.reports.margins import margin_json
from mipo_eval.signature import Signature, join, short
from mipo_eval.stats.bootstrap import Crossed
from mipo_eval.stats.margin import Within, within
from mipo_eval.stats.paired import Comparison
from mipo_eval.stats.significance import adjust
from mipo_eval.store.engine import Store
from mipo_eval.store.verdicts import pair_verdicts, totals
from mipo_eval.verdict import NO_PREFERENCES, NOT_NEEDED, PairVerdict


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
    entries: tuple["JudgedItem", ...]
    """One per item of the task, in the suite's order."""
    margin: Within | None = None
    """How the net win rate stands to a margin, where one was given."""
    stopped: Stopped | None = None
    """How far judging went, where it could stop early."""


class JudgedItem(NamedTuple):
    """One item of a match."""

    item: Item
    first: Answer
    second: Answer
    outcome: PairVerdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """Who is judged against whom, on what, by whom."""

    field: Field
    entrants: Sequence[Entrant]
    """Two or more; the first is compared with each of the others."""
    judges: Sequence[Judge]
    """Each by its own protocol; a judge that rates prefers what it rates higher."""
    panel: Panel | None = None
    """Whether the judges also form a panel."""
    seed: int = 0
    """Of the sampling, and of the order in which items are judged, as the signature says."""
    margin: float | None = None
    """What net win rate would be no difference, in points."""
    until_decided: bool = False
    """Whether judging stops when who is better (or that nobody is, by the margin) is known."""


def fight(store: Store, contest: Contest, progress: Progress) -> list[Match]:
    """Judge the first entrant against each of the others.

    Responses are in the store; calls, choices and ratings go there.

    Returns:
        A match for each other entrant, task and judge, panel last.

    Raises:
        ConfigError: an entrant has no response to any item, or two have the same responses.
        BackendError: a judge cannot be asked, or the limit on the cost is reached; what was
            answered is stored.
    """
    _check(contest)
    field, items = contest.field, contest.field.items
    answers = {e.label: responses_of(store, e, items) for e in contest.entrants}
    a, *others = contest.entrants
    pairs = {b.label: list(zip(answers[a.label], answers[b.label], strict=True)) for b in others}
    sheets: dict[str, list[_Sheet]] = {b.label: [] for b in others}
    count = Counter(judge.name for judge in contest.judges)
    for judge in contest.judges:
        name = judge.name if count[judge.name] == 1 else f"{judge.name} ({short(judge.key)})"
        if not contest.until_decided:
            _ask(store, judge, field, list(pairs.values()), progress)
        for b in others:
            texts, stopped = pairs[b.label], None
            if contest.until_decided:
                stopped = _ask_until_decided(store, judge, contest, texts, progress)
            sheets[b.label].append(_sheet(store, judge, name, field, texts, stopped))
    if contest.panel:
        for of_pair in sheets.values():
            of_pair.append(_panel(of_pair, contest.panel))
    matches = [
        _match(contest, task, b, sheet, pairs[b.label])
        for task in dict.fromkeys(task for task, _ in field.entries)
        for b in others
        for sheet in sheets[b.label]
    ]
    return _corrected(matches, contest.margin)


def _check(contest: Contest) -> None:
    seen: dict[str, str] = {}
    for entrant in contest.entrants:
        if entrant.key in seen:
            raise ConfigError(
                f"{entrant.name} has exactly the same responses as {seen[entrant.key]}: there is "
                "nothing to compare"
            )
        seen[entrant.key] = entrant.name
    if contest.panel and len(contest.judges) < 2:
        raise ConfigError("--panel needs two judges or more: repeat --judge")
    if contest.panel and contest.until_decided:
        raise ConfigError(
            "with --until-decided each judge stops at another item, so few items are judged by "
            "all of them: leave one of --panel and --until-decided out"
        )


_Answers = Sequence[tuple[Answer, Answer]]
"""Per item what the two entrants answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sheet:
    """What one judge says of one pair of entrants, over all items."""

    name: str
    key: str | None
    protocol: str
    about: Mapping[str, str]
    outcomes: Sequence[PairVerdict]
    stopped: Mapping[str, Stopped] | None = None
    """By task, where judging could stop early."""
    sample: Sequence[Sequence[PairVerdict]] = ()
    """What each judge says, where they are a sample of judges."""


def _ask(
    store: Store, judge: Judge, field: Field, pairs: list[_Answers], progress: Progress
) -> None:
    ask = _ask_to_rate if judge.protocol == "rubric" else _ask_to_choose
    ask(store, judge, field, pairs, progress)


def _ask_until_decided(
    store: Store, judge: Judge, contest: Contest, texts: _Answers, progress: Progress
) -> dict[str, Stopped]:
    """Ask a judge about two entrants for as long as it is open who is better."""
    field = contest.field

    def ask(rows: Sequence[int]) -> Sequence[PairVerdict]:
        part = replace(field, entries=[field.entries[row] for row in rows])
        own = [texts[row] for row in rows]
        _ask(store, judge, part, [own], progress)
        return _sheet(store, judge, judge.name, part, own).outcomes

    alpha = 0.05 / (len(contest.entrants) - 1)
    when = Stopping(margin=contest.margin, alpha=alpha, seed=contest.seed)
    return judge_until_decided(field.entries, ask, when)


def _ask_to_choose(
    store: Store, judge: Judge, field: Field, pairs: list[_Answers], progress: Progress
) -> None:
    wanted = [pair for texts in pairs for pair in _both(field.items, texts)]
    if not is_judged(store, judge, field, pairs):
        asyncio.run(judge.backend.check())
    stage = Stage(f"choices by {judge.name}", 2 * len(wanted), partial(spending, judge.backend))
    run_shown(choose(store, judge, wanted, advance=progress.advance), progress, stage)


def _ask_to_rate(
    store: Store, judge: Judge, field: Field, pairs: list[_Answers], progress: Progress
) -> None:
    wanted = _to_rate(field, pairs)
    if not is_judged(store, judge, field, pairs):
        asyncio.run(judge.backend.check())
    total = sum(len(item.preferences) for item, _ in wanted.values())
    stage = Stage(f"ratings by {judge.name}", total, partial(spending, judge.backend))
    run_shown(rate(store, judge, wanted.values(), advance=progress.advance), progress, stage)


def _to_rate(field: Field, pairs: Sequence[_Answers]) -> dict[tuple[str, str], tuple[Item, str]]:
    """Return the texts of the items that both entrants have a response to, by their keys."""
    return {
        (item.key, text_key(text)): (item, text)
        for texts in pairs
        for item, sides in zip(field.items, texts, strict=True)
        for text, _ in sides
        if text is not None and all(side[0] is not None for side in sides)
    }


def is_judged(store: Store, judge: Judge, field: Field, pairs: Sequence[_Answers]) -> bool:
    """Whether a judge has nothing to be asked any more about what entrants answered."""
    if judge.protocol == "rubric":
        known = totals(store, judge.key, field.list_key)
        wanted = _to_rate(field, pairs).items()
        return not any(is_unrated(known.get(k), len(item.preferences)) for k, (item, _) in wanted)
    keys = [pair.key for texts in pairs for pair in _both(field.items, texts)]
    verdicts = pair_verdicts(store, judge.key, keys)
    return not any(one.winner is None and is_open(one.reason) for one in verdicts)


def _both(items: Sequence[Item], texts: _Answers) -> list[TextPair]:
    """Return the pairs of the items that say what is wanted, and that both have a response to."""
    return [
        TextPair(item, first, second)
        for item, ((first, _), (second, _)) in zip(items, texts, strict=True)
        if item.preferences and first is not None and second is not None
    ]


def _sheet(
    store: Store,
    judge: Judge,
    name: str,
    field: Field,
    texts: _Answers,
    stopped: Mapping[str, Stopped] | None = None,
) -> _Sheet:
    """Read from the store what a judge says of two entrants."""
    asked = frozenset[int]().union(*(one.rows for one in stopped.values())) if stopped else None
    pairs = [pair.key for pair in _both(field.items, texts)]
    said = dict(zip(pairs, pair_verdicts(store, judge.key, pairs), strict=True))
    outcomes = []
    for row, (item, (first, second)) in enumerate(zip(field.items, texts, strict=True)):
        if asked is not None and row not in asked:
            outcomes.append(PairVerdict(winner=None, reason=NOT_NEEDED))
        elif first[0] is None or second[0] is None:
            absent = f"A: {first[1]}" if first[0] is None else f"B: {second[1]}"
            outcomes.append(PairVerdict(winner=None, reason=absent))
        elif not item.preferences:
            outcomes.append(PairVerdict(winner=None, reason=NO_PREFERENCES))
        else:
            outcomes.append(said[TextPair(item, first[0], second[0]).key])
    return _Sheet(
        name=name,
        key=judge.key,
        protocol=judge.protocol,
        about=judge.signature_parts(),
        outcomes=outcomes,
        stopped=stopped,
    )


def _panel(sheets: Sequence[_Sheet], how: Panel) -> _Sheet:
    names = "+".join(sheet.about["judge"] for sheet in sheets)
    keys = sorted(str(sheet.key) for sheet in sheets)
    own = [sheet.outcomes for sheet in sheets]
    return _Sheet(
        name=f"panel ({how})",
        key=None,
        protocol="/".join(dict.fromkeys(sheet.protocol for sheet in sheets)),
        about={"judge": names, "panel": how, "panel_key": short(digest(keys))},
        outcomes=panel_outcomes(own, "mean" if how == "sample" else how),
        sample=own if how == "sample" else (),
    )


def _match(contest: Contest, task: str, second: Entrant, sheet: _Sheet, answers: _Answers) -> Match:
    field, first = contest.field, contest.entrants[0]
    rows = [row for row, (name, _) in enumerate(field.entries) if name == task]
    items = [field.entries[row][1] for row in rows]
    outcomes = [sheet.outcomes[row] for row in rows]
    groups = [Crossed(item.group, item.user_id) for item in items]
    stopped = sheet.stopped[task] if sheet.stopped else None
    margin = "" if contest.margin is None else f"/{contest.margin:g}"
    sample = [[of[row] for row in rows] for of in sheet.sample]
    found = (
        sample_balance(sample, groups=groups)
        if sample
        else balance(outcomes, groups=groups, stopped_early=stopped is not None)
    )
    return Match(
        task=task,
        first=first,
        second=second,
        judge=sheet.name,
        judge_key=sheet.key,
        protocol=sheet.protocol,
        balance=found,
        signature=join(
            suite=field.suite,
            items=short(digest([item.key for item in items])),
            first=short(first.key),
            second=short(second.key),
            **sheet.about,
            orders=None if sheet.protocol == "rubric" else "both-agree",
            stop=f"decided{margin}" if stopped else None,
            seed=contest.seed,
            version=__version__,
        ),
        entries=tuple(
            JudgedItem(item, *answers[row], outcome)
            for row, item, outcome in zip(rows, items, outcomes, strict=True)
        ),
        stopped=stopped,
    )


def _corrected(matches: Sequence[Match], margin: float | None) -> list[Match]:
    """Correct each judge's p-values for comparing the first entrant with several (Holm)."""
    # One family is one judge's answers to "is the first better than any of the others"; judges
    # and tasks are different questions, and a comparison without a p-value is none.
    families: dict[tuple[str, str, str | None], list[int]] = {}
    for number, match in enumerate(matches):
        net = match.balance.net
        if net is not None and net.p is not None:
            family = match.task, match.judge, match.judge_key
            families.setdefault(family, []).append(number)
    found = list(matches)
    for numbers in families.values():
        nets = [net for number in numbers if (net := found[number].balance.net)]
        if margin is not None:
            told = within([net.evidence for net in nets], margin)
            for number, one in zip(numbers, told, strict=True):
                found[number] = replace(found[number], margin=one)
        if len(nets) < 2:
            continue
        adjusted = adjust([net.p or 0.0 for net in nets], "holm").tolist()
        for number, net, p in zip(numbers, nets, adjusted, strict=True):
            changed = replace(found[number].balance, net=replace(net, p_adjusted=p))
            found[number] = replace(found[number], balance=changed)
    return found


def contest_json(
    contest: Contest, matches: Sequence[Match], failing: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """Return who was compared, who judged and how it came out; without where they differ most."""
    return {
        "suite": contest.field.suite,
        "n_items": len(contest.field.entries),
        "entrants": [
            {"label": entrant.label, "name": entrant.name}
            | {key: getattr(entrant.run, key, None) for key in ("run_id", "model", "prompting")}
            for entrant in contest.entrants
        ],
        "judges": [_judge(judge, failing.get(judge.key, ())) for judge in contest.judges],
        "matches": [_match_json(match) for match in matches],
    }


def _judge(judge: Judge, failings: Sequence[str]) -> dict[str, Any]:
    usage = judge.backend.usage if isinstance(judge.backend, Metered) else None
    return {
        "judge": judge.name,
        "judge_key": judge.key,
        "spec": judge.spec,
        "protocol": judge.protocol,
        "calls": usage and usage.tries,
        "prompt_tokens": usage and usage.prompt_tokens,
        "completion_tokens": usage and usage.completion_tokens,
        "cost": usage and usage.cost,
        "judge_failings": list(failings),
    }


def sides_json(match: Match) -> dict[str, Any]:
    """Return what every part of the document that is about two entrants begins with."""
    return {"task": match.task, "first": match.first.label, "second": match.second.label}


def _match_json(match: Match) -> dict[str, Any]:
    found = match.balance
    net, rating = found.net, found.rating
    return sides_json(match) | {
        "judge": match.judge,
        "judge_key": match.judge_key,
        "protocol": match.protocol,
        "n": found.win.n,
        "unscored": found.win.unscored,
        "unscored_reasons": dict(found.win.unscored_reasons),
        "wins": net.wins if net else 0,
        "ties": net.ties if net else 0,
        "losses": net.losses if net else 0,
        "win_rate_strict": _rate(found.win),
        "tie_rate": _rate(found.tie),
        "loss_rate": _rate(found.loss),
        "win_rate_half_ties": _rate(found.half),
        "net_win_rate": net
        and _comparison(net) | {"margin": margin_json(match.margin, "net_win_rate")},
        "rating_difference": rating and _comparison(rating),
        "position_flips": found.flips,
        "position_flip_rate": found.flip_rate,
        "identical": found.identical,
        "stopped": match.stopped and _stopped_json(match),
        "signature": match.signature,
    }


def _stopped_json(match: Match) -> dict[str, Any] | None:
    """Return how far judging went; `decided` is a label, "equivalent" or null."""
    stopped = match.stopped
    if stopped is None:
        return None
    labels = {"first": match.first.label, "second": match.second.label}
    return {
        "decided": stopped.decided and labels.get(stopped.decided, stopped.decided),
        "looks": stopped.looks,
        "groups": stopped.groups,
        "groups_of_suite": stopped.n_groups,
        "not_asked": len(match.entries) - len(stopped.rows),
    }


def _rate(score: Score) -> dict[str, Any]:
    return {"value": score.value, "ci95": list(score.ci95) if score.ci95 else None}


def _comparison(found: Comparison) -> dict[str, Any]:
    return {
        "value": found.difference,
        "ci95": list(found.ci95) if found.ci95 else None,
        "p_sign": found.p_sign,
        "p_permutation": found.p,
        "p_adjusted": found.p_adjusted,
        "significant": found.significant(),
        "detectable_difference": found.detectable,
    }
