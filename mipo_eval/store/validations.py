"""What the quality of judges was found to be, on pairs that people labelled."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from mipo_eval.signature import short
from mipo_eval.store.engine import Store
from mipo_eval.store.tables import validations

MARK = "(!)"
"""Stands beside every judge that failed its validation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """How good one judge was on one set of labelled pairs."""

    judge_key: str
    data: str
    """Name of the data: "llmbar", "prism", or the name of a file."""
    data_key: str
    """Digest of the pairs, so that a changed file is other data."""
    figures: Mapping[str, Any]
    """What `mipo-eval validate --json` shows."""
    failings: Sequence[str]
    """Why this judge must not be believed, one line each; empty for a judge that passes."""
    created_at: datetime


def put_validation(store: Store, validation: Validation) -> None:
    """Store a validation; one of the same judge on the same pairs is replaced."""
    row = {name: getattr(validation, name) for name in Validation.__dataclass_fields__}
    row["failings"] = list(validation.failings)
    with store.write() as connection:
        store.put(connection, validations, [row], replace=["figures", "failings", "created_at"])


def list_validations(store: Store) -> list[Validation]:
    """Return every validation, by judge and data."""
    query = sa.select(validations).order_by(validations.c.judge_key, validations.c.data)
    with store.read() as connection:
        return [Validation(**row._mapping) for row in connection.execute(query)]


def largest_validations(store: Store) -> list[Validation]:
    """Return, of each judge and data, the validation over most pairs; of equal ones the latest.

    A trial on a few pairs says little, whatever came of it, once the whole data were used.
    """
    found: dict[tuple[str, str], Validation] = {}
    for own in list_validations(store):
        key = (own.judge_key, own.data)
        if key not in found or _weight(own) > _weight(found[key]):
            found[key] = own
    return list(found.values())


def _weight(validation: Validation) -> tuple[int, datetime]:
    return int(validation.figures.get("pairs", 0)), validation.created_at


def failing_judges(store: Store) -> dict[str, tuple[str, ...]]:
    """Return, by judge key, why judges must not be believed, each reason with its data."""
    found: dict[str, tuple[str, ...]] = {}
    for validation in largest_validations(store):
        lines = tuple(f"{validation.data}: {failing}" for failing in validation.failings)
        if lines:
            found[validation.judge_key] = found.get(validation.judge_key, ()) + lines
    return found


def failing_by_short_key(store: Store) -> dict[str, tuple[str, ...]]:
    """Return the same by the keys that signatures have."""
    return {short(key): reasons for key, reasons in failing_judges(store).items()}
