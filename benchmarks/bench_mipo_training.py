"""MIPO's packed training step against trl.DPOTrainer on the same pairs.

Same model (a Qwen2 of some 4M random weights), same tokens (prompt 128, responses 64), same loss.
A step is forward, loss and backward of one prompt with its N negatives: for TRL a batch of N pairs,
for us one packed row. Both have the reference's log-probabilities beforehand, which favours TRL:
its default computes them in each step ("TRL as it comes"). Steps of both sides take turns, on one
thread, and the median of their processor time is taken: a busy machine changes it little. Memory
is the peak over what the process holds before its steps, each side in a process of its own.
"""

import ctypes
import gc
import os
import random
import re
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.results import Result, exponent

PROMPT, RESPONSE, THREADS = 128, 64, 1
VOCABULARY = 2048
BETA = 0.1
WANTED = {1: ">= 0.95", 10: ">= 3.5"}
"""Ratios of speeds by negatives."""

Step = Callable[[], float]
"""One training step; returns its loss."""


def make_model(folder: Path) -> None:
    """Save a model with random weights, and the tokenizer trainers ask for, to `folder`."""
    import torch
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
    )
    Qwen2ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    words = {f"w{index}": index for index in range(VOCABULARY)}
    raw = Tokenizer(models.WordLevel(words, unk_token="w0"))
    PreTrainedTokenizerFast(
        tokenizer_object=raw, unk_token="w0", pad_token="w1", eos_token="w2"
    ).save_pretrained(folder)


def make_group(negatives: int) -> Any:
    """Return one prompt with a chosen and N rejected responses, as token ids."""
    from mipo_eval.training.packed import TokenGroup

    rng = random.Random(negatives)

    def ids(length: int) -> tuple[int, ...]:
        return tuple(rng.randrange(3, VOCABULARY) for _ in range(length))

    return TokenGroup(
        item_id="bench",
        prompt=ids(PROMPT),
        responses=tuple(ids(RESPONSE) for _ in range(negatives + 1)),
    )


def our_step(folder: Path, negatives: int) -> Step:
    """Return MIPO's step as `mipo-eval train mipo` takes it, without the optimizer's part."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from mipo_eval.training.groups import GroupTask, GroupTrainer
    from mipo_eval.training.logprobs import add_likelihood_head
    from mipo_eval.training.losses import dpo_measures
    from mipo_eval.training.packed import packing_reader
    from mipo_eval.training.recipes import Optimization
    from mipo_eval.training.trainer import TrainingJob

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    add_likelihood_head(model)
    reader = packing_reader(model, "split")
    group = make_group(negatives)
    job = TrainingJob(
        model=str(folder),
        out=folder / "ours",
        examples=(),
        optimization=Optimization(batch_size=1),
        seed=0,
        report=lambda _step, _metrics: None,
    )
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def measure(logprobs: Any, batch: Any) -> Any:
        reference, present = batch["reference"], batch["present"]
        return dpo_measures(logprobs, reference, present, beta=BETA)._asdict()

    task = GroupTask([(group,)], [], measure)
    trainer = GroupTrainer(model, job=job, task=task, reader=reader, processing_class=tokenizer)
    trainer.model_wrapped = trainer.accelerator.prepare_model(model)
    trainer.make_reference()
    return stepper(trainer, trainer.data_collator([trainer.train_dataset[0]]))


def stock_step(folder: Path, negatives: int, *, reference: bool = True) -> Step:
    """Return trl.DPOTrainer's step on the same pairs in one batch.

    Args:
        folder: of the model.
        negatives: N.
        reference: whether the reference's log-probabilities are computed before, not in each step.
    """
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    class Tokenized(DPOTrainer):  # type: ignore[misc]
        """Takes pairs that are token ids already."""

        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

    chosen, *rejected = make_group(negatives).responses
    prompt = make_group(negatives).prompt
    rows = [{"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": one} for one in rejected]
    trainer = Tokenized(
        AutoModelForCausalLM.from_pretrained(folder, dtype="float32"),
        args=DPOConfig(
            output_dir=str(folder / "stock"),
            per_device_train_batch_size=negatives,
            precompute_ref_log_probs=reference,
            beta=BETA,
            max_length=None,
            bf16=False,
            gradient_checkpointing=False,
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(folder),
    )
    return stepper(trainer, trainer.data_collator(list(trainer.train_dataset)))


def stepper(trainer: Any, batch: dict[str, Any]) -> Step:
    """Return a trainer's step on one batch: forward, loss and backward."""
    import torch

    trainer.current_gradient_accumulation_steps = 1
    trainer.state.global_step = 1  # past the first, where ours has to be the reference
    torch.manual_seed(1)
    with torch.no_grad():  # away from the reference, both sides to the same place
        for parameter in trainer.model.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))

    def step() -> float:
        trainer.model.zero_grad()
        return float(trainer.training_step(trainer.model, dict(batch)))

    return step


def timed(steps: dict[str, Step], seconds: float) -> dict[str, float]:
    """Return the median seconds of the processor of each step.

    They take turns for as long as is given.
    """
    times: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[next(iter(times))]) < 3:
        for name, step in steps.items():
            start = time.process_time()
            step()
            times[name].append(time.process_time() - start)
    return {name: statistics.median(found) for name, found in times.items()}


def measure_peak(side: str, folder: Path, negatives: int) -> float:
    """Return the megabytes of some steps above what was held before, in this process (Linux).

    Args:
        side: "stock" or "ours".
        folder: of the model.
        negatives: N.
    """
    _be_quiet()
    step = (stock_step if side == "stock" else our_step)(folder, negatives)
    step()  # gradients exist from here on, on both sides
    gc.collect()
    # What the first step has freed is given back, so that the others' peak shows all they need.
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again
    before = memory("VmRSS")
    for _ in range(3):
        step()
    return memory("VmHWM") - before


def _be_quiet() -> None:
    import torch
    from datasets.utils.logging import disable_progress_bar as disable_bars
    from transformers.utils.logging import disable_progress_bar, set_verbosity_error

    torch.set_num_threads(THREADS)
    warnings.simplefilter("ignore")
    disable_progress_bar()
    disable_bars()
    set_verbosity_error()
    os.environ["TQDM_DISABLE"] = "1"


def memory(what: str) -> float:
    """Return a figure of this process in megabytes."""
    found = re.search(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None, what
    return int(found[1]) / 1024


def measure(quick: bool) -> Iterator[Result]:
    """Yield speeds and memory for each N, and how ours grows with it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _be_quiet()
        make_model(folder)
        ours = {}
        for n in (1, 3) if quick else (1, 3, 5, 10):
            steps = {
                "ours": our_step(folder, n),
                "stock": stock_step(folder, n),
                "plain": stock_step(folder, n, reference=False),
            }
            apart = abs(steps["ours"]() - steps["stock"]())
            times = timed(steps, 0.0 if quick else 20.0)
            ours[n] = times["ours"]
            size = f"N = {n}"
            yield Result(
                name="MIPO's step beside trl.DPOTrainer's", size=size, unit="ms",
                ours=1e3 * times["ours"], other=1e3 * times["stock"],
                ratio=times["stock"] / times["ours"], wanted=WANTED.get(n, ""),
                note=f"the losses differ by {apart:.0e}; against TRL as it comes, with the "
                f"reference in each step: {times['plain'] / times['ours']:.1f}",
            )  # fmt: skip
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                mine, stock = (
                    pool.submit(measure_peak, side, folder, n).result()
                    for side in ("ours", "stock")
                )
            yield Result(
                name="Its memory beside TRL's", size=size, unit="MB", ours=mine, other=stock,
                ratio=stock / mine, wanted=">= 1",
            )  # fmt: skip
        tokens = [PROMPT + (n + 1) * RESPONSE for n in ours]
        yield Result(
            name="MIPO's step: the exponent its time grows with, by tokens", unit="",
            size=f"{tokens[0]} to {tokens[-1]} tokens", ours=exponent(tokens, [*ours.values()]),
        )  # fmt: skip
