"""The seam to everything that can be asked: one request in, one reply or failure out."""

from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from mipo_eval.keys import digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How a reply is drawn; temperature 0 is greedy decoding."""

    temperature: float | None = 0.0
    """None leaves it to the server: some reasoning models take no temperature."""
    max_tokens: int = 16
    seed: int = 0
    reasoning: str | None = None
    """How long to think first, in the words of the server ("none", "minimal", "low", ...)."""
    logprobs: int = 0
    """How many alternatives of the reply's first token to return with their log-probabilities."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Everything that decides a reply; two equal requests are paid for once."""

    messages: tuple[Message, ...]
    sampling: Sampling = field(default_factory=Sampling)
    choices: tuple[str, ...] | None = None
    """The only replies allowed; enforced by the server where it can, validated by us always."""
    slots: Mapping[str, str] = field(default_factory=dict)
    """The texts rendered into `messages`, by template name, for judges that follow a rule."""

    def to_json(self) -> dict[str, Any]:
        """Return the request as plain data, without the slots: they are in the messages."""
        # Not `dataclasses.asdict`: its deep copies were a tenth of the time of a short verdict.
        return {
            "messages": [{"role": turn.role, "content": turn.content} for turn in self.messages],
            "sampling": {name: getattr(self.sampling, name) for name in Sampling.__slots__},
            "choices": list(self.choices) if self.choices else None,
        }

    def key(self, identity: Mapping[str, str]) -> str:
        """Return the ledger key: the digest of the full request to the backend `identity`."""
        return digest({"backend": dict(identity), **self.to_json()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back, raw."""

    text: str
    finish_reason: str | None = None
    model: str | None = None
    """The model the server says answered."""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    seconds: float | None = None
    logprobs: tuple[tuple[str, float], ...] | None = None
    """(token, log-probability in nats) of the first token's alternatives, where asked for."""


FailureKind = Literal[
    "timeout",
    "connection",
    "rate_limit",
    "server_error",
    "auth",
    "bad_request",
    "bad_reply",
    "refused",
    "budget",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why there is no reply: a state, never a value. Asked again on the next run."""

    kind: FailureKind
    detail: str
    attempts: int = 1


class Backend(Protocol):
    """Anything that answers requests: a server, an engine in this process, a rule."""

    @property
    def identity(self) -> Mapping[str, str]:
        """What answers (backend, model, revision or URL, never a key); part of each ledger key."""
        ...

    async def check(self) -> None:
        """Raise BackendError, in one clear line, if the backend cannot be asked now."""
        ...

    def answer(
        self, requests: Iterable[Request]
    ) -> AsyncGenerator[tuple[Request, Reply | Failure], None]:
        """Yield each request with its outcome, as they complete; pulls `requests` lazily.

        Retries, rate limits and concurrency are the backend's own; the number of requests in
        flight is bounded, so any number can be streamed in constant memory.
        """
        ...
