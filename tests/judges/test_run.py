"""Running a pairwise judge: both places, stored at once, never twice."""

import asyncio
from collections.abc import Callable

import pytest

from mipo_eval.judges.judge import Judge
from mipo_eval.judges.presets import load_judge
from mipo_eval.judges.run import TextPair, choose
from mipo_eval.models.base import Failure, Request, ScriptedBackend, ScriptedReply
from mipo_eval.records import Item
from mipo_eval.store import Store
from mipo_eval.store.verdicts import pair_verdicts
from mipo_eval.verdict import PairVerdict

PAIRS = [
    TextPair(
        Item(item_id=str(n), prompt=f"What is {n}?", preferences=("Short.",)), f"good {n}", "bad"
    )
    for n in range(5)
]


def judge(script: Callable[[Request], ScriptedReply]) -> Judge:
    like = load_judge("openai:m@http://localhost:1", protocol="pairwise")
    return Judge(
        name="scripted",
        spec="scripted:x",
        backend=ScriptedBackend(script),
        prompt=like.prompt,
        protocol="pairwise",
    )


def likes_good(request: Request) -> ScriptedReply:
    return "response_a" if request.slots["response_a"].startswith("good") else "response_b"


def run(store: Store, by: Judge, pairs: list[TextPair]) -> int:
    counted = 0

    def advance(units: int) -> None:
        nonlocal counted
        counted += units

    asyncio.run(choose(store, by, pairs, advance=advance))
    return counted


def verdicts(store: Store, by: Judge, pairs: list[TextPair]) -> list[PairVerdict]:
    return pair_verdicts(store, by.key, [pair.key for pair in pairs])


def asked(by: Judge) -> int:
    assert isinstance(by.backend, ScriptedBackend)
    return len(by.backend.asked)


@pytest.mark.parametrize("where", ["sqlite", "postgresql"])
def test_each_pair_is_asked_in_both_places_and_only_once(
    where: str, request: pytest.FixtureRequest
) -> None:
    url = "s.db" if where == "sqlite" else request.getfixturevalue("postgres_url")
    with Store.open(url) as store:
        by = judge(likes_good)
        assert run(store, by, PAIRS) == 10
        found = verdicts(store, by, PAIRS)
        assert [one.winner for one in found] == ["a"] * 5
        assert [[c.shown_first for c in one.choices] for one in found] == [["a", "b"]] * 5
        assert all(choice.call_key for one in found for choice in one.choices)
        assert asked(by) == 10
        assert run(store, by, PAIRS) == 10
        assert asked(by) == 10


def test_the_other_way_round_costs_nothing_and_says_the_contrary() -> None:
    with Store.open("s.db") as store:
        by = judge(likes_good)
        run(store, by, PAIRS)
        turned = [TextPair(item, second, first) for item, first, second in PAIRS]
        run(store, by, turned)
        assert asked(by) == 10
        assert [one.winner for one in verdicts(store, by, turned)] == ["b"] * 5


def test_a_judge_of_places_flips_every_pair() -> None:
    with Store.open("s.db") as store:
        by = judge(lambda _: "response_a")
        run(store, by, PAIRS)
        found = verdicts(store, by, PAIRS)
    assert {(v.winner, v.flipped) for v in found} == {("tie", True)}


def test_equal_texts_are_a_tie_without_a_question() -> None:
    with Store.open("s.db") as store:
        by = judge(likes_good)
        same = [TextPair(pair.item, "same", "same") for pair in PAIRS]
        assert run(store, by, same) == 10
        assert asked(by) == 0
        assert [one.winner for one in verdicts(store, by, same)] == ["tie"] * 5


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        (Failure(kind="timeout", detail="late"), "call failed: timeout"),
        ("either is fine", "unparsable reply"),
    ],
)
def test_what_has_no_answer_is_undecided_with_the_reason(
    trouble: ScriptedReply, reason: str
) -> None:
    broken = True

    def script(request: Request) -> ScriptedReply:
        swapped = request.slots["response_b"].startswith("good")
        return trouble if broken and swapped and "What is 3" in request.slots["query"] else "a"

    with Store.open("s.db") as store:
        by = judge(script)
        run(store, by, PAIRS)
        verdict = verdicts(store, by, PAIRS)[3]
        assert (verdict.winner, verdict.reason) == (None, reason)
        broken = False
        run(store, by, PAIRS)
        again = verdicts(store, by, PAIRS)[3]
        # A failed call is made again; a reply that was paid for is not, however it reads.
        assert (again.winner is None) == (reason == "unparsable reply")
        assert asked(by) == (11 if reason.startswith("call") else 10)


def test_what_nobody_judged_says_so() -> None:
    with Store.open("s.db") as store:
        [one, *_] = verdicts(store, judge(likes_good), PAIRS)
    assert (one.winner, one.reason) == (None, "not judged")
