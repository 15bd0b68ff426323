"""Reading the name of the better response from a judge's reply: one name, or None.

The same rules as for ratings (see parsing.py), with names instead of numbers. Mentioning a name is
not choosing it, so here only claims count. All of them must agree, unless the last sentence is a
conclusion ("Therefore, Output (b) is better."): reasoning may weigh both sides before it decides.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from mipo_eval.judges.cleaning import (
    clause_before,
    plain,
    sentence_before,
    without_citations,
    without_markup,
)
from mipo_eval.judges.verdict import Verdict, Winner

_JSON_KEYS = frozenset(
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
_EDGE = r"[\s\"'{}<>.!,:;#=|]*"
_LABEL = (
    r"\b(?:answer|verdict|winner|choice|decision|judge?ment|selection|preference|preferred|"
    r"conclusion|result|better(?:\s+(?:one|response|output|answer|option|assistant))?|"
    r"best(?:\s+(?:one|response|output|answer|option|assistant))?)\b"
)
_VERB = r"\b(?:choose|chose|prefer|pick|select|go with|favou?r|vote for|say|conclude(?: that)?)\b"
_BETWEEN = r"(?:[\s:=\-–—>|]|\b(?:is|was|would be|must be|the|that|it|this|to|be)\b)*"
_ADVERB = (
    r"(?:clearly|slightly|much|overall|definitely|significantly|far|a bit|a little|marginally|"
    r"obviously|therefore|also|still|generally|the|a|more|one)"
)
_GOOD = (
    r"(?:better|best|superior|preferred|preferable|stronger|winner|more\s+\w+(?:ly)?"
    r"(?:\s+(?:response|output|answer|one))?)"
)

_BARE = re.compile(rf"^{_EDGE}{_EITHER}{_EDGE}$", re.MULTILINE | re.IGNORECASE)
_LEADING = re.compile(
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

_DENIED = re.compile(
    r"\b(?:not|never|cannot|neither|nor|instead|rather|than|unable|whether|maybe|perhaps|either)\b"
    r"|n['’]t\b",
    re.IGNORECASE,
)
_REPORTED = re.compile(
    r"\b(?:claims?|says?|said|asks?|asked|told|tells?|instructs?|demands?|states?|writes?|wants?|"
    r"tries|requests?|ignore|disregard|override|must)\b",
    re.IGNORECASE,
)
_SUPPOSED = re.compile(
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
            return _from_json(json.loads(unfenced, object_pairs_hook=list))
        except ValueError:
            pass  # not JSON after all, or cut off: read it as text
    text = without_markup(text, emphasis="*`")
    text = without_citations(
        text, lambda part: bool(_ANY.search(part)), re.compile(rf"\s*{_EITHER}\s*", re.IGNORECASE)
    )
    claims = set(_claims(text))
    if len(claims) > 1 and (last := _LAST_SENTENCE.search(text)):
        claims = set(_claims(last[1]))
    return claims.pop() if len(claims) == 1 else None


_LAST_SENTENCE = re.compile(
    r"(?:^|[.!?\n])\s*((?:therefore|thus|hence|so|overall|finally|in conclusion|in summary"
    r"|to sum up|(?:my |the )?final (?:answer|verdict|decision|choice))\b[^.!?\n]*)[.!]?\s*\Z",
    re.IGNORECASE,
)
_ANY = re.compile(rf"{_EITHER}|{_TIE}", re.IGNORECASE)


def _claims(text: str) -> Iterator[Verdict | None]:
    for pattern in (_BARE, _LEADING, _LABELLED, _STATED):
        for match in pattern.finditer(text):
            name = next(group for group in match.groups() if group)
            if pattern in {_LABELLED, _STATED} and _is_article(match, name):
                continue
            denied = pattern in {_LABELLED, _STATED} and _is_denied(text, match)
            asked = text[match.end() : match.end() + 1] == "?"
            yield None if denied or asked else "a" if name.lower() == "a" else "b"
    for match in _TIED.finditer(text):
        yield None if _is_denied(text, match) else "tie"


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


def _is_denied(text: str, match: re.Match[str]) -> bool:
    """Whether the words before a claim take it back, or put it in someone else's mouth."""
    clause = clause_before(text, match.start())
    return bool(
        _DENIED.search(clause)
        or _REPORTED.search(clause)
        or _SUPPOSED.search(sentence_before(text, match.start()))
    )


def _from_json(pairs: Any) -> Verdict | None:
    values = {
        json.dumps(value)
        for key, value in pairs
        if isinstance(key, str) and key.lower() in _JSON_KEYS
    }
    if len(values) != 1:
        return None
    value = json.loads(values.pop())
    is_text = isinstance(value, str) and not value.lstrip().startswith("{")
    return parse_verdict(value) if is_text else None
