"""`mipo-eval judges list|agreement|family|correct`: the judges of a store, looked at themselves."""

from typing import TYPE_CHECKING

import click

from mipo_eval.cli import options
from mipo_eval.cli.options import examples, reading

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

    from mipo_eval.cli.render import Output
    from mipo_eval.judges.correction import Corrected
    from mipo_eval.metrics.agreement import Agreement, Reliability
    from mipo_eval.records import Run, Score
    from mipo_eval.reports.agreement import Agreements, FamilyTest
    from mipo_eval.reports.correction import Correction
    from mipo_eval.store.engine import Store


@click.group()
def judges() -> None:
    """Examine the judges: agreement, noise, preference for a family."""


@judges.command("list", epilog=examples("judges list", "judges list --json"))
@reading
def list_them(store: "Store", output: "Output") -> None:
    """List the judges and people in the store, and their validation."""
    from mipo_eval.cli.render import Grid, failing_lines
    from mipo_eval.reports.agreement import judge_row_json, judge_rows
    from mipo_eval.store.judges import MARK

    rows = judge_rows(store)
    output.document({"judges": [judge_row_json(row) for row in rows]})
    if not rows:
        output.suggest("There are no judges yet. Use one", "--model", "demo", "--suite", "demo")
        return
    counts, last = ("ratings", "choices"), "strict accuracy (%)"
    table = Grid("judge", "protocol", numbers=counts, last=last, wrap=True)
    table.columns[1].no_wrap = True
    for row in rows:
        validated = [f"{data} {value:.1f}" for data, value in row.strict.items()]
        table.add(
            f"{row.judge.label} {MARK}" if row.failings else row.judge.label,
            row.protocol,
            f"{row.ratings:,}" if row.ratings else "",
            f"{row.choices:,}" if row.choices else "",
            ", ".join(validated) or "not validated",
        )
    failing = {row.judge.key: row.failings for row in rows if row.failings}
    names = {row.judge.key: row.judge.label for row in rows}
    output.show(table, *failing_lines(failing, names))
    output.suggest("Measure a judge", "validate", "JUDGE", "--data", "everyday")


@judges.command(
    epilog=examples("judges agreement", "judges agreement RUN RUN --judge NAME --judge NAME")
)
@click.argument("runs", nargs=-1, metavar="[RUN]...")
@options.stored_judges_option
@reading
def agreement(
    store: "Store", output: "Output", runs: tuple[str, ...], names: tuple[str, ...]
) -> None:
    """Show how far judges agree about the same responses.

    RUN is the beginning of a run's id; without RUN, all runs in the store are used. Ratings are
    compared one by one, verdicts as win, tie or loss against the references. People who labelled
    count as judges. The column "order" says whether two judges put the runs in the same order
    (Kendall's tau). The last lines are about all judges together (Krippendorff's alpha).
    """
    from mipo_eval.reports.agreement import agreements, judges_named

    found = agreements(store, _runs(store, runs), judges_named(store, names))
    rows = [
        {
            "first": one.first.label,
            "second": one.second.label,
            "ratings": one.ratings._asdict(),
            "verdicts": one.verdicts._asdict(),
            "order": one.order,
        }
        for one in found.pairs
    ]
    together = {"ratings": found.ratings._asdict(), "verdicts": found.verdicts._asdict()}
    output.document({"agreement": rows, "together": together})
    output.show(*_agreement_tables(found))


def _runs(store: "Store", names: tuple[str, ...]) -> "list[Run]":
    from mipo_eval.store.runs import find_run, list_runs

    return [find_run(store, name) for name in names] if names else list_runs(store)


def _agreement_tables(found: "Agreements") -> "list[RenderableType]":
    from mipo_eval.cli.render import Grid, inert, number

    labels = list(dict.fromkeys(j.label for one in found.pairs for j in (one.first, one.second)))
    place = {label: str(place) for place, label in enumerate(labels, 1)}
    ordered = ["order"] if any(one.order is not None for one in found.pairs) else []
    columns = ("judges", "of", "same (%)", "kappa", "weighted", "n", *ordered)
    table = Grid(numbers=columns, wrap=True)
    for one in found.pairs:
        pair = f"{place[one.first.label]}-{place[one.second.label]}"
        order = [number(one.order, "+.2f") for _ in ordered]
        for of, own in (("ratings", one.ratings), ("verdicts", one.verdicts)):
            if own.n:
                table.add(pair, of, *_agreed(own), str(own.n), *order)
                pair, order = "", [""] * len(ordered)
    told = [
        "kappa: Cohen's kappa, agreement beyond chance. weighted: near misses count less.",
        *(_together(of, own) for of, own in found._asdict().items() if of != "pairs" and own.n),
    ]
    lines = (inert(line, "dim") for line in told)
    return [*(inert(f"{place[label]} {label}") for label in labels), table, *lines]


def _agreed(found: "Agreement") -> "list[str | Text]":
    from mipo_eval.cli.render import estimate, number

    return [
        number(found.share),
        estimate(found.kappa, found.kappa_ci95, ".2f"),
        estimate(found.weighted_kappa, found.weighted_kappa_ci95, ".2f"),
    ]


def _together(of: str, found: "Reliability") -> str:
    """Return how far any number of judges agree, in words."""
    from mipo_eval.cli.render import interval, number

    alpha = number(found.alpha, ".2f", absent="none")
    return (
        f"All judges together, {of}: Krippendorff's alpha (ordinal) {alpha} "
        f"{interval(found.alpha_ci95, '.2f')}".rstrip()
        + f", n {found.n}"
    )


@judges.command(epilog=examples("judges family", "judges family RUN RUN --judge NAME --judge NAME"))
@click.argument("runs", nargs=-1, metavar="[RUN]...")
@options.stored_judges_option
@click.option(
    "--family",
    "given",
    multiple=True,
    metavar="NAME=FAMILY",
    help="Family of a judge, a model or a run (first 8 characters of its id), where its name does "
    "not show it.",
)
@reading
def family(
    store: "Store",
    output: "Output",
    runs: tuple[str, ...],
    names: tuple[str, ...],
    given: tuple[str, ...],
) -> None:
    """Test whether judges prefer responses of their own model family.

    The test needs two judges of two families that rated runs of both families on the same items. It
    estimates by how many points the two judges together rate their own family higher. A judge that
    is stricter, or a family that is better, does not change the result.
    """
    from mipo_eval.errors import ConfigError
    from mipo_eval.reports.agreement import Families, family_tests, judges_named

    for text in given:
        if not all(text.partition("=")[::2]):
            raise ConfigError(f"--family {text!r} must be NAME=FAMILY, such as my-judge=qwen")
    families = Families(dict(text.rpartition("=")[::2] for text in given))
    chosen = _runs(store, runs)
    found = family_tests(store, chosen, judges_named(store, names), families)
    output.document({"family": [_family_json(test) for test in found]})
    for test in found:
        output.show(*_family_table(test))


def _family_json(test: "FamilyTest") -> dict[str, object]:
    means = ("first_of_own", "first_of_other", "second_of_other", "second_of_own")
    return {
        "first": test.first.label,
        "second": test.second.label,
        "families": [test.first_family, test.second_family],
        "means": dict(zip(means, test.means, strict=True)),
        "preference": test.preference.to_json(),
    }


def _family_table(test: "FamilyTest") -> "list[RenderableType]":
    from mipo_eval.cli.render import Grid, inert, interval

    columns = [f"of {name}" for name in (test.first_family, test.second_family)]
    table = Grid("mean rating by", numbers=columns, wrap=True)
    for judge, means in ((test.first, test.means[:2]), (test.second, test.means[2:])):
        table.add(judge.label, *(f"{mean:.2f}" for mean in means))
    score = test.preference
    clear = score.ci95 is not None and score.ci95[0] > 0
    ending = "self-preference" if clear else "no self-preference shown"
    by = f"{score.value:+.2f} {interval(score.ci95, '+.2f')}".rstrip()
    told = f"Together they rate their own family {by} points higher ({score.n} items): {ending}."
    return [table, inert(told, "yellow" if clear else "")]


@judges.command(
    epilog=examples(
        "judges correct RUN --judge NAME --labels labels.csv",
        "judges correct RUN --judge NAME --labels ann,ben --against RUN",
    )
)
@click.argument("run")
@options.stored_judge_option(required=True)
@click.option(
    "--labels",
    default="people",
    show_default=True,
    metavar="WHO|FILE",
    help="The labels: names of people who labelled on the board (WHO,WHO), people for all of "
    "them, or a file of pairs (.jsonl, .parquet, hf://...).",
)
@click.option("--against", metavar="RUN", help="Run to compare with. Default: the references.")
@reading
def correct(
    store: "Store",
    output: "Output",
    run: str,
    judge: str,
    labels: str,
    against: str | None,
) -> None:
    """Correct a judge's win rate with human labels on some items.

    Two corrections are shown, each with its assumption: prediction-powered inference and
    Rogan-Gladen. A tie counts as half a win.
    """
    from mipo_eval.reports import correction
    from mipo_eval.rows import names_rows
    from mipo_eval.store.judges import find_judge
    from mipo_eval.store.runs import find_run, get_scores

    found = find_run(store, run)
    other = find_run(store, against) if against else None
    rated_by = {score.judge_key for score in get_scores(store, found.run_id)}
    told = (
        correction.file_labels(store, found, labels)
        if names_rows(labels)
        else correction.store_labels(store, labels.split(","))
    )
    own = find_judge(store, judge, rated_by)
    corrected = correction.correct(store, found, own, told, other=other)
    output.document({"run": found.run_id} | correction.correction_json(corrected))
    versus = f"run {other.run_id[:12]}" if other else "the references"
    output.show(*_correction_table(corrected, f"run {found.run_id[:12]} against {versus}"))


def _correction_table(found: "Correction", about: str) -> "list[RenderableType]":
    from mipo_eval.cli.render import Grid, inert, interval, number
    from mipo_eval.reports.correction import ASSUMED

    names = {
        "prediction_powered": "corrected: prediction-powered",
        "rogan_gladen": "corrected: Rogan-Gladen",
    }
    table = Grid("by", numbers=("win rate", "95 %", "items"), last="assumes")
    rows: list[tuple[str, Score | Corrected, str]] = [
        (found.judge.label, found.judged, ""),
        ("people alone", found.people, ""),
    ]
    for key, one in (
        ("prediction_powered", found.prediction_powered),
        ("rogan_gladen", found.rogan_gladen),
    ):
        if one is not None:
            rows.append((names[key], one, ASSUMED[key]))
    for name, of, assumed in rows:
        table.add(name, number(of.value), interval(of.ci95), str(of.n), inert(assumed, "dim"))
    kappa = "" if found.kappa is None else f", kappa {found.kappa:.2f}"
    lines = [f"Judge and people agree on {found.agreement:.1f} % of {found.labelled} items{kappa}."]
    lines += [f"Not {names[key]}: {why}." for key, why in found.absent.items()]
    title = inert(f"{about}: win rate, a tie is half (%)", "bold")
    return [title, table, *(inert(line) for line in lines)]
