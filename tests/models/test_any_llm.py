"""The any-llm backend: real clients of any-llm against a real local server."""

import asyncio

import pytest

pytest.importorskip("any_llm")

from mipo_eval.errors import BackendError, ConfigError
from mipo_eval.models.any_llm import AnyLlmBackend
from mipo_eval.models.base import Failure, Limits, Message, Reply, Request, Sampling
from mipo_eval.models.credentials import host_variables
from mipo_eval.models.prices import load_prices
from mipo_eval.models.spec import load_backend
from tests.servers import openai_server as acts
from tests.servers.http import Act
from tests.servers.openai_server import OpenAIServer, Policy, completion, json_act, ok
from tests.waiting import HANG

FAST = Limits(concurrency=1, attempts=3, timeout=HANG, first_wait=0.01, longest_wait=0.02)


def request(text: str = "hi", **sampling: object) -> Request:
    drawn = Sampling(**sampling)  # type: ignore[arg-type]
    turns = (Message(role="system", content="Be strict."), Message(role="user", content=text))
    return Request(messages=turns, sampling=drawn)


def answers(backend: AnyLlmBackend, *requests: Request) -> list[Reply | Failure]:
    async def collect() -> list[Reply | Failure]:
        await backend.check()
        return [outcome async for _, outcome in backend.answer(requests)]

    return asyncio.run(collect())


def at(server: OpenAIServer, provider: str = "openrouter") -> AnyLlmBackend:
    backend = load_backend(f"any-llm:{provider}:org/judge@{server.url}", limits=FAST)
    assert isinstance(backend, AnyLlmBackend)
    return backend


def test_a_reply_carries_usage_and_finish_reason() -> None:
    with OpenAIServer(ok(" 4\n")) as server:
        backend = at(server)
        [reply] = answers(backend, request(max_tokens=7, seed=3, reasoning="low"))
        [call] = server.calls
        url = server.url
    assert isinstance(reply, Reply)
    assert (reply.text, reply.finish_reason) == (" 4\n", "stop")
    assert (reply.prompt_tokens, reply.completion_tokens) == (11, 1)
    wanted = {"model": "org/judge", "temperature": 0.0, "seed": 3, "max_completion_tokens": 7}
    assert wanted.items() <= call.body.items()
    assert call.body["reasoning"] == {"effort": "low"}
    assert [turn["role"] for turn in call.body["messages"]] == ["system", "user"]
    assert backend.identity == {
        "backend": "any-llm",
        "model": "org/judge",
        "url": url,
        "provider": "openrouter",
    }


@pytest.mark.parametrize(
    ("act", "kind", "calls"),
    [
        (acts.too_many(), "rate_limit", 3),
        (acts.broken(), "server_error", 3),
        (acts.error(400, "prompt has too many words"), "bad_request", 1),
        (acts.expired_key(), "auth", 1),
        (acts.wrong_model(), "bad_request", 1),
        (acts.hang_up(), "connection", 3),
        (acts.invalid_json(), "bad_reply", 3),
        (json_act(completion(None)), "bad_reply", 3),
        (acts.filtered(), "refused", 1),
    ],
)
def test_what_a_server_does_wrong_is_a_failure(act: Act, kind: str, calls: int) -> None:
    with OpenAIServer(act) as server:
        [failure] = answers(at(server), request())
        assert (getattr(failure, "kind", failure), server.chats) == (kind, calls)
    assert isinstance(failure, Failure)
    assert "\n" not in failure.detail


def test_a_setting_that_is_refused_is_left_out() -> None:
    with OpenAIServer(policy=Policy(unsupported=("temperature", "seed"))) as server:
        backend = at(server)
        assert all(isinstance(one, Reply) for one in answers(backend, request("a"), request("b")))
    assert backend.changes.settings == "seed=none+temperature=default"


def test_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENROUTER_API_KEY", "sk-or-mine")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-openai")
    with OpenAIServer() as own, OpenAIServer() as other, OpenAIServer() as keyed:
        for provider in ("openrouter", "openai"):
            answers(at(other, provider), request())
        monkeypatch.setenv(host_variables(keyed.url)[0], "mine-alone")
        answers(at(keyed), request())
        monkeypatch.setenv("OPENROUTER_API_BASE", own.url)
        backend = load_backend("any-llm:openrouter:org/judge", limits=FAST)
        assert isinstance(backend, AnyLlmBackend)
        answers(backend, request())
        sent = [
            [call.headers.get("authorization") for call in s.calls] for s in (own, other, keyed)
        ]
    assert sent == [["Bearer sk-or-mine"], ["Bearer none"] * 2, ["Bearer mine-alone"]]


def test_what_cannot_be_asked_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def said(spec: str) -> str:
        with pytest.raises((BackendError, ConfigError)) as caught:
            asyncio.run(load_backend(spec).check())
        return str(caught.value)

    assert "write any-llm:PROVIDER:MODEL" in said("any-llm:mistral")
    assert "any-llm has no provider 'nowhere'; it has" in said("any-llm:nowhere:m")
    assert "needs pip install 'any-llm-sdk[cohere]'" in said("any-llm:cohere:m")
    missing = "openrouter needs a key: set the environment variable OPENROUTER_API_KEY"
    assert said("any-llm:openrouter:m") == missing


def test_no_key_goes_over_plain_http(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENROUTER_API_KEY", "sk-or-mine")
    monkeypatch.setenv("OPENROUTER_API_BASE", "http://proxy.example.com/v1")
    with pytest.raises(BackendError, match="with MIPO_EVAL_KEY_PROXY_EXAMPLE_COM"):
        asyncio.run(load_backend("any-llm:openrouter:org/judge").check())


def test_a_refused_key_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENROUTER_API_KEY", "sk-or-mine")
    with OpenAIServer(acts.expired_key("Incorrect API key sk-or-mine")) as server:
        monkeypatch.setenv("OPENROUTER_API_BASE", server.url)
        backend = load_backend("any-llm:openrouter:org/judge", limits=FAST)
        assert isinstance(backend, AnyLlmBackend)
        [failure] = answers(backend, request())
    assert isinstance(failure, Failure)
    assert failure.detail == "openrouter refuses the key in OPENROUTER_API_KEY"


def test_prices_are_the_providers() -> None:
    backend = load_backend("any-llm:openrouter:meta-llama/llama-3.3-70b-instruct")
    assert isinstance(backend, AnyLlmBackend)
    url = "https://openrouter.ai/api/v1"
    assert backend.price == load_prices().find(backend.model, url=url) is not None


@pytest.mark.parametrize(
    ("spec", "extra"), [("any-llm:mistral:m", "any-llm"), ("anthropic:m", "anthropic")]
)
def test_a_package_that_is_not_there_is_named(
    monkeypatch: pytest.MonkeyPatch, spec: str, extra: str
) -> None:
    monkeypatch.setattr("mipo_eval.models.server.find_spec", lambda _: None)
    with pytest.raises(ConfigError) as caught:
        load_backend(spec)
    assert str(caught.value) == f"{spec} needs pip install 'mipo-eval[{extra}]'"
