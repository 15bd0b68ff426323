"""Sampling by item: the same item gets the same draw, in any batch, order or process.

Models draw from one stream of random numbers for a whole batch, so a response would depend on its
neighbours. Here every request has a seed of its own, digested from the decoding's seed and the
item's key; each model type is handed it in the form it takes.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Sequence
from typing import Any

from mipo_eval.keys import digest


class Seeds:
    """Hands out the seeds of the requests a model is working on, by what it sees of them."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._waiting: defaultdict[str, deque[int]] = defaultdict(deque)

    def expect(self, requests: Iterable[Any], names: Iterable[str]) -> None:
        """Take the requests (lm-eval instances) to be generated for, and the prompt of each."""
        self._waiting.clear()
        for request, name in zip(requests, names, strict=True):
            self._waiting[name].append(item_seed(self._seed, str(request.doc["item_key"])))

    def take(self, name: str) -> int:
        """Return the seed of the next request with this prompt; equal prompts come in order."""
        return self._waiting[name].popleft()

    def first(self, name: str) -> int:
        """Return the seed of the only request with this prompt, however often it is sent."""
        return self._waiting[name][0]


def item_seed(seed: int, item_key: str) -> int:
    """Return the seed of one item's draw, 0 to 2^31 - 1, which every engine takes."""
    return int(digest([seed, item_key])[:8], 16) >> 1


def rounds(names: Sequence[str]) -> list[list[int]]:
    """Split positions into rounds in which no name comes twice, as few as possible.

    Example:
        >>> rounds(["a", "b", "a"])
        [[0, 1], [2]]
    """
    seen: Counter[str] = Counter()
    found: defaultdict[int, list[int]] = defaultdict(list)
    for position, name in enumerate(names):
        found[seen[name]].append(position)
        seen[name] += 1
    return [found[number] for number in sorted(found)]
