"""A training begins at an adapter as at a checkpoint, and draws without the checkpoint's habits."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from mipo_eval.checkpoints import find_checkpoint
from mipo_eval.errors import ModelError
from mipo_eval.models.spec import parse_model
from mipo_eval.records import Item
from mipo_eval.store import Store
from mipo_eval.tasks.items import write_items
from mipo_eval.training.ppo import train_ppo
from mipo_eval.training.recipes import PpoSettings, load_recipe
from mipo_eval.training.run import check_model, make_request, train
from mipo_eval.training.start import start_folder
from tests.servers.openai_server import OpenAIServer, ok
from tests.small_models import make_adapter
from tests.training.jobs import Curves, examples, job, weights
from tests.training.test_run import Halting


@pytest.fixture
def adapter(tiny_model: Path) -> Path:
    """A LoRA adapter on `tiny_model`, which its configuration names."""
    return make_adapter(Path("adapter"), tiny_model)


def test_an_adapter_is_merged_once(tiny_model: Path, adapter: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    checkpoint = find_checkpoint(str(adapter))
    folder = start_folder(checkpoint, Path("out"))
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    expected = PeftModel.from_pretrained(base, str(adapter)).merge_and_unload().state_dict()
    found = weights(folder)
    assert all(torch.equal(found[name], expected[name]) for name in found)
    assert parse_model(str(folder)).has_chat_template
    moment = (folder / "model.safetensors").stat().st_mtime_ns
    assert start_folder(checkpoint, Path("out")) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == moment
    whole = find_checkpoint(str(tiny_model))
    assert start_folder(whole, Path("other")) == tiny_model
    assert not Path("other").exists()


@pytest.mark.parametrize("lora", [False, True])
def test_a_training_starts_at_an_adapter(adapter: Path, lora: bool) -> None:
    """With a learning rate of nothing it ends where it began."""
    items = [Item(item_id=f"i{n}", prompt=f"Tea {n}?", context=f"I am {n}.") for n in range(4)]
    write_items(Path("tea.jsonl"), items)
    with OpenAIServer(ok("Tea is tea.")) as server:
        drawn = f"sampling.model=openai:judge@{server.url}"
        request = make_request(
            load_recipe("sft", overrides=["lr=1e-30", drawn, *(["lora=2"] if lora else [])]),
            model=str(adapter), suite="tea.jsonl", out=Path("out"), seed=0,
        )  # fmt: skip
        with Store.open("a.db") as store:
            assert train(store, request, Halting()).status == "done"
    begun = weights(start_folder(find_checkpoint(str(adapter)), Path("elsewhere")))
    ended = weights(Path("out"))
    assert all(torch.allclose(begun[name], ended[name], atol=1e-6) for name in begun)
    assert Path("out/start").exists() == lora, "the new adapter's base is kept"
    if lora:
        assert find_checkpoint("out/adapter").folder == Path("out/start").absolute()


def test_an_adapter_that_does_not_fit_its_base(adapter: Path, tmp_path: Path) -> None:
    from tests.small_models import make_model

    make_model(tmp_path / "wide", head=32)
    with pytest.raises(ModelError, match="cannot be merged into its base: "):
        start_folder(find_checkpoint(f"{adapter},base={tmp_path}/wide"), Path("out"))


def test_quantised_weights_are_not_trained(tiny_model: Path) -> None:
    shutil.copytree(tiny_model, "quantised")
    config = json.loads(Path("quantised/config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq"}
    Path("quantised/config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"is quantised \(gptq\), so it cannot be trained"):
        check_model(parse_model("./quantised"), load_recipe("sft"))


def test_rollouts_are_drawn_without_the_checkpoints_habits(tiny_model: Path) -> None:
    shutil.copytree(tiny_model, "habitual")
    path = Path("habitual/generation_config.json")
    own = json.loads(path.read_text()) | {"repetition_penalty": 5.0, "no_repeat_ngram_size": 1}
    path.write_text(json.dumps(own))
    trained = {}
    for model in (tiny_model, Path("habitual")):
        out = Path("out") / model.name
        train_ppo(
            job(model, out, examples(), report=Curves(), learning_rate=3e-3),
            PpoSettings(rollout_batch_size=4, max_new_tokens=8),
        )
        trained[model.name] = weights(out)
    first, second = trained.values()
    assert all(torch.equal(first[name], second[name]) for name in first)
    kept = json.loads(Path("out/habitual/generation_config.json").read_text())
    assert kept == own, "who uses the result has them again"
