"""Paired comparisons of stored runs, with what differs in how their numbers were made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mipo_eval.errors import ConfigError, DataError
from mipo_eval.metrics.rates import METRIC_NAMES, Ties
from mipo_eval.records import Score
from mipo_eval.reports.catalog import judges_of, run_labels
from mipo_eval.reports.outcomes import DERIVED, JUDGED, Sheet, outcome_sheets
from mipo_eval.signature import NOTHING, Signature, join, short
from mipo_eval.stats import Comparison, compare_all
from mipo_eval.stats.significance import Adjust
from mipo_eval.store import Store
from mipo_eval.store.judges import StoredJudge, find_judge, list_judges
from mipo_eval.store.runs import Run, find_run, get_scores
from mipo_eval.store.validations import failing_judges

Parts = Mapping[str, tuple[str | None, str | None]]
"""Part of a signature to its two values."""

_SUBJECT = {"seed", "prompting"}
"""Parts in which two runs may differ on purpose: what is compared, not how it is measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One run in a comparison."""

    run: Run
    label: str
    value: float | None
    """Mean over the run's own items; None without a single value."""
    n: int
    unscored: Mapping[str, int]
    tie_rate: float | None
    signature: Signature | None
    """Of the stored score; None when the run has none yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskComparison:
    """All comparisons of one task."""

    task: str
    metric: str
    judge: str | None
    judge_failings: tuple[str, ...]
    """Why the judge failed its validation, if it did."""
    sides: tuple[Side, ...]
    comparisons: tuple[Comparison, ...]
    """Named by the sides' labels; the correction is over these."""
    made_differently: Mapping[tuple[str, str], Parts]
    """Pair of labels to the signature parts in which they differ, other than what is compared."""
    chosen_differently: Mapping[tuple[str, str], Parts]
    """The same for prompting and seed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be compared, and how."""

    metric: str | None = None
    """Default: the win rate where a judge has rated, accuracy elsewhere."""
    judge: str | None = None
    ties: Ties = "win"
    baseline: str | None = None
    """Beginning of a run's id; None compares all pairs."""
    correction: Adjust = "holm"
    seed: int = 0


def compare_runs(store: Store, names: Sequence[str], wanted: Wanted) -> list[TaskComparison]:
    """Compare stored runs on their common items, task by task.

    Args:
        store: where the runs are.
        names: beginnings of run ids.
        wanted: metric, judge, rule for ties, baseline, correction.

    Raises:
        ConfigError: a run, judge or metric is unknown, or the runs are of different suites.
        DataError: two runs have no item in common.
    """
    chosen = {run.run_id: run for run in (find_run(store, name) for name in names)}
    base = find_run(store, wanted.baseline) if wanted.baseline else None
    if base:
        chosen |= {base.run_id: base}
    runs = list(chosen.values())
    if len(runs) < 2:
        raise ConfigError("a comparison needs two different runs: `mipo-eval runs` lists them")
    _same_suite(runs)
    scores = {run.run_id: get_scores(store, run.run_id) for run in runs}
    metric = _metric(wanted, scores)
    judge = _judge(store, wanted.judge, scores) if metric in JUDGED else None
    labels = run_labels(runs)
    sheets = outcome_sheets(store, runs, metric, judge.key if judge else None)
    shared = [sheet for sheet in sheets if len(sheet.runs) > 1]
    if not shared:
        raise DataError("these runs have no task in common: nothing to pair")
    failings = failing_judges(store).get(judge.key, ()) if judge else ()
    found = [
        _task(sheet, wanted, labels, scores, (judge, labels[base.run_id] if base else None))
        for sheet in shared
    ]
    return [replace(task, judge_failings=failings) for task in found]


def _same_suite(runs: Sequence[Run]) -> None:
    suites = {run.suite: run.run_id[:8] for run in runs}
    if len(suites) > 1:
        shown = ", ".join(f"{run} is of {suite}" for suite, run in suites.items())
        raise ConfigError(f"runs of different suites cannot be paired (suite: {shown})")


def _metric(wanted: Wanted, scores: Mapping[str, Sequence[Score]]) -> str:
    if wanted.metric == "win_rate":
        return METRIC_NAMES[wanted.ties]
    if wanted.metric is not None:
        return wanted.metric
    found = {score.metric for own in scores.values() for score in own}
    if METRIC_NAMES["win"] in found or wanted.judge:
        return METRIC_NAMES[wanted.ties]
    if "accuracy" in found:
        return "accuracy"
    if "rating_mean" in found:
        return "rating_mean"
    raise ConfigError(
        "these runs have neither a judged score nor an accuracy: judge them first, or name a "
        "metric with --metric (response_tokens, truncation_rate)"
    )


def _judge(store: Store, name: str | None, scores: Mapping[str, Sequence[Score]]) -> StoredJudge:
    if name is not None:
        return find_judge(store, name)
    common = set.intersection(*(judges_of(own) for own in scores.values()))
    if len(common) == 1:
        return find_judge(store, common.pop())
    known = {short(judge.key): judge.label for judge in list_judges(store)}
    if common:
        which = ", ".join(known[key] for key in sorted(common))
        raise ConfigError(f"several judges rated these runs: {which}; choose one with --judge")
    by = "; ".join(
        f"{run_id[:8]} by {', '.join(known[key] for key in sorted(judges_of(own))) or 'none'}"
        for run_id, own in scores.items()
    )
    raise ConfigError(f"no judge rated all of these runs (judge: {by}): judge them alike first")


def _task(
    sheet: Sheet,
    wanted: Wanted,
    labels: Mapping[str, str],
    scores: Mapping[str, Sequence[Score]],
    by: tuple[StoredJudge | None, str | None],
) -> TaskComparison:
    judge, baseline = by
    names = [labels[run.run_id] for run in sheet.runs]
    found = compare_all(
        sheet.values,
        names,
        sheet.groups,
        baseline=baseline if baseline in names else None,
        method=wanted.correction,
        seed=wanted.seed,
    )
    sides = tuple(_sides(sheet, names, scores, judge))
    signatures = {side.label: side.signature for side in sides}
    made: dict[tuple[str, str], Parts] = {}
    chosen: dict[tuple[str, str], Parts] = {}
    for comparison in found:
        pair = (comparison.first, comparison.second)
        apart = _apart(signatures[pair[0]], signatures[pair[1]])
        if measured := {name: both for name, both in apart.items() if name not in _SUBJECT}:
            made[pair] = measured
        if subject := {name: both for name, both in apart.items() if name in _SUBJECT}:
            chosen[pair] = subject
    return TaskComparison(
        task=sheet.task,
        metric=sheet.metric,
        judge=judge.label if judge else None,
        judge_failings=(),
        sides=sides,
        comparisons=tuple(found),
        made_differently=made,
        chosen_differently=chosen,
    )


def _apart(first: Signature | None, second: Signature | None) -> Parts:
    if first is None or second is None:
        return {}
    return first.differences(second)


def _sides(
    sheet: Sheet,
    names: Sequence[str],
    scores: Mapping[str, Sequence[Score]],
    judge: StoredJudge | None,
) -> list[Side]:
    import numpy as np

    sides = []
    for column, (run, label) in enumerate(zip(sheet.runs, names, strict=True)):
        own = sheet.values[:, column]
        n = int((~np.isnan(own)).sum())
        sides.append(
            Side(
                run=run,
                label=label,
                value=float(np.nanmean(own)) if n else None,
                n=n,
                unscored=sheet.unscored[column],
                tie_rate=sheet.ties[column],
                signature=_signature(scores[run.run_id], sheet, judge),
            )
        )
    return sides


def _signature(
    scores: Sequence[Score], sheet: Sheet, judge: StoredJudge | None
) -> Signature | None:
    wanted = short(judge.key) if judge else None
    # What is made from verdicts when asked for is not stored: the win rate was made like it.
    metric = METRIC_NAMES["win"] if sheet.metric in DERIVED else sheet.metric
    for score in scores:
        if (score.task, score.name, score.judge_key) == (sheet.task, metric, wanted):
            derived = sheet.metric in DERIVED
            ties = join(ties=DERIVED[sheet.metric]) if derived else NOTHING
            return score.signature.followed_by(ties)
    return None


def comparison_json(found: TaskComparison) -> dict[str, Any]:
    """Return a task's comparisons as `--json` shows them."""
    return {
        "task": found.task,
        "metric": found.metric,
        "judge": found.judge,
        "judge_failings": list(found.judge_failings),
        "runs": [
            {
                "run_id": side.run.run_id,
                "label": side.label,
                "model": side.run.model,
                "value": side.value,
                "n": side.n,
                "unscored_reasons": dict(side.unscored),
                "tie_rate": side.tie_rate,
                "signature": side.signature,
            }
            for side in found.sides
        ],
        "comparisons": [
            {
                "first": pair.first,
                "second": pair.second,
                "difference": pair.difference,
                "ci95": list(pair.ci95) if pair.ci95 else None,
                "n": pair.n,
                "only_first": pair.only_first,
                "only_second": pair.only_second,
                "wins": pair.wins,
                "ties": pair.ties,
                "losses": pair.losses,
                "p_sign": pair.p_sign,
                "p_permutation": pair.p_permutation,
                "p_adjusted": pair.p_adjusted,
                "significant": pair.significant(),
                "effect_size": pair.effect_size,
                "detectable": pair.detectable,
                "below_resolution": pair.below_resolution,
                "signatures_differ": _parts(found.made_differently, pair),
                "chosen_differently": _parts(found.chosen_differently, pair),
            }
            for pair in found.comparisons
        ],
    }


def _parts(found: Mapping[tuple[str, str], Parts], pair: Comparison) -> dict[str, list[str | None]]:
    parts = found.get((pair.first, pair.second), {})
    return {name: list(both) for name, both in parts.items()}
