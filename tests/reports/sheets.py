"""What a sheet of values has to agree with."""

from collections.abc import Sequence

import pytest

from mipo_eval.evaluation.outcomes import Outcomes
from mipo_eval.records import Run
from mipo_eval.store import Store
from mipo_eval.store.runs import get_scores


def assert_like_stored(store: Store, runs: Sequence[Run], metric: str, judge_key: str) -> None:
    """Assert that the values of a sheet have the means and counts of every run's stored score."""
    (sheet,) = Outcomes(store).sheets(list(runs), metric, judge_key)
    assert len(sheet.runs) == len(runs)
    for column, run in enumerate(sheet.runs):
        (score,) = [score for score in get_scores(store, run.run_id) if score.metric == metric]
        own = sheet.values[:, column]
        known = own[own == own]  # noqa: PLR0124 - NaN is not equal to itself
        assert len(known) == score.n
        assert sum(known) / len(known) == pytest.approx(score.value)
        assert dict(sheet.unscored[column]) == dict(score.unscored_reasons)
