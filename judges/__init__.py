"""Judges: a backend, a protocol and a prompt file that turn responses into verdicts."""

if __name__ != "mipo_eval.judges":  # a second copy of every class would not be equal to the first
    raise ImportError("this folder is mipo_eval.judges: import that, not a bare `judges`")

from mipo_eval.judges.judge import (
    ChoiceRequest,
    Judge,
    Protocol,
    RatingRequest,
    choice_requests,
    rating_requests,
    read_choice,
    read_rating,
)
from mipo_eval.judges.parse import (
    PARSER_VERSION,
    parse_choice,
    parse_rating,
    parse_verdict,
    weighted_rating,
)
from mipo_eval.judges.presets import Preset, family_of, load_judge, load_preset, preset_names
from mipo_eval.judges.prompt import Prompt, load_prompt
from mipo_eval.verdict import PairVerdict, Verdict, Winner, merge_orders

__all__ = [
    "PARSER_VERSION",
    "ChoiceRequest",
    "Judge",
    "PairVerdict",
    "Preset",
    "Prompt",
    "Protocol",
    "RatingRequest",
    "Verdict",
    "WeightedRating",
    "Winner",
    "choice_requests",
    "family_of",
    "load_judge",
    "load_preset",
    "load_prompt",
    "merge_orders",
    "parse_choice",
    "parse_rating",
    "parse_verdict",
    "preset_names",
    "rating_requests",
    "read_choice",
    "read_rating",
    "weighted_rating",
]
