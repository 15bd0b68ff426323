import re
from collections import Counter

import pytest

from mipo_eval.evaluation.wishes import DIMENSIONS
from mipo_eval.everyday import world
from mipo_eval.everyday.answers import answer, contrast, ratings
from mipo_eval.everyday.tables import (
    FACTS_LEFT_OUT,
    PLAIN,
    Split,
    facts,
    questions,
    understood,
    wishes,
)
from mipo_eval.keys import item_rng
from mipo_eval.records import Item
from mipo_eval.tasks.sources import load_source


@pytest.fixture(scope="module")
def shipped() -> dict[Split, list[Item]]:
    return {split: list(load_source("everyday", split=split)) for split in ("train", "test")}


def test_what_ships_is_what_the_seed_draws(shipped: dict[Split, list[Item]]) -> None:
    assert {split: len(items) for split, items in shipped.items()} == {"train": 2000, "test": 300}
    for split, items in shipped.items():
        assert items == list(world.items(split))
    assert items != list(world.items("test", seed=1))


def test_there_is_enough_to_wish_for_and_to_ask() -> None:
    assert len(wishes()) >= 24
    assert tuple(dict.fromkeys(wish.dimension for wish in wishes().values())) == DIMENSIONS
    assert all(len({*wish.wordings}) >= 6 for wish in wishes().values())
    said = [text for wish in wishes().values() for text in (wish.statement, *wish.wordings)]
    assert len({*said}) == len(said)
    fields = Counter(question.field for question in questions())
    assert len(fields) == 12
    assert set(fields.values()) == {20}
    assert len({question.text for question in questions()}) == 240
    assert {field for wish in wishes().values() for field in wish.fits} <= fields.keys()
    assert {field for fact in facts().values() for field in fact.near} <= fields.keys()


def test_nothing_of_the_test_was_seen_in_training(shipped: dict[Split, list[Item]]) -> None:
    seen = {
        split: {
            "users": {item.user_id for item in items},
            "names": {item.meta["name"] for item in items},
            "questions": {item.prompt for item in items},
            "sayings": {
                sentence.replace(item.meta["name"], "{name}")
                for item in items
                for sentence in re.split(r"(?<=[.?])\s+(?=[A-Z])", item.context)[1:]
            },
        }
        for split, items in shipped.items()
    }
    for kind, of_test in seen["test"].items():
        assert of_test
        assert not of_test & seen["train"][kind], kind


def test_a_quarter_of_the_items_states_no_wish(shipped: dict[Split, list[Item]]) -> None:
    for items in shipped.values():
        plain = [item for item in items if item.meta["wishes"] == [FACTS_LEFT_OUT, PLAIN]]
        assert 4 * len(plain) == len(items)
        stated = [len(item.meta["wishes"]) - 1 for item in items if item not in plain]
        assert {*stated} <= {2, 3, 4}
        assert all(item.meta["facts"] for item in items)
        assert all(fact in item.context for item in items for fact in _said(item))


def _said(item: Item) -> list[str]:
    return [facts()[name].said for name in item.meta["facts"]]


def test_every_wish_is_asked_for_in_both_splits(shipped: dict[Split, list[Item]]) -> None:
    for items in shipped.values():
        asked = Counter(name for item in items for name in item.meta["wishes"])
        assert wishes().keys() <= asked.keys()
        for item in items:
            names = [understood(told)[0] for told in item.preferences]
            assert names == item.meta["wishes"]


def test_facts_are_no_words_of_the_question_or_of_wishes(
    shipped: dict[Split, list[Item]],
) -> None:
    said = " ".join(text for wish in wishes().values() for text in wish.wordings)
    for fact in facts().values():
        assert fact.cues.search(fact.said)
        assert not fact.cues.search(said)
    for item in shipped["test"]:
        assert not any(facts()[name].cues.search(item.prompt) for name in item.meta["facts"])


def test_one_answer_can_follow_all_wishes_of_an_item(shipped: dict[Split, list[Item]]) -> None:
    for item in [*shipped["test"], *shipped["train"][:600]]:
        text = answer(item, item.meta["wishes"], item_rng(0, item.item_id))
        assert min(ratings(item, text)) >= 4, (item.meta["wishes"], text)


def test_two_answers_differ_in_one_wish(shipped: dict[Split, list[Item]]) -> None:
    found = [contrast(item, item_rng(0, item.item_id)) for item in shipped["test"]]
    broken = Counter(pair.broken.partition(":")[0] for pair in found if pair)
    assert broken.total() == 300
    assert broken.keys() == {*DIMENSIONS, "restraint"}
