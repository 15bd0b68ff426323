"""What every parser does to a reply first: hidden characters, markup and citations go.

Reading a rating from a judge's reply: one answer, or None. Never the first number found.

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

Reading the name of the better response from a judge's reply: one name, or None.

The same rules as for ratings (see parsing.py), with names instead of numbers. Mentioning a name is
not choosing it, so here only claims count. All of them must agree, unless the last sentence is a
conclusion ("Therefore, Output (b) is better."): reasoning may weigh both sides before it decides.

The probability-weighted rating: the mean of the scale under the judge's own probabilities.

It stands beside the plain rating, never in its place: it tells apart responses that get the same
number, and its calibration against human labels is measured by `mipo-eval validate`.
"""

import json
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from mipo_eval.judges.verdict import Verdict, Winner

_INVISIBLE = {"\ufe0f", "\u20e3"}
"""Emoji variants: a keycap four is a four."""

_THINK_END = re.compile(r"</(?:think|thinking|reasoning)>", re.IGNORECASE)
_THINK_START = re.compile(r"<(?:think|thinking|reasoning)>", re.IGNORECASE)
_TAG = re.compile(r"</?[A-Za-z|!][^<>\n]{0,40}>")
_FENCE = re.compile(r"^\s*```\w*\s*$", re.MULTILINE)
_BLOCKQUOTE = re.compile(r"^\s*>.*$", re.MULTILINE)
_BOXED = re.compile(r"\\(?:boxed|text|textbf|mathbf)\{([^{}]*)\}")
_MATH = re.compile(r"\$([^$\n]*)\$|\\\(|\\\)|\\\[|\\\]")
_QUOTED = re.compile(
    r'"([^"]*)"|“([^”]*)”|„([^“”]*)[“”]|«([^»]*)»|「([^」]*)」|『([^』]*)』'
    r"|(?<!\w)'([^'\n]*)'(?!\w)|(?<!\w)‘([^’\n]*)’(?!\w)"
)
_OPEN_QUOTE = re.compile(r'"[^"]*\Z')


def plain(reply: str) -> str:
    """Return the visible text after any finished thinking, in one Unicode form, ASCII digits.

    Thinking that was cut off leaves nothing: what it says is not the answer.
    """
    text = _THINK_END.split(unicodedata.normalize("NFKC", reply))[-1]
    if _THINK_START.search(text):
        return ""
    kept = (c for c in text if c not in _INVISIBLE and unicodedata.category(c) != "Cf")
    return "".join(str(unicodedata.decimal(c, c)) for c in kept).strip()


def without_markup(text: str, *, emphasis: str) -> str:
    """Return `text` without code fences, quoted lines, tags, LaTeX boxes and `emphasis` marks."""
    text = _FENCE.sub("", text)
    text = _BLOCKQUOTE.sub("", text)
    text = _TAG.sub(" ", text)
    text = _BOXED.sub(r" \1 ", text)
    text = _MATH.sub(lambda match: f" {match[1] or ''} ", text)
    return text.translate(dict.fromkeys(map(ord, emphasis), " "))


def without_citations(text: str, answers: Callable[[str], bool], bare: re.Pattern[str]) -> str:
    """Blank out quoted passages that could be taken for an answer.

    Args:
        text: the reply.
        answers: whether a passage holds something that looks like an answer.
        bare: an answer and nothing else; quoting that is emphasis, not a citation.

    A quotation mark that is never closed is taken to cite everything after it.
    """

    def replace(match: re.Match[str]) -> str:
        inside = next(group for group in match.groups() if group is not None)
        return inside if bare.fullmatch(inside) or not answers(inside) else " … "

    return _OPEN_QUOTE.sub(lambda m: " … " if answers(m[0]) else m[0], _QUOTED.sub(replace, text))


def sentence_before(text: str, position: int) -> str:
    """Return the part of the sentence that precedes `position`."""
    return re.split(r"[.!?;\n。！？]", text[:position])[-1]


def clause_before(text: str, position: int) -> str:
    """Return the part of the clause that precedes `position`."""
    parts = re.split(
        r"[.!?;:,\n。！？，、]|\b(?:therefore|thus|hence|so|because|while|whereas|although|though"
        r"|but|and|since|which|overall|however)\b",
        text[:position],
        flags=re.IGNORECASE,
    )
    return parts[-1]


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


_choices_JSON_KEYS = frozenset(
    {"winner", "answer", "verdict", "choice", "better", "preferred", "decision", "response"}
)
_NAME = (
    r"(?:(?:responses?|assistant|output|option|answer|model|candidate|text|reply|version|choice)"
    r"[\s_-]*[(\[\"']*([ab])(?![\w'’])[)\]\"']*)"
)
_LETTER = r"(?:\[{1,2}([ab])\]{1,2}|\(([ab])\)|(?<![\w'’.])([ab])(?![\w'’]))"
_EITHER = rf"(?:{_NAME}|{_LETTER})"
_TIE = (
    r"(?:\ba\s+(?:tie|draw)\b|\btie[ds]?\b|\bdraw\b|\[\[c\]\]|\bboth\s+(?:are\s+)?equal(?:ly)?\b|"
    r"\bequally\s+(?:good|bad|well|helpful|strong)\b|\bneither\s+is\s+better\b)"
)
_choices_EDGE = r"[\s\"'{}<>.!,:;#=|]*"
_choices_LABEL = (
    r"\b(?:answer|verdict|winner|choice|decision|judge?ment|selection|preference|preferred|"
    r"conclusion|result|better(?:\s+(?:one|response|output|answer|option|assistant))?|"
    r"best(?:\s+(?:one|response|output|answer|option|assistant))?)\b"
)
_choices_VERB = (
    r"\b(?:choose|chose|prefer|pick|select|go with|favou?r|vote for|say|conclude(?: that)?)\b"
)
_choices_BETWEEN = r"(?:[\s:=\-–—>|]|\b(?:is|was|would be|must be|the|that|it|this|to|be)\b)*"
_ADVERB = (
    r"(?:clearly|slightly|much|overall|definitely|significantly|far|a bit|a little|marginally|"
    r"obviously|therefore|also|still|generally|the|a|more|one)"
)
_GOOD = (
    r"(?:better|best|superior|preferred|preferable|stronger|winner|more\s+\w+(?:ly)?"
    r"(?:\s+(?:response|output|answer|one))?)"
)

_choices_BARE = re.compile(rf"^{_EDGE}{_EITHER}{_EDGE}$", re.MULTILINE | re.IGNORECASE)
_choices_LEADING = re.compile(
    rf"^\s*(?:{_NAME}\s*(?:[.:,;(\-–—]|\b(?:because|since)\b)"
    rf"|{_LETTER}\s*(?:[:,;(\-–—]|\b(?:because|since)\b))",
    re.MULTILINE | re.IGNORECASE,
)
_LABELLED = re.compile(rf"(?:{_LABEL}|{_VERB}){_BETWEEN}{_EITHER}", re.IGNORECASE)
_STATED = re.compile(
    rf"{_EITHER}\s+(?:(?:is|was|seems|appears|would be|to be)\s+)+(?:{_ADVERB}\s+)*{_GOOD}\b"
    rf"|{_EITHER}\s+(?:clearly\s+)?wins\b",
    re.IGNORECASE,
)
_TIED = re.compile(
    rf"^{_EDGE}{_TIE}{_EDGE}$|(?:{_LABEL}|{_VERB}|\bit(?:['’]s| is)\b|\bcall it\b){_BETWEEN}{_TIE}"
    rf"|\bboth\b[^.\n]*\b(?:equal|equally)\b",
    re.MULTILINE | re.IGNORECASE,
)

_choices_DENIED = re.compile(
    r"\b(?:not|never|cannot|neither|nor|instead|rather|than|unable|whether|maybe|perhaps|either)\b"
    r"|n['’]t\b",
    re.IGNORECASE,
)
_choices_REPORTED = re.compile(
    r"\b(?:claims?|says?|said|asks?|asked|told|tells?|instructs?|demands?|states?|writes?|wants?|"
    r"tries|requests?|ignore|disregard|override|must)\b",
    re.IGNORECASE,
)
_choices_SUPPOSED = re.compile(
    r"\b(?:if|unless|had|were|would have|could have|should have)\b", re.IGNORECASE
)


def parse_choice(reply: str) -> Winner | None:
    """Return which response a reply names as the better one, or None.

    Example:
        >>> parse_choice("Therefore, Response B is better."), parse_choice("Response A or B")
        ('b', None)
    """
    verdict = parse_verdict(reply)
    return None if verdict == "tie" else verdict


def parse_verdict(reply: str) -> Verdict | None:
    """Return the response a reply names, "tie" where it says so, or None."""
    text = plain(reply)
    unfenced = without_markup(text, emphasis="") if text.startswith("```") else text
    if unfenced.strip().startswith("{"):
        try:
            return _choices_from_json(json.loads(unfenced, object_pairs_hook=list))
        except ValueError:
            pass  # not JSON after all, or cut off: read it as text
    text = without_markup(text, emphasis="*`")
    text = without_citations(
        text, lambda part: bool(_ANY.search(part)), re.compile(rf"\s*{_EITHER}\s*", re.IGNORECASE)
    )
    claims = set(_choices_claims(text))
    if len(claims) > 1 and (last := _LAST_SENTENCE.search(text)):
        claims = set(_choices_claims(last[1]))
    return claims.pop() if len(claims) == 1 else None


_LAST_SENTENCE = re.compile(
    r"(?:^|[.!?\n])\s*((?:therefore|thus|hence|so|overall|finally|in conclusion|in summary"
    r"|to sum up|(?:my |the )?final (?:answer|verdict|decision|choice))\b[^.!?\n]*)[.!]?\s*\Z",
    re.IGNORECASE,
)
_ANY = re.compile(rf"{_EITHER}|{_TIE}", re.IGNORECASE)


def _choices_claims(text: str) -> Iterator[Verdict | None]:
    for pattern in (_choices_BARE, _choices_LEADING, _LABELLED, _STATED):
        for match in pattern.finditer(text):
            name = next(group for group in match.groups() if group)
            if pattern in {_LABELLED, _STATED} and _is_article(match, name):
                continue
            denied = pattern in {_LABELLED, _STATED} and _choices_is_denied(text, match)
            asked = text[match.end() : match.end() + 1] == "?"
            yield None if denied or asked else "a" if name.lower() == "a" else "b"
    for match in _TIED.finditer(text):
        yield None if _choices_is_denied(text, match) else "tie"


def _is_article(match: re.Match[str], name: str) -> bool:
    """Whether a lone lower-case "a" is the English article, not a name."""
    position = match.start(next(i for i, group in enumerate(match.groups(), 1) if group))
    before = match.string[max(0, position - 1) : position]
    return name == "a" and before not in {"_", "(", "[", "-"} and not _named(match, position)


def _named(match: re.Match[str], position: int) -> bool:
    return bool(
        re.search(
            r"(?:response|assistant|output|option|answer|model|candidate|text|reply|version|choice)"
            r"[\s_-]*[(\[\"']*$",
            match.string[:position],
            re.IGNORECASE,
        )
    )


def _choices_is_denied(text: str, match: re.Match[str]) -> bool:
    """Whether the words before a claim take it back, or put it in someone else's mouth."""
    clause = clause_before(text, match.start())
    return bool(
        _choices_DENIED.search(clause)
        or _choices_REPORTED.search(clause)
        or _choices_SUPPOSED.search(sentence_before(text, match.start()))
    )


def _choices_from_json(pairs: Any) -> Verdict | None:
    values = {
        json.dumps(value)
        for key, value in pairs
        if isinstance(key, str) and key.lower() in _choices_JSON_KEYS
    }
    if len(values) != 1:
        return None
    value = json.loads(values.pop())
    is_text = isinstance(value, str) and not value.lstrip().startswith("{")
    return parse_verdict(value) if is_text else None


LEAST_MASS = 0.5
"""Below this probability on the scale the judge was about to say something else."""


class WeightedRating(NamedTuple):
    """A rating between the lowest and the highest of the scale, with what it rests on."""

    value: float | None
    """None when the scale has less than half of the probability, or no probabilities came."""
    mass: float
    """Probability, 0-1, that the first token of the reply was a rating at all."""


def weighted_rating(
    logprobs: Iterable[tuple[str, float]] | None, low: int = 1, high: int = 5
) -> WeightedRating:
    """Return the mean rating under the probabilities of the reply's first token.

    Spellings of one rating (" 4", "4") are added up; everything else is left out and the rest is
    scaled to one. Nothing is cut off: the share left out is told by `mass`.

    Args:
        logprobs: (token, log-probability in nats) of the first token's alternatives.
        low: lowest rating; it and the highest must be single digits.
        high: highest rating.
    """
    weights = _weights(logprobs, low, high)
    mass = min(1.0, math.fsum(weights))
    probabilities = _scaled(weights)
    if probabilities is None:
        return WeightedRating(None, mass)
    return WeightedRating(low + math.fsum(i * p for i, p in enumerate(probabilities)), mass)


def rating_probabilities(
    logprobs: Iterable[tuple[str, float]] | None, low: int = 1, high: int = 5
) -> tuple[float, ...] | None:
    """Return the probability of each rating, lowest first, summing to one.

    None where the judge gave no probabilities, or less than half of them to the scale.
    """
    return _scaled(_weights(logprobs, low, high))


def _weights(
    logprobs: Iterable[tuple[str, float]] | None, low: int, high: int
) -> tuple[float, ...]:
    weights = [0.0] * (high - low + 1)
    for token, logprob in logprobs or ():
        text = plain(token)
        if text.isdecimal() and low <= int(text) <= high:
            weights[int(text) - low] += math.exp(logprob)
    return tuple(weights)


def _scaled(weights: tuple[float, ...]) -> tuple[float, ...] | None:
    mass = math.fsum(weights)
    return None if mass < LEAST_MASS else tuple(weight / mass for weight in weights)
