"""Running a judge over responses: ask what is not known, store what comes back, score it."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from itertools import islice

from mipo_eval.errors import DataError
from mipo_eval.judges.judge import Judge
from mipo_eval.judges.loading import load_judge
from mipo_eval.judges.rubric import CALL_FAILED, RatingRequest, rating_requests, read_rating
from mipo_eval.metrics import outcome_rates, rating_mean
from mipo_eval.records import Item, Rating, Score, text_key
from mipo_eval.stats import Crossed
from mipo_eval.store import Store
from mipo_eval.store.items import put_list
from mipo_eval.store.judges import put_judge
from mipo_eval.store.ledger import Call, Ledger
from mipo_eval.store.verdicts import put_ratings, rated, totals
from mipo_eval.verdict import NOT_JUDGED, Total, from_totals

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
    with Store.open(store_url) as store:
        list_key, _ = put_list(store, [("judged", (item for item, _ in pairs))])
        asyncio.run(rate(store, judge, with_references(pairs)))
        known = totals(store, judge.key, list_key)
    verdicts = []
    means = []
    for item, text in pairs:
        total = known.get((item.key, text_key(text))) if text.strip() else None
        other = known.get((item.key, text_key(item.reference))) if item.reference else None
        verdicts.append(from_totals(total, other, len(item.preferences)))
        whole = total is not None and 0 < len(item.preferences) == total.rated
        means.append(total.points / total.rated if total and whole else None)
    found: list[Score] = []
    groups = [Crossed(item.group, item.user_id) for item, _ in pairs]
    if any(verdict.winner for verdict in verdicts):
        found += outcome_rates([verdict.credit for verdict in verdicts], groups=groups)
    if any(mean is not None for mean in means):
        found.append(rating_mean(means, groups=groups))
    return {score.metric: score.value for score in found if score.value is not None}


def with_references(pairs: Iterable[tuple[Item, str]]) -> Iterator[tuple[Item, str]]:
    """Yield each response that says something, and each item's reference."""
    for item, text in pairs:
        if text.strip():
            yield item, text
        if item.reference:
            yield item, item.reference
