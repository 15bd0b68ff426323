"""What a server tells: taken where it has the form it must have, else absent.

Servers are as untrusted as models: a count may be a word, a name a list, an answer a thousand
brackets deep. What is read here can be kept by every database.
"""

import email.utils
import json
import math
from collections.abc import Iterable
from typing import Any, NamedTuple

from mipo_eval.keys import clean_text

_DEEPEST = 100
"""Levels of an answer; no protocol has ten, and what works through it may go down one by one."""
_MOST = 2**31 - 1
"""What an integer column of PostgreSQL holds."""
_LONGEST = 200
_LONGEST_RETRY_AFTER = 300.0
"""Seconds; a server that asks for a longer pause is not waited for."""


def json_of(content: bytes | str) -> Any:
    """Return the JSON value of an answer.

    Raises:
        ValueError: it is no JSON, or nested more deeply than any answer is.
    """
    try:
        value = json.loads(content)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    level: list[Any] = [value]
    for _ in range(_DEEPEST):
        inside: list[Any] = []
        for outer in level:
            if isinstance(outer, dict):
                inside += outer.values()
            elif isinstance(outer, list):
                inside += outer
        if not inside:
            return value
        level = inside
    raise ValueError("it is nested too deeply")


def fields(value: Any) -> dict[str, Any]:
    """Return the fields of an object; none of anything else."""
    return value if isinstance(value, dict) else {}


def count(value: Any) -> int | None:
    """Return a number of tokens, if it is one."""
    known = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST
    return value if known else None


def word(value: Any, longest: int = _LONGEST) -> str | None:
    """Return a name of something, if it is one and no longer than that."""
    return clean_text(value)[:longest] if isinstance(value, str) and value else None


def alternatives(pairs: Iterable[tuple[Any, Any]]) -> tuple[tuple[str, float], ...]:
    """Return the (token, log-probability) pairs that are such."""
    return tuple(
        (clean_text(token), float(logprob))
        for token, logprob in pairs
        if isinstance(token, str) and isinstance(logprob, int | float) and -math.inf < logprob <= 1
    )


class Tokens(NamedTuple):
    """What a reply took, by its server."""

    prompt: int | None
    completion: int | None
    thinking: int | None
    """So many of the completion's, where the server counts them."""


def tokens_of(usage: Any) -> Tokens:
    """Return the counts in the usage of a chat completion."""
    told = fields(usage)
    thinking = fields(told.get("completion_tokens_details")).get("reasoning_tokens")
    counts = (told.get("prompt_tokens"), told.get("completion_tokens"), thinking)
    return Tokens(*map(count, counts))


def retry_after(value: str | None, now: float) -> float | None:
    """Return the seconds a Retry-After header asks for, or None if it says nothing usable.

    The header holds seconds, or an HTTP date, for which `now` is in seconds since the epoch.

    Raises:
        ValueError: the server asks for longer than five minutes, which is not worth waiting.
    """
    try:
        seconds = float(value or "")
    except ValueError:
        try:
            parsed = email.utils.parsedate_tz(value or "")
            seconds = math.nan if parsed is None else email.utils.mktime_tz(parsed) - now
        except (ValueError, OverflowError, IndexError):  # a year that no calendar has
            return None
    if math.isnan(seconds) or seconds < 0:
        return None
    if seconds > _LONGEST_RETRY_AFTER:
        raise ValueError(f"the server asks to wait {seconds:.0f} s")
    return seconds
