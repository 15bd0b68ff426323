"""Asking through a provider's batch service: half the price, an answer within a day.

    submit -> poll -> collect        Ctrl-C, a crash or a closed laptop in between loses nothing:
                                     the jobs go on at the provider, and the same command finds them

Jobs are marked with the identity of the backend, and every request in them carries its ledger key,
so a later process needs no notes of its own: it lists the jobs with our mark, takes the replies
that answer what it wants, waits for jobs that will, and submits only the rest.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Protocol, TypeVar

from mipo_eval.backends.base import Failure, Reply, Request
from mipo_eval.backends.pacing import Budget, Usage
from mipo_eval.backends.prices import Price
from mipo_eval.backends.sending import Limits, Trouble
from mipo_eval.errors import BackendError

MARK = "mipo-eval"
"""How our jobs are told from others of the same account."""

_FIRST_LOOK = 1.0
"""Seconds from submitting a job to the first look at it."""
_LATER_LOOKS = 1.5
"""By how much longer each further look is waited for."""

Outcome = Reply | Failure
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True, kw_only=True)
class SentBatch:
    """One batch at the provider."""

    name: str
    keys: frozenset[str] | None
    """Ledger keys of its requests; None where the provider tells only with the results."""
    done: bool
    """Whether it has ended, well or not, so that what it has can be collected."""
    state: str = "under way"
    """How far it is, in words."""


class BatchService(Protocol):
    """A provider's batch service; every method may raise Trouble."""

    async def existing(self) -> list[SentBatch]:
        """Return the jobs with our mark and identity that the provider still knows."""
        ...

    async def submit(self, requests: Mapping[str, Request]) -> SentBatch:
        """Start a job for requests by ledger key."""
        ...

    async def refresh(self, job: SentBatch) -> SentBatch:
        """Return the job as it is now."""
        ...

    async def collect(self, job: SentBatch) -> Mapping[str, Outcome]:
        """Return what a job that is done has answered, by ledger key."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """How batches are cut and watched."""

    requests: int = 20_000
    """In one job at most; they are kept in memory until it is done."""
    poll_seconds: float = 30.0
    """Between two looks at a job; the first ones come sooner, since small jobs end soon."""


class BatchSender:
    """Answers requests through a batch service.

    Args:
        limits: tries of calls to the service, their waits, and money.
        batch: how batches are cut and watched.
        price: of the model, one by one; None if unknown.
        key: the ledger key of a request.
    """

    def __init__(
        self,
        limits: Limits,
        batch: BatchLimits,
        price: Price | None,
        key: Callable[[Request], str],
    ) -> None:
        self.usage = self._usage = Usage(cost=None if price is None else 0.0)
        self._limits = limits
        self._batch = batch
        self._budget = Budget(price and price.in_batches(), limits.money())
        self._key = key
        self._held: dict[str, float] = {}
        """Money set aside, by ledger key."""

    async def stream(
        self, requests: Iterable[Request], service: BatchService
    ) -> AsyncGenerator[tuple[Request, Outcome], None]:
        """Yield every request with its outcome, job after job.

        Raises:
            BackendError: the service cannot be reached; the jobs go on and are found again.
        """
        old: list[SentBatch] | None = None
        source = iter(requests)
        size = self._batch.requests
        while wanted := {self._key(request): request for request in islice(source, size)}:
            if old is None:
                old = await self._patiently(service.existing)
            async for name, outcome in self._answer(wanted, old, service):
                yield wanted.pop(name), outcome

    async def _answer(
        self, wanted: Mapping[str, Request], old: list[SentBatch], service: BatchService
    ) -> AsyncGenerator[tuple[str, Outcome], None]:
        """Take what old jobs have or will have, and submit the rest as one new job."""
        left = dict(wanted)
        running: list[tuple[SentBatch, dict[str, Request]]] = []
        for job in old:
            if job.keys is not None and not job.keys & left.keys():
                continue
            if not job.done and job.keys is not None:
                running.append((job, {name: left.pop(name) for name in job.keys & left.keys()}))
                continue
            for name, outcome in (await self._collected(job, service)).items():
                # A failure in an old job is asked again now; only a reply is taken from it.
                if name in left and isinstance(outcome, Reply):
                    yield name, self._counted(left.pop(name), outcome)
        for name, failure in self._afforded(left):
            yield name, failure
        if left:
            self._usage.tries += len(left)
            running.append((await self._patiently(lambda: service.submit(left)), left))
        for job, requests in running:
            found = await self._collected(job, service)
            for name, request in requests.items():
                yield name, self._counted(request, found.get(name) or _missing(job))

    def _afforded(self, left: dict[str, Request]) -> list[tuple[str, Failure]]:
        """Set money aside for the requests; take out, and return, those it does not suffice for."""
        refused = []
        for name, request in list(left.items()):
            reserved = self._budget.reserve(request)
            if reserved is None:
                self._usage.failures += 1
                detail = f"not asked: {self._budget.purse.used_up()}"
                refused.append((name, Failure(kind="budget", detail=detail, attempts=0)))
                del left[name]
            else:
                self._held[name] = reserved
        return refused

    async def _collected(self, job: SentBatch, service: BatchService) -> Mapping[str, Outcome]:
        """Wait until a job is done and return what it has answered."""
        wait = _FIRST_LOOK
        while not job.done:
            self.usage.waiting = f"batch {job.name}: {job.state}"
            await asyncio.sleep(min(wait, self._batch.poll_seconds))
            wait *= _LATER_LOOKS
            job = await self._patiently(lambda now=job: service.refresh(now))  # type: ignore[misc]
        self.usage.waiting = ""
        return await self._patiently(lambda: service.collect(job))

    def _counted(self, request: Request, outcome: Outcome) -> Outcome:
        """Add an outcome to usage and budget, and return it."""
        usage, price = self._usage, self._budget.price
        cost = 0.0
        if isinstance(outcome, Failure):
            usage.failures += 1
        else:
            usage.replies += 1
            usage.prompt_tokens += outcome.prompt_tokens or 0
            usage.completion_tokens += outcome.completion_tokens or 0
            cost = price.of(outcome, request) if price else 0.0
            if usage.cost is not None:
                usage.cost += cost
        self._budget.purse.settle(self._held.pop(self._key(request), 0.0), cost)
        return outcome

    async def _patiently(self, call: Callable[[], Awaitable[Found]]) -> Found:
        """Try a call to the service as often as a request is tried elsewhere."""
        limits = self._limits
        for attempt in range(1, limits.attempts + 1):
            try:
                async with asyncio.timeout(limits.timeout):
                    return await call()
            except TimeoutError:
                trouble = Trouble("timeout", "the batch service did not answer", again=True)
            except Trouble as caught:
                trouble = caught
            if not trouble.again or attempt == limits.attempts:
                break
            longest = min(limits.longest_wait, limits.first_wait * 2 ** (attempt - 1))
            await asyncio.sleep(max(trouble.after or 0.0, random.uniform(longest / 2, longest)))
        raise BackendError(
            f"{trouble.detail}; batches already submitted go on there: run the same command again "
            "to collect them"
        )


def _missing(job: SentBatch) -> Failure:
    return Failure(
        kind="server_error", detail=f"batch {job.name} ended without an answer to this request"
    )
