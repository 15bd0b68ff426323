"""`mipo-eval compare RUN RUN ...`."""

from typing import TYPE_CHECKING, Literal

import click

from mipo_eval.cli.options import json_option, store_option

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import RenderableType

    from mipo_eval.reports.comparison import Side, TaskComparison
    from mipo_eval.stats import Comparison

METRICS = (
    "win_rate",
    "win_rate_tie_inclusive",
    "win_rate_half_ties",
    "win_rate_strict",
    "tie_rate",
    "rating_mean",
    "accuracy",
    "response_tokens",
    "truncation_rate",
)


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN ...")
@click.option("--baseline", metavar="RUN", help="Compare every other run with this one only.")
@click.option(
    "--metric",
    type=click.Choice(METRICS),
    metavar="M",
    help="Default: win_rate where a judge has rated, accuracy elsewhere.",
)
@click.option("--judge", metavar="J", help="Name or key of a judge in the store.")
@click.option(
    "--ties",
    type=click.Choice(["win", "half", "loss"]),
    default="win",
    show_default=True,
    help="What a tie with the reference is worth.",
)
@click.option(
    "--correction",
    type=click.Choice(["holm", "bh"]),
    default="holm",
    show_default=True,
    help="Of p-values, for all comparisons of a task.",
)
@click.option(
    "--control-length",
    is_flag=True,
    help="Add what the differences would be between equally long responses.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the resampling.")
@store_option
@json_option
def compare(  # noqa: PLR0913, PLR0917 - one parameter per flag; their number is limited by a test
    runs: tuple[str, ...],
    baseline: str | None,
    metric: str | None,
    judge: str | None,
    ties: Literal["win", "half", "loss"],
    correction: Literal["holm", "bh"],
    control_length: bool,
    seed: int,
    store: str,
    as_json: bool,
) -> None:
    """Compare runs item by item: which is better, by how much, and could the suite have told?

    RUN is the beginning of a run's id. A difference smaller than what these items can show (5 %
    two-sided, power 80 %) is marked with ~; it says nothing either way.
    """
    from mipo_eval.cli.output import Output
    from mipo_eval.reports.comparison import ComparisonQuery, compare_runs, comparison_json
    from mipo_eval.store import Store

    output = Output(as_json=as_json)
    wanted = ComparisonQuery(
        metric=metric,
        judge=judge,
        ties=ties,
        baseline=baseline,
        correction=correction,
        control_length=control_length,
        seed=seed,
    )
    with Store.open(store, mode="read") as opened:
        found = compare_runs(opened, runs, wanted)
    if as_json:
        output.document({"tasks": [comparison_json(task) for task in found]})
        return
    for task in found:
        output.show(*_shown(task, correction))


def _shown(task: "TaskComparison", correction: str) -> list["RenderableType"]:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from mipo_eval.cli.tables import failing_lines, inert
    from mipo_eval.store.validations import MARK

    mark = f" {MARK}" if task.judge_failings else ""
    by = f", judged by {task.judge}{mark}" if task.judge else ""
    title = inert(f"{task.task}: {task.metric}{by}")
    title.stylize("bold")
    number = {side.label: str(place) for place, side in enumerate(task.sides, 1)}
    values = Table(header_style="bold", box=SIMPLE_HEAD)
    values.add_column("#", justify="right")
    values.add_column("run", overflow="fold")
    for column in ("value", "ties", "n (unscored)"):
        values.add_column(column, justify="right")
    for side in task.sides:
        values.add_row(number[side.label], inert(side.label), *_side(side))
    pairs = Table(header_style="bold", box=SIMPLE_HEAD)
    p = "p" if len(task.comparisons) < 2 else f"p ({correction})"
    for column in ("pair", "difference [95 %]", "can show", p, "w/t/l", "n", "effect"):
        pairs.add_column(column, justify="right", no_wrap=True)
    for pair in task.comparisons:
        pairs.add_row(f"{number[pair.first]}-{number[pair.second]}", *_pair(pair))
    failing = failing_lines({"": task.judge_failings}, {"": task.judge or ""})
    parts: list[RenderableType] = [title, values, pairs, *_lengths(task, number), *failing]
    parts += [Text(line, style="yellow") for line in _warnings(task, number)]
    parts += [Text(line, style="dim") for line in _remarks(task)]
    return parts


def _side(side: "Side") -> list[str]:
    value = "none" if side.value is None else f"{side.value:.1f}"
    ties = "" if side.tie_rate is None else f"{side.tie_rate:.0f} %"
    unscored = sum(side.unscored.values())
    return [value, ties, f"{side.n} ({unscored})" if unscored else str(side.n)]


def _pair(pair: "Comparison") -> list[str]:
    interval = f" [{pair.ci95[0]:+.1f}, {pair.ci95[1]:+.1f}]" if pair.ci95 else ""
    p = pair.p_permutation if pair.p_adjusted is None else pair.p_adjusted
    mark = "~" if pair.below_resolution else "*" if pair.significant() else " "
    return [
        f"{pair.difference:+.1f}{interval} {mark}",
        "" if pair.detectable is None else f"{pair.detectable:.1f}",
        "" if p is None else p_text(p),
        f"{pair.wins}/{pair.ties}/{pair.losses}",
        str(pair.n),
        "" if pair.effect_size is None else f"{pair.effect_size:+.2f}",
    ]


def _lengths(task: "TaskComparison", number: "Mapping[str, str]") -> list["RenderableType"]:
    """Return the table of differences at equal length, where it was asked for."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    if not task.at_equal_length:
        return []
    table = Table(header_style="bold", box=SIMPLE_HEAD)
    for column in ("pair", "at equal length [95 %]", "raw", "longer", "by", "pays", "n"):
        table.add_column(column, justify="right", no_wrap=True)
    for pair, equal in zip(task.comparisons, task.at_equal_length, strict=True):
        found = equal.found
        interval = f" [{equal.ci95[0]:+.1f}, {equal.ci95[1]:+.1f}]" if equal.ci95 else ""
        table.add_row(
            f"{number[pair.first]}-{number[pair.second]}",
            f"{equal.difference:+.1f}{interval} {'!' if found.extrapolated else ' '}",
            f"{2 * found.raw_rate - 100:+.1f}",
            f"{found.share_longer:.0f} %",
            f"{found.mean_difference:+.0f} {equal.unit}",
            f"{found.length_effect:+.2f}",
            str(found.n),
        )
    told = [
        "longer: how often the first run's response is, and by how much on average",
        "pays: log-odds that one standard deviation more of length earns",
    ]
    if any(equal.found.extrapolated for equal in task.at_equal_length):
        told.append("! nearly always longer, or shorter: equal length was hardly seen")
    return [table, *(Text(line, style="dim") for line in told)]


def p_text(p: float) -> str:
    """Return a p-value with three digits; small ones by their bound."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _warnings(task: "TaskComparison", number: "Mapping[str, str]") -> list[str]:
    from mipo_eval.cli.tables import inert

    lines = [
        f"{number[first]}-{number[second]} made differently: "
        + ", ".join(f"{name} ({a} / {b})" for name, (a, b) in parts.items())
        for (first, second), parts in task.made_differently.items()
    ]
    lines += [
        f"{number[pair.first]}-{number[pair.second]} left out: {pair.only_first} items only run "
        f"{number[pair.first]} has, {pair.only_second} only run {number[pair.second]} has"
        for pair in task.comparisons
        if pair.only_first or pair.only_second
    ]
    for side in task.sides:
        reasons = ", ".join(f"{n} x {why}" for why, n in side.unscored.items())
        lines += [f"unscored in run {number[side.label]}: {reasons}"] if reasons else []
        if side.signature is None:
            lines.append(
                f"run {number[side.label]} has no stored {task.metric}: it was not finished, "
                "or not scored by this judge"
            )
    return [inert(line).plain for line in lines]


def _remarks(task: "TaskComparison") -> list[str]:
    lines = [
        "* told apart at 5 %  ~ smaller than these items can show  w/t/l: won/tied/lost",
        "effect: in standard deviations of the difference  p: permutation by prompt group",
        "exact sign test, uncorrected: " + ", ".join(p_text(c.p_sign) for c in task.comparisons),
    ]
    if any(pair.p_permutation is None for pair in task.comparisons):
        lines.append("no interval or p: fewer than two prompt groups in common")
    return lines
