"""How much faster several processes judge one run, and how often they pay for the same.

    python -m benchmarks.bench_processes [--requests 4000] [--latency 0.2] [--processes 1 2 4]
        [--store URL]

The server runs in a process of its own and answers after the latency. Every number of processes
begins with a fresh store; they all go through the same questions at once. The time runs from the
first call the server sees to its last answer. `--store` names an empty PostgreSQL database per
number of processes, with {n} in its place; default: SQLite files in a temporary folder.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.bench_judging import requests
from benchmarks.judge_server import REPOSITORY, JudgeServer
from mipo_eval.models.base import Limits
from mipo_eval.models.openai import OpenAIBackend
from mipo_eval.store import Store
from mipo_eval.store.calls import Ledger


async def _judge(store: Store, url: str, number: int, concurrency: int) -> int:
    backend = OpenAIBackend("judge", url, limits=Limits(concurrency=concurrency))
    ledger: Ledger[int] = Ledger(store, backend)
    return len([call async for _, call in ledger.ask(enumerate(requests(number))) if call.text])


def work(url: str, store_url: str, number: int, concurrency: int) -> None:
    """Judge as one of the processes, once told to begin."""
    with Store.open(store_url) as store:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()
        known = asyncio.run(_judge(store, url, number, concurrency))
    if known != number:
        raise SystemExit(f"only {known} of {number} requests have an answer")


def measure(processes: int, args: argparse.Namespace, store_url: str) -> dict[str, float]:
    """Return the seconds and calls that so many processes need."""
    with JudgeServer(args.latency) as server:
        about = [server.url, store_url, str(args.requests), str(args.concurrency)]
        command = [sys.executable, "-m", "benchmarks.bench_processes", "--work", *about]
        workers = [
            subprocess.Popen(
                command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for _ in range(processes)
        ]
        for worker in workers:
            assert worker.stdout is not None
            worker.stdout.readline()
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write("begin\n")
            worker.stdin.flush()
        if any(worker.wait() for worker in workers):
            raise SystemExit("a process failed")
        told = server.told()
    return {"seconds": float(told["seconds"]), "calls": int(told["calls"])}


def main() -> None:
    """Measure and print one JSON line for each number of processes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--latency", type=float, default=0.2)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--store")
    parser.add_argument("--work", nargs=4)
    args = parser.parse_args()
    if args.work:
        url, store_url, number, concurrency = args.work
        work(url, store_url, int(number), int(concurrency))
        return
    one = None
    with tempfile.TemporaryDirectory() as folder:
        for processes in args.processes:
            default = str(Path(folder) / f"{processes}.db")
            store_url = args.store.format(n=processes) if args.store else default
            found = measure(processes, args, store_url)
            one = one or found["seconds"]
            ratio = {
                "times_the_first": round(one / found["seconds"], 2),
                "paid": round(found["calls"] / args.requests, 3),
            }
            print(json.dumps({"processes": processes, **found, **ratio}))


if __name__ == "__main__":
    main()
