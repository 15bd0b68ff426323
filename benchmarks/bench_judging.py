"""Judging a local server of 20 and 200 ms, 64 requests at once: beside ideal and other projects.

The server runs in a process of its own. Ideal is what waiting alone allows: every slot answers one
request per latency, so n requests take ceil(n / 64) latencies. `the bare loop` asks the same of the
same server by 64 sockets that write bytes made before and look at nothing: what this server and
this machine allow at most. The others are the request loops of other projects, in processes of
their own, and FastChat's: a pool of threads over the openai client. All take turns, three rounds;
who needs ten times the ideal takes one. Ideal is four seconds at both latencies, since the rate is
what is measured: to open 64 connections and ask the first questions takes 0.01 to 0.1 s.
"""

import asyncio
import json
import math
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from urllib.parse import urlsplit

from benchmarks.judge_server import JudgeServer
from benchmarks.peers import Clock, Peer, Spent, prompt
from benchmarks.results import Result
from mipo_eval.models.base import Limits, Message, Reply, Request
from mipo_eval.models.openai import OpenAIBackend

_AT_ONCE = 64
_PEERS = {
    "plain_async": "the openai package's async client",
    "threads": "FastChat's threads",
    "alpaca_eval": "alpaca_eval",
    "inspect_ai": "inspect_ai",
    "lm_eval": "lm-eval's API model",
}
_HERE = {"lm_eval", "threads", "plain_async"}
"""What needs no other packages than ours."""


def requests(number: int) -> Iterator[Request]:
    """Yield distinct one-token requests of a realistic length."""
    for index in range(number):
        yield Request(
            messages=(Message(role="user", content=prompt(index)),),
            choices=("1", "2", "3", "4", "5"),
        )


def measure(quick: bool) -> Iterator[Result]:
    """Time everybody at both latencies."""
    for latency, number in ((0.2, 1280), (0.02, 12800)):
        yield from _at(latency, 128 if quick else number, rounds=1 if quick else 3)


def _at(latency: float, number: int, rounds: int) -> Iterator[Result]:
    ideal = math.ceil(number / _AT_ONCE) * latency
    found: dict[str, list[Spent]] = defaultdict(list)
    failed: dict[str, str] = {}
    with JudgeServer(latency) as server, Peer() as other, Peer(sys.executable) as own:
        loops: dict[str, Callable[[int], Spent]] = {
            "ours": lambda count: asyncio.run(_ours(server.url, count)),
            "bare": lambda count: asyncio.run(_bare(server.url, count)),
        }
        for name in _PEERS:
            peer = own if name in _HERE else other
            loops[name] = partial(_theirs, peer, name, server.url)
        for count in [_AT_ONCE] + [number] * rounds:
            for name, loop in loops.items():
                if any(spent.wall > 10 * ideal for spent in found[name][1:]):
                    continue
                try:
                    found[name].append(loop(count))
                except RuntimeError as error:
                    failed[name] = f"not compared: {error}"
    medians = {  # the first round imports and connects
        name: Spent(*map(statistics.median, zip(*spent[1:], strict=True)))
        for name, spent in found.items()
        if spent[1:]
    }
    ours, bare = medians["ours"], medians["bare"]
    size = f"{number:,} requests of {1000 * latency:.0f} ms"
    yield Result(
        name="Judging: share of the ideal rate", size=size, ours=ours.wall, other=ideal,
        ratio=ideal / ours.wall, wanted=">= 0.95",
        note=f"the bare loop reaches {ideal / bare.wall:.2f}; ours takes "
        f"{1e3 * ours.processor / number:.2f} ms of processor a request, it "
        f"{1e3 * bare.processor / number:.2f} ms",
    )  # fmt: skip
    yield Result(
        name="Judging: share of the bare loop's rate", size=size, ours=ours.wall, other=bare.wall,
        ratio=bare.wall / ours.wall,
    )  # fmt: skip
    for name, title in _PEERS.items():
        if name not in medians:
            yield Result(
                name=f"Judging beside {title}", size=size, ours=ours.wall, note=failed[name]
            )
            continue
        took = medians[name]
        note = f"it takes {1e3 * took.processor / number:.2f} ms of processor a request"
        if took.wall < 1.5 * ideal:
            note += f"; ideal itself is {took.wall / ideal:.2f} times as fast as it"
        yield Result(
            name=f"Judging beside {title}", size=size, ours=ours.wall, other=took.wall,
            ratio=took.wall / ours.wall, wanted=">= 1.5", note=note,
        )  # fmt: skip


def _theirs(peer: Peer, name: str, url: str, number: int) -> Spent:
    return peer.spent(name, url, number, _AT_ONCE)


async def _ours(url: str, number: int) -> Spent:
    """Return what it takes from the first request to the last reply; every one must be good."""
    backend = OpenAIBackend("judge", url, limits=Limits(concurrency=_AT_ONCE))
    clock = Clock()
    good = 0
    async for _, outcome in backend.answer(requests(number)):
        good += isinstance(outcome, Reply)
    if good != number:
        raise ValueError(f"only {good} of {number} requests were answered")
    return clock.spent()


async def _bare(url: str, number: int) -> Spent:
    """Return what it takes until sockets alone have as many answers."""
    host, port = urlsplit(url).hostname, urlsplit(url).port
    body = json.dumps(
        {"model": "judge", "messages": [{"role": "user", "content": prompt(0)}], "max_tokens": 16}
    )
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\n"
    sent = f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}"
    left = iter(range(number))

    async def ask() -> None:
        reader, writer = await asyncio.open_connection(host, port)
        for _ in left:
            writer.write(sent.encode())
            told = await reader.readuntil(b"\r\n\r\n")
            length = told.lower().partition(b"content-length:")[2].split()[0]
            await reader.readexactly(int(length))
        writer.close()

    clock = Clock()
    await asyncio.gather(*(ask() for _ in range(_AT_ONCE)))
    return clock.spent()
