"""The trainer of DPO on groups: transformers' Trainer with its loss, its curves and a reference."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import TrainingArguments, set_seed

from mipo_eval.training.group_trainer import GroupTrainer, group_arguments
from mipo_eval.training.job import Job
from mipo_eval.training.losses import dpo_loss
from mipo_eval.training.packing import TokenGroup
from mipo_eval.training.reading import Reader
from mipo_eval.training.reference import reference_logprobs
from mipo_eval.training.trainer import adapter_config, guarded


class Pairs(NamedTuple):
    """What is learned from, and how it is read."""

    reader: Reader
    groups: Sequence[TokenGroup]
    held_out: Sequence[TokenGroup]
    beta: float


@dataclass(frozen=True, slots=True)
class Numbered:
    """A group and its row in the table of reference log-probabilities."""

    row: int
    group: TokenGroup


class Groups(Dataset[Numbered]):
    """Groups as torch wants a data set."""

    def __init__(self, groups: Sequence[TokenGroup], *, first: int) -> None:
        self._groups, self._first = groups, first

    def __len__(self) -> int:
        return len(self._groups)

    def __getitem__(self, index: int) -> Numbered:
        return Numbered(self._first + index, self._groups[index])


def without_dropout(model: Any) -> None:
    """Turn dropout off: policy and reference are one model in two states, and to be compared."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = 0.0


def with_adapter(model: Any, job: Job) -> Any:
    """Return the model with new LoRA weights if the job wants them; they change nothing yet."""
    set_seed(job.seed)
    config = adapter_config(job)
    if config is None:
        return model
    from peft import get_peft_model

    return get_peft_model(model, config)


def make_trainer(model: Any, job: Job, pairs: Pairs, tokenizer: Any) -> Any:
    """Return the trainer of a job, ready for `run_trainer`."""
    args = group_arguments(job, held_out=bool(pairs.held_out))
    return guarded(PairTrainer)(model, args=args, job=job, pairs=pairs, processing_class=tokenizer)


class GroupOutcome(NamedTuple):
    """Means over the prompts of a batch; scalars."""

    loss: Tensor
    reward_chosen: Tensor
    """beta * (log pi - log ref) of the chosen responses."""
    reward_rejected: Tensor
    ranking_accuracy: Tensor
    """Share of pairs whose chosen response has the higher reward; a tie is none."""
    kl: Tensor
    """KL(reference || policy) in nats per response, estimated on the chosen responses: they were
    drawn from the reference."""


class PairTrainer(GroupTrainer):
    """Trains on groups with the DPO loss.

    Args:
        model: the policy, which before its first step is the reference.
        args: of transformers' Trainer.
        job: for the place of the reference's log-probabilities.
        pairs: what is learned from.
        kwargs: more of the Trainer's.
    """

    measures: ClassVar[tuple[str, ...]] = GroupOutcome._fields

    def __init__(
        self, model: Any, *, args: TrainingArguments, job: Job, pairs: Pairs, **kwargs: Any
    ) -> None:
        self._job, self._pairs = job, pairs
        self._reference: Tensor | None = None
        super().__init__(
            model,
            args=args,
            data_collator=self._collate,
            train_dataset=Groups(pairs.groups, first=0),
            eval_dataset=Groups(pairs.held_out, first=len(pairs.groups))
            if pairs.held_out
            else None,
            **kwargs,
        )

    def make_reference(self) -> None:
        """Read what the reference model says of every response, or compute it and keep it."""
        groups = [*self._pairs.groups, *self._pairs.held_out]
        self._reference = reference_logprobs(self, self._job, self._pairs.reader, groups)

    def _collate(self, numbered: Sequence[Numbered]) -> dict[str, Any]:
        batch = self._pairs.reader.collate([one.group for one in numbered])
        assert self._reference is not None, "the reference is made when the training begins"
        rows = self._reference[torch.tensor([one.row for one in numbered])]
        batch["reference"] = rows[:, : batch["present"].shape[1]]
        batch["tokens"] = torch.tensor([one.group.tokens for one in numbered])
        batch["item_ids"] = tuple(one.group.item_id for one in numbered)
        return batch

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Return the mean over prompts of the mean loss of their pairs."""
        policy = self._pairs.reader.logprobs(model, inputs)
        outcome = group_outcome(
            policy, inputs["reference"], inputs["present"], beta=self._pairs.beta
        )
        self.measure(model, outcome, tokens=inputs["tokens"].sum(), groups=len(policy))
        return (outcome.loss, {}) if return_outputs else outcome.loss


def group_outcome(
    policy: Tensor, reference: Tensor, present: Tensor, *, beta: float
) -> GroupOutcome:
    """Return loss and measurements of groups; every prompt weighs the same.

    Args:
        policy: (groups, responses) log pi(y|x) in nats, the chosen response first.
        reference: (groups, responses) the same under the reference model.
        present: (groups, responses) False where a group has fewer responses.
        beta: of the DPO loss.
    """
    pairs = present[:, 1:]

    def mean(values: Tensor) -> Tensor:
        return (values.masked_fill(~pairs, 0.0).sum(dim=1) / pairs.sum(dim=1)).mean()

    losses = dpo_loss(policy[:, :1] - policy[:, 1:], reference[:, :1] - reference[:, 1:], beta=beta)
    rewards = beta * (policy - reference).detach()
    return GroupOutcome(
        loss=mean(losses),
        reward_chosen=rewards[:, 0].mean(),
        reward_rejected=mean(rewards[:, 1:]),
        ranking_accuracy=mean((rewards[:, :1] > rewards[:, 1:]).to(rewards)),
        kl=-rewards[:, 0].mean() / beta,
    )
