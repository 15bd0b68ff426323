"""The pair browser: two responses side by side, with everything that judges said of them."""

from collections.abc import Mapping, Sequence

import pandas as pd
import streamlit as st

from mipo_eval.dashboards import frame, markup
from mipo_eval.dashboards.forest import share_bar
from mipo_eval.dashboards.links import TASK, run_name
from mipo_eval.dashboards.tables import pairs
from mipo_eval.dashboards.tables.pairs import PairFilter, Pairing
from mipo_eval.dashboards.tables.versus import shares_of
from mipo_eval.records import Run
from mipo_eval.store.judges import judge_names
from mipo_eval.store.runs import list_runs

_ANY = "any judge"
_NO_GAP = 0.0
_WIDEST_GAP = 4.0
"""Ratings are 1 to 5."""
_REPLIES = 40
"""Raw replies drawn at once."""
_LIST_HEIGHT = 460
_STYLED = 200_000
"""Cells of a list from which on it has no colours: pandas draws no more."""
_COLOURS = {
    "A wins": ("#0072B2", "#FFFFFF"),
    "tie": ("#B4B4B4", "#1B1E24"),
    "tie, flipped": ("#B4B4B4", "#1B1E24"),
    "B wins": ("#E69F00", "#1B1E24"),
    "judges differ": ("#CC79A7", "#1B1E24"),
}
"""Of a cell and its text, by what stands in it."""


def show() -> None:
    """Draw the page."""
    board = frame.begin("Pairs", "Two responses to the same item, and what judges said of them.")
    runs = board.recall(list_runs)
    if not runs:
        frame.nothing_yet("no run has begun")
    first, second = _sides(runs)
    other = second.run_id if second else None
    found = board.recall(pairs.pairings, first.run_id, other, live=True)
    judges = board.recall(judge_names)
    with st.container(key="pairs-body"):
        listed, body = st.columns([4, 9], gap="medium")
    with listed, st.container(key="pairs-list"):
        wanted, text = _filters(judges, found)
        hits = None
        if text:
            hits = board.recall(pairs.search, first.run_id, other, text, live=True)
        left = pairs.matching(found, wanted, hits)
        _list(found, left, wanted)
    with body:
        if left:
            position = _navigate(left, len(found))
            shown = board.recall(pairs.detail, first.run_id, other, position, live=True)
            if shown is not None:
                own = found[position]
                verdict = pairs.verdict_text(own, judges)
                if not own.verdicts and shown.second.text is None:
                    verdict = pairs.rated_text(shown.ratings)
                known = board.recall(pairs.called, *filter(None, (first.run_id, other)))
                sides = (known[first.run_id], known[other] if other else pairs.REFERENCE)
                _item(board, shown, verdict, sides)
            frame.noted("item", position)
        else:
            none = "The numbers of this run were imported without their items."
            st.info("No item passes the filters." if found else none)
    frame.share("pairs")


def _name(run: Run | None) -> str:
    return run_name(run) if run else pairs.REFERENCE


def _sides(runs: Sequence[Run]) -> tuple[Run, Run | None]:
    with st.container(key="controls"):
        one, two = st.columns(2)
    with one:
        first = frame.choose("A: responses of", runs, "a", show=run_name)
    others = [run for run in runs if run.suite == first.suite and run.run_id != first.run_id]
    with two:
        second = frame.choose("B: against", [None, *others], "b", show=_name)
    return first, second


def _filters(judges: Mapping[str, str], found: Sequence[Pairing]) -> tuple[PairFilter, str]:
    """Let the reader filter items; returns the filters and the text to search for."""
    spoke = {key for pairing in found for key in pairing.verdicts}
    known = {name: key for key, name in judges.items() if key in spoke}
    text = st.text_input(
        "Search in all texts", key="search", bind="query-params", icon=":material/search:"
    ).strip()
    frame.noted("search", text or None)
    touched = frame.chips("Only", pairs.CHIPS, "outcome")
    judge, some, gap = _ANY, [], _NO_GAP
    tasks = list(dict.fromkeys(pairing.task for pairing in found))
    with st.expander("More filters", icon=":material/filter_list:"):
        judge = frame.choose("Judge", [_ANY, *known], "by")
        some = frame.choose_some("Tasks", tasks, TASK) if len(tasks) > 1 else []
        gap = st.slider(
            "Mean ratings differ by at least",
            _NO_GAP,
            _WIDEST_GAP,
            _NO_GAP,
            step=0.5,
            key="gap",
            bind="query-params",
        )
    special = {pairs.FLIPPED, pairs.DISPUTED}
    wanted = PairFilter(
        judge=known.get(judge),
        outcomes=tuple(one for one in touched if one not in special),
        tasks=tuple(some),
        flipped=pairs.FLIPPED in touched,
        disputed=pairs.DISPUTED in touched,
        gap=frame.noted("gap", gap),
    )
    return wanted, text


def _navigate(left: Sequence[int], total: int) -> int:
    """Let the reader step through the items that are left; returns the position shown."""
    if "item" in st.session_state and st.session_state["item"] not in left:
        st.session_state["item"] = left[0]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        last = max(total - 1, 0)
        position = int(
            st.number_input("Item", 0, last, left[0], key="item", bind="query-params", width=150)
        )
        before = [place for place in left if place < position]
        after = [place for place in left if place > position]
        _step("Previous", "K", before[-1] if before else None)
        _step("Next", "J", after[0] if after else None)
    return position


def _step(name: str, key: str, target: int | None) -> None:
    st.button(
        name,
        shortcut=key,
        disabled=target is None,
        on_click=_go_to,
        args=(target,),
        key=f"step-{name}",
    )


def _go_to(position: int) -> None:
    st.session_state["item"] = position


def _item(
    board: frame.Board, shown: pairs.PairDetail, verdict: str, names: tuple[str, str]
) -> None:
    """Draw one item: the verdict, what was asked and wished, both texts, what was said."""
    item = shown.item
    frame.say(verdict, f"{shown.task}: {item.item_id}")
    one, two = st.columns(2)
    with one:
        asked = "conversation" if item.messages else "prompt"
        frame.text(item.transcript, asked, key="prompt")
    with two:
        frame.text(item.context or "(none)", "context", key="context")
    _wishes(shown)
    sides = (shown.first, shown.second)
    titles = tuple(
        f"{side}: {name}{f' ({text.note})' if text.note else ''}"
        for side, name, text in zip("AB", names, sides, strict=True)
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
    _replies(board, shown)
    if st.toggle("Copy as an example", key="example"):
        told = markup.visible(pairs.example_text(shown, verdict, names))[: markup.SHOWN_AT_MOST]
        st.code(told, language=None, wrap_lines=True)


def _wishes(shown: pairs.PairDetail) -> None:
    """Draw the preferences, a row each, with both ratings of every judge."""
    rated = shown.ratings.to_dict("records")
    if not rated:
        for index, preference in enumerate(shown.item.preferences):
            frame.text(preference, f"preference {index + 1}", key=f"preference-{index}")
        return
    several = shown.ratings["judge"].nunique() > 1
    heads = ["preference", *(["judge"] if several else []), "A", "B"]
    rows, strong = [], []
    for line in rated:
        points = [line["first"], line["second"]]
        told = ["\u2013" if pd.isna(one) else f"{one:.0f}" for one in points]
        rows.append([line["preference"], *([line["judge"]] if several else []), *told])
        better = -1 if points[0] == points[1] or pd.isna(points).any() else len(heads) - 2
        strong.append(better + (points[1] > points[0]) if better > 0 else better)
    st.html(markup.table(heads, rows, strong))


def _thinking(sides: tuple[pairs.PairText, pairs.PairText]) -> None:
    """Draw what was thought before the responses, folded."""
    if not any(side.thinking for side in sides):
        return
    for column, side, which in zip(st.columns(2), sides, ("first", "second"), strict=True):
        if side.thinking:
            with column.expander("Thinking", icon=":material/psychology:"):
                frame.text(side.thinking, key=f"thinking-{which}")


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
    st.html(markup.line(f"{len(left):,} of {markup.count(len(found), 'item')}"))
    places = set(left)
    own = [pairing for pairing in found if pairing.position in places]
    counts = pairs.counted(own, wanted.judge)
    if shares := shares_of(counts):
        st.html(share_bar(shares, wide=True))
    if not own:
        return
    table = pd.DataFrame([_row(pairing, wanted) for pairing in own])
    table = table.drop(columns=[name for name in ("gap", "task") if table[name].nunique() < 2])
    styled = table.size < _STYLED
    shown = table.style.map(_coloured, subset=["outcome"]) if styled else table
    st.dataframe(
        shown,
        hide_index=True,
        placeholder="\u2013",
        height=_LIST_HEIGHT,
        key="items",
        on_select=_open_selected,
        selection_mode="single-row",
        column_config={
            "item": st.column_config.NumberColumn("item", width=45),
            "outcome": st.column_config.TextColumn("outcome", width=85),
            "gap": st.column_config.NumberColumn("A \u2212 B", format="%+.2f", width=60),
        },
    )
    st.session_state["listed"] = list(left)


def _coloured(outcome: object) -> str:
    """Return the style of an outcome's cell, in the colours of `forest.share_bar`."""
    colour = _COLOURS.get(str(outcome))
    return "" if colour is None else f"background-color: {colour[0]}; color: {colour[1]}"


def _row(pairing: Pairing, wanted: PairFilter) -> dict[str, object]:
    verdicts = [
        verdict for judge, verdict in pairing.verdicts.items() if wanted.judge in {None, judge}
    ]
    gaps = [float(verdict.margin) for verdict in verdicts if verdict.margin is not None]
    flipped = f", {pairs.FLIPPED}" * any(verdict.flipped for verdict in verdicts)
    return {
        "item": pairing.position,
        "outcome": f"{pairs.item_outcome(pairing, wanted.judge)}{flipped}",
        "gap": gaps[0] if gaps else None,
        "task": markup.label(pairing.task),
        "id": markup.label(pairing.item_id),
    }


def _open_selected() -> None:
    rows = st.session_state["items"]["selection"]["rows"]
    if rows:
        st.session_state["item"] = st.session_state["listed"][rows[0]]
