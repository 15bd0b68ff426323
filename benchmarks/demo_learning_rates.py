"""How learning rates of the demo's methods were chosen: by training items that no training uses.

    python -m benchmarks.demo_learning_rates "MIPO (missing)" 1e-4 2e-4 4e-4

Trains a row of the demo's table (`mipo_eval/grid/files/demo.yaml`) once with each rate, seed 0, and
prints the share of satisfied wishes on training items 1,024 to 1,223, greedy, in percent; the base
model's comes first. Test items are not looked at. Takes about a minute a rate; responses are kept
in the current folder and drawn once.
"""

import argparse
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from mipo_eval.cli.render import Output
from mipo_eval.demo import TRAINING_ITEMS, world
from mipo_eval.demo.model import base_model
from mipo_eval.grid.file import MethodPart, read_grid
from mipo_eval.models.lm_eval import ModelOptions, decoding_for, load_model
from mipo_eval.models.spec import parse_model
from mipo_eval.settings import silence_libraries
from mipo_eval.store import Store
from mipo_eval.store.responses import Answered
from mipo_eval.tasks.suites import find_suite
from mipo_eval.training.data import load_items
from mipo_eval.training.demonstration import satisfied
from mipo_eval.training.run import make_request, train

GRID = read_grid("demo")
FIRST, COUNT = 1024, 200
FOLDER = Path("demo-learning-rates")


def share(checkpoint: str) -> float:
    """Return the percent of wishes that a checkpoint's greedy responses satisfy."""
    items = list(islice(world.items("train"), FIRST, FIRST + COUNT))
    spec = parse_model(checkpoint)
    decoding = decoding_for(spec, {}, seed=0, max_tokens=find_suite("demo").max_tokens)
    model = load_model(spec, ModelOptions(batch_size=64), decoding)
    with TemporaryDirectory() as folder:
        task = load_items(find_suite("demo").tasks[0], items, Path(folder), decoding)
        responses = model.ask(task, range(len(items)))
    rated = satisfied(
        [
            Answered(position=n, task="demo", item=item, response=response)
            for n, (item, response) in enumerate(zip(items, responses, strict=True))
        ]
    )
    return sum(rated) / len(rated)


def trained(entry: MethodPart, rate: str, items: int) -> str:
    """Return the folder of a row's checkpoint at a learning rate."""
    more = {"lr": rate, "items.limit": items}
    entry = entry.model_copy(update={"set": entry.set | more})
    recipe = GRID.recipe(GRID.models[0], GRID.suites[0], entry)
    request = make_request(recipe, model="demo", suite="demo", out=Path(), seed=0)
    request = replace(request, out=FOLDER / request.training_id[:16])
    with Store.open(str(FOLDER / "store.db")) as store:
        train(store, request, Output(as_json=True))
    return str(request.out)


def main() -> None:
    """Print a line per rate."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("row", choices=[entry.label for entry in GRID.methods])
    parser.add_argument("rates", nargs="+", metavar="RATE")
    parser.add_argument("--items", type=int, default=TRAINING_ITEMS, help="training items")
    args = parser.parse_args()
    silence_libraries()
    FOLDER.mkdir(exist_ok=True)
    (entry,) = (entry for entry in GRID.methods if entry.label == args.row)
    sys.stdout.write(f"{args.row}: base model {share(str(base_model())):.1f}\n")
    for rate in args.rates:
        sys.stdout.write(f"{args.row}: {rate} {share(trained(entry, rate, args.items)):.1f}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
