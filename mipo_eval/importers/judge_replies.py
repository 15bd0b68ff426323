"""Replies of judges to pairs that people or a rule have labelled: LLMBar, JudgeBench, PandaLM.

`judges/replies.py` reads them; here they become a run. The first text of a pair is stored as the
run's response, the second as its reference, and the label as one more judge: agreement of a judge
with the label is its accuracy.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mipo_eval.importers.base import (
    NO_VERDICT,
    Imported,
    ItemRecord,
    JudgeRecord,
    RunRecord,
    choice_scores,
    entry,
    made_reply,
    signed,
)
from mipo_eval.judges.labelled import PANDALM_PAIRS, LabelledPair, majority
from mipo_eval.judges.replies import PairReading, read_set_replies
from mipo_eval.keys import digest
from mipo_eval.metrics.aggregate import rate_score
from mipo_eval.records import Item, Score
from mipo_eval.rows import FileRow
from mipo_eval.signature import join, short
from mipo_eval.verdict import Shown, Verdict

SOURCE = "judge_replies"
_FORMATS = {
    "llmbar": {"input", "output_1", "output_2", "label", "results"},
    "judgebench": {"pair_id", "response_A", "response_B", "label", "judgments"},
    "pandalm": {"idx", "pandalm_result"},
}
"""The sets that keep replies, and the fields by which their rows are known."""
_SIGN: dict[Verdict | None, int] = {"a": 1, "b": -1, "tie": 0, None: 0}


def is_ours(row: FileRow) -> bool:
    """Whether a row is a pair with a judge's replies."""
    return any(fields <= row.data.keys() for fields in _FORMATS.values())


def read(rows: Sequence[FileRow], path: Path, reading: Imported) -> None:
    """Add what the rows hold: one run, judged by one judge and the labels."""
    name = next(name for name, fields in _FORMATS.items() if fields <= rows[0].data.keys())
    reading.rows += len(rows)
    found = read_set_replies(name, path)
    tasks = [name] * len(found)
    if name == "llmbar":
        suite, judge = _llmbar_names(path)
    elif name == "judgebench":
        suite = f"judgebench/{rows[0].text('response_model')}"
        judge = f"{rows[0].text('judge_name')}/{_judgebench_model(rows[0])}"
        tasks = [row.text("source") for row in rows]
    else:
        suite, judge = "pandalm", path.stem.removesuffix("-testset-v1")
        judged = {row.name("idx") for row in rows}
        found = tuple(one for one in found if one.pair.pair_id in judged)
        tasks = [one.pair.subset for one in found]
        if unknown := len(rows) - len(found):
            reading.left_out[f"no pair of that number in {PANDALM_PAIRS}"] += unknown
    run = RunRecord(
        source=SOURCE,
        model="the first text of each pair",
        suite=suite,
        # Of the pairs alone: what several judges said of the same pairs belongs together.
        told=digest([one.pair.model_dump(mode="json") for one in found]),
        judges=[JudgeRecord(SOURCE, judge)],
    )
    reading.runs.append(_run(run, tasks, found))


def _llmbar_names(path: Path) -> tuple[str, str]:
    """Return suite and judge from .../LLMBar/SUBSET/evaluators/MODEL/PROMPT/result.json."""
    parts = path.absolute().parts
    if "evaluators" not in parts:
        return "llmbar", path.parent.name or path.stem
    at = len(parts) - 1 - parts[::-1].index("evaluators")
    start = parts.index("LLMBar") + 1 if "LLMBar" in parts[:at] else at - 1
    return "/".join(("llmbar", *parts[start:at])), "/".join(parts[at + 1 : -1]) or path.stem


def _judgebench_model(row: FileRow) -> str:
    for judgment in row.rows("judgments"):
        if isinstance(judgment.data.get("judgment"), dict):
            return str(judgment.data["judgment"].get("judge_model") or "unnamed")
    return "unnamed"


def _run(run: RunRecord, tasks: Sequence[str], found: Sequence[PairReading]) -> RunRecord:
    """Fill a run with the pairs, what its one judge said of them, and how they are labelled."""
    (judge,), (name, *_) = run.judges, run.suite.split("/")
    entries: list[ItemRecord] = []
    golds: list[Verdict | None] = []
    seen: Counter[str] = Counter()
    for task, one in zip(tasks, found, strict=True):
        pair = one.pair
        made = entry(task, _item(name, pair, seen), pair.first)
        entries.append(made)
        orders: tuple[tuple[Shown, Verdict | None], ...] = (("a", one.straight), ("b", one.swapped))
        for (shown, winner), raw in zip(orders, one.raw, strict=False):
            about = {"item": made.item.key, "text": made.text_key, "first": shown}
            reply = None if raw is None else made_reply(judge, about, raw)
            run.choose(judge, made, winner, NO_VERDICT, shown=shown, reply=reply)
        people = {f"annotator{n}": told for n, told in enumerate(pair.annotators, 1) if told}
        labels = people or {"label": pair.label}
        for person, label in labels.items():
            run.choose(JudgeRecord(SOURCE, f"{name} {person}"), made, label, NO_VERDICT)
        golds.append(majority(list(labels.values())))
    run.entries = entries
    accuracies = _accuracies(run, judge, golds)
    scores: list[Score] = []
    for by in run.judges:
        rates = [*choice_scores(entries, run.choices, by), *(accuracies if by == judge else ())]
        scores += signed(run, rates, judge=by, task="pairs")
    run.scores = scores
    return run


def _item(name: str, pair: LabelledPair, seen: Counter[str]) -> Item:
    """Return a pair's item; one that a file holds again is another, so that each is counted."""
    item_id = {
        "llmbar": f"llmbar-{short(digest([pair.prompt, pair.first, pair.second]))}",
        "judgebench": pair.pair_id,
        "pandalm": f"pandalm-{pair.pair_id}",
    }[name]
    item = Item(item_id=item_id, prompt=pair.prompt, reference=pair.second or None)
    seen[item.key] += 1
    if (count := seen[item.key]) == 1:
        return item
    return Item.model_validate({**item.model_dump(), "item_id": f"{item_id}-{count}"})


def _accuracies(run: RunRecord, judge: JudgeRecord, golds: Sequence[Verdict | None]) -> list[Score]:
    """Return how often the judge agrees with the label, under each rule for two orders.

    `both`: both orders name the labelled text. `average`: the mean over orders. `sum`: verdicts
    for the label outnumber those against it (JudgeBench's rule). A reply that cannot be read is
    not an agreement, as in the published figures; how many there are stands in the win rates.
    """
    winners: dict[str, list[Verdict | None]] = {made.item.key: [] for made in run.entries}
    for choice in run.choices:
        if choice.judge_key == judge.key:
            winners[choice.item_key].append(choice.winner)
    wins: dict[str, list[float | None]] = {"both": [], "average": [], "sum": []}
    for said, gold in zip(winners.values(), golds, strict=True):
        right = [winner == gold for winner in said]
        known = gold is not None and bool(right)
        toward = sum(_SIGN[winner] * _SIGN[gold] for winner in said)
        wins["both"].append(100.0 * all(right) if known else None)
        wins["average"].append(100.0 * sum(right) / len(right) if known else None)
        wins["sum"].append(100.0 * (toward > 0) if known else None)
    if all(len(said) < 2 for said in winners.values()):
        wins = {"one": wins["both"]}
    groups = [made.item.group for made in run.entries]
    reasons = [None if gold else "the labels disagree" for gold in golds]
    return [
        rate_score(
            "judge_accuracy" if orders == "one" else f"judge_accuracy_{orders}",
            values,
            signature=join(gold="majority of labels", orders=orders, unread="wrong"),
            groups=groups,
            reasons=reasons,
        )
        for orders, values in wins.items()
        if any(value is not None for value in values)
    ]
