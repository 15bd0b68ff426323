"""Blind annotation by people: which of two responses follows this user's wishes better?"""

from functools import partial

import streamlit as st

from mipo_eval import settings
from mipo_eval.dashboards import frame, markup
from mipo_eval.dashboards.links import run_name
from mipo_eval.dashboards.pages.numbers import numbers
from mipo_eval.dashboards.tables.label import (
    Preferred,
    Shown,
    Stack,
    agreement_table,
    key_of,
    labels,
    next_pair,
    person_name,
    progress_table,
    put_label,
    show_pair,
    stack,
)
from mipo_eval.errors import DataError
from mipo_eval.records import Run
from mipo_eval.store.engine import Store
from mipo_eval.store.runs import list_runs
from mipo_eval.verdict import Pair

_LAST = "label-last"
"""In the session: the pairs this person labelled since the page was opened, the latest last."""
_AGAIN = "label-again"
"""In the session: the pair to be shown again."""


def show() -> None:
    """Draw the page."""
    board = frame.begin("Label", "Which response follows the user better? You see no names.")
    person = st.text_input("Your name", key="person", bind="query-params", max_chars=60)
    run, other = _what(board)
    if run is None:
        return
    pairs = board.recall(stack, run, other)
    if not pairs.pairs:
        st.info("These two have no different texts for any item.", icon=":material/inbox:")
    elif person.strip():
        _label(board, person_name(person), pairs)
    else:
        st.info("Say who you are: your labels are kept under that name.", icon=":material/person:")
    _people(board, pairs)
    frame.share("label")  # less who labels: whoever opens it says that for themselves


def _what(board: frame.Board) -> tuple[Run | None, Run | None]:
    """Let somebody choose what is compared; folded away, so that labelling stays blind."""
    runs = board.recall(list_runs)
    with st.expander("What is compared", icon=":material/visibility_off:"):
        st.caption("Whoever labels should not look in here. Which text stands where is drawn.")
        run = frame.choose("Responses of", runs, "of", show=run_name)
        others = [one for one in runs if one.suite == run.suite and one != run]
        other = frame.choose(
            "against", [None, *others], "against", default=1 if others else 0, show=_against
        )
    return run, other


def _against(run: Run | None) -> str:
    return "the reference responses" if run is None else run_name(run)


def _label(board: frame.Board, person: str, pairs: Stack) -> None:
    said = labels(board.store, person)
    own = [said[pair] for pair in pairs.pairs if pair in said]
    again: Pair | None = st.session_state.get(_AGAIN)
    pair = again if again in pairs.pairs else next_pair(pairs.pairs, said)
    st.progress(len(own) / len(pairs.pairs), f"{len(own):,} of {len(pairs.pairs):,} pairs")
    if pair is None:
        _finished(own.count(None), [one for one in pairs.pairs if said.get(one) is None])
        return
    try:
        shown = show_pair(board.store, person, pair)
    except DataError as error:
        st.warning(markup.markdown(str(error), 300))
        st.button("Skip", on_click=partial(_say, person, pair, None), key=f"absent-{key_of(pair)}")
        return
    _texts(shown, pair)
    _buttons(person, pair)


def _finished(skipped: int, left: list[Pair]) -> None:
    st.success("All pairs are labelled. Thank you.", icon=":material/task_alt:")
    if skipped:
        st.button(
            f"Show the {skipped:,} skipped again",
            on_click=partial(_show_again, left[0]),
            key="label-skipped",
        )


def _texts(shown: Shown, pair: Pair) -> None:
    item = shown.item
    frame.text(item.transcript, "The user asked", key=f"prompt-{key_of(pair)}")
    if item.context.strip():
        frame.text(item.context, "Of the user is known", key=f"context-{key_of(pair)}")
    if item.preferences:
        wishes = "\n".join(f"{n}. {wish}" for n, wish in enumerate(item.preferences, 1))
        frame.text(wishes, "The user wishes", key=f"wishes-{key_of(pair)}")
    left, right = st.columns(2)
    with left:
        frame.text(shown.first, "Response 1", key=f"first-{key_of(pair)}")
    with right:
        frame.text(shown.second, "Response 2", key=f"second-{key_of(pair)}")


def _buttons(person: str, pair: Pair) -> None:
    answers: tuple[tuple[str, str, Preferred | None], ...] = (
        ("Response 1 is better", "1", "first"),
        ("Response 2 is better", "2", "second"),
        ("No difference", "0", "tie"),
        ("Skip", "S", None),
    )
    with st.container(horizontal=True):
        for title, key, preferred in answers:
            st.button(
                title,
                shortcut=key,
                # A key that is held down or struck twice must not answer the next pair unseen: the
                # button of another pair is another button.
                key=f"say-{preferred}-{key_of(pair)}",
                on_click=partial(_say, person, pair, preferred),
            )
        done: list[Pair] = st.session_state.setdefault(_LAST, [])
        if done:
            st.button(
                "Back",
                shortcut="B",
                icon=":material/undo:",
                key=f"back-{key_of(pair)}",
                on_click=partial(_show_again, done[-1]),
            )


def _say(person: str, pair: Pair, preferred: Preferred | None) -> None:
    """Keep an answer: the one place where the board writes."""
    with Store.open(settings.store_url()) as store:
        put_label(store, person, pair, preferred)
    st.session_state[_AGAIN] = None
    done: list[Pair] = st.session_state.setdefault(_LAST, [])
    if pair in done:
        done.remove(pair)
    done.append(pair)


def _show_again(pair: Pair) -> None:
    st.session_state[_AGAIN] = pair
    done: list[Pair] = st.session_state.setdefault(_LAST, [])
    if pair in done:
        done.remove(pair)


def _people(board: frame.Board, pairs: Stack) -> None:
    st.header("Who has labelled")
    progress = progress_table(board.store, pairs.pairs)
    if progress.empty:
        st.caption("Nobody yet.")
    else:
        numbers(board, progress, "people")
    agreement = agreement_table(board.store)
    if len(agreement):
        st.markdown("**Agreement, over all pairs that two people labelled**")
        shapes = {"agreement": "%.1f", "kappa": "%.2f", "tie_first": "%.1f", "tie_second": "%.1f"}
        numbers(board, agreement, "agreement", formats=shapes)
    st.caption(
        f"Left out: {pairs.equal:,} items with the same text on both sides, {pairs.absent:,} "
        "without one of the texts. `mipo-eval validate JUDGE --data store:people` measures a judge "
        "against these labels."
    )
