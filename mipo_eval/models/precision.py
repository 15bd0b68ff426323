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

from mipo_eval.checkpoints import Checkpoint
from mipo_eval.models.spec import ModelSpec

Arguments = Mapping[str, str | int | float | bool]
"""Of an engine: dtype, tensor_parallel_size, ..."""
_MULTIPLY: Mapping[str, frozenset[str]] = {
    "bfloat16": frozenset({"avx512_bf16", "amx_bf16", "bf16"}),
    "float16": frozenset({"avx512_fp16", "amx_fp16", "asimdhp"}),
}
"""Flags of processors that multiply numbers of a kind, on x86 and ARM."""
_CPUINFO = Path("/proc/cpuinfo")


def dtype_of(checkpoint: Checkpoint) -> str:
    """Return the precision that a checkpoint's configuration names; float32 where it does not."""
    config = checkpoint.config
    return str(config.get("dtype") or config.get("torch_dtype") or "float32")


def device_of(said: str | None) -> str:
    """Return where a checkpoint is loaded to: a GPU, if there is one and nothing else is said."""
    import torch

    return said or ("cuda" if torch.cuda.is_available() else "cpu")


def engine_arguments(model: ModelSpec, told: Arguments, device: str | None) -> Arguments:
    """Return what the engine is told: what the user says, and float32 where that is faster."""
    checkpoint = model.checkpoint
    if model.engine != "hf" or "dtype" in told or checkpoint is None or checkpoint.quantized:
        return told
    flags = _MULTIPLY.get(dtype_of(checkpoint))
    # The device last: to know of GPUs, torch has to be imported.
    if flags is None or flags & processor_flags() or device_of(device) != "cpu":
        return told
    return {**told, "dtype": "float32"}


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
