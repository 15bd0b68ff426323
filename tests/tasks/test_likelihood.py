"""Scoring responses under contexts with a real pretrained model, against recorded values."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

from mipo_eval.errors import ConfigError, DataError, ModelError
from mipo_eval.metrics.context_lift import context_lift, context_retrieval, infonce_term
from mipo_eval.records import ContextLikelihoods, Item, PastTurn
from mipo_eval.tasks.likelihood import ScoringModel, TokenPair, draw_contexts, score_contexts
from mipo_eval.tasks.prompt import USUAL, conversation, render_query
from tests.small_models import make_model

Dtype = Literal["float32", "float64"]


@pytest.fixture(scope="module", params=[("float32", 1e-4), ("float64", 1e-8)], ids=["f32", "f64"])
def scorer(request: pytest.FixtureRequest, shared_data: Path) -> tuple[ScoringModel, float]:
    dtype, tolerance = request.param
    folder = str(shared_data / "stories260k" / "hf")
    return ScoringModel.load(folder, dtype=dtype, device="cpu"), tolerance


@pytest.fixture(scope="module")
def truth(shared_data: Path) -> dict[str, Any]:
    folder = shared_data / "stories260k"
    mi: dict[str, Any] = json.loads((folder / "GROUND_TRUTH_mi_dev.json").read_text())
    return mi | {"examples": json.loads((folder / "GROUND_TRUTH.json").read_text())["examples"]}


def test_tokens(scorer: tuple[ScoringModel, float], truth: dict[str, Any]) -> None:
    model, _ = scorer
    for context, ids in zip(truth["contexts"], truth["prompt_ids"], strict=True):
        assert model.prompt_ids(f"{context} {truth['prompt']}") == ids
    assert [model.response_ids(text) for text in truth["responses"]] == truth["response_ids"]


@pytest.mark.parametrize("batch_tokens", [1, 100, 8_192])
def test_every_recorded_likelihood(
    scorer: tuple[ScoringModel, float], truth: dict[str, Any], batch_tokens: int
) -> None:
    """The whole matrix at once, in batches of any size: padding must not change a value."""
    model, tolerance = scorer
    prompts = [*truth["prompt_ids"], truth["prompt_without_context_ids"]]
    pairs = [TokenPair(prompt, ids) for prompt in prompts for ids in truth["response_ids"]]
    expected = [*truth["sum_logprob_matrix"], truth["sum_logprob_without_context"]]
    flat = [value for row in expected for value in row]
    assert model.logprobs(pairs, batch_tokens=batch_tokens) == pytest.approx(flat, abs=tolerance)


def test_recorded_continuations(scorer: tuple[ScoringModel, float], truth: dict[str, Any]) -> None:
    model, _ = scorer
    cut = [(example["ids"], example["n_prompt_ids"]) for example in truth["examples"]]
    sums = model.logprobs([TokenPair(ids[:n], ids[n:]) for ids, n in cut])
    # Recorded from a float32 forward pass, so no better than that in either type.
    assert sums == pytest.approx([e["sum_continuation"] for e in truth["examples"]], abs=1e-4)


def test_recorded_mutual_information(
    scorer: tuple[ScoringModel, float], truth: dict[str, Any]
) -> None:
    model, tolerance = scorer
    prompts, responses = truth["prompt_ids"], truth["response_ids"]
    likelihoods = []
    for own, response in enumerate(responses):
        contexts = [prompts[own], *(prompt for n, prompt in enumerate(prompts) if n != own)]
        pairs = [TokenPair(p, response) for p in (truth["prompt_without_context_ids"], *contexts)]
        without, *within = model.logprobs(pairs)
        likelihoods.append(
            ContextLikelihoods(
                without_context=without, with_contexts=tuple(within), tokens=len(response)
            )
        )
    assert [context_lift(entry) for entry in likelihoods] == pytest.approx(
        truth["pointwise_conditional_mi"], abs=tolerance
    )
    bound = sum(infonce_term(entry) for entry in likelihoods) / len(likelihoods)
    assert bound == pytest.approx(-truth["infonce_loss_eq6_sum_logprobs"], abs=tolerance)
    assert [context_retrieval(entry) for entry in likelihoods] == [1, 1, 1, 1]


def items(contexts: Sequence[str]) -> list[Item]:
    return [
        Item(item_id=str(n), prompt="One day, they went to the park.", context=context)
        for n, context in enumerate(contexts)
    ]


def test_score_contexts(scorer: tuple[ScoringModel, float], truth: dict[str, Any]) -> None:
    model, tolerance = scorer
    suite = items([*truth["contexts"], ""])
    responses = [*truth["responses"], "Lily was happy."]
    results = list(score_contexts(model, suite, responses, k=3))
    assert results[4] == "item without context"
    for item, text, result, contexts in zip(
        suite[:4], responses, results, draw_contexts(suite, 3), strict=False
    ):
        queries = [render_query(item, "default")]
        for context in contexts:
            changed = item.model_copy(update={"context": context})
            queries.append(render_query(changed, "personalized"))
        ids = model.response_ids(text)
        expected = [model.logprobs([TokenPair(model.prompt_ids(q), ids)])[0] for q in queries]
        assert isinstance(result, ContextLikelihoods)
        got = [result.without_context, *result.with_contexts]
        assert got == pytest.approx(expected, abs=tolerance)
        assert result.tokens == len(ids)
    bound = sum(infonce_term(r) for r in results if isinstance(r, ContextLikelihoods)) / 4
    assert bound > 0  # through our query templates, too, a response tells its context


def test_what_cannot_be_scored(scorer: tuple[ScoringModel, float]) -> None:
    model, _ = scorer
    suite = items(["Lily likes dogs.", "x " * 300])
    results = list(score_contexts(model, suite, [None, ""], k=2))
    assert results == ["no response", "empty response"]
    [long, _] = score_contexts(model, suite, ["Lily was happy.", "Tom was sad."], k=2)
    assert long == "longer than the scoring model's 512 tokens"
    with pytest.raises(DataError, match="2 items but 1 responses"):
        list(score_contexts(model, suite, ["a"]))


def test_a_chat_template_is_used_where_there_is_one(shared_data: Path) -> None:
    model = ScoringModel.load(str(shared_data / "stories260k" / "hf"), device="cpu")
    model.tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    expected = model.tokenizer("user: Hello.\nassistant:", add_special_tokens=False)["input_ids"]
    assert model.prompt_ids("Hello.") == expected


def test_the_devices_memory_is_respected(
    scorer: tuple[ScoringModel, float], truth: dict[str, Any]
) -> None:
    model, tolerance = scorer
    largest: list[int] = []

    class Crowded:
        """The real model on a device that holds three sequences at once."""

        device, config = model.model.device, model.model.config

        def __call__(self, ids: Any, **options: Any) -> Any:
            if len(ids) > 3:
                raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
            largest.append(len(ids))
            return model.model(ids, **options)

    crowded = ScoringModel("crowded", Crowded(), model.tokenizer)
    pairs = [TokenPair(truth["prompt_ids"][0], ids) for ids in truth["response_ids"]] * 3
    expected = truth["sum_logprob_matrix"][0] * 3
    assert crowded.logprobs(pairs, batch_tokens=400) == pytest.approx(expected, abs=tolerance)
    assert max(largest) <= 3


def test_contexts_are_drawn_per_item() -> None:
    suite = items(["a", "b", "c", "d", "b"])
    drawn = list(draw_contexts(suite, 3, seed=1))
    for item, contexts in zip(suite, drawn, strict=True):
        assert contexts[0] == item.context
        assert len(set(contexts)) == 3
    assert list(draw_contexts(suite[::-1], 3, seed=1)) == drawn[::-1]
    assert list(draw_contexts(suite, 3, seed=2)) != drawn
    assert {len(contexts) for contexts in draw_contexts(suite, 99)} == {4}


def test_refusals() -> None:
    with pytest.raises(DataError, match="1 different contexts in 2 items: nothing to tell apart"):
        list(draw_contexts(items(["a", "a"]), 2))
    with pytest.raises(ConfigError, match="1 contexts: retrieval needs at least 2"):
        list(draw_contexts(items(["a", "b"]), 1))
    with pytest.raises(ModelError, match=r"there is no checkpoint at \./nowhere"):
        ScoringModel.load("./nowhere")


def test_a_response_is_measured_in_its_conversation(tmp_path: Path) -> None:
    template = (Path(__file__).parents[1] / "templates" / "gemma.jinja").read_text()
    model = ScoringModel.load(str(make_model(tmp_path, context=512, template=template, bos=True)))
    earlier = (
        PastTurn(role="user", content="Hi."),
        PastTurn(role="assistant", content="Hello."),
    )
    talks = [item.model_copy(update={"messages": earlier}) for item in items(["I am nine.", "Hm."])]
    answers = ["Tea is a drink.", "Birds sing."]
    results = list(score_contexts(model, talks, answers, k=2, told=("Be kind.", USUAL)))
    for item, text, result in zip(talks, answers, results, strict=True):
        asked = conversation(item, "personalized", "Be kind.")
        pair = TokenPair(model.prompt_ids(asked), model.response_ids(text))
        assert "Be kind.\n\nHi." in model.tokenizer.decode(pair.prompt)
        assert isinstance(result, ContextLikelihoods)
        assert result.with_contexts[0] == pytest.approx(model.logprobs([pair])[0], abs=1e-4)
    greeted = [item.model_copy(update={"messages": earlier[1:]}) for item in talks]
    [refused, _] = score_contexts(model, greeted, answers, k=2)
    assert "roles must alternate" in str(refused)
