"""Muon in float32 against torch's own, which rounds to bf16 on the way."""

import pytest
import torch

from mipo_eval.demo.pretraining import Muon, orthogonal

SHAPES = ((8, 8), (16, 8), (8, 24), (8, 8))


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 4, 32)])
def test_singular_values_come_near_one(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    matrices = torch.randn(shape)
    left, values, right = torch.linalg.svd(orthogonal(matrices), full_matrices=False)
    assert values.min() > 0.6
    assert values.max() < 1.3
    expected = torch.linalg.svd(matrices, full_matrices=False)
    # The same directions: the product of both sides' vectors is that of the polar factor.
    torch.testing.assert_close(left @ right, expected[0] @ expected[2], atol=1e-3, rtol=0)


def test_a_matrix_of_zeros_stays_zero() -> None:
    assert torch.equal(orthogonal(torch.zeros(1, 4, 4)), torch.zeros(1, 4, 4))


def test_steps_are_those_of_torch() -> None:
    torch.manual_seed(0)
    start = [torch.randn(shape) for shape in SHAPES]
    slopes = [[torch.randn(shape) for shape in SHAPES] for _ in range(4)]
    ended = []
    for kind in (Muon, torch.optim.Muon):
        weights = [torch.nn.Parameter(weight.clone()) for weight in start]
        optimizer = kind(weights, lr=0.02, weight_decay=0.1)
        for step in slopes:
            for weight, slope in zip(weights, step, strict=True):
                weight.grad = slope.clone()
            optimizer.step()
        ended.append([weight.detach() for weight in weights])
    for before, ours, theirs in zip(start, *ended, strict=True):
        assert (ours - before).abs().max() > 0.02
        torch.testing.assert_close(ours, theirs, atol=2e-3, rtol=0)
