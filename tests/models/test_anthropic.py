"""The Anthropic backend against a real local server that misbehaves on command."""

import asyncio
from contextlib import aclosing

import pytest

pytest.importorskip("anthropic")

from mipo_eval.errors import BackendError
from mipo_eval.models.anthropic import AnthropicBackend
from mipo_eval.models.base import Failure, Limits, Message, Reply, Request, Sampling
from mipo_eval.models.batch import BatchBackend
from mipo_eval.models.batch_anthropic import AnthropicBatchBackend
from mipo_eval.models.credentials import host_variables
from mipo_eval.models.prices import load_prices
from mipo_eval.models.spec import load_backend
from tests.servers import anthropic_server as acts
from tests.servers.anthropic_server import AnthropicServer, Batches
from tests.servers.http import Act, Call, Server
from tests.waiting import HANG

FAST = Limits(concurrency=1, attempts=3, timeout=HANG, first_wait=0.01, longest_wait=0.02)


def request(text: str = "hi", **sampling: object) -> Request:
    drawn = Sampling(**sampling)  # type: ignore[arg-type]
    return Request(messages=(Message(role="user", content=text),), sampling=drawn)


def answers(backend: AnthropicBackend, *requests: Request) -> list[Reply | Failure]:
    async def collect() -> list[Reply | Failure]:
        return [outcome async for _, outcome in backend.answer(requests)]

    return asyncio.run(collect())


def test_a_reply_carries_usage_model_and_finish_reason() -> None:
    turns = (
        Message(role="system", content="Be strict."),
        Message(role="user", content="one"),
        Message(role="assistant", content="two"),
        Message(role="user", content="three \ud800"),
    )
    with AnthropicServer(acts.ok(" 4\n")) as server:
        backend = AnthropicBackend("judge", f"{server.url}/v1", limits=FAST)
        [reply] = answers(backend, Request(messages=turns, sampling=Sampling(max_tokens=7)))
    assert isinstance(reply, Reply)
    assert (reply.text, reply.finish_reason, reply.model) == (" 4\n", "stop", "claude-test-1")
    assert (reply.prompt_tokens, reply.completion_tokens) == (11, 1)
    [call] = server.calls
    assert call.body == {
        "model": "judge",
        "max_tokens": 7,
        "temperature": 0.0,
        "system": "Be strict.",
        "messages": [
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": "two"},
            {"role": "user", "content": "three ?"},
        ],
    }
    assert "anthropic-version" in call.headers


@pytest.mark.parametrize(
    ("act", "kind", "calls"),
    [
        (acts.too_many(), "rate_limit", 3),
        (acts.overloaded(), "server_error", 3),
        (acts.error(500, "api_error", "Internal server error"), "server_error", 3),
        (acts.error(400, "invalid_request_error", "messages: at least one"), "bad_request", 1),
        (
            acts.error(400, "invalid_request_error", "credit balance is too low"),
            "bad_request",
            1,
        ),
        (acts.error(403, "permission_error", "not for this key"), "auth", 1),
        (acts.error(404, "not_found_error", "model: judge"), "bad_request", 1),
        (acts.ok(stop="refusal"), "refused", 1),
        (acts.json_act(acts.message(None)), "bad_reply", 3),
        (acts.json_act({"type": "message"}), "bad_reply", 3),
        (Act(body=b'{"content": ['), "bad_reply", 3),
        (Act(body=b"<html>hello</html>", headers={"content-type": "text/html"}), "bad_reply", 3),
        (Act(drop=True), "connection", 3),
    ],
)
def test_what_a_server_does_wrong_is_a_failure(act: Act, kind: str, calls: int) -> None:
    with AnthropicServer(act) as server:
        [failure] = answers(AnthropicBackend("judge", server.url, limits=FAST), request())
        assert server.chats == calls
    assert isinstance(failure, Failure)
    assert failure.kind == kind
    assert "\n" not in failure.detail


def test_a_moment_of_trouble_is_waited_for() -> None:
    with AnthropicServer([acts.too_many(retry_after=0), acts.overloaded(), acts.ok()]) as server:
        [reply] = answers(AnthropicBackend("judge", server.url, limits=FAST), request())
        assert server.chats == 3
    assert isinstance(reply, Reply)


def test_the_key_is_no_bearer_and_goes_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-of-anthropic")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "a-token-of-anthropic")
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "authorization: Bearer custom-of-mine")
    with AnthropicServer() as server:
        backend = AnthropicBackend("judge", server.url, limits=FAST)
        asyncio.run(backend.check())
        answers(backend, request())
        sent = [{*call.headers} & {"authorization", "x-api-key"} for call in server.calls]
        assert sent == [set(), set()]
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        backend = AnthropicBackend("judge", limits=FAST)
        asyncio.run(backend.check())
        answers(backend, request())
    for call in server.calls[2:]:
        assert call.headers["x-api-key"] == "sk-ant-of-anthropic"
        assert "authorization" not in call.headers


def test_the_key_follows_no_redirect(monkeypatch: pytest.MonkeyPatch) -> None:
    with AnthropicServer() as target:

        def elsewhere(call: Call) -> Act:
            return Act(status=307, headers={"location": f"{target.address}{call.path}"})

        with Server(elsewhere) as first:
            monkeypatch.setenv(host_variables(first.address)[0], "mine-alone")
            backend = AnthropicBackend("judge", first.address, limits=FAST)
            assert isinstance(answers(backend, request())[0], Reply)
            assert [call.headers["x-api-key"] for call in first.calls] == ["mine-alone"]
        assert [call.headers.get("x-api-key") for call in target.calls] == [None]


def test_check(monkeypatch: pytest.MonkeyPatch) -> None:
    def said(backend: AnthropicBackend) -> str:
        with pytest.raises(BackendError) as caught:
            asyncio.run(backend.check())
        return str(caught.value)

    assert "set the environment variable ANTHROPIC_API_KEY" in said(AnthropicBackend("claude"))
    with AnthropicServer(models=("claude-a", "claude-b"), key="right-key") as server:
        name = host_variables(server.url)[0]
        backend = AnthropicBackend("judge", server.url)
        assert said(backend) == f"{server.url} asks for a key: set {name}"
        monkeypatch.setenv(name, "wrong-key")
        assert said(backend) == f"{server.url} refuses the key in {name}"
        monkeypatch.setenv(name, "right-key")
        assert "it serves: claude-a, claude-b" in said(backend)
        asyncio.run(AnthropicBackend("claude-a", server.url).check())
        url = server.url
    assert f"no answer from {url}" in said(AnthropicBackend("judge", url))


@pytest.mark.parametrize(
    ("reasoning", "sent"),
    [
        ("none", {"thinking": {"type": "disabled"}, "temperature": 0.0}),
        ("2048", {"thinking": {"type": "enabled", "budget_tokens": 2048}}),
        ("low", {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}),
    ],
)
def test_thinking(reasoning: str, sent: dict[str, object]) -> None:
    with AnthropicServer(acts.ok("4", thinking="It is short, so 4.")) as server:
        backend = AnthropicBackend("judge", server.url, limits=FAST)
        [reply] = answers(backend, request(reasoning=reasoning, max_tokens=4096))
        body = server.calls[0].body
    assert isinstance(reply, Reply)
    assert reply.text == "4"
    optional = ("thinking", "output_config", "temperature")
    assert {name: body[name] for name in optional if name in body} == sent
    assert backend.changes.settings == (None if reasoning == "none" else "temperature=default")


def test_a_temperature_that_is_refused_is_left_out() -> None:
    def act(call: Call) -> Act:
        if "temperature" in call.body:
            words = "`temperature` is deprecated for this model."
            return acts.error(400, "invalid_request_error", words)
        return acts.ok()

    with AnthropicServer(act) as server:
        backend = AnthropicBackend("judge", server.url, limits=FAST)
        assert all(isinstance(one, Reply) for one in answers(backend, request("a"), request("b")))
        assert server.chats == 3
    assert backend.changes.settings == "temperature=default"


def test_thinking_that_takes_all_tokens_gets_more() -> None:
    def act(call: Call) -> Act:
        if call.body["max_tokens"] < 1000:
            return acts.json_act(acts.message(None, stop="max_tokens", thinking="Let me see"))
        return acts.ok()

    with AnthropicServer(act) as server:
        backend = AnthropicBackend("judge", server.url, limits=FAST)
        assert isinstance(answers(backend, request())[0], Reply)
    assert backend.changes.settings == "max_tokens=1024"


def test_claude_has_a_price() -> None:
    backend = load_backend("anthropic:claude-sonnet-4-5")
    assert isinstance(backend, AnthropicBackend)
    assert backend.price == load_prices().find("claude-sonnet-4-5") is not None


def batch_backend(server: AnthropicServer) -> AnthropicBatchBackend:
    backend = load_backend(
        f"anthropic:judge@{server.url}", limits=FAST, options={"poll_seconds": 0.01}, batch=True
    )
    assert isinstance(backend, AnthropicBatchBackend)
    return backend


def rated(params: dict[str, str]) -> dict[str, object]:
    """The result of a request, by what it asks."""
    text = str(params["messages"][0]["content"])  # type: ignore[index]
    words = {"type": "invalid_request_error", "message": "prompt is too long"}
    return {
        "bad": {"type": "errored", "error": {"type": "error", "error": words}},
        "late": {"type": "expired"},
        "full": {"type": "succeeded", "message": acts.message(None, stop="max_tokens")},
    }.get(text, {"type": "succeeded", "message": acts.message(text)})


def test_a_batch_gives_each_request_its_outcome() -> None:
    batches = Batches(rated)
    with AnthropicServer(batches=batches) as server:
        backend = batch_backend(server)
        assert isinstance(backend, BatchBackend)
        outcomes = answers(backend, *(request(text) for text in ("1", "5", "bad", "late", "full")))
    told = sorted(
        one.text if isinstance(one, Reply) else f"{one.kind}: {one.detail}" for one in outcomes
    )
    assert told[:3] == ["1", "5", "bad_request: in a batch: prompt is too long"]
    assert told[3].startswith("no_room: no room after thinking: 16 tokens")
    assert told[4] == "server_error: in a batch: the request expired"
    assert len(batches.requests) == 1
    assert backend.changes.settings == "max_tokens=1024"


def test_a_later_process_finds_the_batch_and_pays_once() -> None:
    batches = Batches(rated, looks=10**9)

    async def leave(backend: AnthropicBatchBackend) -> None:
        async def collect() -> None:
            async with aclosing(backend.answer([request("1")])) as stream:
                async for _ in stream:
                    raise AssertionError("the batch has not ended")

        work = asyncio.create_task(collect())
        while not backend.usage.waiting and not work.done():
            await asyncio.sleep(0.01)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work

    with AnthropicServer(batches=batches) as server:
        asyncio.run(leave(batch_backend(server)))
        assert len(batches.requests) == 1
        batches.looks = 0
        [reply] = answers(batch_backend(server), request("1"))
        assert isinstance(reply, Reply)
        assert reply.text == "1"
        assert len(batches.requests) == 1


def test_a_batch_of_somebody_else_is_not_waited_for() -> None:
    batches = Batches(rated)
    batches.add([{"custom_id": "mine-1", "params": {"messages": [{"content": "9"}]}}])  # running
    batches.add([{"custom_id": "mine-1", "params": {"messages": [{"content": "9"}]}}])
    batches._seen["msgbatch_1"] = 10  # ended
    with AnthropicServer(batches=batches) as server:
        [reply] = answers(batch_backend(server), request("1"))
    assert isinstance(reply, Reply)
    assert reply.text == "1"
    assert len(batches.requests) == 3
