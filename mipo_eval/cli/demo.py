"""`mipo-eval demo`: the paper's comparison on the embedded world, nothing to download."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Literal

import click

from mipo_eval.cli.options import examples, json_option, store_option
from mipo_eval.demo import TRAINING_ITEMS

if TYPE_CHECKING:
    from rich.table import Table

    from mipo_eval.cli.render import Output
    from mipo_eval.evaluation.run import Result
    from mipo_eval.stats.seeds import SeedSummary
    from mipo_eval.store.engine import Store
    from mipo_eval.training.demonstration import DemoMethod, Satisfaction

_BASELINE = "personalized prompting"
_ENGINE = "batch_size=64"
"""The fastest for a model so small; fixed, as one answer in hundreds turns with it."""
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


@click.command(epilog=examples("demo", "demo --methods all --seeds 3"))
@click.option(
    "--methods",
    type=click.Choice(["main", "all"]),
    default="main",
    show_default=True,
    help="main: SFT and MIPO; all: every method and negative strategy, and N = 1, 3, 5, 10.",
)
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Train each method this many times.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="The first training seed.")
@click.option(
    "--items",
    type=click.IntRange(min=32, max=2000),
    default=TRAINING_ITEMS,
    show_default=True,
    help="Training items.",
)
@click.option("--limit", type=click.IntRange(min=1), help="Only the first N test items.")
@click.option(
    "--rebuild",
    is_flag=True,
    help="Train the base model from its recipe, too, in place of the one that ships: some minutes.",
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
    """Train and compare methods on the embedded world: does MIPO help, and by how much?

    The demo world's base model, which ships, answers training prompts; each method trains it on
    that, and every checkpoint is asked all test items. Responses are rated by exact rules. What
    was made before is not made again; a stopped demo continues.
    """
    from rich.text import Text

    from mipo_eval.cli.render import Output
    from mipo_eval.store.engine import Store
    from mipo_eval.store.responses import answered
    from mipo_eval.training.demonstration import ALL, DEFAULT, outcomes

    output = Output(as_json=as_json)
    with Store.open(store) as opened:
        base = _rebuilt(output) if rebuild else "demo"
        job = _Demo(output=output, store=opened, base=base, items=items, limit=limit)
        rows = [
            _Row("default prompting", [job.evaluate(base, "default")], []),
            _Row(_BASELINE, [job.evaluate(base, "personalized")], []),
        ]
        asked = ALL if methods == "all" else DEFAULT
        rows += job.train(asked, range(seed, seed + seeds))
        answers = {
            row.label: [
                list(answered(opened, result.run.list_key, result.run.generation_key))
                for result in row.results
            ]
            for row in rows
        }
        found = outcomes(answers, baseline=_BASELINE)
    if as_json:
        output.document({"methods": [_row_json(row, found[row.label]) for row in rows]})
        return
    output.show(Text(), _table(rows, found), Text())
    output.note(_meaning(seeds))
    output.note(f"Responses and verdicts: mipo-eval show {rows[-1].results[0].run.run_id[:12]}")
    output.note("All of it in a browser: mipo-eval board")


def _rebuilt(output: "Output") -> str:
    """Return the folder of a base model that is made by the recipe, unless it is there."""
    from functools import partial

    from mipo_eval.demo.model import rebuild_base_model
    from mipo_eval.tasks.prompt import render_query

    folder = rebuild_base_model(
        partial(render_query, prompting="personalized"),
        on_step=output.steps("base model of the demo world"),
    )
    output.note(f"Base model made by its recipe: {folder}")
    return str(folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Demo:
    """Trains and evaluates on the demo world."""

    output: "Output"
    store: "Store"
    base: str
    items: int
    limit: int | None

    def evaluate(self, model: str, prompting: Literal["personalized", "default"]) -> "Result":
        """Return the scores of a model on the test items."""
        from mipo_eval.cli.evaluate import evaluate_asked
        from mipo_eval.evaluation.asked import EvaluationOptions

        asked = EvaluationOptions(
            model=model, suite="demo", prompting=prompting, limit=self.limit, engine=_ENGINE
        )
        return evaluate_asked(asked, self.store, self.output)

    def train(self, methods: Sequence["DemoMethod"], seeds: Sequence[int]) -> list[_Row]:
        """Return the methods, trained and evaluated; all of them with one seed, then the next."""
        rows = [_Row(method.label, [], []) for method in methods]
        for seed in seeds:
            for method, row in zip(methods, rows, strict=True):
                checkpoint, training_id = self._checkpoint(method, seed)
                row.training_ids.append(training_id)
                row.results.append(self.evaluate(checkpoint, "personalized"))
        return rows

    def _checkpoint(self, method: "DemoMethod", seed: int) -> tuple[str, str]:
        """Return folder and id of a method's checkpoint, training it if it is not there."""
        from mipo_eval import settings
        from mipo_eval.training.run import make_request, train

        recipe = method.recipe(self.items)
        request = make_request(recipe, model=self.base, suite="demo", out=Path(), seed=seed)
        name = f"{method.method}-{request.training_id[:16]}"
        request = replace(request, out=settings.cache_dir() / "demo-trained" / name)
        self.output.note(f"{method.label}, seed {seed}")
        training = train(self.store, request, self.output)
        return str(request.out), training.training_id


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
    over = "items and seeds" if seeds > 1 else "items; --seeds 3 shows what training again changes"
    return (
        "Satisfied: share of the stated wishes that the checker rates 4 or 5. Gain: points over "
        f"personalized prompting, paired by wish. Intervals are 95 %, over {over}. Wins: rated at "
        "least as high as the reference."
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
