"""The main job's limits, each measured in one run of this file.

    python -m benchmarks.bench_main_job [overhead] [served] [judging] [memory]

served    responses of a server that answers in 200 ms, drawn and stored, against lm-eval's own
          model type with as many requests at once
overhead  generation in stored chunks against one `lm_eval.simple_evaluate` on the same items
judging   calls a second through the whole command against a server that answers in 200 ms,
          as a share of the ideal: concurrency / latency; then the same command with everything
          in the store
memory    peak memory of the command while it judges 100,000 items
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.judge_server import REPOSITORY, JudgeServer
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
    words = ("boil", "the", "water", "warm", "the", "pot", "add", "two", "spoons", "of", "leaves")
    words += ("wait", "four", "minutes", "and", "pour")
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


def run(command: list[str]) -> float:
    """Run a command and return its wall time in seconds."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    return time.perf_counter() - started


def overhead(rounds: int = 3) -> None:
    """Compare our chunks with lm-eval called once, alternating, on the demo model."""
    import lm_eval

    spec = parse_model("demo")
    decoding = decoding_for(spec, {"max_tokens": 48}, seed=0)
    model = load_model(spec, ModelOptions(), decoding)
    task = load_task("mipo_demo", {"source": "demo"}, decoding)
    everything = range(len(task.eval_docs))
    ratios = []
    with tempfile.TemporaryDirectory() as folder, Store.open(f"{folder}/store.db") as store:
        for _ in range(rounds + 1):
            started = time.perf_counter()
            lm_eval.simple_evaluate(
                model=model._lm,
                tasks=[task],
                apply_chat_template=True,
                bootstrap_iters=0,
                log_samples=True,
            )
            direct = time.perf_counter() - started
            started = time.perf_counter()
            for first in range(0, len(everything), model.chunk_size):
                made = model.ask(task, everything[first : first + model.chunk_size])
                put_responses(store, "g", made)
            ratios.append((time.perf_counter() - started) / direct)
    ratio = statistics.median(ratios[1:])  # the first round warms up
    print(f"overhead: {ratio:.3f} of lm-eval's own time on {len(everything)} items (limit 1.05)")


def served(count: int = 2560, latency: float = 0.2, rounds: int = 2) -> None:
    """Compare the drawing of a served model with lm-eval's own, alternating."""
    ratios = []
    with JudgeServer(latency) as server, tempfile.TemporaryDirectory() as folder:
        write_items(Path(folder) / "tea.jsonl", items(count))
        own = f"model=judge,base_url={server.url}/chat/completions,num_concurrent={CONCURRENCY}"
        models = []
        for name in (f"openai:judge@{server.url}", f"lm-eval:local-chat-completions:{own}"):
            spec = parse_model(name)
            decoding = decoding_for(spec, {}, seed=0)
            task = load_task("mipo_items", {"source": f"{folder}/tea.jsonl"}, decoding)
            models.append((load_model(spec, ModelOptions(), decoding), task))
        for number in range(rounds):
            seconds = []
            with Store.open(f"{folder}/{number}.db") as store:
                put_generation(store, "g", {})
                for model, task in models:
                    started = time.perf_counter()
                    if model is models[0][0]:
                        draw(store, "g", model, [(task, range(count))], Silent())
                    else:
                        model.ask(task, range(count))
                    seconds.append(time.perf_counter() - started)
            ratios.append(seconds[0] / seconds[1])
    ratio = statistics.median(ratios)
    print(f"served: {ratio:.3f} of lm-eval's own time on {count} items (limit 1.05)")


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


def judging(count: int = 2000, latency: float = 0.2) -> None:
    """Judge against a slow server, then repeat the command with everything stored."""
    with JudgeServer(latency) as server, tempfile.TemporaryDirectory() as folder:
        command = prepare(Path(folder), count, server.url)
        first = run(command)
        asked = server.told()["seconds"]  # the server is gone: what follows must not need it
        again = run(command)
    ideal = count / CONCURRENCY * latency
    print(
        f"judging: {count} calls in {asked:.2f} s from the first call to the last answer, "
        f"{ideal / asked:.1%} of the ideal rate (limit 90 %); the whole command took {first:.2f} s"
    )
    print(f"again: {again:.2f} s for {count} stored items (limit 2 s)")


def memory(count: int = 100_000) -> None:
    """Judge many items and report the command's peak memory."""
    with JudgeServer(0.0) as server, tempfile.TemporaryDirectory() as folder:
        command = prepare(Path(folder), count, server.url)
        seconds = run(command)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"memory: peak {peak:.0f} MB judging {count} items in {seconds:.0f} s (limit 600 MB)")


PARTS = {"overhead": overhead, "served": served, "judging": judging, "memory": memory}


def main() -> None:
    """Run the parts named on the command line, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []])
    for part in parser.parse_args().parts or PARTS:
        PARTS[part]()


if __name__ == "__main__":
    main()
