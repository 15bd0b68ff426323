"""Muon for the base model's matrices, in float32.

`torch.optim.Muon` takes its products in bfloat16. A processor without bfloat16 arithmetic needs
twenty times as long for them, and then most of a training step (docs/log.md has the measurement).
"""

import math
from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Momentum whose every step is made orthogonal (Jordan et al., 2024).

    Args:
        matrices: two-dimensional weights.
        lr: step size; a tall matrix takes a step larger by the root of its sides' ratio.
        weight_decay: share of a weight that is taken off per step and unit of `lr`.
        momentum: of Nesterov's kind.
    """

    def __init__(
        self, matrices: Iterable[Tensor], *, lr: float, weight_decay: float, momentum: float = 0.95
    ) -> None:
        defaults = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum}
        super().__init__(list(matrices), defaults)

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Move every weight by its orthogonal step."""
        for group in self.param_groups:
            # Matrices of one shape are multiplied together: a layer's alone are too small.
            alike: dict[tuple[int, ...], list[Tensor]] = defaultdict(list)
            for weight in group["params"]:
                alike[min(weight.shape), max(weight.shape)].append(weight)
            for weights in alike.values():
                steps = [_wide(self._momentum(weight, group["momentum"])) for weight in weights]
                for weight, step in zip(weights, orthogonal(torch.stack(steps)), strict=True):
                    rows, columns = weight.shape
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    weight.add_(
                        step.T if rows > columns else step,
                        alpha=-group["lr"] * math.sqrt(max(1.0, rows / columns)),
                    )

    def _momentum(self, weight: Tensor, share: float) -> Tensor:
        """Take the gradient into a weight's running mean; return Nesterov's look ahead."""
        assert weight.grad is not None
        mean = self.state[weight].setdefault("mean", torch.zeros_like(weight))
        mean.lerp_(weight.grad, 1 - share)
        return torch.lerp(weight.grad, mean, share)


def _wide(matrix: Tensor) -> Tensor:
    return matrix.T if matrix.shape[0] > matrix.shape[1] else matrix


def orthogonal(matrices: Tensor) -> Tensor:
    """Return matrices with the same singular vectors, and singular values of about one.

    Newton-Schulz's iteration of the fifth degree, whose coefficients grow small singular values
    quickly and leave all of them between 0.7 and 1.2, which does as well as one.

    Args:
        matrices: (matrices, rows, columns), no more rows than columns.
    """
    first, third, fifth = _COEFFICIENTS
    found: Tensor = matrices / matrices.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(_ITERATIONS):
        gram = found @ found.mT
        found = torch.baddbmm(
            found, torch.baddbmm(gram, gram, gram, beta=third, alpha=fifth), found, beta=first
        )
    return found
