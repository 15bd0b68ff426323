"""Reading files of other tools: which format a file is, and files and folders of them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from mipo_eval.errors import ConfigError, DataError
from mipo_eval.importers import alpaca_eval, arena_hard, inspect, judge_replies, lm_eval, mt_bench
from mipo_eval.importers.base import (
    FileRow,
    Imported,
    JudgeRecord,
    RunRecord,
    read_rows,
    store_runs,
)

__all__ = ["FORMATS", "Imported", "JudgeRecord", "RunRecord", "read_path", "store_runs"]


class _Reader(NamedTuple):
    """How one format is known and read."""

    is_ours: Callable[[FileRow], bool]
    read: Callable[[Sequence[FileRow], Path, Imported], None]


FORMATS: dict[str, _Reader] = {
    "lm_eval": _Reader(lm_eval.is_ours, lm_eval.read),
    "inspect": _Reader(inspect.is_ours, inspect.read),
    "alpaca_eval": _Reader(alpaca_eval.is_ours, alpaca_eval.read),
    "arena_hard": _Reader(arena_hard.is_ours, arena_hard.read),
    "mt_bench": _Reader(mt_bench.is_ours, mt_bench.read),
    "judge_replies": _Reader(judge_replies.is_ours, judge_replies.read),
}
_SUFFIXES = {".json", ".jsonl", ".csv", ".eval"}


def read_path(path: Path, wanted: str = "auto") -> Imported:
    """Read a file, or every file of a folder, into records; nothing is stored.

    Args:
        path: a file, or a folder searched through and through.
        wanted: a name of `FORMATS`, or "auto" to tell the format from the fields.

    Raises:
        ConfigError: a file is of no known format, or nothing in the folder is.
        DataError: a file is malformed; the message names file and line.
    """
    reading = Imported()
    if path.is_file():
        if not _read_file(path, wanted, reading):
            known = f"{wanted} files" if wanted != "auto" else f"one of {', '.join(FORMATS)}"
            raise ConfigError(f"{path} does not look like {known}: name its format with --format")
        return reading
    if not path.is_dir():
        raise ConfigError(f"there is no file or folder at {path}")
    files = sorted(f for f in path.rglob("*") if f.suffix in _SUFFIXES and f.is_file())
    for file in files:
        if not _read_file(file, wanted, reading):
            reading.left_out["files of no known format"] += 1
    if not reading.runs:
        raise ConfigError(f"nothing in {path} is of a known format ({', '.join(FORMATS)})")
    return reading


def _read_file(path: Path, wanted: str, reading: Imported) -> bool:
    """Add what a file holds; False when it is of no known format."""
    rows = inspect.read_archive(path) if path.suffix == ".eval" else list(read_rows(path))
    if not rows:
        raise DataError(f"{path}: holds no rows")
    candidates = FORMATS if wanted == "auto" else {wanted: FORMATS[wanted]}
    for reader in candidates.values():
        if reader.is_ours(rows[0]):
            for row in rows:
                if not reader.is_ours(row):
                    raise row.wrong("is not like the rows before it: fields are missing")
            reader.read(rows, path, reading)
            return True
    return False
