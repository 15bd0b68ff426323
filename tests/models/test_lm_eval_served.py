"""Served models: what ended each response, what was refused, what a dead server says."""

from pathlib import Path

import pytest

from mipo_eval.errors import BackendError
from mipo_eval.models.lm_eval import Decoding, LoadedModel, ModelOptions, load_model, load_task
from mipo_eval.models.spec import parse_model
from mipo_eval.records import Item
from mipo_eval.tasks.items import write_items
from tests.servers.http import Act, Call
from tests.servers.openai_server import OpenAIServer, Policy, broken, error, filtered, ok

DECODING = Decoding(max_tokens=8)


def _load(server: OpenAIServer, model: str = "judge") -> LoadedModel:
    spec = parse_model(f"openai:{model}@{server.url}")
    return load_model(spec, ModelOptions(), DECODING)


def _task(*prompts: str) -> object:
    items = [Item(item_id=prompt, prompt=prompt) for prompt in prompts]
    write_items(Path("items.jsonl"), items)
    return load_task("mipo_items", {"source": "items.jsonl"}, DECODING)


def _by_prompt(call: Call) -> Act:
    prompt = call.body["messages"][-1]["content"].split("\n")[0]
    return {
        "fine": ok("An answer.", finish="stop"),
        "long": ok("An answer that", finish="length"),
        "refused": error(400, "maximum context length exceeded"),
        "filtered": filtered(),
    }[prompt]


def test_each_response_says_how_it_ended() -> None:
    with OpenAIServer(_by_prompt) as server:
        responses = _load(server).ask(_task("fine", "refused", "long", "filtered"), range(4))
    assert [(r.text, r.finish_reason, r.reason) for r in responses] == [
        ("An answer.", "stop", None),
        (None, None, "call failed: bad_request"),
        ("An answer that", "length", None),
        (None, None, "call failed: refused"),
    ]
    assert not any(response.final for response in responses)
    assert (responses[0].prompt_tokens, responses[0].response_tokens) == (11, 1)


def test_the_request_carries_the_decoding() -> None:
    with OpenAIServer(ok("Yes.")) as server:
        _load(server).ask(_task("fine"), [0])
        (call,) = [call for call in server.calls if call.path.endswith("/chat/completions")]
    assert call.body["model"] == "judge"
    assert call.body["max_tokens"] == 8
    assert call.body["temperature"] == 0
    assert "stop" not in call.body
    assert call.body["messages"][-1]["role"] == "user"


def test_a_server_that_breaks_for_a_moment_is_asked_again() -> None:
    with OpenAIServer([broken(), ok("Yes.")]) as server:
        (response,) = _load(server).ask(_task("fine"), [0])
    assert response.text == "Yes."


def test_a_model_that_is_not_served() -> None:
    with (
        OpenAIServer(policy=Policy(models=("other",))) as server,
        pytest.raises(BackendError, match="does not serve 'judge'; it serves: other"),
    ):
        _load(server)


def test_a_server_that_stays_broken() -> None:
    with OpenAIServer(broken()) as server:
        spec = parse_model(f"openai:judge@{server.url}")
        options = ModelOptions(arguments={"max_retries": 2})
        (response,) = load_model(spec, options, DECODING).ask(_task("fine"), [0])
        assert server.chats == 2
    assert (response.text, response.reason, response.final) == (
        None,
        "call failed: server_error",
        False,
    )
