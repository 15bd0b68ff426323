"""The DPO loss, by hand, by its laws, and by a trace of real weights in float64."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from mipo_eval.training.logprobs import add_likelihood_head
from mipo_eval.training.losses import dpo_loss, dpo_measures
from mipo_eval.training.packed import GroupReader, TokenGroup, packing_reader


@pytest.mark.parametrize(
    ("policy", "reference", "beta", "loss"),
    [
        (0.0, 0.0, 0.1, math.log(2)),
        (-40.0, -40.0, 0.1, math.log(2)),  # only what changed counts
        (math.log(3), 0.0, 1.0, math.log(4 / 3)),  # sigmoid(log 3) = 3/4
        (-math.log(3), 0.0, 1.0, math.log(4)),
        (5.0, -5.0, 0.1, math.log(1 + math.exp(-1))),
        (-1e4, 0.0, 1.0, 1e4),  # no overflow on the wrong side
        (1e4, 0.0, 1.0, 0.0),
    ],
)
def test_dpo_loss(policy: float, reference: float, beta: float, loss: float) -> None:
    found = dpo_loss(torch.tensor([policy]), torch.tensor([reference]), beta=beta)
    torch.testing.assert_close(found, torch.tensor([loss]))


def test_prompts_weigh_the_same_whatever_is_left_of_their_negatives() -> None:
    policy = torch.tensor([[1.0, 0.0, -1.0], [2.0, 3.0, 0.0]])
    reference = torch.zeros(2, 3)
    present = torch.tensor([[True, True, True], [True, True, False]])
    found = dpo_measures(policy, reference, present, beta=0.5, batch_of="prompts")
    first = [math.log1p(math.exp(-0.5)), math.log1p(math.exp(-1.0))]
    second = math.log1p(math.exp(0.5))
    assert float(found.loss) == pytest.approx((sum(first) / 2 + second) / 2)
    assert float(found.ranking_accuracy) == pytest.approx(0.5)  # both pairs of one, none of other
    assert float(found.reward_chosen) == pytest.approx(0.75)
    assert float(found.reward_rejected) == pytest.approx((0.5 * (0.0 - 1.0) / 2 + 0.5 * 3.0) / 2)
    assert float(found.kl) == pytest.approx(-1.5)


@pytest.mark.parametrize("attention", ["split", "dense", None])
def test_real_dpo_trace_in_float64(shared_data: Path, attention: Any) -> None:
    """Five steps of plain gradient descent on four pairs, computed elsewhere, to 1e-6."""
    from transformers import AutoModelForCausalLM

    folder = shared_data / "stories260k"
    facts = json.loads((folder / "GROUND_TRUTH_dpo_dev.json").read_text())["dev"]
    text = json.loads((folder / "GROUND_TRUTH_mi_dev.json").read_text())
    model = AutoModelForCausalLM.from_pretrained(folder / "hf", dtype=torch.float64)
    add_likelihood_head(model)
    reader = packing_reader(model, attention) if attention else GroupReader(None)
    responses = [tuple(ids) for ids in text["response_ids"]]
    count = len(responses)
    batch = reader.collate(
        [
            TokenGroup(
                item_id=str(i),
                prompt=tuple(prompt),
                responses=(responses[i], responses[(i + 1) % count]),
            )
            for i, prompt in enumerate(text["prompt_ids"])
        ]
    )
    with torch.no_grad():
        reference = reader.logprobs(model, batch)
    matrix = torch.tensor(text["sum_logprob_matrix"], dtype=torch.float64)
    torch.testing.assert_close(reference[:, 0], matrix.diag(), rtol=1e-6, atol=1e-6)
    descent = torch.optim.SGD(model.parameters(), lr=facts["lr"])
    for step in facts["trace"]:
        policy = reader.logprobs(model, batch)
        found = dpo_measures(policy, reference, batch["present"], beta=facts["beta"])
        margins = facts["beta"] * ((policy - reference)[:, 0] - (policy - reference)[:, 1])
        assert found.loss.item() == pytest.approx(step["loss"], abs=1e-6)
        assert margins.tolist() == pytest.approx(step["margins"], abs=1e-6)
        assert float(found.ranking_accuracy) == step["reward_accuracy"]
        descent.zero_grad()
        found.loss.backward()
        descent.step()
