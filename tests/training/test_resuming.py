"""Trainings that stop or break end where they would have ended."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from mipo_eval.errors import ConfigError, ModelError
from mipo_eval.training.dpo import train_dpo
from mipo_eval.training.folder import claimed
from mipo_eval.training.recipes import DpoSettings
from tests.training.jobs import Curves, job, weights
from tests.training.tiny import with_negatives


@pytest.mark.parametrize("lora", [None, 4])
def test_a_stopped_training_continues_to_the_same_weights(
    tiny_model: Path, tmp_path: Path, lora: int | None
) -> None:
    """Stopped between two checkpoints, with batches of two accumulated steps."""
    how: dict[str, Any] = {"epochs": 2, "lora_rank": lora, "save_steps": 3}
    straight, halting = tmp_path / "straight", tmp_path / "halting"
    train_dpo(job(tiny_model, straight, with_negatives(), **how), DpoSettings())
    stopped = job(tiny_model, halting, with_negatives(), report=Curves(stop_at=5), **how)
    with pytest.raises(KeyboardInterrupt):
        train_dpo(stopped, DpoSettings())
    assert not (halting / "model.safetensors").exists()
    kept = (halting / "reference.safetensors").stat().st_mtime_ns
    curves = Curves()
    train_dpo(job(tiny_model, halting, with_negatives(), report=curves, **how), DpoSettings())
    assert min(step for step, _ in curves.points) == 4  # from the checkpoint of step 3
    assert (halting / "reference.safetensors").stat().st_mtime_ns == kept
    first, second = weights(straight), weights(halting)
    assert all(torch.equal(first[name], second[name]) for name in first)


KILLED = """
import dataclasses, os, signal, sys
from pathlib import Path
from mipo_eval.training.dpo import DpoSettings, train_dpo
from tests.training.jobs import job
from tests.training.tiny import with_negatives

def kill(step, metrics):
    if step == 5:
        os.kill(os.getpid(), signal.SIGKILL)

plan = job(Path(sys.argv[1]), Path(sys.argv[2]), with_negatives(), epochs=2, save_steps=3)
train_dpo(dataclasses.replace(plan, report=kill), DpoSettings())
"""


def run_python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own, where the tests can be imported."""
    root = str(Path(__file__).parents[2])
    env = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_killed_process_leaves_what_the_next_continues(tiny_model: Path, tmp_path: Path) -> None:
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    how: dict[str, Any] = {"epochs": 2, "save_steps": 3}
    done = run_python("-c", KILLED, str(tiny_model), str(killed))
    assert done.returncode == -9, done.stderr
    # A checkpoint that was being written when the power went is not taken for one.
    (killed / "steps" / "checkpoint-4").mkdir()
    train_dpo(job(tiny_model, straight, with_negatives(), **how), DpoSettings())
    train_dpo(job(tiny_model, killed, with_negatives(), **how), DpoSettings())
    first, second = weights(straight), weights(killed)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_reference_that_is_gone_cannot_be_made_again(tiny_model: Path, tmp_path: Path) -> None:
    how: dict[str, Any] = {"epochs": 2, "save_steps": 3}
    stopped = job(tiny_model, tmp_path, with_negatives(), report=Curves(stop_at=5), **how)
    with pytest.raises(KeyboardInterrupt):
        train_dpo(stopped, DpoSettings())
    (tmp_path / "reference.safetensors").write_bytes(b"cut off")
    with pytest.raises(ModelError, match="does not contain the reference model's numbers"):
        train_dpo(job(tiny_model, tmp_path, with_negatives(), **how), DpoSettings())


def test_weights_that_broke_are_not_kept(tiny_model: Path, tmp_path: Path) -> None:
    """After the first step they are huge but finite, so that there is a checkpoint of them."""
    how: dict[str, Any] = {"learning_rate": 1e30, "save_steps": 1, "epochs": 2}
    plan = job(tiny_model, tmp_path, with_negatives(), **how)
    with pytest.raises(ModelError, match=r"at step 2, in the batch of .* is the base model"):
        train_dpo(plan, DpoSettings())
    assert list((tmp_path / "steps").glob("checkpoint-*")) == []


def test_processes_that_do_not_train_together_are_noticed(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A launcher that starts two where each takes itself for the only one."""
    from mipo_eval.training import loop

    monkeypatch.setattr(loop, "world_size", lambda: 2)
    plan = job(tiny_model, tmp_path, with_negatives(), batch_size=2)
    with pytest.raises(ConfigError, match="2 processes were started, but 1 train together"):
        train_dpo(plan, DpoSettings())


def test_two_processes_do_not_train_in_one_folder(tmp_path: Path) -> None:
    """A lock of a second file handle is what another process has."""
    out = tmp_path / "out"
    with claimed(out, "one", "mipo"):
        with pytest.raises(ConfigError, match="another process is training there"):
            claimed(out, "one", "mipo").__enter__()
        assert [*out.iterdir()]  # the second has not cleaned up after the first
    with claimed(out, "one", "mipo"):
        pass
