"""What `--model` can name, and what makes a model itself."""

import json
import shutil
from pathlib import Path

import pytest

from mipo_eval.checkpoints import fingerprint
from mipo_eval.demo.model import FINGERPRINT
from mipo_eval.errors import ConfigError, MipoEvalError, ModelError
from mipo_eval.models.spec import parse_model, read_name


@pytest.mark.parametrize(
    ("name", "engine", "target", "url"),
    [
        ("openai:gpt-4.1", "openai", "gpt-4.1", "https://api.openai.com/v1"),
        ("openai:org/m@http://localhost:8000/v1/", "openai", "org/m", "http://localhost:8000/v1"),
        ("openai:m@localhost:8000", "openai", "m", "http://localhost:8000/v1"),
        ("lm-eval:sglang:pretrained=m,dtype=auto", "lm-eval", "sglang", None),
    ],
)
def test_names(name: str, engine: str, target: str, url: str | None) -> None:
    spec = parse_model(name)
    assert (spec.engine, spec.target, spec.url) == (engine, target, url)


@pytest.mark.parametrize(
    ("name", "identity"),
    [
        ("demo", {"engine": "hf", "checkpoint": FINGERPRINT}),
        (
            "openai:gpt-4.1",
            {"engine": "openai", "model": "gpt-4.1", "url": "https://api.openai.com/v1"},
        ),
        (
            "openai:m@http://HOST:8000/",
            {"engine": "openai", "model": "m", "url": "http://HOST:8000"},
        ),
        ("lm-eval:hf:pretrained=m", {"engine": "lm-eval:hf", "pretrained": "m"}),
        ("lm-eval:dummy", {"engine": "lm-eval:dummy"}),
    ],
)
def test_the_keys_of_stored_responses_stay(name: str, identity: dict[str, str]) -> None:
    assert parse_model(name).identity == identity


@pytest.mark.parametrize(
    ("name", "kind", "plain", "url", "label"),
    [
        ("demo", "demo", "", "", "demo"),
        ("checker", "checker", "", "", "checker"),
        ("out/m-seed1/", None, "out/m-seed1/", "", "m-seed1"),
        ("hf:out/m", "hf", "out/m", "", "m"),
        ("vllm:out/a@b", "vllm", "out/a@b", "", "a@b"),
        ("openai:org/m@http://a,http://b:1/v1", "openai", "org/m", "http://a,http://b:1/v1", "m"),
        ("gemini:gemini-2.5-flash", "gemini", "gemini-2.5-flash", "", "gemini-2.5-flash"),
        ("qwen2.5-14b@localhost:8000", None, "qwen2.5-14b", "localhost:8000", "qwen2.5-14b"),
        ("family@http://h:1", None, "family", "http://h:1", "family"),
        ("mine.yaml", None, "mine.yaml", "", "mine.yaml"),
        ("scripted:said/it.jsonl", "scripted", "said/it.jsonl", "", "scripted"),
        ("lm-eval:hf:pretrained=org/m", "lm-eval", "hf:pretrained=org/m", "", "m"),
        ("openai", None, "openai", "", "openai"),
    ],
)
def test_a_name_taken_apart(name: str, kind: str | None, plain: str, url: str, label: str) -> None:
    named = read_name(name)
    assert (named.kind, named.name, named.url, named.label) == (kind, plain, url, label)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("/nowhere/at/all", ModelError, "there is no checkpoint at /nowhere/at/all"),
        ("./nowhere", ModelError, "there is no checkpoint at ./nowhere"),
        (
            "nowhere",
            ModelError,
            "there is no checkpoint at nowhere: give a folder",
        ),
        (
            "org/not-cached",
            ModelError,
            "org/not-cached is neither a folder here nor a model",
        ),
        ("openai:", ConfigError, "has no model name: write openai:NAME"),
        ("openai:m@ftp://host/v1", ConfigError, "'ftp://host/v1' is not the URL of a server"),
        ("openai:m@http://me:hunter2@host/v1", ConfigError, "the URL of host contains a password"),
        ("openai:m@http://a,ftp://b", ConfigError, "'ftp://b' is not the URL of a server"),
        ("hf:", ConfigError, "has no model name: write hf:NAME"),
        ("scripted:replies.jsonl", ConfigError, "--model 'scripted:replies.jsonl' is not a model"),
        ("checker", ConfigError, "can be evaluated: use PATH, openai:MODEL, openai:MODEL@URL"),
        ("demo:x", ConfigError, "demo, smollm2, lm-eval:TYPE:key=value"),
        ("lm-eval:hf:pretrained", ConfigError, "key=value,key=value"),
        (
            "lm-eval:hf:pretrained=m,trust_remote_code=True",
            ConfigError,
            "must not run its own code",
        ),
    ],
)
def test_names_that_mean_nothing(name: str, error: type[MipoEvalError], message: str) -> None:
    with pytest.raises(error) as caught:
        parse_model(name)
    assert message in str(caught.value)


def test_a_local_judge_is_called_by_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "small-135m").mkdir()
    monkeypatch.chdir(tmp_path / "small-135m")
    assert {read_name(name).label for name in ("hf:.", "hf:./", "vllm:../small-135m")} == {
        "small-135m"
    }


def test_a_file_is_no_checkpoint() -> None:
    Path("weights").write_text("")
    with pytest.raises(ModelError, match="weights is a file: give the folder"):
        parse_model("weights")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "is not a checkpoint: it has no config.json"),
        ({"config.json": "{"}, "config.json cannot be read"),
        ({"config.json": "[]"}, "config.json is not a JSON object"),
        ({"config.json": "{}"}, "has no weights in safetensors (none)"),
        (
            {"config.json": "{}", "pytorch_model.bin": "x"},
            "(only pytorch_model.bin, which may run code when read)",
        ),
        (
            {
                "config.json": json.dumps({"architectures": ["BertForSequenceClassification"]}),
                "model.safetensors": "x",
            },
            "is not a language model (BertForSequenceClassification)",
        ),
    ],
)
def test_folders_that_are_no_language_model(files: dict[str, str], message: str) -> None:
    folder = Path("checkpoint")
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    with pytest.raises(ModelError) as caught:
        parse_model("./checkpoint")
    assert message in str(caught.value)


def test_a_checkpoint_is_its_content(tiny_model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_model, copy)
    assert fingerprint(copy) == fingerprint(tiny_model)
    spec = parse_model(str(copy))
    assert (spec.max_length, spec.has_chat_template) == (256, True)
    (copy / "notes.md").write_text("not part of the model")
    assert fingerprint(copy) == fingerprint(tiny_model)
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    assert fingerprint(copy) != fingerprint(tiny_model)


@pytest.mark.parametrize(
    ("text", "name", "url"),
    [
        ("openai:m@http://h:1/v1", "m", "http://h:1/v1"),
        ("openai:claude@20250929@http://h:1", "claude@20250929", "http://h:1"),
        ("openai:claude@20250929@localhost:8000", "claude@20250929", "localhost:8000"),
        ("openai:org@team/m@gpu-node", "org@team/m", "gpu-node"),
        ("openai:m@127.0.0.1", "m", "127.0.0.1"),
        ("openai:m@http://a:1,http://b:2", "m", "http://a:1,http://b:2"),
        ("openai:m@me:hunter2@host", "m", "me:hunter2@host"),
        ("any-llm:vertexai:claude-sonnet-4@20250514", "vertexai:claude-sonnet-4@20250514", ""),
        ("any-llm:vertexai:gemini@default", "vertexai:gemini@default", ""),
        ("azure:d@https://r.openai.azure.com", "d", "https://r.openai.azure.com"),
        ("gpt-4.1@http://h:1", "gpt-4.1", "http://h:1"),
        ("m", "m", ""),
        ("openai:@http://h", "", "http://h"),
    ],
)
def test_a_name_may_hold_an_at_sign(text: str, name: str, url: str) -> None:
    named = read_name(text)
    assert (named.name, named.url) == (name, url)
