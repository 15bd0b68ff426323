"""Win rates at the length of the references, from the command line and against the regression."""

import json
from typing import Any

import pytest

from mipo_eval.cli import main
from mipo_eval.evaluation.outcomes import Outcomes
from mipo_eval.stats import length_controlled
from mipo_eval.store import Store
from mipo_eval.store.judges import find_judge
from mipo_eval.store.runs import find_run
from tests.reports.stores import N_ITEMS, Served, items

WIN = "win_rate_tie_inclusive"


def test_rates_are_those_at_the_length_of_the_references(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["leaderboard", "--control-length", "--json"]) == 0
    (section,) = json.loads(capsys.readouterr().out)["sections"]
    cells: dict[str, Any] = {
        f"{row['model']} {row['method']}": row["cells"]["tea"] for row in section["rows"]
    }
    found = cells["base Personalized prompting"]["at_equal_length"]
    with Store.open(str(served.path), mode="read") as store:
        run = find_run(store, served.id("base"))
        judge = find_judge(store, "judge").key
        (won,) = Outcomes(store).sheets([run], WIN, judge)
        (size,) = Outcomes(store).sheets([run], "response_characters")
    expected = length_controlled(
        won.values[:, 0] / 100,
        size.values[:, 0],
        [len(item.reference or "") for item in items()],
        won.groups,
    )
    assert found["win_rate"] == pytest.approx(expected.rate)
    assert found["ci95"] == pytest.approx(list(expected.ci95 or ()))
    assert found["raw_win_rate"] == pytest.approx(cells["base Personalized prompting"]["value"])
    # Seeds of a method are more responses of the same prompts.
    seeds = next(cell for name, cell in cells.items() if "mipo" in name)
    assert seeds["at_equal_length"]["n"] == seeds["seeds"] * N_ITEMS
    assert main(["leaderboard", "--control-length"]) == 0
    shown = capsys.readouterr().out
    table = shown[shown.index("at equal length [95 %]") : shown.index("longer: how often")]
    assert max(map(len, table.splitlines())) <= 80


def test_numbers_without_references_are_refused_in_one_line(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["leaderboard", "--control-length", "--metric", "response_tokens"]) == 2
    assert "win rates against references" in capsys.readouterr().err
