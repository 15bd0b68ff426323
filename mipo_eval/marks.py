"""What of a response a rule can see: its lines, sentences and words, marks and cues.

Both the demo world's rules and those of everyday preferences are made of these. A rating is 1, not
at all, to 5, followed.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

_LIST_MARK = re.compile(r"^\s*(?:\d+[.)]|[-*•])\s+")
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')*]*\s+")
_WORD = re.compile(r"[^\W\d_]+(?:['\u2019\-][^\W\d_]+)*")


def word_set(text: str) -> frozenset[str]:
    """Return the words of a list that is written as a text."""
    return frozenset(text.split())


FUNCTION_WORDS = word_set(
    """a about after again all already also always am an and another any anything are around as at
    away be because been before being below between both but by can cannot could did do does down
    each either else enough even ever every everyone everything few first for from go goes going
    had has have he her here hers him his how i if in into is it its just last least less let like
    little long many may me might mine more most much must my near never next no nobody none nor
    not nothing now of off often on once one only onto or other others our out over own per plus
    put rather same shall she should since so some someone something soon still such take than that
    the their them then there these they thing things this those though through to today together
    too toward towards twice two under until up upon us use used very was way we well were what
    when where whether which while who whom whose why will with within without would yes yet you
    your yourself"""
)


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case, without digits and punctuation."""
    return [word.lower() for word in _WORD.findall(text)]


def content_words(text: str) -> set[str]:
    """Return the words of a text that carry meaning, with a plural s taken off."""
    return {singular(word) for word in words_of(text) if word not in FUNCTION_WORDS}


def singular(word: str) -> str:
    """Return a word without a plural s."""
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


@dataclass(frozen=True, slots=False)
class ResponseText:
    """One response, taken apart once for all rules."""

    text: str

    @cached_property
    def lines(self) -> list[str]:
        """The lines that are not empty."""
        return [line.strip() for line in self.text.splitlines() if line.strip()]

    @cached_property
    def sentences(self) -> list[str]:
        """The sentences, without list marks and bold marks; a line break ends a sentence."""
        found = []
        for line in self.lines:
            plain = _LIST_MARK.sub("", line).replace("**", "")
            found += [part.strip() for part in _SENTENCE_END.split(plain) if words_of(part)]
        return found

    @cached_property
    def words(self) -> list[str]:
        """All words, lower case; list numbers are not words."""
        return [word for sentence in self.sentences for word in words_of(sentence)]


def is_question(sentence: str) -> bool:
    """Tell whether a sentence ends as a question does."""
    return sentence.rstrip("\"')").endswith("?")


@lru_cache(maxsize=512)  # the ratings of one response come one after the other
def read(text: str) -> ResponseText:
    """Return a response to be taken apart, once for all its rules."""
    return ResponseText(text)


def plain(text: str) -> str:
    """Return a text without digits, punctuation and capitals."""
    return " ".join(words_of(text))


NUMBERED = re.compile(r"^(?P<mark>\d+)[.)]\s+(?P<point>.*)$")
BULLET = re.compile(r"^(?P<mark>[-*•])\s+(?P<point>.*)$")
_BOLD = re.compile(r"\*\*([^*\n]+)\*\*")


def cue(pattern: str) -> re.Pattern[str]:
    """Return what finds these words, in any case."""
    return re.compile(rf"\b(?:{pattern})\b", re.IGNORECASE)


Rule = Callable[[ResponseText], int]


def points(mark: re.Pattern[str], other: re.Pattern[str]) -> Rule:
    """5 for three marked lines of three words or more, 4 for two.

    2 for one, for a wrong count, and beside the other kind of list.
    """

    def rating(response: ResponseText) -> int:
        found = [match for line in response.lines if (match := mark.match(line))]
        full = [match for match in found if len(words_of(match["point"])) >= 3]
        if not full:
            return 1
        counted = [int(match["mark"]) for match in found if match["mark"].isdecimal()]
        if counted not in ([], list(range(1, len(found) + 1))):
            return 2
        if any(other.match(line) for line in response.lines):
            return 2
        return {1: 2, 2: 4}.get(len(full), 5)

    return rating


def bold(response: ResponseText) -> int:
    """5 for some bold words, 3 where bold is five words or more in a row or a third of the text."""
    spans = [len(words_of(span)) for span in _BOLD.findall(response.text)]
    if not any(spans):
        return 1
    return 5 if max(spans) <= 4 and sum(spans) * 3 <= len(response.words) else 3


def by_steps(value: float, steps: Mapping[int, float]) -> int:
    """Return the best rating whose limit `value` keeps; 1 if it keeps none."""
    return next((rating for rating, limit in steps.items() if value <= limit), 1)


def said(strong: str, weak: str) -> Rule:
    """5 if a sentence says it with three words or more after the cue, 3 for a mention."""
    strong_cue, weak_cue = cue(strong), cue(weak)

    def rating(response: ResponseText) -> int:
        for sentence in response.sentences:
            match = strong_cue.search(sentence)
            if match and len(words_of(sentence[match.end() :])) >= 3:
                return 5
        return 3 if weak_cue.search(response.text) else 1

    return rating
