"""The measurement on a GPU, as far as a CPU goes: its sections run, and none ends the others."""

import os
import signal
import time
from collections.abc import Iterator

import pytest

from benchmarks import gpu
from benchmarks.gpu_sections import SECTIONS, Machine, Row, Section
from tests.training.test_resuming import run_python


@pytest.mark.slow
def test_every_section_runs_at_tiny_shapes() -> None:
    done = run_python("-m", "benchmarks.gpu", "--tiny")
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout
    for section in SECTIONS:
        assert f"-- {section.name} (" in said
    assert "failed" not in said
    assert "not run" not in said
    for row in ("float32, split: off single rows by", "1.5B, LoRA 32: first loss"):
        (line,) = (line for line in said.splitlines() if line.startswith(row))
        assert line.endswith(": met]")
    assert not gpu.PAGE.exists() or "tiny" not in gpu.PAGE.read_text()


@pytest.fixture(autouse=True)
def visible(monkeypatch: pytest.MonkeyPatch) -> None:
    """See again afterwards what tiny shapes hide."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", os.environ.get("CUDA_VISIBLE_DEVICES", "0"))


def breaks(machine: Machine) -> Iterator[Row]:
    yield Row("before", "3")
    raise ValueError("no\nsuch thing")


def hangs(machine: Machine) -> Iterator[Row]:
    yield Row("begun", "4")
    time.sleep(600)


def dies(machine: Machine) -> Iterator[Row]:
    os.kill(os.getpid(), signal.SIGKILL)
    yield Row("never", "5")


def works(machine: Machine) -> Iterator[Row]:
    yield Row("device", machine.name, "any", True)


def test_a_section_that_fails_is_told_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = tuple(Section(one.__name__, 60, one) for one in (breaks, dies, works))
    monkeypatch.setattr(gpu, "SECTIONS", made)
    assert gpu.main(["--tiny"]) == 1
    said = capsys.readouterr().out
    assert "before: 3\nfailed: breaks: ValueError: no such thing\n" in said
    assert f"failed: dies: its process ended with -{signal.SIGKILL}" in said
    assert said.endswith("device: a CPU, tiny shapes  [goal any: met]\n")


def test_a_section_that_hangs_is_ended(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "SECTIONS", (Section("hangs", 1, hangs), Section("works", 9, works)))
    assert gpu.main(["--tiny"]) == 1
    said = capsys.readouterr().out
    assert "begun: 4\nfailed: hangs: not done in 1 s\n" in said
    assert "device: a CPU" in said


def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    for arguments, told in (([], "no GPU here"), (["--only", "luck"], "--only luck: known are")):
        with pytest.raises(SystemExit):
            gpu.main(arguments)
        assert told in capsys.readouterr().err


def test_the_page_is_a_table() -> None:
    text = gpu.page([Row("a|b", "3", ">= 2", True), Row("c", "1", ">= 2", False)], 12.3)
    assert "| a/b | 3 | >= 2 | yes |\n| c | 1 | >= 2 | no |\n" in text
    assert ", in 12 s." in text
