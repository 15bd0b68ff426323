"""PPO: it learns, by seed, to the same weights however often it is killed."""

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from mipo_eval.errors import ConfigError, DataError, ModelError
from mipo_eval.training.actor_critic import ActorCritic
from mipo_eval.training.losses import generalized_advantages, token_rewards
from mipo_eval.training.ppo import _Ppo, drawn, train_ppo
from mipo_eval.training.recipes import PpoSettings
from tests.training.jobs import Curves, example, examples, job, weights

SETTINGS = PpoSettings(
    reward="mi", max_new_tokens=6, rollout_batch_size=4, critic_learning_rate=1e-2
)


def run(model: Path, out: Path, settings: PpoSettings = SETTINGS, **how: Any) -> Curves:
    curves = how.pop("report", None) or Curves()
    made = how.pop("made", None) or examples()
    train_ppo(job(model, out, made, report=curves, **{"learning_rate": 3e-3, **how}), settings)
    return curves


def test_rollouts_take_every_example_once_per_epoch() -> None:
    first = [one for rollout in range(5) for one in drawn(10, rollout, 4, seed=1)]
    assert Counter(first) == dict.fromkeys(range(10), 2)
    assert Counter(first[:10]) == dict.fromkeys(range(10), 1)
    assert first[:10] != first[10:]
    assert drawn(10, 3, 4, seed=1) == first[12:16]
    assert drawn(10, 3, 4, seed=2) != first[12:16]
    assert len(drawn(3, 0, 8, seed=0)) == 8


def test_what_a_training_reports_and_leaves(tiny_model: Path, tmp_path: Path) -> None:
    curves = Curves()
    out = tmp_path / "out"
    outcome = train_ppo(job(tiny_model, out, examples(), report=curves), SETTINGS)
    assert outcome == {"prompts": 12, "rollouts": 3, "too_long": 0, "unrewarded": 0}
    assert [step for step, _ in curves.points] == [2, 4, 6]
    assert set(curves.points[0][1]) == {
        "loss", "policy_loss", "value_loss", "clipped", "reward", "unrewarded", "truncated",
        "response_tokens", "kl", "kl_coefficient", "tokens_per_second",
    }  # fmt: skip
    first, last = curves.points[0][1], curves.points[-1][1]
    assert first["kl"] == pytest.approx(0.0, abs=1e-5)  # the policy has not moved yet
    assert last["kl"] > 0.01
    assert abs(first["reward"]) > 0.1
    before, after = weights(tiny_model), weights(out)
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert (out / "chat_template.jinja").is_file()


def test_killed_and_resumed_ends_with_equal_weights(tiny_model: Path, tmp_path: Path) -> None:
    settings = dataclasses.replace(SETTINGS, kl=0.05, kl_target=2.0, kl_horizon=20)
    whole = run(tiny_model, tmp_path / "whole", settings, save_steps=2, epochs=1.5)
    with pytest.raises(KeyboardInterrupt):
        run(
            tiny_model,
            tmp_path / "cut",
            settings,
            save_steps=2,
            epochs=1.5,
            report=Curves(stop_at=6),
        )
    assert not (tmp_path / "cut" / "model.safetensors").exists()
    kept = {path.name for path in (tmp_path / "cut" / "steps").iterdir()}
    assert kept == {"checkpoint-2", "checkpoint-4"}
    torch.rand(7)  # what was drawn elsewhere in between makes no difference
    again = run(tiny_model, tmp_path / "cut", settings, save_steps=2, epochs=1.5)
    assert again.of("reward") == whole.of("reward")[2:]
    assert again.of("kl_coefficient") == whole.of("kl_coefficient")[2:]
    expected, found = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=0)


def test_a_checkpoint_that_was_killed_half_way_is_passed_over(
    tiny_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "out" / "steps" / "checkpoint-4").mkdir(parents=True)
    assert len(run(tiny_model, tmp_path / "out").points) == 3


def test_a_training_stopped_between_accumulated_batches_does_not_stop_the_next(
    tiny_model: Path, tmp_path: Path
) -> None:
    from accelerate import Accelerator

    Accelerator().sync_gradients = False  # as such a training leaves it
    curves = Curves()
    train_ppo(job(tiny_model, tmp_path / "out", examples(), report=curves), SETTINGS)
    assert curves.of("kl")[-1] > 0.01


def test_a_reward_within_reach_is_learned(tiny_model: Path, tmp_path: Path) -> None:
    settings = dataclasses.replace(
        SETTINGS, max_new_tokens=4, rollout_batch_size=32, rollout_micro_batch_size=32, kl=0.0
    )
    curves = Curves()
    how = {"epochs": 16, "schedule": "constant", "batch_size": 32, "micro_batch_size": 32}
    made = examples(prompts=8, contexts=4)
    at = job(tiny_model, tmp_path, made, report=curves, **{"learning_rate": 3e-3, **how})
    _Ppo(at, settings).train(lambda all_: [float(one.tokens[0] % 2 == 0) for one in all_])
    rewards = curves.of("reward")
    assert sum(rewards[-3:]) / 3 > sum(rewards[:3]) / 3 + 0.2


def test_the_batch_may_be_split_at_will(tiny_model: Path, tmp_path: Path) -> None:
    how = {"batch_size": 4, "made": examples(prompts=2, contexts=2), "learning_rate": 1e-4}
    gentle = dataclasses.replace(SETTINGS, critic_learning_rate=1e-4)
    whole = run(tiny_model, tmp_path / "a", gentle, micro_batch_size=4, epochs=2, **how)
    split = run(tiny_model, tmp_path / "b", gentle, micro_batch_size=1, epochs=2, **how)
    for metric in ("policy_loss", "value_loss", "kl"):
        assert split.of(metric) == pytest.approx(whole.of(metric), rel=1e-3, abs=1e-5)
        assert len(whole.of(metric)) == 2


def test_the_first_update_is_plain_policy_gradient(tiny_model: Path, tmp_path: Path) -> None:
    """At ratio 1 nothing is clipped: the loss is minus the mean advantage, whatever the clip."""
    settings = PpoSettings(
        critic_learning_rate=1e-3, max_new_tokens=5, decay=1.0, clip=1e-6, value_clip=1e-6
    )
    models = ActorCritic(job(tiny_model, tmp_path, examples()), settings)
    torch.manual_seed(0)
    made = models.write(examples()[:4])
    assert all(1 <= len(one.tokens) <= 5 for one in made)
    seen = models.experience(made, [True, True, False, True])
    assert [int(row.sum()) for row in seen.mask] == [
        len(one.tokens) * (number != 2) for number, one in enumerate(made)
    ]
    assert seen.values.abs().max() == 0  # a new critic expects nothing
    torch.testing.assert_close(seen.logprobs, seen.reference)
    sums = models.logprobs([one.example.prompt for one in made], [one.tokens for one in made])
    torch.testing.assert_close(seen.logprobs.sum(dim=1), sums)
    earned = token_rewards(torch.ones(4), seen.logprobs, seen.reference, seen.mask, kl=0.1)
    found = generalized_advantages(earned, seen.values, seen.mask, discount=1.0, decay=1.0)
    seen = dataclasses.replace(seen, advantages=found.advantages, returns=found.returns)
    parts = models.update(seen, rate=1.0)
    assert parts["policy_loss"] == pytest.approx(-1.0)
    assert parts["value_loss"] == pytest.approx(0.5)


def test_responses_without_a_reward_are_left_out(tiny_model: Path, tmp_path: Path) -> None:
    def half(written: Any) -> list[float | None]:
        return [float(len(one.text)) if at % 2 else None for at, one in enumerate(written)]

    def none(written: Any) -> list[float | None]:
        return [None for _ in written]

    curves = Curves()
    started = _Ppo(job(tiny_model, tmp_path, examples(), report=curves), SETTINGS)
    started.train(half)
    assert curves.of("unrewarded") == [0.5, 0.5, 0.5]
    assert started.outcome()["unrewarded"] == 6
    idle = _Ppo(job(tiny_model, tmp_path, examples()), SETTINGS)
    idle.train(none)
    assert idle.outcome()["unrewarded"] == 12
    idle.models.save_model(str(tmp_path / "idle"))
    before, after = weights(tiny_model), weights(tmp_path / "idle")
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_lora_leaves_the_adapter_and_a_merged_checkpoint(tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    curves = run(tiny_model, out, lora_rank=4, learning_rate=1e-2)
    assert curves.of("kl")[0] == pytest.approx(0.0, abs=1e-5)
    assert curves.of("kl")[-1] > 1e-3
    assert (out / "adapter" / "adapter_model.safetensors").is_file()
    assert weights(out).keys() == weights(tiny_model).keys()


def test_held_out_prompts_are_measured_at_the_end(tiny_model: Path, tmp_path: Path) -> None:
    curves = Curves()
    made = examples()
    one = job(tiny_model, tmp_path / "out", made[:6], report=curves)
    train_ppo(dataclasses.replace(one, held_out=made[6:]), SETTINGS)
    assert len(curves.of("held_out_reward")) == 1


@pytest.mark.parametrize(
    ("critic", "actor", "what"),
    [(1e30, 1e-3, "the loss .* is not finite"), (1e-3, 1e30, "probabilities are not finite")],
)
def test_what_is_not_finite_stops_the_training(
    tiny_model: Path, tmp_path: Path, critic: float, actor: float, what: str
) -> None:
    """The weights of the first step are broken, and so is the checkpoint made of them."""
    wild = dataclasses.replace(SETTINGS, critic_learning_rate=critic, rollout_batch_size=2)
    how: dict[str, Any] = {"learning_rate": actor, "epochs": 2, "save_steps": 1}
    with pytest.raises(
        ModelError, match=f"{what} at step 2, items What is tea .*: lower opt.* the base model$"
    ):
        run(tiny_model, tmp_path, wild, **how)
    assert list((tmp_path / "steps").iterdir()) == []
    assert not (tmp_path / "model.safetensors").exists()


def test_batches_that_do_not_divide_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"rollout_batch_size 4 is not a multiple of .* 3"):
        run(tiny_model, tmp_path / "out", batch_size=3)
    with pytest.raises(ValueError, match="rollout_batch_size is 0"):
        PpoSettings(rollout_batch_size=0)


def test_prompts_too_long_are_counted_or_refused(tiny_model: Path, tmp_path: Path) -> None:
    long = example("Tea? " * 200, "Be short.")
    outcome = train_ppo(job(tiny_model, tmp_path / "a", [*examples(prompts=1), long]), SETTINGS)
    assert (outcome["prompts"], outcome["too_long"]) == (3, 1)
    with pytest.raises(DataError, match="none of 1 prompts is short enough: of 256 tokens in all"):
        run(tiny_model, tmp_path / "b", made=[long])
