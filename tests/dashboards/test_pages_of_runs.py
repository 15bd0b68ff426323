"""The pages of leaderboard, comparison, pairs and runs: they draw, filter, reopen, stay inert."""

from dataclasses import replace
from io import StringIO
from pathlib import Path
from shutil import copy
from urllib.parse import parse_qs

import pandas as pd
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from mipo_eval.dashboards.frame import NOTHING
from mipo_eval.dashboards.links import FIRST, address, run_name
from mipo_eval.keys import digest
from mipo_eval.reports.leaderboard import LeaderboardQuery, leaderboard
from mipo_eval.signature import join, short
from mipo_eval.store import Store
from mipo_eval.store.merge import merge
from mipo_eval.store.runs import list_runs
from tests.dashboards.opening import open_page, texts
from tests.dashboards.scripted import (
    N_ITEMS,
    RATER,
    add_base_model,
    make_hostile_store,
    make_store,
)

PAGES = ("leaderboard", "comparison", "pairs", "run")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("board") / "s.db")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_hostile_store(tmp_path_factory.mktemp("hostile") / "s.db")


def _names(path: Path) -> dict[tuple[str, str], str]:
    with Store.open(str(path), mode="read") as store:
        return {(r.model, r.prompting): run_name(r) for r in list_runs(store) if r.suite == "tea"}


@pytest.mark.parametrize("page", PAGES)
def test_without_a_store_every_page_says_what_to_do(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert all(way in NOTHING for way in ("mipo-eval demo", "--model CKPT", "mipo-eval import"))
    assert [e.value for e in open_page(monkeypatch, tmp_path / "none.db", page).info] == [NOTHING]
    with Store.open(str(tmp_path / "empty.db")):
        pass
    assert [e.value for e in open_page(monkeypatch, tmp_path / "empty.db", page).info] == [NOTHING]


def test_what_is_no_store_is_an_error_and_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.db").write_text("This is not a database, but a text of some length." * 9)
    test = open_page(monkeypatch, tmp_path / "x.db", "leaderboard")
    assert [element.value for element in test.error] == ["The board cannot show this."]
    assert "is not a database" in texts(test)


@pytest.mark.parametrize("page", PAGES)
def test_hostile_names_and_texts_stay_text(
    page: str, hostile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = open_page(monkeypatch, hostile, page)
    assert len(test.title) == 1
    html = texts(test).replace('<a href="pairs?', "")  # our own, to the items behind a row
    for mark in ("<script", "<img", "<iframe", "<svg", "<a ", "javascript:window"):
        assert mark not in html or mark == "javascript:window"
    for element in [*test.markdown, *test.caption, *test.header, *test.title, *test.info]:
        assert "canary" not in element.value


def _table(test: AppTest) -> pd.DataFrame:
    frame: pd.DataFrame = test.dataframe[0].value
    return frame


def test_the_leaderboard_reopens_from_its_address(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = open_page(monkeypatch, path, "leaderboard", suite="tea", ties="a loss")
    assert test.segmented_control(key="ties").value == "win_rate_strict"
    assert "a tie is a loss" in texts(test)
    strict = _table(test)["0"].tolist()
    test = open_page(monkeypatch, path, "leaderboard", suite="tea")
    assert "a tie is a win" in texts(test)
    assert all(a < b for a, b in zip(strict, _table(test)["0"].tolist(), strict=True))


def test_the_link_to_a_view_shows_the_same_table(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = open_page(monkeypatch, path, "leaderboard", suite="tea", ties="a loss")
    shared = parse_qs(test.page_link[-1].proto.query_string)
    assert shared["ties"] == ["a loss"]
    again = open_page(monkeypatch, path, "leaderboard", **shared)
    assert _table(again).equals(_table(test))


def test_the_leaderboard_filters_rows_and_chooses_columns(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = open_page(monkeypatch, path, "leaderboard", suite="tea")
    assert len(_table(test)) == 4  # each checkpoint that was trained here is a row
    assert "0.ties" in _table(test)
    test.multiselect(key="prompting").set_value(["default"]).run()
    assert list(_table(test)["method"]) == ["Default prompting"]
    test.multiselect(key="prompting").set_value([]).run()
    test.multiselect(key="columns").set_value(["n"]).run()
    assert list(_table(test)) == ["method", "items", "0", "0.n"]
    assert not test.exception


def _worth(row: "pd.Series[float]", path: Path) -> float:
    """What a row is compared by: its value, and of a best of several what the choice is worth."""
    with Store.open(str(path), mode="read") as store:
        chosen = {
            cell.value: cell.best_of
            for section in leaderboard(store, LeaderboardQuery())
            for found in section.rows
            for cell in found.cells.values()
        }
    best = chosen.get(row["0"])
    return float(row["0"] if best is None or best.corrected is None else best.corrected)


def test_the_leaderboard_compares_with_a_baseline(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = open_page(monkeypatch, path, "leaderboard", suite="tea")
    table = _table(test).set_index("method")
    delta = table["0.delta"]
    base = "Personalized prompting"
    assert pd.isna(delta[base])
    others = [name for name in table.index if name != base]
    for name in others:
        assert delta[name] == pytest.approx(_worth(table.loc[name], path) - table.loc[base, "0"])
    test.selectbox(key="baseline").set_value("none").run()
    assert "0.delta" not in _table(test)


def test_rows_of_several_base_models_are_compared_with_their_own(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Path(copy(path, tmp_path / "s.db"))
    with Store.open(str(own)) as store:
        add_base_model(store, "other")
    test = open_page(monkeypatch, own, "leaderboard", suite="tea")
    assert test.selectbox(key="baseline").value.startswith("the same base model")
    table = _table(test).set_index(["model", "method"])
    assert len(table) == 6
    base = "Personalized prompting"
    for (model, method), row in table.iterrows():  # type: ignore[misc]
        if method == base:
            assert pd.isna(row["0.delta"])
        else:
            difference = _worth(row, own) - table.loc[(model, base), "0"]
            assert row["0.delta"] == pytest.approx(difference)
    assert "difference to the same base model with" in texts(test)
    one = open_page(monkeypatch, own, "leaderboard", baseline="other \u00b7 Default prompting")
    assert _table(one)["0.delta"].notna().sum() == 5


def test_the_leaderboard_flags_a_judge_that_fails(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mipo_eval.store.judges import list_validations, put_validation

    own = Path(copy(path, tmp_path / "s.db"))
    with Store.open(str(own)) as store:
        (found,) = list_validations(store)
        put_validation(store, replace(found, failings=["<b>no</b> better than a coin"]))
    test = open_page(monkeypatch, own, "leaderboard", suite="tea")
    assert [e.value for e in test.error] == [
        "Do not believe this judge, nor the numbers that it gave. The reason:"
    ]
    assert "prism: &lt;b&gt;no&lt;/b&gt; better than a coin" in texts(test)


def test_downloads_parse(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mipo_eval.dashboards.tables import leaderboard
    from mipo_eval.evaluation.score import Snapshot

    test = open_page(monkeypatch, path, "leaderboard", suite="tea")
    assert [button.label for button in test.download_button] == [
        *("PNG", "SVG", "LaTeX", "Download CSV")
    ]
    with Store.open(str(path), mode="read") as store:
        now = Snapshot(store)
        view = LeaderboardQuery(suite="tea", judge=now.judges[1].key, metric="rating_mean")
        found = leaderboard.section(now, view)
        assert found is not None
        table = leaderboard.number_table(found, found.rows, {})
    read = pd.read_csv(StringIO(table.to_csv(index=False)))
    assert list(read["value"]) == pytest.approx(list(table["value"]))
    assert read["signature"].str.contains("judge:rater").all()


def test_pairs_reopen_at_their_item(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = _names(path)
    first = names["out/mipo-missing", "personalized"]
    second = names["base", "personalized"]
    test = open_page(monkeypatch, path, "pairs", a=first, b=second, item="7")
    assert test.number_input(key="item").value == 7
    assert (test.selectbox(key="a").value.model, test.selectbox(key="b").value.model) == (
        "out/mipo-missing",
        "base",
    )
    html = texts(test)
    assert "tea-7" in html
    assert "How do I make tea number 3?" in html
    assert "Differences are not marked: most of the two texts differs." in html
    assert html.index("by rater") < html.index("How do I make tea") < html.index("1. Easy words.")


def test_pairs_step_through_what_the_filters_leave(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _names(path)["out/mipo-missing", "personalized"]
    test = open_page(monkeypatch, path, "pairs", a=first)
    assert f"{N_ITEMS} of {N_ITEMS} items" in texts(test)
    assert test.button(key="step-Previous").disabled
    test.text_input(key="search").set_value("tea number 7?").run()
    assert f"2 of {N_ITEMS} items" in texts(test)
    assert test.number_input(key="item").value == 14
    test.button(key="step-Next").click().run()
    assert test.number_input(key="item").value == 15
    assert test.button(key="step-Next").disabled
    test.button(key="step-Previous").click().run()
    assert test.number_input(key="item").value == 14
    test.text_input(key="search").set_value("no such text").run()
    assert [element.value for element in test.info] == ["No item passes the filters."]
    assert not test.exception


def test_pairs_filter_by_outcome(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = _names(path)["base", "default"]
    counts = {}
    for outcome in ("A wins", "tie", "B wins"):
        test = open_page(monkeypatch, path, "pairs", a=first, outcome=[outcome])
        counts[outcome] = int(texts(test).partition(f" of {N_ITEMS} items")[0].rpartition(">")[2])
    assert sum(counts.values()) == N_ITEMS
    assert min(counts.values()) > 0


def test_a_long_text_is_cut_until_it_is_asked_for(
    hostile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = open_page(monkeypatch, hostile, "pairs", item="10")
    short = max(len(element.body) for element in test.html)
    assert short < 10_000
    test.toggle(key="all-responses").set_value(True).run()
    assert 190_000 < max(len(element.body) for element in test.html) < 250_000


def test_the_run_page_tells_all_of_a_run(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = _names(path)["out/mipo-random", "personalized"]
    test = open_page(monkeypatch, path, "run", run=name)
    html = texts(test)
    assert "out/mipo-random" in html
    assert [element.value for element in test.header] == [
        "Numbers",
        "Failures",
        "Cost",
        "Repeat it",
        "How it was made",
        "Runs over the same items",
    ]
    assert "mipo-eval \\\n  --model out/mipo-random" in test.code[0].value


def test_comparison_draws_what_there_is(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    test = open_page(monkeypatch, path, "comparison", suite="tea")
    headings = [element.value for element in test.header]
    everything = ["Paired differences", "Who beats whom", "Length against result"]
    assert headings == ["Where it comes from", *everything]
    table: pd.DataFrame = test.dataframe[0].value
    assert len(table) == 3
    test.multiselect(key="methods").set_value(test.multiselect(key="methods").options[:2]).run()
    assert len(test.dataframe[0].value) == 1
    test.toggle(key="equal-length").set_value(True).run()
    test.number_input(key="margin").set_value(5.0).run()
    assert "margin" in test.dataframe[0].value
    assert "at_equal_length" in test.dataframe[1].value
    assert not test.exception


def test_the_leaderboard_has_equal_length_and_strengths_where_they_are_asked_for(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = open_page(monkeypatch, path, "leaderboard", suite="tea")
    assert len(test.dataframe) == 1
    test.toggle(key="equal-length").set_value(True).run()
    test.toggle(key="strengths").set_value(True).run()
    assert not test.exception
    headings = [element.value for element in test.header]
    assert headings == ["At the length of the references", "Head to head", "Behind a row"]
    assert "at_equal_length" in test.dataframe[1].value


def test_pages_draw_from_postgresql(
    path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store.open(str(path), mode="read") as store, Store.open(postgres_url) as other:
        merge(other, store)
    for page in PAGES:
        test = open_page(monkeypatch, postgres_url, page)
        assert "The board cannot show this." not in [element.value for element in test.error]
        assert NOTHING not in [element.value for element in test.info]
        assert test.dataframe
    st.cache_resource.clear()  # closes the store, so that its database can be dropped


def test_addresses() -> None:
    assert address(FIRST) == "./"
    assert address(FIRST, suite="a b") == "./?suite=a+b"
    assert address("pairs", a="x\u00b7y", item=3, b=None) == "pairs?a=x%C2%B7y&item=3"


def _second_judge(path: Path) -> None:
    """Add a judge that says what the first one says, but for one run that it likes better."""
    import sqlalchemy as sa

    from mipo_eval.store.judges import put_judge
    from mipo_eval.store.runs import get_scores, put_scores
    from mipo_eval.store.tables import responses, verdicts

    other = digest("another rater")
    with Store.open(str(path)) as store:
        put_judge(store, other, "another", {"judge_key": short(other)})
        runs = [run for run in list_runs(store) if run.suite == "tea"]
        favourite = next(run for run in runs if run.prompting == "default")
        liked = sa.select(responses.c.text_key).where(
            responses.c.generation_key == favourite.generation_key
        )
        with store.write() as connection:
            rows = connection.execute(sa.select(verdicts).where(verdicts.c.judge_key == RATER))
            texts = set(connection.execute(liked).scalars())
            copies = [
                dict(row._mapping)
                | {"judge_key": other, "rating": 5 if row.text_key in texts else row.rating}
                for row in rows.fetchall()
            ]
            store.put(connection, verdicts, copies)
        for run in runs:
            made = [
                replace(
                    score,
                    value=100.0 if run is favourite else score.value,
                    signature=score.signature.followed_by(
                        join(judge="another", judge_key=short(other))
                    ),
                )
                for score in get_scores(store, run.run_id)
                if score.judge == "rater"
            ]
            put_scores(store, run.run_id, made)


def test_several_judges_stand_side_by_side(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mipo_eval.dashboards.tables import comparison, leaderboard
    from mipo_eval.evaluation.score import Snapshot
    from mipo_eval.reports.agreement import agreements
    from mipo_eval.store.runs import list_runs

    own = Path(copy(path, tmp_path / "two.db"))
    _second_judge(own)
    test = open_page(monkeypatch, own, "comparison", suite="tea", view="Judges")
    headings = [element.value for element in test.header]
    assert "Judges by method" in headings
    assert "Agreement of judges" in headings
    with Store.open(str(own), mode="read") as store:
        now = Snapshot(store)
        runs = [run for run in list_runs(store) if run.suite == "tea"]
        told = agreements(store, runs, now.judges).pairs  # what `judges agreement` says
        (apart,) = (one for one in told if one.verdicts.n)
        assert 0 < (apart.verdicts.kappa or 0) < 1
        assert apart.verdicts.n == 4 * N_ITEMS
        table = comparison.agreement_table(now, "tea")
        assert list(table["kappa"]) == [apart.verdicts.kappa] * 2
        standings = {}
        for judge in now.judges:
            view = LeaderboardQuery(suite="tea", judge=judge.key, metric="win_rate_tie_inclusive")
            standing = leaderboard.section(now, view)
            if standing is not None:
                standings[judge.label] = standing
        values = comparison.judge_table(standings, "tea").pivot_table(
            index="row", columns="judge", values="value"
        )
    liked = values.loc["base \u00b7 Default prompting"]
    assert liked.max() == 100.0
    assert liked.min() < 50
    rest = values.drop("base \u00b7 Default prompting")
    assert rest.nunique(axis=1).eq(1).all()
