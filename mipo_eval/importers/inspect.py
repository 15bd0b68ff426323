"""Inspect's logs: one JSON document, or a .eval archive of a header and samples.

Sample scores become grades as Inspect's own `value_to_float` counts them: C is 1, P 0.5, I and N 0,
yes and true 1, no and false 0, a number in words is that number. A score of several values is a
judge for each. What Inspect itself made of them stands in the header and is kept beside the means.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mipo_eval.errors import DataError
from mipo_eval.evaluation.graded import unit
from mipo_eval.importers.archive import read_members
from mipo_eval.importers.base import (
    Imported,
    ItemRecord,
    JudgeRecord,
    RunRecord,
    as_rate,
    entry,
    facts,
    grade_means,
    part,
    signed,
    told,
)
from mipo_eval.keys import canonical_json
from mipo_eval.records import Item, Score
from mipo_eval.rows import FileRow, cleaned, parse
from mipo_eval.signature import in_signature, join

SOURCE = "inspect"
VERSIONS = (1, 2)
_WORDS = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}
_ANSWERS = {"yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
_ATTACHMENT = re.compile(r"attachment://(\w+)")
_STARTED = "_journal/start.json"
"""What an archive has from its beginning; its header is written at the end."""
_ABOUT = ("created", "run_id", "task_id", "task_version", "task_args", "model_args",
          "model_base_url", "model_generate_config", "model_roles", "config",
          "revision")  # fmt: skip


def is_ours(row: FileRow) -> bool:
    """Whether a row is a log."""
    return isinstance(row.data.get("eval"), dict) and "version" in row.data


def read_archive(path: Path) -> list[FileRow]:
    """Return the log in a .eval archive as one row; one that was cut off has no header yet.

    Raises:
        DataError: the file is no archive of a log.
    """
    members = read_members(path, ("header.json", _STARTED), "samples/")
    head = next((name for name in members if not name.startswith("samples/")), None)
    if head is None:
        raise DataError(f"{path} has no header.json, so it is not an Inspect log")
    log, *samples = (parse(content, f"{path}, {name}") for name, content in members.items())
    if not isinstance(log, dict):
        raise DataError(f"{path}, {head} is not a JSON object")
    log["samples"] = samples
    return [FileRow(str(path), cleaned({"status": "started"} | log, str(path)))]


def read(rows: Sequence[FileRow], path: Path, imported: Imported) -> None:
    """Add a run per log."""
    for row in rows:
        if row.data["version"] not in VERSIONS:
            known = " and ".join(map(str, VERSIONS))
            raise row.wrong(f"is a log of version {row.data['version']}; {known} are known")
        samples = row.rows("samples") if row.data.get("samples") is not None else []
        run = _run(row, samples, imported)
        if not samples and not run.scores:
            raise row.wrong("holds no samples and no scores: write the log with samples")
        imported.runs.append(run)


def _run(row: FileRow, samples: list[FileRow], imported: Imported) -> RunRecord:
    about = row.row("eval")
    task = about.text("task")
    run = RunRecord(
        source=SOURCE,
        model=about.text("model"),
        suite=f"inspect/{task}",
        told=told([row]),
        about=facts(
            status=row.data.get("status"), **{name: about.data.get(name) for name in _ABOUT}
        ),
    )
    entries: list[ItemRecord] = []
    imported.rows += len(samples) or 1
    for sample in samples:
        if sample.data.get("error"):
            imported.left_out["a sample that ended in an error"] += 1
            continue
        held = _unfolded(sample)
        made = _entry(run.told, task, held)
        entries.append(made)
        if not _grade(run, held, made):
            imported.left_out["a sample without a score"] += 1
    run.entries = entries
    means = grade_means(run, scale="as Inspect counts")
    if missing := _missing(row, samples):
        reason, n = missing
        imported.rows += n
        imported.left_out[reason] += n
        means = [_with_missing(score, reason, n) for score in means]
    run.scores = [*means, *_headline(run, row, task)]
    return run


def _missing(row: FileRow, samples: Sequence[FileRow]) -> tuple[str, int] | None:
    """Return why a log holds fewer samples than it was to have, and how many are not there."""
    about = row.row("eval").data
    dataset, config = part(about.get("dataset")), part(about.get("config"))
    total = part(row.data.get("results")).get("total_samples")
    if not isinstance(total, int):
        ids, size = dataset.get("sample_ids"), dataset.get("samples")
        total = len(ids) if isinstance(ids, list) else size if isinstance(size, int) else 0
        limit = config.get("limit")
        if isinstance(limit, int) and not isinstance(ids, list):
            total = min(total, limit)
        epochs = config.get("epochs")
        total *= epochs if isinstance(epochs, int) and epochs > 0 else 1
    status = row.data.get("status")
    absent = total - len(samples)
    if absent <= 0 or (not samples and status == "success"):
        return None
    if status == "success":
        return "a sample that the log does not hold", absent
    return f"a sample that was not run (the evaluation is {status})", absent


def _with_missing(score: Score, reason: str, n: int) -> Score:
    return replace(score, unscored_reasons={**score.unscored_reasons, reason: n})


def _unfolded(sample: FileRow) -> FileRow:
    """Return a sample with the texts that it keeps as attachments in their places."""
    held = sample.data.get("attachments")
    if not isinstance(held, dict) or not held:
        return sample

    def put(value: Any) -> Any:
        if isinstance(value, str):
            return _ATTACHMENT.sub(lambda found: str(held.get(found[1], found[0])), value)
        if isinstance(value, list):
            return [put(element) for element in value]
        return {name: put(v) for name, v in value.items()} if isinstance(value, dict) else value

    wanted = {name: put(sample.data.get(name)) for name in ("input", "output", "target", "choices")}
    return FileRow(sample.where, sample.data | wanted)


def _grade(run: RunRecord, sample: FileRow, made: ItemRecord) -> bool:
    """Add a sample's scores; False when there is not one number in them."""
    scores = sample.data.get("scores")
    if not isinstance(scores, dict):  # version 1 had one scorer
        scores = {"score": sample.data["score"]} if sample.data.get("score") else {}
    found = False
    for scorer, score in scores.items():
        given = part(score).get("value")
        for name, value in _values(str(scorer), given):
            number = _number(value)
            found = found or number is not None
            run.grade(JudgeRecord(SOURCE, name), made, number, "the scorer gave no number")
    return found


def _values(scorer: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield each value of a score with the name of who gave it."""
    if isinstance(value, dict) and value:
        yield from ((f"{scorer}/{name}", own) for name, own in value.items())
    elif isinstance(value, list) and value:
        yield from ((f"{scorer}/{place}", own) for place, own in enumerate(value))
    else:
        yield scorer, value


def _number(value: Any) -> float | None:
    if isinstance(value, bool | int | float):
        return float(value)
    if not isinstance(value, str):
        return None
    if (known := _WORDS.get(value, _ANSWERS.get(value.lower()))) is not None:
        return known
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _headline(run: RunRecord, row: FileRow, task: str) -> list[Score]:
    """Return the metrics that Inspect itself made, as the header has them."""
    results = part(row.data.get("results"))
    scorers = results.get("scores")
    made: list[Score] = []
    for own in map(part, scorers if isinstance(scorers, list) else ()):
        judge = JudgeRecord(SOURCE, str(own.get("name") or own.get("scorer") or "scorer"))
        n = own.get("scored_samples")
        n = n if isinstance(n, int) else results.get("completed_samples")
        scores = list(_metrics(own, n if isinstance(n, int) and n > 0 else None))
        if scores and judge not in run.judges:
            run.judges.append(judge)
        scores = [as_rate(run, replace(score, task=task), judge) for score in scores]
        made += signed(run, scores, judge=judge, task=task)
    return made


def _metrics(own: Mapping[str, Any], n: int | None) -> Iterator[Score]:
    """Yield what a scorer's values came to; epochs may be reduced in several ways."""
    values = {name: part(one).get("value") for name, one in part(own.get("metrics")).items()}
    reducer = in_signature(str(own["reducer"])) if own.get("reducer") else None
    error = values.get("stderr")
    for name, value in values.items():
        if name == "stderr" or isinstance(value, bool) or not isinstance(value, int | float):
            continue
        scale = unit(name)
        ends = None
        if isinstance(error, int | float) and name in {"accuracy", "mean"}:
            ends = scale * (value - 1.96 * error), scale * (value + 1.96 * error)
        signature = join(rule="Inspect's own", reducer=reducer, interval="normal" if ends else None)
        yield Score(metric=name, value=scale * value, n=n, ci95=ends, signature=signature)


def _entry(answers: str, task: str, sample: FileRow) -> ItemRecord:
    epoch = sample.data.get("epoch") or 1
    target = sample.data.get("target")
    target = target if isinstance(target, str) else canonical_json(target) if target else ""
    item = Item(
        item_id=f"{sample.name('id')}" + (f"-epoch{epoch}" if epoch != 1 else ""),
        prompt=_text(sample.data.get("input")).strip() or f"sample {sample.name('id')} of {task}",
        reference=target.strip() or None,
        group_id=sample.name("id"),
    )
    output = part(sample.data.get("output"))
    completion, choices = output.get("completion"), output.get("choices")
    if not completion and isinstance(choices, list) and choices:
        completion = _text(part(choices[0]).get("message"))
    return entry(task, item, completion if isinstance(completion, str) else None, stand_in=answers)


def _text(value: Any) -> str:
    """Return the text of a prompt or a message, whose content may come in parts."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return _text(value.get("content", value.get("text", "")))
    if isinstance(value, list):
        return "\n\n".join(part for part in map(_text, value) if part)
    return ""
