"""What the Python API returns: small objects that show themselves as tables and plots."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mipo_eval import settings
from mipo_eval.compare.entrants import Entrant
from mipo_eval.compare.head_to_head import JudgedItem, Match
from mipo_eval.errors import ConfigError
from mipo_eval.judges.validate import Examination
from mipo_eval.records import Run, Score
from mipo_eval.reports.comparison import TaskComparison
from mipo_eval.reports.exported_run import ExportedItem, load_run
from mipo_eval.reports.labels import LABELS, decimals
from mipo_eval.reports.leaderboard import Section
from mipo_eval.reports.names import model_label
from mipo_eval.store.engine import Store
from mipo_eval.store.trainings import CurvePoint, Training

if TYPE_CHECKING:
    import altair
    import pandas

Interval = tuple[float, float] | None
AnyStore = Store | str | Path | None
"""An open store, or where one is; None: MIPO_EVAL_STORE or ./mipo-eval.db."""


@contextmanager
def opened(store: AnyStore, *, mode: Literal["write", "read"] = "write") -> Iterator[Store]:
    """Give an open store; one that was opened here is closed again."""
    if isinstance(store, Store):
        yield store
        return
    with Store.open(str(store or settings.store_url()), mode=mode) as found:
        yield found


def ends(interval: Interval) -> dict[str, float | None]:
    """Return an interval as the two columns of a table."""
    low, high = interval or (None, None)
    return {"low": low, "high": high}


class Table(ABC):
    """A result that is a table of numbers with their intervals."""

    @abstractmethod
    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield its lines: what a number is of, then `value`, `low`, `high` (95 %) and more."""

    def to_pandas(self) -> "pandas.DataFrame":
        """Return the table, a number a line; what is absent is NaN."""
        import pandas as pd

        return pd.DataFrame(list(self.rows()))

    def __repr__(self) -> str:
        """Return the table as a terminal shows it."""
        return str(self._read().to_string(index=False, na_rep=""))

    def _repr_html_(self) -> str:
        """Return the table as a notebook shows it."""
        html: str = self._read().to_html(index=False, escape=True, na_rep="")
        return html

    def _read(self) -> "pandas.DataFrame":
        """Return the table as people read it: a value and its interval in one cell."""
        import pandas as pd

        return pd.DataFrame([_shown(row) for row in self.rows()])

    def plot(self, metric: str | None = None) -> "altair.LayerChart":
        """Return the values of a metric with their intervals; None: of the first one.

        Raises:
            ConfigError: Altair is not installed, or there is no such metric.
        """
        frame = self.to_pandas()
        known = list(dict.fromkeys(frame["metric"])) if len(frame) else []
        metric = metric or str(next(iter(known), ""))
        if metric not in known:
            raise ConfigError(f"there is no metric {metric!r} here: {', '.join(known) or 'none'}")
        try:
            return self._drawn(frame[frame["metric"] == metric], metric)
        except ModuleNotFoundError as error:
            raise ConfigError(f"plots need {error.name}: pip install 'mipo-eval[board]'") from None

    def _drawn(self, frame: "pandas.DataFrame", metric: str) -> "altair.LayerChart":
        from mipo_eval.dashboards.markup import MEASURED
        from mipo_eval.dashboards.plots import interval_plot
        from mipo_eval.evaluation.outcomes import ENDS

        shown = frame.assign(source=MEASURED, row=_told_apart(frame))
        ends = ENDS.get(metric)
        return interval_plot(shown, axis=LABELS.get(metric, metric), colour="row", ends=ends)


def _told_apart(frame: "pandas.DataFrame") -> list[str]:
    """Name each line by what the lines differ in."""
    known = ("model", "first", "second", "method", "variant", "task", "judge")
    named = [name for name in known if name in frame]
    told = [name for name in named if frame[name].nunique(dropna=False) > 1] or named[:2]
    lines = frame[told].to_dict("records")
    return [" · ".join(part for part in line.values() if isinstance(part, str)) for line in lines]


def _called(entrant: Entrant) -> str:
    """Name an entrant; of a run that was given by its id, say whose it is."""
    run = entrant.run
    if run is None or not run.run_id.startswith(entrant.name):
        return entrant.name
    return f"{run.run_id[:8]} {model_label(run.model)}"


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a line with its value and interval in one cell, as people read them."""
    places = decimals(str(row["metric"]))
    value, low, high = row["value"], row["low"], row["high"]
    cell = "" if value is None else f"{value:.{places}f}"
    cell += "" if low is None else f" [{low:.{places}f}, {high:.{places}f}]"
    found: dict[str, Any] = {}
    for name, content in row.items():
        if name == "value":
            found["value [95 %]"] = cell
        elif name not in {"low", "high", "signature"}:
            found[name] = f"{content:.3g}" if isinstance(content, float) else content
    return found


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class EvaluationResult(Table):
    """A run with its scores; responses and verdicts are in the store."""

    run: Run
    scores: tuple[Score, ...]
    store: AnyStore
    """Where all of it is kept."""

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield a line for each score."""
        for score in self.scores:
            yield {
                "task": score.task,
                "metric": score.name,
                "judge": score.judge,
                "value": score.value,
                **ends(score.ci95),
                "n": score.n,
                "unscored": score.unscored,
                "signature": str(score.signature),
            }

    def samples(self) -> Sequence[ExportedItem]:
        """Return every item with its response, verdicts, and what judges said in words."""
        with opened(self.store, mode="read") as store:
            return load_run(store, self.run).items

    def __repr__(self) -> str:
        """Return the run in one line."""
        about = f"{self.run.model} on {self.run.suite}, {self.run.n_items} items"
        return f"<EvaluationResult {self.run.run_id[:12]}: {about}, {len(self.scores)} scores>"

    def __str__(self) -> str:
        """Return that line, and the table below it."""
        return f"{self!r}\n{Table.__repr__(self)}"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class JudgeResult(Table):
    """Entrants against each other."""

    matches: tuple[Match, ...]

    @property
    def scores(self) -> tuple[Score, ...]:
        """How often the first of two is better, in percent."""
        return tuple(match.balance.win for match in self.matches)

    def samples(self) -> Sequence[JudgedItem]:
        """Return every item with both responses and what a judge made of them."""
        return [entry for match in self.matches for entry in match.entries]

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield a line for each rate of each match."""
        for match in self.matches:
            own = match.balance
            about = {"task": match.task, "judge": match.judge}
            about |= {"first": _called(match.first), "second": _called(match.second)}
            net = own.net
            rates = {"win_rate_strict": own.win, "tie_rate": own.tie, "loss_rate": own.loss}
            for metric, rate in (rates | {"win_rate_half_ties": own.half}).items():
                line = {"metric": metric, "value": rate.value, **ends(rate.ci95), "n": rate.n}
                yield {**about, **line, "unscored": rate.unscored, "p": None}
            if net is not None:
                line = {"metric": "net_win_rate", "value": net.difference, **ends(net.ci95)}
                yield {**about, **line, "n": net.n, "unscored": own.win.unscored, "p": net.p}


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ComparisonResult(Table):
    """Runs of the store compared item by item."""

    tasks: tuple[TaskComparison, ...]

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield a line for each difference."""
        for task in self.tasks:
            for pair in task.comparisons:
                yield {
                    "task": task.task,
                    "metric": task.metric,
                    "judge": task.judge,
                    "first": pair.first,
                    "second": pair.second,
                    "value": pair.difference,
                    **ends(pair.ci95),
                    "p": pair.p if pair.p_adjusted is None else pair.p_adjusted,
                    "detectable_difference": pair.detectable,
                    "wins": pair.wins,
                    "ties": pair.ties,
                    "losses": pair.losses,
                    "n": pair.n,
                }


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class LeaderboardResult(Table):
    """All methods of a store on all tasks."""

    sections: tuple[Section, ...]

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield a line for each cell."""
        for section in self.sections:
            for row in section.rows:
                for task, cell in row.cells.items():
                    yield {
                        "suite": section.suite,
                        "metric": section.metric,
                        "judge": section.judge,
                        "model": row.name.model,
                        "method": row.name.method,
                        "variant": row.name.variant,
                        "task": task,
                        "value": cell.value,
                        **ends(cell.ci95),
                        "std": cell.std,
                        "seeds": cell.seeds,
                        "n": cell.n,
                        "unscored": cell.unscored,
                        "tie_rate": cell.tie_rate,
                        "rank": cell.rank,
                        "letters": cell.letters,
                    }


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ValidationResult(Table):
    """A judge measured against labels of people."""

    examination: Examination

    @property
    def failings(self) -> tuple[str, ...]:
        """Why the judge is not to be believed; nothing if it passed."""
        return self.examination.quality.failings

    @property
    def scores(self) -> tuple[Score, ...]:
        """Its rates that there are."""
        return tuple(self._rates().values())

    def _rates(self) -> dict[str, Score]:
        own, quality = self.examination.quality.judge, self.examination.quality
        rates = {name: getattr(own, name) for name in ("strict", "tie_tolerant", "tie_rate")}
        rates |= {"half_ties": own.half_ties, "over_longest": quality.over_longest}
        return {name: rate for name, rate in rates.items() if rate is not None}

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield a line for each rate."""
        about = {"judge": self.examination.judge, "data": self.examination.data}
        for metric, rate in self._rates().items():
            line = {"metric": metric, "value": rate.value, **ends(rate.ci95), "n": rate.n}
            yield {**about, **line, "unscored": rate.unscored}


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class TrainingResult(Table):
    """A training with its learning curve."""

    training: Training
    curve: tuple[CurvePoint, ...]

    @property
    def checkpoint(self) -> str | None:
        """The folder of the trained checkpoint, as `evaluate` takes it."""
        return self.training.checkpoint

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield a line for each point of the curve."""
        for point in self.curve:
            about = {"metric": point.metric, "step": point.step}
            yield {**about, "value": point.value, **ends(None)}

    def _drawn(self, frame: "pandas.DataFrame", metric: str) -> "altair.LayerChart":
        from mipo_eval.dashboards.plots import line_plot

        smooth = frame["value"].rolling(10, min_periods=1).mean()
        axes, shown = ("optimizer step", metric), frame.assign(smooth=smooth)
        return line_plot(shown, x="step", y="value", axes=axes, colour="metric")
