"""Items, responses, verdicts, runs and scores go in and come out, on both databases."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mipo_eval.errors import ConfigError
from mipo_eval.records import Item, Rating, Response, Score, text_key
from mipo_eval.signature import join
from mipo_eval.store import Store, runs
from mipo_eval.store.items import get_items, put_list
from mipo_eval.store.judges import put_judge
from mipo_eval.store.responses import answered, missing, put_generation, put_responses, scorable
from mipo_eval.store.verdicts import put_ratings, rated, ratings_of, totals
from mipo_eval.verdict import Total

NASTY = "zero\x00width \ud800 and \u202e right-to-left \U0001f600"
ITEMS = [
    Item(item_id="a", prompt="What is tea?", preferences=("Short.", "Kind."), reference="A drink."),
    Item(item_id="b", prompt="What is tea?", context="I am six.", group_id="tea"),
    Item(item_id="c", prompt="Why?", preferences=("Funny.",), meta={"n": 1}, user_id="u"),
]


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    sqlite = request.param == "sqlite"
    url = tmp_path / "store.db" if sqlite else request.getfixturevalue("postgres_url")
    with Store.open(str(url)) as opened:
        yield opened


def _said(item: Item, text: str | None, reason: str | None = None) -> Response:
    return Response(
        item_key=item.key,
        text=text,
        reason=reason,
        finish_reason="stop" if text else None,
        prompt_hash="0" * 32,
        response_tokens=3,
    )


def test_a_list_keeps_order_tasks_and_items(store: Store) -> None:
    key, count = put_list(store, [("one", ITEMS[:2]), ("two", ITEMS[2:])])
    assert count == 3
    assert list(get_items(store, key)) == list(zip(["one", "one", "two"], ITEMS, strict=True))
    assert put_list(store, [("one", ITEMS[:2]), ("two", ITEMS[2:])]) == (key, 3)
    assert put_list(store, [("two", ITEMS)])[0] != key


def test_a_failed_response_is_missing_and_never_replaces_a_text(store: Store) -> None:
    key, _ = put_list(store, [("t", ITEMS)])
    put_generation(store, "g", {"model": "m"})
    assert missing(store, key, "g") == [0, 1, 2]
    put_responses(store, "g", [_said(ITEMS[0], "Tea."), _said(ITEMS[1], None, "too long")])
    assert missing(store, key, "g") == [1, 2]
    put_responses(store, "g", [_said(ITEMS[0], None, "server gone"), _said(ITEMS[1], "Leaves.")])
    assert [a.response and a.response.text for a in answered(store, key, "g")] == [
        "Tea.",
        "Leaves.",
        None,
    ]
    assert missing(store, key, "another") == [0, 1, 2]


def test_scorable_says_why_there_is_no_text(store: Store) -> None:
    key, _ = put_list(store, [("t", ITEMS)])
    put_responses(store, "g", [_said(ITEMS[0], "Tea."), _said(ITEMS[1], None, "too long")])
    rows = list(scorable(store, key, "g"))
    assert [row.reason for row in rows] == [None, "too long", "not generated"]
    assert [row.group for row in rows] == ["a", "tea", "c"]
    assert [row.n_preferences for row in rows] == [2, 0, 1]
    assert rows[0].reference_key == text_key("A drink.")
    assert rows[0].text_key == text_key("Tea.")


def test_model_text_no_database_can_hold_is_refused_before_it_is_keyed(store: Store) -> None:
    from mipo_eval.keys import clean_text

    key, _ = put_list(store, [("t", ITEMS)])
    put_responses(store, "g", [_said(ITEMS[0], clean_text(NASTY))])
    (first, *_) = answered(store, key, "g")
    assert first.response is not None
    assert first.response.text == NASTY.replace("\x00", "�").replace("\ud800", "�")


def _rating(aspect: int, rating: int | None, text: str = "Tea.") -> Rating:
    return Rating(
        judge="j",
        item_key=ITEMS[0].key,
        text_key=text_key(text),
        aspect=aspect,
        rating=rating,
        reason=None if rating else "unparsable reply",
        call_key=f"{aspect:032}",
    )


def test_a_rating_that_is_missing_is_counted_not_summed(store: Store) -> None:
    key, _ = put_list(store, [("t", ITEMS)])
    put_judge(store, "j", "judge", {})
    put_ratings(store, [_rating(0, 4), _rating(1, None), _rating(0, 5, "A drink.")])
    found = totals(store, "j", key)
    assert found == {
        (ITEMS[0].key, text_key("Tea.")): Total(1, 4, "unparsable reply"),
        (ITEMS[0].key, text_key("A drink.")): Total(1, 5, None),
    }
    assert rated(store, "j", [ITEMS[0].key]) == {
        (ITEMS[0].key, text_key("Tea."), 0),
        (ITEMS[0].key, text_key("A drink."), 0),
    }
    put_ratings(store, [_rating(1, 2)])
    assert totals(store, "j", key)[ITEMS[0].key, text_key("Tea.")] == Total(2, 6, None)
    assert ratings_of(store, ITEMS[0].key, text_key("Tea.")) == [
        ("judge", 0, 4, None),
        ("judge", 1, 2, None),
    ]


def _run(run_id: str) -> runs.Run:
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    return runs.Run(
        run_id=run_id,
        model="m",
        suite="s",
        prompting="personalized",
        seed=0,
        list_key="l",
        n_items=3,
        generation_key="g",
        environment={"python": "3"},
        created_at=moment,
        updated_at=moment,
    )


def test_runs_are_found_by_their_beginning(store: Store) -> None:
    for run_id in ("abc1", "abd2"):
        runs.put_run(store, _run(run_id))
    assert runs.find_run(store, "abc").run_id == "abc1"
    with pytest.raises(ConfigError, match=r"several runs in .* begin with 'ab': abc1, abd2"):
        runs.find_run(store, "ab")
    with pytest.raises(ConfigError, match=r"no run '%' .*`mipo-eval runs` lists the runs"):
        runs.find_run(store, "%")


@pytest.mark.parametrize("value", [41.5, None])
def test_scores_come_back_as_they_were(store: Store, value: float | None) -> None:
    score = Score(
        task="t",
        metric="win_rate_strict",
        value=value,
        n=2 if value else 0,
        unscored_reasons={"empty response": 1},
        ci95=(30.0, 50.0) if value else None,
        signature=join(suite="s@1", ties="loss"),
    )
    runs.put_scores(store, "r", [score])
    runs.put_scores(store, "r", [score])
    assert runs.get_scores(store, "r") == [score]
