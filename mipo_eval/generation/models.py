"""What `--model` can name, and what a model is: never two models under one name.

PATH or hub id        a checkpoint, through lm-eval's `hf`
vllm:PATH             the same checkpoint, through lm-eval's `vllm`, in this process
openai:NAME@URL       a served model, through lm-eval's chat-completions model
openai:NAME           the same at OpenAI
demo                  the embedded base model, through `hf`
lm-eval:TYPE:ARGS     any other lm-eval model type with its own arguments (key=value,...)

A checkpoint is identified by its content, a served model by its name and URL.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mipo_eval.checkpoints import (
    check_checkpoint,
    checkpoint_folder,
    fingerprint,
    has_chat_template,
)
from mipo_eval.demo.model import base_model
from mipo_eval.errors import ConfigError

Engine = Literal["hf", "vllm", "openai", "lm-eval"]
_OPENAI_URL = "https://api.openai.com/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A model under evaluation, known well enough to be named; nothing is loaded yet."""

    name: str
    """As the user gave it; shown in tables."""
    engine: Engine
    target: str
    """Folder of the checkpoint, the served model's name, or the lm-eval model type."""
    url: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of an lm-eval model type."""
    identity: Mapping[str, str]
    """What makes it this model and no other; part of every response's key."""
    max_length: int | None = None
    """Context in tokens, where the checkpoint says so."""
    has_chat_template: bool | None = None
    """None when only the server knows."""
    model_type: str | None = None
    """What the checkpoint's config.json calls its kind, e.g. "qwen2"."""

    @property
    def kind(self) -> str:
        """What tells the model's family: its kind, or the name it is served or loaded by."""
        loaded = self.arguments.get("pretrained") or self.arguments.get("model")
        return self.model_type or str(loaded or self.target)


def parse_model(name: str) -> ModelSpec:
    """Return what `--model name` means.

    Args:
        name: see the module's table.

    Raises:
        ConfigError: the name has a form that means nothing.
        ModelError: the checkpoint is missing, unsafe or not a language model.
    """
    prefix, _, rest = name.partition(":")
    if name == "demo":
        return _checkpoint("demo", "hf", base_model())
    if prefix in {"vllm", "openai", "lm-eval"} and not rest:
        raise ConfigError(f"--model {name!r} names no model: write {prefix}:NAME")
    if prefix == "openai":
        return _served(name, rest)
    if prefix == "lm-eval":
        return _lm_eval_type(name, rest)
    if prefix == "vllm":
        return _checkpoint(name, "vllm", checkpoint_folder(rest))
    return _checkpoint(name, "hf", checkpoint_folder(name))


def _served(name: str, rest: str) -> ModelSpec:
    model, _, url = rest.partition("@")
    url = (url or _OPENAI_URL).rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"--model {name!r}: {url!r} is not a URL; write openai:NAME@http://...")
    identity = {"engine": "openai", "model": model, "url": url}
    return ModelSpec(name=name, engine="openai", target=model, url=url, identity=identity)


def _lm_eval_type(name: str, rest: str) -> ModelSpec:
    kind, _, text = rest.partition(":")
    pairs = [part.partition("=") for part in text.split(",") if part]
    if any(not mark for _, mark, _ in pairs):
        raise ConfigError(f"--model {name!r}: write lm-eval:TYPE:key=value,key=value")
    arguments = {key: value for key, _, value in pairs}
    if "trust_remote_code" in arguments:
        raise ConfigError(
            "trust_remote_code is not allowed: a checkpoint must not run its own code"
        )
    identity = {"engine": f"lm-eval:{kind}", **arguments}
    return ModelSpec(
        name=name, engine="lm-eval", target=kind, arguments=arguments, identity=identity
    )


def _checkpoint(name: str, engine: Literal["hf", "vllm"], folder: Path) -> ModelSpec:
    config = check_checkpoint(name, folder)
    length = config.get("max_position_embeddings")
    return ModelSpec(
        name=name,
        engine=engine,
        target=str(folder),
        identity={"engine": engine, "checkpoint": fingerprint(folder)},
        max_length=length if isinstance(length, int) else None,
        has_chat_template=has_chat_template(folder),
        model_type=kind if isinstance(kind := config.get("model_type"), str) else None,
    )
