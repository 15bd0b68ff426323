"""The last step of an epoch on several processes: every unit once, as one process has it.

Where what is learned from cannot be dealt out evenly, accelerate deals units of the epoch's
beginning again, so that every process has as many batches. Here these count nothing, and the others
of that step so much more.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Dealt:
    """What a batch was made of; travels with it, and to no device."""

    units: Sequence[Any]


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
        place, step = trainer.accelerator, trainer.state.global_step
        self._batch = self._batch + 1 if step == self._step else 0
        self._step = step
        state, world = place.gradient_state, place.num_processes
        left = state.remainder if world > 1 and state.end_of_dataloader else 0
        if left <= 0:
            return batch, 1.0
        # `left` units are what the last batches of all processes have of their own. All batches of
        # a step are there before the first is read, so this is known in the whole step.
        batches = trainer.current_gradient_accumulation_steps
        each = trainer.args.per_device_train_batch_size
        more = batches * each * world / ((batches - 1) * each * world + left)
        if self._batch < batches - 1:
            return batch, more
        own = min(max(left - place.process_index * each, 0), each)
        if 0 < own < each:
            batch = trainer._prepare_inputs(collate(batch["dealt"].units[:own]))
        return batch, more * own / each
