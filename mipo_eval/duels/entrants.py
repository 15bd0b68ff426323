"""Who can enter a duel, and what each answered.

RUN               the beginning of a run's id in the store
CKPT, demo,       a model, as `--model` names it: what it has not answered yet is generated
vllm:PATH,
openai:NAME@URL
FILE.jsonl,       responses made elsewhere (see `files`); kept in the store as a run
FILE.json
reference         the items' reference responses
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mipo_eval import __version__
from mipo_eval.checkpoints import check_checkpoint
from mipo_eval.duels.files import SUFFIXES, read_responses
from mipo_eval.errors import ConfigError, DataError, ModelError
from mipo_eval.evaluation.generate import KIND, environment
from mipo_eval.evaluation.score import response_scores
from mipo_eval.keys import digest
from mipo_eval.models.spec import checkpoint_name
from mipo_eval.records import Item, Response, Score
from mipo_eval.signature import join, short
from mipo_eval.store import Store
from mipo_eval.store.engine import now
from mipo_eval.store.responses import (
    Scorable,
    put_generation,
    put_responses,
    scorable,
    texts_of,
)
from mipo_eval.store.runs import Run, find_run, get_scores, put_run, put_scores
from mipo_eval.verdict import EMPTY, NO_REFERENCE, NOT_GENERATED

REFERENCE = "reference"

_RUN_ID = re.compile(r"[0-9a-f]{4,32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrant:
    """One side of a duel."""

    label: str
    """A letter: what tables call it."""
    name: str
    """As the user gave it."""
    about: str
    """What it is, for the legend."""
    run: Run | None
    """None for the references."""
    kind: str | None
    """What tells the family of its model; None for the references."""

    @property
    def key(self) -> str:
        """What made its responses: equal keys are the same responses."""
        return self.run.generation_key if self.run else digest(REFERENCE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """What the entrants are compared on."""

    suite: str
    list_key: str
    entries: Sequence[tuple[str, Item]]
    """Every item with the task it belongs to, in the suite's order."""

    @property
    def items(self) -> list[Item]:
        """The items."""
        return [item for _, item in self.entries]


def is_stored_run(name: str) -> bool:
    """Whether a name is that of a run, and of nothing on disk."""
    return bool(_RUN_ID.fullmatch(name)) and not Path(name).exists()


def find_entrant(
    store: Store, label: str, name: str, field: Field, *, respond: Callable[[str], tuple[Run, str]]
) -> Entrant:
    """Return the entrant that a name means, with its responses in the store.

    Args:
        store: where runs are, and where responses of files go.
        label: what tables call it.
        name: see the top of this file.
        field: what it is to be compared on.
        respond: returns the run of a model, generated as far as it was missing, and its kind.

    Raises:
        MipoEvalError: there is no such entrant, or it has no response to any of the items.
    """
    if name == REFERENCE:
        return Entrant(label=label, name=name, about="the references", run=None, kind=None)
    path = Path(name)
    if name.endswith(SUFFIXES):
        if not path.is_file():
            raise DataError(f"there is no response file at {name}")
        run, kind = _of_file(store, path, field)
        return Entrant(label=label, name=name, about=f"responses in {name}", run=run, kind=kind)
    if is_stored_run(name):
        run = find_run(store, name)
        kind = _kind_of(run)
    elif name != "demo" and not re.search("[/:]", name) and not path.exists():
        raise ConfigError(
            f"{name!r} is no entrant: name a run of {store.name} (`mipo-eval runs` lists them), a "
            "checkpoint's folder or hub id, vllm:PATH, openai:NAME@URL, a response file, demo or "
            f"{REFERENCE}"
        )
    else:
        run, kind = respond(name)
    prompting = f", {run.prompting} prompting" if run.prompting else ""
    return Entrant(
        label=label,
        name=name,
        about=f"{run.model}{prompting} (run {run.run_id[:12]})",
        run=run,
        kind=kind,
    )


def _kind_of(run: Run) -> str:
    """Return what tells the family of a stored run's model: its kind, or its name."""
    if kind := run.environment.get(KIND):
        return str(kind)
    folder = Path(checkpoint_name(run.model))
    if folder.is_dir():
        try:
            return str(check_checkpoint(run.model, folder).get("model_type") or run.model)
        except ModelError:
            return run.model  # it is no checkpoint any more
    return run.model


def _of_file(store: Store, path: Path, field: Field) -> tuple[Run, str]:
    """Keep a file's responses as a run, so that they can be shown and entered again."""
    found = read_responses(path, field.items)
    spec = {"responses": found.name, "texts": digest(sorted(found.texts.items()))}
    generation_key = digest(spec)
    put_generation(store, generation_key, spec)
    prompts = {item.key: item.prompt for item in field.items}
    put_responses(
        store,
        generation_key,
        (
            Response(
                item_key=key,
                text=text,
                reason=None if text is not None else f"no response in {path.name}",
                final=True,
                prompt_hash=digest(prompts[key]),
            )
            for key, text in found.texts.items()
        ),
    )
    run = Run(
        run_id=digest([field.suite, field.list_key, generation_key]),
        model=found.name,
        suite=field.suite,
        prompting="",
        seed=0,
        list_key=field.list_key,
        n_items=len(field.items),
        generation_key=generation_key,
        environment=environment(),
        created_at=now(),
        updated_at=now(),
    )
    put_run(store, run)
    if not get_scores(store, run.run_id):
        put_scores(store, run.run_id, _scores(store, run))
    return run, found.name


def _scores(store: Store, run: Run) -> list[Score]:
    """Return what needs no judge, of responses that no model here made."""
    rows: dict[str, list[Scorable]] = {}
    for row in scorable(store, run.list_key, run.generation_key):
        rows.setdefault(row.task, []).append(row)
    found = []
    for task, of_task in rows.items():
        if not any(row.text for row in of_task):
            continue
        signature = join(
            suite=run.suite,
            items=short(digest([row.item_key for row in of_task])),
            responses=short(run.generation_key),
        )
        for score in response_scores(of_task, seed=run.seed):
            signed = signature.followed_by(score.signature, join(version=__version__))
            found.append(replace(score, task=task, signature=signed))
    return found


Text = tuple[str | None, str | None]
"""A response, or None and why there is none."""


def responses_of(store: Store, entrant: Entrant, items: Sequence[Item]) -> list[Text]:
    """Return an entrant's response to each item.

    Raises:
        ConfigError: it has a response to none of them.
    """
    if entrant.run is None:
        found = [(i.reference or None, None if i.reference else NO_REFERENCE) for i in items]
    else:
        made = texts_of(store, entrant.run.generation_key)
        found = [_text(made, item, entrant) for item in items]
    if any(text for text, _ in found):
        return found
    suite = f"; it is of {entrant.run.suite}" if entrant.run else ""
    reasons = ", ".join(sorted({str(reason) for _, reason in found}))
    raise ConfigError(
        f"{entrant.name} has no response to any of {len(items)} items ({reasons}){suite}: nothing "
        "to judge"
    )


def _text(made: Mapping[str, Text], item: Item, entrant: Entrant) -> Text:
    is_file = entrant.name.endswith(SUFFIXES)
    absent = f"not in {Path(entrant.name).name}" if is_file else NOT_GENERATED
    text, reason = made.get(item.key, (None, absent))
    if text is None:
        return None, reason or absent
    return (text, None) if text.strip() else (None, EMPTY)


def same_family(entrants: Sequence[Entrant], family_of: Callable[[str], str | None]) -> str | None:
    """Return what tells the one family of all models in a duel.

    Raises:
        ConfigError: they are of several.
    """
    kinds = {e.label: e.kind for e in entrants if e.kind is not None}
    families = {label: family_of(kind) for label, kind in kinds.items()}
    if len(set(families.values())) > 1:
        listed = ", ".join(f"{label} is {kinds[label]}" for label in families)
        raise ConfigError(
            f"the judge 'family' judges models of one family ({listed}): name a judge"
        )
    return next(iter(kinds.values()), None)
