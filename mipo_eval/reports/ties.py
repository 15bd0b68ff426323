"""Tie groups of runs that are shown side by side: which of them no comparison tells apart."""

from collections.abc import Mapping, Sequence

import numpy as np

from mipo_eval.errors import DataError
from mipo_eval.evaluation.outcomes import JUDGED, METRICS, Sheet
from mipo_eval.metrics.aggregate import direction
from mipo_eval.reports.snapshot import Snapshot
from mipo_eval.signature import short
from mipo_eval.stats import rank_runs
from mipo_eval.store.runs import Run

Named = tuple[str, str, str]
"""Task, metric and signature of a score."""


def tie_letters(now: Snapshot, runs: Sequence[Run]) -> Mapping[str, Mapping[Named, str]]:
    """Return, by run id and score, the letters a run shares with those it is not told apart from.

    Only scores by the same rules are compared, item by item; a metric without values per item,
    one that ranks nothing, and imported numbers without their items have no letters.
    """
    by_id = {run.run_id: run for run in runs}
    judges = {short(judge.key): judge.key for judge in now.judges}
    rows: dict[tuple[str, str, str, str | None, str], dict[str, str]] = {}
    for run, score in now.scores:
        if run.run_id in by_id and score.metric in METRICS and direction(score.metric):
            judge = judges.get(score.judge_key or "")
            key = (run.suite, score.task, score.metric, judge, score.signature.rule)
            rows.setdefault(key, {})[run.run_id] = score.signature
    letters: dict[str, dict[Named, str]] = {run_id: {} for run_id in by_id}
    for (_, task, metric, judge, _), signatures in rows.items():
        if len(signatures) < 2 or (metric in JUDGED and judge is None):
            continue
        sheets = now.outcomes.sheets([by_id[run_id] for run_id in signatures], metric, judge)
        sheet = next((sheet for sheet in sheets if sheet.task == task), None)
        for run_id, own in _letters_of(sheet).items():
            letters[run_id][task, metric, signatures[run_id]] = own
    return letters


def _letters_of(sheet: Sheet | None) -> dict[str, str]:
    if sheet is None:
        return {}
    known = np.flatnonzero(~np.isnan(sheet.values).all(axis=0)).tolist()
    if len(known) < 2:
        return {}
    sign = -1 if direction(sheet.metric) == "lower" else 1
    names = [sheet.runs[column].run_id for column in known]
    try:
        ranked = rank_runs(sign * sheet.values[:, known], names, sheet.groups)
    except DataError:  # two of them have no scored item in common
        return {}
    return {rank.name: rank.letters for rank in ranked}
