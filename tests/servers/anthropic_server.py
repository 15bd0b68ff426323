"""A local server that speaks Anthropic's protocol and misbehaves on command."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.servers.http import Act, Call, Server, json_act

Script = Callable[[Call], Act] | Sequence[Act] | Act


def message(
    text: str | None = "4", *, stop: str = "end_turn", thinking: str | None = None
) -> dict[str, Any]:
    """The body of a good answer."""
    content: list[dict[str, Any]] = []
    if thinking is not None:
        content.append({"type": "thinking", "thinking": thinking, "signature": "s"})
    if text is not None:
        content.append({"type": "text", "text": text})
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-test-1",
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": {"input_tokens": 11, "output_tokens": 1},
    }


def ok(text: str = "4", **options: Any) -> Act:
    """A good answer."""
    return json_act(message(text, **options))


def error(status: int, kind: str, words: str, *, headers: Mapping[str, str] | None = None) -> Act:
    """An error in Anthropic's shape."""
    body = {"type": "error", "error": {"type": kind, "message": words}, "request_id": "req_1"}
    return json_act(body, status=status, headers=headers or {})


def too_many(retry_after: float | None = None) -> Act:
    """429, with or without a Retry-After header."""
    headers = {} if retry_after is None else {"retry-after": str(retry_after)}
    return error(429, "rate_limit_error", "This request would exceed your limit", headers=headers)


def overloaded() -> Act:
    """529, Anthropic's own."""
    return error(529, "overloaded_error", "Overloaded")


class Batches:
    """The batches of a server: each stays in progress for some looks, then ends.

    Args:
        answer: the result of one request, by its parameters.
        looks: how often a batch is seen running before it has ended.
    """

    def __init__(
        self, answer: Callable[[Any], dict[str, Any]] | None = None, *, looks: int = 1
    ) -> None:
        self._answer = answer or (lambda _: {"type": "succeeded", "message": message()})
        self.looks = looks
        self.requests: dict[str, list[dict[str, Any]]] = {}
        self._seen: dict[str, int] = {}

    def add(self, requests: list[dict[str, Any]]) -> str:
        """Submit a batch; return its name."""
        name = f"msgbatch_{len(self.requests)}"
        self.requests[name] = requests
        self._seen[name] = 0
        return name

    def route(self, call: Call, address: str) -> Act | None:
        """Return what to do with a call to /v1/messages/batches, None for others."""
        if not call.path.startswith("/v1/messages/batches"):
            return None
        name, _, rest = call.path.removeprefix("/v1/messages/batches").strip("/").partition("/")
        if call.method == "POST":
            return json_act(self._shown(self.add(call.body["requests"]), address))
        if not name:
            rows = [self._shown(one, address) for one in reversed(self.requests)]
            return json_act({"data": rows, "has_more": False, "first_id": None, "last_id": None})
        if rest == "results":
            lines = (
                {"custom_id": one["custom_id"], "result": self._answer(one["params"])}
                for one in self.requests[name]
            )
            body = "\n".join(map(json.dumps, lines)).encode()
            return Act(body=body, headers={"content-type": "application/x-jsonl"})
        self._seen[name] += 1
        return json_act(self._shown(name, address))

    def _shown(self, name: str, address: str) -> dict[str, Any]:
        ended, n = self._seen[name] > self.looks, len(self.requests[name])
        counts = {"processing": 0 if ended else n, "succeeded": n if ended else 0}
        at = "2026-01-01T00:00:00Z"
        return {
            "id": name,
            "type": "message_batch",
            "processing_status": "ended" if ended else "in_progress",
            "request_counts": {**counts, "errored": 0, "canceled": 0, "expired": 0},
            "created_at": at,
            "expires_at": at,
            "ended_at": at if ended else None,
            "archived_at": None,
            "cancel_initiated_at": None,
            "results_url": f"{address}/v1/messages/batches/{name}/results" if ended else None,
        }


class AnthropicServer(Server):
    """Answers `/v1/models`, `/v1/messages` and, if given batches, their paths.

    Args:
        script: as in `OpenAIServer`.
        models: those it serves.
        key: the only key accepted; None asks for none.
        batches: they may outlive the server.
    """

    def __init__(
        self,
        script: Script | None = None,
        *,
        models: Sequence[str] = ("judge",),
        key: str | None = None,
        batches: Batches | None = None,
    ) -> None:
        self._script = script if script is not None else ok()
        self._models = models
        self._key = key
        self._batches = batches
        super().__init__(self._route)

    @property
    def url(self) -> str:
        """The base URL for clients."""
        return self.address

    @property
    def chats(self) -> int:
        """How many messages were asked for."""
        return self.count("/v1/messages")

    def _route(self, call: Call) -> Act:
        if self._key and call.headers.get("x-api-key") != self._key:
            return error(401, "authentication_error", "invalid x-api-key")
        if self._batches and (act := self._batches.route(call, self.address)):
            return act
        if call.path.startswith("/v1/models"):
            return self._listed(call.path.removeprefix("/v1/models").strip("/"))
        if call.path != "/v1/messages":
            return error(404, "not_found_error", f"no such path: {call.path}")
        return self._scripted(call)

    def _listed(self, asked: str) -> Act:
        at = "2026-01-01T00:00:00Z"
        rows = [
            {"id": name, "type": "model", "display_name": name, "created_at": at}
            for name in self._models
        ]
        if not asked:
            return json_act({"data": rows, "has_more": False, "first_id": None, "last_id": None})
        found = [row for row in rows if row["id"] == asked]
        return json_act(found[0]) if found else error(404, "not_found_error", "no such model")

    def _scripted(self, call: Call) -> Act:
        if callable(self._script):
            return self._script(call)
        if isinstance(self._script, Act):
            return self._script
        return self._script[min(call.number, len(self._script) - 1)]
