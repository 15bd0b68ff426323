"""The store: runs, items, responses, calls, verdicts and scores in one database."""

from mipo_eval.store.engine import Store

__all__ = ["Store"]
