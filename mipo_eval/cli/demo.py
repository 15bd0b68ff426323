"""`mipo-eval demo`: the paper's comparison on the embedded world, nothing to download."""

import io
import json
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

import click

from mipo_eval.cli.options import examples, json_option, store_option
from mipo_eval.demo import TRAINING_ITEMS

if TYPE_CHECKING:
    from rich.table import Table

    from mipo_eval.cli.render import Output
    from mipo_eval.evaluation.run import Result
    from mipo_eval.grid.file import GridFile
    from mipo_eval.stats.seeds import SeedSummary
    from mipo_eval.store.engine import Store
    from mipo_eval.store.responses import Answered
    from mipo_eval.training.demonstration import Satisfaction

_BASELINE = "personalized prompting"
_MAIN = 2
"""Methods, the first of the grid, that are trained unless all are asked for."""
_COLUMNS = {
    "win_rate_tie_inclusive": ("wins (%)", 1),
    "self_bleu_4": ("Self-BLEU", 3),
}
"""Scores beside the share of satisfied wishes, with their digits."""


@dataclass(frozen=True, slots=True)
class _Row:
    """A method with its evaluations, one per training seed."""

    label: str
    results: list["Result"]
    training_ids: list[str]
    answers: list[list["Answered"]]


@click.command(epilog=examples("demo", "demo --methods all --seeds 3"))
@click.option(
    "--methods",
    type=click.Choice(["main", "all"]),
    default="main",
    show_default=True,
    help="main: SFT and MIPO. all: also the other methods of the paper's Table 1, MIPO with each "
    "kind of negatives, and with 1, 3, 5 and 10 negatives for each chosen response.",
)
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    metavar="N",
    default=1,
    show_default=True,
    help="Train each method N times, with different seeds.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="The first of these seeds.")
@click.option(
    "--items",
    type=click.IntRange(min=32, max=2000),
    metavar="N",
    default=TRAINING_ITEMS,
    show_default=True,
    help="Number of training items.",
)
@click.option(
    "--limit", type=click.IntRange(min=1), metavar="N", help="Use only the first N test items."
)
@click.option(
    "--rebuild",
    is_flag=True,
    help="Also train the base model again, instead of using the one that comes with mipo-eval. "
    "This takes some minutes.",
)
@store_option
@json_option
def demo(  # noqa: PLR0913, PLR0917 - one parameter per flag; limited by a test
    methods: Literal["main", "all"],
    seeds: int,
    seed: int,
    items: int,
    limit: int | None,
    rebuild: bool,
    store: str,
    as_json: bool,
) -> None:
    """Train and compare methods on a small built-in world.

    A small base model comes with mipo-eval. It answers training prompts, and each method trains it
    on these answers. Every checkpoint then answers all test items, and exact rules rate the
    responses. No work is done twice: a stopped demo continues.
    """
    from rich.text import Text

    from mipo_eval.cli.render import Output
    from mipo_eval.store.engine import Store
    from mipo_eval.training.demonstration import outcomes

    output = Output(as_json=as_json)
    base = _rebuilt(output) if rebuild else "demo"
    steps = _made(_asked(base, methods, range(seed, seed + seeds), items, limit), store)
    with Store.open(store, mode="read") as opened:
        rows = _rows(opened, steps)
        found = outcomes({row.label: row.answers for row in rows}, baseline=_BASELINE)
    if as_json:
        output.document({"methods": [_row_json(row, found[row.label]) for row in rows]})
        return
    output.show(Text(), _table(rows, found), Text())
    output.note(_meaning(seeds))
    output.suggest("Read its responses", "show", rows[-1].results[0].run.run_id[:8])
    output.suggest("See everything in a browser", "board")


def _rebuilt(output: "Output") -> str:
    """Return the folder of a base model that is made by the recipe, unless it is there."""
    from functools import partial

    from mipo_eval.demo.model import rebuild_base_model
    from mipo_eval.tasks.prompt import render_query

    folder = rebuild_base_model(
        partial(render_query, prompting="personalized"),
        on_step=output.steps("base model of the demo world"),
    )
    output.note(f"The base model was trained again: {folder}")
    return str(folder)


def _asked(
    base: str, methods: Literal["main", "all"], seeds: Sequence[int], items: int, limit: int | None
) -> "GridFile":
    """Return the grid of the demo world, as far as it is asked for."""
    from mipo_eval.grid.file import ALL, ModelPart, read_grid

    grid = read_grid("demo")
    return grid.model_copy(
        update={
            "models": [ModelPart(model=base)],
            "methods": grid.methods if methods == "all" else grid.methods[:_MAIN],
            "seeds": list(seeds),
            "set": grid.set | {ALL: grid.set[ALL] | {"items.limit": items}},
            "evaluation": grid.evaluation.model_copy(update={"limit": limit}),
        }
    )


def _made(asked: "GridFile", store: str) -> list[dict[str, Any]]:
    """Have `mipo-eval grid` make what is missing; return its steps, with the ids of results."""
    told = io.StringIO()
    with TemporaryDirectory() as folder:
        file = Path(folder) / "demo.yaml"
        file.write_text(asked.model_dump_json(exclude_defaults=True), encoding="utf-8")  # is YAML
        arguments = ["grid", str(file), "--store", store, "--json"]
        with redirect_stdout(told):
            root = click.get_current_context().find_root().command
            root.main(arguments, prog_name="mipo-eval", standalone_mode=False)
    steps: list[dict[str, Any]] = json.loads(told.getvalue())["steps"]
    return steps


def _rows(store: "Store", steps: Sequence[Mapping[str, Any]]) -> list[_Row]:
    """Return what the store has of the grid, which is all of it; a row per method."""
    from mipo_eval.evaluation.run import Result
    from mipo_eval.evaluation.score import Numbers
    from mipo_eval.store.responses import answered
    from mipo_eval.store.runs import find_run

    numbers = Numbers(store)
    rows: dict[str, _Row] = {}
    for step in steps:
        row = rows.setdefault(step["row"], _Row(step["row"], [], [], []))
        if step["kind"] == "train":
            row.training_ids.append(step["id"])
            continue
        run = find_run(store, step["id"])
        row.results.append(Result(run=run, scores=numbers.of_run(run)))
        row.answers.append(list(answered(store, run.list_key, run.generation_key)))
    return list(rows.values())


def _mean(row: _Row, metric: str) -> float | None:
    """Return a further score's mean over seeds; None where one has no such score."""
    values = [
        next((score.value for score in result.scores if score.metric == metric), None)
        for result in row.results
    ]
    known = [value for value in values if value is not None]
    return fmean(known) if len(known) == len(values) else None


def _interval(summary: "SeedSummary") -> tuple[float, float] | None:
    """Over items and seeds; over items alone where there is one seed."""
    return summary.ci95 or summary.items_ci95


def _table(rows: Sequence[_Row], found: "dict[str, Satisfaction]") -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    # Without edges the longest rows fit into 80 columns.
    table = Table(header_style="bold", box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("method", no_wrap=True)
    for name in ("satisfied (%)", "gain", *(label for label, _ in _COLUMNS.values())):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        outcome = found[row.label]
        # A model that is not told what is wanted is no worse at following it: no gain to show.
        gain = outcome.gain if row.training_ids else None
        cells = [_shown(outcome.satisfied), _shown(gain, "+") if gain else ""]
        for metric, (_, digits) in _COLUMNS.items():
            value = _mean(row, metric)
            cells.append("none" if value is None else f"{value:.{digits}f}")
        table.add_row(row.label, *cells)
    return table


def _shown(summary: "SeedSummary", sign: str = "") -> str:
    interval = _interval(summary)
    shown = f"{summary.mean:{sign}.1f}"
    if interval is None:
        return shown
    low, high = (round(bound) + 0 for bound in interval)  # + 0: no minus before a zero
    return f"{shown} [{low}, {high}]"


def _meaning(seeds: int) -> str:
    over = "items and seeds" if seeds > 1 else "items"
    again = "" if seeds > 1 else " --seeds 3 shows how much another training changes."
    return (
        "Satisfied: share of the preferences that the checker rates 4 or 5. Gain: difference to "
        "personalized prompting in points, paired by preference. Wins: share of responses rated at "
        f"least as high as the reference. Intervals: 95 %, over {over}.{again}"
    )


def _row_json(row: _Row, outcome: "Satisfaction") -> dict[str, object]:
    from mipo_eval.cli.evaluate import result_json

    return {
        "method": row.label,
        "satisfied": _summary_json(outcome.satisfied),
        "gain": _summary_json(outcome.gain) if outcome.gain else None,
        "trainings": row.training_ids,
        "runs": [result_json(result) for result in row.results],
    }


def _summary_json(summary: "SeedSummary") -> dict[str, object]:
    interval = _interval(summary)
    return {
        "value": summary.mean,
        "ci95": list(interval) if interval else None,
        "std": summary.std,
        "per_seed": list(summary.per_seed),
    }
