"""Having a model write structured text: JSON in, checked values out, bad replies asked again.

Calls go through the ledger, so nothing is paid for twice and a stopped preparation continues. A
bad reply is not simply repeated (a greedy model would repeat itself): it is shown to the model
with what is wrong about it.
"""

import json
import re
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from mipo_eval.models.base import Backend, Message, Request, Sampling
from mipo_eval.store.engine import Store
from mipo_eval.store.ledger import Ledger

Value = TypeVar("Value")

ATTEMPTS = 3
"""Times a model is asked for one value before its item is dropped."""
_SHOWN = 2_000
"""Characters of a bad reply that are shown back to the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a model is asked for one entry."""

    key: str
    """Names the entry; comes back with the answer."""
    messages: tuple[Message, ...]
    max_tokens: int = 512
    attempt: int = 1

    def request(self) -> Request:
        """Return the request for the ledger; greedy."""
        return Request(messages=self.messages, sampling=Sampling(max_tokens=self.max_tokens))

    def corrected(self, reply: str, problem: str) -> "Question":
        """Return the question that follows a bad reply."""
        complaint = f"That cannot be used: {problem}. Write it again, corrected, and nothing else."
        # An empty turn would be refused by some servers.
        shown = Message(role="assistant", content=reply[:_SHOWN].strip() or "(empty)")
        more = (shown, Message(role="user", content=complaint))
        return replace(self, messages=(*self.messages, *more), attempt=self.attempt + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer(Generic[Value]):
    """What a model wrote for one entry, or why there is nothing."""

    key: str
    value: Value | None
    reason: str | None = None
    detail: str = ""
    """What was wrong with the last reply."""


async def extract(
    store: Store,
    backend: Backend,
    questions: Iterable[Question],
    parse: Callable[[str], Value],
    *,
    attempts: int = ATTEMPTS,
) -> AsyncGenerator[Answer[Value], None]:
    """Yield an answer per question, as they complete.

    Args:
        store: holds the ledger.
        backend: the model.
        questions: what to ask.
        parse: reads a reply; a ValueError says what is wrong with it, in words for the model.
        attempts: how often one entry is asked for before it is given up.

    Raises:
        BackendError: the model cannot be asked any more; what it answered is stored.
    """
    ledger: Ledger[Question] = Ledger(store, backend)
    waiting: Iterable[Question] = questions
    while True:
        again: list[Question] = []
        pairs = ((question, question.request()) for question in waiting)
        async with aclosing(ledger.ask(pairs)) as calls:
            async for question, call in calls:
                if call.text is None:
                    yield Answer(key=question.key, value=None, reason=f"call failed: {call.status}")
                    continue
                try:
                    value = parse(call.text)
                except ValueError as error:
                    if question.attempt < attempts:
                        again.append(question.corrected(call.text, str(error)))
                    else:
                        yield Answer(
                            key=question.key, value=None, reason="bad reply", detail=str(error)
                        )
                    continue
                yield Answer(key=question.key, value=value)
        if not again:
            return
        waiting = again


def parse_object(reply: str) -> dict[str, Any]:
    """Return the JSON object in a reply, bare, fenced, or with words around it.

    Raises:
        ValueError: there is none, or several.
    """
    decoder = json.JSONDecoder()
    found: list[dict[str, Any]] = []
    position = reply.find("{")
    while position >= 0:
        try:
            value, end = decoder.raw_decode(reply, position)
        except (ValueError, RecursionError):
            position = reply.find("{", position + 1)
            continue
        found.append(value)
        position = reply.find("{", end)
    if len(found) != 1:
        raise ValueError(
            "it holds no valid JSON object" if not found else "it holds several objects"
        )
    return found[0]


MAX_PREFERENCES = 10
_SNAKE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_ABBREVIATION = re.compile(r"\b(?:e\.g|i\.e|etc|vs|approx)\.", re.IGNORECASE)


def parse_preferences(reply: str) -> dict[str, str]:
    """Return general preferences: snake_case key to at most two sentences (PAPER.md, "Data").

    Raises:
        ValueError: the reply is not of that form; says how.
    """
    value = parse_object(reply)
    if not 1 <= len(value) <= MAX_PREFERENCES:
        raise ValueError(f"it has {len(value)} entries; write 1 to {MAX_PREFERENCES}")
    for name in value:
        if not _SNAKE.fullmatch(name):
            raise ValueError(f"the key {name!r} is not in snake_case")
    return {name: _short_text(name, text) for name, text in value.items()}


def parse_statements(reply: str, names: Iterable[str]) -> dict[str, str]:
    """Return one first-person statement per name, in their order.

    Raises:
        ValueError: the reply is not of that form; says how.
    """
    value = parse_object(reply)
    wanted = list(names)
    if set(value) != set(wanted):
        raise ValueError(f"its keys are {sorted(value)}; they must be {wanted}")
    statements = {name: _short_text(name, value[name]) for name in wanted}
    for name, text in statements.items():
        if not re.search(r"\b(?:I|I'm|I'd|I've|me|my|mine)\b", text):
            raise ValueError(f"the statement {name!r} does not speak in the first person")
    return statements


def _short_text(name: str, text: Any) -> str:
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"the value of {name!r} is not a text")
    clean = " ".join(text.split())
    sentences = re.findall(r"[.!?]+(?=\s|$)", _ABBREVIATION.sub("", clean))
    if len(sentences) > 2:
        raise ValueError(f"the value of {name!r} has {len(sentences)} sentences; at most two")
    return clean
