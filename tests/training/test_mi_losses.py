"""InfoNCE, SAMI and the MI reward against numbers worked out by hand and on a real model."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mipo_eval.training.losses import info_nce_loss, mi_reward, sami_loss

# Probabilities of two responses (columns) under two contexts (rows).
TWO = torch.tensor([[0.8, 0.1], [0.2, 0.3]], dtype=torch.float64).log()


def test_info_nce_by_hand() -> None:
    own_share = [0.8 / ((0.8 + 0.2) / 2), 0.3 / ((0.1 + 0.3) / 2)]
    expected = -(math.log(own_share[0]) + math.log(own_share[1])) / 2
    assert info_nce_loss(TWO).item() == pytest.approx(expected, rel=1e-12)


def test_sami_by_hand() -> None:
    across = [0.8 / ((0.8 + 0.1) / 2), 0.3 / ((0.2 + 0.3) / 2)]
    transposed = -(math.log(across[0]) + math.log(across[1])) / 2
    expected = (info_nce_loss(TWO).item() + transposed) / 2
    assert sami_loss(TWO).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("loss", [info_nce_loss, sami_loss])
@pytest.mark.parametrize("k", [2, 4, 8])
def test_limits(loss: Any, k: int) -> None:
    assert loss(torch.full((k, k), -37.0)).item() == pytest.approx(0.0, abs=1e-5)
    told_apart = torch.full((k, k), -900.0).fill_diagonal_(-5.0)
    assert loss(told_apart).item() == pytest.approx(-math.log(k), rel=1e-5)


def test_what_a_response_costs_everywhere_does_not_matter_to_info_nce() -> None:
    generator = torch.Generator().manual_seed(0)
    logprobs = torch.randn(3, 4, 4, generator=generator, dtype=torch.float64) * 9
    shifted = logprobs + torch.tensor([-100.0, 0.0, 3.0, 50.0], dtype=torch.float64)
    torch.testing.assert_close(info_nce_loss(shifted), info_nce_loss(logprobs))


def test_sami_is_the_same_for_the_transpose() -> None:
    torch.testing.assert_close(sami_loss(TWO.T), sami_loss(TWO))
    assert not torch.allclose(info_nce_loss(TWO.T), info_nce_loss(TWO))


def test_half_precision_is_added_up_in_float32() -> None:
    half = torch.tensor([[-60.0, -61.0], [-64.0, -59.5]], dtype=torch.bfloat16)
    for loss in (info_nce_loss, sami_loss):
        assert loss(half).dtype == torch.float32
        torch.testing.assert_close(loss(half), loss(half.float()), rtol=0, atol=0)


def test_a_group_of_unequal_sides_is_refused() -> None:
    with pytest.raises(ValueError, match="2 contexts but 3 responses: one of each per row"):
        info_nce_loss(torch.zeros(2, 3))


def test_the_mi_reward_is_a_difference_without_gradient() -> None:
    within = torch.tensor([-10.0, -3.0], requires_grad=True)
    without = torch.tensor([-14.5, -2.0], requires_grad=True)
    reward = mi_reward(within, without)
    assert reward.tolist() == [4.5, -1.0]
    assert not reward.requires_grad


@pytest.fixture(scope="session")
def truth(shared_data: Path) -> dict[str, Any]:
    file = shared_data / "stories260k" / "GROUND_TRUTH_mi_dev.json"
    content: dict[str, Any] = json.loads(file.read_text())
    return content


def test_losses_of_a_real_models_matrix(truth: dict[str, Any]) -> None:
    matrix = torch.tensor(truth["sum_logprob_matrix"], dtype=torch.float64)
    without = torch.tensor(truth["sum_logprob_without_context"], dtype=torch.float64)
    own = matrix.diagonal()
    assert info_nce_loss(matrix).item() == pytest.approx(
        truth["infonce_loss_eq6_sum_logprobs"], rel=1e-12
    )
    assert sami_loss(matrix).item() == pytest.approx(truth["sami_loss_eq7_sum_logprobs"], rel=1e-12)
    assert mi_reward(own, without).tolist() == pytest.approx(
        truth["pointwise_conditional_mi"], rel=1e-12
    )


def test_losses_of_a_real_model(shared_data: Path, truth: dict[str, Any]) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        shared_data / "stories260k" / "hf", dtype=torch.float64
    )

    def logprob(prompt: list[int], response: list[int]) -> Tensor:
        tokens = torch.tensor([prompt + response])
        with torch.inference_mode():
            steps = model(tokens).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        total: Tensor = steps.gather(1, torch.tensor(response)[:, None]).sum()
        return total

    responses = truth["response_ids"]
    matrix = torch.stack(
        [torch.stack([logprob(p, r) for r in responses]) for p in truth["prompt_ids"]]
    )
    without = torch.stack([logprob(truth["prompt_without_context_ids"], r) for r in responses])
    assert info_nce_loss(matrix).item() == pytest.approx(
        truth["infonce_loss_eq6_sum_logprobs"], rel=1e-6
    )
    assert sami_loss(matrix).item() == pytest.approx(truth["sami_loss_eq7_sum_logprobs"], rel=1e-6)
    assert mi_reward(matrix.diagonal(), without).tolist() == pytest.approx(
        truth["pointwise_conditional_mi"], rel=1e-6
    )
