"""Suites: what a name after `--suite` means.

A suite is one or more tasks; a task is a source of items and the lm-eval task that asks them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
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


def _suite(
    name: str,
    about: str,
    *sources: str,
    form: Form = "query",
    judge: str | None = None,
    max_tokens: int = 256,
) -> Suite:
    """Return a suite of these sources, or of the one that is called as it is."""
    suffix = f"_{form}" if form in {"letters", "texts"} else ""
    tasks = tuple(
        SuiteTask(name=source, source=source, lm_eval_task=f"mipo_{source}{suffix}")
        for source in sources or (name,)
    )
    return Suite(name=name, about=about, tasks=tasks, form=form, judge=judge, max_tokens=max_tokens)


_answers = partial(_suite, form="answer")
_worked = partial(_answers, max_tokens=512)
_MATH = ("gsm8k", "svamp")
_MCQ = ("arc_easy", "arc_challenge", "mmlu")
_BY_LIKELIHOOD = "the same by the likelihood of the {}: entropy and calibration (Figures 4, 5)"

SUITES = {
    suite.name: suite
    for suite in (
        _suite("personalization", "the paper's Table 1: CA, PRISM and MB", "ca", "prism", "mb"),
        _suite("ca", "Community Alignment (200 items)"),
        _suite("prism", "PRISM (194 items)"),
        _suite("mb", "Multifaceted-Bench (84 items)"),
        _suite("psoups", "P-Soups personas with human-preferred responses"),
        _suite("prefeval", "PrefEval: stated preferences, no reference responses"),
        _suite("demo", "the embedded demo world, scored by rule", judge="checker", max_tokens=160),
        _worked("verifiable", "everything with an answer to check: math and mcq", *_MATH, *_MCQ),
        _worked("math", "exact numbers (Table 2)", *_MATH),
        _worked("gsm8k", "GSM8K, 8-shot (200 questions)"),
        _worked("svamp", "SVAMP, 8-shot (300 questions)"),
        _answers("mcq", "letters (Table 2)", *_MCQ),
        _answers("arc_easy", "ARC-Easy, 0-shot (500 questions)"),
        _answers("arc_challenge", "ARC-Challenge, 0-shot (500 questions)"),
        _answers("mmlu", "MMLU, 0-shot"),
        _worked("gsm8k_full", "all test questions of GSM8K"),
        _answers("arc_easy_full", "all test questions of ARC-Easy"),
        _answers("arc_challenge_full", "all test questions of ARC-Challenge"),
        _suite("mcq_letters", _BY_LIKELIHOOD.format("letters"), *_MCQ, form="letters"),
        _suite("mcq_texts", _BY_LIKELIHOOD.format("texts"), *_MCQ, form="texts"),
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
