"""Anthropic's Claude models through the anthropic client."""

import os
import time
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from mipo_eval.models.base import Reply, Request, sendable
from mipo_eval.models.credentials import PLACEHOLDER, SentKey, set_key
from mipo_eval.models.server import Send, ServedBackend, Trouble, clean
from mipo_eval.models.spec import is_private, normal_url
from mipo_eval.models.told import count, word

if TYPE_CHECKING:
    from anthropic import APIStatusError, AsyncAnthropic
    from anthropic.types import Message

URL = "ANTHROPIC_BASE_URL"
"""The environment variable for another server, as in the anthropic package."""
_DEFAULT_URL = "https://api.anthropic.com"
_FINISHED = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
}
_PROMPT_TOKENS = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


class AnthropicBackend(ServedBackend):
    """Asks a Claude model.

    `reasoning` is "none", a number of tokens to think with (at least 1,024, and less than
    `max_tokens`, which counts them), or an effort ("low" to "max") where the model itself decides
    how long to think. A model that thinks takes no temperature. There is no seed, and nothing
    holds it to the allowed choices: replies are read by our parsers.
    """

    kind = "anthropic"
    package = "anthropic"
    optional = frozenset({"temperature", "top_p"})

    def _servers(self, base_url: str | None) -> tuple[str, ...]:
        return (normal_url(base_url or os.environ.get(URL) or _DEFAULT_URL).removesuffix("/v1"),)

    async def check(self) -> None:
        """Ask the server for this model; see `Backend.check`."""
        from anthropic import NotFoundError

        async def served(client: "AsyncAnthropic") -> list[str] | None:
            try:
                await client.models.retrieve(self.model)
            except NotFoundError:
                try:
                    return [model.id async for model in client.models.list(limit=1000)]
                except NotFoundError:
                    return None
            return [self.model]

        async with self.client() as client:
            await self.check_served(self.urls[0], self.mapped(served(client)))

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[Send]:
        async with self.client() as client:

            async def send(request: Request) -> Reply:
                return await self.accepted(lambda refused: self._message(client, request, refused))

            yield send

    @asynccontextmanager
    async def client(self) -> AsyncIterator["AsyncAnthropic"]:
        """Open a client; it belongs to one event loop."""
        import anthropic

        [url], limits = self.urls, self.limits
        sent = SentKey(credential=self.credential(url), header="x-api-key")

        # Of httpx or httpx2: that depends on the client's version.
        async def keyed(request: Any) -> None:
            set_key(request.headers, str(request.url), url, sent)

        http = anthropic.DefaultAsyncHttpxClient(
            event_hooks={"request": [keyed]}, trust_env=not is_private(url), timeout=limits.timeout
        )
        # Retries are ours: they are counted, spread and shared with the other backends.
        async with anthropic.AsyncAnthropic(
            api_key=PLACEHOLDER,
            base_url=url,
            max_retries=0,
            timeout=limits.timeout,
            http_client=http,
        ) as client:
            yield client

    async def _message(
        self, client: "AsyncAnthropic", request: Request, refused: Collection[str]
    ) -> Reply:
        start = time.perf_counter()
        body = self.body(request, refused)
        needed = {name: body.pop(name) for name in ("model", "max_tokens", "messages")}
        # Versions of the client differ in what else they know by name.
        made = client.messages.create(**needed, extra_body=body)
        return read_message(await self.mapped(made), time.perf_counter() - start)

    def body(self, request: Request, without: Collection[str] = ()) -> dict[str, Any]:
        """Return what the server is sent for a request, without some optional settings."""
        sampling = request.sampling
        system = "\n\n".join(turn.content for turn in request.messages if turn.role == "system")
        reasoning = sampling.reasoning or sampling.effort.level
        thinking = _thinking(reasoning) if reasoning else {}
        if thinking and reasoning != "none":
            self.leave_out("temperature")
        optional = {
            "system": sendable(system) or None,
            "temperature": sampling.temperature,
            "stop_sequences": list(sampling.stop) or None,
            **sampling.further,
        }
        left_out = {*without, *self.changes.left_out}
        return {
            "model": self.model,
            "max_tokens": sampling.max_tokens,
            "messages": [
                {"role": turn.role, "content": sendable(turn.content)}
                for turn in request.messages
                if turn.role != "system"
            ],
            **thinking,
            **{
                name: value
                for name, value in optional.items()
                if value is not None and name not in left_out
            },
        }

    def errors(self) -> tuple[type[Exception], ...]:
        """The client's errors, and ValueError for what is no JSON."""
        import anthropic

        return anthropic.AnthropicError, OSError, ValueError

    def trouble(self, error: Exception, url: str) -> Trouble:
        """Return what an error is in our terms; Anthropic's own words are kept where safe."""
        import anthropic

        if isinstance(error, anthropic.APIStatusError):
            kind, words = _told(error)
            return self.refusal(
                url,
                error.status_code,
                words,
                stops=kind == "billing_error" or "credit balance" in words,
                after=error.response.headers.get("retry-after"),
            )
        if isinstance(error, anthropic.APITimeoutError):
            return Trouble("timeout", f"{url} did not answer in time", again=True, billed=True)
        if isinstance(error, ValueError | anthropic.APIResponseValidationError):
            reason = clean(f"not an answer in Anthropic's form: {error}")
            return Trouble("bad_reply", reason, again=True, billed=True)
        root = error.__cause__ or error
        reason = clean(f"{type(root).__name__}: {root}")
        return Trouble("connection", f"no answer from {url}: {reason}", again=True, billed=True)


def _thinking(reasoning: str) -> dict[str, Any]:
    """Return the parameters for "none", a number of tokens, or an effort."""
    if reasoning == "none":
        return {"thinking": {"type": "disabled"}}
    if reasoning.isdigit():
        return {"thinking": {"type": "enabled", "budget_tokens": int(reasoning)}}
    return {"thinking": {"type": "adaptive"}, "output_config": {"effort": reasoning}}


def _told(error: "APIStatusError") -> tuple[str, str]:
    """Return the kind of an error and the words in its body."""
    body = error.body
    told = body.get("error") if isinstance(body, Mapping) else None
    if isinstance(told, Mapping):
        return str(told.get("type")), str(told.get("message"))
    return "", str(body or error.message)


def read_message(message: "Message", seconds: float | None = None) -> Reply:
    """Return the reply in a message.

    Raises:
        Trouble: it is no message ("bad_reply"), or the model refused ("refused").
    """
    from anthropic.types import Message

    # The client does not check what it is sent.
    if not isinstance(message, Message) or not isinstance(message.content, list):
        raise Trouble("bad_reply", "not an answer in Anthropic's form", again=True, billed=True)
    if message.stop_reason == "refusal":
        raise Trouble("refused", "the model declined to answer", billed=True)
    reason = word(message.stop_reason) or ""
    blocks = (block for block in message.content if getattr(block, "type", None) == "text")
    texts = [getattr(block, "text", None) for block in blocks]
    if reason not in _FINISHED or not all(isinstance(text, str) for text in texts):
        said = f"the reply is no finished text ({clean(reason)})"
        raise Trouble("bad_reply", said, again=True, billed=True)
    taken = [count(getattr(message.usage, name, None)) for name in _PROMPT_TOKENS]
    return Reply(
        text="".join(filter(None, texts)),
        finish_reason=_FINISHED[reason],
        model=word(message.model),
        prompt_tokens=None if taken[0] is None else count(sum(filter(None, taken))),
        # What was thought among them.
        completion_tokens=count(getattr(message.usage, "output_tokens", None)),
        seconds=seconds,
    )
