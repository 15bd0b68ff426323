"""The pages of diversity, answers, training, judges and labels, drawn without a browser."""

import shutil
from pathlib import Path

import pytest

from mipo_eval.dashboards.tables.label import labels
from mipo_eval.store import Store
from tests.dashboards.opening import open_page

PAGES = ("diversity", "answers", "training", "judges", "label")


@pytest.fixture
def store(rich_file: Path, tmp_path: Path) -> Path:
    """A copy of the store of scripted runs, closed."""
    return Path(shutil.copy(rich_file, tmp_path / "board.db"))


@pytest.mark.parametrize("page", PAGES)
def test_an_empty_store_says_what_to_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, page: str
) -> None:
    Store.open(str(tmp_path / "new.db")).close()
    test = open_page(monkeypatch, tmp_path / "new.db", page)
    assert "mipo-eval" in test.info[0].value
    assert not test.error


@pytest.mark.parametrize(
    ("page", "headings"),
    [
        ("diversity", ["Over a suite", "Before and after, within prompts"]),
        ("answers", ["Accuracy", "Answer entropy", "Question by question"]),
        ("training", ["Learning curves", "Trainings", "One training", "Negatives"]),
        (
            "judges",
            ["Against human labels", "How ratings are used", "Does the order", "Attacks", "Cost"],
        ),
        ("label", ["Who has labelled"]),
    ],
)
def test_a_full_store_fills_every_part(
    monkeypatch: pytest.MonkeyPatch, store: Path, page: str, headings: list[str]
) -> None:
    test = open_page(monkeypatch, store, page)
    found = [element.value for element in test.header]
    assert len(found) == len(headings)
    assert all(one.startswith(start) for one, start in zip(found, headings, strict=True))


def test_a_failing_judge_is_named_at_the_top(monkeypatch: pytest.MonkeyPatch, store: Path) -> None:
    test = open_page(monkeypatch, store, "judges")
    assert test.error[0].value.startswith("Do not believe **rater**: prism")


def test_judges_can_be_chosen_by_the_address(monkeypatch: pytest.MonkeyPatch, store: Path) -> None:
    test = open_page(monkeypatch, store, "judges", **{"of-judges": "chooser"})
    assert [one.value for one in test.header] == [
        "Against human labels",
        "Does the order of the two responses matter?",
        "Attacks and controls",
        "Cost and time",
    ]


def test_a_measure_in_the_address_is_the_one_shown(
    monkeypatch: pytest.MonkeyPatch, store: Path
) -> None:
    title = "distinct words of 80 texts (0-1, high = diverse)"
    test = open_page(monkeypatch, store, "diversity", measure=title)
    assert test.selectbox(key="measure").value == "distinct_1_fixed"


def test_only_an_answer_writes(monkeypatch: pytest.MonkeyPatch, store: Path) -> None:
    before = store.read_bytes()
    test = open_page(monkeypatch, store, "label", person=" Ann ")
    assert store.read_bytes() == before, "looking changes nothing"
    buttons = {button.label: button for button in test.button}
    buttons["No difference"].click().run()
    assert not test.exception
    with Store.open(str(store), mode="read") as opened:
        assert list(labels(opened, "Ann").values()) == ["tie"]
    buttons = {button.label: button for button in test.button}
    buttons["Back"].click().run()
    buttons = {button.label: button for button in test.button}
    buttons["Response 1 is better"].click().run()
    with Store.open(str(store), mode="read") as opened:
        (winner,) = labels(opened, "Ann").values()
    assert winner in {"a", "b"}
