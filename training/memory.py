"""How much memory a training takes on each device, from a config.json alone.

    estimate_memory("meta-llama/Llama-3.3-70B-Instruct", how, devices=8).lines()

The model is built without weights, so parameters are counted, not guessed. Activations follow from
what layers of the Llama and Qwen2 kind keep for the backward pass; a test holds them to what torch
really keeps. Not counted: CUDA's own 1-2 GB, and what fragments (leave a tenth free).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mipo_eval.checkpoints import ADAPTER_CONFIG, find_checkpoint, split_base, split_revision
from mipo_eval.errors import ModelError
from mipo_eval.training.logprobs import LOGITS
from mipo_eval.training.recipes import Optimization, Recipe

GIGABYTE = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One prompt as it is read in training; lengths in tokens."""

    prompt: int = 512
    response: int = 256
    negatives: int = 1

    @property
    def tokens(self) -> int:
        """What is read at a time: the prompt once, and all responses."""
        return self.prompt + (self.negatives + 1) * self.response


_CHAT = Workload()
"""A chat of usual size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryEstimate:
    """Memory per device, in bytes."""

    parameters: int
    trained: int
    """Parameters that are trained: all, or LoRA's."""
    devices: int
    """Over which weights, gradients and optimizer are in shards."""
    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.gradients + self.optimizer + self.activations

    def lines(self) -> list[str]:
        """Return the estimate as lines to print."""
        spread = f"each of {self.devices} devices, in shards" if self.devices > 1 else "one device"
        size, trained = _billions(self.parameters), _billions(self.trained)
        parts = {
            "weights": self.weights,
            "gradients": self.gradients,
            "optimizer": self.optimizer,
            "activations": self.activations,
            "together": self.total,
        }
        return [
            f"{size} parameters, {trained} trained; on {spread}:",
            *(f"  {what:<12} {held / GIGABYTE:8.1f} GB" for what, held in parts.items()),
        ]


def _billions(count: int) -> str:
    return f"{count / 1e9:.2f} B" if count >= 1e8 else f"{count / 1e6:.2f} M"


def workload_of(recipe: Recipe) -> Workload:
    """Return a usual workload of a recipe."""
    negatives = recipe.pairs.n_negatives if recipe.pairs else 0
    if getattr(recipe.settings, "batch_of", None) == "pairs":
        negatives = 1  # the unit that a micro-batch counts
    return Workload(negatives=negatives)


def estimate_memory(
    model: str, optimization: Optimization, *, devices: int = 1, workload: Workload = _CHAT
) -> MemoryEstimate:
    """Return what a training on packed pairs takes.

    The model is a folder, config.json or hub id; weights are not needed. FSDP2 or ZeRO-3 spread it
    over the devices; DDP is like one device.

    Raises:
        ModelError: there is no such configuration, or it is of no language model.
    """
    skeleton = _skeleton(model)
    config = skeleton.config.get_text_config()
    narrow = optimization.precision == "bf16"
    parameters = sum(parameter.numel() for parameter in skeleton.parameters())
    rank = optimization.lora_rank
    trained = parameters if rank is None else _adapter_parameters(skeleton, rank)
    frozen = 0 if rank is None else parameters
    kept = 4 * trained + (2 if narrow else 4) * frozen
    return MemoryEstimate(
        parameters=parameters,
        trained=trained,
        devices=devices,
        weights=kept // devices + _gathered(skeleton, trained, devices, narrow=narrow, lora=rank),
        gradients=4 * trained // devices,
        optimizer=8 * trained // devices,  # AdamW's two moments in float32
        activations=optimization.micro_batch_size * _activations(config, workload, optimization),
    )


def smallest_fit(
    model: str, optimization: Optimization, *, memory: float, workload: Workload = _CHAT
) -> MemoryEstimate | None:
    """Return what a training takes of the fewest devices it fits on: a power of two, up to 1,024.

    A tenth of a device's `memory` (bytes) is left free. None where no number helps: activations of
    one prompt do not fit on one device.
    """
    for power in range(11):
        found = estimate_memory(model, optimization, devices=1 << power, workload=workload)
        if found.total <= 0.9 * memory:
            return found
    return None


def summary(
    model: str, optimization: Optimization, *, workload: Workload = _CHAT, memory: float
) -> list[str]:
    """Return lines to print: what one device holds, and how many of `memory` bytes it takes."""
    alone = estimate_memory(model, optimization, workload=workload)
    spread = smallest_fit(model, optimization, memory=memory, workload=workload)
    size = f"{memory / GIGABYTE:.0f} GB"
    if spread is None:
        advice = (
            "set optimization.gradient_checkpointing=true, or lower micro_batch_size or lengths"
        )
        refusal = f"no number of devices of {size} is enough for its activations: {advice}"
        return [*alone.lines(), refusal]
    if spread.devices == 1:
        return [*alone.lines(), f"fits on one device of {size}"]
    return [*alone.lines(), f"fits on {spread.devices} devices of {size}:", *spread.lines()]


def _skeleton(name: str) -> Any:
    """Return the model without memory for its weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    plain, base = split_base(name)
    if base or (Path(plain) / ADAPTER_CONFIG).exists():
        name = str(find_checkpoint(name).folder)
    revision = None
    if not Path(name).exists():
        name, revision = split_revision(name)
    if not Path(name).exists() and (name.count("/") != 1 or name.startswith((".", "/"))):
        raise ModelError(f"there is no checkpoint at {name}: give a folder or a hub id")
    try:
        config = AutoConfig.from_pretrained(name, revision=revision or "main")
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config)
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{name} has no configuration of a language model: {reason}") from error


def _adapter_parameters(skeleton: Any, rank: int) -> int:
    """Return the size of LoRA's matrices on all linear layers but the head."""
    import torch

    head = skeleton.get_output_embeddings()
    layers = [m for m in skeleton.modules() if isinstance(m, torch.nn.Linear) and m is not head]
    return sum(rank * int(layer.in_features + layer.out_features) for layer in layers)


def _gathered(skeleton: Any, trained: int, devices: int, *, narrow: bool, lora: int | None) -> int:
    """Return what is held beside the kept weights to compute with them, in bytes."""
    import torch

    width = 2 if narrow else 4
    if devices == 1:
        return 2 * trained if narrow and lora is None else 0  # autocast's copies in bf16
    layers = max((m for m in skeleton.modules() if isinstance(m, torch.nn.ModuleList)), key=len)
    blocks = [sum(p.numel() for p in layer.parameters()) for layer in layers]
    rest = sum(parameter.numel() for parameter in skeleton.parameters()) - sum(blocks)
    return int(width * (2 * max(blocks) + rest))  # a layer and the next, embeddings and head


def _activations(config: Any, workload: Workload, optimization: Optimization) -> int:
    """Return bytes kept for the backward pass of one packed prompt.

    Per token of a layer, in units of the hidden size h, the width f of the MLP, and the width
    k of keys (k' once they are repeated for all heads):
    - two norms: their input in float32, and that scaled, in float32 and in the layer's precision
    - attention: its input, queries, its output; beside each response the keys and values of prompt
      and response
    - MLP: its input, gate, its activation, up, and their product
    """
    element = 2 if optimization.precision == "bf16" else 4
    hidden, inner = config.hidden_size, config.intermediate_size
    width = config.num_attention_heads * (
        getattr(config, "head_dim", None) or hidden // config.num_attention_heads
    )
    tokens = workload.tokens
    norms = 2 * hidden * (4 + 4 + (element if element < 4 else 0))
    linear = element * (2 * hidden + 3 * width + 4 * inner)
    beside = (workload.negatives + 1) * (workload.prompt + workload.response) + workload.prompt
    layer = tokens * (norms + linear) + beside * 2 * width * element
    layers = config.num_hidden_layers
    if optimization.gradient_checkpointing:
        body = layers * tokens * hidden * element + layer
    else:
        body = layers * layer
    responses = (workload.negatives + 1) * workload.response
    logits = min(responses * config.vocab_size, LOGITS)
    return int(body + 3 * 4 * logits)  # logits, their softmax and their gradient
