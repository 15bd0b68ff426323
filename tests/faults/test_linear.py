"""Reading a text takes time in proportion to its length, whatever is in it.

The texts are what the patterns themselves know: every literal and one of each class of characters
that any of them looks for, repeated thousands of times. Work is measured by its growth from one
size to a four times larger one, which a busy machine changes little.
"""

import re
import time
from collections.abc import Callable, Iterator
from itertools import groupby
from types import ModuleType
from typing import Any

import pytest

from mipo_eval import keys
from mipo_eval.judges import claims, parse, prompt, visible
from mipo_eval.judges.parse import parse_rating, parse_verdict
from mipo_eval.models import server, thinking
from mipo_eval.models.thinking import take_apart
from mipo_eval.tasks import answers, datasets, numbers
from mipo_eval.tasks.answers import extract_choice, extract_number
from mipo_eval.tasks.datasets import parse_preferences

PARSERS: dict[str, Callable[[str], Any]] = {
    "rating": parse_rating,
    "verdict": parse_verdict,
    "number": extract_number,
    "choice": extract_choice,
    "thinking": take_apart,
    "preferences": parse_preferences,
    "prompt": prompt.neutral,
    "words": server.clean,
}
MODULES = (keys, claims, parse, prompt, visible, server, thinking, answers, datasets, numbers)
SMALL, LARGE = 3_000, 12_000
QUICK = 0.2
"""Seconds of the processor for the larger text under which nobody waits, even if they are many."""
SHAPES = (("", ""), ("", " "), ("", "\n"), ("rating", " "), ("answer", "*"), ("[[4]] ", " *"))
"""What a text begins with, and what stands between the repeats."""
CLASSES = {
    "category_space": " ",
    "category_digit": "4",
    "category_word": "x",
    "category_not_space": "x",
    "category_not_word": "!",
}


def _patterns(value: Any) -> Iterator[re.Pattern[str]]:
    if isinstance(value, re.Pattern):
        yield value
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _patterns(inner)
    elif isinstance(value, dict):
        yield from _patterns([*value.values()])


def _tokens(parsed: Any) -> Iterator[str]:
    """Yield the words and characters that a parsed pattern looks for."""
    for is_word, run in groupby(parsed, lambda part: str(part[0]) == "LITERAL"):
        if is_word:
            yield "".join(chr(code) for _, code in run)
            continue
        for operation, argument in run:
            if str(operation) == "IN":
                yield from (_character(*member) for member in argument)
            elif isinstance(argument, list | tuple):
                yield from _inner(argument)


def _inner(argument: Any) -> Iterator[str]:
    """Yield the tokens of the patterns in an operation: groups, alternatives, repeats."""
    for one in argument:
        for branch in one if isinstance(one, list) else [one]:
            if type(branch).__name__ == "SubPattern":
                yield from _tokens(branch)


def _character(kind: object, told: Any) -> str:
    """Return one character of a class."""
    if str(kind) == "LITERAL":
        return chr(told)
    return CLASSES.get(str(told).lower(), "x")


def _known(module: ModuleType) -> Iterator[str]:
    parsed_by = re._parser.parse  # type: ignore[attr-defined]
    for pattern in _patterns([*vars(module).values()]):
        yield from _tokens(parsed_by(pattern.pattern, pattern.flags))


def _every_token() -> list[str]:
    found = {token for module in MODULES for token in _known(module)}
    found |= {
        "####",
        '"$ "',
        '{"a":',
        "[[4]]",
        "[[A]]",
        "1 to 5 ",
        "<think>",
        "Response B is better. ",
    }
    return sorted(found)


TOKENS = _every_token()


def _seconds(parser: Callable[[str], Any], text: str) -> float:
    begun = time.process_time()
    try:
        parser(text)
    except ValueError:  # how `parse_preferences` says that there are none
        assert parser is parse_preferences
    return time.process_time() - begun


def _grows_too_fast(parser: Callable[[str], Any], text: Callable[[int], str]) -> bool:
    """Whether four times the text takes nine times the work, or more, each time that is looked."""
    if _seconds(parser, text(LARGE)) < QUICK:
        return False
    ratios = (
        _seconds(parser, text(LARGE)) / max(1e-3, _seconds(parser, text(SMALL))) for _ in range(3)
    )
    return all(ratio > 9 for ratio in ratios)


def test_the_tokens_are_those_of_the_patterns() -> None:
    assert {"verdict", "####", "</think>", "instead", "\u00e9", "x", " "} - {*TOKENS} == set()
    assert len(TOKENS) > 300


@pytest.mark.parametrize("name", PARSERS)
def test_repeats_of_anything_are_read_in_linear_time(name: str) -> None:
    parser = PARSERS[name]
    slow = []
    for number, token in enumerate(TOKENS):
        start, between = SHAPES[number % len(SHAPES)]

        def text(size: int, unit: str = token + between, start: str = start) -> str:
            return start + (unit * (size // len(unit) + 1))[:size]

        if _grows_too_fast(parser, text):
            slow.append((start, token + between))
    assert slow == []


@pytest.mark.parametrize("name", PARSERS)
@pytest.mark.parametrize(
    ("start", "unit", "end"),
    [
        ("<think>", " ", '"'),
        ("rating", " ", ""),
        ("", '"$ "', ""),
        ("answer", "*", ""),
        ("", "1 to 5 ", ""),
        ("<|channel|>", "a", ""),
        ("", '{"a":', ""),
        ("", "{", ""),
        ("\\boxed{", "{}", ""),
        ("rating (", "\n\t ", "four"),
        ("", "<think> is </think> a ", ""),
    ],
)
def test_known_traps_are_read_in_linear_time(name: str, start: str, unit: str, end: str) -> None:
    def text(size: int) -> str:
        return start + (unit * (size // len(unit) + 1))[:size] + end

    assert not _grows_too_fast(PARSERS[name], text)
