"""Trainings one after the other, on however many processes torchrun starts.

    torchrun ... -m tests.training.two_processes MODEL FOLDER

Where the environment says so as `accelerate launch` does, FSDP or DeepSpeed puts weights in shards.

Each leaves its checkpoint in `FOLDER/NAME` and its learning curve in `FOLDER/NAME.json`. They share
their processes, since starting those takes longer than all of them.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mipo_eval.errors import ConfigError
from tests.training.jobs import Curves, examples, job
from tests.training.tiny import with_negatives

DPO: dict[str, Any] = {"batch_size": 4, "epochs": 2}
"""Settings of the job that another process repeats alone."""
UNEVEN: dict[str, Any] = {**DPO, "micro_batch_size": 2}


def _dpo(model: Path, out: Path, curves: Curves) -> None:
    from mipo_eval.training.dpo import train_dpo
    from mipo_eval.training.recipes import DpoSettings

    train_dpo(job(model, out, with_negatives(), report=curves, **DPO), DpoSettings())


def _uneven(model: Path, out: Path, curves: Curves) -> None:
    """Nine pairs, four at a time and two to a process: the last step has one."""
    from mipo_eval.training.dpo import train_dpo
    from mipo_eval.training.recipes import DpoSettings

    train_dpo(job(model, out, with_negatives(1)[:9], report=curves, **UNEVEN), DpoSettings())


def _rest(model: Path, out: Path, curves: Curves) -> None:
    """Seven pairs, four at a time: the last step has three, one process one of them."""
    from mipo_eval.training.dpo import train_dpo
    from mipo_eval.training.recipes import DpoSettings

    train_dpo(job(model, out, with_negatives(1)[:7], report=curves, **DPO), DpoSettings())


def _sft(model: Path, out: Path, curves: Curves) -> None:
    """Seven texts, four at a time and two to a process: the last step has three."""
    from mipo_eval.training.recipes import SftSettings
    from mipo_eval.training.sft import train_sft

    train_sft(job(model, out, examples()[:7], report=curves, **UNEVEN), SftSettings())


def _sft_rest(model: Path, out: Path, curves: Curves) -> None:
    """Five texts, four at a time: the last step has one, and one process none."""
    from mipo_eval.training.recipes import SftSettings
    from mipo_eval.training.sft import train_sft

    train_sft(job(model, out, examples()[:5], report=curves, **DPO), SftSettings())


def _ppo(model: Path, out: Path, curves: Curves) -> None:
    from mipo_eval.training.ppo import train_ppo
    from mipo_eval.training.recipes import PpoSettings

    plan = job(model, out, examples(), report=curves, save_steps=2)
    settings = PpoSettings(max_new_tokens=6, rollout_batch_size=4, critic_learning_rate=1e-2)
    outcome = train_ppo(plan, settings)
    assert (outcome["prompts"], outcome["rollouts"]) == (12, 3)


def _grpo(model: Path, out: Path, curves: Curves) -> None:
    from mipo_eval.training.grpo import train_grpo
    from mipo_eval.training.recipes import GrpoSettings

    plan = job(model, out, examples(), report=curves, batch_size=4)
    train_grpo(plan, GrpoSettings(max_new_tokens=6, generations=4))


def _grpo_uneven(model: Path, out: Path, curves: Curves) -> None:
    """Five prompts, four at a time: the last step has one, and three that count nothing."""
    from mipo_eval.training.grpo import train_grpo
    from mipo_eval.training.recipes import GrpoSettings

    plan = job(model, out, examples()[:5], report=curves, batch_size=4)
    train_grpo(plan, GrpoSettings(max_new_tokens=6, generations=4))


METHODS: dict[str, Callable[[Path, Path, Curves], None]] = {
    "dpo": _dpo,
    "uneven": _uneven,
    "rest": _rest,
    "sft": _sft,
    "sft-rest": _sft_rest,
    "ppo": _ppo,
    "grpo": _grpo,
    "grpo-uneven": _grpo_uneven,
}


def _lora(model: Path, out: Path, curves: Curves) -> None:
    from mipo_eval.training.dpo import train_dpo
    from mipo_eval.training.recipes import DpoSettings

    plan = job(model, out, with_negatives(), report=curves, lora_rank=4, **DPO)
    train_dpo(plan, DpoSettings())


def _no_ppo(model: Path, out: Path, curves: Curves) -> None:
    try:
        _ppo(model, out, curves)
    except ConfigError as error:
        out.mkdir(exist_ok=True)
        (out / "said.txt").write_text(str(error))


SHARDED: dict[str, Callable[[Path, Path, Curves], None]] = {
    "dpo": _dpo,
    "lora": _lora,
    "ppo": _no_ppo,
}


def _in_shards() -> bool:
    """Let accelerate put weights in shards over gloo, which it does on GPUs only."""
    from accelerate import DistributedType, PartialState

    sharded = {"ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"} & os.environ.keys()
    if sharded:
        PartialState._prepare_backend = lambda *_, **__: ("gloo", DistributedType.MULTI_GPU)
    return bool(sharded)


def main() -> None:
    """Run all, and write the curves once."""
    from accelerate import PartialState

    from mipo_eval.training.trainer import is_main_process

    model, folder = map(Path, sys.argv[1:])
    assert os.environ["WORLD_SIZE"] == "2", "one process would be compared with itself"
    sharded = _in_shards()
    for name, train in (SHARDED if sharded else METHODS).items():
        curves = Curves()
        train(model, folder / name, curves)
        if is_main_process():
            assert PartialState().num_processes == 2
            assert (PartialState().distributed_type.value in {"FSDP", "DEEPSPEED"}) or not sharded
            (folder / f"{name}.json").write_text(json.dumps(curves.points))


if __name__ == "__main__":
    main()
