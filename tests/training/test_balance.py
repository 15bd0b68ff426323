"""The auxiliary loss of a router is trl's, packed or not; where it cannot be had, that is said."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from mipo_eval.training.balance import RouterBalance, reads, router_balance
from mipo_eval.training.contrastive import train_contrastive
from mipo_eval.training.dpo import train_dpo
from mipo_eval.training.logprobs import add_likelihood_head
from mipo_eval.training.losses import dpo_measures
from mipo_eval.training.packed import GroupReader, packing_reader, refusal
from mipo_eval.training.recipes import ContrastiveSettings, DpoSettings
from tests.training.jobs import Curves, examples, job
from tests.training.test_dpo import BETA, stock_trainer
from tests.training.tiny import gradients, group, random_model, with_negatives

MIXTURES: dict[str, dict[str, Any]] = {
    "mixtral": {"num_local_experts": 4, "router_aux_loss_coef": 0.5},
    "qwen2_moe": {
        "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
        "shared_expert_intermediate_size": 32, "router_aux_loss_coef": 0.5,
        "output_router_logits": True,
    },
    "qwen3_moe": {
        "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "head_dim": 8,
        "decoder_sparse_step": 2, "router_aux_loss_coef": 0.5,
    },
    "olmoe": {"num_experts": 4, "num_experts_per_tok": 2, "router_aux_loss_coef": 0.5},
}  # fmt: skip


def _moved(*models: Any) -> None:
    """Move models away from the reference, all to the same place."""
    for one in models:
        torch.manual_seed(1)
        with torch.no_grad():
            for parameter in one.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))


@pytest.mark.parametrize("kind", MIXTURES)
@pytest.mark.parametrize("form", ["split", "dense", "rows"])
def test_equals_trl_with_the_routers_loss(
    kind: str, form: Any, tmp_path: Path, tiny_model: Path
) -> None:
    """Loss and gradients on pairs of unequal lengths, N = 3 and 1."""
    from transformers import AutoTokenizer

    groups = [group(9, 5, 7, 3, 6), group(12, 4, 9, seed=1)]
    model, ours = (random_model(kind, **MIXTURES[kind]) for _ in range(2))
    trainer = stock_trainer(model, groups, tmp_path, AutoTokenizer.from_pretrained(tiny_model))
    assert trainer.aux_loss_enabled
    add_likelihood_head(ours)
    balance, note = router_balance(ours)
    assert balance is not None
    assert note is None
    reader = GroupReader(None) if form == "rows" else packing_reader(ours, form)
    reader = dataclasses.replace(reader, routed=True)
    batch = reader.collate(groups)
    with torch.no_grad():
        reference = reader.logprobs(ours, batch)
    _moved(model, ours)
    theirs = trainer.compute_loss(model, trainer.data_collator(list(trainer.train_dataset)))
    theirs.backward()
    logprobs, routed = reader.routed_logprobs(ours, batch)
    loss = dpo_measures(logprobs, reference, batch["present"], beta=BETA).loss
    aux = balance(routed, reads(batch, torch.tensor([[3, 1, 1, 1], [1, 1, 0, 0]])))
    (loss + balance.coefficient * aux).backward()
    assert balance.coefficient * aux.item() > 0.1  # it would be missed
    torch.testing.assert_close(loss + balance.coefficient * aux, theirs, rtol=1e-5, atol=0.0)
    expected, slope = gradients(model), gradients(ours)
    assert float((slope - expected).norm() / expected.norm()) < 1e-5


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("granitemoe", {"num_local_experts": 4, "num_experts_per_tok": 2}),
        ("phimoe", {"num_local_experts": 4, "num_experts_per_tok": 2}),
        ("jetmoe", {"kv_channels": 8, "num_local_experts": 4}),
        ("ernie4_5_moe", {"moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 32}),
        ("gpt_oss", {"head_dim": 8, "num_local_experts": 4}),
    ],
)
def test_equals_the_architectures_own_where_trl_has_none(kind: str, more: dict[str, Any]) -> None:
    """TRL fails on some of these, and does not know the names of others."""
    groups = [group(9, 5, 7, 3, 6), group(12, 4, 9, seed=1)]
    model = random_model(kind, **more).eval()  # some routers are noisy in training
    pairs = [
        (g, r) for g in groups for rejected in g.responses[1:] for r in (g.responses[0], rejected)
    ]
    ids = torch.zeros(len(pairs), max(len(g.prompt) + len(r) for g, r in pairs), dtype=torch.long)
    for row, (one, response) in enumerate(pairs):
        text = torch.tensor([*one.prompt, *response])
        ids[row, : len(text)] = text
    mask = (ids != 0).long()
    theirs = model(ids, attention_mask=mask, output_router_logits=True, use_cache=False).aux_loss
    add_likelihood_head(model)
    balance, _ = router_balance(model)
    assert balance is not None
    packable = refusal(model, "split", longest=30) is None
    reader = packing_reader(model, "split") if packable else GroupReader(None)
    assert packable == (kind != "gpt_oss")
    batch = dataclasses.replace(reader, routed=True).collate(groups)
    _, routed = reader.routed_logprobs(model, batch)
    ours = balance(routed, reads(batch, torch.tensor([[3, 1, 1, 1], [1, 1, 0, 0]])))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=0.0)


def _saved(kind: str, folder: Path, tokenizer: Path, **more: Any) -> Path:
    from transformers import AutoTokenizer

    made = AutoTokenizer.from_pretrained(tokenizer)
    random_model(kind, vocab_size=len(made), **more).save_pretrained(folder)
    made.save_pretrained(folder)
    return folder


@pytest.mark.filterwarnings("ignore:The following .*_pattern keys did not match")
@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize("lora", [None, 4])
def test_dpo_adds_it_to_every_step(
    lora: int | None, checkpointed: bool, tiny_model: Path, tmp_path: Path
) -> None:
    curves = Curves()
    model = _saved("mixtral", tmp_path / "base", tiny_model, **MIXTURES["mixtral"])
    plan = job(
        model, tmp_path / "out", with_negatives(), report=curves, lora_rank=lora,
        gradient_checkpointing=checkpointed,
    )  # fmt: skip
    plan = dataclasses.replace(plan, held_out=plan.examples[:3])
    assert train_dpo(plan, DpoSettings())["notes"] == ()
    first, aux = curves.of("loss")[0], curves.of("aux_loss")[0]
    assert aux > 1.0
    assert first == pytest.approx(0.6931 + 0.5 * aux, abs=1e-3)
    assert curves.of("held_out_loss")[0] == pytest.approx(
        0.6931 + 0.5 * curves.of("held_out_aux_loss")[0], abs=1e-3
    )


def test_contrastive_training_adds_it(tiny_model: Path, tmp_path: Path) -> None:
    """InfoNCE's loss is the negative of its bound."""
    curves = Curves()
    model = _saved("mixtral", tmp_path / "base", tiny_model, **MIXTURES["mixtral"])
    plan = job(model, tmp_path / "out", examples(), report=curves, batch_size=2)
    train_contrastive(plan, ContrastiveSettings(contexts=3))
    assert curves.of("loss")[0] == pytest.approx(
        0.5 * curves.of("aux_loss")[0] - curves.of("mi_lower_bound")[0], abs=1e-3
    )


def test_a_token_counts_as_often_as_unpacked_rows_have_it() -> None:
    groups = [group(3, 2, 1), group(2, 1, seed=1)]
    times = torch.tensor([[2, 1], [1, 0]])
    reader = packing_reader(random_model("qwen2"), "split")
    whole = dataclasses.replace(reader, routed=True).collate(groups)
    # The prompt's last token stands before each response, whose own last token stands there, too.
    assert reads(whole, times).tolist() == [[3, 3, 2, 2, 2, 1, 1], [1, 1, 1, 0, 0, 0, 0]]
    rows = GroupReader(None, routed=True).collate(groups)
    assert reads(rows, times).tolist() == [[2] * 5, [1] * 4 + [0], [1] * 3 + [0] * 2]


@pytest.mark.parametrize(
    ("kind", "more", "coefficient"),
    [
        ("qwen2", {}, None),
        ("mixtral", {"router_aux_loss_coef": 0.0, "num_local_experts": 4}, None),
        ("jetmoe", {"kv_channels": 8, "num_local_experts": 4, "aux_loss_coef": 0.02}, 0.02),
        (
            "doge",  # its router has keys of two halves
            {"is_moe": True, "num_experts": 16, "num_experts_per_tok": 2, "head_dim": 8},
            "the router's auxiliary loss (coefficient 0.001) is left out",
        ),
    ],
)
def test_what_other_configurations_ask_for(
    kind: str, more: dict[str, Any], coefficient: float | str | None
) -> None:
    """None; the same loss under another name; one of another kind."""
    balance, note = router_balance(random_model(kind, **more))
    if isinstance(coefficient, str):
        assert balance is None
        assert note is not None
        assert note.startswith(coefficient)
    else:
        assert note is None
        assert (balance and balance.coefficient) == coefficient
        assert balance is None or isinstance(balance, RouterBalance)
