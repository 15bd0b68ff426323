"""Multiple choice: accuracy with the paper beside it, entropy and calibration by question."""

import math

import pandas as pd
import pytest

from mipo_eval.dashboards.plots import calibration_plot, entropy_plot
from mipo_eval.dashboards.tables.answers import (
    accuracy_table,
    calibration_table,
    entropy_counts,
    entropy_table,
    question_table,
    runs_by_likelihood,
)
from mipo_eval.evaluation.score import Snapshot
from mipo_eval.metrics import answer_entropy
from mipo_eval.store import Store
from mipo_eval.store.responses import answered
from mipo_eval.store.runs import list_runs


def questions(*rows: tuple[bool, float, float]) -> pd.DataFrame:
    """(correct, confidence, entropy) of questions with four choices."""
    frame = pd.DataFrame(list(rows), columns=["correct", "confidence", "entropy"])
    return frame.assign(choices=4)


def test_accuracies_stand_above_the_paper_s(rich: Store) -> None:
    table = accuracy_table(Snapshot(rich))
    assert list(table["source"])[:2] == ["measured", "measured"]
    assert set(table["source"][2:]) == {"paper"}
    assert set(table["task"]) == {"arc_easy"}
    known = table[(table["model"] == "Llama-3.2-1B-Instruct") & (table["method"] == "Base")]
    assert list(known["value"]) == [44.0]
    assert known["run_id"].isna().all()


def test_entropies_say_over_which_questions(rich: Store) -> None:
    table = entropy_table(Snapshot(rich))
    assert sorted(table["questions"]) == sorted(["all questions", "when right", "when wrong"] * 2)
    assert table["value"].between(0, math.log(4)).all()


def test_questions_are_those_of_the_responses(rich: Store) -> None:
    run = runs_by_likelihood(Snapshot(rich))[0]
    table = question_table(rich, run).set_index("item_key")
    entries = list(answered(rich, run.list_key, run.generation_key))
    assert len(table) == len(entries) == 80
    for entry in entries[:5]:
        assert entry.response is not None
        line = table.loc[entry.item.key]
        right = entry.response.text == entry.item.reference
        assert bool(line["correct"]) is right
        assert line["entropy"] == pytest.approx(
            answer_entropy(entry.response.choice_logprobs or ())
        )
    accuracy = accuracy_table(Snapshot(rich)).set_index("run_id").loc[run.run_id, "value"]
    assert 100 * table["correct"].mean() == pytest.approx(accuracy)


def test_runs_that_wrote_have_no_probabilities(rich: Store) -> None:
    written = next(run for run in list_runs(rich) if run.suite == "tea")
    assert question_table(rich, written).empty
    assert written not in runs_by_likelihood(Snapshot(rich))


def test_bins_of_confidence_are_closed_above_and_never_empty() -> None:
    table = calibration_table(
        questions((True, 0.5, 1), (False, 0.5, 1), (True, 1.0, 0), (True, 0.51, 1)), bins=2
    )
    assert list(table["bin"]) == [0, 1]
    assert list(table["questions"]) == [2, 2]
    assert list(table["accuracy"]) == [0.5, 1.0]
    assert list(table["confidence"]) == [0.5, pytest.approx(0.755)]
    # Wilson, 1 of 2 and 2 of 2.
    assert list(table["low"]) == [pytest.approx(0.0945, abs=1e-3), pytest.approx(0.3424, abs=1e-3)]
    assert calibration_table(questions()).empty


def test_shares_of_entropies_add_up_apart_for_right_and_wrong() -> None:
    table = entropy_counts(questions((True, 1.0, 0.0), (True, 0.9, 0.4), (False, 0.3, math.log(4))))
    assert dict(table.groupby("answer")["share"].sum()) == {"right": 1.0, "wrong": 1.0}
    assert dict(table.groupby("answer")["questions"].sum()) == {"right": 2, "wrong": 1}
    wrong = table[(table["answer"] == "wrong") & (table["questions"] > 0)]
    assert wrong["end"].iloc[0] == pytest.approx(math.log(4))
    assert entropy_counts(questions()).empty


def test_plots_name_their_units(rich: Store) -> None:
    table = question_table(rich, runs_by_likelihood(Snapshot(rich))[0])
    calibration = calibration_plot(calibration_table(table).assign(row="run")).to_dict()
    assert calibration["layer"][0]["encoding"]["x"]["title"] == "confidence (0-1)"
    entropy = entropy_plot(entropy_counts(table).assign(row="run")).to_dict()
    assert entropy["encoding"]["x"]["title"] == "answer entropy (nats)"
