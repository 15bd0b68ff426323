"""The scripted backend: replies in order, by prompt, by function, from a file."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from mipo_eval.errors import BackendError, DataError
from mipo_eval.models.base import Again, Failure, Message, Reply, Request, ScriptedBackend
from mipo_eval.models.spec import load_backend


def request(text: str) -> Request:
    return Request(messages=(Message(role="user", content=text),))


def texts(backend: ScriptedBackend, *prompts: str) -> list[str]:
    async def collect() -> list[str]:
        return [
            outcome.text if isinstance(outcome, Reply) else outcome.kind
            async for _, outcome in backend.answer(request(prompt) for prompt in prompts)
        ]

    return asyncio.run(collect())


def test_replies_in_order_and_failures_among_them() -> None:
    backend = ScriptedBackend(["4", Failure(kind="timeout", detail="slow"), Reply(text="2")])
    assert texts(backend, "a", "b") == ["4", "timeout"]
    assert texts(backend, "c") == ["2"]
    assert [asked.messages[0].content for asked in backend.asked] == ["a", "b", "c"]
    asyncio.run(backend.check())


def test_replies_by_prompt_and_by_function() -> None:
    assert texts(ScriptedBackend({"a": "1", "b": "2"}), "b", "a") == ["2", "1"]
    by_length = ScriptedBackend(lambda asked: str(len(asked.messages[0].content)))
    assert texts(by_length, "abc", "a") == ["3", "1"]


def test_a_script_that_runs_out_says_so() -> None:
    with pytest.raises(BackendError, match=r"no reply for request 2 \('b'"):
        texts(ScriptedBackend(["1"]), "a", "b")
    with pytest.raises(BackendError, match=r"no reply for request 1 \('z'"):
        texts(ScriptedBackend({"a": "1"}), "z")


def test_a_file_of_replies(tmp_path: Path) -> None:
    path = tmp_path / "replies.jsonl"
    path.write_text('{"reply": "4"}\n\n{"reply": "5"}\n', encoding="utf-8")
    backend = load_backend(f"scripted:{path}")
    assert isinstance(backend, ScriptedBackend)
    assert texts(backend, "a", "b") == ["4", "5"]
    path.write_text('{"prompt": "b", "reply": "4"}\n{"prompt": "a", "reply": "5"}\n')
    other = ScriptedBackend.from_file(path)
    assert texts(other, "a", "b") == ["5", "4"]
    assert other.identity != backend.identity


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("4\n", "line 1: is 4, not a JSON object"),
        ('{"reply": "4"}\n{"answer": "4"}\n', "line 2: needs"),
        ('{"reply": 4}\n', "line 1: needs"),
        ('{"reply": "4"\n', "line 1: is not JSON"),
        ('{"reply": "4"}\n{"prompt": "a", "reply": "4"}\n', "prompts must be on every line"),
        ('{"prompt": "a", "reply": "4"}\n{"prompt": "a", "reply": "3"}\n', "each only once"),
    ],
)
def test_a_bad_file_names_its_line(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "replies.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        ScriptedBackend.from_file(path)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(DataError, match=r"nowhere\.jsonl is not there"):
        load_backend("scripted:nowhere.jsonl")


def test_a_request_that_is_repeated_is_another_call_and_the_first_stays_what_it_was() -> None:
    identity, first = {"backend": "x"}, request("a")
    key = first.key(identity)
    assert key == "5b63d02f4f2dd21116198b57b96618e4"  # as in stores of earlier versions
    today, tomorrow = (replace(first, again=Again(key, day)) for day in ("today", "tomorrow"))
    assert len({key, today.key(identity), tomorrow.key(identity)}) == 3
    # What is drawn depends on the first, so that the same seed draws the same again.
    assert today.original_key(identity) == tomorrow.original_key(identity) == key
    assert (first.to_json().get("again"), today.to_json()["again"]) == (None, "today")
