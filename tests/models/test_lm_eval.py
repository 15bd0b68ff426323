"""Asking real (tiny) checkpoints through lm-eval: outcomes, limits, refusals."""

from pathlib import Path

import pytest

from mipo_eval.errors import ConfigError, ModelError
from mipo_eval.models.chat import read_chat_template
from mipo_eval.models.lm_eval import (
    ENGINE_SETTINGS,
    Decoding,
    LoadedModel,
    ModelOptions,
    decoding_for,
    generation_spec,
    load_model,
    load_task,
)
from mipo_eval.models.spec import ModelSpec, parse_model
from mipo_eval.records import Item
from mipo_eval.tasks.items import write_items

ITEMS = [
    Item(item_id="a", prompt="What is tea?", context="Be short."),
    Item(item_id="b", prompt="Why do birds sing? " * 40),
    Item(item_id="c", prompt="Why do birds sing?", context="Be kind."),
    Item(item_id="same-as-c", prompt="Why do birds sing?", context="Be kind."),
]


def _spec(name: str | Path) -> ModelSpec:
    return parse_model(str(name))


@pytest.fixture
def items_file() -> Path:
    path = Path("items.jsonl")
    write_items(path, ITEMS)
    return path


def _load(model: Path, decoding: Decoding, **options: int) -> LoadedModel:
    return load_model(_spec(model), ModelOptions(**options), decoding)


def _task(path: Path, decoding: Decoding, **metadata: str) -> object:
    return load_task("mipo_items", {"source": str(path), **metadata}, decoding)


def test_each_response_says_how_it_ended(tiny_model: Path, items_file: Path) -> None:
    decoding = Decoding(max_tokens=8)
    task = _task(items_file, decoding)
    responses = _load(tiny_model, decoding, batch_size=3).ask(task, range(4))
    assert [response.item_key for response in responses] == [item.key for item in ITEMS]
    first, too_long, third, twin = responses
    assert too_long.text is None
    assert too_long.reason == "prompt longer than the model's context"
    assert too_long.final
    assert too_long.prompt_tokens is not None
    assert too_long.prompt_tokens > 256 - 8
    for response in (first, third):
        assert response.text is not None
        assert response.finish_reason == "length"
        assert response.response_tokens == 8
    assert (third.text, third.prompt_hash) == (twin.text, twin.prompt_hash)
    assert first.prompt_hash != third.prompt_hash


def test_a_response_that_stops_by_itself(tiny_model: Path, items_file: Path) -> None:
    from transformers import AutoTokenizer

    decoding = Decoding(max_tokens=8)
    model = _load(tiny_model, decoding)
    task = _task(items_file, decoding)
    # Making the model's own first token its end token ends the same response at once.
    (whole,) = model.ask(task, [0])
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    assert whole.text is not None
    hf = model._lm
    context = task.instances[0].args[0]  # type: ignore[attr-defined]
    prompt, _ = hf.tok_batch_encode([context])
    first_token = int(hf.model(prompt).logits[0, -1].argmax())
    hf.model.generation_config.eos_token_id = [tokenizer.eos_token_id, first_token]
    (stopped,) = model.ask(task, [0])
    assert (stopped.finish_reason, stopped.response_tokens) == ("stop", 0)


def test_default_prompting_leaves_the_context_out(tiny_model: Path, items_file: Path) -> None:
    task = _task(items_file, Decoding(), prompting="default")
    queries = [document["query"] for document in task.eval_docs]  # type: ignore[attr-defined]
    assert all("Be short." not in query for query in queries)
    assert queries[2] == queries[3]
    personalized = _task(items_file, Decoding()).eval_docs[0]["query"]  # type: ignore[attr-defined]
    assert "Be short." in personalized


def test_the_same_seed_draws_the_same_sample(tiny_model: Path, items_file: Path) -> None:
    def texts(seed: int) -> list[str | None]:
        decoding = Decoding(max_tokens=12, temperature=1.0, seed=seed)
        model = _load(tiny_model, decoding)
        return [r.text for r in model.ask(_task(items_file, decoding), [0, 2])]

    assert texts(1) == texts(1)
    assert texts(1) != texts(2)


def test_chunks_are_some_batches(tiny_model: Path) -> None:
    assert _load(tiny_model, Decoding(), batch_size=5).chunk_size == 20


@pytest.mark.parametrize(
    ("settings", "length", "expected"),
    [({}, 512, 256), ({}, 100, 50), ({}, None, 256), ({"max_tokens": 90}, 100, 90)],
)
def test_the_default_leaves_room_for_the_prompt(
    settings: dict[str, float], length: int | None, expected: int
) -> None:
    spec = ModelSpec(name="m", engine="hf", target="m", identity={}, max_length=length)
    assert decoding_for(spec, settings, seed=0).max_tokens == expected


def test_a_response_that_fills_the_context_is_refused() -> None:
    spec = ModelSpec(name="m", engine="hf", target="m", identity={}, max_length=100)
    with pytest.raises(
        ConfigError, match=r"max_tokens=100 leaves no room .* context of 100 tokens"
    ):
        decoding_for(spec, {"max_tokens": 100}, seed=0)


def test_a_checkpoint_without_a_chat_template(tmp_path: Path) -> None:
    from tests.small_models import make_model

    bare = make_model(tmp_path / "bare", template=None)
    with pytest.raises(
        ModelError, match="no chat template: give one with --engine chat_template=FILE"
    ):
        _load(bare, Decoding())
    template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    loaded = load_model(_spec(bare), ModelOptions(chat_template=template), Decoding(max_tokens=4))
    write_items(Path("items.jsonl"), ITEMS[:1])
    (response,) = loaded.ask(_task(Path("items.jsonl"), Decoding(max_tokens=4)), [0])
    assert response.text is not None


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot be read: No such file"), (b"{% for %}", "is not a Jinja"), (b"\xff", "is not")],
)
def test_bad_chat_templates(content: bytes | None, message: str) -> None:
    path = Path("template.jinja")
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_chat_template(path)


def test_weights_that_do_not_fit_the_configuration(tmp_path: Path) -> None:
    from tests.small_models import make_model

    broken = make_model(tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"not a tensor in sight" * 10_000)
    with pytest.raises(ModelError, match="cannot be loaded: "):
        _load(broken, Decoding())


def test_engine_settings_are_lm_evals_own() -> None:
    import inspect

    from lm_eval.models.huggingface import HFLM

    ours = {"chat_template"}
    of_transformers = {"attn_implementation"}  # lm-eval hands on what it does not know
    taken = inspect.signature(HFLM).parameters.keys()
    assert ENGINE_SETTINGS["hf"].keys() <= taken | ours | of_transformers


def test_what_says_where_and_how_fast_makes_no_other_responses(tiny_model: Path) -> None:
    def spec(**arguments: object) -> object:
        options = ModelOptions(arguments=arguments)  # type: ignore[arg-type]
        return generation_spec(_spec(tiny_model), options, Decoding(), asking={})

    assert spec(parallelize=True, offload_folder="x") == spec()
    assert spec(max_length=128) != spec()


def test_engine_settings_reach_the_model(tiny_model: Path) -> None:
    options = ModelOptions(arguments={"max_length": 128, "add_bos_token": False})
    loaded = load_model(_spec(tiny_model), options, Decoding(max_tokens=4))
    assert (loaded._lm.max_length, loaded._lm.add_bos_token) == (128, False)
