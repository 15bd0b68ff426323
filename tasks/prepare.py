"""From the published rows of a data set to item files: `mipo-eval data prepare ca|prism|mb`.

Rows become candidates, users are kept apart, a model writes what each user wants, and a report says
what came out. Calls go through the ledger, so nothing is paid for twice and a stopped preparation
continues.
"""

import json
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from mipo_eval.errors import ConfigError, DataError
from mipo_eval.models.base import Backend, Message, Request, Sampling
from mipo_eval.models.thinking import CUT, response_of, take_apart
from mipo_eval.records import Item
from mipo_eval.rows import hub_rows
from mipo_eval.store.calls import Ledger
from mipo_eval.store.engine import Store
from mipo_eval.tasks.datasets import Candidate, Dropped, RawSet, Row, Split, Turns
from mipo_eval.tasks.datasets.ca import CA
from mipo_eval.tasks.datasets.mb import MB
from mipo_eval.tasks.datasets.prism import PRISM
from mipo_eval.tasks.items import write_items
from mipo_eval.tasks.prompt import render_query
from mipo_eval.tasks.sources import first_match, hub_commit, prepared_file, read_rows
from mipo_eval.tasks.split import near_duplicates, split_pools
from mipo_eval.tasks.suites import SUITES
from mipo_eval.tasks.wordings import read_wording, usual

RAW_SETS = {"ca": CA, "prism": PRISM, "mb": MB}

ATTEMPTS = 3
"""Times a model is asked for one value before its item is dropped."""
_HOPELESS = 50
"""Failures without a single success after which the extractor is not asked any further."""
_SHOWN = 2_000
"""Characters of a bad reply that are shown back to the model."""
_REPLY_TOKENS = 512
USUAL = Sampling(max_tokens=_REPLY_TOKENS)
"""How an extractor is asked that is named without a preset."""
_SAMPLES = 3
"""Items, and pairs of near-duplicates, that the report shows."""

Key = TypeVar("Key")
Value = TypeVar("Value")


def raw_set(name: str) -> RawSet:
    """Return a data set by its name.

    Raises:
        ConfigError: it is not one that is prepared.
    """
    if name not in RAW_SETS:
        known = ", ".join(RAW_SETS)
        raise ConfigError(
            f"cannot prepare {name!r}; known: {known} (psoups and prefeval are read as published)"
        )
    return RAW_SETS[name]


def raw_rows(name: str, source: str) -> tuple[Iterator[Row], str]:
    """Return the rows of a data set and what to call their origin.

    The `source` is "hub", "hub@COMMIT", or a file or folder.

    Raises:
        ConfigError: no such data set.
        DataError: nothing is there, or the hub cannot be read.
    """
    spec = raw_set(name)
    where, _, commit = source.partition("@")
    if where == "hub":
        commit = commit or spec.revision or hub_commit(spec.hub)
        return hub_rows(spec.hub, spec.config, commit, "train"), f"{spec.hub}@{commit}"
    path = Path(source)
    if not path.is_file():
        patterns = spec.files["train"]
        if not (found := first_match(path, patterns)):
            raise DataError(
                f"{name}: no {' or '.join(patterns)} at {source}; download it from "
                f"https://huggingface.co/datasets/{spec.hub}, or use --source hub"
            )
        path = found[0]
    return read_rows(path), str(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """What is to be prepared."""

    name: str
    source: str
    """Where the rows come from; opens messages and stands in the report."""
    n_train: int
    n_test: int
    seed: int = 0
    turns: Turns = "first"
    languages: tuple[str, ...] = ("en",)
    """Codes as the data set has them; `all` for every one."""

    def __post_init__(self) -> None:
        step = raw_set(self.name).items_each
        if self.languages != ("en",) and self.name != "ca":
            raise ConfigError(f"{self.name} is in English: leave --language out")
        if self.turns == "all" and self.name == "mb":
            raise ConfigError("mb has no conversations: leave --turns out")
        if min(self.n_train, self.n_test) < step or self.n_train % step or self.n_test % step:
            raise ConfigError(
                f"{self.name}: {self.n_train} training and {self.n_test} test items are asked for; "
                + (f"both must be multiples of {step}" if step > 1 else "both must be at least 1")
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """Who is asked and how, and where the answers are kept."""

    store: Store
    extractor: Backend
    reference: Backend | None = None
    """Writes Multifaceted-Bench's reference responses; None keeps the published ones, which
    follow all four preferences of an instruction at once."""
    extractor_sampling: Sampling = USUAL
    reference_sampling: Sampling = USUAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Where the result is, and the report as it stands in its file."""

    train: Path
    test: Path
    report_file: Path
    report: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return the document that `--json` prints."""
        files = {"train": self.train, "test": self.test, "report_file": self.report_file}
        return {**{name: str(file) for name, file in files.items()}, "report": self.report}


async def prepare(
    plan: Preparation,
    rows: Iterable[Row],
    models: Models,
    data_dir: Path,
    advance: Callable[[int], None] = lambda _: None,
) -> Prepared:
    """Make the item files of a data set, test part first.

    Every model reply is in the store's ledger, so a stopped or failed preparation loses nothing:
    the same call continues it. Equal plan, rows and replies give equal files. `advance` is called
    with how many more entries were finished.

    Raises:
        DataError: rows are not in the known schema, or too few items can be made.
        BackendError: a model cannot be asked.
    """
    work = _Work(plan, rows, models, advance)
    await models.extractor.check()
    if models.reference is not None:
        await models.reference.check()
    pools = split_pools(
        [candidate.owner for candidate in work.candidates],
        [candidate.prompt for candidate in work.candidates],
        n_train=plan.n_train // work.spec.items_each,
        n_test=plan.n_test // work.spec.items_each,
        seed=plan.seed,
    )
    paths: dict[Split, Path] = {}
    parts: dict[Split, list[Item]] = {}
    splits: tuple[Split, ...] = ("test", "train")
    for split in splits:
        pool, size = getattr(pools, split), getattr(plan, f"n_{split}")
        paths[split] = prepared_file(plan.name, data_dir, split)
        parts[split] = await work.fill(split, pool, size)
        write_items(paths[split], parts[split])
    work.dropped["prompt of the test part"] += pools.shared_prompts
    report = {
        "name": plan.name,
        "source": plan.source,
        "seed": plan.seed,
        "turns": plan.turns,
        "languages": list(plan.languages),
        "extractor": " ".join(models.extractor.identity.values()),
        "rows": len(work.candidates),
        "dropped": dict((+work.dropped).most_common()),
        **_report_of_parts(parts["train"], parts["test"]),
    }
    report_file = data_dir / f"{plan.name}-report.json"
    report_file.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return Prepared(
        train=paths["train"], test=paths["test"], report_file=report_file, report=report
    )


class _Work:
    """The candidates of a data set, and what has become of them."""

    def __init__(
        self,
        plan: Preparation,
        rows: Iterable[Row],
        models: Models,
        advance: Callable[[int], None],
    ) -> None:
        self.plan = plan
        self.spec = raw_set(plan.name)
        self.models = models
        self.advance = advance
        self.candidates: list[Candidate] = []
        self.dropped: Counter[str] = Counter()
        for found in self.spec.candidates(rows, plan.source, plan.seed, plan.turns):
            if isinstance(found, Dropped):
                self.dropped[found.reason] += 1
            elif not {found.language, "all"} & set(plan.languages):
                self.dropped[f"language {found.language}"] += 1
            else:
                self.candidates.append(found)

    async def fill(self, split: Split, pool: Sequence[int], wanted: int) -> list[Item]:
        """Make items of candidates, in their order, until there are enough."""
        made: dict[int, list[Item]] = {}
        failed: Counter[str] = Counter()
        problem = ""
        needed = wanted // self.spec.items_each
        untried = iter(pool)
        while len(made) < needed and (batch := list(islice(untried, needed - len(made)))):
            async with aclosing(self._items(batch)) as results:
                async for index, items in results:
                    if isinstance(items, Dropped):
                        failed[items.reason] += 1
                        problem = items.detail or problem
                    else:
                        made[index] = items
                    self.advance(1)
                    if not made and failed.total() >= _HOPELESS:
                        break
            if not made and failed.total() >= _HOPELESS:
                break
        self.dropped.update(failed)
        if len(made) < needed:
            reasons = [f"{reason}: {count}" for reason, count in failed.most_common(3)]
            if problem:
                reasons.append(f"the last one: {problem}")
            raise DataError(
                f"{self.plan.name}: only {len(made) * self.spec.items_each} of {wanted} {split} "
                f"items could be made ({'; '.join(reasons) or 'no more candidates'}): use another "
                "extractor or ask for fewer items; the replies so far are kept and not paid for "
                "again"
            )
        return [item for index in pool if index in made for item in made[index]]

    async def _items(
        self, batch: Sequence[int]
    ) -> AsyncGenerator[tuple[int, list[Item] | Dropped], None]:
        """Yield the items of each candidate of a batch, or why it has none, as they are made."""
        stated: dict[int, list[Item]] = {}
        questions = ((index, self.candidates[index].question()) for index in batch)
        models = self.models
        how = models.extractor_sampling
        replies = extract(models.store, models.extractor, questions, self.spec.parse, how)
        async with aclosing(replies):
            async for index, wishes in replies:
                if isinstance(wishes, Dropped):
                    yield index, wishes
                elif self.models.reference is None:
                    yield index, self.candidates[index].items(wishes)
                else:
                    stated[index] = self.candidates[index].items(wishes)
        if self.models.reference is not None:
            async for result in self._with_references(stated, self.models.reference):
                yield result

    async def _with_references(
        self, stated: Mapping[int, list[Item]], model: Backend
    ) -> AsyncGenerator[tuple[int, list[Item] | Dropped], None]:
        """Replace the references of items; a candidate with one missing has none."""
        wording = read_wording(usual("query", self.plan.name), "query")
        questions = (
            ((index, place), render_query(item, "personalized", wording))
            for index, items in stated.items()
            for place, item in enumerate(items)
        )
        written: dict[int, dict[int, str | Dropped]] = {index: {} for index in stated}
        how = self.models.reference_sampling
        # As long as a response may be that is compared with it.
        room = max(how.max_tokens, SUITES[self.plan.name].max_tokens)
        how = replace(how, max_tokens=room)
        replies_of = extract(self.models.store, model, questions, _some_text, how)
        async with aclosing(replies_of) as replies:
            async for (index, place), reference in replies:
                written[index][place] = reference
                if len(written[index]) == len(stated[index]):
                    yield index, _referenced(stated[index], written.pop(index), model)


def _referenced(
    items: list[Item], written: Mapping[int, str | Dropped], model: Backend
) -> list[Item] | Dropped:
    made = []
    for place, item in enumerate(items):
        reference = written[place]
        if isinstance(reference, Dropped):
            return Dropped(f"reference: {reference.reason}")
        meta = {**item.meta, "reference_by": " ".join(model.identity.values())}
        made.append(item.model_copy(update={"reference": reference, "meta": meta}))
    return made


def _some_text(reply: str) -> str:
    if not reply.strip():
        raise ValueError("it is empty")
    return reply.strip()


async def extract(
    store: Store,
    backend: Backend,
    questions: Iterable[tuple[Key, str]],
    parse: Callable[[str], Value],
    sampling: Sampling = USUAL,
) -> AsyncGenerator[tuple[Key, Value | Dropped], None]:
    """Yield what a model wrote to each question, or why there is nothing, as they complete.

    A bad reply is not simply asked for again (a greedy model would repeat itself): it is shown to
    the model with what is wrong about it.

    Each question comes with a key, which comes back with its reply. Where `parse` cannot read one
    it raises a ValueError that says what is wrong, in words for the model.

    Raises:
        BackendError: the model cannot be asked any more; what it answered is stored.
    """
    ledger: Ledger[tuple[Key, tuple[Message, ...]]] = Ledger(store, backend)
    waiting: Iterable[tuple[Key, tuple[Message, ...]]] = (
        (key, (Message(role="user", content=text),)) for key, text in questions
    )
    for attempt in range(1, ATTEMPTS + 1):
        again: list[tuple[Key, tuple[Message, ...]]] = []
        requests = ((asked, Request(messages=asked[1], sampling=sampling)) for asked in waiting)
        async with aclosing(ledger.ask(requests)) as calls:
            async for (key, messages), call in calls:
                if call.text is None:
                    yield key, Dropped(f"call failed: {call.status}", call.detail or "")
                    continue
                try:
                    value = parse(_answer(call.text))
                except ValueError as error:
                    if attempt < ATTEMPTS:
                        shown = response_of(call.text)
                        again.append((key, (*messages, *_corrected(shown, str(error)))))
                    else:
                        yield key, Dropped("bad reply", str(error))
                    continue
                yield key, value
        waiting = again


def with_room(sampling: Sampling) -> Sampling:
    """Return a judge's settings as an extractor has them: its answers are longer than a verdict."""
    room = max(sampling.max_tokens, _REPLY_TOKENS)
    return replace(sampling, max_tokens=room, logprobs=0)


def _answer(reply: str) -> str:
    response = take_apart(reply).response
    if response is None:
        raise ValueError(f"it was {CUT}: answer at once")
    return response


def _corrected(reply: str, problem: str) -> tuple[Message, Message]:
    """Return the turns that follow a bad reply."""
    complaint = f"That cannot be used: {problem}. Write it again, corrected, and nothing else."
    # An empty turn would be refused by some servers.
    shown = reply[:_SHOWN].strip() or "(empty)"
    return Message(role="assistant", content=shown), Message(role="user", content=complaint)


def _report_of_parts(train: Sequence[Item], test: Sequence[Item]) -> dict[str, Any]:
    """Return counts, lengths, languages and samples of both parts, and what is in both."""
    users = [{item.user_id for item in items} - {None} for items in (train, test)]
    prompts = [sorted({item.transcript for item in items}) for items in (train, test)]
    near = near_duplicates(*prompts)
    return {
        "parts": {"train": _report_of_part(train), "test": _report_of_part(test)},
        "shared_users": len(users[0] & users[1]),  # 0 unless something is wrong
        "shared_prompts": len({*prompts[0]} & {*prompts[1]}),
        "near_duplicates": len(near),
        "near_duplicate_examples": near[:_SAMPLES],
        "samples": [item.model_dump(mode="json") for item in test[:_SAMPLES]],
    }


def _report_of_part(items: Sequence[Item]) -> dict[str, Any]:
    """Return the report of one part; it must hold an item."""
    texts = {
        "prompt": [item.prompt for item in items],
        "context": [item.context for item in items],
        "reference": [item.reference or "" for item in items],
    }
    languages = Counter(item.meta.get("language", "unknown") for item in items)
    return {
        "items": len(items),
        "users": len({item.user_id for item in items} - {None}),
        "prompts": len({item.group_id for item in items}),
        "in_conversations": sum(bool(item.messages) for item in items),
        "languages": dict(languages.most_common()),
        "preferences_per_item": float(np.mean([len(item.preferences) for item in items])),
        "words": {name: _lengths([len(t.split()) for t in own]) for name, own in texts.items()},
    }


def _lengths(words: list[int]) -> dict[str, float]:
    median, p95 = (float(np.quantile(words, share)) for share in (0.5, 0.95))
    return {"median": median, "p95": p95, "longest": max(words)}


def report_lines(report: Mapping[str, Any]) -> list[str]:
    """Return the report as a person reads it."""
    lines = [f"{report['name']} from {report['source']}, split by seed {report['seed']}"]
    for name, part in report["parts"].items():
        words = ", ".join(f"{text} {n['median']:.0f}" for text, n in part["words"].items())
        lines.append(
            f"  {name}: {part['items']} items, {part['users']} users, {part['prompts']} prompts, "
            f"{part['preferences_per_item']:.1f} preferences each; median words: {words}"
        )
    languages: Counter[str] = Counter()
    for part in report["parts"].values():
        languages.update(part["languages"])
    counted = (f"{language} {count}" for language, count in languages.most_common())
    lines.append(f"  languages: {', '.join(counted)}")
    drops = ", ".join(f"{reason}: {count}" for reason, count in report["dropped"].items())
    lines.append(f"  {report['rows']} usable rows; dropped: {drops or 'none'}")
    lines.append(
        f"  in both parts: {report['shared_users']} users, {report['shared_prompts']} prompts, "
        f"{report['near_duplicates']} near-duplicate pairs of prompts"
    )
    return lines
