"""The losses of the paper as pure functions of log-probabilities; trainers only call them.

Those of pairs and groups take log-probabilities of whole responses: in nats, summed over their
tokens only. PPO's are (batch, tokens), in nats too; their `mask` is True where the next token is
of the response, its end token included, and False on the prompt before and the padding behind.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from mipo_eval.errors import ConfigError
from mipo_eval.plugins import Plugin
from mipo_eval.training.recipes import BatchOf


def dpo_loss(policy_margin: Tensor, reference_margin: Tensor, *, beta: float) -> Tensor:
    """Per-pair DPO loss, eq. 5: -log sigmoid(beta * (policy - reference)).

    Args:
        policy_margin: (batch,) log pi(chosen|x) - log pi(rejected|x) under the learned policy.
        reference_margin: (batch,) the same under the frozen reference model.
        beta: strength of the pull to the reference; unitless.

    Returns:
        (batch,) losses; log(2) where the two margins are equal.
    """
    return -functional.logsigmoid(beta * (policy_margin - reference_margin))


class PairLogProbs(NamedTuple):
    """What a loss on pairs sees: log-probabilities of responses in nats, summed over their tokens.

    All tensors are (pairs,). A plug-in's loss is a function of this that returns (pairs,) losses.
    """

    policy_chosen: Tensor
    """log pi(chosen|x) under the learned policy; gradients flow through it."""
    policy_rejected: Tensor
    reference_chosen: Tensor
    """The same under the frozen reference model."""
    reference_rejected: Tensor
    tokens_chosen: Tensor
    """Tokens of the response, its end included."""
    tokens_rejected: Tensor
    beta: float
    """`settings.beta`."""


def info_nce_loss(logprobs: Tensor) -> Tensor:
    """InfoNCE loss of a group, eq. 6: each response is to be told by its own context.

    -(1/K) sum_j log( pi(y_j|x,c_j) / ((1/K) sum_i pi(y_j|x,c_i)) )

    Args:
        logprobs: (..., K, K) entry [i, j] is log pi(y_j|x,c_i): contexts down, responses across.
            The diagonal holds each response under its own context.

    Returns:
        (...) nats. 0 where contexts change nothing, -log K at best; its negative is the lower
        bound of the mutual information of context and response.

    Raises:
        ValueError: the last two dimensions differ.
    """
    return -_own_among(logprobs, dim=-2)


def sami_loss(logprobs: Tensor) -> Tensor:
    """SAMI loss of a group, eq. 7: InfoNCE in both directions.

    The mean of eq. 6 and of its transpose, in which each context is to be told by its own
    response among the group's responses.

    Args:
        logprobs: (..., K, K) as in `info_nce_loss`.

    Returns:
        (...) nats; between -log K and infinity, 0 where all entries are equal.

    Raises:
        ValueError: the last two dimensions differ.
    """
    return -(_own_among(logprobs, dim=-2) + _own_among(logprobs, dim=-1)) / 2


def _own_among(logprobs: Tensor, *, dim: int) -> Tensor:
    """Return (...) the mean over the diagonal of log( own / mean along `dim` )."""
    contexts, responses = logprobs.shape[-2:]
    if contexts != responses:
        raise ValueError(f"{contexts} contexts but {responses} responses: one of each per row")
    # Sums over hundreds of tokens differ by less than half precision resolves.
    wide = logprobs.float() if logprobs.dtype.itemsize < 4 else logprobs
    own = wide.diagonal(dim1=-2, dim2=-1)
    return (own - torch.logsumexp(wide, dim=dim) + math.log(contexts)).mean(dim=-1)


def mi_reward(with_context: Tensor, without_context: Tensor) -> Tensor:
    """Mutual-information reward, eq. 15: log pi(y|x,c) - log pi(y|x) under the learned policy.

    The prompt x is visible in both terms. A reward is a number, not a path to the weights: the
    result carries no gradient.

    Args:
        with_context: (batch,) log pi(y|x,c).
        without_context: (batch,) log pi(y|x).

    Returns:
        (batch,) nats; 0 where the context changes nothing, negative where it makes the response
        less likely.
    """
    return (with_context - without_context).detach()


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return the () mean of the values where the mask is True; NaN where it is nowhere."""
    return values.masked_select(mask).mean()


def moments(values: Tensor, mask: Tensor) -> Tensor:
    """Return (3,) the number, sum and sum of squares of what the mask lets through, in float64.

    Those of several processes are added up before `whiten` uses them.
    """
    chosen = values.masked_select(mask).double()
    return torch.stack([chosen.new_tensor(len(chosen)), chosen.sum(), (chosen**2).sum()])


def whiten(values: Tensor, mask: Tensor, moments: Tensor) -> Tensor:
    """Return values of mean 0 and variance 1 over the mask, 0 elsewhere.

    Args:
        values: (batch, tokens).
        mask: (batch, tokens).
        moments: (3,) see `moments`. The variance is that of the values themselves (divided by
            their number); values that are all equal become 0.
    """
    count, total, squares = moments
    mean = total / count
    scale = torch.rsqrt((squares / count - mean**2).clamp(min=0) + 1e-8)
    white: Tensor = (values - mean) * scale
    return white.to(values.dtype).masked_fill(~mask, 0.0)


def token_rewards(
    rewards: Tensor, logprobs: Tensor, reference_logprobs: Tensor, mask: Tensor, *, kl: float
) -> Tensor:
    """Return what each token earns: the KL penalty, and on the last token the reward.

    Args:
        rewards: (batch,) of whole responses.
        logprobs: (batch, tokens) under the policy that wrote the responses.
        reference_logprobs: (batch, tokens) under the frozen reference model.
        mask: (batch, tokens); each row has at least one token.
        kl: coefficient of the penalty, in reward per nat.

    Returns:
        (batch, tokens), 0 outside of the response.
    """
    earned = (-kl * (logprobs - reference_logprobs)).masked_fill(~mask, 0.0)
    places = torch.arange(mask.shape[1], device=mask.device)
    last = (places * mask).argmax(dim=1, keepdim=True)
    return earned.scatter_add(1, last, rewards[:, None].to(earned.dtype))


class Advantages(NamedTuple):
    """Both (batch, tokens), 0 outside of the response."""

    advantages: Tensor
    """How much better a token was than the critic expected, not whitened."""
    returns: Tensor
    """What the critic should have said: advantages + values."""


def generalized_advantages(
    rewards: Tensor, values: Tensor, mask: Tensor, *, discount: float, decay: float
) -> Advantages:
    """Return generalized advantage estimates (Schulman et al. 2016, eq. 16).

    A_t = delta_t + discount * decay * A_(t+1), delta_t = r_t + discount * V_(t+1) - V_t, with
    nothing behind the last token of a response.

    Args:
        rewards: (batch, tokens) per token.
        values: (batch, tokens) the critic's, before each token is seen.
        mask: (batch, tokens).
        discount: gamma, 0-1.
        decay: lambda, 0-1; 1 gives the plain return minus the value.
    """
    values = values.masked_fill(~mask, 0.0)
    rewards = rewards.masked_fill(~mask, 0.0)
    following = torch.cat([values[:, 1:], torch.zeros_like(values[:, :1])], dim=1)
    deltas = rewards + discount * following - values
    running = torch.zeros_like(values[:, 0])
    found = []
    for step in reversed(range(values.shape[1])):
        running = deltas[:, step] + discount * decay * running
        found.append(running)
    advantages = torch.stack(found[::-1], dim=1).masked_fill(~mask, 0.0)
    return Advantages(advantages, advantages + values)


def policy_loss(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, mask: Tensor, *, clip: float
) -> Tensor:
    """Return the () clipped policy loss (Schulman et al. 2017, eq. 7), the mean over tokens.

    `old_logprobs` are of the policy that wrote the responses; the ratio to it may move as far as
    `clip` away from 1 with profit.
    """
    ratio = (logprobs - old_logprobs).masked_fill(~mask, 0.0).exp()
    free = -advantages * ratio
    held = -advantages * ratio.clamp(1 - clip, 1 + clip)
    return masked_mean(torch.maximum(free, held), mask)


def value_loss(
    values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor, *, clip: float
) -> Tensor:
    """Return the () clipped value loss: half the larger squared error, the mean over tokens.

    `old_values` are of the critic when the responses were written; from them a value may move as
    far as `clip`, in units of the reward, with profit.
    """
    held = old_values + (values - old_values).clamp(-clip, clip)
    worse = torch.maximum((values - returns) ** 2, (held - returns) ** 2)
    return masked_mean(worse, mask) / 2


def mean_kl(logprobs: Tensor, reference_logprobs: Tensor, mask: Tensor) -> float:
    """Return the KL divergence of the policy from the reference, in nats per response.

    Estimated from the policy's own samples: unbiased, though one batch may be below zero.
    """
    return float((logprobs - reference_logprobs).masked_fill(~mask, 0.0).sum(dim=1).mean())


class DpoMeasures(NamedTuple):
    """Means over the pairs, or over the prompts, of a batch; scalars."""

    loss: Tensor
    reward_chosen: Tensor
    """beta * (log pi - log ref) of the chosen responses."""
    reward_rejected: Tensor
    ranking_accuracy: Tensor
    """Share of pairs whose chosen response has the higher reward; a tie is none."""
    kl: Tensor
    """KL(reference || policy) in nats per response, estimated on the chosen responses: they were
    drawn from the reference."""


def own_losses(own: Plugin, policy: Tensor, batch: Mapping[str, Any], *, beta: float) -> Tensor:
    """Return the (groups, responses - 1) losses that a plug-in gives the pairs of a batch.

    Raises:
        ConfigError: it failed, or returned something else than a loss for each pair.
    """
    pairs = batch["present"][:, 1:]

    def sides(values: Tensor) -> tuple[Tensor, Tensor]:
        return values[:, :1].expand_as(pairs)[pairs], values[:, 1:][pairs]

    policies, references, tokens = map(sides, (policy, batch["reference"], batch["lengths"]))
    found = own(PairLogProbs(*policies, *references, *tokens, beta))
    count = int(pairs.sum())
    if not isinstance(found, Tensor) or found.shape != (count,):
        shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ConfigError(f"{own}: it returned {shape}, not a tensor of {count} losses, ({count},)")
    return torch.zeros_like(policy[:, 1:]).masked_scatter(pairs, found.to(policy))


def dpo_measures(
    policy: Tensor,
    reference: Tensor,
    present: Tensor,
    *,
    beta: float,
    batch_of: BatchOf = "pairs",
    losses: Tensor | None = None,
) -> DpoMeasures:
    """Return loss and measurements of groups; every pair, or every prompt, weighs the same.

    All are (groups, responses): log pi(y|x) in nats of policy and of reference, the chosen
    response first, and what is `present`, False where a group has fewer responses. `losses` are
    of another loss than DPO's, a column less.
    """
    pairs = present[:, 1:]
    together = pairs.sum() if batch_of == "pairs" else pairs.sum(dim=1, keepdim=True) * len(pairs)
    weights = pairs / together  # (groups, responses - 1), summing to 1

    def mean(values: Tensor) -> Tensor:
        return (values.masked_fill(~pairs, 0.0) * weights).sum()

    if losses is None:
        margins = (table[:, :1] - table[:, 1:] for table in (policy, reference))
        losses = dpo_loss(*margins, beta=beta)
    rewards = beta * (policy - reference).detach()
    reward_chosen = (rewards[:, 0] * weights.sum(dim=1)).sum()
    return DpoMeasures(
        loss=mean(losses),
        reward_chosen=reward_chosen,
        reward_rejected=mean(rewards[:, 1:]),
        ranking_accuracy=mean((rewards[:, :1] > rewards[:, 1:]).to(rewards)),
        kl=-reward_chosen / beta,
    )
