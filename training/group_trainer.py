"""What trainers on groups of responses share: a reference before the first step, and curves."""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import Trainer, TrainerCallback, TrainingArguments

from mipo_eval.training.job import Job
from mipo_eval.training.trainer import arguments


class GroupTrainer(Trainer):  # type: ignore[misc]
    """Transformers' Trainer with a loss over groups, measured more closely than by its loss.

    A subclass has `compute_loss`, which hands what it measured to `measure`, and `make_reference`.

    Args:
        args: all of the Trainer's.
        kwargs: the same.
    """

    measures: ClassVar[tuple[str, ...]]
    """Names of what `compute_loss` measures, in its order."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._sums: dict[bool, list[Tensor]] = {True: [], False: []}
        self._tokens = 0.0
        super().__init__(*args, callbacks=[_ReferenceFirst(self)], **kwargs)
        self.model_accepts_loss_kwargs = False  # a mean over prompts, not a sum over tokens
        keep_precision(self.accelerator)

    def make_reference(self) -> None:
        """Read what the reference model says of every response, or compute it and keep it."""
        raise NotImplementedError

    def measure(self, model: Any, found: Sequence[Tensor], *, tokens: Tensor, groups: int) -> None:
        """Keep what was measured until the next time something is logged.

        Args:
            model: tells by its mode whether it is trained or held out.
            found: () means over the groups of a batch, in the order of `measures`.
            tokens: () read.
            groups: in the batch.
        """
        measured = [*found, tokens.to(found[0]), found[0].new_tensor(float(groups))]
        self._sums[bool(model.training)].append(torch.stack(measured).detach())

    def prediction_step(
        self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[Tensor, None, None]:
        """Return the loss of held-out groups; what else is measured is logged with it."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            return self.compute_loss(model, inputs), None, None

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add what was measured since the last time, over all devices, to what is logged."""
        training = not any(key.startswith("eval_") for key in logs)
        sums, self._sums[training] = self._sums[training], []
        if sums:
            logs = {**logs, **self._means(torch.stack(sums), training=training)}
        super().log(logs, start_time)

    def _means(self, sums: Tensor, *, training: bool) -> dict[str, float]:
        """Return metrics from the (batches, measures) means; tokens and groups are counts."""
        *means, tokens, groups = sums.unbind(dim=1)
        total = torch.stack(
            [*((mean * groups).sum() for mean in means), tokens.sum(), groups.sum()]
        )
        *summed, read, count = self.accelerator.reduce(total, "sum").tolist()
        found = {name: value / count for name, value in zip(self.measures, summed, strict=True)}
        found.pop("loss")  # the trainer's own
        if not training:
            return {f"eval_{name}": value for name, value in found.items()}
        self._tokens += read
        return {**found, "num_tokens": self._tokens}


def group_arguments(job: Job, *, held_out: bool) -> TrainingArguments:
    """Return the Trainer's arguments for a job, with regular measuring of what is held out."""
    every = {"eval_strategy": "steps", "eval_steps": job.save_steps, "eval_on_start": True}
    options = arguments(job) | (every if held_out else {})
    # Ours is no batch of texts with labels, so nothing of it may be taken out or renamed.
    return TrainingArguments(**options, remove_unused_columns=False, label_names=[])


def keep_precision(accelerator: Any) -> None:
    """Keep FSDP2 from rounding what the model returns: log-probabilities are float32 for a reason.

    Sums of hundreds of nats differ by less than bf16 resolves; so do gradients of many devices.
    """
    plugin = getattr(accelerator.state, "fsdp_plugin", None)
    policy = getattr(plugin, "mixed_precision_policy", None)
    if plugin is not None and policy is not None and plugin.fsdp_version == 2:
        plugin.mixed_precision_policy = dataclasses.replace(
            policy, output_dtype=None, reduce_dtype=torch.float32
        )


class _ReferenceFirst(TrainerCallback):  # type: ignore[misc]
    """Asks the model for the reference when it is in place, sharded or not, but has not moved."""

    def __init__(self, trainer: GroupTrainer) -> None:
        self._trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._trainer.make_reference()
