"""MT-Bench judgments: grades 1-10 of single answers, or pairs judged in both orders.

A pair whose two orders disagree is a tie, as in MT-Bench's own count.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from mipo_eval.importers.base import (
    NO_VERDICT,
    Imported,
    ItemRecord,
    JudgeRecord,
    RunRecord,
    entry,
    facts,
    grade_means,
    made_reply,
    told,
    win_rates,
)
from mipo_eval.records import Item
from mipo_eval.rows import FileRow
from mipo_eval.verdict import Shown, Verdict

SOURCE = "mt_bench"
_GAMES: dict[str, Shown] = {"g1": "a", "g2": "b"}
_WINNERS: dict[str, Verdict | None] = {"model_1": "a", "model_2": "b", "tie": "tie", "error": None}


def is_ours(row: FileRow) -> bool:
    """Whether a row is a single grade or a judged pair."""
    names = row.data.keys()
    single = {"question_id", "model", "judge", "score", "turn"} <= names
    return single or {"question_id", "model_1", "model_2", "g1_winner", "g2_winner"} <= names


def read(rows: Sequence[FileRow], path: Path, imported: Imported) -> None:
    """Add what the rows hold: a run per model graded alone, then one per pair of models."""
    runs: dict[tuple[str, str], list[FileRow]] = {}
    for row in sorted(rows, key=lambda row: "g1_winner" in row.data):
        imported.rows += 1
        pair = "g1_winner" in row.data
        models = (row.text("model_1"), row.text("model_2")) if pair else (row.text("model"), "")
        runs.setdefault(models, []).append(row)
    for (model, other), of_run in runs.items():
        imported.runs.append(_run(model, other, of_run, imported))


def _run(model: str, other: str, rows: list[FileRow], imported: Imported) -> RunRecord:
    """Return the run of a model's grades, or of its pairs with another."""
    prompts = {" ".join(map(str, row.elements("judge"))) for row in rows}
    run = RunRecord(
        source=SOURCE,
        model=model,
        suite=f"mt_bench vs {other}" if other else "mt_bench",
        told=told(rows),
        about=facts(baseline=other, judge=", ".join(sorted(prompts)), date=_date(rows)),
    )
    entries: dict[str, ItemRecord] = {}
    seen: set[tuple[JudgeRecord, str]] = set()
    for row in sorted(rows, key=_place):
        judge, made = _judge(row), _entry(row, run.told, other)
        if (judge, made.item.key) in seen:
            imported.left_out["an answer judged again by the same judge"] += 1
            continue
        seen.add((judge, made.item.key))
        entries[made.item.key] = made
        if other:
            _add_games(run, row, judge, made)
        else:
            _add_grade(run, row, judge, made)
    run.entries = list(entries.values())
    run.scores = win_rates(run) if other else grade_means(run, scale="1-10")
    return run


def _date(rows: Sequence[FileRow]) -> str | None:
    """Return when the first row was written."""
    times = [row.as_number(row.data.get("tstamp"), "tstamp") for row in rows]
    known = [time for time in times if time is not None]
    try:
        return datetime.fromtimestamp(min(known), UTC).isoformat() if known else None
    except (OverflowError, OSError, ValueError):  # no time that a clock can show
        return None


def _place(row: FileRow) -> tuple[str, str]:
    """Turn, then question: the order of files differs between models, that of items must not."""
    return row.name("turn"), row.name("question_id").zfill(8)


def _judge(row: FileRow) -> JudgeRecord:
    """Return the judge: its model; the prompt differs by question and is kept with the reply."""
    judge = row.elements("judge")
    if not judge or not isinstance(judge[0], str):
        raise row.wrong("judge names no model")
    return JudgeRecord(SOURCE, judge[0])


def _entry(row: FileRow, answers: str, baseline: str) -> ItemRecord:
    question, turn = row.name("question_id"), row.name("turn")
    item = Item(
        item_id=f"mt_bench-{question}-{turn}",
        prompt=f"MT-Bench question {question}, turn {turn} (its text is not in the imported file)",
        group_id=f"mt_bench-{question}",
        meta={"text_absent": True} | ({"baseline": baseline} if baseline else {}),
    )
    return entry(f"turn {turn}", item, None, stand_in=answers, reference_stand_in=baseline)


def _add_grade(run: RunRecord, row: FileRow, judge: JudgeRecord, made: ItemRecord) -> None:
    value = row.number("score")
    if value is not None and value != -1 and not 1 <= value <= 10:
        raise row.wrong(f"score is {value}; it is 1 to 10, or -1 for none")
    asked = {"prompt": row.data.get("user_prompt"), "judge": row.elements("judge")}
    judgment = row.data.get("judgment")
    about = asked | {"text": made.text_key}
    reply = made_reply(judge, about, str(judgment)) if judgment else None
    given = None if value == -1 else value
    run.grade(judge, made, given, "no grade in the judge's reply", reply)


def _add_games(run: RunRecord, row: FileRow, judge: JudgeRecord, made: ItemRecord) -> None:
    for game, shown in _GAMES.items():
        said, judgment = row.text(f"{game}_winner"), row.data.get(f"{game}_judgment")
        if said not in _WINNERS:
            raise row.wrong(f"{game}_winner is {said!r}; it is model_1, model_2, tie or error")
        asked = {"prompt": row.data.get(f"{game}_user_prompt"), "judge": row.elements("judge")}
        about = asked | {"item": made.item.key, "first": shown}
        run.choose(
            judge,
            made,
            _WINNERS[said],
            NO_VERDICT,
            shown=shown,
            reply=made_reply(judge, about, str(judgment)) if judgment else None,
        )
