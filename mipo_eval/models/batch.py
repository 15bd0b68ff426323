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
import math
from abc import abstractmethod
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
)
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from mipo_eval.errors import BackendError, ConfigError
from mipo_eval.keys import digest
from mipo_eval.models.base import Answers, Failure, Limits, Reply, Request
from mipo_eval.models.changes import (
    NO_TEXT,
    holds_nothing,
    lacks_room,
    no_room,
    refused_setting,
)
from mipo_eval.models.gemini import GeminiBackend, config_of, contents_of, read_answer
from mipo_eval.models.openai import OpenAIBackend, read_completion
from mipo_eval.models.prices import NOT_ASKED, Budget, Usage
from mipo_eval.models.server import Found, ServedBackend, Trouble, clean, status_kind
from mipo_eval.models.told import fields, json_of, word

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

Client = TypeVar("Client")
Job = TypeVar("Job")
"""As the provider's client describes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SentBatch:
    """One batch at the provider."""

    name: str
    keys: frozenset[str] | None = None
    """Ledger keys of its requests; None where the provider tells only with the results."""
    done: bool
    """Whether it has ended, well or not, so that what it has can be collected."""
    state: str
    """How far it is, in words."""


class BatchBackend(ServedBackend, Generic[Client, Job]):
    """What backends have in common that ask through a batch service; goes before the other base.

    Args:
        model, base_url, limits, api_key_env: as in `ServedBackend`.
        job_requests: in one job at most; they are kept in memory until it is done.
        poll_seconds: between two looks at a job; the first come sooner, since small jobs end soon.
    """

    most_requests: ClassVar[int] = 50_000
    """What the provider takes in one job."""

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        *,
        limits: Limits | None = None,
        api_key_env: str | None = None,
        job_requests: int = 20_000,
        poll_seconds: float = 30.0,
    ) -> None:
        super().__init__(model, base_url, limits=limits, api_key_env=api_key_env)
        if len(self.urls) > 1:
            raise ConfigError("a batch goes to one server: give one URL")
        if job_requests < 1 or not 0 < poll_seconds < math.inf:
            raise ConfigError(
                "batch settings: job_requests must be 1 or more, poll_seconds above 0"
            )
        self._job_requests = min(job_requests, self.most_requests)
        self._poll_seconds = poll_seconds
        self._mark = digest(dict(self.identity))
        self._budget = Budget(self.price and self.price.in_batches(), self.limits.money())
        self._held: dict[str, float] = {}
        """Money set aside, by ledger key."""
        self._tokens: dict[str, int] = {}
        """Tokens that replies were given, by ledger key."""

    @property
    def usage(self) -> Usage:
        """What was asked for and paid so far."""
        return self._budget.usage

    # What a provider's service does; every one of these may raise Trouble.

    @abstractmethod
    def _service(self) -> AbstractAsyncContextManager[Client]:
        """Open the provider's client."""

    @abstractmethod
    async def _submit(self, client: Client, requests: Mapping[str, Request]) -> Job:
        """Start a job for requests by ledger key."""

    @abstractmethod
    async def _retrieve(self, client: Client, name: str) -> Job:
        """Return a job as the provider describes it now."""

    @abstractmethod
    async def _outcomes(self, client: Client, job: Job) -> Mapping[str, Reply | Failure]:
        """Return what a job that is done has answered, by ledger key."""

    @abstractmethod
    def _latest(self, client: Client) -> AsyncIterator[Job]:
        """Yield the account's jobs, the latest first."""

    @abstractmethod
    def _is_ours(self, job: Job) -> bool:
        """Whether a job has our mark and identity."""

    @abstractmethod
    def _sent(self, job: Job) -> SentBatch:
        """Return what a job is to us."""

    async def _keys(self, client: Client, job: Job) -> frozenset[str] | None:
        """Return the keys that a job of an earlier process has answered, or will."""
        return None  # told with the results only

    async def answer(self, requests: Iterable[Request]) -> Answers:
        """Yield every request with its outcome, job after job.

        Raises:
            BackendError: the service cannot be reached; the jobs go on and are found again.
        """
        old: list[SentBatch] | None = None
        source = iter(requests)
        async with self._service() as client:
            while window := list(islice(source, self._job_requests)):
                alike: dict[str, list[Request]] = {}
                for one in window:
                    alike.setdefault(one.key(self.identity), []).append(one)
                wanted = {name: same[0] for name, same in alike.items()}
                if old is None:
                    old = await self._patiently(lambda: self._existing(client))
                async with aclosing(self._answered(wanted, old, client)) as outcomes:
                    async for name, outcome in outcomes:
                        for request in alike.pop(name):
                            yield request, outcome

    async def _existing(self, client: Client) -> list[SentBatch]:
        """Return the jobs with our mark and identity that the provider still knows."""

        async def ours() -> list[SentBatch]:
            found, seen = [], 0
            async for job in self._latest(client):
                seen += 1
                if seen > _LOOKED_AT:
                    break
                if self._is_ours(job):
                    found.append(replace(self._sent(job), keys=await self._keys(client, job)))
            return found

        return await self.mapped(ours())

    async def _answered(
        self, wanted: Mapping[str, Request], old: list[SentBatch], client: Client
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
            for name, outcome in (await self._collected(job, client)).items():
                # What failed in an old job is asked again now; only an answer is taken from it.
                if name in left and _is_answer(outcome, left[name]):
                    yield name, self._counted(left.pop(name), outcome)
        for name, failure in self._afforded(left):
            yield name, failure
        if left:
            self.usage.tries += len(left)
            made = await self._patiently(lambda: self._submitted(client, left))
            running.append((replace(made, keys=frozenset(left), state="under way"), left))
        for job, requests in running:
            found = await self._collected(job, client)
            detail = f"batch {job.name} ended without an answer to this request"
            missing = Failure(kind="server_error", detail=detail)
            for name, request in requests.items():
                yield name, self._counted(request, found.get(name) or missing)

    async def _submitted(self, client: Client, requests: Mapping[str, Request]) -> SentBatch:
        return self._sent(await self._submit(client, requests))

    def _afforded(self, left: dict[str, Request]) -> Iterator[tuple[str, Failure]]:
        """Set money aside for the requests; take out, and yield, those it does not suffice for."""
        for name, request in list(left.items()):
            used = self.changes.applied(request)
            self._tokens[name] = used.sampling.max_tokens
            reserved = self._budget.reserve(used)
            if reserved is not None:
                self._held[name] = reserved
                continue
            del left[name]
            detail = f"{NOT_ASKED}{self._budget.purse.used_up()}"
            failure = Failure(kind="budget", detail=detail, attempts=0)
            self.usage.ended(failure)
            yield name, failure

    async def _collected(self, job: SentBatch, client: Client) -> Mapping[str, Reply | Failure]:
        """Wait until a job is done and return what it has answered."""

        async def latest() -> SentBatch:
            return self._sent(await self._retrieve(client, job.name))

        async def outcomes() -> Mapping[str, Reply | Failure]:
            return await self._outcomes(client, await self._retrieve(client, job.name))

        wait = _FIRST_LOOK
        while not job.done:
            self.usage.waiting = f"batch {job.name}: {job.state}"
            await asyncio.sleep(min(wait, self._poll_seconds))
            wait *= _LATER_LOOKS
            job = await self._patiently(latest)
        self.usage.waiting = ""
        return await self._patiently(outcomes)

    def _counted(self, request: Request, outcome: Reply | Failure) -> Reply | Failure:
        """Add an outcome to usage and budget, and return it."""
        cost = 0.0
        key = request.key(self.identity)
        tokens = self._tokens.pop(key, request.sampling.max_tokens)
        if isinstance(outcome, Reply):
            cost = self._budget.count(request, outcome)
            if lacks_room(outcome, request):  # the next run of the same command gives it more
                self.changes.make_room(tokens)
                outcome = no_room(tokens)
            elif holds_nothing(outcome, request):
                outcome = Failure(kind="bad_reply", detail=NO_TEXT)
        self.usage.ended(outcome)
        self._budget.purse.settle(self._held.pop(key, 0.0), cost)
        return outcome

    async def _patiently(self, call: Callable[[], Awaitable[Found]]) -> Found:
        """Try a call to the service as often as a request is tried elsewhere."""
        limits = self.limits
        for attempt in range(1, limits.attempts + 1):
            try:
                async with asyncio.timeout(limits.timeout):
                    return await self.mapped(call())
            except TimeoutError:
                trouble = Trouble("timeout", "the batch service did not answer", again=True)
            except Trouble as caught:
                trouble = caught
            if not trouble.again or attempt == limits.attempts:
                break
            await asyncio.sleep(max(trouble.after or 0.0, limits.wait(attempt)))
        raise BackendError(
            f"{trouble.detail}; batches that were sent are still running: run the same command "
            "again to collect them"
        )


def _is_answer(outcome: Reply | Failure, request: Request) -> bool:
    nothing = isinstance(outcome, Reply) and holds_nothing(outcome, request)
    return isinstance(outcome, Reply) and not nothing and not lacks_room(outcome, request)


_ENDED = frozenset({"completed", "failed", "expired", "cancelled"})


class OpenAIBatchBackend(BatchBackend["openai.AsyncOpenAI", "Batch"], OpenAIBackend):
    """Asks a model through OpenAI's Batch API, at OpenAI or one server that has it.

    Its requests and replies are files of JSON lines.
    """

    @asynccontextmanager
    async def _service(self) -> AsyncIterator["openai.AsyncOpenAI"]:
        async with self.opened_servers() as [server]:
            yield server.client

    async def _submit(
        self, client: "openai.AsyncOpenAI", requests: Mapping[str, Request]
    ) -> "Batch":
        about = {"method": "POST", "url": "/v1/chat/completions"}
        lines = (
            json.dumps(
                {"custom_id": name, **about, "body": self.body(self.changes.applied(request))}
            )
            for name, request in requests.items()
        )
        content = "\n".join(lines).encode()
        file = await self.mapped(
            client.files.create(file=("requests.jsonl", content), purpose="batch")
        )
        return await self.mapped(
            client.batches.create(
                input_file_id=file.id,
                endpoint="/v1/chat/completions",
                completion_window="24h",
                metadata={MARK: self._mark},
            )
        )

    async def _retrieve(self, client: "openai.AsyncOpenAI", name: str) -> "Batch":
        return await self.mapped(client.batches.retrieve(name))

    async def _outcomes(
        self, client: "openai.AsyncOpenAI", job: "Batch"
    ) -> Mapping[str, Reply | Failure]:
        if job.status == "failed":
            errors = job.errors.data if job.errors else None
            reason = errors[0].message if errors else "no reason given"
            raise Trouble("bad_request", f"{self.urls[0]} refused batch {job.id}: {reason}")
        found: dict[str, Reply | Failure] = {}
        for file in (job.output_file_id, job.error_file_id):
            if file:
                lines = await self._lines(client, file)
                found.update(_line_outcome(line) for line in lines)
                self._learn(_refusal(line) for line in lines)
        return found

    def _learn(self, refusals: Iterable[tuple[str, str | None] | None]) -> None:
        """Note what requests were refused for, so that the next job leaves it out."""
        for refusal in dict.fromkeys(refusals):
            if refusal and (name := refused_setting(self.optional, *refusal)):
                self.leave_out(name)

    async def _latest(self, client: "openai.AsyncOpenAI") -> AsyncIterator["Batch"]:
        async for batch in client.batches.list(limit=100):
            yield batch

    def _is_ours(self, job: "Batch") -> bool:
        return (job.metadata or {}).get(MARK) == self._mark

    def _sent(self, job: "Batch") -> SentBatch:
        counts = job.request_counts
        answered = f", {counts.completed} of {counts.total} answered" if counts else ""
        state = f"{job.status.replace('_', ' ')}{answered}"
        return SentBatch(name=job.id, done=job.status in _ENDED, state=state)

    async def _keys(self, client: "openai.AsyncOpenAI", job: "Batch") -> frozenset[str]:
        file = job.output_file_id if job.status in _ENDED else job.input_file_id
        lines = await self._lines(client, file) if file else []
        return frozenset(line["custom_id"] for line in lines)

    async def _lines(self, client: "openai.AsyncOpenAI", file: str) -> list[dict[str, Any]]:
        content = (await self.mapped(client.files.content(file))).content
        written = [line for line in content.splitlines() if line.strip()]
        # What cannot be read is alone in that: its request has no answer.
        lines = [line for line in map(_line, written) if line is not None]
        if written and not lines:
            raise Trouble("bad_reply", f"file {word(file)} is not JSONL", again=True)
        return lines


def _line(written: bytes) -> dict[str, Any] | None:
    """Return a line of a file of requests or replies, None where it is of no request."""
    try:
        line = fields(json_of(written))
    except ValueError:
        return None
    return line if isinstance(line.get("custom_id"), str) else None


def _line_outcome(line: dict[str, Any]) -> tuple[str, Reply | Failure]:
    """Return a request's key and outcome from a line of an output or error file."""
    name = str(line["custom_id"])
    answer = fields(line.get("response"))
    status = answer.get("status_code")
    if status == 200:
        return name, read_outcome(lambda: read_completion(json.dumps(answer.get("body")).encode()))
    error = fields(line.get("error")) or fields(fields(answer.get("body")).get("error"))
    message = str(error.get("message") or error.get("code") or "no reason given")
    kind = status_kind(status) if isinstance(status, int) else "server_error"
    return name, Failure(kind=kind, detail=clean(f"in a batch: {message}"))


def _refusal(line: dict[str, Any]) -> tuple[str, str | None] | None:
    """Return the words of a refused request (400) and the parameter they name, or None."""
    answer = fields(line.get("response"))
    if answer.get("status_code") != 400:
        return None
    error = fields(fields(answer.get("body")).get("error"))
    return str(error.get("message")), word(error.get("param"))


def read_outcome(read: Callable[[], Reply]) -> Reply | Failure:
    """Return what was read, or the failure that reading it is."""
    try:
        return read()
    except Trouble as trouble:
        return trouble.failure()


_RUNNING = frozenset({"QUEUED", "PENDING", "RUNNING", "PAUSED", "UPDATING", "CANCELLING"})


class GeminiBatchBackend(BatchBackend["AsyncClient", "BatchJob"], GeminiBackend):
    """Asks a Gemini model through its batch mode.

    Its requests and replies stand in the job itself. A list does not tell what is in a job; its
    results do.
    """

    most_requests = 2_000  # they are sent within the call that makes a job, which may have 20 MB

    def _service(self) -> AbstractAsyncContextManager["AsyncClient"]:
        return self.client()

    async def _submit(self, client: "AsyncClient", requests: Mapping[str, Request]) -> "BatchJob":
        from google.genai.types import CreateBatchJobConfig, InlinedRequest

        inlined = [
            InlinedRequest(
                model=self.model,
                contents=list(contents_of(request)),
                config=config_of(self.changes.applied(request), constrained=bool(request.choices)),
                metadata={"key": name},
            )
            for name, request in requests.items()
        ]
        config = CreateBatchJobConfig(display_name=f"{MARK}-{self._mark}")
        job = await self.mapped(client.batches.create(model=self.model, src=inlined, config=config))
        if not job.name:
            raise Trouble("bad_reply", f"{self.urls[0]} gave the batch no name", again=True)
        return job

    async def _retrieve(self, client: "AsyncClient", name: str) -> "BatchJob":
        return await self.mapped(client.batches.get(name=name))

    async def _outcomes(
        self, client: "AsyncClient", job: "BatchJob"
    ) -> Mapping[str, Reply | Failure]:
        answers = (job.dest.inlined_responses if job.dest else None) or []
        keyed = (((answer.metadata or {}).get("key"), answer) for answer in answers)
        return {str(key): _gemini_outcome(answer) for key, answer in keyed if key}

    async def _latest(self, client: "AsyncClient") -> AsyncIterator["BatchJob"]:
        async for job in await client.batches.list():
            yield job

    def _is_ours(self, job: "BatchJob") -> bool:
        return job.display_name == f"{MARK}-{self._mark}" and bool(job.name)

    def _sent(self, job: "BatchJob") -> SentBatch:
        state = job.state.name.removeprefix("JOB_STATE_") if job.state else "PENDING"
        words = state.lower().replace("_", " ")
        return SentBatch(name=str(job.name), done=state not in _RUNNING, state=words)


def _gemini_outcome(answer: Any) -> Reply | Failure:
    if answer.response is None:
        message = answer.error.message if answer.error else "no reason given"
        return Failure(kind="server_error", detail=clean(f"in a batch: {message}"))
    return read_outcome(lambda: read_answer(answer.response))
