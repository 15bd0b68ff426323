"""The command behind a number, run again for real."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from mipo_eval.cli import main
from mipo_eval.reports.reproduction import parse_command
from mipo_eval.tasks.items import write_items
from tests.reports.stores import Served, items, judge, model
from tests.servers.http import Act, Call
from tests.servers.openai_server import OpenAIServer, Policy, ok


def _json(capsys: pytest.CaptureFixture[str], *argv: str) -> Any:
    capsys.readouterr()
    assert main([*argv, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("--model a --suite b.jsonl --limit 3", {"model": "a", "suite": "b.jsonl", "limit": "3"}),
        ("--model=a --suite my tea.jsonl --controls", {"suite": "my tea.jsonl", "controls": ""}),
        ("demo --methods all", {"methods": "all"}),
        ("", {}),
    ],
)
def test_recorded_commands_are_read(command: str, options: dict[str, str]) -> None:
    found = parse_command(command)
    assert {name: found[name] for name in options} == options


def test_the_printed_command_is_the_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_items(Path("my tea.jsonl"), items(8))
    served = OpenAIServer(model, policy=Policy(models=("mipo-seed0",)))
    with served as models, OpenAIServer(judge) as judges:
        argv = ["--model", f"openai:mipo-seed0@{models.url}", "--suite", "my tea.jsonl"]
        argv += ["--judge", f"openai:judge@{judges.url}", "--limit", "6", "--seed", "3"]
        monkeypatch.setattr("sys.argv", ["mipo-eval", *argv])
        made = _json(capsys, *argv)
        found = _json(capsys, "reproduce", made["run_id"][:12])
        words = shlex.split(found["command"])
        assert words[0] == "mipo-eval"
        again = _json(capsys, *words[1:], "--store", "again.db")
        assert again == made  # the same run id: model, items, prompting, decoding and seed
        asked, paid = models.chats, judges.chats
        done = _json(capsys, "reproduce", made["run_id"][:12], "--run")
        assert done["reproduced"] is True
        assert len(done["outcomes"]) == len(made["scores"])
        assert done["changed"] == []
        assert (models.chats - asked, judges.chats - paid) == (6, 24)  # nothing was reused
        (one,) = _json(capsys, "reproduce", f"{made['run_id']}:my tea:tie_rate", "--run")[
            "outcomes"
        ]
        assert (one["metric"], one["same"]) == ("tie_rate", True)


def test_a_number_that_does_not_come_out_again_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    moods = {"now": "4"}

    def moody(call: Call) -> Act:
        return ok("3" if "Reference" in call.body["messages"][-1]["content"] else moods["now"])

    write_items(Path("tea.jsonl"), items(6))
    served = OpenAIServer(model, policy=Policy(models=("mipo-seed0",)))
    with served as models, OpenAIServer(moody) as judges:
        argv = ["--model", f"openai:mipo-seed0@{models.url}", "--suite", "tea.jsonl"]
        argv += ["--judge", f"openai:judge@{judges.url}"]
        monkeypatch.setattr("sys.argv", ["mipo-eval", *argv])
        run = _json(capsys, *argv)["run_id"][:12]
        moods["now"] = "2"
        score = f"{run}:tea:win_rate_tie_inclusive"
        done = _json(capsys, "reproduce", score, "--run")
        assert done["reproduced"] is False
        (one,) = done["outcomes"]
        assert (one["before"], one["again"], one["within_ci95"]) == (100.0, 0.0, False)
        assert main(["reproduce", score, "--run"]) == 0
        shown = capsys.readouterr().out
        assert "0 of 1 numbers are the same again" in shown
        assert "different, outside" in shown


@pytest.mark.parametrize(
    ("name", "message"),
    [("nope", "no run 'nope'"), ("{base}:tea:accuracy", "has no number tea:accuracy; it has tea:")],
)
def test_unknown_numbers_are_one_clear_line(
    served: Served, name: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["reproduce", name.format(base=served.id("base"))]) == 2
    assert message in capsys.readouterr().err


def test_a_run_without_its_command_says_so(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    """These runs were made in process: the recorded command is the test runner's."""
    assert main(["reproduce", served.id("base")]) == 2
    assert "does not know in which folder" in capsys.readouterr().err
