"""Rewards as functions of TRL's columns, and the prompts whose items they look at."""

import copy
from collections.abc import Callable, Sequence
from typing import Any, Literal

from mipo_eval import settings
from mipo_eval.errors import ConfigError
from mipo_eval.given import Given, Suite
from mipo_eval.judges.presets import load_judge
from mipo_eval.models.base import Backend
from mipo_eval.models.callable import Function
from mipo_eval.records import Item
from mipo_eval.tasks.suites import find_suite
from mipo_eval.training.data import as_examples, training_items
from mipo_eval.training.recipes import ItemSettings, RewardSettings
from mipo_eval.training.rewards import (
    Completion,
    Reward,
    exact_rewards,
    fits,
    mi_rewards,
    only_responses,
    rated_by,
)
from mipo_eval.training.trainer import TrainingExample


def PromptDataset(items: Suite, *, limit: int | None = None) -> Any:
    """Return items as a `datasets.Dataset` for `trl.GRPOTrainer` with `reward_funcs`.

    Its columns: `prompt`, with the user's context, and `bare_prompt`, without it, are
    conversations; `item` is the item as JSON.

    Args:
        items: a suite with a training split, or rows of items.
        limit: only the first items of each data set.

    Raises:
        MipoEvalError: whatever has to be changed, in one line.
    """
    import datasets

    with Given() as objects:
        suite = find_suite(objects.suite(items))
        data = training_items(suite, settings.data_dir(), ItemSettings(limit=limit))
        return datasets.Dataset.from_list(
            [
                {
                    "prompt": list(one.prompt),
                    "bare_prompt": list(one.bare_prompt),
                    "item": one.item.model_dump_json(),
                }
                for part in data
                for one in as_examples(suite, part.task, [(item, None, ()) for item in part.items])
            ]
        )


RewardKind = Literal["judge", "mi", "exact"]


def reward_funcs(
    *kinds: RewardKind,
    tokenizer: Any,
    model: Any = None,
    judge: str | Function | Backend | None = None,
    rates: Literal["context", "preferences"] = "context",
) -> list[Callable[..., Any]]:
    """Return rewards for `trl.GRPOTrainer` on a `PromptDataset`; one that is not known is None.

    judge   the judge's rating from 1 to 5, or the mean over the preferences
    mi      log pi(y|x,c) - log pi(y|x) in nats under the model as it is at the time
    exact   1 for the right answer of a verifiable question, else 0

    TRL leaves out what is None; its share is logged as `KIND/unscored`.

    Args:
        *kinds: which; TRL adds them up, as its `reward_weights` say.
        tokenizer: of the model that is trained.
        model: the very object that the trainer is given, before that; for "mi".
        judge: who rates; for "judge".
        rates: whether the user's context is rated at once, or each preference by itself.

    Raises:
        MipoEvalError: whatever has to be changed, in one line.
    """
    from mipo_eval.training.logprobs import Codec

    codec = Codec.of(copy.deepcopy(tokenizer))
    found: list[Callable[..., Any]] = []
    for kind in kinds:
        if kind == "judge":
            found.append(_judged(codec, judge, RewardSettings(reward="judge", rates=rates)))
        elif kind == "mi":
            found.append(_plain("mi", codec, _mutual_information(model, codec)))
        elif kind == "exact":
            found.append(_plain("exact", codec, exact_rewards))
        else:
            raise ConfigError(f"unknown reward {kind!r}; known: judge, mi, exact")
    return found


def _plain(kind: RewardKind, codec: Any, value: Reward) -> Callable[..., Any]:
    def reward(**columns: Any) -> list[float | None]:
        made = _completions(kind, codec, columns)
        known = [one for one in made if one is not None]
        return _told(kind, made, only_responses(value)(known) if known else (), columns)

    reward.__name__ = kind
    return reward


def _judged(codec: Any, judge: Any, how: RewardSettings) -> Callable[..., Any]:
    if judge is None:
        raise ConfigError("the reward 'judge' needs a judge: judge=NAME")
    with Given() as objects:
        loaded = load_judge(objects.judge(judge))
    value = rated_by(loaded, how, "take another judge, or rates='preferences'")

    async def reward(**columns: Any) -> list[float | None]:
        # TRL keeps an event loop for such functions, to which a client's connections can belong.
        made = _completions("judge", codec, columns)
        return _told("judge", made, await value([one for one in made if one is not None]), columns)

    reward.__name__ = "judge"
    return reward


def _mutual_information(model: Any, codec: Any) -> Reward:
    if not hasattr(model, "get_output_embeddings"):
        raise ConfigError("the reward 'mi' needs the loaded model that is trained: model=MODEL")
    from mipo_eval.training.logprobs import add_likelihood_head, summed_logprobs

    add_likelihood_head(model)

    def logprobs(prompts: Any, responses: Any) -> Any:
        training = model.training
        model.eval()  # no dropout, and no activations that are computed again
        try:
            return summed_logprobs(model, codec, prompts, responses, rows=1)
        finally:
            model.train(training)

    return lambda completions: mi_rewards(completions, logprobs)


def _completions(kind: RewardKind, codec: Any, columns: dict[str, Any]) -> list[Completion | None]:
    """Return what was written to rows of a `PromptDataset`; None where there is no reward for it.

    Raises:
        ConfigError: the rows are of another data set.
    """
    if absent := [name for name in ("item", "bare_prompt") if name not in columns]:
        raise ConfigError(
            f"the reward {kind!r} needs the column {absent[0]!r}: train on a PromptDataset, and "
            "keep GRPOConfig's own remove_unused_columns"
        )
    found: list[Completion | None] = []
    parts = (columns[name] for name in ("item", "prompts", "bare_prompt", "completion_ids"))
    for text, prompt, bare, ids in zip(*parts, strict=True):
        item = Item.model_validate_json(text)
        example = TrainingExample(item=item, prompt=tuple(prompt), bare_prompt=tuple(bare))
        asked = fits(kind, item) and (kind != "mi" or example.prompt != example.bare_prompt)
        start = codec.prompt(prompt)
        made = Completion.of(example, ids, tokenizer=codec.tokenizer, prompt=start)
        found.append(made if asked else None)
    return found


def _told(
    kind: str,
    made: Sequence[Completion | None],
    values: Sequence[float | None],
    columns: dict[str, Any],
) -> list[float | None]:
    """Return a reward for each completion, and log for how many there is none."""
    given = iter(values)
    found = [None if one is None else next(given) for one in made]
    columns["log_metric"](f"{kind}/unscored", found.count(None) / len(found))
    return found
