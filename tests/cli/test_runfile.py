"""Run files, environment files, logs, several models, and options that are given twice."""

import json
import logging
import os
from pathlib import Path

import click
import pytest
import yaml

from mipo_eval.cli import app, main
from mipo_eval.cli.runfile import ABOUT

DEMO = ["--model", "demo", "--suite", "demo", "--limit", "2", "--judge", "checker"]


def _commands(group: click.Group) -> list[click.Command]:
    below = [
        one for c in group.commands.values() if isinstance(c, click.Group) for one in _commands(c)
    ]
    return [group, *group.commands.values(), *below]


def test_every_command_takes_the_shared_options_and_says_so() -> None:
    wanted = {"config", "print_config", "env_file", "verbosity", "log_file"}
    for command in _commands(app):
        assert wanted <= {parameter.name for parameter in command.params}, command.name
        assert ABOUT in (command.epilog or "")


def test_what_is_printed_can_be_given_back(capsys: pytest.CaptureFixture[str]) -> None:
    Path("run.yaml").write_text("model: demo\nsuite: demo\nlimit: 3\ndecoding: {max_tokens: 64}\n")
    assert main(["--config", "run.yaml", "--limit", "2", "--print-config"]) == 0
    printed = capsys.readouterr().out
    told = yaml.safe_load(printed)
    assert (told["model"], told["limit"], told["decoding"]) == (["demo"], 2, "max_tokens=64")
    Path("again.yaml").write_text(printed)
    assert main(["--config", "again.yaml", "--print-config"]) == 0
    assert capsys.readouterr().out == printed


def test_arguments_and_lists_stand_in_a_file_too(capsys: pytest.CaptureFixture[str]) -> None:
    Path("run.yaml").write_text(
        "runs: [abc, def]\nformat: csv\noutput: x.csv\nmetric: [accuracy]\n"
    )
    assert main(["export", "--config", "run.yaml", "--print-config"]) == 0
    told = yaml.safe_load(capsys.readouterr().out)
    assert (told["runs"], told["metric"]) == (["abc", "def"], ["accuracy"])


def test_a_secret_is_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*DEMO, "--store", "postgresql://ann:secretpw@db/x", "--print-config"]) == 0
    assert "secretpw" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("limt: 3", "has no option 'limt'; the nearest is limit"),
        ("limit: many", "'many' is not a valid integer"),
        ("limit: [1, 2]", "limit takes one value, but the file has a list"),
        ("- 1", "run.yaml: the file: Input should be a valid dictionary"),
        ("a: [", "run.yaml cannot be read"),
        ("limit: 1\nlimit: 2", "the key limit twice"),
    ],
)
def test_a_file_that_is_wrong_is_one_line(
    text: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("run.yaml").write_text(text)
    assert main(["--config", "run.yaml", "--model", "demo", "--suite", "demo"]) == 2
    assert said in capsys.readouterr().err


def test_a_training_has_its_recipe_beside_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    Path("run.yaml").write_text(
        "model: demo\nseed: 3\npairs: {n_negatives: 2}\noptimization: {learning_rate: 1e-6}\n"
    )
    assert main(["train", "mipo", "--config", "run.yaml", "--print-config"]) == 0
    told = yaml.safe_load(capsys.readouterr().out)
    assert told["pairs"]["n_negatives"] == 2
    assert float(told["optimization"]["learning_rate"]) == 1e-6
    Path("run.yaml").write_text("modl: demo\n")
    assert main(["train", "mipo", "--config", "run.yaml", "--print-config"]) == 2
    assert "unknown modl" in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv",
    [
        [*DEMO, "--suite", "other"],
        [*DEMO, "--seed", "1", "--seed=1"],
        ["export", "abc", "-o", "a", "--output", "b", "--format", "csv"],
        ["train", "mipo", "--model", "a", "--model", "b"],
    ],
)
def test_an_option_of_one_value_is_given_once(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    assert "is given 2 times but takes one value" in capsys.readouterr().err


def test_two_models_are_both_evaluated(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*DEMO, "--model", "nowhere/", "--json"]) == 2
    shown = capsys.readouterr()
    document = json.loads(shown.out)
    assert [run["model"] for run in document["runs"]] == ["demo"]
    assert [one["model"] for one in document["failed"]] == ["nowhere/"]
    assert "nowhere/: " in shown.err


def test_an_environment_file_is_read_if_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("MIPO_EVAL_STORE", "SOME_API_KEY"):
        monkeypatch.setenv(name, "of the shell")
    monkeypatch.delenv("MIPO_EVAL_STORE")
    Path(".env").write_text("MIPO_EVAL_STORE=told.db\nSOME_API_KEY=of-the-file\n")
    assert main([*DEMO, "--print-config"]) == 0
    assert "store: mipo-eval.db" in capsys.readouterr().out
    assert main([*DEMO, "--env-file", ".env", "--print-config"]) == 0
    assert "store: told.db" in capsys.readouterr().out
    assert os.environ["SOME_API_KEY"] == "of the shell"
    assert main([*DEMO, "--env-file", "none", "--print-config"]) == 2
    assert "--env-file none cannot be read" in capsys.readouterr().err


def test_logs_are_shown_if_asked_for_and_go_to_a_file_without_keys(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mipo_eval.logs import logging_to

    monkeypatch.setenv("SOME_API_KEY", "very-secret-key")
    before = logging.getLogger("transformers").level
    with logging_to("warning", Path("log.txt"), command="mipo-eval"):
        # As a library does that is imported now.
        logging.getLogger("transformers").addHandler(logging.StreamHandler())
        logging.getLogger("transformers.hub").warning("stuck with very-secret-key")
        logging.getLogger("httpx").debug("connecting")
    told, err = Path("log.txt").read_text(), capsys.readouterr().err
    assert "DEBUG httpx: connecting" in told
    assert err.count("WARNING transformers.hub: stuck with <key>") == 1
    assert "connecting" not in err
    assert "very-secret-key" not in told + err
    assert logging.getLogger("transformers").level == before


def test_a_command_writes_its_log(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "--log-file", "log.txt"]) == 0
    assert "plugins begins, version" in Path("log.txt").read_text()
    assert main(["plugins", "--log-file", "no/log.txt"]) == 2
    assert "--log-file no/log.txt cannot be written" in capsys.readouterr().err


def test_a_log_that_finds_no_room_is_one_line_and_stops_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["plugins", "--json", "--log-file", "/dev/full"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)
    assert told.err == "mipo-eval: --log-file /dev/full: No space left on device; it ends here\n"
