"""lighteval: results_TIME.json, the numbers of each task and of the families it averages.

Names and scale are lighteval's own ("em" is 0-1).
"""

from collections.abc import Sequence
from pathlib import Path

from mipo_eval.importers.base import Imported, RunRecord, facts, part, signed, told
from mipo_eval.records import Score
from mipo_eval.rows import FileRow
from mipo_eval.signature import in_signature, join

SOURCE = "lighteval"
_ABOUT = ("model_sha", "model_dtype", "model_config", "lighteval_sha", "max_samples",
          "num_fewshot_seeds", "override_batch_size", "job_id", "start_time")  # fmt: skip


def is_ours(row: FileRow) -> bool:
    """Whether a row is a results document."""
    return isinstance(row.data.get("config_general"), dict) and "results" in row.data


def read(rows: Sequence[FileRow], path: Path, imported: Imported) -> None:
    """Add a run per document."""
    for row in rows:
        imported.rows += 1
        general = row.row("config_general")
        tasks = [task for task in row.row("results").data if task != "all"]
        suite = f"lighteval/{','.join(tasks)}"
        run = RunRecord(
            source=SOURCE,
            model=_model(general) or path.absolute().parent.name,
            suite=suite if len(suite) <= 80 else f"{suite[:70]} and more",
            told=told([row]),
            about=facts(**{name: general.data.get(name) for name in _ABOUT}),
        )
        run.scores = signed(run, _scores(row))
        if run.scores:
            imported.runs.append(run)
        else:
            imported.left_out["a results document without a score"] += 1


def _model(general: FileRow) -> str | None:
    config = part(general.data.get("model_config"))
    name = general.data.get("model_name") or config.get("model_name")
    if not name:
        return None
    revision = config.get("revision") or "main"
    return str(name) if revision == "main" else f"{name}@{revision}"


def _scores(row: FileRow) -> list[Score]:
    scores = []
    for task, numbers in row.row("results").data.items():
        if not isinstance(numbers, dict):
            raise row.wrong(f"results of {task} are not an object")
        for metric, value in numbers.items():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or metric.endswith("_stderr"):
                continue
            error = numbers.get(f"{metric}_stderr")
            ends = None
            if isinstance(error, int | float):
                ends = value - 1.96 * error, value + 1.96 * error
            signature = join(filter="none", interval="normal" if ends else None)
            score = Score(
                task=in_signature(task),
                metric=metric,
                value=float(value),
                n=_counted(row, task),
                ci95=ends,
                signature=signature,
            )
            scores.append(score)
    return scores


def _counted(row: FileRow, task: str) -> int | None:
    """Return over how many questions a task is; its configuration is named without the shots."""
    configs = part(row.data.get("config_tasks"))
    name = task.rpartition("|")[0]
    # Versions differ in whether a configuration is named with its suite, its shots, or neither.
    known = [key for key in configs if key in {task, name} or key.endswith(f"|{name}")]
    n = part(configs[known[0]]).get("effective_num_docs") if known else None
    return n if isinstance(n, int) and n > 0 else None
