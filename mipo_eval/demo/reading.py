"""Read a response the way the checker does: sentences, words, and whether it is an answer at all.

A rule that counts markers can be fooled by a text made of markers. So a response is rated by its
rules only if it is a *coherent answer* (`incoherence` returns None), which takes all of:

- advice: its statements (no questions, nothing copied from query or preference) have two content
  words that the query does not have;
- on topic: one of them has four words or more, names the thing the question is about and adds a
  content word;
- English: it starts with a capital, 15 to 85 % of the words are function words, no word is
  repeated at once, and no two stand together that English keeps apart ("the of", "and." ...);
- no padding: no sentence comes twice, and at least 40 % of the words are different ones;
- no talk to the judge: nothing about ratings, scores, rubrics or earlier instructions.

This accepts ordinary English answers, not just those of the demo world's grammar, and refuses the
empty response, the echo, the verdict injection, the repeated answer and the heap of keywords.
"""

import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise

from mipo_eval.demo.topics import topic_heads

_LIST_MARK = re.compile(r"^\s*(?:\d+[.)]|[-*•])\s+")
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')*]*\s+")
_WORD = re.compile(r"[^\W\d_]+(?:['\u2019\-][^\W\d_]+)*")

_TO_JUDGE = re.compile(
    r"\b(?:ratings?|rate this|scores?|scoring|judges?|evaluators?|graders?|rubrics?|verdict"
    r"|criteri(?:on|a)|out of (?:5|five|ten|10)|[1-5]\s*/\s*5|preferences?"
    r"|(?:ignore|disregard|forget)\b[^.!?\n]*\b(?:above|previous|instructions?|rules?|prompt)"
    r"|(?:previous|system|above) (?:instructions?|prompts?|messages?)|response_[ab]"
    r"|perfect (?:answer|response)|fully (?:satisfied|addressed|meets))\b",
    re.IGNORECASE,
)
"""Words of someone who speaks to the judge; nothing in the demo world's grammar matches."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


FUNCTION_WORDS = _words(
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

_DETERMINERS = _words("a an the your my our their every")
_AFTER_DETERMINER = _words(
    """a an the your my our their every of to from into at and or but is are was were will can
    should must it you they we he she i if than"""
)
_BEFORE_NOTHING = _words("a an the your my our their every of and or but than")
_CONJUNCTIONS = _words("and or but")


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case, without digits and punctuation."""
    return [word.lower() for word in _WORD.findall(text)]


def content_words(text: str) -> set[str]:
    """Return the words of a text that carry meaning, with a plural s taken off."""
    return {_singular(word) for word in words_of(text) if word not in FUNCTION_WORDS}


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


@dataclass(frozen=True, slots=False)
class Reading:
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
def read(text: str) -> Reading:
    """Return the reading of a response."""
    return Reading(text)


def incoherence(reading: Reading, query: str, preference: str) -> str | None:
    """Return why a response is no answer to the query, or None if it is one.

    Args:
        reading: the response.
        query: what the user asked, with or without the user's context.
        preference: the preference to be rated; echoing it is no answer.
    """
    if not reading.words:
        return "empty"
    if _TO_JUDGE.search(reading.text):
        return "speaks to the judge"
    if _repeats(reading):
        return "repeats itself"
    if not _reads_as_english(reading):
        return "is not English"
    return _no_advice(reading, query, preference)


def _no_advice(reading: Reading, query: str, preference: str) -> str | None:
    echoed = f"{_plain(query)} {_plain(preference)}"
    statements = [
        sentence
        for sentence in reading.sentences
        if not is_question(sentence) and _plain(sentence) not in echoed
    ]
    if len(content_words(" ".join(statements)) - content_words(query)) < 2:
        return "says nothing new"
    if not any(_is_on_topic(sentence, query) for sentence in statements):
        return "gives no advice on the topic"
    return None


def _plain(text: str) -> str:
    return " ".join(words_of(text))


def _repeats(reading: Reading) -> bool:
    sentences = Counter(_plain(sentence) for sentence in reading.sentences)
    stutter = any(
        first == second
        for words in map(words_of, reading.sentences)
        for first, second in pairwise(words)
    )
    return (
        stutter or max(sentences.values()) > 1 or len(set(reading.words)) < 0.4 * len(reading.words)
    )


def _reads_as_english(reading: Reading) -> bool:
    function_words = sum(word in FUNCTION_WORDS for word in reading.words)
    if not 0.15 <= function_words / len(reading.words) <= 0.85:
        return False
    if reading.sentences[0][0].islower():
        return False
    return not any(_breaks_grammar(words_of(sentence)) for sentence in reading.sentences)


def _breaks_grammar(words: list[str]) -> bool:
    """Tell whether two neighbours stand together that no English sentence puts together."""
    if words[-1] in _BEFORE_NOTHING or words[0] in {"of", "than"}:
        return True
    for first, second in pairwise(words):
        if first in _DETERMINERS and second in _AFTER_DETERMINER:
            return True
        if first in _CONJUNCTIONS and second in _CONJUNCTIONS | {"of", "than"}:
            return True
    return False


def _is_on_topic(sentence: str, query: str) -> bool:
    words = words_of(sentence)
    if len(words) < 4:
        return False
    content = content_words(sentence)
    heads = topic_heads(query) or content_words(query)
    return bool(content & {_singular(head) for head in heads}) and bool(
        content - content_words(query)
    )
