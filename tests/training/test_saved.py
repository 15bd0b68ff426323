"""What is saved is what was learned, in the base model's precision."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from mipo_eval.training import saved
from mipo_eval.training.dpo import train_dpo
from mipo_eval.training.loop import NOT_MEASURED
from mipo_eval.training.recipes import DpoSettings
from mipo_eval.training.saved import MarginPairs, Margins, round_at_random, round_files
from mipo_eval.training.trainer import TrainingExample, load_tokenizer
from tests.training.jobs import Curves, example, job, weights

TEMPLATE = "{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% endfor %}"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rounding_is_right_on_average(dtype: torch.dtype) -> None:
    exact = torch.tensor([0.02, -0.02, 1.0, 3e-7, -3e-7, 0.0, 1234.567])
    drawn = round_at_random(exact.repeat(40_000, 1), dtype, seed=0, name="w").double()
    # Each is one of the two numbers next to it, and three errors of the mean away at most.
    for value, own in zip(exact.tolist(), drawn.T, strict=True):
        low, high = own.min().item(), own.max().item()
        assert low <= value <= high
        assert set(own.unique().tolist()) == {low, high}
        assert own.mean().item() == pytest.approx(value, abs=3 * (high - low) / 2 / 200)


def test_what_the_precision_holds_stays_and_a_name_draws_the_same() -> None:
    exact = torch.tensor([0.0, -0.0, 0.5, float("inf"), -float("inf"), 2.0**-20])
    assert torch.equal(round_at_random(exact, torch.bfloat16, seed=1, name="w").float(), exact)
    assert round_at_random(torch.tensor([float("nan")]), torch.bfloat16, seed=1, name="w").isnan()
    moved = torch.randn(999)
    first, again, other = (
        round_at_random(moved, torch.bfloat16, seed=1, name=name) for name in ("w", "w", "v")
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert round_at_random(moved, torch.float32, seed=1, name="w") is moved


def _save(model: Any, folder: Path, tokenizer: Any) -> Path:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def stories(shared_data: Path, tmp_path: Path) -> Path:
    """stories260K, a real model, with bf16 files as most have."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    real = shared_data / "stories260k" / "hf"
    tokenizer = AutoTokenizer.from_pretrained(real)
    tokenizer.chat_template = TEMPLATE
    model = AutoModelForCausalLM.from_pretrained(real, dtype=torch.bfloat16)
    return _save(model, tmp_path / "stories", tokenizer)


def _pairs() -> list[TrainingExample]:
    import dataclasses

    who = ["a dog", "a girl", "a boy", "a cat", "a bird", "a bear", "a fish", "a man"]
    made = [example(f"One day there was {one}.", "", f" It was {one} and happy.") for one in who]
    return [
        dataclasses.replace(one, rejected=(made[(at + 3) % len(made)].chosen or "",))
        for at, one in enumerate(made)
    ]


@pytest.mark.parametrize(("rate", "lora"), [(1e-6, None), (5e-5, 8)])
def test_a_real_checkpoint_holds_the_margin(
    stories: Path, tmp_path: Path, rate: float, lora: int | None
) -> None:
    """To the nearest bf16 number less than half of it would be left."""
    curves = Curves()
    how = {"learning_rate": rate, "epochs": 10, "batch_size": 4, "micro_batch_size": 4}
    plan = job(stories, tmp_path / "out", _pairs(), report=curves, lora_rank=lora, **how)
    outcome = train_dpo(plan, DpoSettings())
    learned, saved = curves.of("margin_learned"), curves.of("margin_saved")
    assert learned[0] > 1e-3
    assert saved == [pytest.approx(learned[0], rel=0.05)]
    assert outcome["notes"] == ()
    found = weights(tmp_path / "out")
    assert {one.dtype for one in found.values()} == {torch.bfloat16}
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"
    assert found.keys() == weights(stories).keys()


def test_weights_that_the_base_keeps_in_float32_stay_so(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
    for name, dtype in (("base", torch.bfloat16), ("out", torch.float32)):
        folder = tmp_path / name
        folder.mkdir()
        said = config | {"dtype": str(dtype).rpartition(".")[2]}
        (folder / "config.json").write_text(json.dumps(said))
        tensors = {"norm": torch.full((3,), 1 / 3), "weight": torch.full((3,), 1 / 3, dtype=dtype)}
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    round_files(tmp_path / "out", tmp_path / "base", seed=0)
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert found["norm"].dtype == torch.float32
    assert found["weight"].dtype == torch.bfloat16
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"


def test_a_training_does_not_fail_by_what_is_measured_after_it(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(MarginPairs, "_read", read)
    curves = Curves()
    outcome = train_dpo(job(tiny_model, tmp_path / "out", _pairs(), report=curves), DpoSettings())
    assert outcome["notes"] == (NOT_MEASURED,)
    assert not curves.of("margin_saved")
    assert (tmp_path / "out" / "tokenizer.json").is_file()


def test_what_is_read_before_and_after_the_steps_is_shown(tiny_model: Path, tmp_path: Path) -> None:
    """Three models read for minutes on a processor, which must not look like a hang."""
    began: list[tuple[str, int]] = []
    reads: list[tuple[str, int]] = []

    def stage(what: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        began.append((what, total))
        return nullcontext(lambda done: reads.append((what, done)))

    asked = dataclasses.replace(job(tiny_model, tmp_path / "out", _pairs()), stage=stage)
    train_dpo(asked, DpoSettings())
    groups = len({pair.item.item_id for pair in asked.examples})
    before, after = "reading with the reference model", "checking what is saved"
    assert began == [(before, groups), (after, 6 * groups)]
    for what, total in began:
        assert sum(done for of, done in reads if of == what) == total


def test_what_does_not_fit_is_not_measured(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host kills the process that takes more than there is, and what it was to save is lost."""
    size = 4 * sum(one.numel() for one in weights(tiny_model).values())
    pairs = MarginPairs([((1, 2), (3,))], [((1, 2), (4,))], beta=0.1)
    for room, measured in ((size, True), (size - 1, False)):
        monkeypatch.setattr(saved, "get_max_memory", lambda room=room: {"cpu": room})
        assert (pairs.distances(tiny_model) is not None) == measured


def test_the_end_is_read_by_one_process_alone(tiny_model: Path, tmp_path: Path) -> None:
    """Under ZeRO-3 whatever is loaded is shared out among all processes, which wait for each other.

    Without DeepSpeed that fails at once.
    """
    from transformers.integrations import deepspeed

    class Sharing:
        def is_zero3(self) -> bool:
            return True

    sharing = Sharing()

    def report(step: int, metrics: Mapping[str, float]) -> None:
        if step == 1:  # from where the trainer would have set it
            deepspeed.set_hf_deepspeed_config(sharing)
        curves(step, metrics)

    curves = Curves()
    plan = job(tiny_model, tmp_path / "out", _pairs(), batch_size=8)
    try:
        train_dpo(dataclasses.replace(plan, report=report), DpoSettings())
    finally:
        deepspeed.unset_hf_deepspeed_config()
    assert curves.of("margin_saved")


def test_what_a_file_lost_is_said() -> None:
    assert Margins(0.0397, 0.0390).remark is None
    assert Margins(0.0, 1e-8).remark is None
    remark = Margins(0.0397, 0.0032).remark or ""
    assert "margin of 0.0032 nats where 0.0397 were learned, 8% of it" in remark


@pytest.mark.parametrize("offline", [True, False])
def test_what_is_saved_does_not_say_whether_there_was_a_network(
    offline: bool, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its digest is the checkpoint's identity."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
    load_tokenizer(job(tiny_model, tmp_path, [])).save_pretrained(tmp_path / "saved")
    told = json.loads((tmp_path / "saved" / "tokenizer_config.json").read_text())
    assert told["local_files_only"] is True
