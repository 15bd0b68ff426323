"""Multifaceted-Bench: instructions with a description of one person's preferences.

A row is {"source": ..., "system": ..., "prompt": ..., "reference_answer": ..., "rubric":
[{"criteria": ..., "score_descriptions": {"1": ..., ..., "5": ...}}, four of them]}. Its system
message weaves four preferences into one text, each rubric checks one of them, and each becomes an
item of its own.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated

from pydantic import AfterValidator, AliasChoices, Field

from mipo_eval.keys import digest
from mipo_eval.records import Item, Rubric, Text
from mipo_eval.tasks.datasets import (
    Columns,
    Dropped,
    RawSet,
    Row,
    Turns,
    ask_extractor,
    checked,
    parse_object,
    prompt_group,
    short_text,
)

DIMENSIONS = ("style", "background_knowledge", "informativeness", "harmlessness")


class _Criterion(Columns):
    criteria: Text
    score_descriptions: dict[int, Text]


class Instruction(Columns):
    """One row; `rubric` is in the order of `DIMENSIONS`."""

    # Some prompts of the set hold a written-out "\n" where a line break is meant.
    prompt: Annotated[Text, AfterValidator(lambda text: text.replace("\\n", "\n"))]
    system: Text
    reference_answer: Text
    # The hub's copy names the column "rubrics", the repository's description "rubric".
    rubric: tuple[_Criterion, ...] = Field(validation_alias=AliasChoices("rubric", "rubrics"))
    source: str = ""

    @property
    def owner(self) -> str:
        """The instruction itself: several descriptions go with the same one."""
        return self.prompt

    @property
    def language(self) -> str:
        """All of it is English."""
        return "en"

    def question(self) -> str:
        """Ask for the four preferences in the person's own words."""
        criteria = (f"{n}. {entry.criteria}" for n, entry in enumerate(self.rubric, start=1))
        texts = {"system": self.system, "criteria": "\n".join(criteria)}
        return ask_extractor("extract_statements", texts)

    def items(self, wishes: Mapping[str, str]) -> list[Item]:
        """Return an item for each dimension."""
        key = digest([self.system, self.prompt])[:16]
        return [
            Item(
                item_id=f"mb-{key}-{dimension}",
                prompt=self.prompt,
                context=wishes[dimension],
                preferences=(wishes[dimension],),
                rubric=(Rubric(criterion=entry.criteria, scores=entry.score_descriptions),),
                reference=self.reference_answer,
                group_id=prompt_group(self.prompt),
                meta={
                    "language": self.language,
                    "dimension": dimension,
                    "source": self.source,
                    "system": self.system,
                    "reference_by": "published",
                },
            )
            for dimension, entry in zip(DIMENSIONS, self.rubric, strict=True)
        ]


def mb_instructions(
    rows: Iterable[Row], where: str, _seed: int = 0, _turns: Turns = "first"
) -> Iterator[Instruction | Dropped]:
    """Yield the instructions that have a rubric for each dimension, each once.

    Raises:
        DataError: a column is missing or of another type.
    """
    seen: set[tuple[str, str]] = set()
    for _, row in checked(Instruction, rows, where):
        if len(row.rubric) != len(DIMENSIONS):
            yield Dropped(f"{len(row.rubric)} rubrics instead of {len(DIMENSIONS)}")
        elif (row.system, row.prompt) in seen:
            yield Dropped("repeated row")
        else:
            seen.add((row.system, row.prompt))
            yield row


def parse_statements(reply: str) -> dict[str, str]:
    """Return one first-person statement per dimension, in their order.

    Raises:
        ValueError: the reply is not of that form; says how.
    """
    value = parse_object(reply)
    if set(value) != set(DIMENSIONS):
        raise ValueError(f"its keys are {sorted(value)}; they must be {list(DIMENSIONS)}")
    statements = {name: short_text(name, value[name]) for name in DIMENSIONS}
    for name, text in statements.items():
        if not re.search(r"\b(?:I|I'm|I'd|I've|me|my|mine)\b", text):
            raise ValueError(f"the statement {name!r} does not speak in the first person")
    return statements


MB = RawSet(
    hub="kaist-ai/Multifaceted-Bench",
    files={"train": ("*.parquet", "*.jsonl", "*.json")},
    candidates=mb_instructions,
    parse=parse_statements,
    items_each=len(DIMENSIONS),
    paper_sizes=(3_600, 84),
)
