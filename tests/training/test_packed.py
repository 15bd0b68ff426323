"""Packed responses are read as if each stood behind its own prompt."""

from typing import Any

import pytest
import torch

from mipo_eval.records import Item
from mipo_eval.training.dpo import tokenize
from mipo_eval.training.logprobs import IGNORED, add_likelihood_head
from mipo_eval.training.packed import (
    PADDING,
    GroupReader,
    Layout,
    TokenGroup,
    packed,
    packing_reader,
    refusal,
    response_sums,
    split_attention,
    visible,
)
from mipo_eval.training.trainer import TrainingExample
from tests.training.tiny import gradients, group, random_model

DOCUMENTED = TokenGroup(item_id="a", prompt=(1, 2, 3), responses=((4, 5), (6, 7, 8)))
SHORT = TokenGroup(item_id="b", prompt=(9,), responses=((10,), (11,)))


def test_packed_rows_are_as_documented() -> None:
    batch = packed([DOCUMENTED, SHORT], filler=99)
    no = IGNORED
    assert batch["input_ids"].tolist() == [[1, 2, 3, 4, 3, 6, 7], [9, 9, 99, 99, 99, 99, 99]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 2, 3, 4], [0] * 7]
    assert batch["targets"].tolist() == [[no, no, 4, 5, 6, 7, 8], [10, 11, no, no, no, no, no]]
    assert batch["segments"].tolist() == [[0, 0, 1, 1, 2, 2, 2], [1, 2, *[PADDING] * 5]]
    assert DOCUMENTED.tokens == 7
    rows = GroupReader(None).collate([DOCUMENTED])
    assert rows["input_ids"].tolist() == [[1, 2, 3, 4, 0], [1, 2, 3, 6, 7]]
    assert rows["segments"].tolist() == [[0, 0, 0, 0, PADDING], [0] * 5]


def test_a_token_sees_the_prompt_and_its_own_response_up_to_itself() -> None:
    segments = packed([DOCUMENTED])["segments"]
    seen = ["1......", "11.....", "111....", "1111...", "11..1..", "11..11.", "11..111"]
    assert ["".join(".1"[int(v)] for v in row) for row in visible(segments)[0, 0]] == seen


def test_sums_of_responses() -> None:
    batch = packed([DOCUMENTED, SHORT])
    values = torch.arange(14.0).reshape(2, 7).masked_fill(batch["targets"] == IGNORED, 0.0)
    assert response_sums(values, batch["segments"], 3).tolist() == [[5, 15, 0], [7, 8, 0]]


@pytest.mark.parametrize("kind", ["qwen2", "llama"])
@pytest.mark.parametrize("attention", ["split", "dense"])
@pytest.mark.parametrize(
    "groups",
    [
        [group(9, 5, 5, 5)],
        [group(9, 5, 7, 3), group(1, 6, 6, seed=1), group(20, 1, 2, 3, 4, seed=2)],
    ],
)
def test_logprobs_and_gradients_equal_those_of_single_rows(
    kind: str, attention: Any, groups: list[TokenGroup]
) -> None:
    model = random_model(kind)
    add_likelihood_head(model)
    reader = packing_reader(model, attention)
    results = []
    for one in (reader, GroupReader(None)):
        logprobs = one.logprobs(model, one.collate(groups))
        weights = torch.linspace(-1, 1, logprobs.numel()).reshape(logprobs.shape)
        (logprobs * weights).sum().backward()
        results.append((logprobs.detach(), gradients(model)))
    (ours, our_slope), (theirs, slope) = results
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert float((our_slope - slope).norm() / slope.norm()) < 1e-5


def test_gradient_checkpointing_changes_nothing() -> None:
    found = []
    for checkpointed in (False, True):
        model = random_model("qwen2")
        add_likelihood_head(model)
        reader = packing_reader(model, "split")
        if checkpointed:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        reader.logprobs(model, reader.collate([group(9, 5, 7)])).sum().backward()
        found.append(gradients(model))
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-6)


def test_split_attention_is_what_a_dense_mask_says() -> None:
    groups = [group(40, 50, 70, 20), group(1, 6, seed=1)]
    segments = packed(groups)["segments"]
    torch.manual_seed(0)
    states = torch.randn(3, 2, 2, segments.shape[1], 8)
    query, key, value = states
    dense = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=visible(segments)
    )
    split, _ = split_attention(None, query, key, value, None, layouts=tuple(map(Layout.of, groups)))
    inside = (segments != PADDING)[:, :, None, None]
    torch.testing.assert_close(split * inside, dense.transpose(1, 2) * inside)


@pytest.mark.parametrize(
    ("kind", "more", "reason"),
    [
        ("mistral", {"sliding_window": 8}, "a layer of it sees 8 tokens back at most, texts have"),
        (
            "qwen2",
            {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1},
            "a layer of it sees 8 tokens back at most, texts have 30",
        ),
        ("gpt_oss", {"head_dim": 8, "num_local_experts": 4}, ""),  # attention with sinks
        ("bloom", {"n_head": 4, "n_layer": 2}, ""),  # positions are distances in the row
        # The same by so little that 2 % of a response's 14 nats would hide it.
        ("gpt_oss", {"head_dim": 8, "initializer_range": 0.02}, "single ones: 0.027 nats apart"),
        ("falcon", {"alibi": True, "initializer_range": 0.02}, "single ones: 0.038 nats apart"),
        (
            "bloom",
            {"n_head": 4, "n_layer": 2, "initializer_range": 0.02},
            "single ones: 0.0021 nats apart",
        ),
    ],
)
def test_models_that_cannot_be_packed_are_noticed(
    kind: str, more: dict[str, Any], reason: str
) -> None:
    model = random_model(kind, **more)
    before = model.config._attn_implementation
    add_likelihood_head(model)
    found = refusal(model, "split", longest=30)
    assert found is not None
    assert reason in found
    assert model.config._attn_implementation == before


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("spread", [0.02, 0.5])
def test_models_that_can_be_packed_agree_far_closer(dtype: torch.dtype, spread: float) -> None:
    model = random_model("qwen2", initializer_range=spread, num_hidden_layers=6).to(dtype)
    add_likelihood_head(model)
    assert refusal(model, "split", longest=30) is None


@pytest.mark.parametrize(
    ("kind", "more"),
    [("mistral", {"sliding_window": 64}), ("gpt2", {"n_embd": 32, "n_head": 4, "n_layer": 2})],
)
def test_a_window_wider_than_the_texts_does_not_matter(kind: str, more: dict[str, Any]) -> None:
    model = random_model(kind, **more).eval()
    add_likelihood_head(model)
    assert refusal(model, "split", longest=30) is None


class _Letters:
    """A codec with one token per letter, and 0 at the end of a response."""

    def prompt(self, messages: Any) -> list[int]:
        return [ord(letter) for letter in messages[0]["content"]]

    def response(self, text: str) -> list[int]:
        return [*map(ord, text), 0]


def test_what_is_too_long_is_left_out_and_counted() -> None:
    def example(prompt: str, chosen: str, *rejected: str) -> TrainingExample:
        messages = ({"role": "user", "content": prompt},)
        item = Item(item_id=prompt, prompt=prompt)
        return TrainingExample(
            item=item, prompt=messages, bare_prompt=messages, chosen=chosen, rejected=rejected
        )

    examples = [
        example("fits", "abc", "abc", "abcd"),
        example("one negative", "", "a", "ab"),
        example("too long a prompt", "a", "b"),
        example("chosen", "abcdefghi", "a"),
        example("rejected", "a", "abcdefghi"),
    ]
    codec: Any = _Letters()
    fitting = tokenize(examples, codec, longest=14)
    assert [(one.item_id, len(one.responses)) for one in fitting.groups] == [
        ("fits", 3),
        ("one negative", 2),
    ]
    assert fitting.dropped == {"examples": 3, "negatives": 3}
    assert len(tokenize(examples, codec, longest=None).groups) == 5
