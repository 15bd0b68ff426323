"""The trainer of InfoNCE and SAMI on groups of K contexts and K responses."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import TrainingArguments

from mipo_eval.training.group_trainer import GroupTrainer, group_arguments
from mipo_eval.training.job import Job
from mipo_eval.training.losses import info_nce_loss, sami_loss
from mipo_eval.training.packing import TokenGroup
from mipo_eval.training.reading import Reader
from mipo_eval.training.reference import reference_logprobs
from mipo_eval.training.trainer import guarded

Square = Sequence[TokenGroup]
"""A group: one row per context, each with the responses to all contexts, in the same order."""

_LOSSES = {"info_nce": info_nce_loss, "sami": sami_loss}


class Task(NamedTuple):
    """What is learned from, and how it is read."""

    reader: Reader
    groups: Sequence[Square]
    held_out: Sequence[Square]
    loss: Literal["info_nce", "sami"]


@dataclass(frozen=True, slots=True)
class Numbered:
    """A group, and where its first response is in the table of reference log-probabilities."""

    row: int
    rows: Square


class Groups(Dataset[Numbered]):
    """Groups as torch wants a data set."""

    def __init__(self, groups: Sequence[Square], *, first: int) -> None:
        self._numbered = []
        for rows in groups:
            self._numbered.append(Numbered(first, rows))
            first += len(rows)

    def __len__(self) -> int:
        return len(self._numbered)

    def __getitem__(self, index: int) -> Numbered:
        return self._numbered[index]


def make_trainer(model: Any, job: Job, task: Task, tokenizer: Any) -> Any:
    """Return the trainer of a job, ready for `run_trainer`."""
    args = group_arguments(job, held_out=bool(task.held_out))
    kind = guarded(ContrastiveTrainer)
    return kind(model, args=args, job=job, task=task, processing_class=tokenizer)


class Outcome(NamedTuple):
    """Means over the groups of a batch; scalars."""

    loss: Tensor
    mi_lower_bound: Tensor
    """In nats, at most log K: the negative of eq. 6, whichever loss is trained."""
    retrieval: Tensor
    """Share of responses whose own context is the likeliest of the group's; a tie is none."""


class ContrastiveTrainer(GroupTrainer):
    """Trains on groups with the loss of eq. 6 or 7.

    Args:
        model: the policy, which before its first step is the reference.
        args: of transformers' Trainer.
        job: for the place of the reference's log-probabilities.
        task: what is learned from.
        kwargs: more of the Trainer's.
    """

    measures: ClassVar[tuple[str, ...]] = (*Outcome._fields, "kl")

    def __init__(
        self, model: Any, *, args: TrainingArguments, job: Job, task: Task, **kwargs: Any
    ) -> None:
        self._job, self._task = job, task
        self._reference: Tensor | None = None
        first = sum(map(len, task.groups))
        super().__init__(
            model,
            args=args,
            data_collator=self._collate,
            train_dataset=Groups(task.groups, first=0),
            eval_dataset=Groups(task.held_out, first=first) if task.held_out else None,
            **kwargs,
        )

    def make_reference(self) -> None:
        """Read what the reference model says of every response to its own context."""
        own = [
            TokenGroup(item_id=row.item_id, prompt=row.prompt, responses=(row.responses[place],))
            for group in (*self._task.groups, *self._task.held_out)
            for place, row in enumerate(group)
        ]
        table = reference_logprobs(self, self._job, self._task.reader, own)
        self._reference = table[:, 0]

    def _collate(self, numbered: Sequence[Numbered]) -> dict[str, Any]:
        rows = [row for one in numbered for row in one.rows]
        batch = self._task.reader.collate(rows)
        assert self._reference is not None, "the reference is made when the training begins"
        batch["reference"] = torch.cat(
            [self._reference[one.row : one.row + len(one.rows)] for one in numbered]
        )
        batch["sizes"] = tuple(len(one.rows) for one in numbered)
        batch["tokens"] = torch.tensor(sum(row.tokens for row in rows))
        batch["item_ids"] = tuple(row.item_id for row in rows)
        return batch

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Return the mean loss of the batch's groups."""
        logprobs = self._task.reader.logprobs(model, inputs)
        squares = [
            rows[:, : len(rows)] for rows in torch.split(logprobs, inputs["sizes"])
        ]  # groups may have fewer than K contexts
        outcome = contrastive_outcome(squares, self._task.loss)
        own = torch.cat([square.diagonal() for square in squares]).detach()
        kl = (inputs["reference"] - own).mean()
        self.measure(model, (*outcome, kl), tokens=inputs["tokens"], groups=len(squares))
        return (outcome.loss, {}) if return_outputs else outcome.loss


def contrastive_outcome(squares: Sequence[Tensor], loss: Literal["info_nce", "sami"]) -> Outcome:
    """Return loss and measurements of groups; every group weighs the same.

    Args:
        squares: per group (K, K), entry [i, j] is log pi(y_j|x,c_i) in nats.
        loss: which of the two is trained.
    """
    losses = torch.stack([_LOSSES[loss](square) for square in squares])
    with torch.no_grad():
        bounds = torch.stack([-info_nce_loss(square) for square in squares])
        found = torch.stack([_retrieval(square) for square in squares])
    return Outcome(losses.mean(), bounds.mean(), found.mean())


def _retrieval(square: Tensor) -> Tensor:
    """Return the () share of columns whose largest entry is the diagonal's alone."""
    own = torch.eye(len(square), dtype=torch.bool, device=square.device)
    others = square.masked_fill(own, -torch.inf).amax(dim=0)
    return (square.diagonal() > others).to(square.dtype).mean()
