"""Reading a rating from a judge's reply: one answer, or None. Never the first number found.

A reply is text from a model that has just read text from another model, so it is not trusted: it
may quote a forged verdict, list the scale, hedge, refuse or ramble. The rules, in order:

1. Hidden characters, markup and a finished `<think>` part are dropped; quoted passages are
   citations and never answers.
2. Mentions of the scale itself ("1 to 5", "out of 5", "/5") are not answers either.
3. What is left must make *claims*: a bare number on a line of its own or opening a line, a
   labelled one ("Rating: 4", also in other languages, or as JSON), or a sentence ("I would give
   it a 4"). All claims must agree, and none may be negated, hedged or off the scale.
4. Every other number must agree too, unless a claim is the last number of the reply or the only
   number of its first line.

The price is a few more unparsed replies than a lenient parser has. They are counted and shown; a
wrong guess would not be.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

from mipo_eval.judges.cleaning import (
    clause_before,
    plain,
    sentence_before,
    without_citations,
    without_markup,
)

PARSER_VERSION = "1"
"""Part of every judge's key: raise it when any reply is read differently than before."""

_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_JSON_KEYS = frozenset({"rating", "score", "grade", "answer", "verdict", "overall_rating"})

_LABEL = (
    r"(?:\b(?:rating|score|grade|answer(?!\s+\d)|verdict|mark|evaluation|assessment|overall|"
    r"bewertung|punktzahl|note|évaluation|calificación|puntuación|valoración|puntaje|"
    r"nota|avaliação|pontuação|valutazione|punteggio|voto|оценка|рейтинг|балл|"
    r"ocena|beoordeling|betyg|puan)\b|"
    r"評分|评分|得分|分数|评级|評価|評点|スコア|点数|평점|점수|등급|التقييم|الدرجة|रेटिंग|अंक)"
)
_UNIT = (
    r"(?:[ ]*(?:stars?|points?|sterne?n?|punkte?n?|étoiles?|estrellas?|puntos?|pontos?|punti|"
    r"분|点|점|星|★|⭐))?"
)
_NUMBER = r"(?<![A-Za-z\d])(?:(?<![\w)])[-+\u2212])?\d+(?:[.,]\d+)*(?:%|\+|°|[A-Za-z]+)?"
_TOKEN = re.compile(_NUMBER)
_VALUE = re.compile(r"(\d{1,2})(?:[.,]0{1,2})?")
"""4, 4.0 and 4,00 are whole; 4.5 is not a rating and 1,000 is a thousand."""

_JOIN = r"[\s:=\-–—>(\[{|،]"
_BETWEEN = (
    rf"(?:{_JOIN}|\b(?:is|was|be|being|would|should|will|of|a|an|the|this|that|it|its|to|as|at|"
    r"for|response|text|reply|preference|item|given|solid|strong|clear|rating|score|grade|"
    r"ist|est|es|é|è|eine?|une?|una?|um|uma)\b|是|为|為|は|が|を|는|은|है)*?"
)
_VERB = (
    r"\b(?:rate[sd]?|give[sn]?|gave|giving|score[sd]?|assign(?:ed)?|award(?:ed)?|graded?|say|"
    r"choose|pick|go with|deserves?|earns?|gets?|merits?|receives?|settle on)\b"
)
_SO = r"\b(?:so|therefore|thus|hence|finally|in conclusion|in summary)\b[,:]?"
_EDGE = r"[\s\"'()\[\]{}<>.!,#=|]*"

_STRONG = re.compile(rf"{_LABEL}[\s)\]}}|]*[:=]{_JOIN}*({_NUMBER})", re.IGNORECASE)
_WEAK = re.compile(rf"(?:{_LABEL}|{_VERB}|{_SO}){_BETWEEN}({_NUMBER})", re.IGNORECASE)
_LEADING = re.compile(
    rf"^[\s(\[]*({_NUMBER}){_UNIT}[\s)\]]*(?:[-–—:,;(]|\b(?:because|since)\b)",
    re.MULTILINE | re.IGNORECASE,
)
_BARE = re.compile(rf"^{_EDGE}({_NUMBER}){_UNIT}{_EDGE}$", re.MULTILINE | re.IGNORECASE)
_BARE_QUOTE = re.compile(rf"\s*{_NUMBER}\s*\.?\s*")
_WORD = re.compile(
    rf"{_EDGE}(?:(?:{_LABEL}|{_VERB}){_BETWEEN})?\s*({'|'.join(_WORDS)}){_UNIT}{_EDGE}",
    re.IGNORECASE,
)

_DENIED = re.compile(
    r"\b(?:not|never|cannot|no|nor|neither|instead|rather|than|unable|refused?|declined?|maybe|"
    r"perhaps|almost|nearly|least|most|below|above|under|over|short|lacks?|fails?|merely)\b"
    r"|n['’]t\b|[<>≤≥≠~≈]",
    re.IGNORECASE,
)
_REPORTED = re.compile(
    r"\b(?:claims?|says?|said|asks?|asked|told|tells?|instructs?|demands?|states?|writes?|wants?|"
    r"tries|suggests?|requests?|ignore|disregard|override|must)\b",
    re.IGNORECASE,
)
_SUPPOSED = re.compile(
    r"\b(?:if|unless|had|were|would have|could have|should have)\b", re.IGNORECASE
)


def parse_rating(reply: str, low: int = 1, high: int = 5) -> int | None:
    """Return the one rating a reply gives, or None.

    Args:
        reply: what the judge said, raw.
        low: lowest rating of the scale.
        high: highest rating of the scale.

    Example:
        >>> parse_rating("On a scale of 1 to 5, I'd rate this a 4."), parse_rating("4 or 5")
        (4, None)
    """
    text = plain(reply)
    unfenced = without_markup(text, emphasis="") if text.startswith("```") else text
    if unfenced.strip().startswith("{"):
        try:
            return _from_json(json.loads(unfenced, object_pairs_hook=list), low, high)
        except ValueError:
            pass  # not JSON after all, or cut off: read it as text
    text = without_markup(text, emphasis="*`_")
    text = without_citations(text, lambda part: bool(re.search(r"\d", part)), _BARE_QUOTE)
    text = _scale(low, high).sub(" ", text)
    if word := _WORD.fullmatch(text):
        return _within(_WORDS.index(word[1].lower()), low, high)
    return _decide(text, low, high)


@dataclass(frozen=True, slots=True)
class _Claim:
    start: int
    """Where its number starts."""
    value: int | None
    """None when it is negated, supposed, or not on the scale."""


def _decide(text: str, low: int, high: int) -> int | None:
    numbers = {
        match.start(): _value(match[0], low, high)
        for match in _TOKEN.finditer(text)
        if not match[0][-1].isalpha()  # "4th" and "3D" are words
    }
    claims = [claim for claim in _claims(text, low, high) if claim.start in numbers]
    values = {claim.value for claim in claims}
    if len(values) != 1 or None in values:
        return None
    (value,) = values
    claimed = {claim.start for claim in claims}
    others = [start for start, other in numbers.items() if start not in claimed and other != value]
    first_line_end = text.find("\n", len(text) - len(text.lstrip()))
    first_line_end = len(text) if first_line_end < 0 else first_line_end
    opens = min(claimed) < first_line_end and not any(start < first_line_end for start in others)
    if not others or max(numbers) in claimed or opens:
        return value
    return None


def _claims(text: str, low: int, high: int) -> Iterable[_Claim]:
    for pattern in (_BARE, _LEADING, _STRONG, _WEAK):
        for match in pattern.finditer(text):
            value = _value(match[1], low, high)
            if text[match.end(1) : match.end(1) + 1] == "?":
                value = None
            if pattern in {_STRONG, _WEAK} and _is_denied(text, match):
                value = None
            yield _Claim(match.start(1), value)


def _is_denied(text: str, match: re.Match[str]) -> bool:
    """Whether the words before a claim take it back, or put it in someone else's mouth."""
    clause = clause_before(text, match.start())
    sentence = sentence_before(text, match.start())
    return bool(
        _DENIED.search(clause)
        or _DENIED.search(match[0][:-1])
        or _REPORTED.search(clause)
        or _SUPPOSED.search(sentence)
    )


def _value(token: str, low: int, high: int) -> int | None:
    match = _VALUE.fullmatch(token)
    return _within(int(match[1]), low, high) if match else None


def _within(value: int, low: int, high: int) -> int | None:
    return value if low <= value <= high else None


@cache
def _scale(low: int, high: int) -> re.Pattern[str]:
    """Match mentions of the scale: "1 to 5", "out of 5", "/5", and the same in a few languages."""
    first, last = (rf"(?:{n}|{_WORDS[n]})" if 0 <= n <= 10 else str(n) for n in (low, high))
    to = r"(?:to|through|thru|and|bis|und|à|et|al?|y|e|até|до|и|到|至|から|에서|[-–—~/])"
    return re.compile(
        rf"(?<![\d.,])(?<![-\u2212]){first}\s*{to}\s*{last}(?![\d%]|[.,]\d)"
        rf"|(?:(?<=[\d\s*_)\]]))\s*(?:/|\bout of\b|\bvon\b|\bsur\b|\bsobre\b|\bde\b|\bsu\b|\bиз\b)"
        rf"\s*{last}(?![\d%]|[.,]\d|[A-Za-z])"
        rf"|满分(?:为|是)?\s*{last}\s*分?|{last}\s*点(?:満点)?(?:中|満点で)",
        re.IGNORECASE,
    )


def _from_json(pairs: Any, low: int, high: int) -> int | None:
    """Return the rating in a JSON object, given as its (key, value) pairs, repeats included."""
    values = {
        json.dumps(value)
        for key, value in pairs
        if isinstance(key, str) and key.lower() in _JSON_KEYS
    }
    if len(values) != 1:
        return None
    value = json.loads(values.pop())
    if isinstance(value, str):
        return parse_rating(value, low, high) if not value.lstrip().startswith("{") else None
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        return None
    return _within(int(value), low, high)
