"""The same rewards under GRPO, as trl has it: no critic, each prompt's responses are compared.

What a practitioner would use today in place of PPO; the paper's runs are PPO's.
"""

from collections.abc import Callable, Sequence
from typing import Any

from mipo_eval.errors import ConfigError
from mipo_eval.training.logprobs import Codec, add_likelihood_head, summed_logprobs
from mipo_eval.training.loop import run_trainer
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
    world_size,
)
from mipo_eval.training.uneven import FilledSampler, without_repeats


def train_grpo(job: TrainingJob, settings: GrpoSettings) -> Trained:
    """Train the policy on its own responses with `trl.GRPOTrainer`.

    A response without a reward is left out of its prompt's comparison.
    """
    from datasets import Dataset
    from trl import GRPOConfig

    model, tokenizer = load_policy(job)
    add_likelihood_head(model)
    codec = Codec.of(tokenizer)
    model.generation_config.eos_token_id = codec.ends(model)  # trl knows the tokenizer's alone
    examples = [*job.examples, *job.held_out]
    rows = [
        {"prompt": [dict(message) for message in one.prompt], "place": place, "repeated": False}
        for place, one in enumerate(examples)
    ]
    learned, held_out = rows[: len(job.examples)], rows[len(job.examples) :]
    repeats = [{**row, "repeated": True} for row in learned]

    def logprobs(prompts: Sequence[Any], responses: Sequence[Sequence[int]]) -> Any:
        """Return (responses,) log pi(y|x) under the policy in training, once there is one."""
        rows = trainer.args.per_device_train_batch_size
        return summed_logprobs(trainer.model_wrapped, codec, prompts, responses, rows=rows)

    with open_reward(settings, job, logprobs) as reward:
        trainer = guarded(_every_prompt())(
            model=model,
            reward_funcs=_as_trl_wants_it(reward, examples, codec),
            args=GRPOConfig(**_options(job, settings)),
            train_dataset=Dataset.from_list([*learned, *repeats]),
            eval_dataset=Dataset.from_list(held_out) if held_out else None,
            processing_class=tokenizer,
            peft_config=adapter_config(job),
        )
        run_trainer(trainer, job)
    return {}


def _every_prompt() -> Any:
    """Return `trl.GRPOTrainer` on a data set whose second half are the repeats of the first."""
    from trl import GRPOTrainer

    class EveryPrompt(GRPOTrainer):  # type: ignore[misc]
        def _get_train_sampler(self, dataset: Any = None) -> FilledSampler:
            rows = self.train_dataset if dataset is None else dataset
            return FilledSampler(
                len(rows) // 2,
                batch=self.args.generation_batch_size // self.num_generations,
                times=self.num_generations,
                again=self.num_iterations * self.args.steps_per_generation,
                seed=self.args.seed,
            )

        def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
            repeated = [row["repeated"] for row in inputs]
            made = super()._generate_and_score_completions(inputs)
            return without_repeats(made, repeated, lambda own: self.accelerator.gather(own).sum())

    return EveryPrompt


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
        repeated: Sequence[bool],
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
        found = list(reward(written))  # of repeats too: processes may compute rewards together
        own = [one for one, again in zip(found, repeated, strict=True) if not again]
        if own:
            log_metric("unrewarded", own.count(None) / len(own))
        return [None if again else one for one, again in zip(found, repeated, strict=True)]

    return rewards
