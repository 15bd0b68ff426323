"""The root command: the main job when no subcommand is named."""

from pathlib import Path

import click

from mipo_eval import __version__
from mipo_eval.cli.board import board
from mipo_eval.cli.compare import compare
from mipo_eval.cli.data import data
from mipo_eval.cli.demo import demo
from mipo_eval.cli.exchange import export_runs, import_results
from mipo_eval.cli.judge import judge
from mipo_eval.cli.judges import judges as judge_commands
from mipo_eval.cli.leaderboard import leaderboard
from mipo_eval.cli.options import (
    batch_option,
    data_option,
    json_option,
    limit_option,
    max_cost_option,
    store_option,
)
from mipo_eval.cli.plan import plan
from mipo_eval.cli.reproduce import reproduce
from mipo_eval.cli.runs import list_runs, show
from mipo_eval.cli.store import store as store_commands
from mipo_eval.cli.train import train
from mipo_eval.cli.validate import validate


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Files and defaults: MIPO_EVAL_STORE, MIPO_EVAL_DATA, MIPO_EVAL_CACHE, "
    "MIPO_EVAL_PRICES. Keys come from the environment only (OPENAI_API_KEY, GEMINI_API_KEY).",
)
@click.option(
    "--model",
    metavar="CKPT",
    help="Checkpoint folder or hub id, vllm:PATH, openai:NAME@URL, lm-eval:TYPE:ARGS, or demo.",
)
@click.option("--suite", metavar="SUITE", help="Name of a suite, or an item file (FILE.jsonl).")
@click.option(
    "--judge",
    "judges",
    multiple=True,
    metavar="JUDGE",
    help="Preset (gpt-4.1, qwen2.5-14b@URL, family, ...), your own FILE.yaml, openai:MODEL@URL, "
    "gemini:MODEL, hf:PATH, vllm:PATH or checker; repeat for several. Default: the suite's own.",
)
@click.option(
    "--prompting",
    type=click.Choice(["personalized", "default"]),
    default="personalized",
    show_default=True,
    help="With or without the user's context in the query.",
)
@click.option(
    "--decoding",
    metavar="KEY=VALUE,...",
    default="",
    help="max_tokens, temperature, top_p. Default: greedy, at most 256 tokens.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of sampling and intervals.")
@limit_option
@data_option
@click.option(
    "--engine",
    metavar="KEY=VALUE,...",
    default="",
    help="batch_size, device, dtype; chat_template=FILE (Jinja), for want or in place of the "
    "checkpoint's own; for vllm also tensor_parallel_size, max_model_len and others. "
    "scoring_model=CKPT also measures how much likelier the context makes each response.",
)
@click.option(
    "--controls", is_flag=True, help="Also judge entrants that must not win: echo, generic, ..."
)
@max_cost_option
@batch_option
@store_option
@json_option
@click.version_option(__version__, prog_name="mipo-eval")
@click.pass_context
def app(  # noqa: PLR0913, PLR0917 - one parameter per flag; their number is limited by a test
    context: click.Context,
    model: str | None,
    suite: str | None,
    judges: tuple[str, ...],
    prompting: str,
    decoding: str,
    seed: int,
    limit: int | None,
    data_dir: Path | None,
    engine: str,
    controls: bool,
    max_cost: float | None,
    batch: bool,
    store: str,
    as_json: bool,
) -> None:
    """Evaluate how well a language model follows the user in front of it.

    Without a command, evaluates --model on --suite: responses, ratings, scores with intervals.
    What the store has is not made again: an interrupted run continues, a finished one is shown.
    """
    if context.invoked_subcommand is not None:
        if model or suite:
            raise click.UsageError(
                f"options before {context.invoked_subcommand!r} belong to the main job: "
                "put them after the command's name"
            )
        return
    if not model and not suite:
        click.echo(context.get_help())
        return
    if not model or not suite:
        missing = "--model" if suite else "--suite"
        raise click.UsageError(f"{missing} is needed too: mipo-eval --model CKPT --suite SUITE")
    from mipo_eval.cli.evaluate import Asked, run_evaluation

    run_evaluation(
        Asked(
            model=model,
            suite=suite,
            judges=judges,
            prompting="default" if prompting == "default" else "personalized",
            decoding=decoding,
            seed=seed,
            limit=limit,
            data_dir=data_dir,
            engine=engine,
            controls=controls,
            max_cost=max_cost,
            batch=batch,
        ),
        store,
        as_json=as_json,
    )


app.add_command(board)
app.add_command(data)
app.add_command(compare)
app.add_command(demo)
app.add_command(judge)
app.add_command(leaderboard)
app.add_command(list_runs)
app.add_command(plan)
app.add_command(reproduce)
app.add_command(show)
app.add_command(store_commands)
app.add_command(train)
app.add_command(export_runs)
app.add_command(import_results)
app.add_command(validate)
app.add_command(judge_commands)
