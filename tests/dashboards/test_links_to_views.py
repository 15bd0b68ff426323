"""The link to a view opens it again with every choice made, on every page."""

from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from streamlit.testing.v1 import AppTest

from mipo_eval.store import Store
from mipo_eval.store.runs import list_runs
from tests.dashboards.opening import open_page

CHOSEN: dict[str, dict[str, str | list[str]]] = {
    "leaderboard": {
        "suite": "tea",
        "ties": "half",
        "prompting": ["personalized", "default"],
        "since": "2026-11-01",
        "baseline": "base \u00b7 Default prompting",
        "columns": ["n", "p"],
        "sort": "model",
        "published": "false",
        "row": "base \u00b7 Personalized prompting",
        "equal-length": "true",
        "strengths": "true",
    },
    "comparison": {
        "suite": "tea",
        "methods": ["base \u00b7 Default prompting", "base \u00b7 Personalized prompting"],
        "first": "base \u00b7 Default prompting",
        "margin": "5.0",
        "equal-length": "true",
    },
    "users": {"suite": "tea", "row": "base \u00b7 Personalized prompting"},
    "pairs": {"outcome": ["A wins", "tie"], "gap": "0.5", "search": "tea number", "item": "17"},
    "diversity": {"measure": "distinct words of 80 texts (0-1, high = diverse)"},
    "answers": {"answers-to": ["arc_easy"]},
    "training": {"curve": "loss (nats)", "smoothing": "0.25"},
    "judges": {"of-judges": ["rater"], "labels": "prism"},
    "run": {},
    "label": {"against": "the reference responses"},
}
"""Page to choices that differ from the default."""
_INPUTS = (
    "selectbox",
    "multiselect",
    "segmented_control",
    "pills",
    "slider",
    "toggle",
    "text_input",
    "number_input",
    "date_input",
)
_OWN = {"person", "request", "label-skipped", "example"}
"""Not part of a view: who looks at it, and what is unfolded."""


def _inputs(test: AppTest) -> dict[str, Any]:
    found = {
        element.key: repr(element.value) for kind in _INPUTS for element in getattr(test, kind)
    }
    return {key: value for key, value in found.items() if key not in _OWN}


@pytest.mark.parametrize("page", CHOSEN)
def test_the_link_to_a_view_makes_all_its_choices(
    page: str, rich_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = CHOSEN[page]
    test = open_page(monkeypatch, rich_file, page, **chosen)
    plain = _inputs(open_page(monkeypatch, rich_file, page))
    made = _inputs(test)
    assert {key for key in chosen if made[key] == plain.get(key)} <= {"suite", "labels"}
    (link,) = [one for one in test.page_link if one.label == "Link to this view"]
    shared = parse_qs(link.proto.query_string, keep_blank_values=True)
    assert shared.keys() >= chosen.keys()
    assert {key for key in made if not key.startswith("all-")} - shared.keys() <= _MAY_BE_EMPTY
    again = open_page(monkeypatch, rich_file, page, **shared)
    assert _inputs(again) == made


_MAY_BE_EMPTY = {"model", "prompting", "since", "search", "outcome", "texts-of", "answers-to"} | {
    *("of-judges", "curves-of", "by-likelihood", "methods")
}
"""Choices that leave nothing out while they are empty, and need no word in the address."""


def test_a_choice_that_was_emptied_stays_empty(
    rich_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = open_page(monkeypatch, rich_file, "leaderboard", suite="tea")
    test.multiselect(key="columns").set_value([]).run()
    shared = parse_qs(test.page_link[-1].proto.query_string, keep_blank_values=True)
    assert shared["columns"] == [""]
    again = open_page(monkeypatch, rich_file, "leaderboard", **shared)
    assert again.multiselect(key="columns").value == []


def test_a_view_without_items_has_its_link(
    rich_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = open_page(monkeypatch, rich_file, "pairs", search="no such text")
    shared = parse_qs(test.page_link[-1].proto.query_string)
    assert shared["search"] == ["no such text"]


@pytest.mark.parametrize("digits", [8, 12, 32])
def test_an_address_may_name_a_run_by_the_beginning_of_its_id(
    digits: int, rich_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store.open(str(rich_file), mode="read") as store:
        run = list_runs(store)[-1]
    drawn = open_page(monkeypatch, rich_file, "pairs", a=run.run_id[:digits])
    assert drawn.selectbox(key="a").value == run
    assert not drawn.warning


def test_an_address_that_names_nothing_says_so(
    rich_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = open_page(monkeypatch, rich_file, "pairs", a="zz", b="", outcome=["A wins", "lost"])
    told = [warning.value for warning in drawn.warning]
    assert len(told) == 2, told
    assert "there is no 'zz'" in told[0].replace("\\", "")
    assert "there is no 'lost'" in told[1].replace("\\", "")
