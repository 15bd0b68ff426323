"""Runs of checkpoints that were trained here bear the training's name, in every table."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mipo_eval.cli import main
from mipo_eval.reports.names import row_name, run_names, trained_rules
from mipo_eval.store import Store
from mipo_eval.store.runs import list_runs, put_run
from mipo_eval.store.trainings import Training, put_training
from mipo_eval.tasks.items import write_items
from tests.reports.stores import Served, items

THREE = {"negatives": "random", "n_negatives": 3}
DAY = datetime(2026, 1, 1, tzinfo=UTC)
MODEL = "meta-llama/Llama-3.2-1B-Instruct"


def training(out: str, method: str = "mipo", seed: int = 3, **recipe: Any) -> Training:
    return Training(
        training_id=f"{out}{method}",
        method=method,
        model=MODEL,
        suite="mb",
        seed=seed,
        checkpoint=str(Path(out).absolute()),
        recipe=recipe,
        pair_report=None,
        environment={},
        status="done",
        reason=None,
        created_at=DAY,
        updated_at=DAY,
    )


@pytest.mark.parametrize("form", ["{full}", "{full}/", "out/m", "./out/m", "vllm:out/m"])
def test_a_run_is_found_however_its_checkpoint_was_named(served: Served, form: str) -> None:
    with Store.open(str(served.path), mode="read") as store:
        run = next(run for run in list_runs(store) if run.prompting == "personalized")
    run = replace(run, model=form.format(full=Path("out/m").absolute()))
    made = training("out/m", pairs=THREE, settings={"batch_of": "pairs"})
    name, seeds = row_name(run, trained_rules([made]))
    assert (name.model, name.method) == ("Llama-3.2-1B-Instruct", "MIPO")
    assert (name.variant, seeds[0]) == ("random x 3", 3)
    formerly, _ = row_name(run, trained_rules([training("out/m", pairs=THREE)]))
    assert formerly.variant == "random x 3, batches of prompts"
    second = {"rounds": {"number": 2, "reference": "last"}}
    later = replace(training("out/m", pairs=THREE, **second), parent="x")
    assert row_name(run, trained_rules([later]))[0].variant == (
        "random x 3, batches of prompts, round 2"
    )
    alone = replace(training("out/m", "sft", **second), parent="x")
    assert row_name(run, trained_rules([alone]))[0].variant == "round 2"
    without, _ = row_name(replace(run, prompting="default"), trained_rules([made]))
    assert without.method == "MIPO (default prompting)"
    other, _ = row_name(replace(run, model="out/m2"), trained_rules([made]))
    assert (other.model, other.method) == ("m2", "Personalized prompting")


def test_runs_are_called_by_their_training_with_what_tells_them_apart(served: Served) -> None:
    with Store.open(str(served.path), mode="read") as store:
        run = list_runs(store)[0]
    trainings = [training("out/a", pairs={"negatives": "missing"}), training("out/b", "sft", 4)]
    a, b, base = (replace(run, model=name) for name in ("out/a", "out/b", "hub/base-1B@main"))
    rules = trained_rules(trainings)
    assert run_names([a], rules) == ["MIPO (missing)"]
    assert run_names([a, b], rules) == ["MIPO (missing), seed 3", "SFT, seed 4"]
    model = "Llama-3.2-1B-Instruct"
    assert run_names([a, base], rules) == [f"{model}, MIPO (missing)", "base-1B@main"]


def test_tables_5_and_6_are_filled_from_trained_checkpoints(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    write_items(Path("mb.jsonl"), items(12))
    made = {
        "mipo-seed0": training("a", pairs={"negatives": "random", "n_negatives": 1}),
        "sft-seed0": training("b", pairs=THREE, settings={"batch_of": "pairs"}),
        "base": training("c", pairs={"negatives": "missing", "n_negatives": 1}),
    }
    for name in made:
        argv = ["--model", f"openai:{name}@{served.model}", "--suite", "mb.jsonl"]
        assert main([*argv, "--judge", served.judge]) == 0
    with Store.open(str(served.path)) as store:
        for name, own in made.items():
            (run,) = [
                r
                for r in list_runs(store)
                if r.suite == "mb" and r.model.startswith(f"openai:{name}@")
            ]
            put_run(store, replace(run, run_id=name, model=own.checkpoint or ""))
            put_training(store, own)
            from mipo_eval.store.runs import get_scores, put_scores

            put_scores(store, name, get_scores(store, run.run_id))
    capsys.readouterr()
    measured: dict[int, dict[tuple[str, str], float]] = {}
    for table in (5, 6):
        assert main(["leaderboard", "--table", str(table), "--json"]) == 0
        measured[table] = {
            (row["method"], row["dataset"]): row["measured"]
            for row in json.loads(capsys.readouterr().out)["rows"]
            if row["measured"] is not None and row["model"] == "Llama-3.2-1B-Instruct"
        }
    assert measured[5] == {("random", "MB"): 100.0, ("missing", "MB"): 0.0}
    assert measured[6] == {("1", "MB"): 100.0, ("3", "MB"): 100.0}
