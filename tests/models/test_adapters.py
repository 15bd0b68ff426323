"""Adapters on their bases, revisions of the hub, quantised weights: all are named like models."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from mipo_eval.checkpoints import find_checkpoint, split_revision
from mipo_eval.errors import BackendError, ModelError
from mipo_eval.models.base import Message, Reply, Request, Sampling
from mipo_eval.models.hf import HfBackend
from mipo_eval.models.lm_eval import Decoding, ModelOptions, load_model, load_task
from mipo_eval.models.spec import parse_model, read_name
from mipo_eval.models.vllm import adapter_arguments
from mipo_eval.records import Item
from mipo_eval.tasks.items import write_items
from mipo_eval.tasks.likelihood import ScoringModel, TokenPair
from tests.small_models import make_adapter, make_model

ITEMS = [Item(item_id="a", prompt="What is tea?"), Item(item_id="b", prompt="Why do birds sing?")]


@pytest.fixture(scope="session")
def adapter(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter on `tiny_model`, which its configuration names. Read only."""
    return make_adapter(tmp_path_factory.mktemp("adapters") / "adapter", tiny_model)


@pytest.fixture(scope="session")
def merged(tiny_model: Path, adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a whole checkpoint, by peft's own hand. Read only."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("adapters") / "merged"
    shutil.copytree(tiny_model, folder)
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    PeftModel.from_pretrained(base, str(adapter)).merge_and_unload().save_pretrained(folder)
    return folder


def _texts(name: object) -> list[str | None]:
    write_items(Path("items.jsonl"), ITEMS)
    decoding = Decoding(max_tokens=12)
    loaded = load_model(parse_model(str(name)), ModelOptions(), decoding)
    task = load_task("mipo_items", {"source": "items.jsonl"}, decoding)
    return [response.text for response in loaded.ask(task, [0, 1])]


def test_an_adapter_is_evaluated_on_its_base(tiny_model: Path, adapter: Path, merged: Path) -> None:
    assert _texts(adapter) == _texts(merged) != _texts(tiny_model)


def _replies(name: object) -> list[Any]:
    message = (Message(role="user", content="Rate this."),)
    requests = [
        Request(messages=message, choices=("1", "2", "3"), sampling=Sampling(logprobs=2)),
        Request(messages=message, sampling=Sampling(max_tokens=12)),
    ]

    async def ask() -> list[Any]:
        backend = HfBackend(str(name))
        await backend.check()
        return [reply async for _, reply in backend.answer(requests)]

    replies = asyncio.run(ask())
    assert all(isinstance(reply, Reply) for reply in replies)
    return [
        (reply.text, [(token, pytest.approx(p, abs=1e-3)) for token, p in reply.logprobs or ()])
        for reply in replies
    ]


def test_an_adapter_judges(tiny_model: Path, adapter: Path, merged: Path) -> None:
    assert _replies(adapter) == _replies(merged) != _replies(tiny_model)


def test_an_adapter_scores(adapter: Path, merged: Path) -> None:
    pairs = [TokenPair([3, 4, 5], [6, 7, 8])]
    first, second = (ScoringModel.load(str(name)).logprobs(pairs) for name in (adapter, merged))
    assert first == pytest.approx(second, abs=1e-3)


def test_an_adapter_is_its_content_and_its_bases(tiny_model: Path, adapter: Path) -> None:
    shutil.copytree(tiny_model, "base")
    shutil.copytree(adapter, "moved")
    name = "./moved,base=./base"
    whole = parse_model(name).identity
    assert whole == parse_model(str(adapter)).identity
    assert whole.keys() == {"engine", "checkpoint", "adapter"}
    _touch(Path("moved/adapter_model.safetensors"))
    other_adapter = parse_model(name).identity
    assert other_adapter["checkpoint"] == whole["checkpoint"]
    assert other_adapter["adapter"] != whole["adapter"]
    _touch(Path("base/model.safetensors"))
    assert parse_model(name).identity["checkpoint"] != whole["checkpoint"]


def _touch(weights: Path) -> None:
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)


def test_a_base_is_given_named_or_beside(tiny_model: Path, adapter: Path) -> None:
    found = find_checkpoint(str(adapter))
    assert (found.folder, found.adapter, found.tokenizer) == (tiny_model, adapter, tiny_model)
    shutil.copytree(tiny_model, "run/base")
    shutil.copytree(adapter, "run/adapter")
    _configure(Path("run/adapter"), base_model_name_or_path="base")
    assert find_checkpoint("run/adapter").folder == Path("run/base")
    assert find_checkpoint(f"run/adapter,base={tiny_model}").folder == tiny_model
    shutil.copy("run/base/tokenizer.json", "run/adapter")
    assert find_checkpoint("run/adapter").tokenizer == Path("run/adapter")


def _configure(folder: Path, **changes: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "name", "message"),
    [
        ({"base_model_name_or_path": None}, "ad", "names no base .* write ad,base=NAME"),
        ({"base_model_name_or_path": "./gone"}, "ad", "an adapter of ./gone, which cannot be had"),
        ({"base_model_name_or_path": "org/gone"}, "ad", "name its base by ad,base=NAME"),
        ({"base_model_name_or_path": "ad"}, "ad,base=other", "an adapter on other, an adapter too"),
        ({}, "model,base=ad", "model is no adapter and has no base: leave ,base=ad out"),
    ],
)
def test_adapters_without_a_base(
    tiny_model: Path, adapter: Path, changes: dict[str, Any], name: str, message: str
) -> None:
    shutil.copytree(tiny_model, "model")
    shutil.copytree(adapter, "other")
    shutil.copytree(adapter, "ad")
    _configure(Path("ad"), **changes)
    with pytest.raises(ModelError, match=message):
        parse_model(f"hf:{name}")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (("model.safetensors",), "holds a whole model and an adapter"),
        (("adapter_model.bin",), "only adapter_model.bin, which may run code when read"),
        ((), r"has no adapter_model.safetensors \(none\)"),
    ],
)
def test_folders_that_are_no_adapter(files: tuple[str, ...], message: str) -> None:
    folder = Path("adapter")
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    for file in files:
        (folder / file).write_text("x")
    with pytest.raises(ModelError, match=message):
        parse_model("./adapter")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"enable_lora": True, "max_lora_rank": 8}),
        ({"r": 33}, {"enable_lora": True, "max_lora_rank": 64}),
        ({"r": 8, "rank_pattern": {"q": 17}}, {"enable_lora": True, "max_lora_rank": 32}),
        ({"peft_type": "IA3"}, "vLLM cannot run the adapter"),
        ({"use_dora": True}, "DoRA"),
        ({"r": 1024}, "LORA of rank 1024"),
    ],
)
def test_what_vllm_is_told_of_an_adapter(
    adapter: Path, changes: dict[str, Any], expected: dict[str, Any] | str
) -> None:
    shutil.copytree(adapter, "ad")
    _configure(Path("ad"), **changes)
    found = find_checkpoint("ad")
    if isinstance(expected, dict):
        assert adapter_arguments(found) == expected
        return
    with pytest.raises(ModelError, match=expected):
        adapter_arguments(found)


def test_vllm_is_told_nothing_of_a_whole_model(tiny_model: Path) -> None:
    assert adapter_arguments(find_checkpoint(str(tiny_model))) == {}


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("out/adapter,base=org/m", "adapter"),
        ("hf:out/adapter,base=org/m@v1", "adapter"),
        ("org/m@v1.0", "m@v1.0"),
        ("hf:org/m@v1.0", "m@v1.0"),
        ("mine/judge.yaml@http://h:1", "judge.yaml"),
    ],
)
def test_what_tables_call_them(name: str, label: str) -> None:
    assert read_name(name).label == label


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tiny_model: Path) -> Path:
    """A cache of the hub with two revisions of org/m."""
    import huggingface_hub.constants

    cache = Path("hub").absolute()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    repository = cache / "models--org--m"
    (repository / "refs").mkdir(parents=True)
    for revision, commit in (("main", "a" * 40), ("v2", "b" * 40)):
        (repository / "refs" / revision).write_text(commit)
        shutil.copytree(tiny_model, repository / "snapshots" / commit)
    _touch(repository / "snapshots" / ("b" * 40) / "model.safetensors")
    return cache


@pytest.mark.parametrize("kind", ["", "hf:", "vllm:"])
def test_a_revision_is_a_model_of_its_own(hub: Path, kind: str) -> None:
    main, second = parse_model(f"{kind}org/m"), parse_model(f"{kind}org/m@v2")
    assert Path(main.target).name == "a" * 40
    assert Path(second.target).name == "b" * 40
    assert main.identity != second.identity
    assert parse_model(f"{kind}org/m@{'b' * 40}").identity == second.identity


def test_revisions_judge_are_bases_and_have_costs(hub: Path, adapter: Path) -> None:
    from mipo_eval.training.memory import estimate_memory
    from mipo_eval.training.recipes import Optimization

    assert HfBackend("org/m@v2").identity["model"] == "org/m@v2"
    assert find_checkpoint(f"{adapter},base=org/m@v2").folder.name == "b" * 40
    shutil.copytree(adapter, "ad")
    _configure(Path("ad"), base_model_name_or_path="org/m", revision="v2")
    assert find_checkpoint("ad").folder.name == "b" * 40
    sizes = {
        estimate_memory(name, Optimization()).parameters for name in ("org/m@v2", "ad", "org/m")
    }
    assert len(sizes) == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("org/m@gone", "org/m is neither a folder here nor .* at revision gone"),
        ("./model@v1", "./model is a folder, which has no revision v1"),
        ("m.gguf", r"m.gguf is a GGUF file.*llama-server -m m.gguf.*gguf_file=m.gguf"),
        ("./quants", "quants/q4.gguf is a GGUF file"),
    ],
)
def test_names_that_are_nothing_here(name: str, message: str) -> None:
    Path("model").mkdir()
    Path("m.gguf").write_text("x")
    Path("quants").mkdir()
    Path("quants/q4.gguf").write_text("x")
    with pytest.raises(ModelError, match=message):
        parse_model(name)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("org/m@v1", ("org/m", "v1")), ("org/m", ("org/m", None)), ("@x", ("@x", None))],
)
def test_revisions(name: str, expected: tuple[str, str | None]) -> None:
    assert split_revision(name) == expected


@pytest.mark.parametrize(
    ("method", "needed"), [("bitsandbytes", "bitsandbytes"), ("gptq", "gptqmodel optimum")]
)
def test_quantised_weights_say_what_they_need(tmp_path: Path, method: str, needed: str) -> None:
    folder = make_model(tmp_path / "quantised")
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": method}
    (folder / "config.json").write_text(json.dumps(config))
    spec = parse_model(str(folder))
    message = rf"is quantised \({method}\).*pip install {needed}; or serve it with vLLM"
    with pytest.raises(ModelError, match=message):
        load_model(spec, ModelOptions(), Decoding())
    with pytest.raises((ModelError, BackendError), match=message):
        asyncio.run(HfBackend(str(folder)).check())


def test_an_adapter_that_does_not_fit_is_one_clear_line(adapter: Path, tmp_path: Path) -> None:
    make_model(tmp_path / "wide", head=32)
    name = f"{adapter},base={tmp_path}/wide"
    with pytest.raises(ModelError, match=r"cannot be loaded: .*size mismatch"):
        ScoringModel.load(name)
    with pytest.raises(ModelError, match=r"cannot be loaded: .*size mismatch"):
        load_model(parse_model(name), ModelOptions(), Decoding())
