"""The checkpoint's habits stay out of a training: noise, odd configurations, ends it forgot."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from mipo_eval.errors import ModelError
from mipo_eval.training.actor_critic import ActorCritic
from mipo_eval.training.dpo import train_dpo
from mipo_eval.training.grpo import train_grpo
from mipo_eval.training.recipes import DpoSettings, GrpoSettings, PpoSettings, SftSettings
from mipo_eval.training.sft import train_sft
from mipo_eval.training.trainer import load_policy, without_noise
from tests.training.jobs import Curves, examples, job, weights
from tests.training.tiny import random_model, with_negatives

NOISY: dict[str, dict[str, Any]] = {
    "gpt2": {"resid_pdrop": 0.3, "embd_pdrop": 0.3, "attn_pdrop": 0.3},
    "opt": {"dropout": 0.3, "attention_dropout": 0.3, "ffn_dim": 64, "word_embed_proj_dim": 32},
    "seed_oss": {"residual_dropout": 0.3, "attention_dropout": 0.3, "head_dim": 8},
    "mixtral": {"router_jitter_noise": 0.5, "num_local_experts": 4},
    "phimoe": {"input_jitter_noise": 0.5, "num_local_experts": 4},
    "gptj": {"resid_pdrop": 0.3, "embd_pdrop": 0.3, "attn_pdrop": 0.3, "rotary_dim": 4},
    "falcon": {"hidden_dropout": 0.3, "attention_dropout": 0.3},
    "qwen2": {"attention_dropout": 0.3},
}
"""Architectures and the names they have for what is random in training."""


def _read(model: Any) -> Any:
    torch.manual_seed(1)
    return model(torch.arange(3, 33)[None], use_cache=False).logits.detach()


@pytest.mark.parametrize("kind", NOISY)
def test_training_computes_what_evaluation_does(kind: str) -> None:
    model = random_model(kind, **NOISY[kind])
    expected = _read(model.eval())
    assert not torch.allclose(_read(model.train()), expected, atol=1e-3), "it is noisy"
    quiet = without_noise(model)
    for _ in range(2):  # a trainer says so before every step
        assert torch.equal(_read(torch.nn.ModuleList([quiet]).train()[0]), expected)
    assert quiet.training


@pytest.mark.parametrize("kind", ["gpt2", "opt", "seed_oss", "mixtral", "qwen2"])
def test_activations_are_still_recomputed(kind: str) -> None:
    """Layers that are read twice have to know that they train, and are quiet all the same."""
    model = without_noise(random_model(kind, **NOISY[kind]))
    expected = _read(model.eval())
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    layers = [one for one in model.modules() if type(one).__name__.endswith("DecoderLayer")]
    assert all(layer.training for layer in layers)
    assert torch.equal(_read(model), expected)


def _saved(kind: str, folder: Path, tokenizer: Path, **more: Any) -> Path:
    from transformers import AutoTokenizer

    made = AutoTokenizer.from_pretrained(tokenizer)
    random_model(kind, vocab_size=len(made), **NOISY[kind], **more).save_pretrained(folder)
    made.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["seed_oss", "opt", "mixtral"])
def test_the_first_loss_is_log_2(kind: str, tiny_model: Path, tmp_path: Path) -> None:
    curves = Curves()
    model = _saved(kind, tmp_path / "noisy", tiny_model)
    train_dpo(job(model, tmp_path / "out", with_negatives(), report=curves), DpoSettings())
    balance = 0.001 * (curves.of("aux_loss") or [0.0])[0]  # of a router, as much as it was asked
    assert curves.of("loss")[0] == pytest.approx(0.6931 + balance, abs=1e-4)
    said = json.loads((tmp_path / "out" / "config.json").read_text())
    for name in ("residual_dropout", "dropout", "router_jitter_noise"):
        if name in NOISY[kind]:
            assert said[name] == NOISY[kind][name], "who trains it on has its habits again"


def test_noise_that_stays_stops_the_training(tiny_model: Path, tmp_path: Path) -> None:
    """Falcon's layers read the rate in the configuration when they are recomputed."""
    model = _saved("falcon", tmp_path / "noisy", tiny_model, alibi=False)
    plan = job(model, tmp_path / "out", with_negatives(), gradient_checkpointing=True)
    with pytest.raises(
        ModelError, match=r"^the first loss is \d\.\d{4}, and not log 2 = 0\.6931: "
    ):
        train_dpo(plan, DpoSettings())
    assert not (tmp_path / "out" / "config.json").exists()


def test_every_method_trains_without_noise(tiny_model: Path, tmp_path: Path) -> None:
    model = _saved("qwen2", tmp_path / "noisy", tiny_model)
    config = json.loads((model / "config.json").read_text()) | {"attention_dropout": 0.9}
    (model / "config.json").write_text(json.dumps(config))
    plan = job(model, tmp_path / "out", examples())
    assert all(not one.training for one in list(load_policy(plan)[0].train().modules())[1:])
    models = ActorCritic(plan, PpoSettings(max_new_tokens=4, rollout_batch_size=4))
    ids = torch.arange(3, 33)[None]
    for one in (models.actor, models.critic):
        first, second = (one.train()(ids, use_cache=False).logits for _ in range(2))
        assert torch.equal(first, second)


@pytest.mark.parametrize("lora", [None, 2])
def test_a_configuration_that_cannot_be_saved_loses_no_weights(
    lora: int | None, tiny_model: Path, tmp_path: Path
) -> None:
    """A temperature without do_sample: transformers loads that, and refuses to write it."""
    model, out = tmp_path / "odd", tmp_path / "out"
    shutil.copytree(tiny_model, model)
    path = model / "generation_config.json"
    own = json.loads(path.read_text()) | {"temperature": 0.6, "top_p": 0.9}
    path.write_text(json.dumps(own))
    train_sft(job(model, out, examples(), lora_rank=lora), SftSettings())
    assert weights(out).keys() == weights(tiny_model).keys()
    assert json.loads((out / "generation_config.json").read_text()) == own


def test_grpo_knows_the_end_that_the_template_writes(tiny_model: Path, tmp_path: Path) -> None:
    """Base tokenizers end texts with a token that no turn of their template ends with."""
    model = tmp_path / "base"
    shutil.copytree(tiny_model, model)
    path = model / "tokenizer_config.json"
    path.write_text(
        path.read_text().replace('"eos_token": "<|im_end|>"', '"eos_token": "<|endoftext|>"')
    )
    for name in ("config.json", "generation_config.json"):
        said = json.loads((model / name).read_text()) | {"eos_token_id": 0}
        (model / name).write_text(json.dumps(said))
    curves = Curves()
    settings = GrpoSettings(reward="mi", max_new_tokens=64, generations=4)
    plan = job(model, tmp_path / "out", examples(prompts=2), report=curves, batch_size=4)
    train_grpo(plan, settings)
    assert min(curves.of("completions/clipped_ratio")) < 1.0, "some responses end by themselves"
