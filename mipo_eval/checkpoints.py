"""Checkpoints on disk or on the hub: found, checked, and named by their content.

The identity of a checkpoint is its content, not its path: a folder that was trained further is
another model, and the same weights elsewhere are the same model.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from mipo_eval.errors import ModelError
from mipo_eval.keys import digest

_IDENTITY_SUFFIXES = {".json", ".safetensors", ".jinja", ".model", ".txt"}
_UNSAFE_WEIGHTS = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def checkpoint_folder(name: str) -> Path:
    """Return the local folder of a checkpoint given by path or hub id.

    Raises:
        ModelError: there is no such checkpoint, or the hub does not give it out.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise ModelError(f"{name} is a file: give the folder of a checkpoint")
    if path.is_absolute() or name.startswith(".") or name.count("/") != 1:
        raise ModelError(f"there is no checkpoint at {name}: give a folder or a hub id")
    return _from_hub(name)


def _from_hub(name: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import (
            HfHubHTTPError,
            HFValidationError,
            LocalEntryNotFoundError,
        )
    except ModuleNotFoundError:
        needed = "local checkpoints need torch and transformers: pip install 'mipo-eval[hf]'"
        raise ModelError(needed) from None
    try:
        return Path(snapshot_download(name, allow_patterns=[f"*{s}" for s in _IDENTITY_SUFFIXES]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(
            f"{name} is neither a folder here nor a model the hub gives out: {reason}"
        ) from error


def check_checkpoint(name: str, folder: Path) -> dict[str, Any]:
    """Return the configuration of a checkpoint that is a language model with safe weights.

    Raises:
        ModelError: it is not; the message says what it is instead.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{name} is not a checkpoint: it has no config.json") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder / 'config.json'} cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise ModelError(f"{folder / 'config.json'} is not a JSON object")
    if not any(folder.glob("*.safetensors")):
        unsafe = [path.name for pattern in _UNSAFE_WEIGHTS for path in folder.glob(pattern)]
        names = ", ".join(sorted(unsafe))
        found = f"only {names}, which may run code when read" if unsafe else "none"
        raise ModelError(
            f"{name} has no weights in safetensors ({found}): save it with safe_serialization=True"
        )
    architectures = config.get("architectures") or []
    if not any(a.endswith(("ForCausalLM", "ForConditionalGeneration")) for a in architectures):
        what = ", ".join(architectures) or "no architecture in config.json"
        raise ModelError(f"{name} is not a language model ({what}): nothing to generate with")
    return config


def has_chat_template(folder: Path) -> bool:
    """Whether the checkpoint brings the form of its conversations along."""
    return bool(chat_template(folder))


def chat_template(folder: Path) -> str:
    """Return the form of its conversations that a checkpoint brings along; empty for none."""
    try:
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        found = _tokenizer_config(folder).get("chat_template") or ""
    if isinstance(found, list):  # several, with names
        named = [one for one in found if isinstance(one, dict)]
        named.sort(key=lambda one: one.get("name") != "default")
        return str(named[0].get("template", "")) if named else ""
    return str(found)


def beginning(folder: Path) -> str:
    """Return the token that texts of a checkpoint begin with; empty for none."""
    found = _tokenizer_config(folder).get("bos_token") or ""
    return str(found.get("content", "") if isinstance(found, dict) else found)


def _tokenizer_config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def fingerprint(folder: Path) -> str:
    """Return the digest of a checkpoint's files: weights, configuration, tokenizer, template.

    Reads everything once, about as fast as the disk: seconds for billions of parameters.
    """
    files = sorted(p for p in folder.iterdir() if p.suffix in _IDENTITY_SUFFIXES and p.is_file())
    contents = []
    for path in files:
        with path.open("rb") as file:
            contents.append([path.name, hashlib.file_digest(file, "sha256").hexdigest()])
    return digest(contents)
