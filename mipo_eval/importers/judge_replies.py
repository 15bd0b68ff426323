"""Replies of judges to pairs that people or a rule have labelled: LLMBar, JudgeBench, PandaLM.

The first text of a pair is stored as the run's response, the second as its reference, and the
label as one more judge: agreement of a judge with the label is its accuracy.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mipo_eval.errors import DataError
from mipo_eval.importers.base import (
    FileRow,
    Imported,
    ItemRecord,
    JudgeRecord,
    RunRecord,
    choice_scores,
    entry,
    made_reply,
    read_rows,
    signed,
)
from mipo_eval.importers.base import ReplyRecord as LedgerReply
from mipo_eval.keys import canonical_json, digest
from mipo_eval.metrics import rate_score
from mipo_eval.records import Item, Score
from mipo_eval.signature import join, short
from mipo_eval.verdict import Choice, Shown, Verdict

SOURCE = "judge_replies"
PANDALM_PAIRS = "testset-v1.json"
_FLIPPED: dict[Verdict, Verdict] = {"a": "b", "b": "a", "tie": "tie"}
_LABELS: dict[str, Verdict] = {"A>B": "a", "B>A": "b", "A=B": "tie"}
_SIGN: dict[Verdict | None, int] = {"a": 1, "b": -1, "tie": 0, None: 0}


class _Said(NamedTuple):
    """What a judge answered in one order; the winner in terms of the first and second text."""

    shown: Shown
    winner: Verdict | None
    reply: str | None


class _Pair(NamedTuple):
    """A labelled pair, and what the judge said of it."""

    made: ItemRecord
    labels: dict[str, Verdict]
    """By whom it was labelled."""
    said: tuple[_Said, ...]


def is_ours(row: FileRow) -> bool:
    """Whether a row is a pair with a judge's replies."""
    names = row.data.keys()
    return (
        {"input", "output_1", "output_2", "label", "results"} <= names
        or {"pair_id", "response_A", "response_B", "label", "judgments"} <= names
        or {"idx", "pandalm_result"} <= names
    )


def read(rows: Sequence[FileRow], path: Path, reading: Imported) -> None:
    """Add what the rows hold: one run, judged by one judge and the labels."""
    first = rows[0].data
    reading.rows += len(rows)
    if "results" in first:
        suite, judge = _llmbar_names(path)
        pairs = [_llmbar(row) for row in rows]
    elif "judgments" in first:
        suite = f"judgebench/{rows[0].text('response_model')}"
        judge = f"{rows[0].text('judge_name')}/{_judgebench_model(rows[0])}"
        pairs = [_judgebench(row) for row in rows]
    else:
        suite, judge = "pandalm", path.stem.removesuffix("-testset-v1")
        pairs = _pandalm(rows, path, reading)
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


def _item(prompt: str, second: str, item_id: str) -> Item:
    return Item(item_id=item_id, prompt=prompt, reference=second or None)


def _llmbar(row: FileRow) -> _Pair:
    first, second = row.written("output_1"), row.written("output_2")
    prompt = row.text("input")
    item = _item(prompt, second, f"llmbar-{short(digest([prompt, first, second]))}")
    labels: dict[object, Verdict] = {1: "a", 2: "b"}
    if row.get("label") not in labels:
        raise row.wrong(f"label is {row.get('label')!r}; it is 1 or 2")
    results = row.rows("results")
    said = []
    for shown, name in (("a", "swap = False"), ("b", "swap = True")):
        answers = [result.row(name) for result in results if name in result.data]
        if not answers:
            continue
        winners: dict[str, Verdict] = {"1": "a", "2": "b", "tie": "tie"}
        winner = winners.get(str(answers[0].data.get("winner")))
        said.append(_Said("a" if shown == "a" else "b", winner, _llmbar_reply(results[0], name)))
    made = entry("llmbar", item, first)
    return _Pair(made, {"label": labels[row.get("label")]}, tuple(said))


def _llmbar_reply(result: FileRow, name: str) -> str | None:
    """Return the raw reply: to the pair, or of prompts that rate each text, both ratings."""
    completion = result.row(name).data.get("completion")
    if isinstance(completion, list) and completion and isinstance(completion[0], str):
        return completion[0]
    ratings = {key: result.data[key] for key in ("score_1", "score_2") if key in result.data}
    return canonical_json(ratings) if ratings else None


def _judgebench_model(row: FileRow) -> str:
    for judgment in row.rows("judgments"):
        if isinstance(judgment.data.get("judgment"), dict):
            return str(judgment.data["judgment"].get("judge_model") or "unnamed")
    return "unnamed"


def _judgebench(row: FileRow) -> _Pair:
    item = _item(row.text("question"), row.written("response_B"), row.text("pair_id"))
    made = entry(row.text("source"), item, row.written("response_A"))
    if row.get("label") not in _LABELS:
        raise row.wrong(f"label is {row.get('label')!r}; it is one of {', '.join(_LABELS)}")
    said = []
    for judgment, shown in zip(row.rows("judgments"), ("a", "b"), strict=False):
        winner = _LABELS.get(str(judgment.data.get("decision")))
        if winner and shown == "b":
            winner = _FLIPPED[winner]
        told = judgment.data.get("judgment")
        reply = told.get("response") if isinstance(told, dict) else None
        said.append(_Said("a" if shown == "a" else "b", winner, reply))
    return _Pair(made, {"label": _LABELS[row.get("label")]}, tuple(said))


def _pandalm(rows: Sequence[FileRow], path: Path, reading: Imported) -> list[_Pair]:
    """Return the pairs of PandaLM's test set, which lie in a file beside the replies."""
    beside = path.parent / PANDALM_PAIRS
    if not beside.is_file():
        raise DataError(f"{path} holds verdicts without their pairs: put {PANDALM_PAIRS} beside it")
    winners: dict[object, Verdict] = {0: "tie", 1: "a", 2: "b"}
    known = {row.get("idx"): row for row in read_rows(beside)}
    pairs = []
    for row in rows:
        if row.get("idx") not in known:
            reading.left_out[f"no pair of that number in {PANDALM_PAIRS}"] += 1
            continue
        pair = known[row.get("idx")]
        prompt = "\n\n".join(
            p for p in (pair.written("instruction"), pair.written("input")) if p.strip()
        )
        item = _item(
            prompt or "(no instruction)", pair.written("response2"), f"pandalm-{pair.name('idx')}"
        )
        made = entry(pair.text("cmp_key"), item, pair.written("response1"))
        labels = {
            name: winners[pair.get(name)]
            for name in ("annotator1", "annotator2", "annotator3")
            if pair.get(name) in winners
        }
        winner = winners.get(row.get("pandalm_result"))
        reason = row.data.get("pandalm_reason")
        said = _Said("a", winner, reason if isinstance(reason, str) else None)
        pairs.append(_Pair(made, labels, (said,)))
    return pairs


def _number_equals(pairs: list[_Pair]) -> None:
    """Tell pairs that a file holds twice apart, so that each is counted."""
    seen: Counter[str] = Counter()
    for index, pair in enumerate(pairs):
        seen[pair.made.item.key] += 1
        if (count := seen[pair.made.item.key]) > 1:
            old = pair.made.item
            item = old.model_copy(update={"item_id": f"{old.item_id}-{count}"})
            item = Item.model_validate(item.model_dump())
            pairs[index] = pair._replace(made=pair.made._replace(item=item))


def _run(suite: str, judge: JudgeRecord, pairs: list[_Pair]) -> RunRecord:
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


def majority(labels: Sequence[Verdict]) -> Verdict | None:
    """Return what most people said; None when no label is ahead."""
    ranked = Counter(labels).most_common()
    if not ranked or (len(ranked) > 1 and ranked[0][1] == ranked[1][1]):
        return None
    return ranked[0][0]


def _accuracies(pairs: Sequence[_Pair]) -> list[Score]:
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
