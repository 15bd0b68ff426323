"""Results of other tools: files and folders of a known format are read, then stored whole."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from mipo_eval import __version__
from mipo_eval.errors import ConfigError, DataError
from mipo_eval.importers import (
    alpaca_eval,
    arena_hard,
    earlier,
    inspect,
    judge_replies,
    lighteval,
    lm_eval,
    mt_bench,
)
from mipo_eval.importers.base import Imported, JudgeRecord, RunRecord
from mipo_eval.judges.labelled import in_format
from mipo_eval.keys import digest, masked, masked_values
from mipo_eval.progress import Progress, Told, shown
from mipo_eval.rows import FileRow, is_hub, read_rows
from mipo_eval.store.engine import Rows, Store, lasting, now
from mipo_eval.store.items import item_row
from mipo_eval.store.runs import score_rows

__all__ = [
    "FORMATS",
    "Imported",
    "JudgeRecord",
    "RunRecord",
    "read_path",
    "store_runs",
]


class _Reader(NamedTuple):
    """How one format is known and read."""

    is_ours: Callable[[FileRow], bool]
    read: Callable[[Sequence[FileRow], Path, Imported], None]


FORMATS: dict[str, _Reader] = {
    "lm_eval": _Reader(lm_eval.is_ours, lm_eval.read),
    "lighteval": _Reader(lighteval.is_ours, lighteval.read),
    "inspect": _Reader(inspect.is_ours, inspect.read),
    "alpaca_eval": _Reader(alpaca_eval.is_ours, alpaca_eval.read),
    "arena_hard": _Reader(arena_hard.is_ours, arena_hard.read),
    "mt_bench": _Reader(mt_bench.is_ours, mt_bench.read),
    "judge_replies": _Reader(judge_replies.is_ours, judge_replies.read),
}
NO_TEXT = "the imported file does not hold the text"
_MAX_NAME = 64
_SUFFIXES = {".json", ".jsonl", ".csv", ".eval", ".parquet"}


def read_path(
    source: Path | str, wanted: str = "auto", progress: Progress | None = None
) -> Imported:
    """Read a file, or every file of a folder, into records; nothing is stored.

    Args:
        source: a file, a folder searched through and through, or a data set on the hub.
        wanted: a name of `FORMATS`, or "auto" to tell the format from the fields.
        progress: told how many files of a folder are read.

    Raises:
        ConfigError: a file is of no known format, or nothing in the folder is.
        DataError: a file is malformed, or nothing of it can be taken; the message names file and
            line.
    """
    imported, path = Imported(), Path(source)
    if path.is_file() or is_hub(source):
        if not _read_file(source, wanted, imported):
            known = f"{wanted} files" if wanted != "auto" else f"one of {', '.join(FORMATS)}"
            raise ConfigError(f"{source} does not look like {known}: name its format with --format")
        if not imported.runs:
            raise DataError(f"{source}: no row could be imported ({_listed(imported)})")
        return imported
    if not path.is_dir():
        raise ConfigError(f"there is no file or folder at {path}")
    files = sorted(
        file
        for file in path.rglob("*")
        if Path(file.name.removesuffix(".gz")).suffix in _SUFFIXES and file.is_file()
    )
    with shown(progress, "files read", len(files)) as told:
        for file in files:
            if not file.stat().st_size:
                imported.left_out["files that are empty"] += 1
            elif not _read_file(file, wanted, imported):
                imported.left_out["files of no known format"] += 1
            told(1)
    if not imported.runs:
        left = f"; left out: {_listed(imported)}" if imported.left_out else ""
        raise ConfigError(f"{path} contains no file in a known format ({', '.join(FORMATS)}){left}")
    return imported


def _listed(imported: Imported) -> str:
    return ", ".join(f"{n} x {why}" for why, n in imported.left_out.items())


def _read_file(source: Path | str, wanted: str, imported: Imported) -> bool:
    """Add what a file holds; False when it is of no known format."""
    path = Path(source)
    rows = inspect.read_archive(path) if path.suffix == ".eval" else list(read_rows(source))
    if not rows:
        raise DataError(f"{source} contains no rows")
    candidates = FORMATS if wanted == "auto" else {wanted: FORMATS[wanted]}
    for name, reader in candidates.items():
        if reader.is_ours(rows[0]):
            for row in rows:
                if not reader.is_ours(row):
                    raise row.wrong("is not like the rows before it: fields are missing")
            with in_format(name, path):
                reader.read(rows, path, imported)
            return True
    return False


@lasting
def store_runs(
    store: Store, records: Sequence[RunRecord], progress: Progress | None = None
) -> list[str]:
    """Store what was imported and return the run id of each record; can be repeated.

    Args:
        store: where to.
        records: what was read.
        progress: told how many answers are stored.

    Raises:
        DataError: a task or metric has a longer name than the store holds.
        StoreError: the store cannot be written; nothing of the records is then in it.
    """
    for record in records:
        _check_names(record)
    kept = earlier.kept_apart(store, records)
    with shown(progress, "answers stored", sum(len(record.entries) for record in kept)) as told:
        store.put_rows(rows for record in kept for rows in _rows(record, told))
    return [record.run_id for record in records]


def _check_names(record: RunRecord) -> None:
    """Refuse what PostgreSQL would refuse and SQLite would take: a store can be merged."""
    names = {entry.task for entry in record.entries}
    names |= {name for score in record.scores for name in (score.task, score.metric)}
    for name in sorted(names):
        if len(name) > _MAX_NAME:
            raise DataError(
                f"{record.source} results of {record.model}: the name {name!r} is longer than "
                f"{_MAX_NAME} characters: make it shorter in the file"
            )


def _rows(record: RunRecord, told: Told) -> Iterator[Rows]:
    """Yield everything a record puts into the store, and tell of it."""
    at = now()
    yield from _answers(record)
    yield from _said(record)
    run = {
        "run_id": record.run_id,
        "model": masked(record.model),
        "suite": record.suite,
        "prompting": "",
        "seed": 0,
        "list_key": record.list_key,
        "n_items": len(record.entries),
        "generation_key": record.generation_key,
        "environment": {"mipo_eval": __version__, "imported": record.source},
        "created_at": at,
        "updated_at": at,
    }
    yield Rows("runs", [run], replace=("updated_at",))
    yield Rows("scores", score_rows(record.run_id, record.scores), replace=None)
    told(len(record.entries))


def _answers(record: RunRecord) -> Iterator[Rows]:
    list_key, generation_key = record.list_key, record.generation_key
    items = [item_row(e.item) | {"reference_key": e.reference_key} for e in record.entries]
    yield Rows("items", items)
    listed = [
        {"list_key": list_key, "position": position, "task": e.task, "item_key": e.item.key}
        for position, e in enumerate(record.entries)
    ]
    yield Rows("item_lists", listed)
    spec = masked_values(record.generation_spec)
    yield Rows("generations", [{"generation_key": generation_key, "spec": spec}])
    responses = [
        {
            "generation_key": generation_key,
            "item_key": entry.item.key,
            "text": entry.text,
            "text_key": entry.text_key,
            "reason": entry.reason or (NO_TEXT if entry.text is None else None),
            "thinking": entry.thinking,
            "final": True,
            "prompt_hash": digest(entry.item.prompt),
            "created_at": now(),
        }
        for entry in record.entries
    ]
    yield Rows("responses", responses)


def _said(record: RunRecord) -> Iterator[Rows]:
    judges = [
        {"judge_key": j.key, "name": j.name, "spec": masked_values(j.spec)} for j in record.judges
    ]
    yield Rows("judges", judges)
    calls = [
        {
            "call_key": reply.call_key,
            "backend": dict(reply.backend),
            "request": reply.request,
            "status": "ok",
            "reply": reply.text,
            "created_at": now(),
        }
        for reply in record.replies
    ]
    yield Rows("calls", calls)
    choices = [(asdict(choice), choice.winner) for choice in record.choices]
    grades = [(asdict(grade), grade.value) for grade in record.grades]
    for table, said in (("choices", choices), ("grades", grades)):
        # What an earlier file told is replaced, as the scores are: by judges that have scores.
        telling = {row["judge_key"] for row, value in said if value is not None}
        yield Rows(table, [row for row, _ in said if row["judge_key"] in telling], replace=None)
        yield Rows(table, [row for row, _ in said if row["judge_key"] not in telling])
