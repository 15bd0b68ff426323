"""The losses of the paper as pure functions of log-probabilities; trainers only call them.

Every log-probability here is of a whole response: in nats, summed over its tokens only.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional


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
