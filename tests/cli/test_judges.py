"""judges list, agreement, family, correct; why; judge --reparse: read as a user reads them."""

import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from mipo_eval.cli import main
from mipo_eval.dashboards.tables.label import put_label, stack
from mipo_eval.judges import Judge, Protocol, load_judge
from mipo_eval.judges import judge as judge_module
from mipo_eval.judges.choosing import TextPair, choose
from mipo_eval.judges.judging import rate, with_references
from mipo_eval.judges.people import people_pairs
from mipo_eval.models import Request
from mipo_eval.models.base import ScriptedBackend, ScriptedReply
from mipo_eval.store import Store
from mipo_eval.store.runs import find_run
from mipo_eval.store.tables import calls, choices, judges, verdicts
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
    assert "same rating" in shown
    assert "1 ann" in shown


@pytest.mark.usefixtures("two_families")
def test_the_family_test(capsys: pytest.CaptureFixture[str]) -> None:
    (test,) = document(capsys, "judges", "family")["family"]
    assert test["families"] == ["llama", "qwen"]
    assert test["preference"]["value"] == 2
    assert "points higher (24 items): self-preference" in printed(capsys, "judges", "family")
    assert "say it as NAME=FAMILY" in refused(capsys, "judges", "family", "--family", "x")


@pytest.mark.usefixtures("two_families")
def test_a_win_rate_corrected_by_people(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ("judges", "correct", "qwen-1b", "--judge", "qwen-judge", "--labels", "ann")
    found = document(capsys, *argv)
    assert (found["judged"]["value"], found["labelled"], found["agreement"]) == (100, 10, 50)
    assert found["prediction_powered"]["value"] == 50
    assert "no better than chance" in found["absent"]["rogan_gladen"]
    shown = " ".join(printed(capsys, *argv).split())
    assert "agree on 50.0 % of 10 items" in shown
    assert "a random sample" in shown
    assert "nobody called 'zed'" in refused(capsys, *argv[:-1], "zed")


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
def test_the_calls_behind_an_item(capsys: pytest.CaptureFixture[str]) -> None:
    rows = document(capsys, "why", "qwen-1b:tea-1")["calls"]
    assert sorted((row["of"], row["about"], row["value"]) for row in rows) == [
        ("against the reference", "shown first: a", "a"),
        ("against the reference", "shown first: b", "b"),
        ("reference", "Be brief.", "4"),
        ("reference", "Be kind.", None),
        ("response", "Be brief.", "4"),
        ("response", "Be kind.", None),
    ]
    assert "unparsable reply" in printed(capsys, "why", "qwen-1b:tea-1")
    assert "nobody was asked" in printed(capsys, "why", "qwen-1b:tea-9")
    assert "has no item 'x'" in refused(capsys, "why", "qwen-1b:x")


@pytest.mark.usefixtures("asked")
def test_why_tells_all_that_a_call_was_keyed_on_and_no_secret(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = document(capsys, "why", "qwen-1b:tea-1")["calls"]
    own = {(row["of"], row["about"]): row["call"] for row in rows}
    call = own["response", "Be brief."]
    found = document(capsys, "why", call[:10])
    assert found["call"] == call
    assert found["keyed_on"].keys() == {"backend", "messages", "sampling", "choices"}
    assert found["keyed_on"]["choices"] == ["1", "2", "3", "4", "5"]
    (read,) = found["verdicts"]
    assert (read["judge"], read["item_id"], read["value"]) == ("s", "tea-1", "4")
    shown = printed(capsys, "why", call)
    assert "asking this again is a hit and costs nothing" in shown
    assert "temperature 0.0" in shown
    assert "read by s (" in shown
    assert "\x1b" not in shown
    assert KEY not in shown + json.dumps(found)
    assert "http://host/v1" in shown
    document_ = document(capsys, "why", call, own["response", "Be kind."])
    assert list(document_["differs"]) == ["messages.0.content"]
    assert "no hit for the other" in printed(capsys, "why", call, own["reference", "Be brief."])
    assert "no call begins with 'zz'" in refused(capsys, "why", "zz")


@pytest.mark.usefixtures("asked")
def test_stored_replies_are_read_again_without_a_call(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = document(capsys, "judge", "--reparse")["judges"]
    assert [(row["protocol"], row["read"], row["changed"]) for row in sorted(
        first, key=lambda row: row["protocol"]
    )] == [("pairwise", 6, 0), ("rubric", 12, 0)]  # fmt: skip
    # The next parsers find a 1 in "no number", and the other response in everything.
    monkeypatch.setattr(judge_module, "PARSER_VERSION", "next")
    monkeypatch.setattr(
        "mipo_eval.judges.rubric.parse_rating", lambda text, *_: 4 if "4" in text else 1
    )
    monkeypatch.setattr("mipo_eval.judges.pairwise.parse_choice", lambda text: "b")
    rows = {row["protocol"]: row for row in document(capsys, "judge", "--reparse")["judges"]}
    assert (rows["rubric"]["read"], rows["rubric"]["changed"], rows["rubric"]["missing"]) == (
        12,
        6,
        0,
    )
    assert (rows["pairwise"]["read"], rows["pairwise"]["changed"]) == (6, 6)
    assert len(rows["rubric"]["read_before_by"]) == 1
    with Store.open("store.db", mode="read") as store, store.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(judges)).scalar_one() == 4
        told = sa.select(verdicts.c.rating, sa.func.count()).group_by(verdicts.c.rating)
        assert dict(connection.execute(told).all()) == {None: 6, 4: 12, 1: 6}  # type: ignore[arg-type]
        by_place = sa.select(choices.c.shown_first, choices.c.winner).order_by(
            choices.c.judge_key, choices.c.shown_first
        )
        winners = connection.execute(by_place).all()
        assert sorted(set(winners)) == [("a", "a"), ("a", "b"), ("b", "a"), ("b", "b")]
        assert connection.execute(sa.select(sa.func.count()).select_from(calls)).scalar_one() == 18
    shown = printed(capsys, "judge", "--reparse", "--judge", "s")
    assert "12 replies, last read by an older parser: 6 read otherwise now" in shown
    assert "no judge 'x' with stored replies" in refused(
        capsys, "judge", "--reparse", "--judge", "x"
    )
    assert "leave it out" in refused(capsys, "judge", "qwen-1b", "--reparse")


def test_reading_again_makes_no_store(capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no store" in refused(capsys, "judge", "--reparse")
    assert not Path("store.db").exists()
