"""`mipo-eval grid` as a user meets it: real tiny models, a real server, a real store."""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mipo_eval.cli import main
from mipo_eval.records import Item
from mipo_eval.store import Store
from mipo_eval.store.runs import stored_scores
from mipo_eval.store.trainings import list_trainings
from mipo_eval.tasks.items import write_items
from tests.servers.http import Act, Call
from tests.servers.openai_server import OpenAIServer, ok
from tests.small_models import make_model

DEAD = "openai:judge@http://127.0.0.1:9"
"""A server that nobody started."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two base models that say different things."""
    folder = tmp_path_factory.mktemp("models")
    return make_model(folder / "one"), make_model(folder / "two", head=32)


@pytest.fixture(autouse=True)
def suite() -> None:
    wants = ["Be short.", "I am nine.", "I like birds.", "Tell me why."]
    items = [
        Item(
            item_id=f"tea-{n}",
            prompt=f"Tea {n // 4}?",
            context=f"{wants[n % 4]} I am {n}.",
            preferences=("Keep it short.",),
            reference="Tea is a drink.",
            group_id=f"tea-{n // 4}",
        )
        for n in range(8)
    ]
    write_items(Path("tea.jsonl"), items)


class Says:
    """Grades, chooses and answers; counts what it is asked for, and may do something then."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.meanwhile: Callable[[str], None] = lambda _: None

    def __call__(self, call: Call) -> Act:
        text = call.body["messages"][-1]["content"]
        kind = "grade" if "write the grade" in text else "choice" if "better reply" in text else ""
        self.asked[kind or "response"] += 1
        self.meanwhile(kind or "response")
        told = {"grade": "4", "choice": "response_a"}
        return ok(told.get(kind, f"So: {text[-12:]}, {call.body.get('seed', 0) % 7}."))


@pytest.fixture
def says() -> Says:
    return Says()


@pytest.fixture
def server(says: Says) -> Iterator[OpenAIServer]:
    with OpenAIServer(says) as running:
        yield running


def grid(server: OpenAIServer, *models: Path, **more: Any) -> str:
    """Write a grid of these models to grid.yaml, and return that name."""
    at = f"openai:judge@{server.url}"
    told = {
        "models": [str(model) for model in models],
        "suites": ["tea.jsonl"],
        "methods": ["sft", {"label": "MIPO", "method": "mipo-reshuffle"}],
        "seeds": 2,
        "set": {"all": {"sampling.model": at, "lr": 1e-2, "optimization.micro_batch_size": 2}},
        "judges": [at],
        "evaluation": {"decoding": "max_tokens=4"},
        "out": "trained",
    }
    Path("grid.yaml").write_text(json.dumps(told | more))  # which is YAML, too
    return "grid.yaml"


def document(capsys: pytest.CaptureFixture[str], *argv: str, code: int = 0) -> Any:
    """Return what a grid's command tells."""
    assert main(["grid", "grid.yaml", "--json", *argv]) == code
    return json.loads(capsys.readouterr().out)


def states(told: Any) -> Counter[tuple[str, str]]:
    return Counter((step["kind"], step["status"]) for step in told["steps"])


@pytest.mark.slow
def test_two_models_two_methods_two_seeds(
    models: tuple[Path, Path], server: OpenAIServer, says: Says, capsys: pytest.CaptureFixture[str]
) -> None:
    grid(server, *models)
    assert states(document(capsys, "--dry-run")) == {
        ("train", "to do"): 8,
        ("evaluate", "to do"): 12,
    }
    told = document(capsys)
    assert states(told) == {("train", "done"): 8, ("evaluate", "done"): 12}
    assert says.asked["response"] == 2 * 8, "both methods and models learn from one drawing a seed"
    ids = {step["id"] for step in told["steps"]}
    assert len(ids) == 20
    with Store.open("store.db", mode="read") as store:
        trained = list_trainings(store)
        scored = {run.run_id: run for run, _ in stored_scores(store)}
    assert {one.training_id for one in trained} | scored.keys() == ids
    assert Path("trained/one/tea/MIPO-seed1/model.safetensors").is_file()
    # What runs record is the command that a step is, so that it can be repeated.
    commands = {run.environment["command"] for run in scored.values()}
    assert all("--decoding max_tokens=4" in command for command in commands)
    asked = says.asked.total()
    again = document(capsys)
    assert states(again) == states(told)
    assert {step["seconds"] for step in again["steps"]} == {None}
    assert says.asked.total() == asked
    assert main(["grid", "grid.yaml", "--commands"]) == 0
    assert capsys.readouterr().out == "", "nothing is left to be done"


def numbers(url: str) -> set[tuple[Any, ...]]:
    """Return what a store holds of trainings and scores, but where and when they were made."""
    with Store.open(url, mode="read") as store:
        trained = {(one.training_id, one.status) for one in list_trainings(store)}
        scored = {
            (run.run_id, score.name, score.value, str(score.signature))
            for run, score in stored_scores(store)
        }
    return trained | scored


BIN = {
    "mipo-eval": f'exec {shlex.quote(sys.executable)} -m mipo_eval "$@"',
    # Does an array's jobs at once, and prints the array's number, as SLURM's does.
    "sbatch": """script=$(mktemp); cat > "$script"; echo "$@" >> sbatch.log
jobs=$(sed -n 's/^#SBATCH --array=1-//p' "$script")
for n in $(seq "$jobs"); do SLURM_ARRAY_TASK_ID=$n bash "$script" >&2; done
echo "17;cluster" """,
}


def shell(script: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own, with `mipo-eval` and a stand-in for sbatch."""
    for name, text in BIN.items():
        file = Path("bin") / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"#!/bin/bash\n{text}\n")
        file.chmod(0o755)
    root = str(Path(__file__).parents[2])
    path = f"{Path('bin').absolute()}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": root}
    command = ["bash", "-c", script]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["--commands", "--slurm"])
def test_the_printed_commands_make_the_same(
    how: str,
    models: tuple[Path, Path],
    server: OpenAIServer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    more = {"seeds": 1, "methods": ["sft"], "prompting": ["personalized"]}
    duel = f"openai:judge@{server.url}"
    grid(server, models[0], **more, pairwise=[duel], slurm={"train": ["--gpus=1"]})
    assert main(["grid", "grid.yaml", how, "--store", "by-hand.db"]) == 0
    script = capsys.readouterr().out
    assert not Path("by-hand.db").exists(), "printing writes nothing"
    done = shell(script)
    assert done.returncode == 0, done.stderr
    if how == "--slurm":
        assert done.stdout.splitlines() == [f"{kind}: 17;cluster" for kind in KINDS]
        asked = Path("sbatch.log").read_text().splitlines()
        assert asked == ["--parsable", *["--parsable --dependency=afterany:17"] * 2]
        assert script.count("#SBATCH --gpus=1") == 1
    told = document(capsys, "--store", "by-hand.db")
    assert {step["status"] for step in told["steps"]} == {"done"}
    assert {step["seconds"] for step in told["steps"]} == {None}, "nothing was left"
    grid(server, models[0], **more, pairwise=[duel], out="elsewhere")
    done = shell("mipo-eval grid grid.yaml")
    assert done.returncode == 0, done.stderr
    assert numbers("store.db") == numbers("by-hand.db")


KINDS = ("train", "evaluate", "judge")


@pytest.mark.slow
def test_one_that_fails_does_not_stop_the_others(
    models: tuple[Path, Path], server: OpenAIServer, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = {"label": "broken", "method": "sft", "set": {"sampling.model": DEAD}}
    grid(server, models[0], seeds=1, methods=[broken, "sft"])
    assert main(["grid", "grid.yaml", "--json"]) == 2
    shown = capsys.readouterr()
    told = json.loads(shown.out)
    assert states(told) == {
        ("train", "failed"): 1,
        ("train", "done"): 1,
        ("evaluate", "done"): 3,
        ("evaluate", "to do"): 1,
    }
    (failed,) = (step for step in told["steps"] if step["status"] == "failed")
    assert "no answer from http://127.0.0.1:9" in failed["reason"]
    last = shown.err.strip().splitlines()[-1]
    assert "2 of 6 steps are not done, because 1 failed: train broken of one on tea" in last
    # The store knows why, and the same command tries again.
    told = document(capsys, "--dry-run")
    assert states(told)["train", "failed"] == 1
    assert main(["grid", "grid.yaml"]) == 2
    shown = capsys.readouterr()
    assert "train broken of one on tea, seed 0: " in shown.out
    assert "mipo-eval leaderboard --suite tea" in shown.out
    assert shown.err.count("] train ") == 1, "what is done is left alone"


@pytest.mark.slow
def test_a_killed_grid_goes_on_where_it_was(
    models: tuple[Path, Path], server: OpenAIServer, says: Says, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed by force while a judge grades the first trained row."""
    name = grid(server, models[0], seeds=1)
    command = [sys.executable, "-m", "mipo_eval", "grid", name]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:

        def kill(kind: str) -> None:
            if kind == "grade" and says.asked["response"] == 8 and process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)

        says.meanwhile = kill
        said = process.communicate()[1]
    assert process.returncode == -signal.SIGKILL, said
    says.meanwhile = lambda _: None
    before = document(capsys, "--dry-run")
    assert states(before)["train", "done"] == 1
    assert states(before)["evaluate", "done"] == 2
    after = document(capsys)
    assert {step["status"] for step in after["steps"]} == {"done"}
    assert says.asked["response"] == 8, "what was drawn is not drawn again"
    done = {step["name"] for step in before["steps"] if step["status"] == "done"}
    repeated = {step["name"] for step in after["steps"] if step["seconds"] is not None}
    assert not done & repeated


def test_a_dry_run_asks_nobody_and_says_what_it_does_not_know(
    models: tuple[Path, Path], server: OpenAIServer, says: Says, capsys: pytest.CaptureFixture[str]
) -> None:
    far = ["openai:gpt-4.1", "qwen2.5-14b"]
    grid(server, models[0], judges=far, pairwise=["gpt-4.1"], seeds=3)
    told = document(capsys, "--dry-run")
    assert says.asked.total() == 0
    assert not Path("store.db").exists()
    needs = {need["what"]: need for need in told["needs"]}
    train = needs["train one on tea"]
    assert (train["steps"], train["calls"]["value"]) == (6, 6 * 8)
    assert train["hours"]["value"] is None
    assert train["hours"]["unknown"] == ["no seed of sft, MIPO on one on tea is done yet"]
    assert needs["responses of one to tea"]["calls"]["value"] == 8 * 8
    paid = needs["ratings of one on tea, by openai:gpt-4.1"]
    # Two prompts have one and the same reference each, which is rated once for all rows.
    assert paid["calls"]["value"] == 8 * 8 + 2
    assert paid["dollars"]["value"] > 0
    own = needs["ratings of one on tea, by qwen2.5-14b"]
    assert (own["calls"]["value"], own["dollars"]["value"]) == (8 * 8 + 2, 0)
    assert needs["choices: one on tea, by gpt-4.1"]["calls"]["value"] == 6 * 8 * 2
    assert told["memory"]["one"]["value"] > 0
    assert main(["grid", "grid.yaml", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "hours not known: no seed of sft, MIPO" in shown
    assert "Run it: mipo-eval grid grid.yaml" in shown


@pytest.mark.slow
def test_what_is_changed_is_another_training(
    models: tuple[Path, Path], server: OpenAIServer, capsys: pytest.CaptureFixture[str]
) -> None:
    more = {"seeds": 1, "methods": [{"method": "sft", "sweep": "lr=1e-2,2e-2"}]}
    grid(server, models[0], **more)
    told = document(capsys)
    assert {step["status"] for step in told["steps"]} == {"done"}
    (swept,) = (step for step in told["steps"] if step["kind"] == "train")
    assert document(capsys)["steps"][2]["seconds"] is None, "a sweep is found again"
    grid(server, models[0], seeds=1, methods=["sft"])
    (other,) = (s for s in document(capsys, "--dry-run")["steps"] if s["kind"] == "train")
    out = [step["arguments"][step["arguments"].index("--out") + 1] for step in (swept, other)]
    assert out[0] == "trained/one/tea/sft-seed0"
    assert out[1].startswith(f"{out[0]}-")
    assert other["status"] == "to do"


def test_what_only_the_hub_has_is_not_fetched_to_plan(capsys: pytest.CaptureFixture[str]) -> None:
    """The paper's grid on a machine that has nothing of it: all that can be printed is."""
    assert main(["grid", "table1", "--dry-run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert states(told) == {("train", "to do"): 390, ("evaluate", "to do"): 420}
    reasons = {step["reason"] for step in told["steps"] if step["kind"] == "train"}
    assert "meta-llama/Llama-3.2-1B-Instruct is not on this machine yet" in reasons
    assert "data prepare ca" in str(told["needs"][0]["calls"]["unknown"])
    assert main(["grid", "table1", "--slurm", "--sbatch=--partition=gpu"]) == 0
    script = capsys.readouterr().out
    assert script.count("#SBATCH --partition=gpu") == 2
    assert "#SBATCH --array=1-390" in script


@pytest.mark.slow
def test_two_grids_on_one_folder_end_where_one_does(
    models: tuple[Path, Path], server: OpenAIServer, says: Says, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both killed by force as the first trained row is graded, both started again, one at last."""
    name = grid(server, models[0], seeds=1, out="straight")
    assert main(["grid", name, "--store", "straight.db"]) == 0
    name = grid(server, models[0], seeds=1)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "mipo_eval", "grid", name]

    def both() -> list[tuple[int, str]]:
        options: dict[str, Any] = {"env": environment, "stderr": subprocess.PIPE, "text": True}
        running.extend(subprocess.Popen(command, **options) for _ in range(2))
        said = [one.communicate()[1] for one in running]
        codes = [one.returncode for one in running]
        running.clear()
        return list(zip(codes, said, strict=True))

    def kill(kind: str) -> None:
        if kind == "grade" and Path("trained").exists():
            for one in running:
                one.kill()

    running: list[subprocess.Popen[str]] = []
    says.meanwhile = kill
    assert -signal.SIGKILL in {code for code, _ in both()}
    says.meanwhile = lambda _: None
    for code, said in both():
        assert code == 0 or (code == 2 and "another process is training" in said), said
    capsys.readouterr()
    told = document(capsys)
    assert {step["status"] for step in told["steps"]} == {"done"}
    assert numbers("store.db") == numbers("straight.db")
