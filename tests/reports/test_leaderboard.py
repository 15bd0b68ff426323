"""The leaderboard over runs whose answers, and so whose numbers, are known."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mipo_eval.cli import main
from mipo_eval.evaluation.score import Snapshot
from mipo_eval.reports.leaderboard import LeaderboardQuery, leaderboard
from mipo_eval.reports.names import read_rows, row_name
from mipo_eval.store import Store
from mipo_eval.store.runs import get_scores, list_runs, put_run, put_scores
from tests.reports.stores import N_ITEMS, Served

ROWS = """
- name: "openai:mipo-seed0@*"
  model: Llama-3.2-1B-Instruct
  method: MIPO
  variant: missing
- name: "openai:mipo-seed1@*"
  model: Llama-3.2-1B-Instruct
  method: MIPO
  variant: random
  seed: 0
- {name: "openai:sft-seed*@*", model: Llama-3.2-1B-Instruct, method: SFT}
- {name: "openai:base@*", model: Llama-3.2-1B-Instruct}
"""


def _json(capsys: pytest.CaptureFixture[str], *argv: str) -> Any:
    capsys.readouterr()
    assert main([*argv, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def _cells(section: Any, task: str = "tea") -> dict[tuple[str, str], Any]:
    return {(row["model"], row["method"]): row["cells"][task] for row in section["rows"]}


def test_methods_are_ranked_over_their_seeds(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    (section,) = _json(capsys, "leaderboard")["sections"]
    assert (section["suite"], section["metric"]) == ("tea", "win_rate_tie_inclusive")
    cells = _cells(section)
    mipo = cells["mipo", "Personalized prompting"]
    rates = [100 * 20 / N_ITEMS, 100 * 22 / N_ITEMS]
    assert mipo["value"] == pytest.approx(np.mean(rates))
    assert mipo["std"] == pytest.approx(np.std(rates, ddof=1))
    assert (mipo["seeds"], mipo["n"], mipo["rank"], mipo["tie_rate"]) == (2, N_ITEMS, 1, 0.0)
    assert 0 <= mipo["ci95"][0] < mipo["value"] < mipo["ci95"][1] <= 100
    sft = cells["sft", "Personalized prompting"]
    assert sft["rank"] == 2
    assert sft["tie_rate"] == pytest.approx(100 * 13 / N_ITEMS)
    base = cells["base", "Personalized prompting"]
    assert (base["value"], base["n"], base["unscored"], base["std"]) == (0.0, 23, 1, None)
    # With two seeds Student's reach is 12.7 errors: not even 87.5 and 0 are told apart in a family.
    assert set(base["letters"]) & set(mipo["letters"])
    assert base["missing"] == 1
    assert set(base["letters"]) & set(cells["base", "Default prompting"]["letters"])


def test_ties_as_losses_turn_the_table(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    (section,) = _json(capsys, "leaderboard", "--ties", "loss")["sections"]
    assert section["metric"] == "win_rate_strict"
    assert _cells(section)["sft", "Personalized prompting"]["value"] == 0.0


@pytest.mark.parametrize(
    ("metric", "model", "value", "n"),
    [
        ("net_win_rate", "base", -100.0, 23),
        ("win_rate_excluding_ties", "sft", 0.0, 12),  # its good answers tie with references
        ("self_bleu_4", "base", None, N_ITEMS),
    ],
)
def test_other_metrics_can_be_asked_for(
    served: Served,
    capsys: pytest.CaptureFixture[str],
    metric: str,
    model: str,
    value: float | None,
    n: int,
) -> None:
    (section,) = _json(capsys, "leaderboard", "--metric", metric)["sections"]
    cells = _cells(section)
    cell = cells[model, "Personalized prompting"]
    assert (section["metric"], cell["n"]) == (metric, n)
    assert value is None or cell["value"] == pytest.approx(value)
    values = [row["cells"]["tea"]["value"] for row in section["rows"]]
    assert values == sorted(values, reverse=metric != "self_bleu_4")  # the best row comes first
    assert all(found["ci95"] or found["std"] is not None for found in cells.values())
    assert ("ties:" in section["signatures"]["tea"]) == (metric != "self_bleu_4")
    assert main(["leaderboard", "--metric", metric]) == 0
    assert ("tied group: rows that share" in capsys.readouterr().out) == (metric != "self_bleu_4")


def test_an_unknown_metric_is_answered_with_the_known_ones(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["leaderboard", "--metric", "bleu"]) == 2
    said = capsys.readouterr().err
    assert "has no metric 'bleu'" in said
    assert "net_win_rate, rating_mean, response_tokens, self_bleu_4" in said


def test_a_snapshot_shows_what_the_store_does_and_reads_it_once(served: Served) -> None:
    asked = [
        LeaderboardQuery(),
        LeaderboardQuery(ties="half"),
        LeaderboardQuery(metric="net_win_rate"),
        LeaderboardQuery(suite="tea"),
    ]
    with Store.open(str(served.path), mode="read") as store:
        now = Snapshot(store)
        kept = [leaderboard(now, one) for one in asked]
        assert kept == [leaderboard(store, one) for one in asked]
    assert [leaderboard(now, one) for one in asked] == kept  # the store is closed


def test_the_best_of_several_variants_is_marked_and_corrected(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("rows.yaml").write_text(ROWS)
    (section,) = _json(capsys, "leaderboard", "--rows", "rows.yaml")["sections"]
    mipo = _cells(section)["Llama-3.2-1B-Instruct", "MIPO"]
    assert mipo["value"] == pytest.approx(100 * 22 / N_ITEMS)
    assert (mipo["best_of"]["k"], mipo["best_of"]["variant"]) == (2, "random")
    assert mipo["best_of"]["corrected"] < mipo["value"]
    assert main(["leaderboard", "--rows", "rows.yaml"]) == 0
    assert "best of 2 (random), corrected" in " ".join(capsys.readouterr().out.split())


def test_a_row_made_differently_is_marked_and_not_ranked(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["--model", f"openai:base@{served.model}", "--suite", "tea.jsonl", "--limit", "8"]
    _json(capsys, *argv, "--judge", served.judge)
    (section,) = _json(capsys, "leaderboard")["sections"]
    marked = [
        row["cells"]["tea"] for row in section["rows"] if row["cells"]["tea"]["signature_differs"]
    ]
    (cell,) = marked
    assert list(cell["signature_differs"]) == ["items"]
    assert (cell["rank"], cell["letters"]) == (None, "")
    assert main(["leaderboard"]) == 0
    assert "[1] made differently: items" in capsys.readouterr().out


def test_scores_without_their_items_are_shown_unranked(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    """As imported ones are: the store has the number, and none of the responses behind it."""
    with Store.open(str(served.path)) as store:
        (like,) = [r for r in list_runs(store) if r.run_id.startswith(served.id("mipo-seed0"))]
        (score,) = [
            s for s in get_scores(store, like.run_id) if s.metric == "win_rate_tie_inclusive"
        ]
        foreign = {"run_id": "f" * 32, "model": "foreign", "generation_key": "f" * 32}
        put_run(store, replace(like, **foreign, list_key="f" * 32))
        put_scores(store, "f" * 32, [replace(score, value=61.5, n=200)])
    (section,) = _json(capsys, "leaderboard")["sections"]
    cells = _cells(section)
    cell = cells["foreign", "Personalized prompting"]
    assert (cell["value"], cell["n"], cell["rank"], cell["letters"]) == (61.5, 200, None, "")
    assert cells["mipo", "Personalized prompting"]["rank"] == 1


def test_tables_fit_eighty_columns(
    served: Served, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    Path("rows.yaml").write_text(ROWS)
    for argv, said in (
        ([], "No method is shown to beat the same base model with personalized prompting;"),
        (["--rows", "rows.yaml"], "MIPO leads with 91.7 %: +8"),
    ):
        assert main(["leaderboard", *argv]) == 0
        shown = capsys.readouterr().out
        assert said in " ".join(shown.partition("\u2500")[0].split()), "above the table"
        assert "Personalized" in shown
        table = [
            line
            for line in shown.splitlines()
            if not line.startswith(("B", "missing:", "tied", "["))
        ]
        assert max(map(len, table)) <= 80


def test_rows_files_name_runs_and_say_what_is_wrong(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rows.yaml"
    file.write_text(ROWS)
    rules = read_rows(file)
    with Store.open(str(served.path), mode="read") as store:
        named = {run.model: row_name(run, rules) for run in list_runs(store)}
    (sft,) = [found for name, found in named.items() if "sft-seed1" in name]
    assert (sft[0].model, sft[0].method, sft[1]) == ("Llama-3.2-1B-Instruct", "SFT", (1, 0))
    for text, message in (("- {model: x}", "says which runs neither"), ("- {nam: x}", "nam")):
        file.write_text(text)
        assert main(["leaderboard", "--rows", str(file)]) == 2
        assert message in capsys.readouterr().err
    assert main(["leaderboard", "--rows", "missing.yaml"]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_an_empty_store_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    with Store.open("empty.db"):
        pass
    assert main(["leaderboard", "--store", "empty.db"]) == 0
    assert "No scores to rank yet" in capsys.readouterr().out
    assert _json(capsys, "leaderboard", "--store", "empty.db") == {"sections": []}
