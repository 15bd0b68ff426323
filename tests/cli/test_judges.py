"""judges list, agreement, family, correct; show --item; a rerun after the parser changed."""

import json
from pathlib import Path
from typing import Any

import pytest

from mipo_eval.cli import main
from mipo_eval.dashboards.tables.label import put_label, stack
from mipo_eval.judges.judge import Judge, Protocol
from mipo_eval.judges.people import people_pairs
from mipo_eval.judges.presets import load_judge
from mipo_eval.judges.run import TextPair, choose, rate, with_references
from mipo_eval.models.base import Request, ScriptedBackend, ScriptedReply
from mipo_eval.store import Store
from mipo_eval.store.runs import find_run
from tests.reports.judged import ITEMS, add_chooser, add_rater, add_run, text_of

MODELS = ["qwen-1b", "llama-1b"]
KEY = "sk-verysecret"


def document(capsys: pytest.CaptureFixture[str], *argv: str) -> Any:
    capsys.readouterr()
    assert main([*argv, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def printed(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    capsys.readouterr()
    assert main(argv) == 0
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    capsys.readouterr()
    assert main(argv) == 2
    return capsys.readouterr().err


def favours(own: str) -> Any:
    return lambda model, number, aspect: 3 + number % 2 + (own in model)


@pytest.fixture
def two_families() -> None:
    with Store.open("store.db") as store:
        for model in MODELS:
            add_run(store, model)
        add_rater(store, "qwen-judge", MODELS, favours("qwen"))
        add_rater(store, "llama-judge", MODELS, favours("llama"))
        said = {n: ("a" if n % 2 else "b",) for n in range(10)}
        add_chooser(store, "ann", said, model="qwen-1b", human=True)


@pytest.mark.usefixtures("two_families")
def test_judges_are_listed_with_people(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {row["name"]: row for row in document(capsys, "judges", "list")["judges"]}
    assert rows["qwen-judge"]["ratings"] == 3 * 2 * len(ITEMS)
    assert (rows["ann"]["protocol"], rows["ann"]["choices"]) == ("person", 10)
    assert "not validated" in printed(capsys, "judges", "list")


@pytest.mark.usefixtures("two_families")
def test_agreement_on_the_same_responses(capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, "judges", "agreement", "qwen", "--judge", "qwen-j", "--judge", "ann")
    (pair,) = found["agreement"]
    assert (pair["ratings"]["n"], pair["verdicts"]["n"]) == (0, 10)
    assert pair["verdicts"]["share"] == 50  # the judge always prefers it, ann half of the time
    shown = printed(capsys, "judges", "agreement")
    assert "ratings" in shown
    assert "1 ann" in shown


@pytest.mark.usefixtures("two_families")
def test_the_family_test(capsys: pytest.CaptureFixture[str]) -> None:
    (test,) = document(capsys, "judges", "family")["family"]
    assert test["families"] == ["llama", "qwen"]
    assert test["preference"]["value"] == 2
    # All 12 prompts alike do not exclude that a quarter of the others are at the other end.
    assert test["preference"]["ci95"] == pytest.approx([-0.65, 3.59], abs=0.01)
    assert "(24 items): no self-preference shown" in printed(capsys, "judges", "family")
    assert "must be NAME=FAMILY" in refused(capsys, "judges", "family", "--family", "x")


@pytest.mark.usefixtures("two_families")
def test_a_win_rate_corrected_by_people(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ("judges", "correct", "qwen-1b", "--judge", "qwen-judge", "--labels", "ann")
    found = document(capsys, *argv)
    assert (found["judged"]["value"], found["labelled"], found["agreement"]) == (100, 10, 50)
    assert found["prediction_powered"]["value"] == 50
    assert "not better than chance" in found["absent"]["rogan_gladen"]
    shown = " ".join(printed(capsys, *argv).split())
    assert "agree on 50.0 % of 10 items" in shown
    assert "a random sample" in shown
    assert "'zed' has labelled no pairs" in refused(capsys, *argv[:-1], "zed")


@pytest.mark.usefixtures("two_families")
def test_labels_of_the_board_serve_correction_and_validation(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Store.open("store.db") as store:
        run = find_run(store, "qwen-1b")
        shown = [pair for pair in stack(store, run, None).pairs][:6]
        for number, pair in enumerate(shown):
            put_label(store, "Bob", pair, "first" if number % 2 else "second")
        put_label(store, "Bob", shown[0], None)  # thought better of it: skipped is no label
        pairs = people_pairs(store, ["Bob"])
    assert len(pairs) == 5
    argv = ("judges", "correct", "qwen-1b", "--judge", "qwen-judge")
    assert document(capsys, *argv, "--labels", "Bob")["labelled"] == 5
    assert document(capsys, *argv, "--labels", "Bob,ann")["labelled"] >= 10 - 5
    lines = [{"pair_id": p.pair_id, "shown_first": "first", "reply": "response_a"} for p in pairs]
    Path("r.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = document(capsys, "validate", "x", "--data", "store:Bob", "--replies", "r.jsonl")
    right = sum(pair.label == "a" for pair in pairs)
    assert found["strict"] == pytest.approx(100 * right / 5)
    assert found["data"] == "store:Bob"


def replies(request: Request) -> ScriptedReply:
    if "response_a" in request.slots:
        return "response_a\n\x1b"
    return "4\n\n\x1b[m" if "brief" in request.slots["preference"] else "no number"


def asked_judge(protocol: Protocol) -> Judge:
    like = load_judge("openai:m@http://localhost:1", protocol=protocol)
    backend = ScriptedBackend(replies, name=f"http://me:{KEY}@host/v1")
    return Judge(name="s", spec="scripted", backend=backend, prompt=like.prompt, protocol=protocol)


@pytest.fixture
def asked() -> None:
    """A run whose responses one judge rated and another compared with the references."""
    import asyncio

    with Store.open("store.db") as store:
        add_run(store, "qwen-1b")
        pairs = [(item, text_of("qwen-1b", n)) for n, item in enumerate(ITEMS[:3])]
        asyncio.run(rate(store, asked_judge("rubric"), with_references(pairs)))
        duels = [TextPair(item, text, item.reference or "") for item, text in pairs]
        asyncio.run(choose(store, asked_judge("pairwise"), duels))


@pytest.mark.usefixtures("asked")
def test_all_that_was_said_of_one_item(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ("show", "qwen-1b", "--item", "tea-1")
    (sample,) = document(capsys, *argv)["samples"]
    rated = {"judge": "s", "of": "response", "preference": "Be brief.", "reason": None}
    chosen = {"judge": "s", "of": "response", "against": "the reference", "reason": None}
    assert sample["said"] == [
        rated | {"value": "4", "reply": "4\n\n\x1b[m"},
        rated
        | {
            "preference": "Be kind.",
            "value": None,
            "reason": "unparsable reply",
            "reply": "no number",
        },
        chosen | {"shown_first": "this", "value": "this", "reply": "response_a\n\x1b"},
        chosen | {"shown_first": "other", "value": "other", "reply": "response_a\n\x1b"},
        rated | {"of": "reference", "value": "4", "reply": "4\n\n\x1b[m"},
        rated
        | {
            "of": "reference",
            "preference": "Be kind.",
            "value": None,
            "reason": "unparsable reply",
            "reply": "no number",
        },
    ]
    shown = printed(capsys, *argv)
    assert "s on the response (Be kind.): unparsable reply\n    no number" in shown
    assert "s on the response (against the reference, shown first: other): other" in shown
    assert "\x1b" not in shown
    assert "has no item with the id 'x'" in refused(capsys, "show", "qwen-1b", "--item", "x")
