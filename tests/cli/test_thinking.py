"""Models and judges that think, through the command line: stored apart, shown folded, counted."""

import json
from pathlib import Path
from typing import Any

import pytest

from mipo_eval.cli import main
from mipo_eval.models.thinking import CUT
from mipo_eval.records import Item
from mipo_eval.store import Store
from mipo_eval.store.responses import answered
from mipo_eval.store.runs import find_run, list_runs
from mipo_eval.tasks.items import write_items
from tests.servers.http import Act, Call, json_act
from tests.servers.openai_server import OpenAIServer, completion, ok

_THOUGHT = "Is it hot? " * 30
_N = 4


@pytest.fixture
def suite() -> str:
    items = [
        Item(
            item_id=f"tea-{n}",
            prompt=f"What is tea number {n}?",
            context="I am nine.",
            preferences=("Keep it short.",),
            reference="Tea is a drink.",
        )
        for n in range(_N)
    ]
    write_items(Path("tea.jsonl"), items)
    return "tea.jsonl"


def _thinks(call: Call) -> Act:
    """Answer items with a thinking before it, the last one cut inside of it; rate with one too."""
    asked = call.body["messages"][-1]["content"]
    if "Keep it short." in asked:  # a judge's question
        return ok("4", reasoning_content="It may be a 5, or a 1.")
    if f"number {_N - 1}" in asked:
        return ok("<think>Is it", finish="length")
    body = completion(f"<think>{_THOUGHT}</think>\n\nTea is warm.")
    body["usage"] |= {
        "completion_tokens": 100,
        "completion_tokens_details": {"reasoning_tokens": 96},
    }
    return json_act(body)


def _json(capsys: pytest.CaptureFixture[str], *argv: str, code: int = 0) -> tuple[Any, str]:
    capsys.readouterr()
    assert main([*argv, "--json"]) == code
    said = capsys.readouterr()
    return json.loads(said.out), said.err


def test_a_run_keeps_thinking_apart_and_says_what_was_cut(
    suite: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with OpenAIServer(_thinks) as server:
        served = f"openai:judge@{server.url}"
        argv = ("--model", served, "--suite", suite, "--judge", served)
        document, errors = _json(capsys, *argv, "--engine", "reasoning_effort=low")
        (body, *_) = [call.body for call in server.calls if call.path.endswith("completions")]
    scores = {score["metric"]: score for score in document["scores"]}
    assert body["reasoning_effort"] == "low"
    assert f"1 of {_N} responses of {served} were {CUT}, so they are missing" in " ".join(
        errors.split()
    )
    assert "--decoding max_tokens=N" in errors
    for metric, tokens in (("response_tokens", 4.0), ("thinking_tokens", 96.0)):
        assert (scores[metric]["value"], scores[metric]["n"]) == (tokens, _N - 1)
        assert scores[metric]["unscored_reasons"] == {CUT: 1}
    assert scores["self_bleu_4"]["value"] == 1.0  # of three equal responses
    assert scores["self_bleu_4"]["unscored_reasons"] == {CUT: 1}
    assert scores["rating_mean"]["value"] == 4.0
    assert scores["rating_mean"]["unscored_reasons"] == {CUT: 1}
    assert "|thinking:reasoning_effort=low|" in scores["rating_mean"]["signature"]

    with Store.open("store.db", mode="read") as store:
        run = find_run(store, document["run_id"])
        entries = list(answered(store, run.list_key, run.generation_key))
    made = [entry.response for entry in entries if entry.response]
    assert [one.text for one in made] == ["Tea is warm."] * (_N - 1) + [None]
    assert [one.thinking for one in made] == [_THOUGHT.strip()] * (_N - 1) + ["Is it"]

    shown, _ = _json(capsys, "show", document["run_id"], "--item", "tea-0")
    (sample,) = shown["samples"]
    assert (sample["response"], sample["thinking"]) == ("Tea is warm.", _THOUGHT.strip())
    told = next(said for said in sample["said"] if said["of"] == "response")
    assert (told["value"], told["reply"], told["thinking"]) == ("4", "4", "It may be a 5, or a 1.")
    assert main(["show", document["run_id"], "--item", "tea-0"]) == 0
    out = " ".join(capsys.readouterr().out.replace("\u2502", " ").split())
    assert f"({len(_THOUGHT.strip()):,} characters; see all with --json)" in out
    assert "response: Tea is warm." in out
    assert "thinking: It may be a 5, or a 1." in out


def test_the_same_model_told_to_think_otherwise_is_another_run(
    suite: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with OpenAIServer(_thinks) as server:
        served = f"openai:judge@{server.url}"
        argv = ("--model", served, "--suite", suite, "--judge", served, "--limit", "1")
        runs = [
            _json(capsys, *argv, *more)[0]["run_id"]
            for more in ((), ("--engine", "enable_thinking=false"), ("--engine", ""))
        ]
    assert runs[0] == runs[2] != runs[1]


@pytest.mark.parametrize("beside", [True, False])
def test_a_judge_that_only_thinks_gets_more_room_and_says_what_to_do(
    suite: str, beside: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether its server gives the thinking beside the text or in it."""
    Path("keen.yaml").write_text(
        "description: thinks\nbackend: openai:judge\nmax_tokens: 9\nthinking_budget: 5\n"
        "enable_thinking: true\nextra_body: {top_k: 1}\n",
        encoding="utf-8",
    )
    rooms = set()

    def acts(call: Call) -> Act:
        if "Keep it short." not in call.body["messages"][-1]["content"]:
            return ok("Tea is warm.")
        assert call.body["chat_template_kwargs"] == {"enable_thinking": True}
        assert (call.body["thinking_token_budget"], call.body["top_k"]) == (5, 1)
        rooms.add(call.body["max_tokens"])
        if beside:
            return ok(None, finish="length", reasoning="Rating: 5. But")  # type: ignore[arg-type]
        return ok("<think>Rating: 5. But", finish="length")

    with OpenAIServer(acts) as server:
        judge, served = f"keen.yaml@{server.url}", f"openai:judge@{server.url}"
        argv = ("--model", served, "--suite", suite, "--judge", judge)
        document, errors = _json(capsys, *argv, code=2)
    mean = next(score for score in document["scores"] if score["metric"] == "rating_mean")
    assert (mean["value"], mean["n"]) == (None, 0)
    assert mean["unscored_reasons"] == {"call failed: no room after thinking": _N}
    assert rooms == {9, 1024, 4096, 16384}
    assert "set max_tokens higher, or reasoning lower" in " ".join(errors.split())


def test_a_file_of_responses_may_hold_thinking(
    suite: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"item_id": "tea-0", "response": "<think>hm</think>Tea is warm."},
        {"item_id": "tea-1", "response": "Tea is hot.", "reasoning_content": "hm"},
        {"item_id": "tea-2", "response": "<think>hm"},
        {"item_id": "tea-3", "response": None, "thinking": "hm"},
    ]
    Path("mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with OpenAIServer(ok("4")) as server:
        judge = f"openai:judge@{server.url}"
        argv = ("judge", "mine.jsonl", "reference", "--suite", suite, "--judge", judge)
        document, _ = _json(capsys, *argv, "--protocol", "rubric")
        judged = [
            call.body["messages"][-1]["content"]
            for call in server.calls
            if call.path.endswith("completions")
        ]
    assert sum("Tea is warm." in asked for asked in judged) == 1
    assert not any("hm" in asked.split() or "<think>" in asked for asked in judged)
    assert json.dumps(document).count(CUT) >= 1
    with Store.open("store.db", mode="read") as store:
        (run,) = list_runs(store)
        found = answered(store, run.list_key, run.generation_key)
        entries = {entry.item.item_id: entry.response for entry in found}
    texts = {name: (one and one.text, one and one.reason) for name, one in entries.items()}
    assert texts == {
        "tea-0": ("Tea is warm.", None),
        "tea-1": ("Tea is hot.", None),
        "tea-2": (None, CUT),
        "tea-3": (None, CUT),
    }
    assert all(one and one.thinking == "hm" for one in entries.values())


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        ("thinking_budget=256", "leaves no room for an answer in max_tokens=256"),
        ("thinking_budget=x", "thinking_budget=x: it must be a number of tokens"),
        ("enable_thinking=no", "it must be true or false"),
        ("extra_body.messages=1", "extra_body.messages cannot be set here"),
    ],
)
def test_a_wrong_setting_is_one_line(
    engine: str, message: str, suite: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with OpenAIServer(ok("4")) as server:
        served = f"openai:judge@{server.url}"
        argv = ["--model", served, "--suite", suite, "--judge", served, "--engine", engine]
        assert main(argv) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1
