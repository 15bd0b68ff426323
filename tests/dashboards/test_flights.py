"""The board sees what changes in a store, and how far unfinished runs are."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from mipo_eval.dashboards.tables.forest import running_rows
from mipo_eval.dashboards.tables.run import score_lines
from mipo_eval.records import Run, Score
from mipo_eval.reports.leaderboard import LeaderboardQuery
from mipo_eval.signature import join
from mipo_eval.store import Store
from mipo_eval.store.engine import now
from mipo_eval.store.items import has_items, put_list
from mipo_eval.store.judges import put_judge
from mipo_eval.store.responses import put_generation, put_responses
from mipo_eval.store.runs import put_run, put_scores, results_version
from mipo_eval.store.tallies import in_flight
from mipo_eval.store.verdicts import put_ratings
from tests.dashboards.scripted import _rating, _response, items

SCORE = Score(metric="accuracy", value=1.0, n=8, signature=join(s=1))


def _begun(store: Store, *, hours: float = 0.0) -> Run:
    of = items(8)
    list_key, count = put_list(store, [("tea", of)])
    put_generation(store, "g", {})
    begun = now() - timedelta(hours=hours)
    run = Run(
        run_id="r",
        model="m",
        suite="tea",
        prompting="",
        seed=0,
        list_key=list_key,
        n_items=count,
        generation_key="g",
        environment={},
        created_at=begun,
        updated_at=begun,
    )
    put_run(store, run)
    return run


def test_progress_of_a_run_in_flight(tmp_path: Path) -> None:
    with Store.open(str(tmp_path / "s.db")) as store:
        run = _begun(store)
        put_judge(store, "j", "judge", {})
        of = items(8)
        put_responses(store, "g", [_response(item, f"text {item.item_id}") for item in of[:5]])
        ratings = [_rating(item, f"text {item.item_id}", 0, 3) for item in of[:2]]
        put_judge(store, ratings[0].judge, "rater", {})
        put_ratings(store, ratings)
        (flight,) = in_flight(store)
        assert (flight.run.run_id, flight.responses, flight.rated) == ("r", 5, 2)
        put_scores(
            store, run.run_id, [Score(metric="accuracy", value=1.0, n=8, signature=join(s=1))]
        )
        assert in_flight(store) == []


def test_a_run_that_nobody_continues_is_not_in_flight(tmp_path: Path) -> None:
    with Store.open(str(tmp_path / "s.db")) as store:
        _begun(store, hours=2)
        assert in_flight(store) == []


def test_versions_change_with_what_they_stand_for(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with Store.open(str(path)) as store, Store.open(str(path), mode="read") as reader:
        run = _begun(store)
        before = (reader.version(), results_version(reader))
        assert before == (reader.version(), results_version(reader))
        put_responses(store, "g", [_response(items(1)[0], "text")])
        responded = (reader.version(), results_version(reader))
        assert responded[0] != before[0]
        assert responded[1] == before[1]
        put_scores(
            store, run.run_id, [Score(metric="accuracy", value=1.0, n=8, signature=join(s=1))]
        )
        assert results_version(reader) != before[1]


def test_an_empty_store_has_nothing_to_show(tmp_path: Path) -> None:
    with Store.open(str(tmp_path / "s.db")) as store:
        assert not has_items(store)
        _begun(store)
        assert has_items(store)


def test_versions_on_postgresql(postgres_url: str) -> None:
    with Store.open(postgres_url) as store:
        before = (store.version(), results_version(store))
        _begun(store)
        assert store.version() != before[0]
        assert results_version(store) != before[1]
        assert len(in_flight(store)) == 1


def test_a_run_that_lacks_nothing_is_not_in_flight(tmp_path: Path) -> None:
    with Store.open(str(tmp_path / "s.db")) as store:
        _begun(store)
        first, *others = items(8)
        absent = [replace(_response(item, ""), text=None, reason="not in file") for item in others]
        put_responses(store, "g", [_response(first, "text"), *absent])
        (flight,) = in_flight(store)  # it may be judged yet
        assert (flight.responses, flight.rated) == (8, 0)
        rating = _rating(first, "text", 0, 3)
        put_judge(store, rating.judge, "rater", {})
        put_ratings(store, [rating])
        assert in_flight(store) == []


def test_a_run_in_flight_shows_what_is_judged_so_far(tmp_path: Path) -> None:
    with Store.open(str(tmp_path / "s.db")) as store:
        run = _begun(store)
        of = items(8)
        put_responses(store, "g", [_response(item, f"text {item.item_id}") for item in of[:5]])
        assert score_lines(store, run.run_id).empty
        ratings = [
            _rating(item, f"text {item.item_id}", aspect, n)
            for item, n in zip(of, (3, 5), strict=False)
            for aspect in (0, 1)
        ]
        put_judge(store, ratings[0].judge, "rater", {"protocol": "rubric"})
        put_ratings(store, ratings)
        shown = score_lines(store, run.run_id).set_index("metric").loc["rating_mean"]
        assert (shown["value"], shown["n"], shown["unscored"]) == (4.0, 2, 6)
        asked = LeaderboardQuery(suite="tea", judge=ratings[0].judge, metric="rating_mean")
        (row,) = running_rows(store, asked, "tea")
        assert (row.value, row.rank, row.running) == (4.0, "", True)
        assert row.about.endswith("still running: 2 of 8 items so far")
        assert running_rows(store, replace(asked, suite="other"), "tea") == []
