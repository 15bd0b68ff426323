"""Models that think, asked for real: checkpoints that write marks, servers that give them apart."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mipo_eval.models.base import Message, Reply, Request, Sampling
from mipo_eval.models.effort import Effort
from mipo_eval.models.hf import HfBackend
from mipo_eval.models.lm_eval import Decoding, ModelOptions, load_model, load_task
from mipo_eval.models.openai import OpenAIBackend, read_completion
from mipo_eval.models.spec import parse_model
from mipo_eval.models.thinking import CUT, take_apart
from mipo_eval.records import Item, Response
from mipo_eval.tasks.items import write_items
from tests.servers.http import Act, json_act
from tests.servers.openai_server import OpenAIServer, Policy, completion
from tests.small_models import make_thinker

OFF = Effort(template={"enable_thinking": False})
OPENED = Effort(template={"opened": True})


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_thinker(tmp_path_factory.mktemp("models") / "thinker")


@pytest.fixture(scope="module")
def magistral(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "magistral"
    return make_thinker(folder, marks=("[THINK]", "[/THINK]"), special=True)


def _ask(model: str, effort: Effort, *, temperature: float = 0.0, tokens: int = 20) -> Response:
    decoding = Decoding(max_tokens=tokens, temperature=temperature)
    write_items(Path("items.jsonl"), [Item(item_id="tea", prompt="What is tea?")])
    task = load_task("mipo_items", {"source": "items.jsonl"}, decoding)
    loaded = load_model(parse_model(model), ModelOptions(effort=effort), decoding)
    (response,) = loaded.ask(task, [0])
    return response


@pytest.mark.parametrize("name", ["thinker", "magistral"])
@pytest.mark.parametrize("opened", [False, True])
@pytest.mark.parametrize("temperature", [0.0, 0.001])
def test_a_budget_ends_the_thinking_of_a_checkpoint(
    name: str, opened: bool, temperature: float, request: pytest.FixtureRequest
) -> None:
    template = {"opened": True} if opened else {}
    effort = Effort(template=template, budget=5)
    made = _ask(str(request.getfixturevalue(name)), effort, temperature=temperature)
    assert (made.text, made.finish_reason, made.reason) == ("Tea.", "stop", None)
    assert made.thinking == "hm hm hm hm hm"
    # "\n", the closing mark and the lines behind it; the opening mark where it was written
    assert made.response_tokens == 1
    assert made.thinking_tokens is not None
    assert 5 + 3 <= made.thinking_tokens <= 5 + 5


@pytest.mark.parametrize("name", ["thinker", "magistral"])
@pytest.mark.parametrize("effort", [Effort(), OPENED, Effort(budget=50)])
def test_a_checkpoint_that_is_cut_inside_its_thinking_has_no_response(
    name: str, effort: Effort, request: pytest.FixtureRequest
) -> None:
    made = _ask(str(request.getfixturevalue(name)), effort)
    assert (made.text, made.finish_reason, made.reason) == (None, "length", CUT)
    assert made.final
    assert made.thinking is not None
    assert set(made.thinking.split()) == {"hm"}
    assert (made.response_tokens, made.thinking_tokens) == (None, 20)


def test_a_checkpoint_whose_thinking_is_switched_off(thinker: Path) -> None:
    made = _ask(str(thinker), OFF)
    assert (made.text, made.thinking) == ("Tea.", None)
    assert (made.response_tokens, made.thinking_tokens) == (1, None)


def test_a_budget_leaves_models_alone_that_do_not_think(tiny_model: Path) -> None:
    plain = _ask(str(tiny_model), Effort())
    assert plain.text
    assert _ask(str(tiny_model), Effort(budget=2)) == plain


async def _one(backend: HfBackend | OpenAIBackend, request: Request) -> Reply:
    async def outcomes() -> AsyncIterator[Any]:
        async for _, outcome in backend.answer([request]):
            yield outcome

    (found,) = [outcome async for outcome in outcomes()]
    assert isinstance(found, Reply), found
    return found


@pytest.mark.parametrize(
    ("effort", "response", "thinking"),
    [
        (OFF, "Tea.", None),
        (Effort(budget=3), "Tea.", "hm hm hm"),
        (Effort(budget=0, template={"opened": True}), "Tea.", None),
        (Effort(), None, "hm"),
        (OPENED, None, "hm"),
    ],
)
def test_a_judge_in_this_process_thinks(
    magistral: Path, effort: Effort, response: str | None, thinking: str | None
) -> None:
    asked = Request(
        messages=(Message(role="user", content="Rate it."),),
        sampling=Sampling(max_tokens=16, effort=effort),
    )
    reply = asyncio.run(_one(HfBackend(str(magistral), decoding="generate"), asked))
    parts = take_apart(reply.text)
    assert parts.response == response
    said = parts.thinking and (parts.thinking if response else parts.thinking.split()[0])
    assert said == thinking


def _thought(content: str | None, *, finish: str = "stop", **message: Any) -> dict[str, Any]:
    told = completion(content, finish=finish, **message)
    told["usage"]["completion_tokens"] = 9
    return told


def _counted(body: dict[str, Any]) -> dict[str, Any]:
    body["usage"]["completion_tokens_details"] = {"reasoning_tokens": 6}
    return body


@pytest.mark.parametrize(
    ("body", "text", "reason", "thinking", "tokens"),
    [
        (_thought("Tea.", reasoning_content="hm"), "Tea.", None, "hm", (None, None)),
        (_counted(_thought("Tea.", reasoning="hm")), "Tea.", None, "hm", (3, 6)),
        (_thought("<think>hm</think>\n\nTea."), "Tea.", None, "hm", (None, None)),
        (_thought("hm\n</think>\n\nTea."), "Tea.", None, "hm", (None, None)),
        (_thought("<think>\n\n</think>\n\nTea."), "Tea.", None, None, (None, None)),
        (_thought("Tea.", reasoning=None), "Tea.", None, None, (9, None)),
        (_thought(None, finish="length", reasoning="hm"), None, CUT, "hm", (None, 9)),
        (_thought("", finish="length"), None, CUT, None, (None, 9)),
        (_thought("<think>hm", finish="length"), None, CUT, "hm", (None, 9)),
    ],
)
def test_served_models_give_their_thinking_in_several_ways(
    body: dict[str, Any],
    text: str | None,
    reason: str | None,
    thinking: str | None,
    tokens: tuple[int | None, int | None],
) -> None:
    with OpenAIServer(json_act(body)) as server:
        made = _ask(f"openai:judge@{server.url}", Effort())
    assert (made.text, made.reason, made.thinking) == (text, reason, thinking)
    assert (made.response_tokens, made.thinking_tokens) == tokens


@pytest.mark.parametrize(
    ("end", "said", "finish", "text", "thinking"),
    [
        ("assistant\n<think>\n", "It may be hot", "length", None, "It may be hot"),
        ("assistant\n<think>\n", "It may be hot.", "stop", "It may be hot.", None),
        ("assistant\n<think>\n", "Hot?\n</think>\n\nTea.", "length", "Tea.", "Hot?"),
        ("assistant\n", "It may be hot", "length", "It may be hot", None),
        (None, "It may be hot", "length", "It may be hot", None),
    ],
)
def test_a_server_may_say_that_its_template_begins_the_thinking(
    end: str | None, said: str, finish: str, text: str | None, thinking: str | None
) -> None:
    act = json_act(completion(said, finish=finish))
    with OpenAIServer(act, policy=Policy(prompt_end=end)) as server:
        made = _ask(f"openai:judge@{server.url}", Effort())
    assert (made.text, made.thinking) == (text, thinking)
    assert made.reason == (CUT if text is None else None)


def test_a_served_model_is_told_how_to_think() -> None:
    effort = Effort(
        template={"enable_thinking": True},
        level="low",
        budget=100,
        body={"reasoning": {"exclude": False}},
    )
    told = {
        "chat_template_kwargs": {"enable_thinking": True},
        "reasoning_effort": "low",
        "thinking_token_budget": 100,
        "reasoning": {"exclude": False},
    }
    act: Act = json_act(completion("Tea."))
    with OpenAIServer(act) as server:
        _ask(f"openai:judge@{server.url}", effort)
        request = Request(
            messages=(Message(role="user", content="Rate it."),), sampling=Sampling(effort=effort)
        )
        asyncio.run(_one(OpenAIBackend("judge", server.url), request))
        asked = [call.body for call in server.calls if call.path.endswith("/chat/completions")]
    assert len(asked) == 2
    assert all(told.items() <= body.items() for body in asked)


def test_a_completion_keeps_what_was_thought() -> None:
    body = json_act(completion("4", reasoning_content="It is fine.")).body
    reply = read_completion(body)
    assert (reply.text, reply.thinking) == ("4", "It is fine.")


def test_a_judge_whose_template_begins_a_thinking_is_let_think(magistral: Path) -> None:
    """The token behind "[THINK]" is no rating, however likely "5" may be there."""
    asked = Request(
        messages=(Message(role="user", content="Rate it."),),
        sampling=Sampling(max_tokens=16, effort=Effort(template={"opened": True}, budget=2)),
        choices=("4", "5"),
    )
    reply = asyncio.run(_one(HfBackend(str(magistral)), asked))
    assert take_apart(reply.text) == ("Tea.", "hm hm")
