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

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mipo_eval.errors import DataError
from mipo_eval.keys import digest
from mipo_eval.records import Item, Text
from mipo_eval.tasks.answers import LETTERS, extract_number
from mipo_eval.tasks.datasets import PublishedSet, Split, content_id
from mipo_eval.tasks.items import explain


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Gsm8kRow(_Row):
    """`openai/gsm8k`: the answer is a worked solution that ends in `#### 18`."""

    question: Text
    answer: Text


class SvampRow(_Row):
    """`ChilleD/SVAMP` and the original SVAMP.json: a story, a question, a number."""

    Body: Text
    Question: Text
    Answer: float | Text


class HubChoices(_Row):
    """The choices of `allenai/ai2_arc`."""

    text: tuple[Text, ...]
    label: tuple[str, ...]


class ArcRow(_Row):
    """`allenai/ai2_arc`; labels are letters or, in some rows, digits."""

    question: Text
    choices: HubChoices
    answerKey: str


class MmluRow(_Row):
    """`cais/mmlu`; the answer is the index of the right choice."""

    question: Text
    choices: tuple[str, ...] = Field(min_length=2)
    answer: int = Field(ge=0)
    subject: str = ""


def _gsm8k(row: dict[str, Any], _file: str) -> Item:
    parsed = Gsm8kRow.model_validate(row)
    gold = extract_number(parsed.answer) if "####" in parsed.answer else None
    if gold is None:
        raise ValueError("the answer does not end in '#### NUMBER'")
    # "<<16-3-4=9>>" are notes for a calculator, not part of the text.
    solution = re.sub(r"<<[^<>]*>>", "", parsed.answer)
    meta = {"kind": "number", "solution": solution}
    return Item(item_id="-", prompt=parsed.question, reference=str(gold), meta=meta)


def _svamp(row: dict[str, Any], _file: str) -> Item:
    parsed = SvampRow.model_validate(row)
    try:
        gold = Decimal(str(parsed.Answer)).normalize()
    except InvalidOperation:
        raise ValueError(f"the answer {parsed.Answer!r} is no number") from None
    story = parsed.Body if parsed.Body.endswith((".", "?", "!")) else f"{parsed.Body}."
    prompt = f"{story} {parsed.Question}"
    return Item(item_id="-", prompt=prompt, reference=f"{gold:f}", meta={"kind": "number"})


def _arc(row: dict[str, Any], _file: str) -> Item:
    stem = row.get("question")
    if isinstance(stem, dict) and isinstance(stem.get("choices"), list):  # AllenAI's own files
        texts, labels = (
            [choice.get(key) for choice in stem["choices"]] for key in ("text", "label")
        )
        row = row | {"question": stem.get("stem"), "choices": {"text": texts, "label": labels}}
    parsed = ArcRow.model_validate(row)
    if parsed.answerKey not in parsed.choices.label:
        raise ValueError(f"the answer {parsed.answerKey!r} is none of {parsed.choices.label}")
    return _choice(
        parsed.question, parsed.choices.text, parsed.choices.label.index(parsed.answerKey)
    )


def _mmlu(row: dict[str, Any], file: str) -> Item:
    if "choice0" in row:  # one file per subject, choices in columns of their own
        columns = sorted(name for name in row if re.fullmatch(r"choice\d", name))
        subject = re.sub(r"_(test|dev|val)$", "", file)
        row = {
            "question": row["question"],
            "choices": [row[name] for name in columns],
            "answer": LETTERS.find(row["answer"]) if row["answer"].isalpha() else row["answer"],
            "subject": subject,
        }
    parsed = MmluRow.model_validate(row)
    if parsed.answer >= len(parsed.choices):
        raise ValueError(f"the answer {parsed.answer} is none of {len(parsed.choices)} choices")
    return _choice(parsed.question, parsed.choices, parsed.answer, subject=parsed.subject)


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

    read: Callable[[dict[str, Any], str], Item]
    """Returns the item of a row of a file of this name."""
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
        for number, row in enumerate(rows, start=1):
            try:
                yield self.read(row, file)
            except ValidationError as error:
                raise DataError(
                    f"{where}, row {number}, {explain(error)}; expected the columns of {self.hub} "
                    f"at {str(self.revision)[:8]}"
                ) from None
            except (ValueError, TypeError, KeyError, AttributeError) as error:
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
        read=_arc,
        paper_test=500,
    )


QUESTION_SETS = {
    "gsm8k": QuestionSet(
        hub="openai/gsm8k",
        config="main",
        revision="e53f048856ff4f594e959d75785d2c2d37b678ee",
        files=_both("gsm8k/main/{0}*.parquet", "gsm8k/{0}.jsonl"),
        read=_gsm8k,
        paper_test=200,
        paper_train=5_000,
    ),
    "svamp": QuestionSet(
        hub="ChilleD/SVAMP",
        revision="5e0bf1e5e7c0e9c4bc39180d224f41f3f801b7ef",
        files=_both("svamp/data/{0}*.parquet", "svamp/{0}.json*"),
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
        read=_mmlu,
        paper_test=None,
        hub_train="dev",
    ),
}
