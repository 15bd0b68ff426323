"""Learning from rewards on two processes: rollouts are shared out, both move the same weights."""

from pathlib import Path

import pytest
import torch

from tests.training.jobs import weights
from tests.training.test_resuming import points_of_two

WORKERS = """
import json, sys
from pathlib import Path
from mipo_eval.training.ppo import PpoSettings, train_ppo
from mipo_eval.training.trainer import is_main_process
from tests.training.jobs import Curves, examples, job

curves = Curves()
plan = job(Path(sys.argv[1]), Path(sys.argv[2]), examples(), report=curves, save_steps=2)
settings = PpoSettings(max_new_tokens=6, rollout_batch_size=4, critic_learning_rate=1e-2)
outcome = train_ppo(plan, settings)
assert (outcome.prompts, outcome.rollouts) == (12, 3)
if is_main_process():
    Path(sys.argv[3]).write_text(json.dumps(curves.points))
"""


GRPO_WORKERS = """
import json, sys
from pathlib import Path
from mipo_eval.training.grpo import GrpoSettings, train_grpo
from mipo_eval.training.trainer import is_main_process
from tests.training.jobs import Curves, examples, job

curves = Curves()
plan = job(Path(sys.argv[1]), Path(sys.argv[2]), examples(), report=curves, batch_size=4)
train_grpo(plan, GrpoSettings(max_new_tokens=6, generations=4))
if is_main_process():
    Path(sys.argv[3]).write_text(json.dumps(curves.points))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "steps"), [(WORKERS, [2, 4, 6]), (GRPO_WORKERS, [1, 2, 3])])
def test_two_processes_share_a_rollout(
    workers: str, steps: list[int], tiny_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    found = points_of_two(workers, tiny_model, out)
    points = [(step, metrics) for step, metrics in found if "kl" in metrics]
    assert [step for step, _ in points] == steps
    # Before the first step the policy is the reference in both; later both have left it.
    assert points[0][1]["kl"] == pytest.approx(0.0, abs=1e-5)
    assert points[-1][1]["kl"] > 1e-3
    before, after = weights(tiny_model), weights(out)
    assert any(not torch.equal(before[name], after[name]) for name in before)
