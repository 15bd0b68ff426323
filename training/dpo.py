"""MIPO: DPO on self-made pairs, where a prompt and its N + 1 responses are read as one sequence.

With the sigmoid loss on response tokens only it is what `trl.DPOTrainer` computes on the N pairs.
What differs is the work: the prompt and the chosen response are read once, not N times, and the
reference model's log-probabilities are computed once before the training and kept.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import Dataset
from transformers import Trainer, TrainerCallback, TrainingArguments, set_seed

from mipo_eval.checkpoints import checkpoint_folder, fingerprint
from mipo_eval.errors import ConfigError, DataError, ModelError
from mipo_eval.keys import digest
from mipo_eval.training.data import TrainingJob
from mipo_eval.training.losses import dpo_loss
from mipo_eval.training.packed import GroupReader, TokenGroup
from mipo_eval.training.recipes import AttentionChoice, DpoSettings
from mipo_eval.training.trainer import adapter_config, arguments, guarded, is_main_process


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


def train_dpo(job: TrainingJob, settings: DpoSettings) -> DpoOutcome:
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
    from mipo_eval.training.logprobs import Codec, add_likelihood_head
    from mipo_eval.training.packed import tokenize
    from mipo_eval.training.trainer import load_policy, run_trainer

    _check(job, settings)
    model, tokenizer = load_policy(job)
    without_dropout(model)
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
    trainer = make_trainer(
        with_adapter(model, job),
        job,
        PairGroups(reader, fitting.groups, held_out.groups, settings.beta),
        tokenizer,
    )
    run_trainer(trainer, job)
    return DpoOutcome(
        examples=len(fitting.groups),
        pairs=sum(len(group.responses) - 1 for group in fitting.groups),
        dropped=fitting.dropped,
        notes=(note,) if note else (),
    )


def _check(job: TrainingJob, settings: DpoSettings) -> None:
    if not settings.beta > 0:
        raise ConfigError(f"settings.beta is {settings.beta:g}: it must be above 0")
    for example in (*job.examples, *job.held_out):
        if not example.chosen or not example.rejected:
            missing = "rejected" if example.chosen else "chosen"
            raise DataError(f"item {example.item.item_id} has no {missing} response: make pairs")


def longest_text(job: TrainingJob, model: Any) -> int | None:
    """Return how many tokens a prompt and one response may have together."""
    config = model.config.get_text_config()
    limits = [getattr(config, "max_position_embeddings", None), job.optimization.max_length]
    return min((limit for limit in limits if limit is not None), default=None)


def choose_reader(
    model: Any, tokenizer: Any, groups: "list[TokenGroup]", attention: AttentionChoice
) -> "tuple[GroupReader, str | None]":
    """Return how the model reads groups, and a remark where that is not as it should be."""
    from mipo_eval.training.packed import GroupReader, packing_reader, refusal

    filler = tokenizer.pad_token_id or 0
    if attention == "rows":
        return GroupReader(None, filler), None
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
    return GroupReader(
        None, filler
    ), f"{why}: every response is read with a prompt of its own, slower"


class GroupTrainer(Trainer):  # type: ignore[misc]
    """Transformers' Trainer with a loss over groups, measured more closely than by its loss.

    A subclass has `compute_loss`, which hands what it measured to `measure`, and `make_reference`.

    Args:
        args: all of the Trainer's.
        kwargs: the same.
    """

    measures: ClassVar[tuple[str, ...]]
    """Names of what `compute_loss` measures, in its order."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._sums: dict[bool, list[Tensor]] = {True: [], False: []}
        self._tokens = 0.0
        super().__init__(*args, callbacks=[_ReferenceFirst(self)], **kwargs)
        self.model_accepts_loss_kwargs = False  # a mean over prompts, not a sum over tokens
        keep_precision(self.accelerator)

    def make_reference(self) -> None:
        """Read what the reference model says of every response, or compute it and keep it."""
        raise NotImplementedError

    def measure(self, model: Any, found: Sequence[Tensor], *, tokens: Tensor, groups: int) -> None:
        """Keep what was measured until the next time something is logged.

        Args:
            model: tells by its mode whether it is trained or held out.
            found: () means over the groups of a batch, in the order of `measures`.
            tokens: () read.
            groups: in the batch.
        """
        measured = [*found, tokens.to(found[0]), found[0].new_tensor(float(groups))]
        self._sums[bool(model.training)].append(torch.stack(measured).detach())

    def prediction_step(
        self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[Tensor, None, None]:
        """Return the loss of held-out groups; what else is measured is logged with it."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            return self.compute_loss(model, inputs), None, None

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add what was measured since the last time, over all devices, to what is logged."""
        training = not any(key.startswith("eval_") for key in logs)
        sums, self._sums[training] = self._sums[training], []
        if sums:
            logs = {**logs, **self._means(torch.stack(sums), training=training)}
        super().log(logs, start_time)

    def _means(self, sums: Tensor, *, training: bool) -> dict[str, float]:
        """Return metrics from the (batches, measures) means; tokens and groups are counts."""
        *means, tokens, groups = sums.unbind(dim=1)
        total = torch.stack(
            [*((mean * groups).sum() for mean in means), tokens.sum(), groups.sum()]
        )
        *summed, read, count = self.accelerator.reduce(total, "sum").tolist()
        found = {name: value / count for name, value in zip(self.measures, summed, strict=True)}
        found.pop("loss")  # the trainer's own
        if not training:
            return {f"eval_{name}": value for name, value in found.items()}
        self._tokens += read
        return {**found, "num_tokens": self._tokens}


def group_arguments(job: TrainingJob, *, held_out: bool) -> TrainingArguments:
    """Return the Trainer's arguments for a job, with regular measuring of what is held out."""
    every = {"eval_strategy": "steps", "eval_steps": job.save_steps, "eval_on_start": True}
    options = arguments(job) | (every if held_out else {})
    # Ours is no batch of texts with labels, so nothing of it may be taken out or renamed.
    return TrainingArguments(**options, remove_unused_columns=False, label_names=[])


def keep_precision(accelerator: Any) -> None:
    """Keep FSDP2 from rounding what the model returns: log-probabilities are float32 for a reason.

    Sums of hundreds of nats differ by less than bf16 resolves; so do gradients of many devices.
    """
    plugin = getattr(accelerator.state, "fsdp_plugin", None)
    policy = getattr(plugin, "mixed_precision_policy", None)
    if plugin is not None and policy is not None and plugin.fsdp_version == 2:
        plugin.mixed_precision_policy = dataclasses.replace(
            policy, output_dtype=None, reduce_dtype=torch.float32
        )


class _ReferenceFirst(TrainerCallback):  # type: ignore[misc]
    """Asks the model for the reference when it is in place, sharded or not, but has not moved."""

    def __init__(self, trainer: GroupTrainer) -> None:
        self._trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._trainer.make_reference()


REFERENCE_FILE = "reference.safetensors"
"""File in `job.out`."""

_BATCH_TOKENS = 4096
"""Tokens of one batch, padding included; one group always fits."""


def reference_logprobs(
    trainer: Any, job: TrainingJob, reader: GroupReader, groups: Sequence[TokenGroup]
) -> Tensor:
    """Return the (groups, responses) log-probabilities under the model the training starts from.

    Args:
        trainer: whose model is in place and, unless it is LoRA's, has not been trained yet.
        job: says which model, and where to keep the result.
        reader: how groups are read.
        groups: all groups, in their order.

    Raises:
        ModelError: the training goes on from a checkpoint but the kept file is gone or of others.
    """
    path = job.out / REFERENCE_FILE
    key = _key(trainer, job, groups) if is_main_process() else ""
    # Only the first process needs to see the folder: on another host it may not be there.
    kept = broadcast_object_list([_read(path, key) if is_main_process() else None])[0]
    if kept is not None:
        return torch.tensor(kept)
    adapter = trainer.accelerator.unwrap_model(trainer.model_wrapped)
    is_adapter = hasattr(adapter, "disable_adapter")
    if trainer.state.global_step and not is_adapter:
        raise ModelError(
            f"{path} does not hold what the reference model says of these pairs, and the model has"
            f" moved since: start over with an empty folder in place of {job.out}"
        )
    with adapter.disable_adapter() if is_adapter else nullcontext():
        found = _compute(trainer, reader, groups)
    if is_main_process():
        _write(path, key, found)
    return found


def _key(trainer: Any, job: TrainingJob, groups: Sequence[TokenGroup]) -> str:
    """Return what tells this table from others: the model, its precision and the tokens."""
    return digest(
        [
            fingerprint(checkpoint_folder(job.model)),
            [(group.prompt, group.responses) for group in groups],
            [trainer.args.bf16, str(trainer.model.dtype)],
        ]
    )


@torch.no_grad()
def _compute(trainer: Any, reader: GroupReader, groups: Sequence[TokenGroup]) -> Tensor:
    """Return the table; every process reads its share, and as many batches as the others."""
    model, place = trainer.model_wrapped, trainer.accelerator
    plan = _batches(groups)
    table = torch.zeros(len(groups), max(len(group.responses) for group in groups))
    training = model.training
    model.eval()
    for first in range(0, len(plan), place.num_processes):
        turn = first + place.process_index
        # Models in shards are read together, so who has nothing left reads a batch once more.
        indices = plan[min(turn, len(plan) - 1)]
        batch = trainer._prepare_inputs(reader.collate([groups[i] for i in indices]))
        with trainer.compute_loss_context_manager():
            found = reader.logprobs(model, batch).float().cpu()
        if turn < len(plan):
            table[torch.tensor(indices), : found.shape[1]] = found
    model.train(training)
    summed: Tensor = place.reduce(table.to(place.device), "sum").cpu()
    return summed


def _batches(groups: Sequence[TokenGroup]) -> list[list[int]]:
    """Return groups of like length by index, the longest first: what does not fit fails at once."""
    order = sorted(range(len(groups)), key=lambda index: -groups[index].tokens)
    plan: list[list[int]] = []
    for index in order:
        longest = groups[plan[-1][0]].tokens if plan else 0
        if plan and longest * (len(plan[-1]) + 1) <= _BATCH_TOKENS:
            plan[-1].append(index)
        else:
            plan.append([index])
    return plan


def _read(path: Path, key: str) -> list[list[float]] | None:
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            known = (file.metadata() or {}).get("key") == key
            table: list[list[float]] = file.get_tensor("logprobs").tolist()
            return table if known else None
    except (SafetensorError, OSError):
        return None  # cut off by a crash, or not ours


def _write(path: Path, key: str, table: Tensor) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    save_file({"logprobs": table.contiguous()}, unfinished, metadata={"key": key})
    unfinished.replace(path)


class PairGroups(NamedTuple):
    """What is learned from, and how it is read."""

    reader: GroupReader
    groups: Sequence[TokenGroup]
    held_out: Sequence[TokenGroup]
    beta: float


@dataclass(frozen=True, slots=True)
class NumberedGroup:
    """A group and its row in the table of reference log-probabilities."""

    row: int
    group: TokenGroup


class GroupDataset(Dataset[NumberedGroup]):
    """Groups as torch wants a data set."""

    def __init__(self, groups: Sequence[TokenGroup], *, first: int) -> None:
        self._groups, self._first = groups, first

    def __len__(self) -> int:
        return len(self._groups)

    def __getitem__(self, index: int) -> NumberedGroup:
        return NumberedGroup(self._first + index, self._groups[index])


def without_dropout(model: Any) -> None:
    """Turn dropout off: policy and reference are one model in two states, and to be compared."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = 0.0


def with_adapter(model: Any, job: TrainingJob) -> Any:
    """Return the model with new LoRA weights if the job wants them; they change nothing yet."""
    set_seed(job.seed)
    config = adapter_config(job)
    if config is None:
        return model
    from peft import get_peft_model

    return get_peft_model(model, config)


def make_trainer(model: Any, job: TrainingJob, pairs: PairGroups, tokenizer: Any) -> Any:
    """Return the trainer of a job, ready for `run_trainer`."""
    args = group_arguments(job, held_out=bool(pairs.held_out))
    return guarded(PairTrainer)(model, args=args, job=job, pairs=pairs, processing_class=tokenizer)


class DpoMeasures(NamedTuple):
    """Means over the prompts of a batch; scalars."""

    loss: Tensor
    reward_chosen: Tensor
    """beta * (log pi - log ref) of the chosen responses."""
    reward_rejected: Tensor
    ranking_accuracy: Tensor
    """Share of pairs whose chosen response has the higher reward; a tie is none."""
    kl: Tensor
    """KL(reference || policy) in nats per response, estimated on the chosen responses: they were
    drawn from the reference."""


class PairTrainer(GroupTrainer):
    """Trains on groups with the DPO loss.

    Args:
        model: the policy, which before its first step is the reference.
        args: of transformers' Trainer.
        job: for the place of the reference's log-probabilities.
        pairs: what is learned from.
        kwargs: more of the Trainer's.
    """

    measures: ClassVar[tuple[str, ...]] = DpoMeasures._fields

    def __init__(
        self,
        model: Any,
        *,
        args: TrainingArguments,
        job: TrainingJob,
        pairs: PairGroups,
        **kwargs: Any,
    ) -> None:
        self._job, self._pairs = job, pairs
        self._reference: Tensor | None = None
        super().__init__(
            model,
            args=args,
            data_collator=self._collate,
            train_dataset=GroupDataset(pairs.groups, first=0),
            eval_dataset=GroupDataset(pairs.held_out, first=len(pairs.groups))
            if pairs.held_out
            else None,
            **kwargs,
        )

    def make_reference(self) -> None:
        """Read what the reference model says of every response, or compute it and keep it."""
        groups = [*self._pairs.groups, *self._pairs.held_out]
        self._reference = reference_logprobs(self, self._job, self._pairs.reader, groups)

    def _collate(self, numbered: Sequence[NumberedGroup]) -> dict[str, Any]:
        batch = self._pairs.reader.collate([one.group for one in numbered])
        assert self._reference is not None, "the reference is made when the training begins"
        rows = self._reference[torch.tensor([one.row for one in numbered])]
        batch["reference"] = rows[:, : batch["present"].shape[1]]
        batch["tokens"] = torch.tensor([one.group.tokens for one in numbered])
        batch["item_ids"] = tuple(one.group.item_id for one in numbered)
        return batch

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Return the mean over prompts of the mean loss of their pairs."""
        policy = self._pairs.reader.logprobs(model, inputs)
        outcome = dpo_measures(
            policy, inputs["reference"], inputs["present"], beta=self._pairs.beta
        )
        self.measure(model, outcome, tokens=inputs["tokens"].sum(), groups=len(policy))
        return (outcome.loss, {}) if return_outputs else outcome.loss


def dpo_measures(policy: Tensor, reference: Tensor, present: Tensor, *, beta: float) -> DpoMeasures:
    """Return loss and measurements of groups; every prompt weighs the same.

    Args:
        policy: (groups, responses) log pi(y|x) in nats, the chosen response first.
        reference: (groups, responses) the same under the reference model.
        present: (groups, responses) False where a group has fewer responses.
        beta: of the DPO loss.
    """
    pairs = present[:, 1:]

    def mean(values: Tensor) -> Tensor:
        return (values.masked_fill(~pairs, 0.0).sum(dim=1) / pairs.sum(dim=1)).mean()

    losses = dpo_loss(policy[:, :1] - policy[:, 1:], reference[:, :1] - reference[:, 1:], beta=beta)
    rewards = beta * (policy - reference).detach()
    return DpoMeasures(
        loss=mean(losses),
        reward_chosen=rewards[:, 0].mean(),
        reward_rejected=mean(rewards[:, 1:]),
        ranking_accuracy=mean((rewards[:, :1] > rewards[:, 1:]).to(rewards)),
        kl=-rewards[:, 0].mean() / beta,
    )
