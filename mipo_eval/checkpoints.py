"""Checkpoints and adapters, on disk or on the hub: found, checked, and named by their content.

The identity of a checkpoint is its content, not its path: a folder that was trained further is
another model, and the same weights elsewhere are the same model. A name is a folder or a hub id;
NAME@REVISION is one commit, branch or tag of the hub's, and ADAPTER,base=NAME an adapter on a base
that its own configuration does not name.
"""

import hashlib
import importlib.util
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mipo_eval.errors import MipoEvalError, ModelError, first_line
from mipo_eval.keys import digest

_IDENTITY_SUFFIXES = {".json", ".safetensors", ".jinja", ".model", ".txt"}
_UNSAFE_WEIGHTS = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
GENERATION_CONFIG = "generation_config.json"
"""How a checkpoint's makers would have it drawn from."""
ADAPTER_CONFIG = "adapter_config.json"
_ADAPTER_WEIGHTS = "adapter_model"
_SIZES: Mapping[str, tuple[str, ...]] = {
    "width": ("hidden_size", "n_embd", "d_model"),
    "layers": ("num_hidden_layers", "n_layer", "n_layers"),
    "heads": ("num_attention_heads", "n_head", "n_heads"),
    "groups": ("num_key_value_heads",),
    "inner": ("intermediate_size", "n_inner"),
    "vocabulary": ("vocab_size",),
}
"""What decides how many weights a model has, by the names that configurations have for it."""
_MOST_IN_A_BYTE = 16
"""Weights; the smallest kinds have eight."""
BASE = ",base="
"""Between the name of an adapter and that of its base."""
_QUANTIZED: Mapping[str, tuple[str, ...]] = {
    "aqlm": ("aqlm",),
    "awq": ("gptqmodel",),
    "bitsandbytes": ("bitsandbytes",),
    "compressed-tensors": ("compressed_tensors",),
    "gptq": ("gptqmodel", "optimum"),
    "hqq": ("hqq",),
    "quanto": ("optimum",),
    "torchao": ("torchao",),
}
"""The packages that transformers needs to load a quantised checkpoint, by kind."""

NEUTRAL: Mapping[str, Any] = {
    "do_sample": False,
    "temperature": 1.0,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0,
    "typical_p": 1.0,
    "epsilon_cutoff": 0,
    "eta_cutoff": 0,
    "repetition_penalty": 1.0,
    "encoder_repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "min_length": 0,
    "min_new_tokens": 0,
    "bad_words_ids": None,
    "sequence_bias": None,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "exponential_decay_length_penalty": None,
    "guidance_scale": 1.0,
    "penalty_alpha": 0,
    "num_beams": 1,
    "num_beam_groups": 1,
    "diversity_penalty": 0,
    "length_penalty": 1.0,
    "remove_invalid_values": False,
    "renormalize_logits": False,
    "watermarking_config": None,
}
"""What of a generation_config.json decides which token comes next, and the value that changes
nothing; all else in it is about special tokens, lengths and memory."""
SAMPLING = {
    *("do_sample", "temperature", "top_k", "top_p", "min_p"),
    *("typical_p", "epsilon_cutoff", "eta_cutoff"),
}
"""Those that matter only where tokens are drawn by chance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A language model on disk, nothing of it loaded yet."""

    name: str
    """As it was asked for."""
    folder: Path
    """Configuration and weights; those of the base where there is an adapter."""
    config: Mapping[str, Any]
    adapter: Path | None = None
    """Folder of the adapter's weights, which change those of `folder`."""

    @property
    def tokenizer(self) -> Path:
        """The folder with the tokenizer and its chat template: the adapter's own if it has one."""
        own = self.adapter and any(self.adapter.glob("tokenizer*"))
        return self.adapter if self.adapter and own else self.folder

    @property
    def has_chat_template(self) -> bool:
        """Whether the checkpoint brings the form of its conversations along."""
        return bool(chat_template(self.tokenizer))

    @property
    def identity(self) -> dict[str, str]:
        """The weights by their content; reads all of them."""
        whole = {"checkpoint": fingerprint(self.folder)}
        return whole | ({"adapter": fingerprint(self.adapter)} if self.adapter else {})

    @property
    def adapter_config(self) -> dict[str, Any]:
        """What the adapter says of itself; empty where there is none."""
        return _read_json(self.adapter / ADAPTER_CONFIG) if self.adapter else {}

    @property
    def drawing(self) -> dict[str, Any]:
        """How the checkpoint itself would be drawn from, where that is not neutral.

        Raises:
            ModelError: a number there is none.
        """
        path = self.folder / GENERATION_CONFIG
        own: Mapping[str, Any] = _read_json(path) if path.exists() else self.config
        found = {k: own[k] for k, v in NEUTRAL.items() if own.get(k) is not None and own[k] != v}
        for name, value in found.items():
            is_number = isinstance(value, int | float) and -(10**9) <= value <= 10**9
            if isinstance(NEUTRAL[name], int | float) and not is_number:
                raise ModelError(f"{path} has {value!r:.40} for {name}, which is to be a number")
        return found

    @property
    def penalties(self) -> bool:
        """Whether the checkpoint's own way differs even where the likeliest token is taken."""
        return not self.drawing.keys() <= SAMPLING

    @property
    def quantized(self) -> str | None:
        """The way in which the weights are quantised, if they are."""
        how = self.config.get("quantization_config")
        return str(how.get("quant_method", "unknown")) if isinstance(how, Mapping) else None

    def require_loadable(self) -> None:
        """Find out whether transformers can load the weights here.

        Raises:
            ModelError: a package is missing.
        """
        needed = {name: name for name in _QUANTIZED.get(self.quantized or "", ())}
        if self.adapter:
            needed["peft"] = "'mipo-eval[train]'"
        absent = [name for name in needed if importlib.util.find_spec(name) is None]
        if absent:
            what = "an adapter" if absent == ["peft"] else f"quantised ({self.quantized})"
            packages = " ".join(needed[name].replace("_", "-") for name in absent)
            raise ModelError(
                f"{self.name} is {what}, and to load it here {', '.join(absent)} is needed: "
                f"pip install {packages}; or serve it with vLLM: openai:NAME@URL"
            )


def find_checkpoint(name: str) -> Checkpoint:
    """Return the checkpoint or adapter that a folder or hub id means.

    Raises:
        ModelError: there is none, or it is not a language model with safe weights.
    """
    plain, base = split_base(name)
    folder = checkpoint_folder(plain)
    if not _is_adapter(plain, folder):
        if base:
            raise ModelError(f"{plain} is no adapter and has no base: leave {BASE}{base} out")
        return Checkpoint(name=name, folder=folder, config=_checked(name, folder))
    found = find_checkpoint(base) if base else _named_base(name, folder)
    if found.adapter:
        raise ModelError(f"{name} is an adapter on {found.name}, an adapter too: merge that first")
    return replace(found, name=name, adapter=folder)


def split_base(name: str) -> tuple[str, str]:
    """Return the name of an adapter and of its base; the latter is empty where none is given."""
    if BASE not in name or Path(name).expanduser().exists():
        return name, ""
    plain, _, base = name.partition(BASE)
    return plain, base


def _is_adapter(name: str, folder: Path) -> bool:
    """Whether a folder holds an adapter and no whole model.

    Raises:
        ModelError: it holds both, or an adapter without safe weights.
    """
    if not (folder / ADAPTER_CONFIG).exists():
        return False
    weights = folder / f"{_ADAPTER_WEIGHTS}.safetensors"
    if any(path != weights for path in folder.glob("*.safetensors")):
        raise ModelError(
            f"{name} holds a whole model and an adapter ({ADAPTER_CONFIG}): keep one of them there"
        )
    if not weights.exists():
        unsafe = (folder / f"{_ADAPTER_WEIGHTS}.bin").exists()
        found = "only adapter_model.bin, which may run code when read" if unsafe else "none"
        raise ModelError(
            f"{name} has no adapter_model.safetensors ({found}): save the adapter with "
            "safe_serialization=True"
        )
    return True


def _named_base(name: str, adapter: Path) -> Checkpoint:
    """Return the base that an adapter's configuration names."""
    config = _read_json(adapter / ADAPTER_CONFIG)
    base, revision = config.get("base_model_name_or_path"), config.get("revision")
    if not isinstance(base, str) or not base:
        raise ModelError(f"{name} names no base in {ADAPTER_CONFIG}: write {name}{BASE}NAME")
    beside = adapter.parent / base
    if not Path(base).exists() and beside.is_dir():
        base = str(beside)
    elif isinstance(revision, str) and not Path(base).exists():
        base = f"{base}@{revision}"
    try:
        return find_checkpoint(base)
    except ModelError as error:
        raise ModelError(
            f"{name} is an adapter of {base}, which cannot be had ({error}): name its base by "
            f"{name}{BASE}NAME"
        ) from error


def split_revision(name: str) -> tuple[str, str | None]:
    """Return a hub id and the revision behind its last @, if there is one."""
    plain, mark, revision = name.rpartition("@")
    return (plain, revision) if mark and plain and revision else (name, None)


def checkpoint_folder(name: str) -> Path:
    """Return the local folder of a checkpoint given by path or hub id.

    Raises:
        ModelError: there is no such checkpoint, or the hub does not give it out.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.suffix == ".gguf":
        raise _gguf(path)
    if path.exists():
        raise ModelError(f"{name} is a file: give the folder of a checkpoint")
    repository, revision = split_revision(name)
    if revision and Path(repository).expanduser().is_dir():
        raise ModelError(f"{repository} is a folder, which has no revision {revision}: leave @ out")
    if path.is_absolute() or name.startswith(".") or repository.count("/") != 1:
        raise ModelError(f"there is no checkpoint at {name}: give a folder or a hub id")
    return _from_hub(repository, revision)


def _gguf(path: Path) -> ModelError:
    """Return what to say of a file in llama.cpp's format."""
    return ModelError(
        f"{path} is a GGUF file, which cannot be trained and is not loaded as it is: serve it "
        f"(llama-server -m {path.name}) and name it openai:NAME@http://localhost:8080, or have it "
        f"unpacked by lm-eval:hf:pretrained={path.parent},gguf_file={path.name} (pip install gguf)"
    )


def _from_hub(name: str, revision: str | None) -> Path:
    try:
        return _snapshot(name, revision, [f"*{suffix}" for suffix in _IDENTITY_SUFFIXES])
    except ModuleNotFoundError:
        needed = "local checkpoints need torch and transformers: pip install 'mipo-eval[hf]'"
        raise ModelError(needed) from None
    except OSError as error:
        at = f" at revision {revision}" if revision else ""
        raise ModelError(
            f"{name} is neither a folder here nor a model the hub gives out{at}: "
            f"{first_line(error)}"
        ) from error


def hub_commit(name: str, revision: str | None = None) -> str | None:
    """Return the commit that a hub id means now; None where neither the hub nor a cache says."""
    try:
        return _snapshot(name, revision, ["config.json", ADAPTER_CONFIG]).name
    except (ModuleNotFoundError, OSError):
        return None


def is_here(name: str) -> bool:
    """Whether a checkpoint is on this machine; False is one that only the hub has, if anybody.

    Raises:
        ModelError: the name is that of no checkpoint.
    """
    plain, base = split_base(name)
    repository, revision = split_revision(plain)
    is_id = repository.count("/") == 1 and not plain.startswith((".", "/", "~"))
    if Path(plain).expanduser().exists() or not is_id:
        checkpoint_folder(plain)
    else:
        try:
            _snapshot(repository, revision, ["config.json", ADAPTER_CONFIG], cached=True)
        except (ModuleNotFoundError, OSError):
            return False
    return is_here(base) if base else True


def _snapshot(
    name: str, revision: str | None, patterns: list[str], *, cached: bool = False
) -> Path:
    """Return the folder of one commit of a repository, with the files of these names.

    With `cached` the hub is not asked.

    Raises:
        ModuleNotFoundError: the hub's client is not installed.
        OSError: neither the hub nor the cache gives it out.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(
            snapshot_download(
                name, revision=revision, allow_patterns=patterns, local_files_only=cached
            )
        )
    except HFValidationError as error:
        raise FileNotFoundError(str(error)) from error


def _read_json(path: Path) -> dict[str, Any]:
    """Return the object in a checkpoint's file.

    Raises:
        ModelError: it cannot be read or is no object.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path} is not a JSON object")
    return found


def _checked(name: str, folder: Path) -> dict[str, Any]:
    """Return the configuration of a checkpoint that is a language model with safe weights.

    Raises:
        ModelError: it is not; the message says what it is instead.
    """
    if not (folder / "config.json").exists():
        if gguf := next(folder.glob("*.gguf"), None):
            raise _gguf(gguf)
        raise ModelError(f"{name} is not a checkpoint: it has no config.json")
    config = _read_json(folder / "config.json")
    if not any(folder.glob("*.safetensors")):
        if "gguf" in name.lower():  # of the hub's repositories such files are not fetched
            raise _gguf(folder / "FILE.gguf")
        unsafe = [path.name for pattern in _UNSAFE_WEIGHTS for path in folder.glob(pattern)]
        names = ", ".join(sorted(unsafe))
        found = f"only {names}, which may run code when read" if unsafe else "none"
        raise ModelError(
            f"{name} has no weights in safetensors ({found}): save it with safe_serialization=True"
        )
    told = config.get("architectures")
    architectures = list(map(str, told)) if isinstance(told, list) else []
    if not any(a.endswith(("ForCausalLM", "ForConditionalGeneration")) for a in architectures):
        what = ", ".join(architectures)[:200] or "no architecture in config.json"
        raise ModelError(f"{name} is not a language model ({what}): nothing to generate with")
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    text = config.get("text_config")
    for part in (config, *([text] if isinstance(text, dict) else [])):
        _check_size(name, part, size)
    return config


def _check_size(name: str, config: Mapping[str, Any], size: int) -> None:
    """Refuse a configuration of a model that its weights cannot be, before memory is taken for it.

    Raises:
        ModelError: a number of it is none, or stands for far more than the weights hold.
    """
    found: dict[str, int] = {}
    for key, names in _SIZES.items():
        value = next((config[own] for own in names if config.get(own) is not None), None)
        if value is None or isinstance(value, list):  # some differ from layer to layer
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ModelError(
                f"{name}: config.json has {value!r:.40} for {names[0]}, where a number above 0 is "
                "needed: the file is damaged, or not this checkpoint's"
            )
        found[key] = value
    width, layers = found.get("width", 0), found.get("layers", 1)
    least = width * found.get("vocabulary", 0) + layers * (width + found.get("inner", 0))
    if least > _MOST_IN_A_BYTE * size:
        raise ModelError(
            f"{name}: config.json describes at least {least:.0e} weights, and its files have only "
            f"{size:,} bytes: the configuration is not this checkpoint's"
        )


@contextmanager
def loading(name: str) -> Iterator[None]:
    """Say in one line why a checkpoint cannot be loaded.

    Raises:
        ModelError: whatever was raised.
    """
    try:
        yield
    except MipoEvalError:
        raise
    # Its files are read by half a dozen libraries, which raise anything over what is in them.
    except Exception as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ModelError(f"{name} cannot be loaded: {reason}") from error


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
        return _read_json(folder / "tokenizer_config.json")
    except ModelError:
        return {}


def fingerprint(folder: Path) -> str:
    """Return the digest of a checkpoint's files: weights, configuration, tokenizer, template.

    Reads everything once, about as fast as the disk: seconds for billions of parameters.
    """
    files = sorted(p for p in folder.iterdir() if p.suffix in _IDENTITY_SUFFIXES and p.is_file())
    return digest([[path.name, _sha256(path)] for path in files])


def content(name: str) -> str | None:
    """Return the digest of a file, or of all that a folder holds; None where neither has the name.

    What begins with a dot is left out: versions and caches that are no part of a model.

    Raises:
        ModelError: it cannot be read.
    """
    path = Path(name)
    try:
        if not name or not path.exists():
            return None
        found = sorted(_files(path)) if path.is_dir() else [path]
        return digest([[str(one.relative_to(path)), _sha256(one)] for one in found])
    except (OSError, ValueError) as error:
        if not os.path.lexists(path):  # too long, or with characters that no file's name has
            return None
        raise ModelError(f"{name} cannot be read: {error}") from error


def _files(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = (Path(parent, name) for name in names if not name.startswith("."))
        yield from (path for path in paths if path.is_file())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
