"""What importers share: what a file holds in our terms, and the scores of that.

A reader fills a `RunRecord` from the rows of a file; nothing of it is stored yet.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from mipo_eval import __version__
from mipo_eval.evaluation.graded import unit
from mipo_eval.evaluation.sheets import OVERALL
from mipo_eval.keys import canonical_json, digest
from mipo_eval.metrics.aggregate import mean_score, rate_score
from mipo_eval.metrics.win_rate import outcome_rates
from mipo_eval.models.thinking import CUT, take_apart
from mipo_eval.records import Item, Score, text_key
from mipo_eval.rows import FileRow
from mipo_eval.signature import in_signature, join, short
from mipo_eval.stats.estimates import standard_error
from mipo_eval.store.items import key_of_list
from mipo_eval.store.verdicts import Grade
from mipo_eval.verdict import (
    IDENTICAL,
    NOT_JUDGED,
    Choice,
    Pair,
    PairVerdict,
    Shown,
    Verdict,
    ahead,
    from_choices,
    orders_of,
)

NO_VERDICT = "no verdict in the judge's reply"


class ItemRecord(NamedTuple):
    """An item with what the model under evaluation answered."""

    task: str
    item: Item
    text: str | None
    text_key: str
    """Of the text, or a stand-in where the file names a text without holding it."""
    reference_key: str | None
    """Of the text it is compared with; None where there is none."""
    thinking: str | None = None
    reason: str | None = None
    """Why there is no text although the file holds a reply."""


class ReplyRecord(NamedTuple):
    """A judge's raw reply, for the ledger."""

    call_key: str
    backend: Mapping[str, str]
    request: str
    text: str


@dataclass(frozen=True, slots=True)
class JudgeRecord:
    """Who judged, as the file tells."""

    source: str
    """Format of the file."""
    name: str

    @property
    def spec(self) -> dict[str, str]:
        """What is known of the judge."""
        return {"imported": self.source, "name": self.name}

    @property
    def key(self) -> str:
        """Content key of the judge."""
        return digest(self.spec)


@dataclass(slots=True, kw_only=True)
class RunRecord:
    """One model's answers in a file, with what was said of them."""

    source: str
    model: str
    suite: str
    told: str
    """Digest of all that the file says of this run: a file that says anything else is another."""
    entries: Sequence[ItemRecord] = ()
    judges: list[JudgeRecord] = field(default_factory=list)
    choices: list[Choice] = field(default_factory=list)
    grades: list[Grade] = field(default_factory=list)
    replies: list[ReplyRecord] = field(default_factory=list)
    scores: Sequence[Score] = ()
    about: Mapping[str, Any] = field(default_factory=dict)
    """What a reader wants to know of how the answers were made: arguments, dates, judges."""

    @property
    def generation_spec(self) -> dict[str, Any]:
        """How the answers were made; a file that tells anything else is of other answers."""
        return {
            "imported": self.source,
            "model": self.model,
            "suite": self.suite,
            "told": self.told,
            **self.about,
        }

    @property
    def list_key(self) -> str:
        """Key of the list of its items."""
        return key_of_list((entry.task, entry.item.key) for entry in self.entries)

    @property
    def generation_key(self) -> str:
        """Key of its answers."""
        return digest(self.generation_spec)

    @property
    def run_id(self) -> str:
        """Id that the run has in every store."""
        return digest([self.suite, self.list_key, self.generation_key])

    def choose(
        self,
        judge: JudgeRecord,
        made: ItemRecord,
        said: Verdict | float | None,
        reason: str,
        *,
        shown: Shown = "?",
        reply: ReplyRecord | None = None,
    ) -> None:
        """Add who a judge says is better, "a" for the answer, or how probably the answer is.

        None is for a reply that says neither, with the reason.
        """
        self._said(judge, reply)
        preference = said if isinstance(said, float) else None
        winner = ahead(said - 0.5) if isinstance(said, float) else said
        choice = Choice(
            judge_key=judge.key,
            item_key=made.item.key,
            text_key_a=made.text_key,
            text_key_b=made.reference_key or "",
            shown_first=shown,
            winner=winner,
            preference=preference,
            reason=None if winner else reason,
            call_key=reply.call_key if reply else None,
        )
        self.choices.append(choice)

    def grade(
        self,
        judge: JudgeRecord,
        made: ItemRecord,
        value: float | None,
        reason: str,
        reply: ReplyRecord | None = None,
    ) -> None:
        """Add a judge's grade of an answer; the reason is for none."""
        self._said(judge, reply)
        grade = Grade(
            judge_key=judge.key,
            item_key=made.item.key,
            text_key=made.text_key,
            value=value,
            reason=reason if value is None else None,
            call_key=reply.call_key if reply else None,
        )
        self.grades.append(grade)

    def _said(self, judge: JudgeRecord, reply: ReplyRecord | None) -> None:
        if judge not in self.judges:
            self.judges.append(judge)
        if reply is not None:
            self.replies.append(reply)


@dataclass(slots=True)
class Imported:
    """What has been read so far, and what was left out and why."""

    runs: list[RunRecord] = field(default_factory=list)
    rows: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    """Rows or files that were not taken, by reason."""
    files: set[Path] = field(default_factory=set)
    """Documents that were read along with another file."""

    @property
    def without_value(self) -> Counter[str]:
        """Verdicts and grades of the rows taken that say nothing, by reason."""
        return Counter(
            reason
            for run in self.runs
            for reason in (*(c.reason for c in run.choices), *(g.reason for g in run.grades))
            if reason is not None
        )

    @property
    def taken(self) -> int:
        """Rows that were taken."""
        return self.rows - sum(n for why, n in self.left_out.items() if not why.startswith("file"))


def told(rows: Iterable[FileRow]) -> str:
    """Return the digest of all that rows say."""
    return digest([row.data for row in rows])


def part(value: Any) -> Mapping[str, Any]:
    """Return an object of a file, empty where something else stands in its place."""
    return value if isinstance(value, dict) else {}


def facts(**known: Any) -> dict[str, Any]:
    """Return what is told of a run, without what is not."""
    return {name: value for name, value in known.items() if value not in (None, "", {}, [])}


def entry(
    task: str, item: Item, text: str | None, *, stand_in: str = "", reference_stand_in: str = ""
) -> ItemRecord:
    """Return an item with its answer; the stand-ins name texts that the file does not hold."""
    reference = text_key(item.reference) if item.reference else None
    if reference_stand_in:
        reference = _absent_text(reference_stand_in, item.key)
    if text is None:
        return ItemRecord(task, item, None, _absent_text(stand_in, item.key), reference)
    said, thinking = take_apart(text)
    if said is None:  # named by the whole reply: another tool may have judged it
        return ItemRecord(task, item, None, text_key(text), reference, thinking, CUT)
    return ItemRecord(task, item, said, text_key(said), reference, thinking)


def _absent_text(*names: str) -> str:
    """Return the stand-in key of a text that a file names but does not hold."""
    return digest(["text not held", *names])


def made_reply(judge: JudgeRecord, request: Mapping[str, Any], reply: str) -> ReplyRecord:
    """Return the ledger row of a reply; equal requests with equal replies are one row."""
    asked = canonical_json(dict(request))
    return ReplyRecord(digest([judge.spec, asked, reply]), judge.spec, asked, reply)


def item_verdicts(
    entries: Sequence[ItemRecord], choices: Sequence[Choice], judge: JudgeRecord
) -> list[PairVerdict]:
    """Return per entry what a judge makes of its text and the reference, as the store reads it."""
    made: dict[Pair, list[Choice]] = {}
    for choice in choices:
        if choice.judge_key == judge.key:
            pair = Pair(choice.item_key, choice.text_key_a, choice.text_key_b)
            made.setdefault(pair, []).append(choice)
    orders = orders_of(judge.spec)
    pairs = [Pair(made.item.key, made.text_key, made.reference_key or "") for made in entries]
    return [
        IDENTICAL if pair.first == pair.second else from_choices(pair, made.get(pair, ()), orders)
        for pair in pairs
    ]


def choice_scores(
    entries: Sequence[ItemRecord], choices: Sequence[Choice], judge: JudgeRecord
) -> list[Score]:
    """Return win rates by one judge over all entries; empty when it chose nowhere.

    Of judges that tell probabilities, `win_rate` is their mean, with its standard error; the
    other rates count winners.
    """
    verdicts = item_verdicts(entries, choices, judge)
    values = [verdict.credit for verdict in verdicts]
    made = [choice for choice in choices if choice.judge_key == judge.key]
    if not made or all(value is None for value in values):
        return []
    reasons = [verdict.reason for verdict in verdicts]
    groups = [entry.item.group for entry in entries]
    found = list(outcome_rates(values, groups=groups, reasons=reasons))
    if any(choice.preference is not None for choice in made):
        in_percent = [None if value is None else 100 * value for value in values]
        mean = mean_score("win_rate", in_percent, groups=groups, reasons=reasons)
        error = standard_error([math.nan if v is None else v for v in in_percent], groups)
        found.insert(0, mean)
        if error is not None:
            found.append(replace(mean, metric="win_rate_standard_error", value=error, ci95=None))
    both = any(choice.shown_first == "b" for choice in made)
    orders = join(orders="both-agree" if both else "one")
    return [replace(score, signature=orders.followed_by(score.signature)) for score in found]


def win_rates(run: RunRecord) -> list[Score]:
    """Return the win rates by each judge over each task of a run."""
    of_tasks: dict[str, list[ItemRecord]] = {}
    for made in run.entries:
        of_tasks.setdefault(made.task, []).append(made)
    scores: list[Score] = []
    for judge in run.judges:
        for task, entries in of_tasks.items():
            rates = choice_scores(entries, run.choices, judge)
            scores += signed(run, rates, entries=entries, judge=judge, task=task)
    return scores


def grade_means(run: RunRecord, scale: str) -> list[Score]:
    """Return the mean grade by each judge, per task and over all of them."""
    scores: list[Score] = []
    for judge in run.judges:
        means = grade_scores(run.entries, run.grades, judge, metric="grade_mean", scale=scale)
        scores += signed(run, [as_rate(run, mean, judge) for mean in means], judge=judge)
    return scores


def grade_scores(
    entries: Sequence[ItemRecord],
    grades: Sequence[Grade],
    judge: JudgeRecord,
    *,
    metric: str,
    scale: str,
) -> list[Score]:
    """Return the mean grade by one judge per task, and over all tasks when there are several."""
    given = {(g.item_key, g.text_key): g for g in grades if g.judge_key == judge.key}
    tasks = list(dict.fromkeys(entry.task for entry in entries))
    scores = []
    for task in [*tasks, None] if len(tasks) > 1 else tasks:
        of_task = [entry for entry in entries if task in {entry.task, None}]
        found = [given.get((entry.item.key, entry.text_key)) for entry in of_task]
        values = [grade.value if grade else None for grade in found]
        if all(value is None for value in values):
            continue
        score = mean_score(
            metric,
            values,
            signature=join(scale=scale),
            groups=[entry.item.group for entry in of_task],
            reasons=[(grade.reason if grade else None) or NOT_JUDGED for grade in found],
        )
        scores.append(replace(score, task=task or OVERALL))
    return scores


def as_rate(run: RunRecord, score: Score, judge: JudgeRecord) -> Score:
    """Return a share with the interval of a rate, where the samples are there and make its value.

    Other tools' standard errors put a share of nothing between 0 and 0, and others above 1.
    """
    given = {(g.item_key, g.text_key): g.value for g in run.grades if g.judge_key == judge.key}
    entries = [made for made in run.entries if score.task in {made.task, OVERALL}]
    values = [given.get((made.item.key, made.text_key)) for made in entries]
    shares = [100.0 * value for value in values if value in {0.0, 1.0}]
    if score.value is None or not shares or len(shares) < len(values):
        return score
    scale = unit(score.metric) / 100
    made = rate_score(score.metric, shares, groups=[one.item.group for one in entries])
    if made.ci95 is None or not math.isclose(scale * sum(shares) / len(shares), score.value):
        return score
    parts = {name: told for name, told in score.signature.parts.items() if name != "interval"}
    ends = made.ci95[0] * scale, made.ci95[1] * scale
    return replace(score, ci95=ends, signature=join(**parts))


def signed(
    run: RunRecord,
    scores: Sequence[Score],
    *,
    entries: Sequence[ItemRecord] | None = None,
    judge: JudgeRecord | None = None,
    task: str | None = None,
) -> list[Score]:
    """Return scores of a run, or of some of its entries, with their whole signature."""
    scored = run.entries if entries is None else entries
    context = join(
        suite=in_signature(run.suite),
        items=short(digest([entry.item.key for entry in scored])),
        source=run.source,
        judge=in_signature(judge.name) if judge else None,
        judge_key=short(judge.key) if judge else None,
    )
    version = join(version=__version__)
    return [
        replace(
            score,
            task=score.task if task is None else task,
            signature=context.followed_by(score.signature, version),
        )
        for score in scores
    ]
