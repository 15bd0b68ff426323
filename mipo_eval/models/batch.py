"""Asking through a provider's batch service: half the price, an answer within a day.

    submit -> poll -> collect        Ctrl-C, a crash or a closed laptop in between loses nothing:
                                     the jobs go on at the provider, and the same command finds them

Jobs are marked with the identity of the backend, and every request in them carries its ledger key,
so a later process needs no notes of its own: it lists the jobs with our mark, takes the replies
that answer what it wants, waits for jobs that will, and submits only the rest.

OpenAI's Batch API: the same requests and replies as `openai`, at half the price.

Gemini's batch mode: the same requests and replies as `gemini`, at half the price.
"""

import asyncio
import json
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from mipo_eval.errors import BackendError, ConfigError
from mipo_eval.keys import digest
from mipo_eval.models.base import Failure, Reply, Request
from mipo_eval.models.gemini import (
    GeminiBackend,
    config_of,
    connection_errors,
    contents_of,
    read_answer,
    status_trouble,
    unreachable,
)
from mipo_eval.models.openai import (
    OpenAIBackend,
    client_errors,
    read_completion,
    status_kind,
    trouble_of,
)
from mipo_eval.models.prices import Budget, Price, Usage
from mipo_eval.models.retry import Limits, Trouble
from mipo_eval.models.spec import clean

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


_ENDPOINT: Literal["/v1/chat/completions"] = "/v1/chat/completions"
_ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
_LOOKED_AT = 200
"""Jobs of the account that are looked through for ours, the latest first."""


class OpenAIBatchBackend(OpenAIBackend):
    """Asks `model` through the Batch API of one server.

    Its identity is that of `OpenAIBackend`: a reply is the same however it was asked for, so what
    one has asked the other finds in the ledger.

    Args:
        model: the model's name.
        base_url: the server; default `OPENAI_BASE_URL`, or OpenAI itself.
        limits: tries, waits and money.
        batch: how batches are cut and watched.

    Raises:
        ConfigError: the model or the URL is not usable, or several URLs are given.
    """

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
        self._batches = BatchSender(
            self.limits, batch or BatchLimits(), self.price, lambda one: one.key(self.identity)
        )

    @property
    def usage(self) -> Usage:
        """What was asked for and paid so far."""
        return self._batches.usage

    async def answer(
        self, requests: Iterable[Request]
    ) -> AsyncGenerator[tuple[Request, Reply | Failure], None]:
        """Yield each request with its outcome, as batches are done; see `batches`."""
        async with AsyncExitStack() as stack:
            [server] = await self._open(stack)
            service = _OpenAIService(server.client, server.url, self)
            async with aclosing(self._batches.stream(requests, service)) as outcomes:
                async for outcome in outcomes:
                    yield outcome


class _OpenAIService:
    """The Batch API in the terms of `BatchService`."""

    def __init__(self, client: "openai.AsyncOpenAI", url: str, backend: OpenAIBackend) -> None:
        self._client = client
        self._url = url
        self._backend = backend
        self._mark = digest(dict(backend.identity))

    async def existing(self) -> list[SentBatch]:
        jobs = []
        try:
            seen = 0
            async for batch in self._client.batches.list(limit=100):
                seen += 1
                if seen > _LOOKED_AT:
                    break
                if (batch.metadata or {}).get(MARK) == self._mark:
                    jobs.append(await self._job(batch))
        except client_errors() as error:
            raise trouble_of(error, self._url) from None
        return [job for job in jobs if job.keys]

    async def submit(self, requests: Mapping[str, Request]) -> SentBatch:
        lines = (
            json.dumps(
                {
                    "custom_id": name,
                    "method": "POST",
                    "url": _ENDPOINT,
                    "body": self._backend.body(request),
                }
            )
            for name, request in requests.items()
        )
        content = "\n".join(lines).encode()
        try:
            file = await self._client.files.create(
                file=("requests.jsonl", content), purpose="batch"
            )
            batch = await self._client.batches.create(
                input_file_id=file.id,
                endpoint=_ENDPOINT,
                completion_window="24h",
                metadata={MARK: self._mark},
            )
        except client_errors() as error:
            raise trouble_of(error, self._url) from None
        return SentBatch(name=batch.id, keys=frozenset(requests), done=batch.status in _ENDED)

    async def refresh(self, job: SentBatch) -> SentBatch:
        batch = await self._retrieve(job)
        return SentBatch(
            name=job.name, keys=job.keys, done=batch.status in _ENDED, state=_openai_state(batch)
        )

    async def collect(self, job: SentBatch) -> Mapping[str, Reply | Failure]:
        batch = await self._retrieve(job)
        if batch.status == "failed":
            errors = batch.errors.data if batch.errors else None
            reason = errors[0].message if errors else "no reason given"
            raise Trouble("bad_request", f"{self._url} refused batch {job.name}: {reason}")
        found: dict[str, Reply | Failure] = {}
        for file in (batch.output_file_id, batch.error_file_id):
            if file:
                found.update(_openai_outcome(line) for line in await self._lines(file))
        return found

    async def _job(self, batch: "Batch") -> SentBatch:
        """Return a batch with the keys it has answered, or will."""
        done = batch.status in _ENDED
        files = (batch.output_file_id,) if done else (batch.input_file_id,)
        lines = [line for file in files if file for line in await self._lines(file)]
        keys = frozenset(line["custom_id"] for line in lines)
        return SentBatch(name=batch.id, keys=keys, done=done, state=_openai_state(batch))

    async def _retrieve(self, job: SentBatch) -> "Batch":
        try:
            return await self._client.batches.retrieve(job.name)
        except client_errors() as error:
            raise trouble_of(error, self._url) from None

    async def _lines(self, file: str) -> list[dict[str, Any]]:
        try:
            content = (await self._client.files.content(file)).content
        except client_errors() as error:
            raise trouble_of(error, self._url) from None
        try:
            return [json.loads(line) for line in content.splitlines() if line.strip()]
        except ValueError:
            raise Trouble("bad_reply", f"file {file} is not JSONL", again=True) from None


def _openai_state(batch: "Batch") -> str:
    counts = batch.request_counts
    answered = f", {counts.completed} of {counts.total} answered" if counts else ""
    return f"{batch.status.replace('_', ' ')}{answered}"


def _openai_outcome(line: dict[str, Any]) -> tuple[str, Reply | Failure]:
    """Return a request's key and outcome from a line of an output or error file."""
    name = str(line["custom_id"])
    answer = line.get("response") or {}
    status = answer.get("status_code")
    if status == 200:
        try:
            return name, read_completion(json.dumps(answer.get("body")).encode())
        except Trouble as trouble:
            return name, Failure(kind=trouble.kind, detail=trouble.detail)
    error = line.get("error") or (answer.get("body") or {}).get("error") or {}
    message = str(error.get("message") or error.get("code") or "no reason given")
    kind = status_kind(status) if isinstance(status, int) else "server_error"
    return name, Failure(kind=kind, detail=f"in a batch: {message}")


_RUNNING = frozenset({"QUEUED", "PENDING", "RUNNING", "PAUSED", "UPDATING", "CANCELLING"})
_INLINE = 2_000
"""Requests sent within the call that makes a job, which may have 20 MB."""


class GeminiBatchBackend(GeminiBackend):
    """Asks a Gemini model through its batch mode.

    Its identity is that of `GeminiBackend`: what one has asked the other finds in the ledger.

    Args:
        model: the model's name.
        base_url: another server that speaks the protocol.
        limits: tries, waits and money.
        batch: how batches are cut and watched.
    """

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        *,
        limits: Limits | None = None,
        batch: BatchLimits | None = None,
    ) -> None:
        super().__init__(model, base_url, limits=limits)
        given = batch or BatchLimits()
        self._batches = BatchSender(
            self.limits,
            replace(given, requests=min(given.requests, _INLINE)),
            self.price,
            lambda one: one.key(self.identity),
        )

    @property
    def usage(self) -> Usage:
        """What was asked for and paid so far."""
        return self._batches.usage

    async def answer(
        self, requests: Iterable[Request]
    ) -> AsyncGenerator[tuple[Request, Reply | Failure], None]:
        """Yield each request with its outcome, as batches are done; see `batches`."""
        async with self.client() as client:
            service = _GeminiService(client, self)
            async with aclosing(self._batches.stream(requests, service)) as outcomes:
                async for outcome in outcomes:
                    yield outcome


class _GeminiService:
    """Gemini's batch mode in the terms of `BatchService`."""

    def __init__(self, client: "AsyncClient", backend: GeminiBackend) -> None:
        self._client = client
        self._model = backend.model
        self._url = backend.url
        self._mark = f"{MARK}-{digest(dict(backend.identity))}"

    async def existing(self) -> list[SentBatch]:
        async def listed() -> list[SentBatch]:
            jobs = []
            seen = 0
            async for job in await self._client.batches.list():
                seen += 1
                if seen > _LOOKED_AT:
                    break
                if job.display_name == self._mark and job.name:
                    # A list does not tell what is in a job; its results do.
                    done = not _is_running(job)
                    jobs.append(
                        SentBatch(name=job.name, keys=None, done=done, state=_gemini_state(job))
                    )
            return jobs

        return await self._mapped(listed())

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
        job = await self._mapped(
            self._client.batches.create(
                model=self._model,
                src=inlined,
                config=CreateBatchJobConfig(display_name=self._mark),
            )
        )
        if not job.name:
            raise Trouble("bad_reply", f"{self._url} gave the batch no name", again=True)
        return SentBatch(name=job.name, keys=frozenset(requests), done=not _is_running(job))

    async def refresh(self, job: SentBatch) -> SentBatch:
        now = await self._mapped(self._client.batches.get(name=job.name))
        return SentBatch(
            name=job.name, keys=job.keys, done=not _is_running(now), state=_gemini_state(now)
        )

    async def collect(self, job: SentBatch) -> Mapping[str, Reply | Failure]:
        ended = await self._mapped(self._client.batches.get(name=job.name))
        answers = (ended.dest.inlined_responses if ended.dest else None) or []
        found: dict[str, Reply | Failure] = {}
        for answer in answers:
            if (answer.metadata or {}).get("key"):
                found[str((answer.metadata or {})["key"])] = _gemini_outcome(answer)
        return found

    async def _mapped(self, call: Awaitable[Found]) -> Found:
        from google.genai.errors import APIError

        try:
            return await call
        except APIError as error:
            raise status_trouble(error, self._url) from None
        except connection_errors() as error:
            raise unreachable(error, self._url) from None
        except ValueError as error:  # no JSON, or JSON of another shape
            reason = clean(f"not an answer in Gemini's form: {error}")
            raise Trouble("bad_reply", reason, again=True) from None


def _gemini_state(job: "BatchJob") -> str:
    state = job.state.name.removeprefix("JOB_STATE_") if job.state else "pending"
    return state.lower().replace("_", " ")


def _is_running(job: "BatchJob") -> bool:
    return job.state is None or job.state.name.removeprefix("JOB_STATE_") in _RUNNING


def _gemini_outcome(answer: Any) -> Reply | Failure:
    if answer.response is None:
        message = answer.error.message if answer.error else "no reason given"
        return Failure(kind="server_error", detail=clean(f"in a batch: {message}"))
    try:
        return read_answer(answer.response)
    except Trouble as trouble:
        return Failure(kind=trouble.kind, detail=trouble.detail)
