"""The command behind a stored number, and whether it came out again."""

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mipo_eval.errors import ConfigError
from mipo_eval.evaluation.score import Numbers
from mipo_eval.records import Run, Score
from mipo_eval.signature import short
from mipo_eval.store.engine import Store
from mipo_eval.store.judges import list_judges
from mipo_eval.store.runs import find_run, generation_spec

_FROM_COMMAND = ("suite", "limit", "data", "engine", "query")
"""Options that only the recorded command line knows; all others follow from what is stored."""
_FLAGS = ("controls",)

_BY_NAME = ("top_k", "min_p", "repetition_penalty")
"""What `--decoding` takes of what else changes the choice of tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproduction:
    """How a run's numbers were made."""

    run: Run
    spec: Mapping[str, Any]
    """Identity of the model, prompting and decoding, as stored with the responses."""
    options: Mapping[str, str]
    """Options of the main job but the judges; flags have an empty value."""
    judges: tuple[str, ...]
    scores: tuple[Score, ...]
    """The numbers asked for."""

    @property
    def arguments(self) -> list[str]:
        """The main job's arguments, without the store."""
        words = [
            word for pair in self.options.items() for word in (f"--{pair[0]}", pair[1]) if word
        ]
        return words + [word for judge in self.judges for word in ("--judge", judge)]

    @property
    def command(self) -> str:
        """The command line, quoted for a shell."""
        return shlex.join(["mipo-eval", *self.arguments])

    @property
    def versions(self) -> dict[str, str]:
        """What it was made with."""
        return {k: str(v) for k, v in self.run.environment.items() if k != "command"}


def recipe(store: Store, name: str) -> Reproduction:
    """Return how the numbers named RUN, RUN:TASK or RUN:TASK:METRIC were made.

    Raises:
        ConfigError: there is no such run or number, or its suite's file is not recorded.
    """
    run_name, _, rest = name.partition(":")
    task, _, metric = rest.partition(":")
    run = find_run(store, run_name)
    every = Numbers(store).of_run(run)
    scores = [s for s in every if task in {"", s.task} and metric in {"", s.name}]
    if not scores:
        known = ", ".join(sorted({f"{s.task}:{s.name}" for s in every})) or "none: not finished"
        raise ConfigError(f"run {run_name} has no number {rest or 'yet'}; it has {known}")
    spec = generation_spec(store, run.generation_key)
    keys = {score.judge_key for score in scores}
    judges = tuple(
        str(judge.spec["spec"])
        for judge in list_judges(store)
        if short(judge.key) in keys and "spec" in judge.spec
    )
    options = {"model": run.model} | _options(run, spec)
    return Reproduction(run=run, spec=spec, options=options, judges=judges, scores=tuple(scores))


def _options(run: Run, spec: Mapping[str, Any]) -> dict[str, str]:
    from mipo_eval.tasks.suites import SUITES

    given = parse_command(str(run.environment.get("command", "")))
    found = {name: given[name] for name in (*_FROM_COMMAND, *_FLAGS) if name in given}
    if "suite" not in found:
        if run.suite not in SUITES:
            raise ConfigError(
                f"run {run.run_id[:12]} used the item file {run.suite}.jsonl, but the store does "
                "not know in which folder"
            )
        found["suite"] = run.suite
    decoding = spec.get("decoding")
    if not isinstance(decoding, Mapping):
        raise ConfigError(f"run {run.run_id[:12]} was imported, so there is no command to repeat")
    further = decoding.get("further") or {}
    chosen = {
        key: decoding[key] for key in ("max_tokens", "temperature", "top_p") if key in decoding
    }
    chosen |= {key: further[key] for key in _BY_NAME if key in further}
    given_so = [f"{key}={value:g}" for key, value in chosen.items()]
    if further.keys() - set(_BY_NAME):  # lists and the like, which only the checkpoint can name
        given_so.append("generation_config=checkpoint")
    found["decoding"] = ",".join(given_so)
    found["seed"] = str(run.seed)
    if run.prompting:
        found["prompting"] = run.prompting
    if spec.get("system"):
        found["system"] = str(spec["system"])
    return found


def parse_command(command: str) -> dict[str, str]:
    """Return the options of a recorded command line, whose words were joined by spaces.

    A value runs to the next option, so that a path with spaces stays whole.
    """
    found: dict[str, list[str]] = {}
    name = ""
    for word in command.split(" "):
        if word.startswith("--"):
            name, mark, value = word[2:].partition("=")
            found[name] = [value] if mark else []
        elif name:
            found[name].append(word)
    return {name: " ".join(words) for name, words in found.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeated:
    """One number, stored and made again."""

    before: Score
    again: Score | None
    """None where the new run has no such number."""

    @property
    def same(self) -> bool:
        """Whether the value and its n came out again."""
        return (
            self.again is not None
            and self.before.n == self.again.n
            and _equal(self.before.value, self.again.value)
        )

    @property
    def within(self) -> bool | None:
        """Whether the new value lies in the stored interval; None without either."""
        value = self.again.value if self.again else None
        if value is None or self.before.ci95 is None:
            return None
        return self.before.ci95[0] <= value <= self.before.ci95[1]


def _equal(first: float | None, second: float | None) -> bool:
    if first is None or second is None:
        return first is second
    return math.isclose(first, second, rel_tol=1e-9, abs_tol=1e-12)


def outcomes(before: Sequence[Score], again: Sequence[Score]) -> list[Repeated]:
    """Pair each stored number with the one made again, by task, metric and judge."""

    def key(score: Score) -> tuple[str, str, str | None]:
        return score.task, score.name, score.judge_key

    made = {key(score): score for score in again}
    return [Repeated(before=score, again=made.get(key(score))) for score in before]


def recipe_json(found: Reproduction) -> dict[str, Any]:
    """Return a recipe as `--json` shows it."""
    return {
        "run_id": found.run.run_id,
        "command": found.command,
        "recorded_command": found.run.environment.get("command"),
        "spec": found.spec,
        "judges": found.judges,
        "versions": found.versions,
        "scores": [score.to_json() for score in found.scores],
    }


def outcome_json(found: Repeated) -> dict[str, Any]:
    """Return one number made again as `--json` shows it."""
    before, again = found.before, found.again
    return {
        "task": before.task,
        "metric": before.metric,
        "before": before.value,
        "again": again and again.value,
        "n_before": before.n,
        "n_again": again and again.n,
        "same": found.same,
        "within_ci95": found.within,
        "signatures_differ": before.signature.differences(again.signature) if again else {},
    }
