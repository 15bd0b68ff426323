"""Inspect's logs: one JSON document, or a .eval archive of a header and samples.

Sample scores become grades: C is 1, P 0.5, I and N 0, as Inspect itself counts them.
"""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mipo_eval.errors import DataError
from mipo_eval.importers.base import (
    FileRow,
    Imported,
    ItemRecord,
    JudgeRecord,
    RunRecord,
    cleaned,
    entry,
    grade_means,
    parse,
)
from mipo_eval.keys import canonical_json
from mipo_eval.records import Item

SOURCE = "inspect"
_LETTERS = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}
_MAX_BYTES = 2**31


def is_ours(row: FileRow) -> bool:
    """Whether a row is a log."""
    return isinstance(row.data.get("eval"), dict) and "version" in row.data


def read_archive(path: Path) -> list[FileRow]:
    """Return the log in a .eval archive as one row.

    Raises:
        DataError: the file is no archive of a log.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(info.file_size for info in archive.infolist()) > _MAX_BYTES:
                raise DataError(f"{path}: unpacks to more than 2 GiB")
            names = archive.namelist()
            if "header.json" not in names:
                raise DataError(f"{path}: has no header.json: the evaluation did not finish")
            log = parse(archive.read("header.json").decode(), f"{path}, header.json")
            if not isinstance(log, dict):
                raise DataError(f"{path}, header.json: is not a JSON object")
            log["samples"] = [
                parse(archive.read(name).decode(), f"{path}, {name}")
                for name in sorted(names)
                if name.startswith("samples/") and name.endswith(".json")
            ]
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path}: is not an archive that can be read ({error})") from None
    return [FileRow(str(path), cleaned(log))]


def read(rows: Sequence[FileRow], path: Path, imported: Imported) -> None:
    """Add a run per log."""
    for row in rows:
        about = row.row("eval")
        model, task = about.text("model"), about.text("task")
        if row.data.get("samples") is None:
            raise row.wrong("holds no samples: write the log with samples")
        imported.runs.append(_run(model, task, row.rows("samples"), imported))


def _run(model: str, task: str, samples: list[FileRow], imported: Imported) -> RunRecord:
    run = RunRecord(source=SOURCE, model=model, suite=f"inspect/{task}")
    entries: list[ItemRecord] = []
    for sample in samples:
        imported.rows += 1
        if sample.data.get("error"):
            imported.left_out["a sample that ended in an error"] += 1
            continue
        made = _entry(model, task, sample)
        entries.append(made)
        for scorer, score in (sample.data.get("scores") or {}).items():
            value = _value(score.get("value")) if isinstance(score, dict) else None
            run.grade(JudgeRecord(SOURCE, scorer), made, value, "the scorer gave no number")
    run.entries = entries
    run.scores = grade_means(run, scale="C=1 P=0.5 I=N=0 or as given")
    return run


def _entry(model: str, task: str, sample: FileRow) -> ItemRecord:
    epoch = sample.data.get("epoch") or 1
    target = sample.data.get("target")
    target = target if isinstance(target, str) else canonical_json(target) if target else ""
    item = Item(
        item_id=f"{sample.name('id')}" + (f"-epoch{epoch}" if epoch != 1 else ""),
        prompt=_text(sample.get("input")) or f"sample {sample.name('id')} of {task}",
        reference=target.strip() or None,
        group_id=sample.name("id"),
    )
    output = sample.data.get("output")
    completion = None
    if isinstance(output, dict):
        completion = output.get("completion")
        choices = output.get("choices") or []
        if not completion and choices and isinstance(choices[0], dict):
            completion = _text([choices[0].get("message")])
    return entry(task, item, completion if isinstance(completion, str) else None, stand_in=model)


def _text(value: Any) -> str:
    """Return the text of a prompt or a message, whose content may come in parts."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return _text(value.get("content", value.get("text", "")))
    if isinstance(value, list):
        return "\n\n".join(part for part in map(_text, value) if part)
    return ""


def _value(value: Any) -> float | None:
    if isinstance(value, bool | int | float):
        return float(value)
    return _LETTERS.get(value) if isinstance(value, str) else None
