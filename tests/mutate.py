"""Which small changes to the code that decides numbers does no test notice? `make mutate`.

Every place of that code where Cosmic Ray knows a change is known; a sample of the places is drawn
with a seed, and one change at each. The tests that reach the changed line are run, the fastest
first, in a fork of a process that has the libraries in memory already. Nothing on disk is changed.

    python -m tests.mutate --sample 700 --seed 21 --jobs 2 --out FOLDER [--only losses.py]
"""

import argparse
import ast
import difflib
import json
import multiprocessing
import os
import random
import signal
import sys
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

ROOT = Path(__file__).parents[1]
CODE = (
    "mipo_eval/metrics/*.py",
    "mipo_eval/stats/*.py",
    "mipo_eval/verdict.py",
    "mipo_eval/evaluation/outcomes.py",
    "judges/parse.py",
    "judges/replies.py",
    "training/losses.py",
    "training/contrastive.py",
    "training/packed.py",
    "training/logprobs.py",
)
TESTS = (
    "tests/metrics",
    "tests/stats",
    "tests/test_verdict.py",
    "tests/test_one_answer.py",
    "tests/judges",
    "tests/reports",
    *(f"tests/training/test_{n}.py" for n in ("losses", "mi_losses", "contrastive", "packed")),
    *(f"tests/training/test_{n}.py" for n in ("ppo_losses", "logprobs", "noise", "balance")),
)
_ENDS, _BEGINNINGS = ("_Is", "_IsNot"), ("core/Variable", "core/RemoveDecorator")
"""Of the names of changes that nobody makes by mistake, and that often change nothing."""
_LONGEST = 60.0
"""Seconds of tests for one change."""
_OPTIONS = ["-q", "-p", "no:cacheprovider", "-p", "no:anyio"]
_SELF_LOADED = ("mipo_eval", "tests", "_pytest", "pytest", "hypothesis", "xdist", "__main__")


class Change(NamedTuple):
    """A change to one place of a file."""

    file: str
    line: int
    operator: str
    occurrence: int


class _Watch:
    """How long tests take, and which libraries they import."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] += report.duration if report.outcome == "passed" else 1e9


def _untold(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield what of a file says nothing that runs: annotations and decorators."""
    for node in ast.walk(tree):
        for name in ("annotation", "returns"):
            if (found := getattr(node, name, None)) is not None:
                yield found
        yield from getattr(node, "decorator_list", [])


def _places(file: str) -> dict[tuple[int, int], list[Change]]:
    """Return the changes to each place of a file."""
    text = (ROOT / file).read_text()
    left_out = [
        ((n.lineno, n.col_offset), (n.end_lineno, n.end_col_offset))
        for n in _untold(ast.parse(text))
        if isinstance(n, ast.expr)
    ]
    found: defaultdict[tuple[int, int], list[Change]] = defaultdict(list)
    nodes = list(ast_nodes(get_ast(text)))
    for name in operator_names():
        if name.endswith(_ENDS) or name.startswith(_BEGINNINGS):
            continue
        operator = get_operator(name)()
        places = [place for node in nodes for place in operator.mutation_positions(node)]
        for occurrence, (start, _) in enumerate(places):
            if not any(first <= start < last for first, last in left_out):
                found[start].append(Change(file, start[0], name, occurrence))
    return found


def sample(number: int, seed: int) -> list[Change]:
    """Draw places, and a change at each."""
    files = sorted({str(p.relative_to(ROOT)) for g in CODE for p in ROOT.glob(g)})
    places = [changes for file in files for _, changes in sorted(_places(file).items())]
    draw = random.Random(seed)
    return [draw.choice(changes) for changes in draw.sample(places, min(number, len(places)))]


def measure(out: Path) -> None:
    """Run the tests once: which lines each reaches, how long it takes, what it imports."""
    watch = _Watch()
    sources = [f"--cov={name}" for name in ("mipo_eval", "judges", "training")]
    options = ["--cov-context=test", "--cov-report=", *sources, *_OPTIONS]
    os.environ["COVERAGE_FILE"] = str(out / "coverage")
    pytest.main([*options, *TESTS], plugins=[watch])
    libraries = [name for name in sys.modules if name.partition(".")[0] not in _SELF_LOADED]
    told = {"seconds": watch.seconds, "libraries": libraries}
    (out / "tests.json").write_text(json.dumps(told))


class Reached:
    """The tests that reach a line."""

    def __init__(self, out: Path, seconds: dict[str, float]) -> None:
        from coverage import CoverageData

        self._data = CoverageData(str(out / "coverage"))
        self._data.read()
        self._files = {os.path.realpath(name): name for name in self._data.measured_files()}
        self._seconds = seconds

    @cache  # noqa: B019 one object, as long as the process
    def of_file(self, file: str) -> dict[int, list[str]]:
        return self._data.contexts_by_lineno(self._files[str(ROOT / file)])

    def tests(self, change: Change) -> list[str]:
        """Return them, the fastest first; of a line that runs on import, those of the file."""
        contexts = self.of_file(change.file)
        here = self._passing(contexts.get(change.line, []))
        tree = ast.parse((ROOT / change.file).read_text())
        inside = any(
            isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)
            and n.body[0].lineno <= change.line <= (n.end_lineno or 0)
            for n in ast.walk(tree)
        )
        if not inside:
            here = self._passing({name for names in contexts.values() for name in names})
        elif not here:  # a line in the middle of a statement
            near = max((line for line in contexts if line < change.line), default=0)
            here = self._passing(contexts.get(near, []))
        chosen, total = [], 0.0
        for test in sorted(here, key=lambda t: (self._seconds[t], t)):
            if (total := total + self._seconds[test]) > _LONGEST:
                break
            chosen.append(test)
        return chosen

    def _passing(self, contexts: Collection[str]) -> set[str]:
        names = {context.partition("|")[0] for context in contexts}
        return {n for n in names if "postgres" not in n and self._seconds.get(n, 1e9) < _LONGEST}


def _try(change: Change, mutated: str, tests: Sequence[str], log: Path) -> None:
    """Be the process that runs the tests of a change; the exit code is pytest's."""
    os.setsid()
    told = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(told, stream)
    get_code = SourceFileLoader.get_code
    target = str(ROOT / change.file)

    def changed(self: SourceFileLoader, name: str) -> Any:
        if os.path.realpath(self.path) != target:
            return get_code(self, name)
        return compile(mutated, self.path, "exec", dont_inherit=True)

    SourceFileLoader.get_code = changed  # type: ignore[method-assign]
    base = f"--basetemp={log.with_suffix('')}"
    quiet = ["-W", "ignore::pytest.PytestAssertRewriteWarning", "-W", "ignore::SyntaxWarning"]
    os._exit(int(pytest.main([*_OPTIONS, *quiet, "-x", "--no-cov", base, *tests])))


def _is_code(text: str) -> bool:
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


def _differs(old: str, new: str) -> str:
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=0)
    changed = [line.rstrip() for line in lines if not line.startswith(("---", "+++", "@@"))]
    return " -> ".join(" ".join(line[1:].split()) for line in changed)


def run(changes: Sequence[Change], reached: Reached, jobs: int, out: Path) -> list[dict[str, Any]]:
    """Try every change."""
    waiting, running, results = list(enumerate(changes)), {}, list[dict[str, Any]]()
    context = multiprocessing.get_context("fork")
    while waiting or running:
        while waiting and len(running) < jobs:
            number, change = waiting.pop(0)
            old = (ROOT / change.file).read_text()
            new = mutate_code(old, get_operator(change.operator)(), change.occurrence)
            told = change._asdict() | {"number": number, "change": _differs(old, new)}
            tests = reached.tests(change)
            if not _is_code(new) or not tests:
                results.append(told | {"outcome": "unreached" if _is_code(new) else "no code"})
                continue
            allowed = 30 + 4 * sum(reached._seconds[t] for t in tests)
            log = out / f"{number}.txt"
            process = context.Process(target=_try, args=(change, new, tests, log))
            process.start()
            until = time.monotonic() + allowed
            running[number] = process, until, told | {"tests": len(tests)}
        for number, (process, until, told) in list(running.items()):
            process.join(0.02)
            if process.exitcode is None and time.monotonic() < until:
                continue
            code = process.exitcode
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.join()
            outcome = "timeout" if code is None else "survived" if code == 0 else "killed"
            results.append(told | {"outcome": outcome, "code": code})
            del running[number]
            with (out / "results.jsonl").open("a") as file:
                file.write(json.dumps(results[-1]) + "\n")
    return results


def main() -> None:
    """Try a sample of changes and say what survived."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sample", type=int, default=700)
    parser.add_argument("--seed", type=int, default=21)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", default="")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    asked.out = asked.out.resolve()
    os.chdir(ROOT)
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "results.jsonl").unlink(missing_ok=True)
    if not (asked.out / "tests.json").exists():
        process = multiprocessing.get_context("spawn").Process(target=measure, args=(asked.out,))
        process.start()
        process.join()
    told = json.loads((asked.out / "tests.json").read_text())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in told["libraries"]:
            with suppress(Exception):
                import_module(name)
    changes = [c for c in sample(asked.sample, asked.seed) if asked.only in c.file]
    results = run(changes, Reached(asked.out, told["seconds"]), asked.jobs, asked.out)
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for one in results:
        counts[one["file"]][one["outcome"]] += 1
    for file, counted in sorted(counts.items()):
        print(f"{file}: {dict(counted)}")  # noqa: T201
    for one in sorted(results, key=lambda r: (r["file"], r["line"])):
        if one["outcome"] in {"survived", "unreached"}:
            print(f"{one['file']}:{one['line']}: {one['outcome']}: {one['change']}")  # noqa: T201


if __name__ == "__main__":
    main()
