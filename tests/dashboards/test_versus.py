"""Two methods: who wins, where it comes from; who is served badly; files of a leaderboard."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mipo_eval.dashboards import export
from mipo_eval.dashboards.forest import Scale, share_bar
from mipo_eval.dashboards.matrix import matrix
from mipo_eval.dashboards.tables import comparison, leaderboard, users, versus
from mipo_eval.dashboards.tables.forest import forest_rows
from mipo_eval.dashboards.tables.headline import short_names
from mipo_eval.dashboards.tables.run import judging
from mipo_eval.evaluation.score import Snapshot
from mipo_eval.reports.leaderboard import Section
from mipo_eval.reports.served import OTHER, by_preference
from mipo_eval.store import Store
from mipo_eval.store.runs import list_runs
from tests.dashboards.opening import open_page, texts
from tests.dashboards.scripted import N_ITEMS, RATER, make_situations


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_situations(tmp_path_factory.mktemp("situations") / "s.db")


@pytest.fixture
def now(path: Path) -> Iterator[Snapshot]:
    with Store.open(str(path), mode="read") as store:
        yield Snapshot(store)


def _section(now: Snapshot, suite: str) -> Section:
    topic = next(one for one in leaderboard.topics(now) if one.suite == suite and one.judge)
    found = leaderboard.section(now, leaderboard.query_of(topic, "win_rate_tie_inclusive", ()))
    assert found is not None
    return found


def test_two_rows_add_up_to_their_items_and_users(now: Snapshot) -> None:
    found = _section(now, "clear")
    told = versus.versus(now, found, RATER, (0, 1), "clear")
    assert told.metric == "rating_mean"
    assert sum(told.items) == N_ITEMS
    assert told.users is not None
    assert sum(told.users) == 24
    turned = versus.versus(now, found, RATER, (1, 0), "clear")
    assert turned.items == told.items[::-1]
    assert turned.users == told.users[::-1]
    assert {row.name for row in told.preferences} == {"Easy words. (96)", "Short. (96)"}
    means = [row.value for row in told.preferences]
    rated = comparison.row_values(now, found, RATER, "rating_mean")["clear"]
    apart = rated.of(0) - rated.of(1)
    assert sum(means) / 2 == pytest.approx(apart.mean())
    assert sum(int(row.name.rpartition("(")[2][:-1]) for row in told.lengths) == N_ITEMS


def test_ratings_by_preference_are_those_of_the_store(rich: Store) -> None:
    now = Snapshot(rich)
    runs = [run for run in list_runs(rich) if run.suite == "tea"]
    found = by_preference(now, [[run] for run in runs], RATER, "tea")
    assert found is not None
    assert set(found.names) == {"Easy words.", "Short."}
    assert OTHER not in found.names
    assert found.values.shape == (2 * N_ITEMS, len(runs))
    for column, run in enumerate(runs):
        (sheet,) = now.outcomes.sheets([run], "rating_mean", RATER)
        assert np.nanmean(found.values[:, column]) == pytest.approx(sheet.mean(0))
    assert by_preference(now, [runs], RATER, "no such task") is None


def test_only_what_differs_in_settings_is_told(now: Snapshot) -> None:
    table = versus.settings_apart(now, _section(now, "seeds"), (0, 1), "seeds")
    told = table.set_index("setting")
    assert told.loc["model", "first"] == "out/mipo-missing"
    assert (told.loc["seeds", "first"], told.loc["seeds", "second"]) == ("3", "1")
    assert "prompting" not in told.index
    assert (told["first"] != told["second"]).all()


def test_shares_of_nothing_are_none_and_bars_say_them_in_words() -> None:
    assert versus.shares_of((0, 0, 0)) is None
    assert versus.shares_of((1, 1, 2)) == (25.0, 25.0, 50.0)
    drawn = share_bar((25.0, 25.0, 50.0), wide=True)
    assert 'aria-label="win 25.0 %, tie 25.0 %, loss 50.0 %"' in drawn


def test_a_matrix_names_columns_by_number_and_is_inert() -> None:
    cells = {("<b>a", "x"): 0.0, ("c", "x"): 100.0}
    drawn = matrix(cells, (["<b>a", "c"], ["x", "y"]), "wins (%)", (0, 50, 100))
    assert "<b>" not in drawn
    assert "1 x; 2 y" in drawn
    assert drawn.count("<td></td>") == 2  # absent is not zero
    assert "background: #D55E00" in drawn
    same = matrix({("a", "b"): 50.0}, (["a", "b"], ["a", "b"]), "wins (%)", (0, 50, 100))
    assert "2&ensp;b" in same
    assert "background: #F5F5F5; color: #000000" in same


def test_the_users_page_says_who_serves_the_worst_off(
    now: Snapshot, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = _section(now, "clear")
    served = users.served_by(now, found, RATER, "clear")
    assert [len(one.users) for one in served.values()] == [24, 24]
    said = users.users_headline(found, served)
    assert said.startswith("MIPO (missing) does most for the 2 worst served of 24 users: ")
    assert users.users_headline(found, {}).startswith("The items of this suite name no users")
    alone = users.users_headline(found, {0: served[0]})
    assert alone.startswith("MIPO (missing) gives the 2 worst served of 24 users ")
    told = users.wishes(now, found, RATER, [0, 1], "clear")
    assert told is not None
    assert set(told.cells) == {(wish, row) for wish in told.preferences for row in told.rows}
    test = open_page(monkeypatch, path, "users", suite="clear")
    assert said in texts(test).replace("&#x27;", "'")
    (table,) = [element.value for element in test.dataframe]
    assert list(table["value"]) == sorted(table["value"])
    assert table["items"].str.contains("item=").all()


def test_seeds_are_dots_and_files_are_made_of_what_is_shown(now: Snapshot) -> None:
    found = _section(now, "seeds")
    paper = leaderboard.paper_numbers(found, [""])
    rows = forest_rows(found, "seeds", found.rows, {}, paper)
    assert [len(row.dots) for row in rows] == [3, 0]
    scale = Scale(title="win rate (%)", places=1, ends=(0.0, 100.0))
    svg = export.picture(rows, scale, "svg").decode()
    assert "MIPO (missing)" in svg
    assert export.picture(rows, scale, "png").startswith(b"\x89PNG")
    tex = export.latex(found, short_names(found.rows))
    best = f"{rows[0].value:.1f}"
    assert f"MIPO (missing) & \\textbf{{{best}}}" in tex
    assert "judged by rater" in export.citation(found)
    lists = {run.list_key for row in found.rows for c in row.cells.values() for run in c.runs}
    assert judging(now, RATER, tuple(lists)) == {}  # no call is in this ledger
