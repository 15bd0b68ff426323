"""README says what is true: its help text is the real one, its folders exist, its item is one."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from mipo_eval.cli import app
from mipo_eval.records import Item
from mipo_eval.tasks.suites import SUITES

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def _block(marker: str) -> str:
    match = re.search(re.escape(marker) + r"\n```\w*\n(.*?)```", README, re.DOTALL)
    assert match is not None, f"README has no block after {marker}"
    return match[1]


def test_help_is_the_real_help() -> None:
    shown = CliRunner().invoke(app, ["--help"], prog_name="mipo-eval", terminal_width=100)
    assert _block("<!-- mipo-eval --help -->") == shown.output


def test_every_folder_named_is_there() -> None:
    tree = _block("## Where things are\n")
    for line in tree.splitlines():
        for name in re.findall(r"(?:^|\s)([\w./]+(?:/|\.py))", line[:22]):
            inside = REPOSITORY / "mipo_eval" / name if line.startswith(" ") else REPOSITORY / name
            assert inside.exists(), name


def test_the_item_shown_is_an_item() -> None:
    (text,) = re.findall(r"```json\n(.*?)```", README, re.DOTALL)
    Item.model_validate_json(text)


@pytest.mark.parametrize("name", [n for n in SUITES if SUITES[n].form == "query"])
def test_every_personalization_suite_is_named(name: str) -> None:
    assert f"`{name}`" in README
