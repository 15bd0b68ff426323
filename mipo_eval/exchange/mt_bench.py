"""MT-Bench judgments: grades 1-10 of single answers, or pairs judged in both orders.

A pair whose two orders disagree is a tie, as in MT-Bench's own count.
"""

from collections.abc import Sequence
from pathlib import Path

from mipo_eval.exchange.outcomes import choice_scores, grade_scores, signed
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
from mipo_eval.records import Item
from mipo_eval.store.verdicts import Grade
from mipo_eval.verdict import Choice, Shown, Verdict

SOURCE = "mt_bench"
_SINGLE, _PAIR = "mt_bench", "mt_bench vs {}"
_NO_GRADE = "no grade in the judge's reply"
_TWICE = "an answer judged again by the same judge"


def is_ours(row: Row) -> bool:
    """Whether a row is a single grade or a judged pair."""
    names = row.data.keys()
    single = {"question_id", "model", "judge", "score", "turn"} <= names
    return single or {"question_id", "model_1", "model_2", "g1_winner", "g2_winner"} <= names


def read(rows: Sequence[Row], path: Path, reading: Reading) -> None:
    """Add what the rows hold: a run per model, or per pair of models."""
    singles: dict[str, list[Row]] = {}
    pairs: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        reading.rows += 1
        if "g1_winner" in row.data:
            pairs.setdefault((row.text("model_1"), row.text("model_2")), []).append(row)
        else:
            singles.setdefault(row.text("model"), []).append(row)
    for model, of_model in singles.items():
        reading.runs.append(_single(model, of_model, reading))
    for (model, other), of_pair in pairs.items():
        reading.runs.append(_pair(model, other, of_pair, reading))


def _judge(row: Row) -> JudgeRecord:
    """Return the judge: its model; the prompt differs by question and is kept with the reply."""
    judge = row.elements("judge")
    if not judge or not isinstance(judge[0], str):
        raise row.wrong("judge names no model")
    return JudgeRecord(source=SOURCE, name=judge[0])


def _entry(row: Row, model: str, baseline: str | None) -> Entry:
    question, turn = row.name("question_id"), row.name("turn")
    meta = {"text_absent": True} | ({"baseline": baseline} if baseline else {})
    item = Item(
        item_id=f"mt_bench-{question}-{turn}",
        prompt=f"MT-Bench question {question}, turn {turn} (its text is not in the imported file)",
        group_id=f"mt_bench-{question}",
        meta=meta,
    )
    stand_in = {"reference_stand_in": baseline} if baseline else {}
    return entry(f"turn {turn}", item, None, stand_in=model, **stand_in)


def _single(model: str, rows: list[Row], reading: Reading) -> RunRecord:
    entries: dict[str, Entry] = {}
    grades: dict[tuple[str, str], Grade] = {}
    judges: dict[str, JudgeRecord] = {}
    replies = []
    for row in sorted(rows, key=_place):
        judge, made = _judge(row), _entry(row, model, None)
        if (judge.key, made.item.key) in grades:
            reading.left_out[_TWICE] += 1
            continue
        judges[judge.key] = judge
        entries[made.item.key] = made
        value = row.number("score")
        if value is not None and value != -1 and not 1 <= value <= 10:
            raise row.wrong(f"score is {value}; it is 1 to 10, or -1 for none")
        graded = value is not None and value != -1
        asked = {"prompt": row.data.get("user_prompt"), "judge": row.elements("judge")}
        reply = made_reply(judge, asked | {"text": made.text_key}, str(row.data.get("judgment")))
        replies.append(reply)
        grades[judge.key, made.item.key] = Grade(
            judge_key=judge.key,
            item_key=made.item.key,
            text_key=made.text_key,
            value=value if graded else None,
            reason=None if graded else _NO_GRADE,
            call_key=reply.call_key,
        )
    listed = list(entries.values())
    scores = [
        score
        for judge in judges.values()
        for score in signed(
            grade_scores(listed, list(grades.values()), judge, metric="grade_mean", scale="1-10"),
            source=SOURCE,
            suite=_SINGLE,
            entries=listed,
            judge=judge,
        )
    ]
    return RunRecord(
        source=SOURCE,
        model=model,
        suite=_SINGLE,
        entries=listed,
        judges=list(judges.values()),
        grades=list(grades.values()),
        replies=replies,
        scores=scores,
    )


def _place(row: Row) -> tuple[str, str]:
    """Turn, then question: the order of files differs between models, that of items must not."""
    return row.name("turn"), row.name("question_id").zfill(8)


def _pair(model: str, other: str, rows: list[Row], reading: Reading) -> RunRecord:
    entries: dict[str, Entry] = {}
    choices: dict[tuple[str, str, str], Choice] = {}
    judges: dict[str, JudgeRecord] = {}
    replies: list[LedgerReply] = []
    for row in sorted(rows, key=_place):
        judge, made = _judge(row), _entry(row, model, other)
        if (judge.key, made.item.key, "a") in choices:
            reading.left_out[_TWICE] += 1
            continue
        judges[judge.key] = judge
        entries[made.item.key] = made
        for game, shown in (("g1", "a"), ("g2", "b")):
            choice, reply = _game(row, game, "a" if shown == "a" else "b", judge, made)
            choices[judge.key, made.item.key, shown] = choice
            replies += [reply] if reply else []
    listed, suite = list(entries.values()), _PAIR.format(other)
    scores = [
        score
        for judge in judges.values()
        for task in dict.fromkeys(made.task for made in listed)
        for of_task in ([made for made in listed if made.task == task],)
        for score in signed(
            choice_scores(of_task, list(choices.values()), judge),
            source=SOURCE,
            suite=suite,
            entries=of_task,
            judge=judge,
            task=task,
        )
    ]
    return RunRecord(
        source=SOURCE,
        model=model,
        suite=suite,
        entries=listed,
        judges=list(judges.values()),
        choices=list(choices.values()),
        replies=replies,
        scores=scores,
        about={"baseline": other},
    )


def _game(
    row: Row, game: str, shown: Shown, judge: JudgeRecord, made: Entry
) -> tuple[Choice, LedgerReply | None]:
    said = row.text(f"{game}_winner")
    winners: dict[str, Verdict] = {"model_1": "a", "model_2": "b", "tie": "tie"}
    if said not in winners and said != "error":
        raise row.wrong(f"{game}_winner is {said!r}; it is model_1, model_2, tie or error")
    judgment = row.data.get(f"{game}_judgment")
    asked = {"prompt": row.data.get(f"{game}_user_prompt"), "judge": row.elements("judge")}
    reply = made_reply(judge, asked | {"item": made.item.key, "first": shown}, str(judgment))
    choice = Choice(
        judge_key=judge.key,
        item_key=made.item.key,
        text_key_a=made.text_key,
        text_key_b=made.reference_key or "",
        shown_first=shown,
        winner=winners.get(said),
        reason=None if said in winners else "no verdict in the judge's reply",
        call_key=reply.call_key if judgment else None,
    )
    return choice, reply if judgment else None
