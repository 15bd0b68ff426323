"""Settings that a server does not take, and replies that need more room than asked for."""

import asyncio

import pytest

from mipo_eval.models.base import Failure, Limits, Message, Reply, Request, Sampling
from mipo_eval.models.changes import Changes, refused_setting
from mipo_eval.models.gemini import GeminiBackend
from mipo_eval.models.openai import OpenAIBackend
from tests.servers import gemini_server
from tests.servers.gemini_server import GeminiServer
from tests.servers.http import Act, Call
from tests.servers.openai_server import OpenAIServer, Policy, completion, error, json_act, ok
from tests.waiting import HANG

FAST = Limits(concurrency=1, attempts=2, timeout=HANG, first_wait=0.01, longest_wait=0.02)
ALL = frozenset(
    {"temperature", "seed", "max_tokens", "max_completion_tokens", "logprobs", "top_logprobs"}
)


def request(text: str = "hi", **sampling: object) -> Request:
    drawn = Sampling(**sampling)  # type: ignore[arg-type]
    return Request(messages=(Message(role="user", content=text),), sampling=drawn)


def ask(backend: OpenAIBackend | GeminiBackend, *requests: Request) -> list[Reply | Failure]:
    async def collect() -> list[Reply | Failure]:
        return [outcome async for _, outcome in backend.answer(requests)]

    return asyncio.run(collect())


@pytest.mark.parametrize(
    ("words", "named", "setting"),
    [
        # as OpenAI, Azure, Mistral, vLLM, Anthropic, Groq and others say it
        (
            "Unsupported value: 'temperature' does not support 0 with this model. Only the "
            "default (1) value is supported.",
            "temperature",
            "temperature",
        ),
        (
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
            "'max_completion_tokens' instead.",
            None,
            "max_tokens",
        ),
        (
            "[{'type': 'extra_forbidden', 'loc': ['body', 'seed'], 'msg': 'Extra inputs are not "
            "permitted', 'input': 0}]",
            None,
            "seed",
        ),
        ("Unrecognized request argument supplied: seed", None, "seed"),
        ("`temperature` may only be set to 1 when thinking is enabled.", None, "temperature"),
        ("`temperature` is deprecated for this model.", None, "temperature"),
        ("logprobs is not supported with this model", None, "logprobs"),
        ("You are not allowed to request logprobs from this model", "logprobs", "logprobs"),
        ("Extra inputs are not permitted", "body.top_logprobs", "top_logprobs"),
        # and what is about something else
        ("This model's maximum context length is 256 tokens", None, None),
        ("'max_tokens' is too large: 16. This model has 8 left", None, None),
        ("Unsupported parameter: 'messages'", "messages", None),
        ("the temperature of the prompt upsets me", None, None),
        ("Unsupported parameter: seeds", None, None),
    ],
)
def test_which_setting_a_refusal_is_about(
    words: str, named: str | None, setting: str | None
) -> None:
    assert refused_setting(ALL, words, named) == setting


@pytest.mark.parametrize("names_parameter", [True, False])
@pytest.mark.parametrize(
    ("refused", "settings"),
    [
        (("temperature",), "temperature=default"),
        (("temperature", "seed"), "seed=none+temperature=default"),
        (("logprobs", "top_logprobs"), "logprobs=none"),
        (("max_tokens",), None),  # another name is no other setting
    ],
)
def test_what_a_server_refuses_is_left_out_and_signed(
    names_parameter: bool, refused: tuple[str, ...], settings: str | None
) -> None:
    policy = Policy(unsupported=refused, names_parameter=names_parameter)
    with OpenAIServer(policy=policy) as server:
        backend = OpenAIBackend("judge", server.url, limits=FAST)
        outcomes = ask(backend, *(request(str(n), logprobs=5) for n in range(3)))
        assert all(isinstance(outcome, Reply) for outcome in outcomes)
        assert not {*refused} & server.calls[-1].body.keys()
        first = server.chats - 2  # the later ones know
        assert first <= 1 + len(refused)
    assert backend.changes.settings == settings
    later = Changes()
    later.recall(settings)
    assert later.settings == settings


def test_a_refusal_that_leaving_out_does_not_cure_changes_nothing() -> None:
    unknown = error(400, "temperature: unknown error of this server")
    with OpenAIServer(unknown) as server:
        backend = OpenAIBackend("judge", server.url, limits=FAST)
        [failure] = ask(backend, request())
        assert isinstance(failure, Failure)
        assert failure.kind == "bad_request"
        assert "unknown error of this server" in failure.detail
        assert "temperature" not in server.calls[-1].body
    assert backend.changes.settings is None


def thinks(tokens: int) -> object:
    """A server whose model thinks for so many tokens before it answers."""

    def act(call: Call) -> Act:
        if call.body["max_tokens"] <= tokens:
            return json_act(completion(None, finish="length", reasoning_content="Let me see"))
        return ok("4")

    return act


def test_a_model_that_was_still_thinking_gets_more_room() -> None:
    with OpenAIServer(thinks(1500)) as server:  # type: ignore[arg-type]
        backend = OpenAIBackend("judge", server.url, limits=FAST)
        outcomes = ask(backend, *(request(str(n)) for n in range(3)))
        assert [getattr(outcome, "text", None) for outcome in outcomes] == ["4"] * 3
        assert [call.body["max_tokens"] for call in server.calls] == [16, 1024, 4096, 4096, 4096]
    assert backend.changes.settings == "max_tokens=4096"
    assert (backend.usage.answered, backend.usage.failures) == (3, 0)


def test_a_model_that_never_ends_thinking_is_a_failure_with_that_reason() -> None:
    with OpenAIServer(thinks(10**9)) as server:  # type: ignore[arg-type]
        backend = OpenAIBackend("judge", server.url, limits=FAST)
        [failure] = ask(backend, request())
        assert server.chats == 4
    assert isinstance(failure, Failure)
    assert failure.kind == "no_room"
    assert failure.detail.startswith("no room after thinking: 16,384 tokens")


def test_openai_refuses_what_has_no_room() -> None:
    words = (
        "Could not finish the message because max_tokens or model output limit was reached. "
        "Please try again with higher max_tokens."
    )
    with OpenAIServer([error(400, words), ok("4")]) as server:
        backend = OpenAIBackend("judge", server.url, limits=FAST)
        assert isinstance(ask(backend, request())[0], Reply)
    assert backend.changes.settings == "max_tokens=1024"


def test_more_room_than_the_context_has_is_not_asked_for_twice() -> None:
    def act(call: Call) -> Act:
        if call.body["max_tokens"] > 2000:
            return error(400, "max_tokens is too large: this model's context is 2048 tokens")
        return json_act(completion("", finish="length"))

    with OpenAIServer(act) as server:
        backend = OpenAIBackend("judge", server.url, limits=FAST)
        failures = ask(backend, request("a"), request("b"))
        assert [call.body["max_tokens"] for call in server.calls] == [16, 1024, 4096, 1024]
    assert [getattr(one, "kind", None) for one in failures] == ["no_room"] * 2


def test_more_room_is_paid_for_from_the_same_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIPO_EVAL_PRICES", "prices.yaml")
    with open("prices.yaml", "w", encoding="utf-8") as file:  # noqa: PTH123
        file.write("as_of: 2026-01-01\nmodels: {judge: {input: 1, output: 1000}}")
    with OpenAIServer(thinks(10)) as server:  # type: ignore[arg-type]
        limits = Limits(concurrency=1, attempts=1, timeout=HANG, max_cost=0.5)
        [reply] = ask(OpenAIBackend("judge", server.url, limits=limits), request())
        assert isinstance(reply, Reply)
    with OpenAIServer(thinks(100)) as server:  # type: ignore[arg-type]
        limits = Limits(concurrency=1, attempts=1, timeout=HANG, max_cost=0.5)
        [failure] = ask(OpenAIBackend("judge", server.url, limits=limits), request())
        assert server.chats == 1  # 1,024 tokens might cost a dollar
    assert isinstance(failure, Failure)
    assert failure.kind == "budget"


def test_a_reply_without_any_text_is_not_kept() -> None:
    with OpenAIServer([json_act(completion(None)), ok("4")]) as server:
        [reply] = ask(OpenAIBackend("judge", server.url, limits=FAST), request())
        assert server.chats == 2
    assert isinstance(reply, Reply)
    assert reply.text == "4"
    with OpenAIServer(json_act(completion(None))) as server:
        [failure] = ask(OpenAIBackend("judge", server.url, limits=FAST), request())
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.detail) == ("bad_reply", "the reply holds no text")
    with GeminiServer(gemini_server.json_act(gemini_server.answer(None))) as server:
        [failure] = ask(GeminiBackend("judge", server.url, limits=FAST), request())
    assert isinstance(failure, Failure)
    assert failure.kind == "bad_reply"


def test_gemini_gets_more_room_too() -> None:
    def act(call: Call) -> Act:
        little = call.body["generationConfig"]["maxOutputTokens"] < 100
        said = gemini_server.answer(None, finish="MAX_TOKENS", thoughts=16)
        return gemini_server.json_act(said) if little else gemini_server.ok("4")

    with GeminiServer(act) as server:
        backend = GeminiBackend("judge", server.url, limits=FAST)
        [reply] = ask(backend, request())
    assert isinstance(reply, Reply)
    assert backend.changes.settings == "max_tokens=1024"


def test_the_words_of_a_server_that_fails() -> None:
    words = ["no model for you", "no model for you", "too early"]
    acts = [ok(), *(error(400, said) for said in words)]
    with OpenAIServer(lambda call: acts[call.number]) as server:
        backend = OpenAIBackend("judge", server.url, limits=FAST)
        ask(backend, request("a"))
        assert backend.usage.complaint is None
        ask(backend, request("b"), request("c"), request("d"))
    assert backend.usage.complaint == f"{backend.urls[0]} answered 400: no model for you"
    assert (backend.usage.answered, backend.usage.failures) == (1, 3)
