"""A checkpoint computes in float32 where the processor cannot multiply its own numbers."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from mipo_eval.models import precision
from mipo_eval.models.lm_eval import Decoding, ModelOptions, generation_spec, load_model
from mipo_eval.models.spec import parse_model

PLAIN = "processor\t: 0\nflags\t\t: fpu sse2 avx2 avx512f\nbugs\t\t: amx_bf16\n"
X86 = "flags\t\t: fpu avx512f avx512_bf16\n"
ARM = "Features\t: fp asimd asimdhp bf16\n"


@pytest.fixture(autouse=True)
def asked_again() -> Iterator[None]:
    precision.processor_flags.cache_clear()
    yield
    precision.processor_flags.cache_clear()


@pytest.fixture
def half(tiny_model: Path) -> Path:
    """The tiny model in bfloat16."""
    folder = Path("half")
    AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.bfloat16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
    return folder


def _processor(monkeypatch: pytest.MonkeyPatch, told: str | None) -> None:
    path = Path("cpuinfo")
    if told is not None:
        path.write_text(told, encoding="utf-8")
    monkeypatch.setattr(precision, "_CPUINFO", path)


def _spec(folder: Path, options: ModelOptions) -> object:
    return generation_spec(parse_model(str(folder)), options, Decoding(), asking={})


@pytest.mark.parametrize("told", [PLAIN, None])
def test_a_processor_without_such_numbers_is_asked_in_float32(
    told: str | None, half: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And that is signed as if the user had said it."""
    _processor(monkeypatch, told)
    said = ModelOptions(arguments={"dtype": "float32"})
    assert _spec(half, ModelOptions()) == _spec(half, said)
    loaded = load_model(parse_model(str(half)), ModelOptions(), Decoding())
    assert loaded._lm.model.dtype == torch.float32
    assert loaded.remark() == "float32, this processor's fastest"


@pytest.mark.parametrize("told", [X86, ARM])
def test_a_processor_with_them_is_asked_as_the_checkpoint_is(
    told: str, half: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _processor(monkeypatch, told)
    assert _spec(half, ModelOptions()) != _spec(half, ModelOptions(arguments={"dtype": "float32"}))
    loaded = load_model(parse_model(str(half)), ModelOptions(), Decoding())
    assert (loaded._lm.model.dtype, loaded.remark()) == (torch.bfloat16, "")


@pytest.mark.parametrize(
    "options",
    [
        ModelOptions(arguments={"dtype": "bfloat16"}),
        ModelOptions(arguments={"dtype": "auto"}),
        ModelOptions(device="cuda"),
    ],
)
def test_who_says_how_is_not_contradicted(
    options: ModelOptions, half: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _processor(monkeypatch, PLAIN)
    assert options.for_engine(parse_model(str(half))) == options.arguments


def test_float32_stays_as_it_was(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _processor(monkeypatch, PLAIN)
    assert ModelOptions().for_engine(parse_model(str(tiny_model))) == {}
