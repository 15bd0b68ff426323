"""What importers share: the rows of a file, what it holds in our terms, and the scores of that.

A reader fills a `RunRecord` from the rows of a file; nothing of it is stored yet.
"""

import csv
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from mipo_eval import __version__
from mipo_eval.errors import DataError
from mipo_eval.keys import canonical_json, digest
from mipo_eval.metrics.aggregate import mean_score
from mipo_eval.metrics.win_rate import outcome_rates
from mipo_eval.records import Item, Score, clean_text, text_key
from mipo_eval.signature import join, short
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
_MAX_SHOWN = 40


def cleaned(value: Any) -> Any:
    """Return a JSON value with every text as a database can hold it."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, list):
        return [cleaned(element) for element in value]
    if isinstance(value, dict):
        return {clean_text(key): cleaned(element) for key, element in value.items()}
    return value


class FileRow(NamedTuple):
    """One JSON object of a file."""

    where: str
    """File and line, or file and row, for messages."""
    data: dict[str, Any]

    def wrong(self, what: str) -> DataError:
        """Return the error that this row is wrong."""
        return DataError(f"{self.where}: {what}")

    def get(self, name: str) -> Any:
        """Return a field that has to be there."""
        if name not in self.data:
            raise self.wrong(f"has no field {name!r}")
        return self.data[name]

    def text(self, name: str, *, empty: bool = False) -> str:
        """Return a field that has to be a text, with something in it unless it may be empty."""
        value = self.get(name)
        if not isinstance(value, str) or not (empty or value.strip()):
            raise self.wrong(f"{name} is {_shown(value)}, not a text")
        return value

    def written(self, name: str) -> str:
        """Return a text; a writer may have taken one that reads "true" or "12" for a value."""
        value = self.get(name)
        if isinstance(value, bool | int | float):
            return json.dumps(value)
        return self.text(name, empty=True)

    def name(self, name: str) -> str:
        """Return a field that has to be a text or a whole number, as text."""
        value = self.get(name)
        if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
            raise self.wrong(f"{name} is {_shown(value)}, not a name")
        return str(value)

    def number(self, name: str) -> float | None:
        """Return a field that has to be a finite number or null."""
        return self.as_number(self.get(name), name)

    def as_number(self, value: Any, name: str) -> float | None:
        """Return a value that has to be a finite number or null."""
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(f"{name} is {_shown(value)}, not a number")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise self.wrong(f"{name} is {number}, not a finite number")
        return number

    def elements(self, name: str) -> list[Any]:
        """Return a field that has to be a list."""
        value = self.get(name)
        if not isinstance(value, list):
            raise self.wrong(f"{name} is {_shown(value)}, not a list")
        return value

    def rows(self, name: str) -> "list[FileRow]":
        """Return a field that has to be a list of objects."""
        return [_row(f"{self.where}, {name}[{n}]", v) for n, v in enumerate(self.elements(name))]

    def row(self, name: str) -> "FileRow":
        """Return a field that has to be an object."""
        return _row(f"{self.where}, {name}", self.get(name))


def read_rows(path: Path) -> Iterator[FileRow]:
    """Yield the objects of a .jsonl, .json (a list, or one object) or .csv file.

    Raises:
        DataError: the file cannot be read, or holds something else; with the line.
    """
    try:
        if path.suffix == ".jsonl":
            yield from _lines(path)
        elif path.suffix == ".csv":
            with path.open(encoding="utf-8-sig", newline="") as stream:
                for number, fields in enumerate(csv.DictReader(stream), start=2):
                    known = {name: value for name, value in fields.items() if name is not None}
                    yield FileRow(f"{path}, line {number}", cleaned(known))
        else:
            value = parse(path.read_text(encoding="utf-8-sig"), str(path))
            if isinstance(value, list):
                for number, element in enumerate(value, start=1):
                    yield _row(f"{path}, row {number}", element)
            else:
                yield _row(str(path), value)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text (byte {error.start})") from None
    except csv.Error as error:
        raise DataError(f"{path}: is not CSV ({error})") from None


def _lines(path: Path) -> Iterator[FileRow]:
    with path.open(encoding="utf-8-sig") as stream:
        for number, line in enumerate(stream, start=1):
            if line.strip():
                where = f"{path}, line {number}"
                yield _row(where, parse(line, where))


def parse(text: str, where: str) -> Any:
    """Return the JSON value of a text; NaN and infinities, which JSON lacks, are null."""
    try:
        return json.loads(text, parse_constant=lambda _: None)
    except json.JSONDecodeError as error:
        line = f", line {error.lineno}" if ", line" not in where else ""
        raise DataError(f"{where}{line}: is not JSON ({error.msg})") from None
    except ValueError:
        raise DataError(f"{where}: holds a number of too many digits to be read") from None
    except RecursionError:
        raise DataError(f"{where}: is nested too deeply to be read") from None


def _row(where: str, value: Any) -> FileRow:
    if not isinstance(value, dict):
        raise DataError(f"{where}: is {_shown(value)}, not a JSON object")
    return FileRow(where, cleaned(value))


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 3] + "..."


class ItemRecord(NamedTuple):
    """An item with what the model under evaluation answered."""

    task: str
    item: Item
    text: str | None
    text_key: str
    """Of the text, or a stand-in where the file names a text without holding it."""
    reference_key: str | None
    """Of the text it is compared with; None where there is none."""


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
    entries: Sequence[ItemRecord] = ()
    judges: list[JudgeRecord] = field(default_factory=list)
    choices: list[Choice] = field(default_factory=list)
    grades: list[Grade] = field(default_factory=list)
    replies: list[ReplyRecord] = field(default_factory=list)
    scores: Sequence[Score] = ()
    about: Mapping[str, Any] = field(default_factory=dict)
    """Whatever else the file tells of how the answers were made."""

    @property
    def generation_spec(self) -> dict[str, Any]:
        """How the answers were made; other texts are another generation."""
        texts = digest([entry.text_key for entry in self.entries])
        return {
            "imported": self.source,
            "model": self.model,
            "suite": self.suite,
            "texts": texts,
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
    def taken(self) -> int:
        """Rows that were taken."""
        return self.rows - sum(n for why, n in self.left_out.items() if not why.startswith("file"))


def entry(
    task: str, item: Item, text: str | None, *, stand_in: str = "", reference_stand_in: str = ""
) -> ItemRecord:
    """Return an item with its answer; the stand-ins name texts that the file does not hold."""
    reference = text_key(item.reference) if item.reference else None
    key = _absent_text(stand_in, item.key) if text is None else text_key(text)
    if reference_stand_in:
        reference = _absent_text(reference_stand_in, item.key)
    return ItemRecord(task, item, text, key, reference)


def _absent_text(*names: str) -> str:
    """Return the stand-in key of a text that a file names but does not hold."""
    return digest(["text not held", *names])


def made_reply(judge: JudgeRecord, request: Mapping[str, Any], reply: str) -> ReplyRecord:
    """Return the ledger row of a reply; equal requests with equal replies are one row."""
    asked = canonical_json(dict(request))
    return ReplyRecord(digest([judge.spec, asked, reply]), judge.spec, asked, reply)


def in_signature(name: str) -> str:
    """Return a foreign name as a signature can hold it."""
    return " ".join(name.replace("|", "/").split())


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
        scores += signed(run, means, judge=judge)
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
        scores.append(replace(score, task=task or "average"))
    return scores


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
