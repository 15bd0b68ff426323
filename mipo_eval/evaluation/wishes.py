"""Satisfied preferences: which share of the wishes a response follows, and with what restraint.

Items of suites that are rated by rule say what each of their preferences is, in
`meta["wishes"]`: "form:bullets", "restraint:facts". The dimension before the colon is what shares
are also told by. `restraint` is what nobody states and everybody expects, such as to leave out what
has nothing to do with the question. A wish counts as satisfied if it is rated 4 or 5 in a response
that keeps restraint: so whoever drags everything in that is known of a user satisfies nobody. Which
wishes are followed whether restraint is kept or not has a number of its own: it tells models apart
that keep none.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from mipo_eval.store.items import ItemList, Rated, Texts
from mipo_eval.verdict import NO_WISH, NOT_JUDGED, RESTRAINT, SATISFIED

SATISFIED_WISHES = "satisfied"
FOLLOWED = "followed"
DIMENSIONS = ("form", "length", "frame", "wording", "content", "language")
"""Of the suite everyday."""
_DEMO_DIMENSIONS = ("tone", "format", "audience", "extra")
WISHED = (
    SATISFIED_WISHES,
    RESTRAINT,
    FOLLOWED,
    *(f"{SATISFIED_WISHES}_{name}" for name in (*DIMENSIONS, *_DEMO_DIMENSIONS)),
)
"""Metrics of items that say what their preferences are."""

Ratings = Mapping[tuple[str, str, int], int | None]
"""By item key, text key and place of the preference."""


def wishes_met(
    metric: str,
    listed: ItemList,
    texts: Texts,
    wishes: Mapping[str, Sequence[str]],
    ratings: Ratings,
) -> Rated:
    """Return one of `WISHED` for every item of a list, 0-100.

    Args:
        metric: its name.
        listed: the items.
        texts: the responses to them.
        wishes: by item key, what each preference is.
        ratings: of the responses.
    """
    values = np.full(len(listed.keys), np.nan)
    why = dict(texts.absent)
    for row, (key, text) in enumerate(zip(listed.keys, texts.names, strict=True)):
        names = wishes.get(key, ())
        if not any(_counts(metric, name) for name in names):
            why[row] = NO_WISH
        elif text is not None:
            own = [ratings.get((key, text.removeprefix(key), n)) for n in range(len(names))]
            value = _value(metric, names, own)
            values[row] = value
            if math.isnan(value):
                why[row] = NOT_JUDGED
    return Rated(values, why)


def _counts(metric: str, name: str) -> bool:
    dimension = name.partition(":")[0]
    if metric in {SATISFIED_WISHES, FOLLOWED}:
        return dimension != RESTRAINT
    return metric in {dimension, f"{SATISFIED_WISHES}_{dimension}"}


def _value(metric: str, names: Sequence[str], ratings: Sequence[int | None]) -> float:
    """Return the percent of the wishes that a metric counts; NaN where a rating is missing."""
    known = [rating for rating in ratings if rating is not None]
    if len(known) < len(names):
        return math.nan
    met = [rating >= SATISFIED for rating in known]
    kept = all(ok for name, ok in zip(names, met, strict=True) if _counts(RESTRAINT, name))
    if metric == RESTRAINT:
        return 100.0 * kept
    counted = [ok for name, ok in zip(names, met, strict=True) if _counts(metric, name)]
    credit = kept or metric == FOLLOWED
    return 100.0 * credit * sum(counted) / len(counted)
