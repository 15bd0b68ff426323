"""Gemini's batch mode: the same requests and replies as `gemini`, at half the price."""

from collections.abc import AsyncGenerator, Awaitable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from mipo_eval.backends.addresses import clean
from mipo_eval.backends.base import Failure, Reply, Request
from mipo_eval.backends.batches import MARK, BatchLimits, BatchSender, SentBatch
from mipo_eval.backends.gemini import GeminiBackend, connection_errors, config_of, contents_of, read_answer, status_trouble, unreachable
from mipo_eval.backends.pacing import Usage
from mipo_eval.backends.sending import Limits, Trouble
from mipo_eval.keys import digest

if TYPE_CHECKING:
    from google.genai.client import AsyncClient
    from google.genai.types import BatchJob

Found = TypeVar("Found")

_RUNNING = frozenset({"QUEUED", "PENDING", "RUNNING", "PAUSED", "UPDATING", "CANCELLING"})
_INLINE = 2_000
"""Requests sent within the call that makes a job, which may have 20 MB."""
_LOOKED_AT = 200


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
            service = _Service(client, self)
            async with aclosing(self._batches.stream(requests, service)) as outcomes:
                async for outcome in outcomes:
                    yield outcome


class _Service:
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
                    jobs.append(SentBatch(name=job.name, keys=None, done=done, state=_state(job)))
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
        return SentBatch(name=job.name, keys=job.keys, done=not _is_running(now), state=_state(now))

    async def collect(self, job: SentBatch) -> Mapping[str, Reply | Failure]:
        ended = await self._mapped(self._client.batches.get(name=job.name))
        answers = (ended.dest.inlined_responses if ended.dest else None) or []
        found: dict[str, Reply | Failure] = {}
        for answer in answers:
            if (answer.metadata or {}).get("key"):
                found[str((answer.metadata or {})["key"])] = _outcome(answer)
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


def _state(job: "BatchJob") -> str:
    state = job.state.name.removeprefix("JOB_STATE_") if job.state else "pending"
    return state.lower().replace("_", " ")


def _is_running(job: "BatchJob") -> bool:
    return job.state is None or job.state.name.removeprefix("JOB_STATE_") in _RUNNING


def _outcome(answer: Any) -> Reply | Failure:
    if answer.response is None:
        message = answer.error.message if answer.error else "no reason given"
        return Failure(kind="server_error", detail=clean(f"in a batch: {message}"))
    try:
        return read_answer(answer.response)
    except Trouble as trouble:
        return Failure(kind=trouble.kind, detail=trouble.detail)
