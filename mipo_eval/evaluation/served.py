"""Drawing responses from a server: claimed, asked and stored one by one, as they come."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from datetime import datetime

from mipo_eval.keys import digest
from mipo_eval.models.base import Failure, Reply, Request
from mipo_eval.models.lm_eval_served import DrawRequest, ServedModel
from mipo_eval.records import Response
from mipo_eval.store.asking import Answer, Asker, stopped
from mipo_eval.store.engine import Store
from mipo_eval.store.responses import put_generation, put_responses, settled
from mipo_eval.store.runs import generation_spec

SETTINGS = "settings"
"""Under what a generation's spec has the settings that are other than asked for."""


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
    spec: Mapping[str, object] = generation_spec(store, generation_key)
    known = spec.get(SETTINGS)
    changes.recall(str(known) if known else None)
    try:
        yield
    finally:
        if changes.settings != known:
            told = {**spec, SETTINGS: changes.settings}
            put_generation(store, generation_key, told, replace=True)
