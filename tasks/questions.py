"""Verifiable questions (GSM8K, SVAMP, ARC, MMLU) as items, from local files or the hub.

An item's prompt is the whole question, lettered choices included; its reference is the right
answer: a number ("1080") or a letter ("B"). `meta` holds "kind" ("number" or "choice"), and for
choices "question" (without them), "choices" and, for MMLU, "subject"; for GSM8K "solution".
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mipo_eval.errors import DataError
from mipo_eval.keys import digest
from mipo_eval.records import Item, Text
from mipo_eval.tasks.extraction import extract_number
from mipo_eval.tasks.items import explain
from mipo_eval.tasks.tables import hub_rows, read_rows

Split = Literal["train", "test"]
LETTERS = "ABCDEFGHIJ"


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
class QuestionSet:
    """Where a set of questions comes from and how many of them the paper asks."""

    hub: str
    config: str | None
    revision: str
    """Commit of the hub's repository; the same questions for everybody."""
    files: Mapping[Split, tuple[str, ...]]
    """Glob patterns in the data folder, the first with a match is used."""
    read: Callable[[dict[str, Any], str], Item]
    paper_test: int | None
    """Test questions the paper asks; None: all."""
    paper_train: int | None = None
    """Training questions the paper uses; None: all."""
    unsplit: str | None = None
    """A file with all rows of both splits; the test split is drawn from it by seed."""


def _arc_set(config: str, paper_test: int) -> QuestionSet:
    return QuestionSet(
        hub="allenai/ai2_arc",
        config=config,
        revision="210d026faf9955653af8916fad021475a3f00453",
        files={
            split: (
                f"arc/{config}/{split}*.parquet",
                f"arc/*{config}[-_]{split}.jsonl",
                f"arc/{config}-{split.title()}.jsonl",
            )
            for split in ("train", "test")
        },
        read=_arc,
        paper_test=paper_test,
    )


QUESTION_SETS = {
    "gsm8k": QuestionSet(
        hub="openai/gsm8k",
        config="main",
        revision="e53f048856ff4f594e959d75785d2c2d37b678ee",
        files={
            split: (f"gsm8k/main/{split}*.parquet", f"gsm8k/{split}.jsonl")
            for split in ("train", "test")
        },
        read=_gsm8k,
        paper_test=200,
        paper_train=5_000,
    ),
    "svamp": QuestionSet(
        hub="ChilleD/SVAMP",
        config=None,
        revision="5e0bf1e5e7c0e9c4bc39180d224f41f3f801b7ef",
        files={
            split: (f"svamp/data/{split}*.parquet", f"svamp/{split}.json*")
            for split in ("train", "test")
        },
        read=_svamp,
        paper_test=300,
        paper_train=700,
        unsplit="svamp/SVAMP.json",
    ),
    "arc_easy": _arc_set("ARC-Easy", 500),
    "arc_challenge": _arc_set("ARC-Challenge", 500),
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
    ),
}


def load_questions(
    name: str, data_dir: Path, split: Split = "test", *, subset: int | None = None, seed: int = 0
) -> list[Item]:
    """Return the questions of a set: local files of the data folder first, else the hub.

    Args:
        name: a key of `QUESTION_SETS`.
        data_dir: where local files are looked for.
        split: which part.
        subset: only so many, drawn by `seed`; None: all, in the order of the file.
        seed: of the draw. A question's place in it depends on its content only, so the same
            questions are drawn from the hub, a local file, or a reordered one.

    Raises:
        DataError: neither local files nor the hub can be read, a row is not in the known schema,
            or there are fewer questions than `subset`.
    """
    spec = QUESTION_SETS[name]
    items = list(_numbered(name, split, _items(spec, data_dir, split)))
    if subset is None:
        return items
    if len(items) < subset:
        raise DataError(
            f"{name} has only {len(items)} {split} questions here, fewer than the {subset} asked "
            f"for: complete the files in {data_dir}, or ask for fewer (subset; null for all)"
        )
    return sorted(items, key=lambda item: digest([seed, item.prompt, item.item_id]))[:subset]


def _items(spec: QuestionSet, data_dir: Path, split: Split) -> Iterator[Item]:
    for pattern in spec.files[split]:
        if files := sorted(data_dir.glob(pattern)):
            for path in files:
                yield from _parsed(spec, read_rows(path), str(path), path.stem)
            return
    if spec.unsplit and (path := data_dir / spec.unsplit).is_file():
        items = list(_parsed(spec, read_rows(path), str(path), path.stem))
        yield from _drawn_split(items, spec.paper_test or 0, split)
        return
    looked_for = [*spec.files[split], *([spec.unsplit] if spec.unsplit else [])]
    hub_split = "dev" if spec.hub == "cais/mmlu" and split == "train" else split
    try:
        rows = hub_rows(spec.hub, spec.config, spec.revision, hub_split)
    except DataError as error:
        raise DataError(
            f"no local file ({', '.join(str(data_dir / name) for name in looked_for)}) and {error}"
        ) from error
    yield from _parsed(spec, rows, f"{spec.hub}@{spec.revision[:8]}", spec.hub)


def _drawn_split(items: list[Item], n_test: int, split: Split) -> list[Item]:
    """Split a file that has none. Not the hub's split, whose draw was not published."""
    test = {item.prompt for item in sorted(items, key=lambda i: digest(i.prompt))[:n_test]}
    return [item for item in items if (item.prompt in test) == (split == "test")]


def _parsed(
    spec: QuestionSet, rows: Iterable[dict[str, Any]], where: str, file: str
) -> Iterator[Item]:
    for number, row in enumerate(rows, start=1):
        try:
            yield spec.read(row, file)
        except ValidationError as error:
            problem = explain(error.errors(include_url=False)[0])
            raise DataError(
                f"{where}, row {number}, {problem}; expected the columns of {spec.hub} at "
                f"{spec.revision[:8]}"
            ) from None
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(f"{where}, row {number}: {error}") from None


def _numbered(name: str, split: Split, items: Iterable[Item]) -> Iterator[Item]:
    """Give each question an id made of its content; repeated questions are numbered."""
    seen: Counter[str] = Counter()
    for item in items:
        content = digest([item.prompt, item.reference])[:16]
        seen[content] += 1
        again = f"-{seen[content]}" if seen[content] > 1 else ""
        yield item.model_copy(update={"item_id": f"{name}-{split}-{content}{again}"})
