"""`mipo-eval plan`: what a run will need, before it is started."""

import shlex
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from mipo_eval.cli import options
from mipo_eval.cli.options import examples
from mipo_eval.evaluation.asked import EvaluationOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from mipo_eval.evaluation.generate import Evaluation
    from mipo_eval.reports.plan import Amount, JudgingPlan
    from mipo_eval.store.engine import Store


_MODEL = ("--model", "CKPT")
"""Stands in the next command where no model was named."""


@click.command(
    epilog=examples(
        "plan --suite personalization --judge gpt-4.1",
        "plan --suite items.jsonl --judge gpt-4.1 --rate 60 --seeds 3",
    )
)
@options.suite_option(required=True)
@click.option(
    "--judge",
    metavar="JUDGE",
    help="One judge, named as for evaluation. Default: the suite's own judge.",
)
@click.option("--model", metavar="CKPT", help="Leave out what this model has already answered.")
@options.prompting_option
@options.system_option
@options.query_option
@options.decoding_option
@options.engine_option
@options.controls_option
@options.limit_option
@options.data_option
@click.option(
    "--rate",
    type=click.FloatRange(0, 100),
    help="Win rate that you expect, in percent.",
    metavar="PERCENT",
)
@click.option(
    "--rho", type=float, help="Correlation between the verdicts on two methods for the same item."
)
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Number of training seeds of each method.",
)
@click.option(
    "--seed-sd",
    type=click.FloatRange(0),
    help="Standard deviation of the win rate between training seeds, in points.",
    metavar="POINTS",
)
@click.option("--tokenizer", metavar="PATH", help="tokenizer.json of the judge, or its folder.")
@options.plugin_option
@options.store_option
@options.json_option
def plan(  # noqa: PLR0913 - one parameter per flag
    judge: str | None,
    model: str | None,
    rate: float | None,
    rho: float | None,
    tokenizer: str | None,
    store: str,
    *,
    seeds: int,
    seed_sd: float | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Show what a run would need, before you start it.

    It shows calls, tokens, money, minutes, and the smallest difference that the run could detect.
    No model is asked and nothing is written. What the store already has is not counted.
    """
    from mipo_eval import settings
    from mipo_eval.cli.render import Output
    from mipo_eval.errors import ConfigError
    from mipo_eval.evaluation.asked import build_evaluation, own_judge
    from mipo_eval.judges.presets import load_judge
    from mipo_eval.reports.plan import Assumed, plan_json
    from mipo_eval.reports.plan import plan as make
    from mipo_eval.tasks.sources import suite_items
    from mipo_eval.tasks.suites import find_suite, with_query

    output = Output(as_json=as_json)
    asked = EvaluationOptions(model=model or "", **given)
    suite = with_query(find_suite(asked.suite), asked.query)
    named = judge or own_judge(suite.name)
    if asked.engine and model is None:
        raise ConfigError("--engine needs --model: it says how this model is run")
    key, kind, besides = None, None, ["responses and verdicts of runs with another --seed than 0"]
    if model is not None:
        key, kind, scoring = _responses(build_evaluation(replace(asked, judges=(named,))))
        besides += scoring
    tasks = suite_items(suite, asked.data_dir or settings.data_dir(), asked.limit)
    with opened_to_read(store) as opened:
        assumed = Assumed(
            rate=rate,
            rho=rho,
            seeds=seeds,
            seed_sd=seed_sd,
            tokenizer=tokenizer,
            controls=asked.controls,
            not_counted=tuple(besides),
        )
        loaded = load_judge(named, judged_model=kind)
        made = make(opened, tasks, loaded, generation_key=key, assumed=assumed)
    output.document({"suite": suite.name, "judge": named, "model": model} | plan_json(made))
    output.show(*_shown(made, f"{suite.name} judged by {named}"))
    typed = options.as_typed(click.get_current_context())
    output.note(f"Start it: mipo-eval {shlex.join([*([] if model else _MODEL), *typed])}")


def _responses(evaluation: "Evaluation") -> tuple[str, str | None, list[str]]:
    """Return the key of the responses, what tells the model's family, and what is not counted."""
    from mipo_eval.evaluation.generate import responses_spec
    from mipo_eval.keys import digest

    scorer = evaluation.scoring_model
    besides = [f"likelihoods by {scorer}, which are computed on this machine"]
    key = digest(responses_spec(evaluation))
    return key, evaluation.model.kind, besides if scorer else []


@contextmanager
def opened_to_read(url: str) -> "Iterator[Store]":
    """Open the store to read; where there is none yet, an empty one that is thrown away."""
    from mipo_eval.store.engine import Store

    if "://" in url or Path(url).exists():
        with Store.open(url, mode="read") as store:
            yield store
        return
    with TemporaryDirectory() as folder, Store.open(f"{folder}/empty.db") as store:
        yield store


def _shown(made: "JudgingPlan", about: str) -> "list[RenderableType]":
    from rich.table import Table

    from mipo_eval.cli.render import Grid, facts, inert, number
    from mipo_eval.reports.plan import WANTED_DIFFERENCE

    needs = Table(box=None, pad_edge=False, show_header=False)
    needs.add_column(no_wrap=True)
    needs.add_column(justify="right", no_wrap=True)
    needs.add_column(overflow="fold", style="dim")
    needs.add_row("items", f"{made.items:,}", "")
    stored = f"{made.responses_stored:,} are in the store" if made.responses_stored else ""
    needs.add_row("responses to generate", f"{made.responses_to_make:,}", stored)
    needs.add_row("judge calls", f"{made.calls:,}", _subtracted(made))
    needs.add_row("prompt tokens", *_amount(made.prompt_tokens, ",.0f"))
    needs.add_row("reply tokens", *_amount(made.completion_tokens, ",.0f"))
    needs.add_row("US dollars", *_amount(made.cost, ",.2f"))
    needs.add_row("minutes of judging", *_amount(made.minutes, ",.1f"))
    columns = ("items", "prompts", "users", "detectable", f"items for {WANTED_DIFFERENCE:g} points")
    power = Grid("task", numbers=columns)
    for task in made.power:
        needed = number(task.needed, ",d")
        counts = (str(task.n), str(task.prompts), str(task.users or ""))
        power.add(task.task, *counts, number(task.detectable_difference), needed)
    notes = ["detectable: smallest difference (points) that 80 of 100 repetitions would show."]
    notes += [f"Not counted: {line}." for line in made.not_counted]
    sources = facts((", ".join(tasks), said) for said, tasks in _by_source(made).items())
    return [inert(about, "bold"), needs, power, sources, *(inert(line, "dim") for line in notes)]


def _by_source(made: "JudgingPlan") -> dict[str, list[str]]:
    """Return where the numbers of tasks come from, and which tasks' they are."""
    found: dict[str, list[str]] = {}
    for task in made.power:
        found.setdefault(task.assumed, []).append(task.task)
    return found


def _amount(amount: "Amount", form: str) -> tuple[str, str]:
    return "not known" if amount.value is None else f"{amount.value:{form}}", amount.source


def _subtracted(made: "JudgingPlan") -> str:
    told = f"for {made.ratings:,} ratings"
    if stored := made.known + made.in_ledger:
        told += f", of which {stored:,} are in the store"
    if made.on_unmade:
        told += f"; {made.on_unmade:,} of the calls are about responses that do not exist yet"
    return told
