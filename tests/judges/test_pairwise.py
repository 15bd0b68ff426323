"""The pairwise protocol: both orders are asked, and each reply is read in terms of the pair."""

import pytest

from mipo_eval.judges.judge import Protocol, choice_requests, read_choice
from mipo_eval.judges.presets import load_judge
from mipo_eval.records import Item, Rubric, text_key
from mipo_eval.verdict import Verdict

ITEM = Item(
    item_id="tea",
    prompt="How do I brew tea?",
    preferences=("Be brief.", "Be funny."),
    rubric=("Two sentences.", Rubric(criterion="Humour", scores={1: "dry", 5: "a joke"})),
)


def judge(protocol: Protocol = "pairwise"):  # type: ignore[no-untyped-def]
    return load_judge("openai:m@http://localhost:1", protocol=protocol)


def test_both_orders_are_asked() -> None:
    first, second = choice_requests(judge(), ITEM, "Boil it.", "Drink coffee.")
    assert (first.swapped, second.swapped) == (False, True)
    for request, places in ((first, "Boil it. Drink coffee."), (second, "Drink coffee. Boil it.")):
        text = request.messages[0].content
        shown = sorted(("Boil it.", "Drink coffee."), key=text.index)
        assert " ".join(shown) == places
        assert (request.item_key, request.first_key) == (ITEM.key, text_key("Boil it."))
        assert request.second_key == text_key("Drink coffee.")
        assert request.choices == ("response_a", "response_b")


def test_the_criteria_are_all_preferences_with_their_rubrics() -> None:
    request, _ = choice_requests(judge(), ITEM, "x", "y")
    assert request.slots["criteria"] == (
        "1. Be brief.\n   Two sentences.\n2. Be funny.\n   Humour\n   1: dry\n   5: a joke"
    )
    assert request.slots["criteria"] in request.messages[0].content


def test_a_tie_is_offered_only_where_the_protocol_has_it() -> None:
    plain, _ = choice_requests(judge(), ITEM, "x", "y")
    tied, _ = choice_requests(judge("pairwise-tie"), ITEM, "x", "y")
    assert tied.choices == ("response_a", "response_b", "tie")
    assert "tie" not in plain.messages[0].content.split()
    assert read_choice(judge(), plain, "tie") == (None, "unparsable reply")
    assert read_choice(judge("pairwise-tie"), tied, "tie") == ("tie", None)


@pytest.mark.parametrize(
    ("reply", "straight", "swapped"),
    [("response_a", "a", "b"), ("Response B.", "b", "a"), ("both", None, None)],
)
def test_answers_are_read_in_terms_of_the_first_and_second_response(
    reply: str, straight: Verdict | None, swapped: Verdict | None
) -> None:
    requests = choice_requests(judge(), ITEM, "x", "y")
    assert [read_choice(judge(), request, reply)[0] for request in requests] == [straight, swapped]


def test_a_failed_call_is_undecided_with_its_reason() -> None:
    request, _ = choice_requests(judge(), ITEM, "x", "y")
    failed = read_choice(judge(), request, None, "timeout")
    assert failed == (None, "call failed: timeout")
