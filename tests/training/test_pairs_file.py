"""Preference pairs of one's own, in the forms that TRL knows."""

import json
from pathlib import Path
from typing import Any

import pytest

from mipo_eval.errors import DataError
from mipo_eval.training.pairs_file import read_pairs

ASKED = {"role": "user", "content": "Tea?"}
GOOD = {"role": "assistant", "content": "A drink."}
BAD = {"role": "assistant", "content": "No."}


def write(*rows: Any) -> Path:
    path = Path("pairs.jsonl")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Tea?", "chosen": "A drink.", "rejected": "No."},
        {"prompt": [ASKED], "chosen": [GOOD], "rejected": [BAD]},
        {"prompt": "Tea?", "chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]},
        {"chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]},
        {"prompt": "Tea?", "chosen": "A drink.", "rejected": ["No."], "score": 3},
        {"prompt": [ASKED], "chosen": [GOOD], "rejected": [[BAD]]},
    ],
)
def test_a_row_in_any_form_is_the_same_pair(row: dict[str, Any]) -> None:
    (item,) = read_pairs(write(row))
    assert (item.prompt, item.messages) == ("Tea?", ())
    assert item.meta == {"chosen": "A drink.", "rejected": ["No."]}


def test_rejected_responses_of_one_prompt_come_together() -> None:
    several = {"prompt": "Tea?", "chosen": "A drink.", "rejected": ["No.", "Yes."]}
    again = {"prompt": [ASKED], "chosen": [GOOD], "rejected": "Leaves."}
    other = {"prompt": "Tea?", "chosen": "Hot water.", "rejected": "No."}
    first, second = read_pairs(write(several, again, other))
    assert first.meta["rejected"] == ["No.", "Yes.", "Leaves."]
    assert second.meta["chosen"] == "Hot water."
    assert first.group == second.group
    assert first.item_id != second.item_id


def test_earlier_turns_and_a_system_prompt_stay() -> None:
    turns = [{"role": "system", "content": "Be kind."}, ASKED, GOOD, {**ASKED, "content": "Why?"}]
    (item,) = read_pairs(write({"prompt": turns, "chosen": "So.", "rejected": "No."}))
    assert [(turn.role, turn.content) for turn in item.messages] == [
        (turn["role"], turn["content"]) for turn in turns[:3]
    ]
    assert item.prompt == "Why?"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"chosen": "A", "rejected": "B"}, "line 1: has no field 'prompt', and chosen is no conv"),
        ({"prompt": "Tea?", "chosen": "A"}, "line 1: has no field 'rejected'"),
        ({"prompt": "Tea?", "rejected": "B"}, "line 1: has no field 'chosen'"),
        ({"prompt": "Tea?", "chosen": " ", "rejected": "B"}, "line 1: chosen is blank"),
        ({"prompt": "Tea?", "chosen": 5, "rejected": "B"}, "chosen is neither a text nor a conv"),
        ({"prompt": "Tea?", "chosen": "A", "rejected": []}, "rejected does not end with an assi"),
        ({"prompt": [GOOD], "chosen": "A", "rejected": "B"}, "does not end with a user's turn"),
        ({"prompt": "Tea?", "chosen": [ASKED], "rejected": "B"}, "chosen does not end with an as"),
        (
            {"prompt": "Coffee?", "chosen": [ASKED, GOOD], "rejected": "B"},
            "chosen answers another conversation than the row's prompt",
        ),
        (
            {"prompt": [ASKED, {"role": "system", "content": "Hi."}, ASKED], "chosen": "A"}
            | {"rejected": "B"},
            "its prompt: .* a system turn stands first or nowhere",
        ),
    ],
)
def test_what_is_no_pair_is_named(row: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_pairs(write(row))


def test_a_file_without_pairs() -> None:
    Path("empty.jsonl").write_text("\n")
    with pytest.raises(DataError, match=r"empty\.jsonl"):
        read_pairs(Path("empty.jsonl"))
