"""PPO with a learned critic (Schulman et al. 2017), as the paper trains PPO (MI), RLAIF and RLVR.

A rollout: the policy answers some prompts, a reward judges the responses, the critic says what it
expected, and what came out better than expected is made likelier, batch by batch. `losses.py`
has the arithmetic and `actor_critic.py` the models.
"""

import dataclasses
import json
import math
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object

from mipo_eval.errors import ConfigError, DataError, ModelError
from mipo_eval.keys import item_rng
from mipo_eval.tasks.items import replacing
from mipo_eval.training import losses
from mipo_eval.training.actor_critic import ActorCritic
from mipo_eval.training.loop import save_result
from mipo_eval.training.memory import memory_errors
from mipo_eval.training.recipes import Optimization, PpoSettings
from mipo_eval.training.rewards import Completion, Reward, open_reward
from mipo_eval.training.trainer import (
    STATE,
    STEPS,
    Trained,
    TrainingExample,
    TrainingJob,
    arguments,
    diverged,
    last_checkpoint,
    world_size,
)


def train_ppo(job: TrainingJob, settings: PpoSettings) -> Trained:
    """Train the policy on its own responses.

    Reports per rollout the losses, reward, kl (nats per response), response_tokens, shares of
    responses (unrewarded, truncated) and more; at the end held_out_reward, where there is any.
    """
    arguments(job)  # checks batch and micro-batch
    if settings.rollout_batch_size % job.optimization.batch_size:
        raise ConfigError(
            f"settings.rollout_batch_size {settings.rollout_batch_size} is not a multiple of "
            f"optimization.batch_size {job.optimization.batch_size} ({world_size()} processes): "
            "change one of them"
        )
    with memory_errors():
        run = _Ppo(job, settings)
        with open_reward(settings, job, run.models.logprobs) as reward:
            run.train(reward)
            run.measure_held_out(reward)
    save_result(run.models, job)
    for tracker in run.accelerator.trackers:  # `end_training` would part the processes for good
        tracker.finish()
    return run.outcome()


def drawn(count: int, rollout: int, size: int, seed: int) -> list[int]:
    """Return which of `count` examples a rollout takes: every one once per epoch, shuffled."""
    places = range(rollout * size, (rollout + 1) * size)
    orders = {
        epoch: item_rng(seed, "ppo", "epoch", str(epoch)).sample(range(count), count)
        for epoch in {place // count for place in places}
    }
    return [orders[place // count][place % count] for place in places]


class _Ppo:
    """One training: what it has learned so far is in its models, step, scale and controller."""

    def __init__(self, job: TrainingJob, settings: PpoSettings) -> None:
        self._job, self._settings = job, settings
        self.models = ActorCritic(job, settings)
        self.accelerator = self.models.accelerator
        self._examples = self._fitting(job.examples)
        self._scale = RewardScale()
        self._kl = KlController(
            coefficient=settings.kl, target=settings.kl_target, horizon=settings.kl_horizon
        )
        size = settings.rollout_batch_size
        self._rollouts = math.ceil(len(self._examples) * job.optimization.epochs / size)
        self._steps_each = size // job.optimization.batch_size * settings.passes
        self._step = self._next = self._unrewarded = 0
        self._saved: Path | None = None

    def outcome(self) -> Trained:
        """Return what was learned from, and what was not."""
        return {
            "prompts": len(self._examples),
            "rollouts": self._rollouts,
            "too_long": len(self._job.examples) - len(self._examples),
            "unrewarded": self._unrewarded,
        }

    def _fitting(self, examples: Sequence[TrainingExample]) -> list[TrainingExample]:
        """Return the examples whose prompt leaves room for a response."""
        longest = self.models.longest
        room = math.inf if longest is None else longest - self._settings.max_new_tokens
        found = [one for one in examples if len(self.models.codec.prompt(one.prompt)) <= room]
        if examples and not found:
            raise DataError(
                f"none of {len(examples)} prompts is short enough: of {longest} tokens in all, "
                f"settings.max_new_tokens leaves {room} for the prompt: lower it"
            )
        return found

    def train(self, reward: Reward) -> None:
        """Learn from all rollouts that are left."""
        self._resume()
        saved = self._step
        for number in range(self._next, self._rollouts):
            began = time.monotonic()
            metrics, tokens = self._learn(number, reward)
            self._next = number + 1
            metrics["tokens_per_second"] = tokens / (time.monotonic() - began)
            self._report(metrics)
            if self._step - saved >= self._job.save_steps and self._next < self._rollouts:
                self._save()
                saved = self._step

    def _learn(self, number: int, reward: Reward) -> tuple[dict[str, float], int]:
        """Make one rollout and learn from it; return what was measured and its tokens."""
        size = self._settings.rollout_batch_size
        index = drawn(len(self._examples), number, size, self._job.seed)
        completions = self._write([self._examples[i] for i in index], str(number))
        scores = list(reward(completions))
        everyone = gather_object(scores)
        known = [score for score in everyone if score is not None]
        self._scale.add(known)
        self._unrewarded += len(everyone) - len(known)
        lengths = gather_object([len(one.tokens) for one in completions])
        ended = gather_object([self.models.ended(one) for one in completions])
        metrics = {
            "unrewarded": 1 - len(known) / len(everyone),
            "truncated": 1 - sum(ended) / len(ended),
            "response_tokens": sum(lengths) / len(lengths),
            "kl_coefficient": self._kl.coefficient,
        }
        if known:
            metrics["reward"] = sum(known) / len(known)
            metrics |= self._updated(number, completions, scores)
        else:
            self._step += self._steps_each  # the schedule of a run does not depend on its judge
        return metrics, sum(lengths)

    def _write(self, examples: Sequence[TrainingExample], what: str) -> list[Completion]:
        """Return responses to this process's part of the examples."""
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        # The draws of a rollout depend on its number only, so a resumed run draws the same.
        torch.manual_seed(item_rng(self._job.seed, "ppo", what, str(rank)).getrandbits(63))
        own = examples[rank::world]
        try:
            return self.models.write(own)
        except FloatingPointError as error:
            raise self._not_finite(error, own) from None

    def _updated(
        self, number: int, completions: Sequence[Completion], scores: Sequence[float | None]
    ) -> dict[str, float]:
        """Move the weights, batch by batch; return the mean of what was measured."""
        settings = self._settings
        scaled = self._scale.scaled if settings.normalize_reward else float
        most = math.inf if settings.reward_clip is None else settings.reward_clip
        earned = torch.tensor(
            [0.0 if score is None else scaled(score) for score in scores],
            device=self.accelerator.device,
        ).clamp(-most, most)
        seen = self.models.experience(completions, [score is not None for score in scores])
        rewards = losses.token_rewards(
            earned, seen.logprobs, seen.reference, seen.mask, kl=self._kl.coefficient
        )
        found = losses.generalized_advantages(
            rewards, seen.values, seen.mask, discount=settings.discount, decay=settings.decay
        )
        total = self.accelerator.reduce(losses.moments(found.advantages, seen.mask), "sum")
        white = losses.whiten(found.advantages, seen.mask, total)
        seen = dataclasses.replace(seen, advantages=white, returns=found.returns)
        distance = torch.tensor(
            losses.mean_kl(seen.logprobs, seen.reference, seen.mask),
            device=self.accelerator.device,
        )
        kl = float(self.accelerator.reduce(distance, "mean"))
        self._kl.update(kl, settings.rollout_batch_size)
        steps = [one for one in self._steps(number, seen, completions) if one is not None]
        means = {name: sum(one[name] for one in steps) / len(steps) for name in steps[0]}
        return means | {"kl": kl, "loss": means["policy_loss"] + means["value_loss"]}

    def _steps(
        self, number: int, seen: Any, completions: Sequence[Completion]
    ) -> Iterator[dict[str, float] | None]:
        how = self._job.optimization
        size = how.batch_size // self.accelerator.num_processes
        for turn in range(self._settings.passes):
            rng = item_rng(self._job.seed, "ppo", "batches", str(number), str(turn))
            order = rng.sample(range(len(completions)), len(completions))
            for start in range(0, len(order), size):
                index = order[start : start + size]
                done = self._step / (self._rollouts * self._steps_each)
                share = learning_rate_share(how, done)
                try:
                    yield self.models.update(seen.rows(index), rate=share)
                except FloatingPointError as error:
                    raise self._not_finite(error, [completions[i].example for i in index]) from None
                self._step += 1

    def _not_finite(
        self, error: FloatingPointError, batch: Sequence[TrainingExample]
    ) -> ModelError:
        items = ", ".join(one.item.item_id for one in batch[:4])
        return diverged(str(error), self._job.out / STEPS, self._step, f", items {items}")

    def measure_held_out(self, reward: Reward) -> None:
        """Report the mean reward of responses to the prompts that were held out."""
        examples = self._fitting(self._job.held_out)
        written = self._write(examples, "held out")
        scores = reward(written) if written else []
        known = [score for score in gather_object(list(scores)) if score is not None]
        if known:
            self._report({"held_out_reward": sum(known) / len(known)})

    def _report(self, metrics: Mapping[str, float]) -> None:
        """Hand on what was measured, also to the user's trackers."""
        self.accelerator.log(dict(metrics), step=self._step)
        if self.accelerator.is_main_process:
            self._job.report(self._step, metrics)

    def _save(self) -> None:
        """Keep what a stopped training continues from, and drop what was kept before."""
        folder = self._job.out / STEPS / f"checkpoint-{self._step}"
        self.accelerator.save_state(str(folder))
        state = {
            "global_step": self._step,
            "rollout": self._next,
            "kl_coefficient": self._kl.coefficient,
            "reward_scale": dataclasses.asdict(self._scale),
            "unrewarded": self._unrewarded,
        }
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            with replacing(folder / STATE) as part:
                part.write_text(json.dumps(state), encoding="utf-8")
            for other in set(folder.parent.glob("checkpoint-*")) - {folder, self._saved}:
                shutil.rmtree(other)
        self._saved = folder  # kept until the next is proven by a step from it

    def _resume(self) -> None:
        if (folder := last_checkpoint(self._job.out / STEPS)) is None:
            return
        self._saved = folder
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        self.accelerator.load_state(str(folder))
        self._step, self._next = state["global_step"], state["rollout"]
        self._kl.coefficient, self._unrewarded = state["kl_coefficient"], state["unrewarded"]
        self._scale = RewardScale(**state["reward_scale"])


def learning_rate_share(how: Optimization, done: float) -> float:
    """Return the share of the learning rate to use when a share `done` (0-1) of steps is made.

    It rises from 0 over the warm-up, then stays, or falls: to 0, a cosine to its final share.
    """
    warmup = how.warmup_ratio
    if done < warmup:
        return done / warmup
    left = (1 - done) / (1 - warmup) if warmup < 1 else 0.0
    cosine = (1 - math.cos(math.pi * left)) / 2
    fallen = how.final_share + (1 - how.final_share) * cosine
    return {"constant": 1.0, "linear": left, "cosine": fallen}[how.schedule]


@dataclass(slots=True, kw_only=True)
class KlController:
    """The coefficient of the KL penalty: fixed, or steered to a target (Ziegler et al. 2019)."""

    coefficient: float
    target: float | None = None
    """KL to hold, in nats per response; None keeps the coefficient."""
    horizon: int = 10_000
    """Responses over which a deviation is made up for."""

    def update(self, kl: float, responses: int) -> None:
        """Raise the coefficient where the KL is above its target, lower it where it is below."""
        if self.target is not None:
            error = min(max(kl / self.target - 1, -0.2), 0.2)
            self.coefficient *= 1 + error * responses / self.horizon


@dataclass(slots=True, kw_only=True)
class RewardScale:
    """Rewards in units of what was seen so far: mean and variance of all of them (Welford)."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    """Sum of squared distances from the mean."""

    def add(self, rewards: list[float]) -> None:
        """Take in the rewards of a batch."""
        for reward in rewards:
            self.count += 1
            distance = reward - self.mean
            self.mean += distance / self.count
            self.squares += distance * (reward - self.mean)

    def scaled(self, reward: float) -> float:
        """Return a reward as its distance from the mean in standard deviations; 0 without any."""
        deviation = math.sqrt(self.squares / self.count) if self.count else 0.0
        return (reward - self.mean) / deviation if deviation else 0.0
