"""Verdicts a second against a slow local server, as a share of the ideal rate.

    python -m benchmarks.bench_judging [--requests 2000] [--latency 0.2] [--concurrency 64] [--peer]

The server runs in a process of its own. Ideal is what waiting alone allows: every slot answers one
request per latency, so n requests take ceil(n / concurrency) latencies. `--peer` asks the same of
the same server by a pool of threads over the openai client, which is FastChat's judging loop
(`gen_judgment.py --parallel`) with the present client.
"""

import argparse
import asyncio
import json
import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.judge_server import JudgeServer
from mipo_eval.models.base import Limits, Message, Reply, Request
from mipo_eval.models.openai import OpenAIBackend

ROOT = Path(__file__).parents[1]


def requests(number: int) -> Iterator[Request]:
    """Yield distinct one-token requests of a realistic length."""
    filler = "The reply uses short sentences and everyday words, as the reader asked. " * 12
    for index in range(number):
        text = f"{filler}\nReply {index}. Write one whole number from 1 to 5."
        yield Request(
            messages=(Message(role="user", content=text),), choices=("1", "2", "3", "4", "5")
        )


async def judge(backend: OpenAIBackend, number: int) -> float:
    """Return the seconds from the first request to the last reply; every reply must be good."""
    await backend.check()
    start = time.perf_counter()
    good = 0
    async for _, outcome in backend.answer(requests(number)):
        good += isinstance(outcome, Reply)
    seconds = time.perf_counter() - start
    if good != number:
        raise SystemExit(f"only {good} of {number} requests were answered")
    return seconds


def by_threads(url: str, number: int, concurrency: int) -> float:
    """Return the seconds FastChat's loop takes: one thread per slot, one blocking call each."""
    import openai

    client = openai.OpenAI(api_key="none", base_url=url)

    def match(request: Request) -> str:
        answer = client.chat.completions.create(
            model="judge",
            messages=[{"role": "user", "content": request.messages[0].content}],
            temperature=0,
            max_tokens=16,
            n=1,
        )
        return answer.choices[0].message.content or ""

    matches = list(requests(number))
    start = time.perf_counter()
    with ThreadPoolExecutor(concurrency) as executor:
        good = sum(text == "4" for text in executor.map(match, matches))
    seconds = time.perf_counter() - start
    if good != number:
        raise SystemExit(f"only {good} of {number} requests were answered")
    return seconds


def main() -> None:
    """Measure and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--latency", type=float, default=0.2)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--peer", action="store_true", help="also time a pool of threads")
    args = parser.parse_args()
    with JudgeServer(args.latency) as server:
        url = server.url
        backend = OpenAIBackend("judge", url, limits=Limits(concurrency=args.concurrency))
        seconds = asyncio.run(judge(backend, args.requests))
        peer = by_threads(url, args.requests, args.concurrency) if args.peer else None
    ideal = math.ceil(args.requests / args.concurrency) * args.latency
    result = {
        "requests": args.requests,
        "latency_s": args.latency,
        "concurrency": args.concurrency,
        "seconds": round(seconds, 3),
        "per_second": round(args.requests / seconds, 1),
        "share_of_ideal": round(ideal / seconds, 3),
        "share_of_slots_busy": round(args.requests * args.latency / args.concurrency / seconds, 3),
    }
    if peer is not None:
        result |= {"peer_seconds": round(peer, 3), "times_the_peer": round(peer / seconds, 2)}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
