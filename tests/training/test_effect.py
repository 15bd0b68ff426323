"""What the demo must show: MIPO follows users better than prompting does, SFT does not.

And what it writes for users who want different things differs more, as in the paper's Table 4.
"""

import json
from typing import Any

import pytest

from mipo_eval.cli import main


@pytest.mark.slow
def test_mipo_gains_on_the_demo_world_and_sft_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    """One fixed seed, 384 training items, 200 test items; a minute and a half of one core."""
    assert main(["demo", "--json"]) == 0
    rows = {row["method"]: row for row in json.loads(capsys.readouterr().out)["methods"]}
    assert list(rows) == ["default prompting", "personalized prompting", "SFT", "MIPO (missing)"]
    share = {name: row["satisfied"]["value"] for name, row in rows.items()}
    assert share["default prompting"] < 15
    assert 30 < share["personalized prompting"] < 60
    mipo = rows["MIPO (missing)"]["gain"]
    assert mipo["value"] >= 10
    assert mipo["ci95"][0] > 0
    assert abs(rows["SFT"]["gain"]["value"]) <= 5
    assert _self_bleu(rows["MIPO (missing)"]) < _self_bleu(rows["SFT"])


def _self_bleu(row: dict[str, Any]) -> float:
    (run,) = row["runs"]
    (value,) = [score["value"] for score in run["scores"] if score["metric"] == "self_bleu_4"]
    return float(value)
