"""What is drawn for a pair, and what of it is kept."""

import random
from collections.abc import Sequence

import pytest

from mipo_eval.errors import ConfigError, DataError
from mipo_eval.records import Item, Response
from mipo_eval.training.pairs import build_pairs, plan_draws, random_strings, usable
from mipo_eval.training.recipes import NEGATIVES, PairSettings

STRATEGIES = NEGATIVES


def _items(count: int = 12, users: int | None = None) -> list[Item]:
    return [
        Item(
            item_id=f"i{n}",
            prompt=f"Question {n // 2}?",
            context=f"I am user {n}.",
            user_id=f"u{n % users}" if users else None,
        )
        for n in range(count)
    ]


def _questions(count: int = 6) -> list[Item]:
    return [Item(item_id=f"q{n}", prompt=f"What is {n} + {n}?") for n in range(count)]


def _response(item: Item, text: str | None, finish: str = "stop") -> Response:
    return Response(
        item_key=item.key,
        text=text,
        prompt_hash="",
        finish_reason="length" if finish == "length" else "stop",
        reason=None if text is not None else "no answer",
    )


def _answered(items: Sequence[Item], settings: PairSettings) -> dict[str, Response]:
    """A response to everything that is asked, naming what it answers."""
    asked = [i for plan in plan_draws(items, settings) for i in (plan.item, *plan.rejected)]
    return {i.key: _response(i, f"{i.item_id}: {i.prompt} {i.context}") for i in asked}


@pytest.mark.parametrize("negatives", STRATEGIES)
@pytest.mark.parametrize("n", [1, 3])
def test_the_plan_of_an_item_does_not_depend_on_order(negatives: str, n: int) -> None:
    items = _items(users=4)
    settings = PairSettings(negatives=negatives, n_negatives=n)
    shuffled = random.Random(1).sample(items, len(items))
    plans = {plan.item.item_id: plan for plan in plan_draws(items, settings, seed=5)}
    again = {plan.item.item_id: plan for plan in plan_draws(shuffled, settings, seed=5)}
    assert plans == again
    assert len(plans) == len(items)
    wanted = 0 if negatives == "random-strings" else n
    assert all(len({asked.key for asked in p.rejected}) == wanted for p in plans.values())


@pytest.mark.parametrize("negatives", ["random", "reshuffle"])
def test_the_seed_changes_what_is_drawn(negatives: str) -> None:
    settings = PairSettings(negatives=negatives)
    assert list(plan_draws(_items(), settings, seed=0)) != list(
        plan_draws(_items(), settings, seed=1)
    )


def test_missing_leaves_the_context_out_and_nothing_else() -> None:
    for plan in plan_draws(_items(), PairSettings(negatives="missing", n_negatives=3)):
        assert {asked.context for asked in plan.rejected} == {""}
        assert {asked.prompt for asked in plan.rejected} == {plan.item.prompt}
        assert len({asked.item_id for asked in plan.rejected}) == 3, "three draws, not one"


@pytest.mark.parametrize("negatives", ["random", "reshuffle"])
def test_a_context_never_meets_itself_an_equal_one_or_another_of_its_user(
    negatives: str,
) -> None:
    items = [
        *_items(users=4),
        Item(item_id="twin", prompt="Question 0?", context="  i am USER 1.\n", user_id="stranger"),
    ]
    user = {" ".join(i.context.split()).casefold(): i.user_id for i in _items(users=4)}
    for plan in plan_draws(items, PairSettings(negatives=negatives, n_negatives=4), seed=2):
        own = " ".join(plan.item.context.split()).casefold()
        others = [" ".join(asked.context.split()).casefold() for asked in plan.rejected]
        assert own not in others
        assert len(set(others)) == 4
        assert plan.item.user_id not in {user[o] for o in others} or own == "i am user 1."


def test_random_asks_the_same_prompt_with_another_users_context() -> None:
    contexts = {item.context for item in _items()}
    for plan in plan_draws(_items(), PairSettings(negatives="random", n_negatives=2)):
        assert {asked.prompt for asked in plan.rejected} == {plan.item.prompt}
        assert {asked.context for asked in plan.rejected} <= contexts - {plan.item.context}


def test_reshuffle_uses_chosen_responses_again() -> None:
    items = _items()
    keys = {item.key for item in items}
    settings = PairSettings(negatives="reshuffle", n_negatives=2)
    plans = list(plan_draws(items, settings))
    assert {asked.key for plan in plans for asked in plan.rejected} <= keys
    responses = _answered(items, settings)
    assert responses.keys() == keys, "nothing more has to be generated than for SFT"
    chosen = {pair.chosen for pair in build_pairs(items, responses, settings).pairs}
    assert all(set(p.rejected) <= chosen for p in build_pairs(items, responses, settings).pairs)


def test_prompts_without_contexts_take_other_prompts_responses() -> None:
    items = _questions()
    for plan in plan_draws(items, PairSettings(negatives="random", n_negatives=3)):
        prompts = [asked.prompt for asked in plan.rejected]
        assert plan.item.prompt not in prompts
        assert len(set(prompts)) == 3
        assert all(asked.key not in {i.key for i in items} for asked in plan.rejected), "fresh"
    with pytest.raises(ConfigError, match="these prompts have none: use random or reshuffle"):
        list(plan_draws(items, PairSettings(negatives="missing")))


def test_random_strings_are_alphanumeric_and_as_long_as_the_response() -> None:
    found = random_strings("Pour hot water.", 3, seed=0, key="k")
    assert [len(text) for text in found] == [15] * 3
    assert all(text.isalnum() and text.isascii() for text in found)
    assert len(set(found)) == 3
    assert found == random_strings("Pour cold wate!", 3, seed=0, key="k")


@pytest.mark.parametrize(
    ("users", "n"), [(1, 1), (None, 12)], ids=["all contexts are one user's", "too many wanted"]
)
def test_too_few_contexts_are_an_error(users: int | None, n: int) -> None:
    settings = PairSettings(negatives="random", n_negatives=n)
    with pytest.raises(DataError, match=rf"{n} other contexts are needed, .* lower --n-negatives"):
        list(plan_draws(_items(users=users), settings))


@pytest.mark.parametrize(
    ("text", "finish", "reason"),
    [
        (None, "stop", "no answer"),
        ("  ", "stop", "empty"),
        ("cut of", "length", "cut at the length limit"),
        ("good", "stop", None),
    ],
)
def test_what_a_response_needs_to_be_learned_from(
    text: str | None, finish: str, reason: str | None
) -> None:
    item = _items(1)[0]
    assert usable(_response(item, text, finish)) == (None if reason else text, reason)
    assert usable(None) == (None, "not generated")


def test_degenerate_pairs_are_dropped_and_counted() -> None:
    items, settings = _items(6), PairSettings(negatives="missing", n_negatives=2)
    responses = _answered(items, settings)
    plans = list(plan_draws(items, settings))
    chosen = [responses[plan.item.key].text for plan in plans]
    responses[items[0].key] = _response(items[0], "")
    responses[items[1].key] = _response(items[1], "cut", "length")
    for asked in plans[2].rejected:
        responses[asked.key] = _response(asked, chosen[2])  # both equal to the chosen one
    responses[plans[3].rejected[0].key] = _response(plans[3].rejected[0], chosen[3])
    del responses[plans[4].rejected[1].key]
    made = build_pairs(items, responses, settings)
    assert [pair.item.item_id for pair in made.pairs] == ["i3", "i4", "i5"]
    assert [len(pair.rejected) for pair in made.pairs] == [1, 1, 2]
    assert made.dropped == {
        "chosen: empty": 1,
        "chosen: cut at the length limit": 1,
        "rejected: equal to the chosen response": 1,
    }
    assert made.dropped_negatives == {
        "rejected: equal to the chosen response": 1,
        "rejected: not generated": 1,
    }


def test_items_without_context_among_others_are_counted() -> None:
    items = [*_items(4), *_questions(2)]
    settings = PairSettings(negatives="missing")
    made = build_pairs(items, _answered(items, settings), settings)
    assert len(made.pairs) == 4
    assert made.dropped == {"no context": 2}


def test_nothing_but_degenerate_pairs_is_an_error_with_the_reasons() -> None:
    items, settings = _items(3), PairSettings()
    responses = {key: _response(items[0], "same") for key in _answered(items, settings)}
    message = r"none of 3 items gives .*\(3 x rejected: equal to the chosen response\)"
    with pytest.raises(DataError, match=message):
        build_pairs(items, responses, settings)
