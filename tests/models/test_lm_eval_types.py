"""`lm-eval:TYPE:ARGS`: arguments typed as lm-eval types them, and known by what they name."""

import json
from pathlib import Path
from typing import Any

import pytest

from mipo_eval.errors import ConfigError, ModelError
from mipo_eval.models.lm_eval import Decoding, ModelOptions, load_model, load_task
from mipo_eval.models.lm_eval_types import read_arguments
from mipo_eval.models.spec import parse_model
from mipo_eval.records import Item
from mipo_eval.tasks.items import write_items


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max_length=512", {"max_length": 512}),
        ("enable_thinking=False,quick=true", {"enable_thinking": False, "quick": True}),
        ("peft=None,dtype=float16", {"peft": None, "dtype": "float16"}),
        ("temperature=1e-1,seed=-1", {"temperature": 0.1, "seed": -1}),
        ("revision='123',a=b=c", {"revision": "123", "a": "b=c"}),
        ('args={"a": true, "b": [1, 2]},x=1', {"args": {"a": True, "b": [1, 2]}, "x": 1}),
        ("args={'a': None},stop=['x','y']", {"args": {"a": None}, "stop": ["x", "y"]}),
        ('{"max_length": 64, "kw": {"b": false}}', {"max_length": 64, "kw": {"b": False}}),
        ("pretrained=org/m@v2", {"pretrained": "org/m", "revision": "v2"}),
        ("", {}),
    ],
)  # fmt: skip
def test_values_have_the_types_lm_eval_gives(text: str, expected: dict[str, Any]) -> None:
    found = read_arguments("lm-eval:x", text)
    assert found == expected
    assert {key: type(value) for key, value in found.items()} == {
        key: type(value) for key, value in expected.items()
    }


@pytest.mark.parametrize("text", ["max_length=512,dtype=float32", "a=true,b=None,c=1.5,d='7'"])
def test_plain_values_are_those_of_lm_evals_own_parser(text: str) -> None:
    from lm_eval.utils import simple_parse_args_string

    assert read_arguments("lm-eval:x", text) == simple_parse_args_string(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pretrained", "write lm-eval:TYPE:key=value,key=value"),
        ('{"pretrained": ', "the arguments are not one JSON object"),
        ("x=(1" + "+1" * 5000 + ")", "the value of x cannot be read"),
        ("pretrained=m,trust_remote_code=True", "must not run its own code"),
        ('kw={"deep": [{"trust_remote_code": true}]}', "must not run its own code"),
    ],
)
def test_arguments_that_cannot_be_taken(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_arguments("lm-eval:x", text)


@pytest.mark.parametrize("value", ["[" * 5000, "7" * 5000, "nan", "{1, 2}", "a/" * 3000, "\0", ""])
def test_odd_values_are_part_of_an_identity(value: str) -> None:
    assert parse_model(f"lm-eval:hf:x={value}").identity.keys() == {"engine", "x"}


def test_a_folder_is_known_by_its_content(tiny_model: Path) -> None:
    name = f"lm-eval:hf:pretrained={tiny_model},max_length=128"
    before = parse_model(name)
    assert (before.max_length, before.arguments["max_length"]) == (128, 128)
    assert str(tiny_model) not in json.dumps(dict(before.identity))
    assert parse_model(name).identity == before.identity


@pytest.mark.parametrize(
    ("argument", "changed"),
    [
        ("pretrained=folder", "folder/model.safetensors"),
        ("pretrained=folder", "folder/pytorch_model.bin"),
        ("pretrained=folder,subfolder=deep", "folder/deep/model.safetensors"),
        ("pretrained=folder,gguf_file=m.gguf", "folder/m.gguf"),
        ("pretrained=base,peft=folder", "folder/adapter_model.safetensors"),
        ("model=base,tokenizer=folder/tokenizer.json", "folder/tokenizer.json"),
        ('pretrained=base,speculative={"model": "folder"}', "folder/model.safetensors"),
        ('{"pretrained": "base", "delta": "folder"}', "folder/x.pt"),
    ],
)  # fmt: skip
def test_what_is_trained_again_under_its_old_name(argument: str, changed: str) -> None:
    Path(changed).parent.mkdir(parents=True)
    Path("base").mkdir()
    Path(changed).write_text("once")
    before = parse_model(f"lm-eval:hf:{argument}").identity
    Path("folder/.cache").write_text("no part of a model")
    assert parse_model(f"lm-eval:hf:{argument}").identity == before
    Path(changed).write_text("again")
    assert parse_model(f"lm-eval:hf:{argument}").identity != before


def test_folders_that_runs_write_to_are_no_part_of_the_model() -> None:
    Path("scratch").mkdir()
    name = "lm-eval:hf:pretrained=m,offload_folder=scratch"
    before = parse_model(name).identity
    Path("scratch/weights.dat").write_text("x")
    assert parse_model(name).identity == before


def test_a_served_models_identity_is_its_arguments_as_they_were_typed() -> None:
    """So that stores still find the responses they hold."""
    text = "model=gpt-4o,base_url=http://localhost:1/v1,num_concurrent=8"
    assert parse_model(f"lm-eval:local-chat-completions:{text}").identity == {
        "engine": "lm-eval:local-chat-completions",
        "model": "gpt-4o",
        "base_url": "http://localhost:1/v1",
        "num_concurrent": "8",
    }


def test_a_hub_repository_is_known_by_its_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    cache = Path("hub").absolute()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    repository = cache / "models--org--m"
    (repository / "refs").mkdir(parents=True)
    identities = []
    for commit in ("a" * 40, "b" * 40):
        (repository / "snapshots" / commit).mkdir(parents=True)
        (repository / "snapshots" / commit / "config.json").write_text("{}")
        (repository / "refs" / "main").write_text(commit)
        identities.append(parse_model("lm-eval:hf:pretrained=org/m").identity["pretrained"])
    assert identities == ["a" * 40, "b" * 40]


def test_an_lm_eval_type_answers_with_typed_arguments(tiny_model: Path) -> None:
    write_items(Path("items.jsonl"), [Item(item_id="a", prompt="What is tea?")])
    decoding = Decoding(max_tokens=6)
    task = load_task("mipo_items", {"source": "items.jsonl"}, decoding)
    spec = parse_model(f"lm-eval:hf:pretrained={tiny_model},max_length=200,enable_thinking=False")
    kept: list[str] = []
    loaded = load_model(spec, ModelOptions(), decoding)
    (response,) = loaded.ask(task, [0], lambda made: kept.extend(r.item_key for r in made))
    (plain,) = load_model(parse_model(str(tiny_model)), ModelOptions(), decoding).ask(task, [0])
    assert response.text == plain.text
    assert kept == [response.item_key]


def test_an_argument_that_a_type_does_not_take(tiny_model: Path) -> None:
    spec = parse_model(f"lm-eval:hf:pretrained={tiny_model},max_lengthh=9")
    with pytest.raises(ModelError, match=r"hf does not accept this: .*'max_lengthh'"):
        load_model(spec, ModelOptions(), Decoding())
