"""Structured replies: what is accepted, what is said about the rest, asking again, the ledger."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mipo_eval.models.base import Failure, Request, ScriptedBackend
from mipo_eval.store.engine import Store
from mipo_eval.tasks.datasets import Dropped, parse_preferences
from mipo_eval.tasks.datasets.mb import DIMENSIONS, parse_statements
from mipo_eval.tasks.prepare import extract

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
        ({"style": "I like it."}, r"its keys are \['style'\]; they must be \['style', 'background"),
        (dict.fromkeys(DIMENSIONS, "I like it.") | {"style": "Be deep."}, "'style' does not speak"),
    ],
)
def test_bad_statements(reply: dict[str, str], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_statements(json.dumps(reply))


def test_statements_come_in_the_asked_order() -> None:
    reply = dict.fromkeys(reversed(DIMENSIONS), "Make me laugh.")
    assert tuple(parse_statements(json.dumps(reply))) == DIMENSIONS


Replies = dict[str, dict[str, str] | Dropped]


def ask(
    script: Callable[[Request], str | Failure], keys: str, store: Path
) -> tuple[Replies, ScriptedBackend]:
    backend = ScriptedBackend(script)

    async def run() -> Replies:
        with Store.open(str(store)) as opened:
            replies = extract(opened, backend, ((k, k) for k in keys), parse_preferences)
            return {key: reply async for key, reply in replies}

    return asyncio.run(run()), backend


def test_a_bad_reply_is_shown_to_the_model(tmp_path: Path) -> None:
    def script(request: Request) -> str:
        return (
            GOOD if len(request.messages) > 1 or request.messages[0].content == "a" else "Well..."
        )

    answers, backend = ask(script, "ab", tmp_path / "s.db")
    assert list(answers.values()) == [{"tone": "Be warm."}] * 2
    assert len(backend.asked) == 3
    corrected = backend.asked[-1].messages
    assert [message.role for message in corrected] == ["user", "assistant", "user"]
    assert corrected[1].content == "Well..."
    assert "it holds no valid JSON object" in corrected[2].content


def test_it_is_given_up_after_three_attempts(tmp_path: Path) -> None:
    answers, backend = ask(lambda _: "<think>tea</think>", "a", tmp_path / "s.db")
    assert answers["a"] == Dropped("bad reply", "it holds no valid JSON object")
    assert len(backend.asked) == 3
    assert backend.asked[1].messages[1].content == "(empty)"


def test_failed_calls_are_told_and_asked_again_next_time(tmp_path: Path) -> None:
    failure = Failure(kind="timeout", detail="slow")
    answers, _ = ask(lambda _: failure, "a", tmp_path / "s.db")
    assert answers["a"] == Dropped("call failed: timeout", "slow")
    again, backend = ask(lambda _: GOOD, "a", tmp_path / "s.db")
    assert again["a"] == {"tone": "Be warm."}
    assert len(backend.asked) == 1


def test_nothing_is_paid_for_twice(tmp_path: Path) -> None:
    first, _ = ask(lambda _: GOOD, "abc", tmp_path / "s.db")
    again, backend = ask(lambda _: "never asked", "cab", tmp_path / "s.db")
    assert again == first
    assert backend.asked == []


def test_what_a_model_thought_is_no_part_of_its_reply(tmp_path: Path) -> None:
    def script(request: Request) -> str:
        if request.messages[0].content == "a":
            return f'<think>{{"tone": "Be cold."}} or?</think>\n{GOOD}'
        return "<think>Hm" if len(request.messages) == 1 else GOOD

    answers, backend = ask(script, "ab", tmp_path / "s.db")
    assert list(answers.values()) == [{"tone": "Be warm."}] * 2
    complaint = backend.asked[-1].messages
    assert complaint[1].content == "(empty)"
    assert "it was cut inside the thinking: answer at once" in complaint[2].content
