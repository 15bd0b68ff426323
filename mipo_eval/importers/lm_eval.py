"""lm-eval: a results document, with samples_TASK_TIME.jsonl beside it; versions 0.3 to 0.4.13.

Numbers keep lm-eval's names and scale ("acc" is 0-1), but for those that this project's own tasks
make under it: by these names shares are percent here and 0-1 there. What a sample scored is a grade
of the judge "METRIC,FILTER", as it was written.

What the versions write: 0.3 names no filter and no number of samples; 0.4.0 to 0.4.2 write samples
as one list and no number of samples; up to 0.4.5 a sample does not name its metrics; from 0.4.13 a
group says in its own entry over how many samples it is. An unknown number of samples is unknown.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mipo_eval.errors import DataError
from mipo_eval.evaluation.graded import NO_FILTER, of_filter, unit
from mipo_eval.importers.base import (
    Imported,
    ItemRecord,
    JudgeRecord,
    RunRecord,
    as_rate,
    entry,
    facts,
    grade_scores,
    part,
    signed,
    told,
)
from mipo_eval.keys import canonical_json
from mipo_eval.models.thinking import continued
from mipo_eval.records import Item, Score
from mipo_eval.rows import FileRow, parse, read_rows, short_name
from mipo_eval.signature import in_signature, join

SOURCE = "lm_eval"
_RESULTS = re.compile(r"results_(?P<time>.+)")
_SAMPLES = re.compile(r"(?:.*_)?samples_(?P<task>.+)_(?P<time>[^_]*\d{2}[-T:].*)")
_OF_SAMPLE = frozenset(
    ("doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics",
     "doc_hash", "prompt_hash", "target_hash")
)  # fmt: skip
"""Fields of a sample that are no metric, in every version."""
_OF_CONFIG = ("model_args", "limit", "gen_kwargs", "batch_size", "num_fewshot")
_OF_DOCUMENT = ("n-shot", "date", "git_hash", "lm_eval_version", "system_instruction_sha",
                "chat_template_sha", "fewshot_as_multiturn")  # fmt: skip
_ADAPTERS = ("peft", "delta")
_ASKED = ("passage", "context", "article", "premise", "question", "question_stem", "query",
          "problem", "instruction", "input", "prompt", "goal", "sentence", "ctx",
          "hypothesis")  # fmt: skip
"""Fields of a document that say what is asked, in the order in which they are read."""
_CHOICES = ("choices", "options", "endings")


def is_ours(row: FileRow) -> bool:
    """Whether a row is a results document or a sample."""
    names = row.data.keys()
    results = isinstance(row.data.get("results"), dict) and bool({"configs", "versions"} & names)
    return (results and "config_general" not in names) or {"doc_id", "resps", "doc"} <= names


def read(rows: Sequence[FileRow], path: Path, imported: Imported) -> None:
    """Add a run; samples beside a results document belong to it, in whichever order they come."""
    if "results" in rows[0].data:
        _read_results(rows[0], path, imported)
        return
    found = _SAMPLES.fullmatch(short_name(path))
    beside = path.with_name(f"results_{found['time']}.json") if found else None
    if beside is not None and beside.is_file():
        (results,) = read_rows(beside)
        _read_results(results, beside, imported)
        return
    task = found["task"] if found else short_name(path)
    run = _run(path.absolute().parent.name or SOURCE, {task: rows}, None, imported)
    imported.rows += len(rows)
    imported.runs.append(run)


def _read_results(row: FileRow, path: Path, imported: Imported) -> None:
    if path.absolute() in imported.files:
        return
    imported.files.add(path.absolute())
    samples: dict[str, Sequence[FileRow]] = {}
    if found := _RESULTS.fullmatch(short_name(path)):
        # Listed, not looked for: the name of a task may be anything, also the way to another file.
        there = {file.name: file for file in path.parent.glob("samples_*.jsonl*")}
        for task in row.row("results").data:
            for ending in (".jsonl", ".jsonl.gz"):
                beside = there.get(f"samples_{task}_{found['time']}{ending}")
                if beside is not None and beside.is_file():
                    samples[task] = list(read_rows(beside))
    imported.rows += sum(len(rows) for rows in samples.values()) or 1
    run = _run(_model(row) or path.absolute().parent.name, samples, row, imported)
    if run.scores or run.entries:
        imported.runs.append(run)
    else:
        imported.left_out["a results document without a score"] += 1


def _arguments(row: FileRow) -> dict[str, Any]:
    """Return the arguments of the model, which the file has as one text or as an object."""
    given = part(row.data.get("config")).get("model_args")
    if isinstance(given, dict):
        return given
    text = str(given or "").strip()
    if text.startswith("{"):  # given on the command line as JSON, and kept as it was
        try:
            found = parse(text, row.where)
        except DataError:
            return {}
        return dict(part(found))
    parts = text.split(",")
    return {name.strip(): value for name, mark, value in (p.partition("=") for p in parts) if mark}


def _model(row: FileRow) -> str | None:
    """Return what a results document's model is called: revision and adapter are part of it."""
    given = _arguments(row)
    name = row.data.get("model_name") or given.get("pretrained") or given.get("model")
    if not name and not (name := row.data.get("model_source")):
        return None
    if (revision := given.get("revision")) and str(revision) not in {"main", "None"}:
        name = f"{name}@{revision}"
    adapters = [given[kind] for kind in _ADAPTERS if given.get(kind) not in {None, "None"}]
    return "+".join(map(str, [name, *adapters]))


def _about(row: FileRow) -> dict[str, Any]:
    config = part(row.data.get("config"))
    known = {name: config.get(name) for name in _OF_CONFIG}
    return facts(**known, **{name: row.data.get(name) for name in _OF_DOCUMENT})


def _run(
    model: str,
    samples: Mapping[str, Sequence[FileRow]],
    results: FileRow | None,
    imported: Imported,
) -> RunRecord:
    tasks = list(results.row("results").data) if results else list(samples)
    suite = f"lm_eval/{','.join(tasks)}"
    suite = suite if len(suite) <= 80 else f"{suite[:70]} and more"
    every = [row for rows in samples.values() for row in rows]
    run = RunRecord(
        source=SOURCE,
        model=model,
        suite=suite,
        told=told([*every, *([results] if results else [])]),
        about=_about(results) if results else {},
    )
    entries: dict[str, ItemRecord] = {}
    for task, rows in samples.items():
        # What is no number in any sample, such as a pair that is added up, is no grade of one.
        numbers = {name for row in rows for name, value in _metrics(row).items() if _number(value)}
        for row in rows:
            made = _entry(task, run.told, row)
            made = entries.setdefault(made.item.key, made)
            if not _grade(run, row, made, numbers):
                imported.left_out["a sample without a score"] += 1
    # A task may be sampled twice, as with repeats: the last value of an item counts.
    run.grades = list({(g.judge_key, g.item_key): g for g in run.grades}.values())
    run.entries = list(entries.values())
    scores = _scores(results, run.entries) if results else _means(run)
    run.scores = signed(run, [_between(run, score) for score in scores])
    return run


def _metrics(row: FileRow) -> dict[str, Any]:
    """Return what a sample scored, by metric."""
    names = row.data.get("metrics")
    if not isinstance(names, list):
        names = [name for name in row.data if name not in _OF_SAMPLE]
    return {str(name): row.data.get(str(name)) for name in names}


def _number(value: Any) -> bool:
    return isinstance(value, int | float)


def _grade(run: RunRecord, row: FileRow, made: ItemRecord, wanted: Collection[str]) -> bool:
    """Add what a sample scored by these metrics; False when there is not one number in it."""
    values = {name: value for name, value in _metrics(row).items() if name in wanted}
    for name, value in values.items():
        judge = JudgeRecord(SOURCE, of_filter(name, str(row.data.get("filter") or NO_FILTER)))
        number = float(value) if _number(value) else None
        run.grade(judge, made, number, "no value in the sample")
    return any(map(_number, values.values()))


def _entry(task: str, answers: str, row: FileRow) -> ItemRecord:
    first = row.data.get("arguments")
    while isinstance(first, dict | list) and first:
        first = next(iter(first.values())) if isinstance(first, dict) else first[0]
    prompt = first if isinstance(first, str) and first.strip() else canonical_json(row.get("doc"))
    target = row.data.get("target")
    item = Item(
        item_id=f"{task}-{row.name('doc_id')}",
        prompt=_question(part(row.data.get("doc"))) or prompt,
        reference=None if target is None or not str(target).strip() else str(target),
        meta={"doc_hash": row.data.get("doc_hash")},
    )
    reply: Any = row.elements("resps")
    while isinstance(reply, list) and len(reply) == 1:
        reply = reply[0]
    said = continued(prompt, reply) if isinstance(reply, str) else None
    return entry(task, item, said, stand_in=answers)


def _question(doc: Mapping[str, Any]) -> str:
    """Return what a document asks; "" where none of its fields is known to say so.

    Not the prompt that was made of it: that has the examples and the model's own chat template, and
    the same question to two models would not be the same item.
    """
    asked = [doc[name] for name in _ASKED if isinstance(doc.get(name), str) and doc[name].strip()]
    choices = next((doc[name] for name in _CHOICES if doc.get(name)), None)
    texts = part(choices).get("text", choices)
    if asked and isinstance(texts, list) and all(isinstance(text, str) for text in texts):
        missing = [text for text in texts if not any(text in question for question in asked)]
        asked += [f"- {text}" for text in missing]
    return "\n".join(asked)


def _scores(results: FileRow, entries: Sequence[ItemRecord]) -> list[Score]:
    """Return the numbers of a results document, each with its standard error as an interval."""
    scores = []
    for task, numbers in results.row("results").data.items():
        if not isinstance(numbers, dict):
            raise results.wrong(f"results of {task} are not an object")
        held = sum(made.task == task for made in entries)
        for name, value in numbers.items():
            metric, comma, used = name.partition(",")
            number = isinstance(value, int | float) and not isinstance(value, bool)
            # NaN, which is null here, is a number that could not be made: one over nothing.
            lost = value is None and bool(comma)
            if not (number or lost) or metric.endswith("_stderr") or metric == "sample_len":
                continue
            error = numbers.get(f"{metric}_stderr{comma}{used}")
            n = 0 if lost else _counted(results, task, name) or held or None
            scores.append(_score(task, metric, used or NO_FILTER, (value, error), n))
    return scores


def _between(run: RunRecord, score: Score) -> Score:
    name = of_filter(score.metric, score.signature.parts.get("filter", ""))
    return as_rate(run, score, JudgeRecord(SOURCE, name))


def _counted(
    results: FileRow, task: str, name: str, above: frozenset[str] = frozenset()
) -> int | None:
    """Return over how many samples a number is, where the document says it.

    A group is over the samples of its tasks; `above` are the groups it is part of itself.
    """
    numbers = part(results.row("results").data.get(task))
    candidates = (
        part(numbers.get("sample_count")).get(name),
        part(part(results.data.get("n-samples")).get(task)).get("effective"),
        numbers.get("sample_len"),
    )
    for counted in candidates:
        if isinstance(counted, int) and counted > 0:
            return counted
    tasks = part(results.data.get("group_subtasks")).get(task)
    if not isinstance(tasks, list) or not tasks or task in above:
        return None
    of_parts = [_counted(results, str(one), name, above | {task}) for one in tasks]
    known = [n for n in of_parts if n is not None]
    return sum(known) if len(known) == len(of_parts) else None


def _score(
    task: str, metric: str, used: str, number: tuple[float | None, Any], n: int | None
) -> Score:
    """Return a number of a results document, told with its standard error, or none."""
    value, error, scale = number[0], number[1], unit(metric)
    judge = used.removeprefix("judge:") if used.startswith("judge:") else None
    ends = None
    if value is not None and isinstance(error, int | float):
        ends = scale * (value - 1.96 * error), scale * (value + 1.96 * error)
    return Score(
        task=task,
        metric=metric,
        value=None if value is None else scale * value,
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
        given = [
            grade if grade.value is None else replace(grade, value=unit(metric) * grade.value)
            for grade in run.grades
        ]
        scale = f"lm-eval, filter {used}"
        scores += grade_scores(run.entries, given, judge, metric=metric, scale=scale)
    return scores
