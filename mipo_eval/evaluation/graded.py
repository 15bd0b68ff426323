"""What another tool scored item by item: the values behind an imported number.

Such values are stored as grades. The judge that gave them is, of Inspect and MT-Bench, the one that
the number is signed with; of lm-eval it is "METRIC,FILTER", by the number's own name and filter.
"""

from collections.abc import Mapping
from typing import Any

from mipo_eval.signature import Signature, in_signature, short

GRADE_MEAN = "grade_mean"
NO_FILTER = "none"
"""What lm-eval calls it where a metric sees replies as they are."""
_SHARES = frozenset({"accuracy", "accuracy_norm", "unextracted_rate"})
"""Metrics that are 0-1 in other tools' files and percent here, where they have the same name."""


def unit(metric: str) -> float:
    """Return how much larger a number is in the store than in the file it was imported from."""
    return 100.0 if metric in _SHARES else 1.0


def of_filter(metric: str, used: str) -> str:
    """Return what the judge is called that stands for a metric of lm-eval under a filter."""
    return f"{metric},{used}"


def grader(
    metric: str, signature: Signature, judges: Mapping[str, Mapping[str, Any]]
) -> str | None:
    """Return the key of the judge whose grades an imported number is made of; None without one.

    Args:
        metric: the number's name.
        signature: how it was made.
        judges: what is known of each judge, by key.
    """
    parts = signature.parts
    source = parts.get("source")
    if source is None:
        return None
    own = {key: spec for key, spec in judges.items() if spec.get("imported") == source}
    if named := parts.get("judge_key"):
        return next((key for key in own if short(key) == named), None)
    name = of_filter(metric, parts.get("filter", ""))
    return next((key for key in own if in_signature(str(own[key].get("name"))) == name), None)
