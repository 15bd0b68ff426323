"""Any server that speaks the OpenAI chat-completions protocol: OpenAI itself, vLLM, and others."""

import json
import os
import socket
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mipo_eval.models.base import Limits, Reply, Request, sendable
from mipo_eval.models.server import Send, ServedBackend, Trouble, clean
from mipo_eval.models.spec import OPENAI_URL, is_private, normal_url

if TYPE_CHECKING:
    import httpx2
    import openai

URL = "OPENAI_BASE_URL"
"""The environment variable for the default server, as in the openai package."""


@dataclass(slots=True)
class _Server:
    """One of the servers that share the work."""

    url: str
    client: "openai.AsyncOpenAI"
    http: "httpx2.AsyncClient"
    """The client's own connections, with its headers."""
    in_flight: int = 0


class OpenAIBackend(ServedBackend):
    """Asks `model` on one or more OpenAI-compatible servers.

    Constrained choices are sent as vLLM's `structured_outputs` to servers other than OpenAI; a
    server that rejects them with 400 is asked in plain text from then on. Either way the reply is
    passed on raw and judged by our parsers.

    Several servers, their URLs separated by commas, share the requests; the default is
    `OPENAI_BASE_URL`, or OpenAI itself. `http://host:8000` means `http://host:8000/v1`.
    """

    kind = "openai"

    def __init__(
        self, model: str, base_url: str | None = None, *, limits: Limits | None = None
    ) -> None:
        super().__init__(model, base_url, limits=limits)
        self._choices_work: bool | None = None
        """Whether the server takes `structured_outputs`; None until the first answer tells."""
        self._rejected: set[str] = set()
        """Optional parameters the server said it does not take."""

    def _servers(self, base_url: str | None) -> tuple[str, ...]:
        given = base_url or os.environ.get(URL) or OPENAI_URL
        return tuple(sorted({normal_url(part, path="/v1") for part in given.split(",")}))

    async def check(self) -> None:
        """Ask each server for its list of models; see `Backend.check`."""
        async with AsyncExitStack() as stack:
            for server in await self._open(stack):
                await self.check_served(server.url, self._models(server))

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[Send]:
        async with AsyncExitStack() as stack:
            servers = await self._open(stack)

            async def send(request: Request) -> Reply:
                server = min(servers, key=lambda one: one.in_flight)
                server.in_flight += 1
                try:
                    return await self._send(server, request)
                finally:
                    server.in_flight -= 1

            yield send

    async def _open(self, stack: AsyncExitStack) -> list[_Server]:
        """Return a client per server; clients belong to one event loop and end with `stack`."""
        servers = [_server(url, self.api_key(url), self.limits) for url in self.urls]
        for server in servers:
            await stack.enter_async_context(server.client)
        return servers

    async def _send(self, server: _Server, request: Request) -> Reply:
        """Try one request once; what the server does not take is left out and remembered."""
        import openai

        body = self.body(request)
        plain = False
        while True:
            try:
                reply = await self._post(server, body)
            except openai.APIStatusError as error:
                rejected = error.status_code in {400, 422}
                if rejected and error.param in _OPTIONAL and error.param in body:
                    self._rejected.add(error.param)
                    body = self.body(request)
                elif rejected and "structured_outputs" in body and not self._choices_work:
                    plain = True
                else:
                    raise self.trouble(error, server.url) from None
                if plain:
                    body.pop("structured_outputs", None)
                continue
            # Only a plain request that succeeds proves that the parameter was what was wrong.
            if plain or "structured_outputs" in body:
                self._choices_work = not plain
            return reply

    def body(self, request: Request) -> dict[str, Any]:
        """Return what the server is sent for a request."""
        sampling = request.sampling
        official = self.urls == (OPENAI_URL,)
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [
                {"role": turn.role, "content": sendable(turn.content)} for turn in request.messages
            ],
            "seed": sampling.seed,
        }
        if sampling.temperature is not None:
            body["temperature"] = sampling.temperature
        if sampling.reasoning is not None:
            body["reasoning_effort"] = sampling.reasoning
        body |= sampling.effort.request_parameters()
        if sampling.logprobs:
            body |= {"logprobs": True, "top_logprobs": sampling.logprobs}
        # OpenAI's newer models take only the new name, most other servers only the old one.
        new_name = official or "max_tokens" in self._rejected
        body["max_completion_tokens" if new_name else "max_tokens"] = sampling.max_tokens
        if request.choices and not official and self._choices_work is not False:
            body["structured_outputs"] = {"choice": list(request.choices)}
        return {name: value for name, value in body.items() if name not in self._rejected}

    async def _post(self, server: _Server, body: Mapping[str, Any]) -> Reply:
        """Ask for one completion over the client's connections.

        Not through the client's own method: it spends half of the time of a short verdict on copies
        and checks of a request that is the same but for its text.
        """
        start = time.perf_counter()
        posted = server.http.post(f"{server.url}/chat/completions", json=body)
        answer = await self.mapped(posted, server.url)
        if not answer.is_success:
            raise _status_error(answer)
        return read_completion(answer.content, time.perf_counter() - start)

    async def _models(self, server: _Server) -> list[str] | None:
        """Return the models a server lists, or None if it has no such list."""
        answer = await self.mapped(server.http.get(f"{server.url}/models"), server.url)
        if answer.status_code == 404:
            return None
        if not answer.is_success:
            raise self.trouble(_status_error(answer), server.url)
        try:
            return [str(model["id"]) for model in json.loads(answer.content)["data"]]
        except (ValueError, KeyError, TypeError):
            raise Trouble(
                "bad_reply",
                f"{server.url} is no OpenAI-compatible server: its list of models cannot be read",
            ) from None

    def errors(self) -> tuple[type[Exception], ...]:
        """The client's errors, and what passes it unmapped: answers that are no HTTP, for one."""
        import aiohttp
        import httpx2
        import openai

        return openai.OpenAIError, aiohttp.ClientError, httpx2.HTTPError, OSError

    def trouble(self, error: Exception, url: str) -> Trouble:
        """Return what an error of the client, or of the HTTP library below it, is in our terms."""
        import httpx2
        import openai

        if isinstance(error, openai.APIStatusError):
            if error.code == "content_filter" and error.status_code != 401:
                words = clean(_words(error))
                return Trouble("refused", f"{url} answered {error.status_code}: {words}")
            return self.refusal(
                url,
                error.status_code,
                _words(error),
                stops=error.code == "insufficient_quota",
                after=error.response.headers.get("retry-after"),
            )
        root: BaseException = error
        while root.__cause__ is not None:
            root = root.__cause__
        # The client calls a dropped connection a timeout; only the root of the chain tells.
        late = isinstance(error, openai.APITimeoutError | httpx2.TimeoutException)
        if late and isinstance(root, TimeoutError):
            return Trouble("timeout", f"{url} did not answer in time", again=True, billed=True)
        reason = clean(f"{type(root).__name__}: {root}")
        reached = not isinstance(root, ConnectionRefusedError | socket.gaierror)
        return Trouble("connection", f"no answer from {url}: {reason}", again=True, billed=reached)


_OPTIONAL = frozenset({"seed", "max_tokens", "logprobs", "top_logprobs"})
"""A temperature of 0 needs no seed, max_tokens has a newer name, and log-probabilities only refine
a rating that is there without them."""


def _server(url: str, key: str | None, limits: Limits) -> _Server:
    import ssl

    import httpx2
    import openai

    # Loading the certificates takes 40 ms; an empty context suits http and trusts no https.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if url.startswith("http:") else True
    # aiohttp instead of httpx: half the time per call, which is what limits short verdicts.
    http = openai.DefaultAioHttpClient(
        timeout=limits.timeout,
        limits=httpx2.Limits(max_connections=limits.concurrency),
        trust_env=not is_private(url),
        verify=context,
    )
    client = openai.AsyncOpenAI(
        api_key=key or "none",
        base_url=url,
        max_retries=0,  # ours are counted, spread and shared with the other backends
        http_client=http,
    )
    for name, value in {**client.default_headers, **client.auth_headers}.items():
        # A header the client leaves out is no string; each kind of body has its own type.
        if isinstance(value, str) and name.lower() != "content-type":
            http.headers[name] = value
    return _Server(url, client, http)


def read_completion(content: bytes, seconds: float | None = None) -> Reply:
    """Return the reply in the body of a chat completion.

    Raises:
        Trouble: the body is not a completion ("bad_reply"), or the model refused ("refused").
    """
    try:
        body = json.loads(content)
        choice = body["choices"][0]
        message = choice["message"]
        text, refusal = message.get("content"), message.get("refusal")
        thinking = given_thinking(message)
        usage = body.get("usage") or {}
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        start = clean(content[:80].decode("utf-8", "replace"))
        reason = f"not a chat completion: {start!r}"
        raise Trouble("bad_reply", reason, again=True, billed=True) from None
    if refusal or choice.get("finish_reason") == "content_filter":
        reason = clean(str(refusal or "stopped by the server's content filter"))
        raise Trouble("refused", reason, billed=True)
    if not isinstance(text, str | None):
        raise Trouble("bad_reply", "the message's content is not text", again=True, billed=True)
    return Reply(
        # A reasoning model that ran out of tokens says nothing: an empty reply, not a failure.
        text=text or "",
        thinking=thinking,
        finish_reason=choice.get("finish_reason"),
        model=body.get("model"),
        prompt_tokens=usage.get("prompt_tokens"),
        completion_tokens=usage.get("completion_tokens"),
        seconds=seconds,
        logprobs=_first_token(choice.get("logprobs")),
    )


def given_thinking(message: Mapping[str, Any]) -> str | None:
    """Return the thinking that a server gives beside the text of its message, if it does.

    vLLM and OpenRouter call it `reasoning`, DeepSeek and earlier vLLM `reasoning_content`.
    """
    found = (message.get(name) for name in ("reasoning", "reasoning_content"))
    return next((text for text in found if isinstance(text, str) and text), None)


def _first_token(logprobs: Any) -> tuple[tuple[str, float], ...] | None:
    """Return the alternatives of the first token, or None where the server gives none."""
    try:
        return tuple(
            (str(entry["token"]), float(entry["logprob"]))
            for entry in logprobs["content"][0]["top_logprobs"]
        )
    except (KeyError, IndexError, TypeError, ValueError):
        return None


def _status_error(answer: "httpx2.Response") -> "openai.APIStatusError":
    """Return the client's error for an answer that is none, with the server's own words."""
    import openai

    try:
        body = json.loads(answer.content)
    except ValueError:
        body = answer.text
    told = body.get("error", body) if isinstance(body, dict) else body
    return openai.APIStatusError(f"status {answer.status_code}", response=answer, body=told)


def _words(error: "openai.APIStatusError") -> str:
    body = error.body
    if isinstance(body, dict):
        return str(body.get("message") or body.get("detail") or body)
    return str(body or "")
