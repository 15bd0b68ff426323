"""What asking judges took: calls, tokens, dollars and seconds, from the ledger."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import sqlalchemy as sa

from mipo_eval.models.prices import load_prices
from mipo_eval.models.spec import is_private
from mipo_eval.store import Store
from mipo_eval.store.tables import calls

_SAMPLE = 20_000
"""Rows that a latency or a bias is measured on, at most about."""
_HEX = 16**4


def expense_table(store: Store) -> pd.DataFrame:
    """Return what was asked of every backend and what it took.

    Columns: backend, model, url, calls, failed, prompt_tokens, completion_tokens (as the replies
    told), dollars (by the dated price table; 0 for rules and servers of one's own, absent without
    a price), seconds_median, seconds_95 (over a sample of the calls; absent where nobody measured).
    """
    key = sa.cast(calls.c.backend, sa.Text)
    query = sa.select(
        key,
        sa.func.count(),
        sa.func.sum(sa.case((calls.c.status != "ok", 1), else_=0)),
        sa.func.sum(calls.c.prompt_tokens),
        sa.func.sum(calls.c.completion_tokens),
    ).group_by(key)
    with store.read() as connection:
        rows = connection.execute(query).fetchall()
    seconds = _latencies(store, sum(row[1] for row in rows))
    lines = []
    for backend, count, failed, prompt, completion in rows:
        about = backend_of(backend)
        own = seconds[seconds["backend"] == backend]["seconds"]
        lines.append(
            {
                "backend": about.get("backend", ""),
                "model": about.get("model") or about.get("name") or "",
                "url": about.get("url", ""),
                "calls": count,
                "failed": int(failed),
                "prompt_tokens": None if prompt is None else int(prompt),
                "completion_tokens": None if completion is None else int(completion),
                "dollars": dollars_for(about, prompt, completion),
                "seconds_median": own.median() if len(own) else None,
                "seconds_95": own.quantile(0.95) if len(own) else None,
            }
        )
    return pd.DataFrame(lines).sort_values("calls", ascending=False) if lines else pd.DataFrame()


def backend_of(written: str) -> dict[str, str]:
    """Return a backend as the ledger names it: its kind, model and URL."""
    read = json.loads(written)
    return {name: str(value) for name, value in read.items()} if isinstance(read, dict) else {}


def dollars_for(
    about: Mapping[str, str], prompt: int | None, completion: int | None
) -> float | None:
    """Return what tokens cost one by one; None where price or tokens are not known."""
    urls = [url for url in about.get("url", "").split(",") if url]
    if about.get("backend") not in {"openai", "gemini"} or (urls and all(map(is_private, urls))):
        return 0.0
    price = load_prices().find(about.get("model", ""))
    if price is None or prompt is None or completion is None:
        return None
    return price.cost(int(prompt), int(completion))


def _latencies(store: Store, total: int) -> pd.DataFrame:
    drawn = drawn_below(total)
    query = sa.select(sa.cast(calls.c.backend, sa.Text), calls.c.seconds).where(
        calls.c.seconds.is_not(None), *([] if drawn is None else [calls.c.call_key < drawn])
    )
    with store.read() as connection:
        rows: Sequence[Any] = connection.execute(query).fetchall()
    return pd.DataFrame(rows, columns=["backend", "seconds"])


def drawn_below(total: int) -> str | None:
    """Return the key below which a sample of about `_SAMPLE` of `total` rows lies; None: all."""
    if total <= _SAMPLE:
        return None
    return f"{max(1, _HEX * _SAMPLE // total):04x}"
