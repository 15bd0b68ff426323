"""Before a run: exact judge calls, tokens, money, minutes, and what the suite can detect.

Nothing is asked and nothing is written. What the store has is subtracted; what cannot be known
before the responses exist is counted at its most and said so.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import sqlalchemy as sa

from mipo_eval.errors import ConfigError
from mipo_eval.evaluation.controls import CONTROLS, control_texts
from mipo_eval.evaluation.outcomes import outcome_sheets
from mipo_eval.judges import Judge, rating_requests
from mipo_eval.metrics.win_rate import METRIC_NAMES
from mipo_eval.models.base import Request
from mipo_eval.records import Item, Response, text_key
from mipo_eval.reports.expenses import Amount, cost, mean, measure, minutes, tokens
from mipo_eval.stats import Design, design_effect, paired_correlation, rate_sd
from mipo_eval.store import Store
from mipo_eval.store.responses import Answered
from mipo_eval.store.runs import list_runs
from mipo_eval.store.tables import calls, responses
from mipo_eval.store.verdicts import rated

_WINDOW = 256
WANTED_DIFFERENCE = 3.0
"""Points: what the paper colours as a difference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """What one task can detect."""

    task: str
    n: int
    """Items with preferences and a reference."""
    detectable: float | None
    """Smallest difference of two win rates, in points (5 % two-sided, power 80 %)."""
    needed: int | None
    """Items needed for `WANTED_DIFFERENCE` points."""
    assumed: str
    """Where spread and correlation come from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run will need."""

    items: int
    responses_to_make: int
    responses_stored: int
    ratings: int
    """Ratings the judge has to give in all, of responses and references."""
    known: int
    """Of these, ratings that are verdicts already."""
    in_ledger: int
    """Of the others, those whose reply is in the ledger: read again without a call."""
    calls: int
    """What is left to ask."""
    on_unmade: int
    """Of the calls, those about responses not made yet: fewer if some come out empty."""
    prompt_tokens: Amount
    completion_tokens: Amount
    cost: Amount
    """US dollars."""
    minutes: Amount
    power: tuple[Power, ...]
    not_counted: tuple[str, ...] = ()
    """What the run will do besides, one line each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumed:
    """What the user says where nothing is measured."""

    rate: float | None = None
    """Win rate in percent; None: measured on stored runs, else 50, the worst case."""
    rho: float | None = None
    """Correlation of two methods on an item; None: measured, else 0, as if unpaired."""
    tokenizer: str | None = None
    """Folder with a tokenizer.json, or the file."""
    controls: bool = False
    """Whether control entrants are judged too."""
    not_counted: tuple[str, ...] = ()
    """What the caller knows will be done besides."""


class _Call(NamedTuple):
    request: Request
    made: bool
    """Whether the text to be rated exists."""


def plan(
    store: Store,
    tasks: Iterable[tuple[str, Iterable[Item]]],
    judge: Judge,
    *,
    generation_key: str | None,
    assumed: Assumed,
) -> Plan:
    """Return what judging a model's responses to these items will need.

    Args:
        store: what is subtracted.
        tasks: the suite's tasks with their items.
        judge: who will rate.
        generation_key: of the responses; None: a new model, without any response yet.
        assumed: rate, correlation and tokenizer, where the user names them.

    Raises:
        ConfigError: the tokenizer cannot be read, or a rate or correlation is impossible.
    """
    listed = [(task, list(items)) for task, items in tasks]
    items = [item for _, of_task in listed for item in of_task]
    texts = _stored_texts(store, generation_key)
    counts = _Counts()
    others = _control_texts(listed, texts) if assumed.controls else {}
    rated_texts = {item.key: [*_texts(item, texts), *others.get(item.key, ())] for item in items}
    asked = list(_to_ask(store, judge, items, rated_texts, counts))
    stored = sum(1 for item in items if texts.get(item.key) is not None)
    measured = measure(store, judge)
    prompt, completion = tokens(
        judge, [call.request for call in asked], measured, assumed.tokenizer
    )
    return Plan(
        items=len(items),
        responses_to_make=len(items) - stored,
        responses_stored=stored,
        ratings=counts.ratings,
        known=counts.known,
        in_ledger=counts.in_ledger,
        calls=len(asked),
        on_unmade=sum(not call.made for call in asked),
        prompt_tokens=prompt,
        completion_tokens=completion,
        cost=cost(judge, prompt, completion),
        minutes=minutes(len(asked), measured),
        power=tuple(_power(store, judge, task, of_task, assumed) for task, of_task in listed),
        not_counted=assumed.not_counted,
    )


@dataclass(slots=True)
class _Counts:
    ratings: int = 0
    known: int = 0
    in_ledger: int = 0


def _stored_texts(store: Store, generation_key: str | None) -> dict[str, str]:
    if generation_key is None:
        return {}
    query = sa.select(responses.c.item_key, responses.c.text).where(
        responses.c.generation_key == generation_key, responses.c.text.is_not(None)
    )
    with store.read() as connection:
        return {key: text for key, text in connection.execute(query)}


def _to_ask(
    store: Store,
    judge: Judge,
    items: Sequence[Item],
    texts: Mapping[str, Sequence[tuple[str, bool]]],
    counts: _Counts,
) -> Iterator[_Call]:
    """Yield each distinct request that neither verdicts nor ledger answer."""
    seen: set[str] = set()
    source = iter(items)
    while window := list(islice(source, _WINDOW)):
        known = rated(store, judge.key, {item.key for item in window})
        wanted: dict[str, _Call] = {}
        for item in window:
            for place, (text, made) in enumerate(texts[item.key]):
                counts.ratings += len(item.preferences)
                requests = rating_requests(judge, item, text)
                for aspect, request in enumerate(requests):
                    if made and (item.key, text_key(text), aspect) in known:
                        counts.known += 1
                        continue
                    # A text that does not exist yet makes a request of its own.
                    key = (
                        request.key(judge.backend.identity)
                        if made
                        else f"{item.key} {place} {aspect}"
                    )
                    if key not in seen:
                        seen.add(key)
                        wanted[key] = _Call(request, made)
        answered = _in_ledger(store, [key for key, call in wanted.items() if call.made])
        counts.in_ledger += len(answered)
        yield from (call for key, call in wanted.items() if key not in answered)


def _texts(item: Item, texts: Mapping[str, str]) -> Iterator[tuple[str, bool]]:
    """Yield the texts that will be rated, and whether each exists.

    The reference stands in for a response that does not exist: only its length is used.
    """
    response = texts.get(item.key)
    if response is None:
        yield item.reference or item.prompt, False
    elif response.strip():
        yield response, True
    if item.reference:
        yield item.reference, True


def _control_texts(
    tasks: Sequence[tuple[str, Sequence[Item]]], texts: Mapping[str, str]
) -> dict[str, list[tuple[str, bool]]]:
    """Return, by item, what --controls rates beside responses and references.

    Another user's response that does not exist yet is counted where there is another user.
    """
    found: dict[str, list[tuple[str, bool]]] = defaultdict(list)
    for task, items in tasks:
        entries = [_entry(task, item, texts.get(item.key)) for item in items]
        for control in CONTROLS:
            if control != "reference":  # rated in any case
                for item, text in zip(items, control_texts(control, entries, seed=0), strict=True):
                    if text:
                        found[item.key].append((text, True))
        contexts: dict[str, set[str]] = defaultdict(set)
        for item in items:
            contexts[item.group].add(item.context)
        for item in items:
            if item.key not in texts and len(contexts[item.group]) > 1:
                found[item.key].append((item.reference or item.prompt, False))
    return found


def _entry(task: str, item: Item, text: str | None) -> Answered:
    response = None if text is None else Response(item_key=item.key, text=text, prompt_hash="")
    return Answered(0, task, item, response)


def _in_ledger(store: Store, keys: Sequence[str]) -> set[str]:
    found: set[str] = set()
    with store.read() as connection:
        for start in range(0, len(keys), 500):
            part = keys[start : start + 500]
            query = sa.select(calls.c.call_key).where(
                calls.c.call_key.in_(part), calls.c.status == "ok"
            )
            found |= set(connection.execute(query).scalars())
    return found


def _power(store: Store, judge: Judge, task: str, items: Sequence[Item], assumed: Assumed) -> Power:
    """Return what the task can detect between two methods rated on the same items."""
    n = sum(1 for item in items if item.preferences and item.reference)
    table, groups = _stored_outcomes(store, judge, task, items)
    spreads = [float(np.nanstd(v)) for v in table.T if not np.isnan(v).all()]
    pairs = [
        paired_correlation(table[:, a], table[:, b])
        for a in range(table.shape[1])
        for b in range(a + 1, table.shape[1])
    ]
    effects = [design_effect(v, groups) for v in table.T if not np.isnan(v).all()]
    spread, rho, effect = mean(spreads), mean(pairs), mean(effects)
    if assumed.rate is not None or not spread:
        spread = rate_sd(50.0 if assumed.rate is None else assumed.rate)
        said = "win rate 50 %" if assumed.rate is None else f"win rate {assumed.rate:g} %"
    else:
        said = f"spread of {len(spreads)} stored runs"
    if assumed.rho is not None and not -1 <= assumed.rho <= 1:
        raise ConfigError(f"--rho {assumed.rho:g} is no correlation: give -1 to 1")
    correlation = assumed.rho if assumed.rho is not None else rho or 0.0
    how = "given" if assumed.rho is not None else "measured" if rho is not None else "assumed"
    design = Design(
        sd_first=spread,
        sd_second=spread,
        correlation=correlation,
        design_effect=max(effect or 1.0, 1.0),
    )
    known = "measured" if effect is not None else "assumed"
    return Power(
        task=task,
        n=n,
        detectable=design.detectable(n) if n else None,
        needed=design.items_needed(WANTED_DIFFERENCE),
        assumed=f"{said}; correlation {correlation:.2f} {how}; design effect "
        f"{design.design_effect:.2f} {known}",
    )


def _stored_outcomes(
    store: Store, judge: Judge, task: str, items: Sequence[Item]
) -> tuple[Any, list[str | None]]:
    """Return (items, runs) win/loss values that this judge gave on these items before."""
    keys = {item.key: row for row, item in enumerate(items)}
    groups: list[str | None] = [item.group for item in items]
    columns = []
    for sheet in outcome_sheets(store, list_runs(store), METRIC_NAMES["win"], judge.key):
        if sheet.task != task:
            continue
        for values in sheet.values.T:
            column = np.full(len(items), np.nan)
            for key, value in zip(sheet.keys, values, strict=True):
                if key in keys:
                    column[keys[key]] = value
            if not np.isnan(column).all():
                columns.append(column)
    return np.stack(columns, axis=1) if columns else np.empty((len(items), 0)), groups


def plan_json(made: Plan) -> dict[str, Any]:
    """Return a plan as `--json` shows it."""
    from dataclasses import asdict

    return asdict(made) | {"wanted_difference": WANTED_DIFFERENCE}
