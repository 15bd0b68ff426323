"""`mipo-eval train` as a user meets it: a real tiny model, a real server, a real store."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mipo_eval import settings
from mipo_eval.cli import main
from mipo_eval.records import Item
from mipo_eval.store import Store
from mipo_eval.store.trainings import get_curve, list_trainings
from mipo_eval.tasks.items import write_items
from tests.servers.http import Act, Call
from tests.servers.openai_server import OpenAIServer, ok
from tests.small_models import make_model

QUICK = ("--set", "lr=1e-2", "--set", "optimization.micro_batch_size=2")


def _items(count: int = 8) -> list[Item]:
    wants = ["Be short.", "I am nine.", "I like birds.", "Tell me why."]
    return [
        Item(
            item_id=f"tea-{n}",
            prompt=f"Tea {n // 4}?",
            context=f"{wants[n % 4]} I am {n}.",
            preferences=("Keep it short.",),
            reference="Tea is a drink.",
            user_id=f"u{n}",
            group_id=f"tea-{n // 4}",
        )
        for n in range(count)
    ]


def _config(capsys: pytest.CaptureFixture[str], *flags: str) -> str:
    assert main(["train", *flags, "--print-config"]) == 0
    return capsys.readouterr().out


def test_short_names_of_the_recipe_are_flags(capsys: pytest.CaptureFixture[str]) -> None:
    long = ("--set", "algorithm=grpo", "--set", "lora=32", "--set", "lr=5e-7")
    short = ("--algorithm", "grpo", "--lora=32", "--lr", "5e-7")
    spelled_out = _config(capsys, "rlaif", *long)
    assert _config(capsys, "rlaif", *short) == spelled_out
    assert "algorithm: grpo" in spelled_out
    assert "lora_rank: 32" in spelled_out


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--lora"], "--lora needs a value"),
        (["--lora", "many"], "optimization.lora_rank: input should be a valid integer"),
        (["--algorithm", "a2c"], "unknown algorithm 'a2c'; known: dpo"),
        (["--lorra", "32"], "No such option"),
    ],
)
def test_a_short_name_that_is_wrong_is_told(
    flags: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "rlaif", "--print-config", *flags]) == 2
    assert told in capsys.readouterr().err


@pytest.fixture
def suite() -> str:
    write_items(Path("tea.jsonl"), _items())
    return "tea.jsonl"


def _says(call: Call) -> Act:
    """What a model might say; it depends on the context, and is cut for one item."""
    text = call.body["messages"][-1]["content"]
    if "what I want:" not in text:
        return ok(f"Tea, number {call.body['seed'] % 7}.")
    wish = text.rpartition("\n")[2]
    return ok(f"So: {wish}", finish="length" if "I am 3." in wish else "stop")


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer(_says) as running:
        yield running


def _train(server: OpenAIServer, *argv: str) -> int:
    return main(["train", *argv, *QUICK, "--set", f"sampling.model=openai:judge@{server.url}"])


def _json(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def _only_training() -> Any:
    with Store.open("store.db", mode="read") as store:
        (training,) = list_trainings(store)
        return training, get_curve(store, training.training_id)


def test_mipo_from_items_to_a_checkpoint(
    tiny_model: Path, suite: str, server: OpenAIServer, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ("mipo", "--model", str(tiny_model), "--suite", suite, "--out", "out", "--json")
    assert _train(server, *argv, "--n-negatives", "2") == 0
    document = _json(capsys)
    report = document["pair_report"]
    assert (document["method"], document["status"]) == ("mipo-missing", "done")
    assert document["checkpoint"] == "out"
    assert (report["items"], report["examples"], report["pairs"]) == (8, 7, 14)
    assert report["dropped"] == {"chosen: cut at the length limit": 1}
    assert report["measured"] == 7
    assert 0 <= report["ranked_correctly"] <= 1
    assert report["pmi_chosen"] != report["pmi_rejected"]
    assert report["shown"][0]["chosen"].startswith("So: ")
    training, curve = _only_training()
    assert training.training_id == document["training_id"]
    known = {"loss", "ranking_accuracy", "reward_chosen", "margin_learned", "margin_saved"}
    assert known <= {point.metric for point in curve}
    assert max(point.step for point in curve) == 4  # fourteen pairs, four at a time
    files = {path.name for path in Path("out").iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"} <= files
    assert not {"steps", "training_args.bin", "reference.safetensors"} & files
    card = Path("out/README.md").read_text()
    shown = ("n_negatives: 2", "beta: 0.1", "pmi_chosen", "| loss |", "| margin_saved |")
    for fact in (training.training_id, *shown):
        assert fact in card
    asked = server.chats
    assert _train(server, *argv, "--n-negatives", "2") == 0
    assert _json(capsys)["training_id"] == document["training_id"]
    assert server.chats == asked, "a finished training is shown, not repeated"
    assert main(["--model", "out", "--suite", suite, "--decoding", "max_tokens=4", "--json"]) == 0
    assert _json(capsys)["n_items"] == 8


def test_what_one_method_drew_another_uses(
    tiny_model: Path, suite: str, server: OpenAIServer, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ("--model", str(tiny_model), "--suite", suite)
    assert _train(server, "mipo-reshuffle", *common, "--out", "a", "--json") == 0
    asked = server.chats
    assert asked == 8
    assert _train(server, "sft", *common, "--out", "b", "--json") == 0
    assert server.chats == asked


def test_a_failed_training_says_why_and_continues(
    tiny_model: Path, suite: str, capsys: pytest.CaptureFixture[str]
) -> None:
    refusing = True

    def says(call: Call) -> Act:
        if refusing and "I am 5." in call.body["messages"][-1]["content"]:
            return Act(status=401)
        return _says(call)

    with OpenAIServer(says) as server:
        argv = ("sft", "--model", str(tiny_model), "--suite", suite, "--out", "out")
        assert _train(server, *argv) == 2
        assert "asks for a key" in capsys.readouterr().err
        training, _ = _only_training()
        assert training.status == "failed"
        assert "asks for a key" in training.reason
        refusing = False
        assert _train(server, *argv) == 0
    training, _ = _only_training()
    assert (training.status, training.reason) == ("done", None)


def test_a_cluster_that_stops_a_training_is_no_failure(
    tiny_model: Path, suite: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stopping = True

    def says(call: Call) -> Act:
        if stopping:
            os.kill(os.getpid(), signal.SIGTERM)
        return _says(call)

    before = signal.getsignal(signal.SIGTERM)
    with OpenAIServer(says) as server:
        argv = ("sft", "--model", str(tiny_model), "--suite", suite, "--out", "out")
        assert _train(server, *argv) == 130
        assert "repeat the command to continue" in capsys.readouterr().err
        training, _ = _only_training()
        assert (training.status, training.reason) == ("stopped", "interrupted")
        assert signal.getsignal(signal.SIGTERM) == before
        stopping = False
        assert _train(server, *argv) == 0
    assert _only_training()[0].status == "done"


def test_pairs_are_exported_as_trl_reads_them(
    tiny_model: Path, suite: str, server: OpenAIServer, capsys: pytest.CaptureFixture[str]
) -> None:
    import datasets

    argv = ("mipo", "--model", str(tiny_model), "--suite", suite, "--n-negatives", "2")
    assert _train(server, *argv, "--pairs", "pairs.jsonl", "--json") == 0
    assert _json(capsys)["pairs"] == 14
    assert _train(server, *argv, "--pairs", "pairs.parquet") == 0
    rows = [json.loads(line) for line in Path("pairs.jsonl").read_text().splitlines()]
    table = datasets.Dataset.from_parquet("pairs.parquet", cache_dir="cache")
    assert table.to_list() == rows
    assert rows[0].keys() == {"prompt", "chosen", "rejected"}
    assert [message["role"] for message in rows[0]["prompt"]] == ["user"]
    assert rows[0]["chosen"] == [{"role": "assistant", "content": "So: Be short. I am 0."}]
    assert not Path("out").exists()


def test_pairs_of_ones_own_are_trained_on(
    tiny_model: Path, suite: str, server: OpenAIServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was exported, as TRL would read it: a prompt's pairs come together again."""
    model = ("--model", str(tiny_model))
    argv = ("mipo", *model, "--suite", suite, "--n-negatives", "2")
    assert _train(server, *argv, "--pairs", "pairs.parquet") == 0
    asked = server.chats
    capsys.readouterr()
    for method in ("dpo", "mipo"):
        out = ("--pairs", "pairs.parquet", "--out", "out", "--json")
        assert _train(server, method, *model, *out) == 0
        document = _json(capsys)
        assert (document["method"], document["suite"]) == ("dpo", "pairs")
        report = document["pair_report"]
        assert (report["items"], report["examples"], report["pairs"]) == (7, 7, 14)
    assert server.chats == asked, "has nothing for figure"
    _, curve = _only_training()
    assert max(point.step for point in curve) == 4
    assert Path("out/model.safetensors").is_file()
    with Path("pairs.jsonl").open("w") as file:
        for rejected in ("A drink.", ["No.", "A drink."]):
            pair = {"prompt": "Tea?", "chosen": "A drink.", "rejected": rejected}
            file.write(json.dumps(pair | {"prompt": f"Tea {rejected}?"}) + "\n")
    assert _train(server, "dpo", *model, "--pairs", "pairs.jsonl", "--out", "o", "--json") == 0
    report = _json(capsys)["pair_report"]
    assert (report["items"], report["pairs"]) == (2, 1)
    assert report["dropped"] == {"rejected: equal to the chosen response": 1}


def test_a_sweep_chooses_on_held_out_training_items(
    tiny_model: Path, suite: str, server: OpenAIServer, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ("mipo", "--model", str(tiny_model), "--suite", suite, "--out", "out", "--json")
    argv += ("--set", "items.validation=0.5", "--sweep", "lr=1e-9,1e-2")
    assert _train(server, *argv) == 0
    document = _json(capsys)
    tried = {one["value"]: one["figure"] for one in document["sweep"]}
    assert {one["criterion"] for one in document["sweep"]} == {"held_out_loss"}
    best = min(tried, key=tried.__getitem__)
    assert document["recipe"]["optimization"]["learning_rate"] == float(best)
    assert document["pair_report"]["items"] == 4, "half of the items were held out"
    assert Path("out/model.safetensors").is_file()
    assert not Path("out/sweep").exists()
    with Store.open("store.db", mode="read") as store:
        stored = {one.training_id: one.checkpoint for one in list_trainings(store)}
    assert len(stored) == 2
    assert stored[document["training_id"]] == "out"
    assert _train(server, *argv) == 0
    assert _json(capsys) == document


@pytest.mark.parametrize(
    ("chosen_by", "ratings"), [("satisfied:JUDGE", {100.0, 50.0}), ("wins:JUDGE", {75.0, 25.0})]
)
def test_a_sweep_may_choose_by_a_judge(
    chosen_by: str,
    ratings: set[float],
    tiny_model: Path,
    suite: str,
    server: OpenAIServer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Four held-out items; what is judged first is liked, what comes then half as often."""
    judged: dict[str, str] = {}

    def rates(call: Call) -> Act:
        shown = call.body["messages"][-1]["content"]
        if "Tea is a drink." in shown:
            return ok("4")
        return ok(judged.setdefault(shown, "5" if len(judged) < 4 else "41"[len(judged) % 2]))

    with OpenAIServer(rates) as judge:
        named = chosen_by.replace("JUDGE", f"openai:judge@{judge.url}")
        argv = ("mipo", "--model", str(tiny_model), "--suite", suite, "--out", "out", "--json")
        argv += ("--set", "items.validation=0.5", "--sweep", "lr=1e-9,3e-2")
        argv += ("--set", f"items.choose_by={named}")
        assert _train(server, *argv) == 0
        document = _json(capsys)
    first, second = document["sweep"]
    assert first["criterion"] == named
    assert (first["behind"], first["behind_ci95"]) == (0, None)
    assert second["behind"] == first["figure"] - second["figure"] > 0
    assert document["recipe"]["optimization"]["learning_rate"] == 1e-9
    assert len(judged) == 8


def test_what_a_user_has_to_change_is_one_line(
    tiny_model: Path,
    suite: str,
    server: OpenAIServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bare = make_model(tmp_path / "bare", template=None)
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.tex").write_text("do not delete")
    write_items(Path("one.jsonl"), _items(1))
    plain = [Item(item_id=f"i{n}", prompt=f"Tea {n}?") for n in range(4)]
    write_items(Path("plain.jsonl"), plain)
    model, base = ("--model", str(tiny_model)), ("--suite", suite, "--out", "out")

    def by(criterion: str) -> tuple[str, ...]:
        return ("--sweep", "lr=1,2", "--set", f"items.choose_by={criterion}")

    cases: list[tuple[tuple[str, ...], str]] = [
        (("sft", "--model", str(bare), *base), "has no chat template: give one with --set chat_te"),
        (("sft", *model, "--suite", "psoups", "--out", "out"), "has no training items of its own"),
        (("sft", *model, "--suite", "mcq_letters", "--out", "o"), "there is nothing to train on"),
        (("mipo", *model, *base, "--n-negatives", "9", "--negatives", "random"), "9 other contex"),
        (("mipo", *model, "--suite", "plain.jsonl", "--out", "p"), "these prompts have none"),
        (("sft", *model, "--suite", suite, "--out", str(full)), "is not empty: name another fol"),
        (("sft", *model, "--suite", suite, "--out", "tea.jsonl"), "tea.jsonl is a file: name a"),
        (("sft", "--model", "openai:judge@http://x/v1", *base), "cannot be trained: --model needs"),
        (("sft", *model, "--suite", suite, "--pairs", "p.jsonl"), "sft makes no pairs"),
        (("mipo", *model, "--suite", suite, "--pairs", "p.csv"), "must end in .jsonl or .parq"),
        (("mipo", *model, *base, "--sweep", "lr=1e-6"), "give two values or more"),
        (("sft", *model, *base, "--set", "report_to=[wandb]"), "report_to names wandb, which is n"),
        (("sft-gt", *model, *base), "use sft-revision"),
        (("dpo", *model, *base), "dpo trains on pairs of your own: use --pairs FILE --out DIR"),
        (("sft", *model, "--pairs", "p.jsonl", "--out", "o"), "sft does not train on given pairs"),
        (("dpo", *model, "--pairs", "p.jsonl", "--out", "o"), "p.jsonl"),
        (
            ("mipo", *model, *base, "--query", "letter"),
            "suite tea knows short, context-first, notes",
        ),
        (("mipo", *model, *base, *by("satisfied")), "suite tea has no judge of its own: name one"),
        (
            ("mipo", *model, *base, *by("accuracy")),
            "can choose by loss, satisfied:JUDGE, wins:JUDGE",
        ),
        (("sami", *model, "--suite", "one.jsonl", "--out", "s"), "too few for groups"),
    ]
    for argv, message in cases:
        assert _train(server, *argv) == 2, argv
        said = capsys.readouterr().err.strip().splitlines()
        assert said[-1].startswith("mipo-eval: "), said
        assert message in said[-1], said[-1]
    assert sorted(path.name for path in full.iterdir()) == ["thesis.tex"]


def test_responses_that_are_all_alike_make_no_pairs(
    tiny_model: Path, suite: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with OpenAIServer(lambda _: ok("Tea.")) as server:
        argv = ("mipo", "--model", str(tiny_model), "--suite", suite, "--out", "out")
        assert _train(server, *argv) == 2
    assert "none of 8 items gives a preference pair (8 x rejected: equal to the chosen" in (
        capsys.readouterr().err
    )
    assert _only_training()[0].status == "failed"
    assert not Path("out").exists(), "another training may have it"


def test_a_failed_training_gives_its_folder_back(
    tiny_model: Path, suite: str, server: OpenAIServer, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ("--model", str(tiny_model), "--suite", suite, "--out", "out")
    Path("out").mkdir()
    for more in ((), ("--sweep", "lr=1e-3,1e-2", "--set", "items.validation=0.5")):
        assert _train(server, "mipo", *common, *more, "--set", "optimization.max_length=9") == 2
        assert "fits into 9 tokens" in capsys.readouterr().err
        assert not Path("out").exists() or not list(Path("out").iterdir())
    assert _train(server, "sft", *common) == 0


def test_another_training_does_not_take_the_folder(
    tiny_model: Path, suite: str, server: OpenAIServer, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ("sft", "--model", str(tiny_model), "--suite", suite, "--out", "out")
    assert _train(server, *argv) == 0
    before = Path("out/model.safetensors").read_bytes()
    assert _train(server, *argv, "--seed", "1") == 2
    assert "out contains another training" in capsys.readouterr().err
    assert Path("out/model.safetensors").read_bytes() == before


def test_the_recipe_is_printed_as_config_takes_it(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["train", "mipo", "--negatives", "random", "--n-negatives", "3", "--print-config"]
    assert main(argv) == 0
    printed = capsys.readouterr().out
    assert "name: mipo-random\n" in printed
    Path("mine.yaml").write_text(printed)
    assert main(["train", "mipo", "--config", "mine.yaml", "--print-config"]) == 0
    assert capsys.readouterr().out == printed
    assert main([*argv, "--json"]) == 0
    assert _json(capsys)["pairs"] == {"negatives": "random", "n_negatives": 3}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["rlvr", "rlaif-gt"])
def test_math_is_learned_from_rewards(
    method: str,
    shared_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Real questions with their eight worked examples, from prompts to a checkpoint."""
    monkeypatch.setenv(settings.DATA, str(shared_data))
    model = make_model(tmp_path / "roomy", context=8192)
    asked: list[str] = []

    def rates(call: Call) -> Act:
        asked.append(call.body["messages"][-1]["content"])
        return ok("2")

    with OpenAIServer(rates) as server:
        argv = ["train", method, "--model", str(model), "--suite", "gsm8k", "--out", "out"]
        for change in (
            *("items.limit=4", "optimization.precision=float32", "settings.max_new_tokens=8"),
            *([f"settings.judge=openai:judge@{server.url}"] if method == "rlaif-gt" else []),
        ):
            argv += ["--set", change]
        assert main([*argv, "--json"]) == 0
    assert _json(capsys)["pair_report"]["examples"] == 4
    _, curve = _only_training()
    (reward,) = [point.value for point in curve if point.metric == "reward"]
    # Random weights solve nothing, and the judge finds every try equally poor.
    assert reward == (0 if method == "rlvr" else 2)
    assert bool(asked) == (method == "rlaif-gt")
    assert all("The right answer is" in question for question in asked)
    assert Path("out/model.safetensors").is_file()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--suite", "demo", "--out", "o"], "name a base model with --model CKPT"),
        (
            ["--model", "m", "--suite", "demo", "--pairs", "p.jsonl", "--out", "o"],
            "use --suite or --out, not both",
        ),
        (["--model", "m", "--out", "o"], "--suite SUITE, and a folder with --out DIR"),
        (["--model", "m", "--suite", "demo"], "--suite SUITE, and a folder with --out DIR"),
        (
            ["--model", "m", "--suite", "demo", "--pairs", "p.jsonl", "--sweep", "lr=1,2"],
            "--sweep trains and --pairs FILE does not",
        ),
    ],
)
def test_what_is_missing_or_too_much_is_said(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "mipo", *argv]) == 2
    assert message in capsys.readouterr().err
    assert not Path("o").exists()
