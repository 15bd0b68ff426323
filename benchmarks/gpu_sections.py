"""The sections of `benchmarks.gpu`: each yields what it finds, row by row."""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, get_args

import torch

from benchmarks.gpu_work import Machine, Speed, estimated, our_speed, trl_speed
from mipo_eval.environment import environment
from mipo_eval.training.logprobs import add_likelihood_head
from mipo_eval.training.packed import GroupReader, PackedAttention, packing_reader
from mipo_eval.training.recipes import (
    ContrastiveSettings,
    DpoSettings,
    GrpoSettings,
    Optimization,
    PpoSettings,
    SftSettings,
    load_method,
)
from tests.training.jobs import Curves, examples, job
from tests.training.tiny import with_negatives

LOG_2 = 0.6931


class Row(NamedTuple):
    """One line of the table."""

    what: str
    found: str
    goal: str = ""
    met: bool | None = None
    """None where there is no goal, or it cannot be told here."""


@dataclass(frozen=True)
class Section:
    """One part of the measurement."""

    name: str
    seconds: int
    """The most it may take; it is not begun with less left."""
    measure: Callable[[Machine], Iterator[Row]]


def itself(machine: Machine) -> Iterator[Row]:
    """The machine, what is installed, and what its products of matrices come to."""
    yield Row("device", f"{machine.name}, CUDA {torch.version.cuda}")
    known, told = environment(_LIBRARIES), ("mipo_eval", "python", *_LIBRARIES)
    yield Row("versions", ", ".join(f"{name} {known[name]}" for name in told if name in known))
    size = 256 if machine.tiny else 8192
    one = torch.randn(size, size, device=machine.device, dtype=torch.bfloat16)
    times = []
    for _ in range(8):
        machine.sync()
        begun = time.perf_counter()
        _ = one @ one
        machine.sync()
        times.append(time.perf_counter() - begun)
    rate = 2 * size**3 / statistics.median(times[3:])
    share = f", {rate / machine.peak:.0%} of the peak" if machine.peak else ""
    yield Row(f"bf16 products of {size}", f"{rate / 1e12:.3g} TFLOP/s{share}")


_LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate")


def attention(machine: Machine) -> Iterator[Row]:
    """All forms of attention give the log-probabilities and gradients of single rows."""
    model = machine.model("1.5B", **({} if machine.tiny else {"num_hidden_layers": 4})).train()
    add_likelihood_head(model)
    own = model.config._attn_implementation
    groups = machine.groups(3, 2)
    forms = [form for form in get_args(PackedAttention) if form != "flex" or not machine.tiny]

    def read(form: Any, *, narrow: bool) -> tuple[Any, Any]:
        model.set_attn_implementation(own)
        reader = packing_reader(model, form) if form else GroupReader(None)
        batch = _moved(reader.collate(groups), machine)
        cast = torch.autocast(machine.device.type, torch.bfloat16) if narrow else nullcontext()
        with cast:
            found = reader.logprobs(model, batch)
        weights = torch.linspace(-1, 1, found.numel(), device=machine.device)
        total: Any = (found * weights.reshape(found.shape)).sum()
        total.backward()
        slope = torch.cat([p.grad.flatten().float() for p in model.parameters()])
        model.zero_grad(set_to_none=True)
        return found.detach().double(), slope

    exact = read(None, narrow=False)
    for form in forms:
        nats, slope = _apart(read(form, narrow=False), exact)
        found = f"{nats:.1e} nats, gradient {slope:.1e}"
        met = nats < 0.05 and slope < 1e-3
        yield Row(f"float32, {form}: off single rows by", found, "0.05 nats, 1e-3", met)
    rounded = read(None, narrow=True)
    noise = _apart(rounded, exact)
    yield Row("bf16, single rows: off float32 by", f"{noise[0]:.2g} nats, gradient {noise[1]:.1e}")
    for form in forms:
        apart = _apart(read(form, narrow=True), rounded)
        found = f"{apart[0]:.2g} nats, gradient {apart[1]:.1e}"
        met = apart[0] <= 2 * noise[0] and apart[1] <= 2 * noise[1]
        yield Row(f"bf16, {form}: off single rows by", found, "twice what bf16 rounds", met)


def _moved(batch: Mapping[str, Any], machine: Machine) -> dict[str, Any]:
    return {k: v.to(machine.device) if hasattr(v, "to") else v for k, v in batch.items()}


def _apart(one: tuple[Any, Any], other: tuple[Any, Any]) -> tuple[float, float]:
    """Return by how much log-probabilities differ at most, and gradients relatively."""
    nats = float((one[0] - other[0]).abs().max())
    return nats, float((one[1] - other[1]).norm() / other[1].norm())


def step_zero(machine: Machine) -> Iterator[Row]:
    """The first loss is log 2: the reference, read in batches, is what training reads."""
    for name, how in _WEIGHTS.items():
        found = our_speed(machine, "1.5B", 3, how, steps=1)
        met = abs(found.loss - LOG_2) < 0.01
        yield Row(f"1.5B, {name}: first loss", f"{found.loss:.4f}", "log 2 = 0.6931 ± 0.01", met)


_ALL = Optimization(learning_rate=1e-7)
_LORA = Optimization(learning_rate=1e-6, lora_rank=32, gradient_checkpointing=True)
_RECOMPUTED = Optimization(learning_rate=1e-7, gradient_checkpointing=True)
_WEIGHTS = {"all weights": _ALL, "LoRA 32": _LORA}


def small(machine: Machine) -> Iterator[Row]:
    """1.5B with all weights, beside TRL."""
    yield from _beside_trl(machine, "1.5B", _ALL, "1.5B, all weights")


def large(machine: Machine) -> Iterator[Row]:
    """7B with LoRA, beside TRL and the estimate."""
    yield from _beside_trl(machine, "7B", _LORA, "7B, LoRA 32, checkpointing")


def whole(machine: Machine) -> Iterator[Row]:
    """7B with all weights, beside the estimate; TRL holds the same weights."""
    name = "7B, all weights, checkpointing, N = 1"
    found = our_speed(machine, "7B", 1, _RECOMPUTED, steps=4)
    yield from _of_ours(machine, "7B", 1, _RECOMPUTED, (name, found))


def _beside_trl(machine: Machine, size: str, how: Optimization, name: str) -> Iterator[Row]:
    for negatives in (1, 10):
        about = f"{name}, N = {negatives}"
        ours = our_speed(machine, size, negatives, how, steps=3 if machine.tiny else 8)
        yield from _of_ours(machine, size, negatives, how, (about, ours))
        machine.forget_peak()
        stock = trl_speed(machine, size, negatives, how, steps=3 if machine.tiny else 6)
        rate = f"{stock.pair_tokens / stock.seconds:,.0f} tokens of pairs/s, {_gigabytes(stock)}"
        yield Row(f"{about}: trl.DPOTrainer", f"{rate}{stock.note}")
        ratio, goal = stock.seconds / ours.seconds, 3.0 if negatives == 10 else None
        met = None if machine.tiny or goal is None else ratio >= goal
        yield Row(
            f"{about}: times as fast as TRL", f"{ratio:.2f}", f">= {goal:g}" if goal else "", met
        )


def _of_ours(
    machine: Machine, size: str, negatives: int, how: Optimization, measured: tuple[str, Speed]
) -> Iterator[Row]:
    name, found = measured
    rate = f"{found.pair_tokens / found.seconds:,.0f} tokens of pairs/s, {_gigabytes(found)}"
    yield Row(f"{name}: MIPO", f"{rate}, {found.seconds:.3f} s a step")
    if machine.peak:
        share = found.operations / found.seconds / machine.peak
        goal = ">= 40 %" if size == "7B" else ""
        met = share >= 0.4 if goal else None
        yield Row(f"{name}: share of the bf16 peak", f"{share:.1%}", goal, met)
    said = estimated(machine, size, negatives, how)
    beside, met = "", None
    if found.memory:
        off = said / found.memory - 1
        beside, met = f", {off:+.1%} of what was used", abs(off) <= 0.15
    yield Row(f"{name}: --estimate", f"{said / 1e9:.4g} GB{beside}", "within 15 %", met)


def _gigabytes(found: Speed) -> str:
    return "memory not measured" if found.memory is None else f"{found.memory / 1e9:.1f} GB"


_METHODS: Mapping[str, tuple[Callable[..., Any], Any]] = {
    "SFT": (load_method("sft"), SftSettings()),
    "MIPO": (load_method("dpo"), DpoSettings()),
    "SAMI": (load_method("contrastive"), ContrastiveSettings(loss="sami", contexts=3)),
    "PPO (MI)": (load_method("ppo"), PpoSettings(max_new_tokens=32, rollout_batch_size=4)),
    "GRPO (MI)": (load_method("grpo"), GrpoSettings(max_new_tokens=32, generations=4)),
}


def method(name: str) -> Callable[[Machine], Iterator[Row]]:
    """Return the section of one method: a step of it, from a checkpoint to a checkpoint."""

    def measure(machine: Machine) -> Iterator[Row]:
        from transformers import AutoModelForCausalLM

        train, settings = _METHODS[name]
        made = with_negatives() if name == "MIPO" else examples(4, 3)
        curves = Curves()
        with tempfile.TemporaryDirectory() as place:
            base = machine.checkpoint(Path(place, "base"))
            out = Path(place, "out")
            plan = job(base, out, made[:4], report=curves, learning_rate=1e-6, batch_size=4)
            begun = time.perf_counter()
            train(plan, settings)
            seconds = time.perf_counter() - begun
            model = AutoModelForCausalLM.from_pretrained(out, dtype="auto")
            dtype = str(model.dtype).removeprefix("torch.")
        first = curves.points[0][1]
        shown = ", ".join(f"{key} {first[key]:.4g}" for key in ("loss", "reward") if key in first)
        yield Row(f"{name}: one step, saved and loaded", f"{seconds:.1f} s, {shown}, {dtype} files")

    return measure


def generation(machine: Machine) -> Iterator[Row]:
    """Sampled responses of 1.5B through transformers, as the trainers draw them."""
    narrow = torch.float32 if machine.tiny else torch.bfloat16
    model = machine.model("1.5B", narrow).eval()
    rows, new = (4, 8) if machine.tiny else (64, 128)
    ids = torch.randint(5, 300, (rows, machine.workload.prompt), device=machine.device)
    how = {"do_sample": True, "top_k": 0, "max_new_tokens": new, "min_new_tokens": new}
    times = []
    for _ in range(2):
        machine.sync()
        begun = time.perf_counter()
        with torch.no_grad():
            model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **how)
        machine.sync()
        times.append(time.perf_counter() - begun)
    rate = rows * new / statistics.median(times[1:])
    yield Row(f"1.5B: {rows} responses of {new} tokens at a time", f"{rate:,.0f} tokens/s")


SECTIONS = (
    Section("machine", 25, itself),
    Section("forms of attention", 45, attention),
    Section("step 0", 40, step_zero),
    Section("1.5B beside TRL", 70, small),
    Section("7B with LoRA beside TRL", 110, large),
    Section("7B with all weights", 60, whole),
    *(Section(name, 40, method(name)) for name in _METHODS),
    Section("generation", 30, generation),
)
"""In the order of what a first run should tell."""
