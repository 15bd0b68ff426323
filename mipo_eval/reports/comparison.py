"""Paired comparisons of stored runs, with what differs in how their numbers were made.

How strong the methods of a store are head to head: Bradley-Terry, from one judge's verdicts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from mipo_eval.errors import ConfigError, DataError
from mipo_eval.evaluation.outcomes import DERIVED, JUDGED, Sheet, outcome_sheets
from mipo_eval.evaluation.score import Snapshot
from mipo_eval.metrics.win_rate import METRIC_NAMES, Ties
from mipo_eval.records import Score
from mipo_eval.reports.leaderboard import LeaderboardQuery
from mipo_eval.reports.names import RowName, judges_of, row_name, run_labels, trained_rules
from mipo_eval.signature import NOTHING, Signature, join, short
from mipo_eval.stats import (
    Comparison,
    Game,
    LengthControlled,
    Strength,
    bradley_terry,
    compare_all,
    length_controlled,
)
from mipo_eval.stats.bootstrap import Floats
from mipo_eval.stats.paired import Adjust
from mipo_eval.store import Store
from mipo_eval.store.judges import StoredJudge, find_judge, list_judges
from mipo_eval.store.responses import paired_texts
from mipo_eval.store.runs import Run, find_run, get_scores, list_runs
from mipo_eval.store.validations import failing_judges
from mipo_eval.store.verdicts import pair_verdicts
from mipo_eval.verdict import CREDIT

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


class EqualLength(NamedTuple):
    """A comparison as it would be if both runs' responses were equally long."""

    found: LengthControlled
    """Of the first run against the second; a tie is half a win."""
    unit: str
    """Of the lengths: tokens, or characters where a response's tokens are not known."""

    @property
    def difference(self) -> float:
        """Difference of the values, in points."""
        return 2 * self.found.rate - 100

    @property
    def ci95(self) -> tuple[float, float] | None:
        """Interval of the difference."""
        interval = self.found.ci95
        return interval and (2 * interval[0] - 100, 2 * interval[1] - 100)


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
    at_equal_length: tuple[EqualLength, ...] = ()
    """One per comparison where length is to be controlled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonQuery:
    """What is to be compared, and how."""

    metric: str | None = None
    """Default: the win rate where a judge has rated, accuracy elsewhere."""
    judge: str | None = None
    ties: Ties = "win"
    baseline: str | None = None
    """Beginning of a run's id; None compares all pairs."""
    correction: Adjust = "holm"
    control_length: bool = False
    """Whether to add what every difference would be between equally long responses."""
    seed: int = 0


def compare_runs(
    store: Store, names: Sequence[str], wanted: ComparisonQuery
) -> list[TaskComparison]:
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
    if wanted.control_length:
        equal = _at_equal_length((store, runs), shared, found, wanted.seed)
        found = [replace(task, at_equal_length=of) for task, of in zip(found, equal, strict=True)]
    return [replace(task, judge_failings=failings) for task in found]


def _same_suite(runs: Sequence[Run]) -> None:
    suites = {run.suite: run.run_id[:8] for run in runs}
    if len(suites) > 1:
        shown = ", ".join(f"{run} is of {suite}" for suite, run in suites.items())
        raise ConfigError(f"runs of different suites cannot be paired (suite: {shown})")


def _metric(wanted: ComparisonQuery, scores: Mapping[str, Sequence[Score]]) -> str:
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
    wanted: ComparisonQuery,
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


def _at_equal_length(
    of: tuple[Store, Sequence[Run]],
    sheets: Sequence[Sheet],
    tasks: Sequence[TaskComparison],
    seed: int,
) -> list[tuple[EqualLength, ...]]:
    """Return every comparison of every task at equal length.

    Raises:
        ConfigError: the metric's items do not lie between losing (0) and winning (100).
    """
    metric = sheets[0].metric
    if metric not in {*METRIC_NAMES.values(), "accuracy"}:
        raise ConfigError(
            f"length is controlled in win rates and accuracies, not in {metric}: name another "
            "--metric, or leave --control-length out"
        )
    lengths = {
        unit: {sheet.task: sheet.values for sheet in outcome_sheets(*of, f"response_{unit}")}
        for unit in ("tokens", "characters")
    }
    return [
        tuple(
            _equal(
                sheet, task, pair, {unit: own[sheet.task] for unit, own in lengths.items()}, seed
            )
            for pair in task.comparisons
        )
        for sheet, task in zip(sheets, tasks, strict=True)
    ]


def _equal(
    sheet: Sheet,
    task: TaskComparison,
    pair: Comparison,
    lengths: Mapping[str, Floats],
    seed: int,
) -> EqualLength:
    names = [side.label for side in task.sides]
    both = [names.index(pair.first), names.index(pair.second)]
    differences = sheet.values[:, both[0]] - sheet.values[:, both[1]]
    common = ~np.isnan(differences)
    # Tokens and characters must not be mixed: one response without tokens, and all are measured
    # in characters.
    unit = "characters" if np.isnan(lengths["tokens"][common][:, both]).any() else "tokens"
    own, rival = lengths[unit][:, both].T
    # From -100 to 100 points to 0 to 1, so that a predicted rate is a predicted difference.
    outcomes = (differences + 100) / 200
    return EqualLength(length_controlled(outcomes, own, rival, sheet.groups, seed=seed), unit)


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
                "at_equal_length": _equal_json(found.at_equal_length[place])
                if found.at_equal_length
                else None,
            }
            for place, pair in enumerate(found.comparisons)
        ],
    }


def _equal_json(equal: EqualLength) -> dict[str, Any]:
    found = equal.found
    return {
        "difference": equal.difference,
        "ci95": list(equal.ci95) if equal.ci95 else None,
        "raw_difference": 2 * found.raw_rate - 100,
        "win_rate": found.rate,
        "raw_win_rate": found.raw_rate,
        "unit": equal.unit,
        "mean_length_difference": found.mean_difference,
        "share_longer": found.share_longer,
        "length_effect": found.length_effect,
        "extrapolated": found.extrapolated,
        "n": found.n,
        "unscored": found.unscored,
    }


def _parts(found: Mapping[tuple[str, str], Parts], pair: Comparison) -> dict[str, list[str | None]]:
    parts = found.get((pair.first, pair.second), {})
    return {name: list(both) for name, both in parts.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteStrengths:
    """The methods of one suite, as one judge or person sees them against each other."""

    suite: str
    judge: str
    games: int
    strengths: tuple[Strength, ...]
    """Strongest first; empty where there are none."""
    reason: str | None
    """Why there are none."""


def suite_strengths(now: Snapshot, asked: LeaderboardQuery) -> list[SuiteStrengths]:
    """Return the strengths of every suite's methods, for every judge with verdicts between them.

    Args:
        now: the store's state.
        asked: which suite and judge, and what runs are called; seeds of a method play for it.

    Raises:
        ConfigError: no such judge.
    """
    judges = [find_judge(now.store, asked.judge)] if asked.judge else now.judges
    rules = (*asked.rules, *trained_rules(now.trainings))
    suites: dict[str, list[tuple[str, Run]]] = {}
    for run in list_runs(now.store):
        if asked.suite in {None, run.suite}:
            suites.setdefault(run.suite, []).append((_method_label(row_name(run, rules)[0]), run))
    found = []
    for suite, named in suites.items():
        games = _games(now, named, judges)
        found += [_fitted(suite, judge, games[judge.key]) for judge in judges if games[judge.key]]
    return found


def _method_label(name: RowName) -> str:
    return f"{name.model} {name.method}" + (f" ({name.variant})" if name.variant else "")


def _games(
    now: Snapshot, named: Sequence[tuple[str, Run]], judges: Sequence[StoredJudge]
) -> dict[str, list[Game]]:
    """Return by judge what every two runs of different methods come to, item by item."""
    games: dict[str, list[Game]] = {judge.key: [] for judge in judges}
    for (first, run), (second, other) in combinations(named, 2):
        if first == second:
            continue
        pairs = {row.pair: row.group for row in paired_texts(now.store, run, other) if row.pair}
        for key, own in games.items():
            said = pair_verdicts(now.store, key, list(pairs))
            if not any(one.winner and not one.identical for one in said):
                continue  # equal responses are ties to everybody, judged or not
            own += [
                Game(first, second, CREDIT[one.winner], group)
                for one, group in zip(said, pairs.values(), strict=True)
                if one.winner is not None
            ]
    return games


def _fitted(suite: str, judge: StoredJudge, games: Sequence[Game]) -> SuiteStrengths:
    strengths: tuple[Strength, ...] = ()
    reason = None
    try:
        strengths = tuple(bradley_terry(games))
    except DataError as error:
        reason = str(error)
    return SuiteStrengths(
        suite=suite, judge=judge.label, games=len(games), strengths=strengths, reason=reason
    )


def strengths_json(found: SuiteStrengths) -> dict[str, Any]:
    """Return a suite's strengths as `--json` shows them."""
    return {
        "suite": found.suite,
        "judge": found.judge,
        "games": found.games,
        "reason": found.reason,
        "methods": [
            {
                "name": one.name,
                "elo": one.elo,
                "elo_ci95": list(one.elo_ci95),
                "log_odds": one.strength,
                "error": one.error,
                "games": one.games,
            }
            for one in found.strengths
        ],
    }
