"""Tie groups in exports: the letters are the leaderboard's, in every format that has a table."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from mipo_eval.cli import main
from mipo_eval.evaluation.outcomes import COMPARED, TIED, Against, compared
from mipo_eval.evaluation.score import Snapshot
from mipo_eval.reports.exported_run import tie_letters
from mipo_eval.reports.labels import tied_group
from mipo_eval.store import Store
from mipo_eval.store.items import Rated
from mipo_eval.store.runs import list_runs
from tests.reports.stores import Served

NAN = math.nan
WON = "win_rate_tie_inclusive"


def test_letters_are_those_of_the_leaderboard(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    # One run a method: the leaderboard then ranks runs too.
    names = [("mipo-seed0", "personalized"), ("sft-seed0", "personalized"), ("base", "default")]
    with Store.open(str(served.path), mode="read") as store:
        by_id = {run.run_id: run for run in list_runs(store)}
        runs = [by_id[served.runs[name].run_id] for name in names]
        found = tie_letters(Snapshot(store), runs)
    own = [
        {letters for (_, metric, _), letters in found[run.run_id].items() if metric == WON}
        for run in runs
    ]
    assert own == [{"a"}, {"a"}, {"b"}]
    assert not any(metric == "tie_rate" for _, metric, _ in found[runs[0].run_id])
    assert tie_letters(Snapshot(store), runs[:1]) == {runs[0].run_id: {}}


@pytest.mark.parametrize(
    ("wanted", "best", "other"),
    [
        ("md", "**83.3**<sup>a</sup>", "58.3<sup>a</sup>"),
        ("latex", r"\textbf{83.3}\textsuperscript{a}", r"58.3\textsuperscript{a}"),
        ("html", "<b>83.3</b><sup>a</sup>", "58.3<sup>a</sup>"),
    ],
)
def test_best_and_tie_group_are_marked(
    served: Served, capsys: pytest.CaptureFixture[str], wanted: str, best: str, other: str
) -> None:
    runs = [served.id("mipo-seed0"), served.id("sft-seed0"), served.id("base")]
    assert main(["export", *runs, "--format", wanted, "-o", "table", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["written"] == ["table"]
    text = Path("table").read_text()
    assert best in text
    assert other in text
    assert "share a letter are not told apart" in text
    if wanted == "html":
        return
    assert main(["export", runs[0], "--format", wanted, "-o", "alone"]) == 0
    assert "share a letter" not in Path("alone").read_text()


@pytest.mark.parametrize(
    ("letters", "shown"),
    [
        ("", ""),
        ("a", "a"),
        ("bdf", "bdf"),
        ("abcdefghijkl", "a-l"),
        ("abdefi", "ab d-f i"),
        ("a b aa", "a b aa"),
    ],
)
def test_three_letters_or_more_in_a_row_are_shown_as_a_range(letters: str, shown: str) -> None:
    assert tied_group(letters) == shown


@pytest.mark.parametrize(
    ("metric", "worth"),
    [
        ("win_rate_tie_inclusive", [100, 100, 0]),
        ("win_rate_strict", [100, 0, 0]),
        ("win_rate_half_ties", [100, 50, 0]),
        ("win_rate_excluding_ties", [100, NAN, 0]),
        ("net_win_rate", [100, 0, -100]),
        ("tie_rate", [0, 100, 0]),
    ],
)
def test_what_a_win_a_tie_and_a_loss_are_worth(metric: str, worth: list[float]) -> None:
    margins = np.array([2.0, 0.0, -1.0, NAN])
    own = Rated(margins, {})
    found = compared(Against(margins, {3: "no verdict"}, own), COMPARED[metric])
    np.testing.assert_array_equal(found.values, [*worth, NAN])
    np.testing.assert_array_equal(found.tied, [0, 1, 0, NAN])
    absent = {1: TIED, 3: "no verdict"} if math.isnan(worth[1]) else {3: "no verdict"}
    assert found.why == absent
