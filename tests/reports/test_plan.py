"""Plans: exact calls, beside what the judge's server is then really asked."""

import json
from pathlib import Path
from typing import Any

import pytest

from mipo_eval.cli import main
from mipo_eval.tasks.items import write_items
from tests.reports.stores import N_ITEMS, Served, items, judge, model
from tests.servers.openai_server import OpenAIServer, Policy


def _json(capsys: pytest.CaptureFixture[str], *argv: str) -> Any:
    capsys.readouterr()
    assert main([*argv, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_planned_calls_are_the_calls_that_are_made(capsys: pytest.CaptureFixture[str]) -> None:
    write_items(Path("tea.jsonl"), items(10))
    served = OpenAIServer(model, policy=Policy(models=("base", "sft-seed0")))
    with served as models, OpenAIServer(judge) as judges:
        by = f"openai:judge@{judges.url}"
        base = ["--model", f"openai:base@{models.url}", "--suite", "tea.jsonl", "--judge", by]
        fresh = _json(capsys, "plan", *base)
        assert (fresh["items"], fresh["responses_to_make"], fresh["calls"]) == (10, 10, 40)
        assert fresh["on_unmade"] == 20
        assert not Path("store.db").exists()  # a plan writes nothing
        _json(capsys, *base)
        assert judges.chats == fresh["calls"]
        other = ["--model", f"openai:sft-seed0@{models.url}", *base[2:]]
        second = _json(capsys, "plan", *other)
        assert second["calls"] == 20  # the references are rated
        _json(capsys, *other)
        assert judges.chats == fresh["calls"] + second["calls"]
        done = _json(capsys, "plan", *base)
        # One reply, to two preferences, could not be read: it is in the ledger, without a call.
        assert (done["calls"], done["known"], done["in_ledger"]) == (0, 38, 2)
        assert (done["responses_to_make"], done["responses_stored"]) == (0, 10)
        assert done["minutes"]["value"] == 0


def test_controls_and_the_chat_template_are_planned_for(
    tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_items(Path("tea.jsonl"), items(6))
    Path("plain.jinja").write_text("{% for m in messages %}{{ m['content'] }}\n{% endfor %}")
    with OpenAIServer(judge) as judges:
        argv = ["--model", str(tiny_model), "--suite", "tea.jsonl", "--decoding", "max_tokens=4"]
        argv += ["--judge", f"openai:judge@{judges.url}", "--engine", "chat_template=plain.jinja"]
        fresh = _json(capsys, "plan", *argv, "--controls")
        # Each of 6 items: response, reference, generic, echo and another user's, twice each.
        assert (fresh["ratings"], fresh["on_unmade"]) == (60, 24)
        _json(capsys, *argv)
        left = _json(capsys, "plan", *argv, "--controls")
        assert left["responses_to_make"] == 0
        assert left["on_unmade"] == 0
        before = judges.chats
        _json(capsys, *argv, "--controls")
        assert judges.chats - before == left["calls"] > 0
        other = _json(capsys, "plan", *argv[:-2], "--controls")
        assert other["responses_to_make"] == 6  # without that template they are other responses
        argv[-1] += f",scoring_model={tiny_model}"
        assert "likelihoods by" in _json(capsys, "plan", *argv)["not_counted"][1]


def test_tokens_money_and_minutes_come_from_the_best_source(
    served: Served, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("plan", "--suite", "tea.jsonl")
    hosted = _json(capsys, *asked, "--judge", "openai:gpt-4.1-mini")
    rough = hosted["prompt_tokens"]
    assert "rough estimate" in rough["source"]
    # The dated table: 0.40 and 1.60 dollars a million.
    reply = hosted["completion_tokens"]["value"]
    assert hosted["cost"]["value"] == pytest.approx(
        (0.4 * round(rough["value"]) + 1.6 * reply) / 1e6
    )
    assert hosted["minutes"]["value"] is None
    counted = _json(
        capsys, *asked, "--judge", "openai:gpt-4.1-mini", "--tokenizer", str(tiny_model)
    )
    assert counted["prompt_tokens"]["source"] == f"tokenizer {tiny_model.name}"
    assert counted["prompt_tokens"]["value"] == int(counted["prompt_tokens"]["value"])
    known = _json(capsys, *asked, "--judge", served.judge)
    assert "calls of this judge in the store" in known["prompt_tokens"]["source"]
    # The server says 1 token for each reply; references are rated, responses are not made.
    assert known["completion_tokens"]["value"] == known["calls"] == 2 * N_ITEMS
    assert known["cost"]["value"] == 0
    assert known["minutes"]["value"] > 0
    preset = _json(capsys, *asked, "--judge", "gpt-4.1")  # 2 and 8 dollars a million
    told = round(preset["prompt_tokens"]["value"]), preset["completion_tokens"]["value"]
    assert preset["cost"]["value"] == pytest.approx((2 * told[0] + 8 * told[1]) / 1e6)
    unpriced = _json(capsys, *asked, "--judge", "openai:gpt-99")
    assert unpriced["cost"]["value"] is None
    assert "no price of gpt-99" in unpriced["cost"]["source"]


def test_power_is_measured_assumed_or_given(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("plan", "--suite", "tea.jsonl", "--judge")
    (worst,) = _json(capsys, *asked, "openai:gpt-4.1")["power"]
    # Unpaired, 50 %, of 12 prompts: what a t-test of 11 degrees of freedom finds.
    reach = 3.078  # where the noncentral t is beyond 2.201 in 80 of 100 cases
    expected = reach * (2 * 2500 / N_ITEMS) ** 0.5
    assert worst["detectable_difference"] == pytest.approx(expected, rel=1e-3)
    # Many: (1.960 + 0.842) x sqrt(2 x 2500 / n), PAPER.md's way of counting.
    assert worst["needed"] == pytest.approx(2 * 2500 * (2.8016 / 3) ** 2, rel=2e-3)
    assert (worst["seeds"], worst["seed_sd"]) == (1, None)
    (given,) = _json(capsys, *asked, "openai:gpt-4.1", "--rate", "90", "--rho", "0.5")["power"]
    assert given["detectable_difference"] == pytest.approx(reach * (900 / N_ITEMS) ** 0.5, rel=1e-3)
    seeds = ("--seeds", "3", "--seed-sd")
    (spread,) = _json(capsys, *asked, "openai:gpt-4.1", *seeds, "20")["power"]
    assert spread["detectable_difference"] > 1.5 * worst["detectable_difference"]
    assert spread["needed"] is None  # by that much three seeds differ
    assert (
        "3 seeds per method, standard deviation between them 20.0 points (given)"
        in spread["assumed"]
    )
    (measured,) = _json(capsys, *asked, served.judge)["power"]
    assert "stored runs" in measured["assumed"]
    assert "measured" in measured["assumed"]
    (several,) = _json(capsys, *asked, served.judge, "--seeds", "2")["power"]
    assert several["seed_sd"] == 0  # two methods have two seeds, which differ no more than items do
    assert "points (measured)" in several["assumed"]
    assert main([*asked, served.judge]) == 0
    shown = capsys.readouterr().out
    assert "judge calls" in shown
    *lines, last = shown.splitlines()
    assert max(map(len, lines)) <= 80
    assert last.startswith("Start it: mipo-eval --model CKPT --suite tea.jsonl --judge openai:")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--suite", "tea.jsonl"], "has no judge of its own"),
        (["--suite", "nope", "--judge", "openai:x"], "unknown suite"),
        (["--suite", "tea.jsonl", "--judge", "oracle"], "unknown judge"),
        (["--suite", "tea.jsonl", "--judge", "openai:x", "--tokenizer", "no"], "no tokenizer.json"),
        (["--suite", "tea.jsonl", "--judge", "openai:x", "--rho", "2"], "is not a correlation"),
        (
            ["--suite", "tea.jsonl", "--judge", "openai:x", "--engine", "dtype=auto"],
            "--engine needs --model",
        ),
    ],
)
def test_bad_input_is_one_clear_line(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_items(Path("tea.jsonl"), items(4))
    assert main(["plan", *argv]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_suite_without_references_says_why_there_is_no_win_rate(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    some = [item.model_copy(update={"reference": ""}) for item in items(10)]
    write_items(Path("none.jsonl"), some)
    write_items(Path("half.jsonl"), [*some[:4], *items(10)[4:]])
    told = {}
    for name in ("none", "half"):
        plan = _json(capsys, "plan", "--suite", f"{name}.jsonl", "--judge", "checker")
        (told[name],) = plan["power"]
    assert (told["none"]["n"], told["none"]["detectable_difference"], told["none"]["needed"]) == (
        0,
        None,
        None,
    )
    assert told["none"]["assumed"] == "no win rate; 10 items have no reference"
    assert told["half"]["n"] == 6
    assert told["half"]["assumed"].endswith("; 4 items have no reference")
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["plan", "--suite", "none.jsonl", "--judge", "checker"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "none no win rate; 10 items have no reference" in shown
