"""InfoNCE and SAMI (eqs. 6 and 7): K contexts of one prompt, and the K responses to them.

Every response is read under every context of its group, which gives K x K log-probabilities. Each
prompt-with-context is read once, with all K responses behind it (see packed.py).
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from mipo_eval.errors import DataError
from mipo_eval.keys import item_rng
from mipo_eval.training.groups import GroupPolicy, GroupTask
from mipo_eval.training.losses import info_nce_loss, sami_loss
from mipo_eval.training.packed import Kept, TokenGroup
from mipo_eval.training.recipes import ContrastiveSettings
from mipo_eval.training.trainer import Trained, TrainingExample, TrainingJob

_LOSSES = {"info_nce": info_nce_loss, "sami": sami_loss}


def train_contrastive(job: TrainingJob, settings: ContrastiveSettings) -> Trained:
    """Train a model to tell its responses by their contexts.

    Examples of one prompt are grouped (`grouped`); see `with_other_contexts` for data sets in
    which a prompt has one context only. A step is on `optimization.batch_size` groups.

    Reports: loss, mi_lower_bound (the negative of eq. 6), retrieval (share of responses whose own
    context is the likeliest), kl (to the reference, nats per response), tokens_per_second.
    """
    policy = GroupPolicy.load(job)
    fitting = _fitting(job.examples, policy, settings, job.seed)
    held_out = _fitting(job.held_out, policy, settings, job.seed)
    if not fitting.groups:
        reasons = ", ".join(f"{count} x {why}" for why, count in fitting.dropped.items())
        raise DataError(
            f"no prompt has two contexts with different responses ({reasons}): use a suite in "
            "which several users ask the same, or raise optimization.max_length"
        )

    def measure(logprobs: Tensor, batch: Mapping[str, Any]) -> Mapping[str, Tensor]:
        # A group has a row per context, and may have fewer than K contexts.
        squares = [rows[:, : len(rows)] for rows in torch.split(logprobs, batch["sizes"])]
        own = torch.cat([square.diagonal() for square in squares]).detach()
        kl = (batch["reference"][:, 0] - own).mean()
        return contrastive_measures(squares, settings.loss)._asdict() | {"kl": kl}

    task = GroupTask(fitting.groups, held_out.groups, measure, own_only=True)
    notes = policy.train(job, task, settings.attention)
    groups, dropped = fitting.groups, fitting.dropped
    responses = sum(map(len, groups))
    return {"groups": len(groups), "responses": responses, "dropped": dropped, "notes": notes}


def grouped(
    examples: Sequence[TrainingExample], *, contexts: int, seed: int
) -> Kept[tuple[TrainingExample, ...]]:
    """Return groups of 2 to K examples of one prompt, no two with equal contexts.

    A prompt with more than K contexts gives several groups; what does not fill one makes a smaller
    group, and a single rest is left out. Which examples meet depends on the seed and the prompt,
    not on the order of the examples.

    Raises:
        DataError: an example has no response.
    """
    by_prompt: dict[str, dict[str, TrainingExample]] = defaultdict(dict)
    dropped: Counter[str] = Counter()
    for example in sorted(examples, key=lambda one: one.item.key):
        if not example.chosen:
            raise DataError(f"item {example.item.item_id} has no response: sample responses first")
        item = example.item
        context = " ".join(item.context.split())
        if not context:
            dropped["no context"] += 1
        elif context in by_prompt[item.transcript]:
            dropped["a context of this prompt again"] += 1
        else:
            by_prompt[item.transcript][context] = example
    groups = []
    for prompt in sorted(by_prompt):
        found = list(by_prompt[prompt].values())
        item_rng(seed, "groups", prompt).shuffle(found)
        parts = [tuple(found[at : at + contexts]) for at in range(0, len(found), contexts)]
        groups += [part for part in parts if len(part) > 1]
        dropped["no other context to tell it from"] += sum(len(part) == 1 for part in parts)
    return Kept(groups, dict(+dropped))


def _fitting(
    examples: Sequence[TrainingExample],
    policy: GroupPolicy,
    settings: ContrastiveSettings,
    seed: int,
) -> Kept[tuple[TokenGroup, ...]]:
    """Return groups as token ids: a row per context with all responses of the group behind it."""
    codec, longest = policy.codec, policy.longest or float("inf")

    short = [
        one
        for one in examples
        if not one.chosen or len(codec.prompt(one.prompt) + codec.response(one.chosen)) <= longest
    ]
    made = grouped(short, contexts=settings.contexts, seed=seed)
    dropped = Counter(made.dropped)
    dropped["too long"] += len(examples) - len(short)
    groups: list[tuple[TokenGroup, ...]] = []
    for group in made.groups:
        prompts = [tuple(codec.prompt(one.prompt)) for one in group]
        responses = tuple(tuple(codec.response(one.chosen or "")) for one in group)
        if max(map(len, prompts)) + max(map(len, responses)) > longest:
            dropped["too long behind another's context"] += len(group)
            continue
        groups.append(
            tuple(
                TokenGroup(item_id=one.item.item_id, prompt=prompt, responses=responses)
                for one, prompt in zip(group, prompts, strict=True)
            )
        )
    return Kept(groups, dict(+dropped))


class ContrastiveMeasures(NamedTuple):
    """Means over the groups of a batch; scalars."""

    loss: Tensor
    mi_lower_bound: Tensor
    """In nats, at most log K: the negative of eq. 6, whichever loss is trained."""
    retrieval: Tensor
    """Share of responses whose own context is the likeliest of the group's; a tie is none."""


def contrastive_measures(
    squares: Sequence[Tensor], loss: Literal["info_nce", "sami"]
) -> ContrastiveMeasures:
    """Return loss and measurements of groups; every group weighs the same.

    Args:
        squares: per group (K, K), entry [i, j] is log pi(y_j|x,c_i) in nats.
        loss: which of the two is trained.
    """
    losses = torch.stack([_LOSSES[loss](square) for square in squares])
    with torch.no_grad():
        bounds = torch.stack([-info_nce_loss(square) for square in squares])
        found = torch.stack([_retrieval(square) for square in squares])
    return ContrastiveMeasures(losses.mean(), bounds.mean(), found.mean())


def _retrieval(square: Tensor) -> Tensor:
    """Return the () share of columns whose largest entry is the diagonal's alone."""
    own = torch.eye(len(square), dtype=torch.bool, device=square.device)
    others = square.masked_fill(own, -torch.inf).amax(dim=0)
    return (square.diagonal() > others).to(square.dtype).mean()
