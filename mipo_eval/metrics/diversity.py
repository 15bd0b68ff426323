"""Diversity beside Self-BLEU: distinct n-grams, similarity, at a fixed size and within prompts.

Every measure here depends on how many texts there are (more texts share more n-grams), so suites
of different size cannot be compared directly. `diversity_scores` therefore draws subsets of one
fixed size and reports the mean over the draws.

Self-BLEU within prompts asks whether different users who ask the same get different answers: a
model that ignores its user has 1 there however diverse its answers to different prompts are.

Every interval is a jackknife's: how the figure changes without each prompt, or each user.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from mipo_eval.errors import DataError
from mipo_eval.metrics.aggregate import Reasons, count_reasons, same_length
from mipo_eval.metrics.matches import runs
from mipo_eval.metrics.self_bleu import NO_OTHER, self_bleu_of_words, self_bleu_score
from mipo_eval.metrics.words import Ints, NumberedTexts, Tokenize, Words, named, number_words
from mipo_eval.records import Score
from mipo_eval.signature import join
from mipo_eval.stats.bootstrap import Dependence, Floats, Index, Labels, cluster_ids, ratio
from mipo_eval.stats.estimates import jackknifed
from mipo_eval.stats.intervals import share_interval

FIXED_SIZE = 80
"""Texts per subset: what the paper's smallest suite (84 items) has."""
DRAWS = 100


class SubsetMean(NamedTuple):
    """A mean over subsets of texts; NaN where it is not defined."""

    value: float
    without: list[Floats]
    """Per kind of groups (groups,) the figure without the texts of each."""


@dataclass(frozen=True, slots=True)
class Subsets:
    """Texts drawn into subsets, one after another; a text may be in several."""

    texts: Index
    """(slots,) which text."""
    ids: Ints
    """(slots,) number of its subset."""
    kinds: tuple[Index, ...]
    """(slots,) numbers of the groups its text belongs to, without gaps; one array per kind."""

    @classmethod
    def of(cls, drawn: Sequence[Index], kinds: Sequence[Index]) -> "Subsets":
        """Return subsets of texts that belong to groups, (texts,) numbers per kind."""
        texts = np.concatenate(drawn)
        ids = np.repeat(np.arange(len(drawn)), [len(subset) for subset in drawn])
        own = [np.unique(one[texts], return_inverse=True)[1].astype(np.intp) for one in kinds]
        return cls(texts, ids, tuple(own))

    def __len__(self) -> int:
        """Return how many subsets there are."""
        return int(self.ids[-1]) + 1

    def table(self, cells: Ints, weights: Floats | None, kind: Index) -> Floats:
        """Return (subsets, groups) sums over slots or parts; `cells` of `cell`."""
        shape = len(self), int(kind.max()) + 1
        return np.bincount(cells, weights, shape[0] * shape[1]).reshape(shape).astype(np.float64)

    def self_bleu(self, words: NumberedTexts) -> SubsetMean:
        """Return Self-BLEU-4 of the subsets' texts; `words` of every text, as are the others'."""
        values, without = self_bleu_of_words(
            words[self.texts], group_ids=self.ids, kinds=self.kinds
        )
        return SubsetMean(float(values.mean()), without)


def ngrams(words: Sequence[Ints], n: int) -> list[Ints]:
    """Return, per text, its n-grams as numbers that are equal where the words are."""
    base = 1 + max((int(text.max(initial=0)) for text in words), default=0)
    grams = list(words)
    for order in range(2, n + 1):
        longer = [
            one[:-1] * base + text[order - 1 :] for one, text in zip(grams, words, strict=True)
        ]
        ends = np.cumsum([len(text) for text in longer])[:-1]
        # Numbered again, so that longer n-grams cannot overflow.
        numbers = np.unique(np.concatenate(longer), return_inverse=True)[1].astype(np.int64)
        grams = np.split(numbers, ends)
    return grams


def distinct(grams: Sequence[Ints], subsets: Subsets) -> SubsetMean:
    """Return the share of different n-grams among all of a subset, 0-1; higher is diverse.

    Args:
        grams: of each text, as `ngrams` gives them; a text shorter than n words adds nothing.
        subsets: of the texts.

    Returns:
        NaN where a subset has no n-gram at all.
    """
    parts = [grams[i] for i in subsets.texts.tolist()]
    sizes = [len(part) for part in parts]
    every, of = np.concatenate(parts), np.repeat(subsets.ids, sizes)
    base = int(every.max(initial=0)) + 1
    types, each = np.unique(of * base + every, return_inverse=True)
    of_types = types // base
    n_types, n = (np.bincount(of_what, minlength=len(subsets)) for of_what in (of_types, of))
    without = []
    for kind in subsets.kinds:
        own, groups = np.repeat(kind, sizes), int(kind.max()) + 1
        held = np.sort(each * groups + own)  # faster here than `np.unique`
        held = held[runs(held)[0]]
        starts, holders = runs(held // groups)
        # What one group alone holds goes with it.
        alone = held[starts[holders == 1]]
        lost = subsets.table(of_types[alone // groups] * groups + alone % groups, None, kind)
        gone = subsets.table(of * groups + own, None, kind)
        without.append(ratio(n_types[:, None] - lost, n[:, None] - gone).mean(axis=0))
    return SubsetMean(float(ratio(n_types.astype(float), n.astype(float)).mean()), without)


class UnitVector(NamedTuple):
    """A text's word counts as a sparse vector of length 1."""

    words: Ints
    weights: Floats


def unit_vectors(words: Sequence[Ints]) -> list[UnitVector]:
    """Return the counts of every text's word counts."""
    found = []
    for text in words:
        distinct_words, counts = np.unique(text, return_counts=True)
        length = max(float(np.linalg.norm(counts)), 1.0)
        found.append(UnitVector(distinct_words, counts / length))
    return found


def similarity(vectors: Sequence[UnitVector], subsets: Subsets) -> SubsetMean:
    """Return the mean cosine between the word counts of two different texts, 0-1.

    Exact over all pairs in linear time: with unit vectors u_i, the sum over pairs of u_i . u_j is
    |sum u_i|^2 minus the number of texts. 1 where all texts hold the same words equally often;
    texts without a word have no direction and are left out.

    Returns:
        NaN where fewer than two texts of a subset have words.
    """
    parts = [vectors[i] for i in subsets.texts.tolist()]
    sizes = np.array([len(part.words) for part in parts])
    words, weights = (np.concatenate(of) for of in zip(*parts, strict=True))
    base = int(words.max(initial=0)) + 1
    cells, each = np.unique(np.repeat(subsets.ids, sizes) * base + words, return_inverse=True)
    totals, of_cells = np.bincount(each, weights).astype(np.float64), cells // base
    squares = np.bincount(of_cells, totals**2, len(subsets)).astype(np.float64)
    has = (sizes > 0).astype(np.float64)
    used = np.bincount(subsets.ids, has, len(subsets)).astype(np.float64)
    without = []
    for kind in subsets.kinds:
        own, groups = np.repeat(kind, sizes), int(kind.max()) + 1
        held, places = np.unique(each * groups + own, return_inverse=True)
        sums, cell = np.bincount(places, weights), held // groups
        # |t - s|^2 = |t|^2 - 2 t . s + |s|^2, for the sum s of a group's vectors
        less = 2 * totals[cell] * sums - sums**2
        rest = squares[:, None] - subsets.table(of_cells[cell] * groups + held % groups, less, kind)
        gone = subsets.table(subsets.ids * groups + kind, has, kind)
        without.append(_of_pairs(rest, used[:, None] - gone).mean(axis=0))
    return SubsetMean(float(_of_pairs(squares, used).mean()), without)


def _of_pairs(squares: Floats, used: Floats) -> Floats:
    """Return the mean over pairs of different texts, from the squared length of their sum."""
    return ratio(squares - used, np.maximum(used * (used - 1), 0.0))


def draw_subsets(n_texts: int, size: int, draws: int, seed: int = 0) -> list[Index]:
    """Return (draws) sets of `size` different positions; a single one where nothing can vary.

    They are dealt like cards: none is in a second set before as many as can be were in a first.

    Raises:
        DataError: there are fewer texts than `size`, or a size no pair fits in.
    """
    if not 2 <= size <= n_texts:
        raise DataError(
            f"subsets of {size} texts cannot be drawn from {n_texts}; give 2 to {n_texts}"
        )
    rng, a_deck = np.random.default_rng(seed), n_texts // size
    times = 1 if size == n_texts else draws
    decks = [rng.permutation(n_texts)[: a_deck * size] for _ in range(-(-times // a_deck))]
    dealt = np.concatenate(decks).reshape(-1, size)[:times]
    return list(np.sort(dealt, axis=1))


def diversity_scores(
    texts: Sequence[str | None],
    groups: Labels = None,
    *,
    size: int = FIXED_SIZE,
    draws: int = DRAWS,
    reasons: Reasons = None,
    tokenize: Tokenize | Words = "13a",
) -> list[Score]:
    """Return Self-BLEU-4, distinct-1, distinct-2 and pairwise similarity at a fixed size, 0-1.

    The value is the mean over `draws` random subsets of `size` texts. The interval is about other
    texts like these.

    A text is a response, None where there is none; `reasons` tell why. Equal sizes make suites
    comparable. Labels are as in `stats.bootstrap.Dependence`.

    Raises:
        DataError: fewer than `size` texts have words.
    """
    same_length("texts", len(texts), "reasons", reasons)
    absent = [
        "no response" if text is None else None if text.strip() else "empty response"
        for text in texts
    ]
    unscored = count_reasons(absent, reasons, "diversity")
    present = np.array([why is None for why in absent])
    kinds = Dependence.of(groups, len(texts)).kinds(present)
    subsets = Subsets.of(draw_subsets(int(present.sum()), size, draws), kinds)
    # Of a million texts, only what was drawn is split into words.
    drawn, places = np.unique(subsets.texts, return_inverse=True)
    subsets = replace(subsets, texts=places)
    words = number_words((texts[i] or "" for i in np.flatnonzero(present)[drawn]), tokenize)
    blank = Score(metric="", value=None, n=0, unscored_reasons=unscored, signature=join())
    made = join(texts=size, draws=len(subsets))
    figures = {
        "self_bleu_4": subsets.self_bleu(words),
        "distinct_1": distinct(words, subsets),
        "distinct_2": distinct(ngrams(words, 2), subsets),
        "pairwise_similarity": similarity(unit_vectors(words), subsets),
    }
    found = []
    for metric, figure in figures.items():
        smoothing = "exp" if metric == "self_bleu_4" else None
        signature = join(tok=named(tokenize), smooth=smoothing).followed_by(made)
        score = replace(blank, metric=f"{metric}_fixed", signature=signature)
        found.append(_valued(score, figure, subsets, int(present.sum())))
    return found


def _valued(score: Score, figure: SubsetMean, subsets: Subsets, n: int) -> Score:
    """Return a score of `n` items with its value and interval; without, where it is not defined."""
    if np.isnan(figure.value):
        return replace(score, unscored_reasons={**score.unscored_reasons, "too few words": n})
    found = jackknifed(figure.value, subsets.kinds, figure.without)
    return replace(score, value=figure.value, n=n, ci95=share_interval(found, found.errors**2))


_PAIRS = 4_000
"""Pairs of texts of one prompt that are compared in all; at least one of each prompt."""


def same_prompt_scores(
    texts: Sequence[str | None],
    groups: Sequence[Hashable | None],
    *,
    reasons: Reasons = None,
    tokenize: Tokenize | Words = "13a",
) -> list[Score]:
    """Return Self-BLEU-4 within prompts, of all texts and of two texts a prompt, 0-1.

    More texts of a prompt share more n-grams, so beside the value of all stands the mean over
    pairs: that of two texts of each prompt, over as many draws of them as there can be, up to 4,000
    pairs in all. It is the same for suites with two users a prompt and with ten.

    Groups are the items' prompts; `Crossed(prompt, user)` labels count by their prompt. All else
    is as in `diversity_scores`.

    Returns:
        `self_bleu_4_same_prompt` and `self_bleu_4_same_prompt_fixed`; nothing where no prompt has
        two responses.
    """
    missing = ["no response" if not (text or "").strip() else None for text in texts]
    present = [i for i, why in enumerate(missing) if why is None]
    prompts = [own for own in _prompts(groups, present) if len(own) > 1]
    if not prompts:
        return []
    compared = np.zeros(len(texts), dtype=bool)
    compared[np.concatenate(prompts)] = True
    why = [reason or (None if compared[i] else NO_OTHER) for i, reason in enumerate(missing)]
    # What the caller knows is about absent responses: one without another keeps our reason.
    told = reasons and [own if gone else None for own, gone in zip(reasons, missing, strict=True)]
    places = np.cumsum(compared) - 1
    drawn = [places[pair] for pair in _pairs(prompts, np.random.default_rng(0))]
    subsets = Subsets.of(drawn, Dependence.of(groups, len(texts)).kinds(compared))
    kept = (texts[i] or "" for i in np.flatnonzero(compared).tolist())
    fixed = Score(
        metric="self_bleu_4_same_prompt_fixed",
        value=None,
        n=0,
        unscored_reasons=count_reasons(why, told, "Self-BLEU within prompts"),
        signature=join(
            tok=named(tokenize), smooth="exp", refs="same-prompt", texts=2, draws=_PAIRS
        ),
    )
    words = Words.of(tokenize)  # split once
    figure = subsets.self_bleu(words(kept))
    whole = self_bleu_score(
        texts, groups=groups, within_groups=True, reasons=reasons, tokenize=words
    )
    return [whole, _valued(fixed, figure, subsets, int(compared.sum()))]


def _prompts(groups: Sequence[Hashable | None], present: Sequence[int]) -> list[Index]:
    """Return the positions of the texts of each prompt."""
    ids, n_prompts = cluster_ids([groups[i] for i in present], len(present))
    order = np.array(present, dtype=np.intp)[np.argsort(ids, kind="stable")]
    return np.split(order, np.cumsum(np.bincount(ids, minlength=n_prompts))[:-1])


def _pairs(prompts: Sequence[Index], rng: np.random.Generator) -> list[Index]:
    """Return pairs of texts, equally many of each prompt, so that each prompt counts the same."""
    most = max(len(own) for own in prompts)
    times = max(1, min(most * (most - 1) // 2, _PAIRS // len(prompts)))
    found: list[Index] = []
    for own in prompts:
        for start in range(0, times, len(own) // 2):
            dealt = rng.permutation(own)[: len(own) // 2 * 2].reshape(-1, 2)
            found += list(dealt[: times - start])
    return found
