"""Negatives by a user of the same topic: what is learned is the user, not the topic.

mipo-eval train mipo --negatives same-topic --plugin examples/plugins/negatives.py \
    --model demo --suite demo --out out
"""

from collections.abc import Sequence
from random import Random

from mipo_eval.records import Item


def same_topic(item: Item, items: Sequence[Item], n: int, rng: Random) -> Sequence[Item]:
    """Ask the item's prompt with contexts of users whose prompts share most words with it."""
    words = set(item.prompt.lower().split())
    others = [one for one in items if one.context not in {"", item.context}]
    rng.shuffle(others)
    others.sort(key=lambda one: -len(words & set(one.prompt.lower().split())))
    return [item.model_copy(update={"context": one.context}) for one in others[:n]]


PLUGINS = {"negatives": {"same-topic": same_topic}}
