"""MIPO: DPO on self-made pairs, where a prompt and its N + 1 responses are read as one sequence.

With the sigmoid loss on response tokens only it is what `trl.DPOTrainer` computes on the N pairs.
What differs is the work: the prompt and the chosen response are read once, not N times, and the
reference model's log-probabilities are computed once before the training and kept.

Needs no torch to be imported, so that recipes can be checked anywhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from mipo_eval.errors import ConfigError, DataError
from mipo_eval.training.job import Job

if TYPE_CHECKING:
    from mipo_eval.training.packing import TokenGroup
    from mipo_eval.training.reading import Reader

Reading = Literal["auto", "split", "flex", "dense", "rows"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DpoSettings:
    """What DPO on pairs needs beyond an optimizer. Defaults are the paper's."""

    beta: float = 0.1
    """Strength of the pull to the reference; PAPER.md, appendix E."""
    attention: Reading = "auto"
    """How responses of one prompt are read: packed behind it in a form of `attention.py`, or
    "rows", each behind its own copy. "auto" packs where the model can, and says where it cannot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DpoOutcome:
    """What became of a training beside its checkpoint."""

    examples: int
    """Prompts trained on."""
    pairs: int
    dropped: Mapping[str, int]
    """What was longer than the model or `max_length`: "examples" and "negatives" of others."""
    notes: tuple[str, ...]
    """What a user should know, such as why nothing was packed."""


def train_dpo(job: Job, settings: DpoSettings) -> DpoOutcome:
    """Train a model on preference pairs; weights, tokenizer and template end up in `job.out`.

    Every prompt weighs the same, however many of its negatives were kept.

    Args:
        job: its examples need a chosen response and at least one rejected.
        settings: of the loss.

    Raises:
        ConfigError: the batch cannot be split, or the model cannot do what `settings` ask for.
        DataError: an example has no pair, or none is short enough.
        ModelError: the model cannot be loaded, memory runs out, or the loss is not finite.
    """
    from mipo_eval.training import pair_trainer
    from mipo_eval.training.likelihood import Codec, add_likelihood_head
    from mipo_eval.training.packing import tokenize
    from mipo_eval.training.trainer import load_policy, run_trainer

    _check(job, settings)
    model, tokenizer = load_policy(job)
    pair_trainer.without_dropout(model)
    add_likelihood_head(model)
    longest = longest_text(job, model)
    codec = Codec.of(tokenizer, job.chat_template)
    fitting = tokenize(job.examples, codec, longest=longest)
    held_out = tokenize(job.held_out, codec, longest=longest)
    if not fitting.groups:
        raise DataError(
            f"none of {len(job.examples)} examples fits into {longest} tokens: raise "
            "optimization.max_length, or use a model with a longer context"
        )
    groups = [*fitting.groups, *held_out.groups]
    reader, note = choose_reader(model, tokenizer, groups, settings.attention)
    trainer = pair_trainer.make_trainer(
        pair_trainer.with_adapter(model, job),
        job,
        pair_trainer.Pairs(reader, fitting.groups, held_out.groups, settings.beta),
        tokenizer,
    )
    run_trainer(trainer, job)
    return DpoOutcome(
        examples=len(fitting.groups),
        pairs=sum(len(group.responses) - 1 for group in fitting.groups),
        dropped=fitting.dropped,
        notes=(note,) if note else (),
    )


def _check(job: Job, settings: DpoSettings) -> None:
    if not settings.beta > 0:
        raise ConfigError(f"settings.beta is {settings.beta:g}: it must be above 0")
    for example in (*job.examples, *job.held_out):
        if not example.chosen or not example.rejected:
            missing = "rejected" if example.chosen else "chosen"
            raise DataError(f"item {example.item.item_id} has no {missing} response: make pairs")


def longest_text(job: Job, model: Any) -> int | None:
    """Return how many tokens a prompt and one response may have together."""
    config = model.config.get_text_config()
    limits = [getattr(config, "max_position_embeddings", None), job.optimization.max_length]
    return min((limit for limit in limits if limit is not None), default=None)


def choose_reader(
    model: Any, tokenizer: Any, groups: "list[TokenGroup]", attention: Reading
) -> "tuple[Reader, str | None]":
    """Return how the model reads groups, and a remark where that is not as it should be."""
    import torch
    from accelerate.utils import broadcast_object_list

    from mipo_eval.training.reading import Reader, packing_reader, refusal

    filler = tokenizer.pad_token_id or 0
    if attention == "rows":
        return Reader(None, filler), None
    if attention == "flex" and not torch.cuda.is_available():
        raise ConfigError("settings.attention is flex, which needs a GPU: use split or auto")
    longest = max(len(one.prompt) + max(map(len, one.responses)) for one in groups)
    form = "split" if attention == "auto" else attention
    # The first process decides for all: under FSDP the others have no weights to try it with yet.
    refused = broadcast_object_list([refusal(model, form, longest=longest)])[0]
    if refused is None:
        return packing_reader(model, form, filler=filler), None
    why = f"{type(model).__name__} cannot read several responses behind one prompt ({refused})"
    if attention != "auto":
        raise ConfigError(f"settings.attention is {form}, but {why}: use auto or rows")
    return Reader(None, filler), f"{why}: every response is read with a prompt of its own, slower"
