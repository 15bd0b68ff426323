"""What `examples/` shows is what happens: notebooks, scripts, a judge's file, a job for SLURM."""

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mipo_eval.cli import main
from tests.servers.openai_server import OpenAIServer, ok

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
ITEM = {"item_id": "tea", "prompt": "How do I brew tea?", "preferences": ["Be brief."]}


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_has_no_outputs_and_runs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    book: Any = nbformat.read(path, as_version=4)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    here = {"metadata": {"path": str(Path.cwd())}}
    NotebookClient(book, timeout=None, resources=here).execute()
    shown = [kind for cell in code for out in cell.outputs for kind in out.get("data", {})]
    assert "text/html" in shown
    assert any("value [95 %]" in str(cell.outputs) for cell in code)


def run_script(name: str, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> dict[str, Any]:
    """Run an example as its user does, and return what it made."""
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))


# Trainers of transformers want it, whatever the machine.
@pytest.mark.filterwarnings("ignore:'pin_memory' argument:UserWarning")
def test_mipo_in_trl_follows_more_of_the_wishes(monkeypatch: pytest.MonkeyPatch) -> None:
    made = run_script("mipo_with_trl", monkeypatch)
    (line,) = made["comparison"].to_pandas().to_dict("records")
    assert line["value"] > 0
    assert line["n"] == 60
    rates = [one for one in made["trainer"].state.log_history if "eval_judged" in one]
    assert [one["step"] for one in rates] == [8, 16]


def test_an_own_suite_is_asked_and_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = run_script("own_suite", monkeypatch)
    assert {score.n for score in made["result"].scores if score.name == "rating_mean"} == {9}
    capsys.readouterr()
    assert main(["data", "check", "own_suite.jsonl", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"][0]["items"] == 9


def test_an_own_judge_is_asked_where_its_file_says(capsys: pytest.CaptureFixture[str]) -> None:
    Path("items.jsonl").write_text(json.dumps({**ITEM, "reference": "Pour hot water on it."}))
    with OpenAIServer(ok("4")) as server:
        text = (EXAMPLES / "own_judge.yaml").read_text()
        (backend,) = re.findall(r"^backend: (.*)$", text, re.MULTILINE)
        Path("own_judge.yaml").write_text(text.replace(backend, f"openai:judge@{server.url}"))
        command = ["--model", "demo", "--suite", "items.jsonl", "--judge", "own_judge.yaml"]
        assert main([*command, "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)["scores"]
    (rating,) = (score for score in scores if score["metric"] == "rating_mean")
    assert (rating["value"], rating["n"]) == (4.0, 1)


SBATCH = '#!/bin/bash\ncat >> "$JOBS"; echo "$@" >> "$JOBS"; echo 17\n'
GRID = "models: [demo]\nsuites: [demo]\nmethods: [sft]\nseeds: 1\nprompting: [personalized]\n"


def test_a_grid_is_given_to_slurm(tmp_path: Path) -> None:
    binaries = tmp_path / "bin"
    binaries.mkdir()
    ours = f'#!/bin/bash\nexec "{sys.executable}" -m mipo_eval "$@"\n'
    for name, text in (("sbatch", SBATCH), ("mipo-eval", ours)):
        (binaries / name).write_text(text)
        (binaries / name).chmod(0o755)
    Path("grid.yaml").write_text(GRID)
    environment = {
        **os.environ,
        "PATH": f"{binaries}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "JOBS": str(tmp_path / "jobs"),
        "PARTITION": "a100",
    }
    command = ["bash", str(EXAMPLES / "slurm_grid.sbatch"), "grid.yaml"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    jobs = (tmp_path / "jobs").read_text()
    assert jobs.count("#SBATCH --partition=a100") == 2  # to train, and to evaluate
    assert jobs.count("mipo-eval train sft") == 1
    assert "--dependency=afterany:17" in jobs
    environment.pop("MIPO_EVAL_STORE")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "name the store" in done.stderr
