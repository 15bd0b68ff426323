"""The last step of an epoch: every unit once, however many processes and batches there are.

Where what is learned from cannot be dealt out evenly, accelerate deals units of the epoch's
beginning again, so that every process has as many batches. Here these count nothing, and the others
of that step so much more. TRL's GRPO leaves prompts out instead that do not fill a step; here they
fill it with prompts that count nothing.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

from mipo_eval.training.logprobs import IGNORED

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Dealt:
    """What a batch was made of; travels with it, and to no device."""

    units: Sequence[Any]


def left_over(trainer: Any) -> int:
    """Return how many units are the last batches' own, over all processes; 0: all units are.

    All batches of a step are there before the first is read, so this is known in the whole step.
    """
    state, world = trainer.accelerator.gradient_state, trainer.accelerator.num_processes
    left: int = state.remainder if world > 1 and state.end_of_dataloader else 0
    return max(left, 0)


def own_units(trainer: Any, left: int) -> int:
    """Return how many of the units that are left this process has; they come first."""
    each: int = trainer.args.per_device_train_batch_size
    before: int = trainer.accelerator.process_index * each
    return min(max(left - before, 0), each)


class Dealer:
    """Follows the batches of a step."""

    def __init__(self) -> None:
        self._step, self._batch = -1, 0

    def own(
        self, trainer: Any, batch: Any, collate: Callable[[Sequence[Any]], Any]
    ) -> tuple[Any, float]:
        """Return a training batch without repeated units, and the weight of its mean in its step.

        Where all batches are dealt once the weight is 1; where all units are repeated the batch
        stays as it is, since the processes read together, and weighs 0.
        """
        step = trainer.state.global_step
        self._batch = self._batch + 1 if step == self._step else 0
        self._step = step
        if not (left := left_over(trainer)):
            return batch, 1.0
        batches = trainer.current_gradient_accumulation_steps
        each = trainer.args.per_device_train_batch_size
        world = trainer.accelerator.num_processes
        more = batches * each * world / ((batches - 1) * each * world + left)
        if self._batch < batches - 1:
            return batch, more
        own = own_units(trainer, left)
        if 0 < own < each:
            batch = trainer._prepare_inputs(collate(batch["dealt"].units[:own]))
        return batch, more * own / each


def labelled_once(kind: Any) -> Any:
    """Return a trainer class whose loss is a mean over labels, less those of repeated units."""

    class Once(kind):  # type: ignore[misc]
        def _get_num_items_in_batch(self, batch_samples: list[Any], device: Any) -> Any:
            if batch_samples and (left := left_over(self)):
                batch_samples[-1]["labels"][own_units(self, left) :] = IGNORED
            return super()._get_num_items_in_batch(batch_samples, device)

    Once.__name__ = kind.__name__
    return Once


class FilledSampler:
    """Deals every prompt of an epoch as GRPO wants them: in batches, several times each.

    Of `prompts` the order is another in each epoch. What fills the last batch are prompts of the
    epoch's beginning, as if they followed behind all: `prompts` and above are indices of repeats.
    """

    def __init__(self, prompts: int, *, batch: int, times: int, again: int, seed: int) -> None:
        import torch

        self._prompts, self._batch, self._times, self._again = prompts, batch, times, again
        self._generator = torch.Generator()
        self._generator.manual_seed(seed)

    def __iter__(self) -> Iterator[int]:
        import torch

        order = torch.randperm(self._prompts, generator=self._generator).tolist()
        order += [self._prompts + one for one in islice(cycle(order), -len(order) % self._batch)]
        for first in range(0, len(order), self._batch):
            for _ in range(self._again):
                for index in order[first : first + self._batch]:
                    yield from [index] * self._times

    def __len__(self) -> int:
        batches = -(-self._prompts // self._batch)
        return batches * self._batch * self._times * self._again


def without_repeats(
    made: Mapping[str, Any], repeated: Sequence[bool], total: "Callable[[Tensor], Tensor]"
) -> dict[str, Any]:
    """Return what GRPO drew and scored, so that the loss passes over responses to repeats.

    Args:
        made: as `trl.GRPOTrainer` has it; `completion_mask` is (responses, tokens).
        repeated: (responses,) whether each is of a repeat.
        total: the sum over all processes.
    """
    import torch

    mask = made["completion_mask"]
    own = mask * (~torch.tensor(repeated, device=mask.device)).unsqueeze(1).to(mask.dtype)
    return {**made, "completion_mask": own, "num_items_in_batch": total(own.sum())}
