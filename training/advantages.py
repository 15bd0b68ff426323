"""PPO's arithmetic, without models: advantages, clipped losses, reward scaling, KL control.

Tensors are (batch, tokens). `mask` is True where the next token is of the response, its end token
included, and False on the prompt before and on the padding behind. Log-probabilities are in nats.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor


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

    Args:
        logprobs: (batch, tokens) under the policy being trained.
        old_logprobs: (batch, tokens) under the policy that wrote the responses.
        advantages: (batch, tokens).
        mask: (batch, tokens).
        clip: how far the ratio of the two may move away from 1 with profit.
    """
    ratio = (logprobs - old_logprobs).masked_fill(~mask, 0.0).exp()
    free = -advantages * ratio
    held = -advantages * ratio.clamp(1 - clip, 1 + clip)
    return masked_mean(torch.maximum(free, held), mask)


def value_loss(
    values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor, *, clip: float
) -> Tensor:
    """Return the () clipped value loss: half the larger squared error, the mean over tokens.

    Args:
        values: (batch, tokens) of the critic being trained.
        old_values: (batch, tokens) of the critic when the responses were written.
        returns: (batch, tokens).
        mask: (batch, tokens).
        clip: how far a value may move with profit, in units of the reward.
    """
    held = old_values + (values - old_values).clamp(-clip, clip)
    worse = torch.maximum((values - returns) ** 2, (held - returns) ** 2)
    return masked_mean(worse, mask) / 2


def mean_kl(logprobs: Tensor, reference_logprobs: Tensor, mask: Tensor) -> float:
    """Return the KL divergence of the policy from the reference, in nats per response.

    Estimated from the policy's own samples: unbiased, though one batch may be below zero.
    """
    return float((logprobs - reference_logprobs).masked_fill(~mask, 0.0).sum(dim=1).mean())


def learning_rate_share(
    schedule: Literal["linear", "cosine", "constant"], done: float, warmup: float
) -> float:
    """Return the share of the learning rate to use when a share `done` (0-1) of steps is made.

    It rises from 0 over the share `warmup` of all steps, then stays or falls to 0 at the end.
    """
    if done < warmup:
        return done / warmup
    left = (1 - done) / (1 - warmup) if warmup < 1 else 0.0
    cosine = (1 - math.cos(math.pi * left)) / 2
    return {"constant": 1.0, "linear": left, "cosine": cosine}[schedule]


@dataclass(slots=True, kw_only=True)
class KlController:
    """The coefficient of the KL penalty: fixed, or steered to a target (Ziegler et al. 2019)."""

    coefficient: float
    target: float | None = None
    """KL to hold, in nats per response; None keeps the coefficient."""
    horizon: int = 10_000
    """Responses over which a deviation is made up for."""

    def update(self, kl: float, responses: int) -> None:
        """Raise the coefficient where the KL is above its target, lower it where it is below."""
        if self.target is not None:
            error = min(max(kl / self.target - 1, -0.2), 0.2)
            self.coefficient *= 1 + error * responses / self.horizon


@dataclass(slots=True, kw_only=True)
class RewardScale:
    """Rewards in units of what was seen so far: mean and variance of all of them (Welford)."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    """Sum of squared distances from the mean."""

    def add(self, rewards: list[float]) -> None:
        """Take in the rewards of a batch."""
        for reward in rewards:
            self.count += 1
            distance = reward - self.mean
            self.mean += distance / self.count
            self.squares += distance * (reward - self.mean)

    def scaled(self, reward: float) -> float:
        """Return a reward as its distance from the mean in standard deviations; 0 without any."""
        deviation = math.sqrt(self.squares / self.count) if self.count else 0.0
        return (reward - self.mean) / deviation if deviation else 0.0
