"""Published data sets, a file each: their columns, checked, and the items made of their rows.

What cannot be used is not lost from sight: it comes out as `Dropped` with a reason. What several
sets share stands here.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import PydanticSerializationError

from mipo_eval.errors import DataError
from mipo_eval.keys import digest
from mipo_eval.records import Item, PastTurn, explain
from mipo_eval.tasks.wordings import template

__all__ = [
    "CUT_OFF",
    "Candidate",
    "Columns",
    "Dropped",
    "Earlier",
    "PublishedSet",
    "RawSet",
    "Turns",
    "UserChoice",
    "ask_extractor",
    "checked",
    "content_id",
    "exchange",
    "parse_object",
    "parse_preferences",
    "prompt_group",
    "short_text",
    "then",
]

Row = Mapping[str, Any]
Split = Literal["train", "test"]
Turns = Literal["first", "all"]
"""Of a conversation: only its opening turn, as in the paper, or every turn that has a choice."""
Earlier = tuple[PastTurn, ...] | None
"""The turns before one; None where they are not known."""
CUT_OFF = "a turn before it has no chosen response"
"""Why a later turn gives no item: what was said before it is not known."""


class Columns(BaseModel):
    """The columns of a row that are needed; others may come and go."""

    model_config = ConfigDict(frozen=True, extra="ignore")


_Schema = TypeVar("_Schema", bound=Columns)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedSet:
    """Where the rows of a data set are."""

    hub: str
    config: str | None = None
    revision: str | None = None
    """Commit of the hub's repository, the same rows for everybody; None: the newest, recorded."""
    files: Mapping[Split, Sequence[str]]
    """Patterns of its files once downloaded; the first with a match is used."""


class Dropped(NamedTuple):
    """An entry that gives no item."""

    reason: str
    detail: str = ""
    """What was wrong with a model's last reply."""


class Candidate(Protocol):
    """A usable entry, before a model has written what its user wants."""

    @property
    def owner(self) -> str:
        """Who must not be in both parts: a user, or an instruction."""

    @property
    def prompt(self) -> str:
        """What is asked."""

    @property
    def language(self) -> str:
        """Code of the language it is asked in, as the data set names it."""

    def question(self) -> str:
        """Return what the extractor is asked."""

    def items(self, wishes: Mapping[str, str]) -> list[Item]:
        """Return the items, given the extractor's reply."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RawSet(PublishedSet):
    """A data set whose items need a model's help: `mipo-eval data prepare NAME`."""

    candidates: Callable[[Iterable[Row], str, int, Turns], Iterator[Candidate | Dropped]]
    """Reads rows, given what to call their place in messages, a seed, and which turns."""
    parse: Callable[[str], dict[str, str]]
    """Reads the extractor's reply; a ValueError says what is wrong, in words for the model."""
    items_each: int = 1
    paper_sizes: tuple[int, int]
    """Training and test items of the paper (PAPER.md, "Data")."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UserChoice:
    """The response a user chose in a turn, and one they did not: one item."""

    data_set: str
    source_id: str
    """Conversation and turn."""
    user_id: str
    prompt: str
    chosen: str
    rejected: str
    language: str = "en"
    meta: Mapping[str, Any] = field(default_factory=dict)
    earlier: tuple[PastTurn, ...] = ()
    """The turns before it, with the responses the user chose; none before an opening turn."""

    @property
    def owner(self) -> str:
        """The user."""
        return self.user_id

    def question(self) -> str:
        """Ask for the general wishes behind the choice."""
        texts = {"query": self.prompt, "chosen": self.chosen, "rejected": self.rejected}
        return ask_extractor("extract_preferences", texts, self.earlier)

    def items(self, wishes: Mapping[str, str]) -> list[Item]:
        """Return the one item; its context is all wishes."""
        item = Item(
            item_id=f"{self.data_set}-{self.source_id}",
            prompt=self.prompt,
            context="\n".join(wishes.values()),
            preferences=tuple(wishes.values()),
            reference=self.chosen,
            user_id=self.user_id,
            meta={
                "language": self.language,
                **self.meta,
                "rejected": self.rejected,
                "keys": list(wishes),
            },
            messages=self.earlier,
        )
        return [item.model_copy(update={"group_id": prompt_group(item.transcript)})]


def exchange(prompt: str, response: str) -> tuple[PastTurn, PastTurn]:
    """Return what a user said and was answered, as later turns see it."""
    return PastTurn(role="user", content=prompt), PastTurn(role="assistant", content=response)


def then(earlier: Earlier, prompt: str, chosen: str) -> Earlier:
    """Return the turns before the next one: unknown once nothing was asked or chosen."""
    if earlier is None or not prompt or not chosen:
        return None
    return (*earlier, *exchange(prompt, chosen))


def checked(
    schema: type[_Schema], rows: Iterable[Any], where: str, expected: str = ""
) -> Iterator[tuple[dict[str, Any], _Schema]]:
    """Yield each row as it is and in the known schema.

    `where` opens every message; `expected` is what they call the columns, if not by their names.

    Raises:
        DataError: a column is missing or of another type, or holds half a character.
    """
    for number, row in enumerate(rows, start=1):
        try:
            parsed = schema.model_validate(row)
        except ValidationError as error:
            columns = expected or ", ".join(schema.model_fields)
            raise DataError(
                f"{where}, row {number}, {explain(error)}; expected the columns {columns}"
            ) from None
        try:
            parsed.model_dump_json()
        except PydanticSerializationError:
            raise DataError(
                f"{where}, row {number}: holds half of a surrogate pair; remove it"
            ) from None
        yield row, parsed


def content_id(prefix: str, content: Any, seen: Counter[str]) -> str:
    """Return an id that depends on content, not on its place; repeats are numbered in `seen`."""
    key = digest(content)[:16]
    seen[key] += 1
    return f"{prefix}-{key}" + (f"-{seen[key]}" if seen[key] > 1 else "")


def prompt_group(prompt: str) -> str:
    """Return the group of all items that ask this prompt."""
    return digest(prompt.strip())


def ask_extractor(name: str, texts: Mapping[str, str], earlier: Sequence[PastTurn] = ()) -> str:
    """Return one of the extractor's prompts with its slots filled; turns before the query too."""
    from mipo_eval.judges.prompt import make_prompt  # asks for all that judging needs

    return make_prompt(name, template(name), required=frozenset(texts)).render(texts, earlier)


MAX_PREFERENCES = 10
_SNAKE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_LONGEST, _MOST_BRACES = 20_000, 200
"""Characters, and objects begun, of a reply that is looked through: more is a model in a loop."""
_ABBREVIATION = re.compile(r"\b(?:e\.g|i\.e|etc|vs|approx)\.", re.IGNORECASE)


def parse_preferences(reply: str) -> dict[str, str]:
    """Return general preferences: snake_case key to at most two sentences (PAPER.md, "Data").

    Raises:
        ValueError: the reply is not of that form; says how.
    """
    value = parse_object(reply)
    if not 1 <= len(value) <= MAX_PREFERENCES:
        raise ValueError(f"it has {len(value)} entries; write 1 to {MAX_PREFERENCES}")
    for name in value:
        if not _SNAKE.fullmatch(name):
            raise ValueError(f"the key {name!r} is not in snake_case")
    return {name: short_text(name, text) for name, text in value.items()}


def parse_object(reply: str) -> dict[str, Any]:
    """Return the JSON object in a reply, bare, fenced, or with words around it.

    Raises:
        ValueError: there is none, or several, or the reply goes on and on.
    """
    if len(reply) > _LONGEST or reply.count("{") > _MOST_BRACES:
        raise ValueError("it is too long to be one JSON object")
    decoder = json.JSONDecoder()
    found: list[dict[str, Any]] = []
    position = reply.find("{")
    while position >= 0:
        try:
            value, end = decoder.raw_decode(reply, position)
        except (ValueError, RecursionError):
            position = reply.find("{", position + 1)
            continue
        found.append(value)
        position = reply.find("{", end)
    if len(found) != 1:
        raise ValueError(f"it holds {'several objects' if found else 'no valid JSON object'}")
    return found[0]


def short_text(name: str, text: Any) -> str:
    """Return a text of at most two sentences in one line, or raise ValueError."""
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"the value of {name!r} is not a text")
    clean = " ".join(text.split())
    sentences = re.findall(r"[.!?]+(?=\s|$)", _ABBREVIATION.sub("", clean))
    if len(sentences) > 2:
        raise ValueError(f"the value of {name!r} has {len(sentences)} sentences; at most two")
    return clean
