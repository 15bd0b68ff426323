"""A local server that speaks the Gemini protocol and misbehaves on command."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from tests.servers.http import Act, Call, Server, json_act

Script = Callable[[Call], Act] | Sequence[Act] | Act


def answer(
    text: str | None = "4", *, finish: str = "STOP", thoughts: int = 0, **candidate: Any
) -> dict[str, Any]:
    """The body of a good answer."""
    content = {"role": "model", "parts": [{"text": text}]} if text is not None else {}
    usage = {"promptTokenCount": 11, "candidatesTokenCount": 1, "totalTokenCount": 12}
    if thoughts:
        usage["thoughtsTokenCount"] = thoughts
    return {
        "candidates": [{"content": content, "finishReason": finish, "index": 0, **candidate}],
        "usageMetadata": usage,
        "modelVersion": "gemini-test-001",
    }


def ok(text: str = "4", **options: Any) -> Act:
    """A good answer."""
    return json_act(answer(text, **options))


def error(status: int, state: str, message: str, details: Sequence[Any] = ()) -> Act:
    """An error in Google's shape."""
    body = {"error": {"code": status, "message": message, "status": state}}
    if details:
        body["error"]["details"] = list(details)
    return json_act(body, status=status)


def too_many(retry_delay: str | None = None) -> Act:
    """429, with or without the delay Google puts into the body."""
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": retry_delay}
    return error(429, "RESOURCE_EXHAUSTED", "Quota exceeded", [info] if retry_delay else [])


def out_of_quota() -> Act:
    """429 because of a daily quota, which no waiting cures."""
    violation = {"violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]}
    return error(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota", [violation])


def broken() -> Act:
    """A server error."""
    return error(500, "INTERNAL", "An internal error has occurred")


def overloaded() -> Act:
    """503, the model is overloaded."""
    return error(503, "UNAVAILABLE", "The model is overloaded")


def expired_key() -> Act:
    """Google answers 400, not 401, to a key it does not know."""
    reason = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
    return error(400, "INVALID_ARGUMENT", "API key not valid.", [reason])


def forbidden() -> Act:
    """403, the key may not use this model."""
    return error(403, "PERMISSION_DENIED", "The caller does not have permission")


def wrong_model() -> Act:
    """404, as for a model that is not served."""
    return error(404, "NOT_FOUND", "models/judge is not found for API version v1beta")


def blocked_prompt() -> Act:
    """200 without candidates: the prompt was blocked."""
    return json_act({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {}})


def blocked_answer(reason: str = "SAFETY") -> Act:
    """200 with a candidate that was stopped by a filter."""
    return json_act(answer(None, finish=reason))


def no_candidates() -> Act:
    """200 with nothing in it."""
    return json_act({"candidates": [], "usageMetadata": {"promptTokenCount": 11}})


def malformed() -> Act:
    """200 whose candidate ended for an odd reason."""
    return json_act(answer(None, finish="OTHER"))


def slow(seconds: float) -> Act:
    """A good answer, late."""
    return replace(ok(), delay=seconds)


def cut_off() -> Act:
    """A good answer whose connection closes in the middle of the body."""
    return replace(ok(), cut=True)


def hang_up() -> Act:
    """The connection closes without an answer."""
    return Act(drop=True)


def invalid_json() -> Act:
    """200 with a body that is no JSON."""
    return Act(body=b'{"candidates": [')


def wrong_shape() -> Act:
    """200 with JSON of another protocol."""
    return json_act({"candidates": "4"})


class Batches:
    """The batches of a server: each stays in progress for some looks, then ends.

    Args:
        answer: the body of the answer to one request, or an error.
        looks: how often a batch is seen running before it has ended.
        ends_as: its last state.
    """

    def __init__(
        self,
        reply: Callable[[Any], dict[str, Any] | None] | None = None,
        *,
        looks: int = 1,
        ends_as: str = "SUCCEEDED",
    ) -> None:
        self._answer = reply or (lambda _: {"response": answer("4")})
        self.looks = looks
        self._ends_as = ends_as
        self.batches: dict[str, dict[str, Any]] = {}
        self.asked: dict[str, list[dict[str, Any]]] = {}
        self._seen: dict[str, int] = {}

    def route(self, call: Call) -> Act | None:
        """Return what to do with a call about batches, None for others."""
        if call.path.endswith(":batchGenerateContent"):
            return json_act(self._made(call.body["batch"]))
        if call.path.endswith("/batches"):
            return json_act({"operations": list(self.batches.values())})
        if "/batches/" in call.path:
            return json_act(self._looked_at("batches/" + call.path.rsplit("/", 1)[-1]))
        return None

    def _made(self, asked: dict[str, Any]) -> dict[str, Any]:
        name = f"batches/{len(self.batches)}"
        self.asked[name] = asked["inputConfig"]["requests"]["requests"]
        self._seen[name] = 0
        metadata = {"displayName": asked["displayName"], "state": "BATCH_STATE_PENDING"}
        self.batches[name] = {"name": name, "metadata": metadata}
        return self.batches[name]

    def _looked_at(self, name: str) -> dict[str, Any]:
        self._seen[name] += 1
        if self._seen[name] > self.looks:
            self.end(name)
        return self.batches[name]

    def end(self, name: str) -> None:
        """End a batch now."""
        metadata = self.batches[name]["metadata"]
        metadata["state"] = f"BATCH_STATE_{self._ends_as}"
        answers = [
            {**outcome, "metadata": asked["metadata"]}
            for asked in self.asked[name]
            if (outcome := self._answer(asked["request"])) is not None
        ]
        metadata["output"] = {"inlinedResponses": {"inlinedResponses": answers}}


class GeminiServer(Server):
    """Answers `models`, `models/NAME`, `models/NAME:generateContent` and batches.

    Args:
        script: one act for every call; or a list, call after call, whose last act repeats; or a
            function of the call.
        models: names it serves.
        takes_enum: whether it accepts the enum response type.
        batches: its batches; they may outlive the server.
    """

    def __init__(
        self,
        script: Script | None = None,
        *,
        models: Sequence[str] = ("judge",),
        takes_enum: bool = True,
        batches: Batches | None = None,
    ) -> None:
        self._batches = batches
        self._script = script if script is not None else ok()
        self._models = models
        self._takes_enum = takes_enum
        super().__init__(self._route)

    @property
    def url(self) -> str:
        """The base URL for clients."""
        return self.address

    @property
    def chats(self) -> int:
        """How many answers were asked for."""
        return self.count(":generateContent")

    def _route(self, call: Call) -> Act:
        if self._batches and (act := self._batches.route(call)):
            return act
        if call.path.endswith(":generateContent"):
            config = call.body.get("generationConfig", {})
            if "responseMimeType" in config and not self._takes_enum:
                return error(400, "INVALID_ARGUMENT", "Unsupported response MIME type")
            return self._scripted(call)
        if call.path.endswith("/models"):
            return json_act({"models": [{"name": f"models/{name}"} for name in self._models]})
        name = call.path.rsplit("/", 1)[-1]
        return json_act({"name": f"models/{name}"}) if name in self._models else wrong_model()

    def _scripted(self, call: Call) -> Act:
        if callable(self._script):
            return self._script(call)
        if isinstance(self._script, Act):
            return self._script
        return self._script[min(call.number, len(self._script) - 1)]
