"""What is saved is what was learned, in files no larger than the base model's.

Weights train in float32, and most base models have bf16 files, whose numbers are 0.4 % apart. At
the learning rates of preference training a weight moves by less than that in hundreds of steps, so
to the nearest bf16 number it would go back to where it was: of what was learned at 1e-7, a tenth
is left. Rounded at random, to the number above or below with the odds of how near each is, every
weight is right on average, and so is what millions of them do together (docs/saved.md).

    with_merged(model, seed=0)          # a model with an adapter -> the plain model
    round_files(out, base, seed=0)      # the float32 files that a trainer wrote
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate.utils import get_max_memory
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from mipo_eval.checkpoints import loading
from mipo_eval.keys import item_rng
from mipo_eval.models.weights import draw_neutrally, free_memory
from mipo_eval.progress import Told
from mipo_eval.tasks.items import replacing
from mipo_eval.training.logprobs import add_likelihood_head, response_logprobs

_HALVES = {"BF16": torch.bfloat16, "F16": torch.float16}
"""The precisions that files are rounded to, by safetensors' names."""
_AT_A_TIME = 1 << 24
"""Weights that are rounded together, which takes some copies of them."""
_MOST_LOST = 0.05
"""Share of the margin that a file may lose without a word."""
_ROWS = 4
"""Responses that are read in one forward pass."""


def round_at_random(exact: Tensor, dtype: torch.dtype, *, seed: int, name: str) -> Tensor:
    """Return float32 numbers in a coarser precision, each right on average.

    A number x between two neighbours a < b of that precision becomes b with probability
    (x - a) / (b - a), else a; what the precision holds already stays. The draw belongs to the
    weight's `name`: a training that was stopped and continued is saved as one that was not.
    """
    if dtype.itemsize >= exact.element_size():
        return exact.to(dtype)
    rng = torch.Generator().manual_seed(item_rng(seed, "rounding", name).getrandbits(63))
    flat = exact.detach().cpu().flatten()
    parts = [_rounded(part, dtype, rng) for part in torch.split(flat, _AT_A_TIME)]
    return torch.cat(parts).view(exact.shape).to(exact.device) if parts else exact.to(dtype)


def _rounded(exact: Tensor, dtype: torch.dtype, rng: torch.Generator) -> Tensor:
    near = exact.to(dtype)
    # As integers, numbers of one sign stand in the order of their size: the neighbour is one away.
    step = torch.where(exact.abs() > near.float().abs(), 1, -1).to(torch.int16)
    other = (near.view(torch.int16) + step).view(dtype)
    share = (exact - near.float()) / (other.float() - near.float())
    drawn = torch.rand(exact.shape, generator=rng)
    return torch.where((drawn < share) & other.isfinite(), other, near)


def with_merged(model: Any, *, seed: int) -> Any:
    """Return the plain model of one with an adapter, which is added to its weights.

    Layer by layer the sum is made in float32 and rounded at random to what the layer has.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    with torch.no_grad():
        for name, module in model.named_modules():
            if not isinstance(module, BaseTunerLayer):
                continue
            layer = module.get_base_layer()
            before = {key: weight.dtype for key, weight in layer.named_parameters()}
            layer.float()
            module.merge()
            for key, weight in layer.named_parameters():
                own = f"{name}.{key}"
                weight.data = round_at_random(weight, before[key], seed=seed, name=own)
    return model.unload()


def round_files(folder: Path, base: Path, *, seed: int) -> None:
    """Bring the float32 files of a trained checkpoint to the precision of its base, in place.

    What the base keeps in float32 among coarser weights stays so. One weight after the other is
    read and rounded; no model is made.
    """
    config = folder / "config.json"
    dtype = str(dtype_of(base))
    wanted = {name: half for name, half in _HALVES.items() if dtype == str(half)}
    if not wanted:
        return
    stored = _stored(base)
    mixed = wanted.keys() & set(stored.values())
    size = 0
    for path in sorted(folder.glob("*.safetensors")):
        tensors: dict[str, Tensor] = {}
        with safe_open(path, framework="pt") as file:
            about = file.metadata()
            for name in file.keys():  # noqa: SIM118 (no mapping)
                tensor = file.get_tensor(name)
                if tensor.dtype == torch.float32 and not (mixed and stored.get(name) == "F32"):
                    tensor = round_at_random(tensor, *wanted.values(), seed=seed, name=name)
                tensors[name] = tensor
                size += tensor.nbytes
        with replacing(path) as part:
            save_file(tensors, part, metadata=about)
    index = folder / "model.safetensors.index.json"
    if index.exists():
        found = json.loads(index.read_text(encoding="utf-8"))
        found["metadata"]["total_size"] = size
        index.write_text(json.dumps(found, indent=2), encoding="utf-8")
    named = _with_dtype(json.loads(config.read_text(encoding="utf-8")), dtype.rpartition(".")[2])
    config.write_text(json.dumps(named, indent=2), encoding="utf-8")


def dtype_of(base: Path) -> torch.dtype:
    """Return the precision that a checkpoint's configuration names."""
    from transformers import AutoConfig

    found = getattr(AutoConfig.from_pretrained(base), "dtype", None)
    return found if isinstance(found, torch.dtype) else torch.float32


def _stored(base: Path) -> dict[str, str]:
    """Return the precision in which a checkpoint's files hold each weight."""
    found: dict[str, str] = {}
    for path in base.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            found |= {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
    return found


def _weights(folder: Path) -> int:
    """Return how many weights a checkpoint's files hold."""
    found = 0
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            found += sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    return found


def _with_dtype(config: Any, dtype: str) -> Any:
    """Return a configuration that says, in all its parts, that weights are of a precision."""
    if not isinstance(config, dict):
        return config
    return {
        key: dtype if key in {"dtype", "torch_dtype"} else _with_dtype(value, dtype)
        for key, value in config.items()
    }


class MarginPairs(NamedTuple):
    """Pairs on which it is measured what was learned, and what of it is in the files."""

    chosen: Sequence[tuple[Sequence[int], Sequence[int]]]
    """Token ids of prompts and chosen responses."""
    rejected: Sequence[tuple[Sequence[int], Sequence[int]]]
    """The same prompts, and a rejected response to each."""
    beta: float

    def distances(
        self,
        folder: str | Path,
        adapter: Path | None = None,
        *,
        told: Told = lambda _: None,
    ) -> Tensor | None:
        """Return (pairs,) log pi(chosen) - log pi(rejected) in nats under a checkpoint, in float32.

        None where there is no memory for it: the training is done, and is not to fail by this.
        `told` hears of every response that was read.

        Raises:
            ModelError: it cannot be loaded.
        """
        free_memory()
        place = 0 if torch.cuda.is_available() else "cpu"
        if 4 * _weights(Path(folder)) > get_max_memory().get(place, 0):  # a host kills who tries
            return None
        try:
            return self._read(folder, adapter, place, told)
        except RuntimeError as error:  # torch.OutOfMemoryError is one
            if "out of memory" not in str(error).lower():
                raise
            return None

    @torch.no_grad()
    def _read(
        self,
        folder: str | Path,
        adapter: Path | None,
        place: int | str,
        told: Told,
    ) -> Tensor:
        from transformers import AutoModelForCausalLM

        with loading(str(folder)):
            model = AutoModelForCausalLM.from_pretrained(
                folder, dtype=torch.float32, device_map=place, use_safetensors=True
            )
        draw_neutrally(model)
        add_likelihood_head(model)
        if adapter is not None:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, str(adapter))
        model.eval()
        texts = [*self.chosen, *self.rejected]
        sums = response_logprobs(model, texts, rows=_ROWS, told=told).double().cpu()
        return sums[: len(self.chosen)] - sums[len(self.chosen) :]


class Margins(NamedTuple):
    """Mean of beta * ((log pi - log ref)(chosen) - (log pi - log ref)(rejected)), in nats."""

    learned: float
    """Of the weights as they were trained."""
    saved: float
    """Of the files, loaded again."""

    @property
    def remark(self) -> str | None:
        """What to say where the files hold less than was learned."""
        if abs(self.saved - self.learned) <= _MOST_LOST * abs(self.learned) + 1e-6:
            return None
        return (
            f"the saved files have a margin of {self.saved:.4g} nats where {self.learned:.4g} were "
            f"learned, {self.saved / self.learned:.0%} of it, and evaluations see the files: train "
            "a copy of the base model that is saved in float32"
        )
