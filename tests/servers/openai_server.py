"""A local server that speaks the OpenAI chat-completions protocol and misbehaves on command.

In a test:

    with OpenAIServer(script=[too_many(retry_after=0), ok("4")]) as server:
        backend = OpenAIBackend("judge", server.url)
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tests.servers.http import Act, Call, Server, json_act

Script = Callable[[Call], Act] | Sequence[Act] | Act


def completion(
    text: str | None, *, model: str = "judge", finish: str = "stop", **message: Any
) -> dict[str, Any]:
    """The body of a good answer."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, **message},
                "finish_reason": finish,
            }
        ],
        "usage": {"prompt_tokens": 11, "completion_tokens": 1, "total_tokens": 12},
    }


def ok(text: str = "4", **options: Any) -> Act:
    """A good answer."""
    return json_act(completion(text, **options))


def error(
    status: int, message: str, *, code: str | None = None, headers: Mapping[str, str] | None = None
) -> Act:
    """An error in OpenAI's shape."""
    body = {"error": {"message": message, "type": "error", "param": None, "code": code}}
    return json_act(body, status=status, headers=headers or {})


def too_many(retry_after: float | str | None = None) -> Act:
    """429, with or without a Retry-After header."""
    headers = {} if retry_after is None else {"retry-after": str(retry_after)}
    return error(429, "Rate limit reached", code="rate_limit_exceeded", headers=headers)


def out_of_quota() -> Act:
    """429 that no waiting cures."""
    return error(429, "You exceeded your current quota", code="insufficient_quota")


def broken(status: int = 500) -> Act:
    """A server error."""
    return error(status, "The server had an error")


def expired_key(message: str = "Incorrect API key provided") -> Act:
    """401, as for a revoked key."""
    return error(401, message, code="invalid_api_key")


def wrong_model() -> Act:
    """404, as for a model that is not served."""
    return error(404, "The model `judge` does not exist", code="model_not_found")


def slow(seconds: float, text: str = "4") -> Act:
    """A good answer, late."""
    return replace(ok(text), delay=seconds)


def cut_off() -> Act:
    """A good answer whose connection closes in the middle of the body."""
    return replace(ok(), cut=True)


def hang_up() -> Act:
    """The connection closes without an answer."""
    return Act(drop=True)


def not_http() -> Act:
    """Bytes of some other protocol."""
    return Act(raw=b"SSH-2.0-OpenSSH_9.6\r\n")


def bad_gzip() -> Act:
    """A body that claims to be compressed and is not."""
    return Act(body=b"plain", headers={"content-encoding": "gzip"})


def invalid_json() -> Act:
    """200 with a body that is no JSON."""
    return Act(body=b'{"choices": [{"message": ')


def web_page() -> Act:
    """200 with a web page, as a captive portal or a wrong URL gives."""
    return Act(body=b"<html>hello</html>", headers={"content-type": "text/html"})


def no_choices() -> Act:
    """200 with an empty list of choices."""
    return json_act({**completion("4"), "choices": []})


def refusal(text: str = "I cannot help with that.") -> Act:
    """200 with a refusal instead of content."""
    return json_act(completion(None, refusal=text))


def filtered() -> Act:
    """200, stopped by the content filter."""
    return json_act(completion(None, finish="content_filter"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the server is like apart from its script."""

    models: tuple[str, ...] = ("judge",)
    key: str | None = None
    """The only key accepted; None asks for none."""
    unsupported: tuple[str, ...] = ()
    """Body parameters it rejects with 400."""
    names_parameter: bool = False
    """Whether the 400 says which parameter it means."""
    prompt_end: str | None = None
    """How its template ends a prompt, told as vLLM tells it; None does not tell."""


class Batches:
    """The files and batches of a server: each batch stays in progress for some looks, then ends.

    Args:
        answer: the body of the completion for one line's body, or an (HTTP status, message) error.
        looks: how often a batch is seen running before it has ended.
        ends_as: its last status.
    """

    def __init__(
        self,
        answer: Callable[[Any], dict[str, Any] | tuple[int, str] | None] | None = None,
        *,
        looks: int = 1,
        ends_as: str = "completed",
    ) -> None:
        self._answer = answer or (lambda _: completion("4"))
        self.looks = looks
        self._ends_as = ends_as
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self._seen: dict[str, int] = {}

    def route(self, call: Call) -> Act | None:
        """Return what to do with a call to /v1/files or /v1/batches, None for others."""
        parts = call.path.removeprefix("/v1/").split("/")
        if parts[0] == "files":
            if call.method == "POST":
                return json_act(self._stored(call.body))
            return Act(body=self.files[parts[1]], headers={"content-type": "application/jsonl"})
        if parts[0] == "batches":
            if call.method == "POST":
                return json_act(self._made(call.body))
            if len(parts) == 2:
                return json_act(self._looked_at(parts[1]))
            rows = [self.batches[name] for name in reversed(self.batches)]
            return json_act({"object": "list", "data": rows, "has_more": False})
        return None

    def _stored(self, multipart: bytes) -> dict[str, Any]:
        part = next(p for p in multipart.split(b"--") if b'filename="' in p)
        name = f"file-{len(self.files)}"
        self.files[name] = part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")
        return self._file(name)

    def _file(self, name: str) -> dict[str, Any]:
        size = len(self.files[name])
        about = {
            "id": name,
            "object": "file",
            "bytes": size,
            "created_at": 0,
            "status": "processed",
        }
        return {**about, "filename": "requests.jsonl", "purpose": "batch"}

    def _made(self, body: dict[str, Any]) -> dict[str, Any]:
        name = f"batch_{len(self.batches)}"
        about = {"id": name, "object": "batch", "created_at": 0, "status": "in_progress"}
        self.batches[name] = {**about, **body}
        self._seen[name] = 0
        return self.batches[name]

    def _looked_at(self, name: str) -> dict[str, Any]:
        batch = self.batches[name]
        self._seen[name] += 1
        if self._seen[name] > self.looks and batch["status"] == "in_progress":
            self.end(name)
        return batch

    def end(self, name: str) -> None:
        """End a batch now."""
        batch = self.batches[name]
        batch["status"] = self._ends_as
        if self._ends_as == "failed":
            error = {"code": "invalid", "message": "line 1 is not valid", "line": 1, "param": None}
            batch["errors"] = {"object": "list", "data": [error]}
            return
        good, bad = [], []
        for line in self.files[batch["input_file_id"]].splitlines():
            asked = json.loads(line)
            outcome = self._answer(asked["body"])
            if outcome is None:
                continue
            if isinstance(outcome, tuple):
                answer = {"status_code": outcome[0], "body": {"error": {"message": outcome[1]}}}
                bad.append({"custom_id": asked["custom_id"], "response": answer, "error": None})
            else:
                answer = {"status_code": 200, "body": outcome}
                good.append({"custom_id": asked["custom_id"], "response": answer, "error": None})
        for field, rows in (("output_file_id", good), ("error_file_id", bad)):
            if rows:
                batch[field] = f"{name}-{field}"
                self.files[batch[field]] = "\n".join(map(json.dumps, rows)).encode()


class OpenAIServer(Server):
    """Answers `/v1/models`, `/v1/chat/completions` and, if given batches, their paths.

    Args:
        script: one act for every call; or a list, call after call, whose last act repeats; or a
            function of the call.
        policy: models, key and rejected parameters.
        batches: files and batches; they may outlive the server.
        keep: keep the calls in `calls`.
    """

    def __init__(
        self,
        script: Script | None = None,
        *,
        policy: Policy | None = None,
        batches: Batches | None = None,
        keep: bool = True,
    ) -> None:
        self._batches = batches
        self._script = script if script is not None else ok()
        self._policy = policy or Policy()
        super().__init__(self._route, keep=keep)

    @property
    def url(self) -> str:
        """The base URL for clients."""
        return f"{self.address}/v1"

    @property
    def chats(self) -> int:
        """How many chat completions were asked for."""
        return self.count("/chat/completions")

    def _route(self, call: Call) -> Act:
        policy = self._policy
        if policy.key and call.headers.get("authorization") != f"Bearer {policy.key}":
            return expired_key()
        if call.path == "/v1/models":
            models = [{"id": name, "object": "model", "created": 0} for name in policy.models]
            return json_act({"object": "list", "data": models})
        if policy.prompt_end is not None and call.path in {"/tokenize", "/detokenize"}:
            return json_act(
                {"tokens": list(policy.prompt_end.encode())}
                if call.path == "/tokenize"
                else {"prompt": bytes(call.body["tokens"]).decode()}
            )
        if self._batches and (act := self._batches.route(call)):
            return act
        if call.path != "/v1/chat/completions":
            return error(404, f"no such path: {call.path}")
        return self._rejected(call.body) or self._scripted(call)

    def _rejected(self, body: Mapping[str, Any]) -> Act | None:
        for name in self._policy.unsupported:
            if name in body:
                param = name if self._policy.names_parameter else None
                return json_act(
                    {"error": {"message": f"Unsupported parameter: {name}", "param": param}},
                    status=400,
                )
        return None

    def _scripted(self, call: Call) -> Act:
        if callable(self._script):
            return self._script(call)
        if isinstance(self._script, Act):
            return self._script
        return self._script[min(call.number, len(self._script) - 1)]
