"""Replies collected elsewhere, read by our parsers."""

import json
from pathlib import Path
from typing import Any

import pytest

from mipo_eval.errors import DataError
from mipo_eval.judges.labelled import LabelledPair
from mipo_eval.judges.replies import NO_REPLY, is_reply_file, read_replies
from mipo_eval.judges.rubric import UNPARSED

PAIRS = [
    LabelledPair(
        pair_id=str(number),
        prompt="q",
        first="one",
        second="two",
        label="a",
        preferences=("Be brief.", "Be kind."),
    )
    for number in range(3)
]


def write(tmp_path: Path, *rows: Any) -> Path:
    path = tmp_path / "replies.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_choices_are_in_terms_of_the_pair_wherever_a_text_stood(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        {"pair_id": "0", "shown_first": "first", "reply": "response_a"},
        {"pair_id": "0", "shown_first": "second", "reply": "response_b"},
        {"pair_id": "1", "shown_first": "first", "reply": "hard to say"},
        {"pair_id": "1", "shown_first": "second", "reply": "It is a tie."},
    )
    assert is_reply_file(path)
    first, second, third = read_replies(path, PAIRS)
    assert (first.straight, first.swapped, first.verdict) == ("a", "a", "a")
    assert (second.straight, second.swapped, second.verdict) == (None, "tie", None)
    assert second.unread == (UNPARSED,)
    assert (third.verdict, third.unread) == (None, (NO_REPLY, NO_REPLY))


def test_one_order_alone_is_read_in_its_own_places(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        {"pair_id": "0", "shown_first": "second", "reply": "response_a"},
        {"pair_id": "1", "shown_first": "first", "reply": "response_a"},
    )
    first, second, third = read_replies(path, PAIRS)
    assert [r.verdict for r in (first, second, third)] == ["b", "a", None]
    assert {r.both_orders for r in (first, second, third)} == {False}
    assert [r.replies for r in (first, second, third)] == [1, 1, 1]


def test_ratings_are_summed_over_wishes(tmp_path: Path) -> None:
    said = [("first", 0, "5"), ("first", 1, "Rating: 4"), ("second", 0, "3"), ("second", 1, "2")]
    rows = [
        {"pair_id": "0", "response": which, "preference": wish, "reply": reply}
        for which, wish, reply in said
    ]
    rows.append({"pair_id": "1", "response": "first", "preference": 0, "reply": None})
    first, second, _ = read_replies(write(tmp_path, *rows), PAIRS)
    assert (first.ratings, first.given, first.verdict) == ((9, 5), (5, 4, 3, 2), "a")
    assert (second.ratings, second.unread) == ((None, None), (NO_REPLY,) * 4)


RATING = {"pair_id": "0", "response": "first", "reply": "5"}
CHOICE = {"pair_id": "0", "shown_first": "first", "reply": "response_a"}


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([], "holds no replies"),
        ([{"pair_id": "9", "shown_first": "first", "reply": "a"}], "line 1: no pair has the id"),
        ([{"pair_id": "0", "reply": "a"}], "line 1: give shown_first"),
        ([RATING | CHOICE], "line 1: give shown_first"),
        ([CHOICE, RATING | {"pair_id": "1"}], "line 2: the lines before are of the other kind"),
        ([CHOICE, CHOICE], "line 2: this reply to pair '0' is there twice"),
        ([RATING | {"preference": 2}], "line 1: the pair has 2 preferences, counted from 0"),
        ([RATING | {"reply": 5}], "line 1: reply: Input should be a valid string"),
        ([RATING | {"score": 5}], "line 1: score: Extra inputs"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, rows: list[Any], told: str) -> None:
    with pytest.raises(DataError, match=told):
        read_replies(write(tmp_path, *rows), PAIRS)


def test_other_files_are_none_of_ours(tmp_path: Path) -> None:
    assert not is_reply_file(tmp_path / "nowhere.jsonl")
    assert not is_reply_file(write(tmp_path, [1]))
    with pytest.raises(DataError, match="cannot be read"):
        read_replies(tmp_path / "nowhere.jsonl", PAIRS)
