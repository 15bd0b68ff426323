"""How a checkpoint's makers would have it drawn from: what is asked for, and who can do it.

By default nobody does: every engine draws from the model itself, so that numbers of two models, or
of one model behind two engines, are of the same decoding.
"""

from collections.abc import Mapping, Set
from typing import Any

from mipo_eval.checkpoints import SAMPLING
from mipo_eval.errors import ConfigError
from mipo_eval.models.spec import ModelSpec

OWN = "generation_config"
"""The setting of `--decoding` that asks for the checkpoint's own drawing."""
_ALL_DRAW_BY = {"temperature", "top_p", "top_k", "min_p", "repetition_penalty"}
_DRAWN_BY: Mapping[str, set[str]] = {
    "hf": _ALL_DRAW_BY
    | {"no_repeat_ngram_size", "min_new_tokens", "exponential_decay_length_penalty"}
    | {"bad_words_ids", "sequence_bias", "suppress_tokens", "begin_suppress_tokens"}
    | {"encoder_repetition_penalty", "remove_invalid_values", "forced_eos_token_id"},
    "vllm": _ALL_DRAW_BY,
    "azure": {"temperature", "top_p"},
    "anthropic": {"temperature", "top_p", "top_k"},
    "gemini": {"temperature", "top_p", "top_k"},
    "any-llm": {"temperature", "top_p"},
    "own": set(),
}
"""What engines can follow of a generation_config, or of what a user asks for; others are left to
find that out."""


def check_drawing(model: ModelSpec, settings: Set[str]) -> None:
    """Find out whether a model can be drawn from as a user asks.

    Raises:
        ConfigError: it cannot.
    """
    known = _DRAWN_BY.get(model.engine, _ALL_DRAW_BY) | {"max_tokens", OWN}
    if model.engine == "own":  # a function draws as it likes
        known = set()
    if unknown := sorted(settings - known):
        raise ConfigError(f"--decoding {unknown[0]}: {model.name} does not support it")


def own_drawing(model: ModelSpec, asked: object) -> dict[str, Any]:
    """Return the settings that a checkpoint's generation_config.json draws with.

    Raises:
        ConfigError: nobody knows them, or the engine cannot draw like that.
    """
    if asked != "checkpoint":
        raise ConfigError(f"--decoding {OWN}={asked}: the only value of {OWN} is checkpoint")
    if model.engine == "openai":
        return {OWN: "checkpoint"}  # the server knows it, and is left to it
    if model.checkpoint is None:
        raise ConfigError(
            f"--decoding {OWN}=checkpoint: the settings that {model.name} comes with are not "
            "known here: give temperature, top_p, top_k, min_p and repetition_penalty yourself"
        )
    own = model.checkpoint.drawing
    if not own.pop("do_sample", False):
        own = {name: value for name, value in own.items() if name not in SAMPLING}
    elif "temperature" not in own:
        own["temperature"] = 1.0
    if unknown := sorted(own.keys() - _DRAWN_BY[model.engine]):
        raise ConfigError(
            f"--decoding {OWN}=checkpoint: {model.name} sets {', '.join(unknown)}, which "
            f"{model.engine} does not support: give the other settings by name, such as "
            "temperature=0.7"
        )
    return own
