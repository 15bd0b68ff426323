"""Self-BLEU (Tables 3 and 4): how much each text repeats the others; lower is more diverse.

The definition is BLEU of every text against all other texts as references, averaged. Done as
written that is quadratic; here all matches are found in time proportional to the words, see
`matches`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np

from mipo_eval.errors import ConfigError, DataError
from mipo_eval.metrics.aggregate import NO_SCORE, Reasons, count_reasons, same_length
from mipo_eval.metrics.matches import Lost, joined, leave_one_out_matches, runs, spaced
from mipo_eval.metrics.words import Ints, NumberedTexts, Tokenize, Words, named, number_words
from mipo_eval.records import Score
from mipo_eval.signature import join
from mipo_eval.stats.bootstrap import Dependence, Floats, Interval, Labels, cluster_ids, ratio
from mipo_eval.stats.estimates import jackknifed
from mipo_eval.stats.intervals import SHARE, rare_variances, share_interval, spanned

Smoothing = Literal["exp", "method1"]

NO_OTHER = "no other text for the prompt"

_EPSILON = 0.1
"""What nltk's method1 puts in place of a count of zero."""
_PART = 1 << 18
"""Words of groups that are counted at a time."""
_ROWS = 1 << 14
"""Texts whose BLEU is worked out at a time: larger new arrays cost more than the work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfBleu:
    """Self-BLEU of a set of texts; 0-1, lower is more diverse."""

    mean: float
    """Over the texts that have a value."""
    per_text: tuple[float | None, ...]
    """None for an absent text, and for one with no other text to compare with (in its group)."""
    empty: int = 0
    """Texts without a token. They score 0, as in sacreBLEU and nltk, which lowers the mean."""


class _Closest(NamedTuple):
    """Per text, the length among the others that is closest to its own; the shorter of two."""

    lengths: Ints
    """0 where there is no other text, which is not used."""
    groups: Ints
    """The group of the text that has it; -1 where there is no other."""
    next: Ints
    """The closest length without that group; -1 where no other text is left."""


def _closest(lengths: Ints, contexts: Ints, ids: Ints) -> _Closest:
    """Find the closest lengths; `contexts`: which texts are compared; `ids`: which are left out."""
    order = np.lexsort((ids, lengths, contexts))
    length, context, own = lengths[order], contexts[order], ids[order]
    places = np.arange(len(order))
    starts, sizes = runs(context)
    first, last = np.repeat(starts, sizes), np.repeat(starts + sizes - 1, sizes)
    begins, alike = runs(context * (int(ids.max(initial=0)) + 1) + own)
    begin, end = np.repeat(begins, alike), np.repeat(begins + alike - 1, alike)

    def nearest(below: Ints, above: Ints) -> Ints:
        """Return the nearer of two places; -1 where both are outside."""
        far = np.iinfo(np.int64).max
        down = np.where(below >= first, length - length[np.maximum(below, 0)], far)
        up = np.where(above <= last, length[np.minimum(above, len(length) - 1)] - length, far)
        return np.where(np.minimum(down, up) == far, -1, np.where(down <= up, below, above))

    below, above = places - 1, places + 1
    at = nearest(below, above)
    groups = np.where(at < 0, -1, own[at])
    below = np.where((below >= first) & (own[below] == groups), begin[below] - 1, below)
    beyond = np.minimum(above, len(order) - 1)
    above = np.where((above <= last) & (own[beyond] == groups), end[beyond] + 1, above)
    after = nearest(below, above)
    back = np.empty_like(order)
    back[order] = places
    return _Closest(
        np.where(at < 0, 0, length[at])[back],
        groups[back],
        np.where(after < 0, -1, length[after])[back],
    )


def _bleu(matched: Ints, lengths: Ints, closest: Ints, smoothing: Smoothing) -> Floats:
    """Return (texts,) sentence BLEU, 0-1, from matched n-grams and lengths."""
    values = np.empty(len(lengths))
    for start in range(0, len(lengths), _ROWS):
        some = slice(start, start + _ROWS)
        values[some] = _few_bleu(matched[some], lengths[some], closest[some], smoothing)
    return values


def _few_bleu(matched: Ints, lengths: Ints, closest: Ints, smoothing: Smoothing) -> Floats:
    counts = np.ascontiguousarray(matched.T)  # (orders, texts): far faster along the texts
    total = np.maximum(lengths - np.arange(len(counts))[:, None], 0)
    missed = counts == 0
    if smoothing == "exp":
        # sacreBLEU: the k-th order without a match gets 1/2^k of a count; orders longer than
        # the text are left out (effective order).
        used = total > 0
        halvings = np.cumsum(missed & used, axis=0)
        smoothed = np.where(missed, np.ldexp(1.0, -halvings), counts)
    else:
        # nltk: every order is used, and an order longer than the text counts as 0 of 1.
        used = np.ones_like(missed)
        smoothed = np.where(missed, _EPSILON, counts)
    logs = np.where(used, np.log(smoothed / np.maximum(total, 1)), 0.0)
    precision = np.exp(logs.sum(axis=0) / np.maximum(used.sum(axis=0), 1))
    penalty = np.exp(np.minimum(0.0, 1 - closest / np.maximum(lengths, 1)))
    # No match at all is 0 in both, whatever the smoothing.
    return np.where(missed.all(axis=0), 0.0, penalty * precision)


def self_bleu_of_words(
    texts: NumberedTexts,
    *,
    max_order: int = 4,
    smoothing: Smoothing = "exp",
    group_ids: Ints | None = None,
    kinds: Sequence[Ints] = (),
) -> tuple[Floats, list[Floats]]:
    """Return BLEU of each text against all others (of its group), and means without some of them.

    Args:
        texts: as of `number_words`.
        max_order: as of `self_bleu`.
        smoothing: as of `self_bleu`.
        group_ids: (texts,) numbers of the groups in which texts are compared; None: all with all.
        kinds: (texts,) numbers of the texts that are left out together, one array per kind.

    Returns:
        (texts,) values, 0-1, NaN for a text without another; and per kind (numbers,) the mean that
        the other texts would have if these had never been there: NaN where none has a value.
    """
    lengths = texts.lengths
    groups = np.zeros(len(lengths), dtype=np.int64) if group_ids is None else group_ids
    order = np.argsort(groups, kind="stable")
    matched = np.zeros((len(order), max_order), dtype=np.int64)
    lost: list[list[Lost]] = [[] for _ in kinds]
    # Labels never meet, so some are counted at a time: memory does not grow with their number.
    for start, stop in _parts(groups[order], lengths[order] + 1):
        part = order[start:stop]
        numbers = texts[part].joined()
        text_ids = np.repeat(np.arange(len(part), dtype=np.int32), lengths[part] + 1)
        if groups[part[0]] != groups[part[-1]]:
            # A word of one group is no word of another: each gets numbers of its own.
            apart = numbers + groups[part][text_ids] * (int(numbers.max()) + 1)
            numbers = np.unique(np.where(numbers > 0, apart, -1), return_inverse=True)[1].ravel()
        own = [ids[part] for ids in kinds]
        matched[part], found = leave_one_out_matches(numbers, text_ids, len(part), max_order, own)
        for every, one in zip(lost, found, strict=True):
            every.append(one._replace(texts=part[one.texts]))
    closest = _closest(lengths, groups, np.arange(len(lengths)))
    values = _bleu(matched, lengths, closest.lengths, smoothing)
    values[closest.groups < 0] = np.nan
    counted = _Counted(matched, lengths, smoothing, values)
    means = [
        _means_without(counted, ids, joined(every), _closest(lengths, groups, ids))
        for ids, every in zip(kinds, lost, strict=True)
    ]
    return values, means


class _Counted(NamedTuple):
    """What the texts are worth with all of them there."""

    matched: Ints
    lengths: Ints
    smoothing: Smoothing
    values: Floats


def _means_without(counted: _Counted, ids: Ints, lost: Lost, closest: _Closest) -> Floats:
    """Return (groups,) means over the texts outside each group, without the texts in it."""
    n_texts, n_groups = len(ids), int(ids.max(initial=-1)) + 1
    moved = (closest.groups >= 0) & (closest.groups != ids) & (closest.next != closest.lengths)
    texts = np.flatnonzero(moved)
    of_lengths = closest.groups[texts] * n_texts + texts
    keys = np.concatenate([lost.groups * n_texts + lost.texts, of_lengths])
    pairs, places = np.unique(keys, return_inverse=True)
    groups, texts = pairs // n_texts, pairs % n_texts
    size = len(pairs), counted.matched.shape[1]
    cells = places[: len(lost.texts)] * size[1] + lost.orders
    gone = np.bincount(cells, weights=lost.counts, minlength=size[0] * size[1]).reshape(size)
    moved = groups == closest.groups[texts]
    lengths = np.where(moved, closest.next[texts], closest.lengths[texts])
    left = lengths >= 0
    values = _bleu(
        counted.matched[texts] - gone.astype(np.int64),
        counted.lengths[texts],
        lengths,
        counted.smoothing,
    )
    changes = np.where(left, values, 0.0) - counted.values[texts]
    has = ~np.isnan(counted.values)
    known = np.where(has, counted.values, 0.0)
    sums = known.sum() - np.bincount(ids, known, n_groups) + np.bincount(groups, changes, n_groups)
    counts = has.sum() - np.bincount(ids, has, n_groups) - np.bincount(groups, ~left, n_groups)
    return ratio(sums, counts)


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
        tokenize: "13a" is sacreBLEU's default, "zh", "ja-mecab" and "char" are its others, see
            `words.tokenizer_for`; "none" splits at whitespace; "nltk" is
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
    present, ids = _compared(texts, groups)
    words = number_words([texts[i] or "" for i in present], tokenize)
    values, _ = self_bleu_of_words(words, max_order=max_order, smoothing=smoothing, group_ids=ids)
    per_text: list[float | None] = [None] * len(texts)
    for index, value in zip(present.tolist(), values.tolist(), strict=True):
        per_text[index] = value
    return SelfBleu(
        mean=float(values.mean()),
        per_text=tuple(per_text),
        empty=int((words.lengths == 0).sum()),
    )


def _compared(texts: Sequence[str | None], groups: Labels) -> tuple[Ints, Ints]:
    """Return the positions of the texts that have another to be compared with, and their groups.

    Raises:
        DataError: there are none.
    """
    same_length("texts", len(texts), "groups", groups)
    present = np.array([i for i, text in enumerate(texts) if text is not None], dtype=np.int64)
    labels = [0] * len(present) if groups is None else [groups[i] for i in present]
    ids = cluster_ids(labels, len(present))[0].astype(np.int64)
    compared = np.bincount(ids)[ids] > 1 if len(present) else np.zeros(0, dtype=bool)
    if not compared.any():
        where = "" if groups is None else " in the same group"
        raise DataError(
            f"Self-BLEU compares each text with others, but {len(present)} of {len(texts)} texts "
            f"are present and none has another{where}; give at least two"
        )
    return present[compared], ids[compared]


def self_bleu_score(
    texts: Sequence[str | None],
    *,
    groups: Labels = None,
    within_groups: bool = False,
    reasons: Reasons = None,
    tokenize: Tokenize | Words = "13a",
) -> Score:
    """Return Self-BLEU-4 (exp) of the responses of a suite as a `Score`, 0-1.

    The interval is about as many other texts like these: a group of texts counts by its own values
    and by what the others lose without it as references (the jackknife, `stats.jackknifed`).

    With `within_groups` only responses to the same prompt are compared, and the metric is called
    `self_bleu_4_same_prompt`.

    Args:
        texts: responses; None for an absent one.
        groups: one label per text, see `stats.bootstrap.Dependence`.
        within_groups: compare only texts of the same prompt.
        reasons: per text, why it is absent.
        tokenize: as of `self_bleu`, or `Words` that know some of the texts already.

    Raises:
        DataError: fewer than two responses, or the lengths differ.
    """
    same_length("texts", len(texts), "reasons", reasons)
    name = "self_bleu_4_same_prompt" if within_groups else "self_bleu_4"
    present, ids = _compared(texts, groups if within_groups else None)
    why = [
        (reasons[i] if reasons else None) if t is None else NO_OTHER for i, t in enumerate(texts)
    ]
    has = np.isin(np.arange(len(texts)), present)
    kinds = Dependence.of(groups, len(texts)).kinds(has)
    words = number_words([texts[i] or "" for i in present], tokenize)
    values, without = self_bleu_of_words(words, group_ids=ids, kinds=kinds)
    found = jackknifed(float(values.mean()), kinds, without)
    return Score(
        metric=name,
        value=float(found.means[0]),
        n=len(present),
        unscored_reasons=count_reasons([None if h else NO_SCORE for h in has], why, name),
        ci95=share_interval(found, rare_variances(values[:, None], found, SHARE)),
        signature=join(
            tok=named(tokenize),
            smooth="exp",
            refs="same-prompt" if within_groups else "all",
            texts=sum(text is not None for text in texts),
        ),
    )


class Change(NamedTuple):
    """Self-BLEU of two runs over the items that both answered."""

    before: float
    after: float
    ci95: Interval | None
    """Of after minus before, for other texts like these."""
    n: int


def self_bleu_change(
    before: Sequence[str | None],
    after: Sequence[str | None],
    *,
    groups: Labels = None,
    within_groups: bool = False,
    tokenize: Tokenize = "13a",
) -> Change:
    """Return how Self-BLEU-4 differs between two runs' responses to the same items.

    Options are those of `self_bleu_score`.

    Raises:
        DataError: fewer than two items (of a prompt) have both, or the lengths differ.
    """
    same_length("before", len(before), "after", after)
    both = [a and b for a, b in zip(before, after, strict=True)]
    present, ids = _compared(both, groups if within_groups else None)
    has = np.isin(np.arange(len(both)), present)
    kinds = Dependence.of(groups, len(both)).kinds(has)
    means, left = [], []
    for texts in (before, after):
        words = number_words([texts[i] or "" for i in present], tokenize)
        values, without = self_bleu_of_words(words, group_ids=ids, kinds=kinds)
        means.append(float(values.mean()))
        left.append(without)
    apart = [late - early for early, late in zip(*left, strict=True)]
    found = jackknifed(means[1] - means[0], kinds, apart)
    return Change(means[0], means[1], spanned(found, found.errors**2, (-1.0, 1.0))[0], len(present))
