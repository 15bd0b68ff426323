"""How a data set's entries become items: what is asked of the extractor, what is made of it."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from importlib import resources
from typing import Any

from mipo_eval.backends.base import Backend, Message
from mipo_eval.judges.prompt import Prompt, make_prompt
from mipo_eval.keys import digest
from mipo_eval.records import Item
from mipo_eval.tasks.preparation.extract import (
    Answer,
    Question,
    extract,
    parse_preferences,
    parse_statements,
)
from mipo_eval.tasks.preparation.plan import Models, Plan
from mipo_eval.tasks.preparation.raw import (
    DIMENSIONS,
    Choice,
    Dropped,
    Instruction,
    ca_choices,
    mb_instructions,
    prism_choices,
)
from mipo_eval.tasks.preparation.split import Pools, split_pools
from mipo_eval.tasks.query import render_query
from mipo_eval.tasks.raw import prompt_group

Rows = Iterable[Mapping[str, Any]]
Made = tuple[int, list[Item] | str]
"""Position of a candidate with its items, or why it has none."""

_REFERENCE_TOKENS = 512


class Recipe(ABC):
    """What differs between the data sets: their candidates, and how one becomes items."""

    items_each = 1

    def __init__(self, plan: Plan, models: Models) -> None:
        self.plan = plan
        self.models = models
        self.dropped: Counter[str] = Counter()
        self.last_problem = ""
        """What was wrong with the last reply that was given up."""

    @property
    @abstractmethod
    def size(self) -> int:
        """How many usable entries the rows hold."""

    @abstractmethod
    def pools(self) -> Pools:
        """Divide the entries into candidates for training and testing."""

    @abstractmethod
    def make(self, batch: Sequence[int]) -> AsyncGenerator[Made, None]:
        """Yield the items of each entry of a batch, or why it has none, as they are made."""

    def _keep(self, found: Iterable[Any]) -> Iterator[Any]:
        """Pass on what can be used and count the rest."""
        for entry in found:
            if isinstance(entry, Dropped):
                self.dropped[entry.reason] += 1
            else:
                yield entry


class PairRecipe(Recipe):
    """Community Alignment and PRISM: one item per choice a user made."""

    def __init__(self, plan: Plan, rows: Rows, models: Models) -> None:
        super().__init__(plan, models)
        found = (
            ca_choices(rows, plan.source, seed=plan.seed)
            if plan.name == "ca"
            else prism_choices(rows, plan.source)
        )
        self.choices: list[Choice] = list(self._keep(found))
        self._prompt = _load_prompt("extract_preferences", "query", "chosen", "rejected")

    @property
    def size(self) -> int:
        """How many choices the rows hold."""
        return len(self.choices)

    def pools(self) -> Pools:
        """Divide by user."""
        return split_pools(
            [choice.user_id for choice in self.choices],
            [choice.prompt for choice in self.choices],
            n_train=self.plan.n_train,
            n_test=self.plan.n_test,
            seed=self.plan.seed,
        )

    async def make(self, batch: Sequence[int]) -> AsyncGenerator[Made, None]:
        """Ask for the preferences behind each choice."""
        questions = (self._question(index) for index in batch)
        answers = extract(self.models.store, self.models.extractor, questions, parse_preferences)
        async with aclosing(answers):
            async for answer in answers:
                index = int(answer.key)
                if answer.value is None:
                    self.last_problem = answer.detail
                    yield index, answer.reason or ""
                else:
                    yield index, [self._item(self.choices[index], answer.value)]

    def _question(self, index: int) -> Question:
        choice = self.choices[index]
        text = self._prompt.render(
            {"query": choice.prompt, "chosen": choice.chosen, "rejected": choice.rejected}
        )
        return Question(key=str(index), messages=(Message(role="user", content=text),))

    def _item(self, choice: Choice, preferences: Mapping[str, str]) -> Item:
        return Item(
            item_id=f"{self.plan.name}-{choice.source_id}",
            prompt=choice.prompt,
            context="\n".join(preferences.values()),
            preferences=tuple(preferences.values()),
            reference=choice.chosen,
            user_id=choice.user_id,
            group_id=prompt_group(choice.prompt),
            meta={**choice.meta, "rejected": choice.rejected, "keys": list(preferences)},
        )


class InstructionRecipe(Recipe):
    """Multifaceted-Bench: four items per instruction, one for each dimension."""

    items_each = len(DIMENSIONS)

    def __init__(self, plan: Plan, rows: Rows, models: Models) -> None:
        super().__init__(plan, models)
        self.rows: list[Instruction] = list(self._keep(mb_instructions(rows, plan.source)))
        self._prompt = _load_prompt("extract_statements", "system", "criteria")

    @property
    def size(self) -> int:
        """How many instructions the rows hold."""
        return len(self.rows)

    def pools(self) -> Pools:
        """Divide by instruction."""
        prompts = [row.prompt for row in self.rows]
        return split_pools(
            prompts,
            prompts,
            n_train=self.plan.n_train // self.items_each,
            n_test=self.plan.n_test // self.items_each,
            seed=self.plan.seed,
        )

    async def make(self, batch: Sequence[int]) -> AsyncGenerator[Made, None]:
        """Ask for four statements per instruction, then for references if a model writes them."""
        stated: dict[int, list[Item]] = {}
        answers = extract(
            self.models.store,
            self.models.extractor,
            (self._question(index) for index in batch),
            lambda reply: parse_statements(reply, DIMENSIONS),
        )
        async with aclosing(answers):
            async for answer in answers:
                index = int(answer.key)
                if answer.value is None:
                    self.last_problem = answer.detail
                    yield index, answer.reason or ""
                elif self.models.reference is None:
                    yield index, self._items(self.rows[index], answer.value)
                else:
                    stated[index] = self._items(self.rows[index], answer.value)
        if self.models.reference is not None:
            async for result in self._with_references(stated, self.models.reference):
                yield result

    async def _with_references(
        self, stated: Mapping[int, list[Item]], model: Backend
    ) -> AsyncGenerator[Made, None]:
        """Replace the references of items; an instruction with one missing has none."""
        items = {
            (index, place): item
            for index, four in stated.items()
            for place, item in enumerate(four)
        }
        questions = (
            Question(
                key=f"{index} {place}",
                messages=(Message(role="user", content=render_query(item, "personalized")),),
                max_tokens=_REFERENCE_TOKENS,
            )
            for (index, place), item in items.items()
        )
        written: dict[int, dict[int, Answer[str]]] = {index: {} for index in stated}
        async with aclosing(extract(self.models.store, model, questions, _some_text)) as answers:
            async for answer in answers:
                index, place = map(int, answer.key.split())
                written[index][place] = answer
                if len(written[index]) == self.items_each:
                    yield index, _referenced(stated[index], written.pop(index), model)

    def _question(self, index: int) -> Question:
        row = self.rows[index]
        criteria = "\n".join(
            f"{number}. {rubric.criterion}" for number, rubric in enumerate(row.rubrics, start=1)
        )
        text = self._prompt.render({"system": row.system, "criteria": criteria})
        return Question(key=str(index), messages=(Message(role="user", content=text),))

    def _items(self, row: Instruction, statements: Mapping[str, str]) -> list[Item]:
        key = digest([row.system, row.prompt])[:16]
        return [
            Item(
                item_id=f"mb-{key}-{dimension}",
                prompt=row.prompt,
                context=statements[dimension],
                preferences=(statements[dimension],),
                rubric=(rubric,),
                reference=row.reference,
                group_id=prompt_group(row.prompt),
                meta={
                    "language": "en",
                    "dimension": dimension,
                    "source": row.source,
                    "system": row.system,
                    "reference_by": "published",
                },
            )
            for dimension, rubric in zip(DIMENSIONS, row.rubrics, strict=True)
        ]


def _referenced(
    items: list[Item], answers: Mapping[int, Answer[str]], model: Backend
) -> list[Item] | str:
    name = " ".join(model.identity.values())
    made = []
    for place, item in enumerate(items):
        answer = answers[place]
        if answer.value is None:
            return f"reference: {answer.reason}"
        meta = {**item.meta, "reference_by": name}
        made.append(item.model_copy(update={"reference": answer.value, "meta": meta}))
    return made


def _some_text(reply: str) -> str:
    if not reply.strip():
        raise ValueError("it is empty")
    return reply.strip()


def _load_prompt(name: str, *slots: str) -> Prompt:
    text = (resources.files("mipo_eval.tasks") / "prompts" / f"{name}.txt").read_text("utf-8")
    return make_prompt(name, text, required=frozenset(slots))


RECIPES: dict[str, Callable[[Plan, Rows, Models], Recipe]] = {
    "ca": PairRecipe,
    "prism": PairRecipe,
    "mb": InstructionRecipe,
}
