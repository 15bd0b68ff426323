"""From a suite and a model to stored responses: what is missing is made, and stored as it comes."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from mipo_eval.environment import KIND, environment
from mipo_eval.errors import DataError
from mipo_eval.judges.judge import Judge
from mipo_eval.keys import digest
from mipo_eval.models.base import Failure, Reply, Request
from mipo_eval.models.chat import chat_template_of, has_system_role
from mipo_eval.models.lm_eval import (
    Decoding,
    LoadedModel,
    ModelOptions,
    generation_spec,
    load_model,
    load_task,
)
from mipo_eval.models.lm_eval_served import DrawRequest, ServedModel
from mipo_eval.models.spec import ModelSpec
from mipo_eval.progress import Progress, run_ticking
from mipo_eval.records import Response, Run
from mipo_eval.signature import short
from mipo_eval.store.asking import Answer, Asker, stopped
from mipo_eval.store.engine import Store, now
from mipo_eval.store.items import put_list
from mipo_eval.store.responses import missing, put_generation, put_responses, settled
from mipo_eval.store.runs import generation_spec as stored_spec
from mipo_eval.store.runs import put_run
from mipo_eval.tasks.prompt import Prompting
from mipo_eval.tasks.sources import suite_items
from mipo_eval.tasks.suites import Suite

_AT_A_SERVER = 4096
"""Prompts in memory at once."""
SETTINGS = "settings"
"""Under what a generation's spec has the settings that are other than asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """Which model is asked what, and how."""

    model: ModelSpec
    options: ModelOptions
    suite: Suite
    prompting: Prompting
    decoding: Decoding
    data_dir: Path
    limit: int | None = None
    """Only the first items of each task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation(Asking):
    """Everything one run is asked to do."""

    judges: Sequence[Judge]
    controls: bool = False
    """Also judge the control entrants, which must not do well."""
    scoring_model: str | None = None
    """Checkpoint that measures context lift; None leaves it out."""


def respond(
    store: Store,
    asked: Asking,
    progress: Progress,
    *,
    before: Callable[[Run, int], None] = lambda _run, _missing: None,
) -> Run:
    """Make the responses that the store does not have, and return the run they belong to.

    Args:
        store: where items and responses go.
        asked: the model, the suite and how it is asked.
        progress: told how far it is.
        before: called with the run and how many responses it lacks, before any is made: to find
            out early what would fail later.

    Raises:
        MipoEvalError: whatever the user must change; what was made before is kept.
    """
    run = _open_run(store, asked)
    todo = missing(store, run.list_key, run.generation_key)
    if todo:
        before(run, len(todo))
        _generate(store, asked, run, todo, progress)
    return run


def responses_spec(asked: Asking) -> dict[str, Any]:
    """Return how the run's responses are made; its digest is their generation's key."""
    parts = asking_parts(asked.suite, asked.prompting, asked.model, asked.options)
    return generation_spec(asked.model, asked.options, asked.decoding, asking=parts)


def run_id_of(suite: Suite, list_key: str, generation_key: str) -> str:
    """Return the id of the run of these responses to these items."""
    return digest([suite.name, list_key, generation_key])


def asking_parts(
    suite: Suite, prompting: Prompting, model: ModelSpec, options: ModelOptions
) -> dict[str, str]:
    """Return how an item of a suite becomes a prompt, as keys and signatures name it.

    Earlier turns and a system prompt of the item's own are in the item's key.
    """
    told = {"system": short(digest(options.system))} if options.system else {}
    worded = {"query": short(key)} if (key := suite.wording_key) else {}
    if suite.form == "query":
        if any(task.wording.has_system for task in suite.tasks):
            told |= system_role(model, options)
        return {"prompting": prompting, **worded, **told}
    # Under the key without it, such models were once asked without the instructions.
    role = system_role(model, options) if suite.has_instructions else {}
    return {"form": suite.form, **worded, **told, **role}


def system_role(model: ModelSpec, options: ModelOptions) -> dict[str, str]:
    """Return whose turn system prompts stand in where that is not their own, for signatures."""
    template = options.chat_template or chat_template_of(model)
    # A server's template is not seen.
    return {"system_role": "user"} if template and not has_system_role(template) else {}


def _open_run(store: Store, asked: Asking) -> Run:
    tasks = suite_items(asked.suite, asked.data_dir, asked.limit)
    list_key, n_items = put_list(store, tasks)
    if not n_items:
        raise DataError(f"suite {asked.suite.name} has no items")
    spec = responses_spec(asked)
    generation_key = digest(spec)
    put_generation(store, generation_key, spec)
    run = Run(
        run_id=run_id_of(asked.suite, list_key, generation_key),
        model=asked.model.name,
        suite=asked.suite.name,
        prompting=asked.prompting if asked.suite.form == "query" else "",
        seed=asked.decoding.seed,
        list_key=list_key,
        n_items=n_items,
        generation_key=generation_key,
        environment=environment() | {KIND: asked.model.kind},
        created_at=now(),
        updated_at=now(),
    )
    put_run(store, run)
    return run


def _generate(store: Store, asked: Asking, run: Run, todo: list[int], progress: Progress) -> None:
    """Make the missing responses."""
    model = load_model(asked.model, asked.options, asked.decoding)
    progress.start(f"responses of {asked.model.name}", run.n_items, model.remark)
    progress.advance(run.n_items - len(todo))
    draw(store, run.generation_key, model, _parts(asked, run, set(todo)), progress)
    progress.finish()


def _parts(asked: Asking, run: Run, wanted: set[int]) -> Iterator[tuple[Any, list[int]]]:
    """Yield the suite's tasks, each with the positions of its documents that are wanted."""
    offset = 0
    for task in asked.suite.tasks:
        about = {
            "source": task.source,
            "query": task.query,
            "turns": task.wording.turns,
            "prompting": asked.prompting,
            "data_dir": str(asked.data_dir),
            "limit": asked.limit,
        }
        loaded = load_task(task.lm_eval_task, about, asked.decoding)
        n_documents = len(loaded.eval_docs)
        yield loaded, [p for p in range(n_documents) if p + offset in wanted]
        offset += n_documents
    if offset != run.n_items:
        raise DataError(
            f"suite {asked.suite.name} changed while it was read (first {run.n_items} items, then "
            f"{offset}): repeat the command"
        )


def draw(
    store: Store,
    generation_key: str,
    model: LoadedModel,
    parts: Iterable[tuple[Any, Sequence[int]]],
    progress: Progress,
) -> None:
    """Draw responses and store them as they come, so that a killed drawing loses a batch at most.

    Those of a server may be drawn by several processes, which share them.

    Args:
        store: where they go.
        generation_key: what they are drawn by.
        model: who is asked.
        parts: tasks as lm-eval has them, each with the positions of the documents to respond to.
        progress: told how many there are.
    """

    def keep(made: list[Response]) -> None:
        put_responses(store, generation_key, made)
        progress.advance(len(made))

    for task, positions in parts:
        size = _AT_A_SERVER if isinstance(model, ServedModel) else model.chunk_size
        for start in range(0, len(positions), size):
            chunk = positions[start : start + size]
            if isinstance(model, ServedModel):
                asked = model.requests(task, chunk)
                work = draw_served(store, generation_key, model, asked, progress.advance)
                run_ticking(work, progress)
            else:
                model.ask(task, chunk, keep, partial(progress.advance, 0))


class _Drawing(Asker[DrawRequest, Response]):
    """Asks a served model only for the responses that the store does not have."""

    def __init__(self, store: Store, model: ServedModel, generation_key: str) -> None:
        super().__init__(store, model.backend)
        self._model, self._generation_key = model, generation_key
        self._items: dict[str, str] = {}
        """Key to the item's."""

    def key(self, tag: DrawRequest, request: Request) -> str:
        """Return what stands for this response of this generation."""
        key = digest([self._generation_key, tag.item_key])
        self._items[key] = tag.item_key
        return key

    def look_up(self, keys: Sequence[str], since: datetime) -> dict[str, Response]:
        """Return the responses that will not be drawn again, and those that failed since then."""
        item_keys = {self._items[key]: key for key in keys}
        found = settled(self._store, self._generation_key, [*item_keys], since)
        return {item_keys[item_key]: response for item_key, response in found.items()}

    def save(self, answers: Sequence[Answer]) -> dict[str, Response]:
        """Store what came of requests."""
        made: dict[str, Response] = {}
        for answer in answers:
            assert isinstance(answer.request, DrawRequest)
            made[answer.key] = self._model.response(answer.request, answer.outcome)
        put_responses(self._store, self._generation_key, made.values())
        return made

    def stops(self, outcome: Reply | Failure) -> bool:
        """Whether a request was not sent: the money is used up, or the server is dead."""
        return super().stops(outcome) or (isinstance(outcome, Failure) and outcome.attempts == 0)


async def draw_served(
    store: Store,
    generation_key: str,
    model: ServedModel,
    requests: Iterable[DrawRequest],
    advance: Callable[[int], None],
) -> None:
    """Draw responses and store each as it comes; one that fails is stored as that.

    Raises:
        BackendError: the server cannot be asked any more, or the limit on the cost is reached.
    """
    drawing = _Drawing(store, model, generation_key)
    with _recorded(store, generation_key, model):
        async with aclosing(drawing.ask((one, one) for one in requests)) as made:
            async for _ in made:
                advance(1)
    if dead := model.backend.dead:
        raise stopped(dead)


@contextmanager
def _recorded(store: Store, generation_key: str, model: ServedModel) -> Iterator[None]:
    """Keep the settings that the server turned out not to take with how responses are made."""
    changes = model.backend.changes
    spec: Mapping[str, object] = stored_spec(store, generation_key)
    known = spec.get(SETTINGS)
    changes.recall(str(known) if known else None)
    try:
        yield
    finally:
        if changes.settings != known:
            told = {**spec, SETTINGS: changes.settings}
            put_generation(store, generation_key, told, replace=True)
