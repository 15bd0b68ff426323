"""A training from end to end: items -> examples -> trainer -> checkpoint, stored and resumable.

The same command continues where a stopped one was: responses are in the store, the trainer's last
checkpoint is in the output folder, and the folder names the training it belongs to.

A sweep is the same training with several values of a setting, of which held-out training items
choose one (`criteria.py`); the test split is never looked at. Each value is a training of its own,
in a folder below the output, and the best one's checkpoint becomes the result.
"""

import math
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean
from typing import Any

from mipo_eval import settings
from mipo_eval.environment import environment
from mipo_eval.errors import ConfigError, DataError, MipoEvalError, ModelError
from mipo_eval.judges.presets import load_judge
from mipo_eval.keys import digest
from mipo_eval.models.chat import chat_template_of, read_chat_template, with_chat_form
from mipo_eval.models.effort import Effort, parse_effort
from mipo_eval.models.lm_eval import ModelOptions, decoding_for
from mipo_eval.models.spec import ModelSpec, parse_model
from mipo_eval.progress import Progress
from mipo_eval.rows import short_name
from mipo_eval.store.engine import Store, now
from mipo_eval.store.trainings import (
    Training,
    get_curve,
    list_trainings,
    put_training,
)
from mipo_eval.tasks.prompt import USUAL, read_system
from mipo_eval.tasks.suites import Suite, SuiteTask, find_suite, with_query
from mipo_eval.training.card import model_card, pair_report
from mipo_eval.training.criteria import (
    Figures,
    Swept,
    by_curve,
    check_criterion,
    figures_of,
    with_leads,
)
from mipo_eval.training.data import (
    ExampleMaker,
    TrainingItems,
    revision_wording,
    split_validation,
    training_items,
)
from mipo_eval.training.folder import MARKER, SWEEP_FOLDER, claimed, tidy
from mipo_eval.training.identity import deciding, prompts_read
from mipo_eval.training.pairs_file import read_pairs
from mipo_eval.training.recipes import (
    Recipe,
    SamplingSettings,
    load_method,
    make_recipe,
    merge,
    nested,
    recipe_dict,
)
from mipo_eval.training.start import start_folder
from mipo_eval.training.trainer import (
    STEPS,
    TrainingExamples,
    TrainingJob,
    is_main_process,
    main_process_first,
)
from mipo_eval.training.watch import Watch

_LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate", "lm_eval", "vllm")
"""Whose versions a training is stored with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRequest:
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
    def chat_template(self) -> str | None:
        """The text of the recipe's chat template, if it names one.

        Raises:
            ConfigError: the file cannot be read or is no template.
        """
        path = self.recipe.chat_template
        return read_chat_template(Path(path)) if path else None

    @property
    def system(self) -> str:
        """The text of the recipe's system prompt, if it has one.

        Raises:
            ConfigError: the file cannot be read, or is blank.
        """
        return read_system(self.recipe.system) if self.recipe.system else ""

    @property
    def effort(self) -> Effort:
        """How much the model is let think, wherever it is asked and trained.

        Raises:
            ConfigError: what the recipe says of thinking is not about that.
        """
        said, engine = self.recipe.sampling.thinking, self.sampling_model.engine
        effort, other = parse_effort(said, engine, flag="sampling.thinking")
        if other:
            raise ConfigError(f"sampling.thinking: {other} is not about thinking")
        return effort

    @property
    def training_id(self) -> str:
        """Digest of everything that decides the result."""
        checkpoint, learns_from = self.model.checkpoint, self.recipe.learns_from
        own_drawing = checkpoint and checkpoint.penalties and learns_from == "prompts"
        # Rollouts were once drawn with the checkpoint's own penalties.
        drawing = {"generation_config": "left out"} if own_drawing else {}
        told = {"system": self.system} if self.recipe.system else {}
        if (worded := self.suite.wording_key) not in {None, USUAL.key}:
            told["query"] = worded
        template = self.chat_template or chat_template_of(self.model)
        told |= prompts_read(template, self.effort.template_arguments())
        if wording := revision_wording(learns_from):
            told["revision"] = digest(wording)
        return digest(
            {
                **drawing,
                **told,
                "recipe": deciding(self.recipe),
                "chat_template": self.chat_template,
                "model": dict(self.model.identity),
                "suite": self.suite.name,
                "items": [[i.key for i in one.items] for one in self.data],
                "held_out": [[i.key for i in one.items] for one in self.held_out],
                "seed": self.seed,
            }
        )


def make_request(
    recipe: Recipe, *, model: str, suite: str | Path, out: Path, seed: int
) -> TrainingRequest:
    """Return the training that a model and a suite are named for; nothing is generated yet.

    The suite of a training on pairs of one's own is the path of their file.

    Raises:
        MipoEvalError: there is no such model or suite, or it cannot be trained (on).
    """
    if recipe.learns_from == "file":
        if recipe.query:
            raise ConfigError(
                "--query: the prompts of a file of pairs are learned from as they are"
            )
        found, data = _pairs_suite(Path(suite), recipe.items.limit)
    else:
        found = with_query(find_suite(str(suite)), recipe.query)
        data = training_items(found, settings.data_dir(), recipe.items)
    base = parse_model(model)
    check_model(base, recipe)
    sampling = recipe.sampling.model
    return TrainingRequest(
        recipe=recipe,
        model=base,
        sampling_model=parse_model(sampling) if sampling else base,
        suite=found,
        data=data,
        out=out,
        seed=seed,
    )


def _pairs_suite(path: Path, limit: int | None) -> tuple[Suite, tuple[TrainingItems, ...]]:
    name = short_name(path)
    task = SuiteTask(name=name, source=str(path), lm_eval_task="mipo_items")
    suite = Suite(name=name, about=f"pairs of {path}", tasks=(task,))
    return suite, (TrainingItems(task=task, items=read_pairs(path)[:limit]),)


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
    if model.checkpoint and model.checkpoint.quantized:
        raise ModelError(
            f"{model.name} is quantised ({model.checkpoint.quantized}): it can be evaluated and "
            "judge, not be trained; train the checkpoint it was made from"
        )
    if not model.has_chat_template and not recipe.chat_template:
        raise ModelError(
            f"{model.name} has no chat template: give one with --set chat_template=FILE "
            "(Jinja; `{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% endfor %}` for a "
            "base model)"
        )


def train(store: Store, request: TrainingRequest, progress: Progress) -> Training:
    """Do a training, or the rest of it, and return it as stored.

    Raises:
        MipoEvalError: whatever the user must change. What was made before is kept, and the same
            command continues.
    """
    check_model(request.model, request.recipe)
    with claimed(request.out, request.training_id, request.recipe.name):
        with main_process_first():
            training = _opened(store, request)
        if training.status != "done":
            training = _trained(store, request, training, progress)
        if is_main_process():
            tidy(request.out, is_base=request.recipe.optimization.lora_rank is not None)
        return training


def _trained(
    store: Store, request: TrainingRequest, training: Training, progress: Progress
) -> Training:
    watch = Watch(store, training.training_id, progress)
    with _recorded(store, training) as record:
        with main_process_first():
            examples, held_out = make_examples(store, request, watch)
        report: dict[str, Any] = {}
        if is_main_process():
            has_texts = request.recipe.learns_from != "prompts"
            scoring = _scoring_model(request) if has_texts else None
            report = pair_report(examples, scoring, seed=request.seed)
            record(pair_report=report)
        assert request.model.checkpoint
        with main_process_first():
            start = start_folder(request.model.checkpoint, request.out)
        job = TrainingJob(
            model=str(start),
            out=request.out,
            examples=examples.examples,
            held_out=held_out.examples if held_out else (),
            optimization=request.recipe.optimization,
            seed=request.seed,
            report=watch.report,
            chat_template=request.chat_template,
            told=request.effort.template_arguments(),
            save_steps=request.recipe.save_steps,
            report_to=request.recipe.report_to,
        )
        pairs = sum(len(one.rejected) for one in job.examples)
        with watch.training(request.recipe.steps(len(job.examples), pairs)):
            trained = load_method(request.recipe.algorithm)(job, request.recipe.settings)
        report |= {"trained": trained} if trained else {}
        out = str(request.out)
        done = record(pair_report=report, status="done", reason=None, checkpoint=out)
        if is_main_process():
            _finish(store, request, done)
    return done


def make_examples(
    store: Store, request: TrainingRequest, progress: Progress
) -> tuple[TrainingExamples, TrainingExamples | None]:
    """Return what is learned from, and what is measured on; draws what the store does not have."""
    maker = example_maker(store, request, progress)
    return maker.make(request.data), maker.make(request.held_out) if request.held_out else None


def example_maker(store: Store, request: TrainingRequest, progress: Progress) -> ExampleMaker:
    """Return what makes a training's examples."""
    how, model = request.recipe.sampling, request.sampling_model
    chosen = {name: getattr(how, name) for name in ("temperature", "top_p", "max_tokens")}
    # A function draws as it likes: it is told what is not as usual, and refuses.
    usual = SamplingSettings() if model.engine == "own" else None
    chosen = {k: v for k, v in chosen.items() if v not in {None, getattr(usual, k, None)}}
    length = request.suite.max_tokens
    return ExampleMaker(
        recipe=request.recipe,
        suite=request.suite,
        model=model,
        options=ModelOptions(
            batch_size=how.batch_size,
            chat_template=request.chat_template,
            system=request.system,
            effort=request.effort,
        ),
        decoding=decoding_for(model, chosen, seed=request.seed, max_tokens=length),
        store=store,
        progress=progress,
        seed=request.seed,
    )


def _opened(store: Store, request: TrainingRequest) -> Training:
    """Return the training's row: a finished one as it is, any other as running."""
    training_id = request.training_id
    known = {one.training_id: one for one in list_trainings(store)}.get(training_id)
    complete = (request.out / "config.json").is_file() and not (request.out / STEPS).exists()
    if known and known.status == "done" and complete and known.checkpoint == str(request.out):
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
        environment=environment(_LIBRARIES, command=shlex.join(sys.argv[1:])),
        status="running",
        reason=None,
        created_at=known.created_at if known else moment,
        updated_at=moment,
    )
    if is_main_process():
        put_training(store, training)
    return training


@contextmanager
def _recorded(store: Store, training: Training) -> Iterator[Callable[..., Training]]:
    """Keep the training's row true, however the work inside ends."""
    latest = training

    def record(**changes: Any) -> Training:
        nonlocal latest
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


def _scoring_model(request: TrainingRequest) -> Any:
    from mipo_eval.tasks.likelihood import ScoringModel

    assert request.model.checkpoint
    scoring = ScoringModel.load(request.model.checkpoint.name)
    if template := request.chat_template:
        scoring.tokenizer.chat_template = template
    with_chat_form(scoring.tokenizer, **request.effort.template_arguments())
    return scoring


def _finish(store: Store, request: TrainingRequest, training: Training) -> None:
    """Write the model card."""
    curve = get_curve(store, training.training_id)
    card = model_card(training, curve, base=request.model)
    (request.out / "README.md").write_text(card, encoding="utf-8")


def sweep(
    store: Store, request: TrainingRequest, progress: Progress, *, over: tuple[str, Sequence[Any]]
) -> tuple[Training, list[Swept]]:
    """Train once per value on a part of the items, and keep what does best on the others.

    The request's output folder receives the chosen checkpoint; `over` is a dotted key of the
    recipe with its values.

    Raises:
        ConfigError: a value does not fit, or the method measures nothing on held-out items.
        MipoEvalError: as `train`.
    """
    key, values = over
    items = (item for one in request.data for item in one.items)
    check_criterion(request.recipe.items.choose_by, request.suite, items)
    trials = [_trial(request, key, value) for value in values]
    check_model(request.model, request.recipe)
    name = digest([request.training_id, key, list(values)])
    with claimed(request.out, name, f"sweep of {request.recipe.name}"):
        return _swept(store, request, progress, list(zip(values, trials, strict=True)))


def _swept(
    store: Store,
    request: TrainingRequest,
    progress: Progress,
    trials: Sequence[tuple[Any, TrainingRequest]],
) -> tuple[Training, list[Swept]]:
    known = {training.training_id: training for training in list_trainings(store)}
    finished = (request.out / "config.json").is_file()
    chosen_by = request.recipe.items.choose_by
    done: list[Swept] = []
    measured: list[Figures] = []
    for value, trial in trials:
        training = known.get(trial.training_id) if finished else None
        training = training or train(store, trial, progress)
        if chosen_by == "loss":
            done.append(by_curve(value, training, get_curve(store, training.training_id)))
            continue
        with main_process_first():
            found = _measured(store, trial, training, progress)
        measured.append(found)
        mean = fmean(value for value in found.values if not math.isnan(value))
        done.append(Swept(value=value, training=training, criterion=chosen_by, figure=mean))
    ranked = with_leads(done, measured)
    best = next(one for one in ranked if not one.behind)  # the first of equals
    return (best.training if finished else _adopt(store, request.out, best)), ranked


def _measured(
    store: Store, trial: TrainingRequest, training: Training, progress: Progress
) -> Figures:
    """Return how the greedy responses of a trained checkpoint to the held-out items do.

    Raises:
        ConfigError: there is no such judge.
        DataError: the judge rated nothing.
    """
    chosen_by, suite = trial.recipe.items.choose_by, trial.suite
    model = parse_model(str(training.checkpoint))
    decoding = decoding_for(model, {}, seed=trial.seed, max_tokens=suite.max_tokens)
    maker = replace(example_maker(store, trial, progress), model=model, decoding=decoding)
    named = chosen_by.partition(":")[2] or suite.judge or ""
    judge = None if suite.form == "answer" else load_judge(named, judged_model=model.kind)
    found = Figures([], [])
    for data in trial.held_out:
        responses = maker.draw(data.task, data.items, "held-out responses")
        pairs = [(item, responses[item.key].text or "") for item in data.items]
        own = figures_of(store, chosen_by, judge, data.task.lm_eval_task, pairs)
        found = Figures([*found.values, *own.values], [*found.groups, *own.groups])
    if all(math.isnan(value) for value in found.values):
        raise DataError(
            f"items.choose_by={chosen_by}: not one of {len(found.values)} ratings of held-out "
            "responses could be read; look at the judge"
        )
    return found


def _trial(request: TrainingRequest, key: str, value: Any) -> TrainingRequest:
    recipe = make_recipe(merge(recipe_dict(request.recipe), nested(key, value)))
    share = request.recipe.items.validation
    data, held_out = split_validation(request.data, share, request.seed)
    out = request.out / SWEEP_FOLDER / f"{key.rpartition('.')[2]}={value}"
    return replace(request, recipe=recipe, data=data, held_out=held_out, out=out)


def _adopt(store: Store, out: Path, best: Swept) -> Training:
    """Move the chosen checkpoint into the output folder, and drop the others' weights."""
    folder = Path(best.training.checkpoint or "")
    # The configuration last: with it the result is complete.
    for path in sorted(folder.iterdir(), key=lambda path: path.name == "config.json"):
        if path.name != MARKER:
            path.replace(out / path.name)
    shutil.rmtree(out / SWEEP_FOLDER, ignore_errors=True)
    training = replace(best.training, checkpoint=str(out))
    put_training(store, training)
    return training
