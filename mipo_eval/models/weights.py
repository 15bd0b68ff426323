"""A checkpoint's weights in memory, through transformers: with its adapter, drawn from neutrally.

transformers' `generate` follows the checkpoint's generation_config.json, whatever it is asked: of
two models trained alike, the one that ships a repetition penalty repeats itself less. vLLM and most
servers of other software do not. So the file's habits are taken off here, for evaluation, judges
and training alike; who wants them asks for them (`drawing.own_drawing`).
"""

import gc
import sys
from contextlib import nullcontext, suppress
from typing import Any

from mipo_eval.checkpoints import Checkpoint, loading
from mipo_eval.errors import ModelError

_KEPT = (
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "decoder_start_token_id",
    "use_cache",
    "cache_implementation",
)
"""What of a generation_config does not decide which token comes next."""


def load_weights(checkpoint: Checkpoint, dtype: Any, device: str) -> Any:
    """Return the model of a checkpoint on a device, with its adapter, to be drawn from neutrally.

    On the device "auto" its layers are spread over all GPUs there are, in the memory that is free.

    Raises:
        ModelError: it cannot be loaded, or a package for it is missing.
    """
    from transformers import AutoModelForCausalLM

    checkpoint.require_loadable()
    spread = "auto" if device == "auto" else None
    with loading(checkpoint.name):
        model = AutoModelForCausalLM.from_pretrained(
            checkpoint.folder,
            dtype=dtype,
            device_map=spread,
            use_safetensors=True,
            trust_remote_code=False,
        )
        model = with_adapter(model, checkpoint)
        with suppress(ValueError) if checkpoint.quantized else nullcontext():
            # Some quantised weights are where they belong already.
            model = model if spread else model.to(device)
        draw_neutrally(model)
    return model.eval()


def free_memory() -> None:
    """Give back what models held that nobody has any more: what comes next may need it."""
    gc.collect()
    if (torch := sys.modules.get("torch")) and torch.cuda.is_available():
        torch.cuda.empty_cache()


def with_adapter(model: Any, checkpoint: Checkpoint) -> Any:
    """Return a loaded base with the checkpoint's adapter on it, if there is one.

    It is not merged: in bfloat16 what a short training changed would be rounded away.
    """
    if checkpoint.adapter is None:
        return model
    from peft import PeftModel
    from transformers import AutoTokenizer

    tokens = len(AutoTokenizer.from_pretrained(checkpoint.tokenizer, trust_remote_code=False))
    if tokens > model.get_input_embeddings().weight.shape[0]:  # the adapter's own are among them
        model.resize_token_embeddings(tokens)
    return PeftModel.from_pretrained(model, str(checkpoint.adapter))


def draw_neutrally(model: Any, *, sampled: bool = False) -> None:
    """Take off a loaded model what its generation_config does to the choice of tokens.

    What ends a response stays. `sampled` is for who does not say `top_k`, for which transformers
    has a default of its own.
    """
    from transformers import GenerationConfig

    own = model.generation_config
    kept = {name: value for name in _KEPT if (value := getattr(own, name, None)) is not None}
    for name, value in kept.items():
        ids = value if isinstance(value, list) else [value]
        if name.endswith("_id") and not all(isinstance(one, int) for one in ids):
            raise ModelError(f"the generation configuration has {value!r:.40} for {name}: no id")
    model.generation_config = GenerationConfig(**kept, **({"top_k": 0} if sampled else {}))
