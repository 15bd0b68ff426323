"""A grid as its YAML file describes it.

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
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from mipo_eval import settings
from mipo_eval.errors import ConfigError
from mipo_eval.models.spec import read_name
from mipo_eval.tasks.prompt import Prompting
from mipo_eval.training.methods import find_method
from mipo_eval.training.recipes import ALGORITHMS, Recipe, load_recipe

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

    @property
    def learned(self) -> str:
        """The suite that is trained on."""
        return self.train_on or self.suite


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
            raise ConfigError(f"{name} trains on pairs of your own, and a grid cannot have them")
        return recipe

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
            f"unknown grid {name!r}: name a YAML file, or one of {', '.join(shipped_grids())}"
        )
    return settings.read_yaml(Path(name), f"the grid {name}", GridFile)


def slug(name: str) -> str:
    """Return a name as a part of a path."""
    return re.sub(r"[^\w.+-]+", "-", name).strip("-.")
