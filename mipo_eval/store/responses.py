"""What models answered or have not answered yet, and how likely a scoring model finds it."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from mipo_eval.keys import clean_text, masked_values
from mipo_eval.records import ContextLikelihoods, Item, Response, Run, text_key
from mipo_eval.store.engine import Store, lasting, now, whole
from mipo_eval.store.tables import LISTED, generations, item_lists, items, likelihoods, responses
from mipo_eval.verdict import EMPTY, NO_REFERENCE, NOT_GENERATED, Pair


class Answered(NamedTuple):
    """An item of a list with the response a generation gave to it."""

    position: int
    task: str
    item: Item
    response: Response | None
    """None when it was not generated yet."""
    text_key: str | None = None
    """By which judges know the response, also where its text was not imported."""


def listed_responses(generation_key: Any, *, every: bool = False) -> sa.Join:
    """Join the items of lists with what a generation answered to them.

    It begins with the items, so that each response is found by its key.

    Args:
        generation_key: a key, or a column of keys.
        every: also items without a response.
    """
    own = (responses.c.item_key == item_lists.c.item_key) & (
        responses.c.generation_key == generation_key
    )
    return item_lists.join(responses, own, isouter=every)


@lasting
def put_generation(
    store: Store, generation_key: str, spec: Mapping[str, Any], *, replace: bool = False
) -> None:
    """Record how the responses under `generation_key` are made; what is recorded stays or is not.

    More is known later of a server that does not take what it is asked.
    """
    with store.write() as connection:
        # A system prompt is a text that was asked with, whatever it speaks of.
        kept = {name: spec[name] for name in ("system",) if name in spec}
        row = {"generation_key": generation_key, "spec": masked_values(spec) | kept}
        store.put(connection, generations, [row], replace=["spec"] if replace else [])


def settled(
    store: Store, generation_key: str, item_keys: Sequence[str], since: datetime
) -> dict[str, Response]:
    """Return, by item key, the responses that are not asked for again, or failed since then."""
    just_now = responses.c.created_at.between(since, now())
    query = sa.select(responses).where(
        responses.c.generation_key == generation_key, sa.or_(responses.c.final, just_now)
    )
    found = store.by_key(query, responses.c.item_key, item_keys)
    return {row.item_key: response for row in found if (response := _response(row)) is not None}


def missing(store: Store, list_key: str, generation_key: str) -> list[int]:
    """Return the positions of the list that have no response, in order.

    A response that failed is asked for again, unless it would fail again.
    """
    done = sa.select(responses.c.item_key).where(
        responses.c.generation_key == generation_key, responses.c.final
    )
    query = (
        sa.select(item_lists.c.position)
        .where(item_lists.c.list_key == list_key, item_lists.c.item_key.not_in(done))
        .order_by(item_lists.c.position)
    )
    return [position for (position,) in store.fetch(query)]


@lasting
def put_responses(store: Store, generation_key: str, made: Iterable[Response]) -> None:
    """Store responses; a text is never replaced by a failure."""
    created_at = now()
    rows = [
        {
            "generation_key": generation_key,
            "item_key": response.item_key,
            "text": response.text,
            "text_key": None if response.text is None else text_key(response.text),
            "reason": response.reason,
            "final": response.final or response.text is not None,
            "finish_reason": response.finish_reason,
            "prompt_hash": response.prompt_hash,
            "prompt_tokens": response.prompt_tokens,
            "response_tokens": response.response_tokens,
            "choice_logprobs": response.choice_logprobs,
            "thinking": response.thinking and clean_text(response.thinking),
            "thinking_tokens": response.thinking_tokens,
            "created_at": created_at,
        }
        for response in made
    ]
    columns = [c.name for c in responses.columns if not c.primary_key]
    with store.write() as connection:
        store.put(connection, responses, rows, replace=columns, where=responses.c.text.is_(None))


def answered(
    store: Store, list_key: str, generation_key: str, task: str | None = None
) -> Iterator[Answered]:
    """Yield every item of the list, or of one of its tasks, with its response; streamed.

    A page at a time: a judge may take hours to go through them, and no transaction is that long.
    """
    query = (
        sa.select(item_lists.c.position, item_lists.c.task, items.c.body, responses)
        .select_from(listed_responses(generation_key, every=True))
        .join(items, items.c.item_key == item_lists.c.item_key)
        .where(item_lists.c.list_key == list_key)
    )
    if task is not None:
        query = query.where(item_lists.c.task == task)
    for row in store.in_order(query):
        with store.decoding():
            item = Item.model_validate_json(row.body)
        yield Answered(row.position, row.task, item, _response(row), row.text_key)


class Made(NamedTuple):
    """A response with the key of its text, which is known also where the text was not imported."""

    text_key: str | None
    response: Response


def responses_to(store: Store, item_key: str) -> dict[str, Made]:
    """Return what every generation answered to one item, by generation key."""
    known = sa.select(generations.c.generation_key)  # named one by one, they lead to the key
    query = sa.select(responses).where(
        responses.c.generation_key.in_(known), responses.c.item_key == item_key
    )
    return {
        row.generation_key: Made(row.text_key, response)
        for row in store.fetch(query)
        if (response := _response(row)) is not None
    }


class Absence(NamedTuple):
    """Items of a run that have no value, for one reason."""

    reason: str
    items: int
    first: int
    """Position of the first of them."""


def unanswered(store: Store, run: Run) -> list[Absence]:
    """Return why items of a run have no response, or an empty one."""
    reason = sa.case(
        (responses.c.item_key.is_(None), "not generated"),
        (responses.c.text.is_(None), sa.func.coalesce(responses.c.reason, "no text")),
        else_="empty response",
    )
    query = (
        sa.select(reason, sa.func.count(), sa.func.min(item_lists.c.position))
        .select_from(listed_responses(run.generation_key, every=True))
        .where(
            item_lists.c.list_key == run.list_key,
            responses.c.text.is_(None) | (responses.c.text == ""),
        )
        .group_by(reason)
    )
    return [Absence(*row) for row in store.fetch(query)]


def count_responses(store: Store, run: Run) -> int:
    """Return how many items of the run have a response."""
    query = (
        sa.select(sa.func.count())
        .select_from(listed_responses(run.generation_key))
        .where(item_lists.c.list_key == run.list_key, responses.c.text.is_not(None))
    )
    ((number,),) = store.fetch(query)
    return int(number)


def response_tokens(store: Store, run: Run) -> tuple[int, int | None, int | None]:
    """Return how many responses a run has, and the tokens of their prompts and of themselves.

    Thinking counts here: it took as long to write, and is paid for.
    """
    written = sa.func.coalesce(
        responses.c.response_tokens + responses.c.thinking_tokens,
        responses.c.response_tokens,
        responses.c.thinking_tokens,
    )
    sums = (sa.func.sum(responses.c.prompt_tokens), sa.func.sum(written))
    query = (
        sa.select(sa.func.count(), *sums)
        .select_from(listed_responses(run.generation_key))
        .where(item_lists.c.list_key == run.list_key)
    )
    ((made, prompt, completion),) = store.fetch(query)
    return made, whole(prompt), whole(completion)


def drawing_seconds(store: Store, run: Run) -> float:
    """Return how long a run's responses took: from its beginning to the last of them."""
    query = (
        sa.select(sa.func.max(responses.c.created_at))
        .select_from(listed_responses(run.generation_key))
        .where(item_lists.c.list_key == run.list_key)
    )
    ((last,),) = store.fetch(query)
    return (last - run.created_at).total_seconds() if last else 0.0


def text_lengths(store: Store, below: str | None) -> list[tuple[str, str, int]]:
    """Return (item key, text key, characters) of every response to items with keys below one."""
    query = sa.select(
        responses.c.item_key, responses.c.text_key, sa.func.length(responses.c.text)
    ).where(
        responses.c.generation_key.in_(sa.select(generations.c.generation_key)),
        responses.c.text.is_not(None),
        *([] if below is None else [responses.c.item_key < below]),
    )
    return [(item, text, length) for item, text, length in store.fetch(query)]


def texts_of(store: Store, generation_key: str) -> dict[str, tuple[str | None, str | None]]:
    """Return, by item key, a generation's texts, or None and why there is none."""
    query = sa.select(responses.c.item_key, responses.c.text, responses.c.reason).where(
        responses.c.generation_key == generation_key
    )
    return {key: (text, reason) for key, text, reason in store.fetch(query)}


def texts_by_key(store: Store, keys: Collection[str]) -> dict[str, str]:
    """Return the responses with these text keys that the store has."""
    query = sa.select(responses.c.text_key, responses.c.text).where(responses.c.text.is_not(None))
    return {key: text for key, text in store.by_key(query, responses.c.text_key, keys)}


class PairedTexts(NamedTuple):
    """One item of a run with two texts: the run's response, and what it is compared with."""

    position: int
    task: str
    item_key: str
    item_id: str
    group: str
    user_id: str | None
    n_preferences: int
    first: str | None
    """Key of the run's response; None where there is none."""
    second: str | None
    why_not: str | None
    """Why there is no pair."""

    @property
    def pair(self) -> Pair | None:
        """The pair, where there are both texts."""
        return Pair(self.item_key, self.first, self.second) if self.first and self.second else None


def paired_texts(store: Store, run: Run, other: Run | None = None) -> list[PairedTexts]:
    """Return a run's items in order, its responses beside another run's, or the references."""
    two = responses.alias()
    columns = (
        item_lists.c.position,
        item_lists.c.task,
        item_lists.c.item_key,
        items.c.item_id,
        sa.func.coalesce(items.c.group_id, items.c.item_id),
        items.c.user_id,
        items.c.n_preferences,
        _said(responses.c.text_key),
        items.c.reference_key if other is None else _said(two.c.text_key),
        _absent(responses),
        sa.literal(None) if other is None else _absent(two),
    )
    texts = listed_responses(run.generation_key, every=True)
    if other is not None:
        theirs = two.c.generation_key == other.generation_key
        texts = texts.outerjoin(two, (two.c.item_key == item_lists.c.item_key) & theirs)
    query = sa.select(*columns).select_from(texts)
    query = query.join(items, items.c.item_key == item_lists.c.item_key)
    query = query.where(item_lists.c.list_key == run.list_key).order_by(item_lists.c.position)
    found = []
    for *about, why, other_why in store.fetch(query):
        first, second = about[-2:]
        absent = None if second else other_why or NO_REFERENCE
        found.append(PairedTexts._make([*about, why if first is None else absent]))
    return found


_NOTHING = text_key("")


def _said(column: Any) -> Any:
    """A text's key, unless the text says nothing."""
    return sa.func.nullif(column, _NOTHING)


def _absent(table: Any) -> Any:
    """Why there is no text that says something."""
    empty = (table.c.text_key == _NOTHING, EMPTY)
    missing = (table.c.item_key.is_(None), NOT_GENERATED)
    return sa.case(missing, empty, else_=table.c.reason)


class Scorable(NamedTuple):
    """What scoring needs of an item and its response; no item body is read."""

    task: str
    item_key: str
    group: str
    user_id: str | None
    n_preferences: int
    reference_key: str | None
    text: str | None
    text_key: str | None
    reason: str | None
    """Why there is no text."""
    finish_reason: str | None
    response_tokens: int | None
    thinking_tokens: int | None

    @property
    def thought(self) -> int | None:
        """Tokens of thinking, 0 where all the tokens are the response's; None: nobody tells."""
        whole = 0 if self.response_tokens is not None else None
        return whole if self.thinking_tokens is None else self.thinking_tokens


def scorable(store: Store, list_key: str, generation_key: str) -> Iterator[Scorable]:
    """Yield what scoring needs of every item of the list, in order; streamed."""
    query = (
        sa.select(
            item_lists.c.position,
            *LISTED,
            responses.c.text,
            responses.c.text_key,
            sa.case((responses.c.item_key.is_(None), NOT_GENERATED), else_=responses.c.reason),
            responses.c.finish_reason,
            responses.c.response_tokens,
            responses.c.thinking_tokens,
        )
        .select_from(listed_responses(generation_key, every=True))
        .join(items, items.c.item_key == item_lists.c.item_key)
        .where(item_lists.c.list_key == list_key)
    )
    for _, *row in store.in_order(query):
        yield Scorable._make(row)


def _response(row: Any) -> Response | None:
    if row.generation_key is None:
        return None
    return Response(
        item_key=row.item_key,
        text=row.text,
        reason=row.reason,
        final=row.final,
        finish_reason=row.finish_reason,
        prompt_hash=row.prompt_hash,
        prompt_tokens=row.prompt_tokens,
        response_tokens=row.response_tokens,
        choice_logprobs=None if row.choice_logprobs is None else tuple(row.choice_logprobs),
        thinking=row.thinking,
        thinking_tokens=row.thinking_tokens,
    )


LikelihoodEntry = tuple[str, str, ContextLikelihoods]
"""Item key, text key, and what was found."""


@lasting
def put_likelihoods(store: Store, scorer_key: str, entries: Iterable[LikelihoodEntry]) -> None:
    """Store likelihoods; what is there already is kept."""
    rows = [
        {
            "scorer_key": scorer_key,
            "item_key": item_key,
            "text_key": text_key,
            "without_context": found.without_context,
            "with_contexts": list(found.with_contexts),
            "tokens": found.tokens,
        }
        for item_key, text_key, found in entries
    ]
    with store.write() as connection:
        store.put(connection, likelihoods, rows)


def get_likelihoods(
    store: Store, scorer_key: str, item_keys: Collection[str]
) -> dict[tuple[str, str], ContextLikelihoods]:
    """Return what is stored for these items, keyed (item key, text key)."""
    query = sa.select(likelihoods).where(
        likelihoods.c.scorer_key == scorer_key, likelihoods.c.item_key.in_(item_keys)
    )
    return {
        (row.item_key, row.text_key): ContextLikelihoods(
            without_context=row.without_context,
            with_contexts=tuple(row.with_contexts),
            tokens=row.tokens,
        )
        for row in store.fetch(query)
    }
