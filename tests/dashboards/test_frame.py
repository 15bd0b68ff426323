"""What pages share: number formats, remembered answers, choices in addresses, runs in flight."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from mipo_eval.dashboards import markup
from mipo_eval.dashboards.links import run_name
from mipo_eval.records import Run
from mipo_eval.reports.labels import decimals, metric_title
from mipo_eval.reports.names import run_titles
from mipo_eval.store import Store
from mipo_eval.store.engine import now
from mipo_eval.store.items import put_list
from mipo_eval.store.responses import put_generation, put_responses
from mipo_eval.store.runs import list_runs, put_run
from tests.dashboards.opening import open_page, texts
from tests.dashboards.scripted import _response, items, make_store


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (markup.number(None), "\u2013"),
        (markup.number(float("nan")), "\u2013"),
        (markup.number(0.0), "0.0"),
        (markup.number(-1234.56, 2), "\u22121,234.56"),
        (markup.number(3.0, signed=True), "+3.0"),
        (markup.interval(None), ""),
        (markup.interval((1.0, 2.5)), "[1.0, 2.5]"),
        (markup.count(1, "run"), "1 run"),
        (markup.count(2000, "run"), "2,000 runs"),
        (metric_title("tie_rate"), "tie rate (%)"),
        (metric_title("my_metric"), "my metric"),
        (decimals("rating_mean"), 2),
        (decimals("accuracy"), 1),
    ],
)
def test_formats(shown: object, expected: object) -> None:
    assert shown == expected


def _start(store: Store, run_id: str, *, responses: int) -> None:
    of = items(8)
    list_key, count = put_list(store, [("tea", of)])
    put_generation(store, run_id, {})
    begun = now() - timedelta(minutes=1)
    run = Run(
        run_id=run_id,
        model="<i>new",
        suite="tea",
        prompting="",
        seed=3,
        list_key=list_key,
        n_items=count,
        generation_key=run_id,
        environment={},
        created_at=begun,
        updated_at=begun,
    )
    put_run(store, run)
    put_responses(store, run_id, [_response(item, "text") for item in of[:responses]])


def test_a_run_in_flight_stands_in_the_side_bar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_store(tmp_path / "s.db")
    with Store.open(str(path)) as store:
        _start(store, "f" * 32, responses=3)
        test = open_page(monkeypatch, path, "run")
        assert "&lt;i&gt;new on tea" in texts(test)
        assert [bar.proto.text for bar in test.get("progress")] == ["3 of 8 responses"]
        put_responses(store, "f" * 32, [_response(item, "text") for item in items(8)])
        test.run()
        assert [bar.proto.text for bar in test.get("progress")] == ["8 of 8 responses"]


def test_answers_are_remembered_until_the_store_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mipo_eval import settings
    from mipo_eval.dashboards import frame

    path = tmp_path / "s.db"
    with Store.open(str(path)) as store:
        _start(store, "a" * 32, responses=1)
        monkeypatch.setenv(settings.STORE, str(path))
        board = frame.open_board()
        assert board is not None
        first = board.recall(list_runs)
        assert board.recall(list_runs) is first
        put_responses(store, "a" * 32, [_response(items(8)[7], "late")])
        later = frame.open_board()
        assert later is not None
        assert later.recall(list_runs) is first  # responses are no results
        assert later.version != board.version
        _start(store, "b" * 32, responses=0)
        last = frame.open_board()
        assert last is not None
        assert len(last.recall(list_runs)) == 2


def test_an_empty_database_waits_for_its_first_run(
    monkeypatch: pytest.MonkeyPatch, postgres_url: str
) -> None:
    from mipo_eval import settings
    from mipo_eval.dashboards import frame

    monkeypatch.setenv(settings.STORE, postgres_url)
    assert frame.open_board() is None
    Store.open(postgres_url).close()
    assert frame.open_board() is not None


def test_the_board_cannot_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mipo_eval import settings
    from mipo_eval.dashboards import frame
    from mipo_eval.errors import StoreError

    path = make_store(tmp_path / "s.db")
    monkeypatch.setenv(settings.STORE, str(path))
    board = frame.open_board()
    assert board is not None
    with pytest.raises(StoreError, match="read-only"):
        put_generation(board.store, "new", {})


def test_a_store_made_anew_is_read_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "s.db"
    for run_id in ("a" * 32, "b" * 32):
        for file in tmp_path.glob("s.db*"):
            file.unlink()
        with Store.open(str(path)) as store:
            _start(store, run_id, responses=1)
        test = open_page(monkeypatch, path, "run")
        (run,) = test.selectbox(key="run").options
        assert run.endswith(run_id[:8])


def test_a_run_has_one_name_everywhere(tmp_path: Path) -> None:
    with Store.open(str(tmp_path / "s.db")) as store:
        _start(store, "c" * 32, responses=0)
        (run,) = list_runs(store)
    assert run_name(run) == "<i>new \u00b7 tea \u00b7 seed 3 \u00b7 cccccccc"


def test_titles_of_runs_say_only_what_tells_them_apart(tmp_path: Path) -> None:
    with Store.open(str(tmp_path / "s.db")) as store:
        _start(store, "c" * 32, responses=0)
        (run,) = list_runs(store)
    told = [
        replace(run, run_id=letter * 32, model=model, seed=seed, prompting=prompting)
        for letter, model, seed, prompting in [
            ("a", "one", 0, "default"),
            ("b", "one", 1, "personalized"),
            ("c", "one", 2, "personalized"),
            ("d", "one", 2, "personalized"),
        ]
    ]
    assert list(run_titles(told, ()).values()) == [
        "Default prompting",
        "Personalized prompting, seed 1",
        "Personalized prompting, seed 2 [cccccccc]",
        "Personalized prompting, seed 2 [dddddddd]",
    ]
    other = replace(told[0], run_id="e" * 32, model="out/two")
    assert list(run_titles([told[0], other], ()).values()) == ["one", "two"]
    assert list(run_titles([told[1], other], ()).values()) == [
        "one \u00b7 Personalized prompting",
        "two \u00b7 Default prompting",
    ]
