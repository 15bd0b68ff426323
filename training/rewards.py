"""Rewards: how good a response is, as plain functions from responses to numbers.

mi           log pi(y|x,c) - log pi(y|x) under the learned policy (eq. 15), in nats
judge        the rating, 1 to 5, by the rubric protocol, of the user's whole context at once, or the
             mean over the preferences; the paper's judge (RLAIF) is the frozen base model itself
judge+mi     judge + alpha * mi (eq. 16)
exact        1 for the right answer of a verifiable question, else 0 (RLVR)
judge-gt     the judge is shown the right answer, and reads with which one the response ends
             (RLAIF with ground truth)

A plug-in's reward is a function `reward(items, responses)` that returns a number, or None for no
reward, for each response.

A response without a reward is None: it is counted and left out of the update, never scored zero.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from mipo_eval.errors import BackendError, ConfigError, DataError
from mipo_eval.judges.judge import (
    CUT_JUDGE,
    Judge,
    RatingRequest,
    rating_requests,
    read_rating,
)
from mipo_eval.models.base import Failure, Reply
from mipo_eval.models.thinking import marked, take_apart, written
from mipo_eval.plugins import Plugin, plugin_of
from mipo_eval.records import Item, Rubric
from mipo_eval.tasks.answers import grade
from mipo_eval.training.recipes import REWARDS, RewardSettings
from mipo_eval.training.trainer import Messages, TrainingExample, TrainingJob

if TYPE_CHECKING:
    from torch import Tensor

_OR_EACH = ", or have it rate each preference by itself: --set settings.rates=preferences"

LogProbs = Callable[[Sequence[Messages], Sequence[Sequence[int]]], "Tensor"]
"""From prompts and the ids of their responses to (responses,) log pi(y|x) in nats, under the
policy as it is at the time of the call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """A response the policy wrote to the prompt of an example."""

    example: TrainingExample
    text: str | None
    """Without what was thought before it; None where it was cut inside its thinking."""
    tokens: tuple[int, ...]
    """Its ids, the end token included where the policy set one; never empty."""

    @classmethod
    def of(
        cls,
        example: TrainingExample,
        tokens: Sequence[int],
        *,
        tokenizer: Any,
        prompt: Sequence[int],
    ) -> "Completion":
        """Return what was written to an example's prompt, both given as token ids."""
        text = take_apart(written(tokenizer, prompt, tokens)).response
        return cls(example=example, text=text, tokens=tuple(tokens))


Reward = Callable[[Sequence[Completion]], Sequence[float | None]]


def mi_rewards(completions: Sequence[Completion], logprobs: LogProbs) -> list[float]:
    """Return log pi(y|x,c) - log pi(y|x) in nats; x is visible in both terms (eq. 15)."""
    from mipo_eval.training.losses import mi_reward

    tokens = [one.tokens for one in completions]
    within = logprobs([one.example.prompt for one in completions], tokens)
    without = logprobs([one.example.bare_prompt for one in completions], tokens)
    rewards: list[float] = mi_reward(within, without).tolist()
    return rewards


def exact_rewards(completions: Sequence[Completion]) -> list[float]:
    """Return 1 for each right final answer and 0 for others, unreadable ones included."""
    return [float(grade(one.example.item, one.text or "") == "right") for one in completions]


def own_rewards(own: Plugin, completions: Sequence[Completion]) -> list[float | None]:
    """Return what a plug-in gives; nothing to a response that was cut inside its thinking.

    Raises:
        ConfigError: it failed, or returned something else than a number or None for each.
    """
    written = [one for one in completions if one.text is not None]
    if not written:
        return [None] * len(completions)
    found = own([one.example.item for one in written], [one.text for one in written])
    try:
        values = [None if value is None else float(value) for value in found]
    except (TypeError, ValueError):
        values = []
    if len(values) != len(written) or not all(v is None or math.isfinite(v) for v in values):
        raise ConfigError(
            f"{own}: it returned {str(found)[:80]!r}, not a finite number or None for each of "
            f"{len(written)} responses"
        )
    given = iter(values)
    return [None if one.text is None else next(given) for one in completions]


async def judge_rewards(
    completions: Sequence[Completion], judge: Judge, to_rate: Callable[[Item], Item]
) -> tuple[list[float | None], Counter[str]]:
    """Return each response's mean rating (1-5), and why ratings are missing.

    What is rated is the response to what `to_rate` makes of its item.

    A response with a rating missing has no reward: the mean of the others would favour what the
    judge could not rate.

    Raises:
        BackendError: the judge cannot be asked any more.
    """
    asked = [
        () if one.text is None else rating_requests(judge, to_rate(one.example.item), one.text)
        for one in completions
    ]
    unique = {_name(request): request for requests in asked for request in requests}
    ratings: dict[tuple[str, str, int], int | None] = {}
    reasons: Counter[str] = Counter()
    async with aclosing(judge.backend.answer(unique.values())) as answers:
        async for request, outcome in answers:
            assert isinstance(request, RatingRequest)  # what was sent comes back
            reply, cut = None, False
            if isinstance(outcome, Reply):
                finish, cut = outcome.finish_reason, outcome.cut
                reply = marked(outcome.text, apart=outcome.thinking, finish=finish)
            rating, why = read_rating(reply, cut=cut)
            ratings[_name(request)] = rating
            if isinstance(outcome, Failure):
                reasons[outcome.detail] += 1
            elif why == CUT_JUDGE:
                reasons[why] += 1
            elif rating is None:
                reasons[f"it replies {outcome.text[:40]!r}"] += 1
    means = [_mean([ratings.get(_name(request)) for request in requests]) for requests in asked]
    return means, reasons


def _name(request: RatingRequest) -> tuple[str, str, int]:
    return request.item_key, request.text_key, request.aspect


def _mean(ratings: Sequence[int | None]) -> float | None:
    known = [rating for rating in ratings if rating is not None]
    return sum(known) / len(known) if known and len(known) == len(ratings) else None


def whole_context(item: Item) -> Item:
    """Return the item with its user's context as the one thing to rate, as in the paper.

    Where an item has preferences alone, they are rated together.
    """
    wish = item.context.strip() or "\n".join(item.preferences)
    return item.model_copy(update={"preferences": (wish,), "rubric": None})


def wishes(item: Item) -> Item:
    """Return the item with something to rate: without preferences, its context is the one wish."""
    if item.preferences:
        return item
    return item.model_copy(update={"preferences": (item.context.strip(),), "rubric": None})


def right_answer(item: Item) -> Item:
    """Return a verifiable question as an item whose one wish is the answer the judge is shown.

    What counts is the answer with which a reply ends, after its reasoning.
    """
    guide = Rubric(
        criterion=f"The right answer is {item.reference}. The reply may reason first: read the "
        "final answer with which it ends, and compare the two.",
        scores={
            1: "The final answer is another one, or there is none.",
            3: "The reasoning comes to the right answer, but the reply does not end with it.",
            5: "The final answer is the right one.",
        },
    )
    wish = "The final answer has to be right."
    return item.model_copy(update={"preferences": (wish,), "rubric": (guide,)})


@contextmanager
def open_reward(settings: RewardSettings, job: TrainingJob, logprobs: LogProbs) -> Iterator[Reward]:
    """Give the reward that the settings name; a judge is loaded at the start and kept.

    The job's base model judges where the settings name nobody.

    Raises:
        DataError: the examples lack what the reward looks at.
        BackendError: the judge cannot be asked; the reward raises it where it rates nothing.
        ModelError: the judge's checkpoint is missing or not a language model.
        ConfigError: there is no such judge.
    """
    check_examples(settings.reward, job.examples)
    if own := plugin_of("rewards", settings.reward, REWARDS, "settings.reward"):
        yield partial(own_rewards, own)
        return
    if settings.reward == "mi":
        yield only_responses(lambda completions: mi_rewards(completions, logprobs))
        return
    if settings.reward == "exact":
        yield only_responses(exact_rewards)
        return
    from mipo_eval.judges.presets import load_judge

    judge = load_judge(settings.judge or f"hf:{job.model}", judged_model=job.model)
    other = "name another with --set settings.judge=NAME"
    rated = rated_by(judge, settings, f"{other}{_OR_EACH if settings.rates == 'context' else ''}")
    # One event loop for the whole training: a client's connections belong to the loop they open in.
    with asyncio.Runner() as runner:
        runner.run(judge.backend.check())

        def reward(completions: Sequence[Completion]) -> list[float | None]:
            ratings = runner.run(rated(completions))
            if settings.reward != "judge+mi":
                return ratings
            return [
                None if rating is None else rating + settings.alpha * information
                for rating, information in zip(
                    ratings, mi_rewards(completions, logprobs), strict=True
                )
            ]

        yield only_responses(reward)


def rated_by(
    judge: Judge, settings: RewardSettings, advice: str
) -> Callable[[Sequence[Completion]], Coroutine[Any, Any, list[float | None]]]:
    """Return what has completions rated as the settings say.

    It raises a BackendError, with the advice, where the judge has not rated a single one so far.
    """
    to_rate = wishes if settings.rates == "preferences" else whole_context
    if settings.reward == "judge-gt":
        to_rate = right_answer
    rated = 0

    async def reward(completions: Sequence[Completion]) -> list[float | None]:
        nonlocal rated
        ratings, reasons = await judge_rewards(completions, judge, to_rate)
        rated += len(ratings) - ratings.count(None)
        if not rated and reasons:
            raise BackendError(
                f"the judge {judge.name} rated none of the first {len(ratings)} responses "
                f"({reasons.most_common(1)[0][0]}): {advice}"
            )
        return ratings

    return reward


def only_responses(reward: Reward) -> Reward:
    """Return a reward that gives none where a response was cut inside its thinking."""

    def given(completions: Sequence[Completion]) -> list[float | None]:
        # All are handed on: processes that share a model must do the same steps.
        found = zip(completions, reward(completions), strict=True)
        return [None if one.text is None else value for one, value in found]

    return given


def check_examples(kind: str, examples: Sequence[TrainingExample]) -> None:
    """Raise where a reward would say nothing about these examples.

    Raises:
        DataError: there are no examples, or they lack contexts, wishes or right answers.
    """
    if not examples:
        raise DataError("there is no training prompt: check the suite's train split and limit")
    if kind not in REWARDS:
        return  # what a plug-in needs it says itself
    if "mi" in kind and all(one.prompt == one.bare_prompt for one in examples):
        raise DataError(
            f"the reward {kind} compares a prompt with and without a user's context, and none of "
            f"{len(examples)} training prompts has a context: use a personalization suite"
        )
    lacking = next((one.item for one in examples if not fits(kind, one.item)), None)
    if lacking is not None:
        needed = (
            "a right answer (a verifiable question)"
            if kind in {"exact", "judge-gt"}
            else "preferences or a context to rate by"
        )
        raise DataError(f"the reward {kind} needs {needed}, and item {lacking.item_id} has none")


def fits(kind: str, item: Item) -> bool:
    """Whether a reward can say something about responses to an item."""
    if kind in {"exact", "judge-gt"}:
        return item.meta.get("kind") in {"number", "choice"} and bool(item.reference)
    return kind == "mi" or bool(item.preferences or item.context.strip())
