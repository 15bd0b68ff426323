"""`mipo-eval data prepare` with an extractor that a real vLLM serves."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mipo_eval.cli import main
from mipo_eval.tasks.items import read_items
from tests.small_models import make_parrot
from tests.tasks.rows import prism_rows
from tests.vllm.server import VllmServer

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

FOUND = {"tone": "Be warm.", "length": "Keep it short."}


def test_a_served_model_extracts_preferences(
    tmp_path: Path, vllm_server: Callable[..., VllmServer], capsys: pytest.CaptureFixture[str]
) -> None:
    served = vllm_server(make_parrot(tmp_path / "extractor", json.dumps(FOUND)))
    raw = Path("raw")
    raw.mkdir()
    (raw / "utterances.jsonl").write_text("".join(json.dumps(row) + "\n" for row in prism_rows()))
    argv = ["data", "prepare", "prism", "--source", "raw", "--train", "30", "--test", "8"]
    argv += ["--extractor", f"openai:{served.model}@{served.url}", "--data", "items", "--json"]
    assert main(argv) == 0
    report = json.loads(capsys.readouterr().out)["report"]
    assert [report["parts"][part]["items"] for part in ("train", "test")] == [30, 8]
    items = list(read_items(Path("items/prism-test.jsonl")))
    assert all(item.preferences == tuple(FOUND.values()) for item in items)
    assert main(["data", "check", "items/prism-test.jsonl"]) == 0
