"""What `lm-eval:TYPE:ARGS` means: its arguments as lm-eval reads them, and what they stand for.

An argument that names a folder or a file is known by what is in it, one that names a repository of
the hub by its commit: a checkpoint that was trained further under its old name is another model.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mipo_eval.checkpoints import content, hub_commit, split_revision
from mipo_eval.errors import ConfigError
from mipo_eval.keys import canonical_json, is_secret, masked_values

_SCRATCH = {"cache_dir", "download_dir", "offload_folder"}
"""Arguments that name a folder which runs write to."""
_FROM_HUB = ("pretrained", "peft", "delta", "lora_local_path", "tokenizer")
"""Arguments that may name a repository of the hub."""
_OWN_CODE = "trust_remote_code"


def read_arguments(name: str, text: str) -> dict[str, Any]:
    """Return the arguments of an lm-eval model type, each with the type lm-eval would give it.

    They are one JSON object, or `key=value,...`, where a value may be JSON or a literal of Python
    too. `pretrained=NAME@REVISION` is short for `pretrained=NAME,revision=REVISION`.

    Args:
        name: what the user wrote, for errors.
        text: the arguments in it.

    Raises:
        ConfigError: they cannot be read, or want code of the checkpoint to be run.
    """
    from lm_eval._cli.utils import split_top_level

    if text.lstrip().startswith("{"):
        arguments = _json(text)
        if not isinstance(arguments, dict):
            raise ConfigError(f"--model {name!r}: the arguments are not one JSON object")
    else:
        pairs = [part.partition("=") for part in split_top_level(text)]
        if any(not mark for _, mark, _ in pairs):
            raise ConfigError(f"--model {name!r}: write lm-eval:TYPE:key=value,key=value")
        arguments = {key.strip(): _value(name, key, value) for key, _, value in pairs}
    if _wants_own_code(arguments):
        raise ConfigError(f"{_OWN_CODE} is not allowed: a checkpoint must not run its own code")
    pretrained = arguments.get("pretrained")
    if isinstance(pretrained, str) and not Path(pretrained).exists():
        repository, revision = split_revision(pretrained)
        if revision:
            arguments |= {"pretrained": repository, "revision": revision}
    return arguments


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _value(name: str, key: str, text: str) -> Any:
    """Return one value as lm-eval's own functions read it, where JSON does not."""
    from lm_eval._cli.utils import handle_cli_value_string
    from lm_eval.utils import handle_arg_string

    try:
        if not text.lstrip().startswith(("{", "[", "(")):
            return handle_arg_string(text)
        value = _json(text)
        return handle_cli_value_string(text) if value is None else value
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        raise ConfigError(f"--model {name!r}: the value of {key} cannot be read") from None


def _wants_own_code(value: Any) -> bool:
    if isinstance(value, Mapping):
        return _OWN_CODE in value or any(map(_wants_own_code, value.values()))
    return isinstance(value, list | tuple) and any(map(_wants_own_code, value))


def identity(kind: str, arguments: Mapping[str, Any]) -> dict[str, str]:
    """Return what makes a model of an lm-eval type this model and no other.

    Raises:
        ModelError: a folder or file that is named cannot be read.
    """
    known = {
        key: value if key in _SCRATCH else _known(value)
        for key, value in masked_values(arguments).items()
        if not is_secret(key)
    }
    if "base_url" not in arguments:  # names are then those of a server
        revision = arguments.get("revision")
        for key in _FROM_HUB:
            named = known.get(key)
            if isinstance(named, str) and named == arguments[key]:
                own = str(revision) if revision and key == "pretrained" else None
                known[key] = hub_commit(named, own) or named
    return {"engine": f"lm-eval:{kind}"} | {key: _text(value) for key, value in known.items()}


def _text(value: Any) -> str:
    """Return a value as text, as all were once, so that responses to the same are still found."""
    if isinstance(value, str):
        return value
    try:
        return canonical_json(value)
    except (TypeError, ValueError):  # what JSON has no form for, such as infinity or a set
        return repr(value)


def _known(value: Any) -> Any:
    """Return a value with the content of each folder or file in place of its name."""
    if isinstance(value, Mapping):
        return {key: _known(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_known(one) for one in value]
    return (content(value) or value) if isinstance(value, str) else value
