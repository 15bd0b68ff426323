"""InfoNCE and SAMI (eqs. 6 and 7): K contexts of one prompt, and the K responses to them.

Every response is read under every context of its group, which gives K x K log-probabilities. Each
prompt-with-context is read once, with all K responses behind it (see packing.py).

Needs no torch to be imported, so that recipes can be checked anywhere.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mipo_eval.errors import DataError
from mipo_eval.keys import item_rng
from mipo_eval.records import Item
from mipo_eval.training.job import Example, Job
from mipo_eval.training.mipo import Reading

if TYPE_CHECKING:
    from mipo_eval.training.likelihood import Codec
    from mipo_eval.training.packing import TokenGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class ContrastiveSettings:
    """What contrastive training needs beyond an optimizer, whose batch counts groups."""

    loss: Literal["info_nce", "sami"] = "info_nce"
    contexts: int = 4
    """K: contexts, and responses, of a group. The paper gives no value."""
    attention: Reading = "auto"
    """How the responses behind a prompt are read; see `DpoSettings`."""

    def __post_init__(self) -> None:
        if self.contexts < 2:
            raise ValueError(
                f"contexts is {self.contexts}: a response is told by its context among 2 or more"
            )


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


def train_contrastive(job: Job, settings: ContrastiveSettings) -> ContrastiveOutcome:
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
    from mipo_eval.training import contrastive_trainer, pair_trainer
    from mipo_eval.training.likelihood import Codec, add_likelihood_head
    from mipo_eval.training.mipo import choose_reader, longest_text
    from mipo_eval.training.trainer import load_policy, run_trainer

    model, tokenizer = load_policy(job)
    pair_trainer.without_dropout(model)
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
    trainer = contrastive_trainer.make_trainer(
        pair_trainer.with_adapter(model, job),
        job,
        contrastive_trainer.Task(reader, fitting.groups, held_out, settings.loss),
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

    groups: list[tuple[Example, ...]]
    dropped: Counter[str]
    """Examples in no group, by reason."""


def grouped(examples: Sequence[Example], *, contexts: int, seed: int) -> Grouping:
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
    by_prompt: dict[str, dict[str, Example]] = defaultdict(dict)
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


def with_other_contexts(items: Sequence[Item], *, contexts: int, seed: int) -> list[Item]:
    """Return the items, and more of them so that each prompt is asked under K contexts.

    Eqs. 6 and 7 need K responses to one prompt; in most data sets a user's prompt is nobody
    else's. What is missing is filled with contexts of other users, drawn by the seed and the
    prompt; such an item has the other user's preferences and no reference.

    Args:
        items: the training items of one data set.
        contexts: K.
        seed: of the draw.

    Raises:
        DataError: the items have fewer than K different contexts.
    """
    owners = {" ".join(item.context.split()): item for item in items if item.context.strip()}
    if len(owners) < contexts:
        raise DataError(
            f"{len(owners)} different contexts in {len(items)} training items: too few for groups "
            f"of {contexts}; lower settings.contexts, or take a suite with more users"
        )
    by_prompt: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        if item.context.strip():
            by_prompt[item.prompt].append(item)
    found = list(items)
    for prompt, own in by_prompt.items():
        known = {" ".join(item.context.split()) for item in own}
        missing = contexts - len(known)
        if missing > 0:
            others = [owners[context] for context in sorted(owners.keys() - known)]
            drawn = item_rng(seed, "contexts", prompt).sample(others, missing)
            found += [_asked_by(min(own, key=lambda one: one.key), other) for other in drawn]
    return found


def _asked_by(item: Item, other: Item) -> Item:
    taken = {name: getattr(other, name) for name in ("context", "preferences", "rubric", "user_id")}
    name = f"{item.item_id}+{other.item_id}"
    return item.model_copy(update={**taken, "item_id": name, "reference": None, "meta": {}})


@dataclass(frozen=True, slots=True)
class _Fitting:
    groups: "list[tuple[TokenGroup, ...]]"
    dropped: Counter[str]


def _fitting(
    examples: Sequence[Example],
    codec: "Codec",
    settings: ContrastiveSettings,
    longest: int | None,
    seed: int,
) -> _Fitting:
    """Return groups as token ids: a row per context with all responses of the group behind it."""
    from mipo_eval.training.packing import TokenGroup

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


def _fits(example: Example, codec: "Codec", longest: int | None) -> bool:
    if longest is None or not example.chosen:
        return True
    return len(codec.prompt(example.prompt)) + len(codec.response(example.chosen)) <= longest
