"""Every command that the docs and the README show can be typed; every page has its place."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

import mipo_eval
from mipo_eval.cli import app
from mipo_eval.dashboards.tables.label import Pair, put_label
from mipo_eval.errors import StoreError
from mipo_eval.models.callable import CallableBackend
from mipo_eval.store import Store
from mipo_eval.store.runs import list_runs
from mipo_eval.training.recipes import SHORT_NAMES
from tests.postgres import Server
from tests.test_budget import commands

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NOT_SHOWN = {"log.md"}
MADE = {"cli.md"}
"""By docs/hooks.py, when the site is built."""
COMMANDS = dict(commands(app, "mipo-eval"))
ROLES = ("mipo_writer", "mipo_reader")
END = {"|", "&&", "||", ";", ">", ">>", "2>&1", "&"}


def shown(text: str) -> Iterator[str]:
    """Yield each command of a page: in blocks of code, and within sentences."""
    for block in re.findall(r"^ *```\w*\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            if found := re.match(r"\s*(?:\$ )?(?:\w+=\S+ )*(mipo-eval( .*|$))", line):
                yield found[1]
    for found in re.finditer(r"(?<!`)`(mipo-eval\s[^`]*)`", text):
        yield " ".join(found[1].split())


def words(command: str) -> list[str]:
    """Return what the shell would pass, without the marks of what may be left out."""
    plain = re.sub(r"[\[\]]", " ", command).replace("...", "ANY")
    found = shlex.split(plain, comments=True)[1:]
    ends = [at for at, word in enumerate(found) if word in END]
    return [word.rstrip(",;") for word in found[: ends[0] if ends else None]]


def check(given: list[str]) -> None:
    """Parse a command line as click would, but do nothing of it."""
    name = "mipo-eval"
    while given and f"{name} {given[0]}" in COMMANDS:
        name, given = f"{name} {given[0]}", given[1:]
    if given == ["ANY"]:
        return
    if name == "mipo-eval train":  # keys of recipes are flags, too
        given = ["--set" if word.removeprefix("--") in SHORT_NAMES else word for word in given]
    command = COMMANDS[name]
    # With the names of help: click keeps the option that a command makes first.
    context = click.Context(command, info_name=name, **app.context_settings)
    # Not the command's own method, which would read run files.
    found, rest, _ = type(command).make_parser(command, context).parse_args(given)
    assert not rest, f"unexpected: {rest}"
    for parameter in command.params:
        value: Any = found.get(parameter.name or "")
        if isinstance(parameter.type, click.Choice) and isinstance(value, str):
            several = value.split("|")
            assert {one for one in several if not one.isupper()} <= set(parameter.type.choices)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_page_can_be_typed(page: Path) -> None:
    wrong = []
    for command in shown(page.read_text(encoding="utf-8")):
        try:
            check(words(command))
        except (click.ClickException, AssertionError, ValueError) as error:
            wrong.append(f"{command}: {getattr(error, 'message', error)}")
    assert wrong == []


def test_an_unknown_option_or_command_is_noticed() -> None:
    for command in ("mipo-eval compare A B --marign 5", "mipo-eval comapre A B"):
        with pytest.raises((click.ClickException, AssertionError)):
            check(words(command))
    assert list(shown("```\n$ A=1 mipo-eval runs  # all\n```\n`mipo-eval\nboard`")) == [
        "mipo-eval runs  # all",
        "mipo-eval board",
    ]


def test_every_page_stands_in_the_navigation_once() -> None:
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    named = re.findall(r"\w+\.md", str(nav))
    assert sorted(named) == sorted({page.name for page in PAGES[1:]} - NOT_SHOWN | MADE)


def test_the_roles_of_a_team_may_do_what_is_said(
    postgres_server: Server, postgres_url: str
) -> None:
    import psycopg

    page = (ROOT / "docs" / "team.md").read_text(encoding="utf-8")
    roles, labels = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    roles = "\n".join(line for line in roles.splitlines() if "DATABASE" not in line)
    roles = roles.replace("\\connect evals", "")
    writer, reader = (postgres_url.replace("postgres@", f"{one}@") for one in ROLES)
    database = postgres_url.replace("+psycopg", "")
    pair = Pair("a" * 32, "b" * 32, "c" * 32)
    try:
        with psycopg.connect(database, autocommit=True) as administrator:
            administrator.execute(roles.encode())
            model = CallableBackend(lambda chats: ["Pour."] * len(chats), "pouring")
            mipo_eval.evaluate(model, [{"item_id": "1", "prompt": "Tea?"}], store=writer)
            with Store.open(reader, mode="read") as store:
                assert len(list_runs(store)) == 1
            with Store.open(reader) as store, pytest.raises(StoreError, match="permission denied"):
                put_label(store, "ann", pair, "first")
            administrator.execute(labels.encode())
            with Store.open(reader) as store:
                put_label(store, "ann", pair, "first")
    finally:
        with psycopg.connect(database, autocommit=True) as administrator:
            for role in ROLES:
                administrator.execute(f"DROP OWNED BY {role}; DROP ROLE {role}".encode())
