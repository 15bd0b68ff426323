"""What every training method is given: the same shape for all of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mipo_eval.records import Item

Report = Callable[[int, Mapping[str, float]], None]
"""Told (optimizer step, metric to value) as a training goes; feeds the learning curves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One training prompt with what is to be learned from it.

    A message is {"role": "user", "content": "..."}; the model's own chat template renders it.
    """

    item: Item
    prompt: tuple[Mapping[str, str], ...]
    """The messages with the user's context (verifiable tasks: with the worked examples)."""
    bare_prompt: tuple[Mapping[str, str], ...]
    """The same without the context; equal to `prompt` where there is none."""
    chosen: str | None = None
    """The reference model's own response to `prompt`; for SFT, the text to learn."""
    rejected: tuple[str, ...] = ()
    """N negatives of the same prompt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimization:
    """How the weights are moved, whatever the loss. Defaults: PAPER.md, appendix E."""

    learning_rate: float = 1e-7
    """Swept in the paper over {1e-6, 5e-7, 1e-7}."""
    epochs: float = 1.0
    batch_size: int = 4
    """Prompts per optimizer step over all devices."""
    micro_batch_size: int = 1
    """Prompts per forward pass on one device; the rest of the batch is accumulated."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup_ratio: float = 0.0
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    precision: Literal["bf16", "float32"] = "bf16"
    gradient_checkpointing: bool = False
    lora_rank: int | None = None
    """None trains all weights; the paper uses rank 32 for 70B."""
    max_length: int | None = None
    """Tokens of a prompt with its response; None: what the model takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One training: a base model, its examples, and where the result goes.

    A method is a function `train_x(job, settings)`. It continues from the last checkpoint in
    `out / "steps"` if there is one, and ends with weights, tokenizer and chat template in `out`.
    """

    model: str
    """Folder of the base model, which is also the reference model."""
    out: Path
    examples: Sequence[Example]
    optimization: Optimization
    seed: int
    report: Report
    chat_template: str | None = None
    """In place of the model's own."""
    held_out: Sequence[Example] = ()
    """Examples to measure on, never to train on; from the train split."""
    save_steps: int = 200
    """Optimizer steps between checkpoints."""
    report_to: tuple[str, ...] = ()
    """Trackers of transformers: "tensorboard", "wandb", "trackio"."""
