"""PersonaMem, LaMP-QA and Personalized RewardBench, from small files in their real schemas."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from mipo_eval.cli import main
from mipo_eval.errors import DataError
from mipo_eval.tasks.answers import grade
from mipo_eval.tasks.pairs import load_pairs
from mipo_eval.tasks.prompt import as_dicts, turns_to
from mipo_eval.tasks.sources import load_source
from tests.servers.http import Act, Call
from tests.servers.openai_server import OpenAIServer, ok

HISTORY = [
    {"role": "system", "content": "Current user persona: Ana, a baker in Porto."},
    {"role": "user", "content": "User: I gave up coffee last week."},
    {"role": "assistant", "content": "Assistant: Good luck with that!"},
    {"role": "system", "content": "Current user persona: Ana, a baker in Porto, 2 weeks later."},
    {"role": "user", "content": "User: I now drink mint tea in the mornings."},
    {"role": "assistant", "content": "Assistant: Mint is refreshing."},
    {"role": "user", "content": "User: And I sold my espresso machine."},
]
OPTIONS = ["How about an espresso?", "Mint tea, as every morning?", 'It\'s "late".', "Cola?"]


def personamem(folder: Path, size: str = "32k", **changes: Any) -> None:
    """Two questions of one persona, at two points of its history."""
    folder = folder / "personamem"
    folder.mkdir(parents=True, exist_ok=True)
    row = {
        "persona_id": "3",
        "question_id": "2e72a433",
        "question_type": "recall_user_shared_facts",
        "topic": "food",
        "context_length_in_tokens": "20110",
        "context_length_in_letters": "100669",
        "distance_to_ref_in_blocks": "2",
        "distance_to_ref_in_tokens": "478",
        "num_irrelevant_tokens": "139",
        "distance_to_ref_proportion_in_context": "99.56%",
        "user_question_or_message": "What could I drink now?",
        "correct_answer": "(b)",
        "all_options": repr([f"({x}) {o}" for x, o in zip("abcd", OPTIONS, strict=True)]),
        "shared_context_id": "c26f05",
        "end_index_in_shared_context": "3",
    }
    rows = [row | changes, row | {"question_id": "ab52", "end_index_in_shared_context": "6"}]
    with (folder / f"questions_{size}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, row)
        writer.writeheader()
        writer.writerows(rows)
    line = json.dumps({"c26f05": HISTORY})
    (folder / f"shared_contexts_{size}.jsonl").write_text(f"{line}\n", encoding="utf-8")


def lamp_row(number: int, posts: Sequence[str], **more: Any) -> dict[str, Any]:
    """One row of LaMP-QA."""
    return {
        "id": f"q{number}",
        "category": "Gardening",
        "question": f"When should I plant tulip bulbs in bed {number}?",
        "narrative": "I have clay soil and little time.",
        "profile": [
            {"id": f"p{n}", "category": "Gardening", "text": text} for n, text in enumerate(posts)
        ],
        "rubric_aspects": [
            {"aspect": "Clay soil", "reason": "They garden on clay.", "evidence": "clay soil"},
            {"aspect": "Little time.", "reason": "", "evidence": "little time"},
        ],
    } | more


POSTS = [f"Post {n} about cars." for n in range(12)] + ["My tulip bulbs rot, why? In bed 1."]
PAIR = {"chosen": "On clay, plant in November.", "rejected": "In sand, any time."}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with all three."""
    folder = tmp_path / "data"
    personamem(folder)
    (folder / "lamp_qa").mkdir()
    (folder / "lamp_qa/Lifestyle_test.json").write_text(json.dumps([lamp_row(1, POSTS)]))
    (folder / "lamp_qa/Lifestyle_train.json").write_text("[]")
    ranked = [lamp_row(2, POSTS)]
    (folder / "lamp_qa/Society_test_ranked.json").write_text(json.dumps(ranked))
    (folder / "personalized_rewardbench/Art").mkdir(parents=True)
    rows = [lamp_row(n, POSTS[-2:], **PAIR) for n in range(8)]
    parquet.write_table(
        pa.Table.from_pylist(rows),
        folder / "personalized_rewardbench/Art/test-00000-of-00001.parquet",
    )
    return folder


def test_personamem_is_asked_at_the_end_of_the_conversations_before(data: Path) -> None:
    first, second = load_source("personamem", data)
    assert (first.item_id, first.user_id, first.reference) == (
        "personamem-2e72a433",
        "persona-3",
        "B",
    )
    assert first.prompt.splitlines()[0] == "What could I drink now?"
    assert first.prompt.splitlines()[-3] == "B. Mint tea, as every morning?"
    assert first.meta["choices"] == OPTIONS
    assert [turn.role for turn in first.messages] == ["system", "user", "assistant"]
    assert [turn.role for turn in second.messages] == [
        *("system", "user", "assistant", "user", "assistant")
    ]
    assert second.messages[3].content == (
        "[System]: Current user persona: Ana, a baker in Porto, 2 weeks later.\n"
        "User: I now drink mint tea in the mornings."
    )
    asked = as_dicts(turns_to(second.prompt, second.messages))
    assert [turn["role"] for turn in asked] == [*["system"], *["user", "assistant"] * 2, "user"]
    assert grade(first, "The answer is B") == "right"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"correct_answer": "(e)"}, "row 1, field correct_answer: input should be '(a)'"),
        ({"all_options": "[open('x')]"}, "row 1, field all_options: is no list of texts"),
        ({"all_options": "['(a) x', '(b) y', 'z']"}, "'z' is not option (c)"),
        ({"all_options": "['(a) x']"}, "row 1: (b) is none of 1 options"),
        ({"shared_context_id": "other"}, "shared_contexts_32k.jsonl has no context 'other'"),
        ({"end_index_in_shared_context": "many"}, "field end_index_in_shared_context: must be"),
    ],
)
def test_a_row_of_personamem_that_is_wrong_is_named(
    tmp_path: Path, changes: dict[str, str], message: str
) -> None:
    personamem(tmp_path, **changes)
    with pytest.raises(DataError) as caught:
        list(load_source("personamem", tmp_path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_lamp_qa_shows_the_posts_that_matter(data: Path) -> None:
    first, ranked = load_source("lamp_qa", data)
    assert first.prompt == "When should I plant tulip bulbs in bed 1?"
    assert first.context.startswith("Earlier posts of mine:\n\nMy tulip bulbs rot, why? In bed 1.")
    assert first.context.count("Post ") == 9
    assert "tulip" not in ranked.context, "the file's own order counts"
    assert first.preferences == ("Covers Clay soil. They garden on clay.", "Covers Little time.")
    assert first.reference is None
    assert first.meta == {"category": "Gardening", "narrative": "I have clay soil and little time."}
    assert "narrative" not in first.context


def test_personalized_rewardbench_is_a_suite_and_two_sets_of_pairs(data: Path) -> None:
    items = list(load_source("personalized_rewardbench", data))
    assert {item.reference for item in items} == {PAIR["chosen"]}
    by_posts = load_pairs("personalized_rewardbench", data)
    by_aspects = load_pairs("personalized_rewardbench_aspects", data)
    for pairs in (by_posts, by_aspects):
        assert {pair.label for pair in pairs} == {"a", "b"}, "either place"
        for pair in pairs:
            chosen = pair.first if pair.label == "a" else pair.second
            assert (chosen, pair.subset) == (PAIR["chosen"], "Gardening")
    told = by_posts[0]
    assert "My tulip bulbs rot" in told.prompt
    assert "lay soil" not in f"{told.prompt} {told.preferences}", "the aspects are not given away"
    assert by_aspects[0].preferences == items[0].preferences


def test_a_served_model_answers_personamem(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def answer(call: Call) -> Act:
        said = call.body["messages"]
        knows = said[0]["role"] == "system" and any("2 weeks" in turn["content"] for turn in said)
        return ok("The answer is B" if knows else "The answer is A")

    with OpenAIServer(answer) as server:
        argv = [
            "--model",
            f"openai:judge@{server.url}",
            "--suite",
            "personamem",
            "--data",
            str(data),
        ]
        assert main([*argv, "--json"]) == 0
    scores = {s["metric"]: s for s in json.loads(capsys.readouterr().out)["scores"]}
    assert (scores["accuracy"]["value"], scores["accuracy"]["n"]) == (50.0, 2)


def test_a_missing_file_says_where_it_was_looked_for(tmp_path: Path) -> None:
    for name, where in (
        ("personamem", "personamem/questions_32k.csv"),
        ("lamp_qa", "lamp_qa/**/*test*.*"),
        ("personalized_rewardbench", "personalized_rewardbench/**/*test*.*"),
    ):
        with pytest.raises(DataError, match="was not found: looked for") as caught:
            list(load_source(name, tmp_path))
        assert where in str(caught.value)
