"""Running a judge over responses or pairs: ask what is not known, store each verdict."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import aclosing, contextmanager
from itertools import islice
from typing import NamedTuple, TypeVar

from mipo_eval.judges.judge import (
    ChoiceRequest,
    Judge,
    RatingRequest,
    choice_requests,
    rating_requests,
    read_choice,
    read_rating,
)
from mipo_eval.models.base import CALL_FAILED
from mipo_eval.models.changes import Changing
from mipo_eval.records import Item, Rating, text_key
from mipo_eval.store.calls import Call, Ledger
from mipo_eval.store.engine import Store, lasting
from mipo_eval.store.judges import put_judge, specs_of
from mipo_eval.store.verdicts import choices_on, put_choices, put_ratings, rated
from mipo_eval.verdict import NOT_JUDGED, Choice, Pair, Total

_TEXTS = 32
"""Texts looked up at once: while that is done no reply is read, so it must not take long."""
_PAIRS = 256
_FLUSH = 256
"""Verdicts stored at once."""

Asked = TypeVar("Asked", RatingRequest, ChoiceRequest)
Made = TypeVar("Made", Rating, Choice)


async def rate(
    store: Store,
    judge: Judge,
    texts: Iterable[tuple[Item, str]],
    *,
    advance: Callable[[int], None] = lambda _: None,
) -> None:
    """Have a judge rate texts on every preference of their items; store each rating.

    What is rated already is not asked again. Texts are streamed: any number in bounded memory.
    `advance` is told how many more ratings are known.

    Raises:
        BackendError: the judge cannot be asked any more; what it answered is stored.
    """

    def read(request: RatingRequest, call: Call) -> Rating:
        rating, reason = read_rating(call.text, call.status, cut=call.cut)
        return Rating(
            judge=judge.key,
            item_key=request.item_key,
            text_key=request.text_key,
            aspect=request.aspect,
            rating=rating,
            reason=reason,
            call_key=call.key,
        )

    await _ask(
        store,
        judge,
        _rating_questions(store, judge, texts, advance),
        read=read,
        keep=lambda made: put_ratings(store, made),
        advance=advance,
    )


async def _ask(
    store: Store,
    judge: Judge,
    questions: Iterable[Asked],
    *,
    read: Callable[[Asked, Call], Made],
    keep: Callable[[list[Made]], None],
    advance: Callable[[int], None],
) -> None:
    """Ask questions, and keep what is read of the replies, many at a time.

    What was answered is kept whatever happens, also when the user stops it.
    """
    pending: list[Made] = []
    ledger: Ledger[Asked] = Ledger(store, judge.backend)
    try:
        with recorded(store, judge):
            async with aclosing(ledger.ask((each, each) for each in questions)) as answers:
                async for request, call in answers:
                    pending.append(read(request, call))
                    advance(1)
                    if len(pending) >= _FLUSH:
                        keep(pending)
                        pending = []
    finally:
        if pending:
            keep(pending)


@contextmanager
def recorded(store: Store, judge: Judge) -> Iterator[None]:
    """Record who is asked, and what settings its server turned out not to take.

    An earlier run may have found out about them. What it was answered is not asked again, so this
    is where a judge learns with which settings its verdicts were made.
    """
    known = specs_of(store, {judge.key}).get(judge.key, {}).get("settings")
    if isinstance(judge.backend, Changing):
        judge.backend.changes.recall(known)
    put_judge(store, judge.key, judge.name, judge.stored_spec)
    try:
        yield
    finally:
        if judge.settings != known:
            put_judge(store, judge.key, judge.name, judge.stored_spec, replace=True)


def _rating_questions(
    store: Store,
    judge: Judge,
    texts: Iterable[tuple[Item, str]],
    advance: Callable[[int], None],
) -> Iterator[RatingRequest]:
    """Yield what must be asked, a window of texts at a time."""
    source = iter(texts)
    while window := list(islice(source, _TEXTS)):
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
                yield from (requests[aspect] for aspect in missing)


def is_open(reason: str | None) -> bool:
    """Whether what has no verdict for this reason will be asked: nothing was, or a call failed.

    A reply that could not be read is read again from the ledger, without a call.
    """
    return reason in {None, NOT_JUDGED} or str(reason).startswith(CALL_FAILED)


def is_unrated(total: Total | None, n_preferences: int) -> bool:
    """Whether a judge will be asked about a text with so many preferences."""
    return total is None or (total.rated < n_preferences and is_open(total.reason))


def with_references(pairs: Iterable[tuple[Item, str]]) -> Iterator[tuple[Item, str]]:
    """Yield each response that says something, and each item's reference."""
    for item, text in pairs:
        if text.strip():
            yield item, text
        if item.reference:
            yield item, item.reference


class TextPair(NamedTuple):
    """Two texts about one item; the verdict "a" is for the first."""

    item: Item
    first: str
    second: str

    @property
    def key(self) -> Pair:
        """Keys of the item and of the two texts."""
        return Pair(self.item.key, text_key(self.first), text_key(self.second))


async def choose(
    store: Store,
    judge: Judge,
    pairs: Iterable[TextPair],
    *,
    advance: Callable[[int], None] = lambda _: None,
) -> None:
    """Have a judge choose between the texts of each pair, in both places; store each choice.

    What is chosen already is not asked again, and equal texts are not asked about at all. Pairs
    are streamed: any number in bounded memory. `advance` is told how many more choices are known,
    two a pair.

    Raises:
        BackendError: the judge cannot be asked any more; what it answered is stored.
    """

    def read(request: ChoiceRequest, call: Call) -> Choice:
        told = (call.text, call.status)
        winner, reason = read_choice(judge, request, *told, cut=call.cut)
        return Choice(
            judge_key=judge.key,
            item_key=request.item_key,
            text_key_a=request.first_key,
            text_key_b=request.second_key,
            shown_first="b" if request.swapped else "a",
            winner=winner,
            reason=reason,
            call_key=call.key,
        )

    @lasting
    def keep(made: list[Choice]) -> None:
        with store.write() as connection:
            put_choices(store, connection, made)

    await _ask(
        store,
        judge,
        _choice_questions(store, judge, pairs, advance),
        read=read,
        keep=keep,
        advance=advance,
    )


def _choice_questions(
    store: Store, judge: Judge, pairs: Iterable[TextPair], advance: Callable[[int], None]
) -> Iterator[ChoiceRequest]:
    """Yield what must be asked, a window of pairs at a time."""
    source = iter(pairs)
    while window := list(islice(source, _PAIRS)):
        asked = [pair for pair in window if pair.first != pair.second]
        advance(2 * (len(window) - len(asked)))
        known = {
            (one.item_key, one.text_key_a, one.text_key_b, one.shown_first == "b")
            for one in choices_on(store, judge.key, {pair.item.key for pair in asked})
            if one.winner is not None
        }
        for pair in asked:
            for request in choice_requests(judge, pair.item, pair.first, pair.second):
                if (*pair.key, request.swapped) in known:
                    advance(1)
                else:
                    yield request
