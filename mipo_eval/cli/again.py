"""`mipo-eval judges noise|drift`: a judge asked again about what it judged."""

from collections.abc import Callable, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from mipo_eval.cli import options
from mipo_eval.cli.options import examples
from mipo_eval.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType
    from rich.text import Text

    from mipo_eval.cli.render import Output
    from mipo_eval.judges.again import AskedAgain, Occasion
    from mipo_eval.judges.judge import Judge
    from mipo_eval.judges.noise import Drift, Noise, Noisy
    from mipo_eval.metrics.agreement import Reliability
    from mipo_eval.metrics.win_rate import Ties
    from mipo_eval.records import Run
    from mipo_eval.store.engine import Store

_WORDS = {"a": "won", "tie": "tied", "b": "lost"}


def _asking(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command what both ask with: whose verdicts, which part of them, for how much."""
    for option in reversed(
        (
            click.argument("run"),
            options.stored_judge_option(required=True),
            click.option(
                "--against",
                metavar="RUN",
                help="Run that it was compared with. Default: the references.",
            ),
            click.option(
                "--share",
                type=click.FloatRange(min=0, max=1, min_open=True),
                default=0.2,
                show_default=True,
                metavar="SHARE",
                help="Share of the judged items of each task that the judge is asked about again.",
            ),
            options.ties_option,
            click.option(
                "--seed",
                type=int,
                default=0,
                show_default=True,
                help="Random seed for the choice of these items.",
            ),
            options.max_cost_option,
            options.batch_option,
            options.store_option,
            options.json_option,
        )
    ):
        command = option(command)
    return command


@click.command(
    epilog=examples(
        "judges noise RUN --judge NAME", "judges noise RUN --judge NAME --repeat 3 --share 0.2"
    )
)
@click.option(
    "--repeat",
    type=click.IntRange(min=1, max=100),
    default=2,
    show_default=True,
    metavar="N",
    help="How often the judge is asked again.",
)
@_asking
def noise(repeat: int, ties: "Ties", **given: Any) -> None:
    """Measure a judge's noise: ask it again about some items of RUN.

    The result says how much of an interval comes from the judge and not from the items. Replies
    that are drawn at a temperature are drawn with other seeds. The stored verdicts do not change.
    Nothing is paid for twice, and a stopped command continues.
    """
    from mipo_eval.judges.again import Occasion
    from mipo_eval.judges.noise import noise as measure
    from mipo_eval.judges.noise import noise_json

    occasions = [Occasion(f"repeat {n}", n) for n in range(1, repeat + 1)]
    with _asked(occasions, given) as (output, _, judge, asked):
        found = [measure(of_task, ties) for of_task in asked]
        document = {"repeats": repeat, "ties": ties, "noise": [noise_json(one) for one in found]}
        output.document(_about(given, judge) | document)
        for one in found:
            output.show(*_noise(one, judge.name, repeat))
        about = ("drift", given["run"], "--judge", given["judge"])
        output.suggest("Check whether it says the same on another day", "judges", *about)


@click.command(
    epilog=examples("judges drift RUN --judge NAME", "judges drift RUN --judge NAME --share 0.1")
)
@_asking
def drift(ties: "Ties", **given: Any) -> None:
    """Check whether a judge still says today what it said about RUN.

    It is asked about the same items every time, in exactly the same way. The result is kept with
    its date and shown beside the results of other days. The stored verdicts do not change.
    """
    from mipo_eval.judges.again import Occasion
    from mipo_eval.judges.noise import drift as measure
    from mipo_eval.judges.noise import drift_json
    from mipo_eval.store.engine import now

    day = Occasion(now().date().isoformat())
    with _asked([day], given) as (output, store, judge, asked):
        found = [measure(store, judge, of_task, day, ties) for of_task in asked]
        lines = [
            drift_json(one)
            | {"kept": one.kept}
            | {"earlier": [dict(zip(_EARLIER, past, strict=True)) for past in one.earlier]}
            for one in found
        ]
        output.document(_about(given, judge) | {"ties": ties, "drift": lines})
        for one in found:
            output.show(*_drift(one, judge.name))
        about = ("noise", given["run"], "--judge", given["judge"])
        output.suggest("See how much it changes within one day", "judges", *about)


_EARLIER = ("day", "changed", "ci95")


def _about(given: Mapping[str, Any], judge: "Judge") -> dict[str, Any]:
    names = ("run", "against", "share", "seed")
    return {"judge": judge.name, "judge_key": judge.key} | {name: given[name] for name in names}


@contextmanager
def _asked(
    occasions: "Sequence[Occasion]", given: Mapping[str, Any]
) -> "Iterator[tuple[Output, Store, Judge, list[AskedAgain]]]":
    """Ask again, and in the end say what it cost; a judge that mostly failed is an error."""
    from mipo_eval.cli.evaluate import complaints, conclude
    from mipo_eval.cli.render import Output
    from mipo_eval.judges.again import Sample, ask_again
    from mipo_eval.models.base import CALL_FAILED
    from mipo_eval.store.engine import Store
    from mipo_eval.store.runs import find_run

    output = Output(as_json=given["as_json"])
    sample = Sample(given["share"], given["seed"])
    Store.open(given["store"], mode="read").close()  # to open it for writing would make one
    with Store.open(given["store"]) as store:
        run = find_run(store, given["run"])
        other = find_run(store, given["against"]) if given["against"] else None
        if other and other.run_id == run.run_id:
            raise ConfigError("--against names the same run as RUN: name another run")
        judge = _judge(store, run, given)
        asked = ask_again(store, judge, (run, other), occasions, sample, output)
        yield output, store, judge, asked
    failed = [
        sum(n for why, n in of_task.missing().items() if why.startswith(CALL_FAILED))
        for of_task in asked
    ]
    total = len(occasions) * sum(len(of_task.places) for of_task in asked)
    conclude(output, [judge], complaints([(judge, sum(failed), total)]))


def _judge(store: "Store", run: "Run", given: Mapping[str, Any]) -> "Judge":
    """Return a judge of the store as it was asked then.

    Raises:
        ConfigError: it is a person or another tool's judge, or it would now be asked otherwise.
    """
    from mipo_eval.evaluation.asked import judge_loader
    from mipo_eval.models.base import Purse
    from mipo_eval.store.judges import find_judge
    from mipo_eval.store.runs import get_scores

    rated_by = {score.judge_key for score in get_scores(store, run.run_id)}
    known = find_judge(store, given["judge"], rated_by)
    spec = known.spec.get("spec")
    if not spec:
        raise ConfigError(f"{known.label} was not asked by mipo-eval, so it cannot be asked again")
    purse = None if given["max_cost"] is None else Purse(given["max_cost"])
    load = judge_loader(purse, batch=given["batch"])
    judge: Judge = load(str(spec), run.model, known.spec.get("protocol"))
    if judge.key != known.key:
        raise ConfigError(
            f"the preset, the prompt or the parser of {known.label} has changed since it judged "
            f"run {run.run_id[:12]}: judge the run first with --judge {spec}"
        )
    return judge


def _noise(found: "Noise", judge: str, repeat: int) -> "list[RenderableType]":
    from mipo_eval.cli.render import Grid, inert

    times = "once more" if repeat == 1 else f"{repeat} times more"
    title = f"{found.task}: {judge} asked {times} about {found.asked} of {found.win_rate.n} items"
    table = Grid("[95 % interval]", numbers=("value", "sd", "noise (%)"))
    table.add("win rate (%)", *_cells(found.win_rate, ".1f"))
    if found.rating:
        table.add("rating difference", *_cells(found.rating, ".2f"))
    told = [
        "sd: how much one item's value changes from one answer of the judge to the next.",
        "noise: share of the interval's variance that comes from the judge, not from the items.",
    ]
    lines = (inert(line, "dim") for line in told)
    return [inert(title, "bold"), table, *_same(found, "when asked again"), *lines]


def _cells(found: "Noisy", form: str) -> "list[str | Text]":
    from mipo_eval.cli.render import estimate

    value, own = estimate(found.value, found.ci95, form), found.noise
    if own is None:
        return [value, "", ""]
    share = estimate(own.share, own.share_ci95) if own.share is not None else ""
    return [value, estimate(own.sd, own.sd_ci95, form), share]


def _same(found: "Noise | Drift", when: str) -> "list[RenderableType]":
    """Return how far answers are the same, and what is missing."""
    from mipo_eval.cli.render import inert, listed

    parts = [
        f"{of} {said}"
        for of, own in (("verdicts", found.verdicts), ("replies", found.replies))
        if (said := _reliability(own))
    ]
    lines = [inert(f"The same {when}: {'; '.join(parts)}")] if parts else []
    missing = inert(f"Without a verdict: {listed(found.missing)}", "yellow")
    return [*lines, *([missing] if found.missing else [])]


def _reliability(found: "Reliability") -> str:
    from mipo_eval.cli.render import interval

    if found.share is None:
        return ""
    said = f"{found.share:.1f} % {interval(found.share_ci95)}".rstrip()
    if found.alpha is None:
        return said
    return f"{said}, alpha {found.alpha:.2f} {interval(found.alpha_ci95, '.2f')}".rstrip()


def _drift(found: "Drift", judge: str) -> "list[RenderableType]":
    from mipo_eval.cli.render import estimate, inert, interval, p_text
    from mipo_eval.judges.noise import changed

    title = f"{found.task}: {judge} asked again on {found.day} about {found.asked} items"
    share, ends = changed(found.verdicts)
    ranked = sorted(found.changes.items(), key=lambda change: -change[1])
    kinds = ", ".join(f"{n} x {_in_words(change)}" for change, n in ranked)
    line = inert("Verdicts that changed (%): ").append_text(estimate(share, ends))
    told = line.append(f": {kinds}" if kinds else "")
    parts: list[RenderableType] = [inert(title, "bold"), told]
    for name, own, form in (
        ("Change of the win rate (points)", found.win_rate, "+.1f"),
        ("Change of the mean rating (1-5)", found.rating, "+.2f"),
    ):
        if own:
            said = f"{own.difference:{form}} {interval(own.ci95, form)}".rstrip()
            parts.append(inert(f"{name}: {said}" + (f", p {p_text(own.p)}" if own.p else "")))
    parts += _same(found, "then and now")
    parts += [
        inert(f"On {day}: {value:.1f} {interval(past)} changed".replace("  ", " "), "dim")
        for day, value, past in found.earlier
    ]
    if not found.kept:
        parts.append(
            inert("Not stored: too many replies are missing. Repeat the command.", "bold red")
        )
    return parts


def _in_words(change: str) -> str:
    before, after = change.split(" to ")
    return f"{_WORDS[before]}, now {_WORDS[after]}"
