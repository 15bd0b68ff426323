"""The base model: built once per test session through the cache, then only read."""

import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mipo_eval import settings
from mipo_eval.demo import world
from mipo_eval.demo.checker import rate
from mipo_eval.demo.model import base_model_folder, build_base_model
from mipo_eval.demo.pretraining import Recipe, batches, examples, followed_share, make_tokenizer
from mipo_eval.demo.reading import incoherence, read
from mipo_eval.demo.rules import SATISFIED
from mipo_eval.errors import ConfigError
from mipo_eval.records import Item
from mipo_eval.tasks.query import Prompting, render_query

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

torch = pytest.importorskip("torch")

RENDER: Callable[[Item], str] = functools.partial(render_query, prompting="personalized")
LONGEST, USUAL = 256, 160
"""Tokens: what the demo's tasks allow (tasks/_personalization.yaml), and what answers need."""
TINY = Recipe(steps=3, batch=4, vocabulary=400, hidden=32, intermediate=64, layers=1, heads=2)


@pytest.fixture
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv(settings.CACHE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def base_model() -> "tuple[Qwen2ForCausalLM, PreTrainedTokenizerFast]":
    """The demo's base model; trained by the first test that asks for it."""
    return load(build_base_model(RENDER))


def load(folder: Path) -> "tuple[Qwen2ForCausalLM, PreTrainedTokenizerFast]":
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


def generate(
    model: "Qwen2ForCausalLM",
    tokenizer: "PreTrainedTokenizerFast",
    turns: list[str],
    **options: Any,
) -> list[str]:
    tokenizer.padding_side = "left"
    texts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": turn}], tokenize=False, add_generation_prompt=True
        )
        for turn in turns
    ]
    inputs = tokenizer(texts, return_tensors="pt", padding=True, return_token_type_ids=False)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        found = model.generate(**inputs, max_new_tokens=LONGEST, **options)
    answers = found[:, inputs["input_ids"].shape[1] :]
    ended = answers == tokenizer.eos_token_id
    assert ended.any(dim=1).all(), "an answer has no end"
    rambling = (~ended[:, :USUAL].any(dim=1)).float().mean()
    assert rambling <= 0.02, "lists that go round in circles are rare"
    return [str(tokenizer.decode(row, skip_special_tokens=True)) for row in answers]


def satisfied(items: list[Item], answers: list[str]) -> float:
    ratings = [
        rate(item.prompt, answer, wish)
        for item, answer in zip(items, answers, strict=True)
        for wish in item.preferences
    ]
    return sum(rating >= SATISFIED for rating in ratings) / len(ratings)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "least"),
    [
        ({"do_sample": False}, 0.3),
        # What is drawn at temperature 1 slips more often than what is likeliest.
        ({"do_sample": True, "temperature": 1.0, "top_k": 0}, 0.25),
    ],
)
def test_answers_held_out_topics_and_follows_about_half_of_the_wishes(
    base_model: "tuple[Qwen2ForCausalLM, PreTrainedTokenizerFast]",
    options: dict[str, Any],
    least: float,
) -> None:
    items = list(world.items("test"))
    share: dict[Prompting, float] = {}
    for prompting in ("personalized", "default"):
        turns = [render_query(item, prompting) for item in items]
        answers = generate(*base_model, turns, **options)
        coherent = [
            incoherence(read(answer), item.prompt, "") is None
            for item, answer in zip(items, answers, strict=True)
        ]
        assert sum(coherent) / len(coherent) >= 0.8
        share[prompting] = satisfied(items, answers)
    assert least <= share["personalized"] <= 0.6
    assert share["default"] <= 0.15


@pytest.mark.slow
def test_samples_differ(
    base_model: "tuple[Qwen2ForCausalLM, PreTrainedTokenizerFast]",
) -> None:
    turns = [RENDER(next(world.items("test")))] * 32
    answers = generate(*base_model, turns, do_sample=True, temperature=1.0, top_k=0)
    assert len(set(answers)) >= 28


@pytest.mark.slow
def test_has_about_a_million_parameters_and_all_a_checkpoint_needs(
    base_model: "tuple[Qwen2ForCausalLM, PreTrainedTokenizerFast]",
) -> None:
    model, tokenizer = base_model
    assert 0.7e6 < model.num_parameters() < 1.1e6
    assert len(tokenizer) <= 1024
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert model.generation_config.pad_token_id == tokenizer.pad_token_id
    files = {path.name for path in build_base_model(RENDER).iterdir()}
    assert {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
    } <= files


@pytest.mark.slow
def test_cached_model_is_returned_at_once_and_loads_alike(
    base_model: "tuple[Qwen2ForCausalLM, PreTrainedTokenizerFast]",
) -> None:
    def never(done: int, total: int) -> None:
        raise AssertionError("trained again")

    again, _ = load(build_base_model(RENDER, progress=never))
    turn = torch.tensor([[5, 6, 7, 8]])
    assert torch.equal(base_model[0](turn).logits, again(turn).logits)


def test_the_same_recipe_gives_the_same_weights(own_cache: Path) -> None:
    first = build_base_model(RENDER, recipe=TINY)
    weights = (first / "model.safetensors").read_bytes()
    first.rename(own_cache / "kept")
    torch.manual_seed(123)  # the caller's generator is neither used nor touched
    before = torch.random.get_rng_state()
    second = build_base_model(RENDER, recipe=TINY)
    assert (second / "model.safetensors").read_bytes() == weights
    assert torch.equal(torch.random.get_rng_state(), before)


def test_progress_counts_every_step(own_cache: Path) -> None:
    seen: list[tuple[int, int]] = []
    build_base_model(RENDER, recipe=TINY, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_what_decides_the_weights_decides_the_folder() -> None:
    def shouted(item: Item) -> str:
        return RENDER(item).upper()

    folders = {
        base_model_folder(RENDER),
        base_model_folder(RENDER, recipe=Recipe(seed=1)),
        base_model_folder(shouted),
    }
    assert len(folders) == 3
    assert base_model_folder(RENDER) == base_model_folder(RENDER, recipe=Recipe())


_BUILD = """
import functools, sys
from mipo_eval.demo.model import build_base_model
from mipo_eval.demo.pretraining import Recipe
from mipo_eval.tasks.query import render_query
recipe = Recipe(steps=int(sys.argv[1]), batch=4, vocabulary=400, hidden=32, intermediate=64,
                layers=1, heads=2)
render = functools.partial(render_query, prompting="personalized")
print(build_base_model(render, recipe=recipe, progress=lambda *_: print("step", flush=True)))
"""


def build_elsewhere(steps: int) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", _BUILD, str(steps)], stdout=subprocess.PIPE, text=True
    )


def test_killed_build_leaves_no_model_and_the_next_one_cleans_up(own_cache: Path) -> None:
    killed = build_elsewhere(100_000)
    assert killed.stdout is not None
    # Tokenized in full before the first step, so a large number of steps is killed on the way.
    deadline = time.monotonic() + 60
    while not list(own_cache.glob(".demo-base-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    (half_made,) = own_cache.glob(".demo-base-*")
    assert not list(own_cache.glob("demo-base-*/"))
    # The same model, built after all, leaves nothing of the first try behind.
    folder = base_model_folder(RENDER, recipe=TINY)
    half_made.rename(own_cache / f".{folder.name}-killed")
    assert build_base_model(RENDER, recipe=TINY) == folder
    assert [path.name for path in own_cache.iterdir() if path.is_dir()] == [folder.name]


def test_two_builds_at_once_train_once(own_cache: Path) -> None:
    builds = [build_elsewhere(20), build_elsewhere(20)]
    lines = [build.communicate(timeout=120)[0].split("\n") for build in builds]
    assert [build.returncode for build in builds] == [0, 0]
    assert lines[0][-2] == lines[1][-2]
    assert sorted(line.count("step") for line in lines) == [0, 20]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_cache_that_cannot_be_written_is_told(own_cache: Path) -> None:
    own_cache.mkdir()
    own_cache.chmod(0o500)
    with pytest.raises(ConfigError, match=r"cannot keep the demo model in .*MIPO_EVAL_CACHE"):
        build_base_model(RENDER, recipe=TINY)


def test_a_cache_that_is_a_file_is_told(own_cache: Path) -> None:
    own_cache.write_text("not a folder")
    with pytest.raises(ConfigError, match=r"cannot keep the demo model in .*MIPO_EVAL_CACHE"):
        build_base_model(RENDER, recipe=TINY)


def test_chat_template() -> None:
    tokenizer = make_tokenizer(iter(["How do I do it?", "Do it."]), TINY)
    turns = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Why?"},
        {"role": "assistant", "content": "So."},
    ]
    assert tokenizer.apply_chat_template(turns, tokenize=False) == (
        "<|system|>Be kind.<|end|><|user|>Why?<|end|><|assistant|>So.<|end|>"
    )
    assert tokenizer.apply_chat_template(
        turns[:2], tokenize=False, add_generation_prompt=True
    ).endswith("<|user|>Why?<|end|><|assistant|>")
    marked = tokenizer.apply_chat_template(
        turns, return_assistant_tokens_mask=True, return_dict=True
    )
    answer = [
        token
        for token, own in zip(marked["input_ids"], marked["assistant_masks"], strict=True)
        if own
    ]
    assert tokenizer.decode(answer) == "So.<|end|>"
    with pytest.raises(Exception, match="unknown role tool: use system, user or assistant"):
        tokenizer.apply_chat_template([{"role": "tool", "content": ""}])


def test_any_text_survives_the_tokenizer() -> None:
    tokenizer = make_tokenizer(iter(["How do I do it?"]), TINY)
    text = "  Ünïcode \U0001f600,\ttabs\nand **bold** - 1. lists  "
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_examples_are_what_the_chat_template_makes() -> None:
    tokenizer = make_tokenizer(iter([RENDER(world.exchange(0).item)]), Recipe())
    example = next(examples(tokenizer, RENDER, Recipe(steps=1, batch=1)))
    exchange = world.exchange(0, followed=1.0, short=True)
    whole = tokenizer.apply_chat_template(
        [
            {"role": "user", "content": RENDER(exchange.item)},
            {"role": "assistant", "content": exchange.answer},
        ],
        tokenize=False,
    )
    assert tokenizer.decode(example.tokens) == whole
    assert tokenizer.decode(example.tokens[example.prompt_length :]) == f"{exchange.answer}<|end|>"


def test_batches_hold_every_example_once() -> None:
    recipe = Recipe(steps=40, batch=4, max_tokens=4096)
    tokenizer = make_tokenizer(iter([RENDER(world.exchange(0).item)]), recipe)
    found = list(examples(tokenizer, RENDER, recipe))[:160]
    plan = batches(found, recipe)
    assert [len(batch) for batch in plan] == [4] * 40
    assert {id(one) for batch in plan for one in batch} == {id(one) for one in found}


@pytest.mark.slow
def test_almost_no_example_is_left_out_as_too_long(
    base_model: "tuple[Qwen2ForCausalLM, PreTrainedTokenizerFast]",
) -> None:
    _, tokenizer = base_model
    recipe = Recipe()
    lengths = []
    for number in range(400):
        exchange = world.exchange(number)
        lengths.append(len(tokenizer(RENDER(exchange.item) + exchange.answer)["input_ids"]) + 4)
    assert sum(length > recipe.max_tokens for length in lengths) <= 4


def test_wishes_are_followed_less_and_less_often() -> None:
    recipe = Recipe()
    shares = [followed_share(step / 20, recipe) for step in range(21)]
    assert shares[0] == 1.0
    assert shares[-1] == world.FOLLOWED
    assert shares == sorted(shares, reverse=True)
