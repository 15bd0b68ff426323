"""Verifiable questions (GSM8K, SVAMP, ARC, MMLU) as items.

An item's prompt is the whole question, lettered choices included; its reference is the right
answer: a number ("1080") or a letter ("B"). `meta` holds "kind" ("number" or "choice"), and for
choices "question" (without them), "choices" and, for MMLU, "subject"; for GSM8K "solution".
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from pydantic import Field, model_validator

from mipo_eval.errors import DataError
from mipo_eval.keys import digest
from mipo_eval.records import Item, Text
from mipo_eval.tasks.answers import LETTERS, extract_number
from mipo_eval.tasks.datasets import Columns, PublishedSet, Split, checked, content_id


class Gsm8kRow(Columns):
    """`openai/gsm8k`: the answer is a worked solution that ends in `#### 18`."""

    question: Text
    answer: Text


def _gsm8k(row: Gsm8kRow, _file: str) -> Item:
    gold = extract_number(row.answer) if "####" in row.answer else None
    if gold is None:
        raise ValueError("the answer does not end in '#### NUMBER'")
    # "<<16-3-4=9>>" are notes for a calculator, not part of the text.
    meta = {"kind": "number", "solution": re.sub(r"<<[^<>]*>>", "", row.answer)}
    return Item(item_id="-", prompt=row.question, reference=str(gold), meta=meta)


class SvampRow(Columns):
    """`ChilleD/SVAMP` and the original SVAMP.json: a story, a question, a number."""

    Body: Text
    Question: Text
    Answer: float | Text


def _svamp(row: SvampRow, _file: str) -> Item:
    try:
        gold = Decimal(str(row.Answer)).normalize()
    except InvalidOperation:
        raise ValueError(f"the answer {row.Answer!r} is no number") from None
    story = row.Body if row.Body.endswith((".", "?", "!")) else f"{row.Body}."
    prompt = f"{story} {row.Question}"
    return Item(item_id="-", prompt=prompt, reference=f"{gold:f}", meta={"kind": "number"})


class _ArcChoices(Columns):
    text: tuple[Text, ...]
    label: tuple[str, ...]


class ArcRow(Columns):
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


def _arc(row: ArcRow, _file: str) -> Item:
    if row.answerKey not in row.choices.label:
        raise ValueError(f"the answer {row.answerKey!r} is none of {row.choices.label}")
    return _choice(row.question, row.choices.text, row.choices.label.index(row.answerKey))


class MmluRow(Columns):
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


def _mmlu(row: MmluRow, file: str) -> Item:
    if row.answer >= len(row.choices):
        raise ValueError(f"the answer {row.answer} is none of {len(row.choices)} choices")
    subject = re.sub(r"_(test|dev|val)$", "", file) if row.subject is None else row.subject
    return _choice(row.question, row.choices, row.answer, subject=subject)


def _choice(question: str, choices: tuple[str, ...], gold: int, **meta: Any) -> Item:
    lines = [f"{letter}. {text}" for letter, text in zip(LETTERS, choices, strict=False)]
    return Item(
        item_id="-",
        prompt="\n".join([question, *lines]),
        reference=LETTERS[gold],
        meta={"kind": "choice", "question": question, "choices": list(choices), **meta},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionSet(PublishedSet):
    """A set of questions, and how many of them the paper asks."""

    row: type[Columns]
    read: Callable[[Any, str], Item]
    """Makes a question of a row in a file of this name; a ValueError says what is wrong."""
    paper_test: int | None
    """Test questions the paper asks; None: all."""
    paper_train: int | None = None
    """Training questions the paper uses; None: all."""
    unsplit: str | None = None
    """A file with all rows of both splits; the test split is drawn from it by content."""
    hub_train: str = "train"
    """What the hub calls the training split."""

    def items(self, rows: Iterable[dict[str, Any]], where: str, file: str) -> Iterator[Item]:
        """Yield the questions of rows; their ids are given by `numbered`.

        Raises:
            DataError: a row is not in the known schema.
        """
        columns = f"of {self.hub} at {str(self.revision)[:8]}"
        for number, (_, row) in enumerate(checked(self.row, rows, where, columns), start=1):
            try:
                yield self.read(row, file)
            except ValueError as error:
                raise DataError(f"{where}, row {number}: {error}") from None


def numbered(name: str, split: Split, items: Iterable[Item]) -> Iterator[Item]:
    """Give each question an id made of its content; repeated questions are numbered."""
    seen: Counter[str] = Counter()
    for item in items:
        own = content_id(f"{name}-{split}", [item.prompt, item.reference], seen)
        yield item.model_copy(update={"item_id": own})


def drawn_split(items: list[Item], n_test: int, split: Split) -> list[Item]:
    """Split a file that has none. Not the hub's split, whose draw was not published."""
    test = {item.prompt for item in sorted(items, key=lambda i: digest(i.prompt))[:n_test]}
    return [item for item in items if (item.prompt in test) == (split == "test")]


def _both(*patterns: str) -> dict[Split, tuple[str, ...]]:
    """Return patterns of the files of both splits, `{}` being the split's name."""
    return {
        "train": tuple(pattern.format("train", "Train") for pattern in patterns),
        "test": tuple(pattern.format("test", "Test") for pattern in patterns),
    }


def _arc_set(config: str) -> QuestionSet:
    return QuestionSet(
        hub="allenai/ai2_arc",
        config=config,
        revision="210d026faf9955653af8916fad021475a3f00453",
        files=_both(
            f"arc/{config}/{{0}}*.parquet",
            f"arc/*{config}[-_]{{0}}.jsonl",
            f"arc/{config}-{{1}}.jsonl",
        ),
        row=ArcRow,
        read=_arc,
        paper_test=500,
    )


QUESTION_SETS = {
    "gsm8k": QuestionSet(
        hub="openai/gsm8k",
        config="main",
        revision="e53f048856ff4f594e959d75785d2c2d37b678ee",
        files=_both("gsm8k/main/{0}*.parquet", "gsm8k/{0}.jsonl"),
        row=Gsm8kRow,
        read=_gsm8k,
        paper_test=200,
        paper_train=5_000,
    ),
    "svamp": QuestionSet(
        hub="ChilleD/SVAMP",
        revision="5e0bf1e5e7c0e9c4bc39180d224f41f3f801b7ef",
        files=_both("svamp/data/{0}*.parquet", "svamp/{0}.json*"),
        row=SvampRow,
        read=_svamp,
        paper_test=300,
        paper_train=700,
        unsplit="svamp/SVAMP.json",
    ),
    "arc_easy": _arc_set("ARC-Easy"),
    "arc_challenge": _arc_set("ARC-Challenge"),
    "mmlu": QuestionSet(
        hub="cais/mmlu",
        config="all",
        revision="c30699e8356da336a370243923dbaf21066bb9fe",
        files={
            "test": ("mmlu/all/test*.parquet", "mmlu/test/*_test.csv"),
            "train": ("mmlu/all/dev*.parquet", "mmlu/dev/*_dev.csv"),
        },
        row=MmluRow,
        read=_mmlu,
        paper_test=None,
        hub_train="dev",
    ),
}
