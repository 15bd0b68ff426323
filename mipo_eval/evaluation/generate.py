"""From a suite and a model to stored responses: what is missing is made, and stored as it comes."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mipo_eval.environment import KIND, environment
from mipo_eval.errors import DataError
from mipo_eval.evaluation.served import draw_served
from mipo_eval.keys import digest
from mipo_eval.models.chat import chat_template_of, has_system_role
from mipo_eval.models.lm_eval import (
    Decoding,
    LoadedModel,
    ModelOptions,
    generation_spec,
    load_model,
    load_task,
)
from mipo_eval.models.lm_eval_served import ServedModel
from mipo_eval.models.spec import ModelSpec
from mipo_eval.progress import Progress, run_ticking
from mipo_eval.records import Response, Run
from mipo_eval.signature import short
from mipo_eval.store.engine import Store, now
from mipo_eval.store.items import put_list
from mipo_eval.store.responses import missing, put_generation, put_responses
from mipo_eval.store.runs import put_run
from mipo_eval.tasks.prompt import Prompting, query_hash
from mipo_eval.tasks.suites import Suite, suite_items

_AT_A_SERVER = 4096
"""Prompts in memory at once."""


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


def respond(
    store: Store,
    asked: Asking,
    progress: Progress,
    *,
    before: Callable[[], None] = lambda: None,
) -> Run:
    """Make the responses that the store does not have, and return the run they belong to.

    Args:
        store: where items and responses go.
        asked: the model, the suite and how it is asked.
        progress: told how far it is.
        before: called before anything is made, to find out early what would fail later.

    Raises:
        MipoEvalError: whatever the user must change; what was made before is kept.
    """
    run = _open_run(store, asked)
    todo = missing(store, run.list_key, run.generation_key)
    if todo:
        before()
        _generate(store, asked, run, todo, progress)
    return run


def responses_spec(asked: Asking) -> dict[str, Any]:
    """Return how the run's responses are made; its digest is their generation's key."""
    parts = asking_parts(asked.suite, asked.prompting, asked.model, asked.options)
    return generation_spec(asked.model, asked.options, asked.decoding, asking=parts)


def asking_parts(
    suite: Suite, prompting: Prompting, model: ModelSpec, options: ModelOptions
) -> dict[str, str]:
    """Return how an item of a suite becomes a prompt, as keys and signatures name it.

    Earlier turns and a system prompt of the item's own are in the item's key.
    """
    told = {"system": short(digest(options.system))} if options.system else {}
    if suite.form == "query":
        return {"prompting": prompting, "query": short(query_hash()), **told}
    # Under the key without it, such models were once asked without the instructions.
    role = system_role(model, options) if suite.has_instructions else {}
    return {"form": suite.form, **told, **role}


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
        run_id=digest([asked.suite.name, list_key, generation_key]),
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
            f"suite {asked.suite.name} changed while it was read: {run.n_items} items, then "
            f"{offset}; repeat the command"
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
                model.ask(task, chunk, keep)
