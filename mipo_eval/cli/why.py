"""`mipo-eval why CALL`: what a stored call was keyed on, and what was read from it."""

import re
from typing import TYPE_CHECKING, Any

import click

from mipo_eval.cli.options import json_option, store_option

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mipo_eval.judges.explaining import CallAbout, StoredCall
    from mipo_eval.store import Store

_SECRET = re.compile(r"(?<=//)[^/@\s]+@")
"""A user and password in a URL; no other part of a key holds any."""


@click.command()
@click.argument("call", metavar="CALL|RUN:ITEM")
@click.argument("other", required=False, metavar="[CALL]")
@store_option
@json_option
def why(call: str, other: str | None, store: str, as_json: bool) -> None:
    """Explain what a stored call was keyed on: why asking again costs nothing, or costs again.

    CALL is the beginning of a call's key. With a second CALL, says in which parts the two differ.
    RUN:ITEM lists the calls behind a run's response to an item, and its reference.
    """
    from mipo_eval.cli.render import Output
    from mipo_eval.judges.explaining import differing, explain_call
    from mipo_eval.store import Store

    output = Output(as_json=as_json)
    with Store.open(store, mode="read") as opened:
        if ":" in call:
            listed = _listed(opened, call)
            if as_json:
                rows = [
                    {"call": o.key, "status": o.status, "of": o.of, **o.read._asdict()}
                    for o in listed
                ]
                output.document({"calls": rows})
            output.show(*_table(listed))
            return
        found = explain_call(opened, call)
        second = explain_call(opened, other) if other else None
    apart = differing(found, second) if second else {}
    if as_json:
        document = _call_json(found)
        if second:
            document["differs"] = {name: list(both) for name, both in apart.items()}
        output.document(document)
        return
    output.show(*(_apart(found, second, apart) if second else _call(found)))


def _listed(store: "Store", name: str) -> "list[CallAbout]":
    """Return the calls behind RUN:ITEM."""
    from mipo_eval.errors import ConfigError
    from mipo_eval.judges.explaining import calls_about
    from mipo_eval.store.items import get_items
    from mipo_eval.store.runs import find_run

    run_name, _, item_id = name.partition(":")
    run = find_run(store, run_name)
    keys = [item.key for _, item in get_items(store, run.list_key) if item.item_id == item_id]
    if not keys:
        raise ConfigError(f"run {run_name} has no item {item_id!r}")
    return calls_about(store, run, keys)


def _table(found: "list[CallAbout]") -> "list[RenderableType]":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from mipo_eval.cli.render import inert

    if not found:
        return [Text("No call stands behind this item: nobody was asked about it.")]
    table = Table(header_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("call", no_wrap=True)
    for column in ("judge", "of", "about", "said"):
        table.add_column(column, overflow="fold")
    for one in found:
        said = one.read.value or one.read.reason or one.status
        table.add_row(
            one.key[:12], inert(one.read.judge), one.of, inert(one.read.about), inert(said)
        )
    return [table]


def _call_json(found: "StoredCall") -> dict[str, Any]:
    return {
        "call": found.key,
        "status": found.status,
        "detail": found.detail,
        "keyed_on": {"backend": _hidden(found.backend), **_hidden(found.request)},
        "reply": found.reply,
        "answered_by": found.model,
        "finish_reason": found.finish_reason,
        "prompt_tokens": found.prompt_tokens,
        "completion_tokens": found.completion_tokens,
        "seconds": found.seconds,
        "created_at": found.created_at,
        "verdicts": [read._asdict() for read in found.verdicts],
    }


def _hidden(value: Any) -> Any:
    """Return a JSON value without what stands before the @ of a URL."""
    if isinstance(value, str):
        return _SECRET.sub("", value)
    if isinstance(value, list | tuple):
        return [_hidden(part) for part in value]
    return {k: _hidden(part) for k, part in value.items()} if hasattr(value, "items") else value


def _call(found: "StoredCall") -> "list[RenderableType]":
    from rich.panel import Panel
    from rich.text import Text

    from mipo_eval.cli.render import inert

    again = (
        "asking this again is a hit and costs nothing"
        if found.status == "ok"
        else "a failure is asked again"
    )
    title = inert(f"call {found.key}: {found.status}; {again}")
    title.stylize("bold")
    keyed = Text("keyed on, and on nothing else:\n", style="italic")
    for name, part in _hidden(found.backend).items():
        keyed.append_text(inert(f"  {name}: {part}\n"))
    request = dict(_hidden(found.request))
    messages = request.pop("messages", [])
    for name, part in request.items():
        told = ", ".join(f"{k} {v}" for k, v in part.items()) if isinstance(part, dict) else part
        keyed.append_text(inert(f"  {name}: {told}\n"))
    parts: list[RenderableType] = [title, keyed]
    for message in messages:
        body = inert(str(message.get("content", "")))
        parts.append(Panel(body, title=inert(str(message.get("role"))), title_align="left"))
    told = found.detail if found.reply is None else found.reply
    parts.append(Panel(inert(told or ""), title="reply", title_align="left"))
    facts = [found.created_at[:19], found.model, found.finish_reason]
    facts += [f"{found.prompt_tokens} + {found.completion_tokens} tokens"]
    facts += [f"{found.seconds:.2f} s"] if found.seconds is not None else []
    parts.append(inert(", ".join(fact for fact in facts if fact and "None" not in fact)))
    for read in found.verdicts:
        said = read.value or f"nothing: {read.reason}"
        judge = f"{read.judge} ({read.judge_key[:8]})"
        parts.append(inert(f"read by {judge} as {said}: {read.item_id}, {read.about}"))
    return parts


def _apart(
    found: "StoredCall", second: "StoredCall | None", apart: dict[str, tuple[Any, Any]]
) -> "list[RenderableType]":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from mipo_eval.cli.render import inert

    if not apart or second is None:
        return [Text("The two calls are the same.")]
    table = Table(header_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("part")
    for call in (found, second):
        table.add_column(call.key[:12], overflow="fold")
    for name, both in apart.items():
        table.add_row(inert(name), *(inert(str(_hidden(value))) for value in both))
    return [Text("One is no hit for the other, since they differ in:"), table]
