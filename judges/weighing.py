"""Probability-weighted ratings of stored verdicts, beside the plain ones (see parse.py)."""

from collections.abc import Sequence

from mipo_eval.judges.judge import Judge
from mipo_eval.judges.judging import NO_PREFERENCES, NOT_JUDGED, Judged
from mipo_eval.judges.parse import weighted_rating
from mipo_eval.metrics import mean_score
from mipo_eval.records import Score
from mipo_eval.signature import join
from mipo_eval.store import Store
from mipo_eval.store.verdicts import first_tokens

METRIC = "rating_weighted"

NO_WEIGHTS = "no probabilities, or less than half of them on ratings"


def weighted_scores(
    store: Store, judge: Judge, items: Sequence[Judged], list_key: str, *, seed: int = 0
) -> list[Score]:
    """Return the mean of the ratings that a judge's probabilities give; none where it tells none.

    A response whose rating on one of the preferences cannot be weighted has none, as with plain
    ratings. No call is made: the probabilities came with the replies.

    Args:
        store: holds verdicts and replies.
        judge: who rated.
        items: one entry per item, in the suite's order.
        list_key: of the items.
        seed: of the bootstrap.
    """
    if not judge.sampling.logprobs:
        return []
    weighted: dict[tuple[str, str], list[float | None]] = {}
    for item_key, text_key, logprobs in first_tokens(store, judge.key, list_key):
        found = weighted_rating(logprobs).value
        weighted.setdefault((item_key, text_key), []).append(found)
    values: list[float | None] = []
    reasons: list[str | None] = []
    for item in items:
        value, reason = _mean(item, weighted)
        values.append(value)
        reasons.append(reason)
    if all(value is None for value in values):
        return []
    return [
        mean_score(
            METRIC,
            values,
            signature=join(over="items", weighted="first-token"),
            groups=[item.group for item in items],
            seed=seed,
            reasons=reasons,
        )
    ]


def _mean(
    item: Judged, weighted: dict[tuple[str, str], list[float | None]]
) -> tuple[float | None, str | None]:
    if item.text_key is None:
        return None, item.reason
    if not item.n_preferences:
        return None, NO_PREFERENCES
    found = weighted.get((item.item_key, item.text_key), [])
    known = [value for value in found if value is not None]
    if len(found) < item.n_preferences:
        return None, NOT_JUDGED
    if len(known) < item.n_preferences:
        return None, NO_WEIGHTS
    return sum(known) / len(known), None
