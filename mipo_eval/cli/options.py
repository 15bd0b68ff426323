"""The options that several commands have, each declared once."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from mipo_eval import settings

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
PUBLISHED = "\u2020"
"""Marks a number that the paper gives."""


def _storable(_: click.Context, __: click.Parameter, value: Any) -> Any:
    """Return a number that both databases hold; "nan" passes click's own ranges."""
    if value is not None and not abs(value) < 2**31:
        raise click.BadParameter(f"write a number below {2**31:,}")
    return value


def examples(*commands: str) -> str:
    """Return the end of a command's help: what one types."""
    return "\n".join(["\b", "Examples:", *(f"  mipo-eval {command}" for command in commands)])


def as_typed(context: click.Context) -> list[str]:
    """Return the options of this command that were given and that an evaluation has, too."""
    default = click.core.ParameterSource.DEFAULT
    known = {flag for one in context.find_root().command.params for flag in one.opts}
    words: list[str] = []
    for one in context.command.params:
        value = context.params.get(one.name or "")
        if (
            known & {*one.opts}
            and value
            and context.get_parameter_source(one.name or "") != default
        ):
            words += [max(one.opts, key=len), *([] if value is True else [str(value)])]
    return words


def suite_option(*, required: bool = False) -> Decorator:
    """Return `--suite`, which some commands cannot do without."""
    return click.option(
        "--suite",
        required=required,
        default=None if required else "",
        metavar="SUITE",
        help="Name of a suite, a file of items (.jsonl, .json or .parquet, also as .gz), or a "
        "data set on the hub: hf://OWNER/NAME:SPLIT.",
    )


judges_option: Decorator = click.option(
    "--judge",
    "judges",
    multiple=True,
    metavar="JUDGE",
    help="Who judges the responses: a preset (gpt-4.1, family, ...), a preset on your own server "
    "(qwen2.5-14b@URL), your own preset file (FILE.yaml), a model (openai:MODEL@URL, "
    "azure:DEPLOYMENT@URL, anthropic:MODEL, gemini:MODEL, any-llm:PROVIDER:MODEL, hf:PATH, "
    "vllm:PATH), or checker, which rates by exact rules. Repeat the option for several judges. "
    "Default: the suite's own judge.",
)

prompting_option: Decorator = click.option(
    "--prompting",
    type=click.Choice(["personalized", "default"]),
    default="personalized",
    show_default=True,
    help="personalized: the query contains the user's context; default: it does not.",
)

system_option: Decorator = click.option(
    "--system",
    metavar="FILE|TEXT",
    default="",
    help="System prompt, as a file or as text. It comes before every conversation, also before an "
    "item's own system prompt.",
)

query_option: Decorator = click.option(
    "--query",
    metavar="NAME|FILE",
    default="",
    help="Use another wording of the query than the suite's own: short, context-first or "
    "notes; for multiple choice: reasoned or letter; for word problems: turns or message; or a "
    "file of yours that contains {prompt} and {context}.",
)

decoding_option: Decorator = click.option(
    "--decoding",
    metavar="KEY=VALUE,...",
    default="",
    help="How responses are drawn. Keys: max_tokens, temperature, top_p, top_k, min_p and "
    "repetition_penalty. generation_config=checkpoint takes the settings that the checkpoint comes "
    "with; they are not used otherwise. Default: greedy, at most 256 tokens, no penalties.",
)

engine_option: Decorator = click.option(
    "--engine",
    metavar="KEY=VALUE,...",
    default="",
    help="How the model is run. Keys: batch_size, device, dtype, max_length, parallelize and other "
    "arguments of lm-eval's hf and vllm models; chat_template=FILE (Jinja) replaces the chat "
    "template; for a model on a server: num_concurrent, timeout, requests_per_minute, "
    "extra_body.NAME=VALUE; for a model that thinks: enable_thinking=false, "
    "reasoning_effort=low, thinking_budget=TOKENS, chat_template_kwargs.NAME=VALUE. "
    "scoring_model=CKPT also measures how much more probable the context makes each response.",
)

controls_option: Decorator = click.option(
    "--controls",
    is_flag=True,
    help="Test the judge as well: it also judges texts that must not win, such as an echo of the "
    "prompt.",
)

seed_option: Decorator = click.option(
    "--seed",
    type=int,
    callback=_storable,
    default=0,
    show_default=True,
    help="Random seed for sampling and for intervals.",
)

limit_option: Decorator = click.option(
    "--limit",
    type=click.IntRange(min=1),
    callback=_storable,
    metavar="N",
    help="Use only the first N items of each task.",
)

data_option: Decorator = click.option(
    "--data",
    "data_dir",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Folder with the item files. [default: MIPO_EVAL_DATA or ./data]",
)

max_cost_option: Decorator = click.option(
    "--max-cost",
    type=click.FloatRange(min=0, min_open=True),
    callback=_storable,
    metavar="USD",
    help="Stop before a call that could bring the total cost of models and judges above this. What "
    "was answered is kept.",
)

batch_option: Decorator = click.option(
    "--batch",
    is_flag=True,
    help="Use the provider's batch service (OpenAI, Anthropic, Gemini): half the price, but "
    "slower.",
)


def stored_judge_option(*, required: bool = False) -> Decorator:
    """Return `--judge` of commands that ask nobody, which some cannot do without."""
    about = "A judge in the store, by its name or key."
    return click.option("--judge", required=required, metavar="NAME", help=about)


stored_judges_option: Decorator = click.option(
    "--judge",
    "names",
    multiple=True,
    metavar="NAME",
    help="A judge in the store, by its name or key; repeat the option for several. Default: all.",
)

ties_option: Decorator = click.option(
    "--ties",
    type=click.Choice(["win", "half", "loss"]),
    default="win",
    show_default=True,
    help="What a tie with the reference counts as.",
)

margin_option: Decorator = click.option(
    "--margin",
    type=click.FloatRange(min=0, min_open=True),
    metavar="M",
    help="Also test whether a difference is smaller than M points, so that two runs are "
    "equivalent, or at least not worse by M points.",
)

rows_option: Decorator = click.option(
    "--rows",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="YAML list that says what runs are called: {name or run, model, method, variant, seed}.",
)

store_option: Decorator = click.option(
    "--store",
    default=settings.store_url,
    metavar="URL",
    help="The database: a SQLite file or a PostgreSQL URL. [default: MIPO_EVAL_STORE or "
    "./mipo-eval.db]",
)

json_option: Decorator = click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print one JSON document on stdout; progress goes to stderr.",
)


def _load_plugins(context: click.Context, _: click.Parameter, files: tuple[Path, ...]) -> None:
    """Know the plug-ins of these files until the command ends."""
    if files:
        from mipo_eval.plugins import loaded

        context.with_resource(loaded(files))


plugin_option: Decorator = click.option(
    "--plugin",
    multiple=True,
    is_eager=True,
    expose_value=False,
    callback=_load_plugins,
    type=click.Path(path_type=Path),
    metavar="FILE.py",
    help="Also use the plug-ins in this file of yours (docs/plugins.md). Its code is run.",
)


def reading(command: Callable[..., Any], *, needless: str = "") -> Callable[..., Any]:
    """Give a command the store that it reads and what it prints with: `--store` and `--json`.

    With its option `needless` it has something to show where no store is there yet.
    """

    @wraps(command)
    def opened(*, store: str, as_json: bool, **options: Any) -> Any:
        from mipo_eval.cli.render import Output
        from mipo_eval.store.engine import Store

        output = Output(as_json=as_json)
        absent = "://" not in store and not Path(store).exists()
        if not (absent and options.get(needless)):
            with Store.open(store, mode="read") as read:
                return command(read, output, **options)
        output.warn(f"there is no store at {store}: nothing has been measured yet")
        with TemporaryDirectory() as folder, Store.open(f"{folder}/none.db") as empty:
            return command(empty, output, **options)

    return store_option(json_option(opened))
