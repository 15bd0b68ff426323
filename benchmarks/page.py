"""docs/benchmarks.md: a part per benchmark, each with its day and machine."""

import importlib
import os
import platform
import re
import traceback
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import psutil

from benchmarks.results import Result

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
BENCHMARKS: Mapping[str, str] = {
    "self_bleu": "Self-BLEU",
    "judging": "Judging a server",
    "processes": "Several processes on one run",
    "main_job": "The main job",
    "hf_rating": "Rating by a local model",
    "mipo_training": "MIPO's training step",
    "losses": "Contrastive losses",
    "bootstrap": "Statistics",
    "metrics": "Metrics of a million items",
    "reports": "Reports over a million verdicts",
    "board": "The board over a million verdicts",
    "importing": "Imports",
    "startup": "Starting up",
    "demo": "The demo on worse machines",
    "pair_generation": "Drawing pairs by vLLM",
}
"""Modules, `bench_NAME.py` with a function `measure(quick)`, and their headings on the page."""
_INTRODUCTION = """# Benchmarks

Written by `make bench`. Every ratio is of things measured in one run on one machine, in turns
where they are short; times are medians, of the processor where nothing is waited for. A ratio is
how many times as fast ours is, unless the row says otherwise. What is missed is missed: what is
known of why stands under the table.
"""
_QUIET = 10.0
"""Percent of the processors that other programs may use."""
_SHOWN = ("what", "size", "ours", "the other", "ratio", "wanted", "met")


def measured(name: str, quick: bool) -> bool:
    """Print what a benchmark finds, as it comes, and write it on the page; whether it succeeded."""
    where, found = machine(), list[Result]()
    try:
        for result in importlib.import_module(f"benchmarks.bench_{name}").measure(quick):
            print(" | ".join(filter(None, [*cells(result), result.note])), flush=True)
            found.append(result)
            if not quick:  # each time: a run that is cut leaves what it had
                part = f"{datetime.now(UTC):%Y-%m-%d}, {where}.\n\n{table(found)}"
                page = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
                PAGE.write_text(with_part(page, name, part), encoding="utf-8")
    except Exception:  # noqa: BLE001 - the others are measured all the same
        traceback.print_exc()
        return False
    return True


def machine() -> str:
    """Return the machine in words, and whether it does anything else."""
    cores = os.cpu_count() or 1
    told = Path("/proc/cpuinfo")
    flags = told.read_text().split() if told.exists() else []
    kinds = {"avx512f": " with AVX-512", "avx2": " with AVX2"}
    kind = next((words for flag, words in kinds.items() if flag in flags), "")
    # Not the load average: that still counts the benchmark before this one.
    used = psutil.cpu_percent(interval=1.0)
    busy = f"beside other work ({used:.0f} %): only ratios count" if used > _QUIET else "quiet"
    kernel = platform.machine().replace("_", "-")
    return f"{cores} cores, {kernel}{kind}, Python {platform.python_version()}, {busy}"


def cells(result: Result) -> list[str]:
    """Return a row of the table."""
    judged = {True: "yes", False: "**no**", None: ""}[result.met]
    figures = [_figure(result.ours, result.unit), _figure(result.other, result.unit)]
    return [result.name, result.size, *figures, _figure(result.ratio), result.wanted, judged]


def _figure(value: float | None, unit: str = "") -> str:
    """Return a number with three digits that count."""
    if value is None:
        return ""
    shown = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{shown} {unit}".strip()


def table(found: Sequence[Result]) -> str:
    """Return the table of a benchmark, with the notes below it."""
    rows = [_SHOWN, ["---"] * len(_SHOWN), *map(cells, found)]
    lines = [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows]
    notes = [
        f"- {', '.join(filter(None, (one.name, one.size)))}: {one.note}"
        for one in found
        if one.note
    ]
    return "\n".join([*lines, *([""] if notes else []), *notes, ""])


def parts_of(page: str) -> dict[str, str]:
    """Return the parts of the page by their headings."""
    pieces = re.split(r"^## (.+)\n\n", page, flags=re.MULTILINE)[1:]
    return dict(zip(pieces[::2], pieces[1::2], strict=True))


def with_part(page: str, name: str, part: str) -> str:
    """Return the page with one part new and the others as they were, in the order of the list."""
    absent = {
        title: f"Not measured yet: `python -m benchmarks {n}`." for n, title in BENCHMARKS.items()
    }
    parts = absent | parts_of(page) | {BENCHMARKS[name]: part}
    kept = [f"## {title}\n\n{parts[title].strip()}\n" for title in BENCHMARKS.values()]
    return "\n".join([_INTRODUCTION, *kept])
