"""Which tokenizer a script needs, and that it is sacreBLEU's own."""

from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU
from sacrebleu.metrics.bleu import _get_tokenizer

from mipo_eval.metrics import self_bleu
from mipo_eval.metrics.words import Words, number_words, tokenizer_for

CHINESE = (
    "我喜欢喝绿茶。",
    "我喜欢喝红茶、不加糖。",
)
JAPANESE = (
    "私はお茶が好きです。",
    "私はお茶を飲みます。",
)
THAI = (
    "ฉันชอบชาเขียว",
    "ฉันชอบชาแดง",
)
LAO = (
    "ຂ້ອຍມັກຊາ",
    "ຂ້ອຍມັກເຂົ້າ",
)
KHMER = (
    "ខ្ញុំចូលចិត្តតែ",
    "ខ្ញុំចូលចិត្តបាយ",
)
BURMESE = (
    "ကျွန်တော်လက်ဖက်",
    "ကျွန်တော်ထမင်း",
)


@pytest.mark.parametrize(
    ("texts", "tokenizer"),
    [
        (
            (
                "I like green tea.",
                "Я люблю чай.",
                "나는 차를 좋아한다",
            ),
            "13a",
        ),
        (("I like the word 茶 for tea, as they say it there.",), "13a"),
        (CHINESE, "zh"),
        ((*CHINESE, "an answer in English"), "zh"),
        (THAI, "char"),
        (LAO, "char"),
        (KHMER, "char"),
        (BURMESE, "char"),
        ((*CHINESE, *THAI), "char"),
        (("\u8336" * 40, "\u0e0a"), "zh"),  # one letter of Thai
        (("\u8336" * 40, "\u306e"), "zh"),  # and one of Japanese
        (("", "12 34 !"), "13a"),
    ],
)
def test_the_script_decides(texts, tokenizer) -> None:
    assert tokenizer_for(texts) == tokenizer


def test_japanese_has_words_where_its_dictionary_is_installed(monkeypatch) -> None:
    for installed, tokenizer in ((None, "char"), (object(), "ja-mecab")):
        monkeypatch.setattr("mipo_eval.metrics.words.find_spec", lambda _, found=installed: found)
        assert tokenizer_for(JAPANESE) == tokenizer


LETTERS = "ab1.,-!()&; \n\t'\"\\{[é中\u00a0\u200b\0"
PARTS = st.one_of(
    st.sampled_from(["&lt;", "&amp;lt;", "<skipped>", "..", "1,000.5", "0-", ".-\n,", "&quot"]),
    st.text(st.sampled_from(LETTERS), max_size=10),
)


@given(st.lists(st.lists(PARTS, max_size=4).map("".join), max_size=6, unique=True))
def test_words_are_those_of_sacrebleu(texts: list[str]) -> None:
    """Of each text, though many are split at a time."""
    for name in ("13a", "zh"):
        tokenize = _get_tokenizer(name)()
        expected = [tokenize(text.rstrip()).split() for text in texts]
        found = [words.tolist() for words in number_words(texts, name)]
        assert [len(words) for words in found] == [len(words) for words in expected]
        pairs = set(zip(chain(*expected), chain(*found), strict=True))
        # One number for one word, and 0 for none.
        assert len(pairs) == len({word for word, _ in pairs}) == len({one for _, one in pairs})
        assert 0 not in chain(*found)


def test_words_are_numbered_alike_however_often_they_are_asked_for() -> None:
    words = Words("none")
    (first,) = words(["b a b"])
    again, other, empty = words(["b a b", "a c d", ""])
    assert first.tolist() == again.tolist() == [1, 2, 1]
    assert (other.tolist(), empty.tolist()) == ([2, 3, 4], [])


def test_texts_stand_behind_each_other_with_0_between() -> None:
    texts = Words("none")(["b a", "", "a c", "b a"])
    assert texts.joined().tolist() == [1, 2, 0, 0, 2, 3, 0, 1, 2, 0]
    assert texts[:3].joined().tolist() == [1, 2, 0, 0, 2, 3, 0]
    assert texts[np.array([2, 1])].joined().tolist() == [2, 3, 0, 0]
    assert texts[:0].joined().tolist() == []
    assert [words.tolist() for words in texts] == [[1, 2], [], [2, 3], [1, 2]]


@pytest.mark.parametrize("texts", [CHINESE, JAPANESE, THAI, LAO, KHMER, BURMESE])
def test_equals_sacrebleu_and_is_not_zero(texts) -> None:
    tokenize = tokenizer_for(texts) if texts != JAPANESE else "char"
    bleu = BLEU(tokenize=tokenize, effective_order=True)
    expected = [
        bleu.sentence_score(text, [other]).score / 100 for text, other in (texts, texts[::-1])
    ]
    found = self_bleu(texts, tokenize=tokenize)
    assert found.per_text == pytest.approx(expected)
    assert found.mean > 0.1
    assert self_bleu(texts).mean == 0
