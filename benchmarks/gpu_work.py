"""What `benchmarks.gpu` measures with: random models of published shapes, and trainings of them.

Ours is `dpo.GroupTrainer` as `mipo-eval train mipo` runs it, TRL's is the stock `DPOTrainer` on the
same pairs, its reference made beforehand. Neither reads or writes weights: 7B would take minutes.
"""

import gc
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PrinterCallback,
    TrainerCallback,
)
from trl import DPOConfig, DPOTrainer

from mipo_eval.training.groups import GroupTask, GroupTrainer
from mipo_eval.training.logprobs import add_likelihood_head
from mipo_eval.training.losses import dpo_measures
from mipo_eval.training.memory import Workload, estimate_memory
from mipo_eval.training.packed import TokenGroup, packing_reader
from mipo_eval.training.recipes import Optimization
from mipo_eval.training.trainer import TrainingJob, adapter_config, with_adapter, without_noise
from tests.small_models import make_model

BETA = 0.1
_QWEN: dict[str, dict[str, Any]] = {  # Qwen2.5's, as its config.json files have them
    "1.5B": {
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "vocab_size": 151_936,
        "tie_word_embeddings": True,
    },
    "7B": {
        "hidden_size": 3584,
        "intermediate_size": 18_944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152_064,
        "tie_word_embeddings": False,
    },
}
_TINY = {
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "vocab_size": 512,  # more than the tokenizer has, as in the other shapes
}
_PEAKS = {"H200": 989e12, "H100": 989e12, "B200": 2250e12, "A100": 312e12, "L40S": 362e12}
"""bf16 products without sparsity, per second, by the vendor's data sheets."""


@dataclass(frozen=True)
class Machine:
    """Where it is measured, and how large: a GPU at full size, or this CPU at a tiny one."""

    tiny: bool
    device: torch.device = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "device", torch.device("cpu" if self.tiny else "cuda"))

    @property
    def workload(self) -> Workload:
        """Lengths of a prompt and a response."""
        return Workload(prompt=24, response=12) if self.tiny else Workload(prompt=512, response=256)

    @property
    def name(self) -> str:
        """What it is called."""
        return "a CPU, tiny shapes" if self.tiny else str(torch.cuda.get_device_name())

    @property
    def peak(self) -> float | None:
        """The most bf16 operations per second that it can do; None where that is not known."""
        return next((most for name, most in _PEAKS.items() if name in self.name), None)

    def config(self, size: str, **changes: Any) -> Any:
        """Return the configuration of a model of 1.5B or 7B parameters."""
        ends = {"bos_token_id": None, "eos_token_id": 2, "pad_token_id": 0}
        shape = {**_QWEN[size], **(_TINY if self.tiny else {}), **ends, **changes}
        return AutoConfig.for_model("qwen2", max_position_embeddings=8192, **shape)

    def model(self, size: str, dtype: Any = torch.float32, **changes: Any) -> Any:
        """Return a model with random weights, the same each time, where it is measured."""
        torch.manual_seed(0)
        with torch.device(self.device):
            config = self.config(size, **changes)
            model = AutoModelForCausalLM.from_config(config, dtype=dtype)
        return model.to(self.device)

    def groups(self, negatives: int, count: int = 4) -> list[TokenGroup]:
        """Return prompts with N + 1 responses, of random tokens and uneven lengths."""
        prompt, response = self.workload.prompt, self.workload.response
        found = []
        for seed in range(count):
            rng = random.Random(seed)

            def ids(most: int, rng: random.Random = rng) -> tuple[int, ...]:
                length = most - rng.randrange(most // 4)
                return tuple(rng.randrange(5, 300) for _ in range(length))

            texts = tuple(ids(response) for _ in range(negatives + 1))
            found.append(TokenGroup(item_id=f"i{seed}", prompt=ids(prompt), responses=texts))
        return found

    def sync(self) -> None:
        """Wait until all that was begun is done."""
        if not self.tiny:
            torch.cuda.synchronize()

    def forget_peak(self) -> None:
        """Let go of what nobody needs, and measure the peak of the memory from now on."""
        gc.collect()
        if not self.tiny:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def peak_memory(self) -> float | None:
        """Return the peak since then, in bytes; a CPU does not tell it apart."""
        return None if self.tiny else float(torch.cuda.max_memory_allocated())

    def checkpoint(self, folder: Path) -> Path:
        """Save a model of 1.5B's width and four layers with a tokenizer, to train as users do."""
        make_model(folder, context=8192)
        model = self.model("1.5B", torch.float32, **({} if self.tiny else {"num_hidden_layers": 4}))
        model.generation_config.update(eos_token_id=2, pad_token_id=0)
        model.to(torch.float32 if self.tiny else torch.bfloat16).save_pretrained(folder)
        return folder


@dataclass(frozen=True, kw_only=True)
class Speed:
    """What a step of one prompt with N pairs takes; one step moves the weights."""

    seconds: float
    """Median, without the first ones."""
    pair_tokens: float
    """What a trainer reads that reads both responses of each pair behind a prompt of their own."""
    operations: float
    """Products of matrices that our way of reading needs, forward and backward."""
    memory: float | None
    """Peak, in bytes."""
    loss: float
    """Of the first step."""
    note: str = ""


class _Clock(TrainerCallback):  # type: ignore[misc]
    """Times steps, and the peak of memory from the first one on."""

    def __init__(self, machine: Machine) -> None:
        self.machine, self.marks = machine, list[float]()

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if not self.marks:
            self.machine.forget_peak()
            self._mark()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._mark()

    def _mark(self) -> None:
        self.machine.sync()
        self.marks.append(time.perf_counter())


def our_speed(machine: Machine, size: str, negatives: int, how: Optimization, steps: int) -> Speed:
    """Train with MIPO for some steps of one prompt each."""
    groups = machine.groups(negatives)
    with tempfile.TemporaryDirectory() as name:
        folder = _described(machine, size, Path(name))
        job = TrainingJob(
            model=str(folder),
            out=folder / "out",
            examples=(),
            optimization=replace(how, batch_size=1, epochs=steps / len(groups)),
            seed=0,
            report=lambda *_: None,
        )
        model = without_noise(machine.model(size, _dtype(machine, how)))
        add_likelihood_head(model)
        reader = packing_reader(model, "split")
        task = GroupTask([(one,) for one in groups], [], _measure)
        model = with_adapter(model, job)
        trainer = GroupTrainer(
            model,
            job=job,
            task=task,
            reader=reader,
            processing_class=AutoTokenizer.from_pretrained(folder),
        )
        return _timed(machine, trainer, groups, how)


def _measure(logprobs: Any, batch: Any) -> Any:
    reference, present = batch["reference"], batch["present"]
    found = dpo_measures(logprobs, reference, present, beta=BETA, batch_of="prompts", losses=None)
    return found._asdict()


def trl_speed(machine: Machine, size: str, negatives: int, how: Optimization, steps: int) -> Speed:
    """Train with TRL on the same pairs: N in a forward pass, or one where that does not fit."""
    try:
        return _trl_speed(machine, size, negatives, how, steps)
    except torch.OutOfMemoryError:
        pass  # what it held goes with its frames
    machine.forget_peak()
    found = _trl_speed(machine, size, negatives, how, steps, at_a_time=1)
    return replace(found, note=", a pair at a time: N do not fit")


def _trl_speed(
    machine: Machine, size: str, negatives: int, how: Optimization, steps: int, at_a_time: int = 0
) -> Speed:
    class Tokenized(DPOTrainer):  # type: ignore[misc]
        """Takes pairs that are token ids already."""

        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

    groups = machine.groups(negatives)
    rows = [
        {"prompt_ids": one.prompt, "chosen_ids": one.responses[0], "rejected_ids": rejected}
        for one in groups
        for rejected in one.responses[1:]
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = _described(machine, size, Path(name))
        job = TrainingJob(
            model="", out=folder, examples=(), optimization=how, seed=0, report=lambda *_: None
        )
        together = at_a_time or negatives
        trainer = Tokenized(
            machine.model(size, _dtype(machine, how)),
            args=DPOConfig(
                output_dir=str(folder),
                per_device_train_batch_size=together,
                gradient_accumulation_steps=negatives // together,
                max_steps=steps,
                precompute_ref_log_probs=True,
                beta=BETA,
                max_length=None,
                learning_rate=how.learning_rate,
                bf16=not machine.tiny,
                use_cpu=machine.tiny,
                gradient_checkpointing=how.gradient_checkpointing,
                dataloader_pin_memory=not machine.tiny,
                logging_steps=1,
                report_to="none",
                disable_tqdm=True,
            ),
            train_dataset=Dataset.from_list(rows),
            processing_class=AutoTokenizer.from_pretrained(folder),
            peft_config=adapter_config(job),
        )
        return _timed(machine, trainer, groups, how)


def _dtype(machine: Machine, how: Optimization) -> Any:
    """Return what weights are held in, as `trainer.load_policy` has it."""
    frozen = how.lora_rank is not None and not machine.tiny
    return torch.bfloat16 if frozen else torch.float32


def _described(machine: Machine, size: str, folder: Path) -> Path:
    """Put a tokenizer and a configuration into a folder, but no weights of that size."""
    make_model(folder, context=8192)
    machine.config(size).save_pretrained(folder)
    return folder


def _timed(
    machine: Machine, trainer: Any, groups: Sequence[TokenGroup], how: Optimization
) -> Speed:
    clock = _Clock(machine)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(clock)
    trainer.args.save_strategy = "no"  # at the end they would write all weights
    trainer.train()
    times = [after - before for before, after in zip(clock.marks, clock.marks[1:], strict=False)]
    # What every step has of its own: the first compile, choose kernels and make the optimizer.
    config, count = trainer.model.config, len(groups)
    return Speed(
        seconds=statistics.median(times[2:] or times),
        pair_tokens=sum(map(_pair_tokens, groups)) / count,
        operations=sum(_operations(config, one, how) for one in groups) / count,
        memory=machine.peak_memory(),
        loss=next(one["loss"] for one in trainer.state.log_history if "loss" in one),
    )


def _pair_tokens(group: TokenGroup) -> int:
    chosen, *rejected = map(len, group.responses)
    return len(rejected) * (2 * len(group.prompt) + chosen) + sum(rejected)


def _operations(config: Any, group: TokenGroup, how: Optimization) -> float:
    """Return the multiplications and additions of one packed prompt, forward and backward.

    Two per weight and token forward, and twice that backward; frozen weights have no gradients of
    their own, so once. What checkpointing computes again does not count as done.
    """
    hidden, inner, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    heads, width = config.num_attention_heads, hidden // config.num_attention_heads
    keys = config.num_key_value_heads * width
    weights = layers * (2 * hidden * hidden + 2 * hidden * keys + 3 * hidden * inner)
    responses, prompt = list(map(len, group.responses)), len(group.prompt)
    products = 2.0 * (weights * group.tokens + hidden * config.vocab_size * sum(responses))
    seen = prompt**2 / 2 + sum(prompt * length + length**2 / 2 for length in responses)
    attention = 4.0 * layers * heads * width * seen
    return float(products * (3 if how.lora_rank is None else 2) + 3 * attention)


def estimated(machine: Machine, size: str, negatives: int, how: Optimization) -> float:
    """Return what `--estimate` says of such a training, in bytes."""
    longest = max(machine.groups(negatives), key=lambda group: group.tokens)
    response = round(statistics.mean(map(len, longest.responses)))
    workload = Workload(prompt=len(longest.prompt), response=response, negatives=negatives)
    with tempfile.TemporaryDirectory() as name:
        machine.config(size).save_pretrained(name)
        return float(estimate_memory(name, how, workload=workload).total)
