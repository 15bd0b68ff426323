"""Ratings from logits against generate-and-parse: same model, same items, same ratings.

The model is a Qwen2 of some million random weights: what it rates means nothing, how long it takes
does. Generate-and-parse is transformers' `generate`, greedy, in batches of the given size in the
items' order, its reply read by our parser: once free to write up to 16 tokens, as such loops do,
and once constrained to a rating and the end mark, the least that generation can take. Seconds are
of processor time, so that a busy machine changes the ratios little.
"""

import asyncio
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.results import Result
from mipo_eval.judges.judge import RATING_OPTIONAL_SLOTS, RATING_SLOTS, Judge, rating_requests
from mipo_eval.judges.parse import parse_rating
from mipo_eval.judges.prompt import load_prompt
from mipo_eval.models.base import Reply, Request
from mipo_eval.models.hf import HfBackend
from mipo_eval.records import Item

WISHES = (
    "Use short sentences and plain everyday words.",
    "Give at least one concrete example from daily life.",
    "Keep a warm and encouraging tone throughout.",
    "Do not assume that I have any special equipment.",
    "Say what to do first, second and third, in order.",
    "Avoid jokes and exclamation marks.",
)
SENTENCES = (
    "Start by putting fresh cold water into the kettle and let it come to a boil.",
    "While you wait, warm the cup with a little hot water and pour it away.",
    "Green leaves like water that has cooled for a minute or two.",
    "Black leaves can take it right off the boil, and they are done after four minutes.",
    "Taste it early and often, since your own taste is the best clock there is.",
    "If it turns out bitter, use fewer leaves or a shorter time, not less water.",
)


def make_model(folder: Path) -> Path:
    """Save a Qwen2 of four million random weights, with a tokenizer of 4,096 pieces."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=4096,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    prompt = load_prompt("rubric", required=RATING_SLOTS, optional=RATING_OPTIONAL_SLOTS)
    raw.train_from_iterator([prompt.text, *WISHES, *SENTENCES], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    torch.manual_seed(0)
    size = {"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 4}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        max_position_embeddings=2048,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.2,
        **size,
        **heads,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def requests(judge: Judge, responses: int) -> Iterator[Request]:
    """Yield six ratings of each of `responses` replies, two replies to each question."""
    for number in range(responses):
        item = Item(
            item_id=str(number // 2),
            prompt=f"How do I make tea, {number // 2}?",
            preferences=WISHES,
        )
        order = [SENTENCES[(number * step + step) % 6] for step in range(1, 7 + number % 7)]
        yield from rating_requests(judge, item, " ".join(order))


def from_logits(backend: HfBackend, asked: Sequence[Request]) -> list[int | None]:
    """Return the ratings by our backend, in the order asked."""

    async def collect() -> dict[str, int | None]:
        found = {}
        async for request, outcome in backend.answer(asked):
            assert isinstance(outcome, Reply), outcome
            found[str(request.messages)] = parse_rating(outcome.text)
        return found

    found = asyncio.run(collect())
    return [found[str(request.messages)] for request in asked]


def by_generation(
    model: Any, tokenizer: Any, asked: Sequence[Request], batch: int, *, free: bool
) -> list[int | None]:
    """Return the ratings by transformers' greedy generation and our parser."""
    end = tokenizer.eos_token_id
    ratings = {tokenizer(c, add_special_tokens=False)["input_ids"][0] for c in "12345"}
    ratings_found: list[int | None] = []
    for start in range(0, len(asked), batch):
        texts = [
            tokenizer.apply_chat_template(
                [{"role": turn.role, "content": turn.content} for turn in request.messages],
                add_generation_prompt=True,
                tokenize=False,
            )
            for request in asked[start : start + batch]
        ]
        tokens = tokenizer(
            texts, add_special_tokens=False, padding=True, padding_side="left", return_tensors="pt"
        )
        width = tokens["input_ids"].shape[1]
        written = model.generate(
            **tokens,
            max_new_tokens=16,
            do_sample=False,
            prefix_allowed_tokens_fn=None
            if free
            else lambda _, ids, width=width: sorted(ratings) if len(ids) == width else [end],
            pad_token_id=tokenizer.pad_token_id,
        )
        replies = tokenizer.batch_decode(written[:, width:], skip_special_tokens=True)
        ratings_found += [parse_rating(reply) for reply in replies]
    return ratings_found


def measure(quick: bool) -> Iterator[Result]:
    """Time all three, one reply at a time and in batches."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as temporary:
        folder = make_model(Path(temporary))
        backend = HfBackend(str(folder))
        prompt = load_prompt("rubric", required=RATING_SLOTS, optional=RATING_OPTIONAL_SLOTS)
        judge = Judge(name="bench", spec="bench", backend=backend, prompt=prompt)
        asked = list(requests(judge, 2 if quick else 32))
        from_logits(backend, asked[:8])  # loads the model
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder)
        clock = time.process_time
        for batch in (1, 16):
            size = f"{len(asked)} ratings, batches of {batch} in the others"
            by_generation(model, tokenizer, asked[:8], batch, free=True)
            start = clock()
            ours = from_logits(backend, asked)
            logits, start = clock() - start, clock()
            theirs = by_generation(model, tokenizer, asked, batch, free=False)
            constrained, start = clock() - start, clock()
            by_generation(model, tokenizer, asked, batch, free=True)
            free = clock() - start
            yield Result(
                name="Rating by logits, beside generating up to 16 tokens", size=size, ours=logits,
                other=free, ratio=free / logits, wanted=">= 5" if batch == 1 else "",
            )  # fmt: skip
            yield Result(
                name="Rating by logits, beside generating a rating alone", size=size, ours=logits,
                other=constrained, ratio=constrained / logits,
                note="the same ratings" if ours == theirs else "OTHER RATINGS",
            )  # fmt: skip
