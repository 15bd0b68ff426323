"""The seam to everything that can be asked: one request in, one reply or failure out.

With its fake, which replays replies: for tests, examples, and replies collected elsewhere.
"""

import random
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from mipo_eval.errors import BackendError, ConfigError, DataError
from mipo_eval.keys import digest
from mipo_eval.models.effort import Effort
from mipo_eval.rows import FileRow, read_rows


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
    effort: Effort = field(default_factory=Effort)
    """What else is said of thinking: on or off, and for how many tokens."""
    further: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """What else changes the choice of tokens (top_p, top_k, ...), in the words of the server."""
    stop: tuple[str, ...] = ()
    """Texts that end a reply."""

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data for keys; what came later is left out of them where not set."""
        later = {"effort", "further", "stop"}
        named = {name: getattr(self, name) for name in Sampling.__slots__ if name not in later}
        also = {"further": dict(self.further), "stop": list(self.stop)}
        return named | self.effort.parts() | {name: value for name, value in also.items() if value}


class Again(NamedTuple):
    """That a request repeats an earlier one, whose reply stays what it is."""

    first: str
    """Ledger key of the earlier one."""
    occasion: str
    """What tells this asking from others, e.g. a day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Everything that decides a reply; two equal requests are paid for once."""

    messages: tuple[Message, ...]
    sampling: Sampling = field(default_factory=Sampling)
    choices: tuple[str, ...] | None = None
    """The only replies allowed; enforced by the server where it can, validated by us always."""
    slots: Mapping[str, str] = field(default_factory=dict)
    """The texts rendered into `messages`, by template name, for judges that follow a rule."""
    as_it_comes: bool = False
    """Whether the reply is what is measured: no text is an answer too, and one that was cut is not
    asked for again with more room."""
    again: Again | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the request as plain data, without the slots: they are in the messages."""
        # Not `dataclasses.asdict`: its deep copies were a tenth of the time of a short verdict.
        return {
            "messages": [{"role": turn.role, "content": turn.content} for turn in self.messages],
            "sampling": self.sampling.to_json(),
            "choices": list(self.choices) if self.choices else None,
            **({"again": self.again.occasion} if self.again else {}),
        }

    def key(self, identity: Mapping[str, str]) -> str:
        """Return the ledger key: the digest of the full request to the backend `identity`."""
        return digest(["again", *self.again]) if self.again else self.original_key(identity)

    def original_key(self, identity: Mapping[str, str]) -> str:
        """Return the key of the first asking: of the request itself, or of what it repeats."""
        if self.again:
            return self.again.first
        return digest({"backend": dict(identity), **self.to_json()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back, raw."""

    text: str
    thinking: str | None = None
    """What the server says was thought, beside the text; marks in the text are left in it."""
    finish_reason: str | None = None
    model: str | None = None
    """The model the server says answered."""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    thinking_tokens: int | None = None
    """As many of these are thinking, where the server counts them."""
    seconds: float | None = None
    logprobs: tuple[tuple[str, float], ...] | None = None
    """(token, log-probability in nats) of the first token's alternatives, where asked for."""

    @property
    def cut(self) -> bool:
        """Whether it ended because there was no room for more."""
        return was_cut(self.finish_reason)


def was_cut(finish_reason: str | None) -> bool:
    """Whether a text ended because there was no room for more."""
    return finish_reason == "length"


FailureKind = Literal[
    "timeout",
    "connection",
    "rate_limit",
    "server_error",
    "auth",
    "bad_request",
    "bad_reply",
    "refused",
    "no_room",
    "budget",
]


CALL_FAILED = "call failed"
"""How the reason begins for which there is nothing where a call brought no reply."""
_IN_WORDS = {"no_room": "no room after thinking"}
"""Kinds of failure that tables show in words."""


def why_failed(kind: str) -> str:
    """Return the reason for which there is nothing, by the kind of the call's failure."""
    return f"{CALL_FAILED}: {_IN_WORDS.get(kind, kind)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why there is no reply: a state, never a value. Asked again on the next run."""

    kind: FailureKind
    detail: str
    attempts: int = 1


class Purse:
    """Dollars that may be spent, by one backend or by several that share them; None: any number."""

    def __init__(self, limit: float | None = None) -> None:
        self.limit = limit
        self.spent = 0.0
        self._reserved = 0.0
        self._held = 0
        """How many tries money is set aside for; exact, unlike a sum of small amounts."""

    def take(self, most: float) -> bool:
        """Set `most` dollars aside, if that much is left."""
        if self.limit is not None and self.spent + self._reserved + most > self.limit:
            return False
        self._reserved += most
        self._held += 1
        return True

    @property
    def can_free(self) -> bool:
        """Whether something in flight may yet cost less than was set aside for it."""
        return self._held > 0

    def settle(self, reserved: float, cost: float) -> None:
        """Replace what was set aside by what it cost."""
        self.spent += cost
        if reserved:
            self._held -= 1
            self._reserved = self._reserved - reserved if self._held else 0.0

    def used_up(self) -> str:
        """Return, in words, that the next request does not fit."""
        return (
            f"the limit of ${self.limit:g} is reached: ${self.spent:.4f} are spent and the next "
            "request might cost more than is left"
        )


_LEAST: Mapping[str, float] = {
    "concurrency": 1,
    "attempts": 1,
    "timeout": 0.001,
    "first_wait": 0,
    "longest_wait": 0,
    "requests_per_minute": 0.001,
    "tokens_per_minute": 0.001,
    "max_cost": 0,
}
_MAY_BE_ABSENT = {"requests_per_minute", "tokens_per_minute", "max_cost"}
_MOST = {(int,): 10_000, (int, float): 10**9}
"""Of whole numbers, and of others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How hard a server may be pushed, and how long it is waited for."""

    concurrency: int = 64
    """Requests in flight at most; fewer while the server is overloaded."""
    attempts: int = 6
    """Tries of one request, the first included."""
    timeout: float = 120.0
    """Seconds for one try, from connecting to the last byte."""
    first_wait: float = 0.5
    """Seconds before the second try; doubles with each further one."""
    longest_wait: float = 30.0
    """Seconds between two tries at most, unless the server asks for more by Retry-After."""
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    max_cost: float | None = None
    """US dollars; nothing is sent that could cost more, even if every reply were the longest."""
    purse: Purse | None = None
    """Money shared with other backends; `max_cost` is then not looked at."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ConfigError: one of them would ask nobody, wait for ever, or is no number.
        """
        if not isinstance(self.purse, Purse | None):
            raise ConfigError("limits: purse is for programs: write max_cost")
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is None and name in _MAY_BE_ABSENT:
                continue
            kinds = (int,) if name in {"concurrency", "attempts"} else (int, float)
            is_number = isinstance(value, kinds) and not isinstance(value, bool)
            if not is_number or not least <= value <= _MOST[kinds]:
                what = "a whole number" if len(kinds) == 1 else "a number"
                raise ConfigError(
                    f"limits: {name} is {str(value)[:40]!r}: write {what} from {least:g} to "
                    f"{_MOST[kinds]:,}"
                )

    def money(self) -> Purse:
        """Return what may be spent."""
        return self.purse or Purse(self.max_cost)

    def wait(self, attempt: int, after: float | None = None) -> float:
        """Seconds to the next try: what the server asked for (`after`), or doubling with jitter."""
        if after is not None:
            # A little later than asked and not all at once: everybody was told the same time.
            return after + random.uniform(0, 0.1 * after)
        longest = min(self.longest_wait, self.first_wait * 2 ** (attempt - 1))
        return random.uniform(longest / 2, longest)


def sendable(text: str) -> str:
    """Return text a server or a tokenizer can take: model output may hold lone surrogates."""
    return text.encode("utf-8", "replace").decode()


Answers = AsyncGenerator[tuple[Request, Reply | Failure], None]
"""Each request with its outcome, as they complete."""


class Backend(Protocol):
    """Anything that answers requests: a server, an engine in this process, a rule."""

    @property
    def identity(self) -> Mapping[str, str]:
        """What answers (backend, model, revision or URL, never a key); part of each ledger key."""
        ...

    async def check(self) -> None:
        """Raise BackendError, in one clear line, if the backend cannot be asked now."""
        ...

    def answer(self, requests: Iterable[Request]) -> Answers:
        """Yield each request with its outcome, as they complete; pulls `requests` lazily.

        Retries, rate limits and concurrency are the backend's own; the number of requests in
        flight is bounded, so any number can be streamed in constant memory.
        """
        ...


ScriptedReply = str | Reply | Failure
"""A string is short for a reply of that text."""

Script = Sequence[ScriptedReply] | Mapping[str, ScriptedReply] | Callable[[Request], ScriptedReply]


class ScriptedBackend:
    """Replays `script`.

    Args:
        script: replies in order, the first to the first request; or a mapping from the text of a
            request's last message to its reply; or a function of the request.
        name: part of the identity; give two scripts two names to keep their calls apart.

    Example:
        >>> backend = ScriptedBackend(["4", Failure(kind="timeout", detail="too slow"), "2"])
    """

    def __init__(self, script: Script, *, name: str = "scripted") -> None:
        self._script = script
        self._name = name
        self.asked: list[Request] = []
        """The requests answered so far, in order."""

    @classmethod
    def from_file(cls, path: str | Path) -> "ScriptedBackend":
        """Return a backend that replays a JSONL file, one reply per line.

        A line is `{"reply": "4"}`, in the order of the requests; or, on every line,
        `{"prompt": "<text of the last message>", "reply": "4"}`, in any order.

        Raises:
            DataError: the file cannot be read or a line is not of this form.
        """
        rows = [_script_row(row) for row in read_rows(path)]
        prompts = {prompt for prompt, _ in rows if prompt is not None}
        name = f"scripted-{digest(rows)[:12]}"
        if not prompts:
            return cls([reply for _, reply in rows], name=name)
        if len(prompts) != len(rows):
            raise DataError(f"{path}: prompts must be on every line, and each only once")
        return cls({prompt: reply for prompt, reply in rows if prompt is not None}, name=name)

    @property
    def identity(self) -> Mapping[str, str]:
        """The script's name."""
        return {"backend": "scripted", "model": self._name}

    async def check(self) -> None:
        """Do nothing: a script is always there."""

    async def answer(self, requests: Iterable[Request]) -> Answers:
        """Yield each request with its outcome, in order; BackendError where the script ends."""
        for request in requests:
            outcome = self._outcome(request)
            self.asked.append(request)
            yield request, Reply(text=outcome) if isinstance(outcome, str) else outcome

    def _outcome(self, request: Request) -> ScriptedReply:
        if callable(self._script):
            return self._script(request)
        try:
            if isinstance(self._script, Mapping):
                return self._script[request.messages[-1].content]
            return self._script[len(self.asked)]
        except (KeyError, IndexError):
            which = f"request {len(self.asked) + 1} ({request.messages[-1].content[:60]!r}...)"
            raise BackendError(f"the script holds no reply for {which}") from None


def _script_row(row: FileRow) -> tuple[str | None, str]:
    reply, prompt = row.data.get("reply"), row.data.get("prompt")
    if not isinstance(reply, str) or not isinstance(prompt, str | None):
        raise row.wrong('needs {"reply": TEXT}, with "prompt" if wanted')
    return prompt, reply
