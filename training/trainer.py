"""What all methods share: the job they are given, arguments, weights, curves, resuming.

A method on transformers' Trainer builds its own from these and calls `run_trainer` (`loop.py`):

    model, tokenizer = load_policy(job)
    trainer = guarded(SFTTrainer)(model, args=SFTConfig(**arguments(job), ...), ...)
    run_trainer(trainer, job)
"""

import math
import os
import shutil
import time
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from mipo_eval.checkpoints import loading
from mipo_eval.errors import ConfigError, ModelError
from mipo_eval.models.chat import with_chat_form
from mipo_eval.models.weights import draw_neutrally
from mipo_eval.progress import Told
from mipo_eval.records import Item
from mipo_eval.threads import fit_threads
from mipo_eval.training.recipes import Optimization

STEPS = "steps"
"""Folder in `job.out` that holds what a stopped training continues from."""

STATE = "trainer_state.json"
"""Written last by transformers and by us: a checkpoint without it was killed half-way."""

ADAPTER = "adapter"
"""Folder in `job.out` that holds the LoRA weights alone, beside the merged checkpoint."""

REFERENCE_FILE = "reference.safetensors"
"""File in `job.out` with what the reference model says of groups of responses (`dpo.py`)."""

_NAMES = {"mean_token_accuracy": "token_accuracy"}
"""Our name of a metric that TRL logs; others keep theirs."""

_USUAL_TOKENS = 128
"""Of a prompt with its response, for the choice of threads."""

_LEFT_OUT = {"epoch", "num_tokens", "total_flos", "step_time"}

Messages = tuple[Mapping[str, str], ...]

StepReport = Callable[[int, Mapping[str, float]], None]
"""Told (optimizer step, metric to value) as a training goes; feeds the learning curves."""

Stage = Callable[[str, int], AbstractContextManager[Told]]
"""Shows other work than the steps, of so many units, while it is done; see `Watch.stage`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingExample:
    """One training prompt with what is to be learned from it.

    A message is {"role": "user", "content": "..."}; the model's own chat template renders it.
    """

    item: Item
    prompt: Messages
    """The messages with the user's context (verifiable tasks: with the worked examples)."""
    bare_prompt: Messages
    """The same without the context; equal to `prompt` where there is none."""
    chosen: str | None = None
    """The reference model's own response to `prompt`; for SFT, the text to learn."""
    rejected: tuple[str, ...] = ()
    """N negatives of the same prompt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingExamples:
    """What a method is to learn from, and what was left out."""

    examples: tuple[TrainingExample, ...]
    items: int
    dropped: Mapping[str, int] = field(default_factory=dict)
    dropped_negatives: Mapping[str, int] = field(default_factory=dict)


Trained = Mapping[str, int | Mapping[str, int] | Sequence[str]]
"""What a method tells of its work, as it is stored: how much it learned from, what it `dropped` by
reason, and `notes` that a user should see. May be empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingJob:
    """One training: a base model, its examples, and where the result goes.

    A method is a function `train_x(job, settings)` that returns `Trained`. It continues from the
    last checkpoint in `out / "steps"` if there is one, and ends with weights, tokenizer and chat
    template in `out`. It raises a ConfigError where batches cannot be split or a setting does not
    fit the model, a DataError where examples lack what it learns from or none is short enough, a
    ModelError where the model cannot be loaded, memory runs out or the loss is not finite, and a
    BackendError where its judge cannot be asked.
    """

    model: str
    """Folder of the model that it starts with, which is also the reference model."""
    reference: str | None = None
    """Folder of another reference model."""
    out: Path
    examples: Sequence[TrainingExample]
    optimization: Optimization
    seed: int
    report: StepReport
    stage: Stage = lambda _what, _total: nullcontext(lambda _done: None)
    chat_template: str | None = None
    """In place of the model's own."""
    told: Mapping[str, Any] = field(default_factory=dict)
    """What its chat template is told, as it was where responses were drawn: how much to think."""
    held_out: Sequence[TrainingExample] = ()
    """Examples to measure on, never to train on; from the train split."""
    save_steps: int = 200
    """Optimizer steps between checkpoints."""
    report_to: tuple[str, ...] = ()
    """Trackers of transformers: "tensorboard", "wandb", "trackio"."""


def world_size() -> int:
    """Return how many processes train together (`accelerate launch` says so)."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main_process() -> bool:
    """Whether this process writes what is written once."""
    return int(os.environ.get("RANK", "0")) == 0


@contextmanager
def main_process_first() -> Iterator[None]:
    """Let the main process do something before the others, which then find it done."""
    if world_size() == 1:
        yield
        return
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    # Drawing responses may take hours, and the others wait for as long; on CPUs only if told so.
    cpu = parse_flag_from_env("ACCELERATE_USE_CPU")
    with PartialState(cpu, timeout=timedelta(days=7)).main_process_first():
        yield


def arguments(job: TrainingJob) -> dict[str, Any]:
    """Return a job's settings as keyword arguments of TrainingArguments and TRL's configurations.

    Raises:
        ConfigError: the batch cannot be split evenly over devices and micro-batches, or one process
            sees several GPUs.
    """
    import torch

    if world_size() == 1 and torch.cuda.device_count() > 1:  # transformers: DataParallel
        raise ConfigError(
            f"one process sees {torch.cuda.device_count()} GPUs: start it with accelerate launch "
            "(see docs/training.md), or choose one GPU with CUDA_VISIBLE_DEVICES=0"
        )
    how = job.optimization
    together = how.micro_batch_size * world_size()
    if how.batch_size % together:
        raise ConfigError(
            f"optimization.batch_size {how.batch_size} is not a multiple of micro_batch_size "
            f"{how.micro_batch_size} x {world_size()} processes: change one of them"
        )
    on_gpu = torch.cuda.is_available()
    return {
        "output_dir": str(job.out / STEPS),
        "per_device_train_batch_size": how.micro_batch_size,
        "per_device_eval_batch_size": how.micro_batch_size,
        "gradient_accumulation_steps": how.batch_size // together,
        "learning_rate": how.learning_rate,
        "num_train_epochs": how.epochs,
        "lr_scheduler_type": "cosine_with_min_lr" if how.final_share else how.schedule,
        "lr_scheduler_kwargs": {"min_lr_rate": how.final_share} if how.final_share else {},
        "warmup_steps": how.warmup_ratio,  # below 1 it is a share of all steps
        "adam_beta1": how.betas[0],
        "adam_beta2": how.betas[1],
        "weight_decay": how.weight_decay,
        "max_grad_norm": how.max_grad_norm,
        "bf16": how.precision == "bf16" and on_gpu,  # CPUs are exact and fast in float32 only
        "gradient_checkpointing": how.gradient_checkpointing,
        "seed": job.seed,
        "save_strategy": "steps",
        "save_steps": job.save_steps,
        "save_total_limit": 2,  # the last may be of weights that fail at the next step
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # a loss that is not finite must not be hidden
        "report_to": list(job.report_to) or "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": on_gpu,
    }


def load_policy(job: TrainingJob) -> tuple[Any, Any]:
    """Return the model to train, without noise, and its tokenizer, with the job's chat template.

    Raises:
        ModelError: the checkpoint cannot be loaded.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    with loading(job.model):
        model = AutoModelForCausalLM.from_pretrained(
            job.model, dtype=weights_dtype(job), use_safetensors=True
        )
        draw_neutrally(model)
    without_noise(model)
    if not torch.cuda.is_available():  # where it goes only later
        fit_threads(model, rows=_USUAL_TOKENS * job.optimization.micro_batch_size)
    return model, load_tokenizer(job)


def weights_dtype(job: TrainingJob) -> Any:
    """Return the precision in which the base model's weights are held for a training.

    Weights that are trained are float32 whatever the checkpoint has: steps as small as the paper's
    (1e-7) would be rounded away in bf16. Under LoRA the frozen weights stay bf16 on a GPU.
    """
    import torch

    frozen = job.optimization.lora_rank is not None and job.optimization.precision == "bf16"
    return torch.bfloat16 if frozen and torch.cuda.is_available() else torch.float32


def load_tokenizer(job: TrainingJob) -> Any:
    """Return the base model's tokenizer, with the job's chat template and something to pad with."""
    from transformers import AutoTokenizer

    with loading(job.model):
        # What is saved of it says whether the hub could be asked: here it never is.
        tokenizer = AutoTokenizer.from_pretrained(job.model, local_files_only=True)
    if job.chat_template:
        tokenizer.chat_template = job.chat_template
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return with_chat_form(tokenizer, **job.told)


def adapter_config(job: TrainingJob) -> Any | None:
    """Return peft's configuration for the job's LoRA rank; None trains all weights."""
    rank, alpha = job.optimization.lora_rank, job.optimization.lora_alpha
    if rank is None:
        return None
    from peft import LoraConfig

    alpha = 2 * rank if alpha is None else alpha
    return LoraConfig(r=rank, lora_alpha=alpha, target_modules="all-linear", task_type="CAUSAL_LM")


def without_noise(model: Any) -> Any:
    """Return the model, which from now on computes in training what it does in evaluation.

    Dropout, layers that are skipped, router jitter and sampled routing: policy and reference are
    one model in two states, and to be compared. Architectures keep these under dozens of names, so
    none is looked up: modules are never told that they train. Those that recompute their
    activations have to know, and lose the rates that they hold themselves.
    """
    for module in model.modules():
        for name, value in vars(module).items():
            if "drop" in name and isinstance(value, float):
                setattr(module, name, 0.0)
    model.train = types.MethodType(_train_quietly, model)
    return model.train(model.training)


def _train_quietly(model: Any, mode: bool = True) -> Any:
    """Do what a model's `train` does, for the model itself and what recomputes its activations."""
    type(model).train(model, mode)
    for module in model.modules():
        if module is not model and not getattr(module, "gradient_checkpointing", False):
            module.training = False
    return model


def with_adapter(model: Any, job: TrainingJob) -> Any:
    """Return the model with new LoRA weights if the job wants them; they change nothing yet."""
    from transformers import set_seed

    set_seed(job.seed)
    config = adapter_config(job)
    if config is None:
        return model
    from peft import get_peft_model

    return get_peft_model(model, config)


def longest_text(job: TrainingJob, model: Any) -> int | None:
    """Return how many tokens a prompt and one response may have together."""
    config = model.config.get_text_config()
    limits = [getattr(config, "max_position_embeddings", None), job.optimization.max_length]
    return min((limit for limit in limits if limit is not None), default=None)


def guarded(kind: Any) -> Any:
    """Return a trainer class that stops before weights are moved by what is not finite."""

    class Guarded(kind):  # type: ignore[misc]
        def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            # Noted before: the trainer may take what it does not know out of the inputs.
            known = inputs if isinstance(inputs, Mapping) else {}
            self._last = {key: known.get(key) for key in ("item_ids", "input_ids")}
            loss = super().training_step(model, inputs, *args, **kwargs)
            self._check("the loss", loss)
            return loss

        def _get_grad_norm(self, *args: Any, **kwargs: Any) -> Any:
            norm = super()._get_grad_norm(*args, **kwargs)
            if norm is not None:
                self._check("the gradient's norm", norm)
            return norm

        def _check(self, what: str, value: Any) -> None:
            if not math.isfinite(float(value)):
                shown = _batch_shown(self._last, self.processing_class)
                steps, step = Path(self.args.output_dir), self.state.global_step
                raise diverged(f"{what} is {float(value)}", steps, step, shown)

    Guarded.__name__ = kind.__name__
    return Guarded


def _batch_shown(inputs: Mapping[str, Any], tokenizer: Any) -> str:
    """Return words that tell a batch: the ids of its items where it has them, else its text."""
    if names := inputs.get("item_ids"):
        return f", in the batch of item{'s' if len(names) > 1 else ''} {', '.join(names)}"
    tokens = inputs.get("input_ids")
    if tokens is None or not tokens.numel():
        return ""
    text = tokenizer.decode(tokens[0][:60], skip_special_tokens=True)
    return f", in the batch that begins {' '.join(text.split())[:80]!r}"


def diverged(what: str, steps: Path, step: int, batch: str) -> ModelError:
    """Drop the checkpoint of weights that turned out to be broken, and return what to say.

    `what` is not finite, after the last `step` made, whose weights failed just now on the `batch`.
    """
    kept = last_checkpoint(steps)
    if kept is not None and kept.name == f"checkpoint-{step}":  # which is why two are kept
        shutil.rmtree(kept, ignore_errors=True)
        kept = last_checkpoint(steps)
    return ModelError(
        f"{what} at step {step + 1}{batch}: lower optimization.learning_rate; the last good "
        f"checkpoint is {kept or 'the base model'}"
    )


def last_checkpoint(steps: Path) -> Path | None:
    """Return the last complete checkpoint in the folder of steps; None: begin at the start."""
    complete = [path.parent for path in steps.glob(f"checkpoint-*/{STATE}")]
    return max(complete, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def curve_callback(job: TrainingJob) -> Any:
    """Return a callback that hands what a trainer logs to the job's `report`."""
    from transformers import TrainerCallback

    class Curves(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self._seen: tuple[float, float] | None = None

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if not state.is_world_process_zero or "train_runtime" in (logs or {}):
                return  # the last entry sums up the whole run
            found = curve_metrics(logs or {})
            if "num_tokens" in logs:
                now, tokens = time.monotonic(), float(logs["num_tokens"])
                if self._seen and now > self._seen[0] and tokens > self._seen[1]:
                    found["tokens_per_second"] = (tokens - self._seen[1]) / (now - self._seen[0])
                self._seen = (now, tokens)
            job.report(state.global_step, found)

    return Curves()


def curve_metrics(logs: Mapping[str, Any]) -> dict[str, float]:
    """Return what a trainer logged under our names: `held_out_` in front of what it evaluated.

    Example:
        >>> curve_metrics({"eval_loss": "0.69", "mean_token_accuracy": 0.5, "epoch": 0.1})
        {'held_out_loss': 0.69, 'token_accuracy': 0.5}
    """
    found: dict[str, float] = {}
    for key, value in logs.items():
        held_out, name = key.startswith("eval_"), key.removeprefix("eval_")
        if name in _LEFT_OUT or name.endswith(("runtime", "per_second")):
            continue
        try:
            number = float(value)
        except (TypeError, ValueError):
            continue
        if math.isfinite(number):
            found[("held_out_" if held_out else "") + _NAMES.get(name, name)] = number
    return found
