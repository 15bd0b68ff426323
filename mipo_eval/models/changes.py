"""What a server did not take as it was asked, and what it is sent instead.

Reasoning models take no temperature, some servers no seed or log-probabilities; and a model that
thinks before it answers may have used up the tokens by then. Such a request is sent again without
what was refused, or with more room, and so are those that follow. The change is another setting
than the one asked for, so the judge's signature has it.
"""

import re
from collections.abc import Collection
from dataclasses import replace
from typing import Protocol, runtime_checkable

from mipo_eval.models.base import Failure, Reply, Request
from mipo_eval.models.thinking import take_apart

_ROOM = (1024, 4096, 16384)
"""Tokens that a reply is given, one after the other, whose model did not come to an answer."""
_DEFAULTS = {"temperature": "default", "top_p": "default", "seed": "none", "logprobs": "none"}
"""What stands in a signature for a setting that was left out."""
_ALIASES = {"top_logprobs": "logprobs"}
_REFUSAL = re.compile(
    r"support|unrecognized|unknown|unexpected|permitted|not allowed|forbidden|deprecated"
    r"|only the default|(?:may|can) only|extra inputs|invalid (?:parameter|argument|field)",
    re.IGNORECASE,
)


class Changes:
    """What one backend changes of every request."""

    def __init__(self) -> None:
        self.left_out: frozenset[str] = frozenset()
        """Settings that are not sent."""
        self._room = 0
        self._most = _ROOM[-1]

    def applied(self, request: Request) -> Request:
        """Return a request with the settings that are used, in place of those asked for."""
        sampling = request.sampling
        if not self.left_out and self._room <= sampling.max_tokens:
            return request
        used = replace(
            sampling,
            temperature=None if "temperature" in self.left_out else sampling.temperature,
            logprobs=0 if "logprobs" in self.left_out else sampling.logprobs,
            max_tokens=max(sampling.max_tokens, self._room),
        )
        return request if used == sampling else replace(request, sampling=used)

    def leave_out(self, names: Collection[str]) -> None:
        """Send these settings no more: the server does not take them."""
        self.left_out |= {_ALIASES.get(name, name) for name in names} & _DEFAULTS.keys()

    def make_room(self, tried: int) -> bool:
        """Give replies more tokens than were tried; False where that was the most."""
        if self._room <= tried:
            larger = (room for room in _ROOM if tried < room <= self._most)
            self._room = next(larger, self._room)
        return self._room > tried

    def no_more_than(self, tokens: int) -> None:
        """Give replies no more than that: the server's context has no room for it."""
        self._room = self._most = tokens

    @property
    def settings(self) -> str | None:
        """The settings that are other than asked for, as a signature has them; None for none."""
        used = {name: _DEFAULTS[name] for name in self.left_out}
        if self._room:
            used["max_tokens"] = str(self._room)
        return "+".join(f"{name}={value}" for name, value in sorted(used.items())) or None

    def recall(self, settings: str | None) -> None:
        """Begin with what `settings` told of an earlier run."""
        told = dict(part.split("=", 1) for part in (settings or "").split("+") if "=" in part)
        self._room = max(self._room, int(told.pop("max_tokens", 0)))
        self.leave_out(told.keys())


@runtime_checkable
class Changing(Protocol):
    """A backend that changes settings its server does not take."""

    changes: Changes


def refused_setting(sent: Collection[str], words: str, named: str | None = None) -> str | None:
    """Return which optional setting the words of a refused request (400, 422) are about, or None.

    Args:
        sent: the optional settings of that request.
        words: the server's own.
        named: the parameter that the server names apart from its words, if it does.

    Example:
        >>> refused_setting({"temperature", "seed"}, "'temperature' does not support 0 here.")
        'temperature'
    """
    if named:
        last = re.split(r"\W+", named.strip("[]'\" "))[-1]
        return last if last in sent else None
    if not _REFUSAL.search(words):
        return None
    places = {match.start(): name for name in sent if (match := re.search(rf"\b{name}\b", words))}
    return places[min(places)] if places else None


def lacks_room(reply: Reply, request: Request) -> bool:
    """Whether a model used up its tokens without a word of an answer: it was thinking."""
    if request.as_it_comes or not reply.cut:
        return False
    said = take_apart(reply.text, apart=reply.thinking).response
    return not (said and said.strip())


NO_TEXT = "the reply holds no text"


def holds_nothing(reply: Reply, request: Request) -> bool:
    """Whether a reply ended by itself without a word: no answer, so it is to be asked again."""
    return not request.as_it_comes and not reply.text.strip() and not reply.cut


def no_room(tokens: int) -> Failure:
    """Return the outcome of a request whose model does not come to an answer."""
    return Failure(
        kind="no_room",
        detail=f"no room after thinking: {tokens:,} tokens were used up before the answer; set "
        "max_tokens higher, or reasoning lower, in the judge's preset",
    )
