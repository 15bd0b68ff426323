"""What a file of another tool holds, in our terms; nothing of it is stored yet.

Rows of JSON, JSON lines and CSV files; what is wrong is said with file and line.

From imported choices and grades to scores.

What was read goes into a store: all of it in one transaction, or nothing.
"""

import csv
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa

from mipo_eval import __version__
from mipo_eval.errors import DataError
from mipo_eval.keys import canonical_json, digest
from mipo_eval.metrics import mean_score, outcome_rates, outcome_summary, rate_score
from mipo_eval.records import Item, Score, clean_text, text_key
from mipo_eval.signature import join, short
from mipo_eval.store import Store, tables
from mipo_eval.store.engine import now
from mipo_eval.store.items import item_row, key_of_list
from mipo_eval.store.runs import score_rows
from mipo_eval.store.verdicts import Grade, put_choices, put_grades
from mipo_eval.verdict import NOT_JUDGED, Choice, Pair, PairVerdict, from_choices

NO_TEXT = "the imported file does not hold the text"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeRecord:
    """Who judged, as the file tells."""

    source: str
    """Format of the file."""
    name: str
    stored: str | None = None
    """The key it has in a store, for a judge that was not imported."""

    @property
    def spec(self) -> dict[str, str]:
        """What is known of the judge."""
        return {"imported": self.source, "name": self.name}

    @property
    def key(self) -> str:
        """Content key of the judge."""
        return self.stored or digest(self.spec)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One model's answers in a file, with what was said of them."""

    source: str
    model: str
    suite: str
    entries: Sequence[ItemRecord]
    judges: Sequence[JudgeRecord] = ()
    choices: Sequence[Choice] = ()
    grades: Sequence[Grade] = ()
    ratings: Mapping[tuple[str, str], Sequence[str]] = field(default_factory=dict)
    """What judges rated, in words, per (item, text); of some items, for people to read."""
    replies: Sequence[ReplyRecord] = ()
    scores: Sequence[Score] = ()
    failing: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Judges that failed their validation, by their key in signatures, and why."""
    letters: Mapping[tuple[str, str, str], str] = field(default_factory=dict)
    """Of runs shown together, by (task, metric, signature): those that share a letter are not told
    apart."""
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


def absent_text(*names: str) -> str:
    """Return the stand-in key of a text that a file names but does not hold."""
    return digest(["text not held", *names])


def made_reply(judge: JudgeRecord, request: Mapping[str, Any], reply: str) -> ReplyRecord:
    """Return the ledger row of a reply; equal requests with equal replies are one row."""
    asked = canonical_json(dict(request))
    return ReplyRecord(digest([judge.spec, asked, reply]), judge.spec, asked, reply)


def entry(
    task: str, item: Item, text: str | None, *, stand_in: str = "", reference_stand_in: str = ""
) -> ItemRecord:
    """Return an entry; the stand-ins name texts that the file does not hold."""
    reference = text_key(item.reference) if item.reference else None
    key = absent_text(stand_in, item.key) if text is None else text_key(text)
    if reference_stand_in:
        reference = absent_text(reference_stand_in, item.key)
    return ItemRecord(task, item, text, key, reference)


def cleaned(value: Any) -> Any:
    """Return a JSON value with every text as a database can hold it."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, list):
        return [cleaned(element) for element in value]
    if isinstance(value, dict):
        return {clean_text(key): cleaned(element) for key, element in value.items()}
    return value


_MAX_SHOWN = 40


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

    def text(self, name: str) -> str:
        """Return a field that has to be a text with something in it."""
        value = self.get(name)
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(f"{name} is {_shown(value)}, not a text")
        return value

    def string(self, name: str) -> str:
        """Return a field that has to be a text; it may be empty."""
        value = self.get(name)
        if not isinstance(value, str):
            raise self.wrong(f"{name} is {_shown(value)}, not a text")
        return value

    def written(self, name: str) -> str:
        """Return a text; a writer may have taken one that reads "true" or "12" for a value."""
        value = self.get(name)
        return json.dumps(value) if isinstance(value, bool | int | float) else self.string(name)

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
        if not math.isfinite(value):
            raise self.wrong(f"{name} is {value}, not a finite number")
        return float(value)

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
    except RecursionError:
        raise DataError(f"{where}: is nested too deeply to be read") from None


def _row(where: str, value: Any) -> FileRow:
    if not isinstance(value, dict):
        raise DataError(f"{where}: is {_shown(value)}, not a JSON object")
    return FileRow(where, cleaned(value))


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 3] + "..."


def in_signature(name: str) -> str:
    """Return a foreign name as a signature can hold it."""
    return " ".join(name.replace("|", "/").split())


def item_verdicts(
    entries: Sequence[ItemRecord], choices: Sequence[Choice], judge_key: str
) -> list[PairVerdict]:
    """Return per entry how its text fared against what the judge compared it with."""
    made: dict[tuple[str, str], list[Choice]] = {}
    for choice in choices:
        if choice.judge_key == judge_key:
            made.setdefault((choice.item_key, choice.text_key_a), []).append(choice)
    found = []
    for entry in entries:
        own = made.get((entry.item.key, entry.text_key), [])
        other = own[0].text_key_b if own else ""
        found.append(from_choices(Pair(entry.item.key, entry.text_key, other), own, "as made"))
    return found


def choice_scores(
    entries: Sequence[ItemRecord], choices: Sequence[Choice], judge: JudgeRecord
) -> list[Score]:
    """Return win rates by one judge over all entries; empty when it chose nowhere.

    Of judges that tell probabilities, `win_rate` is their mean, with its standard error; the
    other rates count winners.
    """
    verdicts = item_verdicts(entries, choices, judge.key)
    values = [verdict.credit for verdict in verdicts]
    if all(value is None for value in values):
        return []
    reasons = [verdict.reason for verdict in verdicts]
    groups = [entry.item.group for entry in entries]
    in_percent = [None if value is None else 100 * value for value in values]
    found = list(outcome_rates(values, groups=groups, reasons=reasons))
    made = [choice for choice in choices if choice.judge_key == judge.key]
    if any(choice.preference is not None for choice in made):
        mean = mean_score("win_rate", in_percent, signature="", groups=groups, reasons=reasons)
        error = outcome_summary(values, groups=groups).standard_error
        found.insert(0, mean)
        if error is not None:
            found.append(replace(mean, metric="win_rate_standard_error", value=error, ci95=None))
    both = any(choice.shown_first == "b" for choice in made)
    return [
        replace(score, signature="|".join(p for p in (orders, score.signature) if p))
        for score in found
        for orders in (join(orders="both-agree" if both else "one"),)
    ]


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
        make: Callable[..., Score] = rate_score if scale == "0-100" else mean_score
        score = make(
            metric,
            values,
            signature=join(scale=scale),
            groups=[entry.item.group for entry in of_task],
            reasons=[(grade.reason if grade else None) or NOT_JUDGED for grade in found],
        )
        scores.append(replace(score, task=task or "average"))
    return scores


def signed(
    scores: Sequence[Score],
    *,
    source: str,
    suite: str,
    entries: Sequence[ItemRecord],
    judge: JudgeRecord | None = None,
    task: str | None = None,
) -> list[Score]:
    """Return the scores with their whole signature: suite, items, source, judge, rules."""
    context = join(
        suite=in_signature(suite),
        items=short(digest([entry.item.key for entry in entries])),
        source=source,
        judge=in_signature(judge.name) if judge else None,
    )
    version = join(version=__version__)
    return [
        replace(
            score,
            task=task if task is not None else score.task,
            signature="|".join(part for part in (context, score.signature, version) if part),
        )
        for score in scores
    ]


_MAX_NAME = 64


def store_runs(store: Store, records: Sequence[RunRecord]) -> list[str]:
    """Store what was imported and return the run id of each record; can be repeated.

    Raises:
        DataError: a task or metric has a longer name than the store holds.
        StoreError: the store cannot be written; nothing of the records is then in it.
    """
    for record in records:
        _check_names(record)
    with store.write() as connection:
        return [_store_run(store, connection, record) for record in records]


def _check_names(record: RunRecord) -> None:
    """Refuse what PostgreSQL would refuse and SQLite would take: a store can be merged."""
    names = {entry.task for entry in record.entries}
    names |= {name for score in record.scores for name in (score.task, score.metric)}
    for name in sorted(names):
        if len(name) > _MAX_NAME:
            raise DataError(
                f"{record.source} results of {record.model}: the name {name!r} is longer than "
                f"{_MAX_NAME} characters: shorten it in the file"
            )


def run_id_of(record: RunRecord) -> str:
    """Return the id the record's run has in every store."""
    return digest([record.suite, _list_key(record), digest(record.generation_spec)])


def _list_key(record: RunRecord) -> str:
    return key_of_list((entry.task, entry.item.key) for entry in record.entries)


def _store_run(store: Store, connection: sa.Connection, record: RunRecord) -> str:
    list_key, generation_key = _list_key(record), digest(record.generation_spec)
    _put_items(store, connection, record, list_key)
    _put_texts(store, connection, record, generation_key)
    _put_said(store, connection, record)
    run_id = run_id_of(record)
    run = {
        "run_id": run_id,
        "model": record.model,
        "suite": record.suite,
        "prompting": "",
        "seed": 0,
        "list_key": list_key,
        "n_items": len(record.entries),
        "generation_key": generation_key,
        "environment": {"mipo_eval": __version__, "imported": record.source},
        "created_at": now(),
        "updated_at": now(),
    }
    store.put(connection, tables.runs, [run], replace=["updated_at"])
    columns = [column.name for column in tables.scores.columns if not column.primary_key]
    made = score_rows(run_id, record.scores)
    store.put(connection, tables.scores, made, replace=columns)
    return run_id


def _put_items(store: Store, connection: sa.Connection, record: RunRecord, list_key: str) -> None:
    rows = [item_row(e.item) | {"reference_key": e.reference_key} for e in record.entries]
    store.put(connection, tables.items, rows)
    entries = [
        {"list_key": list_key, "position": position, "task": e.task, "item_key": e.item.key}
        for position, e in enumerate(record.entries)
    ]
    store.put(connection, tables.item_lists, entries)


def _put_texts(
    store: Store, connection: sa.Connection, record: RunRecord, generation_key: str
) -> None:
    generation = {"generation_key": generation_key, "spec": record.generation_spec}
    store.put(connection, tables.generations, [generation])
    rows = [
        {
            "generation_key": generation_key,
            "item_key": entry.item.key,
            "text": entry.text,
            "text_key": entry.text_key,
            "reason": NO_TEXT if entry.text is None else None,
            "final": True,
            "finish_reason": None,
            "prompt_hash": digest(entry.item.prompt),
            "prompt_tokens": None,
            "response_tokens": None,
            "choice_logprobs": None,
            "created_at": now(),
        }
        for entry in record.entries
    ]
    store.put(connection, tables.responses, rows)


def _put_said(store: Store, connection: sa.Connection, record: RunRecord) -> None:
    judges = [{"judge_key": j.key, "name": j.name, "spec": j.spec} for j in record.judges]
    store.put(connection, tables.judges, judges)
    empty = dict.fromkeys(column.name for column in tables.calls.columns)
    calls = [
        empty
        | {
            "call_key": reply.call_key,
            "backend": dict(reply.backend),
            "request": reply.request,
            "status": "ok",
            "reply": reply.text,
            "created_at": now(),
        }
        for reply in record.replies
    ]
    store.put(connection, tables.calls, calls)
    put_choices(store, connection, record.choices)
    put_grades(store, connection, record.grades)
