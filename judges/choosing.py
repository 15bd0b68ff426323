"""Running a judge over pairs of responses: ask what is not known, store each choice."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import aclosing
from itertools import islice
from typing import NamedTuple

from mipo_eval.judges.judge import Judge
from mipo_eval.judges.pairwise import ChoiceRequest, choice_requests, read_choice
from mipo_eval.records import Item, text_key
from mipo_eval.store import Store
from mipo_eval.store.judges import put_judge
from mipo_eval.store.ledger import Call, Ledger
from mipo_eval.store.verdicts import choices_on, put_choices
from mipo_eval.verdict import Choice, Pair, Shown

_WINDOW = 256


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
    are streamed: any number in bounded memory.

    Args:
        store: where choices and calls go.
        judge: who chooses; its protocol is a pairwise one.
        pairs: what to choose between.
        advance: called with how many more choices are known, two a pair.

    Raises:
        BackendError: the judge cannot be asked any more; what it answered is stored.
    """
    put_judge(store, judge.key, judge.name, judge.stored_spec)
    pending: list[Choice] = []

    def keep() -> None:
        with store.write() as connection:
            put_choices(store, connection, pending)
        pending.clear()

    ledger: Ledger[ChoiceRequest] = Ledger(store, judge.backend)
    try:
        async with aclosing(ledger.ask(_questions(store, judge, pairs, advance))) as answers:
            async for request, call in answers:
                pending.append(_choice(judge, request, call))
                advance(1)
                if len(pending) >= _WINDOW:
                    keep()
    finally:
        if pending:
            keep()


def _questions(
    store: Store, judge: Judge, pairs: Iterable[TextPair], advance: Callable[[int], None]
) -> Iterator[tuple[ChoiceRequest, ChoiceRequest]]:
    """Yield what must be asked, a window of pairs at a time; each request is its own tag."""
    source = iter(pairs)
    while window := list(islice(source, _WINDOW)):
        asked = [pair for pair in window if pair.first != pair.second]
        advance(2 * (len(window) - len(asked)))
        known = {
            (*_texts(choice), choice.shown_first)
            for choice in choices_on(store, judge.key, {pair.item.key for pair in asked})
            if choice.winner is not None
        }
        for pair in asked:
            for request in choice_requests(judge, pair.item, pair.first, pair.second):
                if (*pair.key, _shown_first(request)) in known:
                    advance(1)
                else:
                    yield request, request


def _texts(choice: Choice) -> tuple[str, str, str]:
    return choice.item_key, choice.text_key_a, choice.text_key_b


def _shown_first(request: ChoiceRequest) -> Shown:
    return "b" if request.swapped else "a"


def _choice(judge: Judge, request: ChoiceRequest, call: Call) -> Choice:
    winner, reason = read_choice(judge, request, call.text, call.status)
    return Choice(
        judge_key=judge.key,
        item_key=request.item_key,
        text_key_a=request.first_key,
        text_key_b=request.second_key,
        shown_first=_shown_first(request),
        winner=winner,
        reason=reason,
        call_key=call.key,
    )
