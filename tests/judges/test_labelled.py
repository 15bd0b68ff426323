"""Files of labelled pairs."""

import json
from pathlib import Path

import pytest

from mipo_eval.errors import DataError
from mipo_eval.judges.labelled import ANY_WISH, majority, read_pairs
from mipo_eval.verdict import Verdict


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


PAIR = {"prompt": "p", "first": "x", "second": "y", "label": "b"}


def test_three_ways_to_write_a_pair(tmp_path: Path) -> None:
    path = write(
        tmp_path / "pairs.jsonl",
        {**PAIR, "pair_id": "one", "preferences": ["Be brief."], "group": "g", "subset": "s"},
        {"prompt": "p", "chosen": "x", "rejected": "y"},
        {"prompt": "p", "first": "x", "second": "y", "annotators": ["tie", "b", "b"]},
    )
    one, two, three = read_pairs(path)
    assert (one.label, one.item().preferences, one.item().group_id) == ("b", ("Be brief.",), "g")
    assert (two.pair_id, two.label, two.first, two.second) == ("2", "a", "x", "y")
    assert two.item().preferences == (ANY_WISH,)
    assert (three.label, three.annotators) == ("b", ("tie", "b", "b"))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "contains no pairs"),
        ([PAIR, [1]], "line 2: is .*, not a JSON object"),
        ([{**PAIR, "label": "c"}], "line 1: label: Input should be"),
        ([{**PAIR, "prompt": ""}], "line 1: prompt: String should have"),
        ([{**PAIR, "extra": 1}], "line 1: extra: Extra inputs"),
        ([{"prompt": "p", "first": "x", "second": "y"}], "line 1: label: Field required"),
        ([{"prompt": "p", "first": "x", "second": "y", "annotators": ["a", "b"]}], "label: Input"),
        ([{**PAIR, "pair_id": "z"}, {**PAIR, "pair_id": "z"}], "'z' is used more than once"),
    ],
)
def test_a_wrong_file_names_line_and_field(
    tmp_path: Path, rows: list[object], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read_pairs(write(tmp_path / "pairs.jsonl", *rows))


def test_what_is_no_file_of_pairs(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not there"):
        read_pairs(tmp_path / "nowhere.jsonl")
    path = tmp_path / "broken.jsonl"
    path.write_text('{"prompt": \n')
    with pytest.raises(DataError, match="line 1: is not JSON"):
        read_pairs(path)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["a", "a", "b"], "a"),
        (["a", "b"], None),
        (["tie", "tie", "a", "b"], "tie"),
        (["a", "b", "tie"], None),
        ([], None),
    ],
)
def test_majority(labels: list[Verdict], expected: Verdict | None) -> None:
    assert majority(labels) == expected
