"""What the OpenAI chat-completions protocol says, in our terms: replies and errors."""

import json
import os
import socket
import time
from typing import TYPE_CHECKING, Any

from mipo_eval.backends.addresses import OPENAI_KEY as KEY
from mipo_eval.backends.addresses import clean
from mipo_eval.backends.base import FailureKind, Reply
from mipo_eval.backends.sending import Trouble, retry_after

if TYPE_CHECKING:
    import httpx2
    import openai


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
        finish_reason=choice.get("finish_reason"),
        model=body.get("model"),
        prompt_tokens=usage.get("prompt_tokens"),
        completion_tokens=usage.get("completion_tokens"),
        seconds=seconds,
        logprobs=_first_token(choice.get("logprobs")),
    )


def _first_token(logprobs: Any) -> tuple[tuple[str, float], ...] | None:
    """Return the alternatives of the first token, or None where the server gives none."""
    try:
        return tuple(
            (str(entry["token"]), float(entry["logprob"]))
            for entry in logprobs["content"][0]["top_logprobs"]
        )
    except (KeyError, IndexError, TypeError, ValueError):
        return None


def trouble_of(error: Exception, url: str) -> Trouble:
    """Return what an error of the client, or of the HTTP library below it, is in our terms."""
    import httpx2
    import openai

    if isinstance(error, openai.APIStatusError):
        return _status_trouble(error, url)
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


def status_error(answer: "httpx2.Response") -> "openai.APIStatusError":
    """Return the client's error for an answer that is none, with the server's own words."""
    import openai

    try:
        body = json.loads(answer.content)
    except ValueError:
        body = answer.text
    told = body.get("error", body) if isinstance(body, dict) else body
    return openai.APIStatusError(f"status {answer.status_code}", response=answer, body=told)


def _status_trouble(error: "openai.APIStatusError", url: str) -> Trouble:
    """Return what an HTTP error status means; the server's own words are kept where safe."""
    status = error.status_code
    detail = f"{url} answered {status}: {clean(_words(error))}"
    if status == 401:
        # The server's words are left out here: some repeat the key.
        hint = f"refuses the key in {KEY}" if os.environ.get(KEY) else f"asks for a key: set {KEY}"
        return Trouble("auth", f"{url} {hint}", stops=True)
    if error.code == "content_filter":
        return Trouble("refused", detail)
    kind = status_kind(status)
    if status in {403, 404} or error.code == "insufficient_quota":
        return Trouble(kind, detail, stops=True)
    if kind == "bad_request":
        return Trouble(kind, detail)
    try:
        after = retry_after(error.response.headers.get("retry-after"), time.time())
    except ValueError as too_long:
        return Trouble(kind, f"{detail} ({too_long})")
    return Trouble(kind, detail, again=True, after=after)


def status_kind(status: int) -> FailureKind:
    """Return what an HTTP error status is called in the ledger."""
    return _KINDS.get(status, "server_error" if status >= 500 else "bad_request")


_KINDS: dict[int, FailureKind] = {
    401: "auth",
    403: "auth",
    408: "timeout",
    409: "server_error",
    429: "rate_limit",
}


def _words(error: "openai.APIStatusError") -> str:
    body = error.body
    if isinstance(body, dict):
        return str(body.get("message") or body.get("detail") or body)
    return str(body or "")
