"""Item files: one `records.Item` per row, read and written one row at a time; written as JSONL."""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mipo_eval.errors import DataError
from mipo_eval.records import Item, explain
from mipo_eval.rows import FileRow, is_columnar, read_rows, without_nulls


def read_items(source: Path | str) -> Iterator[Item]:
    """Read an item file, or a data set on the hub; memory grows only with the ids.

    Blank lines and a byte order mark are passed over. Nothing else is: the first wrong line ends
    the reading, because a suite with holes would silently be another suite.

    Example:
        {"item_id": "tea-u1", "prompt": "How do I brew tea?", "context": "I am nine.",
         "preferences": ["Use words a child knows."], "reference": "Ask a grown-up to ..."}

    Of Parquet and the hub, where every row has every column, null is what is absent.

    Raises:
        DataError: the file is missing, not a file, unreadable or empty (raised at the call where
            that can be seen), or a line is no valid item or repeats an id (raised on reaching it);
            names file and line.
    """
    path = Path(source)
    if path.is_file() and not path.stat().st_size:
        raise DataError(f"{path} is empty: an item file has one JSON object on each line")
    return _read(source, read_rows(source, exact=True))


def check_items(rows: Iterable[Item | Mapping[str, Any]], source: str) -> Iterator[Item]:
    """Yield the items of rows that come from a program: items, or what a line of a file holds.

    Raises:
        DataError: as `read_items`; `source` names the program.
    """
    numbered = enumerate(rows, 1)
    return _read(source, (FileRow(f"{source}, row {n}", _fields(row)) for n, row in numbered))


def _fields(row: Item | Mapping[str, Any]) -> dict[str, Any]:
    return row.model_dump() if isinstance(row, Item) else dict(row)


def _read(source: Path | str, rows: Iterable[FileRow]) -> Iterator[Item]:
    first: dict[str, str] = {}
    for row in rows:
        item = _item(without_nulls(row) if is_columnar(source) else row)
        place = row.where.removeprefix(f"{source}, ")
        if item.item_id in first:
            raise DataError(
                f"{row.where}, field item_id: {item.item_id!r} was already used in "
                f"{first[item.item_id]}; give every item its own id"
            )
        first[item.item_id] = place
        yield item
    if not first:
        raise DataError(
            f"{source} contains no items: an item file has one JSON object on each line"
        )


def _item(row: FileRow) -> Item:
    """Return the item of one line of an item file; file and line open every message.

    Raises:
        DataError: the line is no valid item; one line with the field and what to do.
    """
    try:
        return Item.model_validate(row.data)
    except ValidationError as error:
        count = error.error_count()
        more = f" (and {count - 1} more in this line)" if count > 1 else ""
        raise DataError(f"{row.where}, {explain(error)}{more}") from None


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a file to write that takes the place of `path` at the end, as a whole or not at all.

    A stopped or failed writing leaves the old file as it was. The folder has to be there.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    part = Path(name)
    try:
        yield part
        part.chmod(0o644)  # mkstemp makes private files; data is to be shared
        part.replace(path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def write_items(path: Path, items: Iterable[Item]) -> int:
    """Write an item file as a whole or not at all, and return how many items it holds.

    Raises:
        DataError: two items share an id, an item cannot be written as UTF-8, there is no item, or
            the folder cannot be written to.
    """
    seen: set[str] = set()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part, part.open("wb") as file:
            for item in items:
                if item.item_id in seen:
                    raise DataError(
                        f"{path}: two items have the item_id {item.item_id!r}: give every item "
                        "its own id"
                    )
                seen.add(item.item_id)
                file.write(_line(item, path))
            if not seen:
                raise DataError(f"{path}: there are no items to write, so the file was not changed")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise DataError(
            f"{path} cannot be written ({error.strerror}): check the folder and the free space"
        ) from error
    return len(seen)


def _line(item: Item, path: Path) -> bytes:
    try:
        # Not mode="json": it would turn a NaN in meta into null without a word.
        text = json.dumps(item.model_dump(), ensure_ascii=False, allow_nan=False)
        return text.encode("utf-8") + b"\n"
    except (ValueError, TypeError) as error:  # a lone surrogate, NaN or a non-JSON value in meta
        raise DataError(f"{path}: item {item.item_id!r} cannot be written ({error})") from error
