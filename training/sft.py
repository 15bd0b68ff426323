"""SFT: ordinary supervised training on one response per prompt, on `trl.SFTTrainer`.

What the response is - the model's own, its revision, the true solution - is the recipe's affair.
The loss is the mean negative log-likelihood of response tokens, the end of the turn included.
"""

from typing import Any

from mipo_eval.errors import DataError
from mipo_eval.training.logprobs import IGNORED, Codec
from mipo_eval.training.loop import run_trainer
from mipo_eval.training.recipes import SftSettings
from mipo_eval.training.trainer import (
    Trained,
    TrainingExample,
    TrainingJob,
    adapter_config,
    arguments,
    guarded,
    load_policy,
    longest_text,
)
from mipo_eval.training.uneven import labelled_once


def train_sft(job: TrainingJob, settings: SftSettings) -> Trained:
    """Train the job's model on each example's `chosen`."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    model, tokenizer = load_policy(job)
    codec, longest = Codec.of(tokenizer), longest_text(job, model)
    rows, held_out = (
        [
            row
            for row in (sft_row(one, codec) for one in some if one.chosen)
            if longest is None or len(row["input_ids"]) <= longest
        ]
        for some in (job.examples, job.held_out)
    )
    if not rows:
        raise DataError(
            f"none of {len(job.examples)} examples has a response and fits into {longest} tokens: "
            "raise optimization.max_length, or use a model with a longer context"
        )
    evaluation = {"eval_strategy": "epoch", "eval_on_start": True} if held_out else {}
    trainer = guarded(labelled_once(SFTTrainer))(
        model=model,
        # Lengths are checked above; TRL would cut at 1,024 tokens without a word.
        args=SFTConfig(**arguments(job), max_length=None, **evaluation),
        train_dataset=Dataset.from_list(rows),
        eval_dataset=Dataset.from_list(held_out) if held_out else None,
        processing_class=tokenizer,
        peft_config=adapter_config(job),
    )
    run_trainer(trainer, job)
    dropped = len(job.examples) - len(rows)
    reason = "no response, or longer than the model takes"
    return {"examples": len(rows), "dropped": {reason: dropped} if dropped else {}}


def sft_row(example: TrainingExample, codec: Any) -> dict[str, list[int]]:
    """Return an example's (tokens,) `input_ids` and `labels`, as TRL has tokenised data."""
    prompt, response = codec.prompt(example.prompt), codec.response(example.chosen)
    return {
        "input_ids": [*prompt, *response],
        "labels": [*[IGNORED] * len(prompt), *response],
    }
