"""Preference pairs of one's own: a file with TRL's columns, read as items that carry their pair.

A row is {"prompt": ..., "chosen": ..., "rejected": ...}: texts, or conversations as lists of
{"role", "content"}. `rejected` may be a list of several. Without `prompt` chosen and rejected are
whole conversations with all turns but the last in common. Rows with the same prompt and chosen
response are one item with all their rejected ones, so that they are read once where they meet.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mipo_eval.errors import DataError
from mipo_eval.keys import digest
from mipo_eval.records import Item, explain
from mipo_eval.rows import FileRow, read_rows, without_nulls

Turns = tuple[tuple[str, str], ...]
"""Role and content of each message."""


def read_pairs(path: Path) -> tuple[Item, ...]:
    """Return the pairs of a file as items, whose meta holds "chosen" and "rejected".

    Raises:
        DataError: the file cannot be read, has no rows, or one of them is no pair; names it.
    """
    found: dict[str, tuple[FileRow, Turns, str, dict[str, None]]] = {}
    for row in map(without_nulls, read_rows(path)):
        prompt, chosen, rejected = _pair(row)
        entry = found.setdefault(digest([prompt, chosen]), (row, prompt, chosen, {}))
        entry[3].update(dict.fromkeys(rejected))
    if not found:
        raise DataError(f"{path} contains no pairs: a row needs prompt, chosen and rejected")
    return tuple(
        _item(row, name, prompt, {"chosen": chosen, "rejected": list(rejected)})
        for name, (row, prompt, chosen, rejected) in found.items()
    )


def _item(row: FileRow, name: str, prompt: Turns, pair: Mapping[str, Any]) -> Item:
    turns = [{"role": role, "content": content} for role, content in prompt]
    about = {"item_id": f"pair-{name[:16]}", "group_id": digest(prompt)[:16], "meta": dict(pair)}
    try:
        return Item.model_validate({**about, "messages": turns})
    except ValidationError as error:
        raise row.wrong(f"its prompt: {explain(error)}") from None


def _pair(row: FileRow) -> tuple[Turns, str, list[str]]:
    """Return prompt, chosen response and rejected ones of a row."""
    own, chosen = row.data.get("prompt"), row.get("chosen")
    several = list(_several(row))
    if own is None:
        if isinstance(chosen, str):
            raise row.wrong("has no field 'prompt', and chosen is no conversation that holds it")
        own = chosen[:-1] if isinstance(chosen, list) else own
    prompt = (("user", own),) if isinstance(own, str) else _turns(row, "prompt", own)
    if not prompt or prompt[-1][0] != "user" or not prompt[-1][1].strip():
        raise row.wrong("its prompt does not end with a user's turn that says something")
    return (
        prompt,
        _response(row, "chosen", chosen, prompt),
        [_response(row, "rejected", one, prompt) for one in several],
    )


def _several(row: FileRow) -> Iterator[Any]:
    value = row.get("rejected")
    if isinstance(value, list) and value and not isinstance(value[0], dict):
        yield from value
    else:
        yield value


def _response(row: FileRow, name: str, value: Any, prompt: Turns) -> str:
    """Return the text of a response, given alone, as a message, or behind its prompt."""
    if isinstance(value, str):
        text = value
    else:
        *before, last = _turns(row, name, value) or ((),)
        if not last or last[0] != "assistant":
            raise row.wrong(f"{name} does not end with an assistant's turn")
        if before and tuple(before) != prompt:
            raise row.wrong(f"{name} answers another conversation than the row's prompt")
        text = last[1]
    if not text.strip():
        raise row.wrong(f"{name} is blank")
    return text


def _turns(row: FileRow, name: str, value: Any) -> Turns:
    if not isinstance(value, list):
        raise row.wrong(f"{name} is neither a text nor a conversation")
    part = FileRow(row.where, {name: value})
    return tuple((turn.text("role"), turn.text("content")) for turn in part.rows(name))
