"""How likely a scoring model finds responses, with and without their users' contexts."""

from collections.abc import Collection, Iterable

import sqlalchemy as sa

from mipo_eval.metrics.context_lift import ContextLikelihoods
from mipo_eval.store.engine import Store
from mipo_eval.store.tables import likelihoods

LikelihoodEntry = tuple[str, str, ContextLikelihoods]
"""Item key, text key, and what was found."""


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
    with store.read() as connection:
        return {
            (row.item_key, row.text_key): ContextLikelihoods(
                without_context=row.without_context,
                with_contexts=tuple(row.with_contexts),
                tokens=row.tokens,
            )
            for row in connection.execute(query)
        }
