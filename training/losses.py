"""The losses of the paper as pure functions of log-probabilities; trainers only call them.

Every log-probability here is of a whole response: in nats, summed over its tokens only.
"""

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
