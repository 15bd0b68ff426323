"""What a word is: texts as numbered words, by the tokenizer that fits their script.

13a, sacreBLEU's default, splits at spaces: a sentence of Chinese, Japanese or Thai is one word to
it, no two texts share one, and Self-BLEU is 0. So the script of a suite decides, and the tokenizer
stands in the signature: `zh` takes every Chinese character for a word, `ja-mecab` finds Japanese
words where its dictionary is installed, `char` takes every character.
"""

import re
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from importlib.util import find_spec
from inspect import unwrap
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mipo_eval.errors import ConfigError

Ints = NDArray[np.int64]
Split = Callable[[Sequence[str]], Iterator[list[str]]]
Tokenize = Literal["13a", "zh", "ja-mecab", "char", "nltk", "none"]

_SCRIPTS = {
    "zh": re.compile("[\u2e80-\u2fd5\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]"),
    "ja": re.compile("[\u3041-\u30ff\u31f0-\u31ff\uff66-\uff9d]"),
    # Thai, Lao, Tibetan, Burmese, Khmer, the Tai scripts, Balinese, Javanese.
    "char": re.compile(
        "[\u0e00-\u109f\u1780-\u17ff\u1950-\u19ff\u1a20-\u1aaf\u1b00-\u1b7f\ua980-\ua9ff"
        "\uaa60-\uaadf]"
    ),
}
"""What is written without spaces, by what it takes."""
_LETTER = re.compile(r"[^\W\d_]")
_ENOUGH = 1 / 4
"""Share of letters from which on a script decides; a Chinese one says as much as two others."""
_SOME = 1 / 10
"""Share of these from which on there is a second script among them."""


def tokenizer_for(texts: Iterable[str]) -> Tokenize:
    """Return the tokenizer that texts in this script need; "13a" where words have spaces."""
    whole = "\n".join(texts)
    counts = {name: len(script.findall(whole)) for name, script in _SCRIPTS.items()}
    unspaced = sum(counts.values())
    # Marks above and below Thai or Burmese letters are no letters to Python, but they are here.
    if not unspaced or unspaced < _ENOUGH * max(len(_LETTER.findall(whole)), unspaced):
        return "13a"
    if counts["char"] >= _SOME * unspaced:
        return "char"
    if counts["ja"] >= _SOME * unspaced:
        return "ja-mecab" if find_spec("MeCab") and find_spec("ipadic") else "char"
    return "zh"


@cache
def _sacrebleu(name: str) -> Callable[[str], list[str]]:
    """Return sacreBLEU's own tokenizer, of one text."""
    from sacrebleu.metrics.bleu import _get_tokenizer
    from sacrebleu.tokenizers.tokenizer_re import TokenizerRegexp

    # Unwrapped: sacreBLEU would remember 65,536 texts, twice; `Words` knows its own.
    kind: Any = _get_tokenizer(name)
    whole = kind()
    if name in {"13a", "zh"}:
        whole._post_tokenizer = partial(
            unwrap(TokenizerRegexp.__call__),
            TokenizerRegexp(),  # type: ignore[no-untyped-call]
        )
    tokenize = partial(unwrap(kind.__call__), whole)
    # sacreBLEU strips the right end before it tokenizes; a trailing "-\n" shows the difference.
    return lambda text: tokenize(text.rstrip()).split()


_BETWEEN = " \0 "
"""Between texts that are split together. With blanks, so that no rule of 13a looks across it."""
_TOGETHER = 1024
"""Texts that are split together: a call for each would take longer than its words."""
_FIRST = (
    *(("\n", " "), ("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")),
    *((mark, f" {mark} ") for mark in '{|}~[\\]^_`!"#$%&()*+:;<=>?@/'),
)
"""What is replaced, in this order, before the patterns; these marks are words of their own."""
_NOT_IN_NUMBERS = (
    (re.compile(r"\.(?:(?<![0-9]\.)|(?![0-9]))"), " . "),
    (re.compile(r",(?:(?<![0-9],)|(?![0-9]))"), " , "),
    (re.compile(r"-(?<=[0-9]-)"), " - "),
)
"""A period or comma that is not between two digits, and a dash behind one."""


def _by_itself(text: str) -> bool:
    """Whether a text is split alone, by sacreBLEU.

    In a run of periods or commas its rules, which take two characters each, depend on each other;
    two of these marks are taken out, and one is `_BETWEEN` texts.
    """
    run = ".." in text or ",," in text or ".," in text or ",." in text
    return run or "-\n" in text or "<skipped>" in text or "\0" in text


def _split_13a(texts: Sequence[str]) -> Iterator[list[str]]:
    """Yield the words of texts, as sacreBLEU's 13a has them, many texts in one go."""
    plain = _sacrebleu("13a")
    for start in range(0, len(texts), _TOGETHER):
        some = texts[start : start + _TOGETHER]
        alone = [_by_itself(text) for text in some]
        together = (text for text, own in zip(some, alone, strict=True) if not own)
        line = f" {_BETWEEN.join(together)} "
        for before, after in _FIRST:
            line = line.replace(before, after)
        for pattern, by in _NOT_IN_NUMBERS:
            line = pattern.sub(by, line)
        parts = iter(line.split("\0"))
        for text, own in zip(some, alone, strict=True):
            yield plain(text) if own else next(parts).split()


def _each(split: Callable[[str], list[str]]) -> Split:
    return partial(map, split)


def _split_nltk() -> Split:
    from nltk.tokenize.destructive import NLTKWordTokenizer

    tokenizer = NLTKWordTokenizer()
    return _each(lambda text: list(tokenizer.tokenize(text)))


TOKENIZERS: dict[Tokenize, Callable[[], Split]] = {
    "13a": lambda: _split_13a,
    "zh": lambda: _each(_sacrebleu("zh")),
    "ja-mecab": lambda: _each(_sacrebleu("ja-mecab")),
    "char": lambda: _each(_sacrebleu("char")),
    "nltk": _split_nltk,
    "none": lambda: _each(str.split),
}


class Words:
    """Texts as numbered words, each split once however many measures want it."""

    def __init__(self, tokenize: Tokenize) -> None:
        """Take a tokenizer by its name.

        Raises:
            ConfigError: it is unknown.
        """
        if tokenize not in TOKENIZERS:
            raise ConfigError(f"tokenize {tokenize!r} is unknown; known: {', '.join(TOKENIZERS)}")
        self.tokenize = tokenize
        self._split = TOKENIZERS[tokenize]()
        self._numbers: defaultdict[str, int] = defaultdict()
        # A new word gets the next number.
        self._numbers.default_factory = lambda: len(self._numbers) + 1
        self._known: dict[str, Ints] = {}

    def __call__(self, texts: Iterable[str]) -> list[Ints]:
        """Return, per text, its words as numbers from 1 on, equal where the words are."""
        every = list(texts)
        # New words stand in one array of integers, and texts are views of it: millions fit.
        numbers, ends = array("q"), [0]
        new = [text for text in dict.fromkeys(every) if text not in self._known]
        for words in self._split(new):
            numbers.extend(map(self._numbers.__getitem__, words))
            ends.append(len(numbers))
        whole = np.frombuffer(numbers, dtype=np.int64)
        for text, (start, end) in zip(new, pairwise(ends), strict=True):
            self._known[text] = whole[start:end]
        return [self._known[text] for text in every]


def number_words(texts: Iterable[str], tokenize: Tokenize | Words) -> list[Ints]:
    """Return, per text, its words as numbers from 1 on, equal where the words are.

    Raises:
        ConfigError: the tokenizer is unknown.
    """
    return (tokenize if isinstance(tokenize, Words) else Words(tokenize))(texts)


def named(tokenize: Tokenize | Words) -> Tokenize:
    """Return what a tokenizer is called, as signatures have it."""
    return tokenize.tokenize if isinstance(tokenize, Words) else tokenize
