"""`mipo-eval grid FILE.yaml`: a whole table by one command, or the commands that make it."""

import io
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import click

from mipo_eval import settings
from mipo_eval.cli.options import examples, json_option, store_option
from mipo_eval.errors import ConfigError, MipoEvalError
from mipo_eval.keys import masked
from mipo_eval.progress import duration

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mipo_eval.cli.render import Output
    from mipo_eval.evaluation.generate import Evaluation
    from mipo_eval.grid.estimate import Estimate, Need, Sum
    from mipo_eval.grid.file import GridFile
    from mipo_eval.grid.status import State, Status, TrainingNames
    from mipo_eval.grid.steps import GridEntry, Step
    from mipo_eval.models.spec import ModelSpec
    from mipo_eval.reports.plan import Amount
    from mipo_eval.training.recipes import Recipe
    from mipo_eval.training.run import TrainingRequest


@click.command(epilog=examples("grid demo --dry-run", "grid table1 --slurm --sbatch=--gpus=1"))
@click.argument("file", metavar="FILE.yaml")
@click.option("--dry-run", is_flag=True, help="Only show what is left to do: hours, tokens, money.")
@click.option("--commands", is_flag=True, help="Only print the commands that are left to run.")
@click.option(
    "--slurm", is_flag=True, help="Only print a script that runs these commands with SLURM."
)
@click.option(
    "--sbatch",
    multiple=True,
    metavar="OPTION",
    help="Option for every SLURM job, such as --sbatch=--partition=gpu. Repeat it for several.",
)
@store_option
@json_option
def grid(  # noqa: PLR0913, PLR0917 - one parameter per flag
    file: str,
    dry_run: bool,
    commands: bool,
    slurm: bool,
    sbatch: tuple[str, ...],
    store: str,
    as_json: bool,
) -> None:
    """Train, evaluate and judge everything that a table needs.

    FILE.yaml lists models, methods, seeds, suites and judges (see docs/grid.md). Four grids come
    with mipo-eval: demo, real, table1 and table2. What the store already has is not made again. If
    a step fails, all steps that do not need it are still done. The same command continues a stopped
    grid.
    """
    from mipo_eval.cli.plan import opened_to_read
    from mipo_eval.cli.render import Output
    from mipo_eval.grid.check import check
    from mipo_eval.grid.estimate import Estimate
    from mipo_eval.grid.file import read_grid
    from mipo_eval.grid.jobs import shell_script, slurm_script
    from mipo_eval.grid.status import Status
    from mipo_eval.plugins import loaded

    output = Output(as_json=as_json)
    if dry_run + commands + slurm > 1:
        raise ConfigError("use only one of --dry-run, --commands and --slurm")
    if sbatch and not slurm:
        raise ConfigError("--sbatch needs --slurm: it is an option for SLURM jobs")
    read = read_grid(file)
    work = _Work(read)
    with loaded(read.plugins):
        check(read, work)
    if not (dry_run or commands or slurm):
        done = _all_done(output, work, store)
        output.document({"grid": file, "steps": [step_json(one) for one in done]})
        _conclude(output, read, done)
        return
    flag = store_flag(store) if commands or slurm else []
    with loaded(read.plugins), opened_to_read(store) as opened:
        status = Status(opened, read, work)
        plan = _plan(status)
        document: dict[str, object] = {"grid": file, "steps": [step_json(one) for one in plan]}
        left = [one.step for one in plan if one.state.status != "done"]
        if dry_run:
            document |= _tell_needs(output, plan, Estimate(opened, status, read))
            output.suggest("Run it", "grid", file)
    if not left:
        output.tell("Nothing is left to do.")
    elif not (as_json or dry_run):
        script = slurm_script(left, flag, read.slurm, sbatch) if slurm else shell_script(left, flag)
        click.echo(script)
    output.document(document)


def _tell_needs(
    output: "Output", plan: "Sequence[StepProgress]", estimate: "Estimate"
) -> dict[str, object]:
    """Show what is left of a grid and what it needs, and return that for `--json`."""
    left = [one.step for one in plan if one.state.status != "done"]
    needs, memory = list(estimate.needs(left)), dict(estimate.memory(left))
    output.show(*_estimated(plan, needs), *_memory(memory))
    return {
        "needs": [need_json(one) for one in needs],
        "memory": {name: asdict(amount) for name, amount in memory.items()},
    }


class _Work:
    """What the commands make of the rows of a grid."""

    def __init__(self, grid: "GridFile") -> None:
        self.grid = grid
        self._requests: dict[str, TrainingRequest] = {}

    def evaluation(self, model: str, row: "GridEntry") -> "Evaluation":
        """Return how a model is asked in a row's place; the suite's own judges, if it has any."""
        from mipo_eval.evaluation.asked import EvaluationOptions, build_evaluation

        told = self.grid.evaluation.model_dump() | {"engine": self.grid.engine(row.model)}
        asked = EvaluationOptions(
            **told, model=model, suite=row.suite.suite, prompting=row.prompting
        )
        return build_evaluation(asked)

    def training(self, row: "GridEntry") -> "TrainingNames":
        """Return what the training of a row is known by."""
        from mipo_eval.grid.status import TrainingNames
        from mipo_eval.training.recipes import parse_sweep
        from mipo_eval.training.sweep import sweep_id, trial

        request = self._request(row)
        if row.method is None or not row.method.sweep:
            return TrainingNames(request.training_id, (request.training_id,))
        key, values = over = parse_sweep(row.method.sweep)
        ids = tuple(trial(request, key, value).training_id for value in values)
        return TrainingNames(sweep_id(request, over), ids)

    def items(self, row: "GridEntry") -> int:
        """Return how many items a row learns from."""
        from mipo_eval.tasks.suites import find_suite, with_query
        from mipo_eval.training.data import training_items

        assert row.method
        recipe = self.grid.recipe(row.model, row.suite, row.method)
        suite = with_query(find_suite(row.suite.learned), recipe.query)
        found = training_items(suite, settings.data_dir(), recipe.items)
        return sum(len(one.items) for one in found)

    def check(self, model: "ModelSpec", recipe: "Recipe") -> None:
        """Refuse what cannot be trained."""
        from mipo_eval.training.run import check_model

        check_model(model, recipe)

    def _request(self, row: "GridEntry") -> "TrainingRequest":
        from mipo_eval.training.run import check_model, make_request

        assert row.method
        assert row.seed is not None
        recipe = self.grid.recipe(row.model, row.suite, row.method)
        model, suite = row.model.model, row.suite.learned
        # What reads items and weights is done once for all that differ in nothing that is read.
        key = repr((model, suite, recipe.items, recipe.query, recipe.sampling.model))
        if key not in self._requests:
            self._requests[key] = make_request(
                recipe, model=model, suite=suite, out=Path(), seed=row.seed
            )
        check_model(self._requests[key].model, recipe)
        return replace(self._requests[key], recipe=recipe, seed=row.seed)


@dataclass(slots=True)
class StepProgress:
    """How far a step is, and what came of it in this command."""

    step: "Step"
    state: "State"
    seconds: float | None = None
    """How long it took; None: it was not begun."""
    made: str | None = None
    """Id of the training, or of the run."""


def _plan(status: "Status") -> list[StepProgress]:
    return [StepProgress(step, status.of(step)) for step in status.steps]


def store_flag(url: str) -> list[str]:
    """Return how printed commands name the store, unless they find it without.

    Raises:
        ConfigError: it holds a password, which scripts are no place for.
    """
    if url == settings.store_url():
        return []
    if masked(url) != url:
        raise ConfigError(
            "the URL of --store contains a password, which would be printed with the commands: "
            f"set {settings.STORE} to the URL instead"
        )
    return ["--store", url]


def _all_done(output: "Output", work: "_Work", url: str) -> list[StepProgress]:
    """Do what is left of a grid, one step after the other; return all of its steps."""
    from mipo_eval.grid.status import State, Status
    from mipo_eval.plugins import loaded
    from mipo_eval.store.engine import Store

    plugins = work.grid.plugins
    with Store.open(url) as store:
        with loaded(plugins):
            status = Status(store, work.grid, work)
            plan = _plan(status)
        by_name = {one.step.name: one for one in plan}
        for one in plan:
            lacking = [n for n in one.step.after if by_name[n].state.status != "done"]
            if one.state.status == "done":
                continue
            if lacking:
                one.state = State("to do", f"needs this step first: {lacking[0]}")
                continue
            with loaded(plugins):  # not around the step, which loads them itself
                one.state = status.of(one.step)  # perhaps somebody else has done it meanwhile
            if one.state.status != "done":
                _do(output, plan, one, url)
        with loaded(plugins):
            for one in plan:
                one.made = status.made(one.step) if one.state.status == "done" else None
    return plan


def _do(output: "Output", plan: Sequence[StepProgress], one: StepProgress, url: str) -> None:
    """Do a step, and say how far the grid is."""
    from mipo_eval.grid.status import State

    place = f"[{plan.index(one) + 1}/{len(plan)}]"
    output.tell(f"{place} {one.step.name}")
    began = time.monotonic()
    why = _run([*one.step.arguments, "--store", url])
    one.seconds = time.monotonic() - began
    one.state = State("failed", masked(why)) if why else State("done")
    came = f"failed: {why}" if why else f"done in {duration(one.seconds)}"
    output.tell(f"{place} {came}; {_left(plan)}")


def _run(arguments: list[str]) -> str | None:
    """Run a command as if it had been typed; return why it failed, or None."""
    app = click.get_current_context().find_root().command
    before, sys.argv = sys.argv, ["mipo-eval", *arguments]  # what runs and trainings record
    try:
        with redirect_stdout(io.StringIO()):
            app.main(arguments, prog_name="mipo-eval", standalone_mode=False)
    except click.ClickException as error:
        return " ".join(error.format_message().split())
    except MipoEvalError as error:
        return " ".join(str(error).split())
    finally:
        sys.argv = before
    return None


def _left(plan: Sequence[StepProgress]) -> str:
    """Return how much is left, at the rate of the steps of each kind that were done so far."""
    took: dict[str, list[float]] = {}
    for one in plan:
        if one.seconds is not None:
            took.setdefault(one.step.kind, []).append(one.seconds)
    left = [one.step.kind for one in plan if one.seconds is None and one.state.status != "done"]
    if not left:
        return "none left"
    done = sum(map(len, took.values()))
    rate = 60 * done / max(sum(map(sum, took.values())), 1e-9)
    seconds = sum(fmean(took[kind]) for kind in left if kind in took)
    unknown = sorted({kind for kind in left if kind not in took})
    about = f"about {duration(seconds)}"
    if unknown:
        about += f" and what it takes to {' and '.join(unknown)}"
    return f"{len(left)} left, {about} ({rate:.1f} steps per minute)"


def step_json(one: StepProgress) -> dict[str, object]:
    """Return a step as `--json` shows it."""
    step = one.step
    return {
        "name": step.name,
        "kind": step.kind,
        "row": step.row.label,
        "arguments": list(step.arguments),
        "after": list(step.after),
        "status": one.state.status,
        "reason": one.state.reason or None,
        "seconds": one.seconds,
        "id": one.made,
    }


def _require_all(plan: Sequence[StepProgress]) -> None:
    """Refuse to take a grid with holes for a whole one.

    Raises:
        MipoEvalError: some of its steps are not done.
    """
    if missing := [one for one in plan if one.state.status != "done"]:
        failed = [one for one in missing if one.state.status == "failed"]
        first = failed[0]  # what else is missing needs one that failed
        raise MipoEvalError(
            f"{len(missing)} of {len(plan)} steps are not done, because {len(failed)} failed: "
            f"{first.step.name}: {first.state.reason}. The same command tries again"
        )


def _conclude(output: "Output", read: "GridFile", plan: Sequence[StepProgress]) -> None:
    """Say what is missing, and where to look at the rest."""
    from mipo_eval.grid.steps import suite_of

    output.show(_counts(plan), *_holes(plan))
    suites = dict.fromkeys(suite_of(read, part).name for part in read.suites)
    for suite in suites:
        output.suggest("Compare the methods", "leaderboard", "--suite", suite)
    output.suggest("See everything in a browser", "board")
    _require_all(plan)


def _counts(plan: Sequence[StepProgress]) -> "RenderableType":
    from mipo_eval.cli.render import Grid
    from mipo_eval.grid.steps import KINDS

    table = Grid("steps", numbers=("all", "done", "to do", "failed"))
    for kind in KINDS:
        found = Counter(one.state.status for one in plan if one.step.kind == kind)
        if found:
            counts = (found.total(), found["done"], found["to do"], found["failed"])
            table.add(kind, *map(str, counts))
    return table


def _holes(plan: Sequence[StepProgress]) -> "Iterator[RenderableType]":
    """Yield a line for each step that failed, and for what is the matter with others."""
    from mipo_eval.cli.render import inert

    for one in plan:
        if one.state.status == "failed":
            yield inert(f"{one.step.name}: {one.state.reason}", "red")
    others = Counter(one.state.reason for one in plan if one.state.status == "to do")
    for reason, count in others.items():
        if reason:
            yield inert(f"{count} to do: {reason}", "yellow")


def _estimated(plan: Sequence[StepProgress], needs: "Sequence[Need]") -> "Iterator[RenderableType]":
    """Yield how far the grid is, and a table of what is left."""
    from mipo_eval.cli.render import Grid, inert
    from mipo_eval.grid.estimate import added

    yield _counts(plan)
    yield from _holes(plan)
    columns = ("calls", "tokens", "US dollars", "hours")
    table = Grid("left", numbers=("steps", *columns))
    rows = [(one.calls, one.tokens, one.dollars, one.hours) for one in needs]
    for one, row in zip(needs, rows, strict=True):
        table.add(one.what, str(one.steps), *map(_cell, row, _FORMS))
    sums = [added(column) for column in zip(*rows, strict=True)]
    if needs:
        table.add_section()
        steps = sum(one.state.status != "done" for one in plan)
        table.add("all of it", str(steps), *map(_cell, sums, _FORMS))
        yield table
    holes: dict[Sequence[str], list[str]] = {}
    for name, found in zip(columns, sums, strict=False):
        yield from (inert(f"{name}: {source}", "dim") for source in found.sources)
        holes.setdefault(tuple(found.unknown), []).append(name)
    for reasons, names in holes.items():  # what is not known of several is often one thing
        what = f"{', '.join(names)} not known"
        yield from (inert(f"{what}: {why}", "yellow") for why in reasons[:_REASONS])
        if more := len(reasons[_REASONS:]):
            yield inert(f"{what}: {more} more reasons (see them with --json)", "yellow")


_FORMS = (",.0f", ",.0f", ",.2f", ",.2f")
_REASONS = 4
"""For which something is not known, that are shown."""


def need_json(need: "Need") -> dict[str, object]:
    """Return what some steps need as `--json` shows it."""
    names = ("calls", "tokens", "dollars", "hours")
    figures = {name: getattr(need, name)._asdict() for name in names}
    return {"what": need.what, "steps": need.steps, **figures}


def _memory(found: "Mapping[str, Amount]") -> "Iterator[RenderableType]":
    from mipo_eval.cli.render import inert

    for name, most in found.items():
        said = "not known" if most.value is None else f"up to {most.value / 1e9:.1f} GB"
        yield inert(f"memory to train {name}: {said} ({most.source})", "dim")


def _cell(figure: "Sum", form: str) -> str:
    from mipo_eval.cli.render import number

    rest = " + ?" if figure.unknown and figure.value is not None else ""
    return number(figure.value, form, absent="?") + rest
