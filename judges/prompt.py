"""Prompt files, rendered strictly, with judged text kept inside marks it cannot forge.

A prompt file is plain text with `{name}` slots. The protocol fixes which slots a file must have and
may have; anything else is an error, so a typing mistake cannot silently drop the response. Each
filled slot becomes a block

    <8d1f0c62ab94e713:response>
    the text
    </8d1f0c62ab94e713:response>

whose mark is a digest of the query and what is judged: the same request has the same mark, so it is
cacheable, and a text that contains its own mark would have to contain a digest of itself. Should
one of the texts contain it all the same, in whatever writing, another mark is taken.
"""

import re
import string
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import count
from pathlib import Path

from mipo_eval.errors import ConfigError
from mipo_eval.keys import digest
from mipo_eval.records import PastTurn
from mipo_eval.settings import read_text

MARK = "mark"
"""The slot that shows the mark itself, so that a prompt can speak of it."""

_MARK_DIGITS = 16

_FROM_SUITE = frozenset({"preference", "rubric", "criteria"})
"""Slots filled by the suite, whose author knows no response. They do not change the mark, so all
requests about one response begin alike, and a server that caches prefixes reads it only once."""

_CONTROL_TOKENS = re.compile(
    r"<(?=\|)|<(?=/?(?:s|bos|eos|pad|unk|start_of_turn|end_of_turn|system|user|assistant)>)"
    r"|\[(?=/?INST\])|<(?=/?<SYS>>)|<(?=｜)",
    re.IGNORECASE,
)
"""The start of anything a chat template could read as the end of our message."""

_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\U000e0000-\U000e007f]"
)
"""Characters that show nothing: controls, tags, direction marks, odd line breaks.

Not U+200C and U+200D: these joiners spell some scripts."""


_NO_LETTER = re.compile(r"[\W_\u115f\u1160]+")
"""What is passed over in looking for a mark; Hangul's two fillers are letters that show nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A prompt file, read and checked."""

    name: str
    text: str
    slots: frozenset[str]

    @property
    def hash(self) -> str:
        """Digest of the text; part of the judge's key and of every signature."""
        return digest(self.text)

    def render(self, fields: Mapping[str, str], earlier: Sequence[PastTurn] = ()) -> str:
        """Fill the slots, but `mark`, which is ours; an empty text leaves its slot out altogether.

        Turns before the query stand with it in its block, each in a block of its own.

        Raises:
            ConfigError: the fields are not the prompt's slots.
        """
        wanted = self.slots - {MARK}
        if fields.keys() != wanted:
            raise ConfigError(
                f"prompt {self.name} has the slots {_list(wanted)} but was given "
                f"{_list(fields.keys())}"
            )
        filled = {name: neutral(text) for name, text in fields.items()}
        said = [(turn.role, neutral(turn.content)) for turn in earlier]
        # Of what the judge will see: a mark that is hidden in a text may stand in it once cleaned.
        mark = self._mark(filled, [text for _, text in said])
        if earlier:
            said.append(("user", filled["query"]))
            filled["query"] = "\n".join(_block(mark, role, text) for role, text in said)
        blocks = {name: _block(mark, name, text) if text else "" for name, text in filled.items()}
        blocks[MARK] = mark
        # One pass over the template: what is filled in is never looked at again.
        return "".join(
            literal + (blocks[name] if name else "")
            for literal, name, _, _ in string.Formatter().parse(self.text)
        )

    def _mark(self, fields: Mapping[str, str], earlier: Sequence[str]) -> str:
        judged = {name: text for name, text in fields.items() if name not in _FROM_SUITE}
        before = [list(earlier)] if earlier else []
        for attempt in count():
            mark = digest([self.hash, judged, attempt, *before])[:_MARK_DIGITS]
            if not any(mark in _letters(text) for text in (*fields.values(), *earlier)):
                return mark
        raise AssertionError("some mark is in none of the texts")


def _letters(text: str) -> str:
    """Return the letters and digits of a text, as whoever reads it may take them."""
    return _NO_LETTER.sub("", unicodedata.normalize("NFKD", text).casefold())


def _block(mark: str, name: str, text: str) -> str:
    return f"<{mark}:{name}>\n{text}\n</{mark}:{name}>"


def load_prompt(
    file: str | Path, *, required: frozenset[str], optional: frozenset[str] = frozenset()
) -> Prompt:
    """Return a prompt file of ours, by name ("rubric"), or the user's, by path.

    It must have the required slots, and may have the optional ones and `mark`.

    Raises:
        ConfigError: there is no such file, or its slots are not those.
    """
    shipped = resources.files("mipo_eval.judges") / "prompts" / f"{file}.txt"
    try:
        if isinstance(file, str) and "/" not in file and shipped.is_file():
            text = read_text(shipped)
        else:
            text = read_text(Path(file))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the prompt file {file} cannot be read: {error}") from None
    return make_prompt(Path(file).stem, text, required=required, optional=optional)


def make_prompt(
    name: str, text: str, *, required: frozenset[str], optional: frozenset[str] = frozenset()
) -> Prompt:
    """Return a prompt from its text, with its slots checked.

    Raises:
        ConfigError: a slot is missing, unknown, used twice or malformed.
    """
    try:
        parts = list(string.Formatter().parse(text))
    except ValueError as error:
        raise ConfigError(f"prompt {name}: {error}; write {{{{ for a literal brace") from None
    found = [slot for _, slot, _, _ in parts if slot is not None]
    if any(spec or conversion for _, _, spec, conversion in parts):
        raise ConfigError(f"prompt {name}: a slot has no format: write only {{name}}")
    for slot in found:
        if slot not in required | optional | {MARK}:
            allowed = _list(required | optional | {MARK})
            raise ConfigError(f"prompt {name} has an unknown slot {{{slot}}}; known: {allowed}")
        if slot != MARK and found.count(slot) > 1:
            raise ConfigError(f"prompt {name} uses the slot {{{slot}}} twice")
    if missing := required - set(found):
        raise ConfigError(f"prompt {name} does not contain the slots {_list(missing)}")
    return Prompt(name=name, text=text, slots=frozenset(found))


def neutral(text: str) -> str:
    """Return text that no chat template, terminal or reader takes for anything but text.

    Control tokens such as `<|im_end|>` get a space after their first character, since a server
    that tokenizes them would end our message there. Invisible and direction-changing characters
    are dropped, and lone surrogates replaced; visible wording stays.
    """
    text = text.encode("utf-8", "replace").decode()
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = _HIDDEN.sub("", text)
    return _CONTROL_TOKENS.sub(lambda match: f"{match[0]} ", text)


def _list(names: Iterable[str]) -> str:
    return ", ".join(f"{{{name}}}" for name in sorted(names)) or "none"
