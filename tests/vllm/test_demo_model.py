"""The demo model behind a real vLLM: as the model under evaluation, and as a judge, by command."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mipo_eval.cli import main
from mipo_eval.demo.model import base_model
from tests.vllm.server import VllmServer

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

LIMIT = 40


@pytest.fixture(scope="module")
def demo(vllm_server: Callable[..., VllmServer]) -> VllmServer:
    return vllm_server(base_model())


def scores(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, dict[str, Any]]:
    capsys.readouterr()
    assert main([*argv, "--suite", "demo", "--limit", str(LIMIT), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["scores"]
    return {score["metric"]: score for score in found}


def test_the_served_model_is_the_same_model(
    demo: VllmServer, capsys: pytest.CaptureFixture[str]
) -> None:
    served = scores(capsys, "--model", f"openai:{demo.model}@{demo.url}", "--judge", "checker")
    here = scores(capsys, "--model", "demo", "--judge", "checker")
    assert served["rating_mean"]["n"] == here["rating_mean"]["n"] == LIMIT
    # Greedy, but in another order of additions: an answer may turn at a near tie.
    assert served["rating_mean"]["value"] == pytest.approx(here["rating_mean"]["value"], abs=0.15)
    lengths = [found["response_tokens"]["value"] for found in (served, here)]
    assert lengths[0] == pytest.approx(lengths[1], rel=0.05)


@pytest.mark.parametrize("constrained", [False, True])
def test_as_a_judge_its_replies_are_unscored_unless_it_is_held_to_ratings(
    demo: VllmServer, capsys: pytest.CaptureFixture[str], constrained: bool
) -> None:
    # Ours is longer than the 512 tokens that this model reads.
    Path("short.txt").write_text("{query}\n{response}\n{preference}\nHow well, 1 to 5?\n")
    judge = Path(f"demo-{constrained}.yaml")
    judge.write_text(
        f"description: a model that gives advice\nbackend: openai:{demo.model}@{demo.url}\n"
        f"prompt: short.txt\nprotocol: rubric\nconstrained: {str(constrained).lower()}\n"
    )
    found = scores(capsys, "--model", "demo", "--judge", str(judge))
    win = found["win_rate_tie_inclusive"]
    assert win["n"] + win["unscored"] == LIMIT
    if constrained:
        assert win["n"] == LIMIT
    else:
        # It gives advice, for longer than a rating takes: one comes about by chance.
        assert win["n"] <= LIMIT // 8
        assert set(win["unscored_reasons"]) == {"reply cut off before an answer"}
