"""What a file of another tool holds, in our terms; nothing of it is stored yet."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from mipo_eval.keys import canonical_json, digest
from mipo_eval.records import Item, Score, clean_text, text_key
from mipo_eval.store.verdicts import Grade
from mipo_eval.verdict import Choice

NO_TEXT = "the imported file does not hold the text"


class Entry(NamedTuple):
    """An item with what the model under evaluation answered."""

    task: str
    item: Item
    text: str | None
    text_key: str
    """Of the text, or a stand-in where the file names a text without holding it."""
    reference_key: str | None
    """Of the text it is compared with; None where there is none."""


class Reply(NamedTuple):
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
    entries: Sequence[Entry]
    judges: Sequence[JudgeRecord] = ()
    choices: Sequence[Choice] = ()
    grades: Sequence[Grade] = ()
    ratings: Mapping[tuple[str, str], Sequence[str]] = field(default_factory=dict)
    """What judges rated, in words, per (item, text); of some items, for people to read."""
    replies: Sequence[Reply] = ()
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
class Reading:
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


def made_reply(judge: JudgeRecord, request: Mapping[str, Any], reply: str) -> Reply:
    """Return the ledger row of a reply; equal requests with equal replies are one row."""
    asked = canonical_json(dict(request))
    return Reply(digest([judge.spec, asked, reply]), judge.spec, asked, reply)


def entry(
    task: str, item: Item, text: str | None, *, stand_in: str = "", reference_stand_in: str = ""
) -> Entry:
    """Return an entry; the stand-ins name texts that the file does not hold."""
    reference = text_key(item.reference) if item.reference else None
    key = absent_text(stand_in, item.key) if text is None else text_key(text)
    if reference_stand_in:
        reference = absent_text(reference_stand_in, item.key)
    return Entry(task, item, text, key, reference)


def cleaned(value: Any) -> Any:
    """Return a JSON value with every text as a database can hold it."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, list):
        return [cleaned(element) for element in value]
    if isinstance(value, dict):
        return {clean_text(key): cleaned(element) for key, element in value.items()}
    return value
