"""The exact rules: from the text of a response to how well it follows one preference, 1 to 5.

Every rule is a function of the response alone. 5 is followed, 1 not at all; between them stand the
degrees written at each rule. `satisfied` (a rating of 4 or 5) is the word the demo's shares use.
The rules do not ask whether the text is an answer at all: `reading.incoherence` does.
"""

import re
from collections.abc import Callable, Mapping

from mipo_eval.demo.reading import Reading, is_question, words_of

Rule = Callable[[Reading], int]

SATISFIED = 4
"""The lowest rating that counts as following the preference."""

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

_NUMBERED = re.compile(r"^(\d+)[.)]\s+(.*)$")
_BULLET = re.compile(r"^[-*•]\s+(.*)$")
_BOLD = re.compile(r"\*\*([^*\n]+)\*\*")
_SUMMARY = re.compile(
    r"^(?:in short|in brief|in a nutshell|the short version|the quick answer|put simply"
    r"|to sum up|tl;dr)\b",
    re.IGNORECASE,
)


def _cue(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{pattern})\b", re.IGNORECASE)


def _tone(name: str) -> Rule:
    """5 with two signs of the tone, 4 with one; at most 2 if another tone is there as well."""
    own = _cue(_TONES[name])
    others = [_cue(pattern) for other, pattern in _TONES.items() if other != name]

    def rate(reading: Reading) -> int:
        signs = {match.lower() for match in own.findall(reading.text)}
        rating = {0: 1, 1: 4}.get(len(signs), 5)
        mixed = any(other.search(reading.text) for other in others)
        return min(rating, 2) if mixed else rating

    return rate


def _audience(name: str) -> Rule:
    """5 with a sentence for the audience, 3 with a mention; at most 2 if it serves another too."""
    strong, weak = map(_cue, _AUDIENCES[name])
    others = [_cue(pattern) for other, (pattern, _) in _AUDIENCES.items() if other != name]

    def rate(reading: Reading) -> int:
        told = any(
            strong.search(sentence) and len(words_of(sentence)) >= 4
            for sentence in reading.sentences
        )
        rating = 5 if told else 3 if weak.search(reading.text) else 1
        mixed = any(other.search(reading.text) for other in others)
        return min(rating, 2) if mixed else rating

    return rate


def _numbered(reading: Reading) -> int:
    """5 for three numbered lines or more, 4 for two, 2 for one or for a wrong count."""
    found = [match for line in reading.lines if (match := _NUMBERED.match(line))]
    full = [match for match in found if len(words_of(match[2])) >= 3]
    if not full:
        return 1
    if [int(match[1]) for match in found] != list(range(1, len(found) + 1)):
        return 2
    rating = {1: 2, 2: 4}.get(len(full), 5)
    return min(rating, 2) if any(_BULLET.match(line) for line in reading.lines) else rating


def _bullets(reading: Reading) -> int:
    """5 for three bulleted lines or more, 4 for two, 2 for one or beside a numbered list."""
    full = [
        match
        for line in reading.lines
        if (match := _BULLET.match(line)) and len(words_of(match[1])) >= 3
    ]
    if not full:
        return 1
    rating = {1: 2, 2: 4}.get(len(full), 5)
    return min(rating, 2) if any(_NUMBERED.match(line) for line in reading.lines) else rating


def _summary(reading: Reading) -> int:
    """5 for a summary in the first two sentences with details after it, 3 elsewhere."""
    places = [
        index
        for index, sentence in enumerate(reading.sentences)
        if _SUMMARY.match(sentence) and len(words_of(sentence)) >= 4
    ]
    if not places:
        return 1
    return 5 if places[0] < 2 and places[0] < len(reading.sentences) - 1 else 3


def _bold(reading: Reading) -> int:
    """5 for some bold words, 3 where bold is five words or more in a row or a third of the text."""
    spans = [len(words_of(span)) for span in _BOLD.findall(reading.text)]
    if not any(spans):
        return 1
    return 5 if max(spans) <= 4 and sum(spans) * 3 <= len(reading.words) else 3


def _by_steps(value: float, steps: Mapping[int, float]) -> int:
    """Return the best rating whose limit `value` keeps; 1 if it keeps none."""
    return next((rating for rating, limit in steps.items() if value <= limit), 1)


def _brief(reading: Reading) -> int:
    """5 up to 22 words, then one less for every five or so."""
    return _by_steps(len(reading.words), {5: 22, 4: 27, 3: 32, 2: 38})


def _detailed(reading: Reading) -> int:
    """5 from 58 words on, then one less for every six or so."""
    return _by_steps(-len(reading.words), {5: -58, 4: -52, 3: -46, 2: -40})


def _short_sentences(reading: Reading) -> int:
    """5 if no sentence has more than ten words; a single sentence is no style: 3 at most."""
    longest = max((len(words_of(sentence)) for sentence in reading.sentences), default=0)
    rating = _by_steps(longest, {5: 10, 4: 11, 3: 13, 2: 16})
    return rating if len(reading.sentences) > 1 else min(rating, 3)


def _said(strong: str, weak: str) -> Rule:
    """5 if a sentence says it with three words or more after the cue, 3 for a mention."""
    strong_cue, weak_cue = _cue(strong), _cue(weak)

    def rate(reading: Reading) -> int:
        for sentence in reading.sentences:
            match = strong_cue.search(sentence)
            if match and len(words_of(sentence[match.end() :])) >= 3:
                return 5
        return 3 if weak_cue.search(reading.text) else 1

    return rate


def _question(reading: Reading) -> int:
    """5 if the last sentence is a question of three words or more, 3 if another one is."""
    asked = [
        is_question(sentence) and len(words_of(sentence)) >= 3 for sentence in reading.sentences
    ]
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

    def rate(reading: Reading) -> int:
        rating = own(reading)
        if rating > 2 and sum(rule(reading) >= SATISFIED for rule in _EXTRAS.values()) > 2:
            return 2
        return rating

    return rate


RULES: Mapping[str, Rule] = {
    **{f"tone:{name}": _tone(name) for name in _TONES},
    **{f"audience:{name}": _audience(name) for name in _AUDIENCES},
    **{f"extra:{name}": _extra(name) for name in _EXTRAS},
    "format:numbered": _numbered,
    "format:bullets": _bullets,
    "format:summary": _summary,
    "format:bold": _bold,
    "length:brief": _brief,
    "length:detailed": _detailed,
    "length:short_sentences": _short_sentences,
}
"""Rule by preference, "dimension:value"."""
