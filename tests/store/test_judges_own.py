"""A judge that tells nothing apart in what it judged is known by its own ratings and choices."""

from collections.abc import Callable, Iterator

import pytest

from mipo_eval.records import Rating
from mipo_eval.store import Store
from mipo_eval.store.engine import now
from mipo_eval.store.judges import (
    Validation,
    failing_judges,
    put_judge,
    put_validation,
    reasons_text,
)
from mipo_eval.store.verdicts import put_choices, put_ratings
from mipo_eval.verdict import Choice, Verdict

KEY = "a" * 32


@pytest.fixture
def store() -> Iterator[Store]:
    with Store.open("sqlite:///own.db") as opened:
        put_judge(opened, KEY, "small", {"protocol": "rubric"})
        yield opened


def rate(store: Store, rating: Callable[[int, int], int], *, items: int) -> None:
    """Store ratings of two texts on each item, by item and text."""
    put_ratings(
        store,
        [
            Rating(
                judge=KEY,
                item_key=f"{item:032}",
                text_key=f"{text:032}",
                aspect=0,
                rating=rating(item, text),
                reason=None,
                call_key="c" * 32,
            )
            for item in range(items)
            for text in range(2)
        ],
    )


@pytest.mark.parametrize(
    ("rating", "items", "reason"),
    [
        (lambda item, text: 1, 5, "100 % of its ratings are 1"),
        (lambda item, text: 1, 4, None),  # too few to say
        (lambda item, text: 1 + (item == 0), 50, "98 % of its ratings are 1"),
        (lambda item, text: 1 + item % 5, 10, "100 % of its verdicts are ties"),
        (lambda item, text: 1 + item % 5, 9, None),
        (lambda item, text: 1 + text, 10, None),
        (lambda item, text: 1 + (item % 2) * text, 10, None),
    ],
)
def test_ratings(
    store: Store, rating: Callable[[int, int], int], items: int, reason: str | None
) -> None:
    rate(store, rating, items=items)
    expected = {} if reason is None else {KEY: (f"tells nothing apart: {reason}",)}
    assert failing_judges(store) == expected


@pytest.mark.parametrize(
    ("straight", "swapped", "reason"),
    [
        ("a", "b", "tells nothing apart: 100 % of its verdicts are ties"),  # always the first place
        ("tie", "tie", "tells nothing apart: 100 % of its verdicts are ties"),
        ("a", "a", None),
        (None, "a", None),
    ],
)
def test_choices(
    store: Store, straight: Verdict | None, swapped: Verdict | None, reason: str | None
) -> None:
    made = [
        Choice(KEY, f"{item:032}", "1" * 32, "2" * 32, shown, winner)
        for item in range(12)
        for shown, winner in (("a", straight), ("b", swapped))
    ]
    with store.write() as connection:
        put_choices(store, connection, made)
    assert failing_judges(store) == ({} if reason is None else {KEY: (reason,)})


def test_people_are_not_judged(store: Store) -> None:
    put_judge(store, "b" * 32, "Ada", {"kind": "human"})
    made = [Choice("b" * 32, f"{n:032}", "1" * 32, "2" * 32, "a", "tie") for n in range(12)]
    with store.write() as connection:
        put_choices(store, connection, made)
    assert failing_judges(store) == {}


def test_the_reasons_are_one_line() -> None:
    own, failed = "tells nothing apart: 100 % of its ratings are 1", "llmbar: constant"
    assert reasons_text((own,)) == own
    assert (
        reasons_text((failed, "mine: worse"))
        == "fails its validation on llmbar: constant; on mine: worse"
    )
    assert reasons_text((own, failed)) == f"{own}; fails its validation on llmbar: constant"


def test_a_judge_validated_only_by_another_protocol_is_marked(store: Store) -> None:
    backend = {"backend": "openai", "model": "small", "url": "http://x/v1"}
    put_judge(store, "b" * 32, "small", {"protocol": "rubric", "backend": backend})
    put_judge(store, "c" * 32, "small", {"protocol": "pairwise", "backend": backend})
    other = backend | {"model": "large"}
    put_judge(store, "d" * 32, "large", {"protocol": "rubric", "backend": other})

    def validate(key: str, *failings: str) -> None:
        about = {"data": "llmbar", "data_key": key, "figures": {}, "created_at": now()}
        put_validation(store, Validation(judge_key=key, failings=failings, **about))

    validate("c" * 32, "no better than a coin")
    only = "validated only as pairwise, where it fails on llmbar: no better than a coin"
    failed = ("llmbar: no better than a coin",)
    assert failing_judges(store) == {"b" * 32: (only,), "c" * 32: failed}
    assert reasons_text((only,)) == only
    validate("b" * 32)
    assert failing_judges(store) == {"c" * 32: failed}, "its own validation counts"
