"""The paper's figures 2 to 5 from the store: as data, and as pictures that need no network.

The figures' own values are not published as numbers: what the text says of them is a remark.
"""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mipo_eval.errors import ConfigError
from mipo_eval.evaluation.score import Snapshot
from mipo_eval.metrics.win_rate import outcome_rates
from mipo_eval.records import Run
from mipo_eval.reports.names import (
    RowName,
    RowRule,
    method_label,
    model_label,
    negatives_of,
    row_name,
    trained_rules,
)
from mipo_eval.stats.bootstrap import Crossed
from mipo_eval.store.judges import choosers, find_judge
from mipo_eval.store.responses import paired_texts
from mipo_eval.store.trainings import get_curve
from mipo_eval.store.verdicts import verdicts_on

if TYPE_CHECKING:
    import altair as alt

_BASELINE = "Personalized prompting"
_RANKING = "ranking_accuracy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure's data."""

    number: int
    title: str
    value: str
    """What is drawn, with its unit."""
    rows: tuple[Mapping[str, Any], ...]
    """One per mark; all have the same fields."""
    published: str
    """What the paper says of it."""


def figure(
    now: Snapshot, number: int, *, judge: str | None = None, rules: Sequence[RowRule] = ()
) -> Figure:
    """Return a figure with what the store has for it.

    Args:
        now: the store.
        number: 2 to 5.
        judge: only this one's choices; for figure 3.
        rules: what runs are called; after them come the names of the checkpoints trained here.

    Raises:
        ConfigError: no such figure or judge.
    """
    if number not in FIGURES:
        raise ConfigError(f"figure {number}: the figures with numbers are 2 to 5")
    title, value, published, rows = FIGURES[number]
    named = (*rules, *trained_rules(now.trainings))
    if judge is not None and number == 3:
        judge = find_judge(now.store, judge).key
    found = tuple(rows(now, named, judge))
    return Figure(number=number, title=title, value=value, rows=found, published=published)


def _curves(now: Snapshot, rules: Sequence[RowRule], judge: str | None) -> Iterator[dict[str, Any]]:
    """Yield the points of every training's ranking accuracy."""
    for training in now.trainings:
        strategy, count = negatives_of(training)
        for point in get_curve(now.store, training.training_id):
            if point.metric.endswith(_RANKING):
                yield {
                    "model": model_label(training.model),
                    "method": method_label(training.method),
                    "negatives": strategy,
                    "n_negatives": count,
                    "seed": training.seed,
                    "measured_on": "held out" if point.metric != _RANKING else "training pairs",
                    "training_id": training.training_id,
                    "step": point.step,
                    "value": 100 * point.value,
                }


def _choices(
    now: Snapshot, rules: Sequence[RowRule], judge: str | None
) -> Iterator[dict[str, Any]]:
    """Yield the win rate of every method against its base model's personalized prompting."""
    runs = {run.run_id: run for run, _ in now.scores}.values()
    names = {run.run_id: row_name(run, rules)[0] for run in runs}
    labels = {known.key: known.label for known in now.judges}
    for base, run in product(runs, runs):
        ours, own = names[base.run_id], names[run.run_id]
        if ours.method != _BASELINE or own.method == _BASELINE:
            continue
        if (run.list_key, own.model) != (base.list_key, ours.model):
            continue
        rows = [row for row in paired_texts(now.store, run, base) if row.pair]
        for key in [judge] if judge else [known.key for known in choosers(now.store)]:
            said = [one for _, one in verdicts_on(now.store, rows, key)]
            if not any(one.choices and one.winner for one in said):
                continue
            _, half, _, tied = outcome_rates(
                [one.credit for one in said],
                groups=[Crossed(row.group, row.user_id) for row in rows],
            )
            yield {
                **_of_run(run, own),
                "judge": labels.get(key, key[:8]),
                "value": half.value,
                "ci95": list(half.ci95) if half.ci95 else None,
                "tie_rate": tied.value,
                "n": half.n,
                "unscored": half.unscored,
            }


def _entropies(metric: str) -> Callable[..., Iterator[dict[str, Any]]]:
    """Return a figure's rows: a value per question of every run asked by likelihood."""

    def rows(
        now: Snapshot, rules: Sequence[RowRule], judge: str | None
    ) -> Iterator[dict[str, Any]]:
        suites: dict[str, dict[str, Run]] = {}
        for run, score in now.scores:
            if score.metric == metric and not score.is_imported:
                suites.setdefault(run.suite, {})[run.run_id] = run
        for runs in suites.values():
            for sheet in now.outcomes.sheets(list(runs.values()), metric):
                for column, run in enumerate(sheet.runs):
                    about = _of_run(run, row_name(run, rules)[0])
                    for row in np.flatnonzero(~np.isnan(sheet.values[:, column])).tolist():
                        value = float(sheet.values[row, column])
                        item = sheet.keys[row][:12]
                        yield {**about, "task": sheet.task, "item": item, "value": value}

    return rows


def _of_run(run: Run, name: RowName) -> dict[str, Any]:
    return {
        "model": name.model,
        "method": name.method,
        "variant": name.variant,
        "seed": run.seed,
        "suite": run.suite,
        "run_id": run.run_id,
    }


FIGURES: Mapping[int, tuple[str, str, str, Callable[..., Iterator[dict[str, Any]]]]] = {
    2: (
        "Figure 2: how often chosen is ranked above rejected while training",
        "ranking accuracy (%)",
        "ten negatives; flat after 6,000 to 7,000 steps",
        _curves,
    ),
    3: (
        "Figure 3: chosen over personalized prompting, both orders, a tie is half",
        "win rate (%)",
        "Llama-3.3-70B-Instruct with LoRA on MB: 54 to 62 % by four judges",
        _choices,
    ),
    4: (
        "Figure 4: entropy over the choices of questions answered right",
        "answer entropy (nats)",
        "lower after MIPO than before, on 500 ARC questions",
        _entropies("answer_entropy_correct"),
    ),
    5: (
        "Figure 5: entropy over the choices of questions answered wrong",
        "answer entropy (nats)",
        "measured beside figure 4, on the same questions",
        _entropies("answer_entropy_wrong"),
    ),
}
"""Number to title, what is drawn, what the paper says, and where the rows come from."""


def figure_json(found: Figure) -> dict[str, Any]:
    """Return a figure as `--json` shows it."""
    return {
        "figure": found.number,
        "title": found.title,
        "value": found.value,
        "published": found.published,
        "rows": found.rows,
    }


class Series(NamedTuple):
    """The marks of a figure that belong together: a training, a judge and method, or a run."""

    name: str
    n: int
    mean: float
    last: float
    """The last mark, which of a learning curve is where it ended."""


def series(found: Figure) -> list[Series]:
    """Return what a figure shows in a line each."""
    own: dict[str, list[float]] = {}
    for row in found.rows:
        own.setdefault(series_name(row), []).append(row["value"])
    return [Series(name, len(of), sum(of) / len(of), of[-1]) for name, of in own.items()]


def series_name(row: Mapping[str, Any]) -> str:
    """Return what tells a row's series from the others."""
    variant = row.get("variant") or row.get("negatives")
    count = row.get("n_negatives")
    several = f" x {count}" if count and count > 1 else ""
    parts = [row["model"], row["method"] + (f" ({variant}{several})" if variant else "")]
    parts += [str(row[name]) for name in ("judge", "task", "measured_on") if row.get(name)]
    parts.append(f"seed {row['seed']}")
    return ", ".join(parts)


_WIDTH, _ROW, _HEIGHT, _LABEL = 520, 26, 320, 420
"""Pixels."""


def draw(found: Figure, path: Path) -> None:
    """Write a figure to a file whose ending says in which form.

    Raises:
        ConfigError: an ending that means nothing, nothing to draw, or a library is missing.
    """
    form = next((form for form in FORMS if path.name.endswith(form)), None)
    if form is None:
        raise ConfigError(
            f"{path.name}: the name of a figure's file must end in {', '.join(FORMS)}"
        )
    if not path.parent.is_dir():
        raise ConfigError(f"{path} cannot be written: the folder {path.parent} is not there")
    if not found.rows:
        raise ConfigError(f"the store has nothing for figure {found.number} yet")
    made = FORMS[form](found)
    path.write_bytes(made if isinstance(made, bytes) else made.encode())


def _chart(found: Figure) -> "alt.LayerChart":
    try:
        import altair as alt
    except ModuleNotFoundError:
        raise ConfigError("a picture needs Altair: pip install 'mipo-eval[board]'") from None
    rows = [{**row, "series": series_name(row)} for row in found.rows]
    base = alt.Chart(alt.InlineData(values=rows))
    names = list(dict.fromkeys(row["series"] for row in rows))
    layers = {2: _line_marks, 3: _points}.get(found.number, _boxes)(base, names, found.value)
    height = _HEIGHT if found.number == 2 else _ROW * max(len(names), 2)
    return alt.LayerChart(layer=layers, title=found.title, width=_WIDTH, height=height)


def _numbers() -> "alt.Axis":
    """Return an axis with a few short ticks, also where all values are equal."""
    import altair as alt

    return alt.Axis(format="~r", tickCount=6)


def _line_marks(base: "alt.Chart", names: list[str], value: str) -> list["alt.Chart"]:
    import altair as alt

    legend = alt.Legend(orient="bottom", columns=1, labelLimit=_WIDTH)
    return [
        base.mark_line().encode(
            x=alt.X("step:Q", title="optimizer steps"),
            y=alt.Y("value:Q", title=value, scale=alt.Scale(zero=False), axis=_numbers()),
            color=alt.Color("series:N", title=None, sort=names, legend=legend),
        )
    ]


def _points(base: "alt.Chart", names: list[str], value: str) -> list["alt.Chart"]:
    import altair as alt

    y = alt.Y("series:N", title=None, sort=names, axis=alt.Axis(labelLimit=_LABEL))
    x = alt.X("value:Q", title=value, scale=alt.Scale(zero=False), axis=_numbers())
    ends = {"low": "datum.ci95 ? datum.ci95[0] : null", "high": "datum.ci95 ? datum.ci95[1] : null"}
    even = alt.Chart(alt.InlineData(values=[{"even": 50}]))
    return [
        even.mark_rule(strokeDash=[4, 3], color="grey").encode(x="even:Q"),
        base.transform_calculate(**ends).mark_rule().encode(x="low:Q", x2="high:Q", y=y),
        base.mark_point(filled=True, size=70, opacity=1).encode(x=x, y=y),
    ]


def _boxes(base: "alt.Chart", names: list[str], value: str) -> list["alt.Chart"]:
    import altair as alt

    y = alt.Y("series:N", title=None, sort=names, axis=alt.Axis(labelLimit=_LABEL))
    x = alt.X("value:Q", title=f"{value}; diamond: mean", scale=alt.Scale(domainMin=0))
    mean = base.mark_point(shape="diamond", filled=True, size=60, color="black", opacity=1)
    return [
        base.mark_boxplot(extent="min-max", size=14).encode(x=x, y=y),
        mean.encode(x="mean(value):Q", y=y),
    ]


def _picture(found: Figure, form: str) -> Any:
    """Return a figure as SVG text or PNG bytes."""
    spec = _chart(found).to_dict()
    try:
        import vl_convert
    except ModuleNotFoundError:
        raise ConfigError(
            "SVG and PNG need vl-convert: pip install 'mipo-eval[board]', or write .vl.json"
        ) from None
    if form == "svg":
        return vl_convert.vegalite_to_svg(spec)
    return vl_convert.vegalite_to_png(spec, scale=2)


def _rows_csv(found: Figure) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(found.rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(found.rows)
    return stream.getvalue()


def _json(value: object) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


FORMS: Mapping[str, Callable[[Figure], str | bytes]] = {
    ".vl.json": lambda found: _json(_chart(found).to_dict()),
    ".json": lambda found: _json(figure_json(found)),
    ".csv": _rows_csv,
    ".svg": lambda found: _picture(found, "svg"),
    ".png": lambda found: _picture(found, "png"),
}
"""Ending of a file to what is written; the first that fits counts."""
