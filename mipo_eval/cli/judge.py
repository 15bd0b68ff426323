"""`mipo-eval judge A B ...`: entrants of any kind against each other."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from string import ascii_uppercase
from typing import TYPE_CHECKING, Literal

import click

from mipo_eval.cli.options import (
    batch_option,
    data_option,
    json_option,
    limit_option,
    max_cost_option,
    store_option,
)
from mipo_eval.errors import ConfigError

if TYPE_CHECKING:
    from mipo_eval.cli.evaluate import Asked
    from mipo_eval.cli.output import Output
    from mipo_eval.duels.duel import Match
    from mipo_eval.duels.entrants import Entrant, Field
    from mipo_eval.judges import Judge, Protocol
    from mipo_eval.records import Item
    from mipo_eval.store import Store
    from mipo_eval.store.runs import Run

_SHOWN, _IN_DOCUMENT = 2, 10
"""Items shown per entrant, of those that tell the two apart."""


@click.command()
@click.argument("entrants", nargs=-1, metavar="A B ...")
@click.option("--suite", metavar="S", help="Name of a suite, or FILE.jsonl. Default: A's run's.")
@click.option(
    "--judge",
    "judges",
    multiple=True,
    metavar="J",
    help="As for the main job; repeat for several. Default: the suite's own.",
)
@click.option(
    "--protocol",
    type=click.Choice(["pairwise", "pairwise-tie", "rubric"]),
    help="Choose the better response, in both places, without or with ties; or compare ratings "
    "per preference.  [default: the preset's, else pairwise]",
)
@click.option(
    "--panel",
    type=click.Choice(["mean", "majority"]),
    help="Also what all judges say together.",
)
@click.option(
    "--prompting",
    type=click.Choice(["personalized", "default"]),
    default="personalized",
    show_default=True,
    help="As for the main job; for what is not generated yet.",
)
@click.option("--decoding", metavar="KEY=VALUE,...", default="", help="As for the main job.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of sampling and intervals.")
@limit_option
@data_option
@max_cost_option
@batch_option
@store_option
@json_option
def judge(  # noqa: PLR0913, PLR0917 - one parameter per flag; their number is limited by a test
    entrants: tuple[str, ...],
    suite: str | None,
    judges: tuple[str, ...],
    protocol: "Protocol | None",
    panel: Literal["mean", "majority"] | None,
    prompting: Literal["personalized", "default"],
    decoding: str,
    seed: int,
    limit: int | None,
    data_dir: Path | None,
    max_cost: float | None,
    batch: bool,
    store: str,
    as_json: bool,
) -> None:
    """Judge A against B (and C, ...): who is preferred, how surely, and on which items.

    An entrant is the beginning of a run's id, a model as --model names it (what is missing is
    generated), a file of responses (JSONL of {"item_id", "response"}, or the outputs of
    alpaca_eval), or `reference`.

    Each pair is asked about twice with the places exchanged; disagreement is a tie and counted as
    a position flip. The checker rates and prefers what it rates higher. Nothing is asked or paid
    for twice; a stopped command continues. docs/judge.md describes the --json document.
    """
    from mipo_eval.cli.evaluate import Asked
    from mipo_eval.cli.output import Output
    from mipo_eval.duels.duel import Wanted, fight
    from mipo_eval.store import Store

    output = Output(as_json=as_json)
    asked = Asked(
        model="",
        suite=suite or "",
        judges=judges,
        prompting=prompting,
        decoding=decoding,
        seed=seed,
        limit=limit,
        data_dir=data_dir,
        max_cost=max_cost,
        batch=batch,
    )
    with Store.open(store) as opened:
        duel = _prepare(opened, asked, entrants, protocol, output)
        wanted = Wanted(panel=panel, seed=seed)
        matches = fight(opened, duel.field, duel.entrants, duel.judges, wanted, output)
        _report(opened, duel, matches, output, as_json=as_json)


@dataclass(frozen=True, slots=True)
class _Duel:
    """What the options come to: on what, between whom, judged by whom."""

    field: "Field"
    entrants: "list[Entrant]"
    judges: "list[Judge]"


def _prepare(
    store: "Store",
    asked: "Asked",
    names: Sequence[str],
    protocol: "Protocol | None",
    output: "Output",
) -> _Duel:
    """Find items, judges and entrants; generate what entrants have not answered.

    Raises:
        MipoEvalError: whatever the user must change.
    """
    from mipo_eval.cli.evaluate import is_family, judge_loader
    from mipo_eval.duels.entrants import find_entrant, same_family
    from mipo_eval.judges import family_of
    from mipo_eval.judges.presets import duel_protocol

    if not 2 <= len(names) <= len(ascii_uppercase):
        raise click.UsageError("two entrants or more: mipo-eval judge A B --suite S --judge J")
    field = _field(store, asked, names)
    specs = tuple(dict.fromkeys(asked.judges)) or _own_judge(field)
    make = judge_loader(max_cost=asked.max_cost, batch=asked.batch)

    def load(spec: str, kind: str | None = None) -> "Judge":
        return make(spec, kind, duel_protocol(spec, protocol))

    # What can be wrong is found before a model is looked at, which may take minutes.
    known = {spec: load(spec) for spec in specs if not is_family(spec)}
    respond = partial(_respond, store, asked, output, list(known.values()))
    entrants = [
        find_entrant(store, label, name, field, respond=respond)
        for label, name in zip(ascii_uppercase, names, strict=False)
    ]
    if any(is_family(spec) for spec in specs):
        kind = same_family(entrants, family_of)
        known |= {spec: load(spec, kind) for spec in specs if is_family(spec)}
    return _Duel(field, entrants, [known[spec] for spec in specs])


def _field(store: "Store", asked: "Asked", names: Sequence[str]) -> "Field":
    """Return the items: the suite's, or without one those of the first run that is named."""
    from mipo_eval import settings
    from mipo_eval.duels.entrants import Field, is_stored_run
    from mipo_eval.store.items import get_items, put_list
    from mipo_eval.store.runs import find_run
    from mipo_eval.tasks.suites import find_suite, suite_items

    if asked.suite:
        suite = find_suite(asked.suite)
        if suite.form != "query":
            raise ConfigError(
                f"suite {suite.name} has answers that are right or wrong, which no judge has to "
                "tell: compare runs with mipo-eval compare"
            )
        tasks = suite_items(suite, asked.data_dir or settings.data_dir(), asked.limit)
        name, (list_key, _) = suite.name, put_list(store, tasks)
    else:
        run = next((find_run(store, name) for name in names if is_stored_run(name)), None)
        if run is None:
            raise ConfigError("no entrant is a stored run that tells the items: name --suite")
        name, list_key = run.suite, run.list_key
        if asked.limit:
            items: dict[str, list[Item]] = {}
            for task, item in get_items(store, list_key):
                items.setdefault(task, []).append(item)
            firsts = [(task, of_task[: asked.limit]) for task, of_task in items.items()]
            list_key, _ = put_list(store, firsts)
    return Field(suite=name, list_key=list_key, entries=list(get_items(store, list_key)))


def _own_judge(field: "Field") -> tuple[str, ...]:
    from mipo_eval.tasks.suites import SUITES

    own = SUITES[field.suite].judge if field.suite in SUITES else None
    if own is None:
        raise ConfigError(f"suite {field.suite} has no judge of its own: name one with --judge")
    return (own,)


def _respond(
    store: "Store", asked: "Asked", output: "Output", judges: "Sequence[Judge]", name: str
) -> "tuple[Run, str]":
    """Return the run of a model, with what it had not answered yet, and what tells its family."""
    from mipo_eval.cli.evaluate import build_evaluation
    from mipo_eval.evaluation.generate import respond
    from mipo_eval.evaluation.run import evaluate

    if not asked.suite:
        raise ConfigError(f"{name} is no stored run: name the suite it has to answer with --suite")

    made: list[str] = []

    def check_judges() -> None:  # before hours of generation, not after
        made.append(name)
        for judge in judges:
            asyncio.run(judge.backend.check())

    model = replace(asked, model=name, judges=(), batch=False, max_cost=None)
    evaluation = build_evaluation(model)
    run = respond(store, evaluation, output, before=check_judges)
    if made:  # a run of the main job like any other, with the scores that the suite has itself
        evaluate(store, evaluation, output)
    return run, evaluation.model.kind


def _report(
    store: "Store",
    duel: _Duel,
    matches: "Sequence[Match]",
    output: "Output",
    *,
    as_json: bool,
) -> None:
    from mipo_eval.cli.duels import duel_tables, expenses
    from mipo_eval.duels.apart import examples, gaps
    from mipo_eval.duels.document import duel_json, example_json, gap_json
    from mipo_eval.store.validations import failing_judges

    failing = failing_judges(store)
    pairs: dict[tuple[str, str], list[Match]] = {}
    for match in matches:
        pairs.setdefault((match.task, match.second.label), []).append(match)
    each = _IN_DOCUMENT if as_json else _SHOWN
    apart = {key: examples(store, found, each=each) for key, found in pairs.items()}
    wide = [(match, gaps(store, match, most=2 * each)) for match in matches]
    if not as_json:
        output.show(*duel_tables(duel.entrants, list(pairs.values()), apart, wide, failing))
        for line in expenses(duel.judges):
            output.note(line)
        return
    document = duel_json(duel.field, duel.entrants, duel.judges, matches, failing=failing)
    document["differ_most"] = [
        example_json(pairs[key][0], example) for key, found in apart.items() for example in found
    ]
    document["preference_gaps"] = [gap_json(match, gap) for match, found in wide for gap in found]
    output.document(document)
