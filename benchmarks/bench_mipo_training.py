"""MIPO's packed training step against trl.DPOTrainer on the same pairs.

    python benchmarks/bench_mipo_training.py [--seconds 60] [--negatives 1 3 5 10]
    python benchmarks/bench_mipo_training.py --shape 1.5b        on a GPU

Same model (a Qwen2 of some 4M random weights), same tokens (prompt 128, responses 64), same loss.
On a GPU both sides compute in bf16 with float32 weights, as a training does.
A step is forward, loss and backward of one prompt with its N negatives: for TRL a batch of N pairs,
for us one packed row. Both have the reference's log-probabilities beforehand, which favours TRL:
its default computes them in each step ("TRL as it comes"). Steps of both sides take turns, on one
thread, and their median is taken, so that a busy machine changes the ratios little. Memory is the
peak over what the process holds before its steps, each side in a process of its own.
"""

import argparse
import gc
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

PROMPT, RESPONSE, THREADS = 128, 64, 1
VOCABULARY = 2048
"""Tokens are drawn from so many; larger shapes have more that are never drawn."""
SHAPES = {  # hidden, MLP, layers, heads, key heads, vocabulary
    "tiny": (256, 768, 4, 4, 4, VOCABULARY),
    "1.5b": (1536, 8960, 28, 12, 2, 151_936),
}
BETA = 0.1
WANTED = {1: 0.95, 10: 3.5}
"""Negatives to the smallest ratio of speeds that is good enough."""

Step = Callable[[], float]
"""One training step; returns its loss."""


def make_model(folder: Path, shape: str) -> None:
    """Save a model with random weights, and the tokenizer trainers ask for, to `folder`."""
    import torch
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    hidden, inner, layers, heads, key_heads, vocabulary = SHAPES[shape]
    config = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
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


def our_step(folder: Path, negatives: int, attention: Any) -> Step:
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
    reader = packing_reader(model, attention)
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
            bf16=on_gpu(),
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
    torch.manual_seed(1)
    with torch.no_grad():  # away from the reference, both sides to the same place
        for parameter in trainer.model.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))

    def step() -> float:
        trainer.model.zero_grad()
        return float(trainer.training_step(trainer.model, dict(batch)))

    return step


def timed(steps: dict[str, Step], seconds: float) -> dict[str, float]:
    """Return the median seconds of each step; they take turns for as long as is given."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[next(iter(times))]) < 3:
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(found) for name, found in times.items()}


def on_gpu() -> bool:
    """Whether there is one."""
    import torch

    return bool(torch.cuda.is_available())


def peak_megabytes(side: str, folder: Path, negatives: int) -> float:
    """Return the peak memory of some steps above what was held before, in a process of its own.

    Args:
        side: "stock", or our form of attention.
        folder: of the model.
        negatives: N.
    """
    command = [sys.executable, __file__, "--peak", side, str(folder), str(negatives)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ)
    return float(json.loads(done.stdout.splitlines()[-1]))


def measure_peak(side: str, folder: Path, negatives: int) -> float:
    """Return megabytes, measured by the GPU or by the kernel in this process (Linux)."""
    import torch

    stock = side == "stock"
    step = stock_step(folder, negatives) if stock else our_step(folder, negatives, side)
    step()  # gradients exist from here on, on both sides
    gc.collect()
    if on_gpu():
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        step()
        return (torch.cuda.max_memory_allocated() - held) / 1e6
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again
    before = memory("VmRSS")
    for _ in range(3):
        step()
    return memory("VmHWM") - before


def memory(what: str) -> float:
    """Return a figure of this process in megabytes."""
    found = re.search(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None, what
    return int(found[1]) / 1024


def main() -> int:
    """Measure, print, and fail when a ratio is below what is wanted."""
    import torch
    from datasets.utils.logging import disable_progress_bar as disable_bars
    from transformers.utils.logging import disable_progress_bar, set_verbosity_error

    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60.0, help="for all step times together")
    parser.add_argument("--negatives", type=int, nargs="+", default=[1, 3, 5, 10])
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--attention", choices=("split", "dense"), default="split")
    parser.add_argument("--peak", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    warnings.simplefilter("ignore")
    disable_progress_bar()
    disable_bars()
    set_verbosity_error()
    os.environ["TQDM_DISABLE"] = "1"
    if options.peak:
        side, folder, negatives = options.peak
        sys.stdout.write(f"{json.dumps(measure_peak(side, Path(folder), int(negatives)))}\n")
        return 0
    with tempfile.TemporaryDirectory() as name:
        make_model(Path(name), options.shape)
        return report(Path(name), options)


def report(folder: Path, options: argparse.Namespace) -> int:
    """Print a line per N."""
    counts, seconds = options.negatives, options.seconds / len(options.negatives)
    print("  N   ours    TRL  ratio  as it comes  tokens ratio  loss differs by  peak ours / TRL")
    good = True
    first = None
    for n in counts:
        steps = {
            "ours": our_step(folder, n, options.attention),
            "stock": stock_step(folder, n),
            "plain": stock_step(folder, n, reference=False),
        }
        apart = abs(steps["ours"]() - steps["stock"]())
        times = timed(steps, seconds)
        ratio, plain = times["stock"] / times["ours"], times["plain"] / times["ours"]
        tokens = 2 * n * (PROMPT + RESPONSE) / (PROMPT + (n + 1) * RESPONSE)
        peaks = [peak_megabytes(side, folder, n) for side in (options.attention, "stock")]
        print(
            f"{n:>3} {times['ours'] * 1e3:>5.0f} ms {times['stock'] * 1e3:>4.0f} ms {ratio:>5.2f}x"
            f" {plain:>10.2f}x {tokens:>12.2f}x {apart:>16.1e}  {peaks[0]:.0f} / {peaks[1]:.0f} MB"
        )
        good &= ratio >= WANTED.get(n, 0.0) and peaks[0] <= peaks[1]
        first = first or (n, times["ours"])
        grown = (PROMPT + (n + 1) * RESPONSE) / (PROMPT + (first[0] + 1) * RESPONSE)
        slower = times["ours"] / first[1]
        speed = (PROMPT + (n + 1) * RESPONSE) / times["ours"]
        print(
            f"    {speed:,.0f} tokens/s; time grew {slower:.2f}x from N = {first[0]}, "
            f"tokens {grown:.2f}x"
        )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
