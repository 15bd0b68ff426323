"""InfoNCE and SAMI: a step on one group beside the loop that the equations suggest.

The loop reads every response behind every context by itself, as one writes it first: K x K
sequences, one after the other, and a loss in two loops. Ours reads each context once, with all
responses behind it. The model is that of the benchmark of MIPO's step, the contexts have 128
tokens, the responses 64; both sides give the same loss. Steps take turns on one thread.
"""

import math
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.bench_mipo_training import (
    PROMPT,
    RESPONSE,
    THREADS,
    VOCABULARY,
    Step,
    make_model,
    timed,
)
from benchmarks.results import Result, exponent

_SECONDS = 20.0


def measure(quick: bool) -> Iterator[Result]:
    """Time both losses for groups of growing size."""
    import torch

    torch.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory() as name:
        make_model(Path(name))
        counts = (2,) if quick else (2, 4, 8)
        for loss in ("info_nce", "sami"):
            ours = {}
            for k in counts:
                steps = {
                    "ours": _our_step(Path(name), k, loss),
                    "loop": _naive_step(Path(name), k, loss),
                }
                apart = abs(steps["ours"]() - steps["loop"]())
                times = timed(steps, 0.0 if quick else _SECONDS)
                ours[k] = times["ours"]
                yield Result(
                    name=f"A step of {loss} beside the naive loop", size=f"K = {k}", unit="ms",
                    ours=1e3 * times["ours"], other=1e3 * times["loop"],
                    ratio=times["loop"] / times["ours"], wanted=">= 1",
                    note=f"the losses differ by {apart:.0e}",
                )  # fmt: skip
            if len(ours) > 1:
                yield Result(
                    name=f"A step of {loss}: the exponent its time grows with", unit="",
                    size=f"K = {counts[0]} to {counts[-1]}",
                    ours=exponent(counts, [*ours.values()]),
                    note="the loop's work grows with the square of K",
                )  # fmt: skip


def _group(k: int) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """Return K prompts with contexts, and K responses, as token ids."""
    rng = random.Random(k)

    def ids(length: int) -> tuple[int, ...]:
        return tuple(rng.randrange(3, VOCABULARY) for _ in range(length))

    return [ids(PROMPT) for _ in range(k)], [ids(RESPONSE) for _ in range(k)]


def _model(folder: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def _our_step(folder: Path, k: int, loss: Any) -> Step:
    from mipo_eval.training.contrastive import contrastive_measures
    from mipo_eval.training.logprobs import add_likelihood_head
    from mipo_eval.training.packed import TokenGroup, packing_reader

    model = _model(folder)
    add_likelihood_head(model)
    reader = packing_reader(model, "split")
    prompts, responses = _group(k)
    rows = [TokenGroup(item_id="", prompt=one, responses=tuple(responses)) for one in prompts]

    def step() -> float:
        model.zero_grad()
        square = reader.logprobs(model, reader.collate(rows))
        found: Any = contrastive_measures([square], loss).loss
        found.backward()
        return float(found)

    return step


def _naive_step(folder: Path, k: int, loss: str) -> Step:
    import torch

    model = _model(folder)
    prompts, responses = _group(k)

    def logprob(prompt: tuple[int, ...], response: tuple[int, ...]) -> Any:
        ids = torch.tensor([[*prompt, *response]])
        logits = model(input_ids=ids).logits[0, len(prompt) - 1 : -1]
        return logits.log_softmax(-1)[range(len(response)), response].sum()

    def own_among(logprobs: list[list[Any]]) -> Any:
        """Return eq. 6 without its sign: rows are what the own one is told from."""
        terms = []
        for j in range(k):
            among = torch.stack([logprobs[i][j] for i in range(k)])
            terms.append(logprobs[j][j] - torch.logsumexp(among, 0) + math.log(k))
        return sum(terms) / k

    def step() -> float:
        model.zero_grad()
        square = [[logprob(prompt, response) for response in responses] for prompt in prompts]
        found = -own_among(square)
        if loss == "sami":
            found = (found - own_among([*map(list, zip(*square, strict=True))])) / 2
        found.backward()
        return float(found)

    return step
