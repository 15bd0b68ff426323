"""Trainings with their curves, and validations of judges, survive storing and merging."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from mipo_eval.store import Store
from mipo_eval.store.check import vacuum
from mipo_eval.store.judges import Validation, failing_judges, list_validations, put_validation
from mipo_eval.store.merge import merge
from mipo_eval.store.trainings import (
    CurvePoint,
    Training,
    get_curve,
    list_trainings,
    put_curve,
    put_training,
    rounds_up_to,
)

TRAINING = Training(
    training_id="a1" * 16,
    method="mipo",
    model="demo",
    suite="demo",
    seed=3,
    checkpoint=None,
    recipe={"beta": 0.1},
    pair_report=None,
    environment={},
    status="running",
    reason=None,
    created_at=datetime(2026, 11, 1, tzinfo=UTC),
    updated_at=datetime(2026, 11, 1, tzinfo=UTC),
)
DONE = replace(
    TRAINING, status="done", checkpoint="out", updated_at=datetime(2026, 11, 2, tzinfo=UTC)
)
VALIDATION = Validation(
    judge_key="b2" * 16,
    data="llmbar",
    data_key="c3" * 16,
    figures={"strict": 51.0},
    failings=("no better than choosing the longer response",),
    created_at=datetime(2026, 11, 1, tzinfo=UTC),
)


def test_a_training_goes_on_under_its_id() -> None:
    with Store.open("sqlite:///one.db") as store:
        put_training(store, TRAINING)
        put_training(store, DONE)
        (found,) = list_trainings(store)
        assert (found.status, found.checkpoint) == ("done", "out")
        assert found.recipe == {"beta": 0.1}


def test_a_step_that_is_measured_again_replaces_the_earlier_one() -> None:
    with Store.open("sqlite:///one.db") as store:
        put_training(store, TRAINING)
        put_curve(store, TRAINING.training_id, [CurvePoint("loss", 2, 0.7)])
        put_curve(store, TRAINING.training_id, [CurvePoint("loss", 2, 0.6)])
        put_curve(store, TRAINING.training_id, [CurvePoint("loss", 1, 0.9)])
        assert get_curve(store, TRAINING.training_id) == [("loss", 1, 0.9), ("loss", 2, 0.6)]


def test_rounds_are_found_by_their_parents() -> None:
    def later(number: int) -> Training:
        recipe = {"rounds": {"number": number, "reference": "last"}}
        parent = TRAINING.training_id if number == 2 else f"round {number - 1}"
        return replace(TRAINING, training_id=f"round {number}", recipe=recipe, parent=parent)

    with Store.open("sqlite:///one.db") as store:
        for one in (TRAINING, later(2), later(3)):
            put_training(store, one)
        known = {one.round: one for one in list_trainings(store)}
    assert rounds_up_to(known[3], known.values()) == [known[1], known[2], known[3]]
    assert rounds_up_to(known[3], [known[2]]) == [known[2], known[3]], "as far as they are known"


def test_validations_say_which_judges_fail_and_why() -> None:
    with Store.open("sqlite:///one.db") as store:
        put_validation(store, VALIDATION)
        put_validation(store, replace(VALIDATION, data="prism", data_key="d4" * 16, failings=()))
        assert failing_judges(store) == {
            VALIDATION.judge_key: ("llmbar: no better than choosing the longer response",)
        }
        put_validation(store, replace(VALIDATION, failings=()))
        assert failing_judges(store) == {}


def test_merging_keeps_what_is_newer(tmp_path: Path) -> None:
    with Store.open("sqlite:///one.db") as one, Store.open("sqlite:///two.db") as two:
        for store, training in ((one, TRAINING), (two, DONE)):
            put_training(store, training)
            put_curve(store, training.training_id, [CurvePoint("loss", 1, 0.5)])
            put_validation(store, VALIDATION)
        merge(one, two)
        assert list_trainings(one)[0].status == "done"
        merge(two, one)
        assert list_trainings(two)[0].status == "done"
        assert len(list_validations(one)) == 1


def test_curves_without_a_training_are_dropped() -> None:
    with Store.open("sqlite:///one.db") as store:
        put_curve(store, "ee" * 16, [CurvePoint("loss", 1, 0.5)])
        assert vacuum(store)["curves"] == 1
