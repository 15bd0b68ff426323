"""The demo's numbers are what the rules say."""

import math

import pytest

from mipo_eval.demo import world
from mipo_eval.records import Item, Response
from mipo_eval.store.responses import Answered
from mipo_eval.training.demonstration import outcomes, satisfied


def _answered(items: list[Item], texts: list[str | None]) -> list[Answered]:
    return [
        Answered(
            position=n,
            task="demo",
            item=item,
            response=Response(item_key=item.key, text=text, prompt_hash=""),
        )
        for n, (item, text) in enumerate(zip(items, texts, strict=True))
    ]


def test_references_satisfy_most_wishes_and_nonsense_none() -> None:
    items = list(world.items("test"))[:40]
    wishes = sum(len(item.preferences) for item in items)
    good = satisfied(_answered(items, [item.reference for item in items]))
    bad = satisfied(_answered(items, ["Bla."] * len(items)))
    assert len(good) == len(bad) == wishes
    assert sum(good) / wishes > 75
    assert sum(bad) == 0
    absent = satisfied(_answered(items[:1], [None]))
    assert all(math.isnan(value) for value in absent), "no answer is no value, not a zero"


def test_gains_are_paired_with_the_baseline() -> None:
    items = list(world.items("test"))[:40]
    references: list[str | None] = [item.reference for item in items]
    half = [text if n % 2 else "Bla." for n, text in enumerate(references)]
    tables = {
        "base": [_answered(items, half)],
        "better": [_answered(items, references), _answered(items, references)],
        "same": [_answered(items, half)],
    }
    found = outcomes(tables, baseline="base")
    base, better, same = (found[name] for name in tables)
    assert base.gain is None
    assert better.gain is not None
    assert better.gain.mean == pytest.approx(better.satisfied.mean - base.satisfied.mean)
    assert better.satisfied.per_seed == (better.satisfied.mean,) * 2
    assert better.gain.items_ci95 is not None
    assert better.gain.items_ci95[0] > 0
    assert same.gain is not None
    assert same.gain.mean == 0
