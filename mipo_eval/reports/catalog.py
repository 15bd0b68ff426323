"""What a store has: runs by task, metric and judge; and what a run is called in a table."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import sqlalchemy as sa
import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, model_validator

from mipo_eval.errors import ConfigError
from mipo_eval.models.spec import read_name
from mipo_eval.records import Score
from mipo_eval.signature import Signature
from mipo_eval.store import Store
from mipo_eval.store.runs import Run
from mipo_eval.store.tables import runs, scores

_SEED = re.compile(r"[-_./]seed[-_=]?(\d+)(?=$|[-_./])")
ROW_PARTS = ("prompting", "seed")
"""Signature parts in which rows of one column may differ: prompting is the row itself, a seed is
averaged over."""


def stored_scores(store: Store, *, controls: bool = False) -> list[tuple[Run, Score]]:
    """Return every score of a model with its run, oldest run first.

    Args:
        store: where they are.
        controls: also those of control entrants.
    """
    query = (
        sa.select(*runs.c, *(c.label(f"score_{c.name}") for c in scores.c))
        .join(scores, scores.c.run_id == runs.c.run_id)
        .order_by(runs.c.created_at, runs.c.run_id, scores.c.task, scores.c.metric)
    )
    names = [column.name for column in runs.c]
    with store.read() as connection:
        found = [
            (
                Run(**{name: row[name] for name in names}),
                Score(
                    task=row["score_task"],
                    metric=row["score_metric"],
                    value=row["score_value"],
                    n=row["score_n"],
                    unscored_reasons=row["score_unscored_reasons"],
                    ci95=None
                    if row["score_ci_low"] is None
                    else (row["score_ci_low"], row["score_ci_high"]),
                    signature=Signature(row["score_parts"]),
                    outcomes_key=row["score_outcomes_key"],
                ),
            )
            for row in connection.execute(query).mappings()
        ]
    return [(run, score) for run, score in found if controls or score.control is None]


def judges_of(found: Sequence[Score]) -> set[str]:
    """Return the short keys of the judges behind these scores."""
    return {score.judge_key for score in found if score.judge_key}


def column_signature(signature: Signature) -> Signature:
    """Return the parts of a signature that all rows of one column have to share."""
    return signature.less(*ROW_PARTS)


class RowRule(BaseModel):
    """One entry of a rows file: what the runs it matches are called in tables."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str | None = None
    """Beginning of a run's id."""
    name: str | None = None
    """What was given as --model; * and ? match as in file names."""
    prompting: str | None = None
    """Only runs with this prompting."""
    model: str | None = None
    """The base model, e.g. Llama-3.2-1B-Instruct."""
    method: str | None = None
    """As the paper calls it, e.g. MIPO."""
    variant: str | None = None
    """One of several candidates of the method, e.g. its negatives; the best is marked."""
    seed: int | None = None
    """Seed of training."""

    @model_validator(mode="after")
    def _matches_something(self) -> "RowRule":
        if self.run is None and self.name is None:
            raise ValueError("says which runs neither by run nor by name")
        return self

    def matches(self, run: Run) -> bool:
        """Return whether the rule is about this run."""
        return (
            (self.run is None or run.run_id.startswith(self.run))
            and (self.name is None or fnmatchcase(run.model, self.name))
            and (self.prompting is None or run.prompting == self.prompting)
        )


def read_rows(path: Path) -> list[RowRule]:
    """Return the rules of a rows file, a YAML list.

    Raises:
        ConfigError: the file cannot be read or is not of this form.
    """
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
        return TypeAdapter(list[RowRule]).validate_python(entries)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"--rows {path} cannot be read: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ConfigError(f"--rows {path}: entry {where}: {first['msg']}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class RowName:
    """What a run is called in tables."""

    model: str
    method: str
    variant: str | None = None


def row_name(run: Run, rules: Sequence[RowRule] = ()) -> tuple[RowName, tuple[int, int]]:
    """Return a run's row and its (training seed, decoding seed).

    Without a rule the model is what --model named, less a `seed` mark such as "-seed3", and the
    method is how it was prompted: whether a checkpoint was trained cannot be seen from outside.
    """
    plain = model_label(_SEED.sub("", run.model.partition("@")[0]))
    marks = _SEED.findall(run.model.partition("@")[0])
    prompted = {"": "Base"}.get(run.prompting, f"{run.prompting.capitalize()} prompting")
    rule = next((rule for rule in rules if rule.matches(run)), None)
    trained = int(marks[-1]) if marks else 0
    if rule is None:
        name = RowName(model=plain, method=prompted)
        return name, (trained, run.seed)
    name = RowName(
        model=rule.model or plain,
        method=rule.method or prompted,
        variant=rule.variant,
    )
    return name, (trained if rule.seed is None else rule.seed, run.seed)


def model_label(name: str) -> str:
    """Return the part of a --model that names the model: no prefix, no URL, no folders."""
    return read_name(name).label


def run_labels(chosen: Sequence[Run]) -> dict[str, str]:
    """Return a short name for each run: what tells it from the others, and its id."""
    names = {model_label(run.model) for run in chosen}
    several_promptings = len({run.prompting for run in chosen}) > 1
    several_seeds = len({run.seed for run in chosen}) > 1
    labels = {}
    for run in chosen:
        parts = [run.run_id[:8]]
        if len(names) > 1 or len(chosen) == 1 or not (several_promptings or several_seeds):
            parts.append(model_label(run.model))
        if several_promptings:
            parts.append(run.prompting)
        if several_seeds:
            parts.append(f"seed {run.seed}")
        labels[run.run_id] = " ".join(parts)
    return labels
