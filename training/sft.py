"""SFT: ordinary supervised training on one response per prompt, on `trl.SFTTrainer`.

What the response is - the model's own, its revision, the true solution - is the recipe's affair.
The loss is the mean negative log-likelihood of response tokens, the end of the turn included.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mipo_eval.errors import DataError
from mipo_eval.training.data import TrainingExample, TrainingJob
from mipo_eval.training.recipes import SftSettings
from mipo_eval.training.trainer import (
    adapter_config,
    arguments,
    guarded,
    load_policy,
    run_trainer,
)

SftRow = Mapping[str, list[int]]
"""One example of TRL's tokenised data."""

_IGNORED = -100
"""Label of a token that is not learned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SftOutcome:
    """What became of a training beside its checkpoint."""

    examples: int
    """Responses trained on."""
    dropped: Mapping[str, int]
    """Examples left out, by reason."""


def train_sft(job: TrainingJob, settings: SftSettings) -> SftOutcome:
    """Train the job's model on each example's `chosen`, and save the result.

    Raises:
        ModelError: the model cannot be loaded, memory runs out, or the loss is not finite.
        DataError: there is no example with a response that fits into the model.
    """
    from trl import SFTConfig, SFTTrainer

    from mipo_eval.training.trainer import longest_text

    model, tokenizer = load_policy(job)
    longest = longest_text(job, model)
    rows = _fitting(job.examples, tokenizer, longest)
    dropped = len(job.examples) - len(rows)
    if not rows:
        raise DataError(
            f"none of {len(job.examples)} examples has a response and fits into {longest} tokens: "
            "raise optimization.max_length, or use a model with a longer context"
        )
    held_out = _fitting(job.held_out, tokenizer, longest)
    trainer = guarded(SFTTrainer)(
        model=model,
        # Lengths are checked above; TRL would cut at 1,024 tokens without a word.
        args=SFTConfig(**arguments(job), max_length=None, **_evaluation(held_out)),
        train_dataset=_dataset(rows),
        eval_dataset=_dataset(held_out) if held_out else None,
        processing_class=tokenizer,
        peft_config=adapter_config(job),
    )
    run_trainer(trainer, job)
    reason = "no response, or longer than the model takes"
    return SftOutcome(examples=len(rows), dropped={reason: dropped} if dropped else {})


def _evaluation(held_out: Sequence[SftRow]) -> dict[str, Any]:
    return {"eval_strategy": "epoch", "eval_on_start": True} if held_out else {}


def _fitting(
    examples: Sequence[TrainingExample], tokenizer: Any, longest: int | None
) -> list[SftRow]:
    """Return the rows of the examples that have a response and are not too long."""
    from mipo_eval.training.logprobs import Codec

    codec = Codec.of(tokenizer)
    rows = (sft_row(example, codec) for example in examples if example.chosen)
    return [row for row in rows if longest is None or len(row["input_ids"]) <= longest]


def _dataset(rows: Sequence[SftRow]) -> Any:
    from datasets import Dataset

    return Dataset.from_list(list(rows))


def sft_row(example: TrainingExample, codec: Any) -> SftRow:
    """Return an example's (tokens,) `input_ids` and `labels`."""
    prompt, response = codec.prompt(example.prompt), codec.response(example.chosen)
    return {
        "input_ids": [*prompt, *response],
        "labels": [*[_IGNORED] * len(prompt), *response],
    }
