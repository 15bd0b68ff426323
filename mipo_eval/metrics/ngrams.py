"""Leave-one-out n-gram matching in one sort: what Self-BLEU needs of every text at once.

A text's n-gram counts for at most as often as it stands in the other text that has it most. So
each n-gram needs only the highest count in any text, whether one text alone reaches it, and the
second highest. One sort of all positions by the words that follow puts equal n-grams of every
order side by side; the rest is counting runs. Exact: nothing is sampled, no hash can collide.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Keys = NDArray[np.uint64]

_BLOCK = 1 << 16
"""Positions counted at once: their arrays stay in the processor's cache, whatever the total."""


def _shifted(keys: Keys, by: int) -> Keys:
    """Return `keys` moved `by` places to the left, filled up with 0."""
    moved = np.zeros_like(keys)
    moved[: max(len(keys) - by, 0)] = keys[by:]
    return moved


def _window_keys(words: Ints, width: int) -> Keys:
    """Return per position a key that sorts like the `width` words (or more) that start there."""
    bits = max(1, int(words.max(initial=0)).bit_length())
    first = words.astype(np.uint64)
    keys, covered = first, 1
    while covered < width and bits * (covered + 1) <= 64:
        keys = (keys << np.uint64(bits)) | _shifted(first, covered)
        covered += 1
    while covered < width:
        # Too many different words for one key: replace windows by their rank and pair the ranks.
        ranks = np.unique(keys, return_inverse=True)[1].astype(np.uint64)
        keys = (ranks << np.uint64(32)) | _shifted(ranks, covered)
        covered *= 2
    return keys


def runs(values: Ints) -> tuple[Ints, Ints]:
    """Return where each run of equal neighbours starts, and how long it is."""
    starts = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    return starts, np.diff(starts, append=len(values))


def _clipped(grams: Ints, texts: Ints, text_bits: int) -> tuple[Ints, Ints]:
    """Return, per n-gram and text that holds it, the text and the clipped count.

    A count below the maximum, or a maximum that another text shares, is never clipped. Only the
    sole holder of a maximum is clipped, to the second highest count (0 when nobody else has it).
    """
    pairs = np.sort((grams << text_bits) | texts)
    starts, counts = runs(pairs)
    pairs = pairs[starts]
    gram_starts, sizes = runs(pairs >> text_bits)
    best = np.repeat(np.maximum.reduceat(counts, gram_starts), sizes)
    is_best = counts == best
    holders = np.repeat(np.add.reduceat(is_best, gram_starts, dtype=np.int64), sizes)
    second = np.repeat(np.maximum.reduceat(np.where(is_best, 0, counts), gram_starts), sizes)
    clipped = np.where(is_best & (holders == 1), second, counts)
    return pairs & ((1 << text_bits) - 1), clipped


def _blocks(first_words: Ints) -> list[tuple[int, int]]:
    """Cut sorted positions into blocks of about `_BLOCK`, never inside a run of one word."""
    starts, _ = runs(first_words)
    chosen = spaced(starts, len(first_words), _BLOCK)
    return list(pairwise([0, *starts[chosen].tolist(), len(first_words)]))


def spaced(starts: Ints, total: int, size: int) -> Ints:
    """Return which of the ascending `starts` come first after each multiple of `size`."""
    places = np.unique(np.searchsorted(starts, np.arange(size, total, size)))
    return np.asarray(places[places < len(starts)], dtype=np.int64)


def leave_one_out_matches(words: Ints, texts: Ints, n_texts: int, max_order: int) -> Ints:
    """Count the n-grams of each text that the other texts match.

    Args:
        words: (positions,) word numbers from 1; 0 stands behind the last word of every text.
            Texts that must not match each other share no number.
        texts: (positions,) number of the text a position belongs to.
        n_texts: how many texts there are.
        max_order: longest n-gram.

    Returns:
        (texts, max_order) matched n-grams, each clipped by its highest count in another text.
    """
    matched = np.zeros((max_order, n_texts))
    order = np.argsort(_window_keys(words, max_order))
    padded = np.concatenate([words, np.zeros(max_order, dtype=np.int64)])
    text_bits = max(1, n_texts.bit_length())
    for start, stop in _blocks(padded[order]):
        at = order[start:stop]
        grams = np.zeros(len(at), dtype=np.int64)
        for n in range(max_order):
            word = padded[at + n]
            inside = word != 0
            at, grams, word = at[inside], grams[inside], word[inside]
            if not len(at):
                break
            changes = (grams[1:] != grams[:-1]) | (word[1:] != word[:-1])
            grams = np.concatenate([[0], np.cumsum(changes)])
            holders, clipped = _clipped(grams, texts[at], text_bits)
            matched[n] += np.bincount(holders, weights=clipped, minlength=n_texts)
    return matched.T.astype(np.int64)
