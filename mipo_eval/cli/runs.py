"""`mipo-eval runs` and `mipo-eval show RUN`."""

from itertools import islice
from typing import TYPE_CHECKING

import click

from mipo_eval.cli.options import json_option, store_option

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mipo_eval.store import Store
    from mipo_eval.store.responses import Answered


@click.command("runs")
@store_option
@json_option
def list_runs(store: str, as_json: bool) -> None:
    """List the runs of the store, the latest first."""
    from mipo_eval.cli.output import Output
    from mipo_eval.cli.tables import run_table
    from mipo_eval.store import Store
    from mipo_eval.store import runs as stored
    from mipo_eval.store.responses import count_responses

    output = Output(as_json=as_json)
    with Store.open(store, mode="read") as opened:
        found = [(run, count_responses(opened, run)) for run in stored.list_runs(opened)]
    if as_json:
        rows = [
            {
                "run_id": run.run_id,
                "model": run.model,
                "suite": run.suite,
                "prompting": run.prompting,
                "seed": run.seed,
                "n_items": run.n_items,
                "responses": done,
                "updated_at": run.updated_at.isoformat(),
            }
            for run, done in found
        ]
        output.document({"runs": rows})
    elif found:
        output.show(run_table(found))
        output.note("Scores, responses and verdicts of one: mipo-eval show RUN")
    else:
        output.note("No runs yet: mipo-eval demo makes some.")


@click.command()
@click.argument("run")
@click.option(
    "--samples", type=click.IntRange(min=0), default=3, show_default=True, help="Responses shown."
)
@click.option("--item", "item_id", metavar="ID", help="Show the response to this item.")
@store_option
@json_option
def show(run: str, samples: int, item_id: str | None, store: str, as_json: bool) -> None:
    """Show a run's scores and some of its responses with their verdicts.

    RUN is the beginning of a run's id, as `mipo-eval runs` lists them.
    """
    from mipo_eval.cli.evaluate import result_json
    from mipo_eval.cli.output import Output
    from mipo_eval.cli.tables import score_tables
    from mipo_eval.errors import ConfigError
    from mipo_eval.evaluation.run import Result
    from mipo_eval.evaluation.score import Numbers
    from mipo_eval.store import Store
    from mipo_eval.store import runs as stored
    from mipo_eval.store.responses import answered
    from mipo_eval.store.validations import failing_by_short_key

    output = Output(as_json=as_json)
    with Store.open(store, mode="read") as opened:
        found = stored.find_run(opened, run)
        result = Result(run=found, scores=Numbers(opened).of_run(found))
        failing = failing_by_short_key(opened)
        entries = answered(opened, found.list_key, found.generation_key)
        if item_id is not None:
            entries = (entry for entry in entries if entry.item.item_id == item_id)
        chosen = list(islice(entries, samples if item_id is None else 1))
        if item_id is not None and not chosen:
            raise ConfigError(f"run {run} has no item {item_id!r}")
        if as_json:
            details = [_sample_json(opened, entry) for entry in chosen]
            output.document(result_json(result, failing) | {"samples": details})
            return
        if result.scores:
            output.show(*score_tables(result.scores, found, failing))
        else:
            output.note("No scores yet: the run was stopped before its end; repeat its command.")
        for entry in chosen:
            output.show(*_sample(opened, entry))


def _sample_json(store: "Store", entry: "Answered") -> dict[str, object]:
    response = entry.response
    return {
        "task": entry.task,
        "item": entry.item.model_dump(mode="json"),
        "response": response.text if response else None,
        "reason": response.reason if response else "not generated",
        "finish_reason": response.finish_reason if response else None,
        "verdicts": {
            which: [
                {"judge": judge, "preference": aspect, "rating": rating, "reason": reason}
                for judge, aspect, rating, reason in _verdicts(store, entry, text)
            ]
            for which, text in (
                ("response", response.text if response else None),
                ("reference", entry.item.reference),
            )
        },
    }


def _verdicts(
    store: "Store", entry: "Answered", text: str | None
) -> list[tuple[str, int, int | None, str | None]]:
    from mipo_eval.records import text_key
    from mipo_eval.store.verdicts import ratings_of

    return ratings_of(store, entry.item.key, text_key(text)) if text else []


def _sample(store: "Store", entry: "Answered") -> list["RenderableType"]:
    """Return one response as a person reads it: what was asked, by whom, what came, how rated."""
    from rich.panel import Panel
    from rich.text import Text

    from mipo_eval.cli.tables import inert

    item, response = entry.item, entry.response
    text = response.text if response else None
    body = Text()
    parts = [("prompt", item.prompt), ("context", item.context), ("response", text)]
    if text is None:
        parts[2] = ("no response", (response.reason if response else None) or "not generated")
    elif response and response.finish_reason == "length":
        parts[2] = ("response (cut at the token limit)", text)
    for name, content in [*parts, ("reference", item.reference)]:
        if content:
            body.append(f"{name}: ", style="bold")
            body.append_text(inert(content))
            body.append("\n")
    for aspect, preference in enumerate(item.preferences):
        rated = [
            f"{judge}: {_said(store, entry, text, judge, aspect)} (reference "
            f"{_said(store, entry, item.reference, judge, aspect)})"
            for judge in _judges(store, entry, text)
        ]
        body.append(f"\n[{'; '.join(rated) or 'not rated'}] ", style="cyan")
        body.append_text(inert(preference))
    return [Panel(body, title=inert(f"{entry.task}: {item.item_id}"), title_align="left")]


def _judges(store: "Store", entry: "Answered", text: str | None) -> list[str]:
    return list(dict.fromkeys(judge for judge, *_ in _verdicts(store, entry, text)))


def _said(store: "Store", entry: "Answered", text: str | None, judge: str, aspect: int) -> str:
    for name, index, rating, reason in _verdicts(store, entry, text):
        if (name, index) == (judge, aspect):
            return str(rating) if rating is not None else str(reason)
    return "-"
