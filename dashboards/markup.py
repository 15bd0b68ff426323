"""Text of models, judges, users and files as it is: shown, never run, fetched or laid out.

Everything becomes HTML by `html.escape` and a fixed template; nothing of the text is a tag, a
link or an attribute. What cannot be seen but acts (escape sequences, marks of direction, NUL) is
replaced by visible signs, and a text is isolated, so that it cannot turn what stands beside it.

Numbers become text here too: absent ones are dashes, never zero.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from html import escape
from typing import NamedTuple

from mipo_eval.keys import clean_text

MEASURED, PAPER = "measured", "paper"
"""Where a number is from, as tables and plots say it."""
SHOWN = 4_000
"""Characters of a text that a page shows at once."""
SHOWN_AT_MOST = 200_000
"""Characters that "show all" shows; a browser lays out more only slowly."""
LABEL = 80
"""Characters of a text in a label or a cell of a table."""

_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069"
    "\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
_MARKDOWN = re.compile(r"([!-/:-@\[-`{-~])")
_WORDS = re.compile(r"\s+|\w+|[^\w\s]", re.UNICODE)

STYLE = """<style>
[data-testid="stMainBlockContainer"] { padding-top: 3rem; }
[data-testid="stHeading"] h1 { font-size: 1.9rem; padding: .4rem 0 0; }
[data-testid="stHeading"] h2 { font-size: 1.3rem; padding: .6rem 0 .2rem; }
[data-testid="stHeading"] h3 { font-size: 1rem; padding: .3rem 0; }
[data-testid="stCaptionContainer"], [data-testid="stCaptionContainer"] p { color: inherit;
  opacity: .9; }
@media (min-width: 1000px) {
  [data-testid="stMainBlockContainer"] { padding-left: 2.5rem; padding-right: 2.5rem; } }
.mipo-text { white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: isolate; contain: paint;
  border: 1px solid rgba(128, 128, 128, .35); border-radius: .5rem; padding: .6rem .8rem;
  margin: 0 0 .4rem; font: inherit; line-height: 1.5; max-height: 34rem; overflow-y: auto; }
.mipo-text mark { background: rgba(230, 159, 0, .28); color: inherit; border-radius: .15rem;
  text-decoration: underline; text-decoration-color: #E69F00; text-underline-offset: .18em; }
.mipo-label { font-size: .875rem; opacity: .85; margin: .3rem 0 .15rem; unicode-bidi: isolate;
  overflow-wrap: anywhere; }
.mipo-facts { display: flex; flex-wrap: wrap; gap: .3rem 1.6rem; margin: 0 0 .4rem; }
.mipo-fact { display: flex; flex-direction: column; min-width: 6rem; overflow-wrap: anywhere;
  unicode-bidi: isolate; }
.mipo-table { width: 100%; border-collapse: collapse; font-size: .9rem; margin: 0 0 .6rem; }
.mipo-table th { text-align: left; font-weight: 400; opacity: .85; padding: .2rem .5rem; }
.mipo-table td { padding: .3rem .5rem; border-top: 1px solid rgba(128, 128, 128, .25);
  overflow-wrap: anywhere; unicode-bidi: isolate; }
@media (max-width: 1400px) {
  .st-key-two > [data-testid="stLayoutWrapper"] > [data-testid="stHorizontalBlock"] {
    flex-wrap: wrap; }
  .st-key-two > [data-testid="stLayoutWrapper"] > [data-testid="stHorizontalBlock"] > * {
    min-width: 100%; } }
@media (max-width: 640px) {
  div:has(> .st-key-controls) { position: sticky; top: 0; z-index: 9; padding: .2rem 0 .4rem;
    background: light-dark(#FFFFFF, #171614); border-bottom: 1px solid rgba(128, 128, 128, .35); }
  .st-key-controls [data-testid="stHorizontalBlock"] { flex-wrap: nowrap; overflow-x: auto; }
  .st-key-controls [data-testid="stColumn"] { min-width: 9rem; }
  .st-key-controls [data-testid="stColumn"]:nth-child(4) { min-width: 24rem; }
  .st-key-pairs-body [data-testid="stHorizontalBlock"]:has(> * .st-key-pairs-list) {
    flex-direction: column-reverse; align-items: stretch; }
  .st-key-pairs-body [data-testid="stColumn"] { width: 100%; min-width: 100%; } }
@media (min-width: 641px) and (max-width: 1400px) {
  .st-key-controls [data-testid="stHorizontalBlock"] { flex-wrap: wrap; }
  .st-key-controls [data-testid="stColumn"] { min-width: 11rem; }
  .st-key-controls [data-testid="stColumn"]:nth-child(4) { min-width: 28rem; } }
[data-testid="stMultiSelect"] [data-tag] { background-color: #00598C !important; }
[data-testid="stButtonGroup"] [data-variant][data-selected] {
  color: light-dark(#005A8F, #7CC0EE) !important; }
.mipo-more { font-size: .875rem; opacity: .85; }
</style>"""
"""Set once a page; holds no data. Colours work on light and dark: the text keeps the theme's."""


def _sign(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else f"\u27e8U+{code:04X}\u27e9"


def visible(text: str) -> str:
    """Return text with what acts unseen replaced by visible signs; line breaks and tabs stay."""
    return _HIDDEN.sub(_sign, text.replace("\r\n", "\n"))


def label(text: str, length: int = LABEL) -> str:
    """Return one short line for cells, option lists and tooltips, which show plain text."""
    line = visible(" ".join(clean_text(text[: 4 * length]).split()))
    return line if len(line) <= length else f"{line[: length - 1]}\u2026"


def markdown(text: str, length: int = LABEL) -> str:
    """Return one short line for places that read markdown, with every mark of it escaped.

    Links that are made of bare text (www.example.org) and emoji codes are broken by a word
    joiner; where a text must stay exact, show it by `block`.
    """
    line = _MARKDOWN.sub(r"\\\1", label(text, length))
    return line.replace("\\.", "\\.\u2060").replace("\\:", "\\:\u2060").replace("\\@", "\\@\u2060")


def line(text: str, length: int = 400) -> str:
    """Return the HTML of a short text on one line of its own, cut after `length` characters."""
    return f'<div class="mipo-label" dir="auto">{escape(label(text, length))}</div>'


def facts(values: Mapping[str, str], length: int = 200) -> str:
    """Return the HTML of facts, a line a name and value; it wraps on a narrow screen."""
    cells = "".join(
        f'<div class="mipo-fact"><span class="mipo-label">{escape(label(name))}</span>'
        f"<span>{escape(label(value, length))}</span></div>"
        for name, value in values.items()
    )
    return f'<div class="mipo-facts" dir="auto">{cells}</div>'


def block(text: str, *, name: str = "", limit: int = SHOWN) -> str:
    """Return the HTML of a text of any length and content, cut after `limit` characters."""
    return _framed(escape(visible(text[:limit])), name, len(text) - limit)


class Sides(NamedTuple):
    """The HTML of two texts, each with what only it has marked."""

    first: str
    second: str


def blocks(
    first: str, second: str, *, names: tuple[str, str] = ("", ""), limit: int = SHOWN
) -> Sides:
    """Return the HTML of two texts with the words in which they differ marked.

    None is where most differs: marks would then be all there is to see.
    """
    cut = (visible(first[:limit]), visible(second[:limit]))
    pieces = list(_pieces(*(_WORDS.findall(text) for text in cut)))
    shared = sum(len(left.strip()) for same, left, _ in pieces if same)
    marked = 2 * shared >= max(len(text) for text in cut)
    parts: tuple[list[str], list[str]] = ([], [])
    for same, left, right in pieces:
        for side, piece in zip(parts, (left, right), strict=True):
            plain = same or not marked or not piece.strip()
            side.append(escape(piece) if plain else f"<mark>{escape(piece)}</mark>")
    return Sides(
        *(
            _framed("".join(side), name, len(text) - limit)
            for side, name, text in zip(parts, names, (first, second), strict=True)
        )
    )


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], strong: Sequence[int]) -> str:
    """Return the HTML of a small table; texts wrap.

    Args:
        heads: of the columns.
        rows: texts, which may hold data.
        strong: which column of a row is bold; -1 for none.
    """
    head = "".join(f'<th scope="col">{escape(label(name))}</th>' for name in heads)
    lines = "".join(
        "<tr>"
        + "".join(
            f'<td dir="auto">{f"<b>{shown}</b>" if place == bold else shown}</td>'
            for place, shown in enumerate(escape(label(text, 300)) for text in row)
        )
        + "</tr>"
        for row, bold in zip(rows, strong, strict=True)
    )
    return f'<table class="mipo-table"><tr>{head}</tr>{lines}</table>'


def _pieces(first: list[str], second: list[str]) -> Iterator[tuple[bool, str, str]]:
    """Yield (whether both have it, piece of the first, piece of the second)."""
    matcher = SequenceMatcher(None, first, second, autojunk=len(first) + len(second) > 4_000)
    for how, a, b, c, d in matcher.get_opcodes():
        yield how == "equal", "".join(first[a:b]), "".join(second[c:d])


def _framed(content: str, name: str, left: int) -> str:
    heading = line(name) if name else ""
    more = f'<div class="mipo-more">{left:,} more characters</div>' if left > 0 else ""
    return f'{heading}<div class="mipo-text" dir="auto">{content}</div>{more}'


def number(value: float | None, places: int = 1, *, signed: bool = False) -> str:
    """Return a number as text; an absent one is a dash, never zero."""
    if value is None or math.isnan(value):
        return "\u2013"
    return f"{value:{'+' if signed else ''},.{places}f}".replace("-", "\u2212")


def interval(ends: Sequence[float] | None, places: int = 1, *, signed: bool = False) -> str:
    """Return an interval as text; an absent one is empty."""
    if ends is None:
        return ""
    low, high = (number(end, places, signed=signed) for end in ends)
    return f"[{low}, {high}]"


def count(done: int, what: str) -> str:
    """Return "1 run" or "2 runs"."""
    return f"{done:,} {what}" + ("" if done == 1 else "s")
