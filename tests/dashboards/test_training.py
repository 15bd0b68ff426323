"""Learning curves, ablations and pair reports as tables."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from mipo_eval.dashboards.tables.training import (
    axis_title,
    count_table,
    curve_metrics,
    curve_table,
    flat_table,
    negatives_table,
    training_label,
    training_table,
)
from mipo_eval.evaluation.score import Snapshot
from mipo_eval.reports.names import method_label, recipe_value, stored_rules, trained_rules
from mipo_eval.store import Store
from mipo_eval.store.engine import now
from mipo_eval.store.trainings import (
    CurvePoint,
    Training,
    get_curve,
    list_trainings,
    put_curve,
    put_training,
    touch_training,
)


@pytest.fixture
def missing(rich: Store) -> Training:
    return next(one for one in list_trainings(rich) if one.method == "mipo-missing")


def test_a_training_is_a_line_with_its_last_values(rich: Store, missing: Training) -> None:
    measured = [CurvePoint("margin_learned", 9, 0.04), CurvePoint("margin_saved", 9, 0.039)]
    put_curve(rich, missing.training_id, measured)
    (line,) = training_table(rich, [missing]).to_dict("records")
    assert (line["margin learned"], line["margin saved"]) == (0.04, 0.039)
    curve = [point for point in get_curve(rich, missing.training_id) if point.metric == "loss"]
    assert line["loss"] == curve[-1].value
    assert (line["method"], line["negatives"], line["N"]) == ("MIPO", "missing", 1)
    assert (line["learning rate"], line["beta"], line["minutes"]) == (1e-7, 0.1, 60.0)
    assert training_label(missing) == f"MIPO, missing, base, seed 0 ({missing.training_id[:6]})"


def test_a_training_that_fell_silent_is_not_called_running(rich: Store, missing: Training) -> None:
    put_training(rich, replace(missing, status="running", reason=None, updated_at=now()))
    assert _status(rich, missing) == ("running", None)
    put_training(rich, replace(missing, status="running", updated_at=now() - timedelta(hours=2)))
    assert _status(rich, missing)[0] == "stopped"
    assert "silent for more than an hour" in _status(rich, missing)[1]
    touch_training(rich, missing.training_id)
    assert _status(rich, missing) == ("running", None)


def _status(store: Store, training: Training) -> tuple[Any, Any]:
    (again,) = (t for t in list_trainings(store) if t.training_id == training.training_id)
    (line,) = training_table(store, [again]).to_dict("records")
    return line["status"], line["why"]


def test_curves_are_offered_in_a_fixed_order_and_unknown_ones_last(
    rich: Store, missing: Training
) -> None:
    put_curve(rich, missing.training_id, [CurvePoint("some_new_one", 1, 2.0)])
    assert curve_metrics(rich, [missing.training_id]) == [
        "ranking_accuracy",
        "loss",
        "kl",
        "tokens_per_second",
        "some_new_one",
    ]
    assert axis_title("some_new_one") == "some new one"
    assert curve_metrics(rich, []) == []


def test_a_smoothed_curve_is_the_exponential_mean_corrected_for_its_start(
    rich: Store, missing: Training
) -> None:
    put_curve(rich, missing.training_id, [CurvePoint("x", s, v) for s, v in ((1, 4), (2, 0))])
    table = curve_table(rich, [missing], "x", 0.5)
    assert list(table["value"]) == [4.0, 0.0]
    # 0.5 * 4 / 0.5, and (0.5 * 0.5 * 4 + 0.5 * 0) / 0.75.
    assert list(table["smooth"]) == [4.0, pytest.approx(4 / 3)]
    assert list(curve_table(rich, [missing], "x")["smooth"]) == [4.0, 0.0]
    assert curve_table(rich, [missing], "never measured").empty


def test_a_long_curve_is_averaged_over_stretches_and_keeps_its_mean(
    rich: Store, missing: Training
) -> None:
    put_curve(rich, missing.training_id, [CurvePoint("x", s, float(s)) for s in range(4000)])
    table = curve_table(rich, [missing], "x")
    assert len(table) == 400
    assert table["value"].mean() == pytest.approx(1999.5)
    assert list(table["value"][:2]) == [4.5, 14.5]


def test_ablations_join_checkpoints_with_their_runs_and_the_paper(rich: Store) -> None:
    table = negatives_table(Snapshot(rich))
    own = table[(table["source"] == "measured") & (table["task"] == "tea")]
    assert list(own["negatives"]) == ["missing", "random"]
    assert list(own["seed"]) == [0, 1]
    assert own["run_id"].notna().all()
    paper = table[table["source"] == "paper"]
    assert set(paper["task"]) == {"arc_easy"}, "only tasks that were measured here too"
    assert set(paper["negatives"]) == {"none", "random", "reshuffling"}
    assert set(count_table(Snapshot(rich))["count"]) == {1, 3, 5, 10}


def test_without_trainings_the_ablations_are_the_paper_s(rich: Store) -> None:
    with rich.write() as connection:
        connection.exec_driver_sql("delete from trainings")
    assert set(negatives_table(Snapshot(rich))["source"]) == {"paper"}
    assert len(negatives_table(Snapshot(rich))) == 96
    assert len(count_table(Snapshot(rich))) == 16


def test_runs_of_checkpoints_are_named_by_what_trained_them(rich: Store, missing: Training) -> None:
    several = replace(
        missing, training_id="x", checkpoint="out/[3]/", method="sft-solutions", recipe={}
    )
    put_training(rich, several)
    rules = {rule.name: rule for rule in stored_rules(rich)}
    assert rules["out/mipo-missing"].variant == "missing"
    assert rules["out/[[]3]"].method == "SFT (solutions)"
    assert rules["out/[[]3]"].variant is None
    assert not trained_rules([replace(missing, checkpoint=None)])
    assert method_label("something-new") == "something-new"
    assert recipe_value({"a": {"b": {"beta": 0.5}}}, "beta") == 0.5


def test_more_negatives_without_more_updates_are_marked(missing: Training) -> None:
    """As every training was before batches counted pairs."""
    three = {"pairs": {"negatives": "missing", "n_negatives": 3}}
    before = replace(missing, recipe=three)
    paired = replace(missing, recipe={**three, "settings": {"batch_of": "pairs"}})
    assert ", missing x 3, batches of prompts, " in training_label(before)
    assert ", missing x 3, " in training_label(paired)
    assert "batches" not in training_label(paired)


def test_a_report_of_any_depth_becomes_lines() -> None:
    report = {"pairs": 2, "length": {"chosen": 7.123456, "none": None}, "kinds": ["a", 1]}
    assert flat_table(report).values.tolist() == [
        ["pairs", "2"],
        ["length · chosen", "7.1235"],
        ["length · none", "-"],
        ["kinds", "a, 1"],
    ]
