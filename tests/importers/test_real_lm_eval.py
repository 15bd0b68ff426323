"""What the installed lm-eval itself writes is read, and our files look like its own."""

import json
from pathlib import Path
from typing import Any

import pytest

from mipo_eval.importers import read_path, store_runs
from mipo_eval.reports.export import write
from mipo_eval.reports.exported_run import ExportedRun, load_run
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


def _imported(path: Path, name: str) -> ExportedRun:
    with Store.open(name) as store:
        store_runs(store, read_path(path).runs)
        (run,) = list_runs(store)
        return load_run(store, run)


def test_results_and_samples_of_lm_eval_are_taken_whole(output: Path) -> None:
    (path,) = output.rglob("results_*.json")
    told = json.loads(path.read_text())["results"]
    record = _imported(output, "one.db")
    found = {(score.task, score.metric): score.value for score in record.scores}
    for task in ("mipo_svamp", "mipo_arc_easy_letters"):
        accuracy = told[task]["accuracy,none"]
        assert found[task, "accuracy"] == pytest.approx(100 * accuracy)
        items = [made for made in record.items if made.task == task]
        assert len(items) == 5
        (judge,) = (key for key, name in record.judges.items() if name == "accuracy,none")
        grades = [made.grades[judge].value for made in items]
        assert sum(g or 0.0 for g in grades) / 5 == pytest.approx(accuracy)
    assert {score.n for score in record.scores} == {5}
    generated = [made for made in record.items if made.task == "mipo_svamp"]
    assert all(made.text is not None for made in generated)


def test_an_imported_run_goes_out_and_comes_back(output: Path) -> None:
    record = _imported(output, "one.db")
    Path("again").mkdir()
    write([record], "lm_eval", Path("again/results_2026-01-02T03-04-05.json"))
    again = _imported(Path("again"), "two.db")
    assert again.model == record.model
    for name in ("value", "n"):
        first, second = (
            {(s.task, s.metric): getattr(s, name) for s in r.scores} for r in (record, again)
        )
        assert second == first
    texts = [(made.item.prompt, made.text, made.task) for made in record.items]
    assert [(made.item.prompt, made.text, made.task) for made in again.items] == texts
    assert _grades(again) == _grades(record)


def _grades(record: ExportedRun) -> list[float]:
    return sorted(g.value or 0.0 for made in record.items for g in made.grades.values())
