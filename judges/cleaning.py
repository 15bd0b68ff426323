"""What every parser does to a reply first: hidden characters, markup and citations go."""

import re
import unicodedata
from collections.abc import Callable

_INVISIBLE = {"\ufe0f", "\u20e3"}
"""Emoji variants: a keycap four is a four."""

_THINK_END = re.compile(r"</(?:think|thinking|reasoning)>", re.IGNORECASE)
_THINK_START = re.compile(r"<(?:think|thinking|reasoning)>", re.IGNORECASE)
_TAG = re.compile(r"</?[A-Za-z|!][^<>\n]{0,40}>")
_FENCE = re.compile(r"^\s*```\w*\s*$", re.MULTILINE)
_BLOCKQUOTE = re.compile(r"^\s*>.*$", re.MULTILINE)
_BOXED = re.compile(r"\\(?:boxed|text|textbf|mathbf)\{([^{}]*)\}")
_MATH = re.compile(r"\$([^$\n]*)\$|\\\(|\\\)|\\\[|\\\]")
_QUOTED = re.compile(
    r'"([^"]*)"|“([^”]*)”|„([^“”]*)[“”]|«([^»]*)»|「([^」]*)」|『([^』]*)』'
    r"|(?<!\w)'([^'\n]*)'(?!\w)|(?<!\w)‘([^’\n]*)’(?!\w)"
)
_OPEN_QUOTE = re.compile(r'"[^"]*\Z')


def plain(reply: str) -> str:
    """Return the visible text after any finished thinking, in one Unicode form, ASCII digits.

    Thinking that was cut off leaves nothing: what it says is not the answer.
    """
    text = _THINK_END.split(unicodedata.normalize("NFKC", reply))[-1]
    if _THINK_START.search(text):
        return ""
    kept = (c for c in text if c not in _INVISIBLE and unicodedata.category(c) != "Cf")
    return "".join(str(unicodedata.decimal(c, c)) for c in kept).strip()


def without_markup(text: str, *, emphasis: str) -> str:
    """Return `text` without code fences, quoted lines, tags, LaTeX boxes and `emphasis` marks."""
    text = _FENCE.sub("", text)
    text = _BLOCKQUOTE.sub("", text)
    text = _TAG.sub(" ", text)
    text = _BOXED.sub(r" \1 ", text)
    text = _MATH.sub(lambda match: f" {match[1] or ''} ", text)
    return text.translate(dict.fromkeys(map(ord, emphasis), " "))


def without_citations(text: str, answers: Callable[[str], bool], bare: re.Pattern[str]) -> str:
    """Blank out quoted passages that could be taken for an answer.

    Args:
        text: the reply.
        answers: whether a passage holds something that looks like an answer.
        bare: an answer and nothing else; quoting that is emphasis, not a citation.

    A quotation mark that is never closed is taken to cite everything after it.
    """

    def replace(match: re.Match[str]) -> str:
        inside = next(group for group in match.groups() if group is not None)
        return inside if bare.fullmatch(inside) or not answers(inside) else " … "

    return _OPEN_QUOTE.sub(lambda m: " … " if answers(m[0]) else m[0], _QUOTED.sub(replace, text))


def sentence_before(text: str, position: int) -> str:
    """Return the part of the sentence that precedes `position`."""
    return re.split(r"[.!?;\n。！？]", text[:position])[-1]


def clause_before(text: str, position: int) -> str:
    """Return the part of the clause that precedes `position`."""
    parts = re.split(
        r"[.!?;:,\n。！？，、]|\b(?:therefore|thus|hence|so|because|while|whereas|although|though"
        r"|but|and|since|which|overall|however)\b",
        text[:position],
        flags=re.IGNORECASE,
    )
    return parts[-1]
