"""Judge-free personalization: how much likelier the user's context makes each response.

A scoring model reads every response without a context, under its user's and under K - 1 others
(PAPER.md, "Method": at MIPO's optimum the implicit reward is this log-ratio). Chunks are stored as
they are made, so that a stopped measurement continues.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mipo_eval.checkpoints import find_checkpoint
from mipo_eval.keys import digest
from mipo_eval.metrics.context_lift import context_scores
from mipo_eval.progress import Progress
from mipo_eval.records import ContextLikelihoods, Score, text_key
from mipo_eval.signature import short
from mipo_eval.stats.bootstrap import Crossed
from mipo_eval.store.engine import Store
from mipo_eval.store.responses import Answered, LikelihoodEntry, get_likelihoods, put_likelihoods
from mipo_eval.tasks.prompt import USUAL
from mipo_eval.tasks.wordings import Wording

CONTEXTS = 8
"""K: the own context and seven others; retrieval by chance is 1/K."""

_CHUNK = 64


class Lifted(NamedTuple):
    """Whose lift is measured, by what."""

    entries: Sequence[Answered]
    """The items of a task with their responses."""
    checkpoint: str
    """Folder or hub id of the scoring model."""
    system: str = ""
    """What the responses were drawn under, beside the item's own turns."""
    wording: Wording = USUAL
    """How they were asked for."""


def lift_scores(store: Store, asked: Lifted, *, seed: int, progress: Progress) -> list[Score]:
    """Return context lift, retrieval and the InfoNCE bound of one task's responses.

    Args:
        store: where likelihoods are kept.
        asked: what is measured, by what.
        seed: of the draw of other contexts.
        progress: told how far the work is.

    Raises:
        ModelError: the scoring model cannot be loaded.
        DataError: fewer than two different contexts.
    """
    entries, checkpoint = asked.entries, asked.checkpoint
    parts = find_checkpoint(checkpoint).identity
    identity = digest(parts) if "adapter" in parts else parts["checkpoint"]
    # The other contexts are drawn from the task's own, so its items are part of the key.
    items = [entry.item.key for entry in entries]
    told = [asked.system] if asked.system else []
    key = digest([identity, CONTEXTS, seed, asked.wording.key, items, *told])
    texts = [(entry.response.text if entry.response else None) or None for entry in entries]
    stored = get_likelihoods(store, key, items)
    found = [stored.get(_name(entry)) for entry in entries]
    missing = [
        text if likelihoods is None else None
        for text, likelihoods in zip(texts, found, strict=True)
    ]
    reasons: list[str | None] = ["no response" if text is None else None for text in texts]
    if any(missing):
        progress.start(f"likelihoods by {checkpoint}", len(entries))
        scorer = _Scorer(key, checkpoint, seed, (asked.system, asked.wording))
        results = _measure(store, scorer, entries, missing, progress)
        for index, result in results:
            if isinstance(result, str):
                reasons[index] = result
            else:
                found[index], reasons[index] = result, None
        progress.finish()
    if not any(found):
        return []
    return context_scores(
        found,
        scorer=short(identity),
        groups=[Crossed(entry.item.group, entry.item.user_id) for entry in entries],
        reasons=reasons,
    )


def _name(entry: Answered) -> tuple[str, str]:
    text = entry.response.text if entry.response else None
    return entry.item.key, text_key(text or "")


class _Scorer(NamedTuple):
    key: str
    checkpoint: str
    seed: int
    told: tuple[str, Wording]
    """System prompt and wording."""


def _measure(
    store: Store,
    scorer: _Scorer,
    entries: Sequence[Answered],
    missing: Sequence[str | None],
    progress: Progress,
) -> Iterator[tuple[int, ContextLikelihoods | str]]:
    """Yield what was missing, by position, storing it chunk by chunk."""
    from mipo_eval.tasks.likelihood import ScoringModel, score_contexts

    chunk: list[LikelihoodEntry] = []
    model = ScoringModel.load(scorer.checkpoint)
    items = [entry.item for entry in entries]
    results = score_contexts(model, items, missing, told=scorer.told, k=CONTEXTS, seed=scorer.seed)
    for index, result in enumerate(results):
        if not isinstance(result, str):
            chunk.append((*_name(entries[index]), result))
        if len(chunk) == _CHUNK or (chunk and index == len(entries) - 1):
            put_likelihoods(store, scorer.key, chunk)
            chunk = []
        progress.advance(1)
        if missing[index] is not None:
            yield index, result
