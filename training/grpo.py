"""The same rewards under GRPO, as trl has it: no critic, each prompt's responses are compared.

What a practitioner would use today in place of PPO; the paper's runs are PPO's.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mipo_eval.errors import ConfigError
from mipo_eval.training.data import TrainingExample, TrainingJob
from mipo_eval.training.recipes import GrpoSettings
from mipo_eval.training.rewards import Completion, Reward, open_reward


def train_grpo(job: TrainingJob, settings: GrpoSettings) -> None:
    """Train the policy on its own responses with `trl.GRPOTrainer` and save it to `job.out`.

    A response without a reward is left out of its prompt's comparison.

    Raises:
        ConfigError: the batch cannot be split.
        DataError: the examples lack what the reward looks at.
        ModelError: the model cannot be loaded, memory runs out, or the loss is not finite.
        BackendError: the judge cannot be asked.
    """
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    from mipo_eval.training.logprobs import Codec, add_likelihood_head
    from mipo_eval.training.trainer import adapter_config, guarded, load_policy, run_trainer

    model, tokenizer = load_policy(job)
    add_likelihood_head(model)
    examples = [*job.examples, *job.held_out]
    learned = _Learned(Codec.of(tokenizer))
    with open_reward(settings, job, learned.logprobs) as reward:
        trainer = guarded(GRPOTrainer)(
            model=model,
            reward_funcs=_as_trl_wants_it(reward, examples, tokenizer),
            args=GRPOConfig(**_options(job, settings)),
            train_dataset=Dataset.from_list(_rows(job.examples, first=0)),
            eval_dataset=Dataset.from_list(_rows(job.held_out, first=len(job.examples)))
            if job.held_out
            else None,
            processing_class=tokenizer,
            peft_config=adapter_config(job),
        )
        learned.trainer = trainer
        run_trainer(trainer, job)


def _options(job: TrainingJob, settings: GrpoSettings) -> dict[str, Any]:
    """Return the arguments of trl's configuration, whose batches count responses, not prompts."""
    from mipo_eval.training.trainer import arguments, world_size

    options = arguments(job)
    how = job.optimization
    options["gradient_accumulation_steps"] *= settings.generations
    together = how.micro_batch_size * world_size() * options["gradient_accumulation_steps"]
    if together % settings.generations:
        raise ConfigError(
            f"{together} responses per step cannot be split into groups of {settings.generations}: "
            "change optimization.batch_size or settings.generations"
        )
    every = (
        {
            "eval_strategy": "steps",
            "eval_steps": job.save_steps,
            "per_device_eval_batch_size": settings.generations,
        }
        if job.held_out
        else {}
    )
    return (
        options
        | every
        | {
            "num_generations": settings.generations,
            "num_iterations": settings.passes,
            "max_completion_length": settings.max_new_tokens,
            "temperature": 1.0,
            "beta": settings.kl,
            "epsilon": settings.clip,
            "remove_unused_columns": False,
        }
    )


def _rows(examples: Sequence[TrainingExample], *, first: int) -> list[dict[str, Any]]:
    return [
        {"prompt": [dict(message) for message in one.prompt], "place": first + number}
        for number, one in enumerate(examples)
    ]


def _as_trl_wants_it(reward: Reward, examples: Sequence[TrainingExample], tokenizer: Any) -> Any:
    """Return the reward as a function of trl's columns; `place` names the example."""

    def rewards(
        *,
        completion_ids: Sequence[Sequence[int]],
        place: Sequence[int],
        log_metric: Callable[[str, float], None],
        **_: Any,
    ) -> list[float | None]:
        written = [
            Completion(
                example=examples[index],
                text=tokenizer.decode(ids, skip_special_tokens=True),
                tokens=tuple(ids),
            )
            for ids, index in zip(completion_ids, place, strict=True)
        ]
        found = list(reward(written))
        log_metric("unrewarded", found.count(None) / len(found))
        return found

    return rewards


@dataclass(slots=True)
class _Learned:
    """Log-probabilities under the policy in training, which is there once its trainer is."""

    codec: Any
    trainer: Any = None

    def logprobs(self, prompts: Sequence[Any], responses: Sequence[Sequence[int]]) -> Any:
        """Return (responses,) log pi(y|x) in nats."""
        from mipo_eval.training.actor_critic import summed_logprobs

        texts = list(zip(prompts, responses, strict=True))
        rows = self.trainer.args.per_device_train_batch_size
        return summed_logprobs(self.trainer.model_wrapped, self.codec, texts, rows=rows)
