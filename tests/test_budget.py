"""Files, functions and argument lists stay small enough to be read in one go."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from mipo_eval.cli import app

ROOT = Path(__file__).parents[1]
FOLDERS = ("mipo_eval", "tasks", "judges", "training", "dashboards")
FILE_LINES, FUNCTION_LINES, ARGUMENTS = 500, 60, 6
COMMAND_FLAGS = 12
ON_EVERY_COMMAND = {
    *("version", "store", "as_json", "plugin"),
    *("config", "print_config", "env_file", "verbosity", "log_file"),
}
MORE = {"mipo-eval": 2, "mipo-eval judge": 4, "mipo-eval plan": 4}
"""A system prompt and a wording are of those that say what is evaluated. Judging needs a margin
beside them, when to stop, and how entrants are run; planning needs what is assumed of seeds."""
Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources() -> list[str]:
    """Every Python file of the five folders, once: links are not followed."""
    files = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
    return sorted(path.relative_to(ROOT).as_posix() for path in files)


def functions(tree: ast.Module) -> Iterator[tuple[Function, bool]]:
    """Each function with whether it is a method, whose first argument nobody passes."""
    for parent in ast.walk(tree):
        for node in ast.iter_child_nodes(parent):
            if isinstance(node, Function):
                static = any(ast.unparse(mark) == "staticmethod" for mark in node.decorator_list)
                yield node, isinstance(parent, ast.ClassDef) and not static


def argument_count(node: Function, *, method: bool) -> int:
    arguments = node.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return len(named) + bool(arguments.vararg) + bool(arguments.kwarg) - method


def is_command(node: Function) -> bool:
    """Whether click calls it, with one argument per flag; flags have a limit of their own."""
    marks = (ast.unparse(mark) for mark in node.decorator_list)
    return any(re.match(r"[\w.]+\.(command|group)\b", mark) for mark in marks)


def test_the_five_folders_are_found() -> None:
    assert {path.split("/")[0] for path in sources()} == set(FOLDERS)


@pytest.mark.parametrize("path", sources())
def test_file_is_within_the_budget(path: str) -> None:
    text = (ROOT / path).read_text()
    assert len(text.splitlines()) <= FILE_LINES
    for node, method in functions(ast.parse(text)):
        assert node.end_lineno is not None
        # The docstring counts, decorators (a command's flags) do not.
        lines = node.end_lineno - node.lineno + 1
        assert lines <= FUNCTION_LINES, f"{node.name} has {lines} lines"
        count = argument_count(node, method=method)
        assert count <= ARGUMENTS or is_command(node), f"{node.name} has {count} arguments"


def commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    """The command and, below a group, each of its commands, with the words that call it."""
    yield name, command
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=name, **command.context_settings)
        for word in command.list_commands(context):
            below = command.get_command(context, word)
            assert below is not None
            yield from commands(below, f"{name} {word}")


def test_no_command_has_more_flags_than_one_can_remember() -> None:
    flags = {
        name: sum(
            isinstance(parameter, click.Option) and parameter.name not in ON_EVERY_COMMAND
            for parameter in command.params
        )
        for name, command in commands(app, "mipo-eval")
    }
    most = {name: COMMAND_FLAGS + MORE.get(name, 0) for name in flags}
    assert {name: count for name, count in flags.items() if count > most[name]} == {}
