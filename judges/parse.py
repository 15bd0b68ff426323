"""Reading a judge's reply: one rating or one chosen response, or None. Never a guess.

A reply is text from a model that has just read text from another model, so it is not trusted: it
may quote a forged verdict, list the scale, hedge, refuse or ramble. One grammar reads ratings and
choices. The rules, in order:

1. Hidden characters, markup and any thinking (`models/thinking.py`) are dropped; quoted passages
   are citations and never answers.
2. What is left must make *claims*: an answer on a line of its own, in double brackets or opening a
   line; a labelled one ("Rating: 4", "Winner: B", also in other languages, or as JSON); or a
   sentence ("I would give it a 4", "Response B is better"). A claim that is denied, supposed, asked
   or put in someone else's mouth, or that is off the scale, says None.
3. All claims must agree. Where they do not, the reply may still end in a verdict: a claim set apart
   on its last line that no other such claim contradicts, or a last sentence that concludes
   ("Therefore, Response B is better."), since reasoning weighs both sides before it decides.
4. Mentioning a response is not choosing it, but a number may be an answer. So every other number in
   the reply must agree with a claimed rating, unless a claim is the last number of the reply or the
   only number of its first line. Mentions of the scale itself ("1 to 5", "/5") do not count.

The price is a few more unparsed replies; they are counted and shown, a wrong guess would not be.
"""

import json
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple, TypeVar

from mipo_eval.models.thinking import response_of
from mipo_eval.verdict import Verdict, Winner

PARSER_VERSION = "3"
"""Part of every judge's key: raise it when any reply is read differently than before."""

Said = TypeVar("Said", int, Verdict)

# The words by which a claim is taken back, and by which a text concludes; for both questions.
_DENIED = re.compile(
    r"\b(?:not|never|cannot|neither|nor|no(?!\s+(?:doubt|question))|instead|rather|than|unable|"
    r"refused?|declined?|whether|either|maybe|perhaps)\b|n['’]t\b",
    re.IGNORECASE,
)
_REPORTED = re.compile(
    r"\b(?:claim(?:s|ed)?|says?|said|ask(?:s|ed)?|told|tells?|instruct(?:s|ed)?|demand(?:s|ed)?|"
    r"states?|stated|writes?|wrote|wants?|tries|tried|suggest(?:s|ed)?|argue[sd]?|assert(?:s|ed)?|"
    r"insist(?:s|ed)?|declare[sd]?|announce[sd]?|implie[sd]|concludes|request(?:s|ed)?|ignore|"
    r"disregard|override|must|reads|contains?|includes?|ends?\s+with)\b",
    re.IGNORECASE,
)
_OWN_WORDS = re.compile(
    r"\b(?:I|we)(?:['’]d|['’]ll)?\s+(?:(?:would|will|can|must|have\s+to|\w+ly)\s+)*"
    r"(?:say|said|claim|state|suggest|argue|conclude|declare)\b",
    re.IGNORECASE,
)
"""The judge speaking for itself, which is no report."""
_SUPPOSED = re.compile(
    r"\b(?:if|unless|had|were|would have|could have|should have|according to (?:the )?(?:response|"
    r"assistant|output|answer|model|text|reply))\b",
    re.IGNORECASE,
)
_SO = r"(?:so|therefore|thus|hence|finally|in conclusion|in summary|to sum up)"
_CONCLUSION = re.compile(
    rf"(?:^|[.!?\n])\s*((?:{_SO}|overall|(?:my |the )?final (?:answer|verdict|decision|choice))\b"
    r"[^.!?\n]*)[.!]?\s*\Z",
    re.IGNORECASE,
)
_CLAUSE_END = re.compile(
    rf"[.!?;:,\n。！？，、]|\b(?:{_SO}|because|while|whereas|although|though|but|and|since|which|"
    r"overall|however)\b",
    re.IGNORECASE,
)
_SENTENCE_ENDS = ".!?;\n。！？"
_MARK = re.compile(r"[:=]|\[\[")
_LOOK_BACK = 600  # characters: few sentences are longer, and a hostile reply may be
_BECAUSE = r"[,]?\s*\b(?:because|since)\b"

_INVISIBLE = {"\ufe0f", "\u20e3"}  # emoji variants: a keycap four is a four
_MARKUP = (
    (re.compile(r"^\s*```\w*\s*$", re.MULTILINE), ""),
    (re.compile(r"^\s*>.*$", re.MULTILINE), ""),
    (re.compile(r"</?[A-Za-z|!][^<>\n]{0,40}>"), " "),
    (re.compile(r"\\(?:boxed|text|textbf|mathbf)\{([^{}]*)\}"), r" \1 "),
    (re.compile(r"\$([^$\n]*)\$|\\\(|\\\)|\\\[|\\\]"), r" \1 "),
)
"""Code fences, quoted lines, tags, boxes and formulas, with what is left of each."""
_QUOTED = re.compile(
    r'"([^"]*)"|“([^”]*)”|„([^“”]*)[“”]|«([^»]*)»|「([^」]*)」|『([^』]*)』'
    r"|(?<!\w)'([^'\n]*)'(?!\w)|(?<!\w)‘([^’\n]*)’(?!\w)"
)
_OPEN_QUOTE = re.compile(r'"[^"]*\Z')


class _Claim(NamedTuple):
    """One place where a reply gives an answer."""

    start: int
    """Where the answer itself starts."""
    value: Any
    """None when it is denied, supposed, reported, asked, or not on the scale."""
    apart: bool
    """Whether it ends its line and is bare, in double brackets or after a colon: a verdict."""


class _Grammar(NamedTuple):
    """The forms of a claim; the group of a form that matched is the answer."""

    plain: Sequence[re.Pattern[str]]
    """On a line of its own, or opening one: what stands before it cannot take it back."""
    worded: Sequence[re.Pattern[str]]
    """After a label, or in a sentence."""
    after: re.Pattern[str]
    """What may follow a claim that ends its line."""
    hedged: re.Pattern[str]
    """What takes back a worded claim besides the words above."""


# Ratings: a number.
_WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
_RATING_KEYS = frozenset({"rating", "score", "grade", "answer", "verdict", "overall_rating"})
_RATING_LABEL = (
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
_NUMBER_BETWEEN = (
    rf"(?:{_JOIN}|\b(?:is|was|be|being|would|should|will|of|a|an|the|this|that|it|its|to|as|at|"
    r"for|response|text|reply|preference|item|given|solid|strong|clear|rating|score|grade|"
    r"ist|est|es|é|è|eine?|une?|una?|um|uma)\b|是|为|為|は|が|を|는|은|है){0,40}?"
)
_RATING_VERB = (
    r"\b(?:rate[sd]?|give[sn]?|gave|giving|score[sd]?|assign(?:ed)?|award(?:ed)?|graded?|say|"
    r"choose|pick|go with|deserves?|earns?|gets?|merits?|receives?|settle on)\b"
)
_NUMBER_EDGE = r"[\s\"'()\[\]{}<>.!,#=|]*"
_RATINGS = _Grammar(
    plain=(
        re.compile(rf"^{_NUMBER_EDGE}({_NUMBER}){_UNIT}{_NUMBER_EDGE}$", re.M | re.I),
        re.compile(rf"^[\s(\[]*({_NUMBER}){_UNIT}[\s)\]]*(?:[-–—:,;(]|{_BECAUSE})", re.M | re.I),
    ),
    worded=(
        re.compile(rf"{_RATING_LABEL}[\s)\]}}|]*[:=]{_JOIN}*({_NUMBER})", re.I),
        re.compile(
            rf"(?:{_RATING_LABEL}|{_RATING_VERB}|\b{_SO}\b[,:]?){_NUMBER_BETWEEN}({_NUMBER})", re.I
        ),
        re.compile(rf"\[\[\s*({_NUMBER})\s*\]\]"),
    ),
    after=re.compile(rf"{_UNIT}{_NUMBER_EDGE}$", re.M | re.I),
    hedged=re.compile(
        r"\b(?:almost|nearly|least|most|below|above|under|over|short|lacks?|fails?|merely)\b"
        r"|[<>≤≥≠~≈]",
        re.IGNORECASE,
    ),
)
_BARE_NUMBER = re.compile(rf"\s*{_NUMBER}\s*\.?\s*")
_NUMBER_WORD = re.compile(
    rf"{_NUMBER_EDGE}(?:(?:{_RATING_LABEL}|{_RATING_VERB}){_NUMBER_BETWEEN})?"
    rf"\s*({'|'.join(_WORDS)}){_UNIT}{_NUMBER_EDGE}",
    re.IGNORECASE,
)

# Choices: a name, or a tie.
_CHOICE_KEYS = frozenset(
    {"winner", "answer", "verdict", "choice", "better", "preferred", "decision", "response"}
)
_NAME = (
    r"(?:(?<![^\W_])(?:responses?|assistant|output|option|answer|model|candidate|text|reply|version|"
    r"choice|respuesta|réponse|risposta|resposta|antwort|ответ|回答|回复|응답|답변)"
    r"[\s_-]*[(\[\"']*([ab])(?![\w'’])[)\]\"']*)"
)
_MARKED = r"\[{1,2}([ab])\]{1,2}|\(([ab])\)"
_EITHER = rf"(?:{_NAME}|{_MARKED}|(?<![\w'’.])([ab])(?![\w'’]))"
_IN_PROSE = rf"(?:{_NAME}|{_MARKED}|(?<![\w'’.])((?-i:[ABb]))(?![\w'’]))"
"""A lone small "a" is the article."""
_TIE = (
    r"(\ba\s+(?:tie|draw)\b|\btie[ds]?\b|\bdraw\b|\[\[c\]\]|\bboth\s+(?:are\s+)?equal(?:ly)?\b|"
    r"\bequally\s+(?:good|bad|well|helpful|strong)\b|\bneither\s+is\s+better\b)"
)
_NAME_EDGE = r"[\s\"'{}<>.!,:;#=|]*"
_CHOICE_LABEL = (
    r"(?:\b(?:answer|verdict|winner|choice|decision|judge?ment|selection|preference|preferred|"
    r"conclusion|result|better(?:\s+(?:one|response|output|answer|option|assistant))?|"
    r"best(?:\s+(?:one|response|output|answer|option|assistant))?|"
    r"veredicto|ganadora?|conclusión|urteil|gewinner|ergebnis|gagnante?|vainqueur|vencedora?|"
    r"vincitore|veredito|verdetto|вывод|победитель|вердикт|ответ|respuesta|antwort|réponse)\b|"
    r"结论|結論|胜者|获胜者|答案|选择|勝者|판정|결론|승자|정답|선택)"
)
_CHOICE_VERB = (
    r"\b(?:choose|chose|prefer|pick|select|go with|favou?r|vote for|say|conclude(?: that)?)\b"
)
_NAME_BETWEEN = r"(?:[\s:=\-–—>|]|\b(?:is|was|would be|must be|the|that|it|this|to|be)\b){0,40}"
_ADVERB = (
    r"(?:clearly|slightly|much|overall|definitely|significantly|far|a bit|a little|marginally|"
    r"obviously|therefore|also|still|generally|the|a|more|one)"
)
_GOOD = (
    r"(?:better|best|superior|preferred|preferable|stronger|winner|more\s+\w+(?:ly)?"
    r"(?:\s+(?:response|output|answer|one))?)"
)
_CHOICES = _Grammar(
    plain=(
        re.compile(rf"^{_NAME_EDGE}{_EITHER}{_NAME_EDGE}(?<!:)$", re.M | re.I),
        re.compile(
            rf"^\s*(?:{_NAME}\s*\.|{_IN_PROSE}\s*(?:[-–—]|\([^()\n]*\)\W*$|{_BECAUSE}))",
            re.M | re.I,
        ),
        re.compile(rf"^{_NAME_EDGE}{_TIE}{_NAME_EDGE}$", re.M | re.I),
    ),
    worded=(
        re.compile(rf"(?:{_CHOICE_LABEL}|{_CHOICE_VERB}){_NAME_BETWEEN}{_IN_PROSE}", re.I),
        re.compile(
            rf"{_IN_PROSE}\s+(?:(?:is|was|seems|appears|would be|to be)\s+)+"
            rf"(?:{_ADVERB}\s+)*{_GOOD}\b|{_IN_PROSE}\s+(?:clearly\s+)?wins\b",
            re.I,
        ),
        re.compile(
            r"\[\[(?:([ab])(?:>{1,2}[ab])?|([ab]=[ab]))\]\]|[:=]\s*response_([ab])(?=\W*$)",
            re.M | re.I,
        ),
        re.compile(
            rf"(?:{_CHOICE_LABEL}|{_CHOICE_VERB}|\bit(?:['’]s| is)\b|\bcall it\b)"
            rf"{_NAME_BETWEEN}{_TIE}|(\bboth\b)[^.\n]{{0,300}}\b(?:equal|equally)\b",
            re.I,
        ),
    ),
    after=re.compile(rf"{_NAME_EDGE}$", re.M),
    hedged=re.compile(r"\b(?:worse|worst|weaker|weakest|loser|losing|rejected)\b", re.IGNORECASE),
)
_BARE_NAME = re.compile(rf"\s*{_EITHER}\s*", re.IGNORECASE)
_ANY_NAME = re.compile(rf"{_EITHER}|{_TIE}", re.IGNORECASE)


def parse_rating(reply: str, low: int = 1, high: int = 5) -> int | None:
    """Return the one rating from `low` to `high` that a raw reply gives, or None.

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
    text = _without_markup(text, emphasis="*`_")
    text = _without_citations(text, lambda part: bool(re.search(r"\d", part)), _BARE_NUMBER)
    text = _scale(low, high).sub(" ", text)
    if word := _NUMBER_WORD.fullmatch(text):
        return _number(str(_WORDS.index(word[1].lower())), low, high)
    numbers = {
        match.start(): _number(match[0], low, high)
        for match in _TOKEN.finditer(text)
        if not match[0][-1].isalpha()  # "4th" and "3D" are words
    }
    claims = [
        claim
        for claim in _claims(text, _RATINGS, lambda told: _number(told, low, high))
        if claim.start in numbers
    ]
    value: int | None = _agreed(text, claims)
    return value if _stands_alone(text, claims, numbers, value) else None


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

    def from_json(value: Any) -> Verdict | None:
        is_text = isinstance(value, str) and not value.lstrip().startswith("{")
        return parse_verdict(value) if is_text else None

    names: dict[str, Verdict] = {"a": "a", "b": "b"}
    text = plain(reply)
    if (pairs := _json_object(text)) is not None:
        return _one_value(pairs, _CHOICE_KEYS, from_json)
    text = _without_markup(text, emphasis="*`")
    text = _without_citations(text, lambda part: bool(_ANY_NAME.search(part)), _BARE_NAME)
    claims = list(_claims(text, _CHOICES, lambda told: names.get(told.lower(), "tie")))
    verdict: Verdict | None = _agreed(text, claims)
    return verdict


def _claims(text: str, grammar: _Grammar, read: Callable[[str], Any]) -> Iterator[_Claim]:
    """Yield every claim of a text, in terms of `read`."""
    for pattern in (*grammar.plain, *grammar.worded):
        for match in pattern.finditer(text):
            group = next(i for i, told in enumerate(match.groups(), 1) if told)
            start, end = match.span(group)
            worded = pattern in grammar.worded
            denied = worded and _is_denied(text, match, start, grammar.hedged)
            asked = "?" in {text[at : at + 1] for at in (end, match.end())}
            marked = pattern is grammar.plain[0] or _MARK.search(text, match.start(), start)
            apart = bool(marked and grammar.after.match(text, match.end()))
            yield _Claim(start, None if denied or asked else read(match[group]), apart)


def _is_denied(text: str, match: re.Match[str], answer: int, hedged: re.Pattern[str]) -> bool:
    """Whether the words before a claim take it back, or put it in someone else's mouth."""
    at = match.start()
    low = max(0, at - _LOOK_BACK)
    sentence = text[max(low, *(text.rfind(end, low, at) + 1 for end in _SENTENCE_ENDS)) : at]
    clause = _CLAUSE_END.split(sentence)[-1]
    label = _CLAUSE_END.split(sentence.rstrip(" :=([{"))[-1]
    # "It ends with these lines:", and then the line.
    line = text[low:at].rpartition("\n")[0].rstrip().rpartition("\n")[2]
    return bool(
        (line.endswith(":") and _REPORTED.search(line))
        or _DENIED.search(clause + text[at:answer])
        or hedged.search(label + text[at:answer])
        or _REPORTED.search(_OWN_WORDS.sub(" ", clause))
        or _SUPPOSED.search(sentence)
    )


def _agreed(text: str, claims: Sequence[_Claim]) -> Any:
    """Return what all claims say, or, where they differ, what the reply ends in; else None."""
    values = {claim.value for claim in claims}
    if len(values) > 1:
        last_line = text.rstrip().rfind("\n") + 1
        if any(claim.apart and claim.start >= last_line for claim in claims):
            values = {c.value for c in claims if c.apart or c.start >= last_line}
        elif last := _CONCLUSION.search(text):
            values = {claim.value for claim in claims if claim.start >= last.start(1)}
    return values.pop() if len(values) == 1 else None


def _stands_alone(
    text: str, claims: Sequence[_Claim], numbers: dict[int, int | None], value: int | None
) -> bool:
    """Whether no other number of a reply could be meant, too."""
    claimed = {claim.start for claim in claims if claim.value == value}
    others = [start for start, other in numbers.items() if start not in claimed and other != value]
    if not others or not claimed or max(numbers) in claimed:
        return True
    first_line_end = text.find("\n", len(text) - len(text.lstrip()))
    first_line_end = len(text) if first_line_end < 0 else first_line_end
    return min(claimed) < first_line_end and not any(start < first_line_end for start in others)


def _number(token: str, low: int, high: int) -> int | None:
    match = _VALUE.fullmatch(token)
    return int(match[1]) if match and low <= int(match[1]) <= high else None


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


def plain(reply: str) -> str:
    """Return the visible text behind any thinking, in one Unicode form, with ASCII digits.

    A reply that was cut inside its thinking leaves nothing: what it says there is not the answer.
    """
    text = unicodedata.normalize("NFKC", response_of(reply))
    kept = (c for c in text if c not in _INVISIBLE and unicodedata.category(c) != "Cf")
    return "".join(str(unicodedata.decimal(c, c)) for c in kept).strip()


def _without_markup(text: str, *, emphasis: str) -> str:
    for pattern, kept in _MARKUP:
        text = pattern.sub(kept, text)
    return text.translate(dict.fromkeys(map(ord, emphasis), " "))


def _without_citations(text: str, answers: Callable[[str], bool], bare: re.Pattern[str]) -> str:
    """Blank out quoted passages that could be taken for an answer.

    `answers` knows what looks like one; quoting `bare` alone is emphasis, not a citation. A mark
    that is never closed is taken to cite everything after it.
    """

    def replace(match: re.Match[str]) -> str:
        inside = next(group for group in match.groups() if group is not None)
        return inside if bare.fullmatch(inside) or not answers(inside) else " … "

    return _OPEN_QUOTE.sub(lambda m: " … " if answers(m[0]) else m[0], _QUOTED.sub(replace, text))


def _json_object(text: str) -> Any:
    """Return the (key, value) pairs of a reply that is a JSON object, repeats included."""
    text = _without_markup(text, emphasis="") if text.startswith("```") else text
    if not text.strip().startswith("{"):
        return None
    try:
        return json.loads(text, object_pairs_hook=list)
    except (ValueError, RecursionError):
        return None  # not JSON after all, or cut off: read it as text


def _one_value(pairs: Any, keys: frozenset[str], read: Callable[[Any], Said | None]) -> Said | None:
    """Return what the values under an answer's keys say, if it is one."""
    values = {
        json.dumps(value) for key, value in pairs if isinstance(key, str) and key.lower() in keys
    }
    return read(json.loads(values.pop())) if len(values) == 1 else None


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
        if text.isdecimal() and low <= int(text) <= high:
            weights[int(text) - low] += math.exp(logprob)
    mass = math.fsum(weights)
    return None if mass < LEAST_MASS else tuple(weight / mass for weight in weights)
