"""A grid as its YAML file describes it, and what of it is checked before anything starts.

    models: [demo]
    suites: [demo]
    seeds: 3
    methods:
      - sft
      - {label: MIPO (missing x 3), method: mipo-missing, set: {pairs.n_negatives: 3}}
    set: {all: {optimization.precision: float32}, dpo: {lr: 3e-4}}

Grids that ship are named without folder and ending; docs/grid.md describes the keys.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from importlib import resources
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from mipo_eval import settings
from mipo_eval.checkpoints import is_here
from mipo_eval.errors import ConfigError, MipoEvalError
from mipo_eval.evaluation.asked import EvaluationOptions, build_evaluation, is_family
from mipo_eval.judges.judge import Judge
from mipo_eval.judges.presets import duel_protocol, family_preset, load_judge, named_preset
from mipo_eval.models.spec import checkpoint_name, find_kind, read_name
from mipo_eval.tasks.prompt import Prompting
from mipo_eval.tasks.suites import Suite, find_suite, with_query
from mipo_eval.training.methods import find_method
from mipo_eval.training.recipes import ALGORITHMS, Recipe, load_recipe, parse_sweep
from mipo_eval.training.run import check_model

ALL = "all"
"""What settings are for that are for recipes of every algorithm."""
_YAML = (".yaml", ".yml")


def _known(part: Mapping[str, Any]) -> Mapping[str, Any]:
    """Refuse settings of what is no algorithm."""
    names = (ALL, *ALGORITHMS)
    if unknown := [key for key in part if key not in names]:
        raise ValueError(f"unknown {', '.join(unknown)}; known: {', '.join(names)}")
    return part


def _short(key: str) -> BeforeValidator:
    """Let a name stand for an entry that says nothing else."""
    return BeforeValidator(lambda told: {key: told} if isinstance(told, str) else told)


Keys = dict[str, Any]
"""Keys of a recipe, as `--set` takes them, with their values."""
Settings = Annotated[dict[str, Keys], AfterValidator(_known)]
"""Keys by the algorithm of the recipes that they are for, or for all."""
Seeds = Annotated[
    list[int],
    BeforeValidator(lambda told: list(range(told)) if type(told) is int else told),
    Field(min_length=1),
]
"""Training seeds, or how many there are."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ModelPart(_Part):
    """A base model."""

    model: str
    label: str = ""
    """What its folder is called; by default the last part of its name."""
    seeds: Seeds | None = None
    """Instead of the grid's."""
    engine: str | None = None
    """Instead of the evaluation's."""
    set: Settings = {}

    @property
    def name(self) -> str:
        """What messages and folders call it."""
        return self.label or read_name(self.model).label


class SuitePart(_Part):
    """What models are asked, and trained on."""

    suite: str
    train_on: str = ""
    """Another suite to train on, where this one has no training split."""
    set: Settings = {}

    @property
    def name(self) -> str:
        """What messages and folders call it."""
        return Path(self.suite).stem


class MethodPart(_Part):
    """A recipe and what is set otherwise."""

    method: str
    label: str = ""
    set: Keys = {}
    sweep: str = ""
    """As `--sweep` takes it: KEY=A,B,..."""

    @property
    def name(self) -> str:
        """What messages and folders call it."""
        return self.label or self.method


class EvaluationPart(_Part):
    """Flags of the main job, which all rows are evaluated with."""

    query: str = ""
    """Trainings ask in this wording, too."""
    system: str = ""
    """Trainings are told this, too."""
    decoding: str = ""
    engine: str = ""
    limit: int | None = Field(default=None, ge=1)
    controls: bool = False
    batch: bool = False


class Slurm(_Part):
    """Options of sbatch, for all jobs and for those of a stage."""

    all: list[str] = []
    train: list[str] = []
    evaluate: list[str] = []
    judge: list[str] = []


class GridFile(_Part):
    """Rows of a table, and all that makes their numbers."""

    about: str = ""
    models: list[Annotated[ModelPart, _short("model")]] = Field(min_length=1)
    suites: list[Annotated[SuitePart, _short("suite")]] = Field(min_length=1)
    prompting: list[Prompting] = ["default", "personalized"]
    """Rows of the base models themselves."""
    methods: list[Annotated[MethodPart, _short("method")]] = []
    seeds: Seeds = [0]
    set: Settings = {}
    judges: list[str] = []
    """Rate every response and its reference; none: the suite's own."""
    pairwise: list[str] = []
    """Choose between the responses of each trained row and those of the baseline."""
    baseline: str = "personalized"
    """The base model with its user's context, or a method's label."""
    evaluation: EvaluationPart = EvaluationPart()
    plugins: list[Path] = []
    out: str = ""
    """Folder for checkpoints; by default in the cache."""
    slurm: Slurm = Slurm()

    @property
    def folder(self) -> Path:
        """Where checkpoints go."""
        return Path(self.out) if self.out else settings.cache_dir() / "trained"

    def suite(self, part: SuitePart) -> Suite:
        """Return the suite that an entry means, asked in the grid's wording."""
        return with_query(find_suite(part.suite), self.evaluation.query)

    def overrides(self, model: ModelPart, suite: SuitePart, method: MethodPart) -> tuple[str, ...]:
        """Return what `--set` says of a training; the nearer to the method, the stronger."""
        algorithm = (
            method.set.get("algorithm") or load_recipe(find_method(method.method)[0]).algorithm
        )
        found: Keys = {
            key: value
            for key, value in (("query", self.evaluation.query), ("system", self.evaluation.system))
            if value
        }
        for part in (self.set, model.set, suite.set):
            found |= part.get(ALL, {}) | part.get(algorithm, {})
        return tuple(f"{key}={_told(value)}" for key, value in (found | method.set).items())

    def recipe(self, model: ModelPart, suite: SuitePart, method: MethodPart) -> Recipe:
        """Return what a training follows.

        Raises:
            ConfigError: there is no such method, or it cannot be set so.
        """
        name, own = find_method(method.method)
        recipe = load_recipe(name, overrides=(*own, *self.overrides(model, suite, method)))
        if recipe.learns_from == "file":
            raise ConfigError(f"{name} learns from pairs of your own, which a grid does not have")
        return recipe

    def options(
        self, model: ModelPart, suite: SuitePart, prompting: Prompting
    ) -> EvaluationOptions:
        """Return how rows of a base model are evaluated; the model itself is for the row to say."""
        told = self.evaluation.model_dump() | {"engine": self.engine(model)}
        judged = self.judges if find_suite(suite.suite).form == "query" else ()
        return EvaluationOptions(
            **told, suite=suite.suite, judges=tuple(judged), prompting=prompting
        )

    def engine(self, model: ModelPart) -> str:
        """Return how a base model and what is trained of it are run."""
        return self.evaluation.engine if model.engine is None else model.engine


def _told(value: Any) -> str:
    """Return a value as `--set` takes it."""
    return value if isinstance(value, str) else json.dumps(value)


def shipped_grids() -> tuple[str, ...]:
    """Return the names of the grids that ship."""
    names = (file.name for file in (resources.files(__package__) / "files").iterdir())
    return tuple(sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml")))


def read_grid(name: str) -> GridFile:
    """Return the grid of a YAML file, or one that ships, by its name.

    Raises:
        ConfigError: there is none, or a key or a value of it is wrong.
    """
    if name in shipped_grids():
        return settings.read_yaml(
            resources.files(__package__) / "files" / f"{name}.yaml", f"the grid {name}", GridFile
        )
    if not name.endswith(_YAML):
        raise ConfigError(
            f"unknown grid {name!r}: name a YAML file, or one that ships: "
            f"{', '.join(shipped_grids())}"
        )
    return settings.read_yaml(Path(name), f"the grid {name}", GridFile)


def slug(name: str) -> str:
    """Return a name as a part of a path."""
    return re.sub(r"[^\w.+-]+", "-", name).strip("-.")


def checkpoint_of(spec: str, judged_model: str | None = None) -> str | None:
    """Return the checkpoint that a judge is, where it would be loaded by this process."""
    named = read_name(spec)
    if is_family(spec):
        named = replace(named, name=family_preset(judged_model))
    preset = named_preset(named)
    where = read_name(preset.backend) if preset and not named.url else named
    return where.name if where.kind in {"hf", "vllm"} else None


def is_at_hand(part: ModelPart) -> bool:
    """Whether a base model can be looked at: it is served, or its checkpoint is on this machine.

    Raises:
        ModelError: there is no such checkpoint.
    """
    kind = find_kind(read_name(part.model).kind or "hf")
    is_checkpoint = kind is not None and kind.engine in {"hf", "vllm"}
    return not is_checkpoint or is_here(checkpoint_name(part.model))


def check(grid: GridFile) -> None:
    """Find out what is wrong with names and settings, before anything starts.

    What only a server, the hub or a data set knows is found out where it is needed.

    Raises:
        MipoEvalError: a name or a setting is wrong; the message begins with its place.
    """
    for kind in ("models", "suites", "methods"):
        folders = [slug(part.name) for part in getattr(grid, kind)]
        if twice := [name for name in folders if folders.count(name) > 1]:
            raise ConfigError(f"{kind}: two are called {twice[0]}: give one of them a label")
    known = ["personalized", *(method.name for method in grid.methods)]
    if grid.pairwise and grid.baseline not in known:
        raise ConfigError(f"baseline: {grid.baseline!r} is no row; known: {', '.join(known)}")
    if grid.pairwise and grid.baseline == known[0] and known[0] not in grid.prompting:
        raise ConfigError("baseline: add personalized to prompting, or name a method")
    for place, checked in _checks(grid):
        try:
            checked()
        except MipoEvalError as error:
            raise type(error)(f"{place}: {error}") from None


def _checks(grid: GridFile) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield what is to be looked at, with its place in the file; cheap things first."""
    for n, suite in enumerate(grid.suites):
        yield f"suites.{n}", partial(grid.suite, suite)
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
        yield f"models.{n}", partial(_check_model, grid, model)


def load_duellist(spec: str, judged_model: str | None = None) -> Judge:
    """Return a judge that is to choose between two responses."""
    return load_judge(spec, protocol=duel_protocol(spec), judged_model=judged_model)


def _check_model(grid: GridFile, part: ModelPart) -> None:
    """Look at a base model, as far as it is on this machine, and whether it can be trained."""
    if is_at_hand(part):
        options = grid.options(part, grid.suites[0], "personalized")
        judges = tuple(s for s in options.judges if not is_family(s) and checkpoint_of(s) is None)
        model = build_evaluation(replace(options, model=part.model, judges=judges)).model
        for method in grid.methods:
            check_model(model, grid.recipe(part, grid.suites[0], method))
