"""Writing runs to files, each whole or not at all."""

import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from mipo_eval.errors import ConfigError, DataError
from mipo_eval.exchange import alpaca_eval, lm_eval
from mipo_eval.exchange.html import report
from mipo_eval.exchange.records import JudgeRecord, RunRecord
from mipo_eval.exchange.scores import (
    score_rows,
    tables_of,
    to_csv,
    to_latex,
    to_markdown,
    to_parquet,
)

Runs = Sequence[tuple[str, RunRecord]]
"""(run id, run), in the order they were named."""


def write(runs: Runs, wanted: str, path: Path, *, judge: str | None = None) -> list[Path]:
    """Write runs to `path` in a format of `FORMATS`, and return the files written.

    Args:
        runs: what to write; AlpacaEval's and lm-eval's formats take one run a file.
        wanted: a name of `FORMATS`.
        path: replaced when it exists; its folder has to exist.
        judge: whose choices AlpacaEval's format takes; needed when there are several.

    Raises:
        ConfigError: the folder is missing, or several runs or judges do not fit the format.
        DataError: the runs have nothing of what the format holds.
    """
    if not path.parent.is_dir():
        raise ConfigError(f"{path} cannot be written: the folder {path.parent} is not there")
    if path.is_dir():
        raise ConfigError(f"{path} is a folder: name a file")
    if wanted == "alpaca_eval":
        _replace(path, _json(alpaca_eval.annotations(_one(runs, wanted), _judge(runs, judge))))
        return [path]
    if wanted == "lm_eval":
        return _write_lm_eval(_one(runs, wanted), path)
    if not any(run.scores for _, run in runs):
        raise DataError("none of these runs has a score: finish one, or name another")
    if wanted == "parquet":
        _replace_with(path, lambda part: to_parquet(score_rows(runs), part))
    else:
        _replace(path, FORMATS[wanted](runs))
    return [path]


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


FORMATS: dict[str, Callable[[Runs], str]] = {
    "csv": lambda runs: to_csv(score_rows(runs)),
    "md": lambda runs: "\n".join(to_markdown(s, table) for s, table in tables_of(runs)),
    "latex": lambda runs: "\n".join(to_latex(s, table) for s, table in tables_of(runs)),
    "json": lambda runs: _json({"scores": score_rows(runs)}),
    "html": report,
}
"""Formats that are one text; parquet, alpaca_eval and lm_eval come beside them."""
NAMES = ("csv", "parquet", "md", "latex", "json", "html", "alpaca_eval", "lm_eval")


def _one(runs: Runs, wanted: str) -> RunRecord:
    if len(runs) != 1:
        raise ConfigError(f"a file in {wanted}'s format holds one run, not {len(runs)}")
    return runs[0][1]


def _judge(runs: Runs, name: str | None) -> JudgeRecord:
    run = _one(runs, "alpaca_eval")
    chose = {choice.judge_key for choice in run.choices}
    judges = [judge for judge in run.judges if judge.key in chose]
    if name is not None:
        judges = [judge for judge in judges if judge.name == name]
    if not judges:
        by = f" by {name!r}" if name is not None else ""
        raise DataError(f"this run has no pairwise choices{by} and no ratings beside references")
    if len(judges) > 1:
        names = ", ".join(judge.name for judge in judges)
        raise ConfigError(f"several judges chose in this run: name one with --judge ({names})")
    return judges[0]


def _write_lm_eval(run: RunRecord, path: Path) -> list[Path]:
    """Write the results document and, beside it, a file of samples per task."""
    if not (path.stem.startswith("results_") and path.suffix == ".json"):
        raise ConfigError(
            f"{path.name}: lm-eval finds samples by name; call the file results_TIME.json, as "
            "results_2026-01-31T12-00-00.json"
        )
    time = path.stem.removeprefix("results_")
    written = []
    for task, rows in lm_eval.samples(run).items():
        safe = "".join(c if c.isalnum() or c in "-_.," else "-" for c in task)
        if safe != task:
            raise ConfigError(f"task {task!r} cannot stand in a file name: lm-eval needs it there")
        beside = path.with_name(f"samples_{task}_{time}.jsonl")
        lines = (json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows)
        _replace(beside, "".join(f"{line}\n" for line in lines))
        written.append(beside)
    _replace(path, _json(lm_eval.results_document(run)))
    return [path, *written]


def _replace(path: Path, text: str) -> None:
    _replace_with(path, lambda part: part.write_text(text, encoding="utf-8", newline="\n"))


def _replace_with(path: Path, make: Callable[[Path], object]) -> None:
    """Make a file under another name first: a reader never sees half of it."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
        part = Path(name)
        try:
            make(part)
            part.chmod(0o644)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from None
