"""What is wrong with a grid, found out before anything starts."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product

from mipo_eval.checkpoints import is_here
from mipo_eval.errors import ConfigError, MipoEvalError
from mipo_eval.grid.file import GridFile, ModelPart, slug
from mipo_eval.grid.hand import checkpoint_of, is_at_hand, load_duellist
from mipo_eval.grid.status import Work
from mipo_eval.grid.steps import GridEntry, suite_of
from mipo_eval.judges.presets import is_family, load_judge
from mipo_eval.tasks.suites import find_suite
from mipo_eval.training.recipes import parse_sweep


def check(grid: GridFile, work: Work) -> None:
    """Find out what is wrong with names and settings, before anything starts.

    What only a server, the hub or a data set knows is found out where it is needed.

    Raises:
        MipoEvalError: a name or a setting is wrong; the message begins with its place.
    """
    for kind in ("models", "suites", "methods"):
        folders = [slug(part.name) for part in getattr(grid, kind)]
        if twice := [name for name in folders if folders.count(name) > 1]:
            raise ConfigError(f"{kind}: two are called {twice[0]!r}: give one of them a label")
    known = ["personalized", *(method.name for method in grid.methods)]
    if grid.pairwise and grid.baseline not in known:
        raise ConfigError(
            f"baseline: there is no row {grid.baseline!r}; the rows are {', '.join(known)}"
        )
    if grid.pairwise and grid.baseline == known[0] and known[0] not in grid.prompting:
        raise ConfigError("baseline: add personalized to prompting, or name a method")
    for place, checked in _checks(grid, work):
        try:
            checked()
        except MipoEvalError as error:
            raise type(error)(f"{place}: {error}") from None


def _checks(grid: GridFile, work: Work) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield what is to be looked at, with its place in the file; cheap things first."""
    for n, suite in enumerate(grid.suites):
        yield f"suites.{n}", partial(suite_of, grid, suite)
        if suite.train_on:
            yield f"suites.{n}.train_on", partial(find_suite, suite.train_on)
    for kind, load in (("judges", load_judge), ("pairwise", load_duellist)):
        for n, spec in enumerate(getattr(grid, kind)):
            name = None if is_family(spec) else checkpoint_of(spec)
            if not is_family(spec) and (name is None or is_here(name)):
                yield f"{kind}.{n}", partial(load, spec)
    for n, method in enumerate(grid.methods):
        place = f"methods.{n} ({method.name})"
        for model, suite in product(grid.models, grid.suites):
            yield place, partial(grid.recipe, model, suite, method)
        if method.sweep:
            yield place, partial(parse_sweep, method.sweep)
    for n, model in enumerate(grid.models):
        yield f"models.{n}", partial(_check_model, grid, model, work)


def _check_model(grid: GridFile, part: ModelPart, work: Work) -> None:
    """Look at a base model, as far as it is on this machine, and whether it can be trained."""
    if is_at_hand(part):
        entry = GridEntry(model=part, suite=grid.suites[0], prompting="personalized")
        model = work.evaluation(part.model, entry).model
        for method in grid.methods:
            work.check(model, grid.recipe(part, grid.suites[0], method))
