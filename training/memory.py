"""How much memory a training takes on each device, from a config.json alone.

    how = recipe.optimization
    estimate_memory("org/model-70B", how, devices=8, workload=workload_of(recipe)).lines()

Models are built without weights, so parameters are counted, not guessed. Activations follow from
what layers of the Llama and Qwen2 kind keep for the backward pass; a test holds them to what torch
really keeps. Not counted: CUDA's own 1-2 GB, and what fragments (leave a tenth free).
"""

from collections.abc import Iterator
from contextlib import contextmanager
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
    """What a micro-batch counts, as it is read in training, and by whom; lengths in tokens."""

    prompt: int = 512
    response: int = 256
    negatives: int = 1
    contexts: int = 1
    """Prompts that are read together, each with all responses behind it."""
    critic: bool = False
    """Whether a critic is trained beside the policy, on the same texts."""
    copies: int = 0
    """Frozen models of the base's size that every process has whole, in the precision that is
    computed in."""
    reference: bool = False
    """Whether there is one more in float32, in shards as the policy is."""

    @property
    def tokens(self) -> int:
        """What is read at a time: every prompt once, each with all responses."""
        return self.contexts * (self.prompt + self.responses * self.response)

    @property
    def responses(self) -> int:
        """Responses behind each prompt."""
        return self.negatives + 1


_CHAT = Workload()
"""A chat of usual size."""


def workload_of(recipe: Recipe) -> Workload:
    """Return what a recipe's training reads at a time on texts of usual size, and what it holds.

    A judge counts where it is the base model; another one's size is not known here.
    """
    settings, full = recipe.settings, recipe.optimization.lora_rank is None
    judge = "judge" in getattr(settings, "reward", "") and settings.judge is None
    if recipe.algorithm == "dpo":
        # The unit of batches that count pairs is one pair.
        each = recipe.pairs.n_negatives if recipe.pairs else 1
        return Workload(negatives=each if settings.batch_of == "prompts" else 1)
    if recipe.algorithm == "contrastive":
        return Workload(negatives=settings.contexts - 1, contexts=settings.contexts)
    if recipe.algorithm == "ppo":  # with LoRA, the reference is the policy without its adapter
        return Workload(negatives=0, critic=True, copies=full + judge)
    if recipe.algorithm == "grpo":  # trl's reference is in the policy's own precision
        return Workload(negatives=0, copies=int(judge), reference=full and settings.kl > 0)
    return Workload(negatives=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryEstimate:
    """Memory per device, in bytes."""

    parameters: int
    """Of the base model."""
    trained: int
    """Parameters that are trained: all, or LoRA's, and those of a critic."""
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


def estimate_memory(
    model: str, optimization: Optimization, *, devices: int = 1, workload: Workload = _CHAT
) -> MemoryEstimate:
    """Return what a training takes.

    The model is a folder, config.json or hub id; weights are not needed. FSDP2 or ZeRO-3 spread it
    over the devices; DDP is like one device.

    Raises:
        ModelError: there is no such configuration, or it is of no language model.
    """
    policy = _skeleton(model)
    both = [policy, _skeleton(model, critic=True)] if workload.critic else [policy]
    narrow, rank = optimization.precision == "bf16", optimization.lora_rank
    width = 2 if narrow else 4
    parameters, *_ = sizes = [sum(p.numel() for p in one.parameters()) for one in both]
    trained = sum(sizes) if rank is None else sum(_adapter_parameters(one, rank) for one in both)
    kept = 4 * trained + (0 if rank is None else width * sum(sizes))
    kept += 4 * workload.reference * parameters
    weights = kept // devices + width * workload.copies * parameters
    activations = _activations(policy.config.get_text_config(), workload, optimization)
    return MemoryEstimate(
        parameters=parameters,
        trained=trained,
        devices=devices,
        weights=weights + _gathered(policy, trained, devices, narrow=narrow, lora=rank),
        gradients=4 * trained // devices,
        optimizer=8 * trained // devices,  # AdamW's two moments in float32
        activations=optimization.micro_batch_size * activations,
    )


def smallest_fit(
    model: str, optimization: Optimization, *, memory: float, workload: Workload = _CHAT
) -> MemoryEstimate | None:
    """Return what a training takes of the fewest devices it fits on: a power of two, up to 1,024.

    A tenth of a device's `memory` (bytes) is left free. None where no number helps: activations of
    one prompt do not fit on one device, or the training has a critic and is not put into shards.
    """
    for power in range(1 if workload.critic else 11):
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
        if workload.critic:
            advice = "add --lora 32 or --algorithm grpo"
            refusal = f"PPO needs one device for all of it, and {size} is not enough: {advice}"
        return [*alone.lines(), refusal]
    if spread.devices == 1:
        return [*alone.lines(), f"fits on one device of {size}"]
    return [*alone.lines(), f"fits on {spread.devices} devices of {size}:", *spread.lines()]


def _skeleton(name: str, *, critic: bool = False) -> Any:
    """Return the model, or a critic of its kind, without memory for its weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForTokenClassification

    plain, base = split_base(name)
    if base or (Path(plain) / ADAPTER_CONFIG).exists():
        name = str(find_checkpoint(name).folder)
    revision = None
    if not Path(name).exists():
        name, revision = split_revision(name)
    if not Path(name).exists() and (name.count("/") != 1 or name.startswith((".", "/"))):
        raise ModelError(f"there is no checkpoint at {name}: give a folder or a hub id")
    try:
        labels = {"num_labels": 1} if critic else {}
        config = AutoConfig.from_pretrained(name, revision=revision or "main", **labels)
        kind = AutoModelForTokenClassification if critic else AutoModelForCausalLM
        with torch.device("meta"):
            return kind.from_config(config)
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{name} is not a language model: {reason}") from error


def _adapter_parameters(skeleton: Any, rank: int) -> int:
    """Return the size of LoRA's matrices on all linear layers but the head, and a critic's head."""
    import torch

    own = getattr(skeleton, "score", None)
    heads = (skeleton.get_output_embeddings(), own)
    layers = [m for m in skeleton.modules() if isinstance(m, torch.nn.Linear) and m not in heads]
    matrices = sum(rank * int(layer.in_features + layer.out_features) for layer in layers)
    return matrices + (sum(p.numel() for p in own.parameters()) if own else 0)


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
    """Return bytes kept for the backward pass of what a micro-batch counts once.

    Per token of a layer, in units of the hidden size h, the width f of the MLP, and the width
    k of keys (k' once they are repeated for all heads):
    - two norms: their input in float32, and that scaled, in float32 and in the layer's precision
    - attention: its input, queries, its output; beside each response the keys and values of prompt
      and response
    - MLP: its input, gate, its activation, up, and their product
    """
    element = 2 if optimization.precision == "bf16" else 4
    hidden = config.hidden_size
    inner = getattr(config, "intermediate_size", None) or 4 * hidden  # as GPT-2 has it
    width = config.num_attention_heads * (
        getattr(config, "head_dim", None) or hidden // config.num_attention_heads
    )
    tokens = workload.tokens
    norms = 2 * hidden * (4 + 4 + (element if element < 4 else 0))
    linear = element * (2 * hidden + 3 * width + 4 * inner)
    beside = workload.responses * (workload.prompt + workload.response) + workload.prompt
    layer = tokens * (norms + linear) + workload.contexts * beside * 2 * width * element
    layers = config.num_hidden_layers
    if optimization.gradient_checkpointing:
        body = layers * tokens * hidden * element + layer
    else:
        body = layers * layer
    responses = workload.contexts * workload.responses * workload.response
    logits = min(responses * config.vocab_size, LOGITS)
    # Logits, their softmax and their gradient.
    return int((2 if workload.critic else 1) * body + 3 * 4 * logits)


@contextmanager
def memory_errors() -> Iterator[None]:
    """Turn running out of memory into one line that says what to lower."""
    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError is one
        if "out of memory" not in str(error).lower():
            raise
        raise ModelError(
            "out of memory: lower optimization.micro_batch_size or optimization.max_length, "
            "or set optimization.gradient_checkpointing=true or optimization.lora_rank=32; "
            "the same command continues from the last checkpoint"
        ) from error
