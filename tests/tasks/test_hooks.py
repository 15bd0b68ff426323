"""The personalization tasks under the plain `lm_eval` command, without and with a judge."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mipo_eval import settings
from mipo_eval.records import Item
from mipo_eval.tasks import hooks
from mipo_eval.tasks.items import write_items
from mipo_eval.tasks.suites import SUITES
from tests.servers.openai_server import OpenAIServer, ok

REPOSITORY = Path(__file__).parents[2]
TASKS = REPOSITORY / "tasks"


def _lm_eval(model: Path, **environment: str) -> dict[str, Any]:
    """Run the command a user of lm-eval would, and return its results."""
    arguments = [
        *("--model", "hf", "--model_args", f"pretrained={model}", "--device", "cpu"),
        *("--include_path", str(TASKS), "--tasks", "mipo_items", "--apply_chat_template"),
        *("--metadata", json.dumps({"source": "tea.jsonl"}), "--gen_kwargs", "max_gen_toks=8"),
        *("--output_path", "results"),
    ]
    subprocess.run(
        [sys.executable, "-m", "lm_eval", *arguments],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
        check=True,
        capture_output=True,
    )
    (file,) = Path("results").rglob("results_*.json")
    results: dict[str, Any] = json.loads(file.read_text())["results"]["mipo_items"]
    file.unlink()
    return {name.partition(",")[0]: value for name, value in results.items()}


@pytest.fixture
def items() -> list[Item]:
    made = [
        Item(item_id=str(n), prompt=f"Tea {n}?", preferences=("Be kind.",), reference="A drink.")
        for n in range(6)
    ]
    write_items(Path("tea.jsonl"), made)
    return made


def test_plain_lm_eval_without_and_with_a_judge(tiny_model: Path, items: list[Item]) -> None:
    free = _lm_eval(tiny_model)
    assert 0 <= free["self_bleu_4"] <= 1
    assert free["empty_rate"] == 0
    assert "win_rate_tie_inclusive" not in free
    with OpenAIServer(lambda call: ok("2" if "A drink." in str(call.body) else "4")) as server:
        judge = f"openai:judge@{server.url}"
        judged = _lm_eval(tiny_model, **{settings.JUDGE: judge})
        assert server.chats == 2 * len(items)  # each text once, though five metrics ask
    assert judged["win_rate_strict"] == 100.0
    assert judged["tie_rate"] == 0.0
    assert judged["rating_mean"] == 4.0
    assert judged["self_bleu_4"] == free["self_bleu_4"]


def test_every_personalization_task_is_loaded_by_lm_eval() -> None:
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(TASKS), include_defaults=False)
    wanted = {task.lm_eval_task for suite in SUITES.values() for task in suite.tasks}
    assert wanted | {"mipo_items", "personalization"} <= set(manager.all_tasks)


def test_documents_are_the_items(items: list[Item]) -> None:
    documents = hooks.documents("tea.jsonl", limit=4, version=1.0)["test"]
    assert [document["item_key"] for document in documents] == [item.key for item in items[:4]]
    assert documents[0]["query"].startswith("Tea 0?")


def test_a_judged_metric_without_any_rating_is_not_a_number(
    items: list[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    with OpenAIServer(ok("no idea")) as server:
        monkeypatch.setenv(settings.JUDGE, f"openai:judge@{server.url}")
        document = {"item": items[0].model_dump_json()}
        judged = hooks.score_response(document, ["Tea."])
        value = hooks.win_rate_strict([judged["win_rate_strict"]])
    assert value != value  # NaN: lm-eval has no other word for "none"  # noqa: PLR0124
