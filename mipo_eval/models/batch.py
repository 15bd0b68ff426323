"""Asking through a provider's batch service: half the price, an answer within a day.

    submit -> poll -> collect        Ctrl-C, a crash or a closed laptop in between loses nothing:
                                     the jobs go on at the provider, and the same command finds them

Jobs are marked with the identity of the backend, and every request in them carries its ledger key,
so a later process needs no notes of its own: it lists the jobs with our mark, takes the replies
that answer what it wants, waits for jobs that will, and submits only the rest.

A reply is the same however it was asked for. So the identity is that of the backend that asks one
by one, and what one has asked the other finds in the ledger.
"""

import asyncio
import json
import random
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

from mipo_eval.errors import BackendError, ConfigError
from mipo_eval.keys import digest
from mipo_eval.models.base import Answers, Failure, Limits, Reply, Request
from mipo_eval.models.gemini import GeminiBackend, config_of, contents_of, read_answer
from mipo_eval.models.openai import OpenAIBackend, read_completion
from mipo_eval.models.prices import Budget, Usage
from mipo_eval.models.retry import Found, ServedBackend, Trouble, clean, status_kind

if TYPE_CHECKING:
    import openai
    from google.genai.client import AsyncClient
    from google.genai.types import BatchJob
    from openai.types import Batch

MARK = "mipo-eval"
"""How our jobs are told from others of the same account."""

_FIRST_LOOK = 1.0
"""Seconds from submitting a job to the first look at it."""
_LATER_LOOKS = 1.5
"""By how much longer each further look is waited for."""

_LOOKED_AT = 200
"""Jobs of the account that are looked through for ours, the latest first."""

Listed = TypeVar("Listed")
"""A job as the provider's client describes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SentBatch:
    """One batch at the provider."""

    name: str
    keys: frozenset[str] | None
    """Ledger keys of its requests; None where the provider tells only with the results."""
    done: bool
    """Whether it has ended, so that what it has can be collected."""
    state: str = "under way"


class BatchService(ABC, Generic[Listed]):
    """A provider's batch service; every method may raise Trouble.

    Args:
        backend: what asks the same model one by one.
        url: of the server.
    """

    def __init__(self, backend: ServedBackend, url: str) -> None:
        self._backend = backend
        self._url = url
        self._mark = digest(dict(backend.identity))

    async def existing(self) -> list[SentBatch]:
        """Return the jobs with our mark and identity that the provider still knows."""

        async def ours() -> list[SentBatch]:
            found, seen = [], 0
            async for job in self._latest():
                seen += 1
                if seen > _LOOKED_AT:
                    break
                if self._is_ours(job):
                    found.append(await self._described(job))
            return found

        return await self._mapped(ours())

    async def refresh(self, job: SentBatch) -> SentBatch:
        """Return the job as it is now."""
        done, state = self._progress(await self._retrieve(job))
        return replace(job, done=done, state=state)

    @abstractmethod
    async def submit(self, requests: Mapping[str, Request]) -> SentBatch:
        """Start a job for requests by ledger key."""

    @abstractmethod
    async def collect(self, job: SentBatch) -> Mapping[str, Reply | Failure]:
        """Return what a job that is done has answered, by ledger key."""

    @abstractmethod
    def _latest(self) -> AsyncIterator[Listed]:
        """Yield the account's jobs, the latest first."""

    @abstractmethod
    def _is_ours(self, job: Listed) -> bool:
        """Whether a job has our mark and identity."""

    @abstractmethod
    async def _described(self, job: Listed) -> SentBatch:
        """Return a job of an earlier process, with its keys where the provider tells them."""

    @abstractmethod
    async def _retrieve(self, job: SentBatch) -> Listed:
        """Return a job as the provider describes it now."""

    @abstractmethod
    def _progress(self, job: Listed) -> tuple[bool, str]:
        """Return whether a job has ended, well or not, and how far it is, in words."""

    async def _mapped(self, call: Awaitable[Found]) -> Found:
        return await self._backend.mapped(call, self._url)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """How batches are cut and watched."""

    requests: int = 20_000
    """In one job at most; they are kept in memory until it is done."""
    poll_seconds: float = 30.0
    """Between two looks at a job; the first ones come sooner, since small jobs end soon."""


class BatchBackend(ServedBackend):
    """What backends have in common that ask through a batch service; goes before the other base.

    Args:
        model: the model's name.
        base_url: the server, where it is not the provider's own.
        limits: tries of calls to the service, their waits, and money.
        batch: how batches are cut and watched.
    """

    most_requests: ClassVar[int] = 50_000
    """What the provider takes in one job."""

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        *,
        limits: Limits | None = None,
        batch: BatchLimits | None = None,
    ) -> None:
        super().__init__(model, base_url, limits=limits)
        if len(self.urls) > 1:
            raise ConfigError("batches go to one server: give one URL")
        self._batch = batch or BatchLimits()
        self._budget = Budget(self.price and self.price.in_batches(), self.limits.money())
        self._held: dict[str, float] = {}
        """Money set aside, by ledger key."""

    @property
    def usage(self) -> Usage:
        """What was asked for and paid so far."""
        return self._budget.usage

    @abstractmethod
    def _service(self) -> AbstractAsyncContextManager[BatchService[Any]]:
        """Open the provider's service."""

    async def answer(self, requests: Iterable[Request]) -> Answers:
        """Yield every request with its outcome, job after job.

        Raises:
            BackendError: the service cannot be reached; the jobs go on and are found again.
        """
        async with (
            self._service() as service,
            aclosing(self._stream(requests, service)) as outcomes,
        ):
            async for outcome in outcomes:
                yield outcome

    async def _stream(self, requests: Iterable[Request], service: BatchService[Any]) -> Answers:
        old: list[SentBatch] | None = None
        source = iter(requests)
        size = min(self._batch.requests, self.most_requests)
        while wanted := {one.key(self.identity): one for one in islice(source, size)}:
            if old is None:
                old = await self._patiently(service.existing)
            async for name, outcome in self._answered(wanted, old, service):
                yield wanted.pop(name), outcome

    async def _answered(
        self, wanted: Mapping[str, Request], old: list[SentBatch], service: BatchService[Any]
    ) -> AsyncGenerator[tuple[str, Reply | Failure], None]:
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
            self.usage.tries += len(left)
            running.append((await self._patiently(lambda: service.submit(left)), left))
        for job, requests in running:
            found = await self._collected(job, service)
            detail = f"batch {job.name} ended without an answer to this request"
            missing = Failure(kind="server_error", detail=detail)
            for name, request in requests.items():
                yield name, self._counted(request, found.get(name) or missing)

    def _afforded(self, left: dict[str, Request]) -> list[tuple[str, Failure]]:
        """Set money aside for the requests; take out, and return, those it does not suffice for."""
        refused = []
        for name, request in list(left.items()):
            reserved = self._budget.reserve(request)
            if reserved is None:
                self.usage.failures += 1
                detail = f"not asked: {self._budget.purse.used_up()}"
                refused.append((name, Failure(kind="budget", detail=detail, attempts=0)))
                del left[name]
            else:
                self._held[name] = reserved
        return refused

    async def _collected(
        self, job: SentBatch, service: BatchService[Any]
    ) -> Mapping[str, Reply | Failure]:
        """Wait until a job is done and return what it has answered."""
        wait = _FIRST_LOOK
        while not job.done:
            self.usage.waiting = f"batch {job.name}: {job.state}"
            await asyncio.sleep(min(wait, self._batch.poll_seconds))
            wait *= _LATER_LOOKS
            job = await self._patiently(lambda now=job: service.refresh(now))  # type: ignore[misc]
        self.usage.waiting = ""
        return await self._patiently(lambda: service.collect(job))

    def _counted(self, request: Request, outcome: Reply | Failure) -> Reply | Failure:
        """Add an outcome to usage and budget, and return it."""
        cost = 0.0
        if isinstance(outcome, Failure):
            self.usage.failures += 1
        else:
            cost = self._budget.count(request, outcome)
        self._budget.purse.settle(self._held.pop(request.key(self.identity), 0.0), cost)
        return outcome

    async def _patiently(self, call: Callable[[], Awaitable[Found]]) -> Found:
        """Try a call to the service as often as a request is tried elsewhere."""
        limits = self.limits
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


_ENDPOINT: Literal["/v1/chat/completions"] = "/v1/chat/completions"
_ENDED = frozenset({"completed", "failed", "expired", "cancelled"})


class OpenAIBatchBackend(BatchBackend, OpenAIBackend):
    """Asks a model through OpenAI's Batch API, at OpenAI or one server that has it."""

    @asynccontextmanager
    async def _service(self) -> AsyncIterator[BatchService[Any]]:
        async with AsyncExitStack() as stack:
            [server] = await self._open(stack)
            yield _OpenAIService(self, server.url, server.client)


class _OpenAIService(BatchService["Batch"]):
    """The Batch API, whose requests and replies are files of JSON lines."""

    def __init__(self, backend: OpenAIBackend, url: str, client: "openai.AsyncOpenAI") -> None:
        super().__init__(backend, url)
        self._body = backend.body
        self._client = client

    async def submit(self, requests: Mapping[str, Request]) -> SentBatch:
        about = {"method": "POST", "url": _ENDPOINT}
        lines = (
            json.dumps({"custom_id": name, **about, "body": self._body(request)})
            for name, request in requests.items()
        )
        content = "\n".join(lines).encode()
        file = await self._mapped(
            self._client.files.create(file=("requests.jsonl", content), purpose="batch")
        )
        batch = await self._mapped(
            self._client.batches.create(
                input_file_id=file.id,
                endpoint=_ENDPOINT,
                completion_window="24h",
                metadata={MARK: self._mark},
            )
        )
        done, _ = self._progress(batch)
        return SentBatch(name=batch.id, keys=frozenset(requests), done=done)

    async def collect(self, job: SentBatch) -> Mapping[str, Reply | Failure]:
        batch = await self._retrieve(job)
        if batch.status == "failed":
            errors = batch.errors.data if batch.errors else None
            reason = errors[0].message if errors else "no reason given"
            raise Trouble("bad_request", f"{self._url} refused batch {job.name}: {reason}")
        found: dict[str, Reply | Failure] = {}
        for file in (batch.output_file_id, batch.error_file_id):
            if file:
                found.update(_line_outcome(line) for line in await self._lines(file))
        return found

    async def _latest(self) -> AsyncIterator["Batch"]:
        async for batch in self._client.batches.list(limit=100):
            yield batch

    def _is_ours(self, job: "Batch") -> bool:
        return (job.metadata or {}).get(MARK) == self._mark

    async def _described(self, job: "Batch") -> SentBatch:
        """Return a batch with the keys it has answered, or will."""
        done, state = self._progress(job)
        file = job.output_file_id if done else job.input_file_id
        lines = await self._lines(file) if file else []
        keys = frozenset(line["custom_id"] for line in lines)
        return SentBatch(name=job.id, keys=keys, done=done, state=state)

    async def _retrieve(self, job: SentBatch) -> "Batch":
        return await self._mapped(self._client.batches.retrieve(job.name))

    def _progress(self, job: "Batch") -> tuple[bool, str]:
        counts = job.request_counts
        answered = f", {counts.completed} of {counts.total} answered" if counts else ""
        return job.status in _ENDED, f"{job.status.replace('_', ' ')}{answered}"

    async def _lines(self, file: str) -> list[dict[str, Any]]:
        content = (await self._mapped(self._client.files.content(file))).content
        try:
            return [json.loads(line) for line in content.splitlines() if line.strip()]
        except ValueError:
            raise Trouble("bad_reply", f"file {file} is not JSONL", again=True) from None


def _line_outcome(line: dict[str, Any]) -> tuple[str, Reply | Failure]:
    """Return a request's key and outcome from a line of an output or error file."""
    name = str(line["custom_id"])
    answer = line.get("response") or {}
    status = answer.get("status_code")
    if status == 200:
        return name, _outcome(lambda: read_completion(json.dumps(answer.get("body")).encode()))
    error = line.get("error") or (answer.get("body") or {}).get("error") or {}
    message = str(error.get("message") or error.get("code") or "no reason given")
    kind = status_kind(status) if isinstance(status, int) else "server_error"
    return name, Failure(kind=kind, detail=f"in a batch: {message}")


def _outcome(read: Callable[[], Reply]) -> Reply | Failure:
    try:
        return read()
    except Trouble as trouble:
        return Failure(kind=trouble.kind, detail=trouble.detail)


_RUNNING = frozenset({"QUEUED", "PENDING", "RUNNING", "PAUSED", "UPDATING", "CANCELLING"})


class GeminiBatchBackend(BatchBackend, GeminiBackend):
    """Asks a Gemini model through its batch mode."""

    most_requests = 2_000  # they are sent within the call that makes a job, which may have 20 MB

    @asynccontextmanager
    async def _service(self) -> AsyncIterator[BatchService[Any]]:
        async with self.client() as client:
            yield _GeminiService(self, self.url, client)


class _GeminiService(BatchService["BatchJob"]):
    """Gemini's batch mode, whose requests and replies stand in the job itself."""

    def __init__(self, backend: GeminiBackend, url: str, client: "AsyncClient") -> None:
        super().__init__(backend, url)
        self._model = backend.model
        self._client = client
        self._shown_as = f"{MARK}-{self._mark}"

    async def submit(self, requests: Mapping[str, Request]) -> SentBatch:
        from google.genai.types import CreateBatchJobConfig, InlinedRequest

        inlined = [
            InlinedRequest(
                model=self._model,
                contents=list(contents_of(request)),
                config=config_of(request, constrained=bool(request.choices)),
                metadata={"key": name},
            )
            for name, request in requests.items()
        ]
        config = CreateBatchJobConfig(display_name=self._shown_as)
        job = await self._mapped(
            self._client.batches.create(model=self._model, src=inlined, config=config)
        )
        if not job.name:
            raise Trouble("bad_reply", f"{self._url} gave the batch no name", again=True)
        done, _ = self._progress(job)
        return SentBatch(name=job.name, keys=frozenset(requests), done=done)

    async def collect(self, job: SentBatch) -> Mapping[str, Reply | Failure]:
        ended = await self._retrieve(job)
        answers = (ended.dest.inlined_responses if ended.dest else None) or []
        keys = [(answer.metadata or {}).get("key") for answer in answers]
        return {
            str(key): _gemini_outcome(answer)
            for key, answer in zip(keys, answers, strict=True)
            if key
        }

    async def _latest(self) -> AsyncIterator["BatchJob"]:
        async for job in await self._client.batches.list():
            yield job

    def _is_ours(self, job: "BatchJob") -> bool:
        return job.display_name == self._shown_as and bool(job.name)

    async def _described(self, job: "BatchJob") -> SentBatch:
        # A list does not tell what is in a job; its results do.
        done, state = self._progress(job)
        return SentBatch(name=str(job.name), keys=None, done=done, state=state)

    async def _retrieve(self, job: SentBatch) -> "BatchJob":
        return await self._mapped(self._client.batches.get(name=job.name))

    def _progress(self, job: "BatchJob") -> tuple[bool, str]:
        state = job.state.name.removeprefix("JOB_STATE_") if job.state else "PENDING"
        return state not in _RUNNING, state.lower().replace("_", " ")


def _gemini_outcome(answer: Any) -> Reply | Failure:
    if answer.response is None:
        message = answer.error.message if answer.error else "no reason given"
        return Failure(kind="server_error", detail=clean(f"in a batch: {message}"))
    return _outcome(lambda: read_answer(answer.response))
