"""`mipo-eval train METHOD`: makes the checkpoint that `mipo-eval --model DIR` evaluates."""

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn

import click

from mipo_eval.cli.options import json_option, store_option
from mipo_eval.errors import ConfigError

if TYPE_CHECKING:
    from mipo_eval.cli.output import Output
    from mipo_eval.store import Store
    from mipo_eval.training.recipes import Recipe
    from mipo_eval.training.run import Request

_USUAL_MEMORY = 80e9
"""Bytes of the GPU that is meant where there is none."""

_NEGATIVES = ("missing", "random", "reshuffle", "random-strings")


class _ShortNames(click.Command):
    """A command to which `--lora 32` is `--set lora=32`, for each short name of a recipe's keys."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Spell the short names out, and parse as ever."""
        known = {name for parameter in self.get_params(ctx) for name in parameter.opts}
        return super().parse_args(ctx, list(self._spelled_out(args, known)))

    def _spelled_out(self, args: Sequence[str], known: set[str]) -> Iterator[str]:
        rest = iter(args)
        for arg in rest:
            flag, mark, value = arg.partition("=")
            if arg.startswith("--") and flag not in known and _is_short_name(flag[2:]):
                if not mark and (value := next(rest, "")) == "":
                    raise click.UsageError(f"{flag} needs a value")
                yield from ("--set", f"{flag[2:]}={value}")
            else:
                yield arg


def _is_short_name(name: str) -> bool:
    """Look it up among the recipes' names; not asked of declared flags, so `--help` is instant."""
    from mipo_eval.training.recipes import SHORT_NAMES

    return name in SHORT_NAMES


@click.command(cls=_ShortNames)
@click.argument("method")
@click.option("--model", metavar="CKPT", help="Base model: checkpoint folder, hub id, or demo.")
@click.option("--suite", metavar="SUITE", help="Suite with a training split, or a FILE.jsonl.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder for the checkpoint; the same command continues a training that was stopped.",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="YAML file with keys of a recipe, over the method's own.",
)
@click.option(
    "--negatives", type=click.Choice(_NEGATIVES), help="Where rejected responses come from."
)
@click.option(
    "--n-negatives", type=click.IntRange(min=1), metavar="N", help="Rejected per chosen response."
)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Of draws, data order and adapters."
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="One key of the recipe, as optimization.epochs=2; repeat for several. Short names are "
    "flags too: --lr 5e-7, --lora 32, --algorithm grpo.",
)
@click.option(
    "--sweep",
    metavar="KEY=A,B,...",
    help="Train with each value and keep what does best on held-out training items.",
)
@click.option(
    "--pairs",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Only make the pairs: .jsonl or .parquet with TRL's preference columns.",
)
@click.option("--estimate", is_flag=True, help="Only say how much memory the training takes.")
@click.option("--print-config", is_flag=True, help="Only print the recipe, as --config takes it.")
@store_option
@json_option
def train(  # noqa: PLR0913, PLR0917 - one parameter per flag; their number is limited by a test
    method: str,
    model: str | None,
    suite: str | None,
    out: Path | None,
    config: Path | None,
    negatives: Literal["missing", "random", "reshuffle", "random-strings"] | None,
    n_negatives: int | None,
    seed: int,
    overrides: tuple[str, ...],
    sweep: str | None,
    pairs: Path | None,
    estimate: bool,
    print_config: bool,
    store: str,
    as_json: bool,
) -> None:
    """Train a checkpoint with METHOD: mipo, sft, sami, ppo-mi, rlvr, ...

    The base model answers the suite's training prompts, and learns from that. METHOD is the name
    of a recipe (an unknown one lists them); mipo stands for mipo-missing or, with --negatives,
    another mipo recipe.
    """
    from mipo_eval.cli.output import Output
    from mipo_eval.store import Store
    from mipo_eval.training.recipes import load_recipe, recipe_dict, recipe_yaml
    from mipo_eval.training.trainer import is_main_process

    output = Output(as_json=as_json)
    name, pair_overrides = _method(method, negatives, n_negatives)
    recipe = load_recipe(name, config=config, overrides=(*pair_overrides, *overrides))
    if print_config:
        if as_json:
            output.document(recipe_dict(recipe))
        else:
            click.echo(recipe_yaml(recipe), nl=False)
        return
    if model is None:
        raise click.UsageError("--model CKPT is needed")
    if estimate:
        document = _estimate(output, recipe, model)
        if as_json:
            output.document(document)
        return
    suite = _checked_suite(suite, out, pairs, sweep)
    request = build_request(recipe, model=model, suite=suite, out=out or Path(), seed=seed)
    with _stoppable(), Store.open(store) as opened:
        if pairs is not None:
            document = _export(output, opened, request, pairs)
        else:
            document = _train(output, opened, request, sweep)
    if as_json and is_main_process():
        output.document(document)


def _checked_suite(suite: str | None, out: Path | None, pairs: Path | None, sweep: object) -> str:
    if suite is None or (out is None and pairs is None):
        raise click.UsageError("--suite SUITE and --out DIR (or --pairs FILE) are needed")
    if sweep and pairs is not None:
        raise click.UsageError("--sweep trains and --pairs FILE does not: leave one of them out")
    return suite


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let a cluster's SIGTERM stop a training as Ctrl-C does: noted, and to be continued."""

    def interrupt(_number: int, _frame: object) -> NoReturn:
        # Once: a second one must not break off the noting of where the training stopped.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _method(
    method: str, negatives: str | None, n_negatives: int | None
) -> tuple[str, tuple[str, ...]]:
    """Return the recipe that is meant, and what the two flags change in it."""
    overrides = []
    if method == "mipo" or (negatives and method.startswith("mipo-")):
        method = f"mipo-{negatives or 'missing'}"
    elif negatives:
        overrides.append(f"pairs.negatives={negatives}")
    if n_negatives is not None:
        overrides.append(f"pairs.n_negatives={n_negatives}")
    return method, tuple(overrides)


def build_request(recipe: "Recipe", *, model: str, suite: str, out: Path, seed: int) -> "Request":
    """Return what the options ask for; nothing is generated yet."""
    from mipo_eval import settings
    from mipo_eval.models.spec import parse_model
    from mipo_eval.suites import find_suite
    from mipo_eval.training.examples import training_items
    from mipo_eval.training.run import Request, check_model

    found = find_suite(suite)
    base = parse_model(model)
    check_model(base, recipe)
    sampling = recipe.sampling.model
    return Request(
        recipe=recipe,
        model=base,
        sampling_model=parse_model(sampling) if sampling else base,
        suite=found,
        data=tuple(training_items(found, settings.data_dir(), recipe.items)),
        out=out,
        seed=seed,
    )


def _estimate(output: "Output", recipe: "Recipe", model: str) -> dict[str, object]:
    """Show what the training would take of a device, from the model's configuration alone."""
    from dataclasses import asdict

    import torch

    from mipo_eval.cli.tables import inert
    from mipo_eval.models.spec import checkpoint_name
    from mipo_eval.training.estimate import Workload, estimate_memory, summary

    workload = Workload(negatives=recipe.pairs.n_negatives if recipe.pairs else 0)
    here = torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else None
    name = checkpoint_name(model)
    lines = summary(name, recipe.optimization, workload=workload, memory=here or _USUAL_MEMORY)
    output.show(*map(inert, lines))
    output.note(f"For a prompt of {workload.prompt} tokens and responses of {workload.response}.")
    found = asdict(estimate_memory(name, recipe.optimization, workload=workload))
    return {"model": model, "workload": asdict(workload), "bytes": found, "summary": lines}


def _train(
    output: "Output", store: "Store", request: "Request", sweep: str | None
) -> dict[str, object]:
    """Train, with a sweep where one is asked for, and show what came of it."""
    from mipo_eval.cli.training_tables import training_json, training_tables
    from mipo_eval.store.trainings import get_curve
    from mipo_eval.training.run import train as run_training
    from mipo_eval.training.sweep import parse_sweep
    from mipo_eval.training.sweep import sweep as run_sweep
    from mipo_eval.training.trainer import is_main_process

    if sweep:
        training, swept = run_sweep(store, request, output, over=parse_sweep(sweep))
    else:
        training, swept = run_training(store, request, output), []
    if is_main_process():
        output.show(*training_tables(training, get_curve(store, training.training_id), swept))
        output.note(f"Evaluate it: mipo-eval --model {request.out} --suite {training.suite}")
    return training_json(training, swept)


def _export(output: "Output", store: "Store", request: "Request", path: Path) -> dict[str, object]:
    """Make the pairs and write them to a file."""
    from mipo_eval.training.export import check_export, export_pairs
    from mipo_eval.training.run import make_examples

    check_export(path)
    if request.recipe.learns_from != "pairs":
        raise ConfigError(f"{request.recipe.name} makes no pairs: --pairs goes with a mipo method")
    made, _ = make_examples(store, request, output)
    count = export_pairs(path, made.examples)
    output.note(f"{count} pairs from {made.items} items are in {path}")
    return {
        "file": str(path),
        "pairs": count,
        "items": made.items,
        "dropped": dict(made.dropped),
        "dropped_negatives": dict(made.dropped_negatives),
    }
