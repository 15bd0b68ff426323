"""Rewards: how good a response is, as plain functions from responses to numbers.

mi           log pi(y|x,c) - log pi(y|x) under the learned policy (eq. 15), in nats
judge        the mean rating, 1 to 5, by the rubric protocol; the paper's judge (RLAIF) is the
             frozen base model itself
judge+mi     judge + alpha * mi (eq. 16)
exact        1 for the right answer of a verifiable question, else 0 (RLVR)
judge-gt     the judge is shown the right answer (RLAIF with ground truth)

A response without a reward is None: it is counted and left out of the update, never scored zero.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from mipo_eval.errors import BackendError, DataError
from mipo_eval.judges.judge import Judge
from mipo_eval.judges.rubric import RatingRequest, rating_requests, read_rating
from mipo_eval.models import Failure, Reply
from mipo_eval.records import Item, Rubric
from mipo_eval.tasks.answers import grade
from mipo_eval.training.job import Example, Job

if TYPE_CHECKING:
    from torch import Tensor

RewardKind = Literal["mi", "judge", "judge+mi", "exact", "judge-gt"]

Messages = Sequence[Mapping[str, str]]

LogProbs = Callable[[Sequence[Messages], Sequence[Sequence[int]]], "Tensor"]
"""From prompts and the ids of their responses to (responses,) log pi(y|x) in nats, under the
policy as it is at the time of the call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardSettings:
    """What methods that learn from rewards have in common."""

    reward: RewardKind = "mi"
    judge: str | None = None
    """Who rates, as `--judge` names it; None: the frozen base model."""
    alpha: float = 0.1
    """Weight of the MI reward in `judge+mi`, per nat. The paper gives no value."""
    max_new_tokens: int = 256
    """Longest response."""
    kl: float = 0.001
    """Penalty for leaving the reference model, in reward per nat; PPO starts with it."""

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens is {self.max_new_tokens}: it must be above 0")
        if self.kl < 0:
            raise ValueError(f"kl is {self.kl:g}: a penalty is not below 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """A response the policy wrote to the prompt of an example."""

    example: Example
    text: str
    tokens: tuple[int, ...]
    """Its ids, the end token included where the policy set one; never empty."""


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
    return [float(grade(one.example.item, one.text) == "right") for one in completions]


class Judged(NamedTuple):
    """What a judge said of some responses."""

    rewards: list[float | None]
    reasons: Counter[str]
    """Why ratings are missing."""


async def judge_rewards(
    completions: Sequence[Completion], judge: Judge, to_rate: Callable[[Item], Item]
) -> Judged:
    """Return the mean rating (1-5) of each response over what `to_rate` makes of its item.

    A response with a rating missing has no reward: the mean of the others would favour what the
    judge could not rate.

    Raises:
        BackendError: the judge cannot be asked any more.
    """
    asked = [rating_requests(judge, to_rate(one.example.item), one.text) for one in completions]
    unique = {_name(request): request for requests in asked for request in requests}
    ratings: dict[tuple[str, str, int], int | None] = {}
    reasons: Counter[str] = Counter()
    async with aclosing(judge.backend.answer(unique.values())) as answers:
        async for request, outcome in answers:
            assert isinstance(request, RatingRequest)  # what was sent comes back
            reply = outcome.text if isinstance(outcome, Reply) else None
            rating, _ = read_rating(reply)
            ratings[_name(request)] = rating
            if isinstance(outcome, Failure):
                reasons[outcome.detail] += 1
            elif rating is None:
                reasons[f"it replies {outcome.text[:40]!r}"] += 1
    means = [_mean([ratings.get(_name(request)) for request in requests]) for requests in asked]
    return Judged(means, reasons)


def _name(request: RatingRequest) -> tuple[str, str, int]:
    return request.item_key, request.text_key, request.aspect


def _mean(ratings: Sequence[int | None]) -> float | None:
    known = [rating for rating in ratings if rating is not None]
    return sum(known) / len(known) if len(known) == len(ratings) else None


def wishes(item: Item) -> Item:
    """Return the item with something to rate: without preferences, its context is the one wish."""
    if item.preferences:
        return item
    return item.model_copy(update={"preferences": (item.context.strip(),), "rubric": None})


def right_answer(item: Item) -> Item:
    """Return a verifiable question as an item whose one wish is the answer the judge is shown."""
    guide = Rubric(
        criterion=f"The right answer is {item.reference}. Grade whether the reply arrives there.",
        scores={
            1: "The reply gives another answer, or none.",
            3: "The reply is on the way to the right answer but does not state it clearly.",
            5: "The final answer of the reply is the right one.",
        },
    )
    wish = "The final answer has to be right."
    return item.model_copy(update={"preferences": (wish,), "rubric": (guide,)})


@contextmanager
def open_reward(settings: RewardSettings, job: Job, logprobs: LogProbs) -> Iterator[Reward]:
    """Give the reward that the settings name; a judge is loaded at the start and kept.

    Args:
        settings: which reward, and who judges.
        job: its base model judges where the settings name nobody.
        logprobs: of the learned policy.

    Raises:
        DataError: the examples lack what the reward looks at.
        BackendError: the judge cannot be asked; the reward raises it where it rates nothing.
        ModelError: the judge's checkpoint is missing or not a language model.
        ConfigError: there is no such judge.
    """
    check_examples(settings.reward, job.examples)
    if settings.reward == "mi":
        yield lambda completions: mi_rewards(completions, logprobs)
        return
    if settings.reward == "exact":
        yield exact_rewards
        return
    from mipo_eval.judges.loading import load_judge

    to_rate = right_answer if settings.reward == "judge-gt" else wishes
    alpha = settings.alpha if settings.reward == "judge+mi" else None
    judge = load_judge(settings.judge or f"hf:{job.model}", judged_model=job.model)
    # One event loop for the whole training: a client's connections belong to the loop they open in.
    with asyncio.Runner() as runner:
        runner.run(judge.backend.check())

        rated = 0

        def reward(completions: Sequence[Completion]) -> list[float | None]:
            nonlocal rated
            ratings, reasons = runner.run(judge_rewards(completions, judge, to_rate))
            rated += len(ratings) - ratings.count(None)
            if not rated and reasons:
                raise BackendError(
                    f"the judge {judge.name} rated not one of the first {len(ratings)} responses "
                    f"({reasons.most_common(1)[0][0]}): name another with --set settings.judge=NAME"
                )
            return ratings if alpha is None else _with_mi(ratings, completions, logprobs, alpha)

        yield reward


def _with_mi(
    ratings: Sequence[float | None],
    completions: Sequence[Completion],
    logprobs: LogProbs,
    alpha: float,
) -> list[float | None]:
    extra = mi_rewards(completions, logprobs)
    return [
        None if rating is None else rating + alpha * information
        for rating, information in zip(ratings, extra, strict=True)
    ]


def check_examples(kind: RewardKind, examples: Sequence[Example]) -> None:
    """Raise where a reward would say nothing about these examples.

    Raises:
        DataError: there are no examples, or they lack contexts, wishes or right answers.
    """
    if not examples:
        raise DataError("there is no training prompt: check the suite's train split and limit")
    if "mi" in kind and all(one.prompt == one.bare_prompt for one in examples):
        raise DataError(
            f"the reward {kind} compares a prompt with and without a user's context, and not one "
            f"of {len(examples)} training prompts has a context: take a personalization suite"
        )
    lacking = next((one.item for one in examples if not _fits(kind, one.item)), None)
    if lacking is not None:
        needed = (
            "a right answer (a verifiable question)"
            if kind in {"exact", "judge-gt"}
            else "preferences or a context to rate by"
        )
        raise DataError(f"the reward {kind} needs {needed}, and item {lacking.item_id} has none")


def _fits(kind: RewardKind, item: Item) -> bool:
    if kind in {"exact", "judge-gt"}:
        return item.meta.get("kind") in {"number", "choice"} and bool(item.reference)
    return kind == "mi" or bool(item.preferences or item.context.strip())
