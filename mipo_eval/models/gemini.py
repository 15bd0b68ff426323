"""Google's Gemini models through the google-genai client."""

import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from mipo_eval.errors import ConfigError
from mipo_eval.models.base import Limits, Reply, Request, sendable
from mipo_eval.models.credentials import PLACEHOLDER, SentKey, keyed
from mipo_eval.models.server import Send, ServedBackend, Trouble, clean
from mipo_eval.models.spec import is_private, normal_url
from mipo_eval.models.told import alternatives, count, word

if TYPE_CHECKING:
    from google.genai.client import AsyncClient
    from google.genai.errors import APIError
    from google.genai.types import Content, GenerateContentConfig, GenerateContentResponse

_DEFAULT_URL = "https://generativelanguage.googleapis.com"
_REFUSALS = frozenset(
    {"SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "LANGUAGE", "MODEL_ARMOR"}
)
"""Finish reasons that mean the model was not allowed to answer; asking again does not help."""


class GeminiBackend(ServedBackend):
    """Asks a Gemini model.

    Blocked prompts and blocked answers are the failure "refused", an answer without a candidate is
    "bad_reply"; neither is ever a reply. Constrained choices are sent as an enum schema; a server
    that rejects it is asked in plain text from then on.
    """

    kind = "gemini"
    _enum_works: bool | None = None
    """Whether the server takes the enum schema; None until the first answer tells."""

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        *,
        limits: Limits | None = None,
        api_key_env: str | None = None,
    ) -> None:
        name = model.removeprefix("models/")
        super().__init__(name, base_url, limits=limits, api_key_env=api_key_env)

    def _servers(self, base_url: str | None) -> tuple[str, ...]:
        return (normal_url(base_url or _DEFAULT_URL),)

    async def check(self) -> None:
        """Ask the server for this model; see `Backend.check`."""
        from google.genai.errors import APIError

        async def served(client: "AsyncClient") -> list[str]:
            try:
                await client.models.get(model=self.model)
            except APIError as error:
                if error.code != 404:
                    raise
                models = await client.models.list()
                return [str(model.name).removeprefix("models/") async for model in models]
            return [self.model]

        async with self.client() as client:
            await self.check_served(self.urls[0], self.mapped(served(client)))

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[Send]:
        async with self.client() as client:

            async def send(request: Request) -> Reply:
                return await self._send(client, request)

            yield send

    @asynccontextmanager
    async def client(self) -> AsyncIterator["AsyncClient"]:
        """Open a client; it belongs to one event loop."""
        import aiohttp
        from google import genai
        from google.genai.types import HttpOptions, HttpRetryOptions

        [url], limits = self.urls, self.limits
        sent = SentKey(credential=self.credential(url), header="x-goog-api-key")

        async with aiohttp.ClientSession(
            middlewares=[keyed(url, sent)],
            connector=aiohttp.TCPConnector(limit=limits.concurrency),
            trust_env=not is_private(url),
        ) as session:
            options = HttpOptions(
                base_url=url,
                api_version="v1beta",  # where preview models are
                timeout=int(limits.timeout * 1000),
                # Ours are counted and spread; the client would sleep up to ten seconds itself.
                retry_options=HttpRetryOptions(attempts=1),
                aiohttp_client=session,
            )
            # The real key is set as a request leaves.
            async with genai.Client(
                api_key=PLACEHOLDER, vertexai=False, http_options=options
            ).aio as client:
                yield client

    async def _send(self, client: "AsyncClient", request: Request) -> Reply:
        """Try one request once, without the enum schema where the server rejects it."""
        constrained = bool(request.choices) and self._enum_works is not False
        try:
            reply = await self._generate(client, request, constrained)
        except Trouble as trouble:
            hopeless = trouble.kind != "bad_request" or trouble.stops or self._enum_works
            if not constrained or hopeless:
                raise
            reply = await self._generate(client, request, constrained=False)
            # Only a plain request that succeeds proves that the schema was what was wrong.
            self._enum_works = False
        else:
            if constrained:
                self._enum_works = True
        return reply

    async def _generate(self, client: "AsyncClient", request: Request, constrained: bool) -> Reply:
        start = time.perf_counter()
        made = client.models.generate_content(
            model=self.model,
            contents=list(contents_of(request)),
            config=config_of(request, constrained),
        )
        return read_answer(await self.mapped(made), time.perf_counter() - start)

    def errors(self) -> tuple[type[Exception], ...]:
        """The client's errors, the HTTP library's, and ValueError for what is no answer."""
        import aiohttp
        from google.genai.errors import APIError

        return APIError, aiohttp.ClientError, OSError, ValueError

    def trouble(self, error: Exception, url: str) -> Trouble:
        """Return what an error is in our terms; Google's own words are kept where safe."""
        import aiohttp
        from google.genai.errors import APIError

        if isinstance(error, APIError):
            words = str(error.message or error.status or "")
            wrong_key = "API_KEY_INVALID" in str(error.details) or "API key" in clean(words)
            return self.refusal(
                url,
                401 if wrong_key else error.code,
                words,
                stops="PerDay" in str(error.details),
                after=_asked_delay(error),
            )
        if isinstance(error, TimeoutError):
            return Trouble("timeout", f"{url} did not answer in time", again=True, billed=True)
        if isinstance(error, ValueError):  # no JSON, or JSON of another shape
            reason = clean(f"not an answer in Gemini's form: {error}")
            return Trouble("bad_reply", reason, again=True, billed=True)
        reason = clean(f"{type(error).__name__}: {error}")
        reached = not isinstance(error, aiohttp.ClientConnectorError)
        return Trouble("connection", f"no answer from {url}: {reason}", again=True, billed=reached)


def read_answer(answer: "GenerateContentResponse", seconds: float | None = None) -> Reply:
    """Return the reply in Gemini's answer.

    Raises:
        Trouble: the prompt or the answer was blocked ("refused"), or there is no candidate.
    """
    feedback = answer.prompt_feedback
    if feedback and feedback.block_reason:
        raise Trouble("refused", f"the prompt was blocked: {feedback.block_reason.value}")
    if not answer.candidates:
        raise Trouble("bad_reply", "the answer holds no candidate", again=True, billed=True)
    candidate = answer.candidates[0]
    finish = candidate.finish_reason.value if candidate.finish_reason else None
    if finish in _REFUSALS:
        raise Trouble("refused", f"the answer was blocked: {finish}", billed=True)
    parts = (candidate.content.parts if candidate.content else None) or []
    text = "".join(part.text for part in parts if part.text and not part.thought)
    thinking = "".join(part.text for part in parts if part.text and part.thought)
    if finish not in {None, "STOP", "MAX_TOKENS"} or (finish is None and not text):
        reason = f"the answer ended with {clean(str(finish))}"
        raise Trouble("bad_reply", reason, again=True, billed=True)
    usage = answer.usage_metadata
    return Reply(
        text=text,
        thinking=thinking or None,
        finish_reason={"STOP": "stop", "MAX_TOKENS": "length"}.get(finish or ""),
        model=word(answer.model_version),
        prompt_tokens=count(usage.prompt_token_count) if usage else None,
        # Thinking is billed as output.
        completion_tokens=count(
            (usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0)
        )
        if usage
        else None,
        thinking_tokens=(usage.thoughts_token_count or None) if usage else None,
        seconds=seconds,
        logprobs=_first_token(candidate.logprobs_result),
    )


def _first_token(result: Any) -> tuple[tuple[str, float], ...] | None:
    if not result or not result.top_candidates or not result.top_candidates[0].candidates:
        return None
    first = result.top_candidates[0].candidates
    return alternatives((one.token, one.log_probability) for one in first)


def contents_of(request: Request) -> "list[Content]":
    """Return the turns of a request in Gemini's terms, without the system's."""
    from google.genai.types import Content, Part

    return [
        Content(
            role="model" if turn.role == "assistant" else "user",
            parts=[Part(text=sendable(turn.content))],
        )
        for turn in request.messages
        if turn.role != "system"
    ]


def config_of(request: Request, constrained: bool) -> "GenerateContentConfig":
    """Return how a request is to be answered, in Gemini's terms."""
    from google.genai.types import AutomaticFunctionCallingConfig, GenerateContentConfig

    sampling = request.sampling
    system = "\n\n".join(turn.content for turn in request.messages if turn.role == "system")
    config = GenerateContentConfig(
        system_instruction=sendable(system) or None,
        temperature=sampling.temperature,
        top_p=sampling.further.get("top_p"),
        top_k=sampling.further.get("top_k"),
        seed=sampling.seed,
        stop_sequences=list(sampling.stop) or None,
        max_output_tokens=sampling.max_tokens,
        automatic_function_calling=AutomaticFunctionCallingConfig(disable=True),
    )
    if (reasoning := sampling.reasoning or sampling.effort.level) is not None:
        config.thinking_config = _thinking(reasoning)
    elif sampling.effort.budget is not None:
        config.thinking_config = _thinking(str(sampling.effort.budget))
    if sampling.logprobs:
        config.response_logprobs, config.logprobs = True, sampling.logprobs
    if constrained:
        config.response_mime_type = "text/x.enum"
        config.response_json_schema = {"type": "string", "enum": list(request.choices or ())}
    return config


def _thinking(effort: str) -> Any:
    """Return the setting for an effort: "none", tokens (Gemini 2.5), or a level (Gemini 3)."""
    from google.genai.types import ThinkingConfig, ThinkingLevel

    if effort == "none" or effort.isdigit():
        return ThinkingConfig(thinking_budget=0 if effort == "none" else int(effort))
    try:
        return ThinkingConfig(thinking_level=ThinkingLevel[effort.upper()])
    except KeyError:
        levels = ", ".join(level.lower() for level in ThinkingLevel.__members__)
        raise ConfigError(
            f"unknown reasoning effort {effort!r} for Gemini: none, a number of tokens, or {levels}"
        ) from None


def _asked_delay(error: "APIError") -> str | None:
    """Return the seconds the server asks to wait: in the body's RetryInfo, or in the header."""
    if match := re.search(r"'retryDelay': '([\d.]+)s'", str(error.details)):
        return match[1]
    headers = getattr(error.response, "headers", None) or {}
    return headers.get("retry-after") or headers.get("Retry-After")
