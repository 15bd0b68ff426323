"""The reference model's log-probabilities: computed once, before the first step, and kept.

They are read through the model as it is placed for training, sharded or not, so that a reference
never needs memory of its own; a resumed training finds them in its folder.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mipo_eval.checkpoints import checkpoint_folder, fingerprint
from mipo_eval.errors import ModelError
from mipo_eval.keys import digest
from mipo_eval.training.job import Job
from mipo_eval.training.packing import TokenGroup
from mipo_eval.training.reading import Reader
from mipo_eval.training.trainer import is_main_process

FILE = "reference.safetensors"
"""File in `job.out`."""

_BATCH_TOKENS = 4096
"""Tokens of one batch, padding included; one group always fits."""


def reference_logprobs(
    trainer: Any, job: Job, reader: Reader, groups: Sequence[TokenGroup]
) -> Tensor:
    """Return the (groups, responses) log-probabilities under the model the training starts from.

    Args:
        trainer: whose model is in place and, unless it is LoRA's, has not been trained yet.
        job: says which model, and where to keep the result.
        reader: how groups are read.
        groups: all groups, in their order.

    Raises:
        ModelError: the training goes on from a checkpoint but the kept file is gone or of others.
    """
    path = job.out / FILE
    key = _key(trainer, job, groups) if is_main_process() else ""
    # Only the first process needs to see the folder: on another host it may not be there.
    kept = broadcast_object_list([_read(path, key) if is_main_process() else None])[0]
    if kept is not None:
        return torch.tensor(kept)
    adapter = trainer.accelerator.unwrap_model(trainer.model_wrapped)
    is_adapter = hasattr(adapter, "disable_adapter")
    if trainer.state.global_step and not is_adapter:
        raise ModelError(
            f"{path} does not hold what the reference model says of these pairs, and the model has"
            f" moved since: start over with an empty folder in place of {job.out}"
        )
    with adapter.disable_adapter() if is_adapter else nullcontext():
        found = _compute(trainer, reader, groups)
    if is_main_process():
        _write(path, key, found)
    return found


def _key(trainer: Any, job: Job, groups: Sequence[TokenGroup]) -> str:
    """Return what tells this table from others: the model, its precision and the tokens."""
    return digest(
        [
            fingerprint(checkpoint_folder(job.model)),
            [(group.prompt, group.responses) for group in groups],
            [trainer.args.bf16, str(trainer.model.dtype)],
        ]
    )


@torch.no_grad()
def _compute(trainer: Any, reader: Reader, groups: Sequence[TokenGroup]) -> Tensor:
    """Return the table; every process reads its share, and as many batches as the others."""
    model, place = trainer.model_wrapped, trainer.accelerator
    plan = _batches(groups)
    table = torch.zeros(len(groups), max(len(group.responses) for group in groups))
    training = model.training
    model.eval()
    for first in range(0, len(plan), place.num_processes):
        turn = first + place.process_index
        # Models in shards are read together, so who has nothing left reads a batch once more.
        indices = plan[min(turn, len(plan) - 1)]
        batch = trainer._prepare_inputs(reader.collate([groups[i] for i in indices]))
        with trainer.compute_loss_context_manager():
            found = reader.logprobs(model, batch).float().cpu()
        if turn < len(plan):
            table[torch.tensor(indices), : found.shape[1]] = found
    model.train(training)
    summed: Tensor = place.reduce(table.to(place.device), "sum").cpu()
    return summed


def _batches(groups: Sequence[TokenGroup]) -> list[list[int]]:
    """Return groups of like length by index, the longest first: what does not fit fails at once."""
    order = sorted(range(len(groups)), key=lambda index: -groups[index].tokens)
    plan: list[list[int]] = []
    for index in order:
        longest = groups[plan[-1][0]].tokens if plan else 0
        if plan and longest * (len(plan[-1]) + 1) <= _BATCH_TOKENS:
            plan[-1].append(index)
        else:
            plan.append([index])
    return plan


def _read(path: Path, key: str) -> list[list[float]] | None:
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            known = (file.metadata() or {}).get("key") == key
            table: list[list[float]] = file.get_tensor("logprobs").tolist()
            return table if known else None
    except (SafetensorError, OSError):
        return None  # cut off by a crash, or not ours


def _write(path: Path, key: str, table: Tensor) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    save_file({"logprobs": table.contiguous()}, unfinished, metadata={"key": key})
    unfinished.replace(path)
