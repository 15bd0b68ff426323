"""From a suite's training items to the examples of a job, whatever the method learns from."""

import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any

from mipo_eval.errors import ConfigError, DataError
from mipo_eval.judges.prompt import neutral
from mipo_eval.keys import digest
from mipo_eval.models.lm_eval import Decoding
from mipo_eval.progress import Progress
from mipo_eval.records import Item, Response
from mipo_eval.signature import short
from mipo_eval.store import Store
from mipo_eval.suites import Suite, SuiteTask
from mipo_eval.tasks.prompt import query_hash, render_query
from mipo_eval.tasks.sources import load_source
from mipo_eval.training.contrastive import with_other_contexts
from mipo_eval.training.job import Example
from mipo_eval.training.pairs import build_pairs, plan_draws, usable
from mipo_eval.training.recipes import ItemSettings, Recipe
from mipo_eval.training.sample import Sampler, draw, load_items

Messages = tuple[Mapping[str, str], ...]
_REVISION = "mipo_verbatim"
"""The lm-eval task that asks a prompt as it stands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingItems:
    """The items of one data set."""

    task: SuiteTask
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """What a method is to learn from, and what was left out."""

    examples: tuple[Example, ...]
    items: int
    dropped: Mapping[str, int] = field(default_factory=dict)
    dropped_negatives: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Maker:
    """Makes examples: a recipe, who draws responses, and where they are kept."""

    recipe: Recipe
    suite: Suite
    sampler: Sampler
    store: Store
    progress: Progress
    seed: int

    def make(self, data: Sequence[TrainingItems]) -> Examples:
        """Return the examples of all data sets.

        Raises:
            DataError: not one item gives an example, or a strategy has too little to draw from.
            ConfigError: the strategy or method does not fit the items.
            ModelError: the model cannot be asked.
        """
        kinds = {
            "pairs": self._pairs,
            "own": self._own,
            "revision": self._revised,
            "reference": self._reference,
            "prompts": self._prompts,
        }
        parts = [kinds[self.recipe.learns_from](one) for one in data]
        examples = tuple(example for part in parts for example in part.examples)
        dropped = _summed(part.dropped for part in parts)
        if not examples:
            reasons = ", ".join(f"{n} x {why}" for why, n in dropped.items()) or "no items"
            raise DataError(
                f"{self.suite.name}: no example to learn from ({reasons}): look at the chat "
                "template, or raise sampling.max_tokens"
            )
        return Examples(
            examples=examples,
            items=sum(part.items for part in parts),
            dropped=dropped,
            dropped_negatives=_summed(part.dropped_negatives for part in parts),
        )

    def _pairs(self, data: TrainingItems) -> Examples:
        settings = self.recipe.pairs
        assert settings is not None  # checked when the recipe was read
        plans = list(plan_draws(data.items, settings, seed=self.seed))
        asked = [item for plan in plans for item in (plan.item, *plan.rejected)]
        responses = self._draw(data.task.lm_eval_task, asked, "pairs")
        made = build_pairs(data.items, responses, settings, seed=self.seed)
        prompts = self._messages(data.task, [pair.item for pair in made.pairs])
        return Examples(
            examples=tuple(
                Example(
                    item=pair.item,
                    prompt=prompt,
                    bare_prompt=bare,
                    chosen=pair.chosen,
                    rejected=pair.rejected,
                )
                for pair, (prompt, bare) in zip(made.pairs, prompts, strict=True)
            ),
            items=len(data.items),
            dropped=made.dropped,
            dropped_negatives=made.dropped_negatives,
        )

    def _own(self, data: TrainingItems) -> Examples:
        items: Sequence[Item] = data.items
        if self.recipe.algorithm == "contrastive":
            contexts = self.recipe.settings.contexts
            items = with_other_contexts(items, contexts=contexts, seed=self.seed)
        responses = self._draw(data.task.lm_eval_task, items, "own responses")
        found = [usable(responses.get(item.key)) for item in items]
        return self._with_texts(data, items, found)

    def _reference(self, data: TrainingItems) -> Examples:
        texts = [item.meta.get("solution") or item.reference for item in data.items]
        found = [(text, None if text else "no true answer") for text in texts]
        return self._with_texts(data, data.items, found)

    def _prompts(self, data: TrainingItems) -> Examples:
        return Examples(
            examples=tuple(
                Example(item=item, prompt=prompt, bare_prompt=bare)
                for item, (prompt, bare) in zip(
                    data.items, self._messages(data.task, data.items), strict=True
                )
            ),
            items=len(data.items),
        )

    def _revised(self, data: TrainingItems) -> Examples:
        """Rewrite the own response: beside a bad one, or (verifiable) with the true answer."""
        if self.suite.form == "answer":
            first = self._own(data)
            ask = partial(_revision_prompt, "revise_answer")
        else:
            first = self._pairs(data)
            ask = partial(_revision_prompt, "revise")
        items = [example.item for example in first.examples]
        asked = [ask(example) for example in first.examples]
        sampler = replace(self.sampler, asking={"form": "verbatim"})
        responses = draw(self.store, {_REVISION: asked}, sampler, self.progress, what="revisions")
        found = [usable(responses.get(question.key)) for question in asked]
        revised = self._with_texts(data, items, found)
        return Examples(
            examples=revised.examples,
            items=first.items,
            dropped=_summed(
                [first.dropped, {f"revision: {why}": n for why, n in revised.dropped.items()}]
            ),
        )

    def _with_texts(
        self,
        data: TrainingItems,
        items: Sequence[Item],
        found: Sequence[tuple[str | None, str | None]],
    ) -> Examples:
        """Return the examples of the items that have a text."""
        kept = [
            (item, text) for item, (text, _) in zip(items, found, strict=True) if text is not None
        ]
        prompts = self._messages(data.task, [item for item, _ in kept])
        return Examples(
            examples=tuple(
                Example(item=item, prompt=prompt, bare_prompt=bare, chosen=text)
                for (item, text), (prompt, bare) in zip(kept, prompts, strict=True)
            ),
            items=len(items),
            dropped=Counter(why for text, why in found if text is None and why),
        )

    def _draw(self, task: str, asked: Sequence[Item], what: str) -> dict[str, Response]:
        return draw(self.store, {task: asked}, self.sampler, self.progress, what=what)

    def _messages(self, task: SuiteTask, items: Sequence[Item]) -> list[tuple[Messages, Messages]]:
        """Return each item's prompt and the same without the user's context."""
        if self.suite.form == "query":
            return [
                (_turn(render_query(item, "personalized")), _turn(render_query(item, "default")))
                for item in items
            ]
        return [(messages, messages) for messages in _question_messages(task, items)]


def asking(suite: Suite) -> dict[str, str]:
    """Return how the suite's items become prompts, as the keys of responses name it."""
    if suite.form == "query":
        return {"prompting": "personalized", "query": short(query_hash())}
    return {"form": suite.form}


def training_items(suite: Suite, data_dir: Path, settings: ItemSettings) -> list[TrainingItems]:
    """Return the items of a suite's training split.

    Raises:
        ConfigError: the suite is asked by likelihood, which trains nothing.
        DataError: there is no training split, or it is empty.
    """
    if suite.form not in {"query", "answer"}:
        raise ConfigError(
            f"suite {suite.name} asks by likelihood and has nothing to train on: take mcq or math"
        )
    found = [
        TrainingItems(
            task=task,
            items=tuple(islice(load_source(task.source, data_dir, "train"), settings.limit)),
        )
        for task in suite.tasks
    ]
    if not any(one.items for one in found):
        raise DataError(f"the training split of suite {suite.name} has no items")
    return found


def split_validation(
    data: Sequence[TrainingItems], share: float, seed: int
) -> tuple[list[TrainingItems], list[TrainingItems]]:
    """Split off what a sweep chooses by: whole prompt groups, drawn by seed.

    Raises:
        DataError: there are too few groups for two parts.
    """
    train, held_out = [], []
    for one in data:
        groups = sorted({item.group for item in one.items}, key=lambda g: digest([seed, g]))
        chosen = set(groups[: max(1, round(share * len(groups)))])
        if len(groups) < 2:
            raise DataError(
                f"{one.task.name}: a sweep needs at least two prompts to choose on some of them"
            )
        parts = [[i for i in one.items if (i.group in chosen) == held] for held in (False, True)]
        train.append(TrainingItems(task=one.task, items=tuple(parts[0])))
        held_out.append(TrainingItems(task=one.task, items=tuple(parts[1])))
    return train, held_out


def _turn(text: str) -> Messages:
    return ({"role": "user", "content": text},)


def _question_messages(task: SuiteTask, items: Sequence[Item]) -> Iterator[Messages]:
    """Yield the conversation lm-eval asks each question with, worked examples included."""
    if not items:
        return
    with tempfile.TemporaryDirectory(prefix="mipo-eval-") as folder:
        loaded = load_items(task.lm_eval_task, items, Path(folder), Decoding())
        for document in loaded.eval_docs:
            text = loaded.fewshot_context(
                document,
                num_fewshot=loaded.config.num_fewshot or 0,
                apply_chat_template=True,
                fewshot_as_multiturn=True,
                chat_template=_as_json,
            )
            yield tuple(json.loads(text))


def _as_json(messages: Sequence[Mapping[str, str]], **_how: Any) -> str:
    return json.dumps(list(messages))


def _revision_prompt(name: str, example: Example) -> Item:
    """Return what asks the model to rewrite its response, as an item of its own."""
    path = resources.files(__package__) / "prompts" / f"{name}.txt"
    item = example.item
    fields = {"prompt": item.prompt, "response": example.chosen or ""}
    if name == "revise":
        fields |= {"context": item.context, "rejected": example.rejected[0]}
    else:
        fields |= {"answer": str(item.meta.get("solution") or item.reference or "")}
    safe = {key: neutral(text) for key, text in fields.items()}
    text = path.read_text(encoding="utf-8").strip().format_map(safe)
    return Item(item_id=f"{item.item_id}~{name}", prompt=text)


def _summed(counts: Any) -> dict[str, int]:
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return dict(total)
