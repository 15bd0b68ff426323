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
from collections.abc import Iterable, Mapping
from itertools import pairwise

from mipo_eval.demo.grammar import BY_STATEMENT, topic_heads
from mipo_eval.marks import (
    BULLET,
    FUNCTION_WORDS,
    NUMBERED,
    ResponseText,
    Rule,
    bold,
    by_steps,
    content_words,
    cue,
    is_question,
    plain,
    points,
    read,
    said,
    singular,
    word_set,
    words_of,
)
from mipo_eval.verdict import SATISFIED

VERSION = "2"
"""Changes with every change of a rule, so that no rating of an older rule is taken for new."""

_TO_JUDGE = re.compile(
    r"\b(?:ratings?|rate this|scores?|scoring|judges?|evaluators?|graders?|rubrics?|verdict"
    r"|criteri(?:on|a)|out of (?:5|five|ten|10)|[1-5]\s*/\s*5|preferences?"
    r"|(?:ignore|disregard|forget)\b[^.!?\n]*\b(?:above|previous|instructions?|rules?|prompt)"
    r"|(?:previous|system|above) (?:instructions?|prompts?|messages?)|response_[ab]"
    r"|perfect (?:answer|response)|fully (?:satisfied|addressed|meets))\b",
    re.IGNORECASE,
)
"""Words of someone who speaks to the judge; nothing in the demo world's grammar matches."""


_DETERMINERS = word_set("a an the your my our their every")
_AFTER_DETERMINER = word_set(
    """a an the your my our their every of to from into at and or but is are was were will can
    should must it you they we he she i if than"""
)
_BEFORE_NOTHING = word_set("a an the your my our their every of and or but than")
_CONJUNCTIONS = word_set("and or but")


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
    echoed = f"{plain(query)} {plain(preference)}"
    statements = [
        sentence
        for sentence in response.sentences
        if not is_question(sentence) and plain(sentence) not in echoed
    ]
    if len(content_words(" ".join(statements)) - content_words(query)) < 2:
        return "says nothing new"
    if not any(_is_on_topic(sentence, query) for sentence in statements):
        return "gives no advice on the topic"
    return None


def _repeats(response: ResponseText) -> bool:
    sentences = [plain(sentence) for sentence in response.sentences]
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
    heads = {singular(head) for head in topic_heads(query) or asked}
    return len(words_of(sentence)) >= 4 and bool(content & heads) and bool(content - asked)


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

_SUMMARY = re.compile(
    r"^(?:in short|in brief|in a nutshell|the short version|the quick answer|put simply"
    r"|to sum up|tl;dr)\b",
    re.IGNORECASE,
)


def _one_kind(own: Rule, others: Iterable[str]) -> Rule:
    """Return the rule, with at most 2 where the response has a cue of another kind as well."""
    other = cue("|".join(others))

    def rating(response: ResponseText) -> int:
        return min(own(response), 2) if other.search(response.text) else own(response)

    return rating


def _tone(pattern: str) -> Rule:
    """5 with two signs of the tone, 4 with one."""
    sign = cue(pattern)

    def rating(response: ResponseText) -> int:
        signs = {match.lower() for match in sign.findall(response.text)}
        return {0: 1, 1: 4}.get(len(signs), 5)

    return rating


def _audience(strong: str, weak: str) -> Rule:
    """5 with a sentence of four words or more for the audience, 3 with a mention."""
    strong_cue, weak_cue = cue(strong), cue(weak)

    def rating(response: ResponseText) -> int:
        if any(strong_cue.search(one) and len(words_of(one)) >= 4 for one in response.sentences):
            return 5
        return 3 if weak_cue.search(response.text) else 1

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


def _short_sentences(response: ResponseText) -> int:
    """5 if no sentence has more than ten words; a single sentence is no style: 3 at most."""
    longest = max((len(words_of(sentence)) for sentence in response.sentences), default=0)
    rating = by_steps(longest, {5: 10, 4: 11, 3: 13, 2: 16})
    return rating if len(response.sentences) > 1 else min(rating, 3)


def _question(response: ResponseText) -> int:
    """5 if the last sentence is a question of three words or more, 3 if another one is."""
    asked = [is_question(one) and len(words_of(one)) >= 3 for one in response.sentences]
    if not any(asked):
        return 1
    return 5 if asked[-1] else 3


_EXTRAS: Mapping[str, Rule] = {
    "example": said(r"for example|for instance|e\.g\.,?", "such as|an example"),
    "caution": said(
        "be careful|watch out|beware|a word of warning|caution|take care", "danger(?:ous)?|risk"
    ),
    "question": _question,
    "reason": said("because", "the reason|that is why"),
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
    "format:numbered": points(NUMBERED, BULLET),
    "format:bullets": points(BULLET, NUMBERED),
    "format:summary": _summary,
    "format:bold": bold,
    # In words: 5 up to 22, then one less for every five or so; 5 from 58 on, every six or so.
    "length:brief": lambda it: by_steps(len(it.words), {5: 22, 4: 27, 3: 32, 2: 38}),
    "length:detailed": lambda it: by_steps(-len(it.words), {5: -58, 4: -52, 3: -46, 2: -40}),
    "length:short_sentences": _short_sentences,
}
"""Rule by preference, "dimension:value"."""


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
