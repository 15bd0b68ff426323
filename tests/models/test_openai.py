"""The OpenAI-compatible backend against a real local server that misbehaves on command."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace

import pytest

from mipo_eval.errors import BackendError, ConfigError
from mipo_eval.models.base import Failure, Limits, Message, Reply, Request, Sampling
from mipo_eval.models.credentials import host_variables
from mipo_eval.models.openai import OpenAIBackend
from mipo_eval.models.spec import load_backend, normal_url
from tests.servers import openai_server as server_acts
from tests.servers.openai_server import OpenAIServer, Policy, ok
from tests.waiting import HANG

FAST = Limits(concurrency=1, attempts=3, timeout=HANG, first_wait=0.01, longest_wait=0.02)


def request(text: str = "hi", **options: object) -> Request:
    return Request(messages=(Message(role="user", content=text),), **options)  # type: ignore[arg-type]


def answers(
    backend: OpenAIBackend, requests: Iterable[Request]
) -> list[tuple[Request, Reply | Failure]]:
    async def collect() -> list[tuple[Request, Reply | Failure]]:
        return [outcome async for outcome in backend.answer(requests)]

    return asyncio.run(collect())


def test_a_reply_carries_usage_model_and_finish_reason() -> None:
    with OpenAIServer(ok(" 4\n")) as server:
        asked = request(sampling=Sampling(temperature=0.0, max_tokens=7, seed=11))
        [(given, reply)] = answers(OpenAIBackend("judge", server.url, limits=FAST), [asked])
    assert given is asked
    assert isinstance(reply, Reply)
    assert reply.text == " 4\n"
    assert (reply.finish_reason, reply.model) == ("stop", "judge")
    assert (reply.prompt_tokens, reply.completion_tokens) == (11, 1)
    assert reply.seconds is not None
    assert server.calls[0].body == {
        "model": "judge",
        "messages": [{"role": "user", "content": "hi"}],
        "temperature": 0.0,
        "seed": 11,
        "max_tokens": 7,
    }


@pytest.mark.parametrize(
    ("act", "kind", "calls"),
    [
        ("too_many", "rate_limit", 3),
        ("broken", "server_error", 3),
        ("cut_off", "connection", 3),
        ("hang_up", "connection", 3),
        ("not_http", "connection", 3),
        ("bad_gzip", "connection", 3),
        ("invalid_json", "bad_reply", 3),
        ("web_page", "bad_reply", 3),
        ("no_choices", "bad_reply", 3),
        ("refusal", "refused", 1),
        ("filtered", "refused", 1),
        ("wrong_model", "bad_request", 1),
        ("expired_key", "auth", 1),
        ("out_of_quota", "rate_limit", 1),
    ],
)
def test_each_misbehaviour_ends_as_its_failure(act: str, kind: str, calls: int) -> None:
    with OpenAIServer(getattr(server_acts, act)()) as server:
        [(_, failure)] = answers(OpenAIBackend("judge", server.url, limits=FAST), [request()])
        assert isinstance(failure, Failure)
        assert (failure.kind, failure.attempts) == (kind, calls)
        assert server.chats == calls
        assert "\n" not in failure.detail


@pytest.mark.parametrize(
    "act", ["too_many", "broken", "cut_off", "hang_up", "invalid_json", "web_page", "no_choices"]
)
def test_a_passing_trouble_is_overcome(act: str) -> None:
    trouble = getattr(server_acts, act)()
    with OpenAIServer([trouble, trouble, ok("5")]) as server:
        [(_, reply)] = answers(OpenAIBackend("judge", server.url, limits=FAST), [request()])
        assert isinstance(reply, Reply)
        assert reply.text == "5"
        assert server.chats == 3


def test_a_slow_server_times_out_and_is_asked_again() -> None:
    limits = Limits(concurrency=1, attempts=2, timeout=0.3, first_wait=0.01)
    patient = replace(limits, attempts=1000)  # a busy machine may be late more than once
    with OpenAIServer([server_acts.slow(HANG), ok("2")]) as server:
        [(_, reply)] = answers(OpenAIBackend("judge", server.url, limits=patient), [request()])
        assert isinstance(reply, Reply)
        assert server.chats >= 2
    with OpenAIServer(server_acts.slow(HANG)) as server:
        [(_, failure)] = answers(OpenAIBackend("judge", server.url, limits=limits), [request()])
        assert isinstance(failure, Failure)
        assert (failure.kind, failure.attempts) == ("timeout", 2)


def test_retry_after_is_waited_for() -> None:
    with OpenAIServer([server_acts.too_many(retry_after=0.4), ok()]) as server:
        start = time.perf_counter()
        [(_, reply)] = answers(OpenAIBackend("judge", server.url, limits=FAST), [request()])
    assert isinstance(reply, Reply)
    assert time.perf_counter() - start >= 0.4


def test_a_retry_after_of_an_hour_is_not_waited_for() -> None:
    with OpenAIServer(server_acts.too_many(retry_after=3600)) as server:
        [(_, failure)] = answers(OpenAIBackend("judge", server.url, limits=FAST), [request()])
    assert isinstance(failure, Failure)
    assert failure.kind == "rate_limit"
    assert "3600 s" in failure.detail


@pytest.mark.parametrize("act", ["expired_key", "wrong_model", "out_of_quota"])
def test_what_no_request_can_survive_stops_all(act: str) -> None:
    with OpenAIServer([ok(), getattr(server_acts, act)()]) as server:
        outcomes = answers(
            OpenAIBackend("judge", server.url, limits=FAST), [request(str(n)) for n in range(50)]
        )
        kinds = Counter(type(outcome).__name__ for _, outcome in outcomes)
        assert kinds == {"Reply": 1, "Failure": 49}
        assert server.chats == 2
    never_asked = outcomes[-1][1]
    assert isinstance(never_asked, Failure)
    assert never_asked.detail.startswith("not asked: ")
    assert never_asked.attempts == 0


def test_a_server_that_died_is_given_up_once() -> None:
    with OpenAIServer(ok()) as server:
        backend = OpenAIBackend("judge", server.url, limits=FAST)
    outcomes = answers(backend, [request(str(n)) for n in range(50)])
    failures = [outcome for _, outcome in outcomes if isinstance(outcome, Failure)]
    assert [failure.kind for failure in failures] == ["connection"] * 50
    assert [failure.attempts for failure in failures] == [3] + [0] * 49


def test_check_revives_a_backend_that_had_given_up() -> None:
    with OpenAIServer([server_acts.expired_key(), ok("3")]) as server:
        backend = OpenAIBackend("judge", server.url, limits=FAST)
        assert isinstance(answers(backend, [request()])[0][1], Failure)
        assert isinstance(answers(backend, [request()])[0][1], Failure)
        assert server.chats == 1
        asyncio.run(backend.check())
        assert isinstance(answers(backend, [request()])[0][1], Reply)


def test_concurrency_is_bounded_and_requests_are_pulled_lazily() -> None:
    limits = Limits(concurrency=8)
    pulled = 0

    def requests() -> Iterator[Request]:
        nonlocal pulled
        for number in range(200):
            pulled += 1
            yield request(str(number))

    async def ask(backend: OpenAIBackend) -> list[int]:
        ahead = []
        received = 0
        async for _ in backend.answer(requests()):
            received += 1
            ahead.append(pulled - received)
        return ahead

    with OpenAIServer(server_acts.slow(0.01)) as server:
        ahead = asyncio.run(ask(OpenAIBackend("judge", server.url, limits=limits)))
        assert len(ahead) == 200
        assert max(ahead) <= 2 * limits.concurrency
        assert server.most_in_flight == 8
        assert Counter(call.body["messages"][0]["content"] for call in server.calls) == Counter(
            str(number) for number in range(200)
        )


def test_leaving_early_cancels_what_is_in_flight() -> None:
    async def first(backend: OpenAIBackend) -> None:
        stream = backend.answer(request(str(n)) for n in range(1000))
        await anext(stream)
        await stream.aclose()
        assert len(asyncio.all_tasks()) == 1

    with OpenAIServer(server_acts.slow(0.05)) as server:
        asyncio.run(first(OpenAIBackend("judge", server.url, limits=Limits(concurrency=4))))
        assert server.chats <= 9


def test_an_error_in_the_callers_requests_comes_through() -> None:
    def requests() -> Iterator[Request]:
        yield request()
        raise KeyError("bug")

    with OpenAIServer() as server, pytest.raises(KeyError, match="bug"):
        answers(OpenAIBackend("judge", server.url, limits=FAST), requests())


def test_several_servers_share_the_work() -> None:
    with OpenAIServer(server_acts.slow(0.02)) as one, OpenAIServer(server_acts.slow(0.02)) as two:
        backend = OpenAIBackend("judge", f"{two.url},{one.url}/", limits=Limits(concurrency=8))
        outcomes = answers(backend, [request(str(n)) for n in range(80)])
        assert all(isinstance(outcome, Reply) for _, outcome in outcomes)
        one_url, two_url = one.url, two.url
        assert one.chats + two.chats == 80
        assert abs(one.chats - two.chats) <= 16
    assert backend.identity["url"] == ",".join(sorted([one_url, two_url]))


CHOICES = ("1", "2", "3", "4", "5")


def test_choices_are_sent_as_structured_outputs() -> None:
    with OpenAIServer() as server:
        answers(OpenAIBackend("judge", server.url, limits=FAST), [request(choices=CHOICES)])
        assert server.calls[0].body["structured_outputs"] == {"choice": list(CHOICES)}


@pytest.mark.parametrize("names_parameter", [True, False])
def test_a_server_without_structured_outputs_is_asked_in_plain_text(names_parameter: bool) -> None:
    policy = Policy(unsupported=("structured_outputs",), names_parameter=names_parameter)
    with OpenAIServer(policy=policy) as server:
        backend = OpenAIBackend("judge", server.url, limits=FAST)
        outcomes = answers(backend, [request(str(n), choices=CHOICES) for n in range(5)])
        assert all(isinstance(outcome, Reply) for _, outcome in outcomes)
        assert server.chats == 6  # the first is asked twice, the others know


@pytest.mark.parametrize(("parameter", "calls"), [("seed", 6), ("max_tokens", 6)])
def test_an_optional_parameter_that_is_rejected_is_left_out(parameter: str, calls: int) -> None:
    policy = Policy(unsupported=(parameter,), names_parameter=True)
    with OpenAIServer(policy=policy) as server:
        backend = OpenAIBackend("judge", server.url, limits=FAST)
        outcomes = answers(backend, [request(str(n)) for n in range(5)])
        assert all(isinstance(outcome, Reply) for _, outcome in outcomes)
        assert server.chats == calls


def test_a_bad_request_is_not_blamed_on_structured_outputs() -> None:
    too_long = server_acts.error(400, "maximum context length is 256 tokens")
    with OpenAIServer([too_long, too_long, ok()]) as server:
        backend = OpenAIBackend("judge", server.url, limits=FAST)
        [(_, failure), _] = answers(
            backend, [request("a", choices=CHOICES), request("b", choices=CHOICES)]
        )
        assert isinstance(failure, Failure)
        assert failure.kind == "bad_request"
        assert "maximum context length" in failure.detail
        assert "structured_outputs" in server.calls[-1].body


def test_a_lone_surrogate_in_judged_text_can_be_sent() -> None:
    with OpenAIServer() as server:
        [(_, reply)] = answers(
            OpenAIBackend("judge", server.url, limits=FAST), [request("a\ud800")]
        )
        assert isinstance(reply, Reply)
        assert server.calls[0].body["messages"][0]["content"] == "a?"


def check_error(backend: OpenAIBackend) -> str:
    with pytest.raises(BackendError) as caught:
        asyncio.run(backend.check())
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_check_passes_without_a_key_on_this_machine() -> None:
    with OpenAIServer() as server:
        asyncio.run(OpenAIBackend("judge", server.url).check())
        assert server.chats == 0


def test_check_names_the_missing_key() -> None:
    message = check_error(OpenAIBackend("gpt-4.1"))
    assert message == (
        "https://api.openai.com/v1 needs a key: set the environment variable OPENAI_API_KEY"
    )


def test_check_says_when_a_local_server_wants_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    with OpenAIServer(policy=Policy(key="sk-right")) as server:
        [name, _] = host_variables(server.url)
        assert f"asks for a key: set {name}" in check_error(OpenAIBackend("judge", server.url))
        monkeypatch.setenv(name, "sk-wrong-000")
        message = check_error(OpenAIBackend("judge", server.url))
        assert f"refuses the key in {name}" in message
        assert "sk-wrong" not in message
        monkeypatch.setenv(name, "sk-right")
        asyncio.run(OpenAIBackend("judge", server.url).check())


def test_check_names_an_unreachable_server() -> None:
    with OpenAIServer() as server:
        url = server.url
    assert f"no answer from {url}" in check_error(OpenAIBackend("judge", url))


def test_check_lists_what_is_served() -> None:
    with OpenAIServer(policy=Policy(models=("qwen", "llama"))) as server:
        message = check_error(OpenAIBackend("judge", server.url))
        assert message == f"{server.url} does not serve 'judge'; it serves: qwen, llama"
    many = tuple(f"gpt-{n}" for n in range(40))
    with OpenAIServer(policy=Policy(models=many)) as server:
        message = check_error(OpenAIBackend("gpt-7x", server.url))
        assert "gpt-7" in message
        assert message.endswith("and 28 more")


def test_check_says_when_it_is_no_such_server() -> None:
    class Other(OpenAIServer):
        def _route(self, call: object) -> server_acts.Act:
            return server_acts.web_page()

    with Other() as server:
        assert "is no OpenAI-compatible server" in check_error(OpenAIBackend("judge", server.url))


def test_the_key_is_shown_nowhere(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    key = "verysecretvalue123"
    monkeypatch.setenv("MIPO_EVAL_KEY_127_0_0_1", key)
    caplog.set_level(logging.DEBUG)
    acts = [
        server_acts.expired_key(f"Incorrect API key provided: {key}"),
        server_acts.error(403, f"project of {key} is blocked"),
        server_acts.error(400, f"bad request by {key}"),
        server_acts.error(500, f"crash while serving {key}"),
        server_acts.refusal(f"I will not tell {key}"),
        server_acts.Act(body=f"<html>{key}".encode()),
    ]
    for act in acts:
        with OpenAIServer(act) as server:
            backend = OpenAIBackend("judge", server.url, limits=FAST)
            [(_, failure)] = answers(backend, [request()])
            assert server.calls[0].headers["authorization"] == f"Bearer {key}"
        assert isinstance(failure, Failure)
        assert key not in failure.detail
        assert key not in str(backend.identity) + repr(vars(backend))
    assert key not in caplog.text


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://localhost:8000", "http://localhost:8000/v1"),
        ("http://LOCALHOST:8000/v1/", "http://localhost:8000/v1"),
        ("localhost:8000", "http://localhost:8000/v1"),
        ("127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1"),
        ("gpu-node:8000", "http://gpu-node:8000/v1"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1"),
        ("api.example.com/v1", "https://api.example.com/v1"),
        ("https://example.com/openai/v1/", "https://example.com/openai/v1"),
    ],
)
def test_urls_have_one_form(text: str, url: str) -> None:
    assert normal_url(text, path="/v1") == url
    assert normal_url(url, path="/v1") == url


@pytest.mark.parametrize(
    "text",
    [
        "http://user:hunter2@host/v1",
        "https://host/v1?api_key=hunter2",
        "ftp://host",
        "http://",
        "http://host:port/v1",
    ],
)
def test_unusable_urls_are_refused_without_repeating_a_password(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        normal_url(text, path="/v1")
    assert "hunter2" not in str(caught.value)


def test_load_backend_reads_model_and_url(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = load_backend("openai:org/qwen@http://localhost:8000")
    assert backend.identity == {
        "backend": "openai",
        "model": "org/qwen",
        "url": "http://localhost:8000/v1",
    }
    assert load_backend("openai:gpt-4.1").identity["url"] == "https://api.openai.com/v1"
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:9")
    assert load_backend("openai:gpt-4.1").identity["url"] == "http://localhost:9/v1"


@pytest.mark.parametrize(
    "spec", ["gpt-4.1", "openai", "openai:", "openai:@http://h", "scripted", ""]
)
def test_specs_that_name_nothing_are_refused(spec: str) -> None:
    with pytest.raises(ConfigError, match="openai:MODEL"):
        load_backend(spec)


@pytest.mark.parametrize(
    ("code", "kind", "calls"),
    [
        (402, "bad_request", 1),
        (429, "rate_limit", 3),
        (502, "server_error", 3),
        (None, "bad_reply", 3),
    ],
)
def test_an_error_that_calls_itself_a_success(code: int | None, kind: str, calls: int) -> None:
    body = {"error": {"code": code, "message": "Provider returned error"}}
    with OpenAIServer(server_acts.json_act(body)) as server:
        [(_, failure)] = answers(OpenAIBackend("judge", server.url, limits=FAST), [request()])
        assert server.chats == calls
    assert isinstance(failure, Failure)
    assert (failure.kind, "Provider returned error" in failure.detail) == (kind, True)
