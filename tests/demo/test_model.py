"""The base model: the one that ships, and the recipe that makes another like it."""

import json
import os
import shutil
import signal
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from mipo_eval import settings
from mipo_eval.demo import model as demo_model
from mipo_eval.demo import world
from mipo_eval.demo.model import base_model, rebuild_base_model, rebuilt_folder
from mipo_eval.demo.pretraining import (
    PretrainingRecipe,
    batches,
    examples,
    followed_share,
    make_model,
    make_tokenizer,
    tokenizer_texts,
    train,
)
from mipo_eval.demo.rules import incoherence, rate
from mipo_eval.errors import ConfigError, ModelError
from mipo_eval.marks import read
from mipo_eval.models.spec import parse_model
from mipo_eval.records import Item
from mipo_eval.tasks.prompt import Prompting, render_query
from mipo_eval.verdict import SATISFIED
from tests.demo.ship_base_model import MADE_BY, RENDER, made_by
from tests.waiting import HANG, wait_until

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

LONGEST = 160
"""Tokens that the demo's suite allows; lists that go round in circles are cut there."""
TINY = PretrainingRecipe(
    steps=3, batch=4, vocabulary=400, hidden=32, intermediate=64, layers=1, heads=2
)


@pytest.fixture
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv(settings.CACHE, str(tmp_path / "cache"))
    return tmp_path / "cache"


Loaded = tuple["Qwen2ForCausalLM", "PreTrainedTokenizerFast"]


@pytest.fixture(scope="module")
def shipped() -> Loaded:
    """The base model that ships, as everything loads it."""
    return load(base_model())


def load(folder: Path) -> Loaded:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    return model, AutoTokenizer.from_pretrained(folder)


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
    ended = (answers == tokenizer.eos_token_id).any(dim=1)
    assert (~ended).float().mean() <= 0.02, "lists that go round in circles are rare"
    return [str(tokenizer.decode(row, skip_special_tokens=True)) for row in answers]


def satisfied(items: list[Item], answers: list[str]) -> float:
    ratings = [
        rate(item.prompt, answer, wish)
        for item, answer in zip(items, answers, strict=True)
        for wish in item.preferences
    ]
    return sum(rating >= SATISFIED for rating in ratings) / len(ratings)


@pytest.mark.slow
def test_the_shipped_model_follows_about_half_of_the_wishes(shipped: Loaded) -> None:
    _answers_and_follows_about_half_of_the_wishes(shipped)


FIRST_LOSSES = (
    *(7.00088, 6.93871, 6.81020, 6.70927, 6.62662, 6.35986, 6.22684, 6.10955),
    *(6.03504, 5.88288, 5.82917, 5.67698, 5.86369, 5.97203, 6.02836, 5.76033),
)
"""Nats per token, of the training that made the shipped model; equal with AVX2 and AVX-512."""


def test_the_recipe_begins_as_it_did_for_the_shipped_model() -> None:
    recipe = PretrainingRecipe()
    tokenizer = make_tokenizer(tokenizer_texts(RENDER, recipe), recipe)
    assert tokenizer.get_vocab() == load(base_model())[1].get_vocab()
    found = list(islice(examples(tokenizer, RENDER, recipe), len(FIRST_LOSSES) * recipe.batch))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = make_model(tokenizer, recipe)
    losses = train(model, batches(found, recipe), recipe, None)
    assert losses == pytest.approx(FIRST_LOSSES, rel=1e-3)


@pytest.mark.rebuild
def test_a_rebuilt_model_behaves_like_the_shipped_one(own_cache: Path) -> None:
    """The only test that makes one in full."""
    rebuilt = load(rebuild_base_model(RENDER))
    assert rebuilt[1].get_vocab() == load(base_model())[1].get_vocab()
    _answers_and_follows_about_half_of_the_wishes(rebuilt)


def _answers_and_follows_about_half_of_the_wishes(loaded: Loaded) -> None:
    items = list(world.items("test"))
    cases: list[tuple[Prompting, dict[str, Any], float, float]] = [
        ("personalized", {"do_sample": False}, 0.3, 0.6),
        # What is drawn at temperature 1 slips more often than what is likeliest.
        ("personalized", {"do_sample": True, "temperature": 1.0, "top_k": 0}, 0.25, 0.6),
        ("default", {"do_sample": False}, 0.0, 0.15),
    ]
    for prompting, options, least, most in cases:
        turns = [render_query(item, prompting) for item in items]
        answers = generate(*loaded, turns, **options)
        coherent = [
            incoherence(read(answer), item.prompt, "") is None
            for item, answer in zip(items, answers, strict=True)
        ]
        assert sum(coherent) / len(coherent) >= 0.8
        assert least <= satisfied(items, answers) <= most, (prompting, options)


def test_samples_differ(shipped: Loaded) -> None:
    turns = [RENDER(next(world.items("test")))] * 32
    answers = generate(*shipped, turns, do_sample=True, temperature=1.0, top_k=0)
    assert len(set(answers)) >= 28


def test_has_about_a_million_parameters_and_all_a_checkpoint_needs(shipped: Loaded) -> None:
    model, tokenizer = shipped
    assert 0.7e6 < model.num_parameters() < 1.1e6
    assert len(tokenizer) <= 1024
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert model.generation_config.pad_token_id == tokenizer.pad_token_id
    assert tokenizer.chat_template
    assert sum(file.stat().st_size for file in base_model().iterdir()) < 2e6


def test_is_stored_as_bf16_and_read_as_float32(shipped: Loaded) -> None:
    """So its numbers are the same on every processor, and no processor is slow at them."""
    from safetensors.torch import load_file

    stored = load_file(base_model() / "model.safetensors")
    assert {weight.dtype for weight in stored.values()} == {torch.bfloat16}
    assert {weight.dtype for weight in shipped[0].parameters()} == {torch.float32}


def test_a_changed_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    copy = tmp_path / "demo" / "base_model"
    shutil.copytree(base_model(), copy)
    monkeypatch.setattr(demo_model.resources, "files", lambda _: copy.parent)
    assert base_model() == copy
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"rope_theta": 1.0}))
    with pytest.raises(ModelError, match=r"not the one that ships: install mipo-eval again"):
        parse_model("demo")
    shutil.rmtree(copy)
    with pytest.raises(ModelError, match="install mipo-eval again"):
        parse_model("demo")


def test_the_shipped_model_learned_what_the_recipe_says() -> None:
    """Where this fails, world, recipe or query wording have changed: `make base-model`."""
    recorded = json.loads((base_model() / MADE_BY).read_text())
    assert {key: recorded[key] for key in ("recipe", "text")} == made_by()


def test_the_same_recipe_gives_the_same_weights(own_cache: Path) -> None:
    first = rebuild_base_model(RENDER, recipe=TINY)
    weights = (first / "model.safetensors").read_bytes()
    first.rename(own_cache / "kept")
    torch.manual_seed(123)  # the caller's generator is neither used nor touched
    before = torch.random.get_rng_state()
    second = rebuild_base_model(RENDER, recipe=TINY)
    assert (second / "model.safetensors").read_bytes() == weights
    assert torch.equal(torch.random.get_rng_state(), before)


def test_progress_counts_every_step(own_cache: Path) -> None:
    seen: list[tuple[int, int]] = []
    rebuild_base_model(RENDER, recipe=TINY, on_step=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_what_decides_the_weights_decides_the_folder() -> None:
    def shouted(item: Item) -> str:
        return RENDER(item).upper()

    folders = {
        rebuilt_folder(RENDER),
        rebuilt_folder(RENDER, recipe=PretrainingRecipe(seed=1)),
        rebuilt_folder(shouted),
    }
    assert len(folders) == 3
    assert rebuilt_folder(RENDER) == rebuilt_folder(RENDER, recipe=PretrainingRecipe())


_BUILD = """
import functools, sys
from mipo_eval.demo.model import rebuild_base_model
from mipo_eval.demo.pretraining import PretrainingRecipe
from mipo_eval.tasks.prompt import render_query
recipe = PretrainingRecipe(steps=int(sys.argv[1]), batch=4, vocabulary=400, hidden=32,
                           intermediate=64, layers=1, heads=2)
render = functools.partial(render_query, prompting="personalized")
print(rebuild_base_model(render, recipe=recipe, on_step=lambda *_: print("step", flush=True)))
"""


def build_elsewhere(steps: int) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", _BUILD, str(steps)], stdout=subprocess.PIPE, text=True
    )


def test_killed_build_leaves_no_model_and_the_next_one_cleans_up(own_cache: Path) -> None:
    killed = build_elsewhere(100_000)
    assert killed.stdout is not None
    # Tokenized in full before the first step, so a large number of steps is killed on the way.
    wait_until(lambda: bool(list(own_cache.glob(".demo-base-*"))), what="a build that has begun")
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    (half_made,) = own_cache.glob(".demo-base-*")
    assert not list(own_cache.glob("demo-base-*/"))
    # The same model, built after all, leaves nothing of the first try behind.
    folder = rebuilt_folder(RENDER, recipe=TINY)
    half_made.rename(own_cache / f".{folder.name}-killed")
    assert rebuild_base_model(RENDER, recipe=TINY) == folder
    assert [path.name for path in own_cache.iterdir() if path.is_dir()] == [folder.name]


def test_two_builds_at_once_train_once(own_cache: Path) -> None:
    builds = [build_elsewhere(20), build_elsewhere(20)]
    lines = [build.communicate(timeout=HANG)[0].split("\n") for build in builds]
    assert [build.returncode for build in builds] == [0, 0]
    assert lines[0][-2] == lines[1][-2]
    assert sorted(line.count("step") for line in lines) == [0, 20]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_cache_that_cannot_be_written_is_told(own_cache: Path) -> None:
    own_cache.mkdir()
    own_cache.chmod(0o500)
    with pytest.raises(ConfigError, match=r"the demo model cannot be written to .*MIPO_EVAL_CACHE"):
        rebuild_base_model(RENDER, recipe=TINY)


def test_a_cache_that_is_a_file_is_told(own_cache: Path) -> None:
    own_cache.write_text("not a folder")
    with pytest.raises(ConfigError, match=r"the demo model cannot be written to .*MIPO_EVAL_CACHE"):
        rebuild_base_model(RENDER, recipe=TINY)


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
    tokenizer = make_tokenizer(iter([RENDER(world.exchange(0).item)]), PretrainingRecipe())
    recipe = PretrainingRecipe(steps=1, batch=1, max_tokens=4096)
    example = next(examples(tokenizer, RENDER, recipe))
    exchange = world.exchange(0, seed=recipe.seed, followed=1.0, short=True)
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
    recipe = PretrainingRecipe(steps=40, batch=4, max_tokens=4096)
    tokenizer = make_tokenizer(iter([RENDER(world.exchange(0).item)]), recipe)
    found = list(examples(tokenizer, RENDER, recipe))[:160]
    plan = batches(found, recipe)
    assert [len(batch) for batch in plan] == [4] * 40
    assert {id(one) for batch in plan for one in batch} == {id(one) for one in found}


def test_almost_no_example_is_left_out_as_too_long(shipped: Loaded) -> None:
    _, tokenizer = shipped
    recipe = PretrainingRecipe()
    lengths = []
    for number in range(400):
        exchange = world.exchange(number)
        lengths.append(len(tokenizer(RENDER(exchange.item) + exchange.answer)["input_ids"]) + 4)
    assert sum(length > recipe.max_tokens for length in lengths) <= 4


def test_wishes_are_followed_less_and_less_often() -> None:
    recipe = PretrainingRecipe()
    shares = [followed_share(step / 20, recipe) for step in range(21)]
    assert shares[0] == 1.0
    assert shares[-1] == world.FOLLOWED
    assert shares == sorted(shares, reverse=True)
