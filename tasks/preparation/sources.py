"""Where raw data sets come from: the hub, at a fixed commit, or local files in the same schema."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mipo_eval.errors import ConfigError, DataError
from mipo_eval.tasks.tables import Row, hub_commit, hub_rows, read_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class RawSet:
    """One published data set."""

    hub: str
    config: str | None
    split: str
    revision: str | None
    """Commit on the hub; None: whatever is newest, looked up and recorded."""
    files: tuple[str, ...]
    """Names of its files when downloaded, as patterns."""


RAW_SETS = {
    "ca": RawSet(
        hub="facebook/community-alignment-dataset",
        config=None,
        split="train",
        revision="97343c7f6399fcbea430ed0f37c1768281a78d56",
        files=("community_alignment*.csv", "community_alignment*.parquet", "*.jsonl"),
    ),
    "prism": RawSet(
        hub="HannahRoseKirk/prism-alignment",
        config="utterances",
        split="train",
        revision=None,
        files=("utterances.jsonl", "utterances*.parquet"),
    ),
    "mb": RawSet(
        hub="kaist-ai/Multifaceted-Bench",
        config=None,
        split="train",
        revision=None,
        files=("*.parquet", "*.jsonl", "*.json"),
    ),
}


def raw_rows(name: str, source: str) -> tuple[Iterator[Row], str]:
    """Return the rows of a data set and what to call their origin.

    Args:
        name: a key of `RAW_SETS`.
        source: "hub", "hub@COMMIT", or a file or folder.

    Raises:
        ConfigError: no such data set.
        DataError: nothing is there, or the hub cannot be read.
    """
    if name not in RAW_SETS:
        raise ConfigError(f"cannot prepare {name!r}; known: {', '.join(RAW_SETS)}")
    spec = RAW_SETS[name]
    if source.partition("@")[0] == "hub":
        commit = source.partition("@")[2] or spec.revision or hub_commit(spec.hub)
        return hub_rows(spec.hub, spec.config, commit, spec.split), f"{spec.hub}@{commit}"
    path = Path(source)
    if path.is_file():
        return read_rows(path), source
    found = [file for pattern in spec.files for file in sorted(path.glob(pattern))]
    if not found:
        raise DataError(
            f"{name}: no {' or '.join(spec.files)} at {source}; download it from "
            f"https://huggingface.co/datasets/{spec.hub}, or use --source hub"
        )
    return read_rows(found[0]), str(found[0])
