"""What a method learns from: a suite's training items, responses drawn to them, and its examples.

Responses are drawn by the loop that evaluates models too (`evaluation.generate.draw`) and stored
like any run's, so a stopped drawing continues and nothing is drawn twice. A draw depends on the
seed and its item only. Draws of one prompt stand beside each other: a prefix cache reads it once.
"""

import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any

from mipo_eval.errors import ConfigError, DataError
from mipo_eval.evaluation.generate import asking_parts, draw
from mipo_eval.judges.prompt import make_prompt
from mipo_eval.keys import digest
from mipo_eval.models.lm_eval import (
    Decoding,
    ModelOptions,
    generation_spec,
    load_model,
    load_task,
)
from mipo_eval.models.spec import ModelSpec
from mipo_eval.progress import Progress
from mipo_eval.records import Item, Response
from mipo_eval.store.engine import Store
from mipo_eval.store.items import put_list
from mipo_eval.store.responses import answered, missing, put_generation
from mipo_eval.tasks.items import replacing, write_items
from mipo_eval.tasks.prompt import Prompting, as_dicts, conversation, turns_to
from mipo_eval.tasks.sources import load_source
from mipo_eval.tasks.suites import Suite, SuiteTask
from mipo_eval.tasks.wordings import Wording
from mipo_eval.training.pairs import (
    Usable,
    build_pairs,
    plan_draws,
    usable,
    with_other_contexts,
)
from mipo_eval.training.recipes import ItemSettings, LearnsFrom, Recipe
from mipo_eval.training.trainer import (
    Messages,
    TrainingExample,
    TrainingExamples,
    is_main_process,
)

_REVISION = SuiteTask(name="revisions", source="-", lm_eval_task="mipo_verbatim")
"""Asks a prompt as it stands."""


Texts = tuple[Item, str | None, tuple[str, ...]]
"""An item with what is chosen and rejected of the responses to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingItems:
    """The items of one data set."""

    task: SuiteTask
    items: tuple[Item, ...]


def load_items(task: SuiteTask, items: Sequence[Item], folder: Path, decoding: Decoding) -> Any:
    """Return the lm-eval task of ours whose documents are these items, in a file in `folder`."""
    file = folder / "items.jsonl"
    write_items(file, items)
    about = {
        "source": str(file),
        "query": task.query,
        "turns": task.wording.turns,
        "prompting": "personalized",
        "data_dir": None,
        "limit": None,
    }
    return load_task(task.lm_eval_task, about, decoding)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleMaker:
    """Makes examples: a recipe, who draws responses and how, and where they are kept."""

    recipe: Recipe
    suite: Suite
    model: ModelSpec
    """Who draws."""
    options: ModelOptions
    decoding: Decoding
    store: Store
    progress: Progress
    seed: int

    def make(self, data: Sequence[TrainingItems]) -> TrainingExamples:
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
            "answer": self._corrected,
            "reference": self._reference,
            "file": self._given,
            "prompts": self._prompts,
        }
        parts = [kinds[self.recipe.learns_from](one) for one in data]
        examples = tuple(example for part in parts for example in part.examples)
        dropped = _summed(part.dropped for part in parts)
        if not examples:
            reasons = ", ".join(f"{n} x {why}" for why, n in dropped.items()) or "no items"
            raise DataError(
                f"{self.suite.name}: there is no example to learn from ({reasons}): check the "
                "chat template, or raise sampling.max_tokens"
            )
        return TrainingExamples(
            examples=examples,
            items=sum(part.items for part in parts),
            dropped=dropped,
            dropped_negatives=_summed(part.dropped_negatives for part in parts),
        )

    def _pairs(self, data: TrainingItems) -> TrainingExamples:
        settings = self.recipe.pairs
        assert settings is not None  # checked when the recipe was read
        plans = list(plan_draws(data.items, settings, seed=self.seed))
        asked = [item for plan in plans for item in (plan.item, *plan.rejected)]
        responses = self.draw(data.task, asked, "pairs")
        made = build_pairs(data.items, responses, settings, seed=self.seed)
        texts = [(pair.item, pair.chosen, pair.rejected) for pair in made.pairs]
        return TrainingExamples(
            examples=self._examples(data.task, texts),
            items=len(data.items),
            dropped=made.dropped,
            dropped_negatives=made.dropped_negatives,
        )

    def _own(self, data: TrainingItems) -> TrainingExamples:
        items: Sequence[Item] = data.items
        if self.recipe.algorithm == "contrastive":
            contexts = self.recipe.settings.contexts
            items = with_other_contexts(items, contexts=contexts, seed=self.seed)
        responses = self.draw(data.task, items, "own responses")
        return self._with_texts(data, items, [usable(responses.get(item.key)) for item in items])

    def _reference(self, data: TrainingItems) -> TrainingExamples:
        texts = [item.meta.get("solution") or item.reference for item in data.items]
        found = [(text, None if text else "no true answer") for text in texts]
        return self._with_texts(data, data.items, found)

    def _given(self, data: TrainingItems) -> TrainingExamples:
        """Return the pairs that the items carry; see `pairs_file.py`."""
        examples: list[TrainingExample] = []
        dropped: Counter[str] = Counter()
        for item in data.items:
            chosen = item.meta["chosen"]
            rejected = tuple(text for text in item.meta["rejected"] if text != chosen)
            dropped["rejected: equal to the chosen response"] += not rejected
            turns = turns_to(item.prompt, item.messages, self.options.system)
            prompt = tuple(as_dicts(turns))
            if rejected:
                examples.append(
                    TrainingExample(
                        item=item,
                        prompt=prompt,
                        bare_prompt=prompt,
                        chosen=chosen,
                        rejected=rejected,
                    )
                )
        return TrainingExamples(
            examples=tuple(examples), items=len(data.items), dropped=dict(+dropped)
        )

    def _prompts(self, data: TrainingItems) -> TrainingExamples:
        examples = self._examples(data.task, [(item, None, ()) for item in data.items])
        return TrainingExamples(examples=examples, items=len(data.items))

    def _revised(self, data: TrainingItems) -> TrainingExamples:
        """Rewrite the own response beside a bad one (section 5.1)."""
        if self.suite.form == "answer":
            raise ConfigError(
                f"{self.recipe.name} rewrites responses for a user, and {self.suite.name} has no "
                "users: use sft-gt, which rewrites them after it sees the true answer"
            )
        return self._rewritten(data, self._pairs(data), _REVISIONS["revision"])

    def _corrected(self, data: TrainingItems) -> TrainingExamples:
        """Rewrite the own response after seeing the true final answer (section 5.1)."""
        if self.suite.form != "answer":
            raise ConfigError(
                f"{self.recipe.name} needs questions with one final answer, as in math and mcq: "
                f"for {self.suite.name} use sft-revision, or sft-solutions to learn its references"
            )
        known = tuple(item for item in data.items if item.reference)
        first = self._own(replace(data, items=known))
        found = self._rewritten(data, first, _REVISIONS["answer"])
        unknown = {"no true answer": len(data.items) - len(known)}
        dropped = _summed([found.dropped, unknown])
        return replace(found, items=len(data.items), dropped=dropped)

    def _rewritten(
        self, data: TrainingItems, first: TrainingExamples, name: str
    ) -> TrainingExamples:
        """Return the examples with their responses rewritten, as a prompt of this name asks."""
        asked = [_revision_prompt(name, example) for example in first.examples]
        told = {name: part for name, part in self._asking().items() if name == "system"}
        responses = self.draw(_REVISION, asked, "revisions", asking={"form": "verbatim", **told})
        found = [usable(responses.get(question.key)) for question in asked]
        revised = self._with_texts(data, [example.item for example in first.examples], found)
        reasons = {f"revision: {why}": n for why, n in revised.dropped.items()}
        return TrainingExamples(
            examples=revised.examples,
            items=first.items,
            dropped=_summed([first.dropped, reasons]),
        )

    def _with_texts(
        self, data: TrainingItems, items: Sequence[Item], found: Sequence[Usable]
    ) -> TrainingExamples:
        """Return the examples of the items that have a text to learn; else there is a reason."""
        pairs = zip(items, found, strict=True)
        texts = [(item, text, ()) for item, (text, _) in pairs if text is not None]
        return TrainingExamples(
            examples=self._examples(data.task, texts),
            items=len(items),
            dropped=Counter(why for text, why in found if text is None and why),
        )

    def draw(
        self,
        task: SuiteTask,
        items: Iterable[Item],
        what: str,
        *,
        asking: Mapping[str, str] | None = None,
    ) -> dict[str, Response]:
        """Return the responses to items by item key, drawing those that the store does not have.

        The `task` asks the items as they are; one that comes twice is drawn once. `what`
        names the stage. `asking` is how an item becomes a prompt, a part of the key of its
        responses; None: as the suite's items do.

        Raises:
            ModelError: the model cannot be loaded or asked; what was drawn before is kept.
        """
        asked = list({item.key: item for item in items}.values())
        list_key, _ = put_list(self.store, [(task.lm_eval_task, asked)])
        asking = asking or self._asking()
        spec = generation_spec(self.model, self.options, self.decoding, asking=asking)
        key = digest(spec)
        put_generation(self.store, key, spec)
        # Of several processes one draws and the others, which wait, read what it stored: what fails
        # for now would be asked again by each, and they would learn from different examples.
        if is_main_process() and (todo := missing(self.store, list_key, key)):
            model = load_model(self.model, self.options, self.decoding)
            self.progress.start(f"{what} of {self.model.name}", len(asked), model.remark)
            self.progress.advance(len(asked) - len(todo))
            absent = [asked[place] for place in todo]
            with tempfile.TemporaryDirectory(prefix="mipo-eval-") as folder:
                loaded = load_items(task, absent, Path(folder), self.decoding)
                draw(self.store, key, model, [(loaded, range(len(absent)))], self.progress)
            model.close()  # what is trained next needs its memory
            self.progress.finish()
        found = (entry.response for entry in answered(self.store, list_key, key))
        return {response.item_key: response for response in found if response is not None}

    def _asking(self) -> dict[str, str]:
        return asking_parts(self.suite, "personalized", self.model, self.options)

    def _examples(self, task: SuiteTask, texts: Sequence[Texts]) -> tuple[TrainingExample, ...]:
        return as_examples(self.suite, task, texts, self.options.system)


def as_examples(
    suite: Suite, task: SuiteTask, texts: Sequence[Texts], system: str = ""
) -> tuple[TrainingExample, ...]:
    """Return examples: items of a suite's task as they are asked, with their texts."""
    items = [item for item, _, _ in texts]
    prompts: Iterable[tuple[Messages, Messages]]
    if suite.form == "query":
        told = (system, task.wording)
        prompts = ((_asking(i, "personalized", *told), _asking(i, "default", *told)) for i in items)
    else:
        asked = _question_messages(task, items, system)
        prompts = ((messages, messages) for messages in asked)
    return tuple(
        TrainingExample(
            item=item, prompt=prompt, bare_prompt=bare, chosen=chosen, rejected=rejected
        )
        for (item, chosen, rejected), (prompt, bare) in zip(texts, prompts, strict=True)
    )


def _asking(item: Item, prompting: Prompting, system: str, wording: Wording) -> Messages:
    return tuple(as_dicts(conversation(item, prompting, system, wording)))


def training_items(
    suite: Suite, data_dir: Path, settings: ItemSettings
) -> tuple[TrainingItems, ...]:
    """Return the items of a suite's training split, each once.

    SVAMP's holds questions of GSM8K's: in a suite with both they are learned from once.

    Raises:
        ConfigError: the suite is asked by likelihood, which trains nothing.
        DataError: there is no training split, or it is empty.
    """
    if suite.form not in {"query", "answer"}:
        raise ConfigError(
            f"suite {suite.name} is scored by likelihood, so there is nothing to train on: use "
            "mcq or math"
        )
    read = {task: load_source(task.source, data_dir, "train") for task in suite.tasks}
    seen: set[str] = set()

    def fresh(items: Iterable[Item]) -> Iterator[Item]:
        for item in items:
            if item.key not in seen:
                seen.add(item.key)
                yield item

    found = tuple(
        TrainingItems(task=task, items=tuple(fresh(islice(items, settings.limit))))
        for task, items in read.items()
    )
    if not any(one.items for one in found):
        raise DataError(f"suite {suite.name} has no training items")
    return found


def split_validation(
    data: Sequence[TrainingItems], share: float, seed: int
) -> tuple[tuple[TrainingItems, ...], tuple[TrainingItems, ...]]:
    """Split off what a sweep chooses by: whole prompt groups, drawn by seed.

    Raises:
        DataError: there are too few groups for two parts.
    """
    train: list[TrainingItems] = []
    held_out: list[TrainingItems] = []
    for one in data:
        groups = sorted({item.group for item in one.items}, key=lambda g: digest([seed, g]))
        chosen = set(groups[: max(1, round(share * len(groups)))])
        if len(groups) < 2:
            raise DataError(
                f"{one.task.name}: a sweep needs at least two prompts to choose on some of them"
            )
        parts = [[i for i in one.items if (i.group in chosen) == held] for held in (False, True)]
        for part, items in zip((train, held_out), parts, strict=True):
            part.append(TrainingItems(task=one.task, items=tuple(items)))
    return tuple(train), tuple(held_out)


def _question_messages(task: SuiteTask, items: Sequence[Item], system: str) -> Iterator[Messages]:
    """Yield the conversation lm-eval asks each question with, worked examples included."""
    if not items:
        return
    with tempfile.TemporaryDirectory(prefix="mipo-eval-") as folder:
        loaded = load_items(task, items, Path(folder), Decoding())
        for document in loaded.eval_docs:
            text = loaded.fewshot_context(
                document,
                num_fewshot=loaded.config.num_fewshot or 0,
                system_instruction=system or None,
                apply_chat_template=True,
                fewshot_as_multiturn=task.wording.turns,
                chat_template=lambda messages, **_how: json.dumps(list(messages)),
            )
            yield tuple(json.loads(text))


def _revision_prompt(name: str, example: TrainingExample) -> Item:
    """Return what asks the model to rewrite its response, as an item of its own."""
    item = example.item
    fields = {"prompt": item.prompt, "response": example.chosen or ""}
    if name == _REVISIONS["revision"]:
        fields |= {"context": item.context, "rejected": example.rejected[0]}
    else:
        fields |= {"answer": item.reference or ""}
    text = make_prompt(name, _wording(name), required=frozenset(fields)).render(fields)
    return Item(item_id=f"{item.item_id}~{name}", prompt=text, messages=item.messages)


def _wording(name: str) -> str:
    path = resources.files(__package__) / "prompts" / f"{name}.txt"
    return path.read_text(encoding="utf-8").strip()


_REVISIONS = {"revision": "revise", "answer": "revise_answer"}
"""What rewrites its responses, and the prompt that asks for it."""


def revision_wording(learns_from: LearnsFrom) -> str | None:
    """Return the text that asks the model to rewrite a response; None where nothing does."""
    name = _REVISIONS.get(learns_from)
    return name and _wording(name)


def _summed(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    return dict(sum(map(Counter, counts), Counter()))


FORMATS = (".jsonl", ".parquet")


def check_export(path: Path) -> None:
    """Refuse a file name whose format is not known, before anything is generated.

    Raises:
        ConfigError: it ends in neither .jsonl nor .parquet.
    """
    if path.suffix not in FORMATS:
        raise ConfigError(f"--pairs {path}: the name must end in {' or '.join(FORMATS)}")


def pair_table(examples: Sequence[TrainingExample]) -> Any:
    """Return a `datasets.Dataset` with a row per pair.

    The columns `prompt`, `chosen` and `rejected` are conversations, as TRL has them.
    """
    import datasets

    rows = [
        {
            "prompt": [dict(message) for message in example.prompt],
            "chosen": [{"role": "assistant", "content": example.chosen}],
            "rejected": [{"role": "assistant", "content": rejected}],
        }
        for example in examples
        for rejected in example.rejected
    ]
    return datasets.Dataset.from_list(rows)


def export_pairs(path: Path, examples: Sequence[TrainingExample]) -> int:
    """Write `pair_table`, for other trainers to read; return how many pairs there are.

    Raises:
        ConfigError: the file cannot be written.
    """
    table = pair_table(examples)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            if path.suffix == ".parquet":
                table.to_parquet(part)
            else:
                table.to_json(part, force_ascii=False)
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise ConfigError(f"--pairs {path} cannot be written: {reason}") from error
    return len(table)
