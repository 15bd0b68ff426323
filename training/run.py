"""A training from end to end: items -> examples -> trainer -> checkpoint, stored and resumable.

The same command continues where a stopped one was: responses are in the store, the trainer's last
checkpoint is in the output folder, and the folder names the training it belongs to. So does each
of several rounds (`rounds.py`), all but the last in a folder below the output.
"""

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mipo_eval import settings
from mipo_eval.environment import environment
from mipo_eval.errors import ConfigError, DataError, MipoEvalError, ModelError
from mipo_eval.keys import digest
from mipo_eval.models.chat import (
    chat_template_of,
    check_answers,
    read_chat_template,
    with_chat_form,
)
from mipo_eval.models.effort import Effort, parse_effort
from mipo_eval.models.lm_eval import ModelOptions, decoding_for
from mipo_eval.models.spec import ModelSpec, parse_model
from mipo_eval.models.weights import free_memory
from mipo_eval.progress import Progress
from mipo_eval.reports.names import checkpoint_names
from mipo_eval.rows import short_name
from mipo_eval.store.engine import Store, now
from mipo_eval.store.runs import rename_models
from mipo_eval.store.trainings import Training, get_curve, list_trainings, put_training
from mipo_eval.tasks.prompt import USUAL, read_system
from mipo_eval.tasks.suites import Suite, SuiteTask, find_suite, with_query
from mipo_eval.training.card import fallen_away, model_card, pair_report
from mipo_eval.training.data import (
    ExampleMaker,
    TrainingItems,
    revision_wording,
    training_items,
)
from mipo_eval.training.folder import (
    ROUNDS_FOLDER,
    claimed,
    hand_over,
    holder,
    is_complete,
    tidy,
)
from mipo_eval.training.identity import deciding, prompts_read
from mipo_eval.training.pairs_file import read_pairs
from mipo_eval.training.recipes import (
    Recipe,
    SamplingSettings,
    load_method,
    recipe_dict,
)
from mipo_eval.training.rounds import round_seed
from mipo_eval.training.start import start_folder
from mipo_eval.training.trainer import (
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
    """Who draws the responses: the weights it starts with, perhaps served."""
    start: ModelSpec | None = None
    """The checkpoint of the round before; None: it starts with the base model."""
    suite: Suite
    data: tuple[TrainingItems, ...]
    held_out: tuple[TrainingItems, ...] = ()
    """To measure on, for a sweep."""
    out: Path
    rounds_in: Path | None = None
    """Where earlier rounds are; None: below `out`."""
    seed: int
    """Of all rounds; each has its own from it."""

    @property
    def before(self) -> "TrainingRequest | None":
        """The round that this one goes on from; None: it starts with the base model."""
        number = self.recipe.rounds.number - 1
        if not number:
            return None
        folder = self.rounds_in or self.out / ROUNDS_FOLDER
        recipe = replace(self.recipe, rounds=replace(self.recipe.rounds, number=number))
        return replace(self, recipe=recipe, out=folder / str(number), rounds_in=folder)

    @property
    def round_seed(self) -> int:
        """Seed of the round's draws, data order and adapters."""
        return round_seed(self.seed, self.recipe.rounds.number)

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
            raise ConfigError(f"sampling.thinking: {other} is not a setting for thinking")
        return effort

    @property
    def training_id(self) -> str:
        """Digest of everything that decides the result; of a round, the one before is all else."""
        if before := self.before:
            reference = self.recipe.rounds.reference
            return digest({"after": before.training_id, "reference": reference})
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
                "--query cannot be used with a file of pairs: its prompts are used as they are"
            )
        found, data = _pairs_suite(Path(suite), recipe.items.limit)
    else:
        found = with_query(find_suite(str(suite)), recipe.query)
        data = training_items(found, settings.data_dir(), recipe.items)
    base = parse_model(model)
    check_model(base, recipe)
    sampling = parse_model(recipe.sampling.model) if recipe.sampling.model else base
    if recipe.rounds.number > 1 and sampling.engine not in {"hf", "vllm"}:
        raise ConfigError(
            f"sampling.model={recipe.sampling.model} generates with the base model, but rounds "
            f"need the checkpoint of the round before: write vllm:{base.target}, which is then "
            "replaced by each checkpoint"
        )
    return TrainingRequest(
        recipe=recipe,
        model=base,
        sampling_model=sampling,
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
        ModelError: it has no chat template, or one that escapes.
    """
    if absent := [name for name in ("torch", "trl", "peft") if not find_spec(name)]:
        raise ConfigError(f"training needs {', '.join(absent)}: pip install 'mipo-eval[train]'")
    if absent := [name for name in recipe.report_to if not find_spec(name)]:
        raise ConfigError(
            f"report_to names {', '.join(absent)}, which is not installed: install it with pip, "
            "or leave it out; the curves are in the store in any case"
        )
    if model.engine not in {"hf", "vllm"}:
        raise ConfigError(
            f"{model.name} cannot be trained: --model needs a checkpoint; to generate with a "
            "server, add --set sampling.model=openai:NAME@URL"
        )
    if model.checkpoint and model.checkpoint.quantized:
        raise ModelError(
            f"{model.name} is quantised ({model.checkpoint.quantized}), so it cannot be trained "
            "(but evaluated): train the checkpoint that it was made from"
        )
    if not model.has_chat_template and not recipe.chat_template:
        raise ModelError(
            f"{model.name} has no chat template: give one with --set chat_template=FILE "
            "(Jinja; `{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% endfor %}` for a "
            "base model)"
        )
    given = recipe.chat_template
    check_answers(model.name, read_chat_template(Path(given)) if given else chat_template_of(model))


def train(store: Store, request: TrainingRequest, progress: Progress) -> Training:
    """Do a training, or the rest of it, and return it as stored; earlier rounds come first.

    Raises:
        MipoEvalError: whatever the user must change. What was made before is kept, and the same
            command continues.
    """
    check_model(request.model, request.recipe)
    with main_process_first():
        _make_room(store, request)
    with claimed(request.out, request.training_id, request.recipe.name):
        with main_process_first():
            training = _finished(store, request)
        if training is None or training.checkpoint != str(request.out):
            training = _trained(store, _after_last_round(store, request, progress), progress)
        with main_process_first():  # the others may go on with the checkpoint
            if is_main_process():
                tidy(request.out, is_base=request.recipe.optimization.lora_rank is not None)
        return training


def _make_room(store: Store, request: TrainingRequest) -> None:
    """Move the checkpoint of an earlier round to its place, out of the folder of a later one."""
    found, earlier = holder(request.out), request.before
    while earlier and earlier.training_id != found:
        earlier = earlier.before
    if earlier is None or not is_main_process():
        return
    out, aside = str(request.out), str(earlier.out)
    hand_over(request.out, earlier.out, request.training_id)
    for one in list_trainings(store):
        if (one.training_id, one.checkpoint) == (found, out):
            put_training(store, replace(one, checkpoint=aside))
    # What was evaluated under the folder's name was this checkpoint, not what comes there now.
    rename_models(store, dict(zip(checkpoint_names(out), checkpoint_names(aside), strict=True)))


def _finished(store: Store, request: TrainingRequest) -> Training | None:
    """Return the training if it was done before and its checkpoint is there still, wherever."""
    known = {one.training_id: one for one in list_trainings(store)}.get(request.training_id)
    if known is None or known.status != "done" or known.checkpoint is None:
        return None
    folder = Path(known.checkpoint)
    return known if holder(folder) == request.training_id and is_complete(folder) else None


def _after_last_round(
    store: Store, request: TrainingRequest, progress: Progress
) -> TrainingRequest:
    """Return the request with the last round's checkpoint, which is trained unless it is there."""
    before = request.before
    if before is None:
        return request
    with main_process_first():
        last = _finished(store, before)
    last = last or train(store, before, progress)
    start, by_vllm = str(last.checkpoint), request.sampling_model.engine == "vllm"
    return replace(
        request,
        start=parse_model(start),
        sampling_model=parse_model(f"vllm:{start}" if by_vllm else start),
    )


def _trained(store: Store, request: TrainingRequest, progress: Progress) -> Training:
    with main_process_first():
        training = _opened(store, request)
    watch = Watch(store, training.training_id, progress)
    with _recorded(store, training) as record:
        with main_process_first():
            examples, held_out = make_examples(store, request, watch)
        if is_main_process() and (said := fallen_away(examples, request.recipe, request.suite)):
            watch.warn(said)
        report: dict[str, Any] = {}
        if is_main_process():
            report = _reported(request, examples, watch)
            record(pair_report=report)
        base = request.model.checkpoint
        assert base
        first = request.recipe.rounds.reference == "first"
        with main_process_first():
            folder = str(start_folder(base, request.out)) if first or not request.start else None
        job = TrainingJob(
            model=request.start.target if request.start else str(folder),
            reference=folder if request.start else None,
            out=request.out,
            examples=examples.examples,
            held_out=held_out.examples if held_out else (),
            optimization=request.recipe.optimization,
            seed=request.round_seed,
            report=watch.report,
            stage=watch.stage,
            chat_template=request.chat_template,
            told=request.effort.template_arguments(),
            save_steps=request.recipe.save_steps,
            report_to=request.recipe.report_to,
        )
        pairs = sum(len(one.rejected) for one in job.examples)
        free_memory()  # of judges and drawings, too
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
    """Return what is learned from, and what is measured on; draws what the store does not have.

    Without one held-out pair there is no held-out loss, which only matters if that is what chooses.
    """
    maker = example_maker(store, request, progress)
    made = maker.make(request.data)
    try:
        return made, maker.make(request.held_out) if request.held_out else None
    except DataError as error:
        if request.recipe.items.choose_by == "loss":
            raise
        progress.warn(f"there will be no held-out loss: {error}")
        return made, None


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
        decoding=decoding_for(model, chosen, seed=request.round_seed, max_tokens=length),
        store=store,
        progress=progress,
        seed=request.round_seed,
    )


def _opened(store: Store, request: TrainingRequest) -> Training:
    """Return the training's row, as running."""
    training_id, before = request.training_id, request.before
    known = {one.training_id: one for one in list_trainings(store)}.get(training_id)
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
        parent=before.training_id if before else None,
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


def _reported(
    request: TrainingRequest, examples: TrainingExamples, progress: Progress
) -> dict[str, Any]:
    """Return the report of the pairs; the base model it reads them with is gone afterwards."""
    if request.recipe.learns_from == "prompts":
        return pair_report(examples, None, seed=request.round_seed)
    from mipo_eval.tasks.likelihood import ScoringModel

    start = (request.start or request.model).checkpoint
    assert start
    # Over all GPUs of this host, which are empty yet: what trains in shards may not fit on one.
    scoring = ScoringModel.load(start.name, device="auto")
    if template := request.chat_template:
        scoring.tokenizer.chat_template = template
    with_chat_form(scoring.tokenizer, **request.effort.template_arguments())
    return pair_report(examples, scoring, seed=request.round_seed, progress=progress)


def _finish(store: Store, request: TrainingRequest, training: Training) -> None:
    """Write the model card."""
    curve = get_curve(store, training.training_id)
    card = model_card(training, curve, base=request.model)
    (request.out / "README.md").write_text(card, encoding="utf-8")
