"""How a model is named, evaluated or judging: the one grammar of `--model` and `--judge`.

KIND:NAME@URL, of which most names need only a part:

openai:NAME           a served model, at OpenAI; with @URL at any server that speaks its protocol
azure:NAME@URL        a deployment at Azure OpenAI
anthropic:NAME        a Claude model
gemini:NAME           a Gemini model
any-llm:WHO:NAME      a model at any provider that any-llm knows (bedrock, mistral, openrouter,
                      vertexai, ...)
hf:PATH, vllm:PATH    a checkpoint in this process, through transformers or vLLM
lm-eval:TYPE:ARGS     any other lm-eval model type, with its arguments (key=value,...); never judges
scripted:FILE.jsonl   replies that were collected elsewhere; judges only
PLUGIN:NAME           what a plug-in's backend asks; evaluated where that is a CallableBackend
checker, demo         the demo world's rule, which judges, and its base model, which is evaluated
smollm2               SmolLM2-135M-Instruct, from the hub or the package index
NAME                  for --model a checkpoint, by folder or hub id; for --judge a preset, by name
                      or by YAML file, with @URL where another server has its model

Wherever a checkpoint is named, NAME@REVISION is one commit, branch or tag of a hub's repository; a
LoRA adapter is a checkpoint too, on the base its configuration names, or ADAPTER,base=NAME.

A model under evaluation is identified by what it is (a checkpoint by its content, a served model by
its name and URL), so that two models never share a name's results.
"""

import importlib
import inspect
import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from mipo_eval.checkpoints import BASE, Checkpoint, find_checkpoint, split_base
from mipo_eval.errors import ConfigError
from mipo_eval.keys import masked
from mipo_eval.models.base import Backend, Limits
from mipo_eval.models.credentials import host_variables
from mipo_eval.plugins import Plugin, find_plugin

Served = Literal["openai", "azure", "anthropic", "gemini", "any-llm"]
Engine = Literal["hf", "vllm", "lm-eval", "own"] | Served
OPENAI_URL = "https://api.openai.com/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What may stand before the colon. Classes are imported on first use: that takes seconds."""

    form: str
    """How it is written."""
    backend: str | None = None
    """What asks it as a judge; None where it never judges."""
    batch: str | None = None
    """The same through its provider's batch service: half the price, an answer within a day."""
    takes: str | None = "model"
    """The argument of the backend that the name is; None where the kind is the whole name."""
    engine: Engine | None = None
    """What runs it under evaluation; None where it only judges."""
    served: bool = False
    """Whether @URL may follow."""
    plugin: Plugin | None = None
    """What makes the backend, where it is not one of ours: a function of the `model` that is asked,
    and of options by name, that returns a `Backend`."""


KINDS: Mapping[str, Kind] = {
    "openai": Kind(
        form="openai:MODEL, openai:MODEL@URL",
        backend="mipo_eval.models.openai:OpenAIBackend",
        batch="mipo_eval.models.batch:OpenAIBatchBackend",
        engine="openai",
        served=True,
    ),
    "azure": Kind(
        engine="azure",
        form="azure:DEPLOYMENT@URL",
        backend="mipo_eval.models.azure:AzureBackend",
        served=True,
    ),
    "anthropic": Kind(
        engine="anthropic",
        form="anthropic:MODEL",
        backend="mipo_eval.models.anthropic:AnthropicBackend",
        batch="mipo_eval.models.batch_anthropic:AnthropicBatchBackend",
        served=True,
    ),
    "gemini": Kind(
        engine="gemini",
        form="gemini:MODEL",
        backend="mipo_eval.models.gemini:GeminiBackend",
        batch="mipo_eval.models.batch:GeminiBatchBackend",
        served=True,
    ),
    "any-llm": Kind(
        engine="any-llm",
        form="any-llm:PROVIDER:MODEL",
        backend="mipo_eval.models.any_llm:AnyLlmBackend",
        served=True,
    ),
    "hf": Kind(form="hf:PATH", backend="mipo_eval.models.hf:HfBackend", engine="hf"),
    "vllm": Kind(form="vllm:PATH", backend="mipo_eval.models.vllm:VllmBackend", engine="vllm"),
    "scripted": Kind(
        form="scripted:FILE.jsonl",
        backend="mipo_eval.models.base:ScriptedBackend.from_file",
        takes="path",
    ),
    "checker": Kind(form="checker", backend="mipo_eval.judges.checker:Checker", takes=None),
    "demo": Kind(form="demo", engine="hf", takes=None),
    "smollm2": Kind(form="smollm2", engine="hf", takes=None),
    "lm-eval": Kind(form="lm-eval:TYPE:key=value,...", engine="lm-eval"),
}
_OWN: Mapping[str, str] = {
    "demo": "mipo_eval.demo.model:base_model",
    "smollm2": "mipo_eval.everyday.smollm2:checkpoint",
}
"""What returns the folder of a checkpoint that has a name of ours."""
_LM_EVAL = "mipo_eval.models.lm_eval_types"
JUDGES = ", ".join(kind.form for kind in KINDS.values() if kind.backend)
"""What is asked by name as a judge, beside presets."""
_MODELS = ", ".join(["PATH", *(kind.form for kind in KINDS.values() if kind.engine)])


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelName:
    """A name taken apart."""

    text: str
    kind: str | None
    """One of KINDS; None where the name is a checkpoint or a preset."""
    name: str
    url: str = ""
    """Of another server than the kind's own; several are separated by commas."""

    @property
    def label(self) -> str:
        """What tables call it: no kind, no URL, no folders."""
        if self.kind == "scripted":
            return self.kind
        if self.kind and self.kind not in KINDS:
            return self.text  # to a plug-in a name may be anything, such as a number
        plain = self.text if self.kind == "lm-eval" else self.name or self.text
        plain, _ = split_base(plain)
        last = plain.rstrip("/").rsplit("/", 1)[-1]
        return Path(plain).resolve().name if last in {".", ".."} else last


def find_kind(prefix: str) -> Kind | None:
    """Return what stands before the colon: one of `KINDS`, or a plug-in's backend."""
    if prefix in KINDS:
        return KINDS[prefix]
    plugin = find_plugin("backends", prefix)
    return Kind(form=f"{prefix}:MODEL", plugin=plugin, engine="own") if plugin else None


def read_name(text: str) -> ModelName:
    """Take a name apart; whether it means anything is for `parse_model` and `load_backend`.

    Example:
        >>> read_name("openai:org/m@http://localhost:8000").url
        'http://localhost:8000'
    """
    prefix, colon, rest = text.partition(":")
    kind = find_kind(prefix) if colon else KINDS.get(prefix)
    if kind is None or (kind.takes and not colon):  # "openai" alone may be a folder
        name, url = _split_url(text)
        if BASE in text or ("/" in name and not name.endswith((".yaml", ".yml"))):
            name, url = text, ""  # a checkpoint's name goes on behind @
        return ModelName(text=text, kind=None, name=name, url=url)
    name, url = _split_url(rest) if kind.served else (rest, "")
    return ModelName(text=text, kind=prefix, name=name, url=url)


_SCHEME = re.compile(r"@(?=[A-Za-z][\w+.-]*://)")
_VERSION = re.compile(r"v?\d+([.-]\d+)*|default|latest")


def _split_url(text: str) -> tuple[str, str]:
    """Split NAME@URL at the last @, for names have some too, unless a version follows it.

    A user and a password before the host stay with the URL, which is refused for them.

    Example:
        >>> _split_url("claude-sonnet-4-5@20250929")
        ('claude-sonnet-4-5@20250929', '')
        >>> _split_url("claude@20250929@localhost:8000")
        ('claude@20250929', 'localhost:8000')
    """
    if match := _SCHEME.search(text):
        return text[: match.start()], text[match.end() :]
    name, mark, url = text.rpartition("@")
    if not mark or (_VERSION.fullmatch(url) and url.count(".") != 3):  # an address has three dots
        return text, ""
    first, _, rest = text.partition("@")
    return (first, rest) if ":" in name[len(first) :] else (name, url)


def checkpoint_name(text: str) -> str:
    """Return the folder or hub id a name means; names of ours are those of a folder, too."""
    named = read_name(text)
    if (own := _OWN.get(named.kind or "")) and not named.name:
        return str(_imported(own)())
    return named.name if named.kind in {"hf", "vllm"} else text


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A model under evaluation, known well enough to be named; nothing is loaded yet."""

    name: str
    """As the user gave it."""
    engine: Engine
    target: str
    """Folder of the checkpoint, the served model's name, or the lm-eval model type."""
    checkpoint: Checkpoint | None = None
    """What is in the folder."""
    backend: str | None = None
    """What asks it, as `load_backend` takes it, where it is served."""
    url: str | None = None
    """Of its server, or of several that share the work."""
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

    Raises:
        ConfigError: the name has a form that means nothing.
        ModelError: the checkpoint is missing, unsafe or not a language model.
    """
    named = read_name(name)
    kind = find_kind(named.kind or "hf")
    if kind is None or kind.engine is None or (named.name and not kind.takes):
        raise ConfigError(f"--model {name!r} is not a model that can be evaluated: use {_MODELS}")
    if named.kind and kind.takes and not named.name:
        raise ConfigError(f"--model {name!r} has no model name: write {named.kind}:NAME")
    if kind.served or kind.plugin:
        return _openai(named) if named.kind == "openai" else _served(named)
    if kind.engine == "lm-eval":
        return _lm_eval_type(named)
    return _checkpoint(name, kind.engine)


def _openai(named: ModelName) -> ModelSpec:
    urls = [normal_url(part, path="/v1") for part in named.url.split(",")] if named.url else []
    url = ",".join(sorted(urls)) or OPENAI_URL
    # As it was typed: the keys of the responses that stores hold were made of that.
    typed = named.url.rstrip("/") if "://" in named.url and len(urls) == 1 else url
    return ModelSpec(
        name=masked(named.text),
        engine="openai",
        target=named.name,
        backend=f"openai:{named.name}@{url}",
        url=url,
        identity={"engine": "openai", "model": named.name, "url": typed},
    )


def _served(named: ModelName) -> ModelSpec:
    """Return a model that only its backend can tell from others.

    Raises:
        ConfigError: there is no such provider, or its client is not installed.
    """
    backend = load_backend(named.text, flag="--model")
    told = {name: value for name, value in backend.identity.items() if name != "backend"}
    return ModelSpec(
        name=named.text,
        engine=kind.engine if (kind := find_kind(str(named.kind))) and kind.engine else "openai",
        target=named.name,
        backend=named.text,
        url=told.get("url"),
        identity={"engine": str(named.kind), **told},
    )


def _lm_eval_type(named: ModelName) -> ModelSpec:
    kind, _, text = named.name.partition(":")
    arguments = _imported(f"{_LM_EVAL}:read_arguments")(named.text, text)
    length = arguments.get("max_length") or arguments.get("max_model_len")
    return ModelSpec(
        name=masked(named.text),
        engine="lm-eval",
        target=kind,
        arguments=arguments,
        identity=_imported(f"{_LM_EVAL}:identity")(kind, arguments),
        max_length=length if isinstance(length, int) else None,
    )


def _checkpoint(name: str, engine: Engine) -> ModelSpec:
    found = find_checkpoint(checkpoint_name(name))
    length = found.config.get("max_position_embeddings")
    kind = found.config.get("model_type")
    return ModelSpec(
        name=masked(name),
        engine=engine,
        target=str(found.folder),
        checkpoint=found,
        identity={"engine": engine, **found.identity},
        max_length=length if isinstance(length, int) else None,
        has_chat_template=found.has_chat_template,
        model_type=kind if isinstance(kind, str) else None,
    )


def load_backend(
    spec: str,
    *,
    limits: Limits | None = None,
    options: Mapping[str, Any] | None = None,
    batch: bool = False,
    flag: str = "--judge",
) -> Backend:
    """Return what asks the model that a name means.

    Args:
        spec: one of KINDS that judge, e.g. `openai:MODEL@URL` (several URLs separated by commas).
        limits: for backends that are servers.
        options: further arguments of the backend's class, e.g. `tensor_parallel_size`.
        batch: ask through the provider's batch service.
        flag: where the user named it, for the error.

    Raises:
        ConfigError: there is no such backend or option, or the name does not say what to ask.
        DataError: the file of replies cannot be read.
        ModelError: the checkpoint is missing or not a language model.
    """
    named = read_name(spec)
    kind = find_kind(named.kind or "")
    if kind is None or not (kind.backend or kind.plugin):
        raise ConfigError(f"unknown {flag.lstrip('-')} {spec!r}: {flag} takes {JUDGES}")
    if bool(named.name) != bool(kind.takes):
        raise ConfigError(f"{flag} {spec!r}: {named.kind} cannot be used here; use {JUDGES}")
    if batch and kind.batch is None:
        with_batches = ", ".join(name for name, other in KINDS.items() if other.batch)
        raise ConfigError(f"{spec} has no batch service; these have one: {with_batches}")
    make = _maker(kind, batch=batch)
    given: dict[str, Any] = {kind.takes: named.name} if kind.takes else {}
    if kind.served:
        given |= {"base_url": named.url or None, "limits": limits}
    parameters = inspect.signature(make).parameters
    known = parameters.keys() - given.keys()
    if unknown := sorted((options or {}).keys() - known):
        names = ", ".join(sorted(known)) or "none"
        raise ConfigError(f"{spec} has no option {', '.join(unknown)}; known: {names}")
    wanted = {name: parameters[name].annotation for name in options or {}}
    arguments = {**given, **_typed(spec, options or {}, wanted)}
    return _made_by(kind.plugin, arguments) if kind.plugin else make(**arguments)


def _maker(kind: Kind, *, batch: bool) -> Callable[..., Backend]:
    """Return the class or function that makes a backend."""
    if kind.plugin:
        return kind.plugin.function()
    return _imported(str(kind.batch if batch and kind.batch else kind.backend))  # type: ignore[no-any-return]


def _made_by(plugin: Plugin, arguments: Mapping[str, Any]) -> Backend:
    """Return the backend that a plug-in makes.

    Raises:
        ConfigError: it failed, or made something that cannot be asked.
    """
    made = plugin(**arguments)
    lacking = [name for name in ("identity", "check", "answer") if not hasattr(made, name)]
    if lacking or not isinstance(made.identity, Mapping):
        raise ConfigError(
            f"{plugin}: it made {type(made).__name__}, which is not a backend: a backend has "
            "identity (a mapping), check() and answer(requests)"
        )
    backend: Backend = made
    return backend


def _typed(spec: str, options: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return options with the types that are wanted."""
    if not options:
        return {}
    from pydantic import TypeAdapter, ValidationError

    typed = {}
    for name, value in options.items():
        try:
            typed[name] = TypeAdapter(wanted[name]).validate_python(value)
        except ValidationError as error:
            raise ConfigError(f"{spec}: option {name}: {error.errors()[0]['msg']}") from None
    return typed


def _imported(dotted: str) -> Any:
    module, _, attribute = dotted.partition(":")
    return attrgetter(attribute)(importlib.import_module(module))


def normal_url(text: str, *, path: str = "") -> str:
    """Return a server's URL in its one form: lower case, with scheme, no slash at the end.

    Args:
        text: what the user wrote; without a scheme it is http on one's own network, else https.
        path: what to add where there is no path.

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
        raise ConfigError("the server's URL cannot be read: use http://host:port/v1") from None
    if parts.username or parts.password or parts.query:
        raise ConfigError(
            f"the URL of {parts.hostname} contains a password or a query: remove it and set the "
            f"environment variable {host_variables(text)[0]}"
        )
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigError(f"{text!r} is not the URL of a server: use http://host:port/v1")
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
