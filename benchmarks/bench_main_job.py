"""The main job: generation beside plain lm-eval, judging by the whole command, doing it again.

The served model and the judge are a local server that answers in 200 ms, 64 at once. Generation
runs in turns with lm-eval's own: `lm_eval.simple_evaluate` for a local model, its API model type
with as many requests at once for a served one.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks.judge_server import REPOSITORY, JudgeServer
from benchmarks.results import Result, median_seconds, of_children
from mipo_eval.evaluation.generate import draw
from mipo_eval.keys import digest
from mipo_eval.models.lm_eval import (
    ModelOptions,
    decoding_for,
    generation_spec,
    load_model,
    load_task,
)
from mipo_eval.models.spec import parse_model
from mipo_eval.records import Item, Response
from mipo_eval.signature import short
from mipo_eval.store import Store
from mipo_eval.store.items import put_list
from mipo_eval.store.responses import put_generation, put_responses
from mipo_eval.tasks.items import write_items
from mipo_eval.tasks.prompt import USUAL

CONCURRENCY = 64


def items(count: int) -> Iterator[Item]:
    """Yield items with one preference and no reference: one call each."""
    for n in range(count):
        yield Item(
            item_id=f"item-{n}",
            prompt=f"How do I make a good cup of tea when my kettle is number {n}?",
            preferences=("Use short sentences that a child can read.",),
            group_id=f"group-{n // 4}",
        )


def answer(n: int) -> str:
    """Return a response of some forty words."""
    words = ["boil", "the", "water", "warm", "the", "pot", "add", "two", "spoons", "of", "leaves"]
    words += ["wait", "four", "minutes", "and", "pour"]
    return " ".join(words[(n + i * (1 + n % 7)) % len(words)] for i in range(40)) + f" kettle {n}."


def prepare(folder: Path, count: int, url: str) -> list[str]:
    """Store `count` responses as if generated, and return the command that judges them."""
    suite = folder / "tea.jsonl"
    write_items(suite, items(count))
    model = parse_model(f"openai:judge@{url}")
    decoding = decoding_for(model, {}, seed=0)
    spec = generation_spec(
        model,
        ModelOptions(),
        decoding,
        asking={"prompting": "personalized", "query": short(USUAL.key)},
    )
    with Store.open(str(folder / "store.db")) as store:
        put_list(store, [("tea", items(count))])
        put_generation(store, digest(spec), spec)
        chunk: list[Response] = []
        for n, item in enumerate(items(count)):
            response = Response(
                item_key=item.key, text=answer(n), prompt_hash="0" * 32, response_tokens=50
            )
            chunk.append(response)
            if len(chunk) == 1000 or n == count - 1:
                put_responses(store, digest(spec), chunk)
                chunk = []
    command = [sys.executable, "-m", "mipo_eval", "--model", f"openai:judge@{url}"]
    command += ["--suite", str(suite), "--judge", f"openai:judge@{url}", "--json"]
    return [*command, "--store", str(folder / "store.db")]


_MEASURED = """import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"""


def run(command: list[str]) -> float:
    """Run a command, which must succeed, and return the most memory it had, in MB.

    Started by a small process: one that a large one starts is counted with that one's memory.
    """
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, *command],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    return int(done.stdout.split()[-1]) / 1024


def measure(quick: bool) -> Iterator[Result]:
    """Measure generation, judging, judging again, and memory."""
    yield from overhead()
    yield from served(64 if quick else 2560, rounds=1 if quick else 3)
    yield from judging(64 if quick else 2000)
    yield from again(200 if quick else 100_000)


def overhead(rounds: int = 1) -> Iterator[Result]:
    """Compare our chunks with lm-eval called once, alternating, on the demo model.

    Seconds are of the processor.
    """
    import lm_eval

    spec = parse_model("demo")
    decoding = decoding_for(spec, {"max_tokens": 48}, seed=0)
    model = load_model(spec, ModelOptions(), decoding)
    task = load_task("mipo_demo", {"source": "demo"}, decoding)
    everything = range(len(task.eval_docs))
    times = []
    with tempfile.TemporaryDirectory() as folder, Store.open(f"{folder}/store.db") as store:
        for _ in range(rounds + 1):
            started = time.process_time()
            lm_eval.simple_evaluate(
                model=model._lm,
                tasks=[task],
                apply_chat_template=True,
                bootstrap_iters=0,
                log_samples=True,
            )
            direct = time.process_time() - started
            started = time.process_time()
            for first in range(0, len(everything), model.chunk_size):
                made = model.ask(task, everything[first : first + model.chunk_size])
                put_responses(store, "g", made)
            times.append((time.process_time() - started, direct))
    yield _share("hf", f"{len(everything)} items of the demo", times[1:])  # the first warms up


def served(count: int, latency: float = 0.2, rounds: int = 3) -> Iterator[Result]:
    """Compare the drawing of a served model with lm-eval's own, alternating."""
    times = []
    with JudgeServer(latency) as server, tempfile.TemporaryDirectory() as folder:
        write_items(Path(folder) / "tea.jsonl", items(count))
        own = f"model=judge,base_url={server.url}/chat/completions,num_concurrent={CONCURRENCY}"
        models = []
        for name in (f"openai:judge@{server.url}", f"lm-eval:local-chat-completions:{own}"):
            spec = parse_model(name)
            decoding = decoding_for(spec, {}, seed=0)
            task = load_task("mipo_items", {"source": f"{folder}/tea.jsonl"}, decoding)
            models.append((load_model(spec, ModelOptions(), decoding), task))
        [(ours, our_task), (theirs, their_task)] = models
        for number in range(rounds):
            with Store.open(f"{folder}/{number}.db") as store:
                put_generation(store, "g", {})
                started = time.perf_counter()
                draw(store, "g", ours, [(our_task, range(count))], Silent())
                between = time.perf_counter()
                theirs.ask(their_task, range(count))
                times.append((between - started, time.perf_counter() - between))
    yield _share("served", f"{count:,} items of {1000 * latency:.0f} ms", times)


def _share(what: str, size: str, times: Sequence[tuple[float, float]]) -> Result:
    return Result(
        name=f"Generation, {what}: share of plain lm-eval's time", size=size,
        ours=statistics.median(ours for ours, _ in times),
        other=statistics.median(theirs for _, theirs in times),
        ratio=statistics.median(ours / theirs for ours, theirs in times), wanted="<= 1.05",
    )  # fmt: skip


class Silent:
    """Shows no progress."""

    def start(self, what: str, total: int, status: Callable[[], str] = str) -> None:
        """Begin a stage."""

    def advance(self, units: int) -> None:
        """Note that more is done."""

    def finish(self) -> None:
        """End the stage."""

    def warn(self, text: str) -> None:
        """Say something."""


def judging(count: int, latency: float = 0.2) -> Iterator[Result]:
    """Judge against a slow server by the whole command."""
    with JudgeServer(latency) as server, tempfile.TemporaryDirectory() as folder:
        run(prepare(Path(folder), count, server.url))
        asked = server.told()["seconds"]
    ideal = count / CONCURRENCY * latency
    yield Result(
        name="Judging by the command: share of the ideal rate, first call to last answer",
        size=f"{count:,} items of {1000 * latency:.0f} ms", ours=asked, other=ideal,
        ratio=ideal / asked, wanted=">= 0.9",
    )  # fmt: skip


def again(count: int) -> Iterator[Result]:
    """Judge many items, and run the same command again with the server gone.

    Seconds are of the processor: nothing is waited for.
    """
    with JudgeServer(0.0) as server, tempfile.TemporaryDirectory() as folder:
        command = prepare(Path(folder), count, server.url)
        peaks: list[float] = []
        first = median_seconds(lambda: peaks.append(run(command)), 1, of_children)
        peak = max(peaks)
        server.told()
        second = median_seconds(lambda: run(command), 1, of_children)
    size = f"{count:,} items"
    yield Result(
        name="Memory of the command that judges", size=size, ours=peak, unit="MB", wanted="<= 600"
    )
    yield Result(
        name="The same command with everything stored, beside the first time", size=size,
        ours=second, other=first, ratio=first / second,
    )  # fmt: skip
    yield Result(
        name="The same command with everything stored", size=size, ours=second, wanted="<= 20"
    )
