"""Suites: what a name after `--suite` means; `suites.toml` holds those that ship.

A suite is one or more tasks; a task is a source of items and the lm-eval task that asks them.
"""

import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Literal

from mipo_eval.errors import ConfigError, DataError
from mipo_eval.keys import digest
from mipo_eval.plugins import find_plugin, list_plugins
from mipo_eval.rows import FORMS, is_hub, names_rows, short_name
from mipo_eval.tasks.wordings import SHIPPED, Asks, Wording, asks_of, read_wording, usual

Form = Literal["query", "answer", "letters", "texts"]
"""How items are asked: a user's query; a question with an answer that can be checked; or the
likelihood of each choice, as a bare letter or as its text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteTask:
    """One column of a table: its items and how they are asked."""

    name: str
    """As tables and scores show it."""
    source: str
    """A name of `tasks.sources.SOURCES`, or of an item file or a data set on the hub."""
    lm_eval_task: str
    asks: Asks = "query"
    query: str = usual("query")
    """Its wording: a name, or a file."""

    @property
    def wording(self) -> Wording:
        """How its items are worded.

        Raises:
            ConfigError: a file is gone or was changed to something else.
        """
        return read_wording(self.query, self.asks)


_FORMER = frozenset({"turns", "letter"})
"""Wordings of questions that were the only ones before there was a choice."""

_WORKED = frozenset({"gsm8k", "gsm8k_full", "svamp"})
"""Sources whose tasks have a `description`, which lm-eval makes the system prompt of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """What `--suite` names."""

    name: str
    about: str
    tasks: tuple[SuiteTask, ...]
    form: Form = "query"
    version: int = 1
    """Raised whenever the meaning of the suite changes; part of every signature."""
    judge: str | None = None
    """The judge used when none is asked for; None: judge-free metrics only."""
    max_tokens: int = 256
    """Length of a response unless the user says; a worked solution needs more."""

    @property
    def wording_key(self) -> str | None:
        """Digest of how its items are worded; None where that could once not be chosen."""
        if self.form == "texts":
            return None
        keys = [
            (task.name, task.wording.key)
            for task in self.tasks
            if not (self.form == "answer" and task.query in _FORMER)
        ]
        if len({key for _, key in keys}) > 1:
            return digest(keys)
        return keys[0][1] if keys else None

    def only(self, task: str) -> "Suite":
        """Return the suite with one of its tasks."""
        return replace(self, tasks=tuple(one for one in self.tasks if one.name == task))

    @property
    def has_instructions(self) -> bool:
        """Whether a task of it opens with a system prompt of its own, as word problems do."""
        return self.form == "answer" and any(task.source in _WORKED for task in self.tasks)


def _shipped() -> Iterator[Suite]:
    text = (resources.files(__package__) / "suites.toml").read_text(encoding="utf-8")
    for name, about in tomllib.loads(text).items():
        suffix = f"_{form}" if (form := about.get("form")) in {"letters", "texts"} else ""
        tasks = tuple(
            SuiteTask(
                name=source,
                source=source,
                lm_eval_task=f"mipo_{source}{suffix}",
                asks=(asks := _asks(source, about.get("form", "query"))),
                query=usual(asks, source),
            )
            for source in about.pop("sources", [name])
        )
        yield Suite(name=name, tasks=tasks, **about)


def _asks(source: str, form: Form) -> Asks:
    return "query" if form == "query" else "number" if source in _WORKED else "choice"


_LONGEST = 64
"""Characters of a task's name, as with imported ones."""

SUITES = {suite.name: suite for suite in _shipped()}


def find_suite(name: str) -> Suite:
    """Return a suite by name, or the suite that an item file is.

    Raises:
        ConfigError: no such suite; lists the known ones.
        DataError: the item file is not there.
    """
    if name in SUITES:
        return SUITES[name]
    if own := find_plugin("suites", name):
        task = SuiteTask(name=name, source=name, lm_eval_task="mipo_items")
        return Suite(name=name, about=own.about, tasks=(task,))
    if names_rows(name):
        source = name
        if not is_hub(name):
            if not Path(name).is_file():
                raise DataError(f"there is no item file at {name}")
            source = str(Path(name).absolute())
        called = _storable(short_name(name), name)
        task = SuiteTask(name=called, source=source, lm_eval_task="mipo_items")
        return Suite(name=called, about=f"items of {name}", tasks=(task,))
    known = ", ".join([*SUITES, *(plugin.name for plugin in list_plugins("suites"))])
    raise ConfigError(f"unknown suite {name!r}; known: {known}, or {FORMS}")


def _storable(called: str, name: str) -> str:
    """Return what a file is called, where a signature and both databases can hold that."""
    if not called.strip() or len(called) > _LONGEST or not called.isprintable() or "|" in called:
        raise ConfigError(
            f"--suite {name!r}: the name of the file is the name of the suite: use 1 to "
            f"{_LONGEST} printable characters without '|'"
        )
    return called


def with_query(suite: Suite, given: str | None) -> Suite:
    """Return the suite asked in the wording that the user gives: a name, or a file.

    A name changes the tasks it is for; a file all but word problems.

    Raises:
        ConfigError: no task of the suite can be asked so, or the file is no wording.
    """
    if not given:
        return suite
    asks = asks_of(given)
    fitting = [
        one for one in suite.tasks if one.asks == asks or (not asks and one.asks != "number")
    ]
    if not fitting or suite.form == "texts":
        known = [name for one in suite.tasks for name in SHIPPED[one.asks]]
        where = "is asked in one way only" if suite.form == "texts" else f"knows {_named(known)}"
        raise ConfigError(f"--query {given}: suite {suite.name} {where}")
    tasks = tuple(replace(one, query=given) if one in fitting else one for one in suite.tasks)
    for one in tasks:
        _ = one.wording
    return replace(suite, tasks=tasks)


def _named(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names))
