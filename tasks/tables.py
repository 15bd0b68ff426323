"""Rows of data files (JSONL, JSON, CSV, Parquet) and of hub data sets, as plain dictionaries."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mipo_eval.errors import DataError

Row = dict[str, Any]


def read_rows(path: Path) -> Iterator[Row]:
    """Yield the rows of a data file, by its suffix.

    A CSV file without a header of words gets the columns of the original MMLU files: question,
    choice0, choice1, ..., answer.

    Raises:
        DataError: the file cannot be read, or is not of the kind its name says.
    """
    reader = _READERS.get(path.suffix)
    if reader is None:
        raise DataError(f"{path}: files of this kind are not read; known: {', '.join(_READERS)}")
    try:
        yield from reader(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error})") from error
    except (ValueError, csv.Error) as error:  # no JSON, not UTF-8, no Parquet
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{path} is not a {path.suffix} file ({reason}); fetch it again") from error


def _jsonl(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise DataError(f"{path}, line {number}: not a JSON object")
                yield row


def _json(path: Path) -> Iterator[Row]:
    rows = json.loads(path.read_text(encoding="utf-8-sig"))
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{path} is not a JSON list of objects; its layout is not the known one")
    yield from rows


def _csv(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="") as lines:
        rows = csv.reader(lines)
        first = next(rows, [])
        header = first
        if "question" not in first and "conversation_id" not in first:
            header = ["question", *(f"choice{n}" for n in range(len(first) - 2)), "answer"]
            yield dict(zip(header, first, strict=True))
        for number, row in enumerate(rows, start=2):
            if len(row) != len(header):
                raise DataError(f"{path}, row {number}: {len(row)} columns, expected {len(header)}")
            yield dict(zip(header, row, strict=True))


def _parquet(path: Path) -> Iterator[Row]:
    from pyarrow import parquet

    for batch in parquet.ParquetFile(path).iter_batches():
        yield from batch.to_pylist()


_READERS = {".jsonl": _jsonl, ".json": _json, ".csv": _csv, ".parquet": _parquet}


def hub_rows(name: str, config: str | None, revision: str | None, split: str) -> Iterator[Row]:
    """Return the rows of a split of a hub data set, downloaded or from the hub's local cache.

    Raises:
        DataError: the hub cannot be reached, access was not granted, or there is no such split.
    """
    import datasets
    import httpx2
    from huggingface_hub import errors

    try:
        rows = datasets.load_dataset(name, config, revision=revision, split=split)
    except (datasets.exceptions.DatasetNotFoundError, errors.GatedRepoError) as error:
        raise DataError(
            f"{name} cannot be opened on the hub: if it is gated, accept its terms at "
            f"https://huggingface.co/datasets/{name} and log in with `hf auth login` "
            f"({_first_line(error)})"
        ) from error
    except (OSError, ValueError, errors.HfHubHTTPError, httpx2.HTTPError) as error:
        raise DataError(
            f"{name} cannot be loaded from the hub ({_first_line(error)}): connect to the network, "
            "or put its files into the data folder"
        ) from error
    return iter(rows)


def hub_commit(name: str) -> str:
    """Return the newest commit of a hub data set, so that a preparation can be repeated.

    Raises:
        DataError: the hub cannot be reached, or access was not granted.
    """
    import httpx2
    from huggingface_hub import HfApi, errors

    try:
        return str(HfApi().dataset_info(name).sha)
    # What fails below HTTP comes through as the client's own error, which is no OSError.
    except (OSError, ValueError, errors.HfHubHTTPError, httpx2.HTTPError) as error:
        raise DataError(
            f"{name} cannot be found on the hub ({_first_line(error)}): connect to the network, "
            f"accept its terms at https://huggingface.co/datasets/{name} and log in with `hf auth "
            "login` if it is gated, or give local files with --source"
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
