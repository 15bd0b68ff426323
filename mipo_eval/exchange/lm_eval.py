"""lm-eval: results_TIME.json with samples_TASK_TIME.jsonl beside it; read and written.

Numbers keep lm-eval's names and scale ("acc" is 0-1), but for those that this project's own tasks
make under it: by these names shares are percent here and 0-1 there. What a sample scored is a grade
of the judge "METRIC,FILTER", as it was written.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mipo_eval.exchange.outcomes import grade_scores, in_signature, signed
from mipo_eval.exchange.reading import Row, read_rows
from mipo_eval.exchange.records import Entry, JudgeRecord, Reading, RunRecord, entry
from mipo_eval.keys import canonical_json
from mipo_eval.records import Item, Score
from mipo_eval.signature import join
from mipo_eval.store.verdicts import Grade

SOURCE = "lm_eval"
_RESULTS = re.compile(r"results_(?P<time>.+)")
_SAMPLES = re.compile(r"samples_(?P<task>.+)_(?P<time>[^_]*\d{2}[-T:].*)")
_SHARES = frozenset({"accuracy", "accuracy_norm", "unextracted_rate"})
"""Metrics of this project's tasks that are 0-1 in lm-eval's files and percent in the store."""
_NO_VALUE = "no value in the sample"


def is_ours(row: Row) -> bool:
    """Whether a row is a results document or a sample."""
    names = row.data.keys()
    results = isinstance(row.data.get("results"), dict) and bool({"configs", "versions"} & names)
    return results or {"doc_id", "resps", "doc"} <= names


def read(rows: Sequence[Row], path: Path, reading: Reading) -> None:
    """Add a run; samples beside a results document belong to it, in whichever order they come."""
    if "results" in rows[0].data:
        _read_results(rows[0], path, reading)
        return
    found = _SAMPLES.fullmatch(path.stem)
    beside = path.with_name(f"results_{found['time']}.json") if found else None
    if beside is not None and beside.is_file():
        (results,) = read_rows(beside)
        _read_results(results, beside, reading)
        return
    task = found["task"] if found else path.stem
    reading.rows += len(rows)
    reading.runs.append(_run(path.parent.name or SOURCE, {task: list(rows)}, None))


def _read_results(row: Row, path: Path, reading: Reading) -> None:
    if path.absolute() in reading.files:
        return
    reading.files.add(path.absolute())
    found = _RESULTS.fullmatch(path.stem)
    samples: dict[str, list[Row]] = {}
    for task in row.row("results").data if found else ():
        beside = path.with_name(f"samples_{task}_{found['time'] if found else ''}.jsonl")
        if beside.is_file():
            samples[task] = list(read_rows(beside))
    reading.rows += sum(len(rows) for rows in samples.values()) or 1
    name = row.data.get("model_name") or row.data.get("model_source")
    reading.runs.append(_run(str(name or path.parent.name), samples, row))


def _run(model: str, samples: dict[str, list[Row]], results: Row | None) -> RunRecord:
    entries: dict[str, Entry] = {}
    grades: dict[tuple[str, str], Grade] = {}
    judges: dict[str, JudgeRecord] = {}
    for task, rows in samples.items():
        for row in rows:
            made = _entry(task, model, row)
            made = entries.setdefault(made.item.key, made)
            for metric in row.data.get("metrics") or ():
                judge = JudgeRecord(
                    source=SOURCE, name=f"{metric},{row.data.get('filter') or 'none'}"
                )
                judges[judge.key] = judge
                value = row.data.get(str(metric))
                told = isinstance(value, int | float)
                grades[judge.key, made.item.key] = Grade(
                    judge_key=judge.key,
                    item_key=made.item.key,
                    text_key=made.text_key,
                    value=float(value) if isinstance(value, int | float) else None,
                    reason=None if told else _NO_VALUE,
                )
    tasks = list(results.row("results").data) if results else list(samples)
    suite = f"lm_eval/{','.join(tasks)}"
    suite = suite if len(suite) <= 80 else f"{suite[:70]} and more"
    listed = list(entries.values())
    made_scores = (
        _scores(results, listed) if results else _means(list(grades.values()), listed, judges)
    )
    return RunRecord(
        source=SOURCE,
        model=model,
        suite=suite,
        entries=listed,
        judges=list(judges.values()),
        grades=list(grades.values()),
        scores=signed(made_scores, source=SOURCE, suite=suite, entries=listed),
    )


def _entry(task: str, model: str, row: Row) -> Entry:
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
    return entry(task, item, reply if isinstance(reply, str) else None, stand_in=model)


def _unit(metric: str) -> float:
    """Return how much larger a number is in the store than in lm-eval's files."""
    return 100.0 if metric in _SHARES else 1.0


def _scores(results: Row, entries: Sequence[Entry]) -> list[Score]:
    """Return the numbers of a results document, each with its standard error in the signature."""
    counts = results.data.get("n-samples") or {}
    scores = []
    for task, numbers in results.row("results").data.items():
        if not isinstance(numbers, dict):
            raise results.wrong(f"results of {task} are not an object")
        counted = counts.get(task) or {}
        n = counted.get("effective") or sum(made.task == task for made in entries)
        for name, value in numbers.items():
            metric, comma, used_filter = name.partition(",")
            told = isinstance(value, int | float) and not isinstance(value, bool)
            if not comma or metric.endswith("_stderr") or not told:
                continue
            error = numbers.get(f"{metric}_stderr,{used_filter}")
            unit = _unit(metric)
            ends = (
                (unit * (value - 1.96 * error), unit * (value + 1.96 * error))
                if isinstance(error, int | float)
                else None
            )
            scores.append(
                Score(
                    task=task,
                    metric=metric,
                    value=unit * value,
                    n=int(n) or 1,
                    ci95=ends,
                    signature=join(
                        judge=in_signature(used_filter.removeprefix("judge:"))
                        if used_filter.startswith("judge:")
                        else None,
                        filter=None
                        if used_filter.startswith("judge:")
                        else in_signature(used_filter),
                        interval="normal" if ends else None,
                    ),
                )
            )
    return scores


def _means(
    grades: Sequence[Grade], entries: Sequence[Entry], judges: dict[str, JudgeRecord]
) -> list[Score]:
    """Return the mean of every metric of samples that come without a results document."""
    scores = []
    for judge in judges.values():
        metric, _, used = judge.name.partition(",")
        unit = _unit(metric)
        told = [g if g.value is None else replace(g, value=unit * g.value) for g in grades]
        scale = f"lm-eval, filter {used}"
        scores += grade_scores(entries, told, judge, metric=metric, scale=scale)
    return scores


def results_document(record: RunRecord) -> dict[str, Any]:
    """Return a run's scores as lm-eval writes its results; a judge stands where a filter does."""
    results: dict[str, dict[str, Any]] = {}
    counts: dict[str, dict[str, int]] = {}
    order = {
        task: place for place, task in enumerate(dict.fromkeys(e.task for e in record.entries))
    }
    for score in sorted(record.scores, key=lambda score: order.get(score.task, len(order))):
        if score.value is None:
            continue
        filtered = score.signature.parts.get("filter", "none")
        used = f"judge:{score.judge}" if score.judge else filtered
        numbers = results.setdefault(score.task, {"alias": score.task})
        unit = _unit(score.metric)
        numbers[f"{score.name},{used}"] = score.value / unit
        width = score.ci95[1] - score.ci95[0] if score.ci95 else None
        error = "N/A" if width is None else width / (2 * 1.96 * unit)
        numbers[f"{score.name}_stderr,{used}"] = error
        most = max(score.n, counts.get(score.task, {}).get("effective", 0))
        counts[score.task] = {"original": most, "effective": most}
    return {
        "results": results,
        "configs": {task: {"task": task} for task in results},
        "versions": dict.fromkeys(results, 1),
        "n-samples": counts,
        "model_name": record.model,
        "model_source": "mipo-eval",
    }


def samples(record: RunRecord) -> dict[str, list[dict[str, Any]]]:
    """Return a run's responses per task as lm-eval writes its samples, one per item and filter."""
    by_item: dict[str, dict[str, dict[str, float | None]]] = {}
    names = {judge.key: judge.name for judge in record.judges}
    for grade in record.grades:
        metric, _, used = names[grade.judge_key].partition(",")
        by_item.setdefault(grade.item_key, {}).setdefault(used or "none", {})[metric] = grade.value
    written: dict[str, list[dict[str, Any]]] = {}
    for made in record.entries:
        rows = written.setdefault(made.task, [])
        number = made.item.item_id.removeprefix(f"{made.task}-")
        for used, metrics in by_item.get(made.item.key, {"none": {}}).items():
            rows.append(
                {
                    "doc_id": int(number) if number.isdecimal() else made.item.item_id,
                    "doc": {"item_id": made.item.item_id, "query": made.item.prompt},
                    "target": made.item.reference or "",
                    "arguments": {"gen_args_0": {"arg_0": made.item.prompt, "arg_1": {}}},
                    "resps": [[made.text]] if made.text is not None else [],
                    "filtered_resps": [made.text] if made.text is not None else [],
                    "filter": used,
                    "metrics": list(metrics),
                    "doc_hash": made.item.meta.get("doc_hash") or made.item.key,
                    **metrics,
                }
            )
    return written
