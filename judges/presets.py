"""What `--judge` can name: a preset that ships, a preset file of the user's, or a backend.

gpt-4.1                        a preset, asked where it says
qwen2.5-14b@http://host:8000   a preset whose model is served at that URL
family                         the preset for the family of the model under evaluation
mine.yaml                      a preset of the user's
openai:MODEL@URL, hf:PATH ...  a backend, with the default settings
"""

from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from mipo_eval.errors import ConfigError
from mipo_eval.judges.judge import PAIR_SLOTS, RATING_OPTIONAL_SLOTS, RATING_SLOTS, Judge, Protocol
from mipo_eval.judges.prompt import Prompt, load_prompt
from mipo_eval.models.base import Limits, Purse, Sampling
from mipo_eval.models.effort import check_effort, check_room, checked_effort
from mipo_eval.models.spec import JUDGES, ModelName, load_backend, read_name
from mipo_eval.settings import read_yaml

FAMILY = "family"
_YAML = (".yaml", ".yml")
_FAMILIES = {"qwen": "qwen2.5-14b", "llama": "llama-3-8b"}
"""The paper's pairing (appendix): each family is judged by a larger model of its own."""

_RULES = frozenset({"checker"})
"""Backends that rate by rule and read no prompt."""

_SLOTS: Mapping[Protocol, tuple[frozenset[str], frozenset[str]]] = {
    "rubric": (RATING_SLOTS, RATING_OPTIONAL_SLOTS),
    "pairwise": (PAIR_SLOTS, frozenset()),
    "pairwise-tie": (PAIR_SLOTS, frozenset()),
}


class Preset(BaseModel):
    """One judge, as a YAML file describes it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    description: str
    backend: str
    """Where it is asked by default: a backend's spec."""
    served_name: str | None = None
    """What servers call the model, for PRESET@URL; default: the model in `backend`."""
    family: str | None = None
    """The family of its model, for the test whether it favours its own."""
    temperature: float | None = Field(default=0.0, ge=0, le=100)
    max_tokens: int = Field(default=16, ge=1, lt=2**31, strict=True)
    seed: int = Field(default=0, ge=-(2**31), lt=2**31, strict=True)
    reasoning: str | None = None
    """How hard to think, in the words of the server."""
    enable_thinking: bool | None = None
    """The switch that chat templates of some models have."""
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Other arguments of the chat template."""
    thinking_budget: int | None = Field(default=None, ge=0, strict=True)
    """Tokens of thinking at most; `max_tokens` counts them too."""
    extra_body: dict[str, Any] = Field(default_factory=dict)
    """Parameters of the request that only its server knows."""
    logprobs: int = Field(default=0, ge=0, le=1000, strict=True)
    """Alternatives to ask for, for probability-weighted ratings beside the plain ones."""
    constrained: bool = True
    """False: let it write what it wants, as the paper does, and read its answer out of that."""
    protocol: Protocol | None = None
    """How it is asked where the command leaves it open, and what `prompt` is for."""
    prompt: str | None = None
    """A prompt file, relative to the preset's; default: ours for the protocol."""
    limits: dict[str, Any] = Field(default_factory=dict)
    """Concurrency, tries, pace and so on: the fields of `Limits`."""
    api_key_env: str | None = None
    """The environment variable that holds the key of the server in `backend`."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of the backend, e.g. `tensor_parallel_size`."""

    def sampling(self) -> Sampling:
        """Return how replies are drawn."""
        own = self.model_dump(include=set(Sampling.__dataclass_fields__))
        switch = {} if self.enable_thinking is None else {"enable_thinking": self.enable_thinking}
        effort = checked_effort(
            template={**self.chat_template_kwargs, **switch},
            budget=self.thinking_budget,
            body=self.extra_body,
            where="the judge's preset",
        )
        return Sampling(**own, effort=effort)


def preset_names() -> tuple[str, ...]:
    """Return the presets that ship, and `family`."""
    folder = resources.files("mipo_eval.judges") / "presets"
    names = (file.name.removesuffix(".yaml") for file in folder.iterdir())
    return (*sorted(names), FAMILY)


def load_preset(name: str) -> Preset:
    """Return a preset that ships, by name, or the user's, by the path of its YAML file.

    Raises:
        ConfigError: there is no such preset, or a field of it is wrong.
    """
    shipped = resources.files("mipo_eval.judges") / "presets" / f"{name}.yaml"
    file = Path(name) if name.endswith(_YAML) else shipped
    return read_yaml(file, f"the judge's preset {name}", Preset)


def named_preset(named: ModelName) -> Preset | None:
    """Return the preset a judge's name means, or None where it means a backend or `family`.

    Raises:
        ConfigError: the preset cannot be read.
    """
    shipped = named.name in set(preset_names()) - {FAMILY}
    own = named.name.endswith(_YAML)
    return load_preset(named.name) if named.kind is None and (shipped or own) else None


def is_family(spec: str) -> bool:
    """Whether a judge is chosen by the family of the model under evaluation."""
    return read_name(spec).name == FAMILY


def duel_protocol(spec: str, asked: Protocol | None = None) -> Protocol:
    """Return how a judge compares two responses: as asked, as its preset says, else pairwise.

    A judge that is a rule only rates; it prefers what it rates higher.

    Raises:
        ConfigError: the preset cannot be read.
    """
    preset = named_preset(read_name(spec))
    if (preset.backend if preset else spec) in _RULES:
        return "rubric"
    return asked or (preset and preset.protocol) or "pairwise"


def family_of(model: str) -> str | None:
    """Return the family a model's name tells, or None.

    Example:
        >>> family_of("meta-llama/Llama-3.2-1B-Instruct"), family_of("demo")
        ('llama', None)
    """
    found = [family for family in _FAMILIES if family in model.lower()]
    return found[0] if len(found) == 1 else None


def load_judge(
    spec: str,
    *,
    protocol: Protocol | None = None,
    prompt_file: str | Path | None = None,
    limits: Limits | Purse | None = None,
    judged_model: str | None = None,
    batch: bool = False,
) -> Judge:
    """Return the judge a spec names; see the top of this file.

    Args:
        spec: a preset, a preset file, or a backend.
        protocol: ratings per preference, or choices between two responses; None: what the preset
            says, else ratings.
        prompt_file: a prompt of the user's, with the slots of the protocol.
        limits: concurrency, tries, pace and money; the preset's where None. A purse alone leaves
            the rest to the preset, and may be shared by several judges.
        judged_model: what tells the family of the model under evaluation, for `family`: the
            `model_type` of its config.json, or its name.
        batch: ask through the provider's batch service, at half the price, within a day.

    Raises:
        ConfigError: the spec, the preset or the prompt file is wrong.
        ModelError: the judge's checkpoint is missing or not a language model.
    """
    named = read_name(spec)
    if named.kind is None and named.name == FAMILY:
        named = replace(named, name=family_preset(judged_model))
    name, preset = _described(named)
    protocol = protocol or preset.protocol or "rubric"
    if preset.prompt and preset.protocol not in {None, protocol}:
        raise ConfigError(
            f"the preset {named.name} has a prompt for the protocol {preset.protocol}, so it "
            f"cannot be asked as {protocol}"
        )
    if prompt_file is None and preset.prompt:
        prompt_file = Path(named.name).parent / preset.prompt
    where, options = preset.backend, preset.options
    if preset.api_key_env:
        options = {**options, "api_key_env": preset.api_key_env}
    if named.kind is None and named.url:
        where = f"openai:{preset.served_name or read_name(where).name}@{named.url}"
        options = {}  # they, and the key, are for the backend that the preset names
    limits = _limits(named.name, preset.limits, limits)
    sampling = preset.sampling()
    check_effort(sampling.effort, read_name(where).kind or "", where=f"the judge {name}")
    check_room(sampling.effort, sampling.max_tokens, where=f"the judge {name}")
    return Judge(
        name=name,
        spec=spec,
        backend=load_backend(where, limits=limits, options=options, batch=batch),
        prompt=prompt_for(protocol, prompt_file),
        protocol=protocol,
        sampling=sampling,
        constrained=preset.constrained,
    )


def _described(named: ModelName) -> tuple[str, Preset]:
    """Return a judge's name and preset; a bare backend has one that leaves everything as it is."""
    preset = named_preset(named)
    if preset is None and named.kind is None:
        raise ConfigError(
            f"unknown judge {named.text!r}: --judge takes a preset ({', '.join(preset_names())}), "
            f"the YAML file of one, or a backend ({JUDGES})"
        )
    own = Path(named.name).stem if named.name.endswith(_YAML) else named.name
    name = named.label if preset is None else own
    if "|" in name or "\n" in name:
        raise ConfigError(
            f"the judge's name {name!r} contains '|', which is not allowed in a signature"
        )
    return name, preset or Preset(description="", backend=named.text)


def _limits(name: str, fields: Mapping[str, Any], given: Limits | Purse | None) -> Limits:
    """Return the limits given; a purse replaces only the money of the preset's own."""
    try:
        own = Limits(**fields)
    except TypeError as error:
        raise ConfigError(f"the judge's preset {name}: limits: {error}") from None
    except ConfigError as error:
        raise ConfigError(f"the judge's preset {name}: {error}") from None
    return replace(own, purse=given) if isinstance(given, Purse) else given or own


def family_preset(model: str | None) -> str:
    """Return the preset for the family of a model, by what tells it.

    Raises:
        ConfigError: there is no model, or it is of no family that has one.
    """
    if model is None:
        raise ConfigError(
            "the judge 'family' depends on the model that is evaluated, and there is none here: "
            f"name a judge, such as {' or '.join(_FAMILIES.values())}"
        )
    family = family_of(model)
    if family is None:
        raise ConfigError(
            f"the judge 'family' knows {' and '.join(_FAMILIES)} models, and {model} is neither "
            "(by its config.json or its name): name a judge"
        )
    return _FAMILIES[family]


def prompt_for(protocol: Protocol, file: str | Path | None = None) -> Prompt:
    """Return the prompt of a protocol: a user's file, or ours.

    Raises:
        ConfigError: there is no such file, or its slots are not those of the protocol.
    """
    required, optional = _SLOTS[protocol]
    return load_prompt(file or protocol, required=required, optional=optional)
