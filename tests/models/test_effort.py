"""How much a model is let think: what a user writes, what stands in keys, who can be told."""

from typing import Any

import pytest

from mipo_eval.errors import ConfigError
from mipo_eval.keys import digest
from mipo_eval.models.base import Message, Request, Sampling
from mipo_eval.models.effort import Effort, check_effort, read_effort
from mipo_eval.models.lm_eval import Decoding, ModelOptions, generation_spec
from mipo_eval.models.spec import ModelSpec

_CALL = "ccb0716533d4e0e709025ed50f547aee"
_GENERATION = "33aa84c736386e99a7d2c82d3a8e9f4e"


@pytest.mark.parametrize(
    ("settings", "parts", "shown"),
    [
        ({}, {}, None),
        (
            {"enable_thinking": "false"},
            {"chat_template_kwargs": {"enable_thinking": False}},
            "enable_thinking=false",
        ),
        ({"reasoning_effort": "low"}, {"reasoning_effort": "low"}, "reasoning_effort=low"),
        ({"thinking_budget": "0"}, {"thinking_budget": 0}, "thinking_budget=0"),
        (
            {"chat_template_kwargs.thinking": "True", "chat_template_kwargs.date": "1 May"},
            {"chat_template_kwargs": {"thinking": True, "date": "1 May"}},
            "date=1 May,thinking=true",
        ),
        (
            {"extra_body.reasoning.max_tokens": "200", "extra_body.reasoning.exclude": "false"},
            {"extra_body": {"reasoning": {"max_tokens": 200, "exclude": False}}},
            'reasoning={"exclude":false,"max_tokens":200}',
        ),
        (
            {"chat_template_kwargs.a": "NaN", "chat_template_kwargs.b": "[1]"},
            {"chat_template_kwargs": {"a": "NaN", "b": "[1]"}},
            "a=NaN,b=[1]",
        ),
    ],
)
def test_settings_are_typed_and_shown(
    settings: dict[str, str], parts: dict[str, Any], shown: str | None
) -> None:
    effort = read_effort(settings, flag="--engine")
    assert effort.parts() == parts
    assert effort.describe() == shown


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"enable_thinking": "maybe"}, "it must be true or false"),
        ({"thinking_budget": "long"}, "it must be a number of tokens"),
        ({"thinking_budget": "-1"}, "it must be a number of tokens"),
        ({"chat_template_kwargs": "{}"}, "write chat_template_kwargs.NAME=VALUE"),
        ({"extra_body.": "1"}, "write extra_body.NAME=VALUE"),
        ({"extra_body.model": "x"}, "extra_body.model cannot be set here"),
        ({"enable_thinking.x": "true"}, "enable_thinking has no parts"),
        ({"extra_body.a": "1", "extra_body.a.b": "2"}, "a is set twice"),
    ],
)
def test_a_wrong_setting_says_what_is_wrong(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_effort(settings, flag="--engine")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "kind", "message"),
    [
        ({"thinking_budget": "9"}, "vllm", "vllm serve --reasoning-parser"),
        ({"extra_body.top_k": "9"}, "hf", "it is for servers"),
        ({"enable_thinking": "true"}, "lm-eval", "lm-eval:TYPE:NAME=VALUE"),
        ({"enable_thinking": "true"}, "gemini", "it takes reasoning_effort, thinking_budget"),
        ({"enable_thinking": "true"}, "checker", "it takes none"),
        ({"thinking_budget": "9"}, "hf", None),
        ({"extra_body.top_k": "9", "thinking_budget": "9"}, "openai", None),
    ],
)
def test_a_kind_of_model_is_told_only_what_it_can_do(
    settings: dict[str, str], kind: str, message: str | None
) -> None:
    effort = read_effort(settings, flag="--engine")
    if message is None:
        check_effort(effort, kind, where="--engine")
        return
    with pytest.raises(ConfigError) as caught:
        check_effort(effort, kind, where="--engine")
    assert message in str(caught.value)


def test_keys_stay_what_they_were_where_nothing_is_said_of_thinking() -> None:
    """The keys of an earlier version, copied from its stores."""
    asked = Request(messages=(Message(role="user", content="Rate it."),), choices=("1", "2"))
    identity = {"backend": "openai", "model": "judge", "url": "http://localhost/v1"}
    assert asked.key(identity) == _CALL
    model = ModelSpec(name="m", engine="hf", target="m", identity={"checkpoint": "c"})
    spec = generation_spec(model, ModelOptions(), Decoding(), asking={"prompting": "default"})
    assert digest(spec) == _GENERATION

    effort = Effort(budget=100)
    thinks = Request(messages=asked.messages, choices=("1", "2"), sampling=Sampling(effort=effort))
    assert thinks.key(identity) != _CALL
    options = ModelOptions(effort=effort)
    spec = generation_spec(model, options, Decoding(), asking={"prompting": "default"})
    assert digest(spec) != _GENERATION
