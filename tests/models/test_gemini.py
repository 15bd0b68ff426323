"""The Gemini backend against a real local server that misbehaves on command."""

import asyncio
import logging
import time

import pytest

from mipo_eval.errors import BackendError, ConfigError
from mipo_eval.models.base import Failure, Limits, Message, Reply, Request, Sampling
from mipo_eval.models.gemini import GeminiBackend
from mipo_eval.models.spec import load_backend
from tests.servers import gemini_server as acts
from tests.servers.gemini_server import GeminiServer
from tests.waiting import HANG

FAST = Limits(concurrency=1, attempts=3, timeout=HANG, first_wait=0.01, longest_wait=0.02)
CHOICES = ("1", "2", "3", "4", "5")


def request(text: str = "hi", **options: object) -> Request:
    return Request(messages=(Message(role="user", content=text),), **options)  # type: ignore[arg-type]


def answers(backend: GeminiBackend, *requests: Request) -> list[Reply | Failure]:
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
    sampling = Sampling(temperature=0.0, max_tokens=7, seed=11)
    with GeminiServer(acts.ok(" 4\n", thoughts=20)) as server:
        backend = GeminiBackend("models/judge", server.url, limits=FAST)
        [reply] = answers(backend, Request(messages=turns, sampling=sampling))
    assert isinstance(reply, Reply)
    assert (reply.text, reply.finish_reason, reply.model) == (" 4\n", "stop", "gemini-test-001")
    assert (reply.prompt_tokens, reply.completion_tokens) == (11, 21)
    [call] = server.calls
    assert call.path == "/v1beta/models/judge:generateContent"
    assert call.body["systemInstruction"]["parts"] == [{"text": "Be strict."}]
    assert [(turn["role"], turn["parts"][0]["text"]) for turn in call.body["contents"]] == [
        ("user", "one"),
        ("model", "two"),
        ("user", "three ?"),
    ]
    assert call.body["generationConfig"] == {"temperature": 0.0, "maxOutputTokens": 7, "seed": 11}


@pytest.mark.parametrize(
    ("act", "kind", "calls"),
    [
        ("too_many", "rate_limit", 3),
        ("broken", "server_error", 3),
        ("overloaded", "server_error", 3),
        ("cut_off", "connection", 3),
        ("hang_up", "connection", 3),
        ("invalid_json", "bad_reply", 3),
        ("wrong_shape", "bad_reply", 3),
        ("no_candidates", "bad_reply", 3),
        ("malformed", "bad_reply", 3),
        ("blocked_prompt", "refused", 1),
        ("blocked_answer", "refused", 1),
        ("wrong_model", "bad_request", 1),
        ("expired_key", "auth", 1),
        ("forbidden", "auth", 1),
        ("out_of_quota", "rate_limit", 1),
    ],
)
def test_each_misbehaviour_ends_as_its_failure(act: str, kind: str, calls: int) -> None:
    with GeminiServer(getattr(acts, act)()) as server:
        [failure] = answers(GeminiBackend("judge", server.url, limits=FAST), request())
        assert isinstance(failure, Failure)
        assert (failure.kind, failure.attempts) == (kind, calls)
        assert server.chats == calls
        assert "\n" not in failure.detail


@pytest.mark.parametrize(
    "reason", ["RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "LANGUAGE"]
)
def test_every_filter_is_a_refusal_that_names_it(reason: str) -> None:
    with GeminiServer(acts.blocked_answer(reason)) as server:
        [failure] = answers(GeminiBackend("judge", server.url, limits=FAST), request())
    assert isinstance(failure, Failure)
    assert (failure.kind, reason in failure.detail) == ("refused", True)


@pytest.mark.parametrize("act", ["too_many", "broken", "hang_up", "invalid_json", "no_candidates"])
def test_a_passing_trouble_is_overcome(act: str) -> None:
    trouble = getattr(acts, act)()
    with GeminiServer([trouble, trouble, acts.ok("5")]) as server:
        [reply] = answers(GeminiBackend("judge", server.url, limits=FAST), request())
        assert isinstance(reply, Reply)
        assert server.chats == 3


def test_a_slow_server_times_out() -> None:
    limits = Limits(concurrency=1, attempts=2, timeout=0.3, first_wait=0.01)
    with GeminiServer(acts.slow(HANG)) as server:
        [failure] = answers(GeminiBackend("judge", server.url, limits=limits), request())
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.attempts) == ("timeout", 2)


def test_the_delay_in_the_body_is_waited_for() -> None:
    with GeminiServer([acts.too_many("0.4s"), acts.ok()]) as server:
        start = time.perf_counter()
        [reply] = answers(GeminiBackend("judge", server.url, limits=FAST), request())
    assert isinstance(reply, Reply)
    assert time.perf_counter() - start >= 0.4


def test_a_truncated_answer_is_a_reply() -> None:
    with GeminiServer(acts.json_act(acts.answer("The", finish="MAX_TOKENS"))) as server:
        [reply] = answers(GeminiBackend("judge", server.url, limits=FAST), request())
    assert isinstance(reply, Reply)
    assert (reply.text, reply.finish_reason) == ("The", "length")


def test_thoughts_are_not_the_answer() -> None:
    parts = [{"text": "Maybe 5?", "thought": True}, {"text": "4"}]
    act = acts.json_act(acts.answer(content={"role": "model", "parts": parts}))
    with GeminiServer(act) as server:
        [reply] = answers(GeminiBackend("judge", server.url, limits=FAST), request())
    assert isinstance(reply, Reply)
    assert reply.text == "4"


def test_choices_are_an_enum_and_plain_text_where_that_is_rejected() -> None:
    with GeminiServer() as server:
        answers(GeminiBackend("judge", server.url, limits=FAST), request(choices=CHOICES))
        config = server.calls[0].body["generationConfig"]
        assert config["responseMimeType"] == "text/x.enum"
        assert config["responseJsonSchema"] == {"type": "string", "enum": list(CHOICES)}
    with GeminiServer(takes_enum=False) as server:
        backend = GeminiBackend("judge", server.url, limits=FAST)
        replies = answers(backend, *(request(str(n), choices=CHOICES) for n in range(5)))
        assert all(isinstance(reply, Reply) for reply in replies)
        assert server.chats == 6


@pytest.mark.parametrize(
    ("effort", "setting"),
    [
        ("none", {"thinking_budget": 0}),
        ("512", {"thinking_budget": 512}),
        ("minimal", {"thinking_level": "MINIMAL"}),
    ],
)
def test_reasoning_effort(effort: str, setting: dict[str, object]) -> None:
    with GeminiServer() as server:
        backend = GeminiBackend("judge", server.url, limits=FAST)
        answers(backend, request(sampling=Sampling(reasoning=effort)))
        assert server.calls[0].body["generationConfig"]["thinkingConfig"] == setting


def test_an_unknown_effort_is_named() -> None:
    with GeminiServer() as server:
        backend = GeminiBackend("judge", server.url, limits=FAST)
        with pytest.raises(ConfigError, match="'huge' for Gemini: none"):
            answers(backend, request(sampling=Sampling(reasoning="huge")))


def test_logprobs_of_the_first_token() -> None:
    first = {"candidates": [{"token": "4", "logProbability": -0.1}, {"token": "5"}]}
    act = acts.ok(logprobsResult={"topCandidates": [first]})
    with GeminiServer(act) as server:
        backend = GeminiBackend("judge", server.url, limits=FAST)
        [reply] = answers(backend, request(sampling=Sampling(logprobs=5)))
        assert server.calls[0].body["generationConfig"]["logprobs"] == 5
    assert isinstance(reply, Reply)
    assert reply.logprobs == (("4", -0.1),)


def check_error(backend: GeminiBackend) -> str:
    with pytest.raises(BackendError) as caught:
        asyncio.run(backend.check())
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_check(monkeypatch: pytest.MonkeyPatch) -> None:
    with GeminiServer(models=("gemini-a", "gemini-b")) as server:
        asyncio.run(GeminiBackend("gemini-a", server.url).check())
        message = check_error(GeminiBackend("judge", server.url))
        assert message == f"{server.url} does not serve 'judge'; it serves: gemini-a, gemini-b"
        assert server.chats == 0
    assert "set the environment variable GEMINI_API_KEY" in check_error(
        load_backend("gemini:gemini-2.5-flash")  # type: ignore[arg-type]
    )
    monkeypatch.setenv("MIPO_EVAL_KEY_127_0_0_1", "AIzaSomething")
    with GeminiServer() as server:
        answers(GeminiBackend("judge", server.url, limits=FAST), request())
        assert server.calls[0].headers["x-goog-api-key"] == "AIzaSomething"


def test_check_names_an_unreachable_server() -> None:
    with GeminiServer() as server:
        url = server.url
    assert f"no answer from {url}" in check_error(GeminiBackend("judge", url))


def test_the_key_is_shown_nowhere(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    key = "verysecretvalue123"
    monkeypatch.setenv("MIPO_EVAL_KEY_127_0_0_1", key)
    caplog.set_level(logging.DEBUG)
    echoes = [
        acts.expired_key(),
        acts.error(403, "PERMISSION_DENIED", f"project of {key} is blocked"),
        acts.error(400, "INVALID_ARGUMENT", f"bad request by {key}"),
        acts.error(500, "INTERNAL", f"crash while serving {key}"),
        acts.json_act({"candidates": key}),
    ]
    for act in echoes:
        with GeminiServer(act) as server:
            backend = GeminiBackend("judge", server.url, limits=FAST)
            [failure] = answers(backend, request())
            assert server.calls[0].headers["x-goog-api-key"] == key
        assert isinstance(failure, Failure)
        assert key not in failure.detail
        assert key not in str(backend.identity) + repr(vars(backend))
    assert key not in caplog.text


def test_identity() -> None:
    assert load_backend("gemini:gemini-2.5-flash").identity == {
        "backend": "gemini",
        "model": "gemini-2.5-flash",
        "url": "https://generativelanguage.googleapis.com",
    }
