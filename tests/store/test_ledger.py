"""The ledger: nothing paid twice, failures asked again, stops lose nothing, memory bounded."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from pathlib import Path

import pytest

from mipo_eval.models.base import Failure, Message, Reply, Request, Sampling, ScriptedBackend
from mipo_eval.store import Store
from mipo_eval.store.calls import Call, Ledger


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(str(tmp_path / "store.db")) as opened:
        yield opened


def _request(text: str, **sampling: int) -> Request:
    return Request(messages=(Message(role="user", content=text),), sampling=Sampling(**sampling))


def _ask(ledger: Ledger[str], texts: Iterable[str]) -> dict[str, list[Call]]:
    async def collect() -> dict[str, list[Call]]:
        found: dict[str, list[Call]] = {}
        async for tag, call in ledger.ask((text, _request(text)) for text in texts):
            found.setdefault(tag, []).append(call)
        return found

    return asyncio.run(collect())


def test_a_success_is_never_paid_for_twice(store: Store) -> None:
    backend = ScriptedBackend(lambda request: request.messages[0].content.upper())
    first = _ask(Ledger(store, backend), ["a", "b", "a"])
    assert {tag: [call.text for call in calls] for tag, calls in first.items()} == {
        "a": ["A", "A"],
        "b": ["B"],
    }
    assert len(backend.asked) == 2
    again = _ask(Ledger(store, backend), ["a", "b"])
    assert all(call.stored for calls in again.values() for call in calls)
    assert len(backend.asked) == 2


def test_a_failure_is_a_state_with_a_reason_and_is_asked_again(store: Store) -> None:
    flaky = ScriptedBackend([Failure(kind="timeout", detail="60 s"), "4"])
    (failed,) = _ask(Ledger(store, flaky), ["a"])["a"]
    assert (failed.status, failed.detail, failed.text) == ("timeout", "60 s", None)
    (call,) = _ask(Ledger(store, flaky), ["a"])["a"]
    assert (call.status, call.text, call.stored) == ("ok", "4", False)


def test_a_cut_reply_is_known_as_one_when_it_is_asked_for_again(store: Store) -> None:
    backend = ScriptedBackend([Reply(text="Response A", finish_reason="length"), Reply(text="4")])
    asked = [_ask(Ledger(store, backend), ["a", "b"]) for _ in range(2)]
    assert [[call.cut for call in calls["a"] + calls["b"]] for calls in asked] == [
        [True, False]
    ] * 2
    assert len(backend.asked) == 2


def test_a_reply_that_thinking_left_no_room_for_is_asked_again(store: Store) -> None:
    """As versions kept them that took the empty text for an answer."""
    script = ScriptedBackend([Reply(text="", finish_reason="length"), "4"])
    assert _ask(Ledger(store, script), ["a"]).keys() == {"a"}
    (again,) = _ask(Ledger(store, script), ["a"])["a"]
    assert (again.text, again.stored) == ("4", False)
    (kept,) = _ask(Ledger(store, script), ["a"])["a"]
    assert (kept.text, kept.stored) == ("4", True)


@pytest.mark.parametrize(
    "other",
    [_request("a", seed=1), _request("a", max_tokens=17), _request("a "), _request("b")],
)
def test_whatever_decides_a_reply_is_in_its_key(other: Request) -> None:
    backend = {"backend": "openai", "model": "m"}
    assert _request("a").key(backend) != other.key(backend)
    assert _request("a").key(backend) != _request("a").key({**backend, "model": "n"})
    assert _request("a").key(backend) == _request("a").key(dict(reversed(backend.items())))


def test_another_backend_is_another_judge(store: Store) -> None:
    first, second = (ScriptedBackend(["4"], name=name) for name in ("one", "two"))
    _ask(Ledger(store, first), ["a"])
    _ask(Ledger(store, second), ["a"])
    assert len(second.asked) == 1


def test_a_long_run_of_hits_is_streamed(store: Store) -> None:
    backend = ScriptedBackend(lambda _: "4")
    texts = [str(n) for n in range(6000)]
    _ask(Ledger(store, backend), texts)
    texts.insert(5500, "new")
    found = _ask(Ledger(store, backend), texts)
    assert len(found) == 6001
    assert len(backend.asked) == 6001


class _Slow:
    """Answers one request, then waits for ever."""

    identity: Mapping[str, str] = {"backend": "slow"}

    def __init__(self) -> None:
        self.answered = asyncio.Event()

    async def check(self) -> None:
        """It can always be asked."""

    async def answer(
        self, requests: Iterable[Request]
    ) -> AsyncGenerator[tuple[Request, Reply | Failure], None]:
        yield next(iter(requests)), Reply(text="done")
        self.answered.set()
        await asyncio.sleep(3600)


class _Unreachable(_Slow):
    """The same backend at a time when it cannot be asked."""

    async def answer(
        self, requests: Iterable[Request]
    ) -> AsyncGenerator[tuple[Request, Reply | Failure], None]:
        for request in requests:
            yield request, Failure(kind="connection", detail="gone")


def test_what_was_answered_before_a_stop_is_kept(store: Store) -> None:
    async def stopped() -> None:
        backend = _Slow()

        async def ask() -> None:
            async for _ in Ledger[str](store, backend).ask([("a", _request("a"))]):
                pass

        work = asyncio.create_task(ask())
        await backend.answered.wait()
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work

    asyncio.run(stopped())
    (call,) = _ask(Ledger(store, _Unreachable()), ["a"])["a"]
    assert (call.text, call.stored) == ("done", True)
