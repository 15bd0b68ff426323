"""P-Soups in the layout of AlignX: prompts with a persona, a good and a bad answer for it."""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from mipo_eval.records import Item, Text
from mipo_eval.tasks.datasets import Columns, Row, checked, content_id, prompt_group

FILES = ("psoups_alignx/*.json", "psoups/*.json")
"""Where its files are in the data folder."""


class _Pair(Columns):
    prompt: Text
    chosen: Text
    rejected: Text
    ground_truth_persona: Text
    profile: str = ""


def psoups_items(path: Path, rows: Iterable[Row]) -> Iterator[Item]:
    """Yield an item per row of a file; rows sharing a prompt share a group.

    Raises:
        DataError: a row is not in the expected schema.
    """
    seen: Counter[str] = Counter()
    for raw, row in checked(_Pair, rows, str(path)):
        yield Item(
            item_id=content_id(f"psoups-{path.stem}", raw, seen),
            prompt=row.prompt,
            context=row.ground_truth_persona,
            preferences=(row.ground_truth_persona,),
            reference=row.chosen,
            group_id=prompt_group(row.prompt),
            meta={"rejected": row.rejected, "profile": row.profile},
        )
