"""The pair browser: two responses side by side, with everything that judges said of them."""

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from mipo_eval.dashboards import frame, markup
from mipo_eval.dashboards.links import TASK, run_name
from mipo_eval.dashboards.tables import pairs
from mipo_eval.dashboards.tables.pairs import OUTCOMES, UNDECIDED, PairFilter, Pairing, outcome_of
from mipo_eval.records import Run
from mipo_eval.store.judges import StoredJudge, list_judges
from mipo_eval.store.runs import list_runs

_REFERENCE = "the reference"
_ANY = "any judge"
_NO_GAP = 0.0
_WIDEST_GAP = 4.0
"""Ratings are 1 to 5."""
_REPLIES = 40
"""Raw replies drawn at once."""


def show() -> None:
    """Draw the page."""
    board = frame.begin("Pairs", "Two responses side by side, with everything that was said.")
    runs = board.recall(list_runs)
    if not runs:
        frame.nothing_yet("no run has begun")
    first, second = _sides(runs)
    other = second.run_id if second else None
    found = board.recall(pairs.pairings, first.run_id, other, live=True)
    wanted, text = _filters(board.recall(list_judges), found)
    hits = None
    if text:
        hits = board.recall(pairs.search, first.run_id, other, text, live=True)
    left = pairs.matching(found, wanted, hits)
    st.html(markup.line(f"{len(left):,} of {markup.count(len(found), 'item')}"))
    if not left:
        st.info("No item passes the filters.")
        frame.share("pairs")
        return
    position = _navigate(left, len(found))
    shown = board.recall(pairs.detail, first.run_id, other, position, live=True)
    if shown is not None:
        _item(board, shown, found[position], (run_name(first), _name(second)))
    _list(found, left, wanted)
    frame.noted("item", position)
    frame.share("pairs")


def _name(run: Run | None) -> str:
    return run_name(run) if run else _REFERENCE


def _sides(runs: Sequence[Run]) -> tuple[Run, Run | None]:
    one, two = st.columns(2)
    with one:
        first = frame.choose("Responses of", runs, "a", show=run_name)
    others = [run for run in runs if run.suite == first.suite and run.run_id != first.run_id]
    with two:
        second = frame.choose("Against", [None, *others], "b", show=_name)
    return first, second


def _filters(judges: Sequence[StoredJudge], found: Sequence[Pairing]) -> tuple[PairFilter, str]:
    """Let the reader filter items; returns the filters and the text to search for."""
    spoke = {key for pairing in found for key in pairing.verdicts}
    known = {judge.label: judge.key for judge in judges if judge.key in spoke}
    with st.expander("Filters", icon=":material/filter_list:"):
        one, two, three = st.columns(3)
        with one:
            text = st.text_input("Search in all texts", key="search", bind="query-params").strip()
        with two:
            judge = frame.choose("Judge", [_ANY, *known], "by")
        with three:
            outcomes = frame.choose_some(
                "Outcome of the first", [*OUTCOMES.values(), UNDECIDED], "outcome"
            )
        tasks = list(dict.fromkeys(pairing.task for pairing in found))
        some = frame.choose_some("Tasks", tasks, TASK) if len(tasks) > 1 else []
        one, two, three = st.columns(3, vertical_alignment="bottom")
        with one:
            flipped = st.toggle("Order decided (flips)", key="flips", bind="query-params")
        with two:
            disputed = st.toggle("Judges differ", key="disputed", bind="query-params")
        with three:
            gap = st.slider(
                "Mean ratings differ by at least",
                _NO_GAP,
                _WIDEST_GAP,
                _NO_GAP,
                step=0.5,
                key="gap",
                bind="query-params",
            )
    for key, value in {"search": text or None, "flips": flipped, "disputed": disputed}.items():
        frame.noted(key, value)
    wanted = PairFilter(
        judge=known.get(judge),
        outcomes=tuple(outcomes),
        tasks=tuple(some),
        flipped=flipped,
        disputed=disputed,
        gap=frame.noted("gap", gap),
    )
    return wanted, text


def _navigate(left: Sequence[int], total: int) -> int:
    """Let the reader step through the items that are left; returns the position shown."""
    if "item" in st.session_state and st.session_state["item"] not in left:
        st.session_state["item"] = left[0]
    back, middle, on = st.columns([1, 1, 1], vertical_alignment="bottom")
    with middle:
        position = int(
            st.number_input("Item", 0, max(total - 1, 0), left[0], key="item", bind="query-params")
        )
    before = [place for place in left if place < position]
    after = [place for place in left if place > position]
    with back:
        _step("Previous", "Left", before[-1] if before else None)
    with on:
        _step("Next", "Right", after[0] if after else None)
    return position


def _step(name: str, key: str, target: int | None) -> None:
    st.button(
        name,
        shortcut=key,
        disabled=target is None,
        on_click=_go_to,
        args=(target,),
        width="stretch",
        key=f"step-{name}",
    )


def _go_to(position: int) -> None:
    st.session_state["item"] = position


def _item(
    board: frame.Board, shown: pairs.PairDetail, pairing: Pairing, names: tuple[str, str]
) -> None:
    """Draw one item: what was asked, both texts, ratings, replies."""
    item = shown.item
    st.html(markup.line(f"{shown.task}: {item.item_id}{_summary(pairing)}"))
    one, two = st.columns(2)
    with one:
        asked = "conversation" if item.messages else "prompt"
        frame.text(item.transcript, asked, key="prompt")
    with two:
        frame.text(item.context or "(none)", "context", key="context")
    sides = (shown.first, shown.second)
    titles = tuple(
        f"{name}{f' ({side.note})' if side.note else ''}"
        for name, side in zip(names, sides, strict=True)
    )
    if shown.first.text is not None and shown.second.text is not None:
        frame.two_texts(
            shown.first.text, shown.second.text, (titles[0], titles[1]), key="responses"
        )
    else:
        for column, side, title in zip(st.columns(2), sides, titles, strict=True):
            with column:
                absent = f"(no text: {side.reason or 'empty'})"
                frame.text(side.text if side.text is not None else absent, title, key=title)
    _thinking(sides)
    _ratings(shown)
    _replies(board, shown)


def _thinking(sides: tuple[pairs.PairText, pairs.PairText]) -> None:
    """Draw what was thought before the responses, folded."""
    if not any(side.thinking for side in sides):
        return
    for column, side, which in zip(st.columns(2), sides, ("first", "second"), strict=True):
        if side.thinking:
            with column.expander("Thinking", icon=":material/psychology:"):
                frame.text(side.thinking, key=f"thinking-{which}")


def _summary(pairing: Pairing) -> str:
    if not pairing.verdicts:
        return " \u2014 not judged"
    words = {"a": "first wins", "b": "second wins", "tie": "tie", None: UNDECIDED}
    said = []
    for verdict in pairing.verdicts.values():
        margin = verdict.margin
        gap = "" if margin is None else f" ({markup.number(float(margin), 2, signed=True)})"
        said.append(f"{words[verdict.winner]}{gap}{', by order' if verdict.flipped else ''}")
    return f" \u2014 {'; '.join(said)}"


def _ratings(shown: pairs.PairDetail) -> None:
    if shown.ratings.empty:
        for index, preference in enumerate(shown.item.preferences):
            frame.text(preference, f"preference {index + 1}", key=f"preference-{index}")
        return
    st.dataframe(
        shown.ratings,
        hide_index=True,
        placeholder="\u2013",
        row_height=58,
        column_config={
            "preference": st.column_config.TextColumn("preference", width="large"),
            "judge": st.column_config.TextColumn("judge", width="small"),
            "first": st.column_config.NumberColumn("first", width=60, format="%d"),
            "second": st.column_config.NumberColumn("second", width=70, format="%d"),
        },
    )


def _replies(board: frame.Board, shown: pairs.PairDetail) -> None:
    if not shown.said:
        return
    with st.expander(f"Raw replies ({len(shown.said)})", icon=":material/chat:"):
        for number, said in enumerate(shown.said[:_REPLIES]):
            call = f" (call {said.call_key[:12]})" if said.call_key else ""
            title = f"{said.judge}, {said.about}: {said.result}{call}"
            if said.thinking:
                frame.text(said.thinking, "thinking before it", key=f"thought-{number}")
            frame.text(said.reply or "(not kept)", title, key=f"reply-{number}")
        if len(shown.said) > _REPLIES:
            st.caption(f"{len(shown.said) - _REPLIES} more are in the store.")
        asked = [said for said in shown.said if said.call_key]
        if asked and st.toggle("Show what the judge was asked first", key="request"):
            text = board.recall(pairs.request_of, asked[0].call_key)
            frame.text(text or "(not kept)", asked[0].about, key="request-text")


def _list(found: Sequence[Pairing], left: Sequence[int], wanted: PairFilter) -> None:
    """Draw the items that are left, as a table that opens the one that is clicked."""
    with st.expander(f"All {markup.count(len(left), 'item')}", icon=":material/list:"):
        places = set(left)
        rows = [_row(pairing, wanted) for pairing in found if pairing.position in places]
        st.dataframe(
            pd.DataFrame(rows),
            hide_index=True,
            placeholder="\u2013",
            height=360,
            key="items",
            on_select=_open_selected,
            selection_mode="single-row",
        )
        st.session_state["listed"] = list(left)


def _row(pairing: Pairing, wanted: PairFilter) -> dict[str, object]:
    verdicts = [
        verdict for judge, verdict in pairing.verdicts.items() if wanted.judge in {None, judge}
    ]
    gaps = [float(verdict.margin) for verdict in verdicts if verdict.margin is not None]
    return {
        "item": pairing.position,
        "task": markup.label(pairing.task),
        "id": markup.label(pairing.item_id),
        "outcome": ", ".join(outcome_of(verdict) for verdict in verdicts),
        "gap": gaps[0] if gaps else None,
        "order decided": any(verdict.flipped for verdict in verdicts),
        "judges differ": pairing.disputed,
    }


def _open_selected() -> None:
    rows = st.session_state["items"]["selection"]["rows"]
    if rows:
        st.session_state["item"] = st.session_state["listed"][rows[0]]
