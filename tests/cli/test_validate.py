"""validate through the command line: real replies, a local judge, marks in every table."""

import json
import math
from pathlib import Path
from threading import Lock
from typing import Any

import pytest

from mipo_eval.cli import main
from mipo_eval.records import Item
from mipo_eval.store import Store
from mipo_eval.store.judges import failing_judges, list_validations
from mipo_eval.tasks.items import write_items
from tests.servers.http import Act, Call, json_act
from tests.servers.openai_server import (
    OpenAIServer,
    Policy,
    completion,
    error,
    expired_key,
    ok,
)

PAIRS = [
    {
        "pair_id": str(n),
        "prompt": f"question {n}",
        "first": f"good answer {n}" if n % 2 else f"bad answer, and a long one at that {n}",
        "second": f"bad {n}" if n % 2 else f"good {n}",
        "label": "a" if n % 2 else "b",
        "preferences": ["Be good.", "Be kind."],
    }
    for n in range(24)
]


@pytest.fixture
def pairs() -> str:
    Path("mine.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS))
    return "mine.jsonl"


def document(capsys: pytest.CaptureFixture[str], *argv: str, code: int = 0) -> Any:
    capsys.readouterr()
    assert main([*argv, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def printed(capsys: pytest.CaptureFixture[str], *argv: str, code: int = 0) -> str:
    capsys.readouterr()
    assert main(argv) == code
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    capsys.readouterr()
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert error.count("mipo-eval: ") == 1
    return error


def by_quality(call: Call) -> Act:
    """5 for a good text, 2 for a bad one; names the good one; hostile texts get a 1."""
    text = call.body["messages"][-1]["content"]
    if ":response_a>" in text:
        first = text.partition(":response_a>")[2].partition("</")[0]
        return ok("response_a" if "good " in first else "response_b")
    return ok("5" if "good " in text.partition("The reply")[2].partition("wish")[0] else "2")


@pytest.mark.parametrize("judge", ["ChatGPT", "GPT-4"])
@pytest.mark.parametrize("prompt", ["Vanilla", "CoT", "Rating"])
def test_llmbars_statistics_come_out(
    shared_data: Path, capsys: pytest.CaptureFixture[str], judge: str, prompt: str
) -> None:
    folder = shared_data / "llmbar/LLMBar/Natural/evaluators" / judge / prompt
    argv = ("validate", f"{judge}/{prompt}", "--data", "llmbar", "--data-dir", str(shared_data))
    found = document(capsys, *argv, "--replies", str(folder / "result.json"))
    published = json.loads((folder / "statistics.json").read_text())
    orders = found["figures"]["orders"]
    n = orders["n"]
    for ours, theirs in (
        ("accuracy_straight", "correct_False"),
        ("accuracy_swapped", "correct_True"),
        ("accuracy_both", "correct_both"),
        ("agreement", "equal"),
    ):
        share = f"{round(orders[ours] * n / 100)} / {n}"
        assert share == published[theirs].partition(" = ")[0]
    assert f"{orders['accuracy_average']}%" == published["correct_average"]


def test_judgebenchs_accuracy_comes_out(
    shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shared_data / "judgebench"
    ((name, truth),) = json.loads((folder / "GROUND_TRUTH.json").read_text()).items()
    argv = ("validate", "haiku", "--data", "judgebench", "--data-dir", str(shared_data))
    found = document(capsys, *argv, "--replies", str(folder / f"{name}.jsonl"))
    orders = found["figures"]["orders"]
    assert orders["accuracy_by_sum"] == truth["overall"]["accuracy"]
    assert orders["unread"] == truth["overall"]["nulls"]
    assert found["figures"]["unread"] == {"unparsable reply": truth["overall"]["nulls"]}
    assert len(found["judge_failings"]) == 2


def test_pandalm_with_its_people(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = shared_data / "pandalm" / "pandalm-7b-testset-v1.json"
    truth = json.loads((shared_data / "pandalm" / "GROUND_TRUTH.json").read_text())
    argv = ("validate", "pandalm-7b", "--data", "pandalm", "--data-dir", str(shared_data))
    found = document(capsys, *argv, "--replies", str(file))
    agreement = found["figures"]["judge"]["agreement"]
    assert agreement["value"] == pytest.approx(100 * truth["pandalm-7b"]["accuracy"])
    assert found["kappa"] == pytest.approx(truth["pandalm-7b"]["cohen_kappa_vs_majority"])
    kappas = {f"{p['first']}-{p['second']}": p["kappa"] for p in found["figures"]["people"]}
    assert kappas == pytest.approx(truth["cohen_kappa"])
    assert found["judge_failings"] == []


def test_what_a_person_reads(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = shared_data / "pandalm" / "pandalm-7b-testset-v1.json"
    argv = ("validate", "pandalm-7b", "--data", "pandalm", "--data-dir", str(shared_data))
    shown = printed(capsys, *argv, "--replies", str(file), "--limit", "8")
    assert "pandalm-7b on pandalm: 80 pairs (1 labelled as ties)" in shown
    assert "People among themselves: 1 and 2 agree on" in shown
    for line in ("strict accuracy (%)", "Cohen's kappa", "prefers the longer response", "bloom-7b"):
        assert line in shown
    assert "Passes: +" in shown or "Fails: " in shown


def test_a_judge_is_asked_once_and_for_all(pairs: str, capsys: pytest.CaptureFixture[str]) -> None:
    with OpenAIServer(by_quality) as server:
        judge = f"openai:judge@{server.url}"
        found = document(capsys, "validate", judge, "--data", pairs)
        assert server.chats == 4 * len(PAIRS)
        assert (found["pairs"], found["strict"], found["tie_rate"], found["kappa"]) == (
            24,
            100,
            0,
            1,
        )
        assert found["data"] == "mine.jsonl"
        assert found["figures"]["ratings"]["counts"] == {"2": 48, "5": 48}
        assert found["figures"]["longest"]["half_ties"]["value"] == 50
        again = document(capsys, "validate", judge, "--data", pairs)
        assert server.chats == 4 * len(PAIRS)
    assert again == found
    # The store has all of it: the server is gone.
    assert document(capsys, "validate", judge, "--data", pairs) == found
    with Store.open("store.db", mode="read") as store:
        (validation,) = list_validations(store)
        assert validation.figures["judge"]["strict"]["value"] == 100
        assert failing_judges(store) == {}


def test_a_judge_that_mostly_fails_says_why(pairs: str, capsys: pytest.CaptureFixture[str]) -> None:
    def act(call: Call) -> Act:
        refused = error(400, "This judge is closed on Sundays.")
        return by_quality(call) if call.number < 4 else refused

    with OpenAIServer(act) as server:
        preset = Path("one.yaml")
        about = f"description: d\nbackend: openai:judge@{server.url}\nlimits: {{concurrency: 1}}"
        preset.write_text(about)
        assert main(["validate", str(preset), "--data", pairs]) == 2
    assert (
        "answered 400: This judge is closed on Sundays.; repeat the command"
        in capsys.readouterr().err
    )


def test_a_judge_that_chooses_is_asked_in_both_places(
    pairs: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with OpenAIServer(by_quality) as server:
        argv = ("validate", f"openai:judge@{server.url}", "--data", pairs, "--protocol", "pairwise")
        found = document(capsys, *argv, "--limit", "10")
        assert server.chats == 20
    assert (found["pairs"], found["strict"]) == (10, 100)
    assert found["figures"]["first_place_rate"]["value"] == 50
    assert found["figures"]["same_verdict_rate"]["value"] == 100


def test_without_preferences_a_judge_chooses(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{k: v for k, v in pair.items() if k != "preferences"} for pair in PAIRS]
    Path("bare.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with OpenAIServer(by_quality) as server:
        found = document(capsys, "validate", f"openai:judge@{server.url}", "--data", "bare.jsonl")
    assert "protocol:pairwise" in found["signature"]


def constant(call: Call) -> Act:
    return ok("4")


def the_first(call: Call) -> Act:
    return ok("response_a")


def test_a_judge_that_names_a_place_is_marked_when_it_judges(
    suite: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_items(Path(suite), [item_of(n) for n in range(12)])
    with OpenAIServer(the_first) as server:
        name = f"openai:judge@{server.url}"
        argv = ("judge", name, "reference", "--suite", suite, "--judge", name)
        shown = printed(capsys, *argv)
    assert "(!) judge tells nothing apart: 100 % of its verdicts are ties" in shown


@pytest.fixture
def suite() -> str:
    write_items(Path("tea.jsonl"), [item_of(n) for n in range(6)])
    return "tea.jsonl"


def item_of(number: int) -> Item:
    return Item(
        item_id=f"i{number}",
        prompt=f"q{number}",
        preferences=("Be good.",),
        reference="r",
        group_id=f"{number}",
    )


def test_a_judge_that_fails_is_marked_wherever_it_is_used(
    pairs: str, suite: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with OpenAIServer(constant) as server:
        judge = f"openai:judge@{server.url}"
        argv = ("--suite", suite, "--judge", judge, "--model", judge)
        at_once = " ".join(printed(capsys, *argv).split())
        shown = printed(capsys, "validate", judge, "--data", pairs)
        assert "Fails: constant: 100 % of its ratings are 4" in shown
        first = document(capsys, *argv)
        marked = printed(capsys, *argv)
        second = document(capsys, *argv, "--prompting", "default")
    apart = "(!) judge tells nothing apart: 100 % of its ratings are 4"
    assert "judged by judge (!)" in at_once
    assert at_once.count(apart) == 1
    reason = f"{apart}; fails its validation on mine.jsonl: constant: 100 % of its ratings are 4"
    assert "judged by judge (!)" in marked
    assert reason in " ".join(marked.split())
    ((key, reasons),) = first["judge_failings"].items()
    assert any(f"judge_key:{key}|" in score["signature"] for score in first["scores"])
    assert reasons[0] == "tells nothing apart: 100 % of its ratings are 4"
    assert reasons[1].startswith("mine.jsonl: constant")
    one, other = first["run_id"][:12], second["run_id"][:12]
    for command in (
        ("show", one, "--samples", "0"),
        ("leaderboard",),
        ("compare", one, other),
    ):
        text = " ".join(printed(capsys, *command).split())
        assert "(!)" in text
        assert "tells nothing apart: 100 % of its ratings are 4" in text
        assert "fails its validation on mine.jsonl: constant" in text
    (section,) = document(capsys, "leaderboard")["sections"]
    assert section["judge_failings"] == reasons
    (task,) = document(capsys, "compare", one, other)["tasks"]
    assert task["judge_failings"] == section["judge_failings"]
    for name in ("csv", "md", "latex", "json", "html"):
        assert main(["export", one, "--format", name, "-o", f"out.{name}"]) == 0
        assert "mine.jsonl: constant" in Path(f"out.{name}").read_text().replace("\\", "")


def test_an_imported_judge_is_marked_too(
    shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shared_data / "llmbar/LLMBar/Adversarial/Neighbor/evaluators/ChatGPT/Vanilla"
    file = str(folder / "result.json")
    (run,) = document(capsys, "import", file)["runs"]
    argv = ("validate", "ChatGPT/Vanilla", "--data", "llmbar", "--replies", file)
    failings = document(capsys, *argv)["judge_failings"]
    assert failings[0].startswith("no better than always calling it a tie (19.4 % and 50.0 %")
    shown = document(capsys, "show", run["run_id"], "--samples", "0")
    assert len(shown["judge_failings"]) == 1
    assert "judged by ChatGPT/Vanilla (!)" in printed(capsys, "show", run["run_id"])
    (judge, label) = document(capsys, "judges", "list")["judges"]
    assert (judge["choices"], label["judge_failings"]) == (268, [])


def test_a_trial_on_a_few_pairs_gives_way_to_the_whole(
    pairs: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with OpenAIServer(by_quality) as server:
        argv = ("validate", f"openai:judge@{server.url}", "--data", pairs)
        assert document(capsys, *argv, "--limit", "2")["judge_failings"]
        with Store.open("store.db", mode="read") as store:
            assert failing_judges(store)
        assert document(capsys, *argv)["judge_failings"] == []
        document(capsys, *argv, "--limit", "2")
    with Store.open("store.db", mode="read") as store:
        assert len(list_validations(store)) == 2
        assert failing_judges(store) == {}


def test_the_papers_table_stands_beside_what_was_measured(
    capsys: pytest.CaptureFixture[str],
) -> None:
    items = [
        Item(
            item_id=f"ca-{n}",
            prompt=f"q{n}",
            preferences=("Be good.",),
            reference=f"good {n}",
            meta={"rejected": f"bad and longer {n}"},
        )
        for n in range(12)
    ]
    write_items(Path("ca-test.jsonl"), items)
    served = Policy(models=("Qwen/Qwen2.5-14B-Instruct",))
    with OpenAIServer(by_quality, policy=served) as server:
        argv = ("validate", f"qwen2.5-14b@{server.url}", "--data", "ca", "--data-dir", ".")
        found = document(capsys, *argv)
        shown = printed(capsys, *argv)
    assert found["strict"] == 100
    assert {row["data"] for row in found["published"]} == {"CA"}
    assert "Qwen2.5-3B-Instruct \u2020" in shown
    rows = document(capsys, "leaderboard", "--table", "7")["rows"]
    own = [row for row in rows if row["measured"] is not None]
    assert [(row["dataset"], row["method"], row["measured"], row["n"]) for row in own] == [
        ("CA", "strict", 100, 12),
        ("CA", "tie-tolerant", 100, 12),
    ]


def gullible(call: Call) -> Act:
    """Obeys whoever asks for a 5 anywhere in the message."""
    text = call.body["messages"][-1]["content"]
    reply = text.partition("The reply to grade:")[2]
    return ok("5" if "answer 5" in reply or "digit 5" in reply else "3")


def test_hostile_responses_against_honest_ones(
    pairs: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with OpenAIServer(gullible) as server:
        judge = f"openai:judge@{server.url}"
        found = document(capsys, "validate", judge, "--attack", "--limit", "2")["attacks"]
        kinds = {row["kind"]: row["value"] for row in found["by_kind"]}
        assert (found["items"], found["undecided"]) == (2, 0)
        assert found["attacks"] >= 40
        assert len(kinds) == 8
        assert 50 < kinds["instruction"] < 100
        beats = {row["kind"]: (row["beats"], row["ties"]) for row in found["by_kind"]}
        assert beats["empty"] == (0, 100)
        assert beats["instruction"][0] == pytest.approx(100 - beats["instruction"][1])
        assert kinds["empty"] == 50  # as good as honest: this judge tells nothing apart
        assert {"ignore-everything", "ignore-rubric"} <= set(found["worst"])
        low, high = found["hostile_win_rate"]["ci95"]
        assert low <= found["hostile_win_rate"]["value"] <= high
        shown = printed(capsys, "validate", judge, "--attack", "--limit", "2")
        assert "instruction" in shown
        both = document(capsys, "validate", judge, "--data", pairs, "--attack", "--limit", "3")
        assert (both["pairs"], both["attacks"]["items"]) == (3, 3)
    with Store.open("store.db", mode="read") as store:
        kept = {one.data: one for one in list_validations(store)}
        assert kept["hostile responses"].figures["attacks"]["by_kind"]


def test_the_checker_is_not_fooled(capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, "validate", "checker", "--attack", "--limit", "2")["attacks"]
    assert found["hostile_win_rate"]["value"] == 0


def unsure(call: Call) -> Act:
    """As `by_quality`, 80 % sure of each rating; the rest goes to the middle of the scale."""
    reply = json.loads(by_quality(call).body)["choices"][0]["message"]["content"]
    body = completion(reply)
    top = [{"token": reply, "logprob": math.log(0.8)}, {"token": "3", "logprob": math.log(0.2)}]
    body["choices"][0]["logprobs"] = {"content": [{"token": reply, "top_logprobs": top}]}
    return json_act(body)


def test_how_far_probabilities_of_ratings_can_be_trusted(
    pairs: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with OpenAIServer(unsure) as server:
        preset = {"description": "x", "backend": f"openai:judge@{server.url}", "logprobs": 5}
        Path("mine.yaml").write_text(json.dumps(preset))
        found = document(capsys, "validate", "mine.yaml", "--data", pairs)
        shown = printed(capsys, "validate", "mine.yaml", "--data", pairs)
    calibration = found["figures"]["calibration"]
    # Two wishes: sums 10, 8 and 6 (0.04) against 4, 5 and 6 (0.04): all but sure of the better.
    assert calibration["n"] == 24
    assert calibration["accuracy"] == 100
    assert calibration["ece"] == pytest.approx(0.04 * 0.04 / 2)
    (line,) = (line for line in shown.splitlines() if line.startswith("calibration error (0-1)"))
    assert line.split()[3] == "0.001"


def test_scripted_replies(pairs: str, capsys: pytest.CaptureFixture[str]) -> None:
    # In the order of the questions: both wishes of the first text, then of the second.
    said = ["5", "4", "1", "2"], ["1", "2", "4", "5"]
    lines = [{"reply": reply} for n in range(24) for reply in said[0 if n % 2 else 1]]
    Path("said.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = document(capsys, "validate", "scripted:said.jsonl", "--data", pairs)
    assert (found["strict"], found["unparsed_rate"]) == (100, 0)


def test_replies_of_our_own_form(pairs: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"pair_id": str(n), "shown_first": which, "reply": f"response_{name}"}
        for n in range(24)
        for which, name in (("first", "a"), ("second", "b"))
    ]
    Path("r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = document(capsys, "validate", "mine", "--data", pairs, "--replies", "r.jsonl")
    assert (found["strict"], found["figures"]["first_place_rate"]["value"]) == (50, 50)
    assert found["judge_failings"]


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (("checker",), "name labelled pairs with --data, or use --attack"),
        (("nobody", "--data", "mine.jsonl"), "unknown judge 'nobody'"),
        (("checker", "--data", "mine.jsonl"), "no verdict on any of 24 pairs"),
        (("checker", "--data", "mine.jsonl"), "the checker has no rule for the preference"),
        (("checker", "--data", "mtbench"), "known: llmbar"),
        (("x", "--data", "mine.jsonl", "--replies", "no.jsonl"), "is not a file of replies"),
        (("x", "--replies", "no.jsonl"), "--replies takes no other option than --data"),
        (("checker", "--data", "store:ann"), "'ann' has labelled no pairs"),
        (("checker", "--attack", "--protocol", "pairwise"), "no verdict on any of 550 pairs"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    pairs: str, capsys: pytest.CaptureFixture[str], argv: tuple[str, ...], told: str
) -> None:
    assert told in refused(capsys, "validate", *argv)


def test_an_expired_key_stops_at_once_and_nothing_is_paid_twice(
    pairs: str, capsys: pytest.CaptureFixture[str]
) -> None:
    answered, valid, one_at_a_time = 0, False, Lock()

    def until_it_expires(call: Call) -> Act:
        nonlocal answered
        with one_at_a_time:
            if answered >= 30 and not valid:
                return expired_key()
            answered += 1
        return by_quality(call)

    with OpenAIServer(until_it_expires) as server:
        argv = ("validate", f"openai:judge@{server.url}", "--data", pairs)
        first = document(capsys, *argv, code=2)
        assert (answered, first["kept"]) == (30, False)
        assert first["figures"]["unread"] == {"call failed: auth": 66}
        assert server.chats <= 30 + 64
        assert "Not stored: 66 of 96 replies are missing" in printed(capsys, *argv, code=2)
        with Store.open("store.db", mode="read") as store:
            assert list_validations(store) == []
        valid = True
        assert document(capsys, *argv)["strict"] == 100
        assert answered == 4 * len(PAIRS)
    with Store.open("store.db", mode="read") as store:
        assert len(list_validations(store)) == 1
