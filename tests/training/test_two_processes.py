"""Two processes that torchrun starts move the same weights as one does."""

import json
from pathlib import Path

import pytest
import torch

from mipo_eval.cli import main
from mipo_eval.store import Store
from mipo_eval.store.trainings import get_curve
from mipo_eval.training.dpo import train_dpo
from mipo_eval.training.recipes import DpoSettings, SftSettings
from mipo_eval.training.sft import train_sft
from tests.training.jobs import Curves, examples, job, weights
from tests.training.test_resuming import run_python
from tests.training.tiny import with_negatives
from tests.training.two_processes import DPO, METHODS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints and curves of all trainings, on two CPUs (gloo)."""
    folder = tmp_path_factory.mktemp("two")
    _launched(tiny_model, folder, ACCELERATE_USE_CPU="true")
    return folder


def _launched(model: Path, folder: Path, **environment: str) -> None:
    # `accelerate launch --cpu --num_processes 2` starts one.
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    launch += ["-m", "tests.training.two_processes", str(model), str(folder)]
    both = run_python(*launch, **environment)
    assert both.returncode == 0, both.stderr


def test_the_command_trains_rounds_in_two_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One of them draws, the other waits; nine pairs, four a step."""
    argv = ["train", "mipo", "--model", "demo", "--suite", "demo", "--json", "--lr", "3e-4"]
    for change in (
        *("items.limit=9", "sampling.batch_size=16", "optimization.precision=float32"),
        "optimization.micro_batch_size=2",
    ):
        argv += ["--set", change]
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    rounds = ("--rounds", "2", "--set", "rounds.reference=first")
    both = run_python(
        *(*launch, "-m", "mipo_eval", *argv, *rounds, "--out", "two"), ACCELERATE_USE_CPU="true"
    )
    assert both.returncode == 0, both.stderr
    first, second = json.loads(both.stdout)["rounds"]
    assert (first["checkpoint"], second["checkpoint"]) == ("two/rounds/1", "two")
    monkeypatch.setenv("MIPO_EVAL_STORE", "one.db")
    assert main([*argv, "--out", "one"]) == 0
    assert json.loads(capsys.readouterr().out)["training_id"] == first["training_id"]
    curves = []
    for name in ("store.db", "one.db"):
        with Store.open(name, mode="read") as store:
            curves.append([point.value for point in get_curve(store, first["training_id"], "loss")])
    assert curves[0] == pytest.approx(curves[1], rel=1e-3)
    assert len(curves[0]) == 3


def _points(trained: Path, method: str) -> list[tuple[int, dict[str, float]]]:
    curve = json.loads((trained / f"{method}.json").read_text())
    return [(step, metrics) for step, metrics in curve]


def test_two_processes_have_the_curve_of_one(
    trained: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """The same global batch."""
    two, curves = _points(trained, "dpo"), Curves()
    alone = job(tiny_model, tmp_path, with_negatives(), report=curves, **DPO)
    train_dpo(alone, DpoSettings())
    (*one, last), (*two, also) = curves.points, two
    for end in (last, also):
        assert end[0] == 12
        assert end[1]["margin_saved"] == pytest.approx(last[1]["margin_learned"], rel=1e-2)
    assert [step for step, _ in one] == [step for step, _ in two] == list(range(1, 13))
    for metric in ("loss", "reward_chosen", "reward_rejected", "ranking_accuracy", "kl"):
        expected = [metrics[metric] for _, metrics in one]
        assert [metrics[metric] for _, metrics in two] == pytest.approx(
            expected, rel=1e-3, abs=1e-5
        )
    first, second = weights(tmp_path), weights(trained / "dpo")
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("method", "pairs"), [("uneven", 9), ("rest", 7)])
def test_what_cannot_be_dealt_evenly_counts_once(
    method: str, pairs: int, trained: Path, tiny_model: Path, tmp_path: Path
) -> None:
    curves = Curves()
    alone = job(tiny_model, tmp_path, with_negatives(1)[:pairs], report=curves, **DPO)
    train_dpo(alone, DpoSettings())
    two = [m["loss"] for _, m in _points(trained, method) if "loss" in m]
    assert two == pytest.approx(curves.of("loss"), rel=1e-3)
    rewards = [m["reward_chosen"] for _, m in _points(trained, method) if "reward_chosen" in m]
    assert rewards == pytest.approx(curves.of("reward_chosen"), rel=1e-3, abs=1e-6)


@pytest.mark.parametrize(("method", "texts"), [("sft", 7), ("sft-rest", 5)])
def test_texts_that_cannot_be_dealt_evenly_count_once(
    method: str, texts: int, trained: Path, tiny_model: Path, tmp_path: Path
) -> None:
    curves = Curves()
    train_sft(job(tiny_model, tmp_path, examples()[:texts], report=curves, **DPO), SftSettings())
    two = [m["loss"] for _, m in _points(trained, method) if "loss" in m]
    assert two == pytest.approx(curves.of("loss"), rel=1e-3)
    first, second = weights(tmp_path), weights(trained / method)
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("method", "steps"), [("ppo", [2, 4, 6]), ("grpo", [1, 2, 3]), ("grpo-uneven", [1, 2])]
)
def test_two_processes_share_a_rollout(
    method: str, steps: list[int], trained: Path, tiny_model: Path
) -> None:
    points = [(step, metrics) for step, metrics in _points(trained, method) if "kl" in metrics]
    assert [step for step, _ in points] == steps
    # Before the first step the policy is the reference in both; later both have left it.
    assert points[0][1]["kl"] == pytest.approx(0.0, abs=1e-5)
    assert points[-1][1]["kl"] > 1e-3
    before, after = weights(tiny_model), weights(trained / method)
    assert any(not torch.equal(before[name], after[name]) for name in before)


_SHARDS = {
    "fsdp2": {
        "ACCELERATE_USE_FSDP": "true",
        "FSDP_VERSION": "2",
        "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
        "FSDP_RESHARD_AFTER_FORWARD": "true",
        "FSDP_CPU_RAM_EFFICIENT_LOADING": "true",
        "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
    },
    "zero3": {
        "ACCELERATE_USE_DEEPSPEED": "true",
        "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3",
        "ACCELERATE_DEEPSPEED_ZERO3_INIT": "true",
        "ACCELERATE_DEEPSPEED_ZERO3_SAVE_16BIT_MODEL": "true",
        "DS_ACCELERATOR": "cpu",
    },
}
"""What `accelerate launch` makes of the configurations that ship."""


@pytest.mark.parametrize("kind", _SHARDS)
def test_shards_change_nothing_and_come_to_an_end(
    kind: str, tiny_model: Path, tmp_path: Path
) -> None:
    if kind == "zero3":
        pytest.importorskip("deepspeed")
    _launched(tiny_model, tmp_path, ACCELERATE_TORCH_DEVICE="cpu", **_SHARDS[kind])
    for name, lora in (("dpo", None), ("lora", 4)):
        curves, out = Curves(), tmp_path / "alone" / name
        plan = job(tiny_model, out, with_negatives(), report=curves, lora_rank=lora, **DPO)
        train_dpo(plan, DpoSettings())
        points = _points(tmp_path, name)
        assert [m["loss"] for _, m in points if "loss" in m] == pytest.approx(
            curves.of("loss"), rel=1e-3
        )
        assert points[-1][1]["margin_saved"] == pytest.approx(
            curves.of("margin_learned")[0], rel=1e-2
        )
        assert weights(tmp_path / name).keys() == weights(out).keys()
    said = (tmp_path / "ppo" / "said.txt").read_text()
    assert said.startswith("PPO trains two models, a policy and a critic, and FSDP and DeepSpeed")
    assert "--algorithm grpo" in said


def test_every_method_left_its_curve(trained: Path) -> None:
    assert {path.stem for path in trained.glob("*.json")} == set(METHODS)
