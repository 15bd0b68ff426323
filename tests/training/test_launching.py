"""The configurations that ship are such that `accelerate launch` reads all of them."""

from importlib import resources
from pathlib import Path

import pytest
import yaml

FILES = {
    "one_gpu": "NO",
    "ddp": "MULTI_GPU",
    "fsdp2": "FSDP",
    "zero3": "DEEPSPEED",
    "two_hosts": "FSDP",
}
"""Name to the kind of distribution."""


def folder() -> Path:
    return Path(str(resources.files("mipo_eval.training") / "configs" / "accelerate"))


def test_these_are_all_that_ship() -> None:
    assert {path.stem for path in folder().glob("*.yaml")} == FILES.keys()


@pytest.mark.parametrize(("name", "kind"), FILES.items())
def test_accelerate_knows_every_key(name: str, kind: str) -> None:
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import launch_command_parser

    path = folder() / f"{name}.yaml"
    config = load_config_from_file(str(path))  # refuses unknown keys, at the top only
    assert config.distributed_type == kind
    flags = {action.dest for action in launch_command_parser()._actions}
    raw = yaml.safe_load(path.read_text("utf-8"))
    nested = {**raw.get("fsdp_config", {}), **raw.get("deepspeed_config", {})}
    assert nested.keys() <= flags
