"""Backends: who can be asked, and how requests and replies look."""

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from mipo_eval.backends.base import (
    Backend,
    Failure,
    FailureKind,
    Message,
    Reply,
    Request,
    Sampling,
)
from mipo_eval.backends.pacing import Purse
from mipo_eval.backends.sending import Limits
from mipo_eval.errors import ConfigError

__all__ = [
    "BACKENDS",
    "BATCH_BACKENDS",
    "Backend",
    "Failure",
    "FailureKind",
    "Limits",
    "Message",
    "Purse",
    "Reply",
    "Request",
    "Sampling",
    "load_backend",
]

BACKENDS = {
    "openai": "mipo_eval.backends.openai:OpenAIBackend",
    "gemini": "mipo_eval.backends.gemini:GeminiBackend",
    "vllm": "mipo_eval.backends.vllm:VllmBackend",
    "hf": "mipo_eval.backends.hf:HfBackend",
    "scripted": "mipo_eval.backends.scripted:ScriptedBackend",
    "checker": "mipo_eval.demo.rules:Checker",
}
"""Name to class, imported on first use: client libraries take a second to import."""

BATCH_BACKENDS = {
    "openai": "mipo_eval.backends.openai_batch:OpenAIBatchBackend",
    "gemini": "mipo_eval.backends.gemini_batch:GeminiBatchBackend",
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
    module, _, attribute = (BATCH_BACKENDS if batch else BACKENDS)[name].partition(":")
    make: Callable[..., Backend] = getattr(importlib.import_module(module), attribute)
    if name == "checker":
        return _made(make, spec, {}, options)
    if name == "scripted":
        from mipo_eval.backends.scripted import ScriptedBackend

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
