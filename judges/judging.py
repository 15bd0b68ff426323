"""Running a judge over responses: ask what is not known, store what comes back, score it."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from itertools import islice
from typing import NamedTuple

from mipo_eval.errors import DataError
from mipo_eval.judges.judge import Judge
from mipo_eval.judges.loading import load_judge
from mipo_eval.judges.rubric import CALL_FAILED, RatingRequest, rating_requests, read_rating
from mipo_eval.metrics import rating_mean, win_rates
from mipo_eval.records import Item, Rating, Score, text_key
from mipo_eval.signature import NOTHING
from mipo_eval.stats import Crossed
from mipo_eval.store import Store
from mipo_eval.store.items import put_list
from mipo_eval.store.judges import put_judge
from mipo_eval.store.ledger import Call, Ledger
from mipo_eval.store.verdicts import put_ratings, rated, totals
from mipo_eval.verdict import NO_PREFERENCES, NOT_JUDGED, Total

EMPTY = "empty response"
NO_REFERENCE = "item has no reference"

_WINDOW = 32
"""Texts looked up at once: while that is done no reply is read, so it must not take long."""
_FLUSH = 256


async def rate(
    store: Store,
    judge: Judge,
    texts: Iterable[tuple[Item, str]],
    *,
    advance: Callable[[int], None] = lambda _: None,
) -> None:
    """Have a judge rate texts on every preference of their items; store each rating.

    What is rated already is not asked again. Texts are streamed: any number in bounded memory.

    Args:
        store: where ratings and calls go.
        judge: who rates.
        texts: (item, text) pairs; the text is a response or the item's reference.
        advance: called with how many more ratings are known.

    Raises:
        BackendError: the judge cannot be asked any more; what it answered is stored.
    """
    put_judge(store, judge.key, judge.name, judge.stored_spec)
    pending: list[Rating] = []
    ledger: Ledger[RatingRequest] = Ledger(store, judge.backend)
    questions = _questions(store, judge, texts, advance)
    try:
        async with aclosing(ledger.ask(questions)) as answers:
            async for request, call in answers:
                pending.append(_rating(judge, request, call))
                advance(1)
                if len(pending) >= _FLUSH:
                    put_ratings(store, pending)
                    pending.clear()
    finally:
        if pending:
            put_ratings(store, pending)


def _questions(
    store: Store,
    judge: Judge,
    texts: Iterable[tuple[Item, str]],
    advance: Callable[[int], None],
) -> Iterator[tuple[RatingRequest, RatingRequest]]:
    """Yield what must be asked, a window of texts at a time; each request is its own tag."""
    source = iter(texts)
    while window := list(islice(source, _WINDOW)):
        known = rated(store, judge.key, {item.key for item, _ in window})
        for item, text in window:
            key = text_key(text)
            missing = [
                aspect
                for aspect in range(len(item.preferences))
                if (item.key, key, aspect) not in known
            ]
            advance(len(item.preferences) - len(missing))
            if missing:
                requests = rating_requests(judge, item, text)
                yield from ((requests[aspect], requests[aspect]) for aspect in missing)


def _rating(judge: Judge, request: RatingRequest, call: Call) -> Rating:
    rating, reason = read_rating(call.text, call.status)
    return Rating(
        judge=judge.key,
        item_key=request.item_key,
        text_key=request.text_key,
        aspect=request.aspect,
        rating=rating,
        reason=reason,
        call_key=call.key,
    )


def is_open(reason: str | None) -> bool:
    """Whether what has no verdict for this reason will be asked: nothing was, or a call failed.

    A reply that could not be read is read again from the ledger, without a call.
    """
    return reason in {None, NOT_JUDGED} or str(reason).startswith(CALL_FAILED)


def is_unrated(total: Total | None, n_preferences: int) -> bool:
    """Whether a judge will be asked about a text with so many preferences."""
    return total is None or (total.rated < n_preferences and is_open(total.reason))


class Judged(NamedTuple):
    """What scoring needs of one item: which texts were judged, and what it shares with others."""

    item_key: str
    group: Crossed
    n_preferences: int
    text_key: str | None
    reason: str | None
    """Why there is no response to judge."""
    reference_key: str | None


def rubric_scores(
    items: Sequence[Judged], ratings: Mapping[tuple[str, str], Total], *, seed: int = 0
) -> list[Score]:
    """Return win rates under each tie rule, tie rate and mean rating (paper, section 5).

    Responses are compared with their references by the exact sum of their ratings: both have as
    many as the item has preferences. A response with any rating missing is unscored.

    Args:
        items: one entry per item, in the suite's order.
        ratings: totals by (item key, text key).
        seed: of the bootstrap.

    Returns:
        The scores; a metric that no item has is there without a value, with the reasons.
    """
    groups = [item.group for item in items]
    own = [_points(item, item.text_key, item.reason, ratings) for item in items]
    reference = [_points(item, item.reference_key, NO_REFERENCE, ratings) for item in items]
    points = [p for p, _ in own]
    reference_points = [p for p, _ in reference]
    why = [a or (b and f"reference: {b}") for (_, a), (_, b) in zip(own, reference, strict=True)]
    means = [
        None if p is None else p / item.n_preferences for p, item in zip(points, items, strict=True)
    ]
    reasons = [reason for _, reason in own]
    scores: list[Score] = []
    if any(item.reference_key for item in items):
        scores += _or_absent(
            ("win_rate_tie_inclusive", "win_rate_half_ties", "win_rate_strict", "tie_rate"),
            why,
            lambda: win_rates(points, reference_points, groups=groups, seed=seed, reasons=why),
        )
    scores += _or_absent(
        ("rating_mean",),
        reasons,
        lambda: (rating_mean(means, groups=groups, seed=seed, reasons=reasons),),
    )
    return scores


def _points(
    item: Judged,
    key: str | None,
    absent: str | None,
    ratings: Mapping[tuple[str, str], Total],
) -> tuple[int | None, str | None]:
    """Return the exact sum of a text's ratings, or why there is none."""
    if key is None:
        return None, absent
    if not item.n_preferences:
        return None, NO_PREFERENCES
    total = ratings.get((item.item_key, key))
    if total is None:
        return None, NOT_JUDGED
    if total.rated < item.n_preferences:
        return None, total.reason or NOT_JUDGED
    return total.points, None


def _or_absent(
    metrics: Sequence[str],
    reasons: Sequence[str | None],
    compute: Callable[[], Sequence[Score]],
) -> Sequence[Score]:
    """Return the computed scores; when no item has a value, scores that say so."""
    if any(reason is None for reason in reasons):
        return compute()
    counts: dict[str, int] = {}
    for reason in reasons:
        counts[str(reason)] = counts.get(str(reason), 0) + 1
    return [
        Score(metric=metric, value=None, n=0, unscored_reasons=counts, signature=NOTHING)
        for metric in metrics
    ]


def judge_texts(
    spec: str, pairs: Sequence[tuple[Item, str]], *, store_url: str
) -> dict[str, float]:
    """Judge one response per item and return its rubric scores by name.

    For callers that have responses and no run: the metrics of the lm-eval tasks. Ratings and
    calls go to the store, so asking again costs nothing.

    Raises:
        ConfigError: no such judge.
        BackendError: the judge cannot be asked.
        DataError: there is nothing to judge.
    """
    if not pairs:
        raise DataError("there is no response to judge")
    judge = load_judge(spec)
    judged = []
    for item, text in pairs:
        reference = text_key(item.reference) if item.reference else None
        key, reason = (text_key(text), None) if text.strip() else (None, EMPTY)
        judged.append(
            Judged(
                item.key,
                Crossed(item.group, item.user_id),
                len(item.preferences),
                key,
                reason,
                reference,
            )
        )
    with Store.open(store_url) as store:
        list_key, _ = put_list(store, [("judged", (item for item, _ in pairs))])
        asyncio.run(rate(store, judge, with_references(pairs)))
        found = rubric_scores(judged, totals(store, judge.key, list_key))
    return {score.metric: score.value for score in found if score.value is not None}


def with_references(pairs: Iterable[tuple[Item, str]]) -> Iterator[tuple[Item, str]]:
    """Yield each response that says something, and each item's reference."""
    for item, text in pairs:
        if text.strip():
            yield item, text
        if item.reference:
            yield item, item.reference
