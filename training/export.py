"""Preference pairs as a data set that other trainers read: TRL's conversational columns.

Example:
    {"prompt": [{"role": "user", "content": "How do I brew tea? ..."}],
     "chosen": [{"role": "assistant", "content": "..."}],
     "rejected": [{"role": "assistant", "content": "..."}]}
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mipo_eval.errors import ConfigError
from mipo_eval.training.data import TrainingExample

FORMATS = (".jsonl", ".parquet")


def check_export(path: Path) -> None:
    """Refuse a file name whose format is not known, before anything is generated.

    Raises:
        ConfigError: it ends in neither .jsonl nor .parquet.
    """
    if path.suffix not in FORMATS:
        raise ConfigError(f"--pairs {path}: the name has to end in {' or '.join(FORMATS)}")


def export_pairs(path: Path, examples: Sequence[TrainingExample]) -> int:
    """Write one row per pair, as a whole or not at all, and return how many there are.

    Raises:
        ConfigError: the file cannot be written.
    """
    import datasets

    rows = list(preference_rows(examples))
    table = datasets.Dataset.from_list(rows)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".parquet":
            table.to_parquet(temporary)
        else:
            table.to_json(temporary, force_ascii=False)
        temporary.replace(path)
    except OSError as error:
        raise ConfigError(
            f"--pairs {path} cannot be written: {os.strerror(error.errno or 0)}"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    return len(rows)


def preference_rows(examples: Sequence[TrainingExample]) -> Iterator[dict[str, Any]]:
    """Yield a row per pair of chosen and rejected response."""
    for example in examples:
        for rejected in example.rejected:
            yield {
                "prompt": [dict(message) for message in example.prompt],
                "chosen": [{"role": "assistant", "content": example.chosen}],
                "rejected": [{"role": "assistant", "content": rejected}],
            }
