"""Structured replies: what is accepted, what is said about the rest, asking again, the ledger."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mipo_eval.models import Failure, Message, Request
from mipo_eval.models.base import ScriptedBackend
from mipo_eval.store.engine import Store
from mipo_eval.tasks.preparation.extract import (
    Answer,
    Question,
    extract,
    parse_preferences,
    parse_statements,
)

GOOD = '{"tone": "Be warm."}'


@pytest.mark.parametrize(
    "reply",
    [
        GOOD,
        f"```json\n{GOOD}\n```",
        f"Here it is: {GOOD} I hope this helps!",
        f"{{wishes}} {GOOD}",
        '{"tone":\n "Be  warm.\\n"}',
    ],
)
def test_preferences(reply: str) -> None:
    assert parse_preferences(reply) == {"tone": "Be warm."}


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        ("", "no valid JSON object"),
        ("[1, 2]", "no valid JSON object"),
        ('{"tone": "Be', "no valid JSON object"),
        (f"{GOOD} or {GOOD}", "several objects"),
        ("{}", "it has 0 entries"),
        (json.dumps({f"a{n}": "b" for n in range(11)}), "it has 11 entries; write 1 to 10"),
        ('{"My Tone": "Be warm."}', "the key 'My Tone' is not in snake_case"),
        ('{"tone": 3}', "the value of 'tone' is not a text"),
        ('{"tone": " "}', "the value of 'tone' is not a text"),
        ('{"tone": "One. Two. Three."}', "has 3 sentences; at most two"),
    ],
)
def test_bad_preferences(reply: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_preferences(reply)


def test_abbreviations_end_no_sentence() -> None:
    reply = json.dumps({"examples": "Use examples, e.g. from life. Two, i.e. a pair, suffice."})
    assert parse_preferences(reply)


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        ('{"style": "I like it."}', r"its keys are \['style'\]; they must be \['style', 'depth'\]"),
        ('{"style": "I like it.", "depth": "Be deep."}', "'depth' does not speak in the first"),
    ],
)
def test_bad_statements(reply: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_statements(reply, ["style", "depth"])


def test_statements_come_in_the_asked_order() -> None:
    reply = '{"depth": "I know maths.", "style": "Make me laugh."}'
    assert list(parse_statements(reply, ["style", "depth"])) == ["style", "depth"]


def ask(
    script: Callable[[Request], str | Failure], keys: str, store: Path
) -> tuple[dict[str, Answer[dict[str, str]]], ScriptedBackend]:
    backend = ScriptedBackend(script)

    async def run() -> dict[str, Answer[dict[str, str]]]:
        with Store.open(str(store)) as opened:
            questions = (Question(key=k, messages=(Message(role="user", content=k),)) for k in keys)
            answers = extract(opened, backend, questions, parse_preferences)
            return {answer.key: answer async for answer in answers}

    return asyncio.run(run()), backend


def test_a_bad_reply_is_shown_to_the_model(tmp_path: Path) -> None:
    def script(request: Request) -> str:
        return (
            GOOD if len(request.messages) > 1 or request.messages[0].content == "a" else "Well..."
        )

    answers, backend = ask(script, "ab", tmp_path / "s.db")
    assert all(answer.value == {"tone": "Be warm."} for answer in answers.values())
    assert len(backend.asked) == 3
    corrected = backend.asked[-1].messages
    assert [message.role for message in corrected] == ["user", "assistant", "user"]
    assert corrected[1].content == "Well..."
    assert "it holds no valid JSON object" in corrected[2].content


def test_it_is_given_up_after_three_attempts(tmp_path: Path) -> None:
    answers, backend = ask(lambda _: "", "a", tmp_path / "s.db")
    assert answers["a"].reason == "bad reply"
    assert answers["a"].detail == "it holds no valid JSON object"
    assert len(backend.asked) == 3
    assert backend.asked[1].messages[1].content == "(empty)"


def test_failed_calls_are_told_and_asked_again_next_time(tmp_path: Path) -> None:
    failure = Failure(kind="timeout", detail="slow")
    answers, _ = ask(lambda _: failure, "a", tmp_path / "s.db")
    assert answers["a"].reason == "call failed: timeout"
    again, backend = ask(lambda _: GOOD, "a", tmp_path / "s.db")
    assert again["a"].value is not None
    assert len(backend.asked) == 1


def test_nothing_is_paid_for_twice(tmp_path: Path) -> None:
    first, _ = ask(lambda _: GOOD, "abc", tmp_path / "s.db")
    again, backend = ask(lambda _: "never asked", "cab", tmp_path / "s.db")
    assert again == first
    assert backend.asked == []
