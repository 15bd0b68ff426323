"""Servers that answer with anything: each answer is a reply or a failure of its own, and is kept.

Every field of a good answer is replaced by every odd value, one at a time; beside each of them
stand good answers, which must not be lost.
"""

import asyncio
import json
import math
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from mipo_eval.errors import BackendError
from mipo_eval.models.anthropic import AnthropicBackend
from mipo_eval.models.base import Limits, Message, Reply, Request, Sampling, ScriptedBackend
from mipo_eval.models.batch import OpenAIBatchBackend
from mipo_eval.models.gemini import GeminiBackend
from mipo_eval.models.openai import OpenAIBackend
from mipo_eval.models.server import ServedBackend
from mipo_eval.store import Store
from mipo_eval.store.calls import Call, Ledger
from mipo_eval.store.tables import calls as table
from tests.servers import anthropic_server, gemini_server, openai_server
from tests.servers.http import Act, Server
from tests.waiting import HANG

DEEP = "[" * 1500 + "]" * 1500
ODD: tuple[Any, ...] = (
    None, True, -1, 10**23, 1e300, "many", "x" * 5000, "a\x00\ud800b", {}, {"a": [1]}, [], [[[]]],
    1.5, math.nan, "", [None], [{"type": "text", "text": "4"}],
)  # fmt: skip
RAW = ('{"choices":' + DEEP + "}", '{"a":' + "[" * 1000, DEEP, "9" * 5000, "NaN", "[]", '"x"', "")


def _logprobs() -> dict[str, Any]:
    alternatives = [{"token": "4", "logprob": -0.1}, {"token": "5", "logprob": -3.0}]
    return {"content": [{"token": "4", "logprob": -0.1, "top_logprobs": alternatives}]}


def _openai() -> dict[str, Any]:
    body = openai_server.completion("4", reasoning="hm")
    body["choices"][0]["logprobs"] = _logprobs()
    return body


def _gemini() -> dict[str, Any]:
    best = [{"token": "4", "logProbability": -0.1, "tokenId": 4}]
    return gemini_server.answer(
        thoughts=3, logprobsResult={"topCandidates": [{"candidates": best}]}
    )


SERVERS: dict[str, tuple[Callable[..., Server], type[ServedBackend], Callable[[], Any]]] = {
    "openai": (openai_server.OpenAIServer, OpenAIBackend, _openai),
    "gemini": (gemini_server.GeminiServer, GeminiBackend, _gemini),
    "anthropic": (
        anthropic_server.AnthropicServer,
        AnthropicBackend,
        anthropic_server.message,
    ),
}


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to every value inside another."""
    inside = value.items() if isinstance(value, dict) else enumerate(value)
    for name, own in inside:
        yield (*path, name)
        if isinstance(own, dict | list):
            yield from _places(own, (*path, name))


def _odd_bodies(good: Any) -> Iterator[bytes]:
    for path in _places(good):
        for odd in ODD:
            body = deepcopy(good)
            holder = body
            for name in path[:-1]:
                holder = holder[name]
            holder[path[-1]] = odd
            yield json.dumps(body).encode()
        del holder[path[-1]]
        yield json.dumps(body).encode()
    yield from (raw.encode() for raw in RAW)


def _request(n: int) -> Request:
    return Request(messages=(Message(role="user", content=str(n)),), sampling=Sampling(logprobs=2))


def _ask(store: Store, backend: Any, count: int) -> dict[int, Call]:
    async def collect() -> dict[int, Call]:
        questions = ((n, _request(n)) for n in range(count))
        return {n: call async for n, call in Ledger[int](store, backend).ask(questions)}

    return asyncio.run(collect())


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    url = (
        str(tmp_path / "store.db")
        if request.param == "sqlite"
        else request.getfixturevalue("postgres_url")
    )
    with Store.open(url) as opened:
        yield opened


@pytest.mark.filterwarnings("ignore:.* is not a valid:UserWarning")  # Google's client, of reasons
@pytest.mark.parametrize("kind", SERVERS)
def test_every_odd_field_is_a_reply_or_a_failure_and_costs_nobody_else_anything(
    kind: str, store: Store
) -> None:
    make_server, make_backend, good = SERVERS[kind]
    bodies = [json.dumps(good()).encode(), *_odd_bodies(good())]

    def script(call: Any) -> Act:
        told = json.dumps(call.body)
        asked = next(n for n in reversed(range(2 * len(bodies))) if f'"{n}"' in told)
        return Act(body=bodies[asked // 2 if asked % 2 else 0])

    limits = Limits(concurrency=16, attempts=1, timeout=HANG)
    with make_server(script) as server:
        backend = make_backend("judge", server.url, limits=limits)
        found = _ask(store, backend, 2 * len(bodies))
    assert len(found) == 2 * len(bodies)
    assert all(found[n].text == "4" for n in range(0, 2 * len(bodies), 2))
    statuses = {call.status for call in found.values()}
    assert statuses <= {"ok", "bad_reply", "refused"}
    with store.read() as connection:
        rows = connection.execute(sa.select(table)).mappings().all()
    assert len(rows) == 2 * len(bodies)
    for row in rows:
        json.dumps(row["logprobs"], allow_nan=False)
        assert row["prompt_tokens"] is None or 0 <= row["prompt_tokens"] < 2**31
        assert row["finish_reason"] is None or len(row["finish_reason"]) <= 32


@pytest.mark.parametrize(
    "odd",
    [
        Reply(text="4", prompt_tokens=10**23),
        Reply(text="4", finish_reason={"a": 1}),  # type: ignore[arg-type]
        Reply(text="4", logprobs=(("4", 1j),)),  # type: ignore[arg-type]
    ],
)
def test_a_row_that_cannot_be_stored_is_a_failure_alone(store: Store, odd: Reply) -> None:
    """As a backend of somebody else's may make them."""
    found = _ask(store, ScriptedBackend(["4", odd, "5"]), 3)
    assert [found[n].status for n in range(3)] == ["ok", "bad_reply", "ok"]
    assert "cannot hold a row" in str(found[1].detail)
    again = _ask(store, ScriptedBackend(["4"]), 3)
    assert [(found.status, found.stored) for _, found in sorted(again.items())] == [
        ("ok", True),
        ("ok", False),
        ("ok", True),
    ]


@pytest.mark.parametrize("kind", SERVERS)
@pytest.mark.parametrize("text", ["", " \n", None])
def test_an_empty_reply_is_asked_again(kind: str, text: str | None, tmp_path: Path) -> None:
    make_server, make_backend, _ = SERVERS[kind]
    make_body: Any = {
        "openai": openai_server.completion,
        "gemini": gemini_server.answer,
        "anthropic": anthropic_server.message,
    }[kind]
    acts = [Act(body=json.dumps(make_body(said)).encode()) for said in (text, "4")]
    limits = Limits(concurrency=1, attempts=1, timeout=HANG)
    with Store.open(str(tmp_path / "s.db")) as store, make_server(acts) as server:
        backend = make_backend("judge", server.url, limits=limits)
        found = [_ask(store, backend, 1)[0] for _ in range(3)]
    told = [(call.status, call.text, call.stored) for call in found]
    assert told == [("bad_reply", None, False), ("ok", "4", False), ("ok", "4", True)]


class _OddBatches(openai_server.Batches):
    """Batches that are described with odd values, or whose files hold odd lines."""

    def __init__(self, told: dict[str, Any], lines: Sequence[bytes] = ()) -> None:
        super().__init__()
        self._told, self._lines = told, lines

    def _looked_at(self, name: str) -> dict[str, Any]:
        found = super()._looked_at(name) | self._told
        if file := self.batches[name].get("output_file_id"):
            self.files[file] = b"\n".join([*self._lines, self.files[file]])
        return found


def _batch(batches: openai_server.Batches, store: Store, count: int) -> dict[int, Call]:
    limits = Limits(attempts=1, timeout=HANG)
    with openai_server.OpenAIServer(batches=batches) as server:
        backend = OpenAIBatchBackend("judge", server.url, limits=limits, poll_seconds=0.01)
        return _ask(store, backend, count)


@pytest.mark.parametrize("odd", [None, {"a": 1}, 7])
@pytest.mark.parametrize("field", ["status", "id"])
def test_a_batch_of_no_known_form_is_one_line(odd: Any, field: str, tmp_path: Path) -> None:
    with Store.open(str(tmp_path / "s.db")) as store, pytest.raises(BackendError, match=r"."):
        _batch(_OddBatches({field: odd}), store, 2)


def test_an_odd_line_of_a_batch_costs_no_other_anything(tmp_path: Path) -> None:
    lines = (b"{", b"[1]", b'"x"', b'{"custom_id": 3}', DEEP.encode(), b"\xff")
    with Store.open(str(tmp_path / "s.db")) as store:
        found = _batch(_OddBatches({}, lines), store, 3)
    assert [call.text for call in found.values()] == ["4"] * 3


def test_empty_replies_that_earlier_versions_kept_are_asked_for_again(tmp_path: Path) -> None:
    with Store.open(str(tmp_path / "s.db")) as store:
        _ask(store, ScriptedBackend(["4"]), 1)
        with store.write() as connection:
            connection.execute(sa.update(table).values(reply="", finish_reason="stop"))
        (call,) = _ask(store, ScriptedBackend(["5"]), 1).values()
    assert (call.text, call.stored) == ("5", False)
