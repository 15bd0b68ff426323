"""Self-BLEU (Tables 3 and 4): how much each text repeats the others; lower is more diverse.

The definition is BLEU of every text against all other texts as references, averaged. Done as
written that is quadratic; here all matches are found in time proportional to the words. A text's
n-gram counts for at most as often as it stands in the other text that has it most. So each n-gram
needs only the highest count in any text, whether one text alone reaches it, and the second highest.
One sort of all positions by the words that follow puts equal n-grams of every order side by side;
the rest is counting runs. Exact: nothing is sampled, no hash can collide.
"""

from array import array
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from inspect import unwrap
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mipo_eval.errors import ConfigError, DataError
from mipo_eval.metrics.aggregate import Reasons, mean_score, same_length
from mipo_eval.records import Score
from mipo_eval.signature import join
from mipo_eval.stats.bootstrap import Floats, Labels, cluster_ids

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
    # In this order the positions of equal n-grams are neighbours, whatever n: an n-gram's number
    # is that of the (n-1)-gram before it, raised wherever that or the new word changes.
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


Tokenize = Literal["13a", "nltk", "none"]
Smoothing = Literal["exp", "method1"]

NO_OTHER = "no other text for the prompt"

_EPSILON = 0.1
"""What nltk's method1 puts in place of a count of zero."""
_REMEMBERED = 10_000
"""Texts whose words are kept for the next measure."""
_PART = 1 << 18
"""Words of groups that are counted at a time."""
_END = np.zeros(1, dtype=np.int64)
"""What ends each text where all stand in one array."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfBleu:
    """Self-BLEU of a set of texts; 0-1, lower is more diverse."""

    mean: float
    """Over the texts that have a value."""
    per_text: tuple[float | None, ...]
    """None for an absent text, and for one with no other text to compare with (in its group)."""
    empty: int = 0
    """Texts without a token. They score 0, as in sacreBLEU and nltk, which lowers the mean."""


@cache
def _split_13a() -> Callable[[str], list[str]]:
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a
    from sacrebleu.tokenizers.tokenizer_re import TokenizerRegexp

    # What is measured several times is split once. sacreBLEU would remember 65,536 texts, twice.
    whole: Any = Tokenizer13a()  # type: ignore[no-untyped-call]
    parts = TokenizerRegexp()  # type: ignore[no-untyped-call]
    whole._post_tokenizer = partial(unwrap(TokenizerRegexp.__call__), parts)
    tokenize = lru_cache(_REMEMBERED)(partial(unwrap(Tokenizer13a.__call__), whole))
    # sacreBLEU strips the right end before it tokenizes; a trailing "-\n" shows the difference.
    return lambda text: tokenize(text.rstrip()).split()


def _split_nltk() -> Callable[[str], list[str]]:
    from nltk.tokenize.destructive import NLTKWordTokenizer

    tokenizer = NLTKWordTokenizer()
    return lambda text: list(tokenizer.tokenize(text))


TOKENIZERS: dict[Tokenize, Callable[[], Callable[[str], list[str]]]] = {
    "13a": _split_13a,
    "nltk": _split_nltk,
    "none": lambda: str.split,
}


def _closest_lengths(lengths: Ints, group_ids: Ints) -> Ints:
    """Return per text the length, among the others of its group, closest to its own.

    The shorter one of two equally close. Texts alone in their group get 0, which is not used.
    """
    span = int(lengths.max(initial=0)) + 1
    distinct, places, counts = np.unique(
        group_ids * span + lengths, return_inverse=True, return_counts=True
    )
    group, length = distinct // span, distinct % span
    far = np.iinfo(np.int64).max // 4
    below, above = np.full(len(distinct), -far), np.full(len(distinct), far)
    same = group[1:] == group[:-1]
    below[1:][same], above[:-1][same] = length[:-1][same], length[1:][same]
    nearest = np.where(length - below <= above - length, below, above)
    nearest = np.where(counts > 1, length, np.where(np.abs(nearest) >= far, 0, nearest))
    return np.asarray(nearest[places.ravel()], dtype=np.int64)


def _bleu(matched: Ints, lengths: Ints, closest: Ints, smoothing: Smoothing) -> Floats:
    """Return (texts,) sentence BLEU, 0-1, from matched n-grams and lengths."""
    orders = np.arange(1, matched.shape[1] + 1)
    total = np.maximum(lengths[:, None] - orders + 1, 0)
    missed = matched == 0
    if smoothing == "exp":
        # sacreBLEU: the k-th order without a match gets 1/2^k of a count; orders longer than
        # the text are left out (effective order).
        used = total > 0
        halvings = np.cumsum(missed & used, axis=1)
        counts = np.where(missed, 0.5**halvings, matched)
    else:
        # nltk: every order is used, and an order longer than the text counts as 0 of 1.
        used = np.ones_like(missed)
        counts = np.where(missed, _EPSILON, matched)
    logs = np.where(used, np.log(counts / np.maximum(total, 1)), 0.0)
    precision = np.exp(logs.sum(axis=1) / np.maximum(used.sum(axis=1), 1))
    penalty = np.exp(np.minimum(0.0, 1 - closest / np.maximum(lengths, 1)))
    # No match at all is 0 in both, whatever the smoothing.
    return np.where(matched.any(axis=1), penalty * precision, 0.0)


def number_words(texts: Sequence[str], tokenize: Tokenize) -> list[Ints]:
    """Return, per text, its words as numbers from 1 on, equal where the words are.

    Raises:
        ConfigError: the tokenizer is unknown.
    """
    if tokenize not in TOKENIZERS:
        raise ConfigError(f"tokenize {tokenize!r} is unknown; known: {', '.join(TOKENIZERS)}")
    split = TOKENIZERS[tokenize]()
    known: defaultdict[str, int] = defaultdict()
    known.default_factory = lambda: len(known) + 1  # a new word gets the next number
    # All words stand in one array of integers, and texts are views of it: millions of words fit.
    numbers, ends = array("q"), [0]
    for text in texts:
        numbers.extend(map(known.__getitem__, split(text)))
        ends.append(len(numbers))
    whole = np.array(numbers, dtype=np.int64)
    return [whole[start:end] for start, end in pairwise(ends)]


def self_bleu_of_words(
    texts: Sequence[Ints],
    *,
    max_order: int = 4,
    smoothing: Smoothing = "exp",
    group_ids: Ints | None = None,
) -> Floats:
    """Return (texts,) BLEU of each text against all others (of its group), 0-1.

    Texts are as of `number_words`, options as of `self_bleu`; without `group_ids`, (texts,)
    numbers, all are one group.
    """
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    groups = np.zeros(len(lengths), dtype=np.int64) if group_ids is None else group_ids
    order = np.argsort(groups, kind="stable")
    matched = np.zeros((len(order), max_order), dtype=np.int64)
    # Labels never meet, so some are counted at a time: memory does not grow with their number.
    for start, stop in _parts(groups[order], lengths[order] + 1):
        part = order[start:stop]
        ended = [words for i in part.tolist() for words in (texts[i], _END)]
        numbers, text_ids = (
            np.concatenate(ended),
            np.repeat(np.arange(len(part)), lengths[part] + 1),
        )
        if groups[part[0]] != groups[part[-1]]:
            # A word of one group is no word of another: each gets numbers of its own.
            apart = numbers + groups[part][text_ids] * (int(numbers.max()) + 1)
            numbers = np.unique(np.where(numbers > 0, apart, -1), return_inverse=True)[1].ravel()
        matched[part] = leave_one_out_matches(numbers, text_ids, len(part), max_order)
    return _bleu(matched, lengths, _closest_lengths(lengths, groups), smoothing)


def _parts(groups: Ints, sizes: Ints) -> list[tuple[int, int]]:
    """Cut texts sorted by group into parts of about `_PART` words, never inside a group."""
    firsts, _ = runs(groups)
    before = (np.cumsum(sizes) - sizes)[firsts]
    chosen = spaced(before, int(sizes.sum()), _PART)
    return list(pairwise([0, *firsts[chosen].tolist(), len(groups)]))


def self_bleu(
    texts: Sequence[str | None],
    *,
    max_order: int = 4,
    tokenize: Tokenize = "13a",
    smoothing: Smoothing = "exp",
    groups: Labels = None,
) -> SelfBleu:
    """Return Self-BLEU: each text against all others as references; exact, in linear time.

    With `smoothing="exp"` a text's value is that of `sacrebleu.BLEU(tokenize=...,
    max_ngram_order=max_order, effective_order=True).sentence_score(text, others) / 100`: effective
    order is on because sacreBLEU advises it for single sentences. With "method1" it is nltk's
    `sentence_bleu` with uniform weights and `SmoothingFunction().method1`, Texygen's definition.
    The value depends on all of these choices and on the number of texts.

    Args:
        texts: responses; None for an absent one, which is no reference either.
        max_order: longest n-gram.
        tokenize: "13a" is sacreBLEU's default; "none" splits at whitespace; "nltk" is
            `NLTKWordTokenizer` on the whole text. `nltk.word_tokenize` would first split sentences
            with the punkt model, a download, by which a full stop inside the text becomes a token
            of its own; here only the last one does.
        smoothing: what replaces an n-gram precision of zero.
        groups: one label per text: each is compared only with others of its label (Self-BLEU
            within prompts). None: with all others. A label of None stands alone.

    Returns:
        The mean and a value per text. A text without a token scores 0 and is counted in `empty`.

    Raises:
        ConfigError: an option is unknown.
        DataError: no text has another one to be compared with, or the lengths differ.
    """
    if max_order < 1:
        raise ConfigError(f"max_order {max_order} is no n-gram length; use 1 or more")
    if smoothing not in {"exp", "method1"}:
        raise ConfigError(f"smoothing {smoothing!r} is unknown; known: exp, method1")
    same_length("texts", len(texts), "groups", groups)
    present = [index for index, text in enumerate(texts) if text is not None]
    kept = [text for text in texts if text is not None]
    labels = [0] * len(kept) if groups is None else [groups[index] for index in present]
    ids = cluster_ids(labels, len(kept))[0].astype(np.int64)
    compared = np.bincount(ids)[ids] > 1 if kept else np.zeros(0, dtype=bool)
    if not compared.any():
        where = "" if groups is None else " in the same group"
        raise DataError(
            f"Self-BLEU compares each text with others, but {len(kept)} of {len(texts)} texts are "
            f"present and none has another{where}; give at least two"
        )
    words = number_words(kept, tokenize)
    values = self_bleu_of_words(words, max_order=max_order, smoothing=smoothing, group_ids=ids)
    per_text: list[float | None] = [None] * len(texts)
    for index, value, valid in zip(present, values.tolist(), compared.tolist(), strict=True):
        per_text[index] = value if valid else None
    return SelfBleu(
        mean=float(values[compared].mean()),
        per_text=tuple(per_text),
        empty=sum(len(text) == 0 for text in words),
    )


def self_bleu_score(
    texts: Sequence[str | None],
    *,
    groups: Labels = None,
    within_groups: bool = False,
    reasons: Reasons = None,
) -> Score:
    """Return Self-BLEU-4 (13a, exp) of the responses of a suite as a `Score`, 0-1.

    The interval resamples prompt groups with every text's value held fixed, so it tells how much
    texts differ in value, not how the set of references would.

    With `within_groups` only responses to the same prompt are compared, and the metric is called
    `self_bleu_4_same_prompt`. All else is as in `mean_score`.

    Raises:
        DataError: fewer than two responses, or the lengths differ.
    """
    same_length("texts", len(texts), "reasons", reasons)
    result = self_bleu(texts, groups=groups if within_groups else None)
    why = [
        (reasons[i] if reasons else None) if text is None else NO_OTHER
        for i, text in enumerate(texts)
    ]
    return mean_score(
        "self_bleu_4_same_prompt" if within_groups else "self_bleu_4",
        result.per_text,
        signature=join(
            tok="13a",
            smooth="exp",
            refs="same-prompt" if within_groups else "all",
            texts=sum(text is not None for text in texts),
        ),
        groups=groups,
        reasons=why,
    )
