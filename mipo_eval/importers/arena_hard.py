"""Arena-Hard: judgments in both orders, and published scores with their bootstrap replicates.

A judgment has two games: in the first the baseline is A, in the second the model is; a question
with one game alone is not judged. Arena-Hard counts a strong verdict (>>) three times; here a
verdict is one verdict, and the raw one is kept. The categories of v2 are tasks.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mipo_eval.importers.base import (
    NO_VERDICT,
    Imported,
    ItemRecord,
    JudgeRecord,
    RunRecord,
    entry,
    facts,
    made_reply,
    signed,
    told,
    win_rates,
)
from mipo_eval.records import Item, Score
from mipo_eval.rows import FileRow
from mipo_eval.signature import join
from mipo_eval.verdict import Shown, Verdict, exchanged

SOURCE = "arena_hard"
QUESTIONS = 500
"""Of Arena-Hard-Auto v0.1, which its published score files do not say themselves. Those of v2 are
over 500 hard prompts, 250 of creative writing, or less: n is not known unless a file says it."""
_V2 = re.compile(r"v2|2\.0|creative|hard[-_ ]prompt", re.IGNORECASE)
_UNNAMED = "the baseline"
_GAMES: tuple[Shown, ...] = ("b", "a")
"""Which text stands first in each game."""
_VERDICTS: dict[str, Verdict] = {
    "A>>B": "a",
    "A>B": "a",
    "A=B": "tie",
    "B=A": "tie",
    "B>A": "b",
    "B>>A": "b",
}
_STATISTICS = {"model", "score", "lower", "upper", "results"}
_LEADERBOARD = {"model", "score", "rating_q025", "rating_q975"}


def is_ours(row: FileRow) -> bool:
    """Whether a row is a judgment, or a published score."""
    names = row.data.keys()
    return {"model", "judge", "games"} <= names or names >= _STATISTICS or names >= _LEADERBOARD


def read(rows: Sequence[FileRow], path: Path, imported: Imported) -> None:
    """Add what the rows hold: a run per model."""
    judged: dict[tuple[str, str], list[FileRow]] = {}
    for row in rows:
        imported.rows += 1
        if "games" in row.data:
            baseline = row.text("baseline") if row.data.get("baseline") else _UNNAMED
            judged.setdefault((row.text("model"), baseline), []).append(row)
        else:
            imported.runs.append(_published(row, path.stem))
    for (model, baseline), of_model in judged.items():
        imported.runs.append(_judged(model, baseline, of_model, imported))


def _published(row: FileRow, name: str) -> RunRecord:
    """Return a published score; its interval is made from the replicates where the file has them.

    The percentile interval of replicates that a file stores is the one it publishes.
    """
    if "results" in row.data:
        value = row.number("score")
        replicates = [row.as_number(v, "results") for v in row.elements("results")]
        known = [v for v in replicates if v is not None]
        low, high = np.percentile(known, [2.5, 97.5]) if known else (None, None)
        rule = f"percentile of {len(known)} replicates"
    else:
        value, low, high = (_number(row, n) for n in ("score", "rating_q025", "rating_q975"))
        rule = "published"
    score = Score(
        metric="arena_hard_score",
        value=value,
        n=0 if value is None else _questions(row, name),
        ci95=None if low is None or high is None else (float(low), float(high)),
        signature=join(rule="Bradley-Terry win rate", interval=rule),
    )
    run = RunRecord(
        source=SOURCE,
        model=row.text("model"),
        suite=f"arena_hard {name}",
        told=told([row]),
        about=facts(date=row.data.get("date"), judge=row.data.get("judge")),
    )
    judge = JudgeRecord(SOURCE, row.text("judge")) if row.data.get("judge") else None
    run.judges = [judge] if judge else []
    run.scores = signed(run, [score], judge=judge, task=str(row.data.get("category") or SOURCE))
    return run


def _questions(row: FileRow, name: str) -> int | None:
    """Return over how many questions a published score is; None where that cannot be known."""
    for field in ("n", "num_questions", "questions"):
        if row.data.get(field) not in (None, ""):
            return int(_number(row, field) or 0) or None
    is_v2 = _V2.search(name) or {"category", "judge"} & row.data.keys()
    return None if is_v2 else QUESTIONS


def _number(row: FileRow, name: str) -> float | None:
    text = row.written(name).strip()
    try:
        return row.as_number(float(text), name) if text else None
    except ValueError:
        raise row.wrong(f"{name} is {text!r}, not a number") from None


def _judged(model: str, baseline: str, rows: list[FileRow], imported: Imported) -> RunRecord:
    judges = ", ".join(sorted({row.text("judge") for row in rows}))
    run = RunRecord(
        source=SOURCE,
        model=model,
        suite=f"arena_hard vs {baseline}",
        told=told(rows),
        about={"baseline": baseline, "judge": judges},
    )
    entries: dict[str, ItemRecord] = {}
    seen: set[tuple[JudgeRecord, str]] = set()
    for row in rows:
        judge = JudgeRecord(SOURCE, row.text("judge"))
        question = row.name("uid" if "uid" in row.data else "question_id")
        if (judge, question) in seen:
            imported.left_out["a question judged again by the same judge"] += 1
            continue
        seen.add((judge, question))
        item = Item(
            item_id=f"arena_hard-{question}",
            prompt=f"Arena-Hard question {question} (its text is not in the imported file)",
            meta={"baseline": baseline, "text_absent": True},
        )
        task = str(row.data.get("category") or SOURCE)
        made = entry(task, item, None, stand_in=run.told, reference_stand_in=baseline)
        entries[item.key] = made
        if not row.elements("games"):
            run.choose(judge, made, None, NO_VERDICT)
        for game, shown in zip(row.elements("games"), _GAMES, strict=False):
            played = game if isinstance(game, dict) else {}
            _add_game(run, FileRow(row.where, played), shown, judge, made)
    run.entries = list(entries.values())
    run.scores = win_rates(run)
    return run


def _add_game(
    run: RunRecord, game: FileRow, shown: Shown, judge: JudgeRecord, made: ItemRecord
) -> None:
    """Add the choice of one game; in the file's terms A is whoever was shown first."""
    raw, judgment = game.data.get("score"), game.data.get("judgment")
    verdict = _VERDICTS.get(str(raw))
    if isinstance(judgment, dict):
        judgment = judgment.get("answer")
    about = {"item": made.item.key, "text": made.text_key, "first": shown}
    held = judgment if isinstance(judgment, str) else ""
    run.choose(
        judge,
        made,
        exchanged(verdict) if shown == "b" else verdict,
        f"verdict {raw}" if raw else NO_VERDICT,
        shown=shown,
        reply=made_reply(judge, about, held) if held else None,
    )
