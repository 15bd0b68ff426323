"""`mipo-eval data`: preparing with a served model, checking, showing."""

import json
from pathlib import Path

import pytest

from mipo_eval import settings
from mipo_eval.cli import main
from mipo_eval.records import Item
from mipo_eval.tasks.items import read_items, write_items
from tests.servers.openai_server import OpenAIServer, ok
from tests.tasks.rows import prism_rows


@pytest.fixture
def raw() -> Path:
    path = Path("raw") / "utterances.jsonl"
    path.parent.mkdir()
    path.write_text("".join(json.dumps(row) + "\n" for row in prism_rows()))
    return path.parent


def test_prepare_twice_asks_once(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["data", "prepare", "prism", "--source", str(raw), "--train", "30", "--test", "8"]
    with OpenAIServer(ok('{"tone": "Be warm.", "length": "Keep it short."}')) as server:
        argv += ["--extractor", f"openai:judge@{server.url}", "--data", "items"]
        assert main(argv) == 0
        shown = capsys.readouterr().out
        calls = server.chats
        assert main([*argv, "--json"]) == 0
        assert server.chats == calls == 38
    document = json.loads(capsys.readouterr().out)
    assert "test: 8 items" in shown
    assert "in both parts: 0 users" in shown
    assert document["report"]["parts"]["train"]["items"] == 30
    test = list(read_items(Path("items/prism-test.jsonl")))
    assert len(test) == 8
    assert test[0].preferences == ("Be warm.", "Keep it short.")
    assert main(["data", "check", "items/prism-test.jsonl"]) == 0
    assert "8 items" in capsys.readouterr().out
    assert main(["data", "show", "prism", "--data", "items", "--samples", "1"]) == 0
    assert "preference: Be warm." in capsys.readouterr().out


def test_every_turn_is_prepared_where_that_is_asked_for(
    raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["data", "prepare", "prism", "--source", str(raw), "--train", "60", "--test", "16"]
    with OpenAIServer(ok('{"tone": "Be warm."}')) as server:
        argv += ["--extractor", f"openai:judge@{server.url}", "--data", "items"]
        assert main([*argv, "--turns", "all", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)["report"]
    items = list(read_items(Path("items/prism-train.jsonl")))
    later = [item for item in items if item.messages]
    assert len(later) == report["parts"]["train"]["in_conversations"] > 0
    assert {item.meta["turn"] for item in later} == {1}
    assert (report["turns"], report["shared_users"]) == ("all", 0)
    parts = ["items/prism-train.jsonl", "items/prism-test.jsonl"]
    assert main(["data", "check", *parts]) == 0
    assert f"{len(later)} with earlier turns" in " ".join(capsys.readouterr().out.split())
    argv[2] = "mb"
    assert main([*argv, "--turns", "all"]) == 2
    assert "mb has no conversations" in capsys.readouterr().err


def test_the_limit_on_the_cost_of_preparing(
    raw: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = Path("prices.yaml")
    table.write_text("as_of: 2026-01-01\nmodels: {judge: {input: 0, output: 1000}}\n")
    monkeypatch.setenv(settings.PRICES, str(table.absolute()))
    argv = ["data", "prepare", "prism", "--source", str(raw), "--train", "30", "--test", "8"]
    with OpenAIServer(ok('{"tone": "Be warm."}')) as server:  # a reply costs 0.001, 0.512 at most
        argv += ["--extractor", f"openai:judge@{server.url}", "--data", "items"]
        assert main([*argv, "--max-cost", "0.5215"]) == 2
        error = capsys.readouterr().err
        assert "the limit of $0.5215 is reached: $0.0100 are spent" in error
        assert "higher --max-cost goes on from there" in error
        assert server.chats == 10
        assert main([*argv, "--max-cost", "1"]) == 0
        assert server.chats == 38


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["prepare", "psoups", "--extractor", "openai:m"],
            "(psoups and prefeval are read as published)",
        ),
        (["prepare", "ca"], "Missing option '--extractor'"),
        (["prepare", "ca", "--source", "empty", "--extractor", "openai:m"], "download it from"),
        (
            ["prepare", "ca", "--extractor", "openai:m", "--reference-model", "openai:n"],
            "--reference-model is only for mb",
        ),
        (["check", "nope.jsonl"], "nope.jsonl"),
        (["check", "bad.jsonl"], "bad.jsonl, line 2"),
        (["show", "nope"], "unknown data set 'nope'"),
        (["show", "tea.jsonl", "--item", "b"], "tea.jsonl has no item 'b'"),
    ],
)
def test_bad_input_is_one_clear_line(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("empty").mkdir()
    write_items(Path("tea.jsonl"), [Item(item_id="a", prompt="x")])
    Path("bad.jsonl").write_text('{"item_id": "a", "prompt": "x"}\n{"item_id": "a"}\n')
    assert main(["data", *argv]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert not captured.out


def test_parts_that_share_a_user_or_a_prompt_are_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    parts = {
        "train.jsonl": [Item(item_id="a", prompt="Why tea?", user_id="u1")],
        "test.jsonl": [Item(item_id="b", prompt="Why coffee?", user_id="u2")],
        "user.jsonl": [Item(item_id="c", prompt="Why milk?", user_id="u1")],
        "prompt.jsonl": [Item(item_id="d", prompt="why  TEA", user_id="u4")],
    }
    for name, found in parts.items():
        write_items(Path(name), found)
    assert main(["data", "check", "train.jsonl", "test.jsonl"]) == 0
    assert "No user and no prompt is in two of them" in capsys.readouterr().out
    for name, said in (("user", "user 'u1' is in"), ("prompt", "prompt 'why TEA' is in")):
        assert main(["data", "check", "train.jsonl", "test.jsonl", f"{name}.jsonl"]) == 2
        error = capsys.readouterr().err
        assert f"{said} train.jsonl and in {name}.jsonl" in error
        assert error.count("\n") == 1


@pytest.mark.parametrize("listens", [False, True])
def test_a_hub_that_gives_nothing_is_one_clear_line(
    listens: bool,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import huggingface_hub.constants

    argv = ["data", "prepare", "prism", "--extractor", "openai:m@http://127.0.0.1:1"]
    with OpenAIServer(ok("{}")) as server:  # it knows no data sets
        endpoint = server.url.removesuffix("/v1")
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", endpoint)
        code = main(argv) if listens else None
    assert (code if listens else main(argv)) == 2
    error = capsys.readouterr().err
    assert "HannahRoseKirk/prism-alignment cannot be found on the hub" in error
    assert "connect to the network, accept its terms at https://huggingface.co" in error
    assert error.count("\n") == 1


def test_check_counts_what_cannot_be_judged(capsys: pytest.CaptureFixture[str]) -> None:
    items = [
        Item(item_id="a", prompt="x", preferences=("y",), reference="z", user_id="u"),
        Item(item_id="b", prompt="x", context="c"),
    ]
    write_items(Path("tea.jsonl"), items)
    assert main(["data", "check", "tea.jsonl", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["items"] == 2
    assert document["without preferences (cannot be judged)"] == 1
    assert document["without a reference (no win rate)"] == 1
    assert document["users"] == 1
