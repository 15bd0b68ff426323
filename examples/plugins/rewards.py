"""A reward for responses that use the user's own words and stay short.

mipo-eval train grpo-mi --set settings.reward=own-words --plugin examples/plugins/rewards.py \
    --model demo --suite demo --out out
"""

from collections.abc import Sequence

from mipo_eval.records import Item


def own_words(items: Sequence[Item], responses: Sequence[str]) -> Sequence[float | None]:
    """Give the share of a context's words that the response has, in at most 100 words."""
    rewards: list[float | None] = []
    for item, response in zip(items, responses, strict=True):
        wanted, said = set(item.context.lower().split()), response.lower().split()
        share = len(wanted & set(said)) / len(wanted) if wanted else None
        rewards.append(None if share is None else share * min(1.0, 100 / max(1, len(said))))
    return rewards


PLUGINS = {"rewards": {"own-words": own_words}}
