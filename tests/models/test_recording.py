"""Responses are handed on while a chunk is at work, and what a killed process made is kept."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from mipo_eval.errors import StoreError
from mipo_eval.models.lm_eval import Decoding, LoadedModel, ModelOptions, load_model, load_task
from mipo_eval.models.recording import CompletionHook
from mipo_eval.models.spec import parse_model
from mipo_eval.records import Item, Response
from mipo_eval.store import Store
from mipo_eval.tasks.items import write_items
from tests.servers.http import Act, Call
from tests.servers.openai_server import OpenAIServer, ok
from tests.waiting import wait_until

ITEMS = [Item(item_id=f"i{n}", prompt=f"Say {'very ' * (n % 5)}much.") for n in range(20)]


def _load(name: str, decoding: Decoding, **options: Any) -> LoadedModel:
    return load_model(parse_model(name), ModelOptions(**options), decoding)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_each_batch_is_handed_on_before_the_next(tiny_model: Path, temperature: float) -> None:
    """With the texts that come out in the end, each once; equal prompts keep their items."""
    write_items(Path("items.jsonl"), ITEMS)
    decoding = Decoding(max_tokens=5, temperature=temperature)
    model = _load(str(tiny_model), decoding, batch_size=3)
    kept: list[list[Response]] = []
    task = load_task("mipo_items", {"source": "items.jsonl"}, decoding)
    returned = model.ask(task, range(20), kept.append)
    assert [len(batch) for batch in kept] == [3, 3, 3, 3, 3, 3, 2]
    by_item = {response.item_key: response for batch in kept for response in batch}
    assert [by_item[item.key] for item in ITEMS] == returned


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_each_token_of_a_batch_is_told(tiny_model: Path, temperature: float) -> None:
    """On a processor the first batch of a real model takes minutes."""
    write_items(Path("items.jsonl"), ITEMS)
    decoding = Decoding(max_tokens=5, temperature=temperature)
    model = _load(str(tiny_model), decoding, batch_size=10)
    task = load_task("mipo_items", {"source": "items.jsonl"}, decoding)
    told: list[str] = []
    responses = model.ask(task, range(20), beat=lambda: told.append(model.remark()))
    assert max(response.response_tokens or 0 for response in responses) == 5
    assert told == [f"token {n} of at most 5" for _ in range(2) for n in range(1, 6)]
    assert model.remark() == "", "nothing is at work"


def test_likelihoods_are_handed_on_too(tiny_model: Path) -> None:
    choices = ["Tea.", "Birds.", "Leaves."]
    questions = [
        Item(
            item_id=f"q{n}",
            prompt=f"What is {n}?",
            reference="A",
            meta={"kind": "choice", "choices": choices, "question": f"What is {n}?"},
        )
        for n in range(6)
    ]
    kept: list[list[Response]] = []
    model = _load(str(tiny_model), Decoding(), batch_size=3)
    write_items(Path("items.jsonl"), questions)
    task = load_task("mipo_arc_easy_texts", {"source": "items.jsonl"}, Decoding())
    returned = model.ask(task, range(6), kept.append)
    assert len(kept) > 1
    assert sorted((r for batch in kept for r in batch), key=lambda r: r.item_key) == sorted(
        returned, key=lambda r: r.item_key
    )
    assert [response.item_key for response in returned] == [item.key for item in questions]
    for response in returned:
        assert response.choice_logprobs is not None
        assert len(response.choice_logprobs) == 3
        likeliest = response.choice_logprobs.index(max(response.choice_logprobs))
        assert response.text == choices[likeliest]


def test_refused_prompts_are_handed_on(tiny_model: Path) -> None:
    write_items(Path("items.jsonl"), [Item(item_id="long", prompt="Why? " * 300)])
    decoding = Decoding(max_tokens=5)
    kept: list[Response] = []
    task = load_task("mipo_items", {"source": "items.jsonl"}, decoding)
    (response,) = _load(str(tiny_model), decoding).ask(task, [0], kept.extend)
    assert kept == [response]
    assert response.final


def test_a_cache_key_that_nobody_waits_for_is_left_alone() -> None:
    seen: list[Any] = []
    hook = CompletionHook(each=True)
    hook.begin(seen.append)
    hook.add_partial("generate_until", ("?", {}), "text")
    hook.flush()
    assert seen == []


KILLED = """
import os, signal, sys
from lm_eval.models.huggingface import HFLM
from mipo_eval.cli import main

whole, batches = HFLM._model_generate, []

def killed(self, *args, **kwargs):
    if len(batches) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    batches.append(whole(self, *args, **kwargs))
    return batches[-1]

HFLM._model_generate = killed
main(sys.argv[1:])
"""


def _start(code: str, *argv: str) -> "subprocess.Popen[bytes]":
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", code, *argv]
    with Path("log.txt").open("wb") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log)


def _stored() -> dict[str, Any]:
    import sqlalchemy as sa

    from mipo_eval.store.tables import responses

    with (
        suppress(StoreError),  # it is not there yet
        Store.open("store.db", mode="read") as store,
        store.read() as connection,
    ):
        rows = connection.execute(sa.select(responses.c.item_key, responses.c.created_at))
        return {row.item_key: row.created_at for row in rows}
    return {}


def test_a_killed_run_keeps_every_batch_but_the_one_in_flight(tiny_model: Path) -> None:
    write_items(Path("items.jsonl"), ITEMS)
    argv = ("--model", str(tiny_model), "--suite", "items.jsonl", "--store", "store.db")
    argv += ("--engine", "batch_size=4", "--decoding", "max_tokens=8")
    process = _start(KILLED, *argv)
    assert process.wait() == -signal.SIGKILL, Path("log.txt").read_text()
    kept = _stored()
    assert len(kept) == 12, "three batches of four, of a chunk of sixteen"
    again = _start("import sys; from mipo_eval.cli import main; main(sys.argv[1:])", *argv)
    assert again.wait() == 0, Path("log.txt").read_text()
    whole = _stored()
    assert whole.keys() == {item.key for item in ITEMS}
    assert {key: whole[key] for key in kept} == kept, "nothing was made twice"


def test_a_killed_run_keeps_every_answer_of_a_server() -> None:
    write_items(Path("items.jsonl"), ITEMS)
    asked: list[str] = []

    def answer(call: Call) -> Act:
        asked.append(str(call.body["messages"]))
        return ok("Yes.") if len(asked) <= 7 else Act(delay=3600)

    with OpenAIServer(answer) as server:
        argv = ("--model", f"openai:judge@{server.url}", "--suite", "items.jsonl")
        code = "import sys; from mipo_eval.cli import main; main(sys.argv[1:])"
        process = _start(code, *argv, "--store", "store.db")
        wait_until(lambda: len(_stored()) == 7 or process.poll() is not None, what="7 answers")
        process.kill()
        process.wait()
        assert len(_stored()) == 7, Path("log.txt").read_text()
