"""What of a grid is on this machine, and what only the hub has: nothing is fetched to find out."""

from dataclasses import replace

from mipo_eval.checkpoints import is_here
from mipo_eval.grid.file import ModelPart
from mipo_eval.judges.judge import Judge
from mipo_eval.judges.presets import (
    duel_protocol,
    family_preset,
    is_family,
    load_judge,
    named_preset,
)
from mipo_eval.models.spec import checkpoint_name, find_kind, read_name


def checkpoint_of(spec: str, judged_model: str | None = None) -> str | None:
    """Return the checkpoint that a judge is, where it would be loaded by this process."""
    named = read_name(spec)
    if is_family(spec):
        named = replace(named, name=family_preset(judged_model))
    preset = named_preset(named)
    where = read_name(preset.backend) if preset and not named.url else named
    return where.name if where.kind in {"hf", "vllm"} else None


def is_at_hand(part: ModelPart) -> bool:
    """Whether a base model can be looked at: it is served, or its checkpoint is on this machine.

    Raises:
        ModelError: there is no such checkpoint.
    """
    kind = find_kind(read_name(part.model).kind or "hf")
    is_checkpoint = kind is not None and kind.engine in {"hf", "vllm"}
    return not is_checkpoint or is_here(checkpoint_name(part.model))


def load_duellist(spec: str, judged_model: str | None = None) -> Judge:
    """Return a judge that is to choose between two responses."""
    return load_judge(spec, protocol=duel_protocol(spec), judged_model=judged_model)
