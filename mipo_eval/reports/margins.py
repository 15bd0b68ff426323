"""What is said of a difference and a margin: equivalent, not worse, or not shown."""

from typing import Any

from mipo_eval.metrics.aggregate import direction
from mipo_eval.stats.margin import Within


def margin_text(found: Within, names: tuple[str, str], metric: str) -> str:
    """Return what is shown of two runs, in a few words without a p-value.

    Args:
        found: how their difference stands to the margin.
        names: of the first and the second.
        metric: says which way is worse; a metric that is neither has lower and higher.
    """
    finding, margin = found.finding(), f"{found.margin:g}"
    if finding is None:
        return f"within \u00b1{margin}: not shown"
    if finding == "equivalent":
        return f"equivalent within \u00b1{margin}"
    way = direction(metric)
    # Of two runs the first not being lower is the second not being higher.
    worse = names[(finding == "not below") == (way == "lower")]
    return f"{worse} not {'lower' if way is None else 'worse'} by {margin}"


def margin_json(found: Within | None, metric: str) -> dict[str, Any] | None:
    """Return the same as `--json` shows it; of a metric without better and worse, worse is lower.

    `finding` is "equivalent", "first not worse", "second not worse" or null: nothing is shown.
    """
    if found is None:
        return None
    not_worse = found.p_above, found.p_below
    names = ("first not worse", "second not worse")
    if direction(metric) == "lower":
        not_worse, names = not_worse[::-1], names[::-1]
    told = {"equivalent": "equivalent", "not below": names[0], "not above": names[1]}
    return {
        "margin": found.margin,
        "finding": told.get(found.finding() or ""),
        "p_equivalent": max(not_worse),
        "p_first_not_worse": not_worse[0],
        "p_second_not_worse": not_worse[1],
    }
