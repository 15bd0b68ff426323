"""`--query`: what a model is asked, from the command line to the signature."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mipo_eval.cli import main
from mipo_eval.records import Item
from mipo_eval.tasks.items import write_items
from tests.servers.openai_server import OpenAIServer, ok

CHOICES = {"text": ["fire", "water"], "label": ["A", "B"]}


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    arc, gsm = Path("data/arc"), Path("data/gsm8k")
    arc.mkdir(parents=True)
    gsm.mkdir()
    wet = {"question": "What is wet?", "choices": CHOICES, "answerKey": "B"}
    (arc / "ARC-Easy-Test.jsonl").write_text(json.dumps(wet) + "\n")
    sums = {"question": "2 + 3?", "answer": "It is five. #### 5"}
    (gsm / "test.jsonl").write_text(json.dumps(sums) + "\n")
    items = [Item(item_id=f"t{n}", prompt="Tea?", context=f"I am {n}.") for n in range(2)]
    write_items(Path("tea.jsonl"), items)
    with OpenAIServer(lambda call: ok("Water is. The answer is B")) as running:
        yield running


def asked(
    server: OpenAIServer, capsys: pytest.CaptureFixture[str], suite: str, *argv: str
) -> tuple[list[tuple[str, str]], dict[str, Any]]:
    """Return the last conversation that was sent, and the first score."""
    done = main(["--model", f"openai:judge@{server.url}", "--suite", suite, "--json", *argv])
    said = capsys.readouterr()
    assert done == 0, said.err
    sent = [call.body["messages"] for call in server.calls if call.path.endswith("completions")]
    score = json.loads(said.out)["scores"][0]
    return [(turn["role"], turn["content"]) for turn in sent[-1]], score


def test_multiple_choice_is_reasoned_or_a_bare_letter(
    server: OpenAIServer, capsys: pytest.CaptureFixture[str]
) -> None:
    (turn,), score = asked(server, capsys, "arc_easy_full")
    assert turn[1].startswith("What is wet?\nA. fire\nB. water\n\nThink it through")
    assert (score["metric"], score["value"]) == ("accuracy", 100.0)
    assert "|query:" in score["signature"]
    assert "suite:arc_easy_full@2|" in score["signature"]
    (bare,), other = asked(server, capsys, "arc_easy_full", "--query", "letter")
    assert bare[1].endswith("Reply with the letter of the right answer and nothing else.")
    assert "|query:" not in other["signature"]


def test_worked_examples_are_turns_or_one_message(
    server: OpenAIServer, capsys: pytest.CaptureFixture[str]
) -> None:
    turns, score = asked(server, capsys, "gsm8k_full")
    assert [role for role, _ in turns] == ["system", *["user", "assistant"] * 8, "user"]
    assert "|query:" not in score["signature"]
    one, other = asked(server, capsys, "gsm8k_full", "--query", "message")
    assert [role for role, _ in one] == ["system", "user"]
    assert one[0] == turns[0]
    for _, text in turns[1:]:
        assert text in one[1][1]
    assert one[1][1].endswith("Q: 2 + 3?\nA:")
    assert "|query:" in other["signature"]


def test_a_file_says_where_the_context_stands(
    server: OpenAIServer, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mine.txt").write_text("[system]\nOf the user: {context}\n[user]\n{prompt} Be brief.\n")
    told, score = asked(server, capsys, "tea.jsonl", "--query", "mine.txt")
    assert told[0][0] == "system"
    assert told[0][1].startswith("Of the user: I am ")
    assert told[1:] == [("user", "Tea? Be brief.")]
    usual = asked(server, capsys, "tea.jsonl")[1]
    assert score["signature"] != usual["signature"]
    bare, _ = asked(server, capsys, "tea.jsonl", "--query", "mine.txt", "--prompting", "default")
    assert bare == [("user", "Tea? Be brief.")]


def test_a_run_is_reproduced_in_its_wording(
    server: OpenAIServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = ["--model", f"openai:judge@{server.url}", "--suite", "tea.jsonl", "--json"]
    argv += ["--query", "context-first"]
    monkeypatch.setattr(sys, "argv", ["mipo-eval", *argv])
    assert main(argv) == 0
    run_id = json.loads(capsys.readouterr().out)["run_id"]
    assert main(["reproduce", run_id, "--json"]) == 0
    assert "--query context-first" in capsys.readouterr().out


def test_what_does_not_fit_is_one_line(
    server: OpenAIServer, capsys: pytest.CaptureFixture[str]
) -> None:
    for suite, given, message in (
        ("tea.jsonl", "letter", "suite tea knows short, context-first, notes"),
        ("gsm8k_full", "none.txt", "suite gsm8k_full knows turns, message"),
        ("arc_easy_full", "none.txt", "use one of reasoned, letter, or a file"),
    ):
        argv = ["--model", f"openai:judge@{server.url}", "--suite", suite, "--query", given]
        assert main(argv) == 2
        assert message in " ".join(capsys.readouterr().err.split())


def test_tables_say_which_references_were_rated_against(
    server: OpenAIServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """MB comes with references that are not the paper's."""
    about = {"preferences": ("Be brief.",), "reference": "Leaves.", "context": "Be brief."}
    for name, by in (("own", "published"), ("made", "openai gpt-4o")):
        meta = {"reference_by": by}
        write_items(Path(f"{name}.jsonl"), [Item(item_id="t", prompt="Tea?", meta=meta, **about)])
    with OpenAIServer(lambda call: ok("4")) as judge:
        for name in ("own", "made"):
            argv = ["--model", f"openai:judge@{server.url}", "--suite", f"{name}.jsonl"]
            assert main([*argv, "--judge", f"openai:judge@{judge.url}"]) == 0
            shown = capsys.readouterr().out
            assert ("reference:published" in shown) == (name == "own")
            assert ("rated against the published references" in shown) == (name == "own")
    assert main(["leaderboard"]) == 0
    assert " ".join(capsys.readouterr().out.split()).count("own: rated against the published") == 1
