"""Drawing responses from the reference model, through the engine that evaluates models too.

What is wanted is stored as a list of items like any suite, so a stopped drawing continues and
nothing is drawn twice. A draw depends on the seed and its item only (`models/lm_eval.py`).
Draws of one prompt stand beside each other, so that engines with a prefix cache read it once.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mipo_eval.keys import digest
from mipo_eval.models.lm_eval import (
    Decoding,
    LoadedModel,
    ModelOptions,
    generation_spec,
    load_model,
    load_task,
)
from mipo_eval.models.spec import ModelSpec
from mipo_eval.progress import Progress
from mipo_eval.records import Item, Response
from mipo_eval.store import Store
from mipo_eval.store.items import put_list
from mipo_eval.store.responses import answered, missing, put_generation, put_responses
from mipo_eval.tasks.items import write_items

Wanted = Mapping[str, Sequence[Item]]
"""Items as they are to be asked, by the lm-eval task that asks them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampler:
    """Who draws responses, and how."""

    model: ModelSpec
    options: ModelOptions
    decoding: Decoding
    asking: Mapping[str, str]
    """How an item becomes a prompt: part of the key of its responses."""


def draw(
    store: Store, wanted: Wanted, sampler: Sampler, progress: Progress, *, what: str = "responses"
) -> dict[str, Response]:
    """Return the responses to items, drawing those that the store does not have.

    Args:
        store: where responses are kept, each chunk as soon as it is drawn.
        wanted: the items; one that comes twice is drawn once.
        sampler: who draws.
        progress: told how far the work is.
        what: name of the stage.

    Returns:
        Responses by item key; absent where none could be drawn.

    Raises:
        ModelError: the model cannot be loaded or asked; what was drawn before is kept.
    """
    unique = {task: _unique(items) for task, items in wanted.items()}
    asked = [(task, item) for task, items in unique.items() for item in items]
    list_key, _ = put_list(store, unique.items())
    spec = generation_spec(sampler.model, sampler.options, sampler.decoding, asking=sampler.asking)
    key = digest(spec)
    put_generation(store, key, spec)
    todo = missing(store, list_key, key)
    if todo:
        progress.start(f"{what} of {sampler.model.name}", len(asked))
        progress.advance(len(asked) - len(todo))
        model = load_model(sampler.model, sampler.options, sampler.decoding)
        for task in unique:
            absent = [asked[position] for position in todo if asked[position][0] == task]
            for chunk in ask(model, task, [item for _, item in absent], sampler.decoding):
                put_responses(store, key, chunk)
                progress.advance(len(chunk))
        model.close()  # what is trained next needs its memory
        progress.finish()
    found = (entry.response for entry in answered(store, list_key, key))
    return {response.item_key: response for response in found if response is not None}


def ask(
    model: LoadedModel, task: str, items: Sequence[Item], decoding: Decoding
) -> Iterator[list[Response]]:
    """Yield the responses to items chunk by chunk; lm-eval reads them from an item file.

    Args:
        model: who is asked.
        task: name of one of our lm-eval tasks.
        items: each with an id of its own.
        decoding: as the model was loaded with.

    Raises:
        ModelError: the model cannot be asked.
    """
    if not items:
        return
    with tempfile.TemporaryDirectory(prefix="mipo-eval-") as folder:
        loaded = load_items(task, items, Path(folder), decoding)
        for start in range(0, len(items), model.chunk_size):
            positions = range(start, min(start + model.chunk_size, len(items)))
            yield model.ask(loaded, positions)


def load_items(task: str, items: Sequence[Item], folder: Path, decoding: Decoding) -> Any:
    """Return an lm-eval task of ours with these items for its documents.

    Args:
        task: its name.
        items: each with an id of its own.
        folder: an existing one, for a file.
        decoding: of the responses.
    """
    file = folder / "items.jsonl"
    write_items(file, items)
    about = {"source": str(file), "prompting": "personalized", "data_dir": None, "limit": None}
    return load_task(task, about, decoding)


def _unique(items: Sequence[Item]) -> list[Item]:
    return list({item.key: item for item in items}.values())
