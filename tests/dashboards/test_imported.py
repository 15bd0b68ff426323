"""Results of lm-eval on the board: read as they are, without a second look at the answers."""

import json
from pathlib import Path

import pandas as pd
import pytest

from mipo_eval.importers import read_path, store_runs
from mipo_eval.reports.leaderboard import LeaderboardQuery, leaderboard
from mipo_eval.store import Store
from tests.dashboards.opening import open_page, texts

TIME = "2026-01-02T03-04-05.678"


def _results(folder: Path, model: str, right: int, metric: str) -> Path:
    """What lm-eval writes of ten questions."""
    own = folder / f"{model}-{metric}"
    own.mkdir()
    samples = [
        {
            "doc_id": n,
            "doc": {"question": f"{n}?"},
            "target": "B",
            "arguments": [[f"Question {n}?", "x"]],
            "resps": [["B" if n < right else "A"]],
            "filter": "none",
            "metrics": [metric],
            metric: float(n < right),
            "doc_hash": str(n),
        }
        for n in range(10)
    ]
    lines = "".join(json.dumps(sample) + "\n" for sample in samples)
    (own / f"samples_arc_easy_{TIME}.jsonl").write_text(lines)
    told = {
        "results": {"arc_easy": {f"{metric},none": right / 10, f"{metric}_stderr,none": 0.1}},
        "configs": {"arc_easy": {}},
        "n-samples": {"arc_easy": {"original": 10, "effective": 10}},
        "model_name": model,
    }
    (own / f"results_{TIME}.json").write_text(json.dumps(told))
    return own


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lm-eval")
    with Store.open(str(folder / "s.db")) as store:
        for model, right in (("one", 8), ("two", 4)):
            for metric in ("accuracy", "acc"):
                store_runs(store, read_path(_results(folder, model, right, metric)).runs)
    return folder / "s.db"


def test_an_imported_accuracy_is_shown_as_it_was_told(path: Path) -> None:
    with Store.open(str(path), mode="read") as store:
        (section,) = leaderboard(store, LeaderboardQuery())
        (other,) = leaderboard(store, LeaderboardQuery(metric="acc"))
    assert section.metric == "accuracy"
    cells = {row.name.model: row.cells["arc_easy"] for row in section.rows}
    assert {model: cell.value for model, cell in cells.items()} == {"one": 80.0, "two": 40.0}
    # The samples are there, so the interval is that of a rate: 8 of 10, not 80 +- 1.96 errors.
    assert cells["one"].ci95 == pytest.approx((42.8, 95.5), abs=0.1)
    assert {cell.n for cell in cells.values()} == {10}
    assert [row.cells["arc_easy"].value for row in other.rows] == [0.8, 0.4]


def test_the_pages_show_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    test = open_page(monkeypatch, path, "leaderboard", published="false")
    assert not test.error
    table: pd.DataFrame = test.dataframe[0].value
    assert list(table["0"]) == [80.0, 40.0]
    test = open_page(monkeypatch, path, "comparison")
    assert not test.error
    assert "is shown to be better: +40.0 points" in texts(test)  # paired by the tool's own grades
    test = open_page(monkeypatch, path, "answers")
    assert not test.error
    shown: pd.DataFrame = test.dataframe[0].value
    measured = shown[shown["source"] == "measured"]
    assert dict(zip(measured["model"], measured["value"], strict=True)) == {"one": 80, "two": 40}
    assert len(shown) == len(measured)  # Table 2 has none of these models
    test = open_page(monkeypatch, path, "answers", **{"all-published": "true"})
    assert len(test.dataframe[0].value) > len(measured)  # in the same unit
    test = open_page(monkeypatch, path, "pairs")
    assert "10 of 10 items" in texts(test)


def test_an_unknown_number_of_items_is_shown_as_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Versions of lm-eval before 0.4.3 do not say over how many samples a number is."""
    told = {"results": {"sum": {"accuracy,none": 0.5}}, "versions": {"sum": 1}}
    file = tmp_path / "results.json"
    with Store.open(str(tmp_path / "s.db")) as store:
        for args in ("pretrained=org/m", "pretrained=org/m,dtype=float16"):
            file.write_text(json.dumps(told | {"config": {"model_args": args}}))
            (run_id,) = store_runs(store, read_path(file).runs)
        (section,) = leaderboard(store, LeaderboardQuery())
    assert [row.cells["sum"].n for row in section.rows] == [None, None]
    # Two files of one model are two rows: neither is the other done again.
    assert {row.name.model for row in section.rows} == {"m", f"m ({run_id[:8]})"}
    for page, query in (("leaderboard", {"published": "false"}), ("run", {"run": run_id})):
        test = open_page(monkeypatch, tmp_path / "s.db", page, **query)
        assert not test.error
        assert not test.exception
