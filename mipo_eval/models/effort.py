"""How much a model is let think, as a user says it: on or off, how hard, how long.

enable_thinking=false           a switch of the chat template: Qwen3, GLM, Hunyuan, ...
chat_template_kwargs.NAME=V     any other: `thinking` (DeepSeek-V3.1, Granite), ...
reasoning_effort=low            gpt-oss by its template; servers as their own parameter
thinking_budget=1000            tokens of thinking at most
extra_body.NAME=V               any other parameter of a server: extra_body.reasoning.max_tokens

What is left unset is left to the model and its server, and stands in no key.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mipo_eval.errors import ConfigError
from mipo_eval.keys import canonical_json

_SWITCH = "enable_thinking"
_NESTED = ("chat_template_kwargs", "extra_body")
_NAMES = (_SWITCH, "reasoning_effort", "thinking_budget", *_NESTED)
_OURS = frozenset({"model", "messages", "stream", "n", "max_tokens", "max_completion_tokens"})
"""Parameters of a request that decide what it is; they are set elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much a model is let think. An empty one leaves everything as it is."""

    template: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the chat template."""
    level: str | None = None
    """How hard to think, in the words of the model or its server."""
    budget: int | None = None
    """Tokens of thinking at most."""
    body: Mapping[str, Any] = field(default_factory=dict)
    """Further parameters of a request to a server."""

    def __hash__(self) -> int:
        return hash(canonical_json(self.parts()))

    def parts(self) -> dict[str, Any]:
        """Return what is set, for keys: nothing where nothing is."""
        named = {
            "chat_template_kwargs": dict(self.template),
            "reasoning_effort": self.level,
            "thinking_budget": self.budget,
            "extra_body": dict(self.body),
        }
        return {name: value for name, value in named.items() if value not in (None, {})}

    def describe(self) -> str | None:
        """Return what is set as a signature shows it; None where nothing is."""
        shown: list[str] = []
        for name, value in self.parts().items():
            within = value if isinstance(value, Mapping) else {name: value}
            shown += (f"{key}={_written(one)}" for key, one in sorted(within.items()))
        return ",".join(shown) or None

    def template_arguments(self) -> dict[str, Any]:
        """Return what the chat template of a checkpoint is given."""
        level = {} if self.level is None else {"reasoning_effort": self.level}
        return {**level, **self.template}

    def request_parameters(self) -> dict[str, Any]:
        """Return what a server that speaks OpenAI's protocol is sent.

        vLLM takes the budget by this name; others by names of their own, for `extra_body`.
        """
        named = {
            "chat_template_kwargs": dict(self.template) or None,
            "reasoning_effort": self.level,
            "thinking_token_budget": self.budget,
        }
        return {name: v for name, v in named.items() if v is not None} | dict(self.body)


def _written(value: Any) -> str:
    return value if isinstance(value, str) else canonical_json(value)


def parse_effort(text: str, kind: str, *, flag: str) -> tuple[Effort, str]:
    """Return what `key=value,...` says of thinking, and what it says of other things.

    Args:
        text: as a user writes it.
        kind: of the model that is told: one of `KINDS` that is evaluated or judges.
        flag: where it was written.

    Raises:
        ConfigError: a value is not of its kind, or this kind of model cannot be told it.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    pairs = {part: part.partition("=") for part in parts}
    own = {key: value for key, _, value in pairs.values() if is_effort(key)}
    effort = read_effort(own, flag=flag)
    check_effort(effort, kind, where=flag)
    return effort, ",".join(part for part in parts if not is_effort(pairs[part][0]))


def is_effort(key: str) -> bool:
    """Whether a setting of a model is one of these."""
    return key.partition(".")[0] in _NAMES


def read_effort(settings: Mapping[str, str], *, flag: str) -> Effort:
    """Return what settings say, each as a user writes it.

    Args:
        settings: only such that `is_effort`.
        flag: where the user wrote them, for messages.

    Raises:
        ConfigError: a value is not of its kind, or names nothing.
    """
    nested: dict[str, dict[str, Any]] = {name: {} for name in _NESTED}
    plain: dict[str, str] = {}
    for key, value in settings.items():
        name, dot, rest = key.partition(".")
        if name in _NESTED:
            if not dot or not all(rest.split(".")):
                raise ConfigError(f"{flag} {key}={value}: write {name}.NAME=VALUE")
            _put(nested[name], rest.split("."), _value(value), where=f"{flag} {key}")
        elif dot:
            raise ConfigError(f"{flag} {key}={value}: {name} has no parts")
        else:
            plain[key] = value
    if (switch := plain.get(_SWITCH)) is not None:
        if switch.lower() not in {"true", "false"}:
            raise ConfigError(f"{flag} {_SWITCH}={switch}: it must be true or false")
        nested["chat_template_kwargs"][_SWITCH] = switch.lower() == "true"
    return checked_effort(
        template=nested["chat_template_kwargs"],
        level=plain.get("reasoning_effort"),
        budget=_tokens(plain.get("thinking_budget"), flag),
        body=nested["extra_body"],
        where=flag,
    )


def checked_effort(
    *,
    template: Mapping[str, Any],
    level: str | None = None,
    budget: int | None,
    body: Mapping[str, Any],
    where: str,
) -> Effort:
    """Return an effort whose parameters are no others than how to think.

    Raises:
        ConfigError: a parameter of `body` is set elsewhere or has no form in JSON, or the budget is
            negative.
    """
    if taken := sorted(_OURS & body.keys()):
        raise ConfigError(
            f"{where}: extra_body.{taken[0]} cannot be set here, because another setting sets it"
        )
    try:
        canonical_json([dict(template), dict(body)])
    except (TypeError, ValueError) as error:  # a date of YAML's, an infinity
        raise ConfigError(
            f"{where}: extra_body and chat_template_kwargs contain something that is not JSON "
            f"({error})"
        ) from None
    if budget is not None and budget < 0:
        raise ConfigError(f"{where}: thinking_budget is {budget}: it must be a number of tokens")
    return Effort(template=dict(template), level=level, budget=budget, body=dict(body))


_TAKEN: Mapping[str, frozenset[str]] = {
    "hf": frozenset({"chat_template_kwargs", "reasoning_effort", "thinking_budget"}),
    "vllm": frozenset({"chat_template_kwargs", "reasoning_effort"}),
    "openai": frozenset(
        {"chat_template_kwargs", "reasoning_effort", "thinking_budget", "extra_body"}
    ),
    "azure": frozenset({"reasoning_effort", "extra_body"}),
    "anthropic": frozenset({"reasoning_effort"}),
    "gemini": frozenset({"reasoning_effort", "thinking_budget"}),
    "any-llm": frozenset({"reasoning_effort"}),
}
"""What each kind of model can be told."""
_INSTEAD = {
    ("vllm", "thinking_budget"): "vLLM in this process cannot keep one: serve the model with "
    "`vllm serve --reasoning-parser NAME` and name its URL, or run it by hf:PATH",
    ("hf", "extra_body"): "it is for servers",
    ("vllm", "extra_body"): "it is for servers",
    ("lm-eval", ""): "write it among the model's own arguments, lm-eval:TYPE:NAME=VALUE,...",
}


def check_effort(effort: Effort, kind: str, *, where: str) -> None:
    """Find out whether a kind of model can be told all of this.

    Raises:
        ConfigError: it cannot; with what to do instead, where there is something.
    """
    for name in effort.parts():
        if name not in _TAKEN.get(kind, ()):
            known = ", ".join(sorted(_TAKEN.get(kind, ()))) or "none"
            instead = _INSTEAD.get((kind, name)) or _INSTEAD.get((kind, ""))
            raise ConfigError(
                f"{where}: {name} cannot be set here: {instead or f'it takes {known}'}"
            )


def check_room(effort: Effort, max_tokens: int, *, where: str) -> None:
    """Find out whether a budget of thinking leaves room for an answer.

    Raises:
        ConfigError: it does not.
    """
    if effort.budget is not None and effort.budget >= max_tokens:
        raise ConfigError(
            f"{where}: thinking_budget={effort.budget} leaves no room for an answer in "
            f"max_tokens={max_tokens}, which counts both: raise max_tokens"
        )


def _put(into: dict[str, Any], path: list[str], value: Any, *, where: str) -> None:
    for name in path[:-1]:
        into = into.setdefault(name, {})
        if not isinstance(into, dict):
            raise ConfigError(f"{where}: {name} is set twice")
    into[path[-1]] = value


def _value(text: str) -> Any:
    """Return a value as JSON reads it, else as text: true, 12 and low are three kinds."""
    try:
        value = json.loads(text, parse_constant=str)
    except (ValueError, RecursionError):
        lower = text.lower()
        return lower == "true" if lower in {"true", "false"} else text
    return value if isinstance(value, bool | int | float | str) else text


def _tokens(text: str | None, flag: str) -> int | None:
    if text is None:
        return None
    if not text.isdecimal() or len(text) > 9:
        raise ConfigError(f"{flag} thinking_budget={text}: it must be a number of tokens")
    return int(text)
