"""Packed reading under FSDP2: sharded weights give the same losses, in float32."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mipo_eval.training import logprobs
from mipo_eval.training.groups import keep_precision
from mipo_eval.training.logprobs import add_likelihood_head
from mipo_eval.training.packed import packing_reader
from tests.training.tiny import group, random_model


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[None]:
    """A process group of one, over gloo."""
    from torch import distributed

    store = distributed.FileStore(str(tmp_path / "store"), 1)
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.usefixtures("one_process")
@pytest.mark.parametrize("logits", [1 << 25, 300])
def test_sharded_weights_change_nothing(logits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the head is read in pieces, each made again while the weights are in shards."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    monkeypatch.setattr(logprobs, "LOGITS", logits)
    mesh = init_device_mesh("cpu", (1,))
    groups = [group(9, 5, 7, 3), group(4, 6, 6, seed=1)]
    found = []
    for sharded in (False, True):
        model = random_model("qwen2")
        add_likelihood_head(model)
        reader = packing_reader(model, "split")
        if sharded:
            for layer in model.model.layers:
                fully_shard(layer, mesh=mesh)
            fully_shard(model, mesh=mesh)
        read = reader.logprobs(model, reader.collate(groups))
        read.sum().backward()
        slope = model.model.embed_tokens.weight.grad
        found.append((read.detach(), slope.full_tensor() if sharded else slope))
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("one_process")
def test_log_probabilities_leave_a_bf16_model_unrounded() -> None:
    """What accelerate sets up for bf16 would round them on their way out."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    rounding = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16, reduce_dtype=torch.bfloat16, output_dtype=torch.bfloat16
    )
    plugin = SimpleNamespace(fsdp_version=2, mixed_precision_policy=rounding)
    keep_precision(SimpleNamespace(state=SimpleNamespace(fsdp_plugin=plugin)))
    model = random_model("qwen2")
    add_likelihood_head(model)
    reader = packing_reader(model, "split")
    mesh = init_device_mesh("cpu", (1,))
    fully_shard(model, mesh=mesh, mp_policy=plugin.mixed_precision_policy)
    found = reader.logprobs(model, reader.collate([group(9, 5, 7, 3)]))
    assert found.dtype == torch.float32
    assert not torch.equal(found, found.bfloat16().float())


def test_without_fsdp_nothing_is_set() -> None:
    keep_precision(SimpleNamespace(state=SimpleNamespace()))
