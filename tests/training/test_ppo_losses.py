"""PPO's arithmetic against numbers worked out by hand."""

import math
import statistics
from typing import Any

import pytest
import torch
from torch import Tensor

from mipo_eval.training.losses import (
    generalized_advantages,
    masked_mean,
    mean_kl,
    moments,
    policy_loss,
    token_rewards,
    value_loss,
    whiten,
)
from mipo_eval.training.ppo import KlController, RewardScale, learning_rate_share
from mipo_eval.training.recipes import Optimization

MASK = torch.tensor([[True, True, True], [True, True, False]])
JUNK = 1e6
"""Stands on padding: nothing may look at it."""


def table(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def test_the_reward_is_earned_by_the_last_token() -> None:
    earned = token_rewards(
        table([2.0], [-1.0])[:, 0],
        table([-1.0, -2.0, -3.0], [-1.0, -1.0, JUNK]),
        table([-1.5, -2.0, -1.0], [-3.0, -1.0, -JUNK]),
        MASK,
        kl=0.1,
    )
    torch.testing.assert_close(earned, table([-0.05, 0.0, 2.2], [-0.2, -1.0, 0.0]))


def test_a_prompt_before_the_response_changes_nothing() -> None:
    mask = torch.tensor([[False, True, True, False]])
    rewards = token_rewards(
        table([1.0])[:, 0], table([JUNK, -2.0, -2.0, JUNK]), torch.zeros(1, 4), mask, kl=0.5
    )
    torch.testing.assert_close(rewards, table([0.0, 1.0, 2.0, 0.0]))
    values = table([JUNK, 0.5, 1.0, JUNK])
    found = generalized_advantages(rewards, values, mask, discount=1.0, decay=1.0)
    torch.testing.assert_close(found.returns, table([0.0, 3.0, 2.0, 0.0]))


def test_generalized_advantages_by_hand() -> None:
    found = generalized_advantages(
        table([0.0, 0.5, 1.0], [0.0, 2.0, JUNK]),
        table([0.2, 0.4, 0.6], [1.0, 1.0, JUNK]),
        MASK,
        discount=0.9,
        decay=0.5,
    )
    # First row: deltas 0.16, 0.64, 0.4; second row: -0.1, 1.0, and nothing behind.
    first = [0.16 + 0.45 * (0.64 + 0.45 * 0.4), 0.64 + 0.45 * 0.4, 0.4]
    second = [-0.1 + 0.45 * 1.0, 1.0, 0.0]
    torch.testing.assert_close(found.advantages, table(first, second))
    values = table([0.2, 0.4, 0.6], [1.0, 1.0, 0.0])
    torch.testing.assert_close(found.returns, found.advantages + values)


def test_without_decay_the_return_is_the_sum_of_rewards() -> None:
    rewards = table([0.5, -1.0, 3.0], [1.0, 2.0, JUNK])
    values = table([9.0, -4.0, 0.3], [1.0, 1.0, JUNK])
    found = generalized_advantages(rewards, values, MASK, discount=1.0, decay=1.0)
    torch.testing.assert_close(found.returns, table([2.5, 2.0, 3.0], [3.0, 2.0, 0.0]))


def test_whitening_looks_at_the_mask_only() -> None:
    values = table([1.0, 2.0, 3.0], [4.0, 5.0, JUNK])
    white = whiten(values, MASK, moments(values, MASK))
    deviation = statistics.pstdev([1, 2, 3, 4, 5])
    expected = [(value - 3) / deviation for value in (1, 2, 3, 4, 5)]
    torch.testing.assert_close(white, table(expected[:3], [*expected[3:], 0.0]))
    parts = moments(values[:1], MASK[:1]) + moments(values[1:], MASK[1:])  # of two processes
    torch.testing.assert_close(whiten(values, MASK, parts), white)


def test_equal_values_whiten_to_nothing() -> None:
    values = table([7.0, 7.0, 7.0], [7.0, 7.0, JUNK])
    assert whiten(values, MASK, moments(values, MASK)).abs().max() == 0


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected"),
    [
        (1.0, 2.0, -2.0),
        (1.1, 2.0, -2.2),
        (1.5, 2.0, -2.4),  # no profit beyond 1.2
        (0.5, 2.0, -1.0),  # a good token made less likely costs in full
        (0.5, -2.0, 1.6),  # no profit below 0.8
        (1.5, -2.0, 3.0),
    ],
)
def test_policy_loss_by_hand(ratio: float, advantage: float, expected: float) -> None:
    old = table([-3.0, JUNK])
    mask = torch.tensor([[True, False]])
    new = old + math.log(ratio)
    loss = policy_loss(new, old, table([advantage, JUNK]), mask, clip=0.2)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_beyond_the_clip_there_is_no_gradient() -> None:
    new = table([math.log(1.5), math.log(1.1)]).requires_grad_()
    mask = torch.tensor([[True, True]])
    policy_loss(new, torch.zeros_like(new), torch.ones_like(new), mask, clip=0.2).backward()
    assert new.grad is not None
    torch.testing.assert_close(new.grad, table([0.0, -1.1 / 2]))


@pytest.mark.parametrize(
    ("value", "old", "target", "expected"),
    [
        (1.0, 1.0, 3.0, 2.0),
        (1.1, 1.0, 3.0, 1.9**2 / 2),
        (2.0, 1.0, 3.0, 1.8**2 / 2),  # counts as if it had moved by 0.2 only
        (5.0, 1.0, 1.0, 8.0),
        (-1.0, 0.0, -1.0, 0.8**2 / 2),  # down as far as up
    ],
)
def test_value_loss_by_hand(value: float, old: float, target: float, expected: float) -> None:
    mask = torch.tensor([[True, False]])
    loss = value_loss(table([value, JUNK]), table([old, 0]), table([target, 0]), mask, clip=0.2)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_losses_are_means_over_tokens() -> None:
    values = table([1.0, 2.0, 3.0], [4.0, 5.0, JUNK])
    assert masked_mean(values, MASK).item() == 3.0


def test_kl_is_per_response() -> None:
    policy = table([-1.0, -1.0, -1.0], [-2.0, -2.0, JUNK])
    reference = table([-2.0, -1.0, -3.0], [-1.0, -2.0, -JUNK])
    assert mean_kl(policy, reference, MASK) == pytest.approx((3.0 - 1.0) / 2)


@pytest.mark.parametrize(
    ("target", "kl", "expected"),
    [
        (None, 50.0, 0.1),
        (6.0, 6.0, 0.1),
        (6.0, 6.6, 0.1 * (1 + 0.1 * 8 / 100)),
        (6.0, 60.0, 0.1 * (1 + 0.2 * 8 / 100)),
        (6.0, -3.0, 0.1 * (1 - 0.2 * 8 / 100)),
    ],
)
def test_kl_control(target: float | None, kl: float, expected: float) -> None:
    controller = KlController(coefficient=0.1, target=target, horizon=100)
    controller.update(kl, responses=8)
    assert controller.coefficient == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("schedule", "done", "warmup", "share"),
    [
        ("constant", 0.9, 0.0, 1.0),
        ("constant", 0.05, 0.1, 0.5),
        ("linear", 0.0, 0.0, 1.0),
        ("linear", 0.25, 0.0, 0.75),
        ("linear", 0.55, 0.1, 0.5),
        ("cosine", 0.0, 0.0, 1.0),
        ("cosine", 0.5, 0.0, 0.5),
        ("cosine", 0.75, 0.5, 0.5),
        ("linear", 0.5, 1.0, 0.5),
    ],
)
def test_learning_rate(schedule: Any, done: float, warmup: float, share: float) -> None:
    how = Optimization(schedule=schedule, warmup_ratio=warmup)
    assert learning_rate_share(how, done) == pytest.approx(share)


def test_a_cosine_may_end_above_zero() -> None:
    how = Optimization(schedule="cosine", final_share=0.1)
    shares = [learning_rate_share(how, done) for done in (0.0, 0.5, 1.0)]
    assert shares == pytest.approx([1.0, 0.55, 0.1])


def test_rewards_are_scaled_by_all_that_were_seen() -> None:
    scale = RewardScale()
    assert scale.scaled(3.0) == 0.0
    scale.add([3.0, 3.0])
    assert scale.scaled(3.0) == 0.0
    scale.add([5.0, -4.0, 2.5])
    seen = [3.0, 3.0, 5.0, -4.0, 2.5]
    expected = (4.0 - statistics.mean(seen)) / statistics.pstdev(seen)
    assert scale.scaled(4.0) == pytest.approx(expected, rel=1e-12)
