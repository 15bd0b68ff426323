"""`mipo-eval plan`: what a run will need, before it is started."""

from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

import click

from mipo_eval.cli.options import data_option, json_option, limit_option, store_option

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from mipo_eval.evaluation.run import Evaluation
    from mipo_eval.reports.plan import Amount, JudgingPlan
    from mipo_eval.store import Store


@click.command()
@click.option("--suite", required=True, metavar="S", help="Name of a suite, or FILE.jsonl.")
@click.option("--judge", metavar="J", help="As for the main job. Default: the suite's own.")
@click.option("--model", metavar="M", help="Subtract what this model has answered already.")
@click.option(
    "--prompting",
    type=click.Choice(["personalized", "default"]),
    default="personalized",
    show_default=True,
    help="As for the main job; with --model.",
)
@click.option("--decoding", metavar="KEY=VALUE,...", default="", help="As for the main job.")
@click.option("--engine", metavar="KEY=VALUE,...", default="", help="As for the main job.")
@click.option("--controls", is_flag=True, help="Count the control entrants too.")
@limit_option
@data_option
@click.option("--rate", type=click.FloatRange(0, 100), help="Expected win rate (%).")
@click.option("--rho", type=float, help="Correlation of two methods on the same item.")
@click.option("--tokenizer", metavar="PATH", help="The judge's tokenizer.json, or its folder.")
@store_option
@json_option
def plan(  # noqa: PLR0913, PLR0917 - one parameter per flag; their number is limited by a test
    suite: str,
    judge: str | None,
    model: str | None,
    prompting: Literal["personalized", "default"],
    decoding: str,
    engine: str,
    controls: bool,
    limit: int | None,
    data_dir: Path | None,
    rate: float | None,
    rho: float | None,
    tokenizer: str | None,
    store: str,
    as_json: bool,
) -> None:
    """Say what a run will need: calls, tokens, money, minutes, and what it could detect.

    Asks nobody and writes nothing; what the store has is subtracted.
    """
    from mipo_eval import settings
    from mipo_eval.cli.evaluate import Asked, build_evaluation
    from mipo_eval.cli.output import Output
    from mipo_eval.errors import ConfigError
    from mipo_eval.judges import load_judge
    from mipo_eval.reports.plan import Assumed, plan_json
    from mipo_eval.reports.plan import plan as make
    from mipo_eval.suites import find_suite, suite_items

    output = Output(as_json=as_json)
    found = find_suite(suite)
    named = judge or found.judge
    if named is None:
        raise ConfigError(f"suite {found.name} has no judge of its own: name one with --judge")
    if engine and model is None:
        raise ConfigError("--engine says how a model is run: name the model with --model")
    key, kind, besides = None, None, ["runs with a --seed other than 0"]
    if model is not None:
        asked = Asked(
            model=model, suite=suite, prompting=prompting, decoding=decoding, limit=limit,
            judges=(named,), engine=engine, data_dir=data_dir,
        )  # fmt: skip
        key, kind, scoring = _responses(build_evaluation(asked))
        besides += scoring
    tasks = suite_items(found, data_dir or settings.data_dir(), limit)
    with _opened(store) as opened:
        assumed = Assumed(
            rate=rate, rho=rho, tokenizer=tokenizer, controls=controls, not_counted=tuple(besides)
        )
        loaded = load_judge(named, judged_model=kind)
        made = make(opened, tasks, loaded, generation_key=key, assumed=assumed)
    about = {"suite": found.name, "judge": named, "model": model}
    if as_json:
        output.document(about | plan_json(made))
    else:
        output.show(*_shown(made, f"{found.name} judged by {named}"))


def _responses(evaluation: "Evaluation") -> tuple[str, str | None, list[str]]:
    """Return the key of the responses, what tells the model's family, and what is not counted."""
    from mipo_eval.evaluation.generate import responses_spec
    from mipo_eval.keys import digest

    scorer = evaluation.scoring_model
    besides = [f"likelihoods by {scorer}: forward passes on this machine, no calls"]
    key = digest(responses_spec(evaluation))
    return key, evaluation.model.kind, besides if scorer else []


@contextmanager
def _opened(url: str) -> "Iterator[Store]":
    """Open the store to read; where there is none yet, an empty one that is thrown away."""
    from mipo_eval.store import Store

    if "://" in url or Path(url).exists():
        with Store.open(url, mode="read") as store:
            yield store
        return
    with TemporaryDirectory() as folder, Store.open(f"{folder}/empty.db") as store:
        yield store


def _shown(made: "JudgingPlan", about: str) -> list["RenderableType"]:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from mipo_eval.cli.tables import inert
    from mipo_eval.reports.plan import WANTED_DIFFERENCE

    title = inert(about)
    title.stylize("bold")
    needs = Table(box=None, pad_edge=False, show_header=False)
    needs.add_column(no_wrap=True)
    needs.add_column(justify="right", no_wrap=True)
    needs.add_column(overflow="fold", style="dim")
    needs.add_row("items", f"{made.items:,}", "")
    needs.add_row("responses to make", f"{made.responses_to_make:,}", _stored(made))
    needs.add_row("judge calls", f"{made.calls:,}", _subtracted(made))
    needs.add_row("prompt tokens", *_amount(made.prompt_tokens, ",.0f"))
    needs.add_row("reply tokens", *_amount(made.completion_tokens, ",.0f"))
    needs.add_row("US dollars", *_amount(made.cost, ",.2f"))
    needs.add_row("minutes of judging", *_amount(made.minutes, ",.1f"))
    power = Table(header_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    power.add_column("task", overflow="fold")
    for column in ("items", "can show", f"items for {WANTED_DIFFERENCE:g} points"):
        power.add_column(column, justify="right", no_wrap=True)
    power.add_column("from", overflow="fold")
    for task in made.power:
        shown = "" if task.detectable is None else f"{task.detectable:.1f}"
        needed = "" if task.needed is None else f"{task.needed:,}"
        power.add_row(inert(task.task), str(task.n), shown, needed, task.assumed)
    note = "can show: smallest difference in points (5 % two-sided, power 80 %)"
    besides = [inert(f"not counted: {line}") for line in made.not_counted]
    for line in besides:
        line.stylize("dim")
    return [title, needs, power, Text(note, style="dim"), *besides]


def _amount(amount: "Amount", form: str) -> tuple[str, str]:
    return "not known" if amount.value is None else f"{amount.value:{form}}", amount.source


def _stored(made: "JudgingPlan") -> str:
    return f"{made.responses_stored:,} stored" if made.responses_stored else ""


def _subtracted(made: "JudgingPlan") -> str:
    parts = [f"of {made.ratings:,} ratings; {made.known:,} rated, {made.in_ledger:,} in the ledger"]
    if made.on_unmade:
        parts.append(f"{made.on_unmade:,} on responses not made yet")
    return "; ".join(parts)
