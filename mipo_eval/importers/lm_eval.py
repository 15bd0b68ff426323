"""lm-eval: results_TIME.json with samples_TASK_TIME.jsonl beside it.

Numbers keep lm-eval's names and scale ("acc" is 0-1), but for those that this project's own tasks
make under it: by these names shares are percent here and 0-1 there. What a sample scored is a grade
of the judge "METRIC,FILTER", as it was written.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mipo_eval.importers.base import (
    FileRow,
    Imported,
    ItemRecord,
    JudgeRecord,
    RunRecord,
    entry,
    grade_scores,
    in_signature,
    read_rows,
    signed,
)
from mipo_eval.keys import canonical_json
from mipo_eval.models.thinking import continued
from mipo_eval.records import Item, Score
from mipo_eval.signature import join

SOURCE = "lm_eval"
_RESULTS = re.compile(r"results_(?P<time>.+)")
_SAMPLES = re.compile(r"samples_(?P<task>.+)_(?P<time>[^_]*\d{2}[-T:].*)")
_SHARES = frozenset({"accuracy", "accuracy_norm", "unextracted_rate"})
"""Metrics of this project's tasks that are 0-1 in lm-eval's files and percent in the store."""


def is_ours(row: FileRow) -> bool:
    """Whether a row is a results document or a sample."""
    names = row.data.keys()
    results = isinstance(row.data.get("results"), dict) and bool({"configs", "versions"} & names)
    return results or {"doc_id", "resps", "doc"} <= names


def read(rows: Sequence[FileRow], path: Path, imported: Imported) -> None:
    """Add a run; samples beside a results document belong to it, in whichever order they come."""
    if "results" in rows[0].data:
        _read_results(rows[0], path, imported)
        return
    found = _SAMPLES.fullmatch(path.stem)
    beside = path.with_name(f"results_{found['time']}.json") if found else None
    if beside is not None and beside.is_file():
        (results,) = read_rows(beside)
        _read_results(results, beside, imported)
        return
    task = found["task"] if found else path.stem
    imported.rows += len(rows)
    imported.runs.append(_run(path.parent.name or SOURCE, {task: rows}, None))


def _read_results(row: FileRow, path: Path, imported: Imported) -> None:
    if path.absolute() in imported.files:
        return
    imported.files.add(path.absolute())
    samples: dict[str, Sequence[FileRow]] = {}
    if found := _RESULTS.fullmatch(path.stem):
        for task in row.row("results").data:
            beside = path.with_name(f"samples_{task}_{found['time']}.jsonl")
            if beside.is_file():
                samples[task] = list(read_rows(beside))
    imported.rows += sum(len(rows) for rows in samples.values()) or 1
    name = row.data.get("model_name") or row.data.get("model_source")
    imported.runs.append(_run(str(name or path.parent.name), samples, row))


def _run(
    model: str, samples: Mapping[str, Sequence[FileRow]], results: FileRow | None
) -> RunRecord:
    tasks = list(results.row("results").data) if results else list(samples)
    suite = f"lm_eval/{','.join(tasks)}"
    suite = suite if len(suite) <= 80 else f"{suite[:70]} and more"
    run = RunRecord(source=SOURCE, model=model, suite=suite)
    entries: dict[str, ItemRecord] = {}
    for task, rows in samples.items():
        for row in rows:
            made = _entry(task, model, row)
            made = entries.setdefault(made.item.key, made)
            for metric in row.data.get("metrics") or ():
                judge = JudgeRecord(SOURCE, f"{metric},{row.data.get('filter') or 'none'}")
                value = row.data.get(str(metric))
                told = float(value) if isinstance(value, int | float) else None
                run.grade(judge, made, told, "no value in the sample")
    # A task may be sampled twice, as with repeats: the last value of an item counts.
    run.grades = list({(g.judge_key, g.item_key): g for g in run.grades}.values())
    run.entries = list(entries.values())
    scores = _scores(results, run.entries) if results else _means(run)
    run.scores = signed(run, scores)
    return run


def _entry(task: str, model: str, row: FileRow) -> ItemRecord:
    first = row.data.get("arguments")
    while isinstance(first, dict | list) and first:
        first = next(iter(first.values())) if isinstance(first, dict) else first[0]
    prompt = first if isinstance(first, str) and first.strip() else canonical_json(row.get("doc"))
    target = row.data.get("target")
    item = Item(
        item_id=f"{task}-{row.name('doc_id')}",
        prompt=prompt,
        reference=None if target is None or not str(target).strip() else str(target),
        meta={"doc_hash": row.data.get("doc_hash")},
    )
    reply: Any = row.elements("resps")
    while isinstance(reply, list) and len(reply) == 1:
        reply = reply[0]
    said = continued(prompt, reply) if isinstance(reply, str) else None
    return entry(task, item, said, stand_in=model)


def unit(metric: str) -> float:
    """Return how much larger a number is in the store than in lm-eval's files."""
    return 100.0 if metric in _SHARES else 1.0


def _scores(results: FileRow, entries: Sequence[ItemRecord]) -> list[Score]:
    """Return the numbers of a results document, each with its standard error as an interval."""
    counts = results.data.get("n-samples") or {}
    scores = []
    for task, numbers in results.row("results").data.items():
        if not isinstance(numbers, dict):
            raise results.wrong(f"results of {task} are not an object")
        counted = (counts.get(task) or {}).get("effective")
        n = int(counted or sum(made.task == task for made in entries)) or 1
        for name, value in numbers.items():
            metric, comma, used = name.partition(",")
            told = isinstance(value, int | float) and not isinstance(value, bool)
            if comma and told and not metric.endswith("_stderr"):
                error = numbers.get(f"{metric}_stderr,{used}")
                scores.append(_score(task, metric, used, (value, error), n))
    return scores


def _score(task: str, metric: str, used: str, told: tuple[float, Any], n: int) -> Score:
    """Return a number of a results document, told with its standard error, or none."""
    value, error, scale = told[0], told[1], unit(metric)
    judge = used.removeprefix("judge:") if used.startswith("judge:") else None
    ends = None
    if isinstance(error, int | float):
        ends = scale * (value - 1.96 * error), scale * (value + 1.96 * error)
    return Score(
        task=task,
        metric=metric,
        value=scale * value,
        n=n,
        ci95=ends,
        signature=join(
            judge=None if judge is None else in_signature(judge),
            filter=in_signature(used) if judge is None else None,
            interval="normal" if ends else None,
        ),
    )


def _means(run: RunRecord) -> list[Score]:
    """Return the mean of every metric of samples that come without a results document."""
    scores = []
    for judge in run.judges:
        metric, _, used = judge.name.partition(",")
        told = [
            grade if grade.value is None else replace(grade, value=unit(metric) * grade.value)
            for grade in run.grades
        ]
        scale = f"lm-eval, filter {used}"
        scores += grade_scores(run.entries, told, judge, metric=metric, scale=scale)
    return scores
