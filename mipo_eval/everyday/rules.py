"""How well a response follows an everyday preference, by exact rule: 5 is followed, 1 not at all.

Rules count marks, and a heap of marks is no answer. So a response is rated by its rules only if
`incoherence` finds nothing: it says something of its own, on the subject and in sentences, repeats
neither itself nor the user nor the wishes, and does not speak to a judge. Whether what it says is
right no rule can tell.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import pairwise
from typing import Any

from mipo_eval.everyday.tables import (
    CODES,
    FACTS_LEFT_OUT,
    PLAIN,
    facts,
    named_facts,
    read_table,
    understood,
    wishes,
)
from mipo_eval.marks import (
    BULLET,
    FUNCTION_WORDS,
    NUMBERED,
    ResponseText,
    bold,
    by_steps,
    content_words,
    cue,
    plain,
    points,
    read,
    said,
    words_of,
)

VERSION = "1"
"""Changes with every change of a rule, a statement or a word list."""

_HEADING = re.compile(r"^#{1,6}\s+\S|^\*\*[^*]+\*\*:?$")
_SHORT_FORMS = re.compile(
    r"\b(e\.g|i\.e|mrs?|dr|approx|etc|vs|z\. ?b|p\. ?ex|no|[ap]\.m)\.", re.IGNORECASE
)
_LANGUAGES = ("en", "es", "fr", "de", "it", "pt", "nl", "sv", "pl", "ru", "zh", "ja", "ko", "ar")


@cache
def _words() -> Mapping[str, str]:
    lists = read_table("words").items()
    return {name: "".join(map(str.strip, words.splitlines())) for name, words in lists}


@cache
def _find(*names: str) -> re.Pattern[str]:
    """Return what finds the words of these lists."""
    return cue("|".join(_words()[name] for name in names))


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE)
    identifier.set_languages(list(_LANGUAGES))
    return identifier


@lru_cache(maxsize=1024)
def language(text: str) -> str:
    """Return the two letters of the language a text is written in."""
    return str(_identifier().classify(text)[0])


@dataclass(frozen=True, slots=True)
class ToRate:
    """A response to a query, and what the preference says beside its kind."""

    response: ResponseText
    query: str
    told: str = ""
    """The user's name, or the names of facts."""

    @property
    def text(self) -> str:
        """The response as it stands."""
        return self.response.text

    @property
    def sentences(self) -> list[str]:
        """Its sentences, in which "e.g." ends none."""
        return read(_SHORT_FORMS.sub(lambda found: found[0].replace(".", ""), self.text)).sentences

    @property
    def opening(self) -> str:
        """The first sentence that is no heading and no row of a table."""
        below = [
            line for line in self.response.lines if not _HEADING.match(line) and line[0] != "|"
        ]
        return (read("\n".join(below)).sentences or self.sentences)[0]

    @property
    def length(self) -> int:
        """How many words it has; a number is one, a mark is none."""
        return sum(any(map(str.isalnum, token)) for token in self.text.split())


Rule = Callable[[ToRate], int]


def _stems(text: str) -> set[str]:
    """Return the first four letters of the words that carry meaning, in any language."""
    return {word[:4] for word in content_words(text) if len(word) > 2}


@cache
def _spoken() -> str:
    """Everything that a user or a statement may say, to know an echo by."""
    own = [text for wish in wishes().values() for text in (wish.statement, *wish.wordings)]
    texts = own + [fact.said for fact in facts().values()]
    return " | ".join(plain(text) for text in texts)


def incoherence(answer: ToRate, preference: str) -> str | None:
    """Return why a response is no answer to the query, or None if it is one."""
    words = words_of(answer.text)
    if not words:
        return "empty"
    if _find("to_judge").search(answer.text):
        return "speaks to the judge"
    if _repeats(answer, words):
        return "repeats itself"
    heard = f"{_spoken()} | {plain(answer.query)} | {plain(preference)}"
    own = [one for one in answer.sentences if plain(one) not in heard]
    if 2 * len(words_of(" ".join(own))) < len(words) or len(own) * 2 < len(answer.sentences):
        return "is an echo"
    return _nothing_said(answer, [one for one in own if not _asks(one)], words)


def _repeats(answer: ToRate, words: list[str]) -> bool:
    long = [plain(one) for one in answer.sentences if len(words_of(one)) > 3]
    thrice = any(a == b == c for (a, b), c in zip(pairwise(words), words[2:], strict=False))
    varied = len(set(words)) >= (0.3 if len(words) > 40 else 0.5) * len(words)
    return thrice or not varied or len(set(long)) < 0.8 * len(long)


def _nothing_said(answer: ToRate, statements: list[str], words: list[str]) -> str | None:
    said_here = " ".join(statements)
    if len(_stems(said_here) - _stems(answer.query)) < 2:
        return "says nothing new"
    if not any(len(words_of(one)) >= 4 for one in statements):
        return "has no sentence"
    if language(answer.text) != "en":
        return None
    small = sum(word in FUNCTION_WORDS for word in words)
    if not 0.12 <= small / len(words) <= 0.85:
        return "is not English"
    if len(words) >= 8 and not _stems(answer.query) & _stems(answer.text):
        return "is about something else"
    return None


def _asks(sentence: str) -> bool:
    return re.search(r"\?[^\w]*$", sentence) is not None


def _of_text(rule: Callable[[ResponseText], int]) -> Rule:
    return lambda answer: rule(answer.response)


def _counted(number: int, steps: Mapping[int, float]) -> int:
    """5 for none, 3 for one, 2 for two, 1 for more, unless other steps are given."""
    return by_steps(number, steps or {5: 0, 3: 1, 2: 2})


def _without(*names: str) -> Rule:
    """5 without any of the words, 3 with one, 2 with two."""
    return lambda answer: _counted(len(_find(*names).findall(answer.text)), {})


def _said(strong: str, weak: str) -> Rule:
    """5 if a sentence says it with three words or more after the cue, 3 for a mention."""
    return lambda answer: _saying(strong, weak)(answer.response)


@cache
def _saying(strong: str, weak: str) -> Callable[[ResponseText], int]:
    own = _words()[strong]
    return said(own, f"{own}|{_words()[weak]}")


def _paragraph(answer: ToRate) -> int:
    """5 for one line, 4 for one block of several, 2 for two blocks; a list or heading is 1."""
    lines = [line for line in answer.text.strip().splitlines() if line.strip()]
    if any(BULLET.match(line) or NUMBERED.match(line) or _HEADING.match(line) for line in lines):
        return 1
    if any(line.startswith("|") for line in lines):
        return 1
    blocks = len(re.split(r"\n\s*\n", answer.text.strip()))
    return {1: 5 if len(lines) == 1 else 4, 2: 2}.get(blocks, 1)


def _table(answer: ToRate) -> int:
    """5 for a table with two full rows below its head, 3 for one row; two cells make it full."""
    from markdown_it import MarkdownIt

    rows: list[int] = []
    inside = False
    for token in MarkdownIt("commonmark").enable("table").parse(answer.text):
        inside = (inside or token.type == "tbody_open") and token.type != "tbody_close"
        if inside and token.type == "tr_open":
            rows.append(0)
        if inside and token.type == "inline" and words_of(token.content):
            rows[-1] += 1
    full = sum(cells >= 2 for cells in rows)
    return {0: 1, 1: 3}.get(full, 5)


def _headings(answer: ToRate) -> int:
    """5 for two headings with at least as many other lines, 3 for one, 2 for headings alone."""
    found = sum(_HEADING.match(line) is not None for line in answer.response.lines)
    if not found:
        return 1
    if len(answer.response.lines) - found < found:
        return 2
    return 5 if found > 1 else 3


def _two_sentences(answer: ToRate) -> int:
    """5 for two, 3 for one or three, 2 for four."""
    return by_steps(abs(len(answer.sentences) - 2), {5: 0, 3: 1, 2: 2})


def _short_sentences(answer: ToRate) -> int:
    """5 if none has more than 12 words; a single sentence is no style: 3 at most."""
    longest = max((len(words_of(one)) for one in answer.sentences), default=0)
    rating = by_steps(longest, {5: 12, 4: 13, 3: 16, 2: 20})
    return rating if len(answer.sentences) > 1 else min(rating, 3)


def _direct(answer: ToRate) -> int:
    """5 if the first sentence is a statement that neither greets, praises nor announces."""
    first = answer.opening
    start = re.match(rf"\W*(?:{_words()['preamble']})\b", first, re.IGNORECASE)
    announces = first.rstrip("* ").endswith(":") or _asks(first)
    if start or announces or plain(first) in plain(answer.query):
        return 1
    return 5


def _question(answer: ToRate) -> int:
    """5 if the last sentence is a question of three words or more, 3 if another one is."""
    asked = [
        _asks(one) and len(words_of(one)) >= 3 and plain(one) not in plain(answer.query)
        for one in answer.sentences
    ]
    return 5 if asked[-1] else 3 if any(asked) else 1


def _name(answer: ToRate) -> int:
    """5 with the name among the first three words, 4 in the first sentence, 3 elsewhere.

    2 where it comes more than three times.
    """
    own = answer.told.lower()
    words = words_of(answer.text)
    if own not in words:
        return 1
    if words.count(own) > 3:
        return 2
    first = words_of(answer.opening)
    return 5 if own in first[:3] else 4 if own in first else 3


def _summary(answer: ToRate) -> int:
    """5 if the last of several sentences sums up after "In short", 3 where it stands elsewhere."""
    opens = [one.lower().startswith("in short") for one in answer.sentences]
    if opens[-1] and len(opens) > 1 and len(words_of(answer.sentences[-1])) >= 5:
        return 5 if sum(opens) == 1 else 3
    return 3 if any(opens) else 1


def _emoji(answer: ToRate) -> int:
    """5 for one to three, 3 up to six, 2 for more."""
    from emoji import emoji_count

    number = emoji_count(answer.text)
    return 1 if not number else by_steps(number, {5: 3, 3: 6, 2: number})


def _lower_case(answer: ToRate) -> int:
    """5 without capitals, 3 with one or two, 2 up to four."""
    return _counted(sum(map(str.isupper, answer.text)), {5: 0, 3: 2, 2: 4})


def _plain_words(answer: ToRate) -> int:
    """By LIX: words a sentence, and percent of words of seven letters or more (Björnsson 1968).

    5 up to 30 (books for children), 4 up to 36, 3 up to 42 (a newspaper), 2 up to 50.
    """
    words = words_of(answer.text)
    long = sum(len(word) > 6 for word in words)
    lix = len(words) / len(answer.sentences) + 100 * long / len(words)
    return by_steps(lix, {5: 30, 4: 36, 3: 42, 2: 50})


def _of_two(wanted: str, other: str, neither: int) -> Rule:
    """5 for the one without the other, 2 for both, 1 for the other alone."""

    def rule(answer: ToRate) -> int:
        has, has_other = (bool(_find(one).search(answer.text)) for one in (wanted, other))
        if has:
            return 2 if has_other else 5
        return 1 if has_other else neither

    return rule


def _instead(banned: str, named: str) -> Rule:
    """5 for something else without a word of the banned, 3 for nothing at all."""

    def rule(answer: ToRate) -> int:
        number = len(_find(banned).findall(answer.text))
        if number:
            return 2 if number == 1 else 1
        return 5 if _find(named).search(answer.text) else 3

    return rule


def _cost(answer: ToRate) -> int:
    """5 for an amount of money, 2 for a word about it."""
    if re.search(_words()["money"], answer.text) or _find("money_words").search(answer.text):
        return 5
    return 2 if _find("money_weak").search(answer.text) else 1


def _time(answer: ToRate) -> int:
    """5 for a number of minutes, hours or days, 4 for "a few hours"."""
    if _find("duration").search(answer.text):
        return 5
    return 4 if _find("duration_some").search(answer.text) else 1


def _bus(answer: ToRate) -> int:
    """5 if a sentence of five words or more names it, 3 for a mention, 2 for more than four."""
    found = [one for one in answer.sentences if _find("bus").search(one)]
    if len(_find("bus").findall(answer.text)) > 4:
        return 2
    full = any(len(words_of(one)) >= 5 for one in found)
    return 5 if full else 3 if found else 1


def _in(wanted: str) -> Rule:
    """5 if the text is in the language and four fifths of its longer sentences are; 3 for less.

    2 where it is in another language, but a third of them are not.
    """

    def rule(answer: ToRate) -> int:
        longer = [one for one in answer.sentences if len(words_of(one)) >= 5] or [answer.text]
        share = sum(language(one) == wanted for one in longer) / len(longer)
        if language(answer.text) == wanted:
            return 5 if share >= 0.8 else 3
        return 2 if share >= 1 / 3 else 1

    return rule


def _facts(answer: ToRate) -> int:
    """5 without any of the facts, 2 with one, 1 with more."""
    number = sum(bool(fact.cues.search(answer.text)) for fact in named_facts(answer.told))
    return by_steps(number, {5: 0, 2: 1})


def _usual(answer: ToRate) -> int:
    """5 without anything that only a wish explains, 3 with one such thing, 1 with more."""
    unasked = sum(rule(answer) >= 4 for rule in (_table, _emoji, _lower_case, _summary))
    unasked += 2 * (language(answer.text) != "en")
    return by_steps(unasked, {5: 0, 3: 1})


RULES: Mapping[str, Rule] = {
    "form:bullets": _of_text(points(BULLET, NUMBERED)),
    "form:numbered": _of_text(points(NUMBERED, BULLET)),
    "form:paragraph": _paragraph,
    "form:table": _table,
    "form:bold": _of_text(bold),
    "form:headings": _headings,
    "length:brief": lambda answer: by_steps(answer.length, {5: 30, 4: 33, 3: 40, 2: 50}),
    "length:two_sentences": _two_sentences,
    "length:detailed": lambda answer: by_steps(-answer.length, {5: -120, 4: -110, 3: -90, 2: -60}),
    "length:short_sentences": _short_sentences,
    "frame:direct": _direct,
    "frame:question": _question,
    "frame:name": _name,
    "frame:summary": _summary,
    "wording:no_exclamation": lambda answer: _counted(answer.text.count("!"), {}),
    "wording:emoji": _emoji,
    "wording:lower_case": _lower_case,
    "wording:no_contractions": _without("contraction"),
    "wording:plain": _plain_words,
    "wording:metric": _of_two("metric", "imperial", 2),
    "wording:british": _of_two("british", "american", 3),
    "content:example": _said("example", "example_weak"),
    "content:cost": _cost,
    "content:time": _time,
    "content:caution": _said("caution", "caution_weak"),
    "content:bus": _bus,
    "content:no_meat": _instead("meat", "food"),
    "content:no_alcohol": _instead("alcohol", "drink"),
    "content:no_nuts": _instead("nuts", "food"),
    **{name: _in(code) for name, code in CODES.items()},
    FACTS_LEFT_OUT: _facts,
    PLAIN: _usual,
}
"""Rule by the name of a wish."""


def rate(query: str, response: str, preference: str) -> int:
    """Return how well a response follows a preference, 1 (not at all) to 5.

    Args:
        query: what the user asked.
        response: the text to be rated.
        preference: the statement of a wish, or one of restraint.

    Raises:
        KeyError: there is no rule for this preference.
    """
    name, told = understood(preference)
    answer = ToRate(read(response), query, told)
    return 1 if incoherence(answer, preference) else RULES[name](answer)
