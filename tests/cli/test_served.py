"""Responses of served models: kept one by one, failures as states, paid once, of any provider."""

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from mipo_eval import settings
from mipo_eval.cli import main
from mipo_eval.evaluation.generate import draw_served
from mipo_eval.models.base import Limits
from mipo_eval.models.batch import OpenAIBatchBackend
from mipo_eval.models.effort import Effort
from mipo_eval.models.lm_eval import Decoding, load_task
from mipo_eval.models.lm_eval_served import ServedModel, serving
from mipo_eval.models.spec import parse_model
from mipo_eval.records import Item
from mipo_eval.store import Store
from mipo_eval.store.responses import put_generation, texts_of
from mipo_eval.store.runs import list_runs
from mipo_eval.store.tables import workers
from mipo_eval.tasks.items import write_items
from tests.servers import anthropic_server, gemini_server
from tests.servers.anthropic_server import AnthropicServer
from tests.servers.gemini_server import GeminiServer
from tests.servers.http import Act, Call
from tests.servers.openai_server import Batches, OpenAIServer, Policy, broken, completion, error, ok
from tests.waiting import wait_until

N = 20
ITEMS = [
    Item(
        item_id=f"i{n}",
        prompt=f"What is tea number {n}?",
        context="I am nine.",
        preferences=("Be short.",),
        reference=f"Tea number {n} is a drink.",
    )
    for n in range(N)
]
PRICED = "as_of: 2026-01-01\nmodels: {judge: {input: 0, output: 1000}}"
"""A response of 8 tokens costs at most 0.8 cents, and of one token 0.1."""


@pytest.fixture(autouse=True)
def items() -> None:
    write_items(Path("tea.jsonl"), ITEMS)


def _argv(server: OpenAIServer, *more: str) -> list[str]:
    argv = ["--model", f"openai:judge@{server.url}", "--suite", "tea.jsonl"]
    return [*argv, "--decoding", "max_tokens=8", *more]


def _ran(capsys: pytest.CaptureFixture[str], argv: list[str], code: int = 0) -> tuple[Any, str]:
    capsys.readouterr()
    assert main([*argv, "--json"]) == code
    told = capsys.readouterr()
    return json.loads(told.out) if told.out.startswith("{") else None, " ".join(told.err.split())


def _stored() -> dict[str, tuple[str | None, str | None]]:
    with Store.open(settings.store_url(), mode="read") as store:
        (run,) = list_runs(store)
        return texts_of(store, run.generation_key)


def _number(call: Call) -> int:
    return int(call.body["messages"][-1]["content"].partition("?")[0].rpartition(" ")[2])


def test_a_failure_is_a_state_of_its_item_and_asked_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    down = True

    def act(call: Call) -> Act:
        return error(400, "not this one") if down and _number(call) % 3 == 0 else ok("A drink.")

    with OpenAIServer(act) as server:
        document, told = _ran(capsys, _argv(server))
        assert Counter(_stored().values()) == {
            ("A drink.", None): N - 7,
            (None, "call failed: bad_request"): 7,
        }
        scores = {score["metric"]: score for score in document["scores"]}
        assert scores["self_bleu_4"]["unscored_reasons"] == {"call failed: bad_request": 7}
        assert f"calls for 7 of {N} items failed: {server.url} answered 400: not this one" in told
        down, asked = False, server.chats
        again, told = _ran(capsys, _argv(server))
        assert server.chats == asked + 7
        assert again["run_id"] == document["run_id"]
    assert {*_stored().values()} == {("A drink.", None)}
    assert "failed" not in told


def test_where_most_fails_the_command_does_and_keeps_the_rest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with OpenAIServer(lambda c: ok("A drink.") if _number(c) < 5 else error(400, "no")) as server:
        document, told = _ran(capsys, _argv(server), 2)
        line = f"calls for 15 of {N} items failed: {server.url} answered 400: no"
        assert document["unanswered"] == [f"openai:judge@{server.url}: {line}"]
    assert document["unanswered"][0] in told
    assert len([text for text, _ in _stored().values() if text]) == 5


def test_a_server_that_dies_ends_the_run_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    served = 0

    def act(call: Call) -> Act:
        nonlocal served
        served += 1
        return ok("A drink.") if served <= 6 else Act(drop=True)

    engine = ["--engine", "num_concurrent=2,max_retries=2"]
    with OpenAIServer(act) as server:
        _, told = _ran(capsys, _argv(server, *engine), 2)
        assert "what was answered is stored: the same command goes on from there" in told
        assert "Traceback" not in told
        assert Counter(text for text, _ in _stored().values())["A drink."] == 6
        served = -1000
        _ran(capsys, _argv(server, *engine))
    assert {*_stored().values()} == {("A drink.", None)}


def test_a_server_that_is_overloaded_is_asked_more_slowly(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with OpenAIServer([broken(), broken(429), *[ok("A drink.")] * 2]) as server:
        _ran(capsys, _argv(server))
        assert server.chats == N + 2
    assert {*_stored().values()} == {("A drink.", None)}


def test_generation_and_judging_are_paid_from_one_purse(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("prices.yaml").write_text(PRICED)
    monkeypatch.setenv(settings.PRICES, "prices.yaml")
    with OpenAIServer(ok("A drink.")) as model, OpenAIServer(ok("4")) as judge:
        argv = _argv(model, "--judge", f"openai:judge@{judge.url}", "--max-cost")
        _, told = _ran(capsys, [*argv, "0.016"], 2)
        assert "the limit of $0.016 is reached" in told
        assert "the same command with a higher --max-cost goes on from there" in told
        made = len(_stored())
        assert 0 < made == model.chats < N
        assert judge.chats == 0
        _, told = _ran(capsys, [*argv, "0.040"], 2)  # the rest of them, and some ratings
        assert model.chats == N
        assert 0 < judge.chats < 2 * N
        _, told = _ran(capsys, [*argv, "1"])
        assert (model.chats, judge.chats) == (N, 2 * N)
        argv[argv.index("openai:judge@" + model.url)] = "openai:other@https://llm.example.com/v1"
        _, told = _ran(capsys, [*argv, "1"], 2)
        assert "a limit on the cost needs the model's price" in told


def test_what_a_model_does_not_take_is_left_out_and_signed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    policy = Policy(unsupported=("temperature", "seed"))
    with OpenAIServer(ok("A drink."), policy=policy) as server:
        document, _ = _ran(capsys, _argv(server))
        asked = server.chats
        again, _ = _ran(capsys, _argv(server))
        assert server.chats == asked
    assert again == document
    for score in document["scores"]:
        assert "|model_settings:seed=none+temperature=default|" in score["signature"]


def test_a_model_is_served_by_any_provider(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its system prompt, and the keys of a run that judging has not."""
    for name in ("ANTHROPIC_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.setenv(name, "k")
    argv = ["--suite", "tea.jsonl", "--system", "Be kind.", "--decoding"]
    argv += ["max_tokens=8,temperature=0.5,top_p=0.9,top_k=5", "--model"]
    with AnthropicServer(anthropic_server.ok("Tea.")) as server:
        document, _ = _ran(capsys, [*argv, f"anthropic:judge@{server.address}"])
        body = next(call.body for call in server.calls if call.body)
    assert (body["system"], body["top_p"], body["top_k"]) == ("Be kind.", 0.9, 5)
    assert document["scores"]
    with GeminiServer(gemini_server.ok("Tea.")) as server:
        _ran(capsys, [*argv, f"gemini:judge@{server.address}"])
        body = next(call.body for call in server.calls if call.body)
    how = body["generationConfig"]
    assert (how["topP"], how["topK"], how["maxOutputTokens"]) == (0.9, 5, 8)
    assert body["systemInstruction"]["parts"][0]["text"] == "Be kind."
    assert main([*argv[:4], "--model", "gemini:x", "--decoding", "min_p=0.1"]) == 2
    assert "--decoding min_p: gemini:x does not support it" in capsys.readouterr().err


def test_one_at_no_known_server_says_what_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--model", "azure:mine", "--suite", "tea.jsonl"]) == 2
    assert "azure:mine@https://RESOURCE.openai.azure.com" in capsys.readouterr().err
    assert main(["--model", "openai:m", "--suite", "tea.jsonl", "--engine", "timeout=0"]) == 2
    assert "--engine timeout=0.0: it must be above 0" in capsys.readouterr().err


def test_a_batch_service_answers_equal_prompts_too() -> None:
    """Two items may have one prompt, and so one request; each of them has its response."""
    write_items(Path("twice.jsonl"), [*ITEMS[:3], ITEMS[0].model_copy(update={"item_id": "again"})])
    decoding = Decoding(max_tokens=8)
    spec = parse_model("openai:judge@https://llm.example.com/v1")
    assert isinstance(serving(spec, {}, batch=True), OpenAIBatchBackend)
    task = load_task("mipo_items", {"source": "twice.jsonl"}, decoding)
    batches = Batches(lambda body: completion(body["messages"][-1]["content"][:21]))
    with OpenAIServer(batches=batches) as server, Store.open("store.db") as store:
        backend = OpenAIBatchBackend("judge", server.url, limits=Limits(), poll_seconds=0.05)
        model = ServedModel(backend, decoding, effort=Effort())
        put_generation(store, "key", {})
        kept: list[int] = []
        asked = model.requests(task, range(4))
        asyncio.run(draw_served(store, "key", model, asked, kept.append))
        texts = {text for text, _ in texts_of(store, "key").values()}
        assert len(kept) == 4
        (file,) = [file for name, file in batches.files.items() if "output" not in name]
    assert texts == {f"What is tea number {n}?"[:21] for n in range(3)}
    assert len(file.splitlines()) == 3


_PROCESS = "import sys; from mipo_eval.cli import main; sys.exit(main(sys.argv[1:]))"


def _start(argv: list[str], name: str) -> "subprocess.Popen[bytes]":
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", _PROCESS, *argv]
    with Path(name).open("wb") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log)


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue("postgres_url") if request.param == "postgresql" else "r.db"
    return url


@pytest.mark.slow
def test_processes_share_a_run_and_outlive_one_that_is_killed(store_url: str) -> None:
    """Responses and ratings are paid once; twice only what the dead one had asked for."""
    held = True
    at_work: list[Call] = []

    def act(call: Call) -> Act:
        at_work.append(call)
        return Act(delay=3600) if held else ok("A drink.")

    with OpenAIServer(act) as model, OpenAIServer(ok("4")) as judge:
        argv = _argv(model, "--judge", f"openai:judge@{judge.url}", "--store", store_url)
        argv += ["--engine", "num_concurrent=4"]
        killed = _start(argv, "killed.txt")
        wait_until(lambda: len(at_work) == 4 or killed.poll() is not None, what="4 requests")
        killed.kill()
        killed.wait()
        assert len(at_work) == 4, Path("killed.txt").read_text()
        held = False
        others = [_start(argv, f"{n}.txt") for n in range(2)]
        wait_until(lambda: model.chats > 4, what="the others at work")
        with Store.open(store_url) as store:  # a minute later
            first = sa.select(sa.func.min(workers.c.until)).scalar_subquery()
            passed = sa.update(workers).where(workers.c.until == first)
            with store.write() as connection:
                connection.execute(passed.values(until=workers.c.until - 3600))
        for n, process in enumerate(others):
            assert process.wait() == 0, Path(f"{n}.txt").read_text()
        assert (model.chats, judge.chats) == (N + 4, 2 * N)
    with Store.open(store_url, mode="read") as store:
        (run,) = list_runs(store)
        assert {*texts_of(store, run.generation_key).values()} == {("A drink.", None)}
