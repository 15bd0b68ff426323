"""A training from end to end: items -> examples -> trainer -> checkpoint, stored and resumable.

The same command continues where a stopped one was: responses are in the store, the trainer's last
checkpoint is in the output folder, and the folder names the training it belongs to.
"""

import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, is_dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mipo_eval.errors import ConfigError, MipoEvalError, ModelError
from mipo_eval.keys import digest
from mipo_eval.models.lm_eval import ModelOptions, decoding_for, read_chat_template
from mipo_eval.models.spec import ModelSpec
from mipo_eval.progress import Progress
from mipo_eval.store import Store
from mipo_eval.store.engine import now
from mipo_eval.store.trainings import (
    CurvePoint,
    Training,
    get_curve,
    list_trainings,
    put_curve,
    put_training,
    touch_training,
)
from mipo_eval.suites import Suite
from mipo_eval.training.card import model_card, training_environment
from mipo_eval.training.examples import Examples, Maker, TrainingItems, asking
from mipo_eval.training.job import Job
from mipo_eval.training.recipes import ALGORITHMS, Recipe, recipe_dict, resolve
from mipo_eval.training.report import pair_report
from mipo_eval.training.sample import Sampler
from mipo_eval.training.trainer import STEPS, is_main_process, main_process_first

MARKER = ".mipo-eval-training"
"""File in an output folder that says which training it holds."""

_BESIDE = {"about", "save_steps", "report_to"}
"""Keys of a recipe that do not decide what comes out."""

_FLUSH_SECONDS = 2.0
"""How long points of a curve may wait to be stored."""
_TOUCH_SECONDS = 60.0
"""A training at work says so this often: one that was killed cannot say that it is not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One training as it is asked for."""

    recipe: Recipe
    model: ModelSpec
    """The base model; a checkpoint folder."""
    sampling_model: ModelSpec
    """Who draws the responses: the same weights, perhaps served."""
    suite: Suite
    data: tuple[TrainingItems, ...]
    held_out: tuple[TrainingItems, ...] = ()
    """To measure on, for a sweep."""
    out: Path
    seed: int

    @property
    def training_id(self) -> str:
        """Digest of everything that decides the result."""
        return digest(
            {
                "recipe": {k: v for k, v in recipe_dict(self.recipe).items() if k not in _BESIDE},
                "chat_template": chat_template(self.recipe),
                "model": dict(self.model.identity),
                "suite": self.suite.name,
                "items": [[i.key for i in one.items] for one in self.data],
                "held_out": [[i.key for i in one.items] for one in self.held_out],
                "seed": self.seed,
            }
        )


def chat_template(recipe: Recipe) -> str | None:
    """Return the text of the recipe's chat template, if it names one.

    Raises:
        ConfigError: the file cannot be read or is no template.
    """
    return read_chat_template(Path(recipe.chat_template)) if recipe.chat_template else None


def check_model(model: ModelSpec, recipe: Recipe) -> None:
    """Refuse what cannot be trained, before anything is generated.

    Raises:
        ConfigError: the model is no checkpoint, or what trains is not installed.
        ModelError: it has no chat template.
    """
    if absent := [name for name in ("torch", "trl", "peft") if not find_spec(name)]:
        raise ConfigError(f"training needs {', '.join(absent)}: pip install 'mipo-eval[train]'")
    if absent := [name for name in recipe.report_to if not find_spec(name)]:
        raise ConfigError(
            f"report_to names {', '.join(absent)}, which is not installed: pip install it, or "
            "leave it out; the curves are in the store anyway"
        )
    if model.engine not in {"hf", "vllm"}:
        raise ConfigError(
            f"{model.name} cannot be trained: --model takes a checkpoint; to generate with a "
            "server of it, add --set sampling.model=openai:NAME@URL"
        )
    if not model.has_chat_template and not recipe.chat_template:
        raise ModelError(
            f"{model.name} has no chat template: give one with --set chat_template=FILE "
            "(Jinja; `{% for m in messages %}{{ m['content'] }}{% endfor %}` for a base model)"
        )


def train(store: Store, request: Request, progress: Progress) -> Training:
    """Do a training, or the rest of it, and return it as stored.

    Raises:
        MipoEvalError: whatever the user must change. What was made before is kept, and the same
            command continues.
    """
    check_model(request.model, request.recipe)
    with main_process_first():
        claim(request.out, request.training_id, request.recipe.name)
        training = _opened(store, request)
    if training.status == "done":
        return training
    progress = _Alive(store, training.training_id, progress)
    with _recorded(store, training) as record:
        with main_process_first():
            examples, held_out = make_examples(store, request, progress)
        template = chat_template(request.recipe)
        if is_main_process():
            has_texts = request.recipe.learns_from != "prompts"
            scoring = _scoring_model(request.model, template) if has_texts else None
            record(pair_report=pair_report(examples, scoring, seed=request.seed))
        steps = _steps(request.recipe, len(examples.examples))
        with _Curve(store, training.training_id, progress, steps) as curve:
            outcome = _run(request, examples, held_out, curve)
        done = record(outcome=outcome, status="done", reason=None, checkpoint=str(request.out))
        if is_main_process():
            _finish(store, request, done)
    return done


def _run(
    request: Request, examples: Examples, held_out: Examples | None, curve: "_Curve"
) -> object:
    """Run the recipe's algorithm and return what it says of itself."""
    recipe = request.recipe
    job = Job(
        model=request.model.target,
        out=request.out,
        examples=examples.examples,
        held_out=held_out.examples if held_out else (),
        optimization=recipe.optimization,
        seed=request.seed,
        report=curve.report,
        chat_template=chat_template(recipe),
        save_steps=recipe.save_steps,
        report_to=recipe.report_to,
    )
    outcome: object = resolve(ALGORITHMS[recipe.algorithm].train)(job, recipe.settings)
    return outcome


def _steps(recipe: Recipe, examples: int) -> int:
    """Return about how many optimizer steps there will be, for the progress bar."""
    how = recipe.optimization
    of_groups = recipe.algorithm == "contrastive"
    units = examples / recipe.settings.contexts if of_groups else examples
    return max(1, math.ceil(math.ceil(units / how.batch_size) * how.epochs))


def make_examples(
    store: Store, request: Request, progress: Progress
) -> tuple[Examples, Examples | None]:
    """Return what is learned from, and what is measured on; draws what the store does not have."""
    maker = Maker(
        recipe=request.recipe,
        suite=request.suite,
        sampler=sampler_of(request),
        store=store,
        progress=progress,
        seed=request.seed,
    )
    return maker.make(request.data), maker.make(request.held_out) if request.held_out else None


def sampler_of(request: Request) -> Sampler:
    """Return who draws the responses, and how."""
    how = request.recipe.sampling
    model = request.sampling_model
    settings: dict[str, float] = {"temperature": how.temperature, "top_p": how.top_p}
    if how.max_tokens is not None:
        settings["max_tokens"] = how.max_tokens
    return Sampler(
        model=model,
        options=ModelOptions(
            batch_size=how.batch_size, chat_template=chat_template(request.recipe)
        ),
        decoding=decoding_for(
            model, settings, seed=request.seed, max_tokens=request.suite.max_tokens
        ),
        asking=asking(request.suite),
    )


def claim(out: Path, training_id: str, method: str) -> None:
    """Make the output folder this training's, or find that it is.

    Raises:
        ConfigError: there is something else in it, or it cannot be written to.
    """
    try:
        if out.is_dir() and any(out.iterdir()):
            _check_owner(out, training_id, method)
        elif out.exists() and not out.is_dir():
            raise ConfigError(f"--out {out} is a file: name a folder")
        else:
            out.mkdir(parents=True, exist_ok=True)
            (out / MARKER).write_text(training_id, encoding="utf-8")
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise ConfigError(f"--out {out} cannot be written to: {reason}") from error


def _check_owner(out: Path, training_id: str, method: str) -> None:
    marker = out / MARKER
    found = marker.read_text(encoding="utf-8").strip() if marker.is_file() else None
    if found == training_id:
        return
    if found is None:
        raise ConfigError(f"--out {out} is not empty: name another folder, or empty this one")
    raise ConfigError(
        f"--out {out} holds another training ({found[:12]}; this {method} would be "
        f"{training_id[:12]}): name another folder, or repeat the command with which it began"
    )


def _opened(store: Store, request: Request) -> Training:
    """Return the training's row: a finished one as it is, any other as running."""
    training_id = request.training_id
    known = {one.training_id: one for one in list_trainings(store)}.get(training_id)
    if known and known.status == "done" and _is_complete(request.out, known):
        return known
    moment = now()
    training = Training(
        training_id=training_id,
        method=request.recipe.name,
        model=request.model.name,
        suite=request.suite.name,
        seed=request.seed,
        checkpoint=None,
        recipe=recipe_dict(request.recipe),
        pair_report=None,
        environment=training_environment(),
        status="running",
        reason=None,
        created_at=known.created_at if known else moment,
        updated_at=moment,
    )
    if is_main_process():
        put_training(store, training)
    return training


def _is_complete(out: Path, training: Training) -> bool:
    there = (out / "config.json").is_file() and not (out / STEPS).exists()
    return there and training.checkpoint == str(out)


Record = Callable[..., Training]


@contextmanager
def _recorded(store: Store, training: Training) -> Iterator[Record]:
    """Keep the training's row true, however the work inside ends."""
    latest = training

    def record(**changes: Any) -> Training:
        nonlocal latest
        if (outcome := changes.pop("outcome", None)) is not None and is_dataclass(outcome):
            trained = {"trained": asdict(outcome)}  # type: ignore[arg-type]
            changes["pair_report"] = dict(latest.pair_report or {}) | trained
        latest = replace(latest, updated_at=now(), **changes)
        if is_main_process():
            put_training(store, latest)
        return latest

    try:
        yield record
    except KeyboardInterrupt:
        record(status="stopped", reason="interrupted")
        raise
    except MipoEvalError as error:
        record(status="failed", reason=str(error))
        raise
    except BaseException as error:
        record(status="failed", reason=f"unexpected {type(error).__name__}")
        raise


def _scoring_model(model: ModelSpec, template: str | None) -> Any:
    from mipo_eval.tasks.likelihood import ScoringModel

    scoring = ScoringModel.load(model.target)
    if template:
        scoring.tokenizer.chat_template = template
    return scoring


def _finish(store: Store, request: Request, training: Training) -> None:
    """Write the model card, and drop what only a stopped training needs."""
    curve = get_curve(store, training.training_id)
    card = model_card(training, curve, base=request.model)
    (request.out / "README.md").write_text(card, encoding="utf-8")
    from mipo_eval.training.reference import FILE

    (request.out / FILE).unlink(missing_ok=True)
    shutil.rmtree(request.out / STEPS, ignore_errors=True)


class _Alive:
    """Progress of which the store learns, now and then, that there is some."""

    def __init__(self, store: Store, training_id: str, progress: Progress) -> None:
        self._store, self._id, self._progress = store, training_id, progress
        self._touched = time.monotonic()

    def start(self, what: str, total: int, status: Callable[[], str] = str) -> None:
        self._progress.start(what, total, status)

    def advance(self, units: int) -> None:
        self._progress.advance(units)
        if is_main_process() and time.monotonic() - self._touched >= _TOUCH_SECONDS:
            touch_training(self._store, self._id)
            self._touched = time.monotonic()

    def finish(self) -> None:
        self._progress.finish()


class _Curve:
    """Stores the learning curve as it comes, and shows how far the training is."""

    def __init__(self, store: Store, training_id: str, progress: Progress, steps: int) -> None:
        self._store, self._id, self._progress = store, training_id, progress
        self._waiting: list[CurvePoint] = []
        self._stored = time.monotonic()
        self._step, self._steps = 0, steps

    def __enter__(self) -> "_Curve":
        if is_main_process():
            self._progress.start("training", self._steps)
        return self

    def __exit__(self, *_: object) -> None:
        if is_main_process():
            self._flush()
            self._progress.finish()

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take what was measured at a step; see `job.Report`."""
        if not is_main_process():
            return
        self._waiting += [CurvePoint(name, step, value) for name, value in metrics.items()]
        reached = min(step, self._steps)
        if reached > self._step:
            self._progress.advance(reached - self._step)
            self._step = reached
        if time.monotonic() - self._stored >= _FLUSH_SECONDS:
            self._flush()

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        if waiting:
            put_curve(self._store, self._id, waiting)
        self._stored = time.monotonic()
