"""What more rounds of MIPO gain in the demo world, with either reference.

    python -m benchmarks.demo_rounds --rounds 3 --rate 1e-4

Trains the demo's row "MIPO (missing)", seed 0, round after round, and asks every checkpoint the
test items: share of satisfied wishes, its gain over the round before, wins and Self-BLEU. Round 1
is the same with both. About ten minutes of one core; what was made is kept in the current folder.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import get_args

from mipo_eval.cli.evaluate import evaluate_asked
from mipo_eval.cli.render import Output
from mipo_eval.demo import TRAINING_ITEMS
from mipo_eval.evaluation.asked import EvaluationOptions
from mipo_eval.evaluation.run import Result
from mipo_eval.grid.file import read_grid
from mipo_eval.settings import silence_libraries
from mipo_eval.store import Store
from mipo_eval.store.responses import answered
from mipo_eval.store.trainings import list_trainings, rounds_up_to
from mipo_eval.training.demonstration import outcomes
from mipo_eval.training.rounds import RoundSettings
from mipo_eval.training.run import make_request, train

FOLDER = Path("demo-rounds")
BESIDE = ("win_rate_tie_inclusive", "self_bleu_4")


def checkpoints(store: Store, settings: RoundSettings, items: int, rate: str) -> list[str]:
    """Return the folders of all rounds, trained where they are not there."""
    grid = read_grid("demo")
    (model,), (suite,) = grid.models, grid.suites
    (row,) = (method for method in grid.methods if method.label == "MIPO (missing)")
    own = {"lr": rate, "items.limit": items}
    row = row.model_copy(update={"set": {**row.set, **own}})
    recipe = replace(grid.recipe(model, suite, row), rounds=settings)
    out = FOLDER / f"{settings.reference}-{rate}"
    request = make_request(recipe, model="demo", suite="demo", out=out, seed=0)
    done = train(store, request, Output(as_json=True))
    return [str(one.checkpoint) for one in rounds_up_to(done, list_trainings(store))]


def evaluated(store: Store, model: str) -> Result:
    """Return the scores of a model on the test items, asked as `mipo-eval demo` does."""
    asked = EvaluationOptions(model=model, suite="demo", engine="batch_size=64")
    return evaluate_asked(asked, store, Output(as_json=True))


def line(store: Store, name: str, result: Result, before: Result | None) -> str:
    """Return a row of the table; the gain is over what was `before`, paired by wish."""
    pair = {"before": [before or result], "after": [result]}
    answers = {
        one: [list(answered(store, r.run.list_key, r.run.generation_key)) for r in results]
        for one, results in pair.items()
    }
    found = outcomes(answers, baseline="before")["after"]
    gain = "| "
    if before and found.gain and found.gain.items_ci95:
        low, high = found.gain.items_ci95
        gain = f"| {found.gain.mean:+.1f} [{low:.1f}, {high:.1f}] "
    scores = {score.metric: score.value for score in result.scores}
    wins, bleu = (scores[metric] or 0.0 for metric in BESIDE)
    return f"| {name} | {found.satisfied.mean:.1f} {gain}| {wins:.1f} | {bleu:.3f} |"


def main() -> None:
    """Train, ask and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--items", type=int, default=TRAINING_ITEMS)
    parser.add_argument("--rate", default="3e-4", help="learning rate; default: the demo's")
    options = parser.parse_args()
    silence_libraries()
    FOLDER.mkdir(exist_ok=True)
    print(
        "| reference, round | satisfied (%) | gain over the round before | wins (%) | Self-BLEU |"
    )
    print("|---|---|---|---|---|")
    with Store.open(str(FOLDER / "store.db")) as store:
        base = evaluated(store, "demo")
        print(line(store, "none, 0", base, None), flush=True)
        for reference in get_args(RoundSettings.__annotations__["reference"]):
            settings = RoundSettings(number=options.rounds, reference=reference)
            last = base
            found = checkpoints(store, settings, options.items, options.rate)
            for number, folder in enumerate(found, start=1):
                result = evaluated(store, folder)
                print(line(store, f"{reference}, {number}", result, last), flush=True)
                last = result


if __name__ == "__main__":
    main()
