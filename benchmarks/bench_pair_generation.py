"""Pairs drawn beside each other against two separate passes: what vLLM's prefix cache saves.

Needs vLLM: `make test-vllm` builds one for CPUs, and `.venv-vllm/bin/python -m benchmarks
pair_generation` is run with it. A Qwen2 of random weights answers made-up prompts; what it says
means nothing, how long it takes does. As in training, every item wants a chosen response and N
negatives: without the context (`missing`) or with other users' contexts (`random`). In one pass
they stand beside each other, as `mipo-eval train` asks for them. In two passes all chosen responses
are drawn first and all negatives then, and the cache is emptied in between, since that of a data
set would not fit. Both ways draw the same requests; each is timed three times, in turn.
"""

import os
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.results import Result
from mipo_eval.demo import world
from mipo_eval.demo.pretraining import PretrainingRecipe, make_tokenizer, tokenizer_texts
from mipo_eval.models.lm_eval import Decoding, LoadedModel, ModelOptions, load_model
from mipo_eval.models.spec import parse_model
from mipo_eval.records import Item
from mipo_eval.tasks.prompt import render_query
from mipo_eval.tasks.suites import SuiteTask
from mipo_eval.training.data import load_items
from mipo_eval.training.pairs import plan_draws
from mipo_eval.training.recipes import PairSettings

_TASK = SuiteTask(name="items", source="-", lm_eval_task="mipo_items")
_REPEATS = 3
_CONTEXT = 4096
_ITEMS, _RESPONSE = 64, 32


def make_model(folder: Path) -> Path:
    """Save a Qwen2 of about 30 million random weights, with the demo world's tokenizer."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    recipe = PretrainingRecipe(context=_CONTEXT)
    render = partial(render_query, prompting="personalized")
    tokenizer = make_tokenizer(tokenizer_texts(render, recipe), recipe)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=512,
        intermediate_size=1536,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=_CONTEXT,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_items(count: int, *, prompt: int, context: int) -> list[Item]:
    """Return items of random words; every one has a user, prompt and context of its own."""
    rng = random.Random(0)
    words = sorted({word for n in range(500) for word in world.exchange(n).answer.split()})

    def text(length: int) -> str:
        return " ".join(rng.choices(words, k=length))

    return [
        Item(item_id=str(n), user_id=str(n), prompt=text(prompt), context=text(context))
        for n in range(count)
    ]


class Drawer:
    """Draws responses and forgets, on request, what its engine has read."""

    def __init__(self, model: LoadedModel, engine: Any, decoding: Decoding) -> None:
        self._model, self._engine, self._decoding = model, engine, decoding

    def forget(self) -> None:
        """Empty the prefix cache."""
        self._engine.reset_prefix_cache()

    def draw(self, items: Sequence[Item]) -> int:
        """Draw a response to every item; returns their tokens."""
        size, tokens = self._model.chunk_size, 0
        with tempfile.TemporaryDirectory() as folder:
            task = load_items(_TASK, items, Path(folder), self._decoding)
            for start in range(0, len(items), size):
                made = self._model.ask(task, range(start, min(start + size, len(items))))
                tokens += sum(response.response_tokens or 0 for response in made)
        return tokens


def timed(drawer: Drawer, passes: Sequence[Sequence[Item]]) -> tuple[float, int]:
    """Return the seconds that the passes take, each on an empty cache, and the tokens drawn."""
    seconds, tokens = 0.0, 0
    for items in passes:
        drawer.forget()
        start = time.perf_counter()
        tokens += drawer.draw(items)
        seconds += time.perf_counter() - start
    return seconds, tokens


def compare(drawer: Drawer, items: Sequence[Item], settings: PairSettings) -> Result:
    """Return what both ways take."""
    plans = list(plan_draws(items, settings, seed=0))
    beside = [[item for plan in plans for item in (plan.item, *plan.rejected)]]
    chosen = [plan.item for plan in plans]
    apart = [chosen, [item for plan in plans for item in plan.rejected]]
    timed(drawer, beside)  # compiles
    measured = [(timed(drawer, beside), timed(drawer, apart)) for _ in range(_REPEATS)]
    return Result(
        name=f"One pass beside two, negatives {settings.negatives}",
        size=f"{len(items)} items, N = {settings.n_negatives}",
        ours=statistics.median(one[0] for one, _ in measured),
        other=statistics.median(two[0] for _, two in measured),
        ratio=statistics.median(two[0] / one[0] for one, two in measured),
    )


def measure(quick: bool) -> Iterator[Result]:
    """Yield a row for each kind of negatives."""
    if find_spec("vllm") is None:
        yield Result(name="One pass beside two", ours=None, note="not measured: it needs vLLM")
        return
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
    decoding = Decoding(max_tokens=_RESPONSE, seed=0)
    items = make_items(4 if quick else _ITEMS, prompt=256, context=32)
    with tempfile.TemporaryDirectory() as temporary:
        folder = make_model(Path(temporary) / "model")
        spec = parse_model(f"vllm:{folder}")
        options = ModelOptions(arguments={"max_model_len": _CONTEXT, "enable_prefix_caching": True})
        model = load_model(spec, options, decoding)
        drawer = Drawer(model, model._lm.model, decoding)
        for negatives, n in (("missing", 1), ("missing", 3), ("random", 3), ("random", 10)):
            settings = PairSettings(negatives=negatives, n_negatives=n)
            yield compare(drawer, items, settings)
        model.close()
