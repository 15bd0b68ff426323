"""What `--help` shows can be typed."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from mipo_eval.cli import app


def _commands(group: click.Group, name: str = "") -> Iterator[tuple[str, click.Command]]:
    for own, command in group.commands.items():
        full = f"{name} {own}".strip()
        if isinstance(command, click.Group):
            yield from _commands(command, full)
        else:
            yield full, command


COMMANDS = dict(_commands(app))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_shows_two_examples_that_it_understands(name: str) -> None:
    for file in ("mine.py", "items.jsonl", "labels.csv", "train.jsonl", "test.jsonl"):
        Path(file).write_text("PLUGINS = {'negatives': {'mine': print}}")
    command = COMMANDS[name]
    about: dict[str, Any] = {**app.context_settings, "info_name": f"mipo-eval {name}"}
    shown = command.get_help(click.Context(command, **about))
    told = shown.partition("Examples:")[2].splitlines()
    found = [line.strip() for line in told if line.strip()]
    assert len(found) == 2
    for example in found:
        assert len(example) <= 78, "it fits a narrow terminal"
        words = shlex.split(example)
        start = ["mipo-eval", *name.split()]
        assert words[: len(start)] == start
        command.make_context(name, words[len(start) :])  # fails at what it does not know


def _groups(group: click.Group, name: str) -> Iterator[tuple[str, click.Group]]:
    yield name, group
    for own, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _groups(command, f"{name} {own}")


@pytest.mark.parametrize("name", dict(_groups(app, "mipo-eval")))
def test_a_list_of_commands_says_each_in_one_whole_line(name: str) -> None:
    """A terminal of 80 columns cuts nothing of it."""
    group = dict(_groups(app, "mipo-eval"))[name]
    about: dict[str, Any] = {**group.context_settings, "info_name": name, "terminal_width": 80}
    shown = group.get_help(click.Context(group, **about))
    for own, command in group.commands.items():
        (line,) = [line for line in shown.splitlines() if line.startswith(f"  {own} ")]
        said = (command.help or "").partition("\n")[0]
        assert line.split(maxsplit=1)[1] == said
