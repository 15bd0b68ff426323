"""What stands behind numbers: links from tables to the very items."""

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from mipo_eval.dashboards.links import run_name
from mipo_eval.dashboards.tables.judges import of_choices, of_ratings
from mipo_eval.keys import digest
from mipo_eval.records import Response, Run, Score
from mipo_eval.signature import join
from mipo_eval.store import Store
from mipo_eval.store.items import put_list
from mipo_eval.store.judges import put_judge
from mipo_eval.store.responses import put_generation, put_responses
from mipo_eval.store.runs import list_runs, put_run, put_scores
from tests.dashboards.opening import open_page, texts
from tests.dashboards.scripted import CHOOSER, DAY, DECODING, RATER, items


def _opened(link: str, store: Path, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    """Follow a link of a table."""
    target = urlsplit(link)
    choices = parse_qs(target.query)
    test = open_page(monkeypatch, store, target.path, **choices)
    for key in {"a", "b"} & choices.keys():
        assert [run_name(test.selectbox(key=key).value)] == choices[key]
    assert [test.selectbox(key="by").value] == choices.get("by", ["any judge"])
    return test


def _tables(test: AppTest) -> list[pd.DataFrame]:
    return [one.value for one in test.dataframe]


@pytest.mark.parametrize(
    ("page", "count"),
    [
        ("leaderboard", 1),
        ("comparison", 1),
        ("diversity", 2),
        ("answers", 4),
        ("judges", 3),
        ("run", 1),
    ],
)
def test_tables_of_numbers_lead_to_items(
    page: str, count: int, rich_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = [
        table for table in _tables(open_page(monkeypatch, rich_file, page)) if "items" in table
    ]
    linked = [t for t in tables if t["items"].astype(str).str.startswith("pairs?a=").any()]
    assert len(linked) == count
    for table in linked:
        assert "items" in [*table][:2] or page in {"run", "comparison"}  # in sight at any width
        (link, *_) = table["items"].dropna()
        test = _opened(link, rich_file, monkeypatch)
        assert test.number_input(key="item").value >= 0


def test_published_numbers_lead_nowhere(rich_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = _tables(open_page(monkeypatch, rich_file, "answers", **{"all-published": "true"}))[0]
    paper = table["source"] == "paper"
    assert paper.any()
    assert table.loc[paper, ["items", "run"]].isna().all(axis=None)
    assert table.loc[~paper, ["items", "run"]].notna().all(axis=None)


def test_a_question_opens_itself(rich_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = _tables(open_page(monkeypatch, rich_file, "answers"))[-1]
    assert not {"run", "position", "run_id"} & set(table)
    line = table.iloc[7]
    test = _opened(line["items"], rich_file, monkeypatch)
    assert f"arc_easy: {line['item_id']}<" in texts(test)


def test_judges_lead_to_what_they_rated_and_chose(rich: Store) -> None:
    put_judge(rich, digest("idle"), "idle", {})
    rated, chosen = of_ratings(rich), of_choices(rich)
    assert list(rated) == [RATER]
    assert list(chosen) == [CHOOSER]
    names = {(run.model, run.prompting, run.suite): run.run_id[:8] for run in list_runs(rich)}
    latest = parse_qs(urlsplit(rated[RATER]).query)
    assert latest["a"][0].endswith(names["out/mipo-random", "personalized", "tea"])
    pair = parse_qs(urlsplit(chosen[CHOOSER]).query)
    assert pair["a"][0].endswith(names["out/mipo-missing", "personalized", "tea"])
    assert pair["b"][0].endswith(names["base", "personalized", "tea"])


def test_a_task_s_number_leads_to_the_items_of_that_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = items(6)
    with Store.open(str(tmp_path / "s.db")) as store:
        list_key, _ = put_list(store, [("tea", of[:4]), ("cups", of[4:])])
        key = digest("one")
        put_generation(store, key, {"model": {"engine": "hf"}, "decoding": DECODING})
        made = [Response(item_key=i.key, text="So.", prompt_hash=digest(i.prompt)) for i in of]
        put_responses(store, key, made)
        run = Run(
            run_id=digest("run"),
            model="m",
            suite="both",
            prompting="default",
            seed=0,
            list_key=list_key,
            n_items=6,
            generation_key=key,
            environment={},
            created_at=DAY,
            updated_at=DAY,
        )
        put_run(store, run)
        score = Score(metric="accuracy", value=50.0, n=2, signature=join(suite="both"), task="cups")
        put_scores(store, run.run_id, [score])
    (table,) = [
        t for t in _tables(open_page(monkeypatch, tmp_path / "s.db", "run")) if "items" in t
    ]
    test = _opened(table["items"].iloc[0], tmp_path / "s.db", monkeypatch)
    assert "2 of 6 items" in texts(test)
    assert test.number_input(key="item").value == 4
