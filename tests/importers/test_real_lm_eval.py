"""What the installed lm-eval itself writes is read, and our files look like its own."""

import json
from pathlib import Path
from typing import Any

import pytest

from mipo_eval.importers import RunRecord, read_path, store_runs
from mipo_eval.reports.export import load_record, write
from mipo_eval.store import Store
from mipo_eval.store.runs import list_runs

TASKS = Path(__file__).parents[2] / "tasks"


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Path:
    """The folder lm-eval wrote: one generated and one likelihood task, five questions each."""
    from lm_eval import simple_evaluate
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.tasks import TaskManager

    folder = tmp_path_factory.mktemp("lm_eval")
    metadata: dict[str, Any] = {"data_dir": str(shared_data), "limit": 5}
    manager = TaskManager(include_path=str(TASKS), include_defaults=False, metadata=metadata)
    tracker = EvaluationTracker(output_path=str(folder))
    results = simple_evaluate(
        model="hf",
        model_args={"pretrained": str(shared_data / "stories260k" / "hf"), "dtype": "float32"},
        tasks=["mipo_svamp", "mipo_arc_easy_letters"],
        task_manager=manager,
        gen_kwargs={"max_gen_toks": 16},
        bootstrap_iters=0,
        device="cpu",
        batch_size=5,
        evaluation_tracker=tracker,
    )
    samples = results.pop("samples")
    tracker.save_results_aggregated(results=results, samples=samples)
    for task in results["configs"]:
        tracker.save_results_samples(task_name=task, samples=samples[task])
    return folder


def _imported(path: Path, name: str) -> RunRecord:
    with Store.open(name) as store:
        store_runs(store, read_path(path).runs)
        (run,) = list_runs(store)
        return load_record(store, run)


def test_results_and_samples_of_lm_eval_are_taken_whole(output: Path) -> None:
    (path,) = output.rglob("results_*.json")
    told = json.loads(path.read_text())["results"]
    record = _imported(output, "one.db")
    found = {(score.task, score.metric): score.value for score in record.scores}
    for task in ("mipo_svamp", "mipo_arc_easy_letters"):
        accuracy = told[task]["accuracy,none"]
        assert found[task, "accuracy"] == pytest.approx(100 * accuracy)
        entries = [entry for entry in record.entries if entry.task == task]
        assert len(entries) == 5
        keys = {entry.item.key for entry in entries}
        (judge,) = (j.key for j in record.judges if j.name == "accuracy,none")
        grades = [g.value for g in record.grades if g.judge_key == judge and g.item_key in keys]
        assert sum(g or 0.0 for g in grades) / 5 == pytest.approx(accuracy)
    assert {score.n for score in record.scores} == {5}
    generated = [entry for entry in record.entries if entry.task == "mipo_svamp"]
    assert all(entry.text is not None for entry in generated)


def test_an_imported_run_goes_out_and_comes_back(output: Path) -> None:
    record = _imported(output, "one.db")
    Path("again").mkdir()
    write([("r", record)], "lm_eval", Path("again/results_2026-01-02T03-04-05.json"))
    again = _imported(Path("again"), "two.db")
    assert again.model == record.model
    for name in ("value", "n"):
        first, second = (
            {(s.task, s.metric): getattr(s, name) for s in r.scores} for r in (record, again)
        )
        assert second == first
    texts = [(entry.item.prompt, entry.text, entry.task) for entry in record.entries]
    assert [(entry.item.prompt, entry.text, entry.task) for entry in again.entries] == texts
    assert sorted(g.value or 0.0 for g in again.grades) == sorted(
        g.value or 0.0 for g in record.grades
    )
