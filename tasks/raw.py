"""Items straight from the files two public data sets publish, without an extractor model.

P-Soups (in the layout of AlignX) and PrefEval. Columns that are not needed may come and go; a
missing or changed one is schema drift and ends the reading, naming file, row and column.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from mipo_eval.errors import DataError
from mipo_eval.keys import digest
from mipo_eval.records import Item, Text
from mipo_eval.tasks.items import explain, has_lone_surrogate


class Files(NamedTuple):
    """Raw files of one data set, and where they were looked for."""

    found: tuple[Path, ...]
    looked_for: tuple[str, ...]


Finder = Callable[[Path], Files]
Reader = Callable[[Sequence[Path]], Iterator[Item]]


def _find(data_dir: Path, *patterns: str) -> Files:
    """Return the files of every pattern, sorted so that the order is the same everywhere."""
    found = tuple(path for pattern in patterns for path in sorted(data_dir.glob(pattern)))
    return Files(found, tuple(str(data_dir / pattern) for pattern in patterns))


def psoups_files(data_dir: Path) -> Files:
    """Find P-Soups' files in the data folder."""
    return _find(data_dir, "psoups_alignx/*.json", "psoups/*.json")


_EXPLICIT = ("prefeval/explicit_preference/*.json",)
_IMPLICIT = ("prefeval/implicit_preference/persona-driven/*.json",)


def explicit_files(data_dir: Path) -> Files:
    """Find PrefEval's questions whose preference is stated outright."""
    return _find(data_dir, *_EXPLICIT)


def implicit_files(data_dir: Path) -> Files:
    """Find PrefEval's questions whose preference shows only in an earlier conversation."""
    return _find(data_dir, *_IMPLICIT)


def prefeval_files(data_dir: Path) -> Files:
    """Find both forms of PrefEval."""
    return _find(data_dir, *_EXPLICIT, *_IMPLICIT)


class PsoupsRow(BaseModel):
    """One row of `P-Soups/*.json`: a prompt, whom to answer, a good and a bad answer."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    prompt: Text
    chosen: Text
    rejected: Text
    ground_truth_persona: Text
    profile: str = ""


def psoups_items(files: Sequence[Path]) -> Iterator[Item]:
    """Yield one item per row of P-Soups; rows sharing a prompt share a group.

    Raises:
        DataError: a file is no JSON list of rows in the expected schema.
    """
    for path in files:
        seen: Counter[str] = Counter()
        for raw, row in _rows(path, PsoupsRow):
            yield Item(
                item_id=_item_id(f"psoups-{path.stem}", raw, seen),
                prompt=row.prompt,
                context=row.ground_truth_persona,
                preferences=(row.ground_truth_persona,),
                reference=row.chosen,
                group_id=prompt_group(row.prompt),
                meta={"rejected": row.rejected, "profile": row.profile},
            )


class Turn(BaseModel):
    """One exchange of an earlier conversation."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    user: Text
    assistant: Text


class PrefevalRow(BaseModel):
    """One row of PrefEval: a question whose usual answer collides with the user's preference."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    preference: Text
    question: Text
    explanation: str = ""
    persona: str = ""
    conversation: dict[int, Turn] | None = None
    """Turns by number, in the implicit form; the preference is said in passing in one of them."""


def prefeval_items(files: Sequence[Path]) -> Iterator[Item]:
    """Yield one item per row of PrefEval, explicit or implicit by its schema; no references.

    Both forms of one question share a group, since they are the same question.

    Raises:
        DataError: a file is no JSON list of rows in the expected schema.
    """
    for path in files:
        seen: Counter[str] = Counter()
        for raw, row in _rows(path, PrefevalRow):
            form = "explicit" if row.conversation is None else "implicit"
            yield Item(
                item_id=_item_id(f"prefeval-{form}-{path.stem}", raw, seen),
                prompt=row.question,
                context=render_conversation(row.conversation) or row.preference,
                preferences=(row.preference,),
                group_id=prompt_group(row.question),
                meta={
                    "topic": path.stem,
                    "form": form,
                    "explanation": row.explanation,
                    "persona": row.persona,
                },
            )


def render_conversation(conversation: dict[int, Turn] | None) -> str:
    """Return an earlier conversation as text, turns in their numbered order; empty for none."""
    turns = (conversation or {}).items()
    return "\n\n".join(
        f"User: {turn.user}\n\nAssistant: {turn.assistant}" for _, turn in sorted(turns)
    )


def prompt_group(prompt: str) -> str:
    """Return the group of all items that ask this prompt."""
    return digest(prompt.strip())


def _item_id(prefix: str, raw: dict[str, Any], seen: Counter[str]) -> str:
    """Return an id that depends on the row's content, not on its place; repeats are numbered."""
    content = digest(raw)[:16]
    seen[content] += 1
    return f"{prefix}-{content}" + (f"-{seen[content]}" if seen[content] > 1 else "")


Row = TypeVar("Row", bound=BaseModel)


def _rows(path: Path, schema: type[Row]) -> Iterator[tuple[dict[str, Any], Row]]:
    """Yield each raw row with its validated form."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from error
    except ValueError as error:  # not JSON, or not UTF-8
        raise DataError(f"{path} is not a JSON file ({error}); fetch it again") from error
    if not isinstance(rows, list):
        raise DataError(f"{path} is not a JSON list of rows; its layout is not the known one")
    for number, raw in enumerate(rows, start=1):
        try:
            row = schema.model_validate(raw)
        except ValidationError as error:
            problem = explain(error.errors(include_url=False)[0])
            expected = ", ".join(schema.model_fields)
            raise DataError(
                f"{path}, row {number}, {problem}; expected the columns {expected}"
            ) from None
        if has_lone_surrogate(raw):
            raise DataError(f"{path}, row {number}: holds half of a surrogate pair; remove it")
        yield raw, row
