"""Diversity: hand values, equality with loops over pairs, fixed-size subsets, within prompts."""

import json
import math
from collections import Counter
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from mipo_eval.errors import DataError
from mipo_eval.metrics import self_bleu
from mipo_eval.metrics.diversity import (
    Subsets,
    _pairs,
    distinct,
    diversity_scores,
    draw_subsets,
    ngrams,
    same_prompt_scores,
    similarity,
    unit_vectors,
)
from mipo_eval.metrics.words import number_words


def words_of(texts):
    return number_words(texts, "none")


def every(texts) -> Subsets:
    """All texts as the one subset."""
    return Subsets.of([np.arange(len(texts))], [])


@pytest.fixture(scope="module")
def chat(shared_data: Path) -> list[str]:
    sets = json.loads((shared_data / "self_bleu_chat_texts.json").read_text())
    texts: list[str] = next(iter(sets.values()))
    assert len(texts) == 200
    return texts


@pytest.mark.parametrize(
    ("texts", "n", "value"),
    [
        (["a b c"], 1, 1.0),
        (["a a a a"], 1, 0.25),
        (["a a a a"], 2, 1 / 3),
        (["a b", "a b"], 2, 0.5),
        (["a b", "c"], 2, 1.0),  # the single word has no pair of words
    ],
)
def test_distinct(texts: list[str], n: int, value: float) -> None:
    assert distinct(ngrams(words_of(texts), n), every(texts)).value == pytest.approx(value)


@pytest.mark.parametrize(
    ("texts", "value"),
    [
        (["a b", "a b"], 1.0),
        (["a b", "b a"], 1.0),
        (["a b", "c d"], 0.0),
        (["a b", "a c"], 0.5),
        (["a a a", "a"], 1.0),  # only the direction counts
        (["a", "a", "b"], 1 / 3),
        (["a", "", "a"], 1.0),
    ],
)
def test_similarity(texts: list[str], value: float) -> None:
    assert similarity(unit_vectors(words_of(texts)), every(texts)).value == pytest.approx(value)


def cosine(first: Counter[str], second: Counter[str]) -> float:
    product = sum(first[word] * second[word] for word in first)
    return product / math.sqrt(
        sum(v * v for v in first.values()) * sum(v * v for v in second.values())
    )


def test_similarity_equals_a_loop_over_pairs(chat: list[str]) -> None:
    counts = [Counter(text.split()) for text in chat[:60]]
    pairs = [cosine(first, second) for first, second in combinations(counts, 2)]
    found = similarity(unit_vectors(words_of(chat[:60])), every(chat[:60])).value
    assert found == pytest.approx(sum(pairs) / len(pairs), abs=1e-12)


def test_fixed_size_makes_suites_comparable(chat: list[str]) -> None:
    """The same answers look less diverse in a larger set; at a fixed size they do not."""
    small, large = chat[::4], chat
    assert self_bleu(large).mean > self_bleu(small).mean + 0.02
    fixed = [
        {s.metric: s for s in diversity_scores(texts, size=40, draws=40)}
        for texts in (small, large)
    ]
    for metric in fixed[0]:
        first, second = fixed[0][metric], fixed[1][metric]
        assert first.ci95 is not None
        assert second.ci95 is not None
        assert first.ci95[0] <= first.value <= first.ci95[1]
        assert max(first.ci95[0], second.ci95[0]) < min(first.ci95[1], second.ci95[1])
        assert first.signature == second.signature


def test_the_interval_of_a_fixed_size_is_about_other_texts() -> None:
    def texts(rng: np.random.Generator, n: int) -> list[str]:
        taste = rng.gamma(0.3, size=(n, 60)) / np.arange(1, 61)
        taste /= taste.sum(axis=1, keepdims=True)
        return [" ".join(f"w{i}" for i in rng.choice(60, size=12, p=of)) for of in taste]

    def scores(rng: np.random.Generator, n: int, draws: int):
        return {s.metric: s for s in diversity_scores(texts(rng, n), size=10, draws=draws)}

    truth = scores(np.random.default_rng(0), 2000, 600)
    held = {metric: 0 for metric in truth}
    for seed in range(100):
        for metric, score in scores(np.random.default_rng((seed, 1)), 40, 40).items():
            low, high = score.ci95 or (np.nan, np.nan)
            held[metric] += low <= truth[metric].value <= high
    assert min(held.values()) >= 88  # 95 less three standard errors


def test_scores(chat: list[str]) -> None:
    scores = diversity_scores([*chat[:20], None, " "], size=20, reasons=[None] * 20 + ["cut", None])
    by_name = {score.metric: score for score in scores}
    assert set(by_name) == {
        "self_bleu_4_fixed",
        "distinct_1_fixed",
        "distinct_2_fixed",
        "pairwise_similarity_fixed",
    }
    assert by_name["self_bleu_4_fixed"].value == pytest.approx(self_bleu(chat[:20]).mean)
    words = number_words(chat[:20], "13a")
    pairs = distinct(ngrams(words, 2), every(words))
    assert by_name["distinct_2_fixed"].value == pytest.approx(pairs.value)
    for score in scores:
        assert score.n == 20
        assert score.unscored_reasons == {"cut": 1, "empty response": 1}
        low, high = score.ci95
        assert low < score.value < high
    signature = "tok:13a|smooth:exp|texts:20|draws:1"
    assert by_name["self_bleu_4_fixed"].signature == signature


def test_subsets_are_seeded_and_without_repeats() -> None:
    first = [subset.tolist() for subset in draw_subsets(30, 10, 5, seed=3)]
    assert first == [subset.tolist() for subset in draw_subsets(30, 10, 5, seed=3)]
    assert first != [subset.tolist() for subset in draw_subsets(30, 10, 5, seed=4)]
    assert all(len(set(subset)) == 10 for subset in first)
    assert len(set(map(tuple, first))) == 5
    dealt = np.concatenate(draw_subsets(60, 20, 3))
    assert sorted(dealt.tolist()) == list(range(60))  # none twice before all were dealt


def test_refusals() -> None:
    with pytest.raises(DataError, match="subsets of 80 texts cannot be drawn from 3"):
        diversity_scores(["a", "b", "c"])
    with pytest.raises(DataError, match="subsets of 1 texts"):
        diversity_scores(["a", "b", "c"], size=1)
    with pytest.raises(DataError, match="none of 2 items has a value"):
        diversity_scores([None, ""])


def test_too_few_words_are_no_value() -> None:
    assert np.isnan(distinct(ngrams(words_of(["a"]), 2), every(["a"])).value)
    assert np.isnan(similarity(unit_vectors(words_of(["a", ""])), every("ab")).value)
    found = {score.metric: score for score in diversity_scores(["yes", "no", "yes"], size=2)}
    pairs = found["distinct_2_fixed"]
    assert (pairs.value, pairs.n, pairs.unscored_reasons) == (None, 0, {"too few words": 3})
    assert found["distinct_1_fixed"].value == pytest.approx(1 / 2 / 3 + 1 * 2 / 3, abs=0.1)


def test_without_a_group_is_what_the_others_would_have() -> None:
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, size=rng.integers(2, 9))) for _ in range(30)]
    words, kinds = words_of(texts), [np.arange(30), rng.integers(0, 6, 30)]
    drawn = draw_subsets(30, 8, 7)
    subsets = Subsets.of(drawn, kinds)
    pairs, vectors = ngrams(words, 2), unit_vectors(words)
    for figure in (partial(distinct, pairs), partial(similarity, vectors)):
        for ids, without in zip(kinds, figure(subsets).without, strict=True):
            for group, value in zip(np.unique(ids[subsets.texts]), without, strict=True):
                left = [Subsets.of([own[ids[own] != group]], []) for own in drawn]
                assert value == pytest.approx(np.mean([figure(one).value for one in left]))


WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def by_name(*arguments, **options):
    return {score.metric: score for score in same_prompt_scores(*arguments, **options)}


def test_answers_that_ignore_the_user_have_one() -> None:
    texts = ["tea is a hot drink", "tea is a hot drink", "brew it for a minute", "all is well here"]
    found = by_name(texts, ["a", "a", "b", "b"])
    assert found["self_bleu_4_same_prompt"].value == pytest.approx(
        self_bleu(texts, groups=["a", "a", "b", "b"]).mean
    )
    fixed = found["self_bleu_4_same_prompt_fixed"]
    # Two texts a prompt: there is one pair of each.
    assert fixed.value == pytest.approx(found["self_bleu_4_same_prompt"].value)
    assert fixed.n == 4
    assert fixed.signature == "tok:13a|smooth:exp|refs:same-prompt|texts:2|draws:4000"
    (same, _) = same_prompt_scores(["tea is a hot drink"] * 2, ["a", "a"])
    assert same.value == pytest.approx(1.0)


def test_more_users_a_prompt_change_the_plain_value_and_not_the_fixed_one() -> None:
    def answers(prompt: int, users: int) -> list[str]:
        return [
            " ".join(WORDS[(prompt * 3 + user * 7 + k * (1 + user % 3)) % 10] for k in range(12))
            for user in range(users)
        ]

    few, many = ([text for p in range(45) for text in answers(p, n)] for n in (4, 9))
    groups = [[p for p in range(45) for _ in range(n)] for n in (4, 9)]
    small, large = by_name(few, groups[0]), by_name(many, groups[1])
    plain, fixed = "self_bleu_4_same_prompt", "self_bleu_4_same_prompt_fixed"
    assert large[plain].value > small[plain].value + 0.1
    assert abs(large[fixed].value - small[fixed].value) < 0.1
    low, high = small[fixed].ci95
    assert low < small[fixed].value < high
    assert by_name(few, groups[0])[fixed] == small[fixed]


def test_what_has_no_partner_is_counted() -> None:
    texts = ["a b", "a b", "a b", None, " "]
    reasons = [None, None, None, "timeout", "empty response"]
    for score in same_prompt_scores(texts, ["x", "x", "y", "x", "x"], reasons=reasons)[1:]:
        assert score.n == 2
        assert score.unscored_reasons == {
            "no other text for the prompt": 1,
            "timeout": 1,
            "empty response": 1,
        }


@pytest.mark.parametrize(
    ("texts", "groups"),
    [(["a", "b"], ["x", "y"]), (["a", "b"], [None, None]), (["a", None], ["x", "x"]), ([], [])],
)
def test_without_a_shared_prompt_there_is_nothing(texts, groups) -> None:
    assert same_prompt_scores(texts, groups) == []


def test_two_texts_are_always_of_one_prompt() -> None:
    texts = ["tea is a hot drink", "brew it for a minute", "all is well here"]
    found = by_name([text for text in texts for _ in "12"], [n for n in "abc" for _ in "12"])
    assert found["self_bleu_4_same_prompt_fixed"].value == pytest.approx(1.0)


def test_each_prompt_gives_as_many_pairs_as_the_largest_has() -> None:
    """Four texts make six pairs; the one pair of another prompt counts as often."""
    found = _pairs([np.arange(4), np.array([4, 5])], np.random.default_rng(0))
    assert Counter(bool((pair < 4).all()) for pair in found) == {True: 6, False: 6}
