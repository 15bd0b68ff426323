"""A Python function as a backend: it is evaluated, or judges, like a server.

The function takes a list of conversations, each a list of {"role", "content"}, and returns a text
for each. How it draws is its own affair.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from mipo_eval.errors import BackendError
from mipo_eval.keys import masked
from mipo_eval.models.base import Answers, Failure, Reply, Request
from mipo_eval.models.changes import Changes
from mipo_eval.models.prices import Usage
from mipo_eval.plugins import told

Function = Callable[[list[list[dict[str, str]]]], Sequence[str]]
"""From conversations to a text each."""


class CallableBackend:
    """Asks a function, some conversations at a time, in a thread of its own.

    Args:
        function: what answers.
        name: what makes it this model and no other: answers are stored under it, and found again.
        batch_size: how many conversations it is given at a time.
    """

    dead: Failure | None = None
    """Why it is asked no more: that is never so."""

    def __init__(self, function: Function, name: str, *, batch_size: int = 16) -> None:
        self._function = function
        self._batch_size = batch_size
        self.model = name
        self.usage = Usage()
        self.changes = Changes()

    @property
    def identity(self) -> Mapping[str, str]:
        """The name."""
        return {"backend": "callable", "model": self.model}

    async def check(self) -> None:
        """Do nothing: a function is always there."""

    async def answer(self, requests: Iterable[Request]) -> Answers:
        """Yield each request with its reply, a batch at a time.

        Raises:
            BackendError: the function failed, or did not return a text for each.
        """
        waiting = iter(requests)
        while asked := list(islice(waiting, self._batch_size)):
            chats = [
                [{"role": turn.role, "content": turn.content} for turn in one.messages]
                for one in asked
            ]
            for request, text in zip(asked, await self._texts(chats), strict=True):
                yield request, Reply(text=text)

    async def _texts(self, chats: list[list[dict[str, str]]]) -> Sequence[str]:
        try:
            found: Any = await asyncio.to_thread(self._function, chats)
        except Exception as error:
            raise BackendError(f"{self.model} failed: {masked(told(error))}") from error
        is_list = isinstance(found, Sequence) and not isinstance(found, str)
        if not is_list or not all(isinstance(text, str) for text in found):
            raise BackendError(f"{self.model} returned {str(found)[:80]!r}, not a list of texts")
        if len(found) != len(chats):
            raise BackendError(f"{self.model} returned {len(found)} texts for {len(chats)} prompts")
        return list(found)
