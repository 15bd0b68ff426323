"""What the docs site makes by itself: the page of commands, and the examples beside the pages."""

from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

import click
from mkdocs.structure.files import File, Files

from mipo_eval.cli import app

_EXAMPLES = Path(__file__).parents[1] / "examples"
_SHOWN = {".py", ".ipynb", ".yaml", ".sbatch"}


def on_files(files: Files, *, config: Any) -> Files:
    """Add the page of commands, and the examples, which pages link to where they are in git."""
    files.append(File.generated(config, "cli.md", content=commands_page()))
    for path in sorted(_EXAMPLES.rglob("*")):
        if path.suffix in _SHOWN and ".ipynb_checkpoints" not in path.parts:
            name = path.relative_to(_EXAMPLES.parent).as_posix()
            files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Let links to examples lead to their copies in the site."""
    return markdown.replace("](../examples/", "](examples/")


def commands_page() -> str:
    """Return what `--help` says of every command, as a page."""
    told = ["# Command line", "`mipo-eval COMMAND --help` says the same in the terminal."]
    for name, command in _commands(app, "mipo-eval"):
        context = click.Context(command, info_name=name, **app.context_settings)
        usage = " ".join(command.collect_usage_pieces(context))
        told += [f"## {name}", f"```text\n{name} {usage}\n```", *_text(command.help or "")]
        records = [one.get_help_record(context) for one in command.get_params(context)]
        if options := [record for record in records if record is not None]:
            rows = [f"| `{left}` | {_cell(right)} |" for left, right in options]
            told.append("\n".join(["| option | what it does |", "|---|---|", *rows]))
        told += _text(command.epilog or "")
    return "\n\n".join(told)


def _commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    yield name, command
    if isinstance(command, click.Group):
        for word, below in sorted(command.commands.items()):
            yield from _commands(below, f"{name} {word}")


def _text(text: str) -> Iterator[str]:
    """Yield paragraphs; what click leaves as it stands is shown so."""
    for paragraph in text.replace("\r", "").split("\n\n"):
        if paragraph.startswith("\b"):
            lines = paragraph.splitlines()[1:]
            yield "```text\n" + "\n".join(lines) + "\n```"
        elif paragraph.strip():
            yield escape(" ".join(paragraph.split()), quote=False)


def _cell(text: str) -> str:
    return escape(text, quote=False).replace("|", "&#124;")
