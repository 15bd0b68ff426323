"""Replies collected elsewhere, read by our parsers; published figures come out to all digits."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from mipo_eval.errors import DataError
from mipo_eval.judges.judge import CUT, UNPARSED
from mipo_eval.judges.labelled import LabelledPair, pair_rows, people_agreement
from mipo_eval.judges.quality import order_report, quality
from mipo_eval.judges.replies import (
    NO_REPLY,
    is_reply_file,
    llmbar_verdicts,
    parse_arena,
    read_replies,
    read_set_replies,
)
from mipo_eval.metrics.agreement import agreement
from mipo_eval.signature import NOTHING

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


def test_a_reply_that_was_cut_off_has_a_verdict_only_if_it_ends_in_one(tmp_path: Path) -> None:
    cut = {"shown_first": "first", "finish_reason": "length"}
    path = write(
        tmp_path,
        {"pair_id": "0", "reply": "Long.\n\n[[A]]", **cut},
        {"pair_id": "1", "reply": "Response A is better. However,", **cut},
        {"pair_id": "2", "reply": "Response A is better. However,", "shown_first": "first"},
    )
    readings = read_replies(path, PAIRS)
    assert [reading.straight for reading in readings] == ["a", None, "a"]
    assert readings[1].unread == (CUT,)


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
        ([], "contains no replies"),
        (
            [{"pair_id": "9", "shown_first": "first", "reply": "a"}],
            "line 1: there is no pair with the id",
        ),
        ([{"pair_id": "0", "reply": "a"}], "line 1: give shown_first"),
        ([RATING | CHOICE], "line 1: give shown_first"),
        ([CHOICE, RATING | {"pair_id": "1"}], "line 2: choices and ratings cannot be in one file"),
        ([CHOICE, CHOICE], "line 2: there are two such replies to the pair '0'"),
        (
            [RATING | {"preference": 2}],
            "line 1: the pair has 2 preferences, which are counted from 0",
        ),
        (
            [RATING | {"preference": -1}],
            "line 1: the pair has 2 preferences, which are counted from 0",
        ),
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
    with pytest.raises(DataError, match="is not there"):
        read_replies(tmp_path / "nowhere.jsonl", PAIRS)


SUBSETS = ("Adversarial/Neighbor", "Natural")
JUDGES = ("ChatGPT", "GPT-4")
PROMPTS = ("CoT", "Rating", "Rating_NoRules", "Vanilla", "Vanilla_NoRules")
JUDGEBENCH = (
    "dataset=judgebench,response_model=claude-3-5-sonnet-20240620,"
    "judge_name=arena_hard,judge_model=claude-3-haiku-20240307"
)


def share(published: str) -> tuple[int, int]:
    """ "31 / 134 = 23.134328358208954%" as (31, 134)."""
    right, _, total = published.partition(" = ")[0].partition(" / ")
    return int(right), int(total)


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("judge", JUDGES)
@pytest.mark.parametrize("subset", SUBSETS)
def test_llmbar(shared_data: Path, subset: str, judge: str, prompt: str) -> None:
    folder = shared_data / "llmbar" / "LLMBar" / subset / "evaluators" / judge / prompt
    readings = read_set_replies("llmbar", folder / "result.json")
    assert {reading.pair.subset for reading in readings} == {subset}
    report = order_report(readings)
    published = json.loads((folder / "statistics.json").read_text())
    for ours, theirs in (
        (report.accuracy_straight, "correct_False"),
        (report.accuracy_swapped, "correct_True"),
        (report.accuracy_both, "correct_both"),
        (report.agreement, "equal"),
    ):
        right, n = share(published[theirs])
        assert (ours, report.n) == (100 * right / n, n)
    assert f"{report.accuracy_average}%" == published["correct_average"]
    truth = json.loads((shared_data / "llmbar" / "GROUND_TRUTH.json").read_text())
    truth = truth[f"LLMBar/{subset}/evaluators/{judge}/{prompt}"]
    for kappa, name in ((report.kappa_straight, "order1"), (report.kappa_swapped, "order2")):
        if truth.get(f"kappa_{name}") is not None:
            assert kappa == pytest.approx(truth[f"kappa_{name}"], abs=1e-12)
    found = quality(readings, signature=NOTHING)
    if "pointwise" in truth:
        strict, tolerant, ties = found.judge.strict, found.judge.tie_tolerant, found.judge.tie_rate
        assert strict is not None
        assert tolerant is not None
        assert ties is not None
        assert strict.n == truth["pointwise"]["parsed"]
        assert round((ties.value or 0) * ties.n / 100) == truth["pointwise"]["ties"]
        # The published shares are over all pairs, an unread rating counting as wrong.
        for score, name in ((strict, "strict"), (tolerant, "tie_tolerant")):
            over_all = (score.value or 0) * score.n / report.n
            assert over_all == pytest.approx(100 * truth["pointwise"][f"{name}_accuracy"])
    else:
        assert report.unread == truth["unparsed"]
        first = found.first_place_rate
        assert first is not None
        named = (first.value or 0) * first.n / (2 * report.n)
        assert named == pytest.approx(100 * truth["first_position_rate"], abs=1e-9)


def test_llmbar_without_replies_is_pairs_only(shared_data: Path) -> None:
    path = shared_data / "llmbar/LLMBar/Natural/dataset.json"
    pairs = [pair for pair, _ in pair_rows("llmbar", path)]
    assert len(pairs) == 100
    assert Counter(pair.label for pair in pairs)["tie"] == 0
    with pytest.raises(DataError, match="no replies"):
        read_set_replies("llmbar", path)


@pytest.mark.parametrize(
    ("first", "second", "verdicts"),
    [(5, 3, "aa"), (3, 5, "bb"), (4, 4, "ba"), (None, 4, "ab"), (4, None, "ab")],
)
def test_llmbars_rule_for_ratings(first: int | None, second: int | None, verdicts: str) -> None:
    assert "".join(llmbar_verdicts(first, second)) == verdicts


def test_judgebench(shared_data: Path) -> None:
    loaded = read_set_replies("judgebench", shared_data / "judgebench" / f"{JUDGEBENCH}.jsonl")
    truth = json.loads((shared_data / "judgebench" / "GROUND_TRUTH.json").read_text())[JUDGEBENCH]
    for subset in ("overall", "knowledge", "reasoning", "math", "coding"):
        readings = [r for r in loaded if subset in {"overall", r.pair.subset}]
        expected = truth[subset]
        report = order_report(readings)
        signs = {"a": 1, "b": -1, "tie": 0, None: 0}
        # JudgeBench's rule: the verdicts for the label must outnumber those against it.
        toward = [
            (signs[r.straight] + signs[r.swapped]) * signs[r.pair.label]  # type: ignore[operator]
            for r in readings
        ]
        assert report.n == expected["n"]
        assert report.accuracy_by_sum == 100 * sum(t > 0 for t in toward) / report.n
        assert report.accuracy_by_sum == expected["accuracy"]
        assert sum(t < 0 for t in toward) == expected["incorrect"]
        assert sum(t == 0 for t in toward) == expected["ties"]
        assert report.unread == expected["nulls"]
        assert report.accuracy_both == 100 * expected["both_orders_correct"] / report.n
        assert sum(r.straight != r.swapped for r in readings) == expected["inconsistent"]


def test_judgebench_without_replies(shared_data: Path) -> None:
    path = shared_data / "judgebench" / f"{JUDGEBENCH.partition(',judge')[0]}.jsonl"
    assert len(pair_rows("judgebench", path)) == 270
    with pytest.raises(DataError, match="no replies"):
        read_set_replies("judgebench", path)


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("My final verdict is [[A>>B]]", "a"),
        ("[[A>B]]", "a"),
        ("[[A=B]]", "tie"),
        ("[[B>A]] and again [[B>A]]", "b"),
        ("[[A>B]] no, [[A>>B]]", None),
        ("[[A>B]] or [[B>A]]", None),
        ("[[A<B]]", None),
        ("A>B", None),
        ("", None),
    ],
)
def test_parse_arena(reply: str, verdict: str | None) -> None:
    assert parse_arena(reply) == verdict


def test_pandalm_people_agree_as_published(shared_data: Path) -> None:
    folder = shared_data / "pandalm"
    truth = json.loads((folder / "GROUND_TRUTH.json").read_text())
    pairs = [pair for pair, _ in pair_rows("pandalm", folder / "testset-v1.json")]
    codes = {"tie": "0", "a": "1", "b": "2"}
    counts = Counter(codes[pair.label] for pair in pairs)
    assert (len(pairs), dict(counts)) == (truth["n"], truth["majority_distribution"])
    found = people_agreement(pairs)
    assert {f"{i}-{j}" for i, j in found} == truth["cohen_kappa"].keys()
    for (i, j), (n, _, kappa, *_) in found.items():
        assert n == truth["n"]
        assert kappa == pytest.approx(truth["cohen_kappa"][f"{i}-{j}"], abs=1e-12)
        assert round(kappa or 0, 2) == truth["published_kappa"][f"{i}-{j}"]


def test_pandalm_judge_is_as_accurate_as_published(shared_data: Path) -> None:
    folder = shared_data / "pandalm"
    truth = json.loads((folder / "GROUND_TRUTH.json").read_text())["pandalm-7b"]
    readings = read_set_replies("pandalm", folder / "pandalm-7b-testset-v1.json")
    said, gold = [r.straight for r in readings], [r.pair.label for r in readings]
    found = agreement(said, gold)
    assert found.share == pytest.approx(100 * truth["accuracy"], abs=1e-12)
    assert found.kappa == pytest.approx(truth["cohen_kappa_vs_majority"], abs=1e-12)
    codes = {"tie": 0, "a": 1, "b": 2, None: None}
    confusion = {
        f"{codes[g]}->{codes[s]}": n for (g, s), n in Counter(zip(gold, said, strict=True)).items()
    }
    assert confusion == truth["confusion"]


def test_psoups_pairs_carry_the_persona_as_the_preference(shared_data: Path) -> None:
    rows = pair_rows("psoups", shared_data / "psoups_alignx" / "student_phd.json")
    pairs = [pair for pair, _ in rows]
    assert len(pairs) == 600
    assert {pair.label for pair in pairs} == {"a"}
    assert all(len(pair.preferences) == 1 for pair in pairs)
    assert pairs[0].item().preferences == pairs[0].preferences


@pytest.mark.parametrize("name", ["llmbar", "judgebench", "pandalm", "psoups"])
def test_a_file_of_another_format_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / "other.json"
    path.write_text('[{"a": 1}]\n')
    with pytest.raises(DataError, match=f"is not in the format of {name}"):
        pair_rows(name, path)
    with pytest.raises(DataError, match="is not there"):
        pair_rows(name, tmp_path / "nowhere.json")


def test_an_unknown_set_lists_the_known() -> None:
    with pytest.raises(DataError, match="known: llmbar, judgebench, pandalm, psoups"):
        pair_rows("mtbench", Path("x"))


def test_a_line_without_a_reply_is_wrong_and_a_cell_without_one_is_absent(tmp_path: Path) -> None:
    row = {"pair_id": "0", "shown_first": "first", "reply": "response_a"}
    with pytest.raises(DataError, match="reply"):
        read_replies(write(tmp_path, row, {"pair_id": "1", "shown_first": "first"}), PAIRS)
    path = tmp_path / "replies.parquet"
    columns = {"pair_id": ["0", "1"], "shown_first": ["first"] * 2, "reply": ["response_a", None]}
    parquet.write_table(pyarrow.table(columns), path)
    first, second, _ = read_replies(path, PAIRS)
    assert (first.straight, second.straight, second.unread) == ("a", None, (NO_REPLY,))


def test_what_cannot_be_read_of_a_public_set_says_so(tmp_path: Path) -> None:
    told = {"input": "q", "output_1": "one", "output_2": "two", "label": 1}
    orders = (["Output (a)", "no idea"], ["Output (a)", "Output (b)"])
    choices = [
        {f"swap = {n == 1}": {"completion": [reply, "stop"]} for n, reply in enumerate(own)}
        for own in orders
    ]
    ratings = {"score_1": ["7", "stop"], "score_2": ["dunno", "stop"]}
    path = tmp_path / "result.json"
    path.write_text(json.dumps([told | {"results": [own]} for own in (*choices, ratings)]))
    half, whole, rated = read_set_replies("llmbar", path)
    assert (half.straight, half.swapped, half.unread) == ("a", None, (UNPARSED,))
    assert (whole.straight, whole.swapped, whole.unread) == ("a", "a", ())
    assert (rated.ratings, rated.replies, rated.unread) == ((7, None), 2, (UNPARSED,))
