"""Batches at OpenAI and Gemini: submitted, polled, collected, found again by a later process."""

import asyncio
from collections import Counter
from collections.abc import Iterable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from mipo_eval import settings
from mipo_eval.errors import BackendError, ConfigError
from mipo_eval.models.base import Failure, Limits, Message, Reply, Request, Sampling
from mipo_eval.models.batch import GeminiBatchBackend, OpenAIBatchBackend
from mipo_eval.models.gemini import GeminiBackend
from mipo_eval.models.openai import OpenAIBackend
from mipo_eval.models.prices import Price, spending
from tests.servers import gemini_server, openai_server
from tests.servers.gemini_server import GeminiServer
from tests.servers.openai_server import OpenAIServer
from tests.waiting import HANG

FAST = Limits(attempts=3, timeout=HANG, first_wait=0.01, longest_wait=0.02)
QUICK: dict[str, Any] = {"limits": FAST, "poll_seconds": 0.01}


def request(text: str) -> Request:
    return Request(
        messages=(Message(role="user", content=text),),
        sampling=Sampling(max_tokens=4),
        choices=("1", "2", "3", "4", "5"),
    )


def requests(number: int) -> list[Request]:
    return [request(f"question {n}") for n in range(number)]


def answers(backend: Any, asked: Iterable[Request]) -> dict[str, Reply | Failure]:
    async def collect() -> dict[str, Reply | Failure]:
        return {one.messages[0].content: found async for one, found in backend.answer(asked)}

    return asyncio.run(collect())


def openai_batch(server: OpenAIServer, **options: Any) -> OpenAIBatchBackend:
    return OpenAIBatchBackend("judge", server.url, **QUICK | options)


def gemini_batch(server: GeminiServer, **options: Any) -> GeminiBatchBackend:
    return GeminiBatchBackend("judge", server.url, **QUICK | options)


def asked_at_openai(batches: openai_server.Batches) -> int:
    inputs = [batch["input_file_id"] for batch in batches.batches.values()]
    return sum(len(batches.files[name].splitlines()) for name in inputs)


def test_openai_answers_all_in_one_batch_as_the_other_backend_would_ask() -> None:
    batches = openai_server.Batches(looks=3)
    with OpenAIServer(batches=batches) as server:
        backend = openai_batch(server)
        found = answers(backend, requests(50))
        assert Counter(type(one).__name__ for one in found.values()) == {"Reply": 50}
        assert (len(batches.batches), asked_at_openai(batches), server.chats) == (1, 50, 0)
        plain = OpenAIBackend("judge", server.url)
    assert backend.identity == plain.identity
    assert backend.body(request("x")) == plain.body(request("x"))
    assert (backend.usage.replies, backend.usage.prompt_tokens) == (50, 550)


@pytest.mark.parametrize("where", ["openai", "gemini"])
def test_a_batch_that_is_waited_for_says_where_it_stands(where: str) -> None:
    async def watched(backend: Any) -> set[str]:
        said = set()

        async def watch() -> None:
            while True:
                said.add(spending(backend))
                await asyncio.sleep(0.005)

        watching = asyncio.create_task(watch())
        async for _ in backend.answer(requests(2)):
            pass
        watching.cancel()
        return said

    if where == "openai":
        with OpenAIServer(batches=openai_server.Batches(looks=8)) as server:
            backend: Any = openai_batch(server)
            said = asyncio.run(watched(backend))
        assert {"batch batch_0: under way", "batch batch_0: in progress"} <= said
    else:
        with GeminiServer(batches=gemini_server.Batches(looks=8)) as server:
            backend = gemini_batch(server)
            said = asyncio.run(watched(backend))
        assert "batch batches/0: pending" in said
    assert spending(backend) == ""


def test_gemini_answers_all_in_one_batch() -> None:
    batches = gemini_server.Batches(looks=3)
    with GeminiServer(batches=batches) as server:
        backend = gemini_batch(server)
        found = answers(backend, requests(20))
        assert Counter(type(one).__name__ for one in found.values()) == {"Reply": 20}
        assert (len(batches.batches), server.chats) == (1, 0)
        assert backend.identity == GeminiBackend("judge", server.url).identity
    [asked] = batches.asked.values()
    assert asked[0]["request"]["generationConfig"]["responseMimeType"] == "text/x.enum"


def test_large_numbers_are_cut_into_jobs() -> None:
    batches = openai_server.Batches()
    with OpenAIServer(batches=batches) as server:
        found = answers(openai_batch(server, job_requests=20), requests(50))
    assert len(found) == 50
    assert len(batches.batches) == 3


async def _leave_early(backend: Any, asked: Iterable[Request], batches: Any) -> None:
    """Stop as Ctrl-C does, while the batch is running."""

    async def collect() -> None:
        async with aclosing(backend.answer(asked)) as stream:
            async for _ in stream:
                raise AssertionError("the batch has not ended")

    work = asyncio.create_task(collect())
    while not batches.batches and not work.done():
        await asyncio.sleep(0.01)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work


@pytest.mark.parametrize("ended_meanwhile", [True, False])
def test_openai_jobs_are_found_again_by_a_later_process(ended_meanwhile: bool) -> None:
    batches = openai_server.Batches(looks=10**6)
    with OpenAIServer(batches=batches) as server:
        asyncio.run(_leave_early(openai_batch(server), requests(30), batches))
        assert len(batches.batches) == 1
        if ended_meanwhile:
            batches.end("batch_0")
        batches.looks = 10
        # The later process wants some of them and some others, in another order.
        found = answers(openai_batch(server), requests(40)[::-1])
    assert Counter(type(one).__name__ for one in found.values()) == {"Reply": 40}
    assert len(batches.batches) == 2
    assert asked_at_openai(batches) == 40  # nothing twice


@pytest.mark.parametrize("ended_meanwhile", [True, False])
def test_gemini_jobs_are_found_again_by_a_later_process(ended_meanwhile: bool) -> None:
    batches = gemini_server.Batches(looks=10**6)
    with GeminiServer(batches=batches) as server:
        asyncio.run(_leave_early(gemini_batch(server), requests(30), batches))
        assert len(batches.batches) == 1
        if ended_meanwhile:
            batches.end("batches/0")
        batches.looks = 10
        found = answers(gemini_batch(server), requests(40)[::-1])
    assert Counter(type(one).__name__ for one in found.values()) == {"Reply": 40}
    assert sum(map(len, batches.asked.values())) == 40


def test_jobs_of_another_model_are_left_alone() -> None:
    batches = openai_server.Batches()
    policy = openai_server.Policy(models=("judge", "other"))
    with OpenAIServer(batches=batches, policy=policy) as server:
        answers(OpenAIBatchBackend("other", server.url, **QUICK), requests(5))
        answers(openai_batch(server), requests(5))
        assert len(batches.batches) == 2


def unlucky(body: Any) -> dict[str, Any] | tuple[int, str] | None:
    text = body["messages"][0]["content"]
    if text == "question 0":
        return 429, "Rate limit reached"
    if text == "question 1":
        return None
    if text == "question 2":
        return openai_server.completion(None, refusal="No.")
    if text == "question 3":
        return {"choices": []}
    return openai_server.completion("4")


def test_openai_each_line_ends_as_its_own_outcome() -> None:
    batches = openai_server.Batches(unlucky)
    with OpenAIServer(batches=batches) as server:
        backend = openai_batch(server)
        found = answers(backend, requests(6))
        kinds = [
            one.kind if isinstance(one, Failure) else "ok"
            for one in (found[f"question {n}"] for n in range(6))
        ]
        assert kinds == ["rate_limit", "server_error", "refused", "bad_reply", "ok", "ok"]
        assert (backend.usage.replies, backend.usage.failures) == (2, 4)
        # Asked again, only the failures are.
        answers(openai_batch(server), requests(6))
    assert asked_at_openai(batches) == 6 + 4


def test_what_a_batch_was_refused_for_is_left_out_of_the_next() -> None:
    def strict(body: Any) -> dict[str, Any] | tuple[int, str]:
        if "temperature" in body:
            return 400, "Unsupported value: 'temperature' does not support 0 with this model."
        if body["max_tokens"] < 1000:
            return openai_server.completion(None, finish="length")
        return openai_server.completion("4")

    batches = openai_server.Batches(strict)
    with OpenAIServer(batches=batches) as server:
        backend = openai_batch(server)
        first = answers(backend, requests(3)).values()
        assert {getattr(one, "kind", one) for one in first} == {"bad_request"}
        assert backend.changes.settings == "temperature=default"
        second = answers(backend, requests(3)).values()
        assert {getattr(one, "kind", one) for one in second} == {"no_room"}
        third = answers(backend, requests(3)).values()
        assert {getattr(one, "text", one) for one in third} == {"4"}
        assert backend.changes.settings == "max_tokens=1024+temperature=default"


def test_gemini_each_request_ends_as_its_own_outcome() -> None:
    def reply(asked: Any) -> dict[str, Any] | None:
        text = asked["contents"][0]["parts"][0]["text"]
        if text == "question 0":
            return {"error": {"code": 13, "message": "internal"}}
        if text == "question 1":
            return None
        if text == "question 2":
            return {"response": gemini_server.answer(None, finish="SAFETY")}
        return {"response": gemini_server.answer("4")}

    with GeminiServer(batches=gemini_server.Batches(reply)) as server:
        found = answers(gemini_batch(server), requests(4))
    kinds = [
        one.kind if isinstance(one, Failure) else "ok"
        for one in (found[f"question {n}"] for n in range(4))
    ]
    assert kinds == ["server_error", "server_error", "refused", "ok"]


@pytest.mark.parametrize("ends_as", ["expired", "cancelled"])
def test_what_a_batch_left_open_is_a_failure_and_is_asked_again(ends_as: str) -> None:
    half = openai_server.Batches(
        lambda body: (
            openai_server.completion("4") if "1" in body["messages"][0]["content"] else None
        ),
        ends_as=ends_as,
    )
    with OpenAIServer(batches=half) as server:
        found = answers(openai_batch(server), requests(10))
        failures = [one for one in found.values() if isinstance(one, Failure)]
        assert len(failures) == 9
        assert "ended without an answer" in failures[0].detail


def test_a_batch_that_is_refused_says_why() -> None:
    message = r"refused batch batch_0: line 1 is not valid"
    with (
        OpenAIServer(batches=openai_server.Batches(ends_as="failed")) as server,
        pytest.raises(BackendError, match=message),
    ):
        answers(openai_batch(server), requests(3))


def test_a_service_that_is_away_for_a_moment_is_waited_for() -> None:
    batches = openai_server.Batches(looks=2)
    troubles = iter([503, 503, 200, 503, 200, 200, 429, 200, 200, 503] + [200] * 100)

    class Shaky(OpenAIServer):
        def _route(self, call: openai_server.Call) -> openai_server.Act:
            status = next(troubles)
            return super()._route(call) if status == 200 else openai_server.broken(status)

    with Shaky(batches=batches) as server:
        found = answers(openai_batch(server), requests(5))
    assert Counter(type(one).__name__ for one in found.values()) == {"Reply": 5}
    assert len(batches.batches) == 1


def test_a_service_that_stays_away_says_that_batches_go_on() -> None:
    with OpenAIServer(batches=openai_server.Batches()) as server:
        backend = openai_batch(server)
    with pytest.raises(BackendError, match="run the same command again to collect them"):
        answers(backend, requests(2))


def test_the_limit_on_the_cost_holds_at_the_batch_price(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "prices.yaml"
    table.write_text("as_of: 2026-01-01\nmodels: {judge: {input: 10, output: 10}}\n")
    monkeypatch.setenv(settings.PRICES, str(table))
    price = Price(input=10, output=10)
    most = price.most(request("question 0")) * price.batch
    limits = Limits(max_cost=5.5 * most, first_wait=0.01)
    batches = openai_server.Batches()
    with OpenAIServer(batches=batches) as server:
        backend = openai_batch(server, limits=limits)
        found = answers(backend, requests(10))
    kinds = Counter(one.kind if isinstance(one, Failure) else "ok" for one in found.values())
    assert kinds == {"ok": 5, "budget": 5}
    assert backend.usage.cost == pytest.approx(5 * price.cost(11, 1) / 2)
    assert asked_at_openai(batches) == 5


def test_batches_go_to_one_server() -> None:
    with pytest.raises(ConfigError, match="one URL"):
        OpenAIBatchBackend("judge", "http://localhost:1,http://localhost:2")
