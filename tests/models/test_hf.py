"""A judge model in this process: answers from logits are what constrained generation writes."""

import asyncio
import shutil
from collections.abc import Iterable
from itertools import product
from pathlib import Path

import pytest

from mipo_eval.errors import BackendError, ModelError
from mipo_eval.models.base import Failure, Message, Reply, Request, Sampling
from mipo_eval.models.hf import HfBackend
from mipo_eval.models.spec import load_backend

RATINGS = ("1", "2", "3", "4", "5")
NAMES = ("response_a", "response_b", "tie")
NESTED = ("1", "10", "100", "2")
TEXTS = ("What is tea?", "Why do birds sing? Be short.", "Tea is a drink.", "x" * 60)


def request(text: str, choices: tuple[str, ...] | None = RATINGS, **options: object) -> Request:
    sampling = Sampling(**options)  # type: ignore[arg-type]
    return Request(
        messages=(Message(role="user", content=text),), choices=choices, sampling=sampling
    )


def answers(backend: HfBackend, requests: Iterable[Request]) -> dict[str, Reply | Failure]:
    async def collect() -> dict[str, Reply | Failure]:
        return {key(one): outcome async for one, outcome in backend.answer(requests)}

    return asyncio.run(collect())


def key(one: Request) -> str:
    return str(one.to_json())


def by_generation(folder: Path, one: Request) -> str:
    """The same answer by transformers' own constrained generation, one request at a time."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    turns = [{"role": turn.role, "content": turn.content} for turn in one.messages]
    text = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    prompt = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    end = tokenizer.eos_token_id
    allowed = [
        [*tokenizer(choice, add_special_tokens=False)["input_ids"], end]
        for choice in one.choices or ()
    ]

    def following(_: int, tokens: torch.Tensor) -> list[int]:
        own = tokens[prompt.shape[1] :].tolist()
        return [choice[len(own)] for choice in allowed if choice[: len(own)] == own] or [end]

    written = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=20,
        do_sample=False,
        prefix_allowed_tokens_fn=following,
        eos_token_id=end,
        pad_token_id=end,
    )
    return str(tokenizer.decode(written[0, prompt.shape[1] :], skip_special_tokens=True))


@pytest.mark.parametrize("choices", [RATINGS, NAMES, NESTED])
def test_answers_are_those_of_constrained_generation(
    tiny_model: Path, choices: tuple[str, ...]
) -> None:
    requests = [request(text, choices) for text in TEXTS]
    found = answers(HfBackend(str(tiny_model)), requests)
    for one in requests:
        reply = found[key(one)]
        assert isinstance(reply, Reply)
        assert reply.text == by_generation(tiny_model, one)
        assert reply.finish_reason == "stop"


def test_different_choices_in_one_batch_and_any_order(tiny_model: Path) -> None:
    requests = [request(text, c) for text, c in product(TEXTS, (RATINGS, NAMES, NESTED))]
    forward = answers(HfBackend(str(tiny_model)), requests)
    backward = answers(HfBackend(str(tiny_model), batch_tokens=100), requests[::-1])
    texts = {one: reply.text for one, reply in forward.items() if isinstance(reply, Reply)}
    assert len(texts) == 12
    assert texts == {one: reply.text for one, reply in backward.items()}  # type: ignore[union-attr]


def test_logprobs_are_those_of_the_model(tiny_model: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    one = request("What is tea?", logprobs=320)
    [reply] = answers(HfBackend(str(tiny_model)), [one]).values()
    assert isinstance(reply, Reply)
    assert reply.logprobs is not None
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()
    text = "<|im_start|>user\nWhat is tea?<|im_end|>\n<|im_start|>assistant\n"
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        expected = torch.log_softmax(model(ids).logits[0, -1], dim=0)
    given = dict(reply.logprobs)
    for rating in RATINGS:
        [token] = tokenizer(rating, add_special_tokens=False)["input_ids"]
        assert given[rating] == pytest.approx(float(expected[token]), abs=1e-4)
    values = [value for _, value in reply.logprobs]
    assert values == sorted(values, reverse=True)
    assert reply.text == max(RATINGS, key=lambda rating: given[rating])


def test_without_choices_it_writes_and_marks_what_was_cut(tiny_model: Path) -> None:
    requests = [request(text, None, max_tokens=n) for text in TEXTS for n in (1, 8)]
    found = answers(HfBackend(str(tiny_model)), requests)
    for one in requests:
        reply = found[key(one)]
        assert isinstance(reply, Reply)
        assert reply.completion_tokens is not None
        if reply.finish_reason == "length":
            assert reply.completion_tokens == one.sampling.max_tokens
        else:
            assert reply.completion_tokens <= one.sampling.max_tokens
    alone = [answers(HfBackend(str(tiny_model)), [one])[key(one)] for one in requests]
    assert [found[key(one)] for one in requests] == alone


def test_drawing_depends_on_the_seed_and_nothing_else(tiny_model: Path) -> None:
    def drawn(seed: int, texts: Iterable[str]) -> list[str]:
        requests = [request(text, temperature=5.0, seed=seed) for text in texts]
        found = answers(HfBackend(str(tiny_model)), requests)
        return [reply.text for one in requests if isinstance(reply := found[key(one)], Reply)]

    texts = [f"Question {n}?" for n in range(30)]
    first = drawn(1, texts)
    assert len(set(first)) > 1
    assert first == drawn(1, texts[::-1])[::-1]
    assert first != drawn(2, texts)


def test_a_request_longer_than_the_model_is_a_failure_with_the_numbers(tiny_model: Path) -> None:
    long, short = request("x " * 300), request("x")
    found = answers(HfBackend(str(tiny_model)), [long, short])
    failure = found[key(long)]
    assert isinstance(failure, Failure)
    assert failure.kind == "bad_request"
    assert failure.detail.endswith("has room for 256")
    assert isinstance(found[key(short)], Reply)


def test_a_template_that_refuses_is_a_failure(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "strict"
    shutil.copytree(tiny_model, folder)
    template = "{{ raise_exception('no system turns') }}"
    (folder / "chat_template.jinja").write_text(template)
    [failure] = answers(HfBackend(str(folder)), [request("x")]).values()
    assert isinstance(failure, Failure)
    assert "no system turns" in failure.detail


def test_memory_that_runs_out_halves_the_batch(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    backend = HfBackend(str(tiny_model))
    real = backend._choose
    sizes = []

    def small_memory(batch: list[object]) -> object:
        sizes.append(len(batch))
        if len(batch) > 2:
            raise torch.OutOfMemoryError
        return real(batch)  # type: ignore[arg-type]

    monkeypatch.setattr(backend, "_choose", small_memory)
    found = answers(backend, [request(f"Question {n}?") for n in range(8)])
    assert sum(isinstance(reply, Reply) for reply in found.values()) == 8
    assert sizes == [8, 4, 2, 2, 4, 2, 2]


def test_the_identity_is_the_content(tiny_model: Path, tmp_path: Path) -> None:
    backend = load_backend(f"hf:{tiny_model}")
    asyncio.run(backend.check())
    assert backend.identity["backend"] == "hf"
    assert backend.identity["decoding"] == "choices"
    copy = tmp_path / "copy"
    shutil.copytree(tiny_model, copy)
    (copy / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    assert load_backend(f"hf:{copy}").identity["checkpoint"] != backend.identity["checkpoint"]


def test_a_model_without_a_chat_template_cannot_judge(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "plain"
    shutil.copytree(tiny_model, folder)
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(BackendError, match="has no chat template"):
        asyncio.run(HfBackend(str(folder)).check())


def test_a_missing_checkpoint_is_named() -> None:
    with pytest.raises(ModelError, match="there is no checkpoint at nowhere"):
        load_backend("hf:nowhere")
