"""Tiny models of several architectures, and groups of random tokens to read with them."""

import dataclasses
import random
from typing import Any

from mipo_eval.training.packed import TokenGroup
from mipo_eval.training.trainer import TrainingExample
from tests.training.jobs import examples

VOCABULARY = 97

_SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.5,  # far from uniform
    "bos_token_id": None,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


def random_model(kind: str, **more: Any) -> Any:
    """Return a model of a `model_type` of transformers with random weights, the same each time."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **{**_SHAPE, **more})
    return AutoModelForCausalLM.from_config(config).train()


def group(prompt: int, *responses: int, seed: int = 0) -> TokenGroup:
    """Return a group of random tokens with the given lengths."""
    rng = random.Random(seed)

    def ids(length: int) -> tuple[int, ...]:
        return tuple(rng.randrange(3, VOCABULARY) for _ in range(length))

    return TokenGroup(
        item_id=f"item-{seed}", prompt=ids(prompt), responses=tuple(map(ids, responses))
    )


def gradients(model: Any) -> Any:
    """Return all gradients as one vector, and forget them."""
    import torch

    found = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
    model.zero_grad()
    return found


def with_negatives(count: int = 2, prompts: int = 4) -> list[TrainingExample]:
    """Examples whose negatives are the responses of the examples that follow."""
    found = examples(prompts)

    def rejected(at: int) -> tuple[str, ...]:
        return tuple(found[(at + k) % len(found)].chosen or "" for k in range(1, count + 1))

    return [dataclasses.replace(one, rejected=rejected(at)) for at, one in enumerate(found)]
