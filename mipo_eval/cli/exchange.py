"""`mipo-eval export` and `mipo-eval import`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mipo_eval.cli.options import examples, json_option, store_option

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mipo_eval.importers.base import Imported


_SHOWN = 12
# Written out, not imported: `--help` must not read the readers. A test compares them.
EXPORTS = ("csv", "parquet", "md", "latex", "json", "html", "alpaca_eval", "lm_eval")
_TABLES = ("md", "latex", "html")
"""Formats that set runs side by side."""
IMPORTS = (
    "lm_eval",
    "lighteval",
    "inspect",
    "alpaca_eval",
    "arena_hard",
    "mt_bench",
    "judge_replies",
)


@click.command(
    "export",
    epilog=examples(
        "export RUN RUN --format html -o report.html", "export RUN --format latex -o table.tex"
    ),
)
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option(
    "--format",
    "wanted",
    type=click.Choice(EXPORTS),
    required=True,
    help="csv, parquet, json: one row for each score. md, latex: a table of the runs side by "
    "side, with the best marked. html: a report in one file. alpaca_eval, lm_eval: files for "
    "these tools.",
)
@click.option(
    "-o",
    "--output",
    "path",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="File to write; an existing file is replaced. For lm_eval it must be called "
    "results_TIME.json, and the samples are written beside it.",
)
@click.option(
    "--judge", metavar="NAME", help="For alpaca_eval: the judge whose choices are written."
)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="M",
    help="Write only this metric; repeat the option for several. Default: all metrics; for latex: "
    "win rate and tie rate, if the runs are judged.",
)
@store_option
@json_option
def export_runs(  # noqa: PLR0913 - one parameter per flag
    runs: tuple[str, ...],
    *,
    wanted: str,
    path: Path,
    judge: str | None,
    metrics: tuple[str, ...],
    store: str,
    as_json: bool,
) -> None:
    """Write runs and their scores to a file.

    RUN is the beginning of a run's id, as `mipo-eval runs` lists them.
    """
    from mipo_eval.cli.render import Output
    from mipo_eval.evaluation.score import Snapshot
    from mipo_eval.reports.export import write
    from mipo_eval.reports.exported_run import load_run, tie_letters
    from mipo_eval.store.engine import Store
    from mipo_eval.store.runs import find_run

    output = Output(as_json=as_json)
    with Store.open(store, mode="read") as opened:
        found = {run.run_id: run for run in (find_run(opened, name) for name in runs)}
        letters = tie_letters(Snapshot(opened), list(found.values())) if wanted in _TABLES else {}
        loaded = [load_run(opened, run, letters.get(run_id)) for run_id, run in found.items()]
    written = write(loaded, wanted, path, judge=judge, metrics=metrics)
    if as_json:
        output.document({"written": [str(file) for file in written], "runs": list(found)})
    for file in written:
        output.note(f"Written: {file}")


@click.command(
    "import",
    epilog=examples("import annotations.json", "import results/ --format lm_eval --store team.db"),
)
@click.argument("source", metavar="FILE|FOLDER")
@click.option(
    "--format",
    "wanted",
    type=click.Choice(["auto", *IMPORTS]),
    default="auto",
    show_default=True,
    help="The tool that wrote the files; judge_replies: JudgeBench, LLMBar or PandaLM.",
)
@store_option
@json_option
def import_results(source: str, wanted: str, store: str, as_json: bool) -> None:
    """Read results of other tools into the store.

    FILE is JSON, JSONL (also as .gz), CSV, Parquet or Inspect's .eval, or a data set on the hub:
    hf://OWNER/NAME:SPLIT. The numbers keep signatures of their own. If a file cannot be read, the
    store stays as it was. An import can be repeated: the same file gives the same runs.
    """
    from mipo_eval.cli.render import Output
    from mipo_eval.importers import read_path, store_runs
    from mipo_eval.importers.earlier import others_of_the_name
    from mipo_eval.store.engine import Store

    output = Output(as_json=as_json)
    imported = read_path(source, wanted, output)
    with Store.open(store) as opened:
        others = others_of_the_name(opened, imported.runs)
        run_ids = store_runs(opened, imported.runs, output)
    if as_json:
        output.document(
            {
                "rows": imported.rows,
                "taken": imported.taken,
                "left_out": dict(imported.left_out),
                "without_value": dict(imported.without_value),
                "others_of_the_name": others,
                "runs": [
                    {"run_id": run_id, "model": r.model, "suite": r.suite, "scores": len(r.scores)}
                    for run_id, r in zip(run_ids, imported.runs, strict=True)
                ],
            }
        )
        return
    output.show(*_summary(imported, run_ids, others))
    if run_ids:
        output.suggest("See the scores of the first", "show", run_ids[0][:8])


def _summary(imported: "Imported", run_ids: list[str], others: list[str]) -> list["RenderableType"]:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from mipo_eval.cli.render import inert
    from mipo_eval.reports.export import shown
    from mipo_eval.reports.labels import metric_title

    table = Table(header_style="bold", box=SIMPLE_HEAD)
    table.add_column("run", no_wrap=True)
    table.add_column("model", overflow="fold")
    table.add_column("suite", overflow="fold")
    table.add_column("items", justify="right")
    table.add_column("first score", justify="right")
    for run_id, record in list(zip(run_ids, imported.runs, strict=True))[:_SHOWN]:
        score = record.scores[0] if record.scores else None
        first = f"{metric_title(score.metric)}: {shown(score)[0]}" if score else "-"
        items = str(len(record.entries))
        table.add_row(run_id[:12], inert(record.model), inert(record.suite), items, inert(first))
    runs = len(set(run_ids))
    counted = (
        f"{imported.taken:,} of {imported.rows:,} rows imported, {runs:,} run{'s' * (runs != 1)}"
    )
    lines: list[RenderableType] = [inert(counted)]
    lines += [inert(f"Left out: {n:,} x {why}") for why, n in imported.left_out.items()]
    lines += [inert(f"Without a value: {n:,} x {why}") for why, n in imported.without_value.items()]
    lines += [inert(line) for line in others[:_SHOWN]]
    if len(others) > _SHOWN:
        lines.append(inert(f"... and {len(others) - _SHOWN:,} more runs that share a name"))
    if len(run_ids) > _SHOWN:
        lines.append(inert(f"The first {_SHOWN} of them:"))
    return [*lines, table]
