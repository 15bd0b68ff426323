"""The rubric protocol: one request per preference, one key per way of judging."""

from pathlib import Path

import pytest

from mipo_eval.errors import ConfigError
from mipo_eval.judges.judge import Judge, rating_requests, read_rating
from mipo_eval.judges.presets import load_judge
from mipo_eval.models.base import Limits
from mipo_eval.records import Item, Rubric, text_key
from mipo_eval.signature import join

PLAIN = Item(item_id="tea", prompt="How do I brew tea?", preferences=("Be brief.", "Be funny."))
RUBRIC = Item(
    item_id="tea2",
    prompt="How do I brew tea?",
    preferences=("Be brief.", "Be funny."),
    rubric=("At most two sentences.", Rubric(criterion="Humour", scores={5: "a joke", 1: "dry"})),
)
OPENAI = "openai:qwen@http://localhost:1"


def judge(**options: Path) -> Judge:
    return load_judge(OPENAI, **options)


def test_one_request_per_preference_shows_only_that_preference() -> None:
    requests = rating_requests(judge(), PLAIN, "Boil water.")
    assert [request.aspect for request in requests] == [0, 1]
    for request, own, other in zip(
        requests, PLAIN.preferences, PLAIN.preferences[::-1], strict=True
    ):
        [message] = request.messages
        assert message.role == "user"
        assert own in message.content
        assert other not in message.content
        assert PLAIN.prompt in message.content
        assert "Boil water." in message.content
        assert request.slots["preference"] == own
        assert request.choices == ("1", "2", "3", "4", "5")
        assert request.sampling.temperature == 0
        assert (request.item_key, request.text_key) == (PLAIN.key, text_key("Boil water."))


def test_a_rubric_is_shown_with_what_each_rating_looks_like() -> None:
    first, second = rating_requests(judge(), RUBRIC, "Boil water.")
    assert "At most two sentences." in first.messages[0].content
    assert "Humour\n1: dry\n5: a joke" in second.messages[0].content
    plain = rating_requests(judge(), PLAIN, "Boil water.")[0].messages[0].content
    assert ":rubric>" not in plain


def test_a_prompt_that_cannot_show_a_rubric_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("{query} {response} {preference} 1-5?", encoding="utf-8")
    mine = judge(prompt_file=path)
    assert len(rating_requests(mine, PLAIN, "Boil water.")) == 2
    with pytest.raises(ConfigError, match=r"item tea2 has a rubric but prompt mine does not show"):
        rating_requests(mine, RUBRIC, "Boil water.")


def test_requests_are_the_same_every_time_and_differ_with_the_response() -> None:
    identity = judge().backend.identity
    keys = [
        [request.key(identity) for request in rating_requests(judge(), PLAIN, text)]
        for text in ("Boil water.", "Boil water.", "Boil it.")
    ]
    assert keys[0] == keys[1]
    assert not set(keys[0]) & set(keys[2])


def test_the_key_changes_with_everything_that_decides_a_rating(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("{query} {response} {preference} 1-5?", encoding="utf-8")
    keys = [
        judge().key,
        judge(prompt_file=path).key,
        load_judge("openai:llama@http://localhost:1").key,
        load_judge("openai:qwen@http://localhost:2").key,
    ]
    assert len(set(keys)) == 4
    assert load_judge(OPENAI, limits=Limits(concurrency=1)).key == judge().key


def test_the_signature_names_judge_and_prompt() -> None:
    assert join(**judge().signature_parts()) == (
        f"judge:qwen|judge_key:{judge().key[:8]}|protocol:rubric"
        f"|prompt:{judge().prompt.hash[:8]}|parser:3"
    )


def test_names_come_from_the_model_or_the_backend() -> None:
    assert judge().name == "qwen"
    assert load_judge("checker").name == "checker"
    with pytest.raises(ConfigError, match=r"contains '\|'"):
        load_judge("openai:a|b@http://localhost:1")


@pytest.mark.parametrize(
    ("reply", "status", "expected"),
    [
        ("4", "ok", (4, None)),
        ("4 or 5", "ok", (None, "unparsable reply")),
        ("", "ok", (None, "unparsable reply")),
        (None, "timeout", (None, "call failed: timeout")),
        ("4", "refused", (None, "call failed: refused")),
    ],
)
def test_a_call_gives_a_rating_or_a_reason(
    reply: str | None, status: str, expected: tuple[int | None, str | None]
) -> None:
    assert read_rating(reply, status) == expected


@pytest.mark.parametrize("constrained", [True, False])
def test_a_judge_that_is_not_held_to_the_ratings_is_another_judge(
    tmp_path: Path, constrained: bool
) -> None:
    file = tmp_path / "mine.yaml"
    held = "" if constrained else "constrained: false"
    file.write_text(f"description: mine\nbackend: openai:m@http://localhost:1\n{held}\n")
    judge = load_judge(str(file))
    item = Item(item_id="1", prompt="How?", preferences=("Be brief.",))
    (request,) = rating_requests(judge, item, "Like so.")
    assert request.choices == (("1", "2", "3", "4", "5") if constrained else None)
    assert (judge.key == load_judge("openai:m@http://localhost:1").key) == constrained
