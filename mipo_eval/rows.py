"""Rows of data: JSONL, JSON, CSV and Parquet files, gzipped or not, and splits of hub data sets.

Every data file is read here, whoever wrote it. What JSON is read as is told by the content, not by
the name: a list under the name .jsonl is a list, objects one a line under .json are lines. Files
of others are taken as far as a store can hold them (`NaN` is null, half a surrogate pair is
U+FFFD); `exact` refuses what would have to be changed. Nothing else is passed over: what is wrong
is one `DataError` that names file and line.
"""

import csv
import gzip
import io
import json
import math
import re
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from typing import IO, Any, NamedTuple

from mipo_eval.errors import ConfigError, DataError
from mipo_eval.keys import clean_text

HUB = "hf://"
"""What the name of a data set on the hub opens with."""
HUB_FORM = "hf://OWNER/NAME[/CONFIG][@REVISION][:SPLIT]"
FORMS = f"a FILE.jsonl, .json or .parquet (.gz too), or {HUB_FORM}"
"""What names rows, for messages."""
_SUFFIXES = (".jsonl", ".json", ".parquet")
_HUB = re.compile(
    r"hf://(?P<name>[\w.-]+/[\w.-]+)(?:/(?P<config>[^:@]+))?"
    r"(?:@(?P<revision>[^:]+))?(?::(?P<split>.+))?"
)
_BOM = b"\xef\xbb\xbf"
_OTHER_BOMS = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
_GZIP, _PARQUET = b"\x1f\x8b", b"PAR1"
_DEEPEST = 100
"""Objects and lists in one another: far beyond any data, and far from Python's own limit."""
_MAX_SHOWN = 40

Placed = Iterator[tuple[str, Any]]
"""Where each row stands, for messages, and what it is."""


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

    def text(self, name: str, *, empty: bool = False) -> str:
        """Return a field that has to be a text, with something in it unless it may be empty."""
        value = self.get(name)
        if not isinstance(value, str) or not (empty or value.strip()):
            raise self.wrong(f"{name} is {shown(value)}, not a text")
        return value

    def written(self, name: str) -> str:
        """Return a text; a writer may have taken one that reads "true" or "12" for a value."""
        value = self.get(name)
        if isinstance(value, bool | int | float):
            return json.dumps(value)
        return self.text(name, empty=True)

    def name(self, name: str) -> str:
        """Return a field that has to be a text or a whole number, as text."""
        value = self.get(name)
        if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
            raise self.wrong(f"{name} is {shown(value)}, not a name")
        return str(value)

    def number(self, name: str) -> float | None:
        """Return a field that has to be a finite number or null."""
        return self.as_number(self.get(name), name)

    def as_number(self, value: Any, name: str) -> float | None:
        """Return a value that has to be a finite number or null."""
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(f"{name} is {shown(value)}, not a number")
        if not math.isfinite(value):
            raise self.wrong(f"{name} is {value}, not a finite number")
        return float(value)

    def elements(self, name: str) -> list[Any]:
        """Return a field that has to be a list."""
        value = self.get(name)
        if not isinstance(value, list):
            raise self.wrong(f"{name} is {shown(value)}, not a list")
        return value

    def rows(self, name: str) -> "list[FileRow]":
        """Return a field that has to be a list of objects."""
        return [_row(f"{self.where}, {name}[{n}]", v) for n, v in enumerate(self.elements(name))]

    def row(self, name: str) -> "FileRow":
        """Return a field that has to be an object."""
        return _row(f"{self.where}, {name}", self.get(name))


def is_hub(source: str | Path) -> bool:
    """Whether rows are those of a data set on the hub."""
    return str(source).startswith(HUB)


def names_rows(name: str) -> bool:
    """Whether a name is that of a file of rows, or of a data set on the hub, by its form."""
    return is_hub(name) or name.removesuffix(".gz").endswith(_SUFFIXES)


def is_columnar(name: str | Path) -> bool:
    """Whether every row has every column, so that null stands for what is absent."""
    return is_hub(name) or Path(name).suffix == ".parquet"


def without_nulls(row: FileRow) -> FileRow:
    """Return a row of columns with the fields that it has: null is what other rows have."""
    return FileRow(row.where, _present(row.data))


def _present(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _present(own) for name, own in value.items() if own is not None}
    return [_present(element) for element in value] if isinstance(value, list) else value


def short_name(source: str | Path) -> str:
    """Return what rows are called: a data set's name on the hub, or a file's without its form."""
    if is_hub(source):
        return str(source).removeprefix(HUB).replace(":", "/")
    name = Path(source).name.removesuffix(".gz")
    return Path(name).stem


def read_rows(source: str | Path, *, exact: bool = False) -> Iterator[FileRow]:
    """Return the objects of a file or of a data set on the hub, streamed where possible.

    Args:
        source: see `FORMS`; a file whose name ends otherwise is taken for JSON.
        exact: refuse what cannot be kept as it stands, as with files of our own form.

    Raises:
        DataError: it is not there, cannot be read, or holds something else; with the line.
    """
    if is_hub(source):
        return _rows(_hub_split(str(source)), exact=exact)
    path = Path(source)
    if path.is_dir():
        raise DataError(f"{path} is a folder: name one file in it, for example {path}/X.jsonl")
    if not path.exists():
        raise DataError(f"{path} is not there: check the path")
    if path.is_char_device():  # some never end
        raise DataError(f"{path} is a device: name a file")
    return _rows(_placed(path, exact=exact), exact=exact)


def _rows(placed: Placed, *, exact: bool) -> Iterator[FileRow]:
    text = _exact_text if exact else _clean_text
    for where, value in placed:
        row = _row(where, value)
        fields = {
            text(name, where): _kept(own, f"{where}, field {clean_text(name)}", text)
            for name, own in row.data.items()
        }
        yield FileRow(where, fields)


def csv_cells(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the cells of each line of a CSV file, numbered from 1.

    Raises:
        DataError: the file cannot be read or is not CSV.
    """
    csv.field_size_limit(2**31 - 1)  # a response may be longer than the 128 KiB of the default
    with _reading(path) as stream:
        lines = csv.reader(io.TextIOWrapper(stream, encoding="utf-8-sig", newline=""))
        yield from ((lines.line_num, cells) for cells in lines if cells)


def parse(content: str | bytes, where: str, *, exact: bool = False) -> Any:
    """Return the JSON value of a text; NaN and infinities, which JSON lacks, are null.

    Raises:
        DataError: it is no JSON, or not what can be kept; `where` opens the message.
    """
    if isinstance(content, bytes):
        try:
            content = content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(
                f"{where}: is not UTF-8 text (byte {error.start + 1}); save the file as UTF-8"
            ) from None
    try:
        return json.loads(
            content,
            parse_constant=_refused_constant if exact else lambda _: None,
            object_pairs_hook=_object,
        )
    except json.JSONDecodeError as error:
        line = f", line {error.lineno}" if ", line" not in where else ""
        raise _NotJsonError(
            f"{where}{line}: is not JSON ({error.msg}, column {error.colno})"
        ) from None
    except _RefusedError as error:
        raise DataError(f"{where}: {error}") from None
    except ValueError:
        raise DataError(f"{where}: holds a number of too many digits to be read") from None
    except RecursionError:
        raise DataError(f"{where}: is nested too deeply to be read") from None


class _NotJsonError(DataError):
    """A text is no JSON; a longer one may be."""


class _RefusedError(ValueError):
    """What JSON's grammar allows, or Python's parser, and nobody can have meant."""


def _refused_constant(name: str) -> None:
    raise _RefusedError(f"holds {name}, which is not JSON; write null or a number")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _RefusedError(f"has the field {shown(clean_text(twice))} twice in one object")
    return made


def shown(value: Any) -> str:
    """Return a value as a message can quote it."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 3] + "..."


def _row(where: str, value: Any) -> FileRow:
    if not isinstance(value, dict):
        told = "a list" if isinstance(value, list) else shown(value)  # it may be too deep to show
        raise DataError(f"{where}: is {told}, not a JSON object")
    return FileRow(where, value)


def cleaned(value: Any, where: str) -> Any:
    """Return a JSON value with every text as a database can hold it.

    Raises:
        DataError: it holds what JSON has no form for, or is nested too deeply.
    """
    return _kept(value, where, _clean_text)


Texts = Callable[[str, str], str]


def _clean_text(text: str, _where: str) -> str:
    return clean_text(text)


def _exact_text(text: str, where: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise DataError(
            f"{where}: holds half of a surrogate pair (\\ud8xx), which no UTF-8 text can; remove it"
            " or write the whole character"
        ) from None
    return text


def _kept(value: Any, where: str, text: Texts, depth: int = 0) -> Any:
    """Return a value as JSON has it, with its texts as `text` gives them back."""
    if isinstance(value, str):
        return text(value, where)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float | Decimal):
        number = float(value) if isinstance(value, Decimal) else value
        return _number(number, where, exact=text is _exact_text)
    if depth > _DEEPEST:
        raise DataError(f"{where}: is nested too deeply to be read")
    if isinstance(value, list | tuple):
        return [_kept(element, where, text, depth + 1) for element in value]
    if isinstance(value, dict):
        return {text(str(n), where): _kept(v, where, text, depth + 1) for n, v in value.items()}
    if isinstance(value, date | time):  # columns of Parquet
        return value.isoformat()
    kind = type(value).__name__
    raise DataError(f"{where}: holds {kind}, which no JSON has: leave that column out")


def _number(value: float, where: str, *, exact: bool) -> float | None:
    if abs(value) > sys.float_info.max:  # also written as 1e999
        raise DataError(f"{where} is inf, not a finite number: write one that fits in 64 bits")
    if isinstance(value, int):
        return value
    if math.isnan(value):
        if exact:
            raise DataError(f"{where}: holds NaN, which is not JSON; write null or a number")
        return None
    return value


@contextmanager
def _reading(path: Path) -> Iterator[IO[bytes]]:
    """Open a file, unpacked where it is packed; whatever goes wrong is one message."""
    try:
        with path.open("rb") as raw:
            packed = raw.peek(2)[:2] == _GZIP
            with gzip.open(raw) if packed else raw as stream:
                yield stream  # type: ignore[misc]
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: is not a whole gzip file ({error}); fetch it again") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: is not UTF-8 text (byte {error.start + 1}); save the file as UTF-8"
        ) from None
    except csv.Error as error:
        raise DataError(f"{path}: is not CSV ({error})") from None


def _placed(path: Path, *, exact: bool) -> Placed:
    if path.name.removesuffix(".gz").endswith(".csv"):
        yield from _csv(path)
        return
    with _reading(path) as stream:
        first = stream.readline()
        if first.startswith(_PARQUET) or path.suffix == ".parquet":
            yield from _parquet(path)
            return
        if first.startswith(_OTHER_BOMS):
            raise DataError(f"{path}: is UTF-16 or UTF-32 text; save the file as UTF-8")
        yield from _json(stream, first.removeprefix(_BOM), path, exact=exact)


def _json(stream: IO[bytes], first: bytes, path: Path, *, exact: bool) -> Placed:
    """Yield the objects of JSON lines, or of one document over several lines."""
    number, line = 1, first  # bytes: only "\n" ends a line, as JSONL has it
    while not line.strip():
        number, line = number + 1, stream.readline()
        if not line:
            return
    where = f"{path}, line {number}"
    try:
        value = None if line.lstrip().startswith(b"[") else parse(line, where, exact=exact)
    except _NotJsonError:
        if path.name.removesuffix(".gz").endswith(".jsonl"):
            raise
        value = None
    if value is None:  # a list, or an object over several lines
        yield from _document(b"\n" * (number - 1) + line + stream.read(), path, exact=exact)
        return
    yield where, value
    for after, line in enumerate(stream, start=number + 1):
        if line.strip():
            where = f"{path}, line {after}"
            yield where, parse(line, where, exact=exact)


def _document(content: bytes, path: Path, *, exact: bool) -> Placed:
    value = parse(content, str(path), exact=exact)
    if isinstance(value, list):
        for number, element in enumerate(value, start=1):
            yield f"{path}, row {number}", element
    else:
        yield str(path), value


def _csv(path: Path) -> Placed:
    cells = csv_cells(path)
    _, header = next(cells, (0, []))
    if repeated := [name for name in header if header.count(name) > 1]:
        raise DataError(f"{path}: the column {repeated[0]!r} comes twice")
    for number, row in cells:
        where = f"{path}, line {number}"
        if len(row) != len(header):
            raise DataError(f"{where}: has {len(row)} cells, the header has {len(header)}")
        yield where, dict(zip(header, row, strict=True))


def _parquet(path: Path) -> Placed:
    from pyarrow import parquet

    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches():
                for value in batch.to_pylist():
                    number += 1
                    yield f"{path}, row {number}", value
    except ValueError as error:  # pyarrow's own
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{path}: is not a Parquet file that can be read ({reason})") from None


def _hub_split(source: str) -> Placed:
    found = _HUB.fullmatch(source)
    if found is None:
        raise ConfigError(f"{source!r} names no data set: write {HUB_FORM}")
    rows = hub_rows(found["name"], found["config"], found["revision"], found["split"])
    for number, value in enumerate(rows, start=1):
        yield f"{source}, row {number}", value


def hub_rows(
    name: str, config: str | None, revision: str | None, split: str | None
) -> Iterator[dict[str, Any]]:
    """Return the rows of a split of a hub data set, downloaded or from the hub's local cache.

    Raises:
        ConfigError: a folder here has the name of the data set.
        DataError: the hub cannot be reached, access was not granted, there is no such split, or
            there are several and none is named.
    """
    import datasets

    if Path(name).exists():
        raise ConfigError(
            f"a folder {name} is here and would be read in place of the hub's data set: name one "
            "of its files, or work in another folder"
        )
    with reaching_hub(name):
        found = datasets.load_dataset(name, config, revision=revision, split=split)
    if isinstance(found, dict):
        if len(found) > 1:
            raise DataError(f"{name} has the splits {', '.join(found)}: name one after a colon")
        (found,) = found.values()
    return iter(found)


@contextmanager
def reaching_hub(name: str) -> Iterator[None]:
    """Say of whatever keeps a hub data set from being read what the user can do."""
    import httpx2
    from datasets.exceptions import DatasetsError
    from huggingface_hub import errors

    try:
        yield
    # What fails below HTTP comes through as the client's own error, which is no OSError.
    except (OSError, ValueError, DatasetsError, errors.HfHubHTTPError, httpx2.HTTPError) as error:
        told = str(error.__cause__ or error).strip().splitlines()
        reason = (told or [type(error).__name__])[0][:200]
        raise DataError(
            f"{name} cannot be found on the hub ({reason}): check its name, configuration and "
            "split, connect to the network, accept its terms at "
            f"https://huggingface.co/datasets/{name} and log in with `hf auth login` if it is "
            "gated, or put its files into the data folder (data prepare: give --source)"
        ) from error
