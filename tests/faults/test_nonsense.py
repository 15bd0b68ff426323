"""Whatever a user types, or a file holds: one line that says what is wrong, and exit 2."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mipo_eval.cli import main
from mipo_eval.demo.model import base_model
from mipo_eval.models import chat
from mipo_eval.store import Store

DIGITS = "9" * 5000
LONG = "n" * 300


def _deep(levels: int) -> str:
    return "[" * levels + "]" * levels


@pytest.fixture(autouse=True)
def suite() -> None:
    item = {"item_id": "i", "prompt": "Tea?", "preferences": ["Short."], "reference": "Yes."}
    Path("ok.jsonl").write_text(json.dumps(item), encoding="utf-8")


def _refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Run a command that cannot be done, and return what it says."""
    assert main(list(words)) == 2
    told = capsys.readouterr()
    assert "Traceback" not in told.err
    last = told.err.strip().splitlines()[-1]
    assert last.startswith(("mipo-eval: ", "Error: ")), told.err
    return last


def _checkpoint(changes: Mapping[str, str]) -> str:
    """Return a folder like the demo's base model, with other files; a dictionary is merged in."""
    folder = Path("checkpoint")
    folder.mkdir()
    for file in base_model().iterdir():
        (folder / file.name).symlink_to(file)
    for name, text in changes.items():
        (folder / name).unlink(missing_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return str(folder)


def _config(**changes: Any) -> dict[str, str]:
    config = json.loads((base_model() / "config.json").read_text(encoding="utf-8"))
    return {"config.json": json.dumps(config | changes)}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (_config(num_attention_heads=0), "0 for num_attention_heads, where a number above 0"),
        (_config(num_key_value_heads=0), "0 for num_key_value_heads"),
        (_config(num_hidden_layers=-1), "-1 for num_hidden_layers"),
        (_config(hidden_size="x"), "'x' for hidden_size"),
        (_config(num_hidden_layers=10**9), "its files have only"),
        (_config(vocab_size=10**8), "its files have only"),
        (_config(text_config={"intermediate_size": 10**13}), "its files have only"),
        (_config(architectures=[1]), "is not a language model (1)"),
        (_config(architectures={"a": 1}), "is not a language model"),
        (_config(model_type=[1]), "cannot be loaded"),
        (_config(hidden_act="nosuch"), "cannot be loaded: 'nosuch'"),
        (_config(dtype="nosuch"), "cannot be loaded"),
        (_config(max_position_embeddings="x"), "cannot be loaded"),
        (_config(quantization_config=[1]), "cannot be loaded"),
        ({"config.json": f'{{"a": {DIGITS}}}'}, "cannot be read"),
        ({"config.json": f'{{"a": {_deep(3000)}}}'}, "cannot be read"),
        ({"tokenizer.json": "{"}, "cannot be loaded"),
        ({"tokenizer_config.json": '{"bos_token": [1]}'}, "cannot be loaded"),
        ({"generation_config.json": '{"eos_token_id": "z"}'}, "'z' for eos_token_id"),
    ],
)
def test_a_checkpoint_that_is_none(
    files: Mapping[str, str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = _checkpoint(files)
    assert said in _refused(capsys, "--model", folder, "--suite", "ok.jsonl")


def test_a_generation_config_of_words(capsys: pytest.CaptureFixture[str]) -> None:
    folder = _checkpoint({"generation_config.json": '{"temperature": "x", "do_sample": true}'})
    asked = ("--model", folder, "--suite", "ok.jsonl", "--decoding", "generation_config=checkpoint")
    assert "has 'x' for temperature" in _refused(capsys, *asked)


ENDLESS = "{% for i in range(99999) %}" * 3 + "{% endfor %}" * 3


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ raise_exception('no tea') }}", "no tea"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ 10.0 ** 1000 }}", "out of range"),
        ("{{ messages[9].x.y }}", "no element 9"),
        ("{% for i in range(10 ** 9) %}{% endfor %}", "Range too big"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion"),
        ("{% for %}", "Expected an expression"),
        (ENDLESS, "does not come to an end in 1 s"),
    ],
)
def test_a_chat_template_that_fails_or_never_ends(
    template: str,
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(chat, "_LONGEST_SECONDS", 1.0)
    folder = _checkpoint({"chat_template.jinja": template})
    assert said in _refused(capsys, "--model", folder, "--suite", "ok.jsonl")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("limits: {concurrency: 0}", "concurrency is '0'"),
        ("limits: {concurrency: true}", "concurrency is 'True'"),
        ("limits: {attempts: 0}", "attempts is '0'"),
        ("limits: {timeout: abc}", "timeout is 'abc'"),
        ("limits: {timeout: .inf}", "timeout is 'inf'"),
        ("limits: {max_cost: .nan}", "max_cost is 'nan'"),
        ("limits: {1: 2}", "limits"),
        ("limits: 3", "limits"),
        ("limits: {attempts: 1, attempts: 2}", "has the key attempts twice"),
        ("temperature: .nan", "temperature"),
        ("temperature: -1", "temperature"),
        (f"max_tokens: {'9' * 30}", "max_tokens"),
        ("max_tokens: true", "max_tokens"),
        (f"seed: {'9' * 30}", "seed"),
        (f"logprobs: {'9' * 30}", "logprobs"),
        (f"seed: {DIGITS}", "cannot be read"),
        (f"extra_body: {{a: {_deep(600)}}}", "nested too deeply"),
        ("extra_body: {a: 2024-13-45}", "cannot be read"),
        ("extra_body: {a: .inf}", "extra_body"),
        ("chat_template_kwargs: {a: 2024-12-05}", "chat_template_kwargs"),
        ("extra_body: {a: !!python/object:os.system {}}", "cannot be read"),
        ("extra_body: {a: &a [1], b: [*a, *a]}", "refers to another place"),
        ('prompt: "a\\0b"', "holds the character 0"),
        ("prompt: /dev/zero", "too large"),
        ('extra_body: {a: "\\ud800"}', "surrogates not allowed"),
        ("limits: {purse: 3}", "purse is for programs"),
    ],
)
def test_a_preset_that_is_none(line: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    preset = f"description: x\nbackend: openai:m@http://127.0.0.1:1\n{line}\n"
    Path("mine.yaml").write_text(preset, encoding="utf-8")
    asked = ("--model", "demo", "--suite", "ok.jsonl", "--judge", "mine.yaml")
    assert said in _refused(capsys, *asked)


@pytest.mark.parametrize("options", ["job_requests: abc", "job_requests: 0", "poll_seconds: -1"])
def test_options_of_a_backend_are_checked(options: str, capsys: pytest.CaptureFixture[str]) -> None:
    preset = f"description: x\nbackend: openai:m@http://127.0.0.1:1\noptions: {{{options}}}\n"
    Path("mine.yaml").write_text(preset, encoding="utf-8")
    asked = ("--model", "demo", "--suite", "ok.jsonl", "--judge", "mine.yaml", "--batch")
    assert options.partition(":")[0] in _refused(capsys, *asked)


@pytest.mark.parametrize("meta", [_deep(300), _deep(5000), DIGITS])
def test_an_item_that_nobody_wrote(meta: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = f'{{"item_id": "i", "prompt": "Tea?", "meta": {{"a": {meta}}}}}'
    Path("odd.jsonl").write_text(text, encoding="utf-8")
    assert "odd.jsonl" in _refused(capsys, "--model", "demo", "--suite", "odd.jsonl")


@pytest.mark.parametrize("option", ["--config", "--env-file", "--rows", "--plugin"])
def test_a_file_that_never_ends(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    Store.open("s.db").close()
    command = ("leaderboard", "--store", "s.db") if option == "--rows" else ("plan",)
    assert "too large" in _refused(capsys, *command, option, "/dev/zero")


@pytest.mark.parametrize(
    "name", ["log-file: 3", "log-file: a/b", 'store: "a\\0b"', "env-file: {a: b}"]
)
def test_a_run_file_with_odd_names(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("run.yaml").write_text(f"{name}\n", encoding="utf-8")
    if name == "log-file: 3":  # is a name of a file, too
        assert main(["--config", "run.yaml", "--version"]) == 0
    else:
        _refused(capsys, "leaderboard", "--config", "run.yaml")


@pytest.mark.parametrize("text", ["A=\0b", "\0=1", "'A=B'=3"])
def test_an_environment_file_of_no_variables(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("odd.env").write_text(text, encoding="utf-8")
    assert "odd.env cannot be read" in _refused(capsys, "plugins", "--env-file", "odd.env")


_DEMO = ("--model", "demo", "--suite", "ok.jsonl")
_TRAIN = ("train", "sft", "--model", "demo", "--suite", "demo")


@pytest.mark.parametrize(
    "words",
    [
        ("runs", "--store", "postgresql://u:p@h:bad/x"),
        ("runs", "--store", "postgresql://127.0.0.1:99999/x"),
        ("runs", "--store", "mysql://h/x"),
        ("runs", "--store", "://"),
        ("runs", "--store", LONG),
        ("runs", "--store", "/dev/full"),
        ("runs", "--store", "/etc"),
        ("store", "merge", LONG, "ok.jsonl"),
        (*_DEMO, "--seed", DIGITS),
        (*_DEMO, "--seed", "9" * 30),
        (*_DEMO, "--limit", "9" * 30),
        (*_DEMO, "--decoding", f"max_tokens={DIGITS}"),
        (*_DEMO, "--decoding", f"max_tokens={'9' * 30}"),
        (*_DEMO, "--decoding", "temperature=nan"),
        (*_DEMO, "--max-cost", "nan"),
        (*_DEMO, "--engine", f"batch_size={DIGITS}"),
        ("--model", "m" * 5000, "--suite", "ok.jsonl"),
        ("--model", "demo", "--suite", f"{LONG}.jsonl"),
        ("--model", "openai:m@http://[::1", "--suite", "ok.jsonl"),
        ("--model", "openai:m@http://h:99999999", "--suite", "ok.jsonl"),
        ("--model", f"lm-eval:hf:pretrained={'x' * 5000}", "--suite", "ok.jsonl"),
        (*_TRAIN, "--out", LONG),
        (*_TRAIN, "--out", "/dev/full"),
        (*_TRAIN, "--out", "o", "--set", f"lr={DIGITS}"),
        (*_TRAIN, "--out", "o", "--set", "lr=.nan"),
        ("import", LONG),
        ("import", "/dev/null"),
        ("import", "/dev/zero"),
        ("judge", "/dev/zero", "ok.jsonl", "--suite", "ok.jsonl", "--judge", "checker"),
        ("validate", "checker", "--data", f"{LONG}.jsonl"),
        ("show", "n" * 5000),
        ("show", "\udcff"),  # a byte that is no UTF-8
        ("store", "forget", "\udcff"),
    ],
)  # fmt: skip
def test_words_that_mean_nothing(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(_refused(capsys, *words)) < 3_000


@pytest.mark.parametrize("told", ["x", "", "-1", "9" * 5000])
def test_a_schema_version_that_is_none(told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with Store.open("s.db") as store, store.write() as connection:
        connection.exec_driver_sql(f"update schema_info set value = '{told}'")
    for words in (("runs", "--store", "s.db"), (*_DEMO, "--store", "s.db")):
        assert "schema version is" in _refused(capsys, *words)


@pytest.mark.parametrize("task", ["x/../y", "../../etc/passwd", "a|b"])
def test_an_imported_task_of_any_name_is_read_and_never_a_path(
    task: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = {
        "results": {task: {"alias": task, "acc,none": 0.5, "acc_stderr,none": 0.1}},
        "configs": {task: {"task": task, "metric_list": [{"metric": "acc"}]}},
        "n-samples": {task: {"original": 2, "effective": 2}},
        "config": {"model": "hf", "model_args": "pretrained=m"},
        "date": 1.0,
    }
    file = Path("results_2026-01-31T12-00-00.json")
    file.write_text(json.dumps(results), encoding="utf-8")
    assert main(["import", str(file), "--json"]) == 0
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    before = {*tmp_path.rglob("*")}
    for form in ("html", "md", "csv", "latex", "json", "parquet", "lm_eval", "alpaca_eval"):
        out = "results_1.json" if form == "lm_eval" else f"out.{form}"
        main(["export", run["run_id"], "--format", form, "--output", out])
        assert "Traceback" not in capsys.readouterr().err
    made = {*tmp_path.rglob("*")} - before
    assert made
    assert all(file.parent == tmp_path for file in made)


@pytest.mark.parametrize(
    "words", [("--help",), ("runs", "--store", "s.db"), ("store", "check", "--store", "s.db")]
)
def test_an_output_that_takes_nothing_is_one_line(words: tuple[str, ...]) -> None:
    Store.open("s.db").close()
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "mipo_eval", *words]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "mipo-eval: No space left on device\n")
