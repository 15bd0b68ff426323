"""Anthropic's batches, which carry no mark of their own: only their requests have names.

So requests are named by our mark and their ledger key, which a batch that has ended shows; and the
names of batches under way are noted in the cache folder, where the next process looks.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mipo_eval import settings
from mipo_eval.models.anthropic import AnthropicBackend, read_message
from mipo_eval.models.base import Failure, FailureKind, Reply, Request
from mipo_eval.models.batch import BatchBackend, SentBatch, read_outcome
from mipo_eval.models.changes import refused_setting
from mipo_eval.models.server import clean

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic
    from anthropic.types.messages import MessageBatch

_KINDS: Mapping[str, FailureKind] = {
    "invalid_request_error": "bad_request",
    "not_found_error": "bad_request",
    "rate_limit_error": "rate_limit",
    "authentication_error": "auth",
    "permission_error": "auth",
    "timeout_error": "timeout",
}


class AnthropicBatchBackend(BatchBackend["AsyncAnthropic", "MessageBatch"], AnthropicBackend):
    """Asks a Claude model through the Message Batches API."""

    most_requests = 100_000

    def _service(self) -> AbstractAsyncContextManager["AsyncAnthropic"]:
        return self.client()

    @property
    def _prefix(self) -> str:
        """What the names of our requests begin with; a name has 64 characters at most."""
        return f"{self._mark[:16]}-"

    async def _submit(
        self, client: "AsyncAnthropic", requests: Mapping[str, Request]
    ) -> "MessageBatch":
        named: list[Any] = [
            {"custom_id": f"{self._prefix}{name}", "params": self.body(self.changes.applied(one))}
            for name, one in requests.items()
        ]
        job = await self.mapped(client.messages.batches.create(requests=named))
        note = _note(job.id)
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(self._mark, encoding="utf-8")
        return job

    async def _retrieve(self, client: "AsyncAnthropic", name: str) -> "MessageBatch":
        return await self.mapped(client.messages.batches.retrieve(name))

    async def _outcomes(
        self, client: "AsyncAnthropic", job: "MessageBatch"
    ) -> Mapping[str, Reply | Failure]:
        async def all_of_them() -> dict[str, Reply | Failure]:
            lines = await client.messages.batches.results(job.id)
            return {
                line.custom_id.removeprefix(self._prefix): self._outcome_of(line.result)
                async for line in lines
            }

        return await self.mapped(all_of_them()) if job.results_url else {}

    def _outcome_of(self, result: Any) -> Reply | Failure:
        if result.type == "succeeded":
            return read_outcome(lambda: read_message(result.message))
        if result.type != "errored":  # canceled or expired
            return Failure(kind="server_error", detail=f"in a batch: the request {result.type}")
        told = result.error.error
        if name := refused_setting(self.optional, told.message):
            self.leave_out(name)  # the next run of the same command goes without it
        kind = _KINDS.get(told.type, "server_error")
        return Failure(kind=kind, detail=clean(f"in a batch: {told.message}"))

    async def _latest(self, client: "AsyncAnthropic") -> AsyncIterator["MessageBatch"]:
        async for job in client.messages.batches.list(limit=100):
            yield job

    def _is_ours(self, job: "MessageBatch") -> bool:
        note = _note(job.id)
        if note.is_file():
            return note.read_text(encoding="utf-8") == self._mark
        return job.results_url is not None  # its requests will tell

    async def _keys(self, client: "AsyncAnthropic", job: "MessageBatch") -> frozenset[str] | None:
        if job.results_url is None or _note(job.id).is_file():
            return None  # told with the results only
        lines = await client.messages.batches.results(job.id)
        async for line in lines:
            if not line.custom_id.startswith(self._prefix):
                await lines.close()
                return frozenset()  # somebody else's
            break
        await lines.close()
        return None

    def _sent(self, job: "MessageBatch") -> SentBatch:
        counts = job.request_counts
        total = counts.processing + counts.succeeded + counts.errored + counts.canceled
        state = job.processing_status.replace("_", " ")
        return SentBatch(
            name=job.id,
            done=job.processing_status == "ended",
            state=f"{state}, {counts.succeeded} of {total + counts.expired} answered",
        )


def _note(job: str) -> Path:
    return settings.cache_dir() / "batches" / Path(job).name
