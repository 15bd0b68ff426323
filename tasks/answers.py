r"""The final answer in a model's text, a number or the letter of a choice, and its grade.

What a model thought before it answered (`models/thinking.py`) is not looked at.

Both extractors try marks of a final answer in a fixed order and use the first kind that is there;
within a kind the last one counts, because models correct themselves. None means that no answer
could be read: a state of its own beside right and wrong, counted as such.

Numbers, in order of preference:
    1. the last `####` with a number behind it, the mark that ends GSM8K's own solutions;
    2. the last `\boxed{}` (or `\fbox{}`): its one number, or the one after its "=";
    3. the last answer phrase with a number behind it ("the answer is", "Answer:", "<answer>",
       "A:" at the start of a line): the first number behind it;
    4. where none of these marks stands: the last number in the text.
A box or phrase without any number ("the answer is twelve"), or a box with several, gives None:
the text says where its answer is, so another number in it would be a guess.

Letters, in order of preference:
    1. the last `\boxed{}`;
    2. the last answer phrase ("the best answer is (B)", "Answer: B", "option B is correct");
    3. a text that is nothing but one letter or starts with one, as in "B", "(b)", "B. Because";
    4. the letter in parentheses, when all that stand there agree.
A box or phrase that names two letters ("A or B") names none, and one that says what the answer is
not is passed over.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from decimal import Decimal
from functools import cache
from itertools import chain
from typing import Literal, NamedTuple

from mipo_eval.models.thinking import response_of
from mipo_eval.records import Item

LETTERS = "ABCDEFGHIJ"
"""The labels that the choices of a question get, in order."""

# Typography to ASCII: minus signs, full-width digits, fractions; what LaTeX puts between digits.
_ASCII = str.maketrans(
    {"\u2212": "-", "\u2013": "-", "\uff0d": "-", "\u2044": "/"}
    | {chr(0xFF10 + n): str(n) for n in range(10)}
    | {"½": " 1/2", "¼": " 1/4", "¾": " 3/4", "⅓": " 1/3", "⅔": " 2/3"}
)
_NOISE = re.compile(r"\{,\}|\\[,;!: ]|\\(?=[$%])|[\u2009\u202f\u00a0](?=\d)|(?<=[a-z}])\^\{?\d\}?")

_DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|(?<![\w.])\.\d+"
_SCALES = {"thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_NUMBER = re.compile(
    rf"""
    (?<![^\W_])(?<![^\W_]_)(?<!\d\.)            # not the 2 of "H2O", "x_2" or "1.5.2"
    (?P<minus>-\s?)?[$€£¥₹]?\s?(?P<inner_minus>-)?
    (?: (?:(?P<whole>\d+)\s*)?\\[dt]?frac\{{(?P<top>-?\d+)\}}\{{(?P<bottom>\d+)\}}
      | (?:(?P<mixed>\d+)\s+)?(?P<over>{_DIGITS})\s?/\s?(?P<under>\d+(?:\.\d+)?)(?![\d/])
      | (?P<plain>{_DIGITS})(?P<exponent>[eE][+-]?\d{{1,2}}(?!\w))?
    )
    (?:\s(?P<scale>{"|".join(_SCALES)})\b)?
    """,
    re.VERBOSE,
)
_DIRECTLY = re.compile(r"[^\nA-Za-z#]{0,9}")
_HEADING = re.compile(r"\s*\d+[.):]\s*\S*[A-Za-z*]")
"""How a Markdown heading of the depth of `####` goes on: "#### 2. Add the costs"."""
_BOX = re.compile(r"\\f?box(?:ed)?\s*\{(?P<content>(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}")
_SAYS = r"(?:is|was|will\s+be|would\s+be|should\s+be|must\s+be)\b(?!\s+not\b)|[:=>]"
_ANSWER = re.compile(
    # "answer (arabic numerals) is", "answer to the first question is"; a second phrase that only
    # says the same in another form ("answer (as a fraction) is") is not one.
    rf"(?<!/)\banswer\b[*_]*(?:\s*\((?!as\b|in\s+words|words|roman)[^()\n]*\)|\s+to\s[^.:\n]{{1,80}}?)?"
    rf"[\s*_]*(?:{_SAYS})|^[^\S\n]*A:",
    re.IGNORECASE | re.MULTILINE,
)


def extract_number(text: str) -> Decimal | None:
    r"""Return the final number of a solution; the module's text gives the order of preference.

    Thousands commas, currency signs, percent signs and units are dropped, so "$1,234.50" is
    1234.50 and "20%" is 20; "3 million" is 3000000. Fractions, mixed or LaTeX, are divided out.

    Examples: "... #### 1,080" -> 1080; r"\boxed{\frac{3}{4}}" -> 0.75; "no idea" -> None.
    """
    text = _NOISE.sub("", response_of(text).translate(_ASCII))
    numbers = list(_numbers(text))
    if (hashed := _after_hashes(text, numbers)) is not None:
        return hashed
    if boxes := [box["content"] for box in _BOX.finditer(text)]:
        return _in_box(boxes[-1])
    if phrases := list(_ANSWER.finditer(text)):
        behind = (_first_from(phrase.end(), numbers) for phrase in reversed(phrases))
        return next((number.value for number in behind if number), None)
    return numbers[-1].value if numbers else None


class _Number(NamedTuple):
    start: int
    """Where in the text it begins, its sign and currency included."""
    value: Decimal


def _after_hashes(text: str, numbers: Sequence[_Number]) -> Decimal | None:
    """Return the number of the last `####` that is directly followed by one, not by a heading."""
    for mark in reversed([match.end() for match in re.finditer("####", text)]):
        number = _first_from(mark, numbers)
        directly = number and _DIRECTLY.fullmatch(text, mark, number.start)
        if number and directly and not _HEADING.match(text, number.start):
            return number.value
    return None


def _in_box(content: str) -> Decimal | None:
    """Return the number a box holds, or None when it holds none or several."""
    values = {number.value for number in _numbers(content.rpartition("=")[2])}
    return values.pop() if len(values) == 1 else None


def _first_from(position: int, numbers: Sequence[_Number]) -> _Number | None:
    index = bisect_left(numbers, position, key=lambda number: number.start)
    return numbers[index] if index < len(numbers) else None


def _numbers(text: str) -> Iterator[_Number]:
    for match in _NUMBER.finditer(text):
        value = _magnitude(match)
        if value is not None:
            yield _Number(match.start(), -value if _is_negative(match, text) else value)


def _magnitude(match: re.Match[str]) -> Decimal | None:
    """Return the value without its sign before the currency; None for a division by zero."""
    found = {
        name: Decimal(digits.replace(",", ""))
        for name in ("whole", "top", "bottom", "mixed", "over", "under", "plain")
        if (digits := match[name])
    }
    if "plain" in found:
        value = found["plain"].scaleb(int((match["exponent"] or "e0")[1:]))
    else:
        above, below = (found[name] for name in found if name not in {"whole", "mixed"})
        if not below:
            return None
        value = found.get("whole", found.get("mixed", Decimal(0))) + above / below
    return value.scaleb(_SCALES.get(match["scale"] or "", 0))


def _is_negative(match: re.Match[str], text: str) -> bool:
    """Tell a minus sign from a subtraction ("16 - 7", "5-7"), a hyphen and a list's dash."""
    if match["inner_minus"]:
        return True
    if not match["minus"]:
        return False
    before = text[max(0, match.start() - 20) : match.start()]
    last = before.rstrip()[-1:]
    if match["minus"] != "-":  # "- 5" is mostly a list entry
        return last == "="
    return not (before[-1:].isalnum() or last.isdigit() or (last and last in ")]}%"))


# Words that may stand between "the answer is" and the letter.
_FILLERS = (
    r"(?:(?:the|most|likely|probably|clearly|actually|closest\s+to|option|choice|letter|answer)"
    r"\b[\s:]*){0,4}"
)
_MARKS = r"[\s*_\"'`$]*"
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
        return None if patterns.second.match(text, found.end()) else _named(found, letters)
    starts = list(patterns.start.finditer(text))
    if starts and not text[: starts[0].start()].strip():
        # "(A) ice, (B) water" is a list in one line; "B. It is not (A)" chooses.
        others = patterns.bracketed.findall(text) if starts[0][1] else []
        return _agreed([*others, *(_named(match, letters) for match in starts)], letters)
    if _ANSWER.search(text):  # "the answer is water": it does not name a letter
        return None
    return _agreed(patterns.bracketed.findall(text), letters)


class _ChoicePatterns(NamedTuple):
    phrases: tuple[re.Pattern[str], ...]
    """Each holds the letter in one of its groups."""
    second: re.Pattern[str]
    """Behind a letter: "or C", "and (D)."."""
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
    said = rf"(?<!/)\b(?:answer|choice|option)\b[*_]*(?:\s*\([^()\n]*\))?[\s*_]*(?:{_SAYS})"
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
