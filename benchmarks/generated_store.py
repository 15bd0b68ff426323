"""A store of any size for benchmarks: runs, responses and verdicts drawn at random, no model."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice, product
from typing import Any

from mipo_eval.evaluation.score import Numbers
from mipo_eval.keys import digest
from mipo_eval.records import Item, Run
from mipo_eval.signature import join, short
from mipo_eval.store import Store
from mipo_eval.store.engine import now
from mipo_eval.store.items import put_list
from mipo_eval.store.judges import list_judges, put_judge
from mipo_eval.store.responses import put_generation
from mipo_eval.store.runs import put_run, put_scores
from mipo_eval.store.tables import responses, verdicts

_ROWS = 20_000
_TASK = "generated"


def fill(store: Store, *, methods: int, seeds: int, items: int, preferences: int) -> int:
    """Fill a store with `methods` x `seeds` judged runs over `items`; return the verdicts."""
    made = [_item(n, preferences) for n in range(items)]
    list_key, _ = put_list(store, [(_TASK, made)])
    judge_key = digest("a generated judge")
    put_judge(store, judge_key, "generated", {"judge_key": short(judge_key)})
    generations, runs = {}, []
    for method, seed in product(range(methods), range(seeds)):
        name = f"method-{method:02d}-seed{seed}"
        spec = {"model": {"engine": "hf", "checkpoint": digest(name)}, "decoding": {"seed": 0}}
        key = digest(spec)
        put_generation(store, key, spec)
        runs.append(_run(name, list_key, items, key))
        put_run(store, runs[-1])
        generations[key] = 0.02 * method
    count = 0
    with store.write() as connection:
        for rows in _batches(_responses(generations, made)):
            connection.execute(responses.insert(), rows)
        for rows in _batches(_verdicts(generations, made, judge_key)):
            connection.execute(verdicts.insert(), rows)
            count += len(rows)
    _score(store, runs)
    return count


def _score(store: Store, runs: Sequence[Run]) -> None:
    """Store the scores of every run as the main job does, so that they are current when read."""
    numbers, [judge] = Numbers(store), list_judges(store)
    about = join(suite=f"{_TASK}@1", judge=judge.name, judge_key=short(judge.key))
    for run in runs:
        scores = [
            replace(score, signature=about.followed_by(score.signature, join(version="bench")))
            for score in numbers.judged(run, _TASK, judge)
        ]
        put_scores(store, run.run_id, scores)


def _batches(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    while batch := list(islice(rows, _ROWS)):
        yield batch


def _item(number: int, preferences: int) -> Item:
    return Item(
        item_id=f"item-{number}",
        prompt=f"Question {number // 4}",
        preferences=tuple(f"preference {aspect}" for aspect in range(preferences)),
        reference=f"Reference {number}",
        group_id=f"group-{number // 4}",
    )


def _run(name: str, list_key: str, items: int, key: str) -> Run:
    return Run(
        run_id=digest([name, list_key, key]),
        model=name,
        suite=_TASK,
        prompting="personalized",
        seed=0,
        list_key=list_key,
        n_items=items,
        generation_key=key,
        environment={},
        created_at=now(),
        updated_at=now(),
    )


def _text(key: str, item: Item) -> str:
    return f"The answer of {key} to {item.item_id}. " * 6


def _responses(generations: dict[str, float], items: list[Item]) -> Iterator[dict[str, Any]]:
    for key, item in product(generations, items):
        text = _text(key, item)
        yield {
            "generation_key": key,
            "item_key": item.key,
            "text": text,
            "text_key": digest(text),
            "final": True,
            "prompt_hash": item.key,
            "created_at": now(),
        }


def _verdicts(
    generations: dict[str, float], items: list[Item], judge_key: str
) -> Iterator[dict[str, Any]]:
    rng = random.Random(0)
    for item in items:
        ease = rng.gauss(0, 0.5)
        texts = [(item.reference or "", 0.0)]
        texts += [(_text(key, item), skill) for key, skill in generations.items()]
        for (text, skill), aspect in product(texts, range(len(item.preferences))):
            rating = min(5, max(1, round(3 + ease + skill + rng.gauss(0, 1))))
            yield {
                "judge_key": judge_key,
                "item_key": item.key,
                "text_key": digest(text),
                "aspect": aspect,
                "rating": rating,
                "call_key": item.key,
            }
