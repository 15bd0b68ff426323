"""Responses that were made elsewhere: JSONL by item, or the outputs of alpaca_eval.

{"item_id": "tea-1", "response": "Pour hot water on the leaves."}            one line an item
[{"instruction": "How do I brew tea?", "output": "Pour ...", "generator": "m"}]     alpaca_eval
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mipo_eval.errors import DataError
from mipo_eval.importers.base import FileRow, read_rows
from mipo_eval.records import Item
from mipo_eval.tasks.prompt import render_query

SUFFIXES = (".jsonl", ".json")
_SHOWN = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseFile:
    """What a file says to the items of a suite."""

    name: str
    """The generator it names, or the file's own name."""
    texts: Mapping[str, str | None]
    """Response by item key; None where the file says that there is none."""
    others: int
    """Rows about items that the suite does not have."""


def read_responses(path: Path, items: Sequence[Item]) -> ResponseFile:
    """Return a file's responses to these items.

    Rows of alpaca_eval name no item: their instruction is an item's prompt, or the whole query
    with or without the user's context. Where several items have it, there must be as many rows,
    in the items' order.

    Args:
        path: a .jsonl or .json file.
        items: the items that responses are wanted for.

    Raises:
        DataError: the file cannot be read, a row is malformed or there twice, or no row is about
            any of the items.
    """
    rows = list(read_rows(path))
    if not rows:
        raise DataError(f"{path} holds no responses")
    if "item_id" in rows[0].data:
        name, texts = path.name, _by_id(rows, items)
    elif {"instruction", "output"} <= rows[0].data.keys():
        name, texts = _generator(rows) or path.name, _by_instruction(rows, items)
    else:
        raise rows[0].wrong(
            'is no response: write {"item_id": ..., "response": ...}, or alpaca_eval\'s '
            '{"instruction": ..., "output": ..., "generator": ...}'
        )
    if not texts:
        raise DataError(f"{path}: none of its {len(rows)} rows is about an item of the suite")
    return ResponseFile(name=name, texts=texts, others=len(rows) - len(texts))


def _by_id(rows: Sequence[FileRow], items: Sequence[Item]) -> dict[str, str | None]:
    keys = {item.item_id: item.key for item in items}
    texts: dict[str, str | None] = {}
    seen: set[str] = set()
    for row in rows:
        item_id = row.text("item_id")
        if item_id in seen:
            raise row.wrong(f"item_id {item_id!r} was there before: one response an item")
        seen.add(item_id)
        text = None if row.get("response") is None else row.written("response")
        if item_id in keys:
            texts[keys[item_id]] = text
    return texts


def _generator(rows: Sequence[FileRow]) -> str | None:
    names = {row.data["generator"]: row for row in rows if row.data.get("generator")}
    if len(names) > 1:
        second = list(names.values())[1]
        raise second.wrong(f"the file is of several generators ({', '.join(map(str, names))})")
    return str(next(iter(names))) if names else None


def _by_instruction(rows: Sequence[FileRow], items: Sequence[Item]) -> dict[str, str | None]:
    of_instruction: dict[str, list[FileRow]] = {}
    for row in rows:
        of_instruction.setdefault(row.text("instruction").strip(), []).append(row)
    texts: dict[str, str | None] = {}
    for form in _forms():
        asked: dict[str, list[Item]] = {}
        for item in items:
            if item.key not in texts:
                asked.setdefault(form(item).strip(), []).append(item)
        for instruction, wanting in asked.items():
            found = of_instruction.pop(instruction, [])
            if found and len(found) != len(wanting):
                raise found[0].wrong(
                    f"{len(wanting)} items of the suite ask {instruction[:_SHOWN]!r} and the file "
                    f"has {len(found)} outputs for it: name the items, in JSONL with item_id"
                )
            for item, row in zip(wanting, found, strict=False):
                texts[item.key] = row.written("output")
    return texts


def _forms() -> Iterator[Callable[[Item], str]]:
    """Yield how an item may stand in a file, the most telling form first."""
    yield lambda item: render_query(item, "personalized")
    yield lambda item: render_query(item, "default")
    yield lambda item: item.prompt
