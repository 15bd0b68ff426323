"""Commands that something happens to at a moment of one's choice, each in a process of its own.

A moment is whatever leaves a trace outside the process: a statement to the database, a commit, a
file that is opened to be written, renamed, removed, a folder that is made, a connection that is
opened. To die at each of them is to leave behind every state that a `kill -9` can leave, however
fast the machine is.

The libraries are imported once; every command is a fork of that process.
"""

import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, Self

import sqlalchemy as sa

from tests.postgres import Server

REPOSITORY = Path(__file__).parents[2]
_FILES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink"}
_WRITES = os.O_WRONLY | os.O_RDWR


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    """Its exit code; below zero the signal it died of."""
    moments: int
    """How many it lived through."""
    told: str
    """What it wrote."""


class Commands:
    """Runs commands of `mipo-eval` that die, or lose their database, at a moment."""

    def __enter__(self) -> Self:
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.moments"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def run(
        self,
        argv: list[str],
        folder: Path,
        *,
        at: int | None = None,
        by: signal.Signals = signal.SIGKILL,
        sever: str | None = None,
        stops: Server | None = None,
        limits: Mapping[str, int] | None = None,
        **environment: str,
    ) -> Ended:
        """Run a command in a folder.

        At a moment it gets the signal `by`, or loses its connections to the database `sever`; or
        the server `stops` of databases is not there for a second.
        `limits` are those of the `resource` module: NOFILE, FSIZE.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        asked = {
            "argv": argv,
            "folder": str(folder),
            "environment": {**os.environ, **environment},
            "at": at,
            "by": by,
            "limits": limits or {},
            "sever": sever,
            "stops": stops and [str(stops.folder), str(stops.binaries)],
        }
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the process that forks is gone"
        told = json.loads(line)
        return Ended(told["code"], told["moments"], (folder / "told.txt").read_text())


def _watch(reached: Callable[[int], None]) -> None:
    """Call `reached` with the number of each moment."""
    numbers = itertools.count(1)

    def seen(event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = args
            writes = set(mode or "") & set("wax+") or (mode is None and flags & _WRITES)
            if not writes or str(path).endswith((".pyc", "told.txt")):
                return
        elif event not in _FILES and event != "socket.connect":
            return
        reached(next(numbers))

    sys.addaudithook(seen)
    sa.event.listen(sa.Engine, "before_cursor_execute", lambda *_: reached(next(numbers)))
    sa.event.listen(sa.Engine, "commit", lambda *_: reached(next(numbers)))


def _cut(url: str) -> None:
    import psycopg

    parts = sa.make_url(url)
    where = f"host={parts.query['host']} user={parts.username} dbname={parts.database}"
    with psycopg.connect(where, autocommit=True) as connection:
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where datname = current_database() and pid <> pg_backend_pid()"
        )


def _pause(folder: str, binaries: str) -> threading.Thread:
    """Stop a server of databases; what is returned starts it again."""
    server = Server(folder=Path(folder), binaries=Path(binaries))
    server.control("stop")
    again = threading.Timer(1.0, server.control, ["start"])
    again.start()
    return again


def _work(asked: dict[str, Any], counted: int) -> int:
    """Be the command."""
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.chdir(asked["folder"])
    told = os.open("told.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(told, stream)
    from mipo_eval.cli import main

    started = list[threading.Thread]()

    def reached(number: int) -> None:
        os.pwrite(counted, str(number).encode(), 0)
        if number == asked["at"]:
            if asked["stops"]:
                started.append(_pause(*asked["stops"]))
            elif asked["sever"]:
                _cut(asked["sever"])
            else:
                os.kill(os.getpid(), asked["by"])

    _watch(reached)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
    for name, most in asked["limits"].items():
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (most, most))
    try:
        return main(asked["argv"])
    except BaseException:  # noqa: BLE001 the child must not go on as its parent
        traceback.print_exc()
        return 70
    finally:
        for one in started:
            one.join()
        sys.stdout.flush()
        sys.stderr.flush()


def _serve() -> None:
    for name in ("lm_eval", "trl", "mipo_eval.models.lm_eval", "mipo_eval.training.dpo"):
        import_module(name)
    for line in sys.stdin:
        asked = json.loads(line)
        counted = os.memfd_create("moments")
        child = os.fork()
        if child == 0:
            os._exit(_work(asked, counted))
        _, status = os.waitpid(child, 0)
        moments = int(os.pread(counted, 20, 0) or 0)
        os.close(counted)
        answer = {"code": os.waitstatus_to_exitcode(status), "moments": moments}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _serve()
