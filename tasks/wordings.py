"""Wordings: the text around a prompt and a user's context, and where the context stands.

A wording is a text file with the slots {prompt} and {context}. Lines that hold nothing but a name
in brackets open its parts; a file without any is the user turn:

    [system]
    {context}
    [user]
    {prompt}
    [default]
    {prompt}

A part may be for items of one language, as their `meta` names it: [user fr], [default fr],
[system fr]; a language without a part of its own is asked in the others.

[default] is the user turn of default prompting. Without it, and in [system], the paragraphs that
show a context are left out there. What a question asks has no context. Those that ship are in
`prompts/wording_*.txt`; a data set is asked in its own one unless `--query` says otherwise.
"""

import re
import string
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Literal

from mipo_eval.errors import ConfigError
from mipo_eval.keys import digest
from mipo_eval.records import Item

Asks = Literal["query", "choice", "number"]
"""What is asked: a user's prompt, a question with lettered choices, or one for a number."""

SHIPPED: Mapping[Asks, tuple[str, ...]] = {
    "query": ("short", "context-first", "notes"),
    "choice": ("reasoned", "letter"),
    "number": ("turns", "message"),
}
"""Names of wordings, the usual one first. The last two differ in what becomes of the worked
examples before the question: turns of their own, or a part of its message."""

_OF_SOURCE = {"mb": "context-first", "everyday": "notes"}
"""Data sets with a usual wording of their own: answers to MB are long, and users of everyday say
themselves how long an answer should be, which a request for two or three sentences contradicts."""
_PART = re.compile(r"^\[(system|user|default)(?: ([\w-]+))?\][^\S\n]*$", re.MULTILINE)
_ANSWER_LINE = "The answer is "
"""How a reply ends where a wording asks for reasoning first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """A wording, read and checked."""

    name: str
    user: str
    """The user turn with a context, or of a question."""
    default: str
    """The user turn without the context."""
    system: str = ""
    """Of the system turn with a context; blank: none."""
    default_system: str = ""
    turns: bool = True
    """Whether worked examples are turns of their own."""
    languages: "tuple[tuple[str, Wording], ...]" = ()
    """Code of a language to how its items are asked, where that is otherwise."""

    @property
    def key(self) -> str:
        """Digest of all that is asked, for keys and signatures."""
        system = [self.system, self.default_system] if self.system else []
        others = [[code, wording.key] for code, wording in self.languages]
        form = [] if self.turns else ["message"]
        return digest([self.user, self.default, *system, *form, *others])

    @property
    def has_system(self) -> bool:
        """Whether some items are asked with a system turn of its."""
        return bool(self.system) or any(wording.system for _, wording in self.languages)

    def of(self, item: Item) -> "Wording":
        """Return how an item is asked: in its own language where the wording has it."""
        return dict(self.languages).get(str(item.meta.get("language", "")).lower(), self)

    def replies(self, letters: str) -> list[str]:
        """Return what a reply that gives each of the letters ends with."""
        line = _ANSWER_LINE if _ANSWER_LINE.strip().lower() in self.user.lower() else ""
        return [f"{line}{letter}" for letter in letters]


@cache
def template(name: str) -> str:
    """Return the text of one of our prompt files."""
    path = resources.files("mipo_eval.tasks") / "prompts" / f"{name}.txt"
    return path.read_text(encoding="utf-8")


def asks_of(name: str) -> Asks | None:
    """Return what a shipped wording is for; None for a file."""
    return next((asks for asks, names in SHIPPED.items() if name in names), None)


def usual(asks: Asks, source: str = "") -> str:
    """Return the name of the wording in which a data set is asked unless the user says."""
    return _OF_SOURCE.get(source, SHIPPED[asks][0])


def read_wording(given: str, asks: Asks) -> Wording:
    """Return a wording by its name, or the file that the user gives.

    Raises:
        ConfigError: there is no such wording or file, or its slots are not as they have to be.
    """
    return _shipped(given) if given in SHIPPED[asks] else _own(given, asks)


@cache
def _shipped(name: str) -> Wording:
    file = "worked" if name in SHIPPED["number"] else name
    return _parsed(name, template(f"wording_{file}"), turns=name != "message")


def _own(given: str, asks: Asks) -> Wording:
    known = ", ".join(SHIPPED[asks])
    if not Path(given).is_file():
        raise ConfigError(f"--query {given}: use one of {known}, or a file (see docs/wordings.md)")
    if asks == "number":
        raise ConfigError(f"--query {given}: worked examples fix the form of a question: {known}")
    try:
        wording = _parsed(given, Path(given).read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--query {given} cannot be read: {error}") from error
    _check(wording, asks)
    return wording


def _parsed(name: str, text: str, *, turns: bool = True) -> Wording:
    head, *rest = _PART.split(text)
    of_language: dict[str, dict[str, str]] = {} if rest else {"": {"user": head.strip()}}
    for part, code, own in zip(rest[::3], rest[1::3], rest[2::3], strict=True):
        of_language.setdefault((code or "").lower(), {})[part] = own.strip()
    whole = sum(map(len, of_language.values())) == len(rest) // 3 and not head.strip()
    asked = "" in of_language and all("user" in own for own in of_language.values())
    if rest and not (whole and asked):
        raise ConfigError(
            f"--query {name}: it needs [user], each part once, and nothing before; a language that "
            "has a part has its own [user CODE]"
        )
    made = {
        code: Wording(
            name=name,
            user=own["user"],
            default=own.get("default") or _without_context(own["user"]),
            system=own.get("system", ""),
            default_system=_without_context(own.get("system", "")),
            turns=turns,
        )
        for code, own in of_language.items()
    }
    return replace(made.pop(""), languages=tuple(sorted(made.items())))


def _without_context(text: str) -> str:
    paragraphs = re.split(r"\n[^\S\n]*\n", text)
    return "\n\n".join(part for part in paragraphs if "{context}" not in part).strip()


def _check(wording: Wording, asks: Asks) -> None:
    if wording.languages and asks != "query":
        raise ConfigError(
            f"--query {wording.name}: questions are asked in one language: no [user fr]"
        )
    for _, other in wording.languages:
        _check(other, asks)
    name, wanted = wording.name, {"prompt", "context"} if asks == "query" else {"prompt"}
    try:
        slots, bare, told = (
            {slot for _, slot, _, _ in string.Formatter().parse(text) if slot is not None}
            for text in (wording.user, wording.default, wording.system)
        )
    except ValueError as error:
        raise ConfigError(f"--query {name}: {error}; write {{{{ for a brace") from None
    if unknown := sorted((slots | bare | told) - wanted):
        raise ConfigError(
            f"--query {name}: {{{unknown[0]}}} is not a slot here; the slots are {_list(wanted)}"
        )
    if absent := sorted(wanted - slots - told):
        raise ConfigError(f"--query {name}: it does not contain {_list(absent)}")
    if bare != {"prompt"}:
        raise ConfigError(
            f"--query {name}: its turn without the context does not contain {{prompt}}: write it "
            "under [default], or the prompt in a paragraph without {context}"
        )


def _list(names: "set[str] | list[str]") -> str:
    return " and ".join(f"{{{name}}}" for name in sorted(names))
