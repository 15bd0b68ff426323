"""Files in the shape of other tools' on which the importers were wrong, with the right value.

They stand in tests/cases/imports.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mipo_eval.cli import main
from mipo_eval.importers import read_path, store_runs
from mipo_eval.importers.earlier import others_of_the_name
from mipo_eval.reports.exported_run import ExportedRun, load_run
from mipo_eval.store import Store
from mipo_eval.store.check import check
from mipo_eval.store.runs import list_runs

CASES = Path(__file__).parents[1] / "cases" / "imports"


def stored(*names: str) -> dict[str, ExportedRun]:
    """Import files one after the other and return each one's run, by file, as the store has it."""
    with Store.open("cases.db") as store:
        made = {name: store_runs(store, read_path(CASES / name).runs) for name in names}
        runs = {run.run_id: run for run in list_runs(store)}
        assert not [f for f in check(store) if f.broken and f.found]
        assert {run_id for of_file in made.values() for run_id in of_file} == runs.keys()
        return {name: load_run(store, runs[run_id]) for name, (run_id,) in made.items()}


def value(run: ExportedRun, metric: str, **about: Any) -> tuple[float | None, int | None]:
    """Return a number of a run and over how many items it is."""
    (found,) = {
        (score.value, score.n)
        for score in run.scores
        if score.metric == metric
        and all(getattr(score, name) == wanted for name, wanted in about.items())
    }
    return found


def grades(run: ExportedRun) -> list[float | None]:
    return [grade.value for made in run.items for grade in made.grades.values()]


def test_two_adapters_on_one_base_are_two_runs() -> None:
    a, b = stored("lm_eval_peft_a.json", "lm_eval_peft_b.json").values()
    assert (a.model, b.model) == ("org/m+out/sft", "org/m+out/mipo")
    for task in ("g", "x"):  # a group says over how many samples it is
        assert value(a, "acc", task=task) == (0.5, 12)
        assert value(b, "acc", task=task) == (0.9, 12)


def test_one_model_judged_on_two_sets_of_answers_is_two_runs() -> None:
    names = ("mt_bench_en.jsonl", "mt_bench_ko.jsonl")
    for order in (names, names[::-1], (*names, names[0])):
        found = stored(*order)
        for name, grade in zip(names, (9.0, 2.0), strict=True):
            assert value(found[name], "grade_mean") == (grade, 3)
            assert grades(found[name]) == [grade] * 3


def test_a_log_that_was_scored_again_keeps_scores_and_grades_together() -> None:
    first, again = stored("inspect_scored_1.json", "inspect_rescored_2.json").values()
    for run, grade in ((first, 1.0), (again, 0.0)):
        assert value(run, "grade_mean") == (grade, 2)
        assert grades(run) == [grade] * 2


def test_a_second_import_that_differs_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    def told(name: str) -> list[str]:
        assert main(["import", str(CASES / name), "--json"]) == 0
        lines: list[str] = json.loads(capsys.readouterr().out)["others_of_the_name"]
        return lines

    assert told("mt_bench_en.jsonl") == []
    (line,) = told("mt_bench_ko.jsonl")
    assert line.startswith("m on mt_bench: run ")
    assert "it differs in date" in line
    assert told("mt_bench_ko.jsonl") == []  # it is there already
    assert told("inspect_scored_1.json") == []
    assert "differs in answers, or what was said of them" in told("inspect_rescored_2.json")[0]


def test_two_models_on_the_same_items_are_ranked_and_compared(
    capsys: pytest.CaptureFixture[str],
) -> None:
    ids = []
    for name in ("alpaca_m1.json", "alpaca_m2.json"):
        assert main(["import", str(CASES / name), "--json"]) == 0
        ids.append(json.loads(capsys.readouterr().out)["runs"][0]["run_id"])
    assert main(["leaderboard", "--json"]) == 0
    board = json.loads(capsys.readouterr().out)
    assert {"m1", "m2"} <= set(_texts(board))
    assert main(["compare", *ids, "--json"]) == 0
    assert '"n": 8' in capsys.readouterr().out


def _texts(value: Any) -> Sequence[str]:
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return [text for one in inner for text in _texts(one)]
    return [str(value)]


def test_lm_eval_0_3_gives_its_scores_over_nobody_knows_how_many() -> None:
    (run,) = stored("lm_eval_v03_no_scores.json").values()
    assert run.model == "org/m@step1"
    assert value(run, "acc") == (0.31, None)


def test_n_that_is_not_told_is_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    (run,) = stored("lm_eval_v040_results_no_n.json").values()
    assert value(run, "exact_match") == (0.5, None)
    assert main(["show", run.run_id, "--store", "cases.db", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["scores"][0]["n"] is None
    assert main(["show", run.run_id, "--store", "cases.db"]) == 0
    assert "?" in capsys.readouterr().out
    for wanted in ("csv", "json", "md", "latex", "html", "parquet", "lm_eval"):
        path = f"results_2026-01-01T00-00-00.{'json' if wanted == 'lm_eval' else wanted}"
        command = ["export", run.run_id, "--format", wanted, "-o", path, "--store", "cases.db"]
        assert main(command) == 0, wanted
    assert main(["leaderboard", "--metric", "exact_match", "--store", "cases.db"]) == 0
    assert "?" in capsys.readouterr().out


@pytest.mark.parametrize(
    "name",
    [
        "lm_eval_v042_samples.jsonl",
        "lm_eval_v043_samples_sum_2024-07-03T10-28-06.857461.jsonl",
    ],
)
def test_samples_that_do_not_name_their_metrics_give_scores(name: str) -> None:
    (run,) = stored(name).values()
    assert value(run, "exact_match") == (0.5, 2)
    assert grades(run) == [1.0, 0.0]
    assert [made.text for made in run.items] == [" 4", " 6"]
    assert [made.item.prompt for made in run.items] == ["Q: 2+2?\nA:", "Q: 2+3?\nA:"]


def test_inspect_counts_words_as_it_does_itself() -> None:
    (run,) = stored("inspect_yes_no.json").values()
    mean, n = value(run, "grade_mean")
    assert (mean, n) == (pytest.approx(0.8), 5)


def test_several_metrics_in_one_value_are_each_a_score() -> None:
    (run,) = stored("inspect_dict_value.json").values()
    assert value(run, "grade_mean", judge="s/tone") == (1.0, 2)
    assert value(run, "grade_mean", judge="s/facts") == (0.5, 2)


def test_a_cancelled_log_says_what_was_not_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", str(CASES / "inspect_cancelled.json")]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "3 of 100 rows imported" in told
    assert "Left out: 97 x a sample that was not run (the evaluation is cancelled)" in told
    (run,) = read_path(CASES / "inspect_cancelled.json").runs
    means = [score for score in run.scores if score.metric == "grade_mean"]
    assert [(score.n, score.unscored) for score in means] == [(3, 97)]


def test_attachments_are_put_in_their_places() -> None:
    (run,) = stored("inspect_attachment.json").values()
    ((prompt, text),) = [(made.item.prompt, made.text) for made in run.items]
    assert (prompt, text) == ("the long question", "final")


def test_a_number_of_thousands_of_digits_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", str(CASES / "huge_integer.json")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("huge_integer.json: holds a number of too many digits to be read")
    assert not Path("store.db").exists()


def test_every_case_in_one_store_is_a_run_of_its_own() -> None:
    names = sorted(file.name for file in CASES.iterdir() if file.name != "huge_integer.json")
    with Store.open("all.db") as store:
        ids = [
            run_id for name in names for run_id in store_runs(store, read_path(CASES / name).runs)
        ]
        assert len(set(ids)) == len(names) == len(list_runs(store))
        assert [store_runs(store, read_path(CASES / name).runs) for name in names]
        assert len(list_runs(store)) == len(names)
        assert others_of_the_name(store, read_path(CASES / "alpaca_m1.json").runs) == []
