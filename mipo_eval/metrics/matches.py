"""Which n-grams of a text other texts match, and which of these are lost without some of them.

A text's n-gram counts for at most as often as it stands in the other text that has it most. So each
n-gram needs only the texts that have it most: the first is matched up to the second, and without
one of them the other up to the third. Positions sorted by the words that follow have equal n-grams
of every order side by side; the rest is counting runs, in blocks that stay in the processor's
cache. Exact: nothing is sampled, no hash can collide.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from mipo_eval.metrics.words import Ints

Keys = NDArray[np.uint64]
_Value = TypeVar("_Value", bound=np.generic)

_BLOCK = 1 << 16
"""Positions counted at once: their arrays stay in the processor's cache, whatever the total."""
_SORTED = 1 << 20
"""Positions sorted into blocks at once: larger new arrays cost more than the sorting."""


class _Windows(NamedTuple):
    """Per position, the words that start there, in one number."""

    keys: Keys
    """(positions,) so many words, from the highest bits down."""
    width: int
    """Words in a key."""
    bits: int
    """Of a word."""

    @classmethod
    def of(cls, words: Ints, longest: int) -> "_Windows":
        """Return windows of as many words as fit, up to the longest that is wanted."""
        bits = max(1, int(words.max(initial=0)).bit_length())
        width = min(longest, 64 // bits)
        keys = np.zeros(len(words), dtype=np.uint64)
        for start in range(0, len(words), _BLOCK):
            # What is past the last word stays 0.
            some = words[start : start + _BLOCK + width - 1].astype(np.uint64)
            some <<= np.uint64(64 - bits)
            own = keys[start : start + _BLOCK]
            for place in range(width):
                there = some[place : place + len(own)]
                own[: len(there)] |= there
                some >>= np.uint64(bits)
        return cls(keys, width, bits)

    def first(self, keys: Keys) -> Keys:
        """Return the first word of keys."""
        return keys >> np.uint64(64 - self.bits)

    def after(self, n: int, at: Ints, keys: Keys) -> Keys:
        """Return the keys of what follows the first n words of positions, of which these are left.

        Args:
            n: from 1 on.
            at: positions.
            keys: theirs, with the last of the n words in front.
        """
        return keys << np.uint64(self.bits) if n % self.width else self.keys[at + n]


def runs(values: Ints) -> tuple[Ints, Ints]:
    """Return where each run of equal neighbours starts, and how long it is."""
    starts = np.flatnonzero(np.concatenate([[len(values) > 0], values[1:] != values[:-1]]))
    return starts, np.diff(starts, append=len(values))


class _Holders(NamedTuple):
    """Which texts hold each n-gram; the first two are (entries,), n-gram by n-gram."""

    texts: Ints
    counts: Ints
    starts: Ints
    """(n-grams,) where the entries of each begin."""
    sizes: Ints


class Lost(NamedTuple):
    """Matches that texts lose where a group of other texts is left out; all (changes,)."""

    groups: Ints
    texts: Ints
    orders: Ints
    counts: Ints


def _holders(grams: Ints, texts: Ints, text_bits: int) -> _Holders:
    pairs = np.sort((grams << text_bits) | texts)
    starts, counts = runs(pairs)
    pairs = pairs[starts]
    return _Holders(pairs & ((1 << text_bits) - 1), counts, *runs(pairs >> text_bits))


def _each(values: NDArray[_Value], held: _Holders) -> NDArray[_Value]:
    """Return, per entry, the value of its n-gram."""
    return np.repeat(values, held.sizes)


class _Best(NamedTuple):
    """Of each n-gram, the text that has it most; both are (n-grams,)."""

    entries: Ints
    counts: Ints
    """0 where there is no text any more."""


class _Ranked:
    """The texts that hold each n-gram, taken out one after another, the highest count first."""

    def __init__(self, counts: Ints, starts: Ints) -> None:
        """Take the counts of all entries, and where those of each n-gram start."""
        self._size, self._starts = len(counts), starts
        # Count and place in one number, so that one maximum finds both.
        self._ranks = counts * self._size
        self._ranks += np.arange(self._size)[::-1]

    def take(self) -> _Best:
        """Take out the first that is left of each n-gram."""
        counts, places = np.divmod(np.maximum.reduceat(self._ranks, self._starts), self._size)
        entries = self._size - 1 - places
        self._ranks[entries] = places
        return _Best(entries, counts)


def _clipped(held: _Holders, n_best: int) -> tuple[list[_Best], Ints]:
    """Return the first texts of each n-gram, and the clipped counts of all entries.

    A count below the maximum, or a maximum that another text shares, is never clipped. Only the
    sole holder of a maximum is clipped, to the second highest count (0 when nobody else has it).
    """
    ranked = _Ranked(held.counts, held.starts)
    best = [ranked.take() for _ in range(n_best)]
    clipped = held.counts.copy()
    clipped[best[0].entries] = best[1].counts
    return best, clipped


def _kept(held: _Holders, which: NDArray[np.bool_]) -> _Holders:
    """Return some of the n-grams; `which`: (n-grams,)."""
    kept = _each(which, held)
    sizes = held.sizes[which]
    return _Holders(held.texts[kept], held.counts[kept], np.cumsum(sizes) - sizes, sizes)


def _lost(held: _Holders, best: Sequence[_Best], ids: Ints, order: int) -> list[Lost]:
    """Return what is lost where each group of texts is left out; `ids`: (texts,) their groups.

    Most texts lose nothing, since the text that has an n-gram most often is still there. Without
    its group the second is matched up to the third only. And the first is itself matched up to the
    second: without the group of that one, up to the third.
    """
    several = np.flatnonzero(held.sizes > 1)
    first, second, third = (_Best(*(field[several] for field in one)) for one in best)
    own, another, next_own = (ids[held.texts[one.entries]] for one in (first, second, third))
    fewer = second.counts - third.counts
    apart = (own != another) & ((third.counts == 0) | ((next_own != own) & (next_own != another)))
    which = np.flatnonzero(apart & (fewer > 0))
    groups = np.concatenate([own[which], another[which]])
    texts = held.texts[np.concatenate([second.entries[which], first.entries[which]])]
    simple = Lost(groups, texts, np.full(2 * len(which), order), np.tile(fewer[which], 2))
    together = np.zeros(len(held.sizes), dtype=bool)
    together[several[~apart & (third.counts > 0)]] = True  # two texts alone lose nothing
    if not together.any():
        return [simple]
    return [simple, _lost_together(_kept(held, together), ids, order)]


def _lost_together(held: _Holders, ids: Ints, order: int) -> Lost:
    """Return the same of n-grams that one group holds several times: the next is of another."""
    own = ids[held.texts]
    first = _Ranked(held.counts, held.starts).take()
    outside = _Ranked(np.where(own == _each(own[first.entries], held), 0, held.counts), held.starts)
    other, following = outside.take(), outside.take()
    rest = held.counts.copy()
    rest[first.entries] = 0
    second = _Ranked(rest, held.starts).take()
    rest[own == _each(own[second.entries], held)] = 0
    left = np.maximum.reduceat(rest, held.starts)
    # A group that holds both the first and the second takes the first with it.
    apart = np.where(own[first.entries] == own[second.entries], 0, second.counts - left)
    counts = np.concatenate([other.counts - following.counts, apart])
    groups = np.concatenate([own[first.entries], own[second.entries]])
    texts = held.texts[np.concatenate([other.entries, first.entries])]
    kept = counts > 0
    return Lost(groups[kept], texts[kept], np.full(int(kept.sum()), order), counts[kept])


def _blocks(words: Ints) -> Iterator[Ints]:
    """Yield positions, about `_BLOCK` at a time; those of a word are in one block, ends in none."""
    counts = np.bincount(words)
    counts[0] = 0
    blocks = (np.cumsum(counts) - counts) // _BLOCK + 1
    blocks[0] = 0
    n_blocks = int(blocks[-1]) + 1
    few = blocks.astype(np.min_scalar_type(n_blocks))  # up to 16 bits are sorted in linear time
    parts = []
    for start in range(0, len(words), _SORTED):
        own = few[words[start : start + _SORTED]]
        order = start + np.argsort(own, kind="stable")
        parts.append(np.split(order, np.cumsum(np.bincount(own, minlength=n_blocks))))
    for block in range(1, n_blocks):
        at = np.concatenate([part[block] for part in parts])
        if len(at):
            yield at


def spaced(starts: Ints, total: int, size: int) -> Ints:
    """Return which of the ascending `starts` come first after each multiple of `size`."""
    places = np.unique(np.searchsorted(starts, np.arange(size, total, size)))
    return np.asarray(places[places < len(starts)], dtype=np.int64)


def _ngrams(
    at: Ints, windows: _Windows, texts: NDArray[np.integer[Any]], text_bits: int, max_order: int
) -> Iterator[_Holders]:
    """Yield which texts hold the n-grams that start at positions, for n from 1 on.

    An n-gram of one text alone is not followed further: what begins with it is in no other text.
    """
    keys, grams = windows.keys[at], np.zeros(len(at), dtype=np.int64)
    for n in range(1, max_order + 1):
        if (n - 1) % windows.width == 0:  # these words are new
            again = np.argsort(keys) if n == 1 else np.lexsort((keys, grams))
            at, keys, grams = at[again], keys[again], grams[again]
            own = texts[at].astype(np.int64)
        # Positions of equal n-grams are neighbours, whatever n: an n-gram's number is that of the
        # (n-1)-gram before it, raised wherever that or the new word changes.
        words = windows.first(keys)
        changes = (grams[1:] != grams[:-1]) | (words[1:] != words[:-1])
        grams = np.concatenate([[0], np.cumsum(changes)])
        held = _holders(grams, own, text_bits)
        yield held
        if n == max_order:
            return
        keys = windows.after(n, at, keys)
        kept = (held.sizes > 1)[grams] & (windows.first(keys) != 0)
        at, keys, grams, own = at[kept], keys[kept], grams[kept], own[kept]
        if not len(at):
            return


def leave_one_out_matches(
    words: Ints,
    texts: NDArray[np.integer[Any]],
    n_texts: int,
    max_order: int,
    kinds: Sequence[Ints] = (),
) -> tuple[Ints, list[Lost]]:
    """Count the n-grams of each text that the other texts match.

    Args:
        words: (positions,) word numbers from 1; 0 stands behind the last word of every text.
            Texts that must not match each other share no number.
        texts: (positions,) number of the text a position belongs to, of any size.
        n_texts: how many texts there are.
        max_order: longest n-gram.
        kinds: (texts,) numbers of the groups of texts that are left out, one array per kind.

    Returns:
        (texts, max_order) matched n-grams, each clipped by its highest count in another text; and
        per kind, which of them are lost without each group.
    """
    matched = np.zeros((max_order, n_texts), dtype=np.int64)
    lost: list[list[Lost]] = [[] for _ in kinds]
    windows, text_bits = _Windows.of(words, max_order), max(1, n_texts.bit_length())
    for at in _blocks(words):
        for n, held in enumerate(_ngrams(at, windows, texts, text_bits, max_order)):
            best, clipped = _clipped(held, 3 if kinds else 2)
            np.add.at(matched[n], held.texts, clipped)
            for found, ids in zip(lost, kinds, strict=True):
                found.extend(_lost(held, best, ids, n))
    return matched.T, [joined(found) for found in lost]


def joined(found: Sequence[Lost]) -> Lost:
    """Return all changes of several parts as one."""
    if not found:
        return Lost(*np.zeros((4, 0), dtype=np.int64))
    return Lost(*(np.concatenate(field) for field in zip(*found, strict=True)))
