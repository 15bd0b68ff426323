"""`mipo-eval reproduce RUN[:TASK[:METRIC]]`."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from mipo_eval.cli.options import json_option, store_option

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mipo_eval.cli.output import Output
    from mipo_eval.evaluation.run import Result
    from mipo_eval.reports.reproduction import Repeated, Reproduction


@click.command()
@click.argument("score", metavar="RUN[:TASK[:METRIC]]")
@click.option("--run", "execute", is_flag=True, help="Make it again, in a store of its own.")
@store_option
@json_option
def reproduce(score: str, execute: bool, store: str, as_json: bool) -> None:
    """Print the command behind a number; with --run, say whether it comes out again.

    RUN is the beginning of a run's id. Everything is made anew: responses, ratings, scores; a
    judge that costs money is paid again.
    """
    from mipo_eval.cli.output import Output
    from mipo_eval.reports.reproduction import outcome_json, outcomes, recipe, recipe_json
    from mipo_eval.store import Store

    output = Output(as_json=as_json)
    with Store.open(store, mode="read") as opened:
        found = recipe(opened, score)
    output.show(*_recipe(found))
    if not execute:
        if as_json:
            output.document(recipe_json(found))
        else:
            output.note(f"Make it again and compare: mipo-eval reproduce {score} --run")
        return
    result = _again(found, output)
    compared = outcomes(found.scores, result.scores)
    changed = _changed(found, result)
    if as_json:
        document = recipe_json(found) | {
            "reproduced": all(outcome.same for outcome in compared),
            "outcomes": [outcome_json(outcome) for outcome in compared],
            "changed": changed,
        }
        output.document(document)
    else:
        output.show(*_outcomes(compared, changed))


def _again(found: "Reproduction", output: "Output") -> "Result":
    """Make the run anew in a temporary store."""
    from mipo_eval.cli.evaluate import Asked, evaluate_asked
    from mipo_eval.store import Store

    options = dict(found.options)
    limit, data = (options.get(name) for name in ("limit", "data"))
    asked = Asked(
        model=options["model"],
        suite=options["suite"],
        judges=found.judges,
        prompting="default" if options.get("prompting") == "default" else "personalized",
        decoding=options["decoding"],
        seed=int(options["seed"]),
        limit=int(limit) if limit else None,
        data_dir=Path(data) if data else None,
        engine=options.get("engine", ""),
        controls="controls" in options,
    )
    with TemporaryDirectory() as folder, Store.open(f"{folder}/again.db") as store:
        return evaluate_asked(asked, store, output)


def _changed(found: "Reproduction", result: "Result") -> list[str]:
    """Return what is no longer as it was: items, model, versions."""
    lines = []
    if result.run.list_key != found.run.list_key:
        lines.append("the items of the suite are others than then")
    if result.run.generation_key != found.run.generation_key:
        lines.append("the model, its chat template or the query's wording are others than then")
    now = {k: str(v) for k, v in result.run.environment.items() if k != "command"}
    then = found.versions
    return lines + [
        f"{name}: {then.get(name, 'absent')} then, {now.get(name, 'absent')} now"
        for name in sorted(then.keys() | now.keys())
        if then.get(name) != now.get(name)
    ]


def _recipe(found: "Reproduction") -> list["RenderableType"]:
    from rich.table import Table
    from rich.text import Text

    from mipo_eval.cli.tables import inert

    facts = Table(box=None, pad_edge=False, show_header=False)
    facts.add_column(no_wrap=True, style="bold")
    facts.add_column(overflow="fold")
    run = found.run
    facts.add_row("run", f"{run.run_id[:12]}, made {run.created_at:%Y-%m-%d %H:%M} UTC")
    for name in ("model", "asking", "decoding"):
        part = found.spec.get(name) or {}
        facts.add_row(name, inert(", ".join(f"{key} {value}" for key, value in part.items())))
    for judge in found.judges:
        facts.add_row("judge", inert(judge))
    facts.add_row("with", ", ".join(f"{name} {value}" for name, value in found.versions.items()))
    for score in found.scores if len(found.scores) <= 3 else ():
        facts.add_row(f"{score.task}: {score.metric}", f"{_number(score.value)} (n {score.n})")
    return [facts, Text(""), inert(found.command)]


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.6g}"


def _outcomes(compared: "list[Repeated]", changed: list[str]) -> list["RenderableType"]:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from mipo_eval.cli.tables import inert

    table = Table(header_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("number", overflow="fold")
    for column in ("stored", "again", "n"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    for outcome in compared:
        before, again = outcome.before, outcome.again
        table.add_row(
            inert(f"{before.task}: {before.metric}"),
            _number(before.value),
            _number(again.value) if again else "absent",
            str(before.n) if again is None or again.n == before.n else f"{before.n}/{again.n}",
            _verdict(outcome),
        )
    same = sum(outcome.same for outcome in compared)
    verdict = f"{same} of {len(compared)} numbers came out again."
    style = "bold green" if same == len(compared) else "bold yellow"
    lines = [Text(verdict, style=style)]
    lines += [Text(inert(line).plain, style="yellow") for line in changed]
    return [table, *lines]


def _verdict(outcome: "Repeated") -> str:
    if outcome.same:
        return "same"
    if outcome.again is None:
        return "not made again"
    return {True: "other, within the interval", False: "other, outside", None: "other"}[
        outcome.within
    ]
