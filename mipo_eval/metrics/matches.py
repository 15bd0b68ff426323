"""Which n-grams of a text other texts match, and which of these are lost without some of them.

A text's n-gram counts for at most as often as it stands in the other text that has it most. So each
n-gram needs only the highest count in any text, whether one text alone reaches it, and the second
highest. One sort of all positions by the words that follow puts equal n-grams of every order side
by side; the rest is counting runs. Exact: nothing is sampled, no hash can collide.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mipo_eval.metrics.words import Ints

Keys = NDArray[np.uint64]

_BLOCK = 1 << 16
"""Positions counted at once: their arrays stay in the processor's cache, whatever the total."""


def _shifted(keys: Keys, by: int) -> Keys:
    """Return `keys` moved `by` places to the left, filled up with 0."""
    moved = np.zeros_like(keys)
    moved[: max(len(keys) - by, 0)] = keys[by:]
    return moved


def _window_keys(words: Ints, width: int, bits: int) -> Keys:
    """Return per position a key that sorts like the `width` words (or more) that start there.

    Where `width` numbers of `bits` fit into 64 bits, it is made of these, the first on top.
    """
    first = words.astype(np.uint64)
    keys, covered = first.copy(), 1
    while covered < width and bits * (covered + 1) <= 64:
        keys <<= np.uint64(bits)  # in place: there may be millions
        keys[:-covered] |= first[covered:]
        covered += 1
    while covered < width:
        # Too many different words for one key: replace windows by their rank and pair the ranks.
        ranks = np.unique(keys, return_inverse=True)[1].astype(np.uint64)
        keys = (ranks << np.uint64(32)) | _shifted(ranks, covered)
        covered *= 2
    return keys


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


def _clipped(held: _Holders) -> Ints:
    """Return, per n-gram and text that holds it, the clipped count.

    A count below the maximum, or a maximum that another text shares, is never clipped. Only the
    sole holder of a maximum is clipped, to the second highest count (0 when nobody else has it).
    """
    counts = held.counts
    best = np.repeat(np.maximum.reduceat(counts, held.starts), held.sizes)
    is_best = counts == best
    holders = np.repeat(np.add.reduceat(is_best, held.starts, dtype=np.int64), held.sizes)
    second = np.repeat(np.maximum.reduceat(np.where(is_best, 0, counts), held.starts), held.sizes)
    return np.where(is_best & (holders == 1), second, counts)


def _kept(held: _Holders, which: NDArray[np.bool_]) -> _Holders:
    """Return some of the n-grams; `which`: (n-grams,)."""
    kept = np.repeat(which, held.sizes)
    sizes = held.sizes[which]
    return _Holders(held.texts[kept], held.counts[kept], np.cumsum(sizes) - sizes, sizes)


def _lost(held: _Holders, ids: Ints, order: int) -> Lost:
    """Return what is lost where each group of texts is left out; `ids`: (texts,) their groups.

    Most texts lose nothing, since the text that has an n-gram most often is still there. Without
    its group the first of the others is matched up to the second of them only. And it is itself
    matched up to the second: without the group of that one, up to the next of another group.
    """
    own = ids[held.texts]
    first = _first(held.counts, held)
    outside = np.where(own == np.repeat(own[first], held.sizes), 0, held.counts)
    other = _first(outside, held)
    before = outside[other]
    outside[other] = 0
    rest = held.counts.copy()
    rest[first] = 0
    second = _first(rest, held)
    had = rest[second]
    rest[own == np.repeat(own[second], held.sizes)] = 0
    groups = np.concatenate([own[first], own[second]])
    texts = np.concatenate([held.texts[other], held.texts[first]])
    # A group that holds both the first and the second takes the first with it.
    apart = np.where(own[first] == own[second], 0, had - np.maximum.reduceat(rest, held.starts))
    counts = np.concatenate([before - np.maximum.reduceat(outside, held.starts), apart])
    kept = counts > 0
    return Lost(groups[kept], texts[kept], np.full(int(kept.sum()), order), counts[kept])


def _first(counts: Ints, held: _Holders) -> Ints:
    """Return (n-grams,) the first entry of each with the highest count."""
    best = np.repeat(np.maximum.reduceat(counts, held.starts), held.sizes)
    at = np.flatnonzero(counts == best)
    return at[np.searchsorted(at, held.starts)]


def _blocks(words: Ints) -> list[tuple[int, int]]:
    """Cut positions, sorted by their words, into blocks of about `_BLOCK`, never inside a run."""
    counts = np.bincount(words)
    starts = (np.cumsum(counts) - counts)[counts > 0]
    chosen = spaced(starts, len(words), _BLOCK)
    return list(pairwise([0, *starts[chosen].tolist(), len(words)]))


def spaced(starts: Ints, total: int, size: int) -> Ints:
    """Return which of the ascending `starts` come first after each multiple of `size`."""
    places = np.unique(np.searchsorted(starts, np.arange(size, total, size)))
    return np.asarray(places[places < len(starts)], dtype=np.int64)


def _windows(words: Ints, keys: Keys, at: Ints, width: int, bits: int) -> Ints:
    """Return (width, positions) the words that start at positions; 0 behind the last of all."""
    if bits * width > 64:
        return words.take(at + np.arange(width)[:, None], mode="clip")  # the last of all is 0
    # Out of the keys: words all over the memory would be fetched for each n.
    shifts = bits * np.arange(width - 1, -1, -1, dtype=np.uint64)[:, None]
    return ((keys[at] >> shifts) & np.uint64((1 << bits) - 1)).astype(np.int64)


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
    matched = np.zeros((max_order, n_texts))
    lost: list[list[Lost]] = [[] for _ in kinds]
    # In this order the positions of equal n-grams are neighbours, whatever n: an n-gram's number
    # is that of the (n-1)-gram before it, raised wherever that or the new word changes.
    bits = max(1, int(words.max(initial=0)).bit_length())
    keys = _window_keys(words, max_order, bits)
    order = np.argsort(keys)
    text_bits = max(1, n_texts.bit_length())
    for start, stop in _blocks(words):
        at = order[start:stop]
        window = _windows(words, keys, at, max_order, bits)
        own, grams = texts[at].astype(np.int64), np.zeros(len(at), dtype=np.int64)
        kept = window[0] != 0
        for n in range(max_order):
            window, own, grams = window[:, kept], own[kept], grams[kept]
            if not len(own):
                break
            word, window = window[0], window[1:]
            changes = (grams[1:] != grams[:-1]) | (word[1:] != word[:-1])
            grams = np.concatenate([[0], np.cumsum(changes)])
            held = _holders(grams, own, text_bits)
            matched[n] += np.bincount(held.texts, weights=_clipped(held), minlength=n_texts)
            several = held.sizes > 1
            if kinds and several.any():
                shared = _kept(held, several)
                for found, ids in zip(lost, kinds, strict=True):
                    found.append(_lost(shared, ids, n))
            # What follows an n-gram of one text alone is in no other text either.
            kept = several[grams] & (window[0] != 0) if len(window) else several[grams]
    return matched.T.astype(np.int64), [joined(found) for found in lost]


def joined(found: Sequence[Lost]) -> Lost:
    """Return all changes of several parts as one."""
    if not found:
        return Lost(*np.zeros((4, 0), dtype=np.int64))
    return Lost(*(np.concatenate(field) for field in zip(*found, strict=True)))
