"""Training on groups: a prompt and several responses, read as one sequence where that is exact.

What a group is worth, a `GroupTask` says: pairs in `dpo.py`, contexts in `contrastive.py`. The
reference model's log-probabilities are computed once before the training, all of a prompt's
together, and kept.
"""

import dataclasses
import gc
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from mipo_eval.checkpoints import fingerprint
from mipo_eval.errors import ModelError
from mipo_eval.keys import digest
from mipo_eval.progress import Told
from mipo_eval.tasks.items import replacing
from mipo_eval.training.balance import RouterBalance, reads, router_balance
from mipo_eval.training.logprobs import Codec, add_likelihood_head
from mipo_eval.training.loop import run_trainer
from mipo_eval.training.memory import memory_errors
from mipo_eval.training.packed import GroupReader, TokenGroup, choose_reader
from mipo_eval.training.recipes import AttentionChoice
from mipo_eval.training.saved import MarginPairs
from mipo_eval.training.trainer import (
    REFERENCE_FILE,
    TrainingJob,
    arguments,
    guarded,
    is_main_process,
    load_policy,
    longest_text,
    with_adapter,
)
from mipo_eval.training.uneven import Dealer, Dealt

_BATCH_TOKENS = 4096
"""Tokens of one batch that the reference reads, padding included; one group always fits."""

_EXACT, _NOISE = 2e-3, 0.1
"""Nats by which rounding moves a log-probability, in float32 and in bf16, per root of its tokens;
dropout of a tenth moves it by more than a nat."""

GroupRows = Sequence[TokenGroup]
"""What is learned from at a time: one row for pairs; contrastive, a row per context."""

Measure = Callable[[Tensor, Mapping[str, Any]], Mapping[str, Tensor]]
"""From the (rows, responses) log-probabilities of a batch, and the batch, to () means over its
groups by name; `loss` is the first."""


class Unit(NamedTuple):
    """What a batch counts: a group, or one pair of it."""

    place: int
    """Of its first row in the table of the reference."""
    rows: GroupRows
    rejected: int | None
    """The pair's rejected response among those of the only row; None: the whole group."""


@dataclass(frozen=True, slots=True)
class GroupTask:
    """What is learned from, what is measured on, and by what."""

    groups: Sequence[GroupRows]
    held_out: Sequence[GroupRows]
    measure: Measure
    own_only: bool = False
    """Whether the reference reads of row i of a group response i alone, not all of them."""
    pairwise: bool = False
    """Whether a batch counts the pairs of a group of one row, not groups."""
    margin: MarginPairs | None = None
    """On what it is measured whether the saved checkpoint is what was trained."""

    def units(self) -> "tuple[list[Unit], list[Unit]]":
        """Return what is batched: of what is learned from, and of what is measured on."""
        found: tuple[list[Unit], list[Unit]] = ([], [])
        place = 0
        for units, groups in zip(found, (self.groups, self.held_out), strict=True):
            for group in groups:
                pairs = range(1, len(group[0].responses)) if self.pairwise else [None]
                units += [Unit(place, group, rejected) for rejected in pairs]
                place += len(group)
        return found

    def reference_rows(self) -> list[TokenGroup]:
        """Return what the reference model reads for each row of all groups, in order."""
        return [
            dataclasses.replace(row, responses=(row.responses[place],)) if self.own_only else row
            for group in (*self.groups, *self.held_out)
            for place, row in enumerate(group)
        ]


@dataclass(frozen=True, slots=True)
class GroupPolicy:
    """A model that reads groups of responses, and what turns texts into its tokens."""

    model: Any
    tokenizer: Any
    codec: Codec
    longest: int | None
    """Tokens of a prompt with one response, at most."""

    @classmethod
    def load(cls, job: TrainingJob) -> "GroupPolicy":
        """Return the job's base model with a likelihood head.

        Raises:
            ModelError: it cannot be loaded, or its architecture is not known.
        """
        model, tokenizer = load_policy(job)
        add_likelihood_head(model)
        return cls(model, tokenizer, Codec.of(tokenizer), longest_text(job, model))

    def train(
        self, job: TrainingJob, task: GroupTask, attention: AttentionChoice
    ) -> tuple[str, ...]:
        """Train to the end and save the result; return remarks on how groups were read."""
        rows = [row for group in (*task.groups, *task.held_out) for row in group]
        reader, slow = choose_reader(self.model, self.tokenizer, rows, attention)
        balance, unknown = router_balance(self.model)
        if job.reference is not None:
            _keep_reference(job, task, attention)
            gc.collect()  # its trainer and callbacks hold each other
        model = with_adapter(self.model, job)
        trainer = guarded(GroupTrainer)(
            model,
            job=job,
            task=task,
            reader=reader,
            balance=balance,
            processing_class=self.tokenizer,
        )
        remarks = run_trainer(trainer, job, task.margin)
        return (*filter(None, (slow, unknown)), *remarks)


def _keep_reference(job: TrainingJob, task: GroupTask, attention: AttentionChoice) -> None:
    """Keep what a reference model other than the start says, as it would itself when training.

    A training of no epochs: placed, sharded or not, it reads the groups and is given up before the
    policy takes its place on the device.
    """
    how = dataclasses.replace(job.optimization, epochs=0.0)
    own = dataclasses.replace(job, model=str(job.reference), reference=None, optimization=how)
    first = GroupPolicy.load(own)
    reader, _ = choose_reader(first.model, first.tokenizer, task.reference_rows(), attention)
    trainer = GroupTrainer(
        first.model, job=own, task=task, reader=reader, processing_class=first.tokenizer
    )
    trainer.remove_callback(PrinterCallback)  # it writes to stdout, which is for results
    with memory_errors():
        trainer.train()
    trainer.accelerator.free_memory()


class GroupTrainer(Trainer):  # type: ignore[misc]
    """Transformers' Trainer on groups, measured more closely than by its loss.

    Its model is the policy, which before its first step is the reference; `kwargs` are the
    Trainer's own.
    """

    def __init__(
        self,
        model: Any,
        *,
        job: TrainingJob,
        task: GroupTask,
        reader: GroupReader,
        balance: RouterBalance | None = None,
        **kwargs: Any,
    ) -> None:
        self._job, self._task, self._balance = job, task, balance
        self._reader = dataclasses.replace(reader, routed=balance is not None)
        self._reference: Tensor | None = None
        self._measured: dict[bool, list[dict[str, Tensor]]] = {True: [], False: []}
        self._tokens, self._dealer = 0.0, Dealer()
        every = {"eval_strategy": "steps", "eval_steps": job.save_steps, "eval_on_start": True}
        options = arguments(job) | (every if task.held_out else {})
        units, held_out = task.units()
        if task.pairwise and held_out:  # they stand in order: a prompt's meet, and are read once
            options["per_device_eval_batch_size"] *= (
                max(len(u.rows[0].responses) for u in held_out) - 1
            )
        super().__init__(
            model,
            # Ours is no batch of texts with labels: nothing of it may be taken out or renamed.
            args=TrainingArguments(**options, remove_unused_columns=False, label_names=[]),
            data_collator=self._collate,
            train_dataset=units,
            eval_dataset=held_out or None,
            callbacks=[_ReferenceFirst(self)],
            **kwargs,
        )
        self.model_accepts_loss_kwargs = False  # a mean over units, not a sum over tokens
        keep_precision(self.accelerator)

    def make_reference(self) -> None:
        """Read what the reference model says of every response, or compute it and keep it.

        It is read through the model as it is placed for training, sharded or not, so that a
        reference never needs memory of its own; a resumed training finds it in its folder.

        Raises:
            ModelError: the training goes on from a checkpoint, but the kept file is gone or of
                other pairs.
        """
        rows, path = self._task.reference_rows(), self._job.out / REFERENCE_FILE
        # Only the first process needs to see the folder: on another host it may not be there.
        key = self._reference_key(rows) if is_main_process() else ""
        kept = broadcast_object_list([_read(path, key) if is_main_process() else None])[0]
        if kept is not None:
            self._reference = torch.tensor(kept)
            return
        adapter = self.accelerator.unwrap_model(self.model_wrapped)
        is_adapter = hasattr(adapter, "disable_adapter")
        if self.state.global_step and not is_adapter:
            raise ModelError(
                f"{path} does not contain the reference model's numbers for these pairs, and the "
                "model has changed since: start again with an empty folder in place of "
                f"{self._job.out}"
            )
        base = adapter.disable_adapter() if is_adapter else nullcontext()
        with base, self._job.stage("reading with the reference model", len(rows)) as told:
            self._reference = self._read_rows(rows, told)
        if is_main_process():
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as part:
                table = {"logprobs": self._reference.contiguous()}
                save_file(table, part, metadata={"key": key})

    def _reference_key(self, rows: Sequence[TokenGroup]) -> str:
        """Return what tells this table from others: the model, its precision and the tokens."""
        return digest(
            [
                fingerprint(Path(self._job.reference or self._job.model)),
                [(row.prompt, row.responses) for row in rows],
                [self.args.bf16, str(self.model.dtype)],
            ]
        )

    @torch.no_grad()
    def _read_rows(self, rows: Sequence[TokenGroup], told: Told) -> Tensor:
        """Return the (rows, responses) log-probabilities under the model as it is."""
        model, place = self.model_wrapped, self.accelerator
        plan = _batches(rows)
        table = torch.zeros(len(rows), max(len(row.responses) for row in rows))
        training = model.training
        model.eval()
        # Every process reads its share, and as many batches as the others: models in shards are
        # read together, so who has nothing left reads a batch once more.
        for first in range(0, len(plan), place.num_processes):
            turn = first + place.process_index
            indices = plan[min(turn, len(plan) - 1)]
            batch = self._prepare_inputs(self._reader.collate([rows[i] for i in indices]))
            with self.compute_loss_context_manager():
                found = self._reader.logprobs(model, batch).float().cpu()
            if turn < len(plan):
                table[torch.tensor(indices), : found.shape[1]] = found
            told(sum(map(len, plan[first : first + place.num_processes])))
        model.train(training)
        summed: Tensor = place.reduce(table.to(place.device), "sum").cpu()
        return summed

    def _collate(self, units: Sequence[Unit]) -> dict[str, Any]:
        assert self._reference is not None, "the reference is made when the training begins"
        rows, known, sizes = list[TokenGroup](), list[Tensor](), list[int]()
        met: dict[int, list[Unit]] = defaultdict(list)
        for unit in units:
            met[unit.place].append(unit)
        for place, own in met.items():
            group = own[0].rows
            table = self._reference[place : place + len(group)]
            if rejected := [unit.rejected for unit in own if unit.rejected is not None]:
                kept = [0, *rejected]  # pairs of one prompt are one row: it is read once
                responses = tuple(group[0].responses[number] for number in kept)
                group = [dataclasses.replace(group[0], responses=responses)]
                table = table[:, kept]
            rows += group
            known.append(table)
            sizes.append(len(group))
        batch = self._reader.collate(rows)
        width = max(table.shape[1] for table in known)
        wide = [functional.pad(table, (0, width - table.shape[1])) for table in known]
        present = batch["present"]
        lengths = torch.zeros(present.shape, dtype=torch.long)
        lengths[present] = torch.tensor([len(text) for row in rows for text in row.responses])
        times = present.long()
        if not self._task.own_only:  # the chosen response is read in each of its pairs
            times[:, 0] = times[:, 1:].sum(dim=1)
        return batch | {
            "reads": reads(batch, times),
            "reference": torch.cat(wide)[:, : present.shape[1]],
            "lengths": lengths,
            "sizes": tuple(sizes),
            "units": torch.tensor(len(units)),
            "tokens": torch.tensor(sum(row.tokens for row in rows)),
            "dealt": Dealt(units),
            "item_ids": tuple(row.item_id for row in rows),
        }

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Return the mean loss of the batch, and keep what else is measured."""
        weight = 1.0
        if model.training:
            inputs, weight = self._dealer.own(self, inputs, self._collate)
        logprobs, routed = self._read(model, inputs)
        found = dict(self._task.measure(logprobs, inputs))
        loss = found["loss"]
        first = not (self.state.global_step or self._task.own_only or self._job.reference)
        if model.training and first:
            self._check_start(logprobs.detach(), inputs, loss.item())
        if self._balance is not None:
            found["aux_loss"] = self._balance(routed, inputs["reads"])
            loss = loss + self._balance.coefficient * found["aux_loss"]
        kept = found | {n: inputs[n].to(loss) * (weight > 0) for n in ("tokens", "units")}
        self._measured[bool(model.training)].append({k: v.detach() for k, v in kept.items()})
        return (weight * loss, {}) if return_outputs else weight * loss

    def _read(self, model: Any, inputs: dict[str, Any]) -> tuple[Tensor, Sequence[Tensor]]:
        if self._balance is None:
            return self._reader.logprobs(model, inputs), ()
        return self._reader.routed_logprobs(model, inputs)

    def _check_start(self, logprobs: Tensor, inputs: Mapping[str, Any], loss: float) -> None:
        """Stop where the policy, not moved yet, is not the reference.

        Raises:
            ModelError: log-probabilities differ by more than rounding makes them.
        """
        apart = (logprobs - inputs["reference"]).abs()  # 0 where there is no response
        noise = _NOISE if self.args.bf16 or logprobs.is_cuda else _EXACT
        if bool((apart > noise * inputs["input_ids"].shape[1] ** 0.5).any()):
            raise ModelError(
                f"the first loss is {loss:.4f}, and not log 2 = 0.6931: {self._job.model} gives a "
                f"response another likelihood in training ({float(apart.max()):.2g} nats off), by "
                "dropout or noise that cannot be turned off: train another architecture"
            )

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
        measured, self._measured[training] = self._measured[training], []
        if measured:
            logs = {**logs, **self._means(measured, training=training)}
        super().log(logs, start_time)

    def _means(
        self, measured: Sequence[Mapping[str, Tensor]], *, training: bool
    ) -> dict[str, float]:
        """Return the means over all units of all batches; tokens are counted."""
        batches = {name: torch.stack([one[name] for one in measured]) for name in measured[0]}
        tokens, units = batches.pop("tokens"), batches.pop("units")
        sums = [*((mean * units).sum() for mean in batches.values()), tokens.sum(), units.sum()]
        *summed, read, count = self.accelerator.reduce(torch.stack(sums), "sum").tolist()
        found = {name: value / count for name, value in zip(batches, summed, strict=True)}
        found.pop("loss")  # the trainer's own
        if not training:
            return {f"eval_{name}": value for name, value in found.items()}
        self._tokens += read
        return {**found, "num_tokens": self._tokens}


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
