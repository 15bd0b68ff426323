"""`mipo-eval train METHOD`: makes the checkpoint that `mipo-eval --model DIR` evaluates."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mipo_eval.cli.options import examples, json_option, plugin_option, store_option
from mipo_eval.cli.runfile import RECIPE
from mipo_eval.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

    from mipo_eval.cli.render import Output
    from mipo_eval.store.engine import Store
    from mipo_eval.store.trainings import CurvePoint, Training
    from mipo_eval.training.criteria import Swept
    from mipo_eval.training.recipes import Recipe
    from mipo_eval.training.run import TrainingRequest

_USUAL_MEMORY = 80e9
"""Bytes of the GPU that is meant where there is none."""

_FIGURES = {
    "examples": "examples",
    "pairs": "pairs",
    "chosen_characters": "characters of a chosen response",
    "rejected_characters": "characters of a rejected response",
    "ranked_correctly": "pairs ranked correctly before training",
    "pmi_chosen": "log-probability that the context adds to chosen (nats)",
    "pmi_rejected": "log-probability that the context adds to rejected (nats)",
}
"""Figures of the pair report that are shown."""

_CURVE = (
    *("loss", "aux_loss", "ranking_accuracy", "mi_lower_bound", "retrieval", "reward_chosen"),
    *("reward_rejected", "reward", "unrewarded", "kl", "held_out_loss", "held_out_reward"),
    *("margin_learned", "margin_saved", "tokens_per_second"),
)
"""Metrics of a learning curve that are shown, in this order."""

_ROUND = ("loss", "ranking_accuracy", "margin_saved")
"""Metrics of which each round's last value is shown."""

_IN_JSON = (
    *("training_id", "method", "model", "suite", "seed", "checkpoint", "status", "recipe"),
    "pair_report",
)
_SWEPT = ("value", "criterion", "figure", "behind", "behind_ci95")
"""What `--json` tells of a training, and of each value of a sweep."""


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


@click.command(
    cls=_ShortNames,
    epilog=examples(
        "train mipo --model Qwen/Qwen2.5-1.5B-Instruct --suite ca --out mipo",
        "train mipo --model demo --suite demo --out out/demo --estimate",
    ),
)
@click.argument("method")
@click.option("--model", metavar="CKPT", help="Base model: a checkpoint folder, a hub id, or demo.")
@click.option(
    "--suite",
    metavar="SUITE",
    help="Suite with training items, or a file of items (.jsonl, .parquet, hf://...).",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder for the checkpoint. The same command continues a stopped training.",
)
@click.option(
    "--config",
    expose_value=False,  # read before all other options, for it may hold them
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="YAML file with keys of the recipe. They replace the method's own; options may be in the "
    "file, too.",
)
@click.option(
    "--negatives",
    metavar="NAME",
    help="How rejected responses are made: missing, random, reshuffle, random-strings, or the name "
    "of a plug-in.",
)
@click.option(
    "--n-negatives",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of rejected responses for each chosen one.",
)
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    help="Random seed for responses, the order of the data, and new LoRA weights.",
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change one key of the recipe, such as optimization.epochs=2; repeat the option for "
    "several. Common keys have options of their own: --lr 5e-7, --lora 32, --algorithm grpo, "
    "--query letter. --rounds 3 trains three times, each time from the last checkpoint and on its "
    "own new responses.",
)
@click.option(
    "--sweep",
    metavar="KEY=A,B,...",
    help="Train once with each of these values, and keep the checkpoint that is best on held-out "
    "training items.",
)
@click.option(
    "--pairs",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="With --out: train on the pairs in this file (TRL's columns prompt, chosen, rejected). "
    "With --suite: only make the pairs and write them to this file (.jsonl or .parquet).",
)
@click.option("--estimate", is_flag=True, help="Only show how much memory this would need.")
@click.option("--print-config", is_flag=True, help="Only print the recipe, for --config.")
@plugin_option
@store_option
@json_option
def train(  # noqa: PLR0913, PLR0917 - one parameter per flag; their number is limited by a test
    method: str,
    model: str | None,
    suite: str | None,
    out: Path | None,
    negatives: str | None,
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
    """Train a model with METHOD, such as mipo, sft, sami or ppo-mi.

    The base model answers the suite's training prompts and is trained on its own answers. METHOD is
    the name of a recipe; an unknown name prints the list of all. mipo means mipo-missing, or the
    recipe for the negatives that --negatives names.
    """
    from mipo_eval.cli.render import Output
    from mipo_eval.store.engine import Store
    from mipo_eval.training.methods import find_method
    from mipo_eval.training.recipes import load_recipe, recipe_dict, recipe_yaml
    from mipo_eval.training.run import make_request
    from mipo_eval.training.trainer import is_main_process

    output = Output(as_json=as_json)
    given = pairs is not None and suite is None
    if given and (method == "mipo" or method.startswith("mipo-")):
        method = "dpo"  # the pairs are not what MIPO makes
    name, pair_overrides = find_method(method, negatives, n_negatives)
    own = click.get_current_context().meta.get(RECIPE)
    recipe = load_recipe(name, config=own, overrides=(*pair_overrides, *overrides))
    document: Mapping[str, object]
    if print_config:
        document = recipe_dict(recipe)
        if not as_json:
            click.echo(recipe_yaml(recipe), nl=False)
    elif model is None:
        raise click.UsageError("--model is missing: name a base model with --model CKPT")
    elif estimate:
        document = _estimate(output, recipe, model)
    else:
        source = _source(recipe, suite, out, pairs)
        if sweep and out is None:
            raise click.UsageError("--sweep trains and --pairs FILE does not: use one of the two")
        request = make_request(recipe, model=model, suite=source, out=out or Path(), seed=seed)
        with Store.open(store) as opened:
            if pairs is not None and not given:
                document = _export(output, opened, request, pairs)
            else:
                document = _train(output, opened, request, sweep)
    if as_json and is_main_process():
        output.document(document)


def _source(
    recipe: "Recipe", suite: str | None, out: Path | None, pairs: Path | None
) -> str | Path:
    """Return what is learned from: a suite, or the file of pairs."""
    if (suite or pairs) is None or (out is None and (pairs is None or suite is None)):
        raise click.UsageError("name a suite with --suite SUITE, and a folder with --out DIR")
    if suite and pairs and out:
        raise click.UsageError(
            "--pairs with --suite makes pairs, --pairs with --out trains on them: use --suite or "
            "--out, not both"
        )
    if pairs is None or suite:
        if recipe.learns_from == "file":
            raise ConfigError(
                f"{recipe.name} trains on pairs of your own: use --pairs FILE --out DIR"
            )
        return suite or ""
    if recipe.learns_from != "file":
        raise ConfigError(
            f"{recipe.name} does not train on given pairs: use mipo-eval train dpo --pairs {pairs}"
        )
    return pairs


def _estimate(output: "Output", recipe: "Recipe", model: str) -> dict[str, object]:
    """Show what the training would take of a device, from the model's configuration alone."""
    import torch

    from mipo_eval.cli.render import inert
    from mipo_eval.models.spec import checkpoint_name
    from mipo_eval.training.memory import estimate_memory, summary, workload_of

    workload = workload_of(recipe)
    here = torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else None
    name = checkpoint_name(model)
    lines = summary(name, recipe.optimization, workload=workload, memory=here or _USUAL_MEMORY)
    if (rounds := recipe.rounds.number) > 1:
        lines.append(
            f"{rounds} rounds, one after the other: this memory each time, {rounds} times the "
            "responses to draw and the steps, and a checkpoint on disk for each"
        )
    output.show(*map(inert, lines))
    output.note(
        f"For prompts of {workload.prompt} tokens and responses of {workload.response} tokens."
    )
    found = asdict(estimate_memory(name, recipe.optimization, workload=workload))
    return {"model": model, "workload": asdict(workload), "bytes": found, "summary": lines}


def _train(
    output: "Output", store: "Store", request: "TrainingRequest", sweep: str | None
) -> dict[str, object]:
    """Train, with a sweep where one is asked for, and show what came of it."""
    from mipo_eval.store.trainings import get_curve, list_trainings, rounds_up_to
    from mipo_eval.training.recipes import parse_sweep
    from mipo_eval.training.run import train
    from mipo_eval.training.sweep import sweep as train_each
    from mipo_eval.training.trainer import is_main_process

    swept: list[Swept] = []
    if sweep:
        training, swept = train_each(store, request, output, over=parse_sweep(sweep))
    else:
        training = train(store, request, output)
    rounds = rounds_up_to(training, list_trainings(store))
    if is_main_process():
        output.show(*_tables(training, get_curve(store, training.training_id), swept))
        if len(rounds) > 1:
            output.show(_rounds_table(rounds, store))
            output.note(
                "You can evaluate or delete the checkpoints of earlier rounds: only the last one "
                "is needed for more rounds."
            )
        suite = "SUITE" if request.recipe.learns_from == "file" else training.suite
        output.suggest("Evaluate it", "--model", str(request.out), "--suite", str(suite))
    return {
        **{name: getattr(training, name) for name in _IN_JSON},
        "sweep": [{name: getattr(one, name) for name in _SWEPT} for one in swept],
        "rounds": [
            {name: getattr(one, name) for name in ("round", "training_id", "checkpoint")}
            for one in rounds
        ],
    }


def _rounds_table(rounds: "Sequence[Training]", store: "Store") -> "Table":
    """Return where each round's checkpoint is, and where its curves ended."""
    from mipo_eval.store.trainings import last_values

    last = last_values(store)
    rows = [
        (
            str(one.round),
            *(f"{ends[name]:.4g}" if name in ends else "" for name in _ROUND),
            str(one.checkpoint),
        )
        for one in rounds
        for ends in [last.get(one.training_id, {})]
    ]
    return _table("round", [*_ROUND, "checkpoint"], rows)


def _tables(
    training: "Training", curve: "Sequence[CurvePoint]", swept: "Sequence[Swept]"
) -> "list[RenderableType]":
    """Return what was learned from, how it went, and what a sweep chose by."""
    from mipo_eval.cli.render import inert

    title = inert(
        f"{training.method} of {training.model} on {training.suite}, seed {training.seed} "
        f"(training {training.training_id[:12]})"
    )
    title.stylize("bold")
    parts: list[RenderableType] = [title]
    if report := training.pair_report:
        figures = [
            (label, f"{100 * value:.1f} %" if key == "ranked_correctly" else f"{value:.4g}")
            for key, label in _FIGURES.items()
            if (value := report.get(key))
        ]
        parts += [_table("training data", [""], figures), *_left_out(report)]
    if rows := list(_ends(curve)):
        parts.append(_table("learning curve", ["first tenth", "last tenth"], rows))
    if swept:
        values = [(str(one.value), f"{one.figure:.4g}", _behind(one)) for one in swept]
        parts.append(_table("sweep", [swept[0].criterion, "the best leads by"], values))
    return parts


def _behind(one: "Swept") -> str:
    if one.behind_ci95 is None:
        return f"{one.behind:.4g}" if one.behind else ""
    low, high = one.behind_ci95
    return f"{one.behind:.4g} [{low:.4g}, {high:.4g}]"


def _table(first: str, columns: Sequence[str], rows: Sequence[tuple[str, ...]]) -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(first, header_style="bold", box=SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(*row)
    return table


def _left_out(report: Mapping[str, Any]) -> "list[Text]":
    from mipo_eval.cli.render import inert

    trained: Mapping[str, Any] = report.get("trained") or {}
    left_out = {
        "items left out": report.get("dropped"),
        "negatives left out": report.get("dropped_negatives"),
        "left out of the training": trained.get("dropped"),
    }
    lines = []
    for what, counts in left_out.items():
        if counts:
            reasons = ", ".join(f"{n} x {why}" for why, n in counts.items())
            lines.append(inert(f"{what}: {reasons}"))
            lines[-1].stylize("yellow")
    return [*lines, *(inert(note) for note in trained.get("notes", ()))]


def _ends(curve: "Sequence[CurvePoint]") -> Iterator[tuple[str, str, str]]:
    """Yield each shown metric with its means over the first and the last tenth of its points."""
    for metric in _CURVE:
        points = sorted((p.step, p.value) for p in curve if p.metric == metric)
        if points:
            tenth = -(-len(points) // 10)
            values = [value for _, value in points]
            first, last = sum(values[:tenth]) / tenth, sum(values[-tenth:]) / tenth
            yield metric.replace("_", " "), f"{first:.4g}", f"{last:.4g}"


def _export(
    output: "Output", store: "Store", request: "TrainingRequest", path: Path
) -> dict[str, object]:
    """Make the pairs and write them to a file."""
    from mipo_eval.training.data import check_export, export_pairs
    from mipo_eval.training.run import make_examples

    check_export(path)
    if request.before:
        raise ConfigError(
            "--suite with --pairs only makes pairs, and --rounds is about training: leave "
            "--rounds out"
        )
    if request.recipe.learns_from != "pairs":
        raise ConfigError(f"{request.recipe.name} makes no pairs: use --pairs with a mipo method")
    made, _ = make_examples(store, request, output)
    count = export_pairs(path, made.examples)
    output.note(f"Written: {count} pairs from {made.items} items in {path}")
    counts = {name: getattr(made, name) for name in ("items", "dropped", "dropped_negatives")}
    return {"file": str(path), "pairs": count, **counts}
