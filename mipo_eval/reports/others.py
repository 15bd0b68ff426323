"""Other people's numbers: a file of what some paper printed, with where it stands."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from mipo_eval.errors import ConfigError
from mipo_eval.reports.paper import ACCURACY, BLEU, PAPER, TASKS, WIN
from mipo_eval.rows import csv_cells
from mipo_eval.settings import read_yaml

JUDGE_ACCURACY = "judge_accuracy"
METRICS = (WIN, ACCURACY, BLEU, JUDGE_ACCURACY)
_CHECKED = ("GSM8K", "SVAMP", "ARC-Easy", "ARC-Challenge", "MMLU")


class OtherNumber(BaseModel):
    """One printed number of somebody else."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    model: str = Field(min_length=1)
    method: str = Field(min_length=1)
    """Of a judge's accuracy: strict or tie-tolerant."""
    dataset: str = Field(min_length=1)
    """CA, PRISM, MB, GSM8K, SVAMP, ARC-Easy, ARC-Challenge, MMLU, or another, which is a column
    of its own."""
    value: float
    """Percent; Self-BLEU 0-1."""
    std: float | None = Field(default=None, ge=0)
    n: int | None = Field(default=None, ge=1)
    metric: str = ""
    """Empty: what the paper has of the data set."""
    source: str = Field(min_length=1)
    """Where it is printed."""

    @field_validator("dataset")
    @classmethod
    def _known(cls, name: str) -> str:
        """Return a data set as the paper spells it, where it has it."""
        spelt = {known.lower(): known for known in TASKS} | {v: k for k, v in TASKS.items()}
        return spelt.get(name.lower(), name)

    @model_validator(mode="after")
    def _measurable(self) -> "OtherNumber":
        if self.metric not in {"", *METRICS}:
            raise ValueError(f"metric {self.metric!r} is none of {', '.join(METRICS)}")
        if not self.metric and self.dataset not in TASKS:
            raise ValueError(f"{self.dataset} is not a data set of the paper: give its metric")
        if self.source == PAPER:
            raise ValueError(f"the numbers of {PAPER} are in these tables already")
        top = 1 if self.metric == BLEU else 100
        if not 0 <= self.value <= top:
            raise ValueError(f"{self.metric_name} {self.value:g} is not between 0 and {top}")
        return self

    @property
    def metric_name(self) -> str:
        """What was measured."""
        return self.metric or (ACCURACY if self.dataset in _CHECKED else WIN)


def read_others(paths: Sequence[Path]) -> list[OtherNumber]:
    """Return the numbers of files: CSV with a header, or YAML lists.

    Raises:
        ConfigError: a file cannot be read or is not of this form, with its line or entry; or two
            numbers are of the same place.
        DataError: a CSV file cannot be read.
    """
    found = [number for path in paths for number in _read(path)]
    places = [(n.source, n.model, n.method, n.dataset, n.metric_name) for n in found]
    for place in places:
        if places.count(place) > 1:
            raise ConfigError(f"--others: {' '.join(place)} is given twice")
    return found


def _read(path: Path) -> list[OtherNumber]:
    if path.suffix.lower() != ".csv":
        return read_yaml(path, f"--others {path}", list[OtherNumber], part="entry ")
    lines = csv_cells(path)
    _, header = next(lines, (0, []))
    made = []
    for line, cells in lines:
        where = f"--others {path}, line {line}"
        if len(cells) != len(header):
            raise ConfigError(f"{where}: {len(cells)} cells, but the header has {len(header)}")
        told = {name.strip(): cell.strip() for name, cell in zip(header, cells, strict=True)}
        try:
            made.append(OtherNumber.model_validate({k: v for k, v in told.items() if v}))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise ConfigError(f"{where}: {place}{': ' if place else ''}{first['msg']}") from None
    return made
