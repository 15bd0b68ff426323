"""OpenAI's Batch API: the same requests and replies as `openai`, at half the price."""

import json
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import AsyncExitStack, aclosing
from typing import TYPE_CHECKING, Any, Literal

from mipo_eval.backends.base import Failure, Reply, Request
from mipo_eval.backends.batches import MARK, BatchLimits, BatchSender, SentBatch
from mipo_eval.backends.openai import OpenAIBackend, client_errors
from mipo_eval.backends.openai_protocol import read_completion, status_kind, trouble_of
from mipo_eval.backends.pacing import Usage
from mipo_eval.backends.sending import Limits, Trouble
from mipo_eval.errors import ConfigError
from mipo_eval.keys import digest

if TYPE_CHECKING:
    import openai
    from openai.types import Batch

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
            service = _Service(server.client, server.url, self)
            async with aclosing(self._batches.stream(requests, service)) as outcomes:
                async for outcome in outcomes:
                    yield outcome


class _Service:
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
        return SentBatch(name=job.name, keys=job.keys, done=batch.status in _ENDED, state=_state(batch))

    async def collect(self, job: SentBatch) -> Mapping[str, Reply | Failure]:
        batch = await self._retrieve(job)
        if batch.status == "failed":
            errors = batch.errors.data if batch.errors else None
            reason = errors[0].message if errors else "no reason given"
            raise Trouble("bad_request", f"{self._url} refused batch {job.name}: {reason}")
        found: dict[str, Reply | Failure] = {}
        for file in (batch.output_file_id, batch.error_file_id):
            if file:
                found.update(_outcome(line) for line in await self._lines(file))
        return found

    async def _job(self, batch: "Batch") -> SentBatch:
        """Return a batch with the keys it has answered, or will."""
        done = batch.status in _ENDED
        files = (batch.output_file_id,) if done else (batch.input_file_id,)
        lines = [line for file in files if file for line in await self._lines(file)]
        keys = frozenset(line["custom_id"] for line in lines)
        return SentBatch(name=batch.id, keys=keys, done=done, state=_state(batch))

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


def _state(batch: "Batch") -> str:
    counts = batch.request_counts
    answered = f", {counts.completed} of {counts.total} answered" if counts else ""
    return f"{batch.status.replace('_', ' ')}{answered}"


def _outcome(line: dict[str, Any]) -> tuple[str, Reply | Failure]:
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
