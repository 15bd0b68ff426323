"""The same rewards under trl's GRPO."""

import dataclasses
from pathlib import Path

import pytest
import torch

from mipo_eval.errors import BackendError
from mipo_eval.training.grpo import train_grpo
from mipo_eval.training.recipes import GrpoSettings
from mipo_eval.training.uneven import FilledSampler, without_repeats
from tests.training.jobs import Curves, examples, job, weights

SETTINGS = GrpoSettings(reward="mi", max_new_tokens=6, generations=4)


def test_what_a_training_reports_and_leaves(tiny_model: Path, tmp_path: Path) -> None:
    curves = Curves()
    out = tmp_path / "out"
    made = examples(prompts=3)
    one = job(tiny_model, out, made[:6], report=curves, micro_batch_size=2, learning_rate=1e-3)
    train_grpo(dataclasses.replace(one, held_out=made[6:], save_steps=2), SETTINGS)
    assert max(step for step, _ in curves.points) == 3  # 6 prompts, 2 a step
    assert len(curves.of("reward")) == 3
    assert abs(curves.of("reward")[0]) > 0.1
    assert curves.of("held_out_reward")
    assert len(curves.of("kl")) == 3
    before, after = weights(tiny_model), weights(out)
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert (out / "chat_template.jinja").is_file()


def test_killed_and_resumed_ends_with_equal_weights(tiny_model: Path, tmp_path: Path) -> None:
    def run(out: Path, report: Curves) -> Curves:
        how = {"micro_batch_size": 2, "learning_rate": 3e-3, "save_steps": 2, "epochs": 2}
        train_grpo(job(tiny_model, out, examples(prompts=2), report=report, **how), SETTINGS)
        return report

    whole = run(tmp_path / "whole", Curves())
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", Curves(stop_at=3))
    assert not (tmp_path / "cut" / "model.safetensors").exists()
    torch.rand(7)  # what was drawn elsewhere in between makes no difference
    again = run(tmp_path / "cut", Curves())
    assert again.of("reward") == whole.of("reward")[2:]
    expected, found = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=0)


def test_every_prompt_is_dealt_once_and_repeats_fill_the_last_batch() -> None:
    sampler = FilledSampler(5, batch=2, times=3, again=2, seed=0)
    first, second = list(sampler), list(sampler)
    assert len(first) == len(sampler) == 3 * 2 * 3 * 2
    for dealt in (first, second):
        assert all(dealt.count(prompt) == 6 for prompt in range(5))
        (repeat,) = {index for index in dealt if index >= 5}
        assert (dealt.count(repeat), repeat - 5) == (6, dealt[0])
        assert repeat in dealt[-12:], "it fills the last batch"
    assert first != second, "each epoch has its order"
    assert first[:6] == first[6:12] == sorted(first[:6], key=first.index)
    assert max(FilledSampler(1, batch=3, times=2, again=1, seed=0)) == 1


def test_responses_to_repeats_count_nothing() -> None:
    made = {"completion_mask": torch.tensor([[1, 1, 0], [1, 1, 1]]), "advantages": "kept"}
    found = without_repeats(made, [False, True], lambda own: own + 10)
    assert found["completion_mask"].tolist() == [[1, 1, 0], [0, 0, 0]]
    assert int(found["num_items_in_batch"]) == 12, "tokens of all processes"
    assert found["advantages"] == "kept"


def test_prompts_that_do_not_fill_a_step_are_learned_from(tiny_model: Path, tmp_path: Path) -> None:
    """Three prompts, two a step; what the judge would say of the repeat is not in the curve."""
    replies = tmp_path / "replies.jsonl"
    replies.write_text('{"reply": "2"}\n' * 12 + '{"reply": "5"}\n' * 4)
    curves = Curves()
    settings = dataclasses.replace(SETTINGS, reward="judge", judge=f"scripted:{replies}")
    made = examples(prompts=1)
    train_grpo(job(tiny_model, tmp_path / "out", made, report=curves), settings)
    assert curves.of("reward") == [2.0, 2.0]
    assert curves.of("unrewarded") == [0.0, 0.0]


def test_a_response_without_a_reward_is_left_out(tiny_model: Path, tmp_path: Path) -> None:
    replies = tmp_path / "replies.jsonl"
    replies.write_text('{"reply": "4"}\n{"reply": "?"}\n{"reply": "1"}\n' * 10)
    curves = Curves()
    settings = dataclasses.replace(SETTINGS, reward="judge", judge=f"scripted:{replies}")
    made = examples(prompts=1, contexts=2)
    one = job(tiny_model, tmp_path / "out", made, report=curves, micro_batch_size=2)
    train_grpo(one, settings)
    assert 1.0 <= curves.of("reward")[0] <= 4.0
    assert 0 < curves.of("unrewarded")[0] < 0.5


def test_a_judge_that_rates_nothing_ends_the_training(tiny_model: Path, tmp_path: Path) -> None:
    replies = tmp_path / "replies.jsonl"
    replies.write_text('{"reply": "?"}\n' * 30)
    settings = dataclasses.replace(SETTINGS, reward="judge", judge=f"scripted:{replies}")
    one = job(tiny_model, tmp_path / "out", examples(prompts=1, contexts=2))
    with pytest.raises(
        BackendError,
        match=r"scripted rated none of the first \d+ responses \(it replies '\?'\): name",
    ):
        train_grpo(one, settings)


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="generations is 1: responses are compared"):
        GrpoSettings(generations=1)
