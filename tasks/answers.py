r"""The final answer in a model's text, a number or the letter of a choice, and its grade.

What a model thought before it answered (`models/thinking.py`) is not looked at.

Both extractors try marks of a final answer in a fixed order and use the first kind that is there;
within a kind the last one counts, because models correct themselves. None means that no answer
could be read: a state of its own beside right and wrong, counted as such.

Numbers, in order of preference:
    1. the last `####` with a number behind it, the mark that ends GSM8K's own solutions;
    2. the last `\boxed{}` (or `\fbox{}`): its one number, or the one after its "=";
    3. the last answer phrase with a number behind it ("the answer is", "Answer:", "<answer>",
       "A:" at the start of a line): the first number behind it, and where it begins an equation
       its result;
    4. where none of these marks stands: the last number in the text.
A box or phrase without any number ("the answer is twelve"), or one with several ("8 or 9",
"5 + 7"), gives None: the text says where its answer is, so another number in it would be a guess.

Letters, in order of preference:
    1. the last `\boxed{}`;
    2. the last answer phrase ("the best answer is (B)", "Answer: B", "option B is correct");
    3. a text that is nothing but one letter or starts with one, as in "B", "(b)", "B. Because";
    4. the letter in parentheses, when all that stand there agree.
A box or phrase that names two letters ("A or B") names none, and one that says what the answer is
not is passed over.
"""

import re
from collections.abc import Sequence
from decimal import Decimal
from functools import cache
from itertools import chain
from typing import Any, Literal, NamedTuple

from mipo_eval.models.thinking import response_of
from mipo_eval.records import Item
from mipo_eval.tasks.numbers import Number, ascii_digits, find_numbers, first_from, stated, value_of

LETTERS = "ABCDEFGHIJ"
"""The labels that the choices of a question get, in order."""

_DIRECTLY = re.compile(r"[^\nA-Za-z#]{0,9}")
_HEADING = re.compile(r"\s*\d+[.):]\s*\S*[A-Za-z*]")
"""How a Markdown heading of the depth of `####` goes on: "#### 2. Add the costs"."""
_BOX = re.compile(r"\\f?box(?:ed)?\s*\{(?P<content>(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}")
_ALTERNATIVES = re.compile(r",\s|;|\bor\b|\band\b")
_SAYS = r"(?:is|was|will\s+be|would\s+be|should\s+be|must\s+be)\b(?!\s+not\b)|[:=>]"
_ANSWER = re.compile(
    # "answer (arabic numerals) is", "answer to the first question is"; a second phrase that only
    # says the same in another form ("answer (as a fraction) is") is not one.
    rf"(?<!/)\banswer\b(?:[*_]{{0,4}}\s*\((?!as\b|in\s+words|words|roman)[^()\n]{{0,200}}\)"
    rf"|[*_]{{0,4}}\s+to\s[^.:\n]{{1,80}}?)?[\s*_]{{0,12}}(?:{_SAYS})|^[^\S\n]*A:",
    re.IGNORECASE | re.MULTILINE,
)


def lettered(question: str, choices: tuple[str, ...], gold: int, **meta: Any) -> Item:
    """Return a question with lettered choices, of which the one at `gold` is right."""
    lines = [f"{letter}. {text}" for letter, text in zip(LETTERS, choices, strict=False)]
    return Item(
        item_id="-",
        prompt="\n".join([question, *lines]),
        reference=LETTERS[gold],
        meta={"kind": "choice", "question": question, "choices": list(choices), **meta},
    )


def extract_number(text: str) -> Decimal | None:
    r"""Return the final number of a solution; the module's text gives the order of preference.

    Thousands commas, currency signs, percent signs and units are dropped, so "$1,234.50" is
    1234.50 and "20%" is 20; "3 million" is 3000000. Fractions, mixed or LaTeX, are divided out.
    A number in another notation ("1.234,5") is none: a part of it would be wrong.

    Examples: "... #### 1,080" -> 1080; r"\boxed{\frac{3}{4}}" -> 0.75; "no idea" -> None.
    """
    text = ascii_digits(response_of(text))
    numbers = list(find_numbers(text))
    if (hashed := _after_hashes(text, numbers)) is not None:
        return stated(text, numbers, hashed)
    if boxes := [box["content"] for box in _BOX.finditer(text)]:
        return _in_box(boxes[-1])
    if phrases := list(_ANSWER.finditer(text)):
        behind = (first_from(phrase.end(), numbers) for phrase in reversed(phrases))
        index = next((index for index in behind if index is not None), None)
        return None if index is None else stated(text, numbers, index)
    return value_of(numbers[-1]) if numbers else None


def _after_hashes(text: str, numbers: Sequence[Number]) -> int | None:
    """Return which number directly follows the last `####` that is no heading."""
    for mark in reversed([match.end() for match in re.finditer("####", text)]):
        index = first_from(mark, numbers)
        if index is None:
            continue
        directly = _DIRECTLY.fullmatch(text, mark, numbers[index].start())
        if directly and not _HEADING.match(text, numbers[index].start()):
            return index
    return None


def _in_box(content: str) -> Decimal | None:
    """Return the number a box holds, or None when it holds none or several."""
    parts = _ALTERNATIVES.split(content) if content.count("=") > 1 else [content]
    values = {
        value_of(number) for part in parts for number in find_numbers(part.rpartition("=")[2])
    }
    return values.pop() if len(values) == 1 else None


# Words that may stand between "the answer is" and the letter.
_FILLERS = (
    r"(?:(?:the|most|likely|probably|clearly|actually|closest\s+to|option|choice|letter|answer)"
    r"\b[\s:]*){0,4}"
)
_MARKS = r"[\s*_\"'`$]{0,12}"
_JUDGED = (
    r"(?:is|was|seems|would\s+be)\s+(?:the\s+)?(?:most\s+)?(?:correct|right|best|accurate|likely)"
)

_LABELLED = r"(?i:(?:option|choice|answer|letter)\s)?"
_REFUSED = r"[^\w\n]*(?i:is|was|seems)\s+(?i:not|incorrect|wrong|false)\b"


def extract_choice(text: str, letters: str = "ABCD") -> str | None:
    r"""Return the letter a text chooses; the module's text gives the order of preference.

    Args:
        text: a model's reply.
        letters: the labels on offer, one character each, as "ABCDE" or "1234".

    Returns:
        One of `letters`, or None when the text chooses none or more than one.

    Examples: "The answer is (b)." -> "B"; "B. Because ..." -> "B"; "A plant grows" -> None.
    """
    text = response_of(text)
    patterns = _choice_patterns(letters)
    if boxes := [box["content"] for box in _BOX.finditer(text)]:
        return _agreed(patterns.token.findall(boxes[-1].replace("\\text", " ")), letters)
    phrases = chain.from_iterable(pattern.finditer(text) for pattern in patterns.phrases)
    if found := max(phrases, key=lambda match: match.end(), default=None):
        several = patterns.second.match(text, found.end()) or _lists(text, found, letters)
        return None if several else _named(found, letters)
    starts = list(patterns.start.finditer(text))
    if starts and not text[: starts[0].start()].strip():
        if _lists(text, starts[0], letters):
            return None
        # "(A) ice, (B) water" is a list in one line; "B. It is not (A)" chooses.
        others = patterns.bracketed.findall(text) if starts[0][1] else []
        return _agreed([*others, *(_named(match, letters) for match in starts)], letters)
    if _ANSWER.search(text):  # "the answer is water": it does not name a letter
        return None
    return _agreed(patterns.bracketed.findall(text), letters)


def _lists(text: str, found: re.Match[str], letters: str) -> bool:
    """Whether a letter is the first of a list of options: "A) red B) blue"."""
    item = _choice_patterns(letters).item.match(text, found.end())
    return item is not None and _named(item, letters) != _named(found, letters)


class _ChoicePatterns(NamedTuple):
    phrases: tuple[re.Pattern[str], ...]
    """Each holds the letter in one of its groups."""
    second: re.Pattern[str]
    """Behind a letter: "or C", "and (D)."."""
    item: re.Pattern[str]
    """Behind a letter: its option's text, and the next option's letter."""
    start: re.Pattern[str]
    """A line that starts with a letter."""
    bracketed: re.Pattern[str]
    token: re.Pattern[str]


@cache
def _choice_patterns(letters: str) -> _ChoicePatterns:
    """Compile what a reply can look like; "A" and "I" are also words, and so need more proof."""
    any_case = _one_of(letters.upper() + letters.lower())
    words = _one_of("".join(letter for letter in letters.upper() if letter in "AI"))
    plain = _one_of(
        "".join(letter for letter in letters.upper() + letters.lower() if letter not in "AIai")
    )
    label = (
        rf"(?:[(\[]\s*[*_]*({any_case})[*_]*\s*[)\]]"
        rf"|({any_case})(?=[*_\"'`$]*[^\S\n]*(?:[.,](?!\d)|[;:)\]!<]|\n|\Z))"
        rf"|({plain})(?![\w'\u2019-]|\.\d)"
        rf"|({words})(?=[*_]*\s+(?:because|since|as|is|due|for|and|or|with|which|[-\u2014(])))"
    )
    said = (
        r"(?<!/)\b(?:answer|choice|option)\b(?:[*_]{0,4}\s*\([^()\n]{0,200}\))?"
        rf"[\s*_]{{0,12}}(?:{_SAYS})"
    )
    chosen = r"\b(?:choose|select|pick|go\s+with)\b"
    return _ChoicePatterns(
        phrases=(
            re.compile(rf"(?i:(?:{said}|{chosen}){_MARKS}{_FILLERS}){_MARKS}{label}"),
            re.compile(
                rf"(?i:\b(?:option|choice|answer)\s){_MARKS}{label}{_MARKS}[)\]]?(?i:\s*{_JUDGED})"
            ),
        ),
        second=re.compile(
            rf"[*_)\]]*\s*(?:(?:or|/)\s*(?:option\s+)?[(\[]?{any_case}\b"
            rf"|(?:and|&|,)\s*(?:option\s+)?[(\[]?{any_case}[)\]]?(?=\s*(?:[.,;:!]|\n|\Z|and\b|or\b)))"
        ),
        item=re.compile(
            r"[*_]{0,2}[).:\]]?\s[^.!?\n]{1,80}?(?<!not)(?<!than)(?<!over)(?<!or)(?<!and)[,;.]?\s{1,4}"
            rf"[*_(\[]{{0,3}}({any_case})[*_]{{0,2}}[).:\]](?!\s*(?:is|was|would|seems)\b)"
        ),
        start=re.compile(
            rf"^{_MARKS.replace('s', 't ')}{_LABELLED}{label}(?!{_REFUSED})", re.MULTILINE
        ),
        bracketed=re.compile(rf"\(({any_case})\)"),
        token=re.compile(rf"(?<!\w)({any_case})(?!\w)"),
    )


def _one_of(letters: str) -> str:
    return f"[{re.escape(letters)}]" if letters else "(?!)"


def _named(match: re.Match[str], letters: str) -> str:
    found = next(group for group in match.groups() if group)
    return next(letter for letter in letters if letter.casefold() == found.casefold())


def _agreed(found: Sequence[str], letters: str) -> str | None:
    """Return the letter all of `found` name, in the case of `letters`; None for none or several."""
    names = {name.casefold() for name in found}
    return next((letter for letter in letters if {letter.casefold()} == names), None)


Grade = Literal["right", "wrong", "unextracted"]

NEXT_QUESTION = "\nQ:"
"""Where a base model that was shown examples goes on to make up a question of its own."""


def grade(item: Item, reply: str) -> Grade:
    """Compare the final answer of a reply with the question's.

    Numbers are compared as numbers ("5.0" is 5). "unextracted" is no right answer, so it counts
    against accuracy; its rate is reported beside it, because it says how much of the loss is form.

    Raises:
        KeyError: the item is not a verifiable question (see `tasks.questions`).
    """
    answer = response_of(reply).partition(NEXT_QUESTION)[0]
    found: Decimal | str | None
    right: Decimal | str | None
    if item.meta["kind"] == "number":
        found, right = extract_number(answer), Decimal(item.reference or "NaN")
    else:
        found = extract_choice(answer, LETTERS[: len(item.meta["choices"])])
        right = item.reference
    if found is None:
        return "unextracted"
    return "right" if found == right else "wrong"
