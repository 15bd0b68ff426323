"""Arena-Hard: judgments in both orders, and published scores with their bootstrap replicates.

A judgment has two games: in the first the baseline is A, in the second the model is. Arena-Hard
counts a strong verdict (>>) three times; here a verdict is one verdict, and the raw one is kept.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mipo_eval.exchange.outcomes import choice_scores, signed
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
from mipo_eval.records import Item, Score
from mipo_eval.signature import join
from mipo_eval.verdict import Choice, Shown, Verdict

SOURCE = "arena_hard"
QUESTIONS = 500
"""Of Arena-Hard-Auto v0.1, which its published score files do not say themselves."""
_UNNAMED = "the baseline"
_VERDICTS: dict[str, Verdict] = {
    "A>>B": "a",
    "A>B": "a",
    "A=B": "tie",
    "B=A": "tie",
    "B>A": "b",
    "B>>A": "b",
}
_SWAPPED: dict[Verdict, Verdict] = {"a": "b", "b": "a", "tie": "tie"}
_STATISTICS = {"model", "score", "lower", "upper", "results"}
_LEADERBOARD = {"model", "score", "rating_q025", "rating_q975"}


def is_ours(row: Row) -> bool:
    """Whether a row is a judgment, or a published score."""
    names = row.data.keys()
    return {"model", "judge", "games"} <= names or names >= _STATISTICS or names >= _LEADERBOARD


def read(rows: Sequence[Row], path: Path, reading: Reading) -> None:
    """Add what the rows hold: a run per model."""
    judged: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        reading.rows += 1
        if "games" in row.data:
            baseline = row.text("baseline") if row.data.get("baseline") else _UNNAMED
            judged.setdefault((row.text("model"), baseline), []).append(row)
        else:
            reading.runs.append(_published(row, path.stem))
    for (model, baseline), of_model in judged.items():
        reading.runs.append(_judged(model, baseline, of_model, reading))


def _published(row: Row, name: str) -> RunRecord:
    """Return a published score; its interval is made from the replicates where the file has them.

    The percentile interval of replicates that a file stores is the one it publishes.
    """
    if "results" in row.data:
        value = row.number("score")
        replicates = [row.as_number(v, "results") for v in row.elements("results")]
        told = [v for v in replicates if v is not None]
        low, high = np.percentile(told, [2.5, 97.5]) if told else (None, None)
        rule = f"percentile of {len(told)} replicates"
    else:
        value, low, high = (_number(row, n) for n in ("score", "rating_q025", "rating_q975"))
        rule = "published"
    score = Score(
        metric="arena_hard_score",
        value=value,
        n=QUESTIONS if value is not None else 0,
        ci95=None if low is None or high is None else (float(low), float(high)),
        signature=join(rule="Bradley-Terry win rate", interval=rule),
    )
    model, suite = row.text("model"), f"arena_hard {name}"
    scores = signed([score], source=SOURCE, suite=suite, entries=(), task="arena_hard")
    return RunRecord(source=SOURCE, model=model, suite=suite, entries=(), scores=scores)


def _number(row: Row, name: str) -> float | None:
    text = row.string(name).strip()
    try:
        return row.as_number(float(text), name) if text else None
    except ValueError:
        raise row.wrong(f"{name} is {text!r}, not a number") from None


def _judged(model: str, baseline: str, rows: list[Row], reading: Reading) -> RunRecord:
    suite = f"arena_hard vs {baseline}"
    entries: dict[str, Entry] = {}
    choices: dict[JudgeRecord, list[Choice]] = {}
    replies: list[LedgerReply] = []
    seen: set[tuple[str, str]] = set()
    for row in rows:
        judge = JudgeRecord(source=SOURCE, name=_judge_name(row))
        question = row.name("uid" if "uid" in row.data else "question_id")
        if (judge.key, question) in seen:
            reading.left_out["a question judged again by the same judge"] += 1
            continue
        seen.add((judge.key, question))
        item = Item(
            item_id=f"arena_hard-{question}",
            prompt=f"Arena-Hard question {question} (its text is not in the imported file)",
            meta={"baseline": baseline, "text_absent": True},
        )
        made = entry(SOURCE, item, None, stand_in=model, reference_stand_in=baseline)
        entries[item.key] = made
        for game, shown in zip(row.rows("games"), ("b", "a"), strict=False):
            choice, reply = _game(game, "a" if shown == "a" else "b", judge, made)
            choices.setdefault(judge, []).append(choice)
            replies += [reply] if reply else []
    scores = [
        score
        for judge, made_by in choices.items()
        for score in signed(
            choice_scores(list(entries.values()), made_by, judge),
            source=SOURCE,
            suite=suite,
            entries=list(entries.values()),
            judge=judge,
            task=SOURCE,
        )
    ]
    return RunRecord(
        source=SOURCE,
        model=model,
        suite=suite,
        entries=list(entries.values()),
        judges=list(choices),
        choices=[choice for made_by in choices.values() for choice in made_by],
        replies=replies,
        scores=scores,
        about={"baseline": baseline},
    )


def _judge_name(row: Row) -> str:
    return row.text("judge")


def _game(
    game: Row, shown: Shown, judge: JudgeRecord, made: Entry
) -> tuple[Choice, LedgerReply | None]:
    """Return the choice of one game; in the file's terms A is whoever was shown first."""
    raw = game.data.get("score")
    verdict = _VERDICTS.get(str(raw))
    winner = _SWAPPED[verdict] if verdict and shown == "b" else verdict
    reply = _reply_of(game.data.get("judgment"))
    row = made_reply(judge, {"item": made.item.key, "text": made.text_key, "first": shown}, reply)
    choice = Choice(
        judge_key=judge.key,
        item_key=made.item.key,
        text_key_a=made.text_key,
        text_key_b=made.reference_key or "",
        shown_first=shown,
        winner=winner,
        reason=None if winner else f"verdict {raw}" if raw else "no verdict in the judge's reply",
        call_key=row.call_key if reply else None,
    )
    return choice, row if reply else None


def _reply_of(judgment: Any) -> str:
    if isinstance(judgment, dict):
        judgment = judgment.get("answer")
    return judgment if isinstance(judgment, str) else ""
