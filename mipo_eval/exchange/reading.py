"""Rows of JSON, JSON lines and CSV files; what is wrong is said with file and line."""

import csv
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mipo_eval.errors import DataError
from mipo_eval.exchange.records import cleaned

_MAX_SHOWN = 40


class FileRow(NamedTuple):
    """One JSON object of a file."""

    where: str
    """File and line, or file and row, for messages."""
    data: dict[str, Any]

    def wrong(self, what: str) -> DataError:
        """Return the error that this row is wrong."""
        return DataError(f"{self.where}: {what}")

    def get(self, name: str) -> Any:
        """Return a field that has to be there."""
        if name not in self.data:
            raise self.wrong(f"has no field {name!r}")
        return self.data[name]

    def text(self, name: str) -> str:
        """Return a field that has to be a text with something in it."""
        value = self.get(name)
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(f"{name} is {_shown(value)}, not a text")
        return value

    def string(self, name: str) -> str:
        """Return a field that has to be a text; it may be empty."""
        value = self.get(name)
        if not isinstance(value, str):
            raise self.wrong(f"{name} is {_shown(value)}, not a text")
        return value

    def written(self, name: str) -> str:
        """Return a text; a writer may have taken one that reads "true" or "12" for a value."""
        value = self.get(name)
        return json.dumps(value) if isinstance(value, bool | int | float) else self.string(name)

    def name(self, name: str) -> str:
        """Return a field that has to be a text or a whole number, as text."""
        value = self.get(name)
        if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
            raise self.wrong(f"{name} is {_shown(value)}, not a name")
        return str(value)

    def number(self, name: str) -> float | None:
        """Return a field that has to be a finite number or null."""
        return self.as_number(self.get(name), name)

    def as_number(self, value: Any, name: str) -> float | None:
        """Return a value that has to be a finite number or null."""
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(f"{name} is {_shown(value)}, not a number")
        if not math.isfinite(value):
            raise self.wrong(f"{name} is {value}, not a finite number")
        return float(value)

    def elements(self, name: str) -> list[Any]:
        """Return a field that has to be a list."""
        value = self.get(name)
        if not isinstance(value, list):
            raise self.wrong(f"{name} is {_shown(value)}, not a list")
        return value

    def rows(self, name: str) -> "list[Row]":
        """Return a field that has to be a list of objects."""
        return [_row(f"{self.where}, {name}[{n}]", v) for n, v in enumerate(self.elements(name))]

    def row(self, name: str) -> "Row":
        """Return a field that has to be an object."""
        return _row(f"{self.where}, {name}", self.get(name))


def read_rows(path: Path) -> Iterator[FileRow]:
    """Yield the objects of a .jsonl, .json (a list, or one object) or .csv file.

    Raises:
        DataError: the file cannot be read, or holds something else; with the line.
    """
    try:
        if path.suffix == ".jsonl":
            yield from _lines(path)
        elif path.suffix == ".csv":
            with path.open(encoding="utf-8-sig", newline="") as stream:
                for number, fields in enumerate(csv.DictReader(stream), start=2):
                    known = {name: value for name, value in fields.items() if name is not None}
                    yield FileRow(f"{path}, line {number}", cleaned(known))
        else:
            value = parse(path.read_text(encoding="utf-8-sig"), str(path))
            if isinstance(value, list):
                for number, element in enumerate(value, start=1):
                    yield _row(f"{path}, row {number}", element)
            else:
                yield _row(str(path), value)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text (byte {error.start})") from None
    except csv.Error as error:
        raise DataError(f"{path}: is not CSV ({error})") from None


def _lines(path: Path) -> Iterator[FileRow]:
    with path.open(encoding="utf-8-sig") as stream:
        for number, line in enumerate(stream, start=1):
            if line.strip():
                where = f"{path}, line {number}"
                yield _row(where, parse(line, where))


def parse(text: str, where: str) -> Any:
    """Return the JSON value of a text; NaN and infinities, which JSON lacks, are null."""
    try:
        return json.loads(text, parse_constant=lambda _: None)
    except json.JSONDecodeError as error:
        line = f", line {error.lineno}" if ", line" not in where else ""
        raise DataError(f"{where}{line}: is not JSON ({error.msg})") from None
    except RecursionError:
        raise DataError(f"{where}: is nested too deeply to be read") from None


def _row(where: str, value: Any) -> FileRow:
    if not isinstance(value, dict):
        raise DataError(f"{where}: is {_shown(value)}, not a JSON object")
    return FileRow(where, cleaned(value))


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 3] + "..."
