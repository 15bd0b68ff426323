"""AlpacaEval annotations: one file per model, or one line per model without the texts.

An annotation's preference is 1 for the baseline (output_1), 2 for the model (output_2), between
them a probability plus 1, and 0 or 1.5 a tie; null where the annotator's reply could not be read.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mipo_eval.importers.base import (
    Imported,
    ItemRecord,
    JudgeRecord,
    ReplyRecord,
    RunRecord,
    entry,
    made_reply,
    told,
    win_rates,
)
from mipo_eval.keys import digest
from mipo_eval.records import Item
from mipo_eval.rows import FileRow
from mipo_eval.signature import short

SOURCE = "alpaca_eval"


def is_ours(row: FileRow) -> bool:
    """Whether a row is an annotation, or a line of annotations without texts."""
    names = row.data.keys()
    return "preference" in names and ("generator_2" in names or {"model", "baseline"} <= names)


def read(rows: Sequence[FileRow], path: Path, imported: Imported) -> None:
    """Add what the rows hold: a run for each model, baseline and list of instructions."""
    by_pair: dict[tuple[str, str], list[FileRow]] = {}
    for row in rows:
        if "generator_2" in row.data:
            pair = row.text("generator_2"), row.text("generator_1")
            by_pair.setdefault(pair, []).append(row)
        else:
            imported.runs.append(_read_line(row, imported))
    for (model, baseline), of_pair in by_pair.items():
        imported.runs.append(_read_annotations(model, baseline, of_pair, imported))


def _run(model: str, baseline: str, rows: Sequence[FileRow]) -> RunRecord:
    return RunRecord(
        source=SOURCE,
        model=model,
        suite=f"alpaca_eval vs {baseline}",
        told=told(rows),
        about={
            "baseline": baseline,
            "annotator": ", ".join(sorted({row.text("annotator") for row in rows})),
        },
    )


def _choose(
    run: RunRecord,
    row: FileRow,
    value: Any,
    judge: JudgeRecord,
    made: ItemRecord,
    reply: ReplyRecord | None = None,
) -> None:
    given = row.as_number(value, "preference")
    if given is not None and given != 0 and not 1 <= given <= 2:
        raise row.wrong(f"preference is {given}; it is 0, null or between 1 and 2")
    preference = None if given is None else 0.5 if given == 0 else given - 1
    run.choose(judge, made, preference, "the annotator's reply could not be read", reply=reply)


def _read_line(row: FileRow, imported: Imported) -> RunRecord:
    """Take a line that holds a model's preferences in the order of the instructions."""
    model, baseline = row.text("model"), row.text("baseline")
    judge = JudgeRecord(SOURCE, row.text("annotator"))
    run, entries = _run(model, baseline, [row]), []
    for number, value in enumerate(row.elements("preference")):
        item = Item(
            item_id=f"alpaca_eval-{number}",
            prompt=f"AlpacaEval instruction {number} (its text is not in the imported file)",
            meta={"baseline": baseline, "text_absent": True},
        )
        made = entry(SOURCE, item, None, stand_in=run.told, reference_stand_in=baseline)
        entries.append(made)
        _choose(run, row, value, judge, made)
    imported.rows += len(entries)
    run.entries = entries
    run.scores = win_rates(run)
    return run


def _read_annotations(
    model: str, baseline: str, rows: list[FileRow], imported: Imported
) -> RunRecord:
    run = _run(model, baseline, rows)
    entries: dict[str, ItemRecord] = {}
    seen: Counter[tuple[str, str]] = Counter()
    for row in rows:
        imported.rows += 1
        instruction = row.text("instruction")
        judge = JudgeRecord(SOURCE, row.text("annotator"))
        seen[judge.name, instruction] += 1
        item = Item(
            item_id=f"{short(digest(instruction))}-{seen[judge.name, instruction]}",
            prompt=instruction,
            reference=row.written("output_1") or None,
            meta={"dataset": row.data.get("dataset"), "baseline": baseline}
            | ({"instruction": instruction} if instruction != instruction.strip() else {}),
        )
        stand_in = "" if item.reference else baseline
        made = entry(SOURCE, item, row.written("output_2"), reference_stand_in=stand_in)
        if entries.setdefault(item.key, made).text_key != made.text_key:
            imported.left_out["another output of the model for the same instruction"] += 1
            continue
        raw = row.data.get("raw_completion")
        about = {"item": item.key, "text": made.text_key}
        reply = made_reply(judge, about, raw) if isinstance(raw, str) else None
        _choose(run, row, row.get("preference"), judge, made, reply)
    run.entries = list(entries.values())
    run.scores = win_rates(run)
    return run
