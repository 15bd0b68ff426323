"""What a reply visibly says: markup is taken away, quoted passages are citations and go, too.

Every pattern here reads a text once, from the left to the right, and blanks are joined first: a
model caught in a loop, or a hostile one, cannot make reading slow.
"""

import re
from collections.abc import Callable

LONGEST = 20_000
"""Characters that are looked at: more is a model in a loop, and a verdict stands at an end."""
_HEAD = 4_000

_BLANKS = re.compile(r"[^\S\n]+")
_EMPTY_LINES = re.compile(r" ?\n(?: ?\n)+ ?| \n ?|\n ")
_RUN = re.compile(r"([^\w\s])\1{3,}")
_MARKUP = (
    (re.compile(r"^ ?```\w* ?$", re.MULTILINE), ""),
    (re.compile(r"^ ?>.*$", re.MULTILINE), ""),
    # A labelled answer in another writing: Prometheus ends in "[RESULT] 4".
    (re.compile(r"\[result\]|</?(?:answer|verdict|winner|choice)>", re.IGNORECASE), "\nanswer: "),
    (re.compile(r"</?[A-Za-z|!][^<>\n]{0,40}>"), " "),
    (re.compile(r"\\(?:boxed|text|textbf|mathbf)\{([^{}]*)\}"), r" \1 "),
    (re.compile(r"\$([^$\n]*)\$|\\\(|\\\)|\\\[|\\\]"), r" \1 "),
)
"""Code fences, quoted lines, tags, boxes and formulas, with what is left of each."""
_QUOTED = (
    re.compile(
        r'"([^"\n]*)"|“([^“”]*)”|„([^„“”]*)[“”]|«([^«»]*)»|「([^「」]*)」|『([^『』]*)』'
        r"|(?<!\w)'([^'\n]*)'(?!\w)|(?<!\w)‘([^‘’\n]*)’(?!\w)"
    ),
    re.compile(r'"([^"]*)"'),  # over several lines, of what is not paired within one
    re.compile(r'"((?:[^"\n]|\n(?!\n))*)'),  # never closed: to the end of its paragraph
)


def shortened(text: str) -> str:
    """Return a text of bounded length: its head and its end."""
    if len(text) <= LONGEST:
        return text
    return f"{text[:_HEAD]}\n…\n{text[-(LONGEST - _HEAD) :]}"


def visible(
    text: str, *, emphasis: str, cites: Callable[[str], bool], bare: re.Pattern[str]
) -> str:
    """Return a text without markup, emphasis and citations, each run of blanks being one.

    Args:
        text: the reply, after its thinking.
        emphasis: characters that only emphasize.
        cites: tells whether a quoted passage could be taken for an answer, and so goes.
        bare: matches an answer without anything else: to quote that alone is emphasis.
    """

    def replace(match: re.Match[str]) -> str:
        inside = next(group for group in match.groups() if group is not None)
        return inside if bare.fullmatch(inside) or not cites(inside) else " … "

    text = without_markup(text).translate(dict.fromkeys(map(ord, emphasis), " "))
    text = joined(text)
    for quoted in _QUOTED:
        text = quoted.sub(replace, text)
    return joined(text)


def without_markup(text: str) -> str:
    """Return a text without code fences, quoted lines, tags, boxes and formulas."""
    text = joined(text)
    for pattern, kept in _MARKUP:
        text = pattern.sub(kept, text)
    return text


def joined(text: str) -> str:
    """Join runs of blanks, of empty lines, and long ones of one mark."""
    text = _RUN.sub(r"\1\1\1", _BLANKS.sub(" ", text))
    return _EMPTY_LINES.sub(lambda at: "\n\n" if at[0].count("\n") > 1 else "\n", text).strip()
