"""What the personalization YAML files call: documents in, metrics out.

The YAML files name these by dotted path (`!function mipo_eval.tasks.hooks.f`); the short form
would load a second copy of the module. Under the plain `lm_eval` command the metrics are
judge-free unless MIPO_EVAL_JUDGE names a judge; `mipo-eval` itself only takes the responses.
"""

import os
from pathlib import Path
from typing import Any

from mipo_eval import settings
from mipo_eval.records import Item
from mipo_eval.tasks.query import Prompting, render_query
from mipo_eval.tasks.sources import load_source

Document = dict[str, Any]


def item_documents(
    source: str,
    *,
    prompting: Prompting = "personalized",
    data_dir: str | None = None,
    limit: int | None = None,
    **_metadata: object,
) -> dict[str, Any]:
    """Return the test documents of a source as lm-eval wants them: {"test": Dataset}.

    Args:
        source: a name of `tasks.sources.SOURCES`, or the path of an item file.
        prompting: with or without the user's context in the query.
        data_dir: where item files are; default `settings.data_dir()`.
        limit: only the first so many items.
        _metadata: lm-eval passes all of a task's metadata; the rest is not for us.
    """
    import datasets

    items = load_source(source, Path(data_dir) if data_dir else None, "test")
    documents = [
        {
            "item_key": item.key,
            "query": render_query(item, prompting),
            "prompt": item.prompt,
            "reference": item.reference or "",
            "item": item.model_dump_json(),
        }
        for position, item in enumerate(items)
        if limit is None or position < limit
    ]
    return {"test": datasets.Dataset.from_list(documents)}


def score_response(document: Document, results: list[str]) -> dict[str, Any]:
    """Return what each metric needs of one response; the aggregations below do the rest."""
    response = results[0]
    values: dict[str, Any] = {"self_bleu_4": response, "empty_rate": float(not response.strip())}
    if os.environ.get(settings.JUDGE):
        judged = (document["item"], response)
        values |= dict.fromkeys(JUDGED_METRICS, judged)
    return values


def self_bleu_4(responses: list[str]) -> float:
    """Self-BLEU-4 of all responses, 0-1; lower is more diverse (Tables 3 and 4)."""
    from mipo_eval.metrics import self_bleu

    return self_bleu([text for text in responses if text.strip()]).mean


JUDGED_METRICS = (
    "win_rate_tie_inclusive",
    "win_rate_half_ties",
    "win_rate_strict",
    "tie_rate",
    "rating_mean",
)


def _judged(metric: str, judged: list[tuple[str, str]]) -> float:
    from mipo_eval.judges.judging import judge_texts

    pairs = [(Item.model_validate_json(item), text) for item, text in judged]
    scores = judge_texts(os.environ[settings.JUDGE], pairs, store_url=settings.store_url())
    return scores.get(metric, float("nan"))


def win_rate_tie_inclusive(judged: list[tuple[str, str]]) -> float:
    """Share of items rated at least as high as the reference, 0-100 (Table 1)."""
    return _judged("win_rate_tie_inclusive", judged)


def win_rate_half_ties(judged: list[tuple[str, str]]) -> float:
    """The same with a tie as half a win, 0-100."""
    return _judged("win_rate_half_ties", judged)


def win_rate_strict(judged: list[tuple[str, str]]) -> float:
    """The same with a tie as a loss, 0-100."""
    return _judged("win_rate_strict", judged)


def tie_rate(judged: list[tuple[str, str]]) -> float:
    """Share of items rated exactly as the reference, 0-100."""
    return _judged("tie_rate", judged)


def rating_mean(judged: list[tuple[str, str]]) -> float:
    """Mean rating of the responses, 1-5."""
    return _judged("rating_mean", judged)
