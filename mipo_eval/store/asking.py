"""Asking a backend only for what the store does not have, with other processes at the same work.

    look up -> claim -> ask -> store        a window of questions at a time

What comes is stored at once, as far as storing takes no more than a fifth of the time. What another
worker has claimed is left to it, and looked up again until it is there; or claimed here, when that
worker is dead.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from datetime import datetime
from itertools import islice
from typing import Generic, NamedTuple, TypeVar

from mipo_eval.errors import BackendError, StoreError
from mipo_eval.models.base import Backend, Failure, Reply, Request
from mipo_eval.models.prices import NOT_ASKED
from mipo_eval.store.claims import Claims
from mipo_eval.store.engine import Store, now

Tag = TypeVar("Tag")
Found = TypeVar("Found")

_WINDOW = 32
_FLUSH_ROWS = 64
_FLUSH_SECONDS = 0.5
_FLUSH_SHARE = 0.2
"""Of the time that may go into storing, rather than wait with it for that long."""
_MAX_WAITING = 4096
"""Questions that are known, or left to others, and wait to be looked at."""
_KEYS = 500
"""Of them looked up at once."""
_LOOK_AGAIN = 0.5


class Answer(NamedTuple):
    """What came of a request."""

    key: str
    request: Request
    outcome: Reply | Failure


def stopped(why: Failure) -> BackendError:
    """Return the error of work that ends before its end."""
    with_more = " with a higher --max-cost" if why.kind == "budget" else ""
    return BackendError(
        f"{why.detail.removeprefix(NOT_ASKED)}; what was answered is stored: the same command"
        f"{with_more} goes on from there"
    )


class Asker(ABC, Generic[Tag, Found]):
    """Asks a backend for what a table of the store does not have.

    Args:
        store: that has it or will have it.
        backend: who is asked.
    """

    def __init__(self, store: Store, backend: Backend) -> None:
        self._store = store
        self._backend = backend
        self._claims = Claims(store)
        self._since = now()
        self._stopped: Failure | None = None
        """Why nothing more is asked."""
        self._in_flight: dict[str, list[Tag]] = {}
        self._keys: dict[int, str] = {}
        """Of the requests in flight, by `id`: digesting one again costs a tenth of sending it."""
        self._hits: deque[tuple[Tag, Found]] = deque()
        self._elsewhere: deque[tuple[Tag, Request]] = deque()
        """Questions that another worker asks."""
        self._look_again = 0.0
        """When they are looked up again (monotonic seconds)."""
        self._all_new = False
        """Whether nothing was known of the last window: then the next is claimed without a look."""
        self._unsaved: list[Answer] = []
        self._saved: list[tuple[Tag, Found]] = []
        """Not handed on yet."""
        self._next_flush = 0.0
        """When what comes is stored (monotonic seconds)."""
        self._timer: asyncio.TimerHandle | None = None

    @abstractmethod
    def key(self, tag: Tag, request: Request) -> str:
        """Return by what a request is known in the store; equal keys are asked for once."""

    @abstractmethod
    def look_up(self, keys: Sequence[str], since: datetime) -> Mapping[str, Found]:
        """Return what is known under these keys, also what failed since then."""

    @abstractmethod
    def save(self, answers: Sequence[Answer]) -> Mapping[str, Found]:
        """Store what came of requests, and return it by key."""

    def stops(self, outcome: Reply | Failure) -> bool:
        """Whether an outcome means that nothing more can be asked, and is none to be stored."""
        return isinstance(outcome, Failure) and outcome.kind == "budget"

    async def ask(
        self, questions: Iterable[tuple[Tag, Request]]
    ) -> AsyncGenerator[tuple[Tag, Found], None]:
        """Yield each tag with what was found, as it comes; outcomes are stored before they appear.

        Equal requests in flight are sent once. Memory is bounded for any number of questions.
        When the iteration is stopped, finished replies are stored first.

        Raises:
            BackendError: the limit on the cost is reached. What was in flight then has come in.
        """
        # The backend pulls its requests from `_missing`, which looks a window ahead in the store
        # and puts what it finds there into `_hits`. Nobody reads those while the backend waits for
        # a server, so a call to it begins with a request that is really missing, and ends when
        # too many hits wait; the outer loop then goes on from where the source stands.
        source = iter(questions)
        with self._claims:
            while True:
                first = self._next_missing(source)
                while self._hits:
                    yield self._hits.popleft()
                if first is None:
                    if not self._elsewhere:
                        return
                    await asyncio.sleep(max(0.0, self._look_again - time.monotonic()))
                    continue
                if not first:
                    continue
                async with aclosing(self._ask_backend(self._missing(first, source))) as answers:
                    async for answer in answers:
                        yield answer
                        while self._hits:
                            yield self._hits.popleft()
                if self._stopped:
                    raise stopped(self._stopped)

    def _next_missing(self, source: Iterator[tuple[Tag, Request]]) -> list[Request] | None:
        """Return the missing requests of the first window that has any; None where none has now.

        Hits of the windows passed on the way wait in `_hits`, up to a limit: then an empty list.
        """
        while window := self._window(source):
            if missing := self._split(window):
                return missing
            if len(self._hits) >= _MAX_WAITING:
                return []
        return None

    def _window(self, source: Iterator[tuple[Tag, Request]]) -> list[tuple[Tag, Request]]:
        """Return the next questions: those left to others a while ago, else new ones."""
        if self._elsewhere and time.monotonic() >= self._look_again:
            self._look_again = time.monotonic() + _LOOK_AGAIN
            self._all_new = False  # a claim may stand for a while behind the answer
            return [self._elsewhere.popleft() for _ in range(min(_KEYS, len(self._elsewhere)))]
        return [] if len(self._elsewhere) >= _MAX_WAITING else list(islice(source, _WINDOW))

    def _missing(
        self, first: list[Request], source: Iterator[tuple[Tag, Request]]
    ) -> Iterator[Request]:
        yield from self._until_stopped(first)
        while not self._stopped and len(self._hits) < _MAX_WAITING:
            if not (window := self._window(source)):
                return
            yield from self._until_stopped(self._split(window))

    def _until_stopped(self, requests: list[Request]) -> Iterator[Request]:
        for request in requests:
            if self._stopped:
                return
            yield request

    def _split(self, window: list[tuple[Tag, Request]]) -> list[Request]:
        """Queue the hits of a window and return the requests that must be asked here, each once."""
        keyed = [(self.key(tag, request), tag, request) for tag, request in window]
        found, ours = self._known_and_ours({key for key, *_ in keyed if key not in self._in_flight})
        missing = []
        for key, tag, request in keyed:
            if key in found:
                self._hits.append((tag, found[key]))
            elif key in self._in_flight:
                self._in_flight[key].append(tag)
            elif key in ours:
                self._in_flight[key] = [tag]
                self._keys[id(request)] = key
                missing.append(request)
            else:
                self._elsewhere.append((tag, request))
        return missing

    def _known_and_ours(self, keys: set[str]) -> tuple[Mapping[str, Found], set[str]]:
        """Return what is known of keys, and which of the others are claimed here now."""
        found: dict[str, Found] = {}
        if keys and not self._all_new:
            found |= self.look_up(sorted(keys), self._since)
        ours = self._claims.take(keys - found.keys()) if keys - found.keys() else set()
        # By now somebody else may have stored an answer and given the key back.
        answered = self.look_up(sorted(ours), self._since) if ours else {}
        self._claims.release(answered)
        self._all_new = not found and not answered
        return {**found, **answered}, ours - answered.keys()

    async def _ask_backend(
        self, requests: Iterator[Request]
    ) -> AsyncGenerator[tuple[Tag, Found], None]:
        try:
            async with aclosing(self._backend.answer(requests)) as answers:
                async for request, outcome in answers:
                    if self.stops(outcome):
                        assert isinstance(outcome, Failure)
                        self._stopped = outcome  # it was never asked: there is nothing to keep
                        continue
                    self._unsaved.append(Answer(self._keys.pop(id(request)), request, outcome))
                    self._flush_in_time()
                    for answer in self._taken():
                        yield answer
            self._flush()
            for answer in self._taken():
                yield answer
        finally:
            self._flush()  # what was answered when the iteration was stopped
            self._claims.release([*self._in_flight])
            self._in_flight.clear()
            self._keys.clear()

    def _flush_in_time(self) -> None:
        """Store what came, now or soon: also where nothing more comes."""
        wait = self._next_flush - time.monotonic()
        if wait <= 0 or len(self._unsaved) >= _FLUSH_ROWS:
            self._flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(wait, self._flush_alone)

    def _flush_alone(self) -> None:
        with suppress(StoreError):  # it will be met again where it can be told
            self._flush()

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._unsaved:
            return
        start = time.monotonic()
        found = self.save(self._unsaved)
        self._unsaved = []
        self._claims.release([*found])
        for key, one in found.items():
            self._saved.extend((tag, one) for tag in self._in_flight.pop(key, []))
        end = time.monotonic()
        self._next_flush = end + min(_FLUSH_SECONDS, (end - start) / _FLUSH_SHARE)

    def _taken(self) -> list[tuple[Tag, Found]]:
        saved, self._saved = self._saved, []
        return saved
