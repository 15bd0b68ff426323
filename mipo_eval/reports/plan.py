"""Before a run: exact judge calls, tokens, money, minutes, and what the suite can detect.

Nothing is asked and nothing is written. What the store has is subtracted; what cannot be known
before the responses exist is counted at its most and said so.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mipo_eval.errors import ConfigError
from mipo_eval.evaluation.controls import CONTROLS, control_texts
from mipo_eval.evaluation.outcomes import Outcomes
from mipo_eval.judges.judge import Judge, rating_requests
from mipo_eval.keys import canonical_json
from mipo_eval.metrics.win_rate import METRIC_NAMES
from mipo_eval.models.base import Limits, Request
from mipo_eval.models.prices import FREE, HOW_TO_PRICE, Metered, load_prices
from mipo_eval.models.spec import read_name
from mipo_eval.records import Item, Response, text_key
from mipo_eval.reports.names import RowName, row_name, stored_rules
from mipo_eval.stats.bootstrap import Crossed, Dependence, Floats, Labels
from mipo_eval.stats.estimates import design_effect
from mipo_eval.stats.power import Design, paired_correlation, rate_sd
from mipo_eval.stats.seeds import seed_spread
from mipo_eval.store.calls import CallSize, answered_calls, call_sizes
from mipo_eval.store.engine import Store
from mipo_eval.store.responses import Answered, texts_of
from mipo_eval.store.runs import list_runs
from mipo_eval.store.verdicts import rated

_WINDOW = 256


_SAMPLE = 200


_CHARACTERS_A_TOKEN = 4.0
"""Of English text, for want of a tokenizer."""


_TOKENS_A_MESSAGE = 8
"""For the roles and marks of a chat template."""


_BY_RULE = {"checker", "scripted"}


WANTED_DIFFERENCE = 3.0
"""Points: what the paper colours as a difference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """A number and where it comes from; None with a reason where it cannot be known."""

    value: float | None
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """What one task can detect."""

    task: str
    n: int
    """Items with preferences and a reference."""
    prompts: int
    """Groups of items that share a prompt; a design effect above 1 is theirs and the users'."""
    users: int
    """Users who are known; 0 where none are."""
    detectable_difference: float | None
    """Smallest difference of two win rates, in points (5 % two-sided, power 80 %)."""
    needed: int | None
    """Items needed for `WANTED_DIFFERENCE` points; None: with so few seeds no number is enough, or
    there is no win rate."""
    seeds: int
    """Training seeds of each method."""
    seed_sd: float | None
    """Points by which seeds of a method differ (standard deviation); None: not known."""
    assumed: str
    """Where spread and correlation come from, and which items have no win rate, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgingPlan:
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
    seeds: int = 1
    """Training seeds of each method."""
    seed_sd: float | None = None
    """Points by which seeds of a method differ; None: measured on stored seeds."""
    tokenizer: str | None = None
    """Folder with a tokenizer.json, or the file."""
    controls: bool = False
    """Whether control entrants are judged too."""
    not_counted: tuple[str, ...] = ()
    """What the caller knows will be done besides."""


def plan(
    store: Store,
    tasks: Iterable[tuple[str, Iterable[Item]]],
    judge: Judge,
    *,
    generation_key: str | None,
    assumed: Assumed,
) -> JudgingPlan:
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
    told = texts_of(store, generation_key) if generation_key else {}
    texts = {key: text for key, (text, _) in told.items() if text is not None}
    others = _control_texts(listed, texts) if assumed.controls else {}
    rated_texts = {item.key: [*_texts(item, texts), *others.get(item.key, ())] for item in items}
    asked = _to_ask(store, judge, items, rated_texts)
    have = sum(item.key in texts for item in items)
    needs = needs_of(store, judge, asked.requests, assumed.tokenizer)
    return JudgingPlan(
        items=len(items),
        responses_to_make=len(items) - have,
        responses_stored=have,
        ratings=asked.ratings,
        known=asked.known,
        in_ledger=asked.in_ledger,
        calls=len(asked.requests),
        on_unmade=asked.on_unmade,
        prompt_tokens=needs.prompt_tokens,
        completion_tokens=needs.completion_tokens,
        cost=needs.cost,
        minutes=needs.minutes,
        power=tuple(_power(store, judge, task, of_task, assumed) for task, of_task in listed),
        not_counted=assumed.not_counted,
    )


class Needs(NamedTuple):
    """What calls of a judge take."""

    prompt_tokens: Amount
    completion_tokens: Amount
    cost: Amount
    minutes: Amount


def needs_of(
    store: Store, judge: Judge, requests: Sequence[Request], tokenizer: str | None = None
) -> Needs:
    """Return what it takes to ask a judge all this.

    Raises:
        ConfigError: the named tokenizer is not there.
    """
    stored = call_sizes(store, judge.key, _SAMPLE)
    prompt, completion = _tokens(judge, requests, stored, tokenizer)
    minutes = _minutes(len(requests), stored)
    if judge.backend.identity["backend"] in _BY_RULE:
        minutes = Amount(value=0, source="a rule takes almost no time")
    return Needs(prompt, completion, _cost(judge, prompt, completion), minutes)


@dataclass(slots=True)
class _Asked:
    """What there is to ask, and what there is not."""

    requests: list[Request] = field(default_factory=list)
    on_unmade: int = 0
    ratings: int = 0
    known: int = 0
    in_ledger: int = 0


def _to_ask(
    store: Store,
    judge: Judge,
    items: Sequence[Item],
    texts: Mapping[str, Sequence[tuple[str, bool]]],
) -> _Asked:
    """Return each distinct request that neither verdicts nor ledger answer."""
    asked = _Asked()
    seen: set[str] = set()
    source = iter(items)
    while window := list(islice(source, _WINDOW)):
        known = rated(store, judge.key, {item.key for item in window})
        wanted: dict[str, tuple[Request, bool]] = {}
        for item in window:
            for place, (text, made) in enumerate(texts[item.key]):
                asked.ratings += len(item.preferences)
                for aspect, request in enumerate(rating_requests(judge, item, text)):
                    if made and (item.key, text_key(text), aspect) in known:
                        asked.known += 1
                        continue
                    # A text that does not exist yet makes a request of its own.
                    own = f"{item.key} {place} {aspect}"
                    key = request.key(judge.backend.identity) if made else own
                    if key not in seen:
                        seen.add(key)
                        wanted[key] = request, made
        answered = answered_calls(store, [key for key, (_, made) in wanted.items() if made])
        asked.in_ledger += len(answered)
        left = [call for key, call in wanted.items() if key not in answered]
        asked.requests += [request for request, _ in left]
        asked.on_unmade += sum(not made for _, made in left)
    return asked


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


def _tokens(
    judge: Judge, asked: Sequence[Request], stored: Sequence[CallSize], tokenizer: str | None
) -> tuple[Amount, Amount]:
    """Return prompt and reply tokens of the requests, from the best source there is.

    Raises:
        ConfigError: the named tokenizer is not there.
    """
    if judge.backend.identity["backend"] in _BY_RULE:
        return Amount(value=0, source="a rule uses no tokens"), Amount(value=0, source="")
    told = _mean([call.completion_tokens for call in stored])
    if told is None:
        most = judge.sampling.max_tokens * len(asked)
        completion = Amount(value=most, source=f"at most {judge.sampling.max_tokens} per reply")
    else:
        completion = Amount(
            value=told * len(asked), source=f"mean of {len(stored)} calls in the store"
        )
    file = _tokenizer_file(judge, tokenizer)
    if file is not None:
        return Amount(value=_count(file, asked), source=f"tokenizer {file.parent.name}"), completion
    prompts = [(call.prompt_tokens, call.characters) for call in stored if call.prompt_tokens]
    if prompts:
        size = sum(len(canonical_json(request.to_json())) for request in asked)
        source = f"estimated from {len(stored)} calls of this judge in the store"
        rate = sum(n for n, _ in prompts) / sum(characters for _, characters in prompts)
        return Amount(value=size * rate, source=source), completion
    size = sum(len(turn.content) for request in asked for turn in request.messages)
    source = f"rough estimate: {_CHARACTERS_A_TOKEN:g} characters per token (--tokenizer counts)"
    return Amount(value=rough_tokens(size, len(asked)), source=source), completion


def rough_tokens(characters: int, requests: int) -> float:
    """Return about how many tokens requests of so many characters in all have."""
    return characters / _CHARACTERS_A_TOKEN + _TOKENS_A_MESSAGE * requests


def _tokenizer_file(judge: Judge, named: str | None) -> Path | None:
    """Return the judge's tokenizer: the one named, or that of a checkpoint on this machine.

    Raises:
        ConfigError: the named one is not there.
    """
    own = read_name(judge.spec)
    target = named or (own.name if own.kind else "")
    path = Path(target)
    file = path / "tokenizer.json" if path.is_dir() else path
    if file.name.endswith(".json") and file.is_file():
        return file.absolute()
    if named:
        raise ConfigError(f"--tokenizer {named}: no tokenizer.json is there")
    return None


def _count(file: Path, asked: Sequence[Request]) -> float:
    try:
        from tokenizers import Tokenizer
    except ModuleNotFoundError:
        raise ConfigError("counting tokens needs tokenizers: pip install 'mipo-eval[hf]'") from None
    tokenizer = Tokenizer.from_file(str(file))
    total = 0
    source = iter(asked)
    while window := list(islice(source, _WINDOW)):
        texts = [turn.content for request in window for turn in request.messages]
        encoded = tokenizer.encode_batch(texts, add_special_tokens=False)
        total += sum(len(text.ids) + _TOKENS_A_MESSAGE for text in encoded)
    return total


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _cost(judge: Judge, prompt: Amount, completion: Amount) -> Amount:
    """Return the dollars for that many tokens by the price table."""
    if not isinstance(judge.backend, Metered) or judge.backend.price == FREE:
        return Amount(value=0, source="free: a rule, or your own server")
    prices, price = load_prices(), judge.backend.price
    if price is None:
        model = judge.backend.identity["model"]
        why = f"no price of {model} in {prices.as_of}: {HOW_TO_PRICE}"
        return Amount(value=None, source=why)
    dollars = price.cost(round(prompt.value or 0), round(completion.value or 0))
    return Amount(value=dollars, source=f"prices of {prices.as_of}, without --batch")


def _minutes(n_calls: int, stored: Sequence[CallSize]) -> Amount:
    """Return how long the calls take at the usual number in flight."""
    if n_calls == 0:
        return Amount(value=0, source="there is nothing to ask")
    seconds = _mean([call.seconds for call in stored])
    if seconds is None:
        return Amount(value=None, source="the store has no call of this judge to measure")
    at_once = Limits().concurrency
    source = f"{seconds:.2f} s per call (mean of {len(stored)}), {at_once} at the same time"
    return Amount(value=max(n_calls / at_once, 1.0) * seconds / 60, source=source)


def _power(store: Store, judge: Judge, task: str, items: Sequence[Item], assumed: Assumed) -> Power:
    """Return what the task can detect between two methods rated on the same items."""
    judged = np.array([bool(item.preferences and item.reference) for item in items], dtype=bool)
    n = int(judged.sum())
    table, methods = _stored_outcomes(store, judge, task, items)
    groups = [Crossed(item.group, item.user_id) for item in items]
    spreads = [float(np.nanstd(v)) for v in table.T]
    pairs = [paired_correlation(a, b) for a, b in combinations(table.T, 2)]
    # Of differences where there are two runs: what two methods share on a prompt cancels out.
    measured = [a - b for a, b in combinations(table.T, 2)] or list(table.T)
    effects = [design_effect(v, groups) for v in measured]
    spread, rho, effect = _mean(spreads), _mean(pairs), _mean(effects)
    if assumed.rate is not None or not spread:
        spread = rate_sd(50.0 if assumed.rate is None else assumed.rate)
        given = assumed.rate is not None
        said = f"win rate {assumed.rate:g} % (given)" if given else "win rate 50 % (assumed)"
    else:
        said = f"spread of {len(spreads)} stored runs (measured)"
    if assumed.rho is not None and not -1 <= assumed.rho <= 1:
        raise ConfigError(f"--rho {assumed.rho:g} is not a correlation: give a number from -1 to 1")
    correlation = assumed.rho if assumed.rho is not None else rho or 0.0
    how = "given" if assumed.rho is not None else "measured" if rho is not None else "assumed"
    seed_sd = assumed.seed_sd
    if seed_sd is None:
        seed_sd = _seed_sd(table, methods, groups)
    n_groups = int(Dependence.of(groups, len(items)).coarsest(judged).max(initial=-1)) + 1
    design = Design(
        sd_first=spread,
        sd_second=spread,
        correlation=correlation,
        design_effect=max(effect or 1.0, 1.0),
        seed_sd=seed_sd or 0.0,
        items_per_group=n / n_groups if n_groups else None,
    )
    known = "measured" if effect is not None else "assumed"
    told = (
        f"{said}, correlation {correlation:.2f} ({how}), design effect "
        f"{design.design_effect:.2f} ({known}){_about_seeds(assumed, seed_sd)}"
    )
    lacks = {
        "no reference": sum(not item.reference for item in items),
        "no preferences": sum(not item.preferences for item in items),
    }
    left_out = "".join(f"; {count:,} items have {what}" for what, count in lacks.items() if count)
    return Power(
        task=task,
        n=n,
        detectable_difference=design.detectable(n, assumed.seeds) if n else None,
        needed=design.items_needed(WANTED_DIFFERENCE, assumed.seeds) if n else None,
        seeds=assumed.seeds,
        seed_sd=seed_sd,
        prompts=len({item.group for item in items}),
        users=len({item.user_id for item in items if item.user_id is not None}),
        assumed=told + left_out if n else f"no win rate{left_out}",
    )


def _about_seeds(assumed: Assumed, seed_sd: float | None) -> str:
    if assumed.seeds == 1:
        return "; one seed per method, so the result is about these checkpoints only"
    how = "given" if assumed.seed_sd is not None else "measured"
    spread = "not known, taken as 0" if seed_sd is None else f"{seed_sd:.1f} points ({how})"
    return f"; {assumed.seeds} seeds per method, standard deviation between them {spread}"


def _seed_sd(table: Floats, methods: Sequence[RowName], groups: Labels) -> float | None:
    """Return by how much means of seeds differ, over all methods with several; None without."""
    found = []
    for method in dict.fromkeys(methods):
        own = table[:, [column for column, name in enumerate(methods) if name == method]]
        if own.shape[1] > 1:
            found.append(seed_spread(own[:, None], groups).variances()[0] * own.shape[1])
    return float(np.sqrt(np.mean(found))) if found else None


def _stored_outcomes(
    store: Store, judge: Judge, task: str, items: Sequence[Item]
) -> tuple[Floats, list[RowName]]:
    """Return (items, runs) win/loss values that this judge gave on these items before.

    And what each run is called: seeds of a method are called alike.
    """
    rules = stored_rules(store)
    for sheet in Outcomes(store).sheets(list_runs(store), METRIC_NAMES["win"], judge.key):
        if sheet.task == task:
            place = {key: row for row, key in enumerate(sheet.keys)}
            nothing = np.full((1, len(sheet.runs)), np.nan)
            # The last row stands for an item that no run has had.
            table = np.vstack([sheet.values, nothing])[[place.get(i.key, -1) for i in items]]
            known = np.flatnonzero(~np.isnan(table).all(axis=0))
            names = [row_name(sheet.runs[column], rules)[0] for column in known.tolist()]
            return np.asarray(table[:, known]), names
    return np.empty((len(items), 0)), []


def plan_json(made: JudgingPlan) -> dict[str, Any]:
    """Return a plan as `--json` shows it."""
    return asdict(made) | {"wanted_difference": WANTED_DIFFERENCE}
