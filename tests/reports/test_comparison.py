"""Comparisons of stored runs: values known from how the served models answer."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mipo_eval.cli import main
from mipo_eval.errors import ConfigError
from mipo_eval.evaluation.outcomes import DERIVED, METRICS, OF_CHOICES
from mipo_eval.evaluation.wishes import WISHED
from mipo_eval.reports.comparison import ComparisonQuery, compare_runs
from mipo_eval.stats import length_controlled
from mipo_eval.store import Store
from mipo_eval.store.judges import put_judge
from mipo_eval.store.responses import put_generation
from mipo_eval.store.runs import list_runs, put_run
from tests.reports.judged import ITEMS, add_rater, add_run, open_store, text_of
from tests.reports.sheets import assert_like_stored
from tests.reports.stores import N_ITEMS, Served


def _json(capsys: pytest.CaptureFixture[str], *argv: str) -> Any:
    capsys.readouterr()
    assert main([*argv, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


_ABSENT = {*DERIVED, *OF_CHOICES, *WISHED, "accuracy", "response_characters", "thinking_tokens"}
STORED = [metric for metric in METRICS if metric not in _ABSENT]


@pytest.mark.parametrize("metric", STORED)
def test_sheets_have_the_means_and_counts_of_the_stored_scores(served: Served, metric: str) -> None:
    """The main job computed these scores by its own way through the same verdicts."""
    with Store.open(str(served.path), mode="read") as store:
        from mipo_eval.store.judges import find_judge

        runs = list_runs(store)
        assert_like_stored(store, runs, metric, find_judge(store, "judge").key)


def test_a_comparison_counts_pairs_and_what_is_missing(served: Served) -> None:
    with Store.open(str(served.path), mode="read") as store:
        (task,) = compare_runs(
            store, [served.id("mipo-seed0"), served.id("base")], ComparisonQuery()
        )
    (pair,) = task.comparisons
    # mipo wins 20 of 24; base wins none: its good answers are rated below the reference.
    assert pair.first.startswith(served.id("mipo-seed0")[:8])
    assert (pair.n, pair.only_first, pair.only_second) == (23, 1, 0)
    assert (pair.wins, pair.ties, pair.losses) == (19, 4, 0)
    assert pair.difference == pytest.approx(100 * 19 / 23)
    assert pair.p_sign == pytest.approx(2 / 2**19)
    assert pair.detectable is not None
    by_label = {side.label: side for side in task.sides}
    assert dict(by_label[pair.second].unscored) == {"unparsable reply": 1}
    assert task.made_differently == {}


def test_ties_follow_the_rule(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    runs = (served.id("sft-seed0"), served.id("sft-seed1"))
    values = {}
    for rule in ("win", "half", "loss"):
        (task,) = _json(capsys, "compare", *runs, "--ties", rule)["tasks"]
        values[rule] = [side["value"] for side in task["runs"]]
        assert [side["tie_rate"] for side in task["runs"]] == pytest.approx(
            [100 * 14 / N_ITEMS, 100 * 12 / N_ITEMS]
        )
    assert values["win"] == pytest.approx([100 * 14 / N_ITEMS, 100 * 12 / N_ITEMS])
    assert values["half"] == pytest.approx([50 * 14 / N_ITEMS, 50 * 12 / N_ITEMS])
    assert values["loss"] == [0.0, 0.0]


def test_what_the_items_can_show_stands_beside_a_difference(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = (served.id("sft-seed0"), served.id("sft-seed1"))
    (task,) = _json(capsys, "compare", *runs)["tasks"]
    (pair,) = task["comparisons"]
    assert pair["detectable_difference"] > pair["difference"]
    assert (pair["significant"], pair["p_adjusted"]) == (False, None)
    assert main(["compare", *runs]) == 0
    shown = capsys.readouterr().out
    assert "+8.3 [" in shown
    assert "detectable" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_a_family_is_corrected_and_a_baseline_is_second(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    others = [served.id(name) for name in ("mipo-seed0", "mipo-seed1", "sft-seed0")]
    argv = ("compare", *others, "--baseline", served.id("base"))
    (task,) = _json(capsys, *argv)["tasks"]
    pairs = task["comparisons"]
    assert [pair["second"][:8] for pair in pairs] == [served.id("base")[:8]] * 3
    for pair in pairs:
        assert pair["p_adjusted"] >= pair["p_permutation"]
    (all_pairs,) = _json(capsys, "compare", *others, served.id("base"))["tasks"]
    assert len(all_pairs["comparisons"]) == 6


def test_runs_made_differently_are_marked(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["--model", f"openai:base@{served.model}", "--suite", "tea.jsonl"]
    argv += ["--judge", served.judge, "--decoding", "max_tokens=99"]
    longer = _json(capsys, *argv)["run_id"]
    (task,) = _json(capsys, "compare", longer[:12], served.id("mipo-seed0"))["tasks"]
    assert task["comparisons"][0]["signatures_differ"] == {"decoding": ["greedy-99", "greedy-256"]}
    assert main(["compare", longer[:12], served.id("mipo-seed0")]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Runs 1 and 2 were made differently: decoding (greedy-99 / greedy-256)" in shown
    (task,) = _json(capsys, "compare", served.id("base"), served.id("base", "default"))["tasks"]
    (pair,) = task["comparisons"]
    assert pair["signatures_differ"] == {}
    assert pair["chosen_differently"] == {"prompting": ["personalized", "default"]}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["nope", "{base}"], "no run 'nope'"),
        (["{base}"], "needs two different runs"),
        (["{base}", "{base}"], "needs two different runs"),
        (["{base}", "{mipo}", "--judge", "gpt"], "no judge 'gpt'"),
        (["{base}", "{mipo}", "--metric", "accuracy"], "have no right answer"),
        (["{base}", "{mipo}", "--metric", "x"], "'x' has no value for each item"),
    ],
)
def test_bad_input_is_one_clear_line(
    served: Served, argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"base": served.id("base"), "mipo": served.id("mipo-seed0")}
    assert main(["compare", *(word.format(**names) for word in argv)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_runs_of_two_suites_and_of_two_judges_are_refused(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    from pathlib import Path

    Path("more.jsonl").write_bytes(Path("tea.jsonl").read_bytes())
    argv = ["--model", f"openai:base@{served.model}", "--limit", "4"]
    other = _json(capsys, *argv, "--suite", "more.jsonl", "--judge", served.judge)["run_id"]
    unjudged = _json(capsys, *argv, "--suite", "tea.jsonl")["run_id"]
    with Store.open(str(served.path), mode="read") as store:
        with pytest.raises(ConfigError, match="runs of different suites"):
            compare_runs(store, [other, served.id("base")], ComparisonQuery())
        with pytest.raises(ConfigError, match=r"no judge rated two of these runs .* by none"):
            compare_runs(store, [unjudged, served.id("base")], ComparisonQuery())


def test_net_wins_are_compared_and_signed(served: Served) -> None:
    with Store.open(str(served.path), mode="read") as store:
        names = [served.id("mipo-seed0"), served.id("base")]
        (task,) = compare_runs(store, names, ComparisonQuery(metric="net_win_rate"))
    (pair,) = task.comparisons
    # Of the 23 items of both, mipo wins 19 and loses 4; base loses all.
    assert pair.difference == pytest.approx(100 * (19 - 4) / 23 + 100)
    assert all("ties:net" in str(side.signature) for side in task.sides)


def _liked(model: str, number: int) -> bool:
    return number % 3 == 0 or ("wordy" in model and number % 4 >= 2)


def _liked_for_length(model: str, number: int, aspect: int) -> int:
    """The judge rates every third answer of all, and a wordy one's long ones, above a reference."""
    return 3 if model == "reference" else 4 if _liked(model, number) else 2


@pytest.mark.parametrize("tokens", [True, False])
def test_length_is_controlled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *, tokens: bool
) -> None:
    """In tokens where both runs tell them, in characters otherwise; never in both."""
    with open_store(tmp_path) as store:
        runs = [
            add_run(store, "wordy-1b", tokens=True).run_id,
            add_run(store, "brief-1b", tokens=tokens).run_id,
        ]
        add_rater(store, "judge", ["wordy-1b", "brief-1b"], _liked_for_length)
    argv = ("compare", *runs, "--judge", "judge", "--control-length")
    (task,) = _json(capsys, *argv, "--store", str(tmp_path / "judged.db"))["tasks"]
    (pair,) = task["comparisons"]
    found = pair["at_equal_length"]

    def size(model: str, number: int) -> int:
        text = text_of(model, number)
        return len(text.split()) if tokens else len(text)

    won = [number % 3 != 0 and number % 4 >= 2 for number in range(len(ITEMS))]
    expected = length_controlled(
        [0.5 + 0.5 * one for one in won],
        [size("wordy-1b", number) for number in range(len(ITEMS))],
        [size("brief-1b", number) for number in range(len(ITEMS))],
        [item.group for item in ITEMS],
    )
    assert found["unit"] == ("tokens" if tokens else "characters")
    assert found["raw_difference"] == pytest.approx(pair["difference"]) == 100 * sum(won) / 24
    assert found["win_rate"] == expected.rate
    assert found["difference"] == pytest.approx(2 * expected.rate - 100)
    assert found["ci95"] == pytest.approx([2 * end - 100 for end in expected.ci95 or ()])
    assert (found["n"], found["unscored"]) == (24, 0)
    assert found["length_effect"] > 0
    assert found["difference"] < pair["difference"]  # what length earned is taken off


def test_length_control_is_printed_and_of_rates_only(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = (served.id("mipo-seed0"), served.id("sft-seed0"))
    assert main(["compare", *runs, "--control-length"]) == 0
    shown = capsys.readouterr().out
    assert "at equal length" in shown
    (task,) = _json(capsys, "compare", *runs)["tasks"]
    assert task["comparisons"][0]["at_equal_length"] is None
    assert main(["compare", *runs, "--metric", "rating_mean", "--control-length"]) == 2
    assert "--control-length works for win rates and accuracy" in capsys.readouterr().err


def test_no_difference_can_be_shown(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    mipo, sft, base = (served.id(name) for name in ("mipo-seed0", "sft-seed0", "base"))
    (task,) = _json(capsys, "compare", mipo, base, "--margin", "10")["tasks"]
    (pair,) = task["comparisons"]
    assert pair["margin"]["finding"] == "first not worse"
    assert pair["margin"]["p_first_not_worse"] < 0.05 < pair["margin"]["p_equivalent"]
    assert main(["compare", mipo, sft, base, "--margin", "10"]) == 0
    shown = capsys.readouterr().out
    assert "1-3: run 1 is not worse by 10 (p 0.0" in shown
    assert "two one-sided tests at 5 %, each p times 3" in shown
    assert max(map(len, shown.splitlines())) <= 80
    (without,) = _json(capsys, "compare", mipo, base)["tasks"]
    assert without["comparisons"][0]["margin"] is None


def test_growing_runs_have_intervals_that_hold_over_all_looks(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [served.id(name) for name in ("mipo-seed0", "sft-seed0", "base")]
    (fixed,) = _json(capsys, "compare", *runs)["tasks"]
    (task,) = _json(capsys, "compare", *runs, "--growing")["tasks"]
    assert (fixed["interval"], task["interval"]) == ("fixed n", "confidence sequence")
    for one, other in zip(fixed["comparisons"], task["comparisons"], strict=True):
        assert other["difference"] == one["difference"]
        assert other["ci95"][1] - other["ci95"][0] > one["ci95"][1] - one["ci95"][0]
        assert (other["p_sign"], other["detectable_difference"]) == (None, None)
        assert other["p_adjusted"] >= other["p_permutation"]
    assert main(["compare", *runs, "--growing"]) == 0
    shown = capsys.readouterr().out
    assert "hold over all looks" in shown
    assert "sign test" not in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert main(["compare", *runs, "--growing", "--metric", "response_tokens"]) == 2
    assert "response_tokens has none" in capsys.readouterr().err
    assert main(["compare", *runs, "--growing", "--control-length"]) == 2
    assert "--growing cannot be used with --control-length" in capsys.readouterr().err


def test_a_run_that_nobody_rated_does_not_keep_the_others_from_comparison(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    with Store.open(str(served.path)) as store:
        base = served.runs["base", "personalized"]
        put_generation(store, "f" * 32, {})
        put_run(store, replace(base, run_id="f" * 32, generation_key="f" * 32, model="unrated"))
    runs = [served.id(name) for name in ("mipo-seed0", "sft-seed0", "base")]
    (alone,) = _json(capsys, "compare", *runs)["tasks"]
    (task,) = _json(capsys, "compare", "ffff", *runs)["tasks"]
    (equal,) = _json(capsys, "compare", "ffff", *runs, "--control-length")["tasks"]
    assert equal["comparisons"][0]["at_equal_length"]["n"] > 0
    assert task["comparisons"][0]["difference"] == alone["comparisons"][0]["difference"]
    assert len(task["comparisons"]) == 3
    assert task["left_out"] == ["ffffffff unrated: not generated"]
    assert main(["compare", *runs, "ffff"]) == 0
    assert "This run is left out: ffffffff unrated: not generated" in capsys.readouterr().out
    assert main(["compare", runs[0], runs[1], "--baseline", "ffff"]) == 2
    assert "the baseline ffffffff unrated has no win_rate" in capsys.readouterr().err


def test_of_judges_of_one_name_the_one_that_rated_these_runs_is_meant(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    with Store.open(str(served.path)) as store:
        put_judge(store, "e" * 32, "judge", {"protocol": "pairwise"})
    runs = [served.id(name) for name in ("mipo-seed0", "sft-seed0")]
    for argv in (["compare", *runs], ["leaderboard"], ["leaderboard", "--suite", "tea"]):
        assert _json(capsys, *argv, "--judge", "judge")
    assert main(["judges", "correct", runs[0], "--judge", "judge", "--labels", "people"]) == 2
    assert "ambiguous" not in capsys.readouterr().err
