"""SFT: ordinary supervised training on one response per prompt, on `trl.SFTTrainer`.

What the response is - the model's own, its revision, the true solution - is the recipe's affair.
The loss is the mean negative log-likelihood of response tokens, the end of the turn included.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mipo_eval.errors import DataError
from mipo_eval.training.job import Example, Job
from mipo_eval.training.trainer import (
    adapter_config,
    arguments,
    guarded,
    load_policy,
    run_trainer,
)

_IGNORED = -100
"""Label of a token that is not learned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SftSettings:
    """SFT has no settings of its own: appendix E trains it as DPO."""


def train_sft(job: Job, settings: SftSettings) -> None:
    """Train the job's model on each example's `chosen`, and save the result.

    Raises:
        ModelError: the model cannot be loaded, memory runs out, or the loss is not finite.
        DataError: there is no example with a response.
    """
    from trl import SFTConfig, SFTTrainer

    model, tokenizer = load_policy(job)
    trainer = guarded(SFTTrainer)(
        model=model,
        # Lengths were checked before; TRL would cut at 1,024 tokens without a word.
        args=SFTConfig(**arguments(job), max_length=None, **_evaluation(job)),
        train_dataset=_dataset(job.examples, tokenizer),
        eval_dataset=_dataset(job.held_out, tokenizer) if job.held_out else None,
        processing_class=tokenizer,
        peft_config=adapter_config(job),
    )
    run_trainer(trainer, job)


def _evaluation(job: Job) -> dict[str, Any]:
    if not job.held_out:
        return {}
    return {"eval_strategy": "epoch", "eval_on_start": True}


def _dataset(examples: Sequence[Example], tokenizer: Any) -> Any:
    from datasets import Dataset

    from mipo_eval.training.likelihood import Codec

    codec = Codec.of(tokenizer)
    rows = [sft_row(example, codec) for example in examples if example.chosen]
    if not rows:
        raise DataError("not one example has a response to learn: nothing was trained")
    return Dataset.from_list(rows)


def sft_row(example: Example, codec: Any) -> Mapping[str, list[int]]:
    """Return one row of TRL's tokenised data: (tokens,) `input_ids` and `labels`."""
    prompt, response = codec.prompt(example.prompt), codec.response(example.chosen)
    return {
        "input_ids": [*prompt, *response],
        "labels": [*[_IGNORED] * len(prompt), *response],
    }
