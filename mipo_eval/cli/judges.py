"""`mipo-eval judges list|agreement|family|correct`: the judges of a store, looked at themselves."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mipo_eval.cli.options import json_option, store_option

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mipo_eval.metrics.agreement import Agreement
    from mipo_eval.reports.agreement import FamilyTest, JudgesAgreement
    from mipo_eval.reports.correction import Correction
    from mipo_eval.store import Store
    from mipo_eval.store.runs import Run

judges_option = click.option(
    "--judge",
    "names",
    multiple=True,
    metavar="J",
    help="Name or key of a judge in the store; repeat. Default: all.",
)


@click.group()
def judges() -> None:
    """List judges, compare them with each other, correct win rates by human labels."""


@judges.command("list")
@store_option
@json_option
def list_them(store: str, as_json: bool) -> None:
    """List the judges and people of the store: what they said, and how they were validated."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from mipo_eval.cli.output import Output
    from mipo_eval.cli.tables import failing_lines, inert
    from mipo_eval.reports.agreement import judge_row_json, judge_rows
    from mipo_eval.store import Store
    from mipo_eval.store.validations import MARK

    output = Output(as_json=as_json)
    with Store.open(store, mode="read") as opened:
        rows = judge_rows(opened)
    if as_json:
        output.document({"judges": [judge_row_json(row) for row in rows]})
        return
    table = Table(header_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("judge", overflow="fold")
    table.add_column("protocol", no_wrap=True)
    for column in ("ratings", "choices"):
        table.add_column(column, justify="right")
    table.add_column("strict accuracy (%)", overflow="fold")
    for row in rows:
        validated = [f"{data} {value:.1f}" for data, value in row.strict.items()]
        mark = f" {MARK}" if row.failings else ""
        table.add_row(
            inert(f"{row.judge.label}{mark}"),
            row.protocol,
            f"{row.ratings:,}" if row.ratings else "",
            f"{row.choices:,}" if row.choices else "",
            inert(", ".join(validated) or "not validated"),
        )
    if not rows:
        output.note("No judges yet: evaluate with --judge, or validate one.")
        return
    failing = {row.judge.key: row.failings for row in rows if row.failings}
    names = {row.judge.key: row.judge.label for row in rows}
    output.show(table, *failing_lines(failing, names))


@judges.command()
@click.argument("runs", nargs=-1, metavar="[RUN]...")
@judges_option
@store_option
@json_option
def agreement(runs: tuple[str, ...], names: tuple[str, ...], store: str, as_json: bool) -> None:
    """Say how far judges agree about the same responses.

    RUN is the beginning of a run's id; without one, all runs of the store. Ratings are compared
    one by one, verdicts as win, tie or loss against the references; people who labelled are
    judges too. order: whether they put the runs in the same order (Kendall's tau).
    """
    from rich.text import Text

    from mipo_eval.cli.output import Output
    from mipo_eval.reports.agreement import agreements, judges_named
    from mipo_eval.store import Store

    output = Output(as_json=as_json)
    with Store.open(store, mode="read") as opened:
        found = agreements(opened, _runs(opened, runs), judges_named(opened, names))
    if as_json:
        output.document({"agreement": [_agreement_json(one) for one in found]})
        return
    output.show(*_agreement_tables(found))
    output.show(Text("kappa: Cohen's, agreement beyond chance; n: judged by both", style="dim"))


def _runs(store: "Store", names: tuple[str, ...]) -> "list[Run]":
    from mipo_eval.store.runs import find_run, list_runs

    return [find_run(store, name) for name in names] if names else list_runs(store)


def _agreement_json(found: "JudgesAgreement") -> dict[str, object]:
    return {
        "first": found.first.label,
        "second": found.second.label,
        "ratings": found.ratings._asdict(),
        "verdicts": found.verdicts._asdict(),
        "order": found.order,
    }


def _agreement_tables(found: "list[JudgesAgreement]") -> "list[RenderableType]":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from mipo_eval.cli.tables import inert

    labels = list(dict.fromkeys(j.label for one in found for j in (one.first, one.second)))
    number = {label: str(place) for place, label in enumerate(labels, 1)}
    table = Table(header_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    columns = ("judges", "same rating", "kappa", "n", "same verdict", "kappa", "n", "order")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for one in found:
        if one.ratings.n or one.verdicts.n:
            table.add_row(
                f"{number[one.first.label]}-{number[one.second.label]}",
                *_agreement_cells(one.ratings),
                *_agreement_cells(one.verdicts),
                "" if one.order is None else f"{one.order:+.2f}",
            )
    return [*(inert(f"{number[label]} {label}") for label in labels), table]


def _agreement_cells(found: "Agreement") -> tuple[str, str, str]:
    if not found.n:
        return "", "", ""
    kappa = "" if found.kappa is None else f"{found.kappa:.2f}"
    return f"{found.share:.1f} %", kappa, str(found.n)


@judges.command()
@click.argument("runs", nargs=-1, metavar="[RUN]...")
@judges_option
@click.option(
    "--family",
    "given",
    multiple=True,
    metavar="NAME=FAMILY",
    help="Of a judge, a --model, or the first 8 digits of a run, where the name does not tell.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the interval.")
@store_option
@json_option
def family(
    runs: tuple[str, ...],
    names: tuple[str, ...],
    given: tuple[str, ...],
    seed: int,
    store: str,
    as_json: bool,
) -> None:
    """Test whether judges favour responses of their own family.

    Two judges of two families have to have rated runs of both, on the same items. What is
    estimated is by how many points of the scale both together rate their own family higher; one
    judge being stricter or one family being better does not count.
    """
    from mipo_eval.cli.output import Output
    from mipo_eval.errors import ConfigError
    from mipo_eval.reports.agreement import Families, family_tests, judges_named
    from mipo_eval.store import Store

    output = Output(as_json=as_json)
    for text in given:
        if not all(text.partition("=")[::2]):
            raise ConfigError(f"--family {text!r}: say it as NAME=FAMILY, e.g. my-judge=qwen")
    families = Families(dict(text.rpartition("=")[::2] for text in given))
    with Store.open(store, mode="read") as opened:
        chosen = _runs(opened, runs)
        found = family_tests(opened, chosen, judges_named(opened, names), families, seed=seed)
    if as_json:
        output.document({"family": [_family_json(test) for test in found]})
        return
    for test in found:
        output.show(*_family_table(test))


def _family_json(test: "FamilyTest") -> dict[str, object]:
    return {
        "first": test.first.label,
        "second": test.second.label,
        "families": [test.first_family, test.second_family],
        "means": {
            "first_of_own": test.means[0],
            "first_of_other": test.means[1],
            "second_of_other": test.means[2],
            "second_of_own": test.means[3],
        },
        "preference": test.preference.to_json(),
    }


def _family_table(test: "FamilyTest") -> "list[RenderableType]":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from mipo_eval.cli.tables import inert

    table = Table(header_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("mean rating by", overflow="fold")
    for name in (test.first_family, test.second_family):
        table.add_column(inert(f"of {name}"), justify="right")
    rows = ((test.first, test.means[:2]), (test.second, test.means[2:]))
    for judge, means in rows:
        table.add_row(inert(judge.label), *(f"{mean:.2f}" for mean in means))
    score = test.preference
    interval = f" [{score.ci95[0]:+.2f}, {score.ci95[1]:+.2f}]" if score.ci95 else ""
    told = f"both together rate their own family {score.value:+.2f}{interval} points higher"
    clear = score.ci95 is not None and score.ci95[0] > 0
    ending = "self-preference" if clear else "no self-preference shown"
    line = Text(f"{told} ({score.n} items): {ending}", style="yellow" if clear else "")
    return [table, line]


@judges.command()
@click.argument("run")
@click.option("--judge", "name", required=True, metavar="J", help="Name or key in the store.")
@click.option(
    "--labels",
    default="people",
    show_default=True,
    metavar="WHO|FILE",
    help="Who labelled on the board (WHO,WHO; people: everybody), or pairs in a FILE.jsonl.",
)
@click.option("--against", metavar="RUN", help="Compared with this run. Default: the references.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the intervals.")
@store_option
@json_option
def correct(  # noqa: PLR0913, PLR0917 - one parameter per flag
    run: str,
    name: str,
    labels: str,
    against: str | None,
    seed: int,
    store: str,
    as_json: bool,
) -> None:
    """Correct a judge's win rate of RUN by human labels on some of its items.

    Both corrections are shown with what they assume: prediction-powered inference and
    Rogan-Gladen. A tie is half a win.
    """
    from mipo_eval.cli.output import Output
    from mipo_eval.reports.correction import correct as correct_rate
    from mipo_eval.reports.correction import correction_json, file_labels, store_labels
    from mipo_eval.store import Store
    from mipo_eval.store.judges import find_judge
    from mipo_eval.store.runs import find_run

    output = Output(as_json=as_json)
    with Store.open(store, mode="read") as opened:
        found = find_run(opened, run)
        other = find_run(opened, against) if against else None
        told = (
            file_labels(opened, found, Path(labels))
            if labels.endswith(".jsonl")
            else store_labels(opened, labels.split(","))
        )
        judge = find_judge(opened, name)
        corrected = correct_rate(opened, found, judge, told, other=other, seed=seed)
    if as_json:
        output.document({"run": found.run_id} | correction_json(corrected))
        return
    versus = f"run {other.run_id[:12]}" if other else "the references"
    output.show(*_correction_table(corrected, f"run {found.run_id[:12]} against {versus}"))


def _correction_table(found: "Correction", about: str) -> "list[RenderableType]":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from mipo_eval.cli.tables import inert
    from mipo_eval.reports.correction import ASSUMED

    title = inert(f"{about}: win rate, a tie is half (%)")
    title.stylize("bold")
    table = Table(header_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("by")
    for column in ("win rate", "95 %", "items"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("assumes", overflow="fold", style="dim")
    rows = [(inert(found.judge.label), found.judged.value, found.judged.ci95, found.judged.n, "")]
    rows.append((Text("people alone"), found.people.value, found.people.ci95, found.people.n, ""))
    corrections = {
        "prediction_powered": ("corrected: prediction-powered", found.prediction_powered),
        "rogan_gladen": ("corrected: Rogan-Gladen", found.rogan_gladen),
    }
    for key, (label, one) in corrections.items():
        if one is not None:
            rows.append((Text(label), one.value, one.ci95, one.n, ASSUMED[key]))
    for label_text, value, interval, n, assumed in rows:
        shown = "" if value is None else f"{value:.1f}"
        ends = f"[{interval[0]:.1f}, {interval[1]:.1f}]" if interval else ""
        table.add_row(label_text, shown, ends, str(n), assumed)
    kappa = "" if found.kappa is None else f", kappa {found.kappa:.2f}"
    lines = [f"judge and people agree on {found.agreement:.1f} % of {found.labelled} items{kappa}"]
    lines += [f"not {corrections[key][0]}: {why}" for key, why in found.absent.items()]
    return [title, table, *(inert(line) for line in lines)]
