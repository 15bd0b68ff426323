"""Make the demo's base model by its recipe and put it where it ships: `make base-model`.

For whoever changed the demo world's text, the recipe or the wording of a query, which
`test_the_shipped_model_learned_what_the_recipe_says` notices. Takes minutes; prints the fingerprint
that `mipo_eval/demo/model.py` has to name.
"""

import functools
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

from mipo_eval.checkpoints import fingerprint
from mipo_eval.cli.output import Output
from mipo_eval.demo import model, world
from mipo_eval.demo.pretraining import PretrainingRecipe
from mipo_eval.keys import digest
from mipo_eval.records import Item
from mipo_eval.tasks.prompt import render_query

RENDER: Callable[[Item], str] = functools.partial(render_query, prompting="personalized")
SHIPPED = Path(model.__file__).parent / "base_model"
MADE_BY = "made_by.json"
"""File beside the weights that says what they come from."""


def made_by() -> dict[str, object]:
    """Return what decides the weights: the recipe, and a digest of a sample of the text."""
    recipe = PretrainingRecipe()
    text = [
        [RENDER(exchange.item), exchange.answer]
        for exchange in (world.exchange(n, seed=recipe.seed) for n in range(0, 12_000, 40))
    ]
    return {"recipe": asdict(recipe), "text": digest(text)}


def ship(rebuilt: Path) -> str:
    """Copy a rebuilt model to where it ships, its weights rounded to bf16; return its fingerprint.

    Its configuration says float32, so that everything that reads it computes in float32: that is
    fast on every processor, and gives the same responses on all of them.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    card = (SHIPPED / "README.md").read_text(encoding="utf-8")
    shutil.rmtree(SHIPPED)
    weights = AutoModelForCausalLM.from_pretrained(rebuilt, dtype=torch.bfloat16)
    weights.save_pretrained(SHIPPED)
    AutoTokenizer.from_pretrained(rebuilt).save_pretrained(SHIPPED)
    config = json.loads((SHIPPED / "config.json").read_text(encoding="utf-8"))
    _write(SHIPPED / "config.json", config | {"dtype": "float32"})
    versions = {name: metadata.version(name) for name in ("torch", "transformers", "tokenizers")}
    _write(SHIPPED / MADE_BY, made_by() | {"with": versions})
    (SHIPPED / "README.md").write_text(card, encoding="utf-8")
    for file in SHIPPED.iterdir():
        file.chmod(0o644)
    return fingerprint(SHIPPED)


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Rebuild, ship, and say what the fingerprint is now."""
    bar = Output(as_json=False).steps("base model of the demo world")
    found = ship(model.rebuild_base_model(RENDER, on_step=bar))
    sys.stdout.write(f'put this into {model.__file__}:\nFINGERPRINT = "{found}"\n')


if __name__ == "__main__":
    main()
