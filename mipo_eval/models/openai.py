"""Any server that speaks the OpenAI chat-completions protocol: OpenAI itself, vLLM, and others."""

import json
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mipo_eval.models.base import Limits, Reply, Request, sendable
from mipo_eval.models.changes import NO_TEXT
from mipo_eval.models.credentials import PLACEHOLDER, Credential, SentKey, keyed, set_key
from mipo_eval.models.server import Send, ServedBackend, Trouble, clean, status_kind
from mipo_eval.models.spec import OPENAI_URL, is_private, normal_url
from mipo_eval.models.told import alternatives, fields, json_of, tokens_of, word

if TYPE_CHECKING:
    import aiohttp
    import httpx2
    import openai

URL = "OPENAI_BASE_URL"
"""The environment variable for the default server, as in the openai package."""


_TOKENS = ("max_completion_tokens", "max_tokens")
"""What the limit on tokens is called, the newer name first."""


NEUTRAL: Mapping[str, Any] = {"repetition_penalty": 1.0, "top_k": -1, "min_p": 0.0}
"""What changes no choice of tokens, in the words of vLLM and SGLang. They draw by the
generation_config of their checkpoint wherever a request says nothing."""

_NO_ROOM = b"max_tokens or model output limit was reached"
"""How OpenAI refuses a request whose tokens were used up before the answer."""
_LONGEST_FINISH = 32
"""Characters of a reason to finish that the store has room for."""


@dataclass(slots=True)
class _Server:
    """One of the servers that share the work."""

    url: str
    client: "openai.AsyncOpenAI"
    session: "aiohttp.ClientSession"
    """For what is asked often. The client spends three quarters of the time of a short verdict on
    copies and checks of a request that is the same but for its text."""
    in_flight: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """What came back over HTTP."""

    status: int
    content: bytes
    retry_after: str | None


class OpenAIBackend(ServedBackend):
    """Asks `model` on one or more OpenAI-compatible servers.

    Constrained choices are sent as vLLM's `structured_outputs` to servers other than OpenAI; a
    server that rejects them with 400 is asked in plain text from then on. Either way the reply is
    passed on raw and judged by our parsers. So it is with the words for what is `NEUTRAL`.

    Several servers, their URLs separated by commas, share the requests; the default is
    `OPENAI_BASE_URL`, or OpenAI itself. `http://host:8000` means `http://host:8000/v1`.
    """

    kind = "openai"
    # The limit on tokens is renamed; log-probabilities only refine a rating.
    optional = frozenset({"temperature", "top_p", "seed", "logprobs", "top_logprobs", *_TOKENS})

    _extras_work: bool | None = None
    """Whether the server takes `structured_outputs` and the words of `NEUTRAL`; None until the
    first answer tells."""
    _refused_names: frozenset[str] = frozenset()
    """Names of the limit on tokens that the server does not take."""

    @property
    def official(self) -> bool:
        """Whether this is OpenAI's own service, which has other extensions than vLLM."""
        return self.urls == (OPENAI_URL,)

    def chat_url(self, url: str) -> str:
        """Return where a server is asked for completions."""
        return f"{url}/chat/completions"

    def models_url(self, url: str) -> str:
        """Return where a server lists its models."""
        return f"{url}/models"

    def sent_key(self, held: Credential) -> SentKey:
        """Return a key in the form in which it is sent."""
        return SentKey(credential=held, before="Bearer ")

    def client(self, url: str, http: "httpx2.AsyncClient") -> "openai.AsyncOpenAI":
        """Return the client of a server; its key is set as a request leaves."""
        import openai

        # Retries are ours: they are counted, spread and shared with the other backends.
        return openai.AsyncOpenAI(
            api_key=PLACEHOLDER, base_url=url, max_retries=0, http_client=http
        )

    def _servers(self, base_url: str | None) -> tuple[str, ...]:
        given = base_url or os.environ.get(URL) or OPENAI_URL
        return tuple(sorted({normal_url(part, path="/v1") for part in given.split(",")}))

    async def check(self) -> None:
        """Ask each server for its list of models; see `Backend.check`."""
        async with self.opened_servers() as servers:
            for server in servers:
                await self.check_served(server.url, self.models(server))

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[Send]:
        async with self.opened_servers() as servers:

            async def send(request: Request) -> Reply:
                server = min(servers, key=lambda one: one.in_flight)
                server.in_flight += 1
                try:
                    return await self._send(server, request)
                finally:
                    server.in_flight -= 1

            yield send

    @asynccontextmanager
    async def opened_servers(self) -> AsyncIterator[list[_Server]]:
        """Open a client per server; clients belong to one event loop."""
        servers = []
        async with AsyncExitStack() as stack:
            for url in self.urls:
                sent = self.sent_key(self.credential(url))
                trusted = _certificates(url)
                http = _connections(url, sent, self.limits, trusted)
                client = await stack.enter_async_context(self.client(url, http))
                session = _session(url, sent, self.limits, trusted, client.default_headers)
                servers.append(_Server(url, client, await stack.enter_async_context(session)))
            yield servers

    async def _send(self, server: _Server, request: Request) -> Reply:
        """Try one request once, without what the server turns out not to take."""
        return await self.accepted(
            lambda refused: self._with_extras(server, self.body(request, refused))
        )

    async def _with_extras(self, server: _Server, body: Mapping[str, Any]) -> Reply:
        """Ask once, plainly where the server rejects what only some servers know."""
        plain = {name: value for name, value in body.items() if not _is_extra(name, value)}
        try:
            reply = await self._post(server, body)
        except Trouble as trouble:
            other = trouble.kind != "bad_request" or trouble.stops or trouble.refuses
            if plain == body or other or self._extras_work:
                raise
            reply = await self._post(server, plain)
            # Only a plain request that succeeds proves that the others were what was wrong.
            self._extras_work = False
        else:
            if plain != body:
                self._extras_work = True
        return reply

    def leave_out(self, *names: str) -> None:
        """Send these no more; the limit on tokens is sent by its other name."""
        super().leave_out(*names)
        self._refused_names |= {*names} & {*_TOKENS}

    def body(self, request: Request, without: Collection[str] = ()) -> dict[str, Any]:
        """Return what the server is sent for a request, without some optional settings."""
        sampling = request.sampling
        official = self.official
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [
                {"role": turn.role, "content": sendable(turn.content)} for turn in request.messages
            ],
        }
        optional = {
            "seed": sampling.seed,
            "temperature": sampling.temperature,
            "reasoning_effort": sampling.reasoning,
            "logprobs": True if sampling.logprobs else None,
            "top_logprobs": sampling.logprobs or None,
        }
        body |= {name: value for name, value in optional.items() if value is not None}
        body |= sampling.effort.request_parameters() | dict(sampling.further)
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if request.messages[-1].role == "assistant":  # not for OpenAI, which would answer it
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        # OpenAI's newer models take only the new name, most other servers only the old one.
        names = _TOKENS if official else _TOKENS[::-1]
        refused = {*without, *self._refused_names, *self.changes.left_out}
        body[next((name for name in names if name not in refused), names[0])] = sampling.max_tokens
        if request.choices and not official:
            body["structured_outputs"] = {"choice": list(request.choices)}
        if self._extras_work is False:
            body = {name: value for name, value in body.items() if not _is_extra(name, value)}
        both = {"logprobs", "top_logprobs"}
        left_out = (refused | (both if both & refused else set())) - {*_TOKENS}
        return {name: value for name, value in body.items() if name not in left_out}

    async def _post(self, server: _Server, body: Mapping[str, Any]) -> Reply:
        """Ask for one completion."""
        start = time.perf_counter()
        asked = server.session.post(self.chat_url(server.url), json=body)
        answer = await self.mapped(_read(asked), server.url)
        if answer.status == 400 and _NO_ROOM in answer.content:
            return Reply(text="", finish_reason="length")
        if answer.status // 100 != 2:
            raise self._status_trouble(answer, server.url)
        return read_completion(answer.content, time.perf_counter() - start)

    async def models(self, server: _Server) -> list[str] | None:
        """Return the models a server lists, or None if it has no such list."""
        asked = server.session.get(self.models_url(server.url))
        answer = await self.mapped(_read(asked), server.url)
        if answer.status == 404:
            return None
        if answer.status // 100 != 2:
            raise self._status_trouble(answer, server.url)
        try:
            return [str(model["id"]) for model in json_of(answer.content)["data"]]
        except (ValueError, KeyError, TypeError):
            raise Trouble(
                "bad_reply",
                f"{server.url} is no OpenAI-compatible server: its list of models cannot be read",
            ) from None

    def errors(self) -> tuple[type[Exception], ...]:
        """Those of the client and of the HTTP libraries below it and beside it."""
        import aiohttp
        import httpx2
        import openai

        return openai.OpenAIError, aiohttp.ClientError, httpx2.HTTPError, OSError

    def trouble(self, error: Exception, url: str) -> Trouble:
        """Return what an error of the client, or of the HTTP library below it, is in our terms."""
        import httpx2
        import openai

        if isinstance(error, openai.APIStatusError):
            answer, after = error.response, error.response.headers.get("retry-after")
            told = _Answer(status=answer.status_code, content=answer.content, retry_after=after)
            return self._status_trouble(told, url)
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

    def _status_trouble(self, answer: _Answer, url: str) -> Trouble:
        """Return what an answer by which a server takes no request is in our terms."""
        told = _told_by(answer.content)
        about = fields(told)
        words = str(about.get("message") or about.get("detail") or told or "")
        if about.get("code") == "content_filter" and answer.status != 401:
            return Trouble("refused", f"{url} answered {answer.status}: {clean(words)}")
        return self.refusal(
            url,
            answer.status,
            words,
            stops=about.get("code") == "insufficient_quota",
            after=answer.retry_after,
            named=word(about.get("param")),
        )


def _is_extra(name: str, value: Any) -> bool:
    return name == "structured_outputs" or (name in NEUTRAL and value == NEUTRAL[name])


def _connections(
    url: str, sent: SentKey, limits: Limits, trusted: ssl.SSLContext
) -> "httpx2.AsyncClient":
    """Return the connections of a server's client, whose every request carries its key."""
    import httpx2
    import openai

    async def with_key(request: httpx2.Request) -> None:
        set_key(request.headers, str(request.url), url, sent)

    return openai.DefaultAioHttpClient(
        event_hooks={"request": [with_key]},
        timeout=limits.timeout,
        limits=httpx2.Limits(max_connections=limits.concurrency),
        trust_env=not is_private(url),
        verify=trusted,
    )


def _session(
    url: str, sent: SentKey, limits: Limits, trusted: ssl.SSLContext, headers: Mapping[str, Any]
) -> "aiohttp.ClientSession":
    """Return connections to a server for what is asked often, with its client's headers."""
    import aiohttp

    return aiohttp.ClientSession(
        # A header that is left out is no string; each kind of body has its own type.
        headers={
            name: value
            for name, value in headers.items()
            if isinstance(value, str) and name.lower() != "content-type"
        },
        middlewares=[keyed(url, sent)],
        connector=aiohttp.TCPConnector(limit=limits.concurrency, ssl=trusted),
        json_serialize=_BODY.encode,
        timeout=aiohttp.ClientTimeout(),  # whoever asks sets one
        trust_env=not is_private(url),
    )


_BODY = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _certificates(url: str) -> ssl.SSLContext:
    """Return whom a server must be trusted by."""
    import httpx2

    # Loading them takes 40 ms; an empty context suits http and trusts no https.
    http = url.startswith("http:")
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if http else httpx2.create_ssl_context()


async def _read(asked: "AbstractAsyncContextManager[aiohttp.ClientResponse]") -> _Answer:
    async with asked as answer:
        after = answer.headers.get("retry-after")
        return _Answer(status=answer.status, content=await answer.read(), retry_after=after)


def read_completion(content: bytes, seconds: float | None = None) -> Reply:
    """Return the reply in the body of a chat completion.

    Raises:
        Trouble: the body is not a completion ("bad_reply"), or the model refused ("refused").
    """
    try:
        body = json_of(content)
        if told := _told_inside(body):
            raise told
        choice = body["choices"][0]
        message = choice["message"]
        text, refusal = message.get("content"), message.get("refusal")
        thinking = given_thinking(message)
        finish = word(choice.get("finish_reason"), _LONGEST_FINISH)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        start = clean(content[:80].decode("utf-8", "replace"))
        reason = f"not a chat completion: {start!r}"
        raise Trouble("bad_reply", reason, again=True, billed=True) from None
    if refusal or finish == "content_filter":
        reason = clean(str(refusal or "stopped by the server's content filter"))
        raise Trouble("refused", reason, billed=True)
    if not isinstance(text, str | None):
        raise Trouble("bad_reply", "the message's content is not text", again=True, billed=True)
    if text is None and not thinking and finish != "length":
        raise Trouble("bad_reply", NO_TEXT, again=True, billed=True)
    tokens = tokens_of(body.get("usage"))
    return Reply(
        text=text or "",
        thinking=thinking,
        finish_reason=finish,
        model=word(body.get("model")),
        prompt_tokens=tokens.prompt,
        completion_tokens=tokens.completion,
        thinking_tokens=tokens.thinking or None,
        seconds=seconds,
        logprobs=_first_token(choice.get("logprobs")),
    )


def given_thinking(message: Mapping[str, Any]) -> str | None:
    """Return the thinking that a server gives beside the text of its message, if it does.

    vLLM and OpenRouter call it `reasoning`, DeepSeek and earlier vLLM `reasoning_content`.
    """
    found = (message.get(name) for name in ("reasoning", "reasoning_content"))
    return next((text for text in found if isinstance(text, str) and text), None)


def _told_inside(body: Any) -> Trouble | None:
    """Return the error in the body of an answer that calls itself a success, as OpenRouter's do."""
    error = body.get("error") if isinstance(body, dict) and not body.get("choices") else None
    if not isinstance(error, dict):
        return None
    code = error.get("code")
    kind = status_kind(code) if isinstance(code, int) and code >= 400 else "bad_reply"
    words = clean(f"the server answered {code}: {error.get('message')}")
    return Trouble(kind, words, again=kind not in {"auth", "bad_request"}, billed=True)


def _first_token(logprobs: Any) -> tuple[tuple[str, float], ...] | None:
    """Return the alternatives of the first token, or None where the server gives none."""
    try:
        first = logprobs["content"][0]["top_logprobs"]
        return alternatives((entry["token"], entry["logprob"]) for entry in first)
    except (KeyError, IndexError, TypeError):
        return None


def _told_by(content: bytes) -> Any:
    """Return the error in the body of an answer that is one, with the server's own words."""
    try:
        body = json_of(content)
    except ValueError:
        return content.decode("utf-8", "replace")
    return body.get("error", body) if isinstance(body, dict) else body
