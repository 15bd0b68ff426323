"""InfoNCE and SAMI (eqs. 6 and 7): K contexts of one prompt, and the K responses to them.

Every response is read under every context of its group, which gives K x K log-probabilities. Each
prompt-with-context is read once, with all K responses behind it (see packed.py).
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import TrainingArguments

from mipo_eval.errors import DataError
from mipo_eval.keys import item_rng
from mipo_eval.training.data import TrainingExample, TrainingJob
from mipo_eval.training.dpo import GroupTrainer, group_arguments, reference_logprobs
from mipo_eval.training.losses import info_nce_loss, sami_loss
from mipo_eval.training.packed import GroupReader, TokenGroup
from mipo_eval.training.recipes import ContrastiveSettings
from mipo_eval.training.trainer import guarded

if TYPE_CHECKING:
    from mipo_eval.training.logprobs import Codec


@dataclass(frozen=True, slots=True, kw_only=True)
class ContrastiveOutcome:
    """What became of a training beside its checkpoint."""

    groups: int
    """Groups trained on."""
    responses: int
    dropped: Mapping[str, int]
    """Examples left out, by reason."""
    notes: tuple[str, ...]
    """What a user should know, such as why nothing was packed."""


def train_contrastive(job: TrainingJob, settings: ContrastiveSettings) -> ContrastiveOutcome:
    """Train a model to tell its responses by their contexts; the result ends up in `job.out`.

    Examples of one prompt are grouped (`grouped`); see `with_other_contexts` for data sets in
    which a prompt has one context only. A step is on `optimization.batch_size` groups.

    Reports: loss, mi_lower_bound (the negative of eq. 6), retrieval (share of responses whose own
    context is the likeliest), kl (to the reference, nats per response), tokens_per_second.

    Raises:
        ConfigError: the batch cannot be split, or the model cannot do what `settings` ask for.
        DataError: an example has no response, or there is not one group.
        ModelError: the model cannot be loaded, memory runs out, or the loss is not finite.
    """
    from mipo_eval.training import dpo
    from mipo_eval.training.dpo import choose_reader, longest_text
    from mipo_eval.training.logprobs import Codec, add_likelihood_head
    from mipo_eval.training.trainer import load_policy, run_trainer

    model, tokenizer = load_policy(job)
    dpo.without_dropout(model)
    add_likelihood_head(model)
    codec = Codec.of(tokenizer, job.chat_template)
    longest = longest_text(job, model)
    fitting = _fitting(job.examples, codec, settings, longest, job.seed)
    held_out = _fitting(job.held_out, codec, settings, longest, job.seed).groups
    if not fitting.groups:
        reasons = ", ".join(f"{count} x {why}" for why, count in fitting.dropped.items())
        raise DataError(
            f"not one prompt has two contexts with responses to tell apart ({reasons}): take a "
            "suite in which several users ask the same, or raise optimization.max_length"
        )
    rows = [row for group in (*fitting.groups, *held_out) for row in group]
    reader, note = choose_reader(model, tokenizer, rows, settings.attention)
    trainer = make_trainer(
        dpo.with_adapter(model, job),
        job,
        Task(reader, fitting.groups, held_out, settings.loss),
        tokenizer,
    )
    run_trainer(trainer, job)
    return ContrastiveOutcome(
        groups=len(fitting.groups),
        responses=sum(map(len, fitting.groups)),
        dropped=fitting.dropped,
        notes=(note,) if note else (),
    )


@dataclass(frozen=True, slots=True)
class Grouping:
    """Examples by prompt."""

    groups: list[tuple[TrainingExample, ...]]
    dropped: Counter[str]
    """Examples in no group, by reason."""


def grouped(examples: Sequence[TrainingExample], *, contexts: int, seed: int) -> Grouping:
    """Return groups of 2 to K examples of one prompt, no two with equal contexts.

    A prompt with more than K contexts gives several groups; what does not fill one makes a smaller
    group, and a single rest is left out. Which examples meet depends on the seed and the prompt,
    not on the order of the examples.

    Args:
        examples: each with the model's own response.
        contexts: K.
        seed: of the draw.

    Raises:
        DataError: an example has no response.
    """
    by_prompt: dict[str, dict[str, TrainingExample]] = defaultdict(dict)
    dropped: Counter[str] = Counter()
    for example in sorted(examples, key=lambda one: one.item.key):
        if not example.chosen:
            raise DataError(f"item {example.item.item_id} has no response: sample responses first")
        item = example.item
        context = " ".join(item.context.split())
        if not context:
            dropped["no context"] += 1
        elif context in by_prompt[item.prompt]:
            dropped["a context of this prompt again"] += 1
        else:
            by_prompt[item.prompt][context] = example
    groups = []
    for prompt in sorted(by_prompt):
        found = list(by_prompt[prompt].values())
        item_rng(seed, "groups", prompt).shuffle(found)
        parts = [tuple(found[at : at + contexts]) for at in range(0, len(found), contexts)]
        groups += [part for part in parts if len(part) > 1]
        dropped["no other context to tell it from"] += sum(len(part) == 1 for part in parts)
    return Grouping(groups, +dropped)


@dataclass(frozen=True, slots=True)
class _Fitting:
    groups: "list[tuple[TokenGroup, ...]]"
    dropped: Counter[str]


def _fitting(
    examples: Sequence[TrainingExample],
    codec: "Codec",
    settings: ContrastiveSettings,
    longest: int | None,
    seed: int,
) -> _Fitting:
    """Return groups as token ids: a row per context with all responses of the group behind it."""
    from mipo_eval.training.packed import TokenGroup

    short = [one for one in examples if _fits(one, codec, longest)]
    made = grouped(short, contexts=settings.contexts, seed=seed)
    if len(short) < len(examples):
        made.dropped["too long"] += len(examples) - len(short)
    groups: list[tuple[TokenGroup, ...]] = []
    for group in made.groups:
        prompts = [tuple(codec.prompt(one.prompt)) for one in group]
        responses = tuple(tuple(codec.response(one.chosen or "")) for one in group)
        if longest is not None and max(map(len, prompts)) + max(map(len, responses)) > longest:
            made.dropped["too long behind another's context"] += len(group)
            continue
        groups.append(
            tuple(
                TokenGroup(item_id=one.item.item_id, prompt=prompt, responses=responses)
                for one, prompt in zip(group, prompts, strict=True)
            )
        )
    return _Fitting(groups, made.dropped)


def _fits(example: TrainingExample, codec: "Codec", longest: int | None) -> bool:
    if longest is None or not example.chosen:
        return True
    return len(codec.prompt(example.prompt)) + len(codec.response(example.chosen)) <= longest


Square = Sequence[TokenGroup]
"""A group: one row per context, each with the responses to all contexts, in the same order."""

_LOSSES = {"info_nce": info_nce_loss, "sami": sami_loss}


class Task(NamedTuple):
    """What is learned from, and how it is read."""

    reader: GroupReader
    groups: Sequence[Square]
    held_out: Sequence[Square]
    loss: Literal["info_nce", "sami"]


@dataclass(frozen=True, slots=True)
class NumberedSquare:
    """A group, and where its first response is in the table of reference log-probabilities."""

    row: int
    rows: Square


class SquareDataset(Dataset[NumberedSquare]):
    """Groups as torch wants a data set."""

    def __init__(self, groups: Sequence[Square], *, first: int) -> None:
        self._numbered = []
        for rows in groups:
            self._numbered.append(NumberedSquare(first, rows))
            first += len(rows)

    def __len__(self) -> int:
        return len(self._numbered)

    def __getitem__(self, index: int) -> NumberedSquare:
        return self._numbered[index]


def make_trainer(model: Any, job: TrainingJob, task: Task, tokenizer: Any) -> Any:
    """Return the trainer of a job, ready for `run_trainer`."""
    args = group_arguments(job, held_out=bool(task.held_out))
    kind = guarded(ContrastiveTrainer)
    return kind(model, args=args, job=job, task=task, processing_class=tokenizer)


class ContrastiveMeasures(NamedTuple):
    """Means over the groups of a batch; scalars."""

    loss: Tensor
    mi_lower_bound: Tensor
    """In nats, at most log K: the negative of eq. 6, whichever loss is trained."""
    retrieval: Tensor
    """Share of responses whose own context is the likeliest of the group's; a tie is none."""


class ContrastiveTrainer(GroupTrainer):
    """Trains on groups with the loss of eq. 6 or 7.

    Args:
        model: the policy, which before its first step is the reference.
        args: of transformers' Trainer.
        job: for the place of the reference's log-probabilities.
        task: what is learned from.
        kwargs: more of the Trainer's.
    """

    measures: ClassVar[tuple[str, ...]] = (*ContrastiveMeasures._fields, "kl")

    def __init__(
        self, model: Any, *, args: TrainingArguments, job: TrainingJob, task: Task, **kwargs: Any
    ) -> None:
        self._job, self._task = job, task
        self._reference: Tensor | None = None
        first = sum(map(len, task.groups))
        super().__init__(
            model,
            args=args,
            data_collator=self._collate,
            train_dataset=SquareDataset(task.groups, first=0),
            eval_dataset=SquareDataset(task.held_out, first=first) if task.held_out else None,
            **kwargs,
        )

    def make_reference(self) -> None:
        """Read what the reference model says of every response to its own context."""
        own = [
            TokenGroup(item_id=row.item_id, prompt=row.prompt, responses=(row.responses[place],))
            for group in (*self._task.groups, *self._task.held_out)
            for place, row in enumerate(group)
        ]
        table = reference_logprobs(self, self._job, self._task.reader, own)
        self._reference = table[:, 0]

    def _collate(self, numbered: Sequence[NumberedSquare]) -> dict[str, Any]:
        rows = [row for one in numbered for row in one.rows]
        batch = self._task.reader.collate(rows)
        assert self._reference is not None, "the reference is made when the training begins"
        batch["reference"] = torch.cat(
            [self._reference[one.row : one.row + len(one.rows)] for one in numbered]
        )
        batch["sizes"] = tuple(len(one.rows) for one in numbered)
        batch["tokens"] = torch.tensor(sum(row.tokens for row in rows))
        batch["item_ids"] = tuple(row.item_id for row in rows)
        return batch

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Return the mean loss of the batch's groups."""
        logprobs = self._task.reader.logprobs(model, inputs)
        squares = [
            rows[:, : len(rows)] for rows in torch.split(logprobs, inputs["sizes"])
        ]  # groups may have fewer than K contexts
        outcome = contrastive_measures(squares, self._task.loss)
        own = torch.cat([square.diagonal() for square in squares]).detach()
        kl = (inputs["reference"] - own).mean()
        self.measure(model, (*outcome, kl), tokens=inputs["tokens"], groups=len(squares))
        return (outcome.loss, {}) if return_outputs else outcome.loss


def contrastive_measures(
    squares: Sequence[Tensor], loss: Literal["info_nce", "sami"]
) -> ContrastiveMeasures:
    """Return loss and measurements of groups; every group weighs the same.

    Args:
        squares: per group (K, K), entry [i, j] is log pi(y_j|x,c_i) in nats.
        loss: which of the two is trained.
    """
    losses = torch.stack([_LOSSES[loss](square) for square in squares])
    with torch.no_grad():
        bounds = torch.stack([-info_nce_loss(square) for square in squares])
        found = torch.stack([_retrieval(square) for square in squares])
    return ContrastiveMeasures(losses.mean(), bounds.mean(), found.mean())


def _retrieval(square: Tensor) -> Tensor:
    """Return the () share of columns whose largest entry is the diagonal's alone."""
    own = torch.eye(len(square), dtype=torch.bool, device=square.device)
    others = square.masked_fill(own, -torch.inf).amax(dim=0)
    return (square.diagonal() > others).to(square.dtype).mean()
