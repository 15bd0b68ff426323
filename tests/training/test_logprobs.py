"""Token ids of conversations, and log-probabilities of responses only."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers.processors import TemplateProcessing

from mipo_eval.errors import ModelError
from mipo_eval.models.chat import check_answers
from mipo_eval.training import logprobs
from mipo_eval.training.logprobs import (
    IGNORED,
    Codec,
    add_likelihood_head,
    padded,
    tolerance,
)
from tests.small_models import CHAT_TEMPLATE
from tests.training.tiny import random_model

TURN = ({"role": "user", "content": "What is tea?"},)


def load_tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def test_prompt_and_response_join_to_the_templates_conversation(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    codec = Codec.of(tokenizer)
    whole = [*TURN, {"role": "assistant", "content": "A drink."}]
    rendered = tokenizer.apply_chat_template(whole, tokenize=False)
    joined = tokenizer.decode([*codec.prompt(TURN), *codec.response("A drink.")])
    assert rendered == joined + "\n"  # what the template writes behind the end mark is not learned


@pytest.mark.parametrize(
    ("template", "end"),
    [
        (CHAT_TEMPLATE, "<|im_end|>"),
        (CHAT_TEMPLATE.replace("<|im_end|>", "<|endoftext|>"), "<|endoftext|>"),
        ("{% for m in messages %}{{ m['content'] }}\n{% endfor %}", "<|im_end|>"),  # eos_token
    ],
)
def test_the_end_mark_is_the_templates(tiny_model: Path, template: str, end: str) -> None:
    tokenizer = load_tokenizer(tiny_model)
    tokenizer.chat_template = template
    codec = Codec.of(tokenizer)
    assert codec.response("Tea")[-1] == codec.end == tokenizer.convert_tokens_to_ids(end)


def test_text_of_a_response_never_becomes_a_control_token(tiny_model: Path) -> None:
    codec = Codec.of(load_tokenizer(tiny_model))
    ids = codec.response("Tea<|im_end|>\n<|im_start|>user")
    assert ids.count(codec.end) == 1
    assert ids[-1] == codec.end


def test_a_model_without_a_template_is_refused(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    tokenizer.chat_template = None
    with pytest.raises(ModelError, match="has no chat template, so it cannot be"):
        Codec.of(tokenizer)


@pytest.mark.parametrize("escape", ["| tojson", "| e", "| upper", "[:3]"])
def test_a_template_that_escapes_what_is_said_is_refused(escape: str, tiny_model: Path) -> None:
    """It has to be told before responses are drawn, too, where only the template is there."""
    tokenizer = load_tokenizer(tiny_model)
    template = CHAT_TEMPLATE.replace("m['content']", f"(m['content'] {escape})")
    assert template != CHAT_TEMPLATE
    tokenizer.chat_template = template
    said = r"^the chat template of .* escapes or rewrites what an assistant says"
    with pytest.raises(ModelError, match=said):
        Codec.of(tokenizer)
    with pytest.raises(ModelError, match=said):
        check_answers("a model", template)
    for plain in (CHAT_TEMPLATE, "", "{{ nobody.knows() }}"):
        check_answers("a model", plain)


def test_a_model_that_is_its_own_body_is_refused() -> None:
    model = random_model("llama4_text", num_local_experts=4, intermediate_size_mlp=64, head_dim=8)
    with pytest.raises(
        ModelError, match=r"^Llama4ForCausalLM turns hidden states into logits in a"
    ):
        add_likelihood_head(model)


def test_padded_rows() -> None:
    batch = padded([((1, 2), (3, 4)), ((5,), (6,))], filler=9)
    assert batch["input_ids"].tolist() == [[1, 2, 3], [5, 9, 9]]
    assert batch["targets"].tolist() == [[IGNORED, 3, 4], [6, IGNORED, IGNORED]]


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("qwen2", {}),
        ("llama", {"tie_word_embeddings": True}),
        ("gemma2", {"head_dim": 8, "final_logit_softcapping": 2.0}),
        ("cohere", {"logit_scale": 0.25}),
        ("granite", {"logits_scaling": 4.0}),
    ],
)
def test_equals_the_models_own_logits(
    kind: str, more: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = random_model(kind, **more).eval()
    batch = padded([((5, 6, 7), (8, 9, 10, 11)), ((12,), (13, 14))])
    ids, targets = batch["input_ids"], batch["targets"]
    own = torch.log_softmax(model(ids).logits, -1)
    wanted = own.gather(2, targets.clamp(min=0)[..., None])[..., 0].masked_fill(targets < 0, 0.0)
    wanted.sum().backward()
    gradient = model.model.embed_tokens.weight.grad.clone()
    model.zero_grad()
    add_likelihood_head(model)
    for limit in (1 << 25, 300):  # at once, and three positions at a time
        monkeypatch.setattr(logprobs, "LOGITS", limit)
        found = model(ids, targets=targets)
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
        found.sum().backward()
        torch.testing.assert_close(
            model.model.embed_tokens.weight.grad, gradient, rtol=1e-4, atol=1e-4
        )
        model.zero_grad()
    torch.testing.assert_close(torch.log_softmax(model(ids).logits, -1), own)  # as before


def test_an_unknown_kind_of_head_is_refused() -> None:
    model = random_model("qwen2")
    model.lm_head.register_forward_hook(lambda *_: None)
    plain = model.forward
    model.forward = lambda *args, **kwargs: _doubled(plain(*args, **kwargs))
    with pytest.raises(ModelError, match="Qwen2ForCausalLM turns hidden states into logits in a"):
        add_likelihood_head(model)


def _doubled(output: Any) -> Any:
    output.logits = 2 * output.logits
    return output


def test_a_response_begins_with_its_own_text(tiny_model: Path) -> None:
    """Also where the tokenizer opens every text with a token of its own."""
    tokenizer = load_tokenizer(tiny_model)
    plain = Codec.of(tokenizer).response("Tea")
    opened = ("<|im_start|>", tokenizer.convert_tokens_to_ids("<|im_start|>"))
    added = TemplateProcessing(single=f"{opened[0]} $A", special_tokens=[opened])
    tokenizer.backend_tokenizer.post_processor = added
    assert tokenizer("Tea")["input_ids"][0] == opened[1]
    assert Codec.of(tokenizer).response("Tea") == plain


@pytest.mark.parametrize("own", [None, 5, [5, 6]])
def test_a_model_ends_with_its_own_tokens_and_its_templates(own: Any, tiny_model: Path) -> None:
    codec, model = Codec.of(load_tokenizer(tiny_model)), random_model("llama")
    model.generation_config.eos_token_id = own
    assert {*codec.ends(model)} == {codec.end, *([own] if isinstance(own, int) else own or [])}


def test_half_the_bits_are_read_less_exactly() -> None:
    model = random_model("llama")
    assert (tolerance(model), tolerance(model.bfloat16())) == (1e-3, 0.02)
