"""The main job through the command line: real tiny model, real local judge, real store."""

import asyncio
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mipo_eval.cli import main, render
from mipo_eval.cli.render import Output
from mipo_eval.progress import Stage, run_shown
from mipo_eval.records import Item
from mipo_eval.store import Store
from mipo_eval.store.responses import answered
from mipo_eval.store.runs import list_runs
from mipo_eval.tasks.items import write_items
from tests.servers.http import Act, Call, json_act
from tests.servers.openai_server import (
    OpenAIServer,
    Policy,
    broken,
    completion,
    error,
    ok,
    refusal,
)
from tests.waiting import HANG, wait_until

REPOSITORY = Path(__file__).parents[2]


def _items(count: int) -> list[Item]:
    return [
        Item(
            item_id=f"item-{n}",
            prompt=f"What is tea number {n // 2}?",
            context="I like it short." if n % 2 else "I am six years old.",
            preferences=("Keep it short.", "Use easy words."),
            reference=f"Tea number {n} is a drink.",
            group_id=f"tea-{n // 2}",
        )
        for n in range(count)
    ]


@pytest.fixture
def suite() -> str:
    write_items(Path("tea.jsonl"), _items(12))
    return "tea.jsonl"


def _run(capsys: pytest.CaptureFixture[str], *argv: str) -> Any:
    capsys.readouterr()
    assert main([*argv, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def _scores(document: Any) -> dict[str, Any]:
    return {score["metric"]: score for score in document["scores"]}


def _rates_references_higher(call: Call) -> Act:
    """4 for a reference, 2 for anything else; the first reference gets nothing readable."""
    text = call.body["messages"][-1]["content"]
    if "Tea number 0 is" in text:
        return ok("somewhere between 3 and 4")
    return ok("4" if "is a drink." in text else "2")


def test_a_run_from_model_to_scores(
    tiny_model: Path, suite: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with OpenAIServer(_rates_references_higher) as server:
        judge = f"openai:judge@{server.url}"
        argv = ("--model", str(tiny_model), "--suite", suite, "--judge", judge)
        argv += ("--decoding", "max_tokens=8")
        document = _run(capsys, *argv)
        scores = _scores(document)
        calls = server.chats
        assert (document["suite"], document["n_items"]) == ("tea", 12)
        win = scores["win_rate_tie_inclusive"]
        assert (win["value"], win["n"], win["unscored"]) == (0.0, 11, 1)
        assert win["unscored_reasons"] == {"reference: unparsable reply": 1}
        assert win["task"] == "tea"
        assert scores["rating_mean"]["value"] == 2.0
        assert scores["rating_mean"]["n"] == 12
        assert scores["truncation_rate"]["value"] == 100.0
        assert scores["response_tokens"]["value"] == 8.0
        assert 0 <= scores["self_bleu_4"]["value"] <= 1
        for part in ("suite:tea@1", "items:", "judge:judge", "ties:win", "decoding:greedy-8"):
            assert part in win["signature"]
        again = _run(capsys, *argv)
        assert server.chats == calls  # nothing is paid for twice
        assert again == document
        more = _run(capsys, *argv, "--seed", "1")
        assert more["run_id"] != document["run_id"]


def test_failed_calls_are_unscored_and_asked_again(
    tiny_model: Path, suite: str, capsys: pytest.CaptureFixture[str]
) -> None:
    down = True

    def judge(call: Call) -> Act:
        text = call.body["messages"][-1]["content"]
        return refusal() if down and "Tea number 3 is" in text else ok("3")

    with OpenAIServer(judge) as server:
        argv = ("--model", str(tiny_model), "--suite", suite, "--decoding", "max_tokens=8")
        argv += ("--judge", f"openai:judge@{server.url}")
        first = _scores(_run(capsys, *argv))["win_rate_tie_inclusive"]
        assert (first["n"], first["unscored_reasons"]) == (
            11,
            {"reference: call failed: refused": 1},
        )
        down = False
        calls = server.chats
        second = _scores(_run(capsys, *argv))["win_rate_tie_inclusive"]
        assert (second["n"], second["unscored"], second["value"]) == (12, 0, 100.0)
        assert server.chats == calls + 2  # the two preferences of one reference


def test_a_judge_that_says_nothing_readable_gives_no_number(
    tiny_model: Path, suite: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with OpenAIServer(ok("Once upon a time")) as server:
        argv = ("--model", str(tiny_model), "--suite", suite, "--decoding", "max_tokens=8")
        argv += ("--judge", f"openai:judge@{server.url}")
        scores = _scores(_run(capsys, *argv))
        win = scores["win_rate_tie_inclusive"]
        assert (win["value"], win["n"], win["unscored"]) == (None, 0, 12)
        assert main(argv) == 0
        shown = capsys.readouterr().out
    assert "Unscored in tea, judged by judge: 12 x unparsable reply" in shown
    assert "none" in shown


def test_texts_without_spaces_are_split_by_their_script(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def answer(call: Call) -> Act:
        text = call.body["messages"][-1]["content"]
        return ok(
            "我喜欢喝绿茶、不加糖。" if "茶" in text or "tea 7" in text else "Tea is a drink."
        )

    for name, prompt in (("green", "绿茶{}好喝吗。"), ("tea", "Is tea {} good?")):
        write_items(
            Path(f"{name}.jsonl"),
            [Item(item_id=f"{n}", prompt=prompt.format(n), reference="-") for n in range(9)],
        )
    with OpenAIServer(answer, policy=Policy(models=("base",))) as server:
        base = ("--model", f"openai:base@{server.url}", "--json", "--suite")
        assert main([*base, "green.jsonl"]) == 0
        out, err = capsys.readouterr()
        chinese = _scores(json.loads(out))["self_bleu_4"]
        assert main([*base, "tea.jsonl"]) == 0
        out, quiet = capsys.readouterr()
        english = _scores(json.loads(out))["self_bleu_4"]
    assert (chinese["value"], chinese["n"]) == (pytest.approx(1.0), 9)
    assert "|tok:zh|" in chinese["signature"]
    assert "green is written without spaces, so sacreBLEU's zh takes every Chinese" in err
    # One answer of another script is no 0 among the others.
    assert (english["value"], english["n"]) == (pytest.approx(1.0), 8)
    assert english["unscored_reasons"] == {"written without spaces, which 13a takes for a word": 1}
    assert "|tok:13a|" in english["signature"]
    assert "without spaces" not in quiet


def test_several_judges_and_no_judge(
    tiny_model: Path, suite: str, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ("--model", str(tiny_model), "--suite", suite, "--decoding", "max_tokens=8")
    free = _run(capsys, *argv)
    assert {s["metric"] for s in free["scores"]} == {
        "self_bleu_4",
        "self_bleu_4_same_prompt",
        "self_bleu_4_same_prompt_fixed",
        "response_tokens",
        "truncation_rate",
    }
    with OpenAIServer(ok("3")) as one, OpenAIServer(ok("5")) as two:
        judges = ("--judge", f"openai:judge@{one.url}", "--judge", f"openai:judge@{two.url}")
        both = _run(capsys, *argv, *judges)
    means = [s["value"] for s in both["scores"] if s["metric"] == "rating_mean"]
    assert sorted(means) == [3.0, 5.0]
    assert both["run_id"] == free["run_id"]


def test_a_judge_that_breaks_for_good_keeps_the_responses(
    tiny_model: Path, suite: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with OpenAIServer(ok("3")) as server:
        url = server.url
    argv = ["--model", str(tiny_model), "--suite", suite, "--decoding", "max_tokens=8"]
    assert main([*argv, "--judge", f"openai:judge@{url}"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("mipo-eval: ")
    assert url in error


def test_a_judge_that_cannot_work_says_why_beside_the_numbers(
    tiny_model: Path, suite: str, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["--model", str(tiny_model), "--suite", suite, "--decoding", "max_tokens=8"]
    with OpenAIServer(error(400, "No such judge here, sorry.")) as server:
        judged = [*argv, "--judge", f"openai:judge@{server.url}"]
        assert main(judged) == 2
        shown = capsys.readouterr()
        line = f"judge: calls for 12 of 12 failed: {server.url} answered 400: No such judge here"
        assert line in " ".join(shown.out.split())
        assert line in shown.err
        assert main([*judged, "--json"]) == 2
        [told] = json.loads(capsys.readouterr().out)["unanswered"]
        assert told.startswith(line)


def test_a_key_that_expired_since_is_one_line_and_known_numbers_need_no_server(
    tiny_model: Path, suite: str, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["--model", str(tiny_model), "--suite", suite, "--decoding", "max_tokens=8"]
    assert main(argv) == 0
    with OpenAIServer(ok("3"), policy=Policy(key="another")) as server:
        judged = [*argv, "--judge", f"openai:judge@{server.url}"]
        assert main(judged) == 2  # the responses are there: nothing else checks the judge
        assert "asks for a key: set MIPO_EVAL_KEY_127_0_0_1_" in capsys.readouterr().err
        assert server.chats == 0
    with OpenAIServer(ok("3")) as server:
        judged = [*argv, "--judge", f"openai:judge@{server.url}"]
        assert main(judged) == 0
        assert "judge: 48 calls, 576 tokens, $0.0000" in capsys.readouterr().out
    assert main(judged) == 0
    assert "calls" not in capsys.readouterr().out


def _start(arguments: list[str], cache: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "MIPO_EVAL_CACHE": cache}
    command = [sys.executable, "-m", "mipo_eval", *arguments]
    return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)


def _stored(store: str) -> int:
    if not Path(store).exists():
        return 0
    with Store.open(store) as opened:
        (run, *_) = list_runs(opened) or [None]
        if run is None:
            return 0
        entries = answered(opened, run.list_key, run.generation_key)
        return sum(entry.response is not None for entry in entries)


def test_only_our_own_progress_is_on_the_terminal(tiny_model: Path, tmp_path: Path) -> None:
    write_items(Path("tea.jsonl"), _items(4))
    program = "import sys; from mipo_eval.cli import main; sys.exit(main(sys.argv[1:]))"
    argv = ["--model", str(tiny_model), "--suite", "tea.jsonl", "--decoding", "max_tokens=4"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "MIPO_EVAL_CACHE": str(tmp_path)}
    environment.pop("TQDM_DISABLE", None)
    done = subprocess.run(
        [sys.executable, "-c", program, *argv], env=environment, capture_output=True, check=True
    )
    assert b"responses of" in done.stderr
    assert b"it/s" not in done.stderr


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_continues_where_it_was(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], how: signal.Signals
) -> None:
    write_items(Path("tea.jsonl"), _items(240))  # work enough to outlast whoever looks at the store
    argv = ["--model", str(tiny_model), "--suite", "tea.jsonl", "--decoding", "max_tokens=12"]
    argv += ["--engine", "batch_size=2"]  # chunks of 8 items
    process = _start([*argv, "--store", "killed.db"], str(tmp_path))
    wait_until(lambda: _stored("killed.db") >= 8, what="8 stored responses")
    process.send_signal(how)
    code = process.wait(HANG)
    assert code == (130 if how is signal.SIGINT else -how)
    kept = _stored("killed.db")
    assert 8 <= kept < 240
    resumed = _run(capsys, *argv, "--store", "killed.db")
    whole = _run(capsys, *argv, "--store", "whole.db")
    assert resumed == whole


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--suite", "demo"], "--model is missing"),
        (["--model", "x"], "--suite is missing"),
        (["--model", "x", "--suite", "nope"], "unknown suite 'nope'; known: personalization, ca"),
        (["--model", "x", "--suite", "no.jsonl"], "there is no item file at no.jsonl"),
        (["--model", "./x", "--suite", "ca"], "there is no checkpoint at ./x"),
        (["--model", "openai:m@http://127.0.0.1:9/v1", "--suite", "ca"], "data prepare ca"),
        (["--model", "x", "--suite", "ca", "--judge", "oracle"], "unknown judge 'oracle'"),
        (["--model", "x", "--suite", "ca", "--judge", "openai:"], "openai cannot be used here"),
        (["--model", "x", "--suite", "ca", "--decoding", "beams=3"], "the keys are max_tokens"),
        (["--model", "x", "--suite", "ca", "--decoding", "top_p=two"], "'two' is not a number"),
        (["--model", "x", "--suite", "ca", "--decoding", "top_p=0"], "top_p must be in (0, 1]"),
        (["--model", "x", "--suite", "ca", "--decoding", "min_p=1"], "min_p in [0, 1)"),
        (["--model", "x", "--suite", "ca", "--decoding", "top_k=-1"], "top_k must be 0 or more"),
        (
            ["--model", "demo", "--suite", "demo", "--decoding", "generation_config=mine"],
            "the only value of generation_config is checkpoint",
        ),
        (
            ["--model", "demo", "--suite", "demo", "--engine", "parallelize=maybe"],
            "'maybe' is not true or false",
        ),
        (
            ["--model", "lm-eval:dummy", "--suite", "ca", "--engine", "chat_template=t.jinja"],
            "chat_template=t.jinja cannot be read",
        ),
        (
            ["--model", "openai:m", "--suite", "ca", "--engine", "dtype=x"],
            "the keys are num_concurrent, max_retries, timeout, requests_per_minute",
        ),
        (["--model", "x", "--suite", "ca", "--max-cost", "0"], "0 is not in the range x>0"),
        (["--model", "x", "--suite", "ca", "--judge", "checker", "--batch"], "no batch service"),
        (["--model", "x", "--suite", "ca", "--limit", "0"], "0 is not in the range x>=1"),
        (["--model", "x", "--suite", "ca", "--store", "/proc/s.db"], "cannot be opened"),
        (["show", "abc"], "there is no store at"),
        (["--model", "x", "show", "abc"], "put options after the command's name"),
        (["prepare"], "No such command 'prepare'"),
    ],
)
def test_bad_input_is_one_clear_line(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""


def test_responses_that_are_all_empty_or_missing_are_an_error(
    tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_items(Path("long.jsonl"), [Item(item_id="a", prompt="word " * 400)])
    assert main(["--model", str(tiny_model), "--suite", "long.jsonl"]) == 2
    error = capsys.readouterr().err
    assert "no response to any of 1 items (prompt longer than the model's context)" in error
    write_items(Path("tea.jsonl"), _items(2))
    with OpenAIServer(ok("  ")) as server:
        assert main(["--model", f"openai:judge@{server.url}", "--suite", "tea.jsonl"]) == 2
    assert "no response to any of 2 items (empty response)" in capsys.readouterr().err


def test_an_empty_response_among_others_is_unscored(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_items(Path("tea.jsonl"), _items(4))

    def model(call: Call) -> Act:
        return ok("" if "tea number 1" in call.body["messages"][-1]["content"] else "Good tea.")

    with OpenAIServer(model) as served, OpenAIServer(ok("3")) as judge:
        argv = ("--model", f"openai:judge@{served.url}", "--suite", "tea.jsonl")
        scores = _scores(_run(capsys, *argv, "--judge", f"openai:judge@{judge.url}"))
    win = scores["win_rate_strict"]
    assert (win["n"], win["unscored_reasons"]) == (2, {"empty response": 2})


def test_show_and_runs(
    tiny_model: Path,
    suite: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with OpenAIServer(ok("3")) as server:
        argv = ("--model", str(tiny_model), "--suite", suite, "--decoding", "max_tokens=8")
        document = _run(capsys, *argv, "--judge", f"openai:judge@{server.url}")
    run_id = document["run_id"]
    (row,) = _run(capsys, "runs")["runs"]
    assert (row["run_id"], row["responses"], row["n_items"]) == (run_id, 12, 12)
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["runs"]) == 0
    listed = capsys.readouterr().out
    assert run_id[:8] in listed
    assert "when (UTC)" in listed  # the last column is there on a narrow terminal too
    monkeypatch.delenv("COLUMNS")
    shown = _run(capsys, "show", run_id[:8], "--samples", "2")
    assert shown["scores"] == sorted(
        document["scores"], key=lambda s: (s["task"], s["metric"], s["signature"])
    )
    first, _ = shown["samples"]
    assert first["item"]["item_id"] == "item-0"
    assert first["verdicts"]["reference"][1] == {
        "judge": "judge",
        "preference": 1,
        "rating": 3,
        "reason": None,
    }
    assert main(["show", run_id[:8], "--item", "item-5"]) == 0
    text = capsys.readouterr().out
    assert "tea: item-5" in text
    assert "response (cut at the token limit)" in text
    assert "[judge: 3 (reference 3)] Keep it short." in text
    assert main(["show", run_id[:8], "--item", "item-99"]) == 2
    assert "has no item with the id 'item-99'" in capsys.readouterr().err


def test_hostile_text_is_shown_inert(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "\x1b[31mred\x1b[0m [bold]no[/bold] \u202egnp.exe \x00"
    write_items(Path("tea.jsonl"), [Item(item_id="[red]a", prompt="x", preferences=("y",))])
    with OpenAIServer(ok(hostile)) as server, OpenAIServer(broken()):
        document = _run(capsys, "--model", f"openai:judge@{server.url}", "--suite", "tea.jsonl")
    assert main(["show", document["run_id"]]) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "[bold]no[/bold]" in shown
    assert "tea: [red]a" in shown


def test_the_family_judge_is_that_of_the_checkpoint(
    tiny_model: Path, suite: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    qwen, llama = "Qwen/Qwen2.5-14B-Instruct", "meta-llama/Meta-Llama-3-8B-Instruct"
    policy = Policy(models=(qwen,))
    argv = ("--suite", suite, "--decoding", "max_tokens=4")
    with OpenAIServer(ok("3"), policy=policy) as server:
        judge = ("--judge", f"family@{server.url}")
        scores = _run(capsys, "--model", str(tiny_model), *argv, *judge)["scores"]
        assert {call.body["model"] for call in server.calls if call.body} == {qwen}
        assert any("judge:qwen2.5-14b" in score["signature"] for score in scores)
        for kind, message in (("llama", f"does not serve {llama!r}"), ("mistral", "is neither")):
            other = tmp_path / "qwen-in-name-only"
            shutil.copytree(tiny_model, other, dirs_exist_ok=True)
            config = json.loads((other / "config.json").read_text())
            (other / "config.json").write_text(json.dumps(config | {"model_type": kind}))
            assert main(["--model", str(other), *argv, *judge]) == 2
            assert message in capsys.readouterr().err
        # Of a served model only the name is known.
        assert main(["--model", f"openai:meta-llama/x@{server.url}", *argv, *judge]) == 2
        assert llama in capsys.readouterr().err


def _unsure(call: Call) -> Act:
    """Rates 3, and nearly 4 for responses that it finds one of twelve."""
    text = call.body["messages"][-1]["content"]
    if "tea number 5?" in text:
        return ok("3")
    top = [{"token": t, "logprob": math.log(p)} for t, p in (("3", 0.6), (" 4", 0.4))]
    body = completion("3")
    body["choices"][0]["logprobs"] = {"content": [{"token": "3", "top_logprobs": top}]}
    return json_act(body)


def test_probability_weighted_ratings_stand_beside_the_plain_ones(
    tiny_model: Path, suite: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with OpenAIServer(_unsure) as server:
        Path("mine.yaml").write_text(
            f"description: mine\nbackend: openai:judge@{server.url}\nlogprobs: 5\n"
        )
        argv = ("--model", str(tiny_model), "--suite", suite, "--decoding", "max_tokens=8")
        scores = _scores(_run(capsys, *argv, "--judge", "mine.yaml"))
        assert scores["rating_mean"]["value"] == 3.0
        weighted = scores["rating_weighted"]
        assert weighted["value"] == pytest.approx(3.4)
        assert (weighted["n"], sum(weighted["unscored_reasons"].values())) == (10, 2)
        assert "weighted:first-token" in weighted["signature"]
        plain = ("--judge", f"openai:judge@{server.url}")
        assert "rating_weighted" not in _scores(_run(capsys, *argv, *plain))


def test_a_judge_at_work_shows_that_time_passes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    told: list[int] = []

    class Watched(Output):
        def advance(self, units: int) -> None:
            told.append(units)
            super().advance(units)

    async def work() -> str:
        while len(told) < 2:
            await asyncio.sleep(0.01)
        return "done"

    stage = Stage("work", 3, lambda: "$0.10  batch b: 1 of 3 answered")
    assert run_shown(work(), Watched(as_json=False), stage) == "done"
    assert set(told) == {0}
    assert "work: 0/3" in capsys.readouterr().err.replace("\n", " ")


def test_the_end_of_a_stage_is_told_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(render, "_PLAIN_SECONDS", 0.0)  # a line for every step
    shown = Output(as_json=True)
    for total in (2, 1):
        shown.start("work", total)
        for _ in range(total):
            shown.advance(1)
        shown.finish()
    counts = [line.split()[1] for line in capsys.readouterr().err.splitlines()]
    assert counts == ["1/2", "2/2", "1/1"]
