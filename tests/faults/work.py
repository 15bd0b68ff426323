"""What the tests of faults let commands work on, and what they compare."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from mipo_eval.records import Item
from mipo_eval.store import Store, tables
from mipo_eval.tasks.items import write_items
from tests.servers.http import Act, Call
from tests.servers.openai_server import ok

N = 12
_UNEQUAL = {"environment", "seconds", "outcomes_key"}
"""What no two runs of one command have in common, with all that is a time."""


def write_work(folder: Path, number: int = N) -> None:
    """Write items and two files of responses into a folder."""
    made = [
        Item(
            item_id=f"item-{n}",
            prompt=f"What is tea {n}?",
            context=f"I am {n}. I like it short.",
            preferences=("Keep it short.", "Use easy words."),
            reference=f"Tea {n} is a drink.",
            user_id=f"u{n}",
            group_id=f"tea-{n // 2}",
        )
        for n in range(number)
    ]
    write_items(folder / "tea.jsonl", made)
    for name in ("good", "bad"):
        rows = [
            {"item_id": f"item-{n}", "response": f"A {name} answer to {n}."} for n in range(number)
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_preset(folder: Path, url: str, *, protocol: str, concurrency: int) -> None:
    """Write judge.yaml: a judge on a server that is asked so many things at once."""
    text = f"description: x\nbackend: openai:judge@{url}\nprotocol: {protocol}\n"
    (folder / "judge.yaml").write_text(f"{text}limits: {{concurrency: {concurrency}}}\n")


def rated(call: Call) -> Act:
    """A rating that depends on the question alone."""
    return ok(str(1 + len(str(call.body["messages"])) % 5))


def content(url: str) -> dict[str, list[str]]:
    """Return every row of every table, without what differs from run to run."""
    with Store.open(url, mode="read") as store, store.read() as connection:
        return {
            table.name: sorted(
                str([v for name, v in row.items() if not _differs(name, v)])
                for row in connection.execute(sa.select(table)).mappings()
                if "second" not in str(row.get("metric"))
            )
            for table in tables.metadata.sorted_tables
        }


def _differs(name: str, value: Any) -> bool:
    return isinstance(value, datetime) or name in _UNEQUAL


def differences(one: Path | str, other: Path | str) -> list[str]:
    """Return the rows that only one of two stores (or folders of one) has."""
    found, wanted = (
        content(where if isinstance(where, str) else str(where / "s.db")) for where in (one, other)
    )
    return [f"{name} {row}" for name in wanted for row in {*found[name]} ^ {*wanted[name]}]


def release(url: str) -> None:
    """Let what a dead process held be free at once, not in a minute."""
    if "://" in url or Path(url).exists():
        with Store.open(url) as store, store.write() as connection:
            connection.execute(sa.update(tables.workers).values(until=0.0))
