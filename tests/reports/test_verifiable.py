"""Reports on a suite whose answers are checked, without any judge: real SVAMP questions."""

import json
from pathlib import Path
from typing import Any

import pytest

from mipo_eval.cli import main
from mipo_eval.store import Store
from mipo_eval.store.responses import answered
from mipo_eval.store.runs import list_runs
from tests.servers.http import Act, Call
from tests.servers.openai_server import OpenAIServer, Policy, ok


def _json(capsys: pytest.CaptureFixture[str], *argv: str) -> Any:
    capsys.readouterr()
    assert main([*argv, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_accuracy_is_compared_ranked_and_set_beside_the_paper(
    shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def model(call: Call) -> Act:
        """One model says a number that is sometimes right, the other none at all."""
        return ok("#### 8" if call.body["model"] == "Llama-3.2-1B-Instruct" else "I pass.")

    names = ("Llama-3.2-1B-Instruct", "silent")
    ids = []
    with OpenAIServer(model, policy=Policy(models=names)) as server:
        for name in names:
            argv = ["--model", f"openai:{name}@{server.url}", "--suite", "svamp", "--limit", "60"]
            ids.append(_json(capsys, *argv, "--data", str(shared_data))["run_id"])
    with Store.open("store.db", mode="read") as store:
        run = next(run for run in list_runs(store) if run.run_id == ids[0])
        entries = list(answered(store, run.list_key, run.generation_key))
    right = sum(float(entry.item.reference or "nan") == 8 for entry in entries)
    assert 0 < right < len(entries) == 60

    (task,) = _json(capsys, "compare", *ids)["tasks"]
    (pair,) = task["comparisons"]
    assert (task["metric"], task["judge"]) == ("accuracy", None)
    assert (pair["wins"], pair["losses"], pair["n"]) == (right, 0, 60)
    assert pair["difference"] == pytest.approx(100 * right / 60)

    (section,) = _json(capsys, "leaderboard", "--suite", "svamp")["sections"]
    best, last = section["rows"]
    assert (best["model"], best["method"]) == ("Llama-3.2-1B-Instruct", "Base")
    assert best["cells"]["svamp"]["value"] == pytest.approx(100 * right / 60)
    assert (last["cells"]["svamp"]["value"], last["cells"]["svamp"]["tie_rate"]) == (0.0, None)

    rows = _json(capsys, "leaderboard", "--table", "2")["rows"]
    measured, other = [row for row in rows if row["measured"] is not None]
    assert (measured["method"], measured["dataset"]) == ("Base", "SVAMP")
    assert (other["model"], other["measured"], other["difference"]) == ("silent", 0.0, None)
    assert measured["difference"] == pytest.approx(100 * right / 60 - 51.67)
    average = next(row for row in rows if row["dataset"] == "Average")
    assert "GSM8K" in average["absent"]
