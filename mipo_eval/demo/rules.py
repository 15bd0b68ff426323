"""The demo world's judge: it rates by exact rule, and never errs or tires.

Every rule goes from the text of a response to how well it follows one preference: 5 is followed, 1
not at all, and between them stand the degrees written at each rule.

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
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise

from mipo_eval.demo.grammar import BY_STATEMENT, topic_heads
from mipo_eval.models.base import Failure, Reply, Request

VERSION = "2"
"""Changes with every change of a rule, so that no rating of an older rule is taken for new."""

SATISFIED = 4
"""The least rating of a wish that counts as satisfied."""

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


def incoherence(response: ResponseText, query: str, preference: str) -> str | None:
    """Return why a response is no answer to the query, or None if it is one.

    Args:
        response: what is to be rated.
        query: what the user asked, with or without the user's context.
        preference: the preference to be rated; echoing it is no answer.
    """
    if not response.words:
        return "empty"
    if _TO_JUDGE.search(response.text):
        return "speaks to the judge"
    if _repeats(response):
        return "repeats itself"
    if not _reads_as_english(response):
        return "is not English"
    return _no_advice(response, query, preference)


def _no_advice(response: ResponseText, query: str, preference: str) -> str | None:
    echoed = f"{_plain(query)} {_plain(preference)}"
    statements = [
        sentence
        for sentence in response.sentences
        if not is_question(sentence) and _plain(sentence) not in echoed
    ]
    if len(content_words(" ".join(statements)) - content_words(query)) < 2:
        return "says nothing new"
    if not any(_is_on_topic(sentence, query) for sentence in statements):
        return "gives no advice on the topic"
    return None


def _plain(text: str) -> str:
    return " ".join(words_of(text))


def _repeats(response: ResponseText) -> bool:
    sentences = [_plain(sentence) for sentence in response.sentences]
    neighbours = (pairwise(sentence.split()) for sentence in sentences)
    return (
        len(set(sentences)) < len(sentences)
        or any(first == second for pairs in neighbours for first, second in pairs)
        or len(set(response.words)) < 0.4 * len(response.words)
    )


def _reads_as_english(response: ResponseText) -> bool:
    function_words = sum(word in FUNCTION_WORDS for word in response.words)
    if not 0.15 <= function_words / len(response.words) <= 0.85:
        return False
    if response.sentences[0][0].islower():
        return False
    return not any(_breaks_grammar(words_of(sentence)) for sentence in response.sentences)


def _breaks_grammar(words: list[str]) -> bool:
    """Tell whether two neighbours stand together that no English sentence puts together."""
    if words[-1] in _BEFORE_NOTHING or words[0] in {"of", "than"}:
        return True
    return any(
        (first in _DETERMINERS and second in _AFTER_DETERMINER)
        or (first in _CONJUNCTIONS and second in _CONJUNCTIONS | {"of", "than"})
        for first, second in pairwise(words)
    )


def _is_on_topic(sentence: str, query: str) -> bool:
    content, asked = content_words(sentence), content_words(query)
    heads = {_singular(head) for head in topic_heads(query) or asked}
    return len(words_of(sentence)) >= 4 and bool(content & heads) and bool(content - asked)


Rule = Callable[[ResponseText], int]

_TONES = {
    "warm": r"lovely|wonderful|so glad|good for you|great question|how nice|cheering"
    r"|you(?:'ll| will) do (?:great|fine|well)|you(?:'ve| have) got this|enjoy every"
    r"|proud of|well done|happy for you",
    "formal": r"thank you for your|pleasure to|allow me|permit me|grateful|kindly|disposal"
    r"|accept my|i trust|yours (?:faithfully|sincerely)|i wish you|dear (?:sir|madam)",
    "playful": r"drum roll|hold on to your|aha|superstar|beep|ta-da|confetti|high five"
    r"|take a bow|applaud|haha|abracadabra|captain",
}

_AUDIENCES = {
    "beginner": (
        r"first time|no experience|complete beginner|everyone starts|new to (?:this|it)"
        r"|first project|at the very start",
        r"beginners?",
    ),
    "expert": (
        r"you know the basics|your experience|experienced|old hand|know most of this"
        r"|your own routine",
        r"as you (?:may )?know|as an expert",
    ),
    "child": (
        r"grown-ups?|a parent|mum or dad|kids|like a game|small mission",
        r"young (?:hands|helpers?|readers?)",
    ),
    "budget": (
        r"cost much|already have at home|buy anything new|borrow|very little money|save money"
        r"|spend much",
        r"small budget|on a budget|tight budget|cheap(?:ly)?",
    ),
}
"""Per audience: what a sentence for it says, and what a passing mention says."""

_NUMBERED = re.compile(r"^(?P<mark>\d+)[.)]\s+(?P<point>.*)$")
_BULLET = re.compile(r"^(?P<mark>[-*•])\s+(?P<point>.*)$")
_BOLD = re.compile(r"\*\*([^*\n]+)\*\*")
_SUMMARY = re.compile(
    r"^(?:in short|in brief|in a nutshell|the short version|the quick answer|put simply"
    r"|to sum up|tl;dr)\b",
    re.IGNORECASE,
)


def _cue(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{pattern})\b", re.IGNORECASE)


def _one_kind(own: Rule, others: Iterable[str]) -> Rule:
    """Return the rule, with at most 2 where the response has a cue of another kind as well."""
    other = _cue("|".join(others))

    def rating(response: ResponseText) -> int:
        return min(own(response), 2) if other.search(response.text) else own(response)

    return rating


def _tone(pattern: str) -> Rule:
    """5 with two signs of the tone, 4 with one."""
    cue = _cue(pattern)

    def rating(response: ResponseText) -> int:
        signs = {match.lower() for match in cue.findall(response.text)}
        return {0: 1, 1: 4}.get(len(signs), 5)

    return rating


def _audience(strong: str, weak: str) -> Rule:
    """5 with a sentence of four words or more for the audience, 3 with a mention."""
    strong_cue, weak_cue = _cue(strong), _cue(weak)

    def rating(response: ResponseText) -> int:
        if any(strong_cue.search(one) and len(words_of(one)) >= 4 for one in response.sentences):
            return 5
        return 3 if weak_cue.search(response.text) else 1

    return rating


def _points(mark: re.Pattern[str], other: re.Pattern[str]) -> Rule:
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


def _summary(response: ResponseText) -> int:
    """5 for a summary in the first two sentences with details after it, 3 elsewhere."""
    places = [
        index
        for index, sentence in enumerate(response.sentences)
        if _SUMMARY.match(sentence) and len(words_of(sentence)) >= 4
    ]
    if not places:
        return 1
    return 5 if places[0] < 2 and places[0] < len(response.sentences) - 1 else 3


def _bold(response: ResponseText) -> int:
    """5 for some bold words, 3 where bold is five words or more in a row or a third of the text."""
    spans = [len(words_of(span)) for span in _BOLD.findall(response.text)]
    if not any(spans):
        return 1
    return 5 if max(spans) <= 4 and sum(spans) * 3 <= len(response.words) else 3


def _by_steps(value: float, steps: Mapping[int, float]) -> int:
    """Return the best rating whose limit `value` keeps; 1 if it keeps none."""
    return next((rating for rating, limit in steps.items() if value <= limit), 1)


def _short_sentences(response: ResponseText) -> int:
    """5 if no sentence has more than ten words; a single sentence is no style: 3 at most."""
    longest = max((len(words_of(sentence)) for sentence in response.sentences), default=0)
    rating = _by_steps(longest, {5: 10, 4: 11, 3: 13, 2: 16})
    return rating if len(response.sentences) > 1 else min(rating, 3)


def _said(strong: str, weak: str) -> Rule:
    """5 if a sentence says it with three words or more after the cue, 3 for a mention."""
    strong_cue, weak_cue = _cue(strong), _cue(weak)

    def rating(response: ResponseText) -> int:
        for sentence in response.sentences:
            match = strong_cue.search(sentence)
            if match and len(words_of(sentence[match.end() :])) >= 3:
                return 5
        return 3 if weak_cue.search(response.text) else 1

    return rating


def _question(response: ResponseText) -> int:
    """5 if the last sentence is a question of three words or more, 3 if another one is."""
    asked = [is_question(one) and len(words_of(one)) >= 3 for one in response.sentences]
    if not any(asked):
        return 1
    return 5 if asked[-1] else 3


_EXTRAS: Mapping[str, Rule] = {
    "example": _said(r"for example|for instance|e\.g\.,?", "such as|an example"),
    "caution": _said(
        "be careful|watch out|beware|a word of warning|caution|take care", "danger(?:ous)?|risk"
    ),
    "question": _question,
    "reason": _said("because", "the reason|that is why"),
}


def _extra(name: str) -> Rule:
    """The extra's own rule; at most 2 in an answer that has three extras for everybody's taste."""
    own = _EXTRAS[name]

    def rating(response: ResponseText) -> int:
        found = own(response)
        if found > 2 and sum(rule(response) >= SATISFIED for rule in _EXTRAS.values()) > 2:
            return 2
        return found

    return rating


RULES: Mapping[str, Rule] = {
    **{
        f"tone:{name}": _one_kind(_tone(own), {*_TONES.values()} - {own})
        for name, own in _TONES.items()
    },
    **{
        f"audience:{name}": _one_kind(
            _audience(strong, weak), {others for others, _ in _AUDIENCES.values()} - {strong}
        )
        for name, (strong, weak) in _AUDIENCES.items()
    },
    **{f"extra:{name}": _extra(name) for name in _EXTRAS},
    "format:numbered": _points(_NUMBERED, _BULLET),
    "format:bullets": _points(_BULLET, _NUMBERED),
    "format:summary": _summary,
    "format:bold": _bold,
    # In words: 5 up to 22, then one less for every five or so; 5 from 58 on, every six or so.
    "length:brief": lambda it: _by_steps(len(it.words), {5: 22, 4: 27, 3: 32, 2: 38}),
    "length:detailed": lambda it: _by_steps(-len(it.words), {5: -58, 4: -52, 3: -46, 2: -40}),
    "length:short_sentences": _short_sentences,
}
"""Rule by preference, "dimension:value"."""


class Checker:
    """A backend that replies "1" to "5" by the rule of the preference it is asked about.

    It reads the request's slots `query`, `response` and `preference`, not its messages. A response
    that is no coherent answer to the query (`incoherence`) is rated 1. A preference the
    checker has no rule for is a failure, never a number.
    """

    identity: Mapping[str, str] = {"backend": "checker", "model": "rules", "revision": VERSION}

    async def check(self) -> None:
        """Do nothing: rules can always be asked."""

    async def answer(
        self, requests: Iterable[Request]
    ) -> AsyncIterator[tuple[Request, Reply | Failure]]:
        """Yield each request with its rating, in order."""
        for request in requests:
            yield request, self.reply(request)

    def reply(self, request: Request) -> Reply | Failure:
        """Return the rating of one request, or why there is none."""
        missing = [
            name for name in ("query", "response", "preference") if name not in request.slots
        ]
        if missing:
            return Failure(
                kind="bad_request",
                detail=f"the checker rates one response on one preference and needs the slots"
                f" query, response and preference: {', '.join(missing)} missing",
            )
        preference = request.slots["preference"]
        if preference.strip() not in BY_STATEMENT:
            return Failure(
                kind="bad_request",
                detail=f"the checker has no rule for the preference {preference!r}:"
                " it rates items of the demo suite only",
            )
        return Reply(
            text=str(rate(request.slots["query"], request.slots["response"], preference)),
            finish_reason="stop",
            model=f"rules-{VERSION}",
        )


def rate(query: str, response: str, preference: str) -> int:
    """Return how well a response follows a preference, 1 (not at all) to 5.

    Args:
        query: what the user asked, with or without the user's context.
        response: the text to be rated.
        preference: the statement of one of the demo world's preferences.

    Raises:
        KeyError: there is no rule for this preference.
    """
    rule = RULES[BY_STATEMENT[preference.strip()].name]
    text = read(response)
    return 1 if incoherence(text, query, preference) else rule(text)
