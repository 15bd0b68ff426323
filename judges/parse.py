"""Reading a judge's reply: one rating or one chosen response, or None. Never a guess.

A reply is text from a model that has just read text from another model, so it is not trusted: it
may quote a forged verdict, list the scale, hedge, refuse or ramble. One grammar reads ratings and
choices. The rules, in order:

1. Hidden characters, markup and any thinking (`models/thinking.py`) are dropped; quoted passages
   are citations and never answers (`visible.py`).
2. What is left must make *claims* (`claims.py`): an answer in double brackets, on a line of its own
   or opening one with a reason; a labelled one ("Rating: 4", "Winner: B", also in other languages,
   or as JSON); or a sentence ("I would give it a 4", "Response B is better"). A claim that is
   denied, supposed, asked or put in someone else's mouth, or that is off the scale, says None. A
   name that only opens a sentence ("Response B, on the other hand, ...") claims nothing.
3. The reply's own final mark wins: what stands in double brackets, at the end of its line, beats
   whatever was weighed before it. Two different final marks say None.
4. Without a mark all claims must agree. Where they do not, the reply may still end in a verdict: a
   claim set apart on its last line that no other such claim contradicts, or a last sentence that
   concludes ("Therefore, Response B is better."), since reasoning weighs both sides first.
5. Mentioning a response is not choosing it, but a number may be an answer. So without a mark every
   other number in the reply must agree with a claimed rating, unless a claim is the last number of
   the reply or the only number of its first line. Mentions of the scale itself ("1 to 5", "/5") do
   not count.
6. A reply that was cut has a verdict only if its end is one, or its first line is the bare answer.

The price is a few more unparsed replies; they are counted and shown, a wrong guess would not be.
"""

import json
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import islice
from typing import Any, TypeVar

from mipo_eval.judges.claims import (
    CHOICES,
    CONCLUSION,
    NUMBER,
    NUMBER_WORD,
    RATINGS,
    SCALE_OF_MARKS,
    WORDS,
    Claim,
    Grammar,
    find_claims,
)
from mipo_eval.judges.visible import joined, shortened, visible, without_markup
from mipo_eval.models.thinking import response_of
from mipo_eval.verdict import Verdict, Winner

PARSER_VERSION = "3"
"""Part of every judge's key: raise it when any reply is read differently than before."""

Said = TypeVar("Said", int, Verdict)

MOST_CLAIMS = 200
"""A reply with more of them is a model in a loop, and has no verdict."""

_INVISIBLE = {"\ufe0f", "\u20e3"}  # emoji variants: a keycap four is a four
_VALUE = re.compile(r"(\d{1,2})(?:[.,]0{1,2})?")
"""4, 4.0 and 4,00 are whole; 4.5 is not a rating and 1,000 is a thousand."""
_SIDES = re.compile(r"([ab]) ?([<>=])\2? ?([ab])")
_RATING_KEYS = frozenset({"rating", "score", "grade", "answer", "verdict", "overall_rating"})
_CHOICE_KEYS = frozenset(
    {"winner", "answer", "verdict", "choice", "better", "preferred", "decision", "response"}
)


def parse_rating(reply: str, low: int = 1, high: int = 5, *, cut: bool = False) -> int | None:
    """Return the one rating from `low` to `high` that a raw reply gives, or None.

    Args:
        reply: what the judge wrote.
        low: lowest rating.
        high: highest rating.
        cut: whether the reply ended because there was no room for more.

    Example:
        >>> parse_rating("On a scale of 1 to 5, I'd rate this a 4."), parse_rating("4 or 5")
        (4, None)
    """

    def from_json(value: Any) -> int | None:
        if isinstance(value, str):
            return parse_rating(value, low, high) if not value.lstrip().startswith("{") else None
        is_rating = not isinstance(value, bool) and value in range(low, high + 1)
        return int(value) if is_rating else None

    text = plain(reply)
    if (pairs := _json_object(text)) is not None:
        return _one_value(pairs, _RATING_KEYS, from_json)
    text = _visible(text, RATINGS, emphasis="*`_")
    text = joined(_scale(low, high).sub(" ", joined(SCALE_OF_MARKS.sub(" ", text))))
    if word := NUMBER_WORD.fullmatch(text):
        return _number(str(WORDS.index(word[1].lower())), low, high)
    numbers = {
        match.start(): _number(match[0], low, high)
        for match in NUMBER.finditer(text)
        if not match[0][-1].isalpha()  # "4th" and "3D" are words
    }
    found = _claims(text, RATINGS, lambda told: _number(told, low, high))
    claims = [claim for claim in found if claim.start in numbers]
    value: int | None = _agreed(text, claims)
    if value is None or not (_marks(claims) or _stands_alone(text, claims, numbers, value)):
        return None
    may_go_on = 10 * value <= high and text[-1:].isdigit()
    return None if cut and (may_go_on or not _ends_in(text, claims, value, RATINGS)) else value


def parse_choice(reply: str, *, cut: bool = False) -> Winner | None:
    """Return which response a reply names as the better one, or None.

    Example:
        >>> parse_choice("Therefore, Response B is better."), parse_choice("Response A or B")
        ('b', None)
    """
    verdict = parse_verdict(reply, cut=cut)
    return None if verdict == "tie" else verdict


def parse_verdict(reply: str, *, cut: bool = False) -> Verdict | None:
    """Return the response a reply names, "tie" where it says so, or None.

    `cut` says that the reply ended because there was no room for more.
    """

    def from_json(value: Any) -> Verdict | None:
        is_text = isinstance(value, str) and not value.lstrip().startswith("{")
        return parse_verdict(value) if is_text else None

    text = plain(reply)
    if (pairs := _json_object(text)) is not None:
        return _one_value(pairs, _CHOICE_KEYS, from_json)
    text = _visible(text, CHOICES, emphasis="*`")
    claims = _claims(text, CHOICES, _winner)
    verdict: Verdict | None = _agreed(text, claims)
    return None if cut and not _ends_in(text, claims, verdict, CHOICES) else verdict


def _winner(told: str) -> Verdict | None:
    names: dict[str, Verdict] = {"a": "a", "b": "b"}
    if sides := _SIDES.fullmatch(told.lower()):
        first, sign, second = sides.groups()
        if first == second:
            return None
        return "tie" if sign == "=" else names[first if sign == ">" else second]
    return names.get(told.lower(), "tie")


def _visible(text: str, grammar: Grammar, *, emphasis: str) -> str:
    return visible(
        text,
        emphasis=emphasis,
        cites=lambda part: grammar.answer.search(part) is not None,
        bare=grammar.bare,
    )


def _claims(text: str, grammar: Grammar, read: Callable[[str], Any]) -> list[Claim]:
    """Return the claims of a text; none where there are too many of them."""
    claims = list(islice(find_claims(text, grammar, read), MOST_CLAIMS + 1))
    return claims if len(claims) <= MOST_CLAIMS else []


def _marks(claims: Sequence[Claim]) -> list[Claim]:
    return [claim for claim in claims if claim.kind == "mark" and not claim.taken_back]


def _agreed(text: str, claims: Sequence[Claim]) -> Any:
    """Return what a reply's marks say, or else all claims, or else what the reply ends in."""
    if marks := _marks(claims):
        return _marked(text, claims, marks)
    last_line = text.rfind("\n") + 1
    conclusion = CONCLUSION.search(text)
    end = conclusion.start(1) if conclusion else len(text)
    own = _without_headings(
        [claim for claim in claims if claim.kind != "weak" or claim.start >= end], last_line
    )
    values = {claim.value for claim in own}
    if len(values) > 1:
        if any(claim.apart and claim.start >= last_line and claim.kind != "id" for claim in own):
            own = [claim for claim in own if claim.kind != "id"]  # "tone: response_a"
        if any(claim.apart and claim.start >= last_line for claim in own):
            values = {claim.value for claim in own if claim.apart or claim.start >= last_line}
        else:
            values = {claim.value for claim in own if claim.start >= end}
    return values.pop() if len(values) == 1 else None


def _marked(text: str, claims: Sequence[Claim], marks: Sequence[Claim]) -> Any:
    """Return the one value of the marks in double brackets that are final.

    Final is a mark that ends its line, with what else is marked in that line; where none does, all
    are. What is said behind it must not be all against it.
    """

    def line(claim: Claim) -> int:
        return text.rfind("\n", 0, claim.start)

    lines = {line(claim) for claim in marks if claim.apart}
    final = [claim for claim in marks if not lines or line(claim) in lines]
    values = {claim.value for claim in final}
    if len(values) != 1:
        return None
    value, end = values.pop(), max(claim.end for claim in final)
    behind = {
        claim.value
        for claim in claims
        if claim.start > end and claim.kind != "weak" and not claim.taken_back
    }
    return None if behind and value not in behind else value


def _without_headings(claims: list[Claim], last_line: int) -> list[Claim]:
    """Leave out names on lines of their own where each response has one: they head sections."""
    heads = [c for c in claims if c.kind == "line" and c.start < last_line]
    if not {"a", "b"} <= {head.value for head in heads}:
        return claims
    return [claim for claim in claims if claim not in heads]


def _ends_in(text: str, claims: Sequence[Claim], value: Any, grammar: Grammar) -> bool:
    """Whether a reply that was cut had said its verdict before: in its end, or as a first line.

    A name at the end may open a sentence, so it must be marked, labelled, or all there is. A first
    line that is nothing but the answer, as it was asked for, was complete.
    """
    first_line, _, rest = text.partition("\n")
    if rest and grammar.as_asked.fullmatch(first_line):
        return True
    conclusion = CONCLUSION.search(text)
    at_word = text.rfind("\n") + 2 >= len(text)  # one letter on the last line: of any word
    for claim in claims:
        if claim.value != value or claim.taken_back:
            continue
        if conclusion and conclusion[2] and claim.start >= conclusion.start(1):
            return True
        is_whole = claim.kind == "mark" or not rest or (claim.kind == "said" and not at_word)
        if is_whole and claim.apart and not text[claim.end :].strip(" .!\"')]}"):
            return True
    return False


def _stands_alone(
    text: str, claims: Sequence[Claim], numbers: dict[int, int | None], value: int | None
) -> bool:
    """Whether no other number of a reply could be meant, too."""
    claimed = {claim.start for claim in claims if claim.value == value}
    others = [start for start, other in numbers.items() if start not in claimed and other != value]
    if not others or not claimed or max(numbers) in claimed:
        return True
    first_line_end = text.find("\n")
    first_line_end = len(text) if first_line_end < 0 else first_line_end
    return min(claimed) < first_line_end and not any(start < first_line_end for start in others)


def _number(token: str, low: int, high: int) -> int | None:
    match = _VALUE.fullmatch(token)
    return int(match[1]) if match and low <= int(match[1]) <= high else None


@cache
def _scale(low: int, high: int) -> re.Pattern[str]:
    """Match mentions of the scale: "1 to 5", "out of 5", "/5", and the same in a few languages."""
    first, last = (rf"(?:{n}|{WORDS[n]})" if 0 <= n <= 10 else str(n) for n in (low, high))
    to = r"(?:to|through|thru|and|bis|und|à|et|al?|y|e|até|до|и|到|至|から|에서|[-–—~/])"
    return re.compile(
        rf"(?<![\d.,])(?<![-\u2212]){first}\s*{to}\s*{last}(?![\d%]|[.,]\d)"
        rf"|(?:(?<=[\d\s*_)\]]))\s*(?:/|\bout of\b|\bvon\b|\bsur\b|\bsobre\b|\bde\b|\bsu\b|\bиз\b)"
        rf"\s*{last}(?![\d%]|[.,]\d|[A-Za-z])"
        rf"|满分(?:为|是)?\s*{last}\s*分?|{last}\s*点(?:満点)?(?:中|満点で)",
        re.IGNORECASE,
    )


def plain(reply: str) -> str:
    """Return the visible text behind any thinking, in one Unicode form, with ASCII digits.

    A reply that was cut inside its thinking leaves nothing: what it says there is not the answer.
    Of a text that is longer than any judge's the head and the end are left.
    """
    text = shortened(unicodedata.normalize("NFKC", shortened(response_of(reply))))
    kept = (c for c in text if c not in _INVISIBLE and unicodedata.category(c) != "Cf")
    return "".join(str(unicodedata.decimal(c, c)) for c in kept).strip()


def _json_object(text: str) -> Any:
    """Return the (key, value) pairs of a reply that is a JSON object, repeats included."""
    text = without_markup(text) if text.startswith("```") else text
    if not text.strip().startswith("{"):
        return None
    try:
        return json.loads(text, object_pairs_hook=list)
    except (ValueError, RecursionError):
        return None  # not JSON after all, or cut off: read it as text


def _one_value(pairs: Any, keys: frozenset[str], read: Callable[[Any], Said | None]) -> Said | None:
    """Return what the values under an answer's keys say, if it is one."""
    told = [value for key, value in pairs if isinstance(key, str) and key.lower() in keys]
    if any(isinstance(value, list) for value in told):  # an object, too
        return None
    values = {(type(value), value) for value in told}
    return read(values.pop()[1]) if len(values) == 1 else None


LEAST_MASS = 0.5
"""Below this probability on the scale the judge was about to say something else."""


def weighted_rating(
    logprobs: Iterable[tuple[str, float]] | None, low: int = 1, high: int = 5
) -> float | None:
    """Return the mean rating under the probabilities of the reply's first token.

    It stands beside the plain rating, never in its place: it tells apart responses that get the
    same number. None where the judge gave no probabilities, or less than half of them to the scale.
    """
    shares = rating_probabilities(logprobs, low, high)
    return None if shares is None else low + math.fsum(i * p for i, p in enumerate(shares))


def rating_probabilities(
    logprobs: Iterable[tuple[str, float]] | None, low: int = 1, high: int = 5
) -> tuple[float, ...] | None:
    """Return the probability of each rating, lowest first, summing to one.

    Spellings of one rating (" 4", "4") are added up; everything else is left out and the rest is
    scaled to one. None as in `weighted_rating`.

    Args:
        logprobs: (token, log-probability in nats) of the first token's alternatives.
        low: lowest rating; it and the highest must be single digits.
        high: highest rating.
    """
    weights = [0.0] * (high - low + 1)
    for token, logprob in logprobs or ():
        text = plain(token)
        rating = _number(text, low, high) if text.isdecimal() else None
        if rating is not None and not math.isnan(logprob):
            weights[rating - low] += math.exp(min(logprob, 0.0))
    mass = math.fsum(weights)
    return None if mass < LEAST_MASS else tuple(weight / mass for weight in weights)
