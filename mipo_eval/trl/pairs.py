"""MIPO's pairs as TRL's trainers take them."""

import json
import logging
from pathlib import Path
from typing import Any

from mipo_eval import settings
from mipo_eval.given import Given, Model, Suite
from mipo_eval.models.spec import parse_model
from mipo_eval.progress import Bars, outside_loop
from mipo_eval.results import AnyStore, opened
from mipo_eval.tasks.suites import find_suite
from mipo_eval.training.data import pair_table, training_items
from mipo_eval.training.recipes import load_recipe
from mipo_eval.training.run import TrainingRequest, make_examples
from mipo_eval.training.trainer import main_process_first

_LOG = logging.getLogger(__name__)


@outside_loop
def MipoDataset(
    model: Model,
    items: Suite,
    *,
    negatives: str = "missing",
    n_negatives: int = 1,
    store: AnyStore = None,
    **how: float,
) -> Any:
    """Return MIPO's pairs as a `datasets.Dataset` for `trl.DPOTrainer`: prompt, chosen, rejected.

    Responses are drawn as `mipo-eval train mipo` draws them, and kept in the store: what was drawn
    before is found again. What gave no pair is counted in `.info.description`, and logged.

    Args:
        model: who answers; the model that is to be trained.
        items: a suite with a training split, or rows of items.
        negatives: "missing", "random", "reshuffle", "random-strings", or a plug-in's.
        n_negatives: rejected responses per chosen one, each a pair.
        store: as for `mipo_eval.evaluate`.
        **how: `seed` of the drawing; `limit`: only the first items of each data set; temperature,
            top_p, max_tokens, batch_size.

    Raises:
        MipoEvalError: whatever has to be changed, in one line; what was drawn before is kept.
    """
    seed, limit = int(how.pop("seed", 0)), how.pop("limit", None)
    said: dict[str, Any] = {f"sampling.{name}": value for name, value in how.items()}
    said |= {"items.limit": limit, "pairs.negatives": negatives, "pairs.n_negatives": n_negatives}
    overrides = [f"{key}={json.dumps(value)}" for key, value in said.items()]
    recipe = load_recipe("mipo-missing", overrides=overrides)
    with Given() as objects, opened(store) as here:
        spec = parse_model(objects.model(model)[0])
        suite = find_suite(objects.suite(items))
        request = TrainingRequest(
            recipe=recipe,
            model=spec,
            sampling_model=spec,
            suite=suite,
            data=training_items(suite, settings.data_dir(), recipe.items),
            out=Path(),
            seed=seed,
        )
        with main_process_first():
            made, _ = make_examples(here, request, Bars())
    table = pair_table(made.examples)
    told = f"{len(table)} pairs of {made.items} items"
    if lost := {**made.dropped, **made.dropped_negatives}:
        told += f"; dropped: {', '.join(f'{n} x {why}' for why, n in lost.items())}"
        _LOG.warning("MipoDataset: %s", told)
    table.info.description = told
    return table
