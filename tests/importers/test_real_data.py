"""Imports of real files give the numbers that were published for them."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from mipo_eval.importers import RunRecord, read_path, store_runs
from mipo_eval.importers.base import item_verdicts
from mipo_eval.records import Score
from mipo_eval.reports.exported_run import ExportedRun, load_run
from mipo_eval.store import Store
from mipo_eval.store.runs import list_runs
from mipo_eval.store.tables import choices
from mipo_eval.verdict import Choice, PairVerdict


def _truth(path: Path) -> Any:
    return json.loads((path / "GROUND_TRUTH.json").read_text())


def _import(path: Path) -> list[ExportedRun]:
    """Import a path and return what the store then holds of it."""
    reading = read_path(path)
    assert reading.taken == reading.rows > 0
    with Store.open("imported.db") as store:
        store_runs(store, reading.runs)
        return [load_run(store, run) for run in list_runs(store)]


def _counted(said: Iterable[PairVerdict | None]) -> tuple[int, int, int]:
    """Return wins, losses and ties."""
    credits = [one.credit for one in said if one and one.credit is not None]
    over, under = (sum(c > 0.5 for c in credits), sum(c < 0.5 for c in credits))
    return over, under, len(credits) - over - under


def _verdicts(record: ExportedRun, judge: str) -> list[PairVerdict | None]:
    key = _key(record, judge)
    return [made.verdicts.get(key) for made in record.items]


def _key(record: ExportedRun, judge: str) -> str:
    (key,) = (key for key, name in record.judges.items() if name == judge)
    return key


def _choices(judge: str | None = None) -> list[Choice]:
    """Return what was stored of the import, by one judge or by all."""
    with Store.open("imported.db", mode="read") as store:
        (run,) = list_runs(store)
        with store.read() as connection:
            made = [Choice(**row._mapping) for row in connection.execute(sa.select(choices))]
    assert run.n_items
    return [choice for choice in made if judge in {None, choice.judge_key}]


def _scores(
    record: ExportedRun | RunRecord, metric: str, judge: str | None = None
) -> dict[str, Score]:
    """Return scores by task."""
    return {
        score.task: score
        for score in record.scores
        if score.metric == metric and judge in {None, score.judge}
    }


@pytest.mark.parametrize(
    ("name", "annotator"),
    [
        ("weighted_gpt4_turbo", "weighted_alpaca_eval_gpt4_turbo"),
        ("alpaca_eval_gpt4", "alpaca_eval_gpt4"),
    ],
)
def test_alpaca_eval_published_numbers_of_every_model(
    shared_data: Path, name: str, annotator: str
) -> None:
    folder = shared_data / "alpaca_eval"
    truth = _truth(folder)[annotator]
    records = _import(folder / f"slim_{name}.jsonl")
    assert {record.model for record in records} == truth.keys()
    for record in records:
        published = truth[record.model]["published"]
        (judge,) = record.judges.values()
        counted = _counted(_verdicts(record, judge))
        names = ("n_wins", "n_wins_base", "n_draws")
        assert counted == tuple(published[name] for name in names)
        assert sum(counted) == published["n_total"]
        stored = {s.metric: s.value for s in record.scores}
        assert stored["win_rate"] == pytest.approx(published["win_rate"], abs=1e-6)
        error = stored["win_rate_standard_error"]
        assert error == pytest.approx(published["standard_error"], abs=1e-6)
        discrete = published["discrete_win_rate"]
        assert stored["win_rate_half_ties"] == pytest.approx(discrete, abs=1e-6)
        assert record.scores[0].signature.parts["source"] == "alpaca_eval"


def test_alpaca_eval_annotations_with_texts(shared_data: Path) -> None:
    folder = shared_data / "alpaca_eval"
    (record,) = _import(folder / "weighted_gpt4_turbo")
    published = _truth(folder)["weighted_alpaca_eval_gpt4_turbo"][record.model]["published"]
    stored = {s.metric: s.value for s in record.scores}
    assert stored["win_rate"] == pytest.approx(published["win_rate"], abs=1e-6)
    error = stored["win_rate_standard_error"]
    assert error == pytest.approx(published["standard_error"], abs=1e-6)
    assert all(made.text and made.item.reference for made in record.items)


def test_mt_bench_means_of_every_model_and_turn(shared_data: Path) -> None:
    folder = shared_data / "mt_bench"
    records = _import(folder / "single_llama2_finetunes.jsonl")
    truth = _truth(folder)["single_llama2_finetunes"]
    for record in records:
        means = {task: s.value for task, s in _scores(record, "grade_mean").items()}
        assert means == {
            "turn 1": pytest.approx(truth["turn1"][record.model], abs=1e-9),
            "turn 2": pytest.approx(truth["turn2"][record.model], abs=1e-9),
            "average": pytest.approx(truth["average"][record.model], abs=1e-9),
        }
    assert {r.model for r in records} == truth["average"].keys()
    assert len({r.scores[0].signature.parts["items"] for r in records}) == 1


def test_arena_hard_intervals_come_from_the_stored_replicates(shared_data: Path) -> None:
    path = shared_data / "arena_hard" / "bootstrap_stats_arena_hard.jsonl"
    published = [json.loads(line) for line in path.read_text().splitlines()]
    records = {record.model: record.scores[0] for record in _import(path)}
    assert len(records) == len(published) > 20
    for row in published:
        score = records[row["model"]]
        assert score.value == row["score"]
        assert score.ci95 == pytest.approx((row["lower"], row["upper"]), abs=1e-6)


def test_arena_hard_leaderboard(shared_data: Path) -> None:
    records = _import(shared_data / "arena_hard" / "arena_hard_leaderboard_20240731.csv")
    scores = {record.model: record.scores[0] for record in records}
    assert len(scores) == 60
    assert scores["gpt-4-turbo-2024-04-09"].value == 82.63
    assert scores["gpt-4-turbo-2024-04-09"].ci95 == (80.75, 84.6)


def test_judgebench_accuracy_and_counts(shared_data: Path) -> None:
    folder = shared_data / "judgebench"
    (record,) = _import(folder)
    (truth,) = _truth(folder).values()
    judge = "arena_hard/claude-3-haiku-20240307"
    overall = truth["overall"]
    toward = _scores(record, "judge_accuracy_sum", judge)["pairs"]
    assert toward.value == pytest.approx(overall["accuracy"])
    both = _scores(record, "judge_accuracy_both", judge)["pairs"]
    assert (both.value or 0) * both.n / 100 == pytest.approx(overall["both_orders_correct"])
    said = [choice.winner for choice in _choices(_key(record, judge))]
    assert said.count(None) == truth["decisions"]["None"]
    assert said.count("tie") == truth["decisions"]["A=B"]
    labels = truth["labels"]
    # One pair is of equal texts, which are a tie whatever its label says.
    counted = _counted(_verdicts(record, "judgebench label"))
    assert counted == (labels["A>B"], labels["B>A"] - 1, 1)


def test_llmbar_accuracies_of_every_judge(shared_data: Path) -> None:
    folder = shared_data / "llmbar"
    truth = _truth(folder)
    reading = read_path(folder)
    assert len(reading.runs) == sum("/evaluators/" in name for name in truth)
    for record in reading.runs:
        judge = record.judges[0].name
        expected = truth[f"LLMBar/{record.suite.removeprefix('llmbar/')}/evaluators/{judge}"]
        both, average = (
            _scores(record, f"judge_accuracy_{rule}", judge)["pairs"]
            for rule in ("both", "average")
        )
        assert both.n == expected["n"]
        assert both.value == pytest.approx(100 * expected["acc_both"])
        assert average.value == pytest.approx(100 * expected["acc_average"])
        said = item_verdicts(record.entries, record.choices, record.judges[0])
        wins, losses, _ = _counted(said)
        merged = expected["swap_merged"]
        assert (wins, losses) == (merged["output_1_wins"], merged["output_2_wins"])
        # A pair with an unreadable reply has no outcome here; there it was counted as a tie.
        assert len(said) - wins - losses == merged["ties"]


def test_llmbar_judges_of_one_set_share_a_run(shared_data: Path) -> None:
    records = _import(shared_data / "llmbar" / "LLMBar" / "Natural")
    (record,) = records
    assert len(record.items) == 100
    assert len(record.judges) == 11  # ten judges and the label
    assert len(_choices()) == 100 * (2 * 10 + 1)


def test_pandalm_accuracy_and_votes(shared_data: Path) -> None:
    folder = shared_data / "pandalm"
    (record,) = _import(folder)
    truth = _truth(folder)
    (accuracy,) = _scores(record, "judge_accuracy", "pandalm-7b").values()
    assert accuracy.n == truth["n"]
    assert accuracy.value == pytest.approx(100 * truth["pandalm-7b"]["accuracy"])
    assert len(_choices()) == 4 * 999
    assert set(record.judges.values()) == {
        "pandalm-7b",
        *(f"pandalm annotator{n}" for n in (1, 2, 3)),
    }
