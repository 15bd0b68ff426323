"""Tiny models with random weights: real checkpoints, made in a second."""

from itertools import pairwise
from pathlib import Path

import pytest

CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
BOS = "<|begin|>"
_TEXT = [
    "What is tea? Tea is a drink made of leaves. Why do birds sing? Birds sing to be heard.",
    "Please answer in two or three sentences, and take into account what I want: be short.",
]


def make_model(
    folder: Path,
    *,
    context: int = 256,
    template: str | None = CHAT_TEMPLATE,
    head: int = 16,
    bos: bool = False,
) -> Path:
    """Save a Qwen2 of some thousand random parameters, with a byte-level tokenizer, to `folder`.

    vLLM's attention on CPUs needs heads of 32 numbers or more. With `bos`, the tokenizer begins
    every text with a token of its own, as those of Llama, Gemma and Mistral do.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(_TEXT, trainer)
    begins = {}
    if bos:
        raw.add_special_tokens([BOS])
        raw.post_processor = processors.TemplateProcessing(
            single=f"{BOS} $A", special_tokens=[(BOS, raw.token_to_id(BOS))]
        )
        begins = {"bos_token": BOS}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|endoftext|>", **begins
    )
    tokenizer.chat_template = template
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=2 * head,
        intermediate_size=4 * head,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=context,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.5,  # far from uniform, so that greedy text varies
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_adapter(folder: Path, base: Path, *, seed: int = 0) -> Path:
    """Save a LoRA adapter on `base` that changes what it says, to `folder`."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    how = LoraConfig(
        r=4, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False
    )
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), how).save_pretrained(folder)
    return folder


def make_parrot(folder: Path, reply: str) -> Path:
    """Save a model that answers every prompt with `reply`, a token of its own, to `folder`.

    Its layers pass on what comes in, so the next token depends on the last one alone: `reply`
    follows the end of a prompt, and the end mark follows `reply`.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    make_model(folder, context=8192, head=32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer.add_tokens([reply])
    model.resize_token_embeddings(len(tokenizer))
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "?"}], add_generation_prompt=True, return_dict=True
    )["input_ids"]
    chain = [prompt[-1], tokenizer.convert_tokens_to_ids(reply), tokenizer.eos_token_id]
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.lm_head.weight.zero_()
        for before, after in pairwise(chain):
            model.lm_head.weight[after] = model.model.embed_tokens.weight[before]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


THINKING_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant"
    "{% if enable_thinking is defined and not enable_thinking %}[open]\n\n[close]\n\n"
    "{% elif opened is defined %}[open]{% endif %}{% endif %}"
)


def make_thinker(
    folder: Path, *, marks: tuple[str, str] = ("<think>", "</think>"), special: bool = False
) -> Path:
    """Save a model that thinks "hm hm hm" for ever, and answers "Tea." once that is over.

    Its template knows `enable_thinking`, and `opened`, which begins the thinking in the prompt.
    Where they are `special` the marks are control tokens, as Magistral's are.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    opening, closing = marks
    template = THINKING_TEMPLATE.replace("[open]", opening).replace("[close]", closing)
    make_model(folder, context=8192, head=32, template=template)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer.add_tokens([*marks], special_tokens=special)
    tokenizer.add_tokens([" hm", "Tea."])
    model.resize_token_embeddings(len(tokenizer))
    asked = tokenizer("<|im_start|>assistant")["input_ids"][-1]
    over = tokenizer("\n\n")["input_ids"][-1]
    first, thought, answer = tokenizer.convert_tokens_to_ids([opening, " hm", "Tea."])
    links = [
        (asked, first),
        (first, thought),
        (thought, thought),
        (over, answer),
        (answer, tokenizer.eos_token_id),
    ]
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.lm_head.weight.zero_()
        for axis, token in enumerate({before: None for before, _ in links}):
            model.model.embed_tokens.weight[token] = 0.0  # told apart from all the others
            model.model.embed_tokens.weight[token, axis] = 10.0
        for before, after in links:
            model.lm_head.weight[after] += model.model.embed_tokens.weight[before]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with a chat template and a context of 256 tokens. Read only."""
    return make_model(tmp_path_factory.mktemp("models") / "tiny")
