"""Rewards: what a response earns, and when it earns nothing."""

import asyncio
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from mipo_eval.errors import BackendError, ConfigError, DataError
from mipo_eval.judges.presets import load_judge
from mipo_eval.models.base import Failure, Request, ScriptedBackend
from mipo_eval.training.logprobs import Codec, add_likelihood_head, summed_logprobs
from mipo_eval.training.recipes import RewardSettings
from mipo_eval.training.rewards import (
    Completion,
    check_examples,
    exact_rewards,
    judge_rewards,
    mi_rewards,
    only_responses,
    open_reward,
    right_answer,
    whole_context,
    wishes,
)
from mipo_eval.training.trainer import TrainingExample, load_policy
from tests.training.jobs import example, examples, job


def completion(one: TrainingExample, text: str, tokens: Sequence[int] = (5, 6, 2)) -> Completion:
    return Completion(example=one, text=text, tokens=tuple(tokens))


@pytest.fixture(scope="module")
def policy(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Codec]:
    model, tokenizer = load_policy(job(tiny_model, tmp_path_factory.mktemp("none"), []))
    add_likelihood_head(model)
    return model, Codec.of(tokenizer)


def test_mi_sees_the_prompt_in_both_terms(policy: tuple[Any, Codec]) -> None:
    """What the authors' code seems to get wrong (PAPER.md): a masked prompt makes this zero."""
    model, codec = policy
    made = [
        completion(one, one.chosen or "", codec.response(one.chosen or ""))
        for one in examples(prompts=1, contexts=3)
    ]

    def logprobs(prompts: Any, responses: Any) -> Any:
        return summed_logprobs(model, codec, prompts, responses, rows=2)

    def pass_of(messages: Any, tokens: Sequence[int]) -> float:
        prompt = codec.prompt(messages)
        with torch.no_grad():
            logits = model(torch.tensor([[*prompt, *tokens]])).logits[0]
        steps = logits[len(prompt) - 1 : -1].log_softmax(-1)
        return float(steps.gather(1, torch.tensor(tokens)[:, None]).sum())

    rewards = mi_rewards(made, logprobs)
    for one, reward in zip(made, rewards, strict=True):
        within = pass_of(one.example.prompt, one.tokens)
        without = pass_of(one.example.bare_prompt, one.tokens)
        assert reward == pytest.approx(within - without, abs=1e-3)
        assert abs(reward) > 0.1
        # The question matters too: with another one, both terms and their difference move.
        other = example("Why do birds sing?", one.example.item.context)
        assert mi_rewards([completion(other, one.text, one.tokens)], logprobs) != [reward]
    assert mi_rewards([completion(example("What is tea?", ""), "", (5, 6))], logprobs) == [0.0]


NUMBER = example("2 + 3?", "", reference="5", meta={"kind": "number"})
CHOICE = example(
    "Sky?\nA. red\nB. blue", "", reference="B", meta={"kind": "choice", "choices": ["red", "blue"]}
)


@pytest.mark.parametrize(
    ("one", "text", "reward"),
    [
        (NUMBER, "2 + 3 = 5. #### 5", 1.0),
        (NUMBER, "The answer is 5.0", 1.0),
        (NUMBER, "The answer is 6", 0.0),
        (NUMBER, "no idea", 0.0),
        (CHOICE, "The answer is B", 1.0),
        (CHOICE, "The answer is A", 0.0),
    ],
)
def test_exact(one: TrainingExample, text: str, reward: float) -> None:
    assert exact_rewards([completion(one, text)]) == [reward]


def judge_by(rule: Callable[[str, str], str | None]) -> ScriptedBackend:
    """A judge that replies what a rule says of response and preference; None: no reply."""

    def reply(request: Request) -> str | Failure:
        text = rule(request.slots["response"], request.slots["preference"])
        return Failure(kind="timeout", detail="slow") if text is None else text

    return ScriptedBackend(reply)


def judged(
    backend: ScriptedBackend, made: Sequence[Completion], to_rate: Any = wishes
) -> list[float | None]:
    judge = dataclasses.replace(load_judge("checker"), backend=backend)
    return asyncio.run(judge_rewards(made, judge, to_rate))[0]


def test_the_judges_reward_is_the_mean_rating() -> None:
    one = example("Tea?", "Be short.", preferences=("short", "kind"))
    backend = judge_by(lambda text, wish: str(len(text) if wish == "short" else 5))
    assert judged(backend, [completion(one, "a"), completion(one, "four")]) == [3.0, 4.5]


@pytest.mark.parametrize("reply", [None, "four or five", "7"])
def test_a_missing_rating_is_no_reward(reply: str | None) -> None:
    one = example("Tea?", "Be short.", preferences=("short", "kind"))
    backend = judge_by(lambda text, wish: reply if (text, wish) == ("bad", "kind") else "4")
    assert judged(backend, [completion(one, "bad"), completion(one, "good")]) == [None, 4.0]


def test_equal_responses_are_asked_once() -> None:
    one = example("Tea?", "Be short.", preferences=("short",))
    backend = judge_by(lambda text, wish: "2")
    assert judged(backend, [completion(one, "same")] * 3) == [2.0, 2.0, 2.0]
    assert len(backend.asked) == 1


def test_the_whole_context_is_rated_once() -> None:
    one = example("Tea?", " Be short and kind. ", preferences=("short", "kind"))
    backend = judge_by(lambda text, wish: "5" if wish == "Be short and kind." else "1")
    assert judged(backend, [completion(one, "a")], whole_context) == [5.0]
    assert len(backend.asked) == 1
    alone = example("Tea?", "", preferences=("short", "kind"))
    assert whole_context(alone.item).preferences == ("short\nkind",)


@pytest.mark.parametrize(("rates", "asked"), [("context", 1), ("preferences", 2)])
def test_what_is_rated_is_a_setting(
    rates: Any, asked: int, tiny_model: Path, tmp_path: Path
) -> None:
    replies = tmp_path / "replies.jsonl"
    replies.write_text('{"reply": "4"}\n{"reply": "2"}\n')
    one = example("Tea?", "Be short and kind.", preferences=("short", "kind"))
    settings = RewardSettings(reward="judge", rates=rates, judge=f"scripted:{replies}")
    with open_reward(settings, job(tiny_model, tmp_path, [one]), None) as reward:  # type: ignore[arg-type]
        assert reward([completion(one, "a")]) == [4.0 if asked == 1 else 3.0]


def test_without_preferences_the_context_is_rated() -> None:
    backend = judge_by(lambda text, wish: "5" if wish == "Be short." else "1")
    assert judged(backend, [completion(example("Tea?", " Be short. "), "a")]) == [5.0]


def test_the_judge_is_shown_the_right_answer() -> None:
    backend = judge_by(lambda text, wish: "4")
    assert judged(backend, [completion(NUMBER, "It is 6.")], right_answer) == [4.0]
    shown = backend.asked[0].messages[0].content
    assert "The right answer is 5." in shown
    assert "read the final answer with which it ends" in shown
    assert "2 + 3?" in shown
    assert "It is 6." in shown


def test_judge_and_mi_are_added(tiny_model: Path, tmp_path: Path) -> None:
    replies = tmp_path / "replies.jsonl"
    replies.write_text('{"reply": "4"}\n{"reply": "5"}\n{"reply": "what?"}\n{"reply": "2"}\n')
    made = [completion(one, one.chosen or "") for one in examples(prompts=1, contexts=2)]
    settings = RewardSettings(reward="judge+mi", alpha=0.5, judge=f"scripted:{replies}")

    def logprobs(prompts: Any, responses: Any) -> torch.Tensor:
        return torch.tensor([float("Be short." in one[0]["content"]) for one in prompts])

    given = [one.example for one in made]
    with open_reward(settings, job(tiny_model, tmp_path, given), logprobs) as reward:
        assert reward(made) == [4.5, 5.0]
        assert reward(made[::-1]) == [None, 2.5]  # the same loop serves every rollout


def test_verifiable_rewards_are_opened(tiny_model: Path, tmp_path: Path) -> None:
    at = job(tiny_model, tmp_path, [NUMBER])
    made = [completion(NUMBER, "It is 5."), completion(NUMBER, "It is 6.")]
    with open_reward(RewardSettings(reward="exact"), at, None) as exact:  # type: ignore[arg-type]
        assert exact(made) == [1.0, 0.0]
    replies = tmp_path / "replies.jsonl"
    replies.write_text('{"reply": "5"}\n{"reply": "1"}\n')
    shown = RewardSettings(reward="judge-gt", judge=f"scripted:{replies}")
    with open_reward(shown, at, None) as judged_by:  # type: ignore[arg-type]
        assert judged_by(made) == [5.0, 1.0]


def test_the_base_model_judges_by_default(tiny_model: Path, tmp_path: Path) -> None:
    made = [completion(one, one.chosen or "") for one in examples(prompts=1, contexts=1)]
    at = job(tiny_model, tmp_path, [one.example for one in made])
    with (
        open_reward(RewardSettings(reward="judge"), at, None) as reward,  # type: ignore[arg-type]
        pytest.raises(BackendError, match=r"judge tiny rated none of the first 1 .*room for 256"),
    ):
        reward(made)


def test_a_judge_that_cannot_be_asked_is_refused(tmp_path: Path) -> None:
    from tests.small_models import make_model

    bare = make_model(tmp_path / "bare", template=None)
    at = job(bare, tmp_path, examples(prompts=1))
    with (
        pytest.raises(BackendError, match="has no chat template"),
        open_reward(RewardSettings(reward="judge"), at, None),  # type: ignore[arg-type]
    ):
        pass
    wrong = RewardSettings(reward="judge", judge="nobody")
    with (
        pytest.raises(ConfigError, match="unknown judge 'nobody'"),
        open_reward(wrong, at, None),  # type: ignore[arg-type]
    ):
        pass


@pytest.mark.parametrize(
    ("kind", "made", "message"),
    [
        ("mi", [], "there is no training prompt"),
        ("mi", [example("Tea?", "")], "reward mi compares a prompt with and without"),
        ("judge+mi", [example("Tea?", "")], r"none of 1 training prompts has a context"),
        ("judge", [example("Tea?", "")], "needs preferences or a context to rate by, and item Tea"),
        ("exact", [example("Tea?", "Be short.")], "needs a right answer .* item Tea"),
        ("judge-gt", [example("Tea?", "Be short.")], "needs a right answer"),
    ],
)
def test_examples_without_what_a_reward_looks_at(kind: Any, made: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_examples(kind, made)


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="max_new_tokens is 0"):
        RewardSettings(max_new_tokens=0)
    with pytest.raises(ValueError, match="kl is -1"):
        RewardSettings(kl=-1)


def test_a_completion_is_rewarded_for_its_response(policy: tuple[Any, Codec]) -> None:
    _, codec = policy
    prompt = codec.prompt([{"role": "user", "content": "2 + 3?"}])
    texts = ["The answer is 4?</think>\n#### 5", "<think>The answer is 4?</think>\n#### 5"]
    texts += ["<think>#### 5"]
    made = [
        Completion.of(
            NUMBER,
            codec.tokenizer(text)["input_ids"],
            tokenizer=codec.tokenizer,
            prompt=prompt,
        )
        for text in texts
    ]
    assert [one.text for one in made] == ["#### 5", "#### 5", None]
    assert only_responses(exact_rewards)(made) == [1.0, 1.0, None]
    backend = judge_by(lambda text, wish: "4" if text == "#### 5" else "1")
    assert judged(backend, made, right_answer) == [4.0, 4.0, None]
    assert len(backend.asked) == 1


def test_a_judge_that_thinks_is_read_behind_it() -> None:
    one = example("Tea?", "Be short.", preferences=("short",))
    replies = {"a": "<think>2 or 3?</think>4", "b": "<think>4"}
    backend = judge_by(lambda text, wish: replies[text])
    assert judged(backend, [completion(one, "a"), completion(one, "b")]) == [4.0, None]
