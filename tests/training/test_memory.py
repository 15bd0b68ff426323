"""The memory estimate, against what torch keeps and against arithmetic on well-known shapes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from mipo_eval.errors import ModelError
from mipo_eval.training.logprobs import add_likelihood_head
from mipo_eval.training.memory import Workload, estimate_memory, smallest_fit, summary
from mipo_eval.training.packed import packing_reader
from mipo_eval.training.recipes import Optimization
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


def kept_for_backward(model: Any, prompt: int, responses: list[int]) -> int:
    """Return the bytes torch keeps between forward and backward, without the weights."""
    reader = packing_reader(model, "split")
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        found = reader.logprobs(model, reader.collate([group(prompt, *responses)]))
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
        (".", "has no configuration of a language model"),
        ("/nowhere/at-all", "there is no checkpoint at /nowhere/at-all: give a folder or a hub id"),
        ("nowhere", "there is no checkpoint at nowhere: give"),
    ],
)
def test_what_is_no_model_is_one_line(name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        estimate_memory(name, Optimization())
    assert "\n" not in str(caught.value)
