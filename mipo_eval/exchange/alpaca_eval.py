"""AlpacaEval annotations: one file per model, or one line per model without the texts.

An annotation's preference is 1 for the baseline (output_1), 2 for the model (output_2), between
them a probability plus 1, and 0 or 1.5 a tie; null where the annotator's reply could not be read.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mipo_eval.errors import DataError
from mipo_eval.exchange.outcomes import choice_scores, item_verdicts, signed
from mipo_eval.exchange.reading import Row
from mipo_eval.exchange.records import (
    Entry,
    JudgeRecord,
    Reading,
    RunRecord,
    entry,
    made_reply,
)
from mipo_eval.exchange.records import Reply as LedgerReply
from mipo_eval.keys import digest
from mipo_eval.records import Item
from mipo_eval.signature import short
from mipo_eval.verdict import Choice, Verdict

SOURCE = "alpaca_eval"
TASK = "alpaca_eval"
_UNREAD = "the annotator's reply could not be read"


def is_ours(row: Row) -> bool:
    """Whether a row is an annotation, or a line of annotations without texts."""
    names = row.data.keys()
    return "preference" in names and ("generator_2" in names or {"model", "baseline"} <= names)


def read(rows: Sequence[Row], path: Path, reading: Reading) -> None:
    """Add what the rows hold: a run for each model, baseline and list of instructions."""
    by_pair: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if "generator_2" in row.data:
            pair = row.text("generator_2"), row.text("generator_1")
            by_pair.setdefault(pair, []).append(row)
        else:
            _read_line(row, reading)
    for (model, baseline), of_pair in by_pair.items():
        _read_annotations(model, baseline, of_pair, reading)


def _choice(row: Row, value: Any, judge: JudgeRecord, made: Entry) -> Choice:
    preference = row.as_number(value, "preference")
    if preference is not None and preference != 0 and not 1 <= preference <= 2:
        raise row.wrong(f"preference is {preference}; it is 0, null or between 1 and 2")
    outcome = None if preference is None else 0.5 if preference == 0 else preference - 1
    winner: Verdict | None = (
        None if outcome is None else "a" if outcome > 0.5 else "b" if outcome < 0.5 else "tie"
    )
    return Choice(
        judge_key=judge.key,
        item_key=made.item.key,
        text_key_a=made.text_key,
        text_key_b=made.reference_key or "",
        shown_first="?",
        winner=winner,
        preference=outcome,
        reason=_UNREAD if outcome is None else None,
    )


def _read_line(row: Row, reading: Reading) -> None:
    """Take a line that holds a model's preferences in the order of the instructions."""
    model, baseline = row.text("model"), row.text("baseline")
    judge = JudgeRecord(source=SOURCE, name=row.text("annotator"))
    entries, choices = [], []
    for number, value in enumerate(row.elements("preference")):
        item = Item(
            item_id=f"alpaca_eval-{number}",
            prompt=f"AlpacaEval instruction {number} (its text is not in the imported file)",
            meta={"baseline": baseline, "text_absent": True},
        )
        made = entry(TASK, item, None, stand_in=model, reference_stand_in=baseline)
        entries.append(made)
        choices.append(_choice(row, value, judge, made))
    reading.rows += len(entries)
    _add_run(model, baseline, entries, {judge: choices}, reading)


def _read_annotations(model: str, baseline: str, rows: list[Row], reading: Reading) -> None:
    entries: dict[str, Entry] = {}
    choices: dict[JudgeRecord, list[Choice]] = {}
    replies: list[LedgerReply] = []
    seen: Counter[tuple[str, str]] = Counter()
    for row in rows:
        reading.rows += 1
        instruction = row.text("instruction")
        annotator = JudgeRecord(source=SOURCE, name=row.text("annotator"))
        seen[annotator.name, instruction] += 1
        item = Item(
            item_id=f"{short(digest(instruction))}-{seen[annotator.name, instruction]}",
            prompt=instruction,
            reference=row.written("output_1") or None,
            meta={"dataset": row.data.get("dataset"), "baseline": baseline}
            | ({"instruction": instruction} if instruction != instruction.strip() else {}),
        )
        made = entry(
            TASK,
            item,
            row.written("output_2"),
            reference_stand_in=("" if item.reference else baseline),
        )
        entries.setdefault(item.key, made)
        choice = _choice(row, row.get("preference"), annotator, entries[item.key])
        if choice.text_key_a != made.text_key:
            reading.left_out["another output of the model for the same instruction"] += 1
            continue
        raw = row.data.get("raw_completion")
        if isinstance(raw, str):
            replies.append(made_reply(annotator, {"item": item.key, "text": made.text_key}, raw))
            choice = replace(choice, call_key=replies[-1].call_key)
        choices.setdefault(annotator, []).append(choice)
    _add_run(model, baseline, list(entries.values()), choices, reading, replies)


def _add_run(
    model: str,
    baseline: str,
    entries: list[Entry],
    choices: dict[JudgeRecord, list[Choice]],
    reading: Reading,
    replies: Sequence[LedgerReply] = (),
) -> None:
    suite = f"alpaca_eval vs {baseline}"
    scores = [
        score
        for judge, made in choices.items()
        for score in signed(
            choice_scores(entries, made, judge),
            source=SOURCE,
            suite=suite,
            entries=entries,
            judge=judge,
            task=TASK,
        )
    ]
    record = RunRecord(
        source=SOURCE,
        model=model,
        suite=suite,
        entries=entries,
        judges=list(choices),
        choices=[choice for made in choices.values() for choice in made],
        replies=replies,
        scores=scores,
        about={"baseline": baseline},
    )
    reading.runs.append(record)


def annotations(record: RunRecord, judge: JudgeRecord) -> list[dict[str, Any]]:
    """Return a run's choices by one judge as AlpacaEval writes its annotations.

    Raises:
        DataError: the judge chose nowhere in this run.
    """
    credits = [one.credit for one in item_verdicts(record.entries, record.choices, judge.key)]
    if all(credit is None for credit in credits):
        raise DataError(f"{judge.name} chose nowhere in this run: nothing to write")
    baseline = str(record.about.get("baseline", "reference"))
    return [
        {
            "dataset": made.item.meta.get("dataset") or made.task,
            "instruction": made.item.meta.get("instruction", made.item.prompt),
            "output_1": made.item.reference or "",
            "generator_1": baseline,
            "output_2": made.text or "",
            "generator_2": record.model,
            "annotator": judge.name,
            "preference": None if credit is None else credit + 1,
        }
        for made, credit in zip(record.entries, credits, strict=True)
    ]
