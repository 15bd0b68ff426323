"""Verifiable questions (GSM8K, SVAMP, ARC, MMLU) as items.

An item's prompt is the whole question, lettered choices included; its reference is the right
answer: a number ("1080") or a letter ("B"). `meta` holds "kind" ("number" or "choice"), and for
choices "question" (without them), "choices" and, for MMLU, "subject"; for GSM8K "solution".
"""

import re
import tomllib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from importlib import resources
from typing import Any

from pydantic import Field, model_validator

from mipo_eval.errors import DataError
from mipo_eval.records import Item, Text
from mipo_eval.tasks.answers import LETTERS, extract_number, lettered
from mipo_eval.tasks.datasets import Columns, PublishedSet, checked


class QuestionRow(Columns, ABC):
    """A row that is a question."""

    @abstractmethod
    def item(self, file: str) -> Item:
        """Return the question, read from a file of this name; a ValueError says what is wrong."""


class Gsm8kRow(QuestionRow):
    """`openai/gsm8k`: the answer is a worked solution that ends in `#### 18`."""

    question: Text
    answer: Text

    def item(self, file: str) -> Item:
        """Return the question, with the worked solution."""
        gold = extract_number(self.answer) if "####" in self.answer else None
        if gold is None:
            raise ValueError("the answer does not end in '#### NUMBER'")
        # "<<16-3-4=9>>" are notes for a calculator, not part of the text.
        meta = {"kind": "number", "solution": re.sub(r"<<[^<>]*>>", "", self.answer)}
        return Item(item_id="-", prompt=self.question, reference=str(gold), meta=meta)


class SvampRow(QuestionRow):
    """`ChilleD/SVAMP` and the original SVAMP.json: a story, a question, a number."""

    Body: Text
    Question: Text
    Answer: float | Text

    def item(self, file: str) -> Item:
        """Return story and question as one prompt."""
        try:
            gold = Decimal(str(self.Answer)).normalize()
        except InvalidOperation:
            raise ValueError(f"the answer {self.Answer!r} is no number") from None
        story = self.Body if self.Body.endswith((".", "?", "!")) else f"{self.Body}."
        prompt = f"{story} {self.Question}"
        return Item(item_id="-", prompt=prompt, reference=f"{gold:f}", meta={"kind": "number"})


class _ArcChoices(Columns):
    text: tuple[Text, ...]
    label: tuple[str, ...]


class ArcRow(QuestionRow):
    """`allenai/ai2_arc`; labels are letters or, in some rows, digits."""

    question: Text
    choices: _ArcChoices
    answerKey: str

    @model_validator(mode="before")
    @classmethod
    def _layout_of_allenai(cls, row: dict[str, Any]) -> dict[str, Any]:
        """Bring a row of AllenAI's own files into the hub's layout."""
        stem = row.get("question")
        if not isinstance(stem, dict) or not isinstance(stem.get("choices"), list):
            return row
        own = [choice for choice in stem["choices"] if isinstance(choice, dict)]
        choices = {key: [choice.get(key) for choice in own] for key in ("text", "label")}
        return row | {"question": stem.get("stem"), "choices": choices}

    def item(self, file: str) -> Item:
        """Return the question with its choices lettered anew."""
        if self.answerKey not in self.choices.label:
            raise ValueError(f"the answer {self.answerKey!r} is none of {self.choices.label}")
        return lettered(self.question, self.choices.text, self.choices.label.index(self.answerKey))


class MmluRow(QuestionRow):
    """`cais/mmlu`; the answer is the index of the right choice."""

    question: Text
    choices: tuple[str, ...] = Field(min_length=2, max_length=len(LETTERS))
    answer: int = Field(ge=0)
    subject: str | None = ""
    """None: the name of the file says it."""

    @model_validator(mode="before")
    @classmethod
    def _layout_of_a_subject(cls, row: dict[str, Any]) -> dict[str, Any]:
        """Bring a row of the original files, choices in columns, into the hub's layout."""
        if "choice0" not in row:
            return row
        answer = str(row.get("answer"))
        return {
            "question": row.get("question"),
            "choices": [row[name] for name in sorted(row) if re.fullmatch(r"choice\d", name)],
            "answer": LETTERS.find(answer) if answer.isalpha() else answer,
            "subject": None,
        }

    def item(self, file: str) -> Item:
        """Return the question; a row that names no subject is of that in the file's name."""
        if self.answer >= len(self.choices):
            raise ValueError(f"the answer {self.answer} is none of {len(self.choices)} choices")
        subject = re.sub(r"_(test|dev|val)$", "", file) if self.subject is None else self.subject
        return lettered(self.question, self.choices, self.answer, subject=subject)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionSet(PublishedSet):
    """A set of questions, and how many of them the paper asks."""

    row: type[QuestionRow]
    paper_test: int | None = None
    """Test questions the paper asks; None: all."""
    paper_train: int | None = None
    """Training questions the paper uses; None: all."""
    unsplit: str | None = None
    """A file with all rows of both splits; the test split is drawn from it by content."""
    hub_train: str = "train"
    """What the hub calls the training split."""

    def items(self, rows: Iterable[dict[str, Any]], where: str, file: str) -> Iterator[Item]:
        """Yield the questions of rows; `load_questions` gives them ids.

        Raises:
            DataError: a row is not in the known schema.
        """
        columns = f"of {self.hub} at {str(self.revision)[:8]}"
        for number, (_, row) in enumerate(checked(self.row, rows, where, columns), start=1):
            try:
                yield row.item(file)
            except ValueError as error:
                raise DataError(f"{where}, row {number}: {error}") from None


_ROWS: dict[str, type[QuestionRow]] = {
    "gsm8k": Gsm8kRow,
    "svamp": SvampRow,
    "arc_easy": ArcRow,
    "arc_challenge": ArcRow,
    "mmlu": MmluRow,
}

QUESTION_SETS = {
    name: QuestionSet(**about, row=_ROWS[name])
    for name, about in tomllib.loads(
        (resources.files(__package__) / "questions.toml").read_text(encoding="utf-8")
    ).items()
}
