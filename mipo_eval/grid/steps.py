"""What a grid consists of: rows, and per row the commands that make its numbers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

from mipo_eval.grid.file import GridFile, MethodPart, ModelPart, SuitePart, slug
from mipo_eval.tasks.prompt import Prompting
from mipo_eval.tasks.suites import Suite, find_suite, with_query

StepKind = Literal["train", "evaluate", "judge"]
KINDS: tuple[StepKind, ...] = ("train", "evaluate", "judge")
"""In the order in which they need each other."""
_PROMPTED = {"default": "default prompting", "personalized": "personalized prompting"}


@dataclass(frozen=True, slots=True, kw_only=True)
class GridEntry:
    """A line of the table on one suite: a base model as it is prompted, or one that is trained."""

    model: ModelPart
    suite: SuitePart
    prompting: Prompting
    method: MethodPart | None = None
    """None: the base model itself."""
    seed: int | None = None
    """Of the training."""

    @property
    def label(self) -> str:
        """What tables call it."""
        return self.method.name if self.method else _PROMPTED[self.prompting]

    @property
    def name(self) -> str:
        """What tells it from all others."""
        seed = "" if self.seed is None else f", seed {self.seed}"
        return f"{self.label} of {self.model.name} on {self.suite.name}{seed}"

    @property
    def place(self) -> str:
        """The folder of its checkpoint, in the grid's."""
        parts = (self.model.name, self.suite.name, self.label)
        return f"{'/'.join(slug(part) for part in parts)}-seed{self.seed}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One command, exactly as somebody would type it."""

    kind: StepKind
    row: GridEntry
    arguments: tuple[str, ...]
    """Of `mipo-eval`, without the store."""
    after: tuple[str, ...] = ()
    """Names of the steps that it needs."""
    against: GridEntry | None = None
    """The baseline, for judging head to head."""
    judge: str = ""
    """Who judges head to head."""

    @property
    def name(self) -> str:
        """What tells it from all others."""
        by = f", by {self.judge}" if self.judge else ""
        return f"{self.kind} {self.row.name}{by}"


def rows_of(grid: GridFile) -> Iterator[GridEntry]:
    """Yield the rows: base models first, then all methods with one seed, then with the next."""
    for model, suite in product(grid.models, grid.suites):
        # Questions with an answer to check have no user whose context could be left out.
        asked: Sequence[Prompting] = grid.prompting
        if suite_of(grid, suite).form != "query":
            asked = asked[-1:]
        for prompting in asked:
            yield GridEntry(model=model, suite=suite, prompting=prompting)
    seeds = {model.name: model.seeds or grid.seeds for model in grid.models}
    for seed in dict.fromkeys(seed for own in seeds.values() for seed in own):
        for model, suite, method in product(grid.models, grid.suites, grid.methods):
            if seed in seeds[model.name]:
                yield GridEntry(
                    model=model, suite=suite, prompting="personalized", method=method, seed=seed
                )


def steps_of(
    grid: GridFile, rows: Sequence[GridEntry], checkpoints: Mapping[str, str]
) -> list[Step]:
    """Return the steps that make these rows; each needs only such as stand before it.

    Args:
        grid: what they are of.
        rows: its rows.
        checkpoints: by the name of a row, the model that is evaluated.
    """
    steps = []
    for row in rows:
        name = checkpoints[row.name]
        after: tuple[str, ...] = ()
        if row.method:
            steps.append(Step(kind="train", row=row, arguments=_train(grid, row, name)))
            after = (steps[-1].name,)
        told = ["--model", name, *_asked(grid, row, judged=True)]
        steps.append(Step(kind="evaluate", row=row, arguments=tuple(told), after=after))
    made = {step.row.name: step.name for step in steps if step.kind == "evaluate"}
    for row, judge in product(rows, grid.pairwise):
        against = _baseline(grid, row, rows)
        if against is not None:
            told = ["judge", checkpoints[row.name], checkpoints[against.name]]
            steps.append(
                Step(
                    kind="judge",
                    row=row,
                    arguments=(*told, *_asked(grid, row, judged=False), "--judge", judge),
                    after=(made[row.name], made[against.name]),
                    against=against,
                    judge=judge,
                )
            )
    return steps


def _baseline(grid: GridFile, row: GridEntry, rows: Sequence[GridEntry]) -> GridEntry | None:
    """Return the row that a trained one is judged against; None where it is not judged so."""
    judged = row.method is not None and suite_of(grid, row.suite).form == "query"
    if not judged or row.label == grid.baseline:
        return None
    alike = [other for other in rows if (other.model, other.suite) == (row.model, row.suite)]
    if grid.baseline == "personalized":
        wanted = (None, "personalized")
        return next(o for o in alike if (o.method, o.prompting) == wanted)
    return next(o for o in alike if (o.label, o.seed) == (grid.baseline, row.seed))


def _train(grid: GridFile, row: GridEntry, out: str) -> tuple[str, ...]:
    assert row.method
    suite = row.suite.learned
    told = ["train", row.method.method, "--model", row.model.model, "--suite", suite]
    told += ["--out", out, "--seed", str(row.seed)]
    for override in grid.overrides(row.model, row.suite, row.method):
        told += ["--set", override]
    told += ["--sweep", row.method.sweep] if row.method.sweep else []
    return (*told, *_plugins(grid))


def judges_of(grid: GridFile, suite: SuitePart) -> list[str]:
    """Return who rates responses to a suite, where the grid says it."""
    return grid.judges if suite_of(grid, suite).form == "query" else []


def suite_of(grid: GridFile, part: SuitePart) -> Suite:
    """Return the suite that an entry means, asked in the grid's wording.

    Raises:
        MipoEvalError: there is none, or it cannot be asked so.
    """
    return with_query(find_suite(part.suite), grid.evaluation.query)


def _asked(grid: GridFile, row: GridEntry, *, judged: bool) -> tuple[str, ...]:
    """Return how a row is evaluated, as flags of the main job or of `judge`."""
    how = grid.evaluation
    told = ["--suite", row.suite.suite, "--prompting", row.prompting]
    flags = {"system": how.system, "query": how.query, "decoding": how.decoding}
    for flag, value in (flags | {"engine": grid.engine(row.model)}).items():
        told += [f"--{flag}", value] if value else []
    told += ["--limit", str(how.limit)] if how.limit else []
    told += ["--batch"] if how.batch else []
    if judged:
        told += ["--controls"] if how.controls else []
        told += [word for judge in judges_of(grid, row.suite) for word in ("--judge", judge)]
    return (*told, *_plugins(grid))


def _plugins(grid: GridFile) -> list[str]:
    return [word for file in grid.plugins for word in ("--plugin", str(file))]
