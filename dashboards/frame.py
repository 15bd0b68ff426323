"""What every page of the board stands on: the store, remembered answers, choices kept in links.

The store is opened read-only. What a page shows is made by plain functions of the store, and is
remembered until the store changes, for all sessions together: `Board.recall`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import pandas as pd
import streamlit as st

from mipo_eval import settings
from mipo_eval.dashboards import markup
from mipo_eval.dashboards.links import address, run_name
from mipo_eval.dashboards.markup import count
from mipo_eval.errors import MipoEvalError
from mipo_eval.evaluation.score import Snapshot
from mipo_eval.records import Run
from mipo_eval.reports.names import RowRule, model_label, read_rows
from mipo_eval.store.engine import EmptyStoreError, Store
from mipo_eval.store.items import has_items
from mipo_eval.store.runs import results_version
from mipo_eval.store.tallies import in_flight

__all__ = [
    "Board",
    "address",
    "begin",
    "chart",
    "chips",
    "choose",
    "choose_first",
    "choose_some",
    "download",
    "folded",
    "link",
    "link_here",
    "noted",
    "nothing_yet",
    "open_board",
    "row_rules",
    "run_name",
    "say",
    "set_pages",
    "share",
    "switch",
    "text",
    "two_texts",
    "watch",
]

NOTHING = """Nothing here yet. Three ways to begin:
- see everything at work in minutes: `mipo-eval demo`
- evaluate a model of your own: `mipo-eval --model CKPT --suite personalization`
- bring in another tool's results: `mipo-eval import FILE`"""
_REMEMBERED = 128
"""Answers kept; tables of some hundred rows mostly."""
POLL = "4s"
"""How often a page looks for what is new."""
_PAGES = "board_pages"
_CHOICES = "board_choices"
"""In the session: what the page drawn now has been told, by the keys of its address."""

Made = TypeVar("Made")
Option = TypeVar("Option")
Chosen = TypeVar("Chosen")


@dataclass(frozen=True, slots=True)
class Board:
    """The store, and what it was like when this page began."""

    store: Store
    version: str
    """Changes with everything that is committed."""
    results: str
    """Changes only when a run, a score, a training or a validation does."""

    def recall(self, function: Callable[..., Made], *args: Any, live: bool = False) -> Made:
        """Return `function(store, *args)`, made anew only after the store changed.

        Args:
            function: of a module, not a lambda: its name is part of the key.
            args: with a `repr` that tells them apart: texts, numbers, frozen records.
            live: follow every response and verdict, not only finished numbers.

        Returns:
            What is shared with every other session: do not change it.
        """
        seen = self.version if live else self.results
        made: Made = _remembered(seen, _key(self, function, args), (self.store, function, args))
        return made

    def report(self, function: Callable[..., Made], *args: Any, about: object = None) -> Made:
        """Return `function(snapshot, *args)` like `recall`, reading what it needs only once.

        All reports of an unchanged store share one `Snapshot`: another rule for ties or another
        filter reads no verdict again.

        Args:
            function: as in `recall`.
            args: as in `recall`.
            about: stands for the arguments in the key, where they were made from it and are long.
        """
        snapshot = _snapshot(self.store.name, self.results, self.store)
        key = _key(self, function, args if about is None else (about,))
        made: Made = _remembered(self.results, key, (snapshot, function, args))
        return made


def _key(board: Board, function: Callable[..., Any], args: tuple[Any, ...]) -> str:
    return f"{board.store.name} {function.__module__}.{function.__qualname__} {args!r}"


@st.cache_resource(max_entries=_REMEMBERED, show_spinner="Reading the store")
def _remembered(
    seen: str, key: str, _call: tuple[Store | Snapshot, Callable[..., Any], tuple[Any, ...]]
) -> Any:
    """Answer a call; what was seen of the store, and what was asked, are the key."""
    source, function, args = _call
    return function(source, *args)


@st.cache_resource(max_entries=2, show_spinner=False)
def _snapshot(name: str, results: str, _store: Store) -> Snapshot:
    """Keep what reports have read of a store while it stays as it is."""
    return Snapshot(_store)


@st.cache_resource(max_entries=8, show_spinner=False, on_release=Store.close)
def _opened(url: str, inode: int) -> Store:
    """Open the store; a file that was deleted and made again is another store."""
    return Store.open(url, mode="read")


def open_board() -> Board | None:
    """Return the store of this server, or None while there is no file, or nothing in it.

    Raises:
        MipoEvalError: there is one, but it cannot be read.
    """
    url = settings.store_url()
    inode = 0
    if "://" not in url or url.startswith("sqlite:"):
        path = Path(url.partition(":///")[2] or url)
        if not path.is_file():
            return None
        inode = path.stat().st_ino
    try:
        store = _opened(url, inode)
    except EmptyStoreError:
        return None
    return Board(store, store.version(), results_version(store))


def begin(title: str, about: str) -> Board:
    """Draw a page's head and return the store; without anything in it, say so and stop."""
    st.session_state[_CHOICES] = {}
    st.title(title)
    st.caption(about)
    board = open_board()
    if board is None or not has_items(board.store):
        nothing_yet()
    return board


def nothing_yet(instead: str = "") -> NoReturn:
    """Say that there is nothing to show, what would make it, and end the page.

    Args:
        instead: what to run in place of the demo, as markdown without data.
    """
    st.info(f"Nothing here yet: {instead}" if instead else NOTHING, icon=":material/inbox:")
    st.stop()


def row_rules() -> tuple[RowRule, ...]:
    """Return how runs are called, from the file named by `mipo-eval board --rows`."""
    path = settings.rows_file()
    return tuple(read_rows(path)) if path else ()


# Choices: each is a parameter of the page's address, so that the address reopens the view.


def choose(
    label: str,
    options: Sequence[Option],
    key: str,
    *,
    default: int = 0,
    show: Callable[[Option], str] = str,
) -> Option:
    """Let the user choose one of several; `show` must tell the options apart.

    What is shown is also what stands in the address, so it must not depend on other options. An
    address may also have the beginning of it, or of a run's id, or more of it in brackets.
    """
    _read_address(label, options, key, show)
    chosen = st.selectbox(
        label,
        options,
        index=default,
        key=key,
        bind="query-params",
        format_func=lambda option: markup.label(show(option)),
    )
    chosen = options[0] if chosen is None else chosen
    noted(key, markup.label(show(chosen)))
    return chosen


def choose_some(
    label: str,
    options: Sequence[Option],
    key: str,
    *,
    default: Sequence[Option] = (),
    show: Callable[[Option], str] = str,
    none: str = "All",
) -> list[Option]:
    """Let the user choose any of several; `none` says what it means that none is chosen."""
    _read_address(label, options, key, show, several=True)
    chosen = st.multiselect(
        label,
        options,
        default=list(default),
        key=key,
        bind="query-params",
        format_func=lambda option: markup.label(show(option)),
        placeholder=none,
    )
    # That there is none has to be said where some are the default.
    noted(key, [markup.label(show(one)) for one in chosen] or ("" if default else None))
    return chosen


def choose_first(
    label: str,
    options: Sequence[Option],
    key: str,
    most: int,
    *,
    show: Callable[[Option], str] = str,
) -> list[Option]:
    """Let the user choose any of several; none means the first `most` of them.

    The link to the view names those, since others may be the first ones later.
    """
    none = "All" if len(options) <= most else f"The first {most}"
    chosen = choose_some(label, options, key, show=show, none=none)
    if not chosen and len(options) > most:
        noted(key, [markup.label(show(one)) for one in options[:most]])
    return chosen or list(options[:most])


def chips(label: str, options: Sequence[str], key: str) -> list[str]:
    """Let the user touch any of a few fixed options; none means all of them."""
    _read_address(label, options, key, str, several=True)
    chosen = st.pills(label, list(options), selection_mode="multi", key=key, bind="query-params")
    return noted(key, list(chosen))


def _read_address(
    label: str,
    options: Sequence[Option],
    key: str,
    show: Callable[[Option], str],
    *,
    several: bool = False,
) -> None:
    """Make the choice of a new address, where Streamlit would silently take its default.

    It knows no more than what is shown of an option, in full.
    """
    given = st.query_params.get_all(key)
    if not any(given) or key in st.session_state:
        return
    told = {markup.label(show(option)): option for option in options}
    found: list[Option] = []
    for name in filter(None, given):
        alike = [
            option
            for shown, option in told.items()
            if shown.startswith(name)
            or name.startswith(f"{shown} (")
            or (isinstance(option, Run) and option.run_id.startswith(name))
        ]
        if name in told or len(alike) == 1:
            found.append(told.get(name, alike[0]))
        else:
            why = "several begin with" if alike else "there is no"
            st.warning(markup.markdown(f"{label}: {why} {name!r}; the usual is shown."))
    if found:
        st.session_state[key] = found if several else found[0]


def switch(label: str, options: Mapping[str, str], key: str) -> str:
    """Let the user switch between a few fixed options, name to label; the first is the default.

    The label stands in the address.
    """
    names = list(options)
    chosen = st.segmented_control(
        label,
        names,
        default=names[0],
        key=key,
        bind="query-params",
        format_func=lambda name: options[name],
        required=True,
    )
    chosen = chosen or names[0]
    noted(key, options[chosen])
    return chosen


def noted(key: str, value: Chosen) -> Chosen:
    """Note a choice for the link to this view, and return it.

    For what Streamlit's own inputs return; the choices above do so themselves.

    Args:
        key: of the input, which is bound to the address.
        value: as chosen; None and an empty list need no word in the address.
    """
    if isinstance(value, bool):
        told: str | list[str] | None = str(value).lower()
    elif isinstance(value, list):
        told = [str(one) for one in value] or None
    else:
        told = None if value is None else str(value)
    if told is not None:
        st.session_state[_CHOICES][key] = told
    return value


def link(page: str, label: str, **parameters: str | int | list[str] | None) -> None:
    """Draw a link to a page of the board with its choices made.

    Args:
        page: its name in the address.
        label: plain text; it may hold data.
        parameters: the choices, by their keys.
    """
    given = {
        name: value if isinstance(value, list) else str(value)
        for name, value in parameters.items()
        if value is not None
    }
    target = st.session_state[_PAGES][page]
    st.page_link(target, label=markup.markdown(label), query_params=given)


def set_pages(pages: Mapping[str, Any]) -> None:
    """Tell `link` which pages there are; called once at the start of every run of the script."""
    st.session_state[_PAGES] = dict(pages)


def share(page: str) -> None:
    """Draw the link that opens this view again, at the end of the page."""
    st.divider()
    link_here(page)


def link_here(page: str, label: str = "Link to this view") -> None:
    """Draw the link that opens this view again: every choice, also those at their default."""
    link(page, label, **st.session_state[_CHOICES])


# Texts and tables.


def text(content: str, name: str = "", *, key: str) -> None:
    """Show an untrusted text, inert; a long one is cut, with a switch for the rest.

    Args:
        content: any text.
        name: plain text above it.
        key: tells the switch from others of the page.
    """
    limit = markup.SHOWN
    if len(content) > limit and st.toggle(
        f"Show all {len(content):,} characters"
        if len(content) <= markup.SHOWN_AT_MOST
        else f"Show {markup.SHOWN_AT_MOST:,} of {len(content):,} characters",
        key=f"all-{key}",
    ):
        limit = markup.SHOWN_AT_MOST
    st.html(markup.block(content, name=name, limit=limit))


def two_texts(first: str, second: str, names: tuple[str, str], *, key: str) -> None:
    """Show two untrusted texts side by side, inert; the words that differ are marked, if few do."""
    limit = markup.SHOWN
    longest = max(len(first), len(second))
    if longest > limit and st.toggle(
        f"Show more (up to {min(longest, markup.SHOWN_AT_MOST):,} characters)", key=f"all-{key}"
    ):
        limit = markup.SHOWN_AT_MOST
    sides = markup.blocks(first, second, names=names, limit=limit)
    for column, side in zip(st.columns(2), sides, strict=True):
        column.html(side)
    if first != second and "<mark>" not in "".join(sides):
        st.html(markup.line("Differences are not marked: most of the two texts differs."))


def say(sentence: str, about: str = "") -> None:
    """Show what a page answers first, in large letters, and a line below; both may hold data."""
    text = _P.sub(r'<span class="mipo-part">\1</span>', escape(markup.visible(sentence)))
    shown = f'<div class="mipo-headline" role="status">{text}</div>'
    st.html(shown + (markup.line(about) if about else ""))


_P = re.compile(r"\b(p (?:=|&lt;) [\d.]*\d)")
"""A p-value in HTML, which is not broken."""
_INK = {"light": "#4A4F59", "dark": "#D5D7DC"}
"""Of what is written on a plot: Streamlit's own greys are too faint to read."""


def chart(plot: Any, about: str) -> None:
    """Draw a plot.

    Args:
        plot: of `plots`.
        about: what it shows, for those who do not see it; it may hold data.
    """
    ink = _INK.get(str(st.context.theme.type), _INK["light"])
    plot = plot.configure_axis(labelColor=ink, titleColor=ink)
    plot = plot.configure_legend(labelColor=ink, titleColor=ink)
    st.altair_chart(plot, alt=markup.label(about, 300))


def folded(label: str = "The numbers as a table") -> Any:
    """Return a folded part of the page, for the table under its chart."""
    return st.expander(label, icon=":material/table:")


def download(table: pd.DataFrame, name: str, *, key: str) -> None:
    """Offer a table as CSV with all its digits."""
    st.download_button(
        "Download CSV",
        table.to_csv(index=False).encode("utf-8-sig"),
        file_name=f"{name}.csv",
        mime="text/csv",
        icon=":material/download:",
        on_click="ignore",
        key=key,
    )


# The side bar: runs in flight, and looking for new numbers.


@st.fragment(run_every=POLL)
def watch(seen: str) -> None:
    """Show runs in flight, and draw the page again when there are new numbers.

    Args:
        seen: `results` of the board that the page was drawn from; empty without a store.
    """
    try:
        board = open_board()
    except MipoEvalError:  # the page says so
        return
    if board is None:
        return
    if board.results != seen:
        st.rerun()
    name = board.store.name
    st.html(markup.line(f"Store: {name if '://' in name else Path(name).name}, read-only"))
    for flight in board.recall(in_flight, live=True):
        run = flight.run
        st.html(markup.line(f"{model_label(run.model)} on {run.suite}"))
        done = min(flight.responses / run.n_items, 1.0)
        st.progress(done, f"{flight.responses:,} of {count(run.n_items, 'response')}")
        if flight.rated:
            st.progress(min(flight.rated / run.n_items, 1.0), f"{flight.rated:,} judged")
