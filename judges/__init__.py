"""Judges: a backend, a protocol and a prompt file that turn responses into verdicts."""

if __name__ != "mipo_eval.judges":  # a second copy of every class would not be equal to the first
    raise ImportError("this folder is mipo_eval.judges: import that, not a bare `judges`")

from mipo_eval.judges.parse import parse_choice, parse_rating
from mipo_eval.verdict import merge_orders

__all__ = ["merge_orders", "parse_choice", "parse_rating"]
