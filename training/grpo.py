"""The same rewards under GRPO, as trl has it: no critic, each prompt's responses are compared.

What a practitioner would use today in place of PPO; the paper's runs are PPO's.
"""

from collections.abc import Callable, Sequence
from typing import Any

from mipo_eval.errors import ConfigError
from mipo_eval.training.logprobs import Codec, add_likelihood_head, summed_logprobs
from mipo_eval.training.recipes import GrpoSettings
from mipo_eval.training.rewards import Completion, Reward, open_reward
from mipo_eval.training.trainer import (
    Trained,
    TrainingExample,
    TrainingJob,
    adapter_config,
    arguments,
    guarded,
    load_policy,
    run_trainer,
    world_size,
)


def train_grpo(job: TrainingJob, settings: GrpoSettings) -> Trained:
    """Train the policy on its own responses with `trl.GRPOTrainer`.

    A response without a reward is left out of its prompt's comparison.
    """
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    model, tokenizer = load_policy(job)
    add_likelihood_head(model)
    codec = Codec.of(tokenizer)
    model.generation_config.eos_token_id = codec.ends(model)  # trl knows the tokenizer's alone
    examples = [*job.examples, *job.held_out]
    rows = [
        {"prompt": [dict(message) for message in one.prompt], "place": place}
        for place, one in enumerate(examples)
    ]
    learned, held_out = rows[: len(job.examples)], rows[len(job.examples) :]

    def logprobs(prompts: Sequence[Any], responses: Sequence[Sequence[int]]) -> Any:
        """Return (responses,) log pi(y|x) under the policy in training, once there is one."""
        rows = trainer.args.per_device_train_batch_size
        return summed_logprobs(trainer.model_wrapped, codec, prompts, responses, rows=rows)

    with open_reward(settings, job, logprobs) as reward:
        trainer = guarded(GRPOTrainer)(
            model=model,
            reward_funcs=_as_trl_wants_it(reward, examples, codec),
            args=GRPOConfig(**_options(job, settings)),
            train_dataset=Dataset.from_list(learned),
            eval_dataset=Dataset.from_list(held_out) if held_out else None,
            processing_class=tokenizer,
            peft_config=adapter_config(job),
        )
        run_trainer(trainer, job)
    return {}


def _options(job: TrainingJob, settings: GrpoSettings) -> dict[str, Any]:
    """Return the arguments of trl's configuration, whose batches count responses, not prompts."""
    how, options = job.optimization, arguments(job)
    options["gradient_accumulation_steps"] *= settings.generations
    together = how.micro_batch_size * world_size() * options["gradient_accumulation_steps"]
    if together % settings.generations:
        raise ConfigError(
            f"{together} responses per step cannot be split into groups of {settings.generations}: "
            "change optimization.batch_size or settings.generations"
        )
    if job.held_out:
        options |= {"eval_strategy": "steps", "eval_steps": job.save_steps}
        options["per_device_eval_batch_size"] = settings.generations
    return options | {
        "num_generations": settings.generations,
        "num_iterations": settings.passes,
        "max_completion_length": settings.max_new_tokens,
        "temperature": 1.0,
        "beta": settings.kl,
        "epsilon": settings.clip,
        "remove_unused_columns": False,
    }


def _as_trl_wants_it(reward: Reward, examples: Sequence[TrainingExample], codec: Codec) -> Any:
    """Return the reward as a function of trl's columns; `place` names the example."""

    def rewards(
        *,
        completion_ids: Sequence[Sequence[int]],
        place: Sequence[int],
        log_metric: Callable[[str, float], None],
        **_: Any,
    ) -> list[float | None]:
        written = [
            Completion.of(
                examples[index],
                ids,
                tokenizer=codec.tokenizer,
                prompt=codec.prompt(examples[index].prompt),
            )
            for ids, index in zip(completion_ids, place, strict=True)
        ]
        found = list(reward(written))
        log_metric("unrewarded", found.count(None) / len(found))
        return found

    return rewards
