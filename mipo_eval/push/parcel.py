"""What is sent of a run: facts, scores, learning curve, pictures and samples, without secrets."""

import io
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mipo_eval import __version__
from mipo_eval.errors import ConfigError
from mipo_eval.keys import digest, masked, masked_values
from mipo_eval.records import Run
from mipo_eval.reports.export import TEXTS, only_metrics, score_rows
from mipo_eval.reports.exported_run import ExportedItem, ExportedRun, load_run
from mipo_eval.reports.names import trained_rules
from mipo_eval.results import EvaluationResult
from mipo_eval.store.engine import Store
from mipo_eval.store.trainings import Training, get_curve, list_trainings

_UNNAMEABLE = re.compile(r"[^\w\-. :/]")
"""What MLflow takes in no name; the others take less than all, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """All that is sent of one run; what looks like a secret is masked."""

    run: ExportedRun
    at: datetime
    """When the run was last worked on: sent again it has the same time."""
    about: Mapping[str, Any]
    """Its facts: model, suite, method, seeds, versions."""
    scores: Sequence[Mapping[str, Any]]
    """One flat row a score, also of those without a value."""
    curve: Mapping[int, Mapping[str, float]]
    """Of its checkpoint's training, by step, where it was trained here."""
    pictures: Mapping[str, bytes]
    """PNG by metric: its values with intervals. None without the `board` extra."""
    samples: Sequence[Mapping[str, Any]]
    """One row an item, where samples are asked for."""
    checkpoint: str | None
    """The folder of its checkpoint, where it was trained here."""

    @property
    def name(self) -> str:
        """What it is called where it is sent."""
        called = self.run.called
        method = f"{called.method} ({called.variant})" if called.variant else called.method
        return masked(f"{called.model} {method} on {self.run.suite} {self.run.run_id[:8]}")

    @property
    def values(self) -> dict[str, float]:
        """Its scores by a name of task and metric, and of the judge where there are several."""
        names = [f"{row['task']}/{row['metric']}" for row in self.scores]
        judges = [row["judge"] for row in self.scores]
        for told in (judges, [digest(row["signature"])[:6] for row in self.scores]):
            names = [
                f"{name}/{own}" if own and names.count(name) > 1 else name
                for name, own in zip(names, told, strict=True)
            ]
        return {
            _UNNAMEABLE.sub("_", name).strip("/"): row["value"]
            for name, row in zip(names, self.scores, strict=True)
            if row["value"] is not None
        }

    def text(self, form: str) -> str:
        """Return its scores as a text in a form of `reports.export.TEXTS`."""
        return masked(TEXTS[form]([self.run]))


def flat(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return rows whose cells are texts and numbers, as tables of trackers have them."""
    return [
        {
            name: json.dumps(cell, ensure_ascii=False) if isinstance(cell, list | dict) else cell
            for name, cell in row.items()
        }
        for row in rows
    ]


def load_parcel(
    store: Store, run: Run, *, metrics: Sequence[str] = (), samples: bool = False
) -> Parcel:
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
    about = {
        "run_id": run.run_id,
        "model": run.model,
        "suite": run.suite,
        "base_model": exported.called.model,
        "method": exported.called.method,
        "variant": exported.called.variant,
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
    return Parcel(
        run=exported,
        at=run.updated_at,
        about=masked_values(about),
        scores=masked_values(score_rows([exported])),
        curve=dict(sorted(curve.items())),
        pictures=_pictures(run, exported, store),
        samples=masked_values([_sample(exported, made) for made in exported.items]) * samples,
        checkpoint=training.checkpoint if training else None,
    )


def _training_of(store: Store, run: Run) -> Training | None:
    """Return the training whose checkpoint a run is of."""
    known = list_trainings(store)
    return next((one for one in known if any(r.matches(run) for r in trained_rules([one]))), None)


def _pictures(run: Run, exported: ExportedRun, store: Store) -> dict[str, bytes]:
    """Return a picture of each metric that has intervals; none where nothing is there to draw."""
    scores = [score for score in exported.scores if score.ci95]
    result = EvaluationResult(run=run, scores=tuple(scores), store=store)
    drawn: dict[str, bytes] = {}
    with suppress(ConfigError, ImportError, ValueError):  # Altair or what makes its PNG is missing
        for name in dict.fromkeys(score.name for score in scores):
            image = io.BytesIO()
            result.plot(name).properties(width=560).save(image, format="png", scale_factor=2)
            drawn[name] = image.getvalue()
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
