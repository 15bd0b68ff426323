"""Suites with right answers, by command, against a model that a real vLLM serves."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mipo_eval import settings
from mipo_eval.cli import main
from mipo_eval.tasks.sources import load_source
from tests.small_models import make_parrot
from tests.vllm.server import VllmServer

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

LIMIT = 40


def test_a_model_that_always_says_b_is_right_where_b_is(
    shared_data: Path,
    tmp_path: Path,
    vllm_server: Callable[..., VllmServer],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(settings.DATA, str(shared_data))
    served = vllm_server(make_parrot(tmp_path / "parrot", "The answer is B."))
    argv = ["--model", f"openai:{served.model}@{served.url}", "--suite", "verifiable"]
    assert main([*argv, "--limit", str(LIMIT), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["scores"]
    share = {(score["task"], score["metric"]): score["value"] for score in found}
    for task in ("arc_easy", "arc_challenge", "mmlu"):
        items = list(load_source(task))[:LIMIT]
        right = sum(item.reference.startswith("B") for item in items)
        assert share[task, "accuracy"] == pytest.approx(100 * right / LIMIT)
        assert share[task, "unextracted_rate"] == 0
    for task in ("gsm8k", "svamp"):
        assert (share[task, "accuracy"], share[task, "unextracted_rate"]) == (0, 100)
