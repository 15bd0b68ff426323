"""A judged run of a checkpoint that was trained here, with its learning curve."""

from dataclasses import replace
from pathlib import Path

import pytest

from mipo_eval.store import Store
from mipo_eval.store.runs import get_scores, put_run, put_scores
from mipo_eval.store.trainings import CurvePoint, put_curve, put_training
from tests.reports.stores import Served
from tests.reports.test_trained import training

RUN = "5eed" * 8
CURVE = [CurvePoint("loss", step, 1 / (step + 1)) for step in (0, 10, 20)]


@pytest.fixture
def trained(served: Served) -> Served:
    """The store, whose run `RUN` is that of the checkpoint in `out`."""
    made = training("out")
    Path("out").mkdir()
    with Store.open(str(served.path)) as store:
        run = served.runs["mipo-seed0", "personalized"]
        put_run(store, replace(run, run_id=RUN, model=made.checkpoint or ""))
        put_scores(store, RUN, get_scores(store, run.run_id))
        put_training(store, made)
        put_curve(store, made.training_id, CURVE)
    return served
