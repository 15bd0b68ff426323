"""The command line: `mipo-eval --model CKPT --suite SUITE`, and one thin module per command.

The root command is the main job when no subcommand is named. Modules here import what they need
inside their functions, so that `--help` is instant.
"""

import io
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import click

from mipo_eval import __version__
from mipo_eval.cli import again, options, runfile, train
from mipo_eval.cli.board import board
from mipo_eval.cli.compare import compare
from mipo_eval.cli.data import data
from mipo_eval.cli.demo import demo
from mipo_eval.cli.exchange import export_runs, import_results
from mipo_eval.cli.grid import grid
from mipo_eval.cli.judge import judge
from mipo_eval.cli.judges import judges as judge_commands
from mipo_eval.cli.leaderboard import leaderboard
from mipo_eval.cli.plan import plan
from mipo_eval.cli.plugins import plugins
from mipo_eval.cli.push import push
from mipo_eval.cli.runs import list_runs, reproduce, show
from mipo_eval.cli.store import store as store_commands
from mipo_eval.cli.validate import validate
from mipo_eval.errors import MipoEvalError
from mipo_eval.evaluation.asked import EvaluationOptions
from mipo_eval.keys import masked
from mipo_eval.settings import silence_libraries

__all__ = ["app", "main"]

INTERRUPTED = 130
_LONGEST = 2_000
"""Characters of a message: a name in it may be as long as somebody likes."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        0 on success, 2 when the user has to change something, 130 when interrupted. Anything
        else is a bug and leaves with its traceback (the interpreter's exit code 1).
    """
    silence_libraries()
    try:
        with _stoppable():
            result = app.main(list(argv) if argv is not None else None, standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(shown)
        with suppress(OSError):
            print(masked(shown.getvalue())[:_LONGEST].rstrip(), file=sys.stderr)  # noqa: T201
        return error.exit_code
    except MipoEvalError as error:
        _say(str(error))
        return 2
    except OSError as error:  # a name that no file can have, a full disk, a closed output
        if error.errno is None:
            raise
        if not isinstance(error, BrokenPipeError):  # who reads no further wants to hear nothing
            _say(f"{f'{error.filename}: ' if error.filename else ''}{error.strerror}")
        with suppress(OSError, ValueError):  # what cannot be written is not tried again at the end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 2
    except (KeyboardInterrupt, click.Abort):
        _say("stopped. What was finished is stored; repeat the command to continue.")
        return INTERRUPTED


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let SIGTERM, which schedulers send, stop a command as Ctrl-C does."""

    def interrupt(_number: int, _frame: object) -> None:
        # Once: a second one must not break off the noting of where the command stopped.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background
            raise KeyboardInterrupt
        signal.raise_signal(signal.SIGINT)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _say(message: str) -> None:
    """Print one line for the user, if there is anybody left to read it."""
    with suppress(OSError):
        print(f"mipo-eval: {' '.join(masked(message).split())[:_LONGEST]}", file=sys.stderr)  # noqa: T201


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=options.examples(
        "--model demo --suite demo", "--model path/or/hub-id --suite items.jsonl --judge gpt-4.1"
    )
    + "\n\nEnvironment variables: MIPO_EVAL_STORE, MIPO_EVAL_DATA, MIPO_EVAL_CACHE and "
    "MIPO_EVAL_PRICES name files and folders. API keys are only read from the environment: "
    "OPENAI_API_KEY and its like for each provider, MIPO_EVAL_KEY_<HOST> for any other server.",
)
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="CKPT",
    help="Model to evaluate: a checkpoint (folder or hub id, also NAME@REVISION), a LoRA adapter "
    "(ADAPTER or ADAPTER,base=NAME), vllm:PATH, a model on a server (openai:NAME@URL), "
    "lm-eval:TYPE:ARGS, or demo. Repeat the option for several models.",
)
@options.suite_option()
@options.judges_option
@options.prompting_option
@options.system_option
@options.query_option
@options.decoding_option
@options.seed_option
@options.limit_option
@options.data_option
@options.engine_option
@options.controls_option
@options.max_cost_option
@options.batch_option
@options.plugin_option
@options.store_option
@options.json_option
@click.version_option(__version__, prog_name="mipo-eval")
@click.pass_context
def app(
    context: click.Context, /, store: str, *, models: tuple[str, ...], as_json: bool, **given: Any
) -> None:
    """Evaluate how well a language model follows the user in front of it.

    Without a command, mipo-eval evaluates --model on --suite and prints the scores with their
    intervals. No work is done twice: a stopped run continues, and a finished run is only shown.
    """
    asked = EvaluationOptions(**given)
    if context.invoked_subcommand is not None:
        if models or asked.suite:
            raise click.UsageError(
                f"put options after the command's name: mipo-eval {context.invoked_subcommand} "
                "OPTIONS"
            )
        return
    if not models and not asked.suite:
        click.echo(context.get_help())
        return
    if not models or not asked.suite:
        missing = "--model" if asked.suite else "--suite"
        raise click.UsageError(f"{missing} is missing: mipo-eval --model CKPT --suite SUITE")
    from mipo_eval.cli.evaluate import run_evaluation

    run_evaluation(asked, models, store, as_json=as_json)


for command in (
    board,
    compare,
    data,
    demo,
    grid,
    judge,
    leaderboard,
    list_runs,
    plan,
    plugins,
    push,
    reproduce,
    show,
    store_commands,
    train.train,
    export_runs,
    import_results,
    validate,
    judge_commands,
):
    app.add_command(command)
for command in (again.noise, again.drift):
    judge_commands.add_command(command)
runfile.equip(app)
