"""A server that is asked: bounded, lazily, with retries, and no more when that is hopeless."""

import asyncio
import gc
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, suppress
from dataclasses import KW_ONLY, dataclass, replace
from difflib import get_close_matches
from importlib.util import find_spec
from typing import ClassVar, TypeVar

from mipo_eval.errors import BackendError, ConfigError
from mipo_eval.keys import MASK, is_key_name, masked
from mipo_eval.models.base import Answers, Failure, FailureKind, Limits, Reply, Request
from mipo_eval.models.changes import (
    NO_TEXT,
    Changes,
    holds_nothing,
    lacks_room,
    no_room,
    refused_setting,
)
from mipo_eval.models.credentials import Credential, credential, demanded
from mipo_eval.models.pace import Pace, Width
from mipo_eval.models.prices import HOW_TO_PRICE, NOT_ASKED, Budget, Price, Usage, price_of
from mipo_eval.models.spec import is_private
from mipo_eval.models.told import retry_after

Found = TypeVar("Found")

_RAMP = 0.1
"""Seconds over which the workers start. Started at once they would stay in step for good: all
replies arrive together, and the server idles while this process works through them."""

_CHECK_SECONDS = 20.0
_KEY_LIKE = re.compile(r"\b(?:(?:sk|key|Bearer)[-_ ]|AIza)[\w*.-]{6,}")
_LONGEST_WORDS = 300
_LISTED = 12
"""Models named in an error, at most."""

_STUMBLES = (RecursionError, TypeError, ValueError, AttributeError, LookupError)
"""What clients raise over an answer of no form that they know: not each looks before it reads."""
_OVERLOAD = frozenset({"rate_limit", "server_error", "timeout"})


@dataclass(eq=False)
class Trouble(Exception):
    """One failed try of one request, in our terms; raised where a client's error is caught."""

    kind: FailureKind
    """What the failure is called in the ledger."""
    detail: str
    """One line for the user, without any key."""
    _: KW_ONLY
    again: bool = False
    """Whether another try can help."""
    after: float | None = None
    """Seconds the server asked to wait, if it did."""
    stops: bool = False
    """Whether no later request can succeed either (a refused key, a missing model)."""
    billed: bool = False
    """Whether the server may have done the work, and charge for it."""
    sent: bool = True
    """False for a try that was given up before anything was sent."""
    refuses: str | None = None
    """The optional setting that the server does not take, where that is what it says."""

    def failure(self, attempts: int = 1) -> Failure:
        """Return what a request that got no further than this has for an outcome."""
        return Failure(kind=self.kind, detail=self.detail, attempts=attempts)


Send = Callable[[Request], Awaitable[Reply]]
"""Tries one request once; raises Trouble."""


class Sender:
    """Sends requests to one server (or several of the same kind) and remembers if it is dead.

    A server counts as dead when it refuses the key, does not have the model, or when one request
    used up all its tries without any answer while no other request got through. From then on every
    request fails at once with that reason, without a call, so that a run of thousands ends in
    seconds and can be resumed. The same happens when the money is used up.

    Raises:
        ConfigError: there is a limit on the money but no price.
    """

    def __init__(
        self, limits: Limits, price: Price | None = None, changes: Changes | None = None
    ) -> None:
        purse = limits.money()
        if purse.limit is not None and price is None:
            raise ConfigError(f"a limit on the cost needs the model's price: {HOW_TO_PRICE}")
        self.limits = limits
        self.changes = changes or Changes()
        self.dead: Failure | None = None
        self._budget = Budget(price, purse)
        self._width = Width(limits.concurrency)
        self._requests = Pace(limits.requests_per_minute)
        self._tokens = Pace(limits.tokens_per_minute)
        self._not_before = 0.0
        """Until then (monotonic seconds) the server asked everybody to wait."""
        self._unanswered = 0
        """Tries since the server last answered anything at all."""

    @property
    def usage(self) -> Usage:
        """What was asked for and paid so far."""
        return self._budget.usage

    def revive(self) -> None:
        """Forget that the server was dead: it was checked again."""
        self.dead = None
        self._unanswered = 0

    async def stream(self, requests: Iterable[Request], send: Send) -> Answers:
        """Yield every request with its outcome, as they complete.

        `concurrency` workers take requests from the one iterator, so it is pulled only as fast as
        the server answers; a consumer that is slow holds the workers back in turn.
        """
        # A full collection looks at every object of every library loaded: a tenth of a second in
        # which no reply is read. What is there by now stays anyway.
        gc.freeze()
        iterator = iter(requests)
        done: asyncio.Queue[tuple[Request, Reply | Failure] | asyncio.Task[None]] = asyncio.Queue()
        # One outcome a worker may wait to be read while it asks for the next: the server is kept
        # busy through a short write to the store, and memory stays bounded through a long one.
        room = asyncio.Semaphore(2 * self.limits.concurrency)
        stopped = asyncio.Event()

        async def work(delay: float) -> None:
            await asyncio.sleep(delay)
            while True:
                await room.acquire()
                try:
                    request = next(iterator)
                except StopIteration:
                    room.release()
                    return
                done.put_nowait((request, await self._ask(request, send, stopped)))

        count = self.limits.concurrency
        workers = [asyncio.create_task(work(_RAMP * i / count)) for i in range(count)]
        for worker in workers:
            worker.add_done_callback(done.put_nowait)
        running = len(workers)
        try:
            while running:
                outcome = await done.get()
                if isinstance(outcome, asyncio.Task):
                    running -= 1
                    outcome.result()  # raises what it died of: the caller's iterator, or a bug
                else:
                    yield outcome
                    room.release()
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _ask(self, request: Request, send: Send, stopped: asyncio.Event) -> Reply | Failure:
        """Return the outcome of a request, in as many tries as it takes and is allowed."""
        short = 0
        """Tokens that were not enough."""
        while True:
            asked = self.changes.applied(request)
            outcome = await self._outcome(asked, send, stopped)
            if isinstance(outcome, Reply) and lacks_room(outcome, request):
                short = asked.sampling.max_tokens
                if self.changes.make_room(short):
                    continue
                outcome = no_room(short)
            elif isinstance(outcome, Failure) and outcome.kind == "bad_request" and short:
                self.changes.no_more_than(short)
                outcome = no_room(short)
            self.usage.ended(outcome)
            return outcome

    async def _outcome(
        self, request: Request, send: Send, stopped: asyncio.Event
    ) -> Reply | Failure:
        for attempt in range(1, self.limits.attempts + 1):
            if self.dead:
                return replace(self.dead, attempts=attempt - 1)
            try:
                return await self._try(request, send, stopped)
            except Trouble as caught:
                trouble = caught
            failure = trouble.failure(attempt if trouble.sent else attempt - 1)
            self._note(trouble, failure, stopped)
            if not trouble.again or attempt == self.limits.attempts:
                return failure
            await _pause(self.limits.wait(attempt, trouble.after), stopped)
        raise AssertionError("the last attempt returns")

    async def _try(self, request: Request, send: Send, stopped: asyncio.Event) -> Reply:
        """Send once, when width, pace and budget allow it."""
        round_ = await self._width.enter()
        reserved = cost = 0.0
        try:
            reserved = await self._reserve(request)
            estimate = await self._keep_pace(request, stopped)
            self.usage.tries += 1
            async with asyncio.timeout(self.limits.timeout):
                reply = _worded(await send(request), request)
            cost = self._budget.count(request, reply)
            if reply.prompt_tokens is not None:
                tokens = reply.prompt_tokens + (reply.completion_tokens or 0)
                self._tokens.correct(tokens - estimate)
            self._width.widen()
            self._unanswered = 0
        except TimeoutError:
            cost = reserved
            self._width.narrow(round_)
            late = f"no answer within {self.limits.timeout:g} s"
            raise Trouble("timeout", late, again=True) from None
        except Trouble as trouble:
            cost = reserved if trouble.billed else 0.0
            if trouble.kind in _OVERLOAD:
                self._width.narrow(round_)
            if trouble.after is not None:
                self._not_before = max(self._not_before, time.monotonic() + trouble.after)
            raise
        else:
            return reply
        finally:
            self._budget.purse.settle(reserved, cost)
            self._width.leave()

    async def _reserve(self, request: Request) -> float:
        """Set the money for a try aside; wait for what is in flight to give some back."""
        while True:
            reserved = self._budget.reserve(request)
            if reserved is not None:
                return reserved
            if not self._budget.purse.can_free or self.dead:
                raise Trouble("budget", self._budget.purse.used_up(), stops=True, sent=False)
            await asyncio.sleep(0.01)

    async def _keep_pace(self, request: Request, stopped: asyncio.Event) -> int:
        """Wait for this try's turn and return the tokens it was estimated to take."""
        characters = sum(len(turn.content) for turn in request.messages)
        estimate = characters // 4 + request.sampling.max_tokens
        wait = max(
            self._not_before - time.monotonic(),
            self._requests.reserve(1),
            self._tokens.reserve(estimate),
        )
        if wait > 0:
            await _pause(wait, stopped)
            if self.dead:
                raise Trouble(self.dead.kind, self.dead.detail, sent=False)
        return estimate

    def _note(self, trouble: Trouble, failure: Failure, stopped: asyncio.Event) -> None:
        """Find out from one failed try whether the server is dead."""
        # Requests run side by side, so one that used up its tries proves nothing while others get
        # through: only as many silent tries in a row, over all of them, as one request has.
        silent = trouble.kind in {"connection", "timeout"}
        self._unanswered = self._unanswered + 1 if silent else 0
        gave_up = self._unanswered >= failure.attempts == self.limits.attempts
        if self.dead is None and (trouble.stops or gave_up):
            self.dead = Failure(kind=failure.kind, detail=f"{NOT_ASKED}{failure.detail}")
            stopped.set()


def _worded(reply: Reply, request: Request) -> Reply:
    """Return a reply that says something, or was cut; any other is asked for again."""
    if holds_nothing(reply, request):
        raise Trouble("bad_reply", NO_TEXT, again=True, billed=True)
    return reply


async def _pause(seconds: float, stopped: asyncio.Event) -> None:
    """Sleep, but wake when the server is found dead."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stopped.wait()


class ServedBackend(ABC):
    """What the backends that ask a server share: addresses, money, and how requests are streamed.

    Args:
        model: the name the server knows the model by.
        base_url: the server, where it is not the provider's own.
        limits: how hard it may be pushed.
        api_key_env: the environment variable that holds its key, where it is not the usual one.

    Raises:
        ConfigError: a URL is not usable, a package is not installed, or money is limited and the
            price unknown.
    """

    kind: ClassVar[str]
    """What it is called in identities and before a model's name."""
    optional: ClassVar[frozenset[str]] = frozenset()
    """The settings that are left out where the server does not take them."""
    package: ClassVar[str | None] = None
    """What it needs that only an extra installs; the extra is called as its kind."""
    provider: str | None = None
    """Who serves the model, where the URL does not tell."""

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        *,
        limits: Limits | None = None,
        api_key_env: str | None = None,
    ) -> None:
        if self.package and find_spec(self.package) is None:
            named = ":".join(part for part in (self.kind, self.provider, model) if part)
            raise ConfigError(f"{named} needs pip install 'mipo-eval[{self.kind}]'")
        self.model = model
        self._api_key_env = key_name(api_key_env) if api_key_env else None
        self.urls = self._servers(base_url)
        self.limits = limits or Limits()
        private = bool(self.urls) and all(map(is_private, self.urls))
        first = next(iter(self.urls), "")
        self.price = price_of(model, private=private, url=first, provider=self.provider)
        self.changes = Changes()
        self._sender = Sender(self.limits, self.price, self.changes)

    @property
    def identity(self) -> Mapping[str, str]:
        """The model and where it is served; two servers may serve different weights as one name."""
        return {"backend": self.kind, "model": self.model, "url": ",".join(self.urls)}

    @property
    def usage(self) -> Usage:
        """What was asked for and paid so far."""
        return self._sender.usage

    @property
    def dead(self) -> Failure | None:
        """Why it is asked no more, where that is so."""
        return self._sender.dead

    async def answer(self, requests: Iterable[Request]) -> Answers:
        """Yield each request with its outcome, as they complete; see `Backend.answer`."""
        async with (
            self._opened() as send,
            aclosing(self._sender.stream(requests, send)) as outcomes,
        ):
            async for outcome in outcomes:
                yield outcome

    @abstractmethod
    async def check(self) -> None:
        """See whether it can be asked; see `Backend.check`."""

    @abstractmethod
    def _servers(self, base_url: str | None) -> tuple[str, ...]:
        """Return the URLs to ask, each in its one form."""

    @abstractmethod
    def _opened(self) -> AbstractAsyncContextManager[Send]:
        """Open clients, which belong to one event loop, and give what tries a request once."""

    @abstractmethod
    def errors(self) -> tuple[type[Exception], ...]:
        """Return what the client raises, and what it lets through from the HTTP library."""

    @abstractmethod
    def trouble(self, error: Exception, url: str) -> Trouble:
        """Return what one of these errors is in our terms."""

    async def mapped(self, call: Awaitable[Found], url: str = "") -> Found:
        """Await a call of the client to `url`, or the only server; its errors become Trouble."""
        where = url or self.urls[0]
        try:
            return await call
        except self.errors() as error:
            raise self.trouble(error, where) from None
        except _STUMBLES as error:
            reason = clean(f"{where} sent no answer of its protocol ({type(error).__name__})")
            raise Trouble("bad_reply", reason, again=True, billed=True) from None

    def credential(self, url: str) -> Credential:
        """Return which key a server is sent.

        Raises:
            BackendError: there is none and it needs one.
        """
        return demanded(url, self._api_key_env)

    def refusal(
        self,
        url: str,
        status: int,
        words: str,
        *,
        stops: bool = False,
        after: str | None = None,
        named: str | None = None,
    ) -> Trouble:
        """Return what an HTTP error status means; the server's own words are kept where safe.

        Args:
            url: of the server.
            status: 401 where the key is what is wrong.
            words: the server's reason.
            stops: as in `Trouble`.
            after: its Retry-After header, or what says the same.
            named: the parameter that the server says is wrong, where it names one.
        """
        if status == 401:
            # The server's words are left out here: some repeat the key.
            return Trouble("auth", f"{url} {credential(url, self._api_key_env)}", stops=True)
        kind, detail = status_kind(status), f"{url} answered {status}: {clean(words)}"
        if stops or status in {403, 404}:
            return Trouble(kind, detail, stops=True)
        if kind == "bad_request":
            return Trouble(kind, detail, refuses=refused_setting(self.optional, words, named))
        try:
            return Trouble(kind, detail, again=True, after=retry_after(after, time.time()))
        except ValueError as too_long:
            return Trouble(kind, f"{detail} ({too_long})")

    def leave_out(self, *names: str) -> None:
        """Send these settings no more."""
        self.changes.leave_out(names)

    async def accepted(self, send: Callable[[Collection[str]], Awaitable[Reply]]) -> Reply:
        """Try one request, again without each setting that the server refuses.

        Only a request that succeeds without them proves that these were what was wrong.
        """
        refused: set[str] = set()
        while True:
            try:
                reply = await send(refused)
            except Trouble as trouble:
                if trouble.refuses is None or trouble.refuses in refused:
                    raise
                refused.add(trouble.refuses)
            else:
                self.leave_out(*refused)
                return reply

    async def check_served(self, url: str, listed: Awaitable[Sequence[str] | None]) -> None:
        """Raise BackendError unless a server has the model, or (None) no list of its models."""
        try:
            async with asyncio.timeout(min(_CHECK_SECONDS, self.limits.timeout)):
                served = await listed
        except Trouble as trouble:
            raise BackendError(trouble.detail) from None
        except TimeoutError:
            raise BackendError(
                f"{url} does not answer: is the URL right, and is the server running?"
            ) from None
        if served is None or self.model in served:
            self._sender.revive()
            return
        names = ", ".join(served) or "nothing"
        if len(served) > _LISTED:
            near = get_close_matches(self.model, served, n=_LISTED, cutoff=0.0)
            names = f"{', '.join(near)} and {len(served) - _LISTED} more"
        raise BackendError(f"{url} does not serve {self.model!r}; it serves: {names}")


def key_name(name: str) -> str:
    """Return the name of a variable that may hold a key.

    Raises:
        ConfigError: it does not sound like one, so that messages would not hide what it holds.
    """
    if name.isidentifier() and is_key_name(name):
        return name
    raise ConfigError(
        f"api_key_env: {name!r} must be the name of the environment variable that holds the key, "
        "with KEY, TOKEN, SECRET or PASSWORD in it"
    )


def clean(text: str) -> str:
    """Return text from a server as one short line that holds no key."""
    return " ".join(_KEY_LIKE.sub(MASK, masked(text)).split())[:_LONGEST_WORDS]


def status_kind(status: int) -> FailureKind:
    """Return what an HTTP error status is called in the ledger."""
    if status in {401, 403}:
        return "auth"
    if status in {408, 429}:
        return "timeout" if status == 408 else "rate_limit"
    return "server_error" if status >= 500 or status == 409 else "bad_request"
