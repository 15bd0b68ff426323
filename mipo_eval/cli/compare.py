"""`mipo-eval compare RUN RUN ...`."""

from typing import TYPE_CHECKING, Any

import click

from mipo_eval.cli import options
from mipo_eval.cli.options import examples, reading

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import RenderableType
    from rich.text import Text

    from mipo_eval.cli.render import Output
    from mipo_eval.reports.comparison import TaskComparison
    from mipo_eval.stats.paired import Comparison
    from mipo_eval.store.engine import Store

METRICS = (
    "win_rate",
    "win_rate_tie_inclusive",
    "win_rate_half_ties",
    "win_rate_strict",
    "tie_rate",
    "satisfied",
    "restraint",
    "followed",
    "rating_mean",
    "accuracy",
    "response_tokens",
    "thinking_tokens",
    "truncation_rate",
)


@click.command(epilog=examples("compare RUN RUN", "compare RUN RUN RUN --baseline RUN --ties half"))
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN ...")
@click.option("--baseline", metavar="RUN", help="Compare the other runs with this run only.")
@click.option(
    "--metric",
    metavar="M",
    help=f"What to compare: {', '.join(METRICS)}, or what another tool scored, such as acc of "
    "lm-eval. Default: win_rate if a judge has rated the runs, otherwise accuracy; of imported "
    "runs, what their file has.",
)
@options.margin_option
@click.option(
    "--growing",
    is_flag=True,
    help="Use this if you look at the numbers again and again while the runs grow: intervals and "
    "p-values then hold over all looks together (corrected by Holm's method).",
)
@options.stored_judge_option()
@options.ties_option
@click.option(
    "--correction",
    type=click.Choice(["max-t", "holm", "bh"]),
    default="max-t",
    show_default=True,
    help="How p-values are corrected when several pairs of runs are compared: max-t (Romano-Wolf), "
    "holm (Holm), or bh (Benjamini-Hochberg).",
)
@click.option(
    "--control-length",
    is_flag=True,
    help="Also show what each difference would be if the responses were equally long.",
)
@reading
def compare(store: "Store", output: "Output", runs: tuple[str, ...], **wanted: Any) -> None:
    """Compare runs item by item: which one is better, by how much?

    RUN is the beginning of a run's id (see `mipo-eval runs`). Each difference is shown with its
    95 % interval, its p-value, and the detectable difference: the smallest difference that these
    items would show in 80 of 100 repetitions (test at 5 %, two-sided).
    """
    from mipo_eval.reports.comparison import ComparisonQuery, compare_runs, comparison_json

    found = compare_runs(store, runs, ComparisonQuery(**wanted))
    output.document({"tasks": [comparison_json(task) for task in found]})
    for task in found:
        output.show(*_shown(task, "holm" if wanted["growing"] else wanted["correction"]))
    output.suggest("Read the responses side by side", "board")


def _shown(task: "TaskComparison", correction: str) -> "list[RenderableType]":
    from mipo_eval.cli.render import Grid, counted, failing_lines, number, wrapped
    from mipo_eval.reports.labels import decimals, metric_title
    from mipo_eval.store.judges import MARK

    form = f".{decimals(task.metric)}f"
    mark = f" {MARK}" if task.judge_failings else ""
    by = f", judged by {task.judge}{mark}" if task.judge else ""
    place = {side.label: str(place) for place, side in enumerate(task.sides, 1)}
    values = Grid("#", "run", numbers=("value", "tie rate", "n (unscored)"), wrap=True, edge=True)
    values.columns[0].justify = "right"
    for side in task.sides:
        values.add(
            place[side.label],
            side.label,
            number(side.value, form, absent="none"),
            "" if side.tie_rate is None else f"{side.tie_rate:.1f} %",
            counted(side.n, sum(side.unscored.values())),
        )
    columns = ("runs", "difference [95 %]", "detectable", "p", "win/tie/loss", "n", "effect")
    pairs = Grid(numbers=columns, edge=True)
    pairs.padding = (0, 1, 0, 0)  # 80 columns are enough
    for pair in task.comparisons:
        pairs.add(f"{place[pair.first]}-{place[pair.second]}", *_pair(pair, form))
    title = wrapped(f"{task.task}: {metric_title(task.metric)}{by}", "bold")
    failing = failing_lines({"": task.judge_failings}, {"": task.judge or ""})
    rest = [*_margins(task, place), *_lengths(task, place), *failing]
    return [title, *_answer(task), values, pairs, *rest, *_notes(task, place, correction)]


def _answer(task: "TaskComparison") -> "list[RenderableType]":
    """Return in one sentence which of two runs is better; nothing of more."""
    from mipo_eval.cli.render import wrapped
    from mipo_eval.dashboards.tables.headline import of_two

    if len(task.comparisons) != 1 or task.growing:
        return []
    (pair,) = task.comparisons
    return [wrapped(of_two(task.metric, pair, (pair.first, pair.second), task.judge_failings))]


def _pair(pair: "Comparison", form: str) -> "list[str | Text]":
    from mipo_eval.cli.render import estimate, mark_of, number, p_of

    return [
        estimate(pair.difference, pair.ci95, f"+{form}").append(f" {mark_of(pair) or ' '}"),
        number(pair.detectable, form),
        p_of(pair),
        f"{pair.wins}/{pair.ties}/{pair.losses}",
        str(pair.n),
        number(pair.effect_size, "+.2f"),
    ]


def _margins(task: "TaskComparison", place: "Mapping[str, str]") -> "list[Text]":
    """Return a line for each pair and the margin, where one was given."""
    from mipo_eval.cli.render import inert, p_text
    from mipo_eval.reports.margins import margin_text

    lines = []
    for pair, found in zip(task.comparisons, task.margins, strict=False):
        runs = place[pair.first], place[pair.second]
        told = "too few items to say whether it is within the margin"
        if found:
            named = (f"run {runs[0]} is", f"run {runs[1]} is")
            told = f"{margin_text(found, named, task.metric)} (p {p_text(found.p)})"
        lines.append(inert(f" {'-'.join(runs)}: {told}"))
    return lines


def _lengths(task: "TaskComparison", place: "Mapping[str, str]") -> "list[RenderableType]":
    """Return the table of differences at equal length, where it was asked for."""
    from mipo_eval.cli.render import estimate, length_grid

    if not task.at_equal_length:
        return []
    return length_grid(
        "pair",
        [
            (
                f"{place[pair.first]}-{place[pair.second]}",
                estimate(equal.difference, equal.ci95, "+.1f"),
                f"{2 * equal.found.raw_rate - 100:+.1f}",
                equal.unit,
                equal.found,
            )
            for pair, equal in zip(task.comparisons, task.at_equal_length, strict=True)
        ],
        "the first run's response",
    )


def _notes(task: "TaskComparison", place: "Mapping[str, str]", correction: str) -> "list[Text]":
    """Return what to know of the comparison: first what deserves a warning."""
    from mipo_eval.cli.render import inert, listed, p_text

    warnings = [f"This run is left out: {why}" for why in task.left_out]
    warnings += [
        f"Runs {place[first]} and {place[second]} were made differently: "
        + ", ".join(f"{name} ({a} / {b})" for name, (a, b) in parts.items())
        for (first, second), parts in task.made_differently.items()
    ]
    warnings += [
        f"Runs {place[pair.first]} and {place[pair.second]} share {pair.n} items; "
        f"{pair.only_first} are only in run {place[pair.first]}, {pair.only_second} only in run "
        f"{place[pair.second]}"
        for pair in task.comparisons
        if pair.only_first or pair.only_second
    ]
    for side in task.sides:
        if side.unscored:
            warnings.append(f"Unscored in run {place[side.label]}: {listed(side.unscored)}")
        if side.signature is None:
            warnings.append(
                f"Run {place[side.label]} has no stored {task.metric}: it is not finished, or this "
                "judge has not scored it"
            )
    signs = [p_text(pair.p_sign) for pair in task.comparisons if pair.p_sign is not None]
    several = len(task.comparisons)
    corrected = f", corrected for {several} comparisons ({correction})" if several > 1 else ""
    legend = [
        "*: told apart at 5 %. effect: the difference in standard deviations.",
        "win/tie/loss: on so many items the first run is higher, equal, lower.",
        "detectable: the smallest difference that 80 of 100 repetitions would show.",
        f"p: permutation test{corrected}.",
        f"p of an exact sign test, not corrected: {', '.join(signs)}.",
    ]
    if task.growing:
        legend = [
            "*: told apart at 5 %. effect: the difference in standard deviations.",
            "Intervals (confidence sequences) and p hold over all looks, also at more items.",
            *([f"p is{corrected[1:]}."] if corrected else []),
            *([task.crossing] if task.crossing else []),
        ]
    if any(task.margins):
        times = f", each p times {several}" if several > 1 else ""
        legend.append(f"margin: two one-sided tests at 5 %{times}.")
    if any(pair.p is None for pair in task.comparisons):
        legend.append("No interval and no p: the runs share fewer than two prompts or users.")
    return [inert(line, "yellow") for line in warnings] + [inert(line, "dim") for line in legend]
