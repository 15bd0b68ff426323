"""Self-BLEU: equal to leave-one-out loops over sacreBLEU and nltk, and to published values."""

import json
import random
from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from nltk.tokenize import NLTKWordTokenizer
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
from sacrebleu.metrics import BLEU

from mipo_eval.errors import ConfigError, DataError
from mipo_eval.metrics import self_bleu
from mipo_eval.metrics.matches import leave_one_out_matches
from mipo_eval.metrics.self_bleu import (
    self_bleu_change,
    self_bleu_of_words,
    self_bleu_score,
)
from mipo_eval.metrics.words import number_words

PLAIN = ["a", "b", "c", "d", "e!", "f,", "g."]
ODD = [
    "3.5",
    "don't",
    "&amp;",
    "<skipped>",
    "x-\n",
    "-y",
    "\u00e9t\u00e9",
    "\u4f60",
    "50%",
    "(ok)",
    "U.S.",
]
WORDS = PLAIN + ODD


def random_texts(seed: int, n: int = 25, longest: int = 14) -> list[str]:
    """Texts with repeats, duplicates, empties and ones shorter than four words."""
    draw = random.Random(seed)
    texts = [" ".join(draw.choices(WORDS, k=draw.randint(0, longest))) for _ in range(n)]
    return [*texts, texts[0], "", "  \n", "a", "a a a a a a", "Trailing-\n"]


def sacrebleu_loop(texts: list[str], max_order: int, tokenize: str) -> list[float]:
    bleu = BLEU(tokenize=tokenize, effective_order=True, max_ngram_order=max_order)
    return [
        bleu.sentence_score(text, texts[:i] + texts[i + 1 :]).score / 100
        for i, text in enumerate(texts)
    ]


def nltk_loop(texts: list[list[str]], max_order: int) -> list[float]:
    smoothing = SmoothingFunction().method1
    weights = (1 / max_order,) * max_order
    return [
        float(sentence_bleu(texts[:i] + texts[i + 1 :], text, weights, smoothing))
        for i, text in enumerate(texts)
    ]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("max_order", [1, 2, 4, 6])
@pytest.mark.parametrize("tokenize", ["13a", "none"])
def test_equals_the_leave_one_out_loop_over_sacrebleu(seed, max_order, tokenize) -> None:
    texts = random_texts(seed)
    ours = self_bleu(texts, max_order=max_order, tokenize=tokenize)
    theirs = sacrebleu_loop(texts, max_order, tokenize)
    assert ours.per_text == pytest.approx(theirs, abs=1e-12)
    assert ours.mean == pytest.approx(sum(theirs) / len(theirs), abs=1e-12)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("max_order", [1, 2, 4, 6])
@pytest.mark.parametrize("tokenize", ["nltk", "none"])
def test_equals_the_leave_one_out_loop_over_nltk(seed, max_order, tokenize) -> None:
    texts = random_texts(seed)
    ours = self_bleu(texts, max_order=max_order, tokenize=tokenize, smoothing="method1")
    split = NLTKWordTokenizer().tokenize if tokenize == "nltk" else str.split
    theirs = nltk_loop([list(split(text)) for text in texts], max_order)
    assert ours.per_text == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize(
    ("order", "published"),
    [
        # fast-bleu's README, three references of Papineni et al.; the 3-gram values there are
        # good to 1e-8.
        (2, [0.25819888974716115, 0.3615507630310936, 0.37080992435478316]),
        (3, [0.07808966062765045, 0.20140620205719248, 0.21415334758254043]),
    ],
)
def test_published_values_of_fast_bleu(order, published) -> None:
    texts = [
        "It is a guide to action that ensures that the military will forever heed Party commands",
        "It is the guiding principle which guarantees the military forces always being under the "
        "command of the Party",
        "It is the practical guide for the army always to heed the directions of the party",
    ]
    ours = self_bleu(texts, max_order=order, tokenize="none", smoothing="method1")
    assert ours.per_text == pytest.approx(published, abs=1e-7)


CHAT_VARIANTS = {"whitespace": "none", "nltk_treebank_no_punkt": "nltk", "sacrebleu_13a": "13a"}


@pytest.mark.parametrize("variant", CHAT_VARIANTS)
def test_recomputed_values_on_real_chat_answers(shared_data: Path, variant: str) -> None:
    truth = json.loads((shared_data / "GROUND_TRUTH_self_bleu_chat.json").read_text())["sets"]
    texts = json.loads((shared_data / "self_bleu_chat_texts.json").read_text())
    for name, expected in truth.items():
        for order in (2, 3, 4, 5):
            ours = self_bleu(
                texts[name],
                max_order=order,
                tokenize=CHAT_VARIANTS[variant],  # type: ignore[arg-type]
                smoothing="method1",
            )
            assert ours.mean == pytest.approx(expected[variant][f"self_bleu_{order}"], abs=1e-9)


def test_per_text_values_on_real_chat_answers(shared_data: Path) -> None:
    truth = json.loads((shared_data / "GROUND_TRUTH_self_bleu_chat.json").read_text())["sets"]
    texts = json.loads((shared_data / "self_bleu_chat_texts.json").read_text())
    for name, expected in truth.items():
        ours = self_bleu(texts[name], tokenize="none", smoothing="method1")
        assert ours.per_text == pytest.approx(expected["per_text_self_bleu_4_whitespace"], abs=1e-9)
        first = expected["sacrebleu_sentence_first84"]
        default = self_bleu(texts[name][:84])
        assert default.mean == pytest.approx(first["mean"], abs=1e-9)
        assert default.per_text[:5] == pytest.approx(first["first5"], abs=1e-9)


@pytest.mark.parametrize("model", ["mle", "seq", "textgan"])
def test_texygen_figures(shared_data: Path, model: str) -> None:
    truth = json.loads((shared_data / "GROUND_TRUTH_self_bleu.json").read_text())
    expected = truth["texygen_instances"][model]
    lines = (shared_data / "texygen" / f"{model}.txt").read_text(encoding="utf-8").splitlines()
    for order in (2, 4):
        key = f"self_bleu_{order}"
        first = self_bleu(lines[:500], max_order=order, tokenize="nltk", smoothing="method1")
        every = self_bleu(lines, max_order=order, tokenize="nltk", smoothing="method1")
        assert first.mean == pytest.approx(expected["recomputed"][key], abs=1e-9)
        assert every.mean == pytest.approx(expected["recomputed_all_lines"][key], abs=1e-9)


def test_many_different_words_and_small_blocks_change_nothing(monkeypatch) -> None:
    """Vocabularies too large for one sort key, and counting in many blocks."""
    draw = random.Random(1)
    base = [" ".join(draw.choices(WORDS, k=12)) for _ in range(20)]
    rare = [" ".join(f"r{draw.randrange(40_000)}" for _ in range(2000)) for _ in range(20)]
    texts = [f"{text} {noise}" for text, noise in zip(base, rare, strict=True)]
    expected = self_bleu(texts, max_order=5)
    monkeypatch.setattr(import_module("mipo_eval.metrics.matches"), "_BLOCK", 50)
    assert self_bleu(texts, max_order=5) == expected
    looped = sacrebleu_loop(texts, 5, "13a")
    assert expected.per_text == pytest.approx(looped, abs=1e-12)


def test_order_of_texts_does_not_matter() -> None:
    texts = random_texts(9)
    forward, backward = self_bleu(texts), self_bleu(texts[::-1])
    assert forward.per_text == pytest.approx(backward.per_text[::-1], abs=1e-15)


def test_a_text_repeated_scores_one() -> None:
    assert self_bleu(["one two three four five"] * 3).per_text == pytest.approx((1, 1, 1))


def test_nothing_shared_scores_zero() -> None:
    assert self_bleu(["one two three four", "five six seven eight"]).per_text == (0, 0)


def test_groups_compare_only_their_own() -> None:
    texts = random_texts(4)
    labels = [i % 3 for i in range(len(texts))]
    ours = self_bleu(texts, groups=labels)
    for label in range(3):
        own = [text for text, other in zip(texts, labels, strict=True) if other == label]
        alone = self_bleu(own).per_text
        grouped = [v for v, other in zip(ours.per_text, labels, strict=True) if other == label]
        assert grouped == pytest.approx(alone, abs=1e-15)


def test_a_text_alone_in_its_group_has_no_value() -> None:
    ours = self_bleu(["a b", "a b", "a b", "a b"], groups=["x", "y", "x", None])
    assert ours.per_text == (pytest.approx(1), None, pytest.approx(1), None)
    assert ours.mean == pytest.approx(1)


def test_absent_texts_are_no_references() -> None:
    ours = self_bleu(["a b c d", None, "a b c d", None])
    assert ours.per_text == (pytest.approx(1), None, pytest.approx(1), None)


def test_empty_texts_score_zero_and_are_counted() -> None:
    ours = self_bleu(["", "a b c d", "a b c d", " \n", "\t"])
    assert ours.per_text == (0, pytest.approx(1), pytest.approx(1), 0, 0)
    assert ours.empty == 3
    assert self_bleu(["", ""]).per_text == (0, 0)
    assert self_bleu_score(["", ""], groups=["x", "y"]).value == 0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: self_bleu([]), DataError, "0 of 0 texts are present"),
        (lambda: self_bleu(["one"]), DataError, "give at least two"),
        (lambda: self_bleu(["one", None]), DataError, "1 of 2 texts are present"),
        (lambda: self_bleu(["a", "b"], groups=[1, 2]), DataError, "in the same group"),
        (lambda: self_bleu(["a", "b"], groups=[1]), DataError, "groups has 1"),
        (lambda: self_bleu(["a", "b"], max_order=0), ConfigError, "max_order 0"),
        (lambda: self_bleu(["a", "b"], tokenize="bpe"), ConfigError, "known: 13a, zh, ja-mecab"),
        (lambda: self_bleu(["a", "b"], smoothing="add"), ConfigError, "known: exp, method1"),  # type: ignore[arg-type]
    ],
)
def test_errors(call, error, message) -> None:
    with pytest.raises(error, match=message):
        call()


def test_score_carries_tokenizer_smoothing_and_number_of_texts() -> None:
    texts = ["a b c d", None, "a b c d", "e f"]
    score = self_bleu_score(texts, reasons=[None, "timeout", None, None])
    assert (score.metric, score.n) == ("self_bleu_4", 3)
    assert score.value == pytest.approx(2 / 3)
    assert score.unscored_reasons == {"timeout": 1}
    assert score.signature == "tok:13a|smooth:exp|refs:all|texts:3"
    within = self_bleu_score(["a b", "a b", "a b"], groups=["x", "x", "y"], within_groups=True)
    assert (within.n, within.unscored_reasons) == (2, {"no other text for the prompt": 1})
    assert within.signature == "tok:13a|smooth:exp|refs:same-prompt|texts:3"


@pytest.mark.parametrize("smoothing", ["exp", "method1"])
@pytest.mark.parametrize("seed", range(8))
def test_without_a_group_is_what_the_others_would_have(seed, smoothing) -> None:
    rng = np.random.default_rng(seed)
    texts = random_texts(seed, n=int(rng.integers(2, 25)))
    words, n = number_words(texts, "none"), len(texts)
    contexts = rng.integers(int(rng.integers(1, 4)), size=n)
    kinds = [np.arange(n), rng.integers(5, size=n), rng.integers(12, size=n)]
    of = partial(self_bleu_of_words, smoothing=smoothing)
    for ids, without in zip(kinds, of(words, group_ids=contexts, kinds=kinds)[1], strict=True):
        for group in np.unique(ids).tolist():
            left = np.flatnonzero(ids != group)
            values, _ = of(words[left], group_ids=contexts[left])
            expected = values[~np.isnan(values)].mean() if (~np.isnan(values)).any() else np.nan
            assert without[group] == pytest.approx(expected, abs=1e-12, nan_ok=True)


def drawn_texts(rng: np.random.Generator, prompts: int, each: int, likeness: float) -> list[str]:
    """Texts of 6 to 14 of 40 words; those of a prompt are alike."""
    tastes = rng.dirichlet(np.full(40, likeness), size=prompts).repeat(each, axis=0)
    return [" ".join(f"w{w}" for w in rng.choice(40, rng.integers(6, 15), p=of)) for of in tastes]


@pytest.mark.parametrize("within", [False, True])
def test_the_interval_is_about_other_texts_of_other_prompts(within) -> None:
    groups = [i // 3 for i in range(60)]
    score = partial(self_bleu_score, groups=groups, within_groups=within, tokenize="none")
    rng, found = np.random.default_rng(0), []
    for _ in range(300):
        found.append(score(drawn_texts(rng, 20, 3, 0.4)))
    truth = np.mean([one.value for one in found])
    held = [one.ci95[0] <= truth <= one.ci95[1] for one in found]
    assert 0.91 <= np.mean(held) <= 0.98
    widths = [one.ci95[1] - one.ci95[0] for one in found]
    assert np.median(widths) / (2 * 1.96 * np.std([one.value for one in found])) < 1.25


def test_a_change_is_sure_where_both_runs_share_what_is_hard() -> None:
    rng = np.random.default_rng(1)
    before = drawn_texts(rng, 20, 3, 0.4)
    after = [f"{text} and so on" for text in before]
    groups = [i // 3 for i in range(60)]
    change = self_bleu_change(before, after, groups=groups, tokenize="none")
    alone = self_bleu_score(after, groups=groups, tokenize="none")
    assert change.after == pytest.approx(alone.value)
    assert change.n == 60
    low, high = change.ci95
    assert 0 < low < change.after - change.before < high
    assert high - low < alone.ci95[1] - alone.ci95[0]
    back = self_bleu_change(after, before, groups=groups, tokenize="none")
    assert back.ci95 == pytest.approx((-high, -low))
    gone = self_bleu_change(before, [None, *after[1:]], groups=groups, tokenize="none")
    assert gone.before == pytest.approx(self_bleu(before[1:], tokenize="none").mean)


def test_all_alike_is_not_known_to_be_so_everywhere() -> None:
    low, high = self_bleu_score(["a b c d e"] * 30).ci95
    assert (low, high) == (pytest.approx(0.025 ** (1 / 30)), 1.0)


def test_many_groups_are_each_what_they_are_alone() -> None:
    rng = random.Random(0)
    texts = [" ".join(rng.choices("abcdefgh", k=60)) for _ in range(6000)]
    groups = [number % 2000 for number in range(6000)]  # 366,000 words: more than one part
    together = self_bleu(texts, tokenize="none", groups=groups).per_text
    for group in (0, 1, 700, 1432, 1433, 1999):
        own = [number for number in range(6000) if groups[number] == group]
        alone = self_bleu([texts[number] for number in own], tokenize="none").per_text
        assert [together[number] for number in own] == list(alone)


def test_texts_that_all_have_a_twin_have_an_interval_that_ends_at_one() -> None:
    score = self_bleu_score(["a b c d", "a b c d", "e f g h", "e f g h"], groups=list("wxyz"))
    assert score.value == 1.0
    assert score.ci95 is not None
    assert 0 <= score.ci95[0] < score.ci95[1] == 1.0


@pytest.mark.parametrize("apart", [100_003, 1 << 21], ids=["three", "two"])
def test_words_too_many_for_one_key_are_counted_alike(apart) -> None:
    """Four numbers of words fit into 64 bits or not: the same n-grams are found."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 9, size=40)
    words = np.concatenate([[*rng.integers(1, 5, size=n), 0] for n in lengths]).astype(np.int64)
    texts = np.repeat(np.arange(40), lengths + 1)
    kinds = [rng.integers(0, 6, size=40)]
    few, (lost,) = leave_one_out_matches(words, texts, 40, 4, kinds)
    many, (also,) = leave_one_out_matches(words * apart, texts, 40, 4, kinds)
    assert few.tolist() == many.tolist()
    assert sorted(zip(*map(np.ndarray.tolist, lost), strict=True)) == sorted(
        zip(*map(np.ndarray.tolist, also), strict=True)
    )
    assert few.sum() > 0
