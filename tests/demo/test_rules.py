"""The rule of every preference, both ways, and degrees where a rule has them."""

import pytest

from mipo_eval.demo.grammar import PREFERENCES
from mipo_eval.demo.rules import RULES, VERSION, rate
from mipo_eval.keys import digest
from mipo_eval.marks import read

_TEN = "one two three four five six seven eight nine ten"


def _words(count: int) -> str:
    return " ".join(f"w{'abcdefghij'[i % 10]}{'klmnopqrst'[i // 10]}" for i in range(count)) + "."


TABLE = [
    # preference, response, rating
    ("tone:warm", "Great question! Wipe it. You will do great!", 5),
    ("tone:warm", "Great question! Wipe it.", 4),
    ("tone:warm", "Wipe it. Dry it.", 1),
    ("tone:warm", "Great question! You will do great! Thank you for your question.", 2),
    ("tone:formal", "Thank you for your question. Wipe it. I wish you every success.", 5),
    ("tone:formal", "It is a pleasure to advise you. Wipe it.", 4),
    ("tone:formal", "Hey there, just wipe it.", 1),
    ("tone:playful", "Drum roll, please! Wipe it. High five!", 5),
    ("tone:playful", "Wipe it. Ta-da, job done!", 4),
    ("tone:playful", "Wipe it with great care.", 1),
    ("format:numbered", "1. Wipe it well.\n2. Dry it well.\n3. Store it well.", 5),
    ("format:numbered", "Good.\n1. Wipe it well.\n2. Dry it well.\nDone.", 4),
    ("format:numbered", "1. Wipe it well.", 2),
    ("format:numbered", "1. Wipe it well.\n3. Dry it well.\n2. Store it well.", 2),
    ("format:numbered", "1. Wipe it well.\n2. Dry it well.\n3. Store it.\n- And air it well.", 2),
    ("format:numbered", "1.\n2.\n3.", 1),
    ("format:numbered", "Wipe it 1. and dry it 2. and store it 3. well.", 1),
    ("format:bullets", "- Wipe it well.\n- Dry it well.\n* Store it well.", 5),
    ("format:bullets", "- Wipe it well.\n- Dry it well.", 4),
    ("format:bullets", "- Wipe it well.", 2),
    ("format:bullets", "Wipe it - dry it - store it.", 1),
    ("format:bullets", "1. Wipe it well.\n2. Dry it well.\n3. Store it well.", 1),
    ("format:summary", "In short, use a soft hand. Wipe it well.", 5),
    ("format:summary", "Good for you! The quick answer: use a soft hand. Wipe it.", 5),
    ("format:summary", "Wipe it. Dry it. In short, use a soft hand.", 3),
    ("format:summary", "In short, use a soft hand.", 3),
    ("format:summary", "In short. Wipe it.", 1),
    ("format:bold", "Wipe the **straw bag** with a soft and dry cloth.", 5),
    ("format:bold", "**Wipe the straw bag with a soft and dry cloth.**", 3),
    ("format:bold", "Wipe **all of the straw bag** with a soft and dry cloth, twice a year.", 3),
    ("format:bold", "Wipe the straw bag ** with a cloth.", 1),
    ("audience:beginner", "No experience is needed for this. Wipe it.", 5),
    ("audience:beginner", "For a beginner: wipe it.", 3),
    ("audience:beginner", "With your experience, you can move faster.", 1),
    ("audience:beginner", "If this is your first time, go slowly. Ask a grown-up to help.", 2),
    ("audience:expert", "You know the basics, so I will skip them.", 5),
    ("audience:expert", "As you may know, wipe it.", 3),
    ("audience:expert", "Wipe it.", 1),
    ("audience:child", "Ask a grown-up to stay close by.", 5),
    ("audience:child", "For young readers: wipe it.", 3),
    ("audience:child", "Ask your bank to stay close by.", 1),
    ("audience:budget", "None of this has to cost much.", 5),
    ("audience:budget", "On a small budget: wipe it.", 3),
    ("audience:budget", "Buy the finest cloth there is.", 1),
    ("length:brief", _words(22), 5),
    ("length:brief", _words(27), 4),
    ("length:brief", _words(32), 3),
    ("length:brief", _words(38), 2),
    ("length:brief", _words(39), 1),
    ("length:detailed", _words(58), 5),
    ("length:detailed", _words(52), 4),
    ("length:detailed", _words(46), 3),
    ("length:detailed", _words(40), 2),
    ("length:detailed", _words(39), 1),
    ("length:short_sentences", f"{_TEN}. {_TEN}.", 5),
    ("length:short_sentences", f"{_TEN} more. {_TEN}.", 4),
    ("length:short_sentences", f"{_TEN} and then more. {_TEN}.", 3),
    ("length:short_sentences", f"{_TEN} and then some more of it. {_TEN}.", 2),
    ("length:short_sentences", f"{_TEN} {_TEN}. {_TEN}.", 1),
    ("length:short_sentences", f"{_TEN}.", 3),
    ("extra:example", "For example, a soft toothbrush works well.", 5),
    ("extra:example", "Use a tool such as a brush.", 3),
    ("extra:example", "For example.", 1),
    ("extra:example", "Use a brush.", 1),
    ("extra:caution", "Watch out: wet floors get slippery.", 5),
    ("extra:caution", "It is a risk.", 3),
    ("extra:caution", "Be careful.", 1),
    ("extra:caution", "Have a careful look.", 1),
    ("extra:question", "Wipe it. What have you tried so far?", 5),
    ("extra:question", "What have you tried so far? Wipe it.", 3),
    ("extra:question", "Wipe it. Why?", 1),
    ("extra:question", "Wipe it.", 1),
    (
        "extra:reason",
        "For example, this one here. Watch out: it is wet. It is so because it is so.",
        2,
    ),
    ("extra:reason", "This works because soft dirt lifts off easily.", 5),
    ("extra:reason", "Dirt is soft, and that is why.", 3),
    ("extra:reason", "Because.", 1),
    ("extra:reason", "Wipe it.", 1),
]


@pytest.mark.parametrize(("name", "response", "rating"), TABLE)
def test_rule(name: str, response: str, rating: int) -> None:
    assert RULES[name](read(response)) == rating


def test_every_rule_is_tested_both_ways() -> None:
    assert RULES.keys() == PREFERENCES.keys()
    for name in RULES:
        ratings = {rating for tested, _, rating in TABLE if tested == name}
        assert {1, 5} <= ratings, name


@pytest.mark.parametrize("name", RULES)
def test_an_empty_response_has_the_lowest_rating_or_is_merely_short(name: str) -> None:
    assert RULES[name](read("")) == 1 or name in {"length:brief", "length:short_sentences"}


def test_a_changed_rule_needs_a_new_version() -> None:
    """The version is part of each ledger key: raise it in rules.py when this digest changes."""
    query = "How do I clean a straw bag?"
    on_topic = "Wipe the straw bag with a dry cloth first."
    ratings = [
        [rate(query, text, wish.statement) for wish in PREFERENCES.values()]
        for _, response, _ in TABLE
        for text in (response, f"{on_topic} {response}")
    ]
    assert (VERSION, digest(ratings)[:8]) == ("2", "4cc8b884")
