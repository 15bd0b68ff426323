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
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec
from inspect import unwrap
from itertools import compress, count, islice
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from mipo_eval.errors import ConfigError

Ints = NDArray[np.int64]
Split = Callable[[Sequence[str]], Iterator[tuple[Sequence[int], list[str]]]]
"""Yields the places of some of the texts, and their words with `END` behind each text."""
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


END = "\0"
_BETWEEN = f" {END} "
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
_ALONE = ("..", ",,", ".,", ",.", "-\n", "<skipped>", END)
"""What a text holds that is split alone, by sacreBLEU.

In a run of periods or commas its rules, which take two characters each, depend on each other; two
of these marks are taken out, and one is `END`.
"""


def _split_13a(texts: Sequence[str]) -> Iterator[tuple[Sequence[int], list[str]]]:
    """Split as sacreBLEU's 13a does, many texts in one go."""
    for start in range(0, len(texts), _TOGETHER):
        some = texts[start : start + _TOGETHER]
        places: Sequence[int] = range(start, start + len(some))
        line = " ".join(some)
        marks = [mark for mark in _ALONE if mark in line]
        if marks:
            alone = [any(mark in text for mark in marks) for text in some]
            for place in compress(places, alone):
                yield [place], _ended(_sacrebleu("13a")(texts[place]))
            places = [place for place, own in zip(places, alone, strict=True) if not own]
            some = [texts[place] for place in places]
            if not some:
                continue
        line = f" {_BETWEEN.join(some)}{_BETWEEN}"
        for before, after in _FIRST:
            line = line.replace(before, after)
        for pattern, by in _NOT_IN_NUMBERS:
            line = pattern.sub(by, line)
        yield places, line.split()


def _ended(words: Iterable[str]) -> list[str]:
    """Return the words of one text with `END`; a NUL of its own is doubled, so no other word."""
    return [*(word.replace(END, 2 * END) for word in words), END]


def _each(split: Callable[[str], list[str]]) -> Split:
    """Return how to split texts one by one."""
    return lambda texts: (([i], _ended(split(text))) for i, text in enumerate(texts))


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


@dataclass(frozen=True, slots=True, eq=False)
class NumberedTexts(Sequence[Ints]):
    """Texts as numbered words: each is the array of its words, 1 and up, equal where words are."""

    words: Ints
    """Of all texts, and perhaps of others, with 0 behind each text."""
    starts: Ints
    """(texts,) where the words of each begin."""
    lengths: Ints
    """(texts,) how many there are."""

    def __len__(self) -> int:
        """Return how many texts there are."""
        return len(self.starts)

    @overload
    def __getitem__(self, which: int) -> Ints: ...
    @overload
    def __getitem__(self, which: slice | Ints) -> "NumberedTexts": ...
    def __getitem__(self, which: int | slice | Ints) -> "Ints | NumberedTexts":
        """Return the words of one text, or some of the texts."""
        start, length = self.starts[which], self.lengths[which]
        if isinstance(which, slice | np.ndarray):
            return NumberedTexts(self.words, start, length)
        return self.words[start : start + length]

    def joined(self) -> Ints:
        """Return the words of all texts in one array, with 0 behind each text."""
        sizes = self.lengths + 1
        ends = np.cumsum(sizes)
        if len(ends) and np.array_equal(self.starts, self.starts[0] + ends - sizes):
            return self.words[self.starts[0] : self.starts[0] + ends[-1]]  # as they stand
        places = np.repeat(self.starts - ends + sizes, sizes)
        places += np.arange(len(places))
        return self.words[places]


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
        # What is new gets the next number.
        self._numbers: defaultdict[str, int] = defaultdict(count().__next__)
        self._numbers[END]  # 0
        self._places: defaultdict[str, int] = defaultdict(count().__next__)
        self._known = NumberedTexts(*np.zeros((3, 0), dtype=np.int64))

    @classmethod
    def of(cls, tokenize: "Tokenize | Words") -> "Words":
        """Return what knows some texts already, or a new one by the name of its tokenizer."""
        return tokenize if isinstance(tokenize, Words) else cls(tokenize)

    def __call__(self, texts: Iterable[str]) -> NumberedTexts:
        """Return texts as numbered words."""
        which = np.fromiter(map(self._places.__getitem__, texts), np.int64)
        new = list(islice(self._places, len(self._known), None))
        if new:
            self._add(new)
        return self._known[which]

    def _add(self, texts: Sequence[str]) -> None:
        """Split texts that are not known."""
        words, places = bytearray(), array("q")  # all integers side by side: millions fit
        for some, found in self._split(texts):
            words += np.fromiter(map(self._numbers.__getitem__, found), np.int64, len(found)).data
            places.extend(some)
        known, added = self._known, np.frombuffer(words, dtype=np.int64)
        ends = np.flatnonzero(added == 0)
        starts = np.concatenate([[0], ends[:-1] + 1])
        order = np.argsort(places)
        self._known = NumberedTexts(
            np.concatenate([known.words, added]) if len(known) else added,
            np.concatenate([known.starts, starts[order] + len(known.words)]),
            np.concatenate([known.lengths, (ends - starts)[order]]),
        )


def number_words(texts: Iterable[str], tokenize: Tokenize | Words) -> NumberedTexts:
    """Return texts as numbered words.

    Raises:
        ConfigError: the tokenizer is unknown.
    """
    return Words.of(tokenize)(texts)


def named(tokenize: Tokenize | Words) -> Tokenize:
    """Return what a tokenizer is called, as signatures have it."""
    return tokenize.tokenize if isinstance(tokenize, Words) else tokenize
