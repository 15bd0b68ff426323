"""Judging stored replies again after a change of the parser: seconds for 100,000 ratings.

    python -m benchmarks.bench_reparse [--ratings 100000]

The store is filled first (by a scripted judge, untimed), in a temporary folder.
"""

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import AsyncGenerator, Iterable, Iterator
from pathlib import Path

from mipo_eval.judges import Judge, load_judge
from mipo_eval.judges.judging import rate
from mipo_eval.judges.reparsing import reparse
from mipo_eval.models import Failure, Reply, Request
from mipo_eval.models.base import ScriptedBackend
from mipo_eval.records import Item
from mipo_eval.store import Store

ASPECTS = 4


class Forgetful(ScriptedBackend):
    """A script that does not keep what it was asked."""

    async def answer(
        self, requests: Iterable[Request]
    ) -> AsyncGenerator[tuple[Request, Reply | Failure], None]:
        """Yield each request with its outcome."""
        async for outcome in super().answer(requests):
            self.asked.clear()
            yield outcome


def texts(ratings: int) -> Iterator[tuple[Item, str]]:
    """Yield items with a response each."""
    wishes = tuple(f"wish {number}" for number in range(ASPECTS))
    for number in range(ratings // ASPECTS):
        item = Item(item_id=str(number), prompt=f"question {number}", preferences=wishes)
        yield item, f"A reply of some length. {number}"


def main() -> None:
    """Measure and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--ratings", type=int, default=100_000)
    args = parser.parse_args()
    prompt = load_judge("openai:m@http://localhost:1").prompt
    backend = Forgetful(lambda _: "**Rating: 4/5** - short and kind.")
    judge = Judge(name="scripted", spec="scripted", backend=backend, prompt=prompt)
    with (
        tempfile.TemporaryDirectory() as folder,
        Store.open(str(Path(folder) / "store.db")) as store,
    ):
        asyncio.run(rate(store, judge, texts(args.ratings)))
        start, start_cpu = time.perf_counter(), time.process_time()
        done = reparse(store, judge, [judge.key])
        seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    result = {"ratings": done.read, "seconds": round(seconds, 2), "cpu_seconds": round(cpu, 2)}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
