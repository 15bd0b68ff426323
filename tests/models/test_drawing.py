"""What a checkpoint's generation_config.json does to responses: nothing, unless it is asked for."""

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from mipo_eval.cli import main
from mipo_eval.errors import ConfigError
from mipo_eval.models.hf import HfBackend
from mipo_eval.models.lm_eval import (
    ModelOptions,
    decoding_for,
    generation_spec,
    load_model,
    load_task,
)
from mipo_eval.models.lm_eval_hf import _Draw
from mipo_eval.models.spec import parse_model
from mipo_eval.records import Item
from mipo_eval.tasks.items import write_items
from tests.servers.http import Act, Call
from tests.servers.openai_server import OpenAIServer, Policy, ok

OWN: dict[str, Any] = {
    "do_sample": True,
    "temperature": 0.7,
    "top_p": 0.8,
    "top_k": 20,
    "repetition_penalty": 1.3,
    "max_new_tokens": 3,
}
ITEMS = [Item(item_id="a", prompt="What is tea?"), Item(item_id="b", prompt="Why do birds sing?")]


@pytest.fixture
def habitual(tiny_model: Path) -> Path:
    """A copy of the tiny model with habits of its own, in the folder `habitual`."""
    return _with(tiny_model, "habitual", OWN)


def _with(model: Path, name: str, settings: dict[str, Any]) -> Path:
    shutil.copytree(model, name)
    path = Path(name, "generation_config.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return Path(name)


def _texts(name: str | Path, **settings: Any) -> list[str | None]:
    write_items(Path("items.jsonl"), ITEMS)
    model = parse_model(str(name))
    decoding = decoding_for(model, {"max_tokens": 24, **settings}, seed=0)
    loaded = load_model(model, ModelOptions(), decoding)
    task = load_task("mipo_items", {"source": "items.jsonl"}, decoding)
    return [response.text for response in loaded.ask(task, [0, 1])]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("form", ["{}", "lm-eval:hf:pretrained={}"])
def test_the_same_weights_say_the_same(
    tiny_model: Path, habitual: Path, temperature: float, form: str
) -> None:
    plain = _texts(form.format(tiny_model), temperature=temperature)
    assert _texts(form.format(habitual.absolute()), temperature=temperature) == plain


def test_the_checkpoints_own_settings_can_be_asked_for(tiny_model: Path, habitual: Path) -> None:
    plain = _texts(tiny_model)
    own = _texts("./habitual", generation_config="checkpoint", temperature=0.0)
    assert own != plain
    assert own == _texts(tiny_model, repetition_penalty=1.3)
    drawn = _texts("./habitual", generation_config="checkpoint")
    named = {name: OWN[name] for name in ("temperature", "top_p", "top_k", "repetition_penalty")}
    assert drawn == _texts(tiny_model, **named)
    assert _texts(tiny_model, generation_config="checkpoint") == plain


@pytest.mark.parametrize(
    ("settings", "signed"),
    [
        ({}, "greedy-128"),
        ({"temperature": 1.0}, "t1-p1-128"),
        ({"repetition_penalty": 1.0, "top_k": 0, "min_p": 0.0}, "greedy-128"),
        ({"top_k": 5, "min_p": 0.1}, "greedy-128"),
        (
            {"generation_config": "checkpoint"},
            "t0.7-p0.8-128-repetition_penalty=1.3-top_k=20",
        ),
        (
            {"generation_config": "checkpoint", "temperature": 0.0},
            "greedy-128-repetition_penalty=1.3",
        ),
        ({"temperature": 0.5, "min_p": 0.05}, "t0.5-p1-128-min_p=0.05"),
    ],
)
@pytest.mark.usefixtures("habitual")
def test_what_was_used_is_signed(settings: dict[str, Any], signed: str) -> None:
    assert decoding_for(parse_model("./habitual"), settings, seed=0).describe() == signed


def test_responses_of_before_are_not_taken_for_neutral_ones(tiny_model: Path) -> None:
    """Those of checkpoints with penalties had them; all others keep their keys."""

    def marks(name: str) -> set[str]:
        model = parse_model(name)
        decoding = decoding_for(model, {}, seed=0)
        spec = generation_spec(model, ModelOptions(), decoding, asking={})
        return (
            spec.keys() - {"model", "chat_template", "engine", "asking"} | spec["decoding"].keys()
        )

    old = {"decoding", "max_tokens", "temperature", "top_p", "seed"}
    _with(tiny_model, "penalties", {"repetition_penalty": 1.05})
    _with(tiny_model, "sampling", {"do_sample": True, "temperature": 0.6, "top_p": 0.9})
    assert marks(str(tiny_model)) == marks("./sampling") == marks("openai:gpt-4.1") == old
    assert marks("vllm:./penalties") == old
    assert marks("./penalties") == marks("openai:m@http://localhost:8000") == {
        *old,
        "generation_config",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vllm:./ngrams", "sets no_repeat_ngram_size, which vllm does not support"),
        ("./beams", "sets num_beams, which hf does not support"),
        ("lm-eval:dummy:x=1", "are not known here: give temperature, top_p"),
    ],
)
def test_settings_that_cannot_be_followed(tiny_model: Path, name: str, message: str) -> None:
    _with(tiny_model, "ngrams", {"no_repeat_ngram_size": 2})
    _with(tiny_model, "beams", {"num_beams": 4})
    with pytest.raises(ConfigError, match=message):
        decoding_for(parse_model(name), {"generation_config": "checkpoint"}, seed=0)
    with pytest.raises(ConfigError, match="the only value of generation_config is checkpoint"):
        decoding_for(parse_model(name), {"generation_config": "neutral"}, seed=0)


async def _written(model: str) -> str:
    from mipo_eval.models.base import Message, Reply, Request, Sampling

    request = Request(
        messages=(Message(role="user", content="Why?"),), sampling=Sampling(max_tokens=24)
    )
    async for _, reply in HfBackend(model, decoding="generate").answer([request]):
        assert isinstance(reply, Reply)
        return reply.text
    raise AssertionError("no answer")


def test_a_judge_writes_neutrally_too(tiny_model: Path, habitual: Path) -> None:
    import asyncio

    assert asyncio.run(_written(str(habitual))) == asyncio.run(_written(str(tiny_model)))
    assert HfBackend(str(habitual)).identity["generation_config"] == "left out"
    assert "generation_config" not in HfBackend(str(tiny_model)).identity


@pytest.mark.parametrize(
    ("top_k", "min_p", "left"), [(2, 0.0, {0, 2}), (0, 0.2, {0, 2}), (0, 0.7, {2})]
)
def test_rare_tokens_can_be_left_out(top_k: int, min_p: float, left: set[int]) -> None:
    logits = torch.tensor([[1.0, -1.0, 2.0, 0.0, -4.0]])
    draw = _Draw(range(2000), 1.0, 1.0, top_k, min_p)
    drawn = draw(torch.zeros(2000, 1, dtype=torch.long), logits.repeat(2000, 1)).argmax(dim=1)
    assert set(drawn.tolist()) == left


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, {"repetition_penalty": 1.0}),
        ({"temperature": 0.5}, {"repetition_penalty": 1.0, "top_k": -1, "min_p": 0.0}),
        ({"temperature": 0.5, "top_k": 9}, {"repetition_penalty": 1.0, "top_k": 9, "min_p": 0.0}),
        ({"generation_config": "checkpoint"}, {}),
    ],
)
def test_a_server_is_told_what_is_neutral(
    settings: dict[str, Any], expected: dict[str, Any]
) -> None:
    with OpenAIServer(ok("Yes.")) as server:
        assert _texts(f"openai:judge@{server.url}", **settings) == ["Yes.", "Yes."]
        bodies = [call.body for call in server.calls if call.path.endswith("/chat/completions")]
    names = {"repetition_penalty", "top_k", "min_p"}
    assert [{k: v for k, v in body.items() if k in names} for body in bodies] == [expected] * 2


def test_a_server_that_does_not_know_the_words_is_asked_without() -> None:
    policy = Policy(unsupported=("repetition_penalty",))
    with OpenAIServer(ok("Yes."), policy=policy) as server:
        assert _texts(f"openai:judge@{server.url}") == ["Yes.", "Yes."]
        bodies = [call.body for call in server.calls if call.path.endswith("/chat/completions")]
    assert ["repetition_penalty" in body for body in bodies].count(False) == 2


def test_a_request_refused_for_its_own_sake_leaves_the_words_to_the_others() -> None:
    from tests.servers.openai_server import error

    def answer(call: Call) -> Act:
        return error(400, "no") if "tea" in call.body["messages"][-1]["content"] else ok("Yes.")

    with OpenAIServer(answer) as server:
        assert _texts(f"openai:judge@{server.url}") == [None, "Yes."]
        asked = [call.body for call in server.calls if call.path.endswith("/chat/completions")]
    birds = [body for body in asked if "birds" in body["messages"][-1]["content"]]
    assert [body["repetition_penalty"] for body in birds] == [1.0]


def test_a_run_of_the_checkpoints_own_drawing_can_be_repeated(
    tiny_model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its signature says how it was drawn, and the command that it names says it again."""
    _with(tiny_model, "habitual", {**OWN, "no_repeat_ngram_size": 3})
    write_items(Path("items.jsonl"), ITEMS)
    argv = ["--model", "./habitual", "--suite", "items.jsonl", "--json"]
    monkeypatch.setattr("sys.argv", ["mipo-eval", *argv])
    assert main([*argv, "--decoding", "max_tokens=9,generation_config=checkpoint"]) == 0
    made = json.loads(capsys.readouterr().out)
    signed = "decoding:t0.7-p0.8-9-no_repeat_ngram_size=3-repetition_penalty=1.3-top_k=20|"
    assert all(signed in score["signature"] for score in made["scores"])
    assert main(["reproduce", made["run_id"], "--json"]) == 0
    command = shlex.split(json.loads(capsys.readouterr().out)["command"])
    decoding = command[command.index("--decoding") + 1]
    assert main([*argv, "--decoding", decoding]) == 0
    assert json.loads(capsys.readouterr().out) == made
