"""Stored runs against each other, item by item: differences, margins, and at equal length."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mipo_eval.errors import ConfigError, DataError
from mipo_eval.evaluation.graded import GRADE_MEAN, NO_FILTER, grader, of_filter
from mipo_eval.evaluation.outcomes import DERIVED, ENDS, JUDGED, METRICS, Outcomes
from mipo_eval.evaluation.sheets import Sheet
from mipo_eval.metrics.win_rate import METRIC_NAMES, Ties
from mipo_eval.records import Run, Score
from mipo_eval.reports.equal_length import (
    EqualLength,
    Lengths,
    equal_json,
    equal_length,
    row_lengths,
)
from mipo_eval.reports.margins import margin_json
from mipo_eval.reports.names import run_labels, stored_rules
from mipo_eval.signature import NOTHING, Signature, join, short
from mipo_eval.stats.margin import Within, within
from mipo_eval.stats.paired import Adjust, Comparison, compare_all
from mipo_eval.stats.sequence import at_any_time, crossing_note
from mipo_eval.store.engine import Store
from mipo_eval.store.judges import StoredJudge, failing_judges, find_judge, list_judges
from mipo_eval.store.runs import find_run, get_scores

_SUBJECT = {"seed", "prompting"}
"""Parts in which two runs may differ on purpose: what is compared, not how it is measured."""

Pairs = Mapping[tuple[str, str], Mapping[str, tuple[str | None, str | None]]]
"""Two sides' labels to the signature parts in which they differ, each with both values."""


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
    made_differently: Pairs
    """Where two sides differ in other things than what is compared; only pairs that do."""
    chosen_differently: Pairs
    """The same for prompting and seed."""
    at_equal_length: tuple[EqualLength, ...] = ()
    """One per comparison where length is to be controlled."""
    margins: tuple[Within | None, ...] = ()
    """One per comparison where a margin was given; None where nothing can be told."""
    growing: bool = False
    """Whether intervals and p-values hold over all looks at growing runs."""
    crossing: str | None = None
    """What is then taken for granted, because prompts and users cross."""
    left_out: tuple[str, ...] = ()
    """Runs without a single value, such as those that the judge never rated; with the reasons."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonQuery:
    """What is to be compared, and how."""

    metric: str | None = None
    """Default: the win rate where a judge has rated, accuracy elsewhere, and what another tool
    scored where the runs were imported."""
    judge: str | None = None
    ties: Ties = "win"
    baseline: str | None = None
    """Beginning of a run's id; None compares all pairs."""
    correction: Adjust = "max-t"
    control_length: bool = False
    """Whether to add what every difference would be between equally long responses."""
    margin: float | None = None
    """What would be no difference, in units of the metric."""
    growing: bool = False
    """Whether the runs are looked at again and again while they grow."""


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
    runs, base = _runs(store, names, wanted.baseline)
    scores = {run.run_id: get_scores(store, run.run_id) for run in runs}
    outcomes = Outcomes(store)
    metric, judge = _what(store, scores, outcomes.specs, wanted)
    labels = run_labels(runs, stored_rules(store))
    shared, left_out = _sheets(outcomes, runs, metric, judge)
    if base and base.run_id in left_out:
        raise ConfigError(f"the baseline {labels[base.run_id]} has no {metric}: name another")
    runs = [run for run in runs if run.run_id not in left_out]
    failings = failing_judges(store).get(judge.key, ()) if judge else ()
    _check_growing(wanted, metric)
    lengths = row_lengths(outcomes, runs, metric) if wanted.control_length else {}
    found = []
    for sheet in shared:
        names = [labels[run.run_id] for run in sheet.runs]
        pairs = compare_all(
            sheet.values,
            names,
            sheet.groups,
            baseline=labels[base.run_id] if base and base in sheet.runs else None,
            method=wanted.correction,
            span=ENDS.get(metric),
        )
        if wanted.growing:
            pairs = _while_growing(pairs, sheet, names, ENDS[metric])
        sides = _sides(sheet, names, scores, judge, outcomes.specs)
        made, subject = _differences(pairs, {side.label: side.signature for side in sides})
        found.append(
            TaskComparison(
                task=sheet.task,
                metric=metric,
                judge=_called(judge, metric),
                judge_failings=failings,
                sides=sides,
                comparisons=tuple(pairs),
                made_differently=made,
                chosen_differently=subject,
                at_equal_length=_at_equal_lengths(sheet, names, pairs, lengths),
                margins=_margins(pairs, wanted.margin),
                growing=wanted.growing,
                crossing=crossing_note(sheet.groups) if wanted.growing else None,
                left_out=tuple(f"{labels[run]}: {why}" for run, why in left_out.items()),
            )
        )
    return found


def _called(judge: StoredJudge | None, metric: str) -> str | None:
    """Return what a judge is called beside a metric; lm-eval's is the metric's own."""
    plain = of_filter(metric, NO_FILTER)
    return None if judge is None or judge.name == plain else judge.label


def _sheets(
    outcomes: Outcomes, runs: Sequence[Run], metric: str, judge: StoredJudge | None
) -> tuple[list[Sheet], dict[str, str]]:
    """Return the tasks of several runs; and those left out, by id, with the reasons.

    That is who has no value on any task, as long as two others have.

    Raises:
        DataError: no task is left that two have.
    """
    by = judge.key if judge else None
    sheets = outcomes.sheets(runs, metric, by)
    without: dict[str, str] = {}
    for run in runs:
        own = [(sheet, sheet.runs.index(run)) for sheet in sheets if run in sheet.runs]
        if not any(sheet.n(column) for sheet, column in own):
            reasons = dict.fromkeys(why for sheet, column in own for why in sheet.unscored[column])
            without[run.run_id] = ", ".join(reasons) or "none of its tasks"
    if len(without) > len(runs) - 2:
        without = {}
    if without:
        kept = [run for run in runs if run.run_id not in without]
        sheets = outcomes.sheets(kept, metric, by)
    shared = [sheet for sheet in sheets if len(sheet.runs) > 1]
    if not shared:
        raise DataError("these runs have no task in common, so they cannot be compared")
    return shared, without


def _margins(pairs: Sequence[Comparison], margin: float | None) -> tuple[Within | None, ...]:
    """Return how differences stand to a margin; nothing where none is given."""
    return () if margin is None else tuple(within([pair.evidence for pair in pairs], margin))


def _at_equal_lengths(
    sheet: Sheet, names: Sequence[str], pairs: Sequence[Comparison], lengths: Lengths
) -> tuple[EqualLength, ...]:
    """Return every comparison at equal length; nothing where length is not to be controlled."""
    columns = [[names.index(pair.first), names.index(pair.second)] for pair in pairs]
    return tuple(_at_equal_length(sheet, own, lengths) for own in columns) if lengths else ()


def _check_growing(wanted: ComparisonQuery, metric: str) -> None:
    """Refuse what has no interval that holds over several looks.

    Raises:
        ConfigError: values of the metric have no ends, or length is to be controlled.
    """
    if wanted.growing and metric not in ENDS:
        raise ConfigError(
            f"--growing needs a metric with a smallest and a largest value, and {metric} has "
            "none: leave --growing out, or choose another --metric"
        )
    if wanted.growing and wanted.control_length:
        raise ConfigError("--growing cannot be used with --control-length: leave one of them out")


def _while_growing(
    pairs: Sequence[Comparison], sheet: Sheet, names: Sequence[str], ends: tuple[float, float]
) -> list[Comparison]:
    """Return comparisons of a sheet that hold over all looks at it while it grows."""
    first, second = ([names.index(getattr(p, side)) for p in pairs] for side in ("first", "second"))
    differences = sheet.values[:, first] - sheet.values[:, second]
    return at_any_time(pairs, differences, sheet.groups, ends[1] - ends[0])


def _runs(store: Store, names: Sequence[str], baseline: str | None) -> tuple[list[Run], Run | None]:
    """Return the runs to be compared, each once, and the baseline among them."""
    chosen = {run.run_id: run for run in (find_run(store, name) for name in names)}
    base = find_run(store, baseline) if baseline else None
    if base:
        chosen |= {base.run_id: base}
    runs = list(chosen.values())
    if len(runs) < 2:
        raise ConfigError("a comparison needs two different runs: `mipo-eval runs` lists them")
    suites = {run.suite: run.run_id[:8] for run in runs}
    if len(suites) > 1:
        shown = ", ".join(f"{run} is of {suite}" for suite, run in suites.items())
        raise ConfigError(f"runs of different suites cannot be compared (suite: {shown})")
    return runs, base


def _what(
    store: Store,
    scores: Mapping[str, Sequence[Score]],
    judges: Mapping[str, Mapping[str, Any]],
    wanted: ComparisonQuery,
) -> tuple[str, StoredJudge | None]:
    """Return the metric to compare, and the judge whose ratings or grades it is made of."""
    graders = _graders(judges, scores, wanted)
    metric = _metric(wanted, scores, graders)
    if metric in JUDGED:
        return metric, _judge(store, wanted.judge, scores)
    return metric, find_judge(store, graders[metric]) if metric in graders else None


def _graders(
    judges: Mapping[str, Mapping[str, Any]],
    scores: Mapping[str, Sequence[Score]],
    wanted: ComparisonQuery,
) -> dict[str, str]:
    """Return, by metric, the judge whose grades another tool's numbers are made of.

    Of several (filters of lm-eval, scorers of Inspect) the first, or the one that is wanted.
    """
    found: dict[str, str] = {}
    for score in (score for own in scores.values() for score in own):
        key = grader(score.metric, score.signature, judges)
        if key and wanted.judge in {None, judges[key].get("name"), key, short(key)}:
            found.setdefault(score.metric, key)
    return found


def _metric(
    wanted: ComparisonQuery, scores: Mapping[str, Sequence[Score]], graders: Mapping[str, str]
) -> str:
    found = {score.metric for own in scores.values() for score in own}
    if wanted.metric not in {None, "win_rate"}:
        if wanted.metric not in {*METRICS, *graders}:
            known = ", ".join(dict.fromkeys([*graders, *(m for m in METRICS if m in found)]))
            raise ConfigError(
                f"{wanted.metric!r} has no value for each item of these runs; "
                f"{known or 'response_tokens'} can be compared"
            )
        return str(wanted.metric)
    if METRIC_NAMES["win"] in found or wanted.metric or (wanted.judge and not graders):
        return METRIC_NAMES[wanted.ties]
    foreign = any("source" in s.signature.parts for own in scores.values() for s in own)
    own = ("satisfied", "rating_mean")
    for metric in ("accuracy", *((GRADE_MEAN, *graders) if foreign else own)):
        if metric in (graders if foreign else found):
            return metric
    if foreign:
        raise ConfigError(
            "these runs were imported without a value for each item, so they cannot be compared "
            "item by item: import the samples, too (lm-eval writes them with --log_samples)"
        )
    raise ConfigError(
        "these runs have no win rate and no accuracy: judge them first, or choose another "
        "metric, such as --metric response_tokens"
    )


def _judge(store: Store, name: str | None, scores: Mapping[str, Sequence[Score]]) -> StoredJudge:
    rated = {
        run_id: {score.judge_key for score in own if score.judge_key}
        for run_id, own in scores.items()
    }
    times = Counter(key for keys in rated.values() for key in keys)
    if name is not None:
        return find_judge(store, name, times)
    # A run that nobody rated is left out by name; it must not keep the others from comparison.
    most = [key for key, n in times.items() if n == max(times.values()) > 1]
    if len(most) == 1:
        return find_judge(store, most[0])
    known = {short(judge.key): judge.label for judge in list_judges(store)}
    if most:
        which = ", ".join(known[key] for key in sorted(most))
        raise ConfigError(f"several judges rated these runs: {which}; choose one with --judge")
    by = "; ".join(
        f"{run_id[:8]} by {', '.join(known[key] for key in sorted(keys)) or 'none'}"
        for run_id, keys in rated.items()
    )
    raise ConfigError(
        f"no judge rated two of these runs (judge: {by}): judge them with the same judge first"
    )


def _differences(
    pairs: Sequence[Comparison], signatures: Mapping[str, Signature | None]
) -> tuple[Pairs, Pairs]:
    """Return in which parts the two of each pair differ: of how they are measured, and of what."""
    made, chosen = {}, {}
    for pair in pairs:
        first, second = signatures[pair.first], signatures[pair.second]
        if first is None or second is None:
            continue
        apart = first.differences(second)
        key = (pair.first, pair.second)
        if measured := {name: both for name, both in apart.items() if name not in _SUBJECT}:
            made[key] = measured
        if subject := {name: both for name, both in apart.items() if name in _SUBJECT}:
            chosen[key] = subject
    return made, chosen


def _sides(
    sheet: Sheet,
    names: Sequence[str],
    scores: Mapping[str, Sequence[Score]],
    judge: StoredJudge | None,
    specs: Mapping[str, Mapping[str, Any]],
) -> tuple[Side, ...]:
    def is_by(score: Score) -> bool:
        if sheet.metric in JUDGED:
            return judge is not None and score.judge_key == short(judge.key)
        return grader(score.metric, score.signature, specs) == (judge.key if judge else None)

    # What is made from verdicts when asked for is not stored: the win rate was made like it.
    stored = METRIC_NAMES["win"] if sheet.metric in DERIVED else sheet.metric
    ties = join(ties=DERIVED[sheet.metric]) if sheet.metric in DERIVED else NOTHING
    return tuple(
        Side(
            run=run,
            label=label,
            value=sheet.mean(column),
            n=sheet.n(column),
            unscored=sheet.unscored[column],
            tie_rate=sheet.ties[column],
            signature=next(
                (
                    score.signature.followed_by(ties)
                    for score in scores[run.run_id]
                    if (score.task, score.name) == (sheet.task, stored) and is_by(score)
                ),
                None,
            ),
        )
        for column, (run, label) in enumerate(zip(sheet.runs, names, strict=True))
    )


def _at_equal_length(sheet: Sheet, both: list[int], lengths: Lengths) -> EqualLength:
    """Return how two columns of a sheet compare at equal length."""
    own = {unit: table[:, both] for (unit, task), table in lengths.items() if task == sheet.task}
    return equal_length(sheet.values[:, both], own, sheet.groups)


def comparison_json(found: TaskComparison) -> dict[str, Any]:
    """Return a task's comparisons as `--json` shows them."""
    return {
        "task": found.task,
        "metric": found.metric,
        "judge": found.judge,
        "judge_failings": found.judge_failings,
        "interval": "confidence sequence" if found.growing else "fixed n",
        "left_out": found.left_out,
        "runs": [
            {
                "run_id": side.run.run_id,
                "label": side.label,
                "model": side.run.model,
                "value": side.value,
                "n": side.n,
                "unscored_reasons": side.unscored,
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
                "ci95": pair.ci95,
                "n": pair.n,
                "only_first": pair.only_first,
                "only_second": pair.only_second,
                "wins": pair.wins,
                "ties": pair.ties,
                "losses": pair.losses,
                "p_sign": pair.p_sign,
                "p_permutation": pair.p,
                "p_adjusted": pair.p_adjusted,
                "significant": pair.significant(),
                "effect_size": pair.effect_size,
                "detectable_difference": pair.detectable,
                "margin": margin_json(found.margins[place], found.metric)
                if found.margins
                else None,
                "signatures_differ": found.made_differently.get((pair.first, pair.second), {}),
                "chosen_differently": found.chosen_differently.get((pair.first, pair.second), {}),
                "at_equal_length": equal_json(found.at_equal_length[place])
                if found.at_equal_length
                else None,
            }
            for place, pair in enumerate(found.comparisons)
        ],
    }
