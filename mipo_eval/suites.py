"""Suites: what a name after `--suite` means.

A suite is one or more tasks; a task is a source of items and the lm-eval task that asks them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from mipo_eval.errors import ConfigError, DataError
from mipo_eval.records import Item
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
    """A name of `tasks.sources.SOURCES`, or the path of an item file."""
    lm_eval_task: str


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


def _personal(
    name: str, about: str, *sources: str, judge: str | None = None, max_tokens: int = 256
) -> Suite:
    tasks = tuple(SuiteTask(name=s, source=s, lm_eval_task=f"mipo_{s}") for s in sources or (name,))
    return Suite(name=name, about=about, tasks=tasks, judge=judge, max_tokens=max_tokens)


def _answers(name: str, about: str, *sources: str, max_tokens: int = 256) -> Suite:
    tasks = tuple(SuiteTask(name=s, source=s, lm_eval_task=f"mipo_{s}") for s in sources or (name,))
    return Suite(name=name, about=about, tasks=tasks, form="answer", max_tokens=max_tokens)


def _likelihood(form: Literal["letters", "texts"]) -> Suite:
    tasks = tuple(
        SuiteTask(name=source, source=source, lm_eval_task=f"mipo_{source}_{form}")
        for source in ("arc_easy", "arc_challenge", "mmlu")
    )
    about = f"the same by the likelihood of the {form}: entropy and calibration (Figures 4, 5)"
    return Suite(name=f"mcq_{form}", about=about, tasks=tasks, form=form)


SUITES = {
    suite.name: suite
    for suite in (
        _personal("personalization", "the paper's Table 1: CA, PRISM and MB", "ca", "prism", "mb"),
        _personal("ca", "Community Alignment (200 items)"),
        _personal("prism", "PRISM (194 items)"),
        _personal("mb", "Multifaceted-Bench (84 items)"),
        _personal("psoups", "P-Soups personas with human-preferred responses"),
        _personal("prefeval", "PrefEval: stated preferences, no reference responses"),
        _personal(
            "demo", "the embedded demo world, scored by rule", judge="checker", max_tokens=160
        ),
        _answers(
            "verifiable",
            "everything with an answer to check: math and mcq",
            *("gsm8k", "svamp", "arc_easy", "arc_challenge", "mmlu"),
            max_tokens=512,
        ),
        _answers("math", "exact numbers (Table 2)", "gsm8k", "svamp", max_tokens=512),
        _answers("gsm8k", "GSM8K, 8-shot (200 questions)", max_tokens=512),
        _answers("svamp", "SVAMP, 8-shot (300 questions)", max_tokens=512),
        _answers("mcq", "letters (Table 2)", "arc_easy", "arc_challenge", "mmlu"),
        _answers("arc_easy", "ARC-Easy, 0-shot (500 questions)"),
        _answers("arc_challenge", "ARC-Challenge, 0-shot (500 questions)"),
        _answers("mmlu", "MMLU, 0-shot"),
        _answers("gsm8k_full", "all test questions of GSM8K", max_tokens=512),
        _answers("arc_easy_full", "all test questions of ARC-Easy"),
        _answers("arc_challenge_full", "all test questions of ARC-Challenge"),
        _likelihood("letters"),
        _likelihood("texts"),
    )
}


def find_suite(name: str) -> Suite:
    """Return a suite by name, or the suite that an item file is.

    Raises:
        ConfigError: no such suite; lists the known ones.
        DataError: the item file is not there.
    """
    if name in SUITES:
        return SUITES[name]
    if name.endswith(".jsonl"):
        path = Path(name)
        if not path.is_file():
            raise DataError(f"there is no item file at {name}")
        task = SuiteTask(name=path.stem, source=str(path.absolute()), lm_eval_task="mipo_items")
        return Suite(name=path.stem, about=f"items of {name}", tasks=(task,))
    raise ConfigError(f"unknown suite {name!r}; known: {', '.join(SUITES)}, or a FILE.jsonl")


def suite_items(
    suite: Suite, data_dir: Path, limit: int | None = None
) -> Iterator[tuple[str, Iterator[Item]]]:
    """Yield each task's name with its test items, streamed; `limit` keeps the first of each."""
    for task in suite.tasks:
        yield task.name, islice(load_source(task.source, data_dir, "test"), limit)
