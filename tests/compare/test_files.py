"""Response files: by item or as alpaca_eval writes them, and what is wrong with others."""

import json
from pathlib import Path
from typing import Any

import pytest

from mipo_eval.compare.entrants import read_responses
from mipo_eval.errors import DataError
from mipo_eval.records import Item
from mipo_eval.tasks.prompt import render_query

ITEMS = [
    Item(item_id="a-1", prompt="What is tea?", context="I am six."),
    Item(item_id="a-2", prompt="What is tea?", context="I am old."),
    Item(item_id="b-1", prompt="Why do birds sing?"),
]


def write(rows: Any, name: str = "mine.jsonl") -> Path:
    path = Path(name)
    if name.endswith(".jsonl"):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def by_id(path: Path) -> dict[str, str | None]:
    _, replies = read_responses(path, ITEMS)
    found = {item.item_id: replies[item.key] for item in ITEMS if item.key in replies}
    return {item_id: parts and parts.response for item_id, parts in found.items()}


def test_lines_by_item() -> None:
    rows = [
        {"item_id": "b-1", "response": "To be heard."},
        {"item_id": "a-1", "response": None},
        {"item_id": "z", "response": "Of no item."},
    ]
    path = write(rows)
    assert by_id(path) == {"b-1": "To be heard.", "a-1": None}
    assert read_responses(path, ITEMS)[0] == "mine.jsonl"


def output(instruction: str, text: str, generator: str = "gpt") -> dict[str, str]:
    return {"instruction": instruction, "output": text, "generator": generator}


def test_outputs_of_alpaca_eval_by_the_whole_query_or_by_the_prompt_in_order() -> None:
    whole = [output(render_query(item, "personalized"), item.item_id) for item in ITEMS[::-1]]
    path = write(whole, "whole.json")
    assert by_id(path) == {"a-1": "a-1", "a-2": "a-2", "b-1": "b-1"}
    assert read_responses(path, ITEMS)[0] == "gpt"
    prompts = [output("What is tea?", "1"), output("Why do birds sing?", "3")]
    prompts.insert(1, output("What is tea?", "2"))
    assert by_id(write(prompts, "prompts.json")) == {"a-1": "1", "a-2": "2", "b-1": "3"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "contains no responses"),
        ([{"id": 1}], 'is no response: write {"item_id"'),
        ([{"item_id": "z", "response": "x"}], "none of its 1 rows is about an item of the suite"),
        ([{"item_id": "a-1"}], "line 1: has no field 'response'"),
        ([{"item_id": "a-1", "response": []}], "line 1: response is [], not a text"),
        ([{"item_id": "a-1", "response": "x"}] * 2, "line 2: item_id 'a-1' was there before"),
        (
            [output("What is tea?", "x")],
            "2 items of the suite ask 'What is tea?' and the file has 1",
        ),
        ([output("x", "x", "m"), output("y", "y", "n")], "line 2: the file is of several gen"),
    ],
)
def test_a_wrong_file_says_where_and_what(rows: Any, message: str) -> None:
    with pytest.raises(DataError) as caught:
        read_responses(write(rows), ITEMS)
    assert message in str(caught.value)
