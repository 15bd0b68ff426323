"""What `--model` can name, and what a model is: never two models under one name.

PATH or hub id        a checkpoint, through lm-eval's `hf`
vllm:PATH             the same checkpoint, through lm-eval's `vllm`, in this process
openai:NAME@URL       a served model, through lm-eval's chat-completions model
openai:NAME           the same at OpenAI
demo                  the embedded base model, through `hf`
lm-eval:TYPE:ARGS     any other lm-eval model type with its own arguments (key=value,...)

A checkpoint is identified by its content, a served model by its name and URL.

Servers' URLs, and text from servers made fit to be shown: one form, one line, no key.
"""

import importlib
import inspect
import ipaddress
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from mipo_eval.checkpoints import (
    check_checkpoint,
    checkpoint_folder,
    fingerprint,
    has_chat_template,
)
from mipo_eval.errors import ConfigError
from mipo_eval.models.base import Backend
from mipo_eval.models.retry import Limits

Engine = Literal["hf", "vllm", "openai", "lm-eval"]
_OPENAI_URL = "https://api.openai.com/v1"
_DEMO = "mipo_eval.demo.model:base_model"


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
        folder: Path = _named(_DEMO)()
        return _checkpoint("demo", "hf", folder)
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


OPENAI_KEY = "OPENAI_API_KEY"
GEMINI_KEYS = ("GEMINI_API_KEY", "GOOGLE_API_KEY")
"""The environment variables keys are read from, at call time; they are stored nowhere."""

_KEY_LIKE = re.compile(r"\b(?:(?:sk|key|Bearer)[-_ ]|AIza)[\w*.-]{6,}")
_LISTED = 12
"""Models named in an error, at most."""


def normal_url(text: str, *, path: str = "", key: str = OPENAI_KEY) -> str:
    """Return a server's URL in its one form: lower case, with scheme, no slash at the end.

    Args:
        text: what the user wrote; without a scheme it is http on one's own network, else https.
        path: what to add where there is no path.
        key: the environment variable to name where the URL holds credentials.

    Raises:
        ConfigError: it holds a user or password, or is no URL; the message does not repeat it.
    """
    text = text.strip()
    if "://" not in text:
        text = ("http://" if is_private(f"http://{text}") else "https://") + text
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ConfigError("the judge's URL cannot be read: use http://host:port/v1") from None
    if parts.username or parts.password or parts.query:
        raise ConfigError(
            f"the URL of {parts.hostname} holds credentials or a query: remove them and set the "
            f"environment variable {key}"
        )
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigError(f"{text!r} is not a server's URL: use http://host:port/v1")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{f':{port}' if port else ''}{parts.path.rstrip('/') or path}"


def is_private(url: str) -> bool:
    """Whether a URL is on this machine or network, where servers mostly ask for no key."""
    host = urlsplit(url).hostname or ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "." not in host or host.endswith((".local", ".internal", ".localhost"))
    return address.is_private or address.is_loopback or address.is_link_local


def clean(text: str) -> str:
    """Return text from a server as one short line that holds no key."""
    for name in (OPENAI_KEY, *GEMINI_KEYS):
        if key := os.environ.get(name):
            text = text.replace(key, "<key>")
    return " ".join(_KEY_LIKE.sub("<key>", text).split())[:300]


def sendable(text: str) -> str:
    """Return text a server can be sent: model output may hold lone surrogates."""
    return text.encode("utf-8", "replace").decode()


def near(served: Sequence[str], wanted: str) -> str:
    """Return the names nearest to the one wanted, and how many more there are."""
    if not served:
        return "nothing"
    if len(served) <= _LISTED:
        return ", ".join(served)
    listed = get_close_matches(wanted, served, n=_LISTED, cutoff=0.0)
    return f"{', '.join(listed)} and {len(served) - len(listed)} more"


BACKENDS = {
    "openai": "mipo_eval.models.openai:OpenAIBackend",
    "gemini": "mipo_eval.models.gemini:GeminiBackend",
    "vllm": "mipo_eval.models.vllm:VllmBackend",
    "hf": "mipo_eval.models.hf:HfBackend",
    "scripted": "mipo_eval.models.base:ScriptedBackend",
    "checker": "mipo_eval.demo.checker:Checker",
}
"""Name to class, imported on first use: client libraries take a second to import."""

BATCH_BACKENDS = {
    "openai": "mipo_eval.models.batch:OpenAIBatchBackend",
    "gemini": "mipo_eval.models.batch:GeminiBatchBackend",
}
"""The same for those that also have a batch service: half the price, an answer within a day."""

_FORMS = (
    "openai:MODEL, openai:MODEL@URL, gemini:MODEL, hf:PATH, vllm:PATH, scripted:FILE.jsonl, checker"
)


def load_backend(
    spec: str,
    *,
    limits: Limits | None = None,
    options: Mapping[str, Any] | None = None,
    batch: bool = False,
) -> Backend:
    """Return the backend a spec names.

    Args:
        spec: `openai:MODEL`, `openai:MODEL@URL` (several URLs separated by commas),
            `gemini:MODEL`, `hf:PATH`, `vllm:PATH`, `scripted:FILE.jsonl` or `checker`.
        limits: concurrency, tries, timeouts, pace and money, for backends that are servers.
        options: further arguments of the backend's class, e.g. `tensor_parallel_size`.
        batch: ask through the provider's batch service.

    Raises:
        ConfigError: there is no such backend or option, or the spec does not say what to ask.
        DataError: the file of replies cannot be read.
        ModelError: the checkpoint is missing or not a language model.
    """
    name, _, rest = spec.partition(":")
    if name not in BACKENDS:
        raise ConfigError(f"unknown judge {spec!r}: use {_FORMS}")
    if bool(rest) == (name == "checker"):
        raise ConfigError(f"{spec!r} is not how {name} is asked: use {_FORMS}")
    if batch and name not in BATCH_BACKENDS:
        raise ConfigError(f"{spec} has no batch service; those have: {', '.join(BATCH_BACKENDS)}")
    make: Callable[..., Backend] = _named((BATCH_BACKENDS if batch else BACKENDS)[name])
    if name == "checker":
        return _made(make, spec, {}, options)
    if name == "scripted":
        from mipo_eval.models.base import ScriptedBackend

        return ScriptedBackend.from_file(rest)
    if name in {"hf", "vllm"}:
        return _made(make, spec, {"model": rest}, options)
    model, _, url = rest.partition("@")
    named = {"model": model, "base_url": url or None, "limits": limits}
    return _made(make, spec, named, options)


def _made(
    make: Callable[..., Backend],
    spec: str,
    named: Mapping[str, Any],
    options: Mapping[str, Any] | None,
) -> Backend:
    known = inspect.signature(make).parameters.keys() - named.keys()
    if unknown := sorted((options or {}).keys() - known):
        names = ", ".join(sorted(known)) or "none"
        raise ConfigError(f"{spec} has no option {', '.join(unknown)}; known: {names}")
    return make(**named, **(options or {}))


def _named(dotted: str) -> Any:
    module, _, attribute = dotted.partition(":")
    return getattr(importlib.import_module(module), attribute)
