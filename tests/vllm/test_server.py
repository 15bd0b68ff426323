"""Our client against a real vLLM, with a model that somebody else trained."""

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from mipo_eval.errors import BackendError
from mipo_eval.models.base import Failure, Message, Reply, Request, Sampling
from mipo_eval.models.openai import OpenAIBackend
from tests.vllm.server import VllmServer
from tests.vllm.stories import widen

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

RATINGS = ("1", "2", "3", "4", "5")


@pytest.fixture(scope="module")
def stories(
    shared_data: Path,
    vllm_server: Callable[..., VllmServer],
    tmp_path_factory: pytest.TempPathFactory,
) -> VllmServer:
    """The pretrained TinyStories model, served."""
    folder = tmp_path_factory.mktemp("models") / "stories260k"
    return vllm_server(widen(shared_data / "stories260k" / "hf", folder))


@pytest.fixture
def backend(stories: VllmServer) -> OpenAIBackend:
    return OpenAIBackend(stories.model, stories.url)


def request(text: str, *, max_tokens: int = 16, choices: tuple[str, ...] | None = None) -> Request:
    sampling = Sampling(temperature=0.0, max_tokens=max_tokens)
    messages = (Message(role="user", content=text),)
    return Request(messages=messages, sampling=sampling, choices=choices)


def answers(backend: OpenAIBackend, requests: Sequence[Request]) -> list[Reply | Failure]:
    """Return the outcomes in the order of `requests`."""

    async def collect() -> dict[int, Reply | Failure]:
        return {id(asked): outcome async for asked, outcome in backend.answer(requests)}

    outcomes = asyncio.run(collect())
    return [outcomes[id(asked)] for asked in requests]


def answer(backend: OpenAIBackend, asked: Request) -> Reply:
    (outcome,) = answers(backend, [asked])
    assert isinstance(outcome, Reply), outcome
    return outcome


def test_greedy_reply_is_the_text_the_model_is_known_for(
    backend: OpenAIBackend, stories: VllmServer, shared_data: Path
) -> None:
    truth = json.loads((shared_data / "stories260k" / "GROUND_TRUTH.json").read_text())
    beginning = "Once upon a time"
    reply = answer(backend, request(beginning, max_tokens=200))
    assert truth["golden_greedy_text"].startswith(beginning + reply.text)
    assert (reply.finish_reason, reply.completion_tokens) == ("length", 200)
    assert reply.prompt_tokens == 5  # with the beginning-of-text token
    assert reply.model == stories.model


@pytest.mark.parametrize("choices", [RATINGS, ("response_a", "response_b", "tie"), ("zebra",)])
def test_choices_hold_a_model_that_would_tell_a_story(
    backend: OpenAIBackend, choices: tuple[str, ...]
) -> None:
    asked = "Lily and Tom were friends. Rate this story from 1 to 5: "
    assert answer(backend, request(asked)).text not in choices
    assert answer(backend, request(asked, choices=choices)).text in choices


def test_hundreds_of_requests_at_once_are_each_answered(backend: OpenAIBackend) -> None:
    asked = [request(f"There were {n} dogs.", max_tokens=4, choices=RATINGS) for n in range(300)]
    outcomes = answers(backend, asked)
    assert [type(outcome) for outcome in outcomes] == [Reply] * len(asked)
    assert {outcome.text for outcome in outcomes if isinstance(outcome, Reply)} <= set(RATINGS)


def test_a_text_longer_than_the_context_fails_alone(backend: OpenAIBackend) -> None:
    longer = request("They saw a big dog. " * 400)
    failure, reply = answers(backend, [longer, request("They saw a big dog.")])
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.attempts) == ("bad_request", 1)
    assert "512" in failure.detail  # the model's context, in tokens
    assert isinstance(reply, Reply)


def test_check_names_the_models_that_are_served(
    backend: OpenAIBackend, stories: VllmServer
) -> None:
    asyncio.run(backend.check())
    with pytest.raises(BackendError, match=stories.model):
        asyncio.run(OpenAIBackend("another", stories.url).check())
