"""MIPO: DPO on self-made pairs, where a prompt and its N + 1 responses are read as one sequence.

With the sigmoid loss on response tokens only it is what `trl.DPOTrainer` computes on the N pairs.
What differs is the work: pairs of one prompt that meet in a forward pass are read as one row, the
prompt and the chosen response once, and the reference model's log-probabilities are computed once
before the training, all of a prompt's together, and kept.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from mipo_eval.errors import ConfigError, DataError
from mipo_eval.keys import digest
from mipo_eval.plugins import plugin_of
from mipo_eval.training.groups import GroupPolicy, GroupTask
from mipo_eval.training.logprobs import Codec
from mipo_eval.training.losses import dpo_measures, own_losses
from mipo_eval.training.packed import Kept, TokenGroup
from mipo_eval.training.recipes import LOSSES, DpoSettings
from mipo_eval.training.saved import MarginPairs
from mipo_eval.training.trainer import (
    Trained,
    TrainingExample,
    TrainingJob,
)

_MEASURED = 24
"""Pairs on which it is measured whether the saved checkpoint is what was trained. Three models read
them, on a processor in as much time as some steps of the training take."""


def train_dpo(job: TrainingJob, settings: DpoSettings) -> Trained:
    """Train on pairs, each of which, or each prompt of which, weighs the same."""
    _check(job, settings)
    policy = GroupPolicy.load(job)
    fitting = tokenize(job.examples, policy.codec, longest=policy.longest)
    held_out = tokenize(job.held_out, policy.codec, longest=policy.longest)
    if not fitting.groups:
        raise DataError(
            f"none of {len(job.examples)} examples fits into {policy.longest} tokens: raise "
            "optimization.max_length, or use a model with a longer context"
        )

    own = plugin_of("losses", settings.loss, LOSSES, "settings.loss")

    def measure(logprobs: Tensor, batch: Mapping[str, Any]) -> Mapping[str, Tensor]:
        reference, present = batch["reference"], batch["present"]
        losses = own_losses(own, logprobs, batch, beta=settings.beta) if own else None
        found = dpo_measures(
            logprobs,
            reference,
            present,
            beta=settings.beta,
            batch_of=settings.batch_of,
            losses=losses,
        )
        return found._asdict()

    # A group of pairs is one row: the prompt with its chosen and its rejected responses.
    groups, others = ([(one,) for one in kept.groups] for kept in (fitting, held_out))
    task = GroupTask(
        groups,
        others,
        measure,
        pairwise=settings.batch_of == "pairs",
        margin=_margin_pairs(fitting.groups, settings.beta, job.seed),
    )
    notes = policy.train(job, task, settings.attention)
    pairs = sum(len(group.responses) - 1 for group in fitting.groups)
    dropped = fitting.dropped
    return {"examples": len(groups), "pairs": pairs, "dropped": dropped, "notes": notes}


def _margin_pairs(groups: Sequence[TokenGroup], beta: float, seed: int) -> MarginPairs:
    """Return drawn pairs, one of a group, on which the saved checkpoint is compared."""
    order = sorted(groups, key=lambda group: digest([seed, group.item_id]))[:_MEASURED]
    chosen, rejected = ([(one.prompt, one.responses[at]) for one in order] for at in (0, 1))
    return MarginPairs(chosen, rejected, beta)


def _check(job: TrainingJob, settings: DpoSettings) -> None:
    if not settings.beta > 0:
        raise ConfigError(f"settings.beta is {settings.beta:g}: it must be above 0")
    for example in (*job.examples, *job.held_out):
        if not example.chosen or not example.rejected:
            missing = "rejected" if example.chosen else "chosen"
            raise DataError(
                f"item {example.item.item_id} has no {missing} response: make pairs first"
            )


def tokenize(
    examples: Sequence[TrainingExample], codec: Codec, *, longest: int | None
) -> Kept[TokenGroup]:
    """Return pairs as token ids, without what has more than `longest` tokens with its prompt."""
    groups, dropped = [], Counter({"examples": 0, "negatives": 0})
    for example in examples:
        prompt = tuple(codec.prompt(example.prompt))
        texts = (example.chosen or "", *example.rejected)
        chosen, *rejected = (tuple(codec.response(text)) for text in texts)
        room = float("inf") if longest is None else longest - len(prompt)
        kept = [response for response in rejected if len(response) <= room]
        dropped["negatives"] += len(rejected) - len(kept)
        if len(chosen) > room or not kept:
            dropped["examples"] += 1
            continue
        name = example.item.item_id
        groups.append(TokenGroup(item_id=name, prompt=prompt, responses=(chosen, *kept)))
    return Kept(groups, dict(+dropped))
