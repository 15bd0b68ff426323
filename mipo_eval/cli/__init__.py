"""The command line: `mipo-eval --model CKPT --suite SUITE`, and one thin module per command.

Modules here import what they need inside their functions, so that `--help` is instant.
"""

import sys
from collections.abc import Sequence

import click

from mipo_eval.cli.app import app
from mipo_eval.errors import MipoEvalError
from mipo_eval.settings import silence_libraries

__all__ = ["main"]

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        0 on success, 2 when the user has to change something, 130 when interrupted. Anything
        else is a bug and leaves with its traceback (the interpreter's exit code 1).
    """
    silence_libraries()
    try:
        result = app.main(list(argv) if argv is not None else None, standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except MipoEvalError as error:
        print(f"mipo-eval: {_one_line(str(error))}", file=sys.stderr)  # noqa: T201
        return 2
    except (KeyboardInterrupt, click.Abort):
        stopped = "mipo-eval: stopped; what was finished is stored, the same command continues"
        print(stopped, file=sys.stderr)  # noqa: T201
        return INTERRUPTED


def _one_line(message: str) -> str:
    return " ".join(message.split())
