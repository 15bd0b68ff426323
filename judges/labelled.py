"""Pairs of responses that people, or a rule, have labelled: what a judge is measured against.

Any JSONL file of this form will do, one pair per line:

    {"prompt": "...", "first": "...", "second": "...", "label": "a" | "b" | "tie",
     "preferences": ["..."], "annotators": ["a", "a", "tie"], "group": "...", "subset": "..."}

or, where one response was chosen, {"prompt": "...", "chosen": "...", "rejected": "..."}. Only the
prompt, the texts and the label are needed.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mipo_eval.errors import DataError
from mipo_eval.judges.choices import Verdict
from mipo_eval.records import Item

ANY_WISH = "The reply does what was asked for, correctly and completely."
"""What a judge goes by where the data name no preferences."""


class LabelledPair(BaseModel):
    """Two responses to one prompt, and which of them is the better one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pair_id: str
    prompt: str = Field(min_length=1)
    first: str
    second: str
    label: Verdict
    """"a" is the first; the majority's, where there are several people."""
    preferences: tuple[str, ...] = ()
    annotators: tuple[Verdict, ...] = ()
    """What each person said, in the same order for every pair of a file."""
    group: str = ""
    """Pairs with the same prompt, the unit of resampling; the pair itself where empty."""
    subset: str = ""

    def item(self) -> Item:
        """Return what a judge is asked about, for either protocol."""
        return Item(
            item_id=self.pair_id,
            prompt=self.prompt,
            preferences=self.preferences or (ANY_WISH,),
            group_id=self.group or None,
        )


def read_pairs(path: Path) -> tuple[LabelledPair, ...]:
    """Return the pairs of a file in the form of this module, in order.

    Raises:
        DataError: the file cannot be read or holds no pair; a line is wrong, and which field.
    """
    pairs = tuple(_pair(path, number, row) for number, row in _rows(path))
    if not pairs:
        raise DataError(f"{path} holds no pairs")
    repeated = [name for name, n in Counter(pair.pair_id for pair in pairs).items() if n > 1]
    if repeated:
        raise DataError(f"{path}: the pair_id {repeated[0]!r} is there more than once")
    return pairs


def majority(labels: Sequence[Verdict]) -> Verdict | None:
    """Return what most people said, or None when no label is ahead.

    Example:
        >>> majority(["a", "a", "tie"]), majority(["a", "b"])
        ('a', None)
    """
    ranked = Counter(labels).most_common(2)
    if not ranked or (len(ranked) == 2 and ranked[0][1] == ranked[1][1]):
        return None
    return ranked[0][0]


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            raise DataError(f"{path}, line {number}: not JSON") from None
        if not isinstance(row, dict):
            raise DataError(f"{path}, line {number}: not a JSON object")
        yield number, row


def _pair(path: Path, number: int, row: dict[str, Any]) -> LabelledPair:
    fields = {"pair_id": str(number), **row}
    if "chosen" in row and "rejected" in row:
        fields = {k: v for k, v in fields.items() if k not in {"chosen", "rejected"}}
        fields |= {"first": row["chosen"], "second": row["rejected"], "label": "a"}
    if "label" not in fields and row.get("annotators"):
        fields["label"] = majority(row["annotators"])
    try:
        return LabelledPair.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{path}, line {number}: {where}: {first['msg']}") from None
