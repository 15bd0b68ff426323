"""How much faster several processes judge one run, and how often they pay for the same.

The server runs in a process of its own and answers after a second: the judge's latency is the
limit, not this machine. Every number of processes begins with a fresh store; they all go through
the same questions at once, 16 each. The time runs from the first call the server sees to its last
answer.
"""

import asyncio
import tempfile
from collections.abc import Iterator
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier

from benchmarks.bench_judging import requests
from benchmarks.judge_server import JudgeServer
from benchmarks.results import Result
from mipo_eval.models.base import Limits
from mipo_eval.models.openai import OpenAIBackend
from mipo_eval.store import Store
from mipo_eval.store.calls import Ledger

_LATENCY, _AT_ONCE = 1.0, 16
_WANTED = {2: ">= 1.8", 4: ">= 3.4"}


def measure(quick: bool) -> Iterator[Result]:
    """Time 1, 2 and 4 processes."""
    number, latency = (32, 0.05) if quick else (1600, _LATENCY)
    size = f"{number:,} requests of {latency:g} s, {_AT_ONCE} at once each"
    one = None
    for processes in (1, 2) if quick else (1, 2, 4):
        seconds, calls = _timed(processes, number, latency)
        one = one or seconds
        yield Result(
            name=f"Judging one run by {processes} at once, beside one", size=size, ours=seconds,
            other=one, ratio=one / seconds, wanted=_WANTED.get(processes, ""),
            note=f"paid {calls / number:.3f} times",
        )  # fmt: skip


def _timed(processes: int, number: int, latency: float) -> tuple[float, int]:
    """Return the seconds and calls that so many processes need."""
    spawn = get_context("spawn")
    ready = spawn.Barrier(processes)
    with JudgeServer(latency) as server, tempfile.TemporaryDirectory() as folder:
        about = (server.url, f"{folder}/run.db", number, ready)
        workers = [spawn.Process(target=_work, args=about) for _ in range(processes)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        if any(worker.exitcode for worker in workers):
            raise ValueError("a process failed")
        told = server.told()
    return float(told["seconds"]), int(told["calls"])


def _work(url: str, store_url: str, number: int, ready: Barrier) -> None:
    """Judge as one of the processes, once all are there."""
    with Store.open(store_url) as store:
        ready.wait()
        known = asyncio.run(_judge(store, url, number))
    if known != number:
        raise ValueError(f"only {known} of {number} requests have an answer")


async def _judge(store: Store, url: str, number: int) -> int:
    backend = OpenAIBackend("judge", url, limits=Limits(concurrency=_AT_ONCE))
    ledger: Ledger[int] = Ledger(store, backend)
    return len([call async for _, call in ledger.ask(enumerate(requests(number))) if call.text])
