"""The leaderboard's rows: which runs are behind each, and what the filters leave of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from mipo_eval.evaluation.outcomes import DERIVED
from mipo_eval.evaluation.score import Snapshot
from mipo_eval.keys import digest
from mipo_eval.metrics.win_rate import METRIC_NAMES
from mipo_eval.reports.leaderboard import LeaderboardQuery, Row, Section, leaderboard
from mipo_eval.reports.names import RowName, RowRule, column_signature, row_name, trained_rules
from mipo_eval.signature import Signature, short
from mipo_eval.store.judges import StoredJudge
from mipo_eval.store.runs import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """One suite under one judge, of which there is a leaderboard."""

    suite: str
    judge: StoredJudge | None
    """None for numbers without a judge."""
    metrics: tuple[str, ...]
    """Those that are stored, in order of first appearance; controls left out."""


def topics(now: Snapshot) -> list[Topic]:
    """Return what leaderboards a store has, the suite of the latest run first."""
    judges = {short(judge.key): judge for judge in now.judges}
    found: dict[tuple[str, str | None], dict[str, None]] = {}
    latest: dict[str, str] = {}
    for run, score in now.scores:
        by = score.judge_key
        latest[run.suite] = max(latest.get(run.suite, ""), run.created_at.isoformat())
        found.setdefault((run.suite, by), {})[score.metric] = None
    made = [
        Topic(suite=suite, judge=judges.get(by) if by else None, metrics=tuple(metrics))
        for (suite, by), metrics in found.items()
        if by is None or by in judges
    ]
    return sorted(made, key=lambda t: (latest[t.suite], t.judge is not None), reverse=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a leaderboard is asked to show."""

    suite: str
    judge: str | None
    """Key of the judge; None for numbers without a judge."""
    metric: str
    """As it is stored, or one of `outcomes.DERIVED`."""
    apart: bool = False
    """A row per variant of a method."""
    ranked: bool = True
    """With ranks and tie groups."""
    rules: tuple[RowRule, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A row of a leaderboard with the runs it is made of."""

    row: Row
    runs: Mapping[str, tuple[Run, ...]]
    """Task to runs, one a seed."""
    signatures: Mapping[str, Signature]
    """Task to what its cell was made with, less prompting and seed."""

    @property
    def label(self) -> str:
        """Model, method and variant in a line."""
        name = self.row.name
        variant = f" ({name.variant})" if name.variant else ""
        return f"{name.model} \u00b7 {name.method}{variant}"

    @property
    def all_runs(self) -> tuple[Run, ...]:
        """Each run once."""
        return tuple({run.run_id: run for runs in self.runs.values() for run in runs}.values())


def labels(methods: Sequence[Method]) -> list[str]:
    """Return each row's label; rows of one name, which were made differently, get a mark."""
    names = [method.label for method in methods]
    return [
        name
        if names.count(name) == 1
        else f"{name} [{short(digest(sorted(method.signatures.items())))}]"
        for name, method in zip(names, methods, strict=True)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A leaderboard with the runs behind its rows."""

    section: Section
    methods: tuple[Method, ...]


def standing(now: Snapshot, view: View) -> Standing | None:
    """Return the leaderboard of a view; None where there is no such number."""
    asked = LeaderboardQuery(
        suite=view.suite,
        judge=view.judge,
        metric=view.metric,
        rules=view.rules,
        variants_apart=view.apart,
        ranked=view.ranked,
    )
    wanted = next((j.label for j in now.judges if j.key == view.judge), None)
    for section in leaderboard(now, asked):
        if section.judge == wanted:
            return Standing(section=section, methods=tuple(_methods(now, section, view)))
    return None


def _methods(now: Snapshot, section: Section, view: View) -> list[Method]:
    behind = _runs_by_cell(now, section, view)
    found = []
    for row in section.rows:
        runs, made = {}, {}
        for task, cell in row.cells.items():
            own = dict(section.signatures[task].parts)
            own |= {part: value for part, (_, value) in cell.differs.items() if value is not None}
            for part, (_, value) in cell.differs.items():
                if value is None:
                    own.pop(part, None)
            variant = cell.best_of.name if cell.best_of else row.name.variant
            name = RowName(model=row.name.model, method=row.name.method, variant=variant or None)
            made[task] = Signature(own)
            runs[task] = tuple(behind.get((name, task, _comparable(made[task])), {}).values())
        found.append(Method(row=row, runs=runs, signatures=made))
    return found


_Behind = dict[tuple[RowName, str, str], dict[tuple[int, int], Run]]


def _runs_by_cell(now: Snapshot, section: Section, view: View) -> _Behind:
    """Return, by name, task and signature, the latest run of each seed."""
    rules = (*view.rules, *trained_rules(now.trainings))
    stored = METRIC_NAMES["win"] if section.metric in DERIVED else section.metric
    by = short(view.judge) if view.judge else None
    found: _Behind = {}
    for run, score in now.scores:
        same = (run.suite, score.metric) == (section.suite, stored)
        if same and score.judge_key == by:
            name, seeds = row_name(run, rules)
            signature = _comparable(column_signature(score.signature))
            found.setdefault((name, score.task, signature), {})[seeds] = run
    return found


def _comparable(signature: Signature) -> str:
    """Return a signature less the rule for ties, which is a choice of the reader."""
    return signature.less("ties")


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which rows to keep; an empty filter keeps all."""

    models: Sequence[str] = ()
    promptings: Sequence[str] = ()
    since: date | None = None
    """Rows with a run made on this day or later."""
    signature: Signature | None = None
    """Rows with a cell of this signature, as `Method.signatures` has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facets:
    """What can be filtered for."""

    models: tuple[str, ...] = ()
    promptings: tuple[str, ...] = ()
    signatures: tuple[Signature, ...] = field(default=())
    """Most frequent first."""


def signatures(methods: Sequence[Method]) -> set[Signature]:
    """Return how the numbers of these rows were made."""
    return {made for method in methods for made in method.signatures.values()}


def facets(found: Standing) -> Facets:
    """Return what the rows of a leaderboard differ in."""
    counts: dict[Signature, int] = {}
    for method in found.methods:
        for signature in method.signatures.values():
            counts[signature] = counts.get(signature, 0) + 1
    promptings = {run.prompting for method in found.methods for run in method.all_runs}
    return Facets(
        models=tuple(sorted({method.row.name.model for method in found.methods})),
        promptings=tuple(sorted(promptings - {""})),
        signatures=tuple(sorted(counts, key=lambda s: -counts[s])),
    )


def filtered(methods: Sequence[Method], filters: Filters) -> list[Method]:
    """Return the rows that all filters keep, in their order."""
    return [method for method in methods if _kept(method, filters)]


def _kept(method: Method, filters: Filters) -> bool:
    runs = method.all_runs
    made = (run.created_at.date() for run in runs)
    return (
        (not filters.models or method.row.name.model in filters.models)
        and (not filters.promptings or any(r.prompting in filters.promptings for r in runs))
        and (filters.since is None or any(day >= filters.since for day in made))
        and (filters.signature is None or filters.signature in method.signatures.values())
    )
