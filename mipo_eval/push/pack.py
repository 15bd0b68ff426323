"""From a stored run to what is sent of it, without secrets."""

import io
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from mipo_eval import __version__
from mipo_eval.keys import masked, masked_values
from mipo_eval.push.parcel import Parcel
from mipo_eval.records import Run, Score
from mipo_eval.reports.export import TEXTS, only_metrics, score_rows, to_csv
from mipo_eval.reports.exported_run import ExportedItem, ExportedRun, load_run
from mipo_eval.reports.labels import LABELS
from mipo_eval.reports.names import trained_rules
from mipo_eval.store.engine import Store
from mipo_eval.store.trainings import Training, get_curve, list_trainings

_DRAWN = ("metric", "row", "value", "low", "high", "source")


def pack(store: Store, run: Run, *, metrics: Sequence[str] = (), samples: bool = False) -> Parcel:
    """Return what is sent of a run.

    Args:
        store: where it is.
        run: the run.
        metrics: only these; none: all of them.
        samples: whether its items and responses are sent, too.

    Raises:
        ConfigError: it has none of the metrics.
    """
    (exported,) = only_metrics([load_run(store, run)], metrics)
    training = _training_of(store, run)
    called = exported.called
    about = {
        "run_id": run.run_id,
        "model": run.model,
        "suite": run.suite,
        "base_model": called.model,
        "method": called.method,
        "variant": called.variant,
        "prompting": run.prompting,
        "seed": run.seed,
        "training_seed": exported.trained_seed,
        "items": run.n_items,
        "answered": exported.answered,
        "made_with": dict(run.environment),
        "sent_by": f"mipo-eval {__version__}",
    }
    curve: dict[int, dict[str, float]] = {}
    for point in get_curve(store, training.training_id) if training else ():
        curve.setdefault(point.step, {})[point.metric] = point.value
    scores = masked_values(score_rows([exported]))
    shown = masked_values([_sample(exported, made) for made in exported.items]) if samples else []
    tables = {name: _flat(rows) for name, rows in (("scores", scores), ("samples", shown)) if rows}
    return Parcel(
        run_id=run.run_id,
        model=masked(run.model),
        suite=run.suite,
        name=masked(f"{called.model} {called.whole_method} on {run.suite} {run.run_id[:8]}"),
        at=run.updated_at,
        about=masked_values(about),
        scores=scores,
        samples=shown,
        tables=tables,
        texts={
            "scores.md": masked(TEXTS["md"]([exported])),
            "report.html": masked(TEXTS["html"]([exported])),
            **{f"{name}.csv": to_csv(rows) for name, rows in tables.items()},
        },
        pictures=_pictures(exported.scores),
        curve=dict(sorted(curve.items())),
        checkpoint=training.checkpoint if training else None,
    )


def _training_of(store: Store, run: Run) -> Training | None:
    """Return the training whose checkpoint a run is of."""
    known = list_trainings(store)
    return next((one for one in known if any(r.matches(run) for r in trained_rules([one]))), None)


def _flat(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return rows whose cells are texts and numbers, as CSV has them."""
    return [
        {
            name: json.dumps(cell, ensure_ascii=False) if isinstance(cell, list | dict) else cell
            for name, cell in row.items()
        }
        for row in rows
    ]


def _pictures(scores: Sequence[Score]) -> dict[str, bytes]:
    """Return a picture of each metric that has intervals; none where nothing is there to draw."""
    drawn: dict[str, bytes] = {}
    with suppress(ImportError, ValueError):  # Altair is not there, or what makes its PNG
        import pandas as pd

        from mipo_eval.dashboards.markup import MEASURED
        from mipo_eval.dashboards.plots import interval_plot

        lines = [
            {
                "metric": score.name,
                "row": " \u00b7 ".join(filter(None, (score.task, score.judge))),
                "value": score.value,
                "low": score.ci95[0],
                "high": score.ci95[1],
                "source": MEASURED,
            }
            for score in scores
            if score.ci95
        ]
        for name, rows in pd.DataFrame(lines, columns=_DRAWN).groupby("metric", sort=False):
            chart = interval_plot(rows, axis=LABELS.get(str(name), str(name)), colour="row")
            image = io.BytesIO()
            chart.properties(width=560).save(image, format="png", scale_factor=2)
            drawn[str(name)] = image.getvalue()
    return drawn


def _sample(run: ExportedRun, made: ExportedItem) -> dict[str, Any]:
    said = [
        {"judge": run.judges[key], "credit": own.credit, "grade": None, "reason": own.reason}
        for key, own in made.verdicts.items()
    ]
    said += [
        {"judge": run.judges[key], "credit": None, "grade": own.value, "reason": own.reason}
        for key, own in made.grades.items()
    ]
    return {
        "run_id": run.run_id,
        "model": run.model,
        "task": made.task,
        "item_id": made.item.item_id,
        "prompt": made.item.transcript,
        "context": made.item.context,
        "preferences": list(made.item.preferences),
        "reference": made.item.reference,
        "response": made.text,
        "said": said,
    }
