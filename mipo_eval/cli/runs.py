"""`mipo-eval runs`, `show RUN` and `reproduce RUN[:TASK[:METRIC]]`."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import indent
from typing import TYPE_CHECKING

import click

from mipo_eval.cli.options import examples, reading
from mipo_eval.evaluation.asked import EvaluationOptions

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mipo_eval.cli.render import Output
    from mipo_eval.evaluation.run import Result
    from mipo_eval.records import Run
    from mipo_eval.reports.reproduction import Repeated, Reproduction
    from mipo_eval.store.engine import Store
    from mipo_eval.store.responses import Answered
    from mipo_eval.store.verdicts import Remark


@click.command("runs", epilog=examples("runs", "runs --store team.db --json"))
@reading
def list_runs(store: "Store", output: "Output") -> None:
    """List the runs in the store, the latest first."""
    from mipo_eval.cli.evaluate import run_json
    from mipo_eval.reports.names import run_names, stored_rules
    from mipo_eval.store import runs as stored
    from mipo_eval.store.responses import count_responses

    found = [(run, count_responses(store, run)) for run in stored.list_runs(store)]
    names = run_names([run for run, _ in found], stored_rules(store))
    rows = [
        run_json(run) | {"name": n, "responses": done, "updated_at": run.updated_at.isoformat()}
        for (run, done), n in zip(found, names, strict=True)
    ]
    output.document({"runs": rows})
    if found:
        output.show(_run_table(found, names))
        output.suggest("See scores and responses of the latest", "show", found[0][0].run_id[:8])
    else:
        output.suggest("There are no runs yet. Make some", "demo")


def _run_table(runs: "Sequence[tuple[Run, int]]", names: Sequence[str]) -> "RenderableType":
    """Return one row per run; the number is of items that have a response."""
    from rich.text import Text

    from mipo_eval.cli.render import Grid

    columns = ("run", "model", "suite", "prompting")
    table = Grid(*columns, numbers=["items"], last="when (UTC)")
    # 80 columns are enough: what is short stays whole, models and suites are folded.
    table.padding, table.show_edge = (0, 1, 0, 0), False
    for place in (0, 3, -1):
        table.columns[place].no_wrap = True
    for (run, done), name in zip(runs, names, strict=True):
        table.add(
            run.run_id[:8],
            name,
            run.suite,
            run.prompting,
            Text(f"{done}/{run.n_items}", style="yellow") if done < run.n_items else str(done),
            f"{run.updated_at:%m-%d %H:%M}",
        )
    return table


@click.command(epilog=examples("show RUN", "show RUN --item ID"))
@click.argument("run")
@click.option(
    "--samples",
    type=click.IntRange(min=0),
    metavar="N",
    default=3,
    show_default=True,
    help="Number of responses to show.",
)
@click.option(
    "--item",
    "item_id",
    metavar="ID",
    help="Show the response to this item, and what each judge said about it.",
)
@reading
def show(store: "Store", output: "Output", run: str, samples: int, item_id: str | None) -> None:
    """Show a run's scores and some of its responses.

    RUN is the beginning of a run's id, as `mipo-eval runs` lists them. With --item, the raw replies
    of every judge are shown, too.
    """
    from mipo_eval.cli.evaluate import result_json
    from mipo_eval.cli.render import score_tables
    from mipo_eval.errors import ConfigError
    from mipo_eval.evaluation.run import Result
    from mipo_eval.evaluation.score import Numbers
    from mipo_eval.reports.names import stored_rules
    from mipo_eval.store.judges import failing_by_short_key
    from mipo_eval.store.responses import answered
    from mipo_eval.store.runs import find_run

    found = find_run(store, run)
    result = Result(run=found, scores=Numbers(store).of_run(found))
    failing = failing_by_short_key(store)
    entries = answered(store, found.list_key, found.generation_key)
    if item_id is not None:
        entries = (entry for entry in entries if entry.item.item_id == item_id)
    chosen = list(islice(entries, samples if item_id is None else 1))
    if item_id is not None and not chosen:
        raise ConfigError(f"run {run} has no item with the id {item_id!r}")
    shown = [(entry, _said(store, entry)) for entry in chosen]
    whole = item_id is not None
    samples_json = [_sample_json(*sample, whole=whole) for sample in shown]
    output.document(result_json(result, failing) | {"samples": samples_json})
    if result.scores:
        rules = stored_rules(store)
        output.show(*score_tables(result.scores, found, failing, rules))
    else:
        output.note("There are no scores yet: the run was stopped. Repeat its command to continue.")
    for sample in shown:
        output.show(_sample(*sample), *(_remarks(*sample) if whole else ()))
    if chosen and not whole:
        about = ("show", run, "--item", chosen[0].item.item_id)
        output.suggest("See all that the judges said about the first response", *about)


Said = dict[str, "list[Remark]"]
"""What judges said of an item's response and of its reference, by these two words."""


def _said(store: "Store", entry: "Answered") -> Said:
    from mipo_eval.records import text_key
    from mipo_eval.store.verdicts import remarks_on

    reference = entry.item.reference
    keys = {"response": entry.text_key, "reference": text_key(reference) if reference else None}
    return {of: remarks_on(store, entry.item.key, key) if key else [] for of, key in keys.items()}


def _sample_json(entry: "Answered", said: Said, *, whole: bool) -> dict[str, object]:
    response = entry.response
    document: dict[str, object] = {
        "task": entry.task,
        "item": entry.item.model_dump(mode="json"),
        "response": response.text if response else None,
        "thinking": response.thinking if response else None,
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

    from mipo_eval.cli.render import folded, inert

    item, response = entry.item, entry.response
    text = response.text if response else None
    body = Text()
    asked = "conversation" if item.messages else "prompt"
    parts = [(asked, item.transcript), ("context", item.context), ("response", text)]
    if text is None:
        parts[2] = ("no response", (response.reason if response else None) or "not generated")
    elif response and response.finish_reason == "length":
        parts[2] = ("response (cut at the token limit)", text)
    if response and response.thinking:
        parts.insert(2, ("thinking", folded(response.thinking)))
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
            row |= {"value": one.value, "reason": one.reason, "reply": one.reply}
            told.append(row | ({"thinking": one.thinking} if one.thinking else {}))
    return told


def _remarks(entry: "Answered", said: Said) -> "list[RenderableType]":
    from mipo_eval.cli.render import folded, inert
    from mipo_eval.models.thinking import take_apart

    lines: list[RenderableType] = []
    for row in _told(entry, said):
        about = row.get("preference") or ""
        if "against" in row:
            about = f"against {row['against']}, shown first: {row['shown_first']}"
        head = f"{row['judge']} on the {row['of']}{about and f' ({about})'}: "
        parts = take_apart(row["reply"] or "", apart=row.get("thinking"))
        reply = f"thinking: {folded(parts.thinking)}\n" if parts.thinking else ""
        reply += (parts.response or "").strip()
        reply = f"\n{indent(reply, '    ')}" if reply else ""
        lines.append(inert(f"{head}{row['value'] or row['reason']}{reply}"))
    return lines


@click.command(epilog=examples("reproduce RUN", "reproduce RUN:TASK:METRIC --run"))
@click.argument("score", metavar="RUN[:TASK[:METRIC]]")
@click.option(
    "--run", "execute", is_flag=True, help="Make it again, in a temporary store, and compare."
)
@reading
def reproduce(store: "Store", output: "Output", score: str, *, execute: bool) -> None:
    """Print the command that made a number, and check it with --run.

    RUN is the beginning of a run's id. --run makes everything again: responses, ratings and scores.
    A judge that costs money is paid again.
    """
    from mipo_eval.reports.reproduction import outcome_json, outcomes, recipe, recipe_json

    found = recipe(store, score)
    output.show(*_recipe(found))
    if not execute:
        output.document(recipe_json(found))
        output.suggest("Make it again and compare", "reproduce", score, "--run")
        return
    result = _again(found, output)
    compared = outcomes(found.scores, result.scores)
    changed = _changed(found, result)
    made = {
        "reproduced": all(outcome.same for outcome in compared),
        "outcomes": [outcome_json(outcome) for outcome in compared],
        "changed": changed,
    }
    output.document(recipe_json(found) | made)
    output.show(*_outcomes(compared, changed))


def _again(found: "Reproduction", output: "Output") -> "Result":
    """Make the run anew in a temporary store."""
    from mipo_eval.cli.evaluate import evaluate_asked
    from mipo_eval.store.engine import Store

    options = dict(found.options)
    limit, data = (options.get(name) for name in ("limit", "data"))
    asked = EvaluationOptions(
        model=options["model"],
        suite=options["suite"],
        judges=found.judges,
        prompting="default" if options.get("prompting") == "default" else "personalized",
        system=options.get("system", ""),
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
        lines.append("The items of the suite have changed since then.")
    if result.run.generation_key != found.run.generation_key:
        lines.append("The model, its chat template or the wording of the query has changed since.")
    now = {k: str(v) for k, v in result.run.environment.items() if k != "command"}
    then = found.versions
    return lines + [
        f"{name}: then {then.get(name, 'absent')}, now {now.get(name, 'absent')}"
        for name in sorted(then.keys() | now.keys())
        if then.get(name) != now.get(name)
    ]


def _recipe(found: "Reproduction") -> list["RenderableType"]:
    from rich.text import Text

    from mipo_eval.cli.render import facts, inert, number

    run = found.run
    rows = [("run", f"{run.run_id[:12]}, made {run.created_at:%Y-%m-%d %H:%M} UTC")]
    for name, key in (("model", "model"), ("query", "asking"), ("decoding", "decoding")):
        part = found.spec.get(key) or {}
        rows.append((name, ", ".join(f"{key} {value}" for key, value in part.items())))
    rows += [("judge", judge) for judge in found.judges]
    rows.append(
        ("versions", ", ".join(f"{name} {value}" for name, value in found.versions.items()))
    )
    for score in found.scores if len(found.scores) <= 3 else ():
        value = number(score.value, ".6g", absent="none")
        rows.append(
            (f"{score.task}: {score.metric}", f"{value} (n {'?' if score.n is None else score.n})")
        )
    return [facts(rows, "bold"), Text(""), inert(found.command)]


def _outcomes(compared: "list[Repeated]", changed: list[str]) -> list["RenderableType"]:
    from mipo_eval.cli.render import Grid, inert, number

    table = Grid("number", numbers=("stored", "again", "n"), last="")
    for outcome in compared:
        before, again = outcome.before, outcome.again
        table.add(
            f"{before.task}: {before.metric}",
            number(before.value, ".6g", absent="none"),
            number(again.value, ".6g", absent="none") if again else "absent",
            str(before.n) if again is None or again.n == before.n else f"{before.n}/{again.n}",
            _sameness(outcome),
        )
    same = sum(outcome.same for outcome in compared)
    style = "bold green" if same == len(compared) else "bold yellow"
    verdict = inert(f"{same} of {len(compared)} numbers are the same again.", style)
    return [table, verdict, *(inert(line, "yellow") for line in changed)]


def _sameness(outcome: "Repeated") -> str:
    if outcome.same:
        return "same"
    if outcome.again is None:
        return "not made again"
    return {True: "different, within the interval", False: "different, outside", None: "different"}[
        outcome.within
    ]
