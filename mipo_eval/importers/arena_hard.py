"""Arena-Hard: judgments in both orders, and published scores with their bootstrap replicates.

A judgment has two games: in the first the baseline is A, in the second the model is; a question
with one game alone is not judged. Arena-Hard counts a strong verdict (>>) three times; here a
verdict is one verdict, and the raw one is kept.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mipo_eval.importers.base import (
    NO_VERDICT,
    FileRow,
    Imported,
    ItemRecord,
    JudgeRecord,
    RunRecord,
    entry,
    made_reply,
    signed,
    win_rates,
)
from mipo_eval.records import Item, Score
from mipo_eval.signature import join
from mipo_eval.verdict import Shown, Verdict, exchanged

SOURCE = "arena_hard"
QUESTIONS = 500
"""Of Arena-Hard-Auto v0.1, which its published score files do not say themselves."""
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
    run = RunRecord(source=SOURCE, model=row.text("model"), suite=f"arena_hard {name}")
    run.scores = signed(run, [score], task=SOURCE)
    return run


def _number(row: FileRow, name: str) -> float | None:
    text = row.text(name, empty=True).strip()
    try:
        return row.as_number(float(text), name) if text else None
    except ValueError:
        raise row.wrong(f"{name} is {text!r}, not a number") from None


def _judged(model: str, baseline: str, rows: list[FileRow], imported: Imported) -> RunRecord:
    suite, about = f"arena_hard vs {baseline}", {"baseline": baseline}
    run = RunRecord(source=SOURCE, model=model, suite=suite, about=about)
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
        made = entry(SOURCE, item, None, stand_in=model, reference_stand_in=baseline)
        entries[item.key] = made
        for game, shown in zip(row.rows("games"), _GAMES, strict=False):
            _add_game(run, game, shown, judge, made)
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
