"""Rounds: each goes on from the last one's checkpoint, is a training of its own, and resumes."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mipo_eval.cli import main
from mipo_eval.errors import DataError
from mipo_eval.store import Store
from mipo_eval.store.runs import list_runs
from mipo_eval.store.trainings import Training, list_trainings
from mipo_eval.training.dpo import train_dpo
from mipo_eval.training.logprobs import Codec, add_likelihood_head, response_logprobs
from mipo_eval.training.recipes import DpoSettings, load_recipe
from mipo_eval.training.rounds import round_seed
from mipo_eval.training.run import TrainingRequest, make_request, train
from mipo_eval.training.trainer import load_policy
from tests.training.jobs import Curves, job, weights
from tests.training.test_run import Halting
from tests.training.tiny import with_negatives

QUICK = ("items.limit=6", "sampling.batch_size=16", "sampling.max_tokens=120", "lr=3e-4")
QUICK += ("optimization.precision=float32", "save_steps=1")


def _request(*overrides: str, method: str = "mipo-missing", out: str = "out") -> TrainingRequest:
    recipe = load_recipe(method, overrides=(*QUICK, *overrides))
    return make_request(recipe, model="demo", suite="demo", out=Path(out), seed=5)


def _train(capsys: pytest.CaptureFixture[str], *argv: str) -> Any:
    settings = [part for one in QUICK for part in ("--set", one)]
    command = ["train", "mipo", "--model", "demo", "--suite", "demo", "--seed", "5", *settings]
    code = main([*command, *argv, "--json"])
    told = capsys.readouterr()
    assert code == 0, told.err
    return json.loads(told.out)


def _stored() -> dict[str, Training]:
    with Store.open("store.db", mode="read") as store:
        return {one.training_id: one for one in list_trainings(store)}


def test_more_rounds_go_on_from_the_last(capsys: pytest.CaptureFixture[str]) -> None:
    two = _train(capsys, "--out", "out", "--rounds", "2")
    assert [one["checkpoint"] for one in two["rounds"]] == ["out/rounds/1", "out"]
    first, second = (_stored()[one["training_id"]] for one in two["rounds"])
    assert (first.parent, second.parent) == (None, first.training_id)
    assert (first.round, second.round, first.seed, second.seed) == (1, 2, 5, 5)
    assert (first.model, second.model) == ("demo", "demo")
    assert first.training_id == _request().training_id, "the first is what one training is"
    assert second.training_id == _request("rounds=2").training_id == two["training_id"]
    card = Path("out/README.md").read_text()
    assert "seed 5, round 2\n" in card
    assert f"with the checkpoint of training `{first.training_id}`" in card
    evaluate = ["--suite", "demo", "--limit", "2"]
    assert main(["--model", "out", *evaluate]) == 0
    capsys.readouterr()
    saved = weights(Path("out"))
    # What a later round does not need may be deleted.
    shutil.rmtree("out/rounds/1")
    before = _stored()
    assert _train(capsys, "--out", "out", "--rounds", "2") == two
    three = _train(capsys, "--out", "out", "--rounds", "3")
    assert [one["checkpoint"] for one in three["rounds"]] == ["out/rounds/1", "out/rounds/2", "out"]
    after = _stored()
    moved = replace(second, checkpoint="out/rounds/2")
    assert after == {**before, second.training_id: moved} | {
        three["training_id"]: after[three["training_id"]]
    }, "the third alone was trained"
    assert not Path("out/rounds/1").exists()
    kept = weights(Path("out/rounds/2"))
    assert all(torch.equal(kept[name], saved[name]) for name in saved)
    with Store.open("store.db", mode="read") as store:
        (run,) = list_runs(store)
    assert run.model == "out/rounds/2", "what was evaluated is not what now has its name"
    elsewhere = _train(capsys, "--out", "four", "--rounds", "4")
    places = [one["checkpoint"] for one in elsewhere["rounds"]]
    assert places == ["out/rounds/1", "out/rounds/2", "out", "four"]
    assert not Path("four/rounds").exists(), "what is there is not made again"


class _InRound(Halting):
    """Stops in a later training than the first."""

    def __init__(self, number: int) -> None:
        super().__init__(at=1)
        self._left = number

    def start(self, what: str, total: int, status: Any = None) -> None:
        self._left -= what == "reading the pairs with the base model"  # once in each training
        super().start(what if not self._left else "", total, status)


def test_a_round_that_was_stopped_continues_to_the_same_weights() -> None:
    with Store.open("a.db") as store:
        with pytest.raises(KeyboardInterrupt):
            train(store, _request("rounds=2"), _InRound(2))
        known = {one.round: one for one in list_trainings(store)}
        assert {number: one.status for number, one in known.items()} == {1: "done", 2: "stopped"}
        done = train(store, _request("rounds=2"), Halting())
        again = {one.round: one for one in list_trainings(store)}
        assert again[1] == known[1]
    with Store.open("b.db") as store:
        straight = train(store, _request("rounds=2", out="straight"), Halting())
    assert straight.training_id == done.training_id
    first, second = weights(Path("out")), weights(Path("straight"))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("method", ["sft", "info-nce"])
def test_what_draws_its_own_data_has_rounds_too(method: str) -> None:
    with Store.open("a.db") as store:
        request = _request("rounds=2", "optimization.batch_size=1", method=method)
        done = train(store, request, Halting())
    assert (done.round, done.status) == (2, "done")
    first, second = weights(Path("out/rounds/1")), weights(Path("out"))
    assert any(not torch.equal(first[name], second[name]) for name in first)


def test_a_round_is_named_by_the_one_before_and_its_reference() -> None:
    ids = {
        request.training_id
        for request in (
            _request(),
            _request("rounds=2"),
            _request("rounds=3"),
            _request("rounds=2", "rounds.reference=first"),
            _request("rounds=2", "lr=1e-3"),
        )
    }
    assert len(ids) == 5
    before = _request("rounds=3").before
    assert before is not None
    assert before.training_id == _request("rounds=2").training_id
    assert len({round_seed(5, number) for number in range(1, 9)}) == 8
    assert _request("rounds.reference=first").training_id == _request().training_id


@pytest.mark.parametrize("lora", [None, 4])
def test_the_reference_may_be_another_model_than_the_start(
    lora: int | None, tiny_model: Path, tmp_path: Path
) -> None:
    """The first loss is that of log-probabilities under either, read one by one."""
    found = with_negatives(1, prompts=1)
    moved = tmp_path / "moved"
    train_dpo(job(tiny_model, moved, found), DpoSettings())
    curves = Curves()
    how: dict[str, Any] = {"batch_size": len(found), "lora_rank": lora}
    plan = job(moved, tmp_path / "out", found, report=curves, **how)
    train_dpo(replace(plan, reference=str(tiny_model)), DpoSettings())
    margins = [_margin(replace(plan, model=str(one)), found) for one in (moved, tiny_model)]
    losses = -torch.nn.functional.logsigmoid(0.1 * (margins[0] - margins[1]))
    assert curves.of("loss")[0] == pytest.approx(float(losses.mean()), abs=1e-5)
    assert abs(float(losses.mean()) - 0.6931) > 1e-2, "log 2 is what the start itself would give"
    assert curves.of("reward_chosen")[0] != 0


def _margin(plan: Any, found: Any) -> torch.Tensor:
    model, tokenizer = load_policy(plan)
    add_likelihood_head(model)
    codec = Codec.of(tokenizer)
    prompts = [codec.prompt(one.prompt) for one in found]
    sums = [
        response_logprobs(
            model, list(zip(prompts, map(codec.response, texts), strict=True)), rows=1
        )
        for texts in ([one.chosen for one in found], [one.rejected[0] for one in found])
    ]
    with torch.no_grad():
        return (sums[0] - sums[1]).detach()


@pytest.mark.parametrize(
    ("method", "argv", "told"),
    [
        ("ppo-mi", ["--rounds", "2"], "ppo-mi draws responses as it learns, so there is nothing"),
        ("rlvr", ["--rounds", "2"], "rounds are for mipo, sft, sft-revision"),
        ("sft-solutions", ["--rounds", "2"], "sft-solutions learns the data set's texts"),
        ("dpo", ["--rounds", "2"], "dpo learns the pairs of a file"),
        ("sft", ["--set", "rounds.reference=first"], "which only DPO has; sft"),
        ("mipo", ["--rounds", "0"], "rounds.number is 0: it must be above 0"),
        ("mipo", ["--rounds", "2", "--set", "rounds.reference=none"], "rounds.reference: input"),
        (
            "mipo",
            ["--rounds", "2", "--sweep", "lr=1e-6,1e-5"],
            "--sweep cannot be used with --rounds",
        ),
        ("mipo", ["--rounds", "2", "--set", "sampling.model=openai:m@http://x/v1"], "write vllm:"),
    ],
)
def test_where_rounds_mean_nothing_one_line_says_so(
    method: str, argv: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["train", method, "--model", "demo", "--suite", "demo", "--out", "out"]
    assert main([*given, *argv]) == 2
    assert told in capsys.readouterr().err
    assert not Path("out").exists()


def test_rounds_are_counted_where_memory_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "mipo", "--model", "demo", "--rounds", "3", "--estimate"]) == 0
    assert "3 rounds, one after the other" in capsys.readouterr().out
    argv = ["train", "mipo", "--model", "demo", "--suite", "demo", "--rounds", "2"]
    assert main([*argv, "--pairs", "p.jsonl"]) == 2
    assert "--rounds is about training" in capsys.readouterr().err


def test_a_first_round_that_fails_leaves_no_folder(capsys: pytest.CaptureFixture[str]) -> None:
    with Store.open("a.db") as store, pytest.raises(DataError, match="fits into 9 tokens"):
        train(store, _request("rounds=2", "optimization.max_length=9"), Halting())
    assert not Path("out").exists()
