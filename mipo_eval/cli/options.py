"""The options that several commands have, each declared once."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from mipo_eval import settings

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def _storable(_: click.Context, __: click.Parameter, value: Any) -> Any:
    """Return a number that both databases hold; "nan" passes click's own ranges."""
    if value is not None and not abs(value) < 2**31:
        raise click.BadParameter(f"write a number below {2**31:,}")
    return value


def examples(*commands: str) -> str:
    """Return the end of a command's help: what one types."""
    return "\n".join(["\b", "Examples:", *(f"  mipo-eval {command}" for command in commands)])


def suite_option(*, required: bool = False) -> Decorator:
    """Return `--suite`, which some commands cannot do without."""
    return click.option(
        "--suite",
        required=required,
        default=None if required else "",
        metavar="SUITE",
        help="Name of a suite, an item file (.jsonl, .json, .parquet; .gz too), or "
        "hf://OWNER/NAME:SPLIT.",
    )


judges_option: Decorator = click.option(
    "--judge",
    "judges",
    multiple=True,
    metavar="JUDGE",
    help="Preset (gpt-4.1, qwen2.5-14b@URL, family, ...), your own FILE.yaml, openai:MODEL@URL, "
    "azure:DEPLOYMENT@URL, anthropic:MODEL, gemini:MODEL, any-llm:PROVIDER:MODEL, hf:PATH, "
    "vllm:PATH or checker; repeat for several. Default: the suite's own.",
)

prompting_option: Decorator = click.option(
    "--prompting",
    type=click.Choice(["personalized", "default"]),
    default="personalized",
    show_default=True,
    help="With or without the user's context in the query.",
)

system_option: Decorator = click.option(
    "--system",
    metavar="FILE|TEXT",
    default="",
    help="System prompt, put before every conversation and before an item's own; the query stays.",
)

query_option: Decorator = click.option(
    "--query",
    metavar="NAME|FILE",
    default="",
    help="Wording of the queries instead of the suite's own: short or context-first, for multiple "
    "choice reasoned or letter, for word problems turns or message, or a file with {prompt} and "
    "{context}.",
)

decoding_option: Decorator = click.option(
    "--decoding",
    metavar="KEY=VALUE,...",
    default="",
    help="How to draw responses: max_tokens, temperature, top_p, top_k, min_p, repetition_penalty; "
    "generation_config=checkpoint draws as the checkpoint's own file says. Default: greedy, at "
    "most 256 tokens, no penalties whatever the checkpoint says.",
)

engine_option: Decorator = click.option(
    "--engine",
    metavar="KEY=VALUE,...",
    default="",
    help="How to run the model: batch_size, device, dtype, max_length, parallelize and other "
    "arguments of lm-eval's hf and vllm; chat_template=FILE (Jinja), where the checkpoint has none "
    "or in place of its own; num_concurrent, timeout, requests_per_minute for a served "
    "one. Of thinking: "
    "enable_thinking=false, reasoning_effort=low, thinking_budget=TOKENS, "
    "chat_template_kwargs.NAME=V, for servers extra_body.NAME=V. scoring_model=CKPT also measures "
    "how much likelier the context makes each response.",
)

controls_option: Decorator = click.option(
    "--controls",
    is_flag=True,
    help="Also judge texts that must not win, such as an echo of the prompt: a test of the judge.",
)

seed_option: Decorator = click.option(
    "--seed",
    type=int,
    callback=_storable,
    default=0,
    show_default=True,
    help="Random seed, of sampling and of intervals.",
)

limit_option: Decorator = click.option(
    "--limit",
    type=click.IntRange(min=1),
    callback=_storable,
    help="Only the first N items of each task.",
)

data_option: Decorator = click.option(
    "--data",
    "data_dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of item files. [default: MIPO_EVAL_DATA or ./data]",
)

max_cost_option: Decorator = click.option(
    "--max-cost",
    type=click.FloatRange(min=0, min_open=True),
    callback=_storable,
    metavar="USD",
    help="Stop before a call to a model or judge that could cost more than this in all; what was "
    "answered is kept.",
)

batch_option: Decorator = click.option(
    "--batch",
    is_flag=True,
    help="Ask through the provider's batch service (OpenAI, Anthropic, Gemini): half the price, "
    "slower.",
)


def stored_judge_option(*, required: bool = False) -> Decorator:
    """Return `--judge` of commands that ask nobody, which some cannot do without."""
    about = "Name or key of a judge in the store."
    return click.option("--judge", required=required, metavar="J", help=about)


stored_judges_option: Decorator = click.option(
    "--judge",
    "names",
    multiple=True,
    metavar="J",
    help="Name or key of a judge in the store; repeat for several. Default: all.",
)

ties_option: Decorator = click.option(
    "--ties",
    type=click.Choice(["win", "half", "loss"]),
    default="win",
    show_default=True,
    help="What a tie with the reference is worth.",
)

margin_option: Decorator = click.option(
    "--margin",
    type=click.FloatRange(min=0, min_open=True),
    metavar="M",
    help="Also test whether differences are within M points (equivalent), or not worse by M.",
)

rows_option: Decorator = click.option(
    "--rows",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="YAML list naming runs: {name or run, model, method, variant, seed}.",
)

store_option: Decorator = click.option(
    "--store",
    default=settings.store_url,
    metavar="URL",
    help="SQLite file or PostgreSQL URL. [default: MIPO_EVAL_STORE or ./mipo-eval.db]",
)

json_option: Decorator = click.option(
    "--json", "as_json", is_flag=True, help="One JSON document on stdout; progress on stderr."
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
    help="Also use what this file of yours registers (docs/plugins.md); its code is run.",
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
        output.warn(f"there is no store at {store}: nothing is measured yet")
        with TemporaryDirectory() as folder, Store.open(f"{folder}/none.db") as empty:
            return command(empty, output, **options)

    return store_option(json_option(opened))
