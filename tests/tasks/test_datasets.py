"""Raw rows to choices and instructions: what is taken, what is dropped and why, drift."""

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from mipo_eval.errors import DataError
from mipo_eval.tasks.datasets import CUT_OFF, Dropped, UserChoice
from mipo_eval.tasks.datasets.ca import ca_choices
from mipo_eval.tasks.datasets.mb import Instruction, mb_instructions
from mipo_eval.tasks.datasets.prism import prism_choices
from tests.tasks.rows import ca_row, mb_row, prism_rows, utterance

Found = Iterable[UserChoice | Instruction | Dropped]


def drops(found: Found) -> Counter[str]:
    return Counter(entry.reason for entry in found if isinstance(entry, Dropped))


def test_prism_opening_turns() -> None:
    choices = list(prism_choices(prism_rows(3), "x"))
    assert [c.source_id for c in choices if isinstance(c, UserChoice)] == ["c0-0", "c1-0", "c2-0"]
    first = choices[0]
    assert isinstance(first, UserChoice)
    assert first.prompt == "What should I know about bread number 0, turn 0?"
    assert first.chosen == "Answer 1 of 0-0 on bread."  # score 90
    assert first.rejected == "Answer 2 of 0-0 on bread."  # score 15, the lowest
    assert (first.meta["chosen_score"], first.meta["rejected_score"]) == (90, 15)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ([{"if_chosen": False}, {}], "no preferred response"),
        ([{"score": 50}, {"score": 50}], "no response has a lower score"),
        ([{"model_response": "EMPTY STRING"}, {}], "no preferred response"),
        ([{}, {"model_response": " "}], "no response has a lower score"),
        ([{"model_response": "same"}, {"model_response": "same "}], "all responses are the same"),
        ([{"user_prompt": " "}, {"user_prompt": " "}], "no prompt"),
    ],
)
def test_prism_drops(changes: list[dict[str, Any]], reason: str) -> None:
    rows = [utterance(0, 0, 0, score=90, chosen=True), utterance(0, 0, 1, score=20, chosen=False)]
    changed = [row | change for row, change in zip(rows, changes, strict=True)]
    assert drops(prism_choices(changed, "x")) == {reason: 1}


def test_community_alignment() -> None:
    [choice] = ca_choices([ca_row(1, 3)], "x")
    assert isinstance(choice, UserChoice)
    assert choice.user_id == "3"
    assert choice.prompt == "Tell me about taxes 1 first"
    assert choice.chosen == "c on taxes 1 first"  # without the end mark
    assert choice.rejected in {f"{letter} on taxes 1 first" for letter in "abd"}
    rejected = {
        entry.rejected[0]
        for entry in ca_choices([ca_row(n, 3) for n in range(40)], "x")
        if isinstance(entry, UserChoice)
    }
    assert rejected == {"a", "b", "d"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"first_turn_prompt": ""}, "no prompt"),
        ({"first_turn_prompt": None}, "no prompt"),
        ({"first_turn_prompt": float("nan")}, "no prompt"),
        ({"first_turn_preferred_response": "nan"}, "no preferred response"),
        ({"first_turn_preferred_response": "response_e"}, "the preferred response is none of"),
        ({"first_turn_response_c": "<|end_of_text|>"}, "the preferred response is none of"),
        ({f"first_turn_response_{letter}": "same" for letter in "abcd"}, "all responses are the"),
    ],
)
def test_community_alignment_drops(changes: dict[str, Any], reason: str) -> None:
    [(found, count)] = drops(ca_choices([ca_row(1, 1, **changes)], "x")).items()
    assert found.startswith(reason)
    assert count == 1


def test_the_real_instruction_keeps_its_meaning(shared_data: Path) -> None:
    rows = json.loads((shared_data / "multifaceted_bench/one_real_instance.json").read_text())
    [found] = mb_instructions(rows, "x")
    assert isinstance(found, Instruction)
    assert found.system == rows[0]["system"]
    assert found.reference_answer == rows[0]["reference_answer"]
    assert found.prompt == rows[0]["prompt"].replace("\\n", "\n")
    for rubric, raw in zip(found.rubric, rows[0]["rubric"], strict=True):
        assert rubric.criteria == raw["criteria"]
        assert {str(k): v for k, v in rubric.score_descriptions.items()} == raw[
            "score_descriptions"
        ]
    [hub] = mb_instructions([{"rubrics": rows[0].pop("rubric"), **rows[0]}], "x")
    assert hub == found


def test_multifaceted_bench_drops() -> None:
    rows = [mb_row(1), mb_row(1), mb_row(2, rubric=mb_row(2)["rubric"][:3])]
    found = list(mb_instructions(rows, "x"))
    assert sum(isinstance(entry, Instruction) for entry in found) == 1
    assert drops(found) == {"repeated row": 1, "3 rubrics instead of 4": 1}


def without(row: dict[str, Any], column: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != column}


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (
            ca_choices([ca_row(1, 1), without(ca_row(1, 1), "annotator_id")], "f.csv"),
            "f.csv, row 2, field annotator_id: is missing; add it; expected the columns",
        ),
        (
            prism_choices([without(next(prism_rows(1)), "score")], "u.jsonl"),
            "u.jsonl, row 1, field score: is missing; add it; expected the columns of PRISM's",
        ),
        (
            prism_choices([next(prism_rows(1)) | {"score": "high"}], "u.jsonl"),
            "u.jsonl, row 1, field score: must be a whole number, not text",
        ),
        (
            mb_instructions([mb_row(1, reference_answer="")], "b.json"),
            "b.json, row 1, field reference_answer: is blank",
        ),
    ],
)
def test_schema_drift_is_told(found: Found, message: str) -> None:
    with pytest.raises(DataError) as caught:
        list(found)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def _spoken(choice: UserChoice) -> list[tuple[str, str]]:
    return [(turn.role, turn.content) for turn in choice.earlier]


def test_every_turn_of_prism_comes_with_what_was_chosen_before_it() -> None:
    choices = [c for c in prism_choices(prism_rows(2), "x", 0, "all") if isinstance(c, UserChoice)]
    assert [c.source_id for c in choices] == ["c0-0", "c0-1", "c1-0", "c1-1"]
    opening, later = choices[:2]
    assert opening == next(iter(prism_choices(prism_rows(1), "x")))
    assert later.prompt == "What should I know about bread number 0, turn 1?"
    assert (later.chosen, later.rejected) == (
        "Answer 0 of 0-1 on bread.",
        "Answer 1 of 0-1 on bread.",
    )
    assert _spoken(later) == [("user", opening.prompt), ("assistant", opening.chosen)]
    [item] = later.items({"tone": "Be warm."})
    assert [turn.content for turn in item.messages] == [opening.prompt, opening.chosen]
    assert item.group_id != opening.items({"tone": "Be warm."})[0].group_id
    assert opening.chosen in later.question()


def test_what_follows_a_turn_without_a_choice_is_dropped() -> None:
    rows = [row | {"if_chosen": bool(row["turn"])} for row in prism_rows(1)]
    assert drops(prism_choices(rows, "x", 0, "all")) == {"no preferred response": 1, CUT_OFF: 1}
    row = ca_row(1, 3, first_turn_preferred_response="")
    assert drops(ca_choices([row], "x", 0, "all")) == {"no preferred response": 1, CUT_OFF: 1}


def test_every_turn_of_community_alignment() -> None:
    choices = list(ca_choices([ca_row(1, 3)], "x", 0, "all"))
    assert [c.source_id for c in choices if isinstance(c, UserChoice)] == ["1-0", "1-1"]
    later = choices[1]
    assert isinstance(later, UserChoice)
    assert (later.prompt, later.chosen) == ("Tell me about taxes 1 second", "c on taxes 1 second")
    assert _spoken(later) == [
        ("user", "Tell me about taxes 1 first"),
        ("assistant", "c on taxes 1 first"),
    ]
    assert later.meta["turn"] == 1
    # A copy that holds only opening turns is read all the same.
    short = {name: cell for name, cell in ca_row(1, 3).items() if "first" in name or "_id" in name}
    assert choices[:1] == list(ca_choices([short | {"assigned_lang": "en"}], "x", 0, "all"))
