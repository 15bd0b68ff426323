"""The same item gets the same draw: in any batch or order, beside equal prompts, after a retry."""

from pathlib import Path

import pytest
import torch

from mipo_eval.models.lm_eval import (
    Decoding,
    ModelOptions,
    load_model,
    load_task,
)
from mipo_eval.models.lm_eval_hf import _Draw
from mipo_eval.models.recording import item_seed
from mipo_eval.models.spec import ModelSpec, parse_model
from mipo_eval.records import Item, Response
from mipo_eval.tasks.items import write_items
from tests.servers.http import Act, Call
from tests.servers.openai_server import OpenAIServer, error, ok

ITEMS = [
    Item(item_id="a", prompt="What is tea?", context="Be short."),
    Item(item_id="b", prompt="Why do birds sing to be heard, and what do they sing of?"),
    Item(item_id="c", prompt="What is tea?", context="Be short."),
    Item(item_id="d", prompt="Why?"),
]
DRAWN = Decoding(max_tokens=10, temperature=1.0, seed=3)


def _ask(model: ModelSpec, positions: list[int], decoding: Decoding = DRAWN) -> list[Response]:
    write_items(Path("items.jsonl"), ITEMS)
    options = ModelOptions(batch_size=3 if model.engine == "hf" else None)
    loaded = load_model(model, options, decoding)
    return loaded.ask(load_task("mipo_items", {"source": "items.jsonl"}, decoding), positions)


def test_a_draw_does_not_depend_on_its_neighbours(tiny_model: Path) -> None:
    spec = parse_model(str(tiny_model))
    together = [response.text for response in _ask(spec, [0, 1, 2, 3])]
    assert [_ask(spec, [position])[0].text for position in range(4)] == together
    assert [response.text for response in _ask(spec, [1, 2])] == together[1:3]
    assert together[0] != together[2], "equal prompts of two items are two draws"
    assert len(set(together)) == 4
    other_seed = Decoding(max_tokens=10, temperature=1.0, seed=4)
    assert all(
        response.text != before
        for response, before in zip(_ask(spec, [0, 1, 2, 3], other_seed), together, strict=True)
    )


@pytest.mark.parametrize("top_p", [1.0, 0.8])
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_draws_follow_the_models_probabilities(top_p: float, temperature: float) -> None:
    n = 20_000
    logits = torch.tensor([0.5, -1.0, 2.0, 0.0, -4.0])
    draw = _Draw(range(n), temperature, top_p)
    drawn = draw(torch.zeros(n, 1, dtype=torch.long), logits.repeat(n, 1)).argmax(dim=1)
    expected = (logits / temperature).softmax(dim=0)
    ordered, order = expected.sort(descending=True)
    expected[order[ordered.cumsum(dim=0) - ordered >= top_p]] = 0
    expected /= expected.sum()
    found = drawn.bincount(minlength=5) / n
    spread = (expected * (1 - expected) / n).sqrt()
    assert ((found - expected).abs() <= 4 * spread).all()
    assert (found[expected == 0] == 0).all()


def test_a_served_model_is_sent_each_items_own_seed() -> None:
    calls: list[Call] = []

    def answer(call: Call) -> Act:
        calls.append(call)
        # The first request is refused once, so it is sent again.
        return error(500, "try again") if len(calls) == 1 else ok(f"drawn with {call.body['seed']}")

    with OpenAIServer(answer) as server:
        spec = parse_model(f"openai:judge@{server.url}")
        responses = _ask(spec, [0, 1, 2, 3])
    seeds = [item_seed(3, item.key) for item in ITEMS]
    assert [response.text for response in responses] == [f"drawn with {seed}" for seed in seeds]
    assert len(calls) == 5
    assert len(set(seeds)) == 4


def test_greedy_requests_keep_the_seed_of_the_run() -> None:
    with OpenAIServer(lambda call: ok(str(call.body["seed"]))) as server:
        spec = parse_model(f"openai:judge@{server.url}")
        assert {r.text for r in _ask(spec, [0, 1, 2, 3], Decoding(seed=7))} == {"7"}
