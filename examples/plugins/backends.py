"""A judge's backend: the shortest way from a request to a reply.

mipo-eval --model demo --suite demo --judge by-length:40 --plugin examples/plugins/backends.py
"""

from collections.abc import AsyncGenerator, Iterable

from mipo_eval.models.base import Failure, Reply, Request


class ByLength:
    """Rates 5 what has at most so many words, else 1; anything that answers fits here."""

    def __init__(self, model: str) -> None:
        self.most = int(model)
        self.identity = {"backend": "by-length", "model": model, "version": "1"}

    async def check(self) -> None:
        """Say that it can be asked; raise mipo_eval.errors.BackendError where it cannot."""

    async def answer(
        self, requests: Iterable[Request]
    ) -> AsyncGenerator[tuple[Request, Reply | Failure], None]:
        """Yield each request with its reply; request.messages is what a server would be sent."""
        for request in requests:
            words = len(request.slots.get("response", "").split())
            yield request, Reply(text="5" if words <= self.most else "1")


def by_length(model: str) -> ByLength:
    """Rate responses by their number of words; the name is the most that are good."""
    return ByLength(model)


PLUGINS = {"backends": {"by-length": by_length}}
