"""Where a training starts: at a checkpoint, or at an adapter merged into its base."""

from pathlib import Path
from typing import Any

from mipo_eval.checkpoints import Checkpoint
from mipo_eval.errors import ModelError
from mipo_eval.models.weights import draw_neutrally, with_adapter

START = "start"
"""Folder in the output that holds the merged checkpoint."""


def start_folder(checkpoint: Checkpoint, out: Path) -> Path:
    """Return the folder of the whole model that a training begins with.

    An adapter is merged into its base once, in the base's precision and rounded as LoRA trainings
    are (`saved.py`); a stopped training continues from the same weights.

    Raises:
        ModelError: the adapter is of a kind that cannot be merged, or does not fit the base.
    """
    folder = out.absolute() / START  # which the adapters made on it name as their base
    if checkpoint.adapter is None:
        return checkpoint.folder
    if folder.is_dir():
        return folder
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    from mipo_eval.training.saved import with_merged

    disable_progress_bar()
    checkpoint.require_loadable()
    try:
        base = AutoModelForCausalLM.from_pretrained(
            checkpoint.folder, dtype="auto", use_safetensors=True, trust_remote_code=False
        )
        draw_neutrally(base)  # what ships with a base may be no configuration that can be saved
        merged: Any = with_merged(with_adapter(base, checkpoint), seed=0)
    except (OSError, ValueError, RuntimeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"{checkpoint.name} cannot be merged into its base: {reason}") from error
    part = folder.with_name(f"{START}.part")
    merged.save_pretrained(part)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint.tokenizer, local_files_only=True)
    tokenizer.save_pretrained(part)
    part.rename(folder)
    return folder
