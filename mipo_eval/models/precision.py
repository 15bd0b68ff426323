"""In which precision a checkpoint computes where nobody says: in its own, or in float32.

Most checkpoints are bfloat16. A processor that cannot multiply such numbers takes each apart and
puts it together again: 48 responses of a small model took 112 s there, and 40 s in float32. Whether
it can is read from its flags and not tried, as threads are: precision decides responses and is in
their keys, so it must be the same whenever the same machine is asked. Machines that choose
differently do not share responses.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mipo_eval.models.lm_eval import ModelOptions
    from mipo_eval.models.spec import ModelSpec

_MULTIPLY: Mapping[str, frozenset[str]] = {
    "bfloat16": frozenset({"avx512_bf16", "amx_bf16", "bf16"}),
    "float16": frozenset({"avx512_fp16", "amx_fp16", "asimdhp"}),
}
"""Flags of processors that multiply numbers of a kind, on x86 and ARM."""
_CPUINFO = Path("/proc/cpuinfo")


def device_of(options: "ModelOptions") -> str:
    """Return where a checkpoint is loaded to: a GPU, if there is one and nothing else is said."""
    import torch

    return options.device or ("cuda" if torch.cuda.is_available() else "cpu")


def engine_arguments(
    model: "ModelSpec", options: "ModelOptions"
) -> dict[str, str | int | float | bool]:
    """Return what the engine is told: what the user says, and float32 where that is faster."""
    found, checkpoint = dict(options.arguments), model.checkpoint
    if model.engine != "hf" or "dtype" in found or checkpoint is None or checkpoint.quantized:
        return found
    flags = _MULTIPLY.get(checkpoint.dtype)
    # The device last: to know of GPUs, torch has to be imported.
    if flags is None or flags & processor_flags() or device_of(options) != "cpu":
        return found
    return found | {"dtype": "float32"}


@cache
def processor_flags() -> frozenset[str]:
    """Return what the processor says it can do; nothing where the system does not tell."""
    try:
        lines = _CPUINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    told = (line.partition(":") for line in lines)
    return frozenset(
        flag
        for name, _, flags in told
        if name.strip() in {"flags", "Features"}
        for flag in flags.split()
    )
