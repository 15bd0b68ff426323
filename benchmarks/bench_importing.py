"""Imports: 100,000 annotations of ten models in AlpacaEval's form, by the command.

Beside it stands what a notebook does: the file read by json and the preferences averaged. Seconds
are of the processor.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.judge_server import REPOSITORY
from benchmarks.results import Result, compared, exponent, median_seconds, of_children

_MODELS = 10


def measure(quick: bool) -> Iterator[Result]:
    """Time the command on a tenth of the rows, on all, and on all a second time."""
    sizes = (100, 1000) if quick else (10_000, 100_000)
    with tempfile.TemporaryDirectory() as folder:
        costs = []
        for rows in sizes:
            path = _write(Path(folder) / f"{rows}.json", rows)
            store = f"{folder}/{rows}.db"
            costs.append(median_seconds(partial(_run, path, store), 1, of_children))
        size = f"{sizes[-1]:,} rows of {_MODELS} models"
        yield compared(
            lambda: median_seconds(lambda: _plain(path)),
            name="An import, beside reading the file and averaging", size=size, ours=costs[-1],
        )  # fmt: skip
        yield Result(
            name="The same import again", size=size,
            ours=median_seconds(lambda: _run(path, store), 1, of_children),
        )  # fmt: skip
        yield Result(
            name="An import: the exponent its time grows with", unit="",
            size=f"{sizes[0]:,} to {sizes[-1]:,} rows", ours=exponent(sizes, costs),
        )  # fmt: skip


def _write(path: Path, rows: int) -> Path:
    rng = random.Random(0)
    annotations = [
        {
            "instruction": f"Write about subject {n // _MODELS} in your own words.",
            "output_1": f"The baseline's answer about {n // _MODELS}. " * 8,
            "generator_1": "baseline",
            "output_2": f"An answer of model {n % _MODELS} about {n // _MODELS}. " * 8,
            "generator_2": f"model-{n % _MODELS}",
            "dataset": "made",
            "annotator": "weighted_judge",
            "preference": 1 + rng.random(),
        }
        for n in range(rows)
    ]
    path.write_text(json.dumps(annotations))
    return path


def _run(path: Path, store: str) -> None:
    command = [sys.executable, "-m", "mipo_eval", "import", str(path), "--store", store, "--json"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    subprocess.run(command, check=True, capture_output=True, env=environment)


def _plain(path: Path) -> dict[str, float]:
    found = defaultdict(list)
    for row in json.loads(path.read_text()):
        found[row["generator_2"]].append(row["preference"])
    return {model: sum(values) / len(values) for model, values in found.items()}
