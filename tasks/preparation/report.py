"""What a preparation made: counts, drops and why, lengths, languages, overlap, samples."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mipo_eval.records import Item
from mipo_eval.tasks.preparation.split import near_duplicates, overlap

SAMPLES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """Words per text."""

    median: float
    p95: float
    longest: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PartReport:
    """One part: how much is in it and how long."""

    items: int
    users: int
    prompts: int
    languages: Mapping[str, int]
    preferences_per_item: float
    words: Mapping[str, Lengths]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The report of a preparation; JSON beside the item files."""

    name: str
    source: str
    seed: int
    extractor: str
    rows: int
    """Usable entries of the raw data, before the split."""
    dropped: Mapping[str, int]
    parts: Mapping[str, PartReport]
    shared_users: int
    """Users in both parts; 0 unless something is wrong."""
    shared_prompts: int
    near_duplicates: int
    """Pairs of a training and a test prompt whose words agree by 80 % or more."""
    near_duplicate_examples: Sequence[tuple[str, str]]
    samples: Sequence[Mapping[str, Any]]

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain data."""
        return asdict(self)


def part_report(items: Sequence[Item]) -> PartReport:
    """Return the report of one part; it must hold an item."""
    texts = {
        "prompt": [item.prompt for item in items],
        "context": [item.context for item in items],
        "reference": [item.reference or "" for item in items],
    }
    return PartReport(
        items=len(items),
        users=len({item.user_id for item in items if item.user_id is not None}),
        prompts=len({item.group_id for item in items}),
        languages=dict(
            Counter(item.meta.get("language", "unknown") for item in items).most_common()
        ),
        preferences_per_item=float(np.mean([len(item.preferences) for item in items])),
        words={name: _lengths(values) for name, values in texts.items()},
    )


def _lengths(texts: Sequence[str]) -> Lengths:
    counts = np.array([len(text.split()) for text in texts])
    return Lengths(
        median=float(np.median(counts)),
        p95=float(np.quantile(counts, 0.95)),
        longest=int(counts.max()),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where prepared items came from."""

    name: str
    source: str
    seed: int
    extractor: str
    rows: int
    dropped: Mapping[str, int]


def make_report(origin: Origin, train: Sequence[Item], test: Sequence[Item]) -> Report:
    """Return the report of a finished preparation."""
    users = [
        [item.user_id for item in items if item.user_id is not None] for items in (train, test)
    ]
    prompts = [sorted({item.prompt for item in items}) for items in (train, test)]
    near = near_duplicates(prompts[0], prompts[1])
    return Report(
        **asdict(origin),
        parts={"train": part_report(train), "test": part_report(test)},
        shared_users=overlap(users[0], users[1]),
        shared_prompts=overlap(prompts[0], prompts[1]),
        near_duplicates=len(near),
        near_duplicate_examples=near[:SAMPLES],
        samples=[item.model_dump(mode="json") for item in test[:SAMPLES]],
    )


def report_lines(report: Report) -> list[str]:
    """Return the report as a person reads it."""
    lines = [f"{report.name} from {report.source}, split by seed {report.seed}"]
    for name, part in report.parts.items():
        words = ", ".join(f"{text} {length.median:.0f}" for text, length in part.words.items())
        lines.append(
            f"  {name}: {part.items} items, {part.users} users, {part.prompts} prompts, "
            f"{part.preferences_per_item:.1f} preferences each; median words: {words}"
        )
    languages = {language for part in report.parts.values() for language in part.languages}
    lines.append(f"  languages: {', '.join(sorted(languages))}")
    drops = ", ".join(f"{reason}: {count}" for reason, count in report.dropped.items())
    lines.append(f"  {report.rows} usable rows; dropped: {drops or 'none'}")
    lines.append(
        f"  in both parts: {report.shared_users} users, {report.shared_prompts} prompts, "
        f"{report.near_duplicates} near-duplicate pairs of prompts"
    )
    return lines
