"""Replies of judges to pairs that people or a rule have labelled: LLMBar, JudgeBench, PandaLM.

`judges/replies.py` reads them; here they become a run. The first text of a pair is stored as the
run's response, the second as its reference, and the label as one more judge: agreement of a judge
with the label is its accuracy.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mipo_eval.importers.base import (
    FileRow,
    Imported,
    ItemRecord,
    JudgeRecord,
    RunRecord,
    choice_scores,
    cleaned,
    entry,
    made_reply,
    signed,
)
from mipo_eval.importers.base import ReplyRecord as LedgerReply
from mipo_eval.judges.labelled import PANDALM_PAIRS, LabelledPair, majority
from mipo_eval.judges.replies import PairReading, read_set_replies
from mipo_eval.keys import digest
from mipo_eval.metrics.aggregate import rate_score
from mipo_eval.records import Item, Score
from mipo_eval.signature import join, short
from mipo_eval.verdict import Choice, Shown, Verdict

SOURCE = "judge_replies"
_FORMATS = {
    "llmbar": {"input", "output_1", "output_2", "label", "results"},
    "judgebench": {"pair_id", "response_A", "response_B", "label", "judgments"},
    "pandalm": {"idx", "pandalm_result"},
}
"""The sets that keep replies, and the fields by which their rows are known."""
_SIGN: dict[Verdict | None, int] = {"a": 1, "b": -1, "tie": 0, None: 0}


class _Said(NamedTuple):
    """What a judge answered in one order; the winner in terms of the first and second text."""

    shown: Shown
    winner: Verdict | None
    reply: str | None


class _JudgedPair(NamedTuple):
    """A labelled pair, and what the judge said of it."""

    made: ItemRecord
    labels: dict[str, Verdict]
    """By whom it was labelled."""
    said: tuple[_Said, ...]


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
    pairs = [_pair(name, task, one) for task, one in zip(tasks, found, strict=True)]
    _number_equals(pairs)
    reading.runs.append(_run(suite, JudgeRecord(source=SOURCE, name=judge), pairs))


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


def _pair(name: str, task: str, one: PairReading) -> _JudgedPair:
    pair = LabelledPair.model_validate(cleaned(one.pair.model_dump()))
    item_id = {
        "llmbar": f"llmbar-{short(digest([pair.prompt, pair.first, pair.second]))}",
        "judgebench": pair.pair_id,
        "pandalm": f"pandalm-{pair.pair_id}",
    }[name]
    item = Item(item_id=item_id, prompt=pair.prompt, reference=pair.second or None)
    orders: tuple[tuple[Shown, Verdict | None], ...] = (("a", one.straight), ("b", one.swapped))
    people = {f"annotator{n}": told for n, told in enumerate(pair.annotators, 1) if told}
    return _JudgedPair(
        entry(task, item, pair.first),
        people or {"label": pair.label},
        tuple(
            _Said(shown, winner, cleaned(reply))
            for (shown, winner), reply in zip(orders, one.raw, strict=False)
        ),
    )


def _number_equals(pairs: list[_JudgedPair]) -> None:
    """Tell pairs that a file holds twice apart, so that each is counted."""
    seen: Counter[str] = Counter()
    for index, pair in enumerate(pairs):
        seen[pair.made.item.key] += 1
        if (count := seen[pair.made.item.key]) > 1:
            old = pair.made.item
            item = old.model_copy(update={"item_id": f"{old.item_id}-{count}"})
            item = Item.model_validate(item.model_dump())
            pairs[index] = pair._replace(made=pair.made._replace(item=item))


def _run(suite: str, judge: JudgeRecord, pairs: list[_JudgedPair]) -> RunRecord:
    entries = [pair.made for pair in pairs]
    choices: list[Choice] = []
    replies: list[LedgerReply] = []
    people: dict[str, JudgeRecord] = {}
    for pair in pairs:
        for said in pair.said:
            choice, reply = _choice(pair.made, said, judge)
            choices.append(choice)
            replies += [reply] if reply else []
        for name, winner in pair.labels.items():
            person = people.setdefault(
                name, JudgeRecord(source=SOURCE, name=f"{suite.partition('/')[0]} {name}")
            )
            choices.append(_choice(pair.made, _Said("?", winner, None), person)[0])
    scores = [
        score
        for by in (judge, *people.values())
        for score in signed(
            [
                *choice_scores(entries, choices, by),
                *(_accuracies(pairs) if by == judge else ()),
            ],
            source=SOURCE,
            suite=suite,
            entries=entries,
            judge=by,
            task="pairs",
        )
    ]
    return RunRecord(
        source=SOURCE,
        model="the first text of each pair",
        suite=suite,
        entries=entries,
        judges=[judge, *people.values()],
        choices=choices,
        replies=replies,
        scores=scores,
    )


def _choice(made: ItemRecord, said: _Said, judge: JudgeRecord) -> tuple[Choice, LedgerReply | None]:
    asked = {"item": made.item.key, "text": made.text_key, "first": said.shown}
    reply = None if said.reply is None else made_reply(judge, asked, said.reply)
    choice = Choice(
        judge_key=judge.key,
        item_key=made.item.key,
        text_key_a=made.text_key,
        text_key_b=made.reference_key or "",
        shown_first=said.shown,
        winner=said.winner,
        reason=None if said.winner else "no verdict in the judge's reply",
        call_key=reply.call_key if reply else None,
    )
    return choice, reply


def _accuracies(pairs: Sequence[_JudgedPair]) -> list[Score]:
    """Return how often the judge agrees with the label, under each rule for two orders.

    `both`: both orders name the labelled text. `average`: the mean over orders. `sum`: verdicts
    for the label outnumber those against it (JudgeBench's rule). A reply that cannot be read is
    not an agreement, as in the published figures; how many there are stands in the win rates.
    """
    golds = [majority(list(pair.labels.values())) for pair in pairs]
    wins: dict[str, list[float | None]] = {"both": [], "average": [], "sum": []}
    for pair, gold in zip(pairs, golds, strict=True):
        right = [said.winner == gold for said in pair.said]
        known = gold is not None and bool(right)
        toward = sum(_SIGN[said.winner] * _SIGN[gold] for said in pair.said)
        wins["both"].append(100.0 * all(right) if known else None)
        wins["average"].append(100.0 * sum(right) / len(right) if known else None)
        wins["sum"].append(100.0 * (toward > 0) if known else None)
    if all(len(pair.said) < 2 for pair in pairs):
        wins = {"one": wins["both"]}
    groups = [pair.made.item.group for pair in pairs]
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
