"""Preparing a data set: rows to candidates, candidates to items, items to files and a report."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from mipo_eval.errors import DataError
from mipo_eval.records import Item
from mipo_eval.tasks.items import write_items
from mipo_eval.tasks.preparation.plan import Models, Preparation
from mipo_eval.tasks.preparation.recipes import RECIPES, Recipe, Rows
from mipo_eval.tasks.preparation.report import Origin, Report, make_report
from mipo_eval.tasks.sources import prepared_file

_HOPELESS = 50
"""Failures without a single success after which the extractor is not asked any further."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Where the result is."""

    train: Path
    test: Path
    report_file: Path
    report: Report


async def prepare(
    plan: Preparation,
    rows: Rows,
    models: Models,
    data_dir: Path,
    advance: Callable[[int], None] = lambda _: None,
) -> Prepared:
    """Make the item files of a data set, test part first.

    Every model reply is in the store's ledger, so a stopped or failed preparation loses nothing:
    the same call continues it. Equal plan, rows and replies give equal files.

    Args:
        plan: what to make.
        rows: the raw rows.
        models: who infers preferences.
        data_dir: where the files go.
        advance: called with how many more entries were finished.

    Raises:
        DataError: rows are not in the known schema, or too few items can be made.
        BackendError: a model cannot be asked.
    """
    recipe = RECIPES[plan.name](plan, rows, models)
    await models.extractor.check()
    if models.reference is not None:
        await models.reference.check()
    paths = {split: prepared_file(plan.name, data_dir, split) for split in ("test", "train")}
    parts: dict[str, list[Item]] = {}
    pools = recipe.pools()
    for split, pool, wanted in (
        ("test", pools.test, plan.n_test),
        ("train", pools.train, plan.n_train),
    ):
        parts[split] = await _fill(recipe, split, pool, wanted, advance)
        write_items(paths[split], parts[split])
    dropped = recipe.dropped + Counter({"prompt of the test part": pools.shared_prompts})
    origin = Origin(
        name=plan.name,
        source=plan.source,
        seed=plan.seed,
        extractor=" ".join(models.extractor.identity.values()),
        rows=recipe.size,
        dropped=dict((+dropped).most_common()),
    )
    report = make_report(origin, parts["train"], parts["test"])
    report_file = data_dir / f"{plan.name}-report.json"
    report_file.write_text(
        json.dumps(report.to_json(), indent=1, ensure_ascii=False) + "\n", "utf-8"
    )
    return Prepared(
        train=paths["train"], test=paths["test"], report_file=report_file, report=report
    )


async def _fill(
    recipe: Recipe, split: str, pool: Sequence[int], wanted: int, advance: Callable[[int], None]
) -> list[Item]:
    """Make items of candidates, in their order, until there are enough."""
    made: dict[int, list[Item]] = {}
    failed: Counter[str] = Counter()
    needed = wanted // recipe.items_each
    candidates = iter(pool)
    while len(made) < needed and (batch := list(islice(candidates, needed - len(made)))):
        async with aclosing(recipe.make(batch)) as results:
            async for index, items in results:
                if isinstance(items, str):
                    failed[items] += 1
                else:
                    made[index] = items
                advance(1)
                if not made and failed.total() >= _HOPELESS:
                    break
        if not made and failed.total() >= _HOPELESS:
            break
    recipe.dropped.update(failed)
    if len(made) < needed:
        reasons = [f"{reason}: {count}" for reason, count in failed.most_common(3)]
        if recipe.last_problem:
            reasons.append(f"the last reply was refused because {recipe.last_problem}")
        raise DataError(
            f"{recipe.plan.name}: only {len(made) * recipe.items_each} of {wanted} {split} items "
            f"could be made ({'; '.join(reasons) or 'no more candidates'}): use another extractor "
            "or ask for fewer; replies so far are kept and not paid for again"
        )
    return [item for index in pool if index in made for item in made[index]]
