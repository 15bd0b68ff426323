r"""The numbers in a model's text: what each is worth, and what a sum of them says.

Digits are read as English writes them: "1,234.5" and "1'234.5" are one number. What English does
not write ("1.234,5", "12,5", "1.2.3") is a number in some other notation: there is one, but what
it is worth is not known, and reading a part of it would be wrong.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from decimal import Decimal

# Typography to ASCII: minus signs, full-width digits, fractions; what LaTeX puts between digits.
_ASCII = str.maketrans(
    {"\u2212": "-", "\u2013": "-", "\uff0d": "-", "\u2044": "/"}
    | {chr(0xFF10 + n): str(n) for n in range(10)}
    | {"½": " 1/2", "¼": " 1/4", "¾": " 3/4", "⅓": " 1/3", "⅔": " 2/3"}
)
_NOISE = re.compile(r"\{,\}|\\[,;!: ]|\\(?=[$%])|[\u2009\u202f\u00a0](?=\d)|(?<=[a-z}])\^\{?\d\}?")

_LONGEST = 100
"""Digits of a number that somebody meant."""
_DIGITS = r"\d+(?:[.,'\u2019_]\d+)*|(?<![\w.])\.\d+"
_ENGLISH = re.compile(
    r"(?:\d{1,3}(?:,\d{3})+|\d{1,3}(?:['\u2019_]\d{3})+|\d{1,2}(?:,\d{2})+,\d{3}|\d+)?(?:\.\d+)?"
)
"""Groups of three, as in English and in Swiss, those of India, or none."""
_SCALES = {"thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_NUMBER = re.compile(
    rf"""
    (?<![^\W_])(?<![^\W_]_)(?<!\d\.)            # not the 2 of "H2O", "x_2" or "1.5.2"
    (?=[-\s$€£¥₹]{{0,5}}[\d.\\])               # quickly: is there anything to read?
    (?P<minus>-\s?)?[$€£¥₹]?\s?(?P<inner_minus>-)?
    (?: (?:(?P<whole>\d+)\s*)?\\[dt]?frac\{{(?P<top>-?\d+)\}}\{{(?P<bottom>\d+)\}}
      | (?:(?P<mixed>\d+)\s+)?(?P<over>{_DIGITS})\s?/\s?(?P<under>\d+(?:\.\d+)?)(?![\d/])
      | (?P<plain>{_DIGITS})(?P<exponent>[eE][+-]?\d{{1,2}}(?!\w))?
    )
    (?:\s(?P<scale>{"|".join(_SCALES)})\b)?
    """,
    re.VERBOSE,
)

_UNIT = r"\s?(?:[%°]|[A-Za-z.]{1,20}(?:\s[A-Za-z.]{1,20})?)?"
_SIGN = r"(?:[-+*/\u00d7\u00f7\u00b7x^]|\\(?:times|cdot|div)|plus|minus|times|divided\s+by)"
_OPEN, _CLOSED = r"[\s$({\[]*", r"[\s$)}\]]*"
_PLUS = re.compile(rf"(?:{_UNIT}){_CLOSED}{_SIGN}{_OPEN}")
_EQUALS = re.compile(rf"(?:{_UNIT}){_CLOSED}={_OPEN}")
_OR = re.compile(rf"(?:{_UNIT})\s?(?:\b(?:or|to)\b|[:&])\s?|\s?\band\s")
_GROUPS = re.compile(r"[$€£¥₹]?\s?(\d{1,3}(?:[ ]\d{3}){1,6}(?:\.\d+)?)(?![ ]?\d)")
"""Groups of three with a blank between them, as the SI writes."""
_GAP = 60
"""Characters between two numbers of one sum."""


Number = re.Match[str]
"""One number of a text, its sign and currency included; `value_of` says what it is worth."""


def value_of(number: Number) -> Decimal | None:
    """Return what a number is worth; None for digits that cannot be read, and for n / 0."""
    value = _magnitude(number)
    negative = value is not None and _is_negative(number, number.string)
    return -value if negative and value is not None else value


def ascii_digits(text: str) -> str:
    """Return a text with plain signs and digits, and without what LaTeX puts between digits."""
    return _NOISE.sub("", text.translate(_ASCII))


def find_numbers(text: str) -> Iterator[Number]:
    """Yield the numbers of a text that `ascii_digits` made plain."""
    return _NUMBER.finditer(text)


def _magnitude(match: re.Match[str]) -> Decimal | None:
    """Return the value without its sign before the currency."""
    names = ("whole", "top", "bottom", "mixed", "over", "under", "plain")
    found = {name: _english(match[name]) for name in names if match[name]}
    known = {name: value for name, value in found.items() if value is not None}
    if len(known) < len(found):
        return None
    if "plain" in known:
        value = known["plain"].scaleb(int((match["exponent"] or "e0")[1:]))
    else:
        above, below = (known[name] for name in known if name not in {"whole", "mixed"})
        if not below:
            return None
        value = known.get("whole", known.get("mixed", Decimal(0))) + above / below
    return value.scaleb(_SCALES.get(match["scale"] or "", 0))


def _english(digits: str) -> Decimal | None:
    sign, plain = ("-", digits[1:]) if digits.startswith("-") else ("", digits)
    if len(plain) > _LONGEST or not _ENGLISH.fullmatch(plain):
        return None
    return Decimal(sign + re.sub(r"[,'\u2019_]", "", plain))


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


def first_from(position: int, numbers: Sequence[Number]) -> int | None:
    """Return the index of the first number from a position on."""
    index = bisect_left(numbers, position, key=Number.start)
    return index if index < len(numbers) else None


def stated(text: str, numbers: Sequence[Number], index: int) -> Decimal | None:
    """Return the value that a text states from one of its numbers on; None where it is not one.

    "5 + 7 = 12" and "12 = 5 + 7" state 12, "5 + 7" and "5 or 7" no single number; "1 234" is one
    number in two groups.
    """
    sides: list[list[Decimal | None]] = [[value_of(numbers[index])]]
    for one, other in zip(numbers[index:], numbers[index + 1 :], strict=False):
        gap = text[one.end() : min(other.start(), one.end() + _GAP)]
        if gap.isspace() or not gap:
            if other["minus"]:  # "5 - 7": the sign belongs to the token behind it
                sides[-1].append(value_of(other))
                continue
            joint = _GROUPS.match(text, one.start())
            return Decimal(joint[1].replace(" ", "")) if joint and one is numbers[index] else None
        if _EQUALS.fullmatch(gap):
            sides.append([value_of(other)])
        elif _PLUS.fullmatch(gap):
            sides[-1].append(value_of(other))
        elif _OR.fullmatch(gap):
            return None
        else:
            break
    single = [side[0] for side in sides if len(side) == 1]
    if len(sides[-1]) == 1:
        return sides[-1][0]
    return single[0] if len(sides) > 1 and len(single) == 1 else None
