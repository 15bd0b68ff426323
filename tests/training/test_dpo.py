"""MIPO from pairs to checkpoint, and as the same thing as trl.DPOTrainer on the N pairs."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from mipo_eval.errors import ConfigError, DataError, MipoEvalError, ModelError
from mipo_eval.training.dpo import train_dpo
from mipo_eval.training.logprobs import add_likelihood_head
from mipo_eval.training.losses import dpo_measures
from mipo_eval.training.packed import GroupReader, TokenGroup, packing_reader
from mipo_eval.training.recipes import DpoSettings
from mipo_eval.training.trainer import TrainingExample
from tests.training.jobs import Curves, job, weights
from tests.training.tiny import gradients, group, random_model, with_negatives

BETA = 0.3


def stock_trainer(model: Any, groups: Sequence[TokenGroup], folder: Path, tokenizer: Any) -> Any:
    """trl.DPOTrainer with the groups' pairs, as token ids."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    class Tokenized(DPOTrainer):  # type: ignore[misc]
        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

    rows = [
        {"prompt_ids": one.prompt, "chosen_ids": one.responses[0], "rejected_ids": rejected}
        for one in groups
        for rejected in one.responses[1:]
    ]
    args = DPOConfig(
        output_dir=str(folder),
        per_device_train_batch_size=len(rows),
        precompute_ref_log_probs=True,
        beta=BETA,
        max_length=None,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    data = Dataset.from_list(rows)
    return Tokenized(model, args=args, train_dataset=data, processing_class=tokenizer)


@pytest.mark.parametrize("kind", ["qwen2", "llama"])
@pytest.mark.parametrize("form", ["split", "dense", "rows"])
def test_equals_trl_on_the_pairs(kind: str, form: Any, tmp_path: Path, tiny_model: Path) -> None:
    """Loss and gradients away from the reference, in float32, with N = 3."""
    from transformers import AutoTokenizer

    groups = [group(9, 5, 7, 3, 6), group(12, 4, 4, 9, 2, seed=1)]
    model = random_model(kind)
    trainer = stock_trainer(model, groups, tmp_path, AutoTokenizer.from_pretrained(tiny_model))
    ours = random_model(kind)
    add_likelihood_head(ours)
    reader = GroupReader(None) if form == "rows" else packing_reader(ours, form)
    batch = reader.collate(groups)
    with torch.no_grad():
        reference = reader.logprobs(ours, batch)
    for one in (model, ours):  # away from the reference, both to the same place
        torch.manual_seed(1)
        with torch.no_grad():
            for parameter in one.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
    theirs = trainer.compute_loss(model, trainer.data_collator(list(trainer.train_dataset)))
    theirs.backward()
    found = dpo_measures(reader.logprobs(ours, batch), reference, batch["present"], beta=BETA)
    found.loss.backward()
    assert abs(theirs.item() - 0.693) > 0.05  # it says something
    torch.testing.assert_close(found.loss, theirs, rtol=1e-5, atol=0.0)
    expected, slope = gradients(model), gradients(ours)
    assert float((slope - expected).norm() / expected.norm()) < 1e-5


def test_training_moves_the_margin_and_leaves_a_checkpoint(
    tiny_model: Path, tmp_path: Path
) -> None:
    curves = Curves()
    found = with_negatives()
    how = {"epochs": 6, "batch_size": 8, "learning_rate": 5e-3}
    plan = job(tiny_model, tmp_path / "out", found, report=curves, **how)
    plan = dataclasses.replace(plan, held_out=found[:3], save_steps=6)
    outcome = train_dpo(plan, DpoSettings())
    assert (outcome["examples"], outcome["pairs"]) == (12, 24)
    assert outcome["dropped"] == {}
    assert outcome["notes"] == ()
    losses = curves.of("loss")
    assert losses[0] == pytest.approx(0.6931, abs=1e-4)  # policy and reference are one at first
    assert losses[-1] < 0.5 < losses[0]
    assert curves.of("held_out_ranking_accuracy")[0] == 0.0
    assert curves.of("held_out_ranking_accuracy")[-1] > 0.9
    assert curves.of("held_out_loss")[-1] < curves.of("held_out_loss")[0]
    assert curves.of("reward_chosen")[-1] > curves.of("reward_rejected")[-1]
    for metric in ("ranking_accuracy", "kl", "tokens_per_second"):
        assert curves.of(metric), metric
    assert_usable(tmp_path / "out")


@pytest.mark.parametrize("negatives", [1, 3, 10])
@pytest.mark.parametrize(("batch_of", "each"), [("pairs", True), ("prompts", False)])
def test_more_negatives_are_more_updates(
    tiny_model: Path, tmp_path: Path, negatives: int, batch_of: Any, each: bool
) -> None:
    """Twelve prompts, four at a time: a batch counts pairs as in the paper, or prompts."""
    curves = Curves()
    found = with_negatives(negatives)
    plan = job(tiny_model, tmp_path, found, report=curves, batch_size=4, micro_batch_size=4)
    train_dpo(plan, DpoSettings(batch_of=batch_of))
    assert len(curves.of("loss")) == (3 * negatives if each else 3)


def test_pairs_of_a_prompt_that_meet_are_read_once(tiny_model: Path, tmp_path: Path) -> None:
    """One batch of all pairs: the same step, and the same work, as by prompts."""
    found, how = with_negatives(2), {"epochs": 1, "batch_size": 24, "micro_batch_size": 24}
    trained, read = [], []
    for batch_of in ("pairs", "prompts"):
        curves, out = Curves(), tmp_path / batch_of
        settings = DpoSettings(batch_of=batch_of)  # type: ignore[arg-type]
        train_dpo(job(tiny_model, out, found, report=curves, **how), settings)
        assert len(curves.of("loss")) == 1
        trained.append(weights(out))
        (state,) = (out / "steps").glob("*/trainer_state.json")
        read.append(json.loads(state.read_text())["log_history"][0]["num_tokens"])
    assert read[0] == read[1]
    for name, weight in trained[0].items():
        torch.testing.assert_close(weight, trained[1][name], rtol=0.0, atol=1e-4)


def test_a_pair_or_a_prompt_weighs_the_same() -> None:
    """One prompt with two negatives, one with one: by hand."""
    policy = torch.tensor([[0.0, -1.0, -2.0], [0.0, -3.0, 0.0]], dtype=torch.float64)
    present = torch.tensor([[True, True, True], [True, True, False]])

    def loss(batch_of: Any) -> float:
        zeros = torch.zeros_like(policy)
        return dpo_measures(policy, zeros, present, beta=1.0, batch_of=batch_of).loss.item()

    first, second, third = (math.log1p(math.exp(-margin)) for margin in (1, 2, 3))
    assert loss("pairs") == pytest.approx((first + second + third) / 3)
    assert loss("prompts") == pytest.approx(((first + second) / 2 + third) / 2)


def assert_usable(folder: Path) -> None:
    """A checkpoint anything can load: weights, tokenizer, template; no pickle."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert AutoTokenizer.from_pretrained(folder).chat_template
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.config._attn_implementation == "sdpa"
    assert not list(folder.glob("*.bin"))


def test_lora_leaves_a_merged_checkpoint(tiny_model: Path, tmp_path: Path) -> None:
    curves = Curves()
    plan = job(
        tiny_model, tmp_path / "out", with_negatives(), report=curves, lora_rank=4, epochs=3,
        gradient_checkpointing=True,
    )  # fmt: skip
    train_dpo(plan, DpoSettings())
    assert curves.of("loss")[0] == pytest.approx(0.6931, abs=1e-4)
    assert curves.of("loss")[-1] < 0.6
    assert_usable(tmp_path / "out")
    before, after = weights(tiny_model), weights(tmp_path / "out")
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert any("q_proj.weight" in name for name in moved)
    assert not any("embed" in name or "norm" in name for name in moved)
    assert (tmp_path / "out" / "adapter" / "adapter_model.safetensors").is_file()


def test_a_model_that_cannot_be_packed_is_trained_all_the_same(
    tiny_model: Path, tmp_path: Path
) -> None:
    """Layers that see four tokens back: the same pairs, each response behind its own prompt."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path / "mistral"
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    random_model(
        "mistral", sliding_window=4, vocab_size=len(tokenizer), max_position_embeddings=256
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    outcome = train_dpo(job(folder, tmp_path / "out", with_negatives()), DpoSettings())
    assert outcome["notes"][0].startswith(
        "MistralForCausalLM cannot read several responses behind one prompt (a layer of it sees 4"
    )
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").config.sliding_window == 4
    plan = job(folder, tmp_path / "other", with_negatives())
    with pytest.raises(ConfigError, match=r"settings\.attention is split, but MistralForCausalLM"):
        train_dpo(plan, DpoSettings(attention="split"))


def test_running_out_of_memory_is_one_line_and_keeps_the_steps(
    tiny_model: Path, tmp_path: Path
) -> None:
    def full(step: int, metrics: Mapping[str, float]) -> None:
        if step == 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    plan = job(tiny_model, tmp_path, with_negatives(), save_steps=2)
    plan = dataclasses.replace(plan, report=full)
    with pytest.raises(ModelError, match=r"out of memory: lower optimization\.micro_batch_size"):
        train_dpo(plan, DpoSettings())
    assert (tmp_path / "steps" / "checkpoint-2" / "trainer_state.json").is_file()


def _nothing_chosen(found: list[TrainingExample]) -> list[TrainingExample]:
    return [dataclasses.replace(found[0], chosen=None), *found[1:]]


def _nothing_rejected(found: list[TrainingExample]) -> list[TrainingExample]:
    return [dataclasses.replace(found[0], rejected=()), *found[1:]]


@pytest.mark.parametrize(
    ("change", "settings", "optimization", "error", "message"),
    [
        (
            _nothing_chosen,
            {},
            {},
            DataError,
            "/Be short. has no chosen response: make",
        ),
        (_nothing_rejected, {}, {}, DataError, "has no rejected response: make pairs"),
        (list, {"beta": 0.0}, {}, ConfigError, "settings.beta is 0: it must be above 0"),
        (list, {}, {"max_length": 20}, DataError, "none of 12 examples fits into 20 tokens: raise"),
        (list, {}, {"batch_size": 3, "micro_batch_size": 2}, ConfigError, "is not a multiple of"),
        (
            list,
            {},
            {"learning_rate": 1e30, "batch_size": 2},
            ModelError,
            r"is (nan|inf) at step \d, in the batch of item What is tea \d\?/.*: lower "
            r"optimization.learning_rate; the last good checkpoint is the base model",
        ),
    ],
)
def test_bad_input_is_one_line(
    tiny_model: Path,
    tmp_path: Path,
    change: Any,
    settings: Mapping[str, Any],
    optimization: Mapping[str, Any],
    error: type[MipoEvalError],
    message: str,
) -> None:
    plan = job(tiny_model, tmp_path / "out", change(with_negatives()), **optimization)
    with pytest.raises(error, match=message) as caught:
        train_dpo(plan, DpoSettings(**settings))
    assert "\n" not in str(caught.value)
