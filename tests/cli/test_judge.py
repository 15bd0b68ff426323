"""`mipo-eval judge`: real files and stores, local judges that answer, break and charge."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from mipo_eval import settings
from mipo_eval.cli import main
from mipo_eval.records import Item
from mipo_eval.store import Store
from mipo_eval.store.tables import calls, choices, verdicts
from mipo_eval.tasks.items import write_items
from mipo_eval.tasks.sources import load_source
from mipo_eval.verdict import Choice
from tests.servers import gemini_server, openai_server
from tests.servers.gemini_server import GeminiServer
from tests.servers.http import Act, Call
from tests.servers.openai_server import (
    OpenAIServer,
    Policy,
    broken,
    completion,
    cut_off,
    ok,
    refusal,
)
from tests.waiting import HANG, wait_until

REPOSITORY = Path(__file__).parents[2]
N = 12


def items(count: int = N) -> list[Item]:
    return [
        Item(
            item_id=f"item-{n}",
            prompt=f"What is tea number {n}?",
            context="I like it short.",
            preferences=("Keep it short.", "Use easy words."),
            reference=f"Tea number {n} is a drink.",
            group_id=f"tea-{n // 2}",
        )
        for n in range(count)
    ]


def responses(name: str, texts: list[str | None]) -> str:
    rows = [{"item_id": f"item-{n}", "response": text} for n, text in enumerate(texts)]
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return name


@pytest.fixture
def files() -> tuple[str, ...]:
    """Arguments: two response files on twelve items; the first is the better one."""
    write_items(Path("tea.jsonl"), items())
    good = responses("good.jsonl", [f"A good answer to {n}." for n in range(N)])
    bad = responses("bad.jsonl", [f"A bad answer to {n}." for n in range(N)])
    return ("judge", good, bad, "--suite", "tea.jsonl")


def run(capsys: pytest.CaptureFixture[str], *argv: str, code: int = 0) -> Any:
    capsys.readouterr()
    assert main([*argv, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def match(document: Any, judge: str | None = None) -> Any:
    found = [m for m in document["matches"] if judge in {None, m["judge"]}]
    assert len(found) == 1
    return found[0]


def text_of(call: Call) -> str:
    """What the judge is shown."""
    return str(call.body["messages"][-1]["content"])


def better(text: str) -> str:
    """The name of the place where the good answer stands."""
    return (
        "response_a" if text.index("A good answer") < text.index("A bad answer") else "response_b"
    )


def likes_good(call: Call) -> Act:
    return ok(better(text_of(call)))


def judge_at(server: OpenAIServer) -> tuple[str, str]:
    return "--judge", f"openai:judge@{server.url}"


def test_two_response_files_by_a_judge_that_sees_the_difference(
    files: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with OpenAIServer(likes_good) as server:
        document = run(capsys, *files, *judge_at(server))
        assert server.chats == 2 * N
        found = match(document)
        assert (found["wins"], found["ties"], found["losses"], found["n"]) == (N, 0, 0, N)
        assert found["win_rate_strict"]["value"] == 100
        assert found["net_win_rate"]["significant"] is True
        assert found["position_flips"] == 0
        assert found["protocol"] == "pairwise"
        assert "orders:both-agree" in found["signature"]
        [judge] = document["judges"]
        assert (judge["calls"], judge["cost"]) == (2 * N, 0.0)
        example = document["differ_most"][0]
        assert example["winner"] == "A"
        assert [r["reply"] for r in example["said"][0]["replies"]] == ["response_a", "response_b"]
        again = run(capsys, *files, *judge_at(server))
        assert server.chats == 2 * N  # nothing is paid for twice
        assert again["matches"] == document["matches"]
    # Not even the server is needed for what was judged.
    assert run(capsys, *files, "--judge", judge["spec"])["matches"] == document["matches"]


@pytest.mark.parametrize("protocol", ["rubric", "pairwise"])
def test_after_the_parser_changed_a_plain_rerun_reads_the_kept_replies_and_calls_nobody(
    files: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    protocol: str,
) -> None:
    reply = "response_a" if protocol == "pairwise" else "4"
    with OpenAIServer(ok(reply)) as server:
        argv = (*files, *judge_at(server), "--protocol", protocol)
        assert match(run(capsys, *argv))["ties"] == N
        asked = server.chats
        assert asked == (2 * N if protocol == "pairwise" else 4 * N)
        # The next parser reads every reply otherwise.
        monkeypatch.setattr("mipo_eval.judges.judge.PARSER_VERSION", "next")
        monkeypatch.setattr("mipo_eval.judges.judge.parse_rating", lambda *_, cut: 2)
        monkeypatch.setattr("mipo_eval.judges.judge.parse_choice", lambda _, *, cut: "b")
        assert match(run(capsys, *argv))["ties"] == N
        assert server.chats == asked
    table, value = (
        (choices, choices.c.winner) if protocol == "pairwise" else (verdicts, verdicts.c.rating)
    )
    by = (table.c.judge_key, value)
    with Store.open("store.db", mode="read") as store, store.read() as connection:
        found = connection.execute(sa.select(*by, sa.func.count()).group_by(*by)).all()
    # What the old parser read stays, under its own key.
    assert len({key for key, _, _ in found}) == 2
    told = {(said, n) for _, said, n in found}
    assert told == ({("a", N), ("b", N)} if protocol == "pairwise" else {(4, asked), (2, asked)})


def test_the_table_says_who_is_better_and_what_the_judge_said(
    files: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with OpenAIServer(likes_good) as server:
        assert main([*files, *judge_at(server)]) == 0
        shown = capsys.readouterr().out
        for part in (
            "A  responses in good.jsonl",
            "B  responses in bad.jsonl",
            "tea: A against B, 12 items",
            "A is better (%)",
            "100.0 [",
            "*: told apart at 5 %",
            "Where A and B differ most",
            "item-0: A is better",
            "A shown first: response_a, which means A",
            "judge: 24 calls, 288 tokens, $0.0000",
        ):
            assert part in shown


def test_a_judge_of_places_only_flips(
    files: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with OpenAIServer(ok("response_a")) as server:
        document = run(capsys, *files, *judge_at(server))
    found = match(document)
    assert (found["wins"], found["ties"], found["position_flip_rate"]) == (0, N, 100.0)
    assert document["differ_most"] == []


def test_three_judges_and_their_panel(
    files: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    likes_bad = {"response_a": "response_b", "response_b": "response_a"}
    with (
        OpenAIServer(likes_good) as one,
        OpenAIServer(lambda call: ok(likes_bad[better(text_of(call))])) as two,
        OpenAIServer(likes_good) as three,
    ):
        argv = (*files, *judge_at(one), *judge_at(two), *judge_at(three))
        document = run(capsys, *argv, "--panel", "majority")
        *single, panel = document["matches"]
        assert [m["wins"] for m in single] == [N, 0, N]
        assert (panel["judge"], panel["wins"]) == ("panel (majority)", N)
        assert "panel:majority" in panel["signature"]
        assert panel["judge_key"] is None
        *single, sample = run(capsys, *argv, "--panel", "sample")["matches"]
        mean = sum(match["win_rate_strict"]["value"] for match in single) / len(single)
        assert sample["win_rate_strict"]["value"] == pytest.approx(mean)
        assert sample["judge"] == "panel (sample)"
        # Judges that contradict each other say nothing of what a fourth would say.
        assert sample["win_rate_strict"]["ci95"] == [0, 100]
        document = run(capsys, *argv[:-2], "--panel", "mean")
        assert document["matches"][-1]["ties"] == N
    assert main([*files, "--judge", "checker", "--panel", "mean"]) == 2
    assert "--panel needs two judges or more" in capsys.readouterr().err


def test_ratings_compare_and_name_the_preferences(
    files: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    def rates(call: Call) -> Act:
        text = text_of(call)
        return ok("5" if "A good answer" in text and "easy words" in text else "3")

    with OpenAIServer(rates) as server:
        argv = (*files, *judge_at(server), "--protocol", "rubric")
        document = run(capsys, *argv)
        assert server.chats == 4 * N
        assert main([*argv]) == 0
    found = match(document)
    assert (found["wins"], found["position_flips"]) == (N, None)
    assert found["rating_difference"]["value"] == 1.0
    [gap] = document["preference_gaps"]
    assert (gap["preference"], gap["n"], gap["A"], gap["B"]) == ("Use easy words.", N, 5.0, 3.0)
    assert document["differ_most"][0]["said"][0]["ratings"][1] == {
        "preference": "Use easy words.",
        "A": 5,
        "B": 3,
    }
    shown = capsys.readouterr().out
    assert "largest differences by preference" in shown
    assert "[judge] A 5, B 3: Use easy words." in shown


def test_what_cannot_be_compared_is_counted_with_its_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_items(Path("tea.jsonl"), items())
    good: list[str | None] = [f"A good answer to {n}." for n in range(N)]
    good[0], good[1] = None, "  "
    responses("good.jsonl", good)
    responses("bad.jsonl", [*[f"A bad answer to {n}." for n in range(N - 2)], "same"])
    good[10] = "same"
    responses("good.jsonl", good)

    def judge(call: Call) -> Act:
        text = text_of(call)
        if "number 4?" in text:
            return refusal()
        if "number 5?" in text:
            return ok("Both have merit.")
        return likes_good(call)

    with OpenAIServer(judge) as server:
        argv = ("judge", "good.jsonl", "bad.jsonl", "--suite", "tea.jsonl", *judge_at(server))
        found = match(run(capsys, *argv))
        asked = server.chats
        assert asked == 2 * 8  # neither what is missing nor what is the same
        assert found["unscored_reasons"] == {
            "A: no response in good.jsonl": 1,
            "A: empty response": 1,
            "B: not in bad.jsonl": 1,
            "call failed: refused": 1,
            "unparsable reply": 1,
        }
        assert (found["n"], found["wins"], found["ties"], found["identical"]) == (7, 6, 1, 1)
        assert match(run(capsys, *argv)) == found
        assert server.chats == asked + 2  # only the refused pair is asked again


AT_FIRST = {
    0: [broken(), broken(503)],
    3: [cut_off()],
    4: [openai_server.too_many(retry_after=0)],
    5: [openai_server.too_many()],
    6: [openai_server.invalid_json()],
    7: [openai_server.hang_up()],
}
"""What a hostile server does to the first tries of each question about an item."""
ALWAYS = {1: openai_server.no_choices(), 2: openai_server.filtered()}


def hostile() -> Callable[[Call], Act]:
    """Return a judge that misbehaves by item."""
    seen: Counter[str] = Counter()

    def judge(call: Call) -> Act:
        text = text_of(call)
        number = int(text.partition("tea number ")[2].partition("?")[0])
        acts = AT_FIRST.get(number, [])[seen[text] :]
        seen[text] += 1
        return ALWAYS.get(number) or (acts[0] if acts else likes_good(call))

    return judge


FAST = (
    "limits: {attempts: 5, first_wait: 0.01, longest_wait: 0.02, concurrency: 4, "
    f"timeout: {HANG}}}\n"
)


def preset(name: str, backend: str, more: str = "") -> str:
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).write_text(f"description: mine\nbackend: {backend}\n{FAST}{more}")
    return name


def test_every_item_ends_judged_or_counted_at_a_server_that_misbehaves(
    files: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with OpenAIServer(hostile()) as server:
        mine = preset("mine.yaml", f"openai:judge@{server.url}")
        found = match(run(capsys, *files, "--judge", mine))
        again = sum(len(acts) for acts in AT_FIRST.values())
        assert server.chats == 2 * (N - 2 + again + 5 + 1)  # five tries, and one of a refusal
    assert found["unscored_reasons"] == {"call failed: bad_reply": 1, "call failed: refused": 1}
    assert (found["n"], found["wins"]) == (10, 10)


def test_gemini_blocks_and_empty_candidates_are_reasons(
    files: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    def judge(call: Call) -> Act:
        text = str(call.body["contents"][-1]["parts"][0]["text"])
        if "number 7?" in text:
            return gemini_server.blocked_prompt()
        if "number 8?" in text:
            return gemini_server.blocked_answer()
        if "number 9?" in text:
            return gemini_server.no_candidates()
        return gemini_server.ok(better(text))

    with GeminiServer(judge) as server:
        mine = preset("mine.yaml", f"gemini:judge@{server.url}")
        argv = (*files, "--judge", mine)
        found = match(run(capsys, *argv))
        assert server.chats == 2 * (N - 3 + 1 + 1 + 5)
        assert match(run(capsys, *argv)) == found
        assert server.chats == 2 * (N - 3 + 2 * (1 + 1 + 5))  # only what failed
    assert found["n"] == 9
    assert found["unscored_reasons"] == {"call failed: refused": 2, "call failed: bad_reply": 1}


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (Policy(key="other"), "asks for a key: set MIPO_EVAL_KEY_127_0_0_1_"),
        (Policy(models=("llama",)), "does not serve 'judge'; it serves: llama"),
    ],
)
def test_a_judge_that_cannot_be_asked_is_one_line_before_any_call(
    files: tuple[str, ...], capsys: pytest.CaptureFixture[str], policy: Policy, message: str
) -> None:
    for protocol in ("pairwise", "rubric"):
        with OpenAIServer(policy=policy) as server:
            assert main([*files, *judge_at(server), "--protocol", protocol]) == 2
            assert server.chats == 0
        assert message in capsys.readouterr().err


def test_a_key_that_expires_half_way_leaves_the_rest_unscored(
    files: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    expired = True

    def judge(call: Call) -> Act:
        return openai_server.expired_key() if expired and call.number >= 8 else likes_good(call)

    with OpenAIServer(judge) as server:
        mine = preset("mine.yaml", f"openai:judge@{server.url}")
        found = match(run(capsys, *files, "--judge", mine, code=2))  # most of it failed
        assert 8 < server.chats <= 12  # what was in flight; nothing is sent to a dead server
        assert set(found["unscored_reasons"]) == {"call failed: auth"}
        assert found["n"] + found["unscored"] == N
        expired, before = False, server.chats
        assert match(run(capsys, *files, "--judge", mine))["wins"] == N
        assert server.chats == before + 2 * N - 8


@pytest.mark.parametrize("protocol", ["pairwise", "rubric"])
def test_a_judge_that_cannot_work_says_why_in_the_servers_words(
    files: tuple[str, ...], capsys: pytest.CaptureFixture[str], protocol: str
) -> None:
    sentence = "The project of this key may not use the model `judge`."
    with OpenAIServer(openai_server.error(400, sentence)) as server:
        argv = [*files, *judge_at(server), "--protocol", protocol]
        capsys.readouterr()
        assert main(argv) == 2
        shown = capsys.readouterr()
        line = f"judge: calls for 12 of 12 failed: {server.url} answered 400: {sentence}"
        assert line in shown.out.replace("\n", " ")
        assert f"mipo-eval: {line}; repeat the command to ask again\n" in shown.err
        assert run(capsys, *argv, code=2)["unanswered"] == [line]


def test_a_setting_that_the_server_does_not_take_stands_in_every_signature(
    files: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    policy = Policy(unsupported=("temperature",))
    with OpenAIServer(likes_good, policy=policy) as server:
        argv = [*files, *judge_at(server)]
        found = match(run(capsys, *argv))
        assert found["wins"] == N
        assert "|settings:temperature=default|" in found["signature"]
        asked = server.count("/chat/completions")
        assert match(run(capsys, *argv)) == found  # also where nothing is asked any more
        assert server.count("/chat/completions") == asked


@pytest.mark.parametrize("where", [".", "elsewhere"])
def test_a_users_preset_and_prompt_work_from_any_folder(
    files: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    where: str,
) -> None:
    home = Path.cwd()
    with OpenAIServer(likes_good) as server:
        more = "protocol: pairwise\nprompt: mine.txt\n"
        mine = Path(preset("presets/mine.yaml", f"openai:judge@{server.url}", more))
        text = "{query} {criteria} Which? {response_a} {response_b} {mark}"
        mine.with_name("mine.txt").write_text(text)
        Path(where).mkdir(exist_ok=True)
        monkeypatch.chdir(where)
        named = os.path.relpath(home / mine)
        command, good, bad, flag, suite = files
        argv = (command, str(home / good), str(home / bad), flag, str(home / suite))
        found = match(run(capsys, *argv, "--judge", named))
        assert (found["judge"], found["wins"]) == ("mine", N)
        assert "Which?" in text_of(server.calls[-1])
        assert main([*argv, "--judge", named, "--protocol", "rubric"]) == 2
        assert "has a prompt for the protocol pairwise" in capsys.readouterr().err
    # The main job rates: it says where to go with a judge that chooses.
    main_job = ["--model", "lm-eval:dummy", "--suite", str(home / suite), "--judge", named]
    assert main(main_job) == 2
    assert "mipo-eval judge MODEL reference --suite S" in capsys.readouterr().err


def test_models_runs_and_references_enter_alike(
    tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_items(Path("tea.jsonl"), items(4))

    def prefers_drinks(call: Call) -> Act:
        text = text_of(call)
        return ok("response_a" if "is a drink" in text.partition("called response_b")[0] else "b")

    with OpenAIServer(ok("Served.")) as model, OpenAIServer(prefers_drinks) as judge:
        served, suite = f"openai:judge@{model.url}", ("--suite", "tea.jsonl")
        argv = ("--decoding", "max_tokens=4", *judge_at(judge))
        first = run(capsys, "judge", str(tiny_model), served, "reference", *suite, *argv)
        assert model.chats == 4  # what is missing is generated
        assert [m["second"] for m in first["matches"]] == ["B", "C"]
        assert first["matches"][1]["losses"] == 4
        assert all(m["net_win_rate"]["p_adjusted"] is not None for m in first["matches"])
        ids = [entrant["run_id"] for entrant in first["entrants"]]
        assert ids[2] is None
        again = run(capsys, "judge", ids[0][:8], "reference", *argv[2:])
        assert again["suite"] == "tea"
        assert again["matches"][0]["losses"] == 4
        assert model.chats == 4
        assert main(["judge", ids[0][:8], str(tiny_model), *suite, *argv]) == 2
        assert "has exactly the same responses as" in capsys.readouterr().err
        # It is a run of the main job, and finished.
        job = ("--model", served, *suite, "--decoding", "max_tokens=4")
        shown = run(capsys, "show", ids[1])["scores"]
        document = run(capsys, *job)
        assert document["run_id"] == ids[1]
        assert {s["signature"] for s in shown} == {s["signature"] for s in document["scores"]}
        assert main(["store", "check"]) == 0
        assert "unfinished" not in capsys.readouterr().out


def test_the_checker_chooses_by_its_ratings(capsys: pytest.CaptureFixture[str]) -> None:
    chosen = list(islice(load_source("demo", Path(), "test"), 6))
    for name, texts in (
        ("references.jsonl", [item.reference for item in chosen]),
        ("nothing.jsonl", ["I do not know."] * 6),
    ):
        rows = [
            {"item_id": item.item_id, "response": text}
            for item, text in zip(chosen, texts, strict=True)
        ]
        Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    argv = ("judge", "references.jsonl", "nothing.jsonl", "--suite", "demo", "--limit", "6")
    found = match(run(capsys, *argv, "--protocol", "pairwise"))
    assert (found["judge"], found["protocol"], found["wins"]) == ("checker", "rubric", 6)


def priced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a local judge charge a thousand dollars a million tokens of its replies."""
    table = "as_of: 2026-01-01\nmodels: {judge: {input: 0, output: 1000}}\n"
    Path("prices.yaml").write_text(table)
    monkeypatch.setenv(settings.PRICES, str(Path("prices.yaml").absolute()))


PAID, MOST = 0.001, 0.016
"""What a call costs then, with a reply of one token; and with the longest that is allowed."""


def test_the_limit_on_the_cost_stops_before_it_is_exceeded_and_is_shared_by_judges(
    files: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    priced(monkeypatch)
    with OpenAIServer(likes_good) as one, OpenAIServer(likes_good) as two:
        argv = [*files, *judge_at(one), *judge_at(two)]
        limit = 30.5 * PAID + MOST
        assert main([*argv, "--max-cost", f"{limit}"]) == 2
        error = capsys.readouterr().err
        assert (one.chats, two.chats) == (2 * N, 31 - 2 * N)  # one more might cost too much
        assert f"the limit of ${limit:g} is reached: $0.0310 are spent" in error
        assert "the same command with a higher --max-cost goes on from there" in error
        assert error.strip().splitlines()[-1].startswith("mipo-eval: ")
        document = run(capsys, *argv, "--max-cost", "100")
        assert (one.chats, two.chats) == (2 * N, 2 * N)  # nothing again of what was stored
        costs = [judge["cost"] for judge in document["judges"]]
        assert costs == pytest.approx([0, (4 * N - 31) * PAID])
        assert [m["wins"] for m in document["matches"]] == [N, N]


def test_the_limit_on_the_cost_holds_for_the_main_job(
    tiny_model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    priced(monkeypatch)
    write_items(Path("tea.jsonl"), items())
    argv = ["--model", str(tiny_model), "--suite", "tea.jsonl", "--decoding", "max_tokens=4"]
    with OpenAIServer(ok("3")) as server:
        argv += judge_at(server)
        assert main([*argv, "--max-cost", f"{9.5 * PAID + MOST}"]) == 2
        assert "is reached: $0.0100 are spent" in capsys.readouterr().err
        assert server.chats == 10
        scores = run(capsys, *argv, "--max-cost", "200")["scores"]
        assert server.chats == 4 * N
    assert {s["unscored"] for s in scores} == {0}


def test_a_limit_needs_a_price(files: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    argv = [*files, "--judge", "openai:unheard-of@https://example.com/v1", "--max-cost", "1"]
    assert main(argv) == 2
    assert "name that file in MIPO_EVAL_PRICES" in (capsys.readouterr().err)


def by_line(body: Any) -> dict[str, Any]:
    return completion(better(str(body["messages"][-1]["content"])))


def test_openai_batches_judge_at_half_the_price(
    files: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    priced(monkeypatch)
    batches = openai_server.Batches(by_line, looks=0)
    with OpenAIServer(batches=batches) as server:
        argv = (*files, *judge_at(server), "--batch")
        document = run(capsys, *argv, "--max-cost", "100")
        assert (server.chats, len(batches.batches)) == (0, 1)
        assert document["judges"][0]["cost"] == pytest.approx(2 * N * PAID / 2)
        assert match(document)["wins"] == N
        assert match(run(capsys, *argv)) == match(document)
        assert len(batches.batches) == 1
        # What a batch has answered is known without one, too.
        assert match(run(capsys, *argv[:-1])) == match(document)
        assert server.chats == 0


def test_a_batch_holds_what_the_limit_on_the_cost_allows(
    files: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    priced(monkeypatch)
    batches = openai_server.Batches(by_line, looks=0)
    with OpenAIServer(batches=batches) as server:
        argv = [*files, *judge_at(server), "--batch", "--store", "killed.db"]
        assert main([*argv, "--max-cost", f"{10.5 * MOST / 2}"]) == 2
        assert "goes on from there" in capsys.readouterr().err
        asked = [len(batches.files[b["input_file_id"]].splitlines()) for b in _all(batches)]
        assert asked == [10]
        assert stored(choices) == 10
        assert match(run(capsys, *argv, "--max-cost", "1"))["wins"] == N
        asked = [len(batches.files[b["input_file_id"]].splitlines()) for b in _all(batches)]
        assert asked == [10, 2 * N - 10]


def _all(batches: openai_server.Batches) -> list[dict[str, Any]]:
    return list(batches.batches.values())


def test_gemini_batches_judge(files: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    def reply(body: Any) -> dict[str, Any]:
        text = str(body["contents"][-1]["parts"][0]["text"])
        return {"response": gemini_server.answer(better(text))}

    with GeminiServer(batches=gemini_server.Batches(reply, looks=0)) as server:
        argv = (*files, "--judge", f"gemini:judge@{server.url}", "--batch")
        assert match(run(capsys, *argv))["wins"] == N
        assert server.chats == 0


def test_the_main_job_rates_through_batches(
    tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_items(Path("tea.jsonl"), items(4))
    batches = openai_server.Batches(lambda _: completion("3"), looks=0)
    argv = ("--model", str(tiny_model), "--suite", "tea.jsonl", "--decoding", "max_tokens=4")
    with OpenAIServer(batches=batches) as server:
        scores = run(capsys, *argv, *judge_at(server), "--batch")["scores"]
        assert server.chats == 0
    assert {s["value"] for s in scores if s["metric"] == "rating_mean"} == {3.0}


def start(*argv: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "mipo_eval", *argv]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)


def stored(table: sa.Table) -> int:
    if not Path("killed.db").exists():
        return 0
    with Store.open("killed.db") as store, store.read() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_duel_continues_where_it_was(
    capsys: pytest.CaptureFixture[str], how: signal.Signals
) -> None:
    count = 150
    write_items(Path("tea.jsonl"), items(count))
    for name in ("good", "bad"):
        responses(f"{name}.jsonl", [f"A {name} answer to {n}." for n in range(count)])

    def stalling(call: Call) -> Act:
        waits = call.number >= 100 and not killed.is_set()
        return openai_server.slow(HANG if waits else 0.0, better(text_of(call)))

    killed = threading.Event()
    with OpenAIServer(stalling) as server:
        mine = preset("mine.yaml", f"openai:judge@{server.url}")  # four at once
        argv = ("judge", "good.jsonl", "bad.jsonl", "--suite", "tea.jsonl", "--judge", mine)
        process = start(*argv, "--store", "killed.db")
        # 100 are answered and the next four never will be.
        wait_until(lambda: server.in_flight == 4 and stored(calls) >= 64, what="a stall")
        process.send_signal(how)
        _, error = process.communicate(timeout=HANG)
        killed.set()
        assert process.returncode == (130 if how is signal.SIGINT else -how)
        kept, sent = stored(calls), server.chats
        assert 64 <= kept < 2 * count
        if how is signal.SIGINT:
            assert b"repeat the command to continue" in error
            assert (kept, sent) == (100, 104)  # only what was in flight is lost
        found = match(run(capsys, *argv, "--store", "killed.db"))
        assert server.chats == sent + 2 * count - kept
    assert (found["wins"], found["n"], found["unscored"]) == (count, count, 0)
    assert stored(choices) == 2 * count


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_batch_is_collected_by_a_later_process(
    files: tuple[str, ...], capsys: pytest.CaptureFixture[str], how: signal.Signals
) -> None:
    batches = openai_server.Batches(by_line, looks=10**6)
    with OpenAIServer(batches=batches) as server:
        argv = (*files, *judge_at(server), "--batch", "--store", "killed.db")
        process = start(*argv)
        wait_until(lambda: bool(batches.batches), what="a batch")
        process.send_signal(how)
        process.communicate(timeout=HANG)
        assert process.returncode == (130 if how is signal.SIGINT else -how)
        batches.end("batch_0")
        assert match(run(capsys, *argv))["wins"] == N
        assert len(batches.batches) == 1  # nothing was submitted again


def test_choices_are_kept_with_their_calls(
    files: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with OpenAIServer(likes_good) as server:
        document = run(capsys, *files, *judge_at(server))
    with Store.open(settings.store_url()) as store, store.read() as connection:
        rows = [Choice(**row._mapping) for row in connection.execute(sa.select(choices))]
        known = set(connection.execute(sa.select(calls.c.call_key)).scalars())
    assert len(rows) == 2 * N
    assert {row.judge_key for row in rows} == {document["judges"][0]["judge_key"]}
    assert {row.call_key for row in rows} == known
    assert {(row.shown_first, row.winner) for row in rows} == {("a", "a"), ("b", "a")}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["good.jsonl"], "two entrants or more"),
        (["good.jsonl", "bad.jsonl"], "suite tea has no judge of its own"),
        (["good.jsonl", "no.jsonl", "--judge", "checker"], "there is no response file at no.jsonl"),
        (["good.jsonl", "abcd", "--judge", "checker"], "no run 'abcd'"),
        (["good.jsonl", "./x", "--judge", "checker"], "there is no checkpoint at ./x"),
        (["good.jsonl", "mine", "--judge", "checker"], "'mine' is not an entrant: name a run of"),
        (["good.jsonl", "good.jsonl", "--judge", "checker"], "has exactly the same responses as"),
        (["good.jsonl", "bad.jsonl", "--judge", "oracle"], "unknown judge 'oracle'"),
        (["good.jsonl", "bad.jsonl", "--judge", "checker", "--batch"], "has no batch service"),
        (["good.jsonl", "bad.jsonl", "--judge", "family"], "and good.jsonl is neither"),
        (["good.jsonl", "bad.jsonl", "--judge", "none.yaml"], "none.yaml cannot be read"),
    ],
)
def test_bad_input_is_one_clear_line(
    files: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
    argv: list[str],
    message: str,
) -> None:
    assert main(["judge", *argv, "--suite", "tea.jsonl"]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""


def test_an_item_that_says_no_wish_is_not_judged(capsys: pytest.CaptureFixture[str]) -> None:
    plain = items(2)[0].model_copy(update={"preferences": ()})
    write_items(Path("tea.jsonl"), [plain, items(2)[1]])
    for name in ("good", "bad"):
        responses(f"{name}.jsonl", [f"A {name} answer to {n}." for n in range(2)])

    def judge(call: Call) -> Act:
        return likes_good(call) if "called response_b" in text_of(call) else ok("4")

    with OpenAIServer(judge) as server:
        argv = ("judge", "good.jsonl", "bad.jsonl", "--suite", "tea.jsonl", *judge_at(server))
        for protocol in ("pairwise", "rubric"):
            found = match(run(capsys, *argv, "--protocol", protocol))
            assert found["unscored_reasons"]["item has no preferences"] == 1
            net = found["net_win_rate"]
            assert net is None or net["ci95"] is None  # a single item
        assert server.chats == 2 + 4


def test_a_limit_holds_for_the_items_of_a_run_too(
    files: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with OpenAIServer(likes_good) as server:
        ids = [e["run_id"] for e in run(capsys, *files, *judge_at(server))["entrants"]]
        argv = ("judge", ids[0][:8], ids[1][:8], "--limit", "5", *judge_at(server))
        document = run(capsys, *argv)
        assert server.chats == 2 * N
    assert (document["n_items"], match(document)["wins"]) == (5, 5)


def test_a_suite_is_needed_unless_a_run_tells_it(
    files: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["judge", "good.jsonl", "bad.jsonl", "--judge", "checker"]) == 2
    assert "name them with --suite" in capsys.readouterr().err
    assert main(["judge", "good.jsonl", "bad.jsonl", "--suite", "math"]) == 2
    assert "compare the runs with mipo-eval compare" in capsys.readouterr().err


@pytest.fixture
def many() -> tuple[str, ...]:
    """Arguments: two response files on 240 items, the first is the better one; judged at will."""
    write_items(Path("tea.jsonl"), items(240))
    good = responses("good.jsonl", [f"A good answer to {n}." for n in range(240)])
    bad = responses("bad.jsonl", [f"A bad answer to {n}." for n in range(240)])
    return ("judge", good, bad, "--suite", "tea.jsonl", "--until-decided")


def test_judging_stops_when_it_is_decided_and_says_what_was_not_asked(
    many: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with OpenAIServer(likes_good) as server:
        argv = (*many, *judge_at(server))
        document = run(capsys, *argv)
        found = match(document)
        stopped = found["stopped"]
        assert stopped["decided"] == "A"
        assert server.chats == 2 * found["n"] < 2 * 240
        assert found["unscored_reasons"] == {"not asked: decided early": 240 - found["n"]}
        assert stopped["not_asked"] == 240 - found["n"]
        assert (stopped["groups"], stopped["groups_of_suite"]) == (found["n"] // 2, 120)
        low, high = found["net_win_rate"]["ci95"]
        assert 0 < low < high == 100
        net = found["net_win_rate"]
        assert (net["p_sign"], net["detectable_difference"]) == (None, None)
        assert net["p_permutation"] < 0.05
        assert "stop:decided" in found["signature"]
        asked = server.chats
        assert run(capsys, *argv)["matches"] == document["matches"]
        assert server.chats == asked  # the same command stops at the same look
        assert main([*argv]) == 0
        shown = capsys.readouterr().out
        assert "[95 % confidence sequence]" in shown
        assert f"A is better after {stopped['groups']} of 120 groups" in shown
        assert "at any stop" in shown
        assert "could have shown" not in shown
        # Without the option the rest is asked, and what is known is not asked again.
        assert match(run(capsys, *argv[:5], *judge_at(server)))["n"] == 240
        assert server.chats == 2 * 240


def test_a_margin_lets_judging_stop_where_nobody_is_better(
    many: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with OpenAIServer(ok("response_a")) as server:  # in both places: a tie
        found = match(run(capsys, *many, *judge_at(server), "--margin", "25"))
        assert found["stopped"]["decided"] == "equivalent"
        assert found["n"] < 240
        assert found["net_win_rate"]["margin"]["finding"] == "equivalent"
        low, high = found["net_win_rate"]["ci95"]
        assert -25 < low < high < 25
        assert main([*many, *judge_at(server), "--margin", "25"]) == 0
        assert "equivalent within \u00b125 after" in " ".join(capsys.readouterr().out.split())
        open_end = match(run(capsys, *many, *judge_at(server)))
    assert (open_end["stopped"]["decided"], open_end["n"]) == (None, 240)
    assert open_end["net_win_rate"]["margin"] is None


def test_a_stopped_command_goes_on_to_the_same_look(
    many: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    priced(monkeypatch)
    with OpenAIServer(likes_good) as server:
        argv = (*many, *judge_at(server))
        whole = match(run(capsys, *argv, "--store", "whole.db"))
        asked = server.chats
        assert main([*argv, "--max-cost", f"{20.5 * PAID + MOST}"]) == 2
        assert "is reached: $0.0210 are spent" in capsys.readouterr().err
        assert server.chats == asked + 21
        assert match(run(capsys, *argv)) == whole
        assert server.chats == 2 * asked  # nothing again of what was stored


def test_a_margin_is_tested_beside_the_net_win_rate(
    files: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with OpenAIServer(likes_good) as server:
        argv = (*files, *judge_at(server), "--margin", "10")
        margin = match(run(capsys, *argv))["net_win_rate"]["margin"]
        assert margin["finding"] == "first not worse"
        # Six groups, all won: were they worse by 10 points, each would be lost in 55 of 100.
        assert margin["p_first_not_worse"] == pytest.approx(0.45**6)
        assert margin["p_second_not_worse"] == margin["p_equivalent"] == 1
        assert main([*argv]) == 0
    assert "A not worse by 10 (p 0.008)" in capsys.readouterr().out


def test_a_judge_that_rates_stops_for_each_opponent_on_its_own(
    many: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    same = responses("same.jsonl", [f"Also a good answer to {n}." for n in range(240)])

    def rates(call: Call) -> Act:
        return ok("2" if "A bad answer" in text_of(call) else "4")

    with OpenAIServer(rates) as server:
        argv = (*many[:3], same, *many[3:], *judge_at(server), "--protocol", "rubric")
        better_one, alike = run(capsys, *argv)["matches"]
        alone = match(run(capsys, *many, *judge_at(server), "--protocol", "rubric"))
    assert (better_one["stopped"]["decided"], alike["stopped"]["decided"]) == ("A", None)
    assert alike["n"] == 240
    net = better_one["net_win_rate"]
    assert net["p_adjusted"] == 2 * net["p_permutation"] < 0.05
    # Two questions have 2.5 % each, so the first takes more than it would alone.
    assert alone["net_win_rate"]["p_permutation"] < 0.05
    assert alone["n"] <= better_one["n"] < 240
    assert better_one["rating_difference"]["value"] == 2.0
    low, high = better_one["rating_difference"]["ci95"]
    assert low < 2 < high < 4


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--panel", "mean", "--judge", "openai:b@http://127.0.0.1:1"), "leave one of --panel and"),
        (("--batch",), "a batch may take hours"),
        (("--margin", "0"), "0 is not in the range"),
    ],
)
def test_what_cannot_be_stopped_early_is_one_line(
    many: tuple[str, ...], more: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*many, "--judge", "openai:a@http://127.0.0.1:1", *more]) == 2
    error = capsys.readouterr().err
    assert message in " ".join(error.split())
    assert "Traceback" not in error
