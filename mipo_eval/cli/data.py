"""`mipo-eval data prepare|check|show`: from published data sets to item files."""

import shlex
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from mipo_eval.cli.options import data_option, examples, json_option, max_cost_option, store_option

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mipo_eval.models.base import Backend, Purse, Sampling
    from mipo_eval.records import Item


@click.group()
def data() -> None:
    """Prepare, check and show the items of data sets."""


@data.command(
    epilog=examples(
        "data prepare prism --extractor openai:gpt-4o --max-cost 20",
        "data prepare ca --extractor qwen2.5-14b@http://localhost:8000",
    )
)
@click.argument("name", metavar="ca|prism|mb")
@click.option(
    "--source",
    default="hub",
    show_default=True,
    help="Where the published rows are: hub, hub@COMMIT, or a file or folder.",
)
@click.option(
    "--extractor",
    required=True,
    metavar="JUDGE",
    help="Model that writes down each user's preferences: openai:gpt-4o, openai:MODEL@URL, or a "
    "judge's preset.",
)
@click.option(
    "--reference-model",
    metavar="JUDGE",
    help="Only for mb: model that writes the reference responses. Default: the published ones.",
)
@click.option(
    "--train",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of training items. [default: the paper's]",
)
@click.option(
    "--test",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of test items. [default: the paper's]",
)
@click.option(
    "--turns",
    type=click.Choice(["first", "all"]),
    default="first",
    show_default=True,
    help="Only for ca and prism. first: items from the first turn of each conversation, as in the "
    "paper; all: items from every turn at which the user chose a response, each with the turns "
    "before it.",
)
@click.option(
    "--language",
    "languages",
    multiple=True,
    metavar="CODE",
    default=("en",),
    show_default=True,
    help="Only for ca: a language as the data set names it (en, fr, hi, it, pt, ...), or all. "
    "Repeat the option for several languages.",
)
@click.option(
    "--split-seed",
    type=int,
    default=0,
    show_default=True,
    help="Random seed for the split of users into train and test.",
)
@max_cost_option
@data_option
@store_option
@json_option
def prepare(  # noqa: PLR0913, PLR0917 - one parameter per flag
    name: str,
    source: str,
    extractor: str,
    reference_model: str | None,
    train: int | None,
    test: int | None,
    turns: Literal["first", "all"],
    languages: tuple[str, ...],
    split_seed: int,
    max_cost: float | None,
    data_dir: Path | None,
    store: str,
    as_json: bool,
) -> None:
    """Make the train and test items of a published data set.

    A model writes down each user's preferences. Its replies are kept in the store: a stopped
    command continues where it was, and nothing is paid for twice. No user is in both parts.
    """
    from mipo_eval import settings
    from mipo_eval.cli.render import Output, inert
    from mipo_eval.errors import ConfigError
    from mipo_eval.models.base import Purse
    from mipo_eval.models.prices import spending
    from mipo_eval.progress import Stage, run_shown
    from mipo_eval.store.engine import Store
    from mipo_eval.tasks import prepare as preparing

    n_train, n_test = preparing.raw_set(name).paper_sizes
    if reference_model and name != "mb":
        raise ConfigError(
            f"--reference-model is only for mb: the references of {name} are responses that users "
            "chose"
        )
    folder = data_dir or settings.data_dir()
    output = Output(as_json=as_json)
    rows, origin = preparing.raw_rows(name, source)
    parts = {"n_train": train or n_train, "n_test": test or n_test}
    codes = tuple(map(str.lower, languages))
    plan = preparing.Preparation(
        name=name, source=origin, seed=split_seed, turns=turns, languages=codes, **parts
    )
    folder.mkdir(parents=True, exist_ok=True)
    with Store.open(store) as opened:
        purse = Purse(max_cost)  # both models are paid from one
        asked, how = _asked(extractor, purse, "--extractor")
        models = preparing.Models(store=opened, extractor=asked, extractor_sampling=how)
        if reference_model:
            asked, how = _asked(reference_model, purse, "--reference-model")
            models = replace(models, reference=asked, reference_sampling=how)
        status = partial(spending, models.extractor)
        stage = Stage(f"items of {name}", plan.n_train + plan.n_test, status)
        work = preparing.prepare(plan, rows, models, folder, output.advance)
        made = run_shown(work, output, stage)
    if as_json:
        output.document(made.to_json())
    output.show(*(inert(line) for line in preparing.report_lines(made.report)))
    output.show(inert(f"  written: {made.train}, {made.test}, {made.report_file}"))
    output.note(f"Read some items: mipo-eval data show {name} --data {shlex.quote(str(folder))}")


def _asked(spec: str, purse: "Purse", flag: str) -> "tuple[Backend, Sampling]":
    """Return who is asked, a backend or that of a judge's preset, and how."""
    from mipo_eval.judges.presets import load_judge, named_preset
    from mipo_eval.models.base import Limits
    from mipo_eval.models.spec import load_backend, read_name
    from mipo_eval.tasks.prepare import USUAL, with_room

    if named_preset(read_name(spec)) is None:
        backend = load_backend(spec, limits=Limits(purse=purse), flag=flag)
        return backend, USUAL
    judge = load_judge(spec, limits=purse)
    return judge.backend, with_room(judge.sampling)


@data.command(epilog=examples("data check items.jsonl", "data check train.jsonl test.jsonl --json"))
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@json_option
def check(files: tuple[str, ...], as_json: bool) -> None:
    """Check every row of one or more item files.

    The first wrong row is named, with its field. Several files are taken as parts of one data set,
    such as train and test: no user and no prompt may be in two of them.
    """
    from mipo_eval.cli.render import Output
    from mipo_eval.tasks.items import read_items
    from mipo_eval.tasks.split import refuse_overlap

    output = Output(as_json=as_json)
    counted = {file: _counts(read_items(file)) for file in dict.fromkeys(files)}
    refuse_overlap({file: read_items(file) for file in counted})
    if as_json:
        documents = [{"file": file, **counts} for file, counts in counted.items()]
        output.document(documents[0] if len(documents) == 1 else {"files": documents})
    for file, counts in counted.items():
        about = [f"{n} {what}" for what, n in counts.items() if n]
        output.note(f"{file} is in order: {', '.join(about)}")
    if len(counted) > 1:
        output.note("No user and no prompt is in two of them.")
    output.suggest("Evaluate a model on it", "--model", "CKPT", "--suite", [*counted][-1])


def _counts(items: Iterable["Item"]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    groups, users = set(), set()
    for item in items:
        counts["items"] += 1
        counts["without a context"] += not item.context.strip()
        counts["without preferences (cannot be judged)"] += not item.preferences
        counts["without a reference (no win rate)"] += not item.reference
        counts["with a rubric"] += item.rubric is not None
        counts["with earlier turns"] += bool(item.messages)
        groups.add(item.group)
        users.add(item.user_id)
    counts["prompt groups"] = len(groups)
    counts["users"] = len(users - {None})
    return dict(counts)


@data.command("show", epilog=examples("data show demo --samples 2", "data show items.jsonl"))
@click.argument("source")
@click.option(
    "--split",
    type=click.Choice(["train", "test"]),
    default="test",
    show_default=True,
    help="Show training items or test items.",
)
@click.option(
    "--samples",
    type=click.IntRange(min=1),
    metavar="N",
    default=3,
    show_default=True,
    help="Number of items to show.",
)
@click.option("--item", "item_id", metavar="ID", help="Show only the item with this id.")
@data_option
@json_option
def show_items(
    source: str, split: str, samples: int, item_id: str | None, data_dir: Path | None, as_json: bool
) -> None:
    """Show some items in a readable form.

    SOURCE is the name of a data set, or a file of items.
    """
    from mipo_eval.cli.render import Output
    from mipo_eval.errors import ConfigError
    from mipo_eval.tasks.sources import load_source

    output = Output(as_json=as_json)
    found = load_source(source, data_dir, "train" if split == "train" else "test")
    if item_id is not None:
        found = (item for item in found if item.item_id == item_id)
    chosen = list(islice(found, samples if item_id is None else 1))
    if not chosen:
        raise ConfigError(f"{source} has no item {item_id!r}" if item_id else f"{source} is empty")
    if as_json:
        output.document({"items": [item.model_dump(mode="json") for item in chosen]})
    output.show(*(_panel(item) for item in chosen))


def _panel(item: "Item") -> "RenderableType":
    from rich.panel import Panel
    from rich.text import Text

    from mipo_eval.cli.render import inert

    body = Text()
    asked = "conversation" if item.messages else "prompt"
    parts = [
        (asked, item.transcript),
        ("beginning of the response", item.prefill),
        ("context", item.context),
    ]
    parts += [("preference", preference) for preference in item.preferences]
    for name, content in [*parts, ("reference", item.reference)]:
        if content:
            body.append(f"{name}: ", style="bold")
            body.append_text(inert(content))
            body.append("\n")
    user = f"user {item.user_id}, " if item.user_id else ""
    body.append_text(inert(f"{user}group {item.group}"))
    return Panel(body, title=inert(item.item_id), title_align="left")
