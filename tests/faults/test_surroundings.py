"""Where a command runs changes nothing of what it finds: network, handles, locale, clock, seeds."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.moments import REPOSITORY
from tests.faults.work import N, content, differences, rated, write_preset, write_work
from tests.servers.http import Act, Call
from tests.servers.openai_server import OpenAIServer, broken, cut_off, hang_up, too_many

BAD = (too_many(), too_many(retry_after=0), too_many(retry_after="soon"), cut_off(), hang_up())
BAD += (broken(), broken(503))
_AGO = """
import sys, datetime as d
from mipo_eval.store import engine
class Clock(d.datetime):
    @classmethod
    def now(cls, zone=None):
        return super().now(zone) - d.timedelta(days=400)
engine.datetime = Clock
"""
_MAIN = "import sys; from mipo_eval.cli import main; sys.exit(main(sys.argv[1:]))"


def _run(folder: Path, argv: list[str], *, first: str = "", **environment: str) -> str:
    """Run a command in a process of its own; return what it wrote."""
    done = subprocess.run(
        [sys.executable, "-c", first + _MAIN, *argv, "--store", "s.db"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
        capture_output=True,
        check=False,
    )
    told = (done.stdout + done.stderr).decode(errors="replace")
    assert done.returncode == 0, told
    return told


def _folder(path: Path, number: int = N) -> Path:
    path.mkdir()
    write_work(path, number)
    return path


def _duel(folder: Path, url: str, concurrency: int) -> list[str]:
    write_preset(folder, url, protocol="rubric", concurrency=concurrency)
    return ["judge", "good.jsonl", "bad.jsonl", "--suite", "tea.jsonl", "--judge", "judge.yaml"]


def _lacks(one: Path, other: Path) -> list[str]:
    """Return what was said in the other store and not in this one."""
    found, wanted = content(str(one / "s.db")), content(str(other / "s.db"))
    names = "responses", "calls", "verdicts", "scores"
    return [row for name in names for row in wanted[name] if row not in found[name]]


@pytest.mark.parametrize(
    ("first", "environment"),
    [
        ("import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\n", {}),
        ("", {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "COLUMNS": "40"}),
        ("", {"LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR.UTF-8", "TZ": "Pacific/Kiritimati"}),
        ("", {"PYTHONHASHSEED": "1", "PYTHONOPTIMIZE": "1"}),
        (_AGO, {"PYTHONHASHSEED": "2", "HOME": "/nonexistent"}),
    ],
    ids=["handles", "ascii", "turkish", "hash", "clock"],
)
def test_a_command_finds_the_same_everywhere(
    first: str, environment: dict[str, str], tiny_model: Path, tmp_path: Path
) -> None:
    """Half was done before in an ordinary place; the other half, and a second model, are new."""
    usual, odd = _folder(tmp_path / "usual"), _folder(tmp_path / "odd")
    with OpenAIServer(rated) as judge:
        tiny = ["--model", str(tiny_model), "--suite", "tea.jsonl", "--decoding", "max_tokens=4"]
        generates = "PYTHONOPTIMIZE" in environment  # once: to import torch takes its time
        for argv in (_duel(usual, judge.url, 4), *([tiny] if generates else [])):
            _run(usual, argv)
        duel = _duel(odd, judge.url, 32 if "RLIMIT" in first else 4)
        _run(odd, [*duel, "--limit", str(N // 2)])
        _run(odd, duel, first=first, **environment)
        if generates:
            _run(odd, tiny, first=first, **environment)
    assert not _lacks(odd, usual)


def test_batches_of_any_size_say_the_same(tiny_model: Path, tmp_path: Path) -> None:
    one, five = _folder(tmp_path / "one"), _folder(tmp_path / "five")
    argv = ["--model", str(tiny_model), "--suite", "tea.jsonl", "--decoding", "max_tokens=4"]
    _run(one, [*argv, "--engine", "batch_size=1"])
    _run(five, [*argv, "--engine", "batch_size=5"], OMP_NUM_THREADS="2")
    assert not differences(one, five)


def test_a_bad_network_changes_no_rate(tmp_path: Path, moments: int) -> None:
    """Three questions in ten fail in seven ways before they are answered."""
    number = 50 if moments < 30 else 2_500  # four ratings an item
    good, bad = _folder(tmp_path / "good", number), _folder(tmp_path / "bad", number)
    seen: dict[str, int] = {}
    fails = False

    def act(call: Call) -> Act:
        asked = str(call.body["messages"])
        if fails and asked not in seen:
            seen[asked] = len(seen)
            if seen[asked] % 10 < 3:
                return BAD[seen[asked] % len(BAD)]
        return rated(call)

    with OpenAIServer(act, keep=False) as server:
        _run(good, _duel(good, server.url, 32))
        asked, fails = server.chats, True
        _run(bad, _duel(bad, server.url, 32))
        assert asked * 1.25 < server.chats - asked <= asked * 1.35
    assert not _lacks(bad, good)
