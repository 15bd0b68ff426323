"""What is sent of a run: facts, scores, learning curve, pictures, texts and samples."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mipo_eval.keys import digest

_UNNAMEABLE = re.compile(r"[^\w\-. :/]")
"""What MLflow takes in no name; the others take less than all, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """All that is sent of one run; what looks like a secret is masked."""

    run_id: str
    model: str
    suite: str
    name: str
    """What it is called where it is sent."""
    at: datetime
    """When the run was last worked on: sent again it has the same time."""
    about: Mapping[str, Any]
    """Its facts: model, suite, method, seeds, versions."""
    scores: Sequence[Mapping[str, Any]]
    """One row a score, as `reports.export.score_rows` has them; also of those without a value."""
    samples: Sequence[Mapping[str, Any]]
    """One row an item, where samples are asked for."""
    tables: Mapping[str, Sequence[Mapping[str, Any]]]
    """Scores and, where asked for, samples, with cells that are texts and numbers."""
    texts: Mapping[str, str]
    """By file name: scores.md, report.html, scores.csv and, where asked for, samples.csv."""
    pictures: Mapping[str, bytes]
    """PNG by metric: its values with intervals. None without the `board` extra."""
    curve: Mapping[int, Mapping[str, float]]
    """Of its checkpoint's training, by step, where it was trained here."""
    checkpoint: str | None
    """The folder of its checkpoint, where it was trained here."""

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
