"""Suites: what a name after `--suite` means; `suites.toml` holds those that ship.

A suite is one or more tasks; a task is a source of items and the lm-eval task that asks them.
"""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Literal

from mipo_eval.errors import ConfigError, DataError
from mipo_eval.records import Item
from mipo_eval.rows import FORMS, is_hub, names_rows, short_name
from mipo_eval.tasks.sources import load_source

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
    def has_instructions(self) -> bool:
        """Whether a task of it opens with a system prompt of its own, as word problems do."""
        return self.form == "answer" and any(task.source in _WORKED for task in self.tasks)


def _shipped() -> Iterator[Suite]:
    text = (resources.files(__package__) / "suites.toml").read_text(encoding="utf-8")
    for name, about in tomllib.loads(text).items():
        suffix = f"_{form}" if (form := about.get("form")) in {"letters", "texts"} else ""
        tasks = tuple(
            SuiteTask(name=source, source=source, lm_eval_task=f"mipo_{source}{suffix}")
            for source in about.pop("sources", [name])
        )
        yield Suite(name=name, tasks=tasks, **about)


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
    if names_rows(name):
        source = name
        if not is_hub(name):
            if not Path(name).is_file():
                raise DataError(f"there is no item file at {name}")
            source = str(Path(name).absolute())
        called = _storable(short_name(name), name)
        task = SuiteTask(name=called, source=source, lm_eval_task="mipo_items")
        return Suite(name=called, about=f"items of {name}", tasks=(task,))
    raise ConfigError(f"unknown suite {name!r}; known: {', '.join(SUITES)}, or {FORMS}")


def _storable(called: str, name: str) -> str:
    """Return what a file is called, where a signature and both databases can hold that."""
    if not called.strip() or len(called) > _LONGEST or not called.isprintable() or "|" in called:
        raise ConfigError(
            f"--suite {name!r}: a suite is called by its file's name, which goes into signatures: "
            f"give it one of 1 to {_LONGEST} characters that can be printed, and no '|'"
        )
    return called


def suite_items(
    suite: Suite, data_dir: Path, limit: int | None = None
) -> Iterator[tuple[str, Iterator[Item]]]:
    """Yield each task's name with its test items, streamed; `limit` keeps the first of each."""
    for task in suite.tasks:
        yield task.name, islice(load_source(task.source, data_dir, "test"), limit)
