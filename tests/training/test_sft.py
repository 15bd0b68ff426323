"""SFT learns the response and nothing else, and ends alike whether it was stopped or not."""

import math
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from mipo_eval.errors import DataError, ModelError
from mipo_eval.training.logprobs import Codec
from mipo_eval.training.recipes import SftSettings
from mipo_eval.training.sft import sft_row, train_sft
from mipo_eval.training.trainer import TrainingExample
from tests.training.jobs import Curves, example, examples, job, weights


def test_only_the_response_and_its_end_are_learned(tiny_model: Path) -> None:
    codec = Codec.of(AutoTokenizer.from_pretrained(tiny_model))
    one = example("What is tea?", "Be short.", "Tea is a drink.")
    row = sft_row(one, codec)
    learned = [token for token in row["labels"] if token != -100]
    assert learned == codec.response("Tea is a drink.")
    assert learned[-1] == codec.tokenizer.eos_token_id
    assert row["input_ids"] == [*codec.prompt(one.prompt), *learned]
    assert row["labels"][: -len(learned)] == [-100] * len(codec.prompt(one.prompt))


def _loss_by_hand(model_folder: Path, one: TrainingExample) -> float:
    """The mean negative log-likelihood of the response's tokens, from plain logits."""
    codec = Codec.of(AutoTokenizer.from_pretrained(model_folder))
    model = AutoModelForCausalLM.from_pretrained(model_folder)
    row = sft_row(one, codec)
    ids = torch.tensor([row["input_ids"]])
    with torch.no_grad():
        logprobs = model(ids).logits[0].log_softmax(dim=-1)
    start = row["labels"].count(-100)
    found = [logprobs[at - 1, ids[0, at]] for at in range(start, ids.shape[1])]
    return -float(sum(found)) / len(found)


def test_the_first_loss_is_that_of_the_base_model(tiny_model: Path, tmp_path: Path) -> None:
    one, curves = examples()[:1], Curves()
    train_sft(job(tiny_model, tmp_path, one, batch_size=1, report=curves), SftSettings())
    assert curves.of("loss")[0] == pytest.approx(_loss_by_hand(tiny_model, one[0]), rel=1e-5)


def test_training_makes_the_responses_likelier(tiny_model: Path, tmp_path: Path) -> None:
    found, curves = examples(), Curves()
    train_sft(job(tiny_model, tmp_path, found, epochs=4, report=curves), SftSettings())
    after = [_loss_by_hand(tmp_path, one) for one in found]
    before = [_loss_by_hand(tiny_model, one) for one in found]
    assert sum(after) < 0.5 * sum(before)
    assert math.isfinite(curves.of("tokens_per_second")[-1])
    assert {"steps", "model.safetensors", "chat_template.jinja"} <= {
        path.name for path in tmp_path.iterdir()
    }
    assert not list(tmp_path.glob("*.bin"))


@pytest.mark.parametrize("lora", [None, 4])
def test_a_stopped_training_ends_with_the_same_weights(
    tiny_model: Path, tmp_path: Path, lora: int | None
) -> None:
    straight, halting = tmp_path / "straight", tmp_path / "halting"
    found = examples()
    how = {"epochs": 2, "lora_rank": lora}
    train_sft(job(tiny_model, straight, found, save_steps=4, **how), SftSettings())
    stopped = job(tiny_model, halting, found, save_steps=4, report=Curves(stop_at=7), **how)
    with pytest.raises(KeyboardInterrupt):
        train_sft(stopped, SftSettings())
    assert not (halting / "model.safetensors").exists()
    # A checkpoint that was being written when it was killed is not taken for one.
    (halting / "steps" / "checkpoint-6").mkdir()
    curves = Curves()
    train_sft(job(tiny_model, halting, found, save_steps=4, report=curves, **how), SftSettings())
    assert curves.points[0][0] == 5, "it went on from the last checkpoint"
    first, second, base = weights(straight), weights(halting), weights(tiny_model)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], base[name]) for name in base)
    assert (halting / "adapter").exists() == (lora is not None)


def test_a_loss_that_is_not_finite_stops_before_it_moves_weights(
    tiny_model: Path, tmp_path: Path
) -> None:
    found = job(tiny_model, tmp_path, examples(), learning_rate=1e30, save_steps=1)
    with pytest.raises(ModelError, match=r"the loss is nan at step \d+, in the batch .* lower opt"):
        train_sft(found, SftSettings())
    assert not (tmp_path / "model.safetensors").exists()


def test_what_does_not_fit_the_model_is_left_out_and_counted(
    tiny_model: Path, tmp_path: Path
) -> None:
    found = [*examples()[:3], example("Tea?", "I am me.", "Tea. " * 200), example("Why?", "I ask.")]
    outcome = train_sft(job(tiny_model, tmp_path, found), SftSettings())
    assert outcome["examples"] == 3
    assert outcome["dropped"] == {"no response, or longer than the model takes": 2}
    message = r"none of 2 examples has a response and fits into 256 tokens: raise optimization.max"
    with pytest.raises(DataError, match=message):
        train_sft(job(tiny_model, tmp_path, found[3:]), SftSettings())


def test_held_out_examples_are_measured_not_learned(tiny_model: Path, tmp_path: Path) -> None:
    import dataclasses

    curves, found = Curves(), examples()
    plan = dataclasses.replace(
        job(tiny_model, tmp_path, found[:8], report=curves), held_out=found[8:]
    )
    train_sft(plan, SftSettings())
    first, *_, last = curves.of("held_out_loss")
    assert first != last
