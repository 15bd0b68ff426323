"""Whatever a text holds, what is shown of it is text."""

import re
from html import unescape
from html.parser import HTMLParser

import pytest

from mipo_eval.dashboards import markup
from tests.dashboards.scripted import HOSTILE


class _Tags(HTMLParser):
    """What a browser would make of HTML: tags, attributes and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(name for name, _ in attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


OURS = {
    ("div", ("class", "dir")),
    ("div", ("class",)),
    ("mark", ()),
    ("span", ("class",)),
    ("span", ()),
}


@pytest.mark.parametrize("text", HOSTILE)
def test_no_tag_or_attribute_comes_from_a_text(text: str) -> None:
    sides = markup.blocks(text, f"other {text[::-1]}", names=(text, text))
    shown = [markup.block(text, name=text), markup.line(text), markup.facts({text: text}), *sides]
    for html in shown:
        assert set(_Tags(html).tags) <= OURS


@pytest.mark.parametrize("text", HOSTILE)
def test_all_of_a_text_is_there_and_nothing_of_it_acts_unseen(text: str) -> None:
    shown = _Tags(markup.block(text, limit=2_000_000)).text
    assert shown == markup.visible(text)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u200e\u200f\u202a-\u202e\u2066-\u2069]", shown)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("NUL \x00", "NUL \u2400"),
        ("\x1b[31mred", "\u241b[31mred"),
        ("\x7f", "\u2421"),
        ("a\u202eb", "a\u27e8U+202E\u27e9b"),
        ("\U000e0041", "\u27e8U+E0041\u27e9"),
        ("lines\r\nand\ttabs", "lines\nand\ttabs"),
        ("na\u00efve \u0645\u0631\u062d\u0628\u0627 \U0001f468\u200d\U0001f469", None),
    ],
)
def test_what_acts_unseen_becomes_a_sign(text: str, shown: str | None) -> None:
    assert markup.visible(text) == (text if shown is None else shown)


def test_a_long_text_is_cut_and_says_so() -> None:
    html = markup.block("x" * 1_000_000)
    assert len(html) < markup.SHOWN + 300
    assert "996,000 more characters" in html
    assert "more characters" not in markup.block("x" * markup.SHOWN)


def test_differences_are_marked_word_by_word() -> None:
    first, second = markup.blocks("Pour hot water <b>", "Pour cold water <b>")
    assert "Pour <mark>hot</mark> water &lt;b&gt;" in first
    assert "Pour <mark>cold</mark> water &lt;b&gt;" in second
    assert all("<mark>" not in side for side in markup.blocks("the same", "the same"))
    assert unescape(re.sub("<[^>]+>", "", first)) == "Pour hot water <b>"


def test_long_texts_are_compared_in_bounded_time() -> None:
    first, second = ("a b " * 400_000, "b c " * 400_000)
    assert "more characters" in markup.blocks(first, second).first


@pytest.mark.parametrize("text", HOSTILE)
def test_a_label_is_one_short_line(text: str) -> None:
    assert len(markup.label(text)) <= markup.LABEL
    assert "\n" not in markup.label(text)


def test_markdown_is_escaped_mark_by_mark() -> None:
    made = markup.markdown("[l](http://x.y) *b* :red[r] $x$ <i> `c` www.x.org a@b.c :smile:")
    for mark in "[]()*$<>`":
        assert made.count(mark) == made.count(f"\\{mark}") > 0
    assert "://" not in made
    assert "www\\.\u2060x" in made
    assert ":smile" not in made
