"""`mipo-eval runs` and `mipo-eval show RUN`."""

from itertools import islice
from textwrap import indent
from typing import TYPE_CHECKING

import click

from mipo_eval.cli.options import json_option, store_option

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mipo_eval.store import Store
    from mipo_eval.store.responses import Answered
    from mipo_eval.store.verdicts import Remark


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

    RUN is the beginning of a run's id, as `mipo-eval runs` lists them. --item also shows what
    every judge said of the response, with its raw replies.
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
        said = [_said(opened, entry) for entry in chosen]
        if as_json:
            details = [
                _sample_json(*about, whole=item_id is not None)
                for about in zip(chosen, said, strict=True)
            ]
            output.document(result_json(result, failing) | {"samples": details})
            return
        if result.scores:
            output.show(*score_tables(result.scores, found, failing))
        else:
            output.note("No scores yet: the run was stopped before its end; repeat its command.")
        for entry, remarks in zip(chosen, said, strict=True):
            output.show(_sample(entry, remarks))
            if item_id is not None:
                output.show(*_remarks(entry, remarks))


Said = dict[str, "list[Remark]"]
"""What judges said of an item's response and of its reference, by these two words."""


def _said(store: "Store", entry: "Answered") -> Said:
    from mipo_eval.records import text_key
    from mipo_eval.store.verdicts import remarks_on

    response = entry.response.text if entry.response else None
    texts = {"response": response, "reference": entry.item.reference}
    return {
        of: remarks_on(store, entry.item.key, text_key(text)) if text else []
        for of, text in texts.items()
    }


def _sample_json(entry: "Answered", said: Said, *, whole: bool) -> dict[str, object]:
    response = entry.response
    document: dict[str, object] = {
        "task": entry.task,
        "item": entry.item.model_dump(mode="json"),
        "response": response.text if response else None,
        "reason": response.reason if response else "not generated",
        "finish_reason": response.finish_reason if response else None,
        "verdicts": {
            of: [
                {
                    "judge": one.judge,
                    "preference": one.preference,
                    "rating": int(one.value) if one.value else None,
                    "reason": one.reason,
                }
                for one in remarks
                if one.preference is not None
            ]
            for of, remarks in said.items()
        },
    }
    return document | ({"said": _told(entry, said)} if whole else {})


def _sample(entry: "Answered", said: Said) -> "RenderableType":
    """Return one response as a person reads it: what was asked, what came, how it was rated."""
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
    own, reference = (
        {(one.judge, one.preference): one.value or str(one.reason) for one in said[of]}
        for of in ("response", "reference")
    )
    judges = dict.fromkeys(judge for judge, preference in own if preference is not None)
    for aspect, preference in enumerate(item.preferences):
        rated = [
            f"{judge}: {own.get((judge, aspect), '-')} "
            f"(reference {reference.get((judge, aspect), '-')})"
            for judge in judges
        ]
        body.append(f"\n[{'; '.join(rated) or 'not rated'}] ", style="cyan")
        body.append_text(inert(preference))
    return Panel(body, title=inert(f"{entry.task}: {item.item_id}"), title_align="left")


def _told(entry: "Answered", said: Said) -> list[dict[str, str | None]]:
    """Return every remark in words, with its raw reply; a choice stands with the response."""
    from mipo_eval.records import text_key

    reference = text_key(entry.item.reference or "")
    told = []
    for of, remarks in said.items():
        for one in remarks:
            row: dict[str, str | None] = {"judge": one.judge, "of": of}
            if one.preference is not None:
                row["preference"] = entry.item.preferences[one.preference]
            elif one.other_key is not None:
                if of == "reference":
                    continue
                of_reference = one.other_key == reference
                row["against"] = "the reference" if of_reference else "another response"
                row["shown_first"] = one.shown_first
            told.append(row | {"value": one.value, "reason": one.reason, "reply": one.reply})
    return told


def _remarks(entry: "Answered", said: Said) -> "list[RenderableType]":
    from mipo_eval.cli.tables import inert

    lines: list[RenderableType] = []
    for row in _told(entry, said):
        about = row.get("preference") or ""
        if "against" in row:
            about = f"against {row['against']}, shown first: {row['shown_first']}"
        head = f"{row['judge']} on the {row['of']}{about and f' ({about})'}: "
        reply = f"\n{indent(row['reply'].strip(), '    ')}" if row["reply"] else ""
        lines.append(inert(f"{head}{row['value'] or row['reason']}{reply}"))
    return lines
