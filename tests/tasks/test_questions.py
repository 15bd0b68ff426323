"""Verifiable questions: every known file layout, drawn subsets, drift, real files."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mipo_eval.errors import DataError
from mipo_eval.records import Item
from mipo_eval.tasks.answers import grade
from mipo_eval.tasks.questions import QUESTION_SETS
from mipo_eval.tasks.sources import load_questions, load_source

GSM8K = {"question": "2 pens at $540 each?", "answer": "2*540=<<2*540=1080>>1080\n#### 1,080"}
SVAMP = {"Body": "Ann has 5 pens and gives 2", "Question": "How many are left?", "Answer": 3.0}
ARC = {
    "question": "What is wet?",
    "choices": {"text": ["fire", "water", "sand"], "label": ["1", "2", "3"]},
    "answerKey": "2",
}
ARC_OWN = {
    "question": {
        "stem": "What is wet?",
        "choices": [{"text": t, "label": n} for t, n in (("fire", "1"), ("water", "2"))],
    },
    "answerKey": "2",
}
MMLU = {"question": "1+1?", "subject": "algebra", "choices": ["1", "2", "3", "4"], "answer": 1}


def put(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        import pyarrow as pa
        from pyarrow import parquet

        parquet.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize(
    ("name", "file", "row", "prompt", "reference"),
    [
        ("gsm8k", "gsm8k/test.jsonl", GSM8K, "2 pens at $540 each?", "1080"),
        ("gsm8k", "gsm8k/main/test-00000-of-00001.parquet", GSM8K, "2 pens at $540 each?", "1080"),
        ("svamp", "svamp/test.json", SVAMP, "Ann has 5 pens and gives 2. How many are left?", "3"),
        ("svamp", "svamp/test.jsonl", SVAMP | {"Answer": "2.50"}, None, "2.5"),
        ("svamp", "svamp/data/test-0.parquet", SVAMP | {"Answer": "300"}, None, "300"),
        (
            "arc_easy",
            "arc/x_ARC-Easy_test.jsonl",
            ARC,
            "What is wet?\nA. fire\nB. water\nC. sand",
            "B",
        ),
        ("arc_challenge", "arc/ARC-Challenge/test-0.parquet", ARC, None, "B"),
        (
            "arc_challenge",
            "arc/ARC-Challenge-Test.jsonl",
            ARC_OWN,
            "What is wet?\nA. fire\nB. water",
            "B",
        ),
        ("mmlu", "mmlu/all/test-0.parquet", MMLU, "1+1?\nA. 1\nB. 2\nC. 3\nD. 4", "B"),
    ],
)
def test_layouts(
    tmp_path: Path, name: str, file: str, row: dict[str, Any], prompt: str | None, reference: str
) -> None:
    put(tmp_path / file, [row])
    [item] = load_questions(name, tmp_path)
    assert prompt in {None, item.prompt}
    assert item.reference == reference
    assert item.item_id.startswith(f"{name}-test-")


@pytest.mark.parametrize(
    "text",
    [
        "question,choice0,choice1,choice2,choice3,answer\n1+1?,1,2,3,4,1\n",
        '"1+1?",1,2,3,4,B\n',  # the original files: no header, the answer as a letter
    ],
)
def test_mmlu_as_csv(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mmlu" / "test" / "high_school_algebra_test.csv"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    [item] = load_questions("mmlu", tmp_path)
    assert item.reference == "B"
    assert item.meta["subject"] == "high_school_algebra"


def test_the_calculators_notes_are_left_out(tmp_path: Path) -> None:
    put(tmp_path / "gsm8k" / "train.jsonl", [GSM8K])
    [item] = load_questions("gsm8k", tmp_path, "train")
    assert item.meta["solution"] == "2*540=1080\n#### 1,080"


@pytest.mark.parametrize(
    ("file", "row", "message"),
    [
        ("gsm8k/test.jsonl", {"question": "x"}, "row 1, field answer: is missing"),
        ("gsm8k/test.jsonl", GSM8K | {"answer": "It is 5."}, "does not end in '#### NUMBER'"),
        ("svamp/test.json", SVAMP | {"Answer": "three"}, "'three' is no number"),
        ("arc/ARC-Easy_test.jsonl", ARC | {"answerKey": "9"}, "'9' is none of"),
        ("mmlu/all/test-0.parquet", MMLU | {"answer": 7}, "answer 7 is none of 4 choices"),
    ],
)
def test_drift_names_file_and_row(
    tmp_path: Path, file: str, row: dict[str, Any], message: str
) -> None:
    put(tmp_path / file, [row])
    name = {"arc": "arc_easy"}.get(file.split("/", maxsplit=1)[0], file.split("/", maxsplit=1)[0])
    with pytest.raises(DataError) as caught:
        load_questions(name, tmp_path)
    assert str(tmp_path / file) in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_broken_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "gsm8k" / "main" / "test-0.parquet"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match=r"test-0\.parquet: is not a Parquet file"):
        load_questions("gsm8k", tmp_path)


def test_a_subset_does_not_depend_on_the_order(tmp_path: Path) -> None:
    rows = [GSM8K | {"question": f"{n} pens?"} for n in range(50)]
    put(tmp_path / "a" / "gsm8k" / "test.jsonl", rows)
    put(tmp_path / "b" / "gsm8k" / "test.jsonl", rows[::-1])
    drawn = load_questions("gsm8k", tmp_path / "a", subset=20)
    assert drawn == load_questions("gsm8k", tmp_path / "b", subset=20)
    assert drawn[:10] == load_questions("gsm8k", tmp_path / "a", subset=10)
    other = load_questions("gsm8k", tmp_path / "a", subset=20, seed=1)
    assert {item.item_id for item in drawn} != {item.item_id for item in other}
    with pytest.raises(DataError, match="only 50 test questions here, fewer than the 51"):
        load_questions("gsm8k", tmp_path / "a", subset=51)


def test_repeated_questions_keep_ids_of_their_own(tmp_path: Path) -> None:
    put(tmp_path / "gsm8k" / "test.jsonl", [GSM8K, GSM8K])
    first, second = load_questions("gsm8k", tmp_path)
    assert second.item_id == f"{first.item_id}-2"


@pytest.mark.parametrize("name", QUESTION_SETS)
def test_without_files_or_network(tmp_path: Path, name: str) -> None:
    code = f"from mipo_eval.tasks.sources import load_source; list(load_source({name!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("mipo_eval.errors.DataError: no local file (data/")
    assert f"{QUESTION_SETS[name].hub} cannot be found on the hub" in last
    assert "connect to the network" in last
    assert "or put its files into the data folder" in last


@pytest.mark.parametrize(
    ("kind", "reference", "reply", "grading"),
    [
        ("number", "1080", "2 * 540 = 1080\n#### 1,080", "right"),
        ("number", "5", "#### 5.0", "right"),
        ("number", "5", "#### -5", "wrong"),
        ("number", "5", "I do not know.", "unextracted"),
        ("number", "5", "", "unextracted"),
        ("number", "5", "#### 5\n\nQ: 3 and 4?\nA: #### 7", "right"),
        ("choice", "B", "B", "right"),
        ("choice", "B", "The answer is (C).", "wrong"),
        ("choice", "B", "The answer is D.", "unextracted"),  # there are three choices
        ("choice", "B", "water", "unextracted"),
    ],
)
def test_grading(kind: str, reference: str, reply: str, grading: str) -> None:
    meta = {"kind": kind, "choices": ["fire", "water", "sand"]}
    item = Item(item_id="q", prompt="?", reference=reference, meta=meta)
    assert grade(item, reply) == grading


@pytest.mark.parametrize(
    ("name", "train", "test"),
    [
        ("gsm8k", 7_473, 660),
        ("svamp", 200, 300),  # every second row of 1,000 is there, and 300 are drawn for the test
        ("arc_easy", 2_251, 1_188),
        ("arc_challenge", 1_119, 586),
        ("mmlu", 285, 3_482),
    ],
)
def test_real_files(shared_data: Path, name: str, train: int, test: int) -> None:
    for split, count in (("train", train), ("test", test)):
        items = load_questions(name, shared_data, split)  # type: ignore[arg-type]
        assert len(items) == len({item.item_id for item in items}) == count
        right = [
            grade(item, f"#### {item.reference}" if name in {"gsm8k", "svamp"} else item.reference)
            for item in items
            if item.reference
        ]
        assert right == ["right"] * count


def test_real_sources_are_as_large_as_in_the_paper(shared_data: Path) -> None:
    counts = {
        name: len(list(load_source(name, shared_data)))
        for name in ("gsm8k", "svamp", "arc_easy", "arc_challenge")
    }
    assert counts == {"gsm8k": 200, "svamp": 300, "arc_easy": 500, "arc_challenge": 500}
    assert len(list(load_source("gsm8k", shared_data, "train"))) == 5_000
    assert len(list(load_source("gsm8k_full", shared_data))) == 660
    train, test = (
        {item.prompt for item in load_questions("svamp", shared_data, split)}  # type: ignore[arg-type]
        for split in ("train", "test")
    )
    assert not train & test
