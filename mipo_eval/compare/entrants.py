"""Who can be compared, and what each answered.

RUN               the beginning of a run's id in the store
CKPT, demo,       a model, as `--model` names it: what it has not answered yet is generated
vllm:PATH,
openai:NAME@URL
FILE.jsonl,       responses made elsewhere, in any form of rows.py; kept in the store as a run
hf://OWNER/NAME
reference         the items' reference responses

A file of responses is JSONL by item, or the outputs of alpaca_eval:

{"item_id": "tea-1", "response": "Pour hot water on the leaves."}            one line an item
[{"instruction": "How do I brew tea?", "output": "Pour ...", "generator": "m"}]     alpaca_eval
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mipo_eval import __version__
from mipo_eval.checkpoints import BASE, find_checkpoint
from mipo_eval.environment import KIND, environment
from mipo_eval.errors import ConfigError, DataError, ModelError
from mipo_eval.evaluation.score import response_scores
from mipo_eval.keys import digest
from mipo_eval.models.spec import checkpoint_name, read_name
from mipo_eval.models.thinking import CUT, Parts, take_apart
from mipo_eval.records import Item, Response, Run, Score
from mipo_eval.reports.names import run_names, stored_rules
from mipo_eval.rows import HUB, FileRow, is_hub, names_rows, read_rows
from mipo_eval.signature import join, short
from mipo_eval.store.engine import Store, now
from mipo_eval.store.responses import Scorable, put_generation, put_responses, scorable, texts_of
from mipo_eval.store.runs import find_run, get_scores, put_run, put_scores
from mipo_eval.tasks.prompt import render_query
from mipo_eval.verdict import EMPTY, NO_REFERENCE, NOT_GENERATED

REFERENCE = "reference"

_RUN_ID = re.compile(r"[0-9a-f]{4,32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrant:
    """One of those that are compared."""

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
    if names_rows(name):
        if not (is_hub(name) or Path(name).is_file()):
            raise DataError(f"there is no response file at {name}")
        run, kind = _of_file(store, name, field)
        return Entrant(label=label, name=name, about=f"responses in {name}", run=run, kind=kind)
    if is_stored_run(name):
        run = find_run(store, name)
        kind = _kind_of(run)
    elif not (read_name(name).kind or re.search(f"[/:]|{BASE}", name) or Path(name).exists()):
        raise ConfigError(
            f"{name!r} is not an entrant: name a run of {store.name} (`mipo-eval runs` lists "
            "them), a checkpoint's folder or hub id, vllm:PATH, openai:NAME@URL, a response "
            f"file, demo or {REFERENCE}"
        )
    else:
        run, kind = respond(name)
    (called,) = run_names([run], stored_rules(store))
    prompting = f", {run.prompting} prompting" if run.prompting else ""
    return Entrant(
        label=label,
        name=name,
        about=f"{called}{prompting} (run {run.run_id[:8]})",
        run=run,
        kind=kind,
    )


def _kind_of(run: Run) -> str:
    """Return what tells the family of a stored run's model: its kind, or its name."""
    if kind := run.environment.get(KIND):
        return str(kind)
    name = checkpoint_name(run.model)
    if Path(name).is_dir():
        try:
            return str(find_checkpoint(name).config.get("model_type") or run.model)
        except ModelError:
            return run.model  # it is no checkpoint any more
    return run.model


def _of_file(store: Store, source: str, field: Field) -> tuple[Run, str]:
    """Keep a file's responses as a run, so that they can be shown and entered again."""
    name, replies = read_responses(source, field.items)
    said = [(key, parts and parts.response) for key, parts in sorted(replies.items())]
    spec = {"responses": name, "texts": digest(said)}
    generation_key = digest(spec)
    put_generation(store, generation_key, spec)
    prompts = {item.key: item.prompt for item in field.items}
    responses = (
        Response(
            item_key=key,
            text=parts and parts.response,
            reason=_why_no_response(parts, source, told=key in replies),
            final=True,
            prompt_hash=digest(prompt),
            thinking=parts and parts.thinking,
        )
        # What the file lacks will never come: a state, not a run still in flight.
        for key, prompt in prompts.items()
        for parts in (replies.get(key),)
    )
    put_responses(store, generation_key, responses)
    at = now()
    run = Run(
        run_id=digest([field.suite, field.list_key, generation_key]),
        model=name,
        suite=field.suite,
        prompting="",
        seed=0,
        list_key=field.list_key,
        n_items=len(field.items),
        generation_key=generation_key,
        environment=environment(),
        created_at=at,
        updated_at=at,
    )
    put_run(store, run)
    if not get_scores(store, run.run_id):
        put_scores(store, run.run_id, _scores(store, run))
    return run, name


def _why_no_response(parts: Parts | None, source: str, *, told: bool) -> str | None:
    if not told:
        return f"not in {Path(source).name}"
    if parts is None:
        return f"no response in {Path(source).name}"
    return CUT if parts.response is None else None


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
        for score in response_scores(store, of_task):
            signed = signature.followed_by(score.signature, join(version=__version__))
            found.append(replace(score, task=task, signature=signed))
    return found


Answer = tuple[str | None, str | None]
"""A response, or None and why there is none."""


def responses_of(store: Store, entrant: Entrant, items: Sequence[Item]) -> list[Answer]:
    """Return an entrant's response to each item.

    Raises:
        ConfigError: it has a response to none of them.
    """
    if entrant.run is None:
        found = [(i.reference or None, None if i.reference else NO_REFERENCE) for i in items]
    else:
        made = texts_of(store, entrant.run.generation_key)
        found = [_text(made, item) for item in items]
    if any(text for text, _ in found):
        return found
    suite = f"; it is of {entrant.run.suite}" if entrant.run else ""
    reasons = ", ".join(sorted({str(reason) for _, reason in found}))
    raise ConfigError(
        f"{entrant.name} has no response to any of the {len(items)} items ({reasons}){suite}: "
        "there is nothing to judge"
    )


def _text(made: Mapping[str, Answer], item: Item) -> Answer:
    text, reason = made.get(item.key, (None, NOT_GENERATED))
    if text is None:
        return None, reason or NOT_GENERATED
    return (text, None) if text.strip() else (None, EMPTY)


def same_family(entrants: Sequence[Entrant], family_of: Callable[[str], str | None]) -> str | None:
    """Return what tells the one family of all models compared.

    Raises:
        ConfigError: they are of several.
    """
    kinds = {e.label: e.kind for e in entrants if e.kind is not None}
    families = {label: family_of(kind) for label, kind in kinds.items()}
    if len(set(families.values())) > 1:
        listed = ", ".join(f"{label} is {kinds[label]}" for label in families)
        raise ConfigError(
            f"the judge 'family' can only judge models of one family, but {listed}: name another "
            "judge"
        )
    return next(iter(kinds.values()), None)


_SHOWN = 60


def read_responses(
    source: Path | str, items: Sequence[Item]
) -> tuple[str, dict[str, Parts | None]]:
    """Return the name of a file's generator, or its own, and its replies by item key.

    A reply is None where the file says that there is none; one that was cut inside its thinking
    has no response. The thinking may stand before the response, between its marks, or beside it
    as `thinking`, `reasoning` or `reasoning_content`.

    Rows of alpaca_eval name no item: their instruction is an item's prompt, or the whole query
    with or without the user's context. Where several items have it, there must be as many rows,
    in the items' order.

    Args:
        source: a file or a data set on the hub, as rows.py reads them.
        items: the items that responses are wanted for.

    Raises:
        DataError: the file cannot be read, a row is malformed or there twice, or no row is about
            any of the items.
    """
    rows = list(read_rows(source))
    if not rows:
        raise DataError(f"{source} contains no responses")
    file_name = str(source).removeprefix(HUB) if is_hub(source) else Path(source).name
    if "item_id" in rows[0].data:
        name, texts = file_name, _by_id(rows, items)
    elif {"instruction", "output"} <= rows[0].data.keys():
        name, texts = _generator(rows) or file_name, _by_instruction(rows, items)
    else:
        raise rows[0].wrong(
            'is no response: write {"item_id": ..., "response": ...}, or alpaca_eval\'s '
            '{"instruction": ..., "output": ..., "generator": ...}'
        )
    if not texts:
        raise DataError(f"{source}: none of its {len(rows)} rows is about an item of the suite")
    return name, texts


_THOUGHT = ("thinking", "reasoning", "reasoning_content")


def _reply(row: FileRow, name: str) -> Parts:
    """Return a row's response and thinking."""
    beside = (row.data.get(field) for field in _THOUGHT)
    apart = next((text for text in beside if isinstance(text, str) and text.strip()), None)
    if row.get(name) is None and apart:
        return Parts(None, apart.strip())
    return take_apart(row.written(name), apart=apart)


def _by_id(rows: Sequence[FileRow], items: Sequence[Item]) -> dict[str, Parts | None]:
    keys = {item.item_id: item.key for item in items}
    texts: dict[str, Parts | None] = {}
    seen: set[str] = set()
    for row in rows:
        item_id = row.text("item_id")
        if item_id in seen:
            raise row.wrong(f"item_id {item_id!r} was there before: one response an item")
        seen.add(item_id)
        absent = row.get("response") is None and not any(row.data.get(n) for n in _THOUGHT)
        reply = None if absent else _reply(row, "response")
        if item_id in keys:
            texts[keys[item_id]] = reply
    return texts


def _generator(rows: Sequence[FileRow]) -> str | None:
    names = {row.data["generator"]: row for row in rows if row.data.get("generator")}
    if len(names) > 1:
        second = list(names.values())[1]
        raise second.wrong(f"the file is of several generators ({', '.join(map(str, names))})")
    return str(next(iter(names))) if names else None


_FORMS: tuple[Callable[[Item], str], ...] = (
    lambda item: render_query(item, "personalized"),
    lambda item: render_query(item, "default"),
    lambda item: item.transcript,
    lambda item: item.prompt,
)
"""How an item may stand in a file, the most telling form first."""


def _by_instruction(rows: Sequence[FileRow], items: Sequence[Item]) -> dict[str, Parts | None]:
    of_instruction: dict[str, list[FileRow]] = {}
    for row in rows:
        of_instruction.setdefault(row.text("instruction").strip(), []).append(row)
    texts: dict[str, Parts | None] = {}
    for form in _FORMS:
        asked: dict[str, list[Item]] = {}
        for item in items:
            if item.key not in texts:
                asked.setdefault(form(item).strip(), []).append(item)
        for instruction, wanting in asked.items():
            found = of_instruction.pop(instruction, [])
            if found and len(found) != len(wanting):
                raise found[0].wrong(
                    f"{len(wanting)} items of the suite ask {instruction[:_SHOWN]!r} and the file "
                    f"has {len(found)} outputs for it: name the items, in JSONL with item_id"
                )
            for item, row in zip(wanting, found, strict=False):
                texts[item.key] = _reply(row, "output")
    return texts
