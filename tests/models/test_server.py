"""How much a server is given at once, a minute and altogether, and what is tried again when."""

import asyncio
import time
from collections import Counter

import pytest

from mipo_eval.models.base import Failure, Limits, Message, Purse, Reply, Request, Sampling
from mipo_eval.models.openai import OpenAIBackend
from mipo_eval.models.pace import Pace, Width
from mipo_eval.models.prices import Budget, Price
from mipo_eval.models.server import Send, Sender, Trouble
from mipo_eval.models.told import retry_after
from tests.servers import openai_server as acts
from tests.servers.http import Call
from tests.servers.openai_server import OpenAIServer


def request(text: str = "hi", max_tokens: int = 10) -> Request:
    return Request(
        messages=(Message(role="user", content=text),), sampling=Sampling(max_tokens=max_tokens)
    )


def outcomes(sender: Sender, send: Send, number: int) -> list[Reply | Failure]:
    async def collect() -> list[Reply | Failure]:
        stream = sender.stream((request(str(n)) for n in range(number)), send)
        return [outcome async for _, outcome in stream]

    return asyncio.run(collect())


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_pace_spreads_evenly_and_catches_up_for_a_second_at_most() -> None:
    clock = Clock()
    pace = Pace(120, clock)  # two a second
    assert [pace.reserve(1) for _ in range(4)] == [0, 0.5, 1, 1.5]
    clock.now = 100.0
    assert [pace.reserve(1) for _ in range(4)] == [0, 0, 0, 0.5]


def test_a_pace_is_corrected_to_the_real_amount() -> None:
    clock = Clock()
    pace = Pace(60, clock)
    pace.reserve(10)
    pace.correct(-8)
    assert pace.reserve(1) == 2


def test_requests_a_minute_are_kept() -> None:
    limits = Limits(concurrency=8, requests_per_minute=1200)  # 20 a second
    with OpenAIServer() as server:
        backend = OpenAIBackend("judge", server.url, limits=limits)
        start = time.perf_counter()
        assert len(asyncio.run(_collect(backend, 20))) == 20
        # The first second's worth may come at once; the limit holds for what follows.
        assert time.perf_counter() - start >= 0.9


def test_tokens_a_minute_are_kept_from_what_the_server_reports() -> None:
    limits = Limits(concurrency=4, tokens_per_minute=60 * 240)  # 20 replies of 12 tokens a second
    with OpenAIServer() as server:
        backend = OpenAIBackend("judge", server.url, limits=limits)
        start = time.perf_counter()
        asyncio.run(_collect(backend, 30))
        assert time.perf_counter() - start >= 0.9
    assert backend.usage.prompt_tokens + backend.usage.completion_tokens == 30 * 12


async def _collect(backend: OpenAIBackend, number: int) -> list[Reply | Failure]:
    requests = (request(str(n)) for n in range(number))
    return [outcome async for _, outcome in backend.answer(requests)]


def test_the_width_halves_once_a_round_and_grows_back() -> None:
    async def story() -> list[int]:
        width = Width(10)
        seen = []
        rounds = [await width.enter() for _ in range(10)]
        for round_ in rounds:  # all ten meet the same overload
            width.narrow(round_)
            width.leave()
        seen.append(width.now)
        width.narrow(await width.enter())
        width.leave()
        seen.append(width.now)
        for _ in range(200):
            width.widen()
        seen.append(width.now)
        return seen

    assert asyncio.run(story()) == [7, 4, 10]


def test_the_width_never_reaches_zero() -> None:
    async def story() -> int:
        width = Width(4)
        for _ in range(50):
            width.narrow(await width.enter())
            width.leave()
        return width.now

    assert asyncio.run(story()) == 1


def test_an_overloaded_server_is_given_less_and_everything_is_answered() -> None:
    """A server that bears 4 at once, and says 429 beyond, is found out."""
    limits = Limits(concurrency=32, attempts=50, first_wait=0.01, longest_wait=0.05)

    def bears_four(_: Call) -> acts.Act:
        return acts.slow(0.01) if server.in_flight <= 4 else acts.too_many()

    with OpenAIServer(bears_four) as server:
        backend = OpenAIBackend("judge", server.url, limits=limits)
        replies = asyncio.run(_collect(backend, 300))
        assert Counter(type(reply).__name__ for reply in replies) == {"Reply": 300}
        assert server.chats < 2 * 300  # without narrowing it takes more than three times as many
    assert backend.usage.tries == server.chats


def test_a_pause_the_server_asks_for_holds_everybody() -> None:
    times: list[float] = []

    def pause_once(call: Call) -> acts.Act:
        times.append(time.monotonic())
        return acts.too_many(retry_after=0.5) if call.number == 4 else acts.slow(0.01)

    with OpenAIServer(pause_once) as server:
        backend = OpenAIBackend("judge", server.url, limits=Limits(concurrency=2))
        asyncio.run(_collect(backend, 20))
    # One other request may have been on its way.
    assert times[6] - times[4] > 0.4


PRICE = Price(input=10, output=10)
"""A request of one byte and 10 tokens can cost (8 + 1 + 10) * 10 dollars a million at most."""
MOST = 19 * 10 / 1e6


def test_a_budget_sets_aside_and_settles() -> None:
    purse = Purse(3 * MOST)
    budget, other = Budget(PRICE, purse), Budget(PRICE, purse)
    held = [budget.reserve(request("x")) for _ in range(4)]
    assert held == [pytest.approx(MOST)] * 3 + [None]
    purse.settle(MOST, 0.1 * MOST)
    assert budget.reserve(request("x")) is None  # 0.1 + 2 + 1 do not fit into 3
    purse.settle(MOST, 0.1 * MOST)
    assert other.reserve(request("x")) is not None  # what one gives back the other can use
    assert budget.reserve(request("x")) is None
    assert Budget(None, purse).reserve(request("x")) == 0.0


@pytest.mark.parametrize("concurrency", [1, 16])
def test_the_limit_is_used_up_but_never_exceeded(concurrency: int) -> None:
    spent: list[float] = []

    async def send(_: Request) -> Reply:
        await asyncio.sleep(0.001)
        spent.append(PRICE.cost(5, 1))
        return Reply(text="4", prompt_tokens=5, completion_tokens=1)

    limit = 40 * PRICE.cost(5, 1)
    sender = Sender(Limits(concurrency=concurrency, max_cost=limit), PRICE)
    found = outcomes(sender, send, 200)
    failures = [outcome for outcome in found if isinstance(outcome, Failure)]
    assert limit - 20 * 10 / 1e6 <= sum(spent) <= limit
    assert sender.usage.cost == pytest.approx(sum(spent))
    assert len(spent) + len(failures) == 200
    assert {failure.kind for failure in failures} == {"budget"}
    assert {failure.attempts for failure in failures} == {0}
    assert "is reached" in failures[0].detail


def test_a_try_that_may_have_been_billed_counts_as_if_it_was() -> None:
    async def send(_: Request) -> Reply:
        raise Trouble("timeout", "slow", again=True, billed=True)

    sender = Sender(Limits(concurrency=1, attempts=9, first_wait=0.0, max_cost=3.5 * MOST), PRICE)
    [failure] = outcomes(sender, send, 1)
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.attempts) == ("budget", 3)


def test_usage_without_a_price_has_no_cost() -> None:
    async def send(_: Request) -> Reply:
        return Reply(text="4", prompt_tokens=5, completion_tokens=1)

    sender = Sender(Limits(concurrency=2))
    outcomes(sender, send, 3)
    usage = sender.usage
    assert (usage.tries, usage.replies, usage.failures) == (3, 3, 0)
    assert (usage.prompt_tokens, usage.completion_tokens, usage.cost) == (15, 3, None)


NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("2", 2.0),
        ("0", 0.0),
        ("1.5", 1.5),
        ("-1", None),
        ("nan", None),
        ("soon", None),
        ("Tue, 14 Nov 2023 22:13:50 GMT", 30.0),
        ("Tue, 14 Nov 2023 22:13:10 GMT", None),
    ],
)
def test_retry_after(header: str | None, seconds: float | None) -> None:
    assert retry_after(header, NOW) == seconds


@pytest.mark.parametrize("header", ["301", "inf", "Wed, 15 Nov 2023 22:13:50 GMT"])
def test_a_retry_after_too_far_away_is_refused(header: str) -> None:
    with pytest.raises(ValueError, match="asks to wait"):
        retry_after(header, NOW)


def test_waits_double_stay_below_their_limit_and_differ() -> None:
    limits = Limits(first_wait=1, longest_wait=6)
    waits = [[limits.wait(attempt, None) for _ in range(200)] for attempt in range(1, 6)]
    for low, high, drawn in zip((0.5, 1, 2, 3, 3), (1, 2, 4, 6, 6), waits, strict=True):
        assert low <= min(drawn) < max(drawn) <= high
    asked = [limits.wait(1, 3.0) for _ in range(200)]
    assert 3.0 <= min(asked) < max(asked) <= 3.3


def test_nothing_to_ask_ends_at_once() -> None:
    async def collect() -> list[object]:
        async def send(_: object) -> None:
            raise AssertionError("nothing to send")

        return [outcome async for outcome in Sender(Limits()).stream([], send)]  # type: ignore[arg-type]

    assert asyncio.run(collect()) == []
