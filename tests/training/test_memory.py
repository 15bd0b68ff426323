"""The memory estimate, against what torch keeps and against arithmetic on well-known shapes."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mipo_eval.errors import ModelError
from mipo_eval.training.actor_critic import ActorCritic
from mipo_eval.training.logprobs import add_likelihood_head, padded
from mipo_eval.training.memory import (
    Workload,
    estimate_memory,
    smallest_fit,
    summary,
    workload_of,
)
from mipo_eval.training.packed import packing_reader
from mipo_eval.training.recipes import Optimization, PpoSettings, load_recipe
from tests.training.jobs import examples, job
from tests.training.tiny import group, random_model

LLAMA_70B = {
    "model_type": "llama",
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "tie_word_embeddings": False,
}
QWEN_7B = {
    "model_type": "qwen2",
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
    "tie_word_embeddings": False,
}


def configuration(folder: Path, shape: dict[str, Any]) -> str:
    """Write a config.json and nothing else."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(shape))
    return str(folder)


def kept_for_backward(model: Any, prompt: int, responses: list[int], *, rows: int = 1) -> int:
    """Return the bytes torch keeps between forward and backward, without the weights."""
    reader = packing_reader(model, "split")
    batch = reader.collate([group(prompt, *responses)] * rows)
    return kept_by(lambda: reader.logprobs(model, batch), model)


def kept_by(read: Callable[[], torch.Tensor], *models: Any) -> int:
    """Return the bytes torch keeps for the backward pass of what is read, without the weights."""
    weights = {one.untyped_storage().data_ptr() for model in models for one in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        found = read()
    assert found.requires_grad
    return sum(t.untyped_storage().nbytes() for at, t in kept.items() if at not in weights)


@pytest.mark.parametrize("kind", ["qwen2", "llama"])
@pytest.mark.parametrize("negatives", [1, 4])
@pytest.mark.parametrize(("hidden", "inner", "key_heads"), [(64, 160, 4), (96, 400, 2)])
def test_activations_are_what_torch_keeps(
    tmp_path: Path, kind: str, negatives: int, hidden: int, inner: int, key_heads: int
) -> None:
    shape = {
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_key_value_heads": key_heads,
        "num_hidden_layers": 3,
        "max_position_embeddings": 512,
    }
    model = random_model(kind, **shape)
    model.config.save_pretrained(tmp_path)
    add_likelihood_head(model)
    measured = kept_for_backward(model, 100, [50] * (negatives + 1))
    workload = Workload(prompt=100, response=50, negatives=negatives)
    found = estimate_memory(str(tmp_path), Optimization(precision="float32"), workload=workload)
    assert found.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert found.activations == pytest.approx(measured, rel=0.15)


def test_activations_of_a_group_are_what_torch_keeps(tmp_path: Path) -> None:
    """Three contexts, each with three responses."""
    shape = {"hidden_size": 64, "intermediate_size": 160, "max_position_embeddings": 512}
    model = random_model("qwen2", num_hidden_layers=3, num_key_value_heads=4, **shape)
    model.config.save_pretrained(tmp_path)
    add_likelihood_head(model)
    measured = kept_for_backward(model, 100, [50] * 3, rows=3)
    workload = Workload(prompt=100, response=50, negatives=2, contexts=3)
    found = estimate_memory(str(tmp_path), Optimization(precision="float32"), workload=workload)
    assert found.activations == pytest.approx(measured, rel=0.15)


@pytest.mark.parametrize(("hidden", "inner", "key_heads"), [(64, 160, 4), (96, 400, 2)])
def test_activations_of_a_policy_and_its_critic(
    hidden: int, inner: int, key_heads: int, tmp_path: Path
) -> None:
    from transformers import AutoModelForTokenClassification

    shape = {"hidden_size": hidden, "intermediate_size": inner, "num_key_value_heads": key_heads}
    model = random_model("qwen2", num_hidden_layers=3, max_position_embeddings=512, **shape)
    model.config.save_pretrained(tmp_path)
    critic = AutoModelForTokenClassification.from_config(model.config)
    add_likelihood_head(model)
    one = group(100, 50)
    batch = padded([(one.prompt, one.responses[0])])

    def read() -> torch.Tensor:
        values = critic(input_ids=batch["input_ids"], use_cache=False).logits
        return model(**batch).sum() + values.sum()

    workload = Workload(prompt=100, response=50, negatives=0, critic=True)
    found = estimate_memory(str(tmp_path), Optimization(precision="float32"), workload=workload)
    assert found.activations == pytest.approx(kept_by(read, model, critic), rel=0.15)


HELD: dict[str, tuple[str, tuple[str, ...]]] = {
    "dpo": ("mipo-missing", ()),
    "prompts": ("mipo-missing", ("settings.batch_of=prompts", "pairs.n_negatives=10")),
    "sft": ("sft", ()),
    "sami": ("sami", ("settings.contexts=4",)),
    "ppo": ("ppo-mi", ()),
    "rlaif": ("rlaif", ()),
    "rlaif-server": ("rlaif", ("settings.judge=openai:x@http://localhost/v1",)),
    "grpo": ("rlaif", ("algorithm=grpo",)),
    "grpo-free": ("ppo-mi", ("algorithm=grpo", "settings.kl=0")),
}
"""Recipes, and what is set in them."""


@pytest.mark.parametrize(
    ("name", "tokens", "models", "lora"),
    [
        # Read at a time; models that are held in full training, and with LoRA.
        ("dpo", 512 + 2 * 256, 1, 1),
        ("prompts", 512 + 11 * 256, 1, 1),
        ("sft", 512 + 256, 1, 1),
        ("sami", 4 * (512 + 4 * 256), 1, 1),  # 6,144
        ("ppo", 512 + 256, 3, 2),  # policy, critic and reference
        ("rlaif", 512 + 256, 4, 3),  # the base model judges
        ("rlaif-server", 512 + 256, 3, 2),
        ("grpo", 512 + 256, 3, 2),
        ("grpo-free", 512 + 256, 1, 1),
    ],
)
def test_what_a_method_reads_and_holds(
    name: str, tokens: int, models: int, lora: int, tmp_path: Path
) -> None:
    """In models of 7B; a critic has a value per token in place of 0.54 B parameters of a head."""
    model = configuration(tmp_path / "qwen", QWEN_7B)
    method, overrides = HELD[name]
    for rank, count in ((None, models), (8, lora)):
        recipe = load_recipe(method, overrides=(*overrides, f"lora={rank or 'null'}"))
        how, workload = (
            dataclasses.replace(recipe.optimization, precision="float32"),
            workload_of(recipe),
        )
        assert workload.tokens == tokens
        found = estimate_memory(model, how, workload=workload)
        head = 152_064 * 3584 if workload.critic else 0
        adapters = found.trained if rank else 0
        expected = count * found.parameters - head + adapters
        assert found.weights // 4 == pytest.approx(expected, abs=5_000)


@pytest.mark.parametrize("lora", [None, 4])
def test_ppo_is_counted_model_by_model(lora: int | None, tiny_model: Path, tmp_path: Path) -> None:
    plan = job(tiny_model, tmp_path, examples(), lora_rank=lora, precision="float32")
    settings = PpoSettings(max_new_tokens=4, rollout_batch_size=4)
    models = ActorCritic(plan, settings)
    recipe = load_recipe("ppo-mi", overrides=[f"lora={lora or 'null'}"])
    found = estimate_memory(str(tiny_model), plan.optimization, workload=workload_of(recipe))
    held = [one for one in (models.actor, models.critic, models._reference) if one is not None]
    sizes = {id(p): p for one in held for p in one.parameters()}.values()
    assert found.weights == sum(p.nbytes for p in sizes)
    trained = sum(p.numel() for p in sizes if p.requires_grad)
    assert (found.trained, found.gradients) == (trained, 4 * trained)
    some = models.write(plan.examples[:4])
    seen = models.experience(some, [True] * 4)
    models.update(seen, rate=1.0)
    moments = [
        value
        for optimizer in models._optimizers.values()
        for state in optimizer.state.values()
        for name, value in state.items()
        if name.startswith("exp_avg")
    ]
    assert found.optimizer == sum(one.nbytes for one in moments)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_accelerate_counts_the_same(precision: Any, tmp_path: Path) -> None:
    """Weights, gradients and AdamW; accelerate counts the copy in bf16 among the gradients."""
    from accelerate.commands.estimate import estimate_training_usage

    model = configuration(tmp_path / "qwen", QWEN_7B)
    found = estimate_memory(model, Optimization(precision=precision))
    kind = {"bf16": "bfloat16"}.get(precision, precision)
    theirs = estimate_training_usage(4 * found.parameters, kind)
    assert found.optimizer == theirs["optimizer"]
    assert found.weights + found.gradients == theirs["model"] + theirs["gradients"]


def test_ppo_of_7b_does_not_fit_and_says_what_does(tmp_path: Path) -> None:
    model = configuration(tmp_path / "qwen", QWEN_7B)
    recipe = load_recipe("ppo-mi")
    workload = workload_of(recipe)
    found = estimate_memory(model, recipe.optimization, workload=workload)
    assert found.total / 1e9 == pytest.approx(295, abs=15)
    last = summary(model, recipe.optimization, workload=workload, memory=80e9)[-1]
    assert last.startswith(
        "PPO needs one device for all of it, and 80 GB is not enough: add --lora"
    )
    light = Optimization(lora_rank=32, gradient_checkpointing=True)
    workload = dataclasses.replace(workload, copies=0)
    assert summary(model, light, workload=workload, memory=80e9)[-1].startswith(
        "fits on one device"
    )


def test_full_training_of_7b(tmp_path: Path) -> None:
    """Weights 4 + 2 (autocast), gradients 4, optimizer 8 bytes per parameter on one device."""
    model = configuration(tmp_path / "qwen", QWEN_7B)
    found = estimate_memory(model, Optimization())
    assert found.parameters == found.trained == 7_615_616_512
    assert found.weights == 6 * found.parameters
    assert found.gradients == 4 * found.parameters
    assert found.optimizer == 8 * found.parameters
    shared = estimate_memory(model, Optimization(), devices=8)
    assert shared.gradients == found.gradients // 8
    assert shared.total < found.total / 4
    assert shared.activations == found.activations
    fewest = smallest_fit(model, Optimization(), memory=80e9)
    assert fewest is not None
    assert fewest.devices == 4


def test_70b_with_lora(tmp_path: Path) -> None:
    model = configuration(tmp_path / "llama", LLAMA_70B)
    how = Optimization(lora_rank=32, gradient_checkpointing=True)
    found = estimate_memory(model, how)
    assert found.parameters == 70_553_706_496
    assert found.trained == 414_187_520  # rank 32 on q, k, v, o, gate, up and down of 80 layers
    assert found.weights == 2 * found.parameters + 4 * found.trained
    fewest = smallest_fit(model, how, memory=80e9)
    assert fewest is not None
    assert fewest.devices == 4
    plain = Optimization(lora_rank=32)
    assert estimate_memory(model, plain).activations > 10 * found.activations
    assert estimate_memory(model, how, devices=8).lines() == [
        "70.55 B parameters, 0.41 B trained; on each of 8 devices, in shards:",
        "  weights          25.5 GB",
        "  gradients         0.2 GB",
        "  optimizer         0.4 GB",
        "  activations       2.3 GB",
        "  together         28.4 GB",
    ]


def test_a_model_that_names_no_width_of_its_layers(tmp_path: Path) -> None:
    model = configuration(tmp_path / "gpt2", {"model_type": "gpt2", "n_layer": 2})
    found = estimate_memory(model, Optimization())
    assert found.activations > 0


def test_no_number_of_devices_helps_against_activations(tmp_path: Path) -> None:
    model = configuration(tmp_path / "qwen", QWEN_7B)
    long = Workload(prompt=8192, response=4096, negatives=10)
    assert smallest_fit(model, Optimization(), memory=80e9, workload=long) is None
    last = summary(model, Optimization(), workload=long, memory=80e9)[-1]
    assert last.startswith("no number of devices of 80 GB is enough for its activations: set")


def test_summary_says_how_many_devices(tmp_path: Path) -> None:
    model = configuration(tmp_path / "qwen", QWEN_7B)
    lines = summary(model, Optimization(), memory=80e9)
    assert lines[0] == "7.62 B parameters, 7.62 B trained; on one device:"
    assert lines[6] == "fits on 4 devices of 80 GB:"
    assert lines[7].endswith("on each of 4 devices, in shards:")
    light = Optimization(lora_rank=32, gradient_checkpointing=True)
    assert summary(model, light, memory=80e9)[-1] == "fits on one device of 80 GB"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (".", "is not a language model"),
        ("/nowhere/at-all", "there is no checkpoint at /nowhere/at-all: give a folder or a hub id"),
        ("nowhere", "there is no checkpoint at nowhere: give"),
    ],
)
def test_what_is_no_model_is_one_line(name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        estimate_memory(name, Optimization())
    assert "\n" not in str(caught.value)
