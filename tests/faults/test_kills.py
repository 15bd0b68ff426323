"""A command that is killed at any moment, and given again, ends where it would have ended.

Three moments of each command, drawn with a seed; `make soak` tries thirty.
"""

import asyncio
import json
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mipo_eval.progress import Bars, Stage, run_shown
from tests.faults.moments import Commands
from tests.faults.work import N, differences, rated, release, write_preset, write_work
from tests.postgres import Server
from tests.servers.http import Act, Call
from tests.servers.openai_server import Batches, OpenAIServer, completion, ok
from tests.tasks.rows import prism_rows

AT_ONCE = 4
_PREPARE = "data prepare prism --source raw --train 20 --test 6 --data items --store s.db"
_TRAIN = "--out out --set lr=1e-2 --set optimization.batch_size=2 --set save_steps=2 --set"


@dataclass(frozen=True, kw_only=True)
class Job:
    """A command and what it works on."""

    argv: list[str]
    files: Callable[[Path], None]
    """Writes its input into a folder."""
    server: OpenAIServer | None = None
    submits: Batches | None = None
    at_once: int = AT_ONCE
    """How many calls may be under way."""
    protocol: str | None = None
    """Of the judge of `server` that is called judge.yaml."""
    made: str = "**/*.jsonl"
    """The files that it makes."""


def _alpaca(folder: Path) -> None:
    rows = [
        {
            "instruction": f"What is tea {n}?",
            "output_1": f"Water {n}.",
            "output_2": f"A drink {n}.",
            "generator_1": "base",
            "generator_2": "mine",
            "annotator": "weighted",
            "preference": 1.5 + n / 30,
        }
        for n in range(N)
    ]
    (folder / "annotations.json").write_text(json.dumps(rows))


def _published(folder: Path) -> None:
    (folder / "raw").mkdir()
    text = "".join(json.dumps(row) + "\n" for row in prism_rows())
    (folder / "raw" / "utterances.jsonl").write_text(text)


def _says(call: Call) -> Act:
    """A response that depends on the context, where there is one."""
    return ok(f"So: {call.body['messages'][-1]['content'].partition('I am')[2][:9]}.")


@pytest.fixture(scope="module")
def commands() -> Iterator[Commands]:
    with Commands() as running:
        yield running


@pytest.fixture(
    scope="module",
    params=[
        "generation",
        "served",
        "rating",
        "duel",
        "batch",
        "training",
        "import",
        "merge",
        "data",
    ],
)
def job(request: pytest.FixtureRequest, tiny_model: Path, commands: Commands) -> Iterator[Job]:
    """Each kind of long work, small."""
    kept = ["--suite", "tea.jsonl", "--store", "s.db"]
    tiny = ["--model", str(tiny_model), *kept, "--decoding", "max_tokens=4"]
    duel = ["judge", "good.jsonl", "bad.jsonl", *kept]
    by = ["--judge", "judge.yaml"]
    with ExitStack() as stack:
        batches = Batches(lambda _: completion("A"), looks=0)
        server = stack.enter_context(OpenAIServer(rated))
        chooses = stack.enter_context(OpenAIServer(ok("A"), batches=batches))
        extracts = stack.enter_context(OpenAIServer(ok('{"tone": "Be warm."}')))
        tells = stack.enter_context(OpenAIServer(_says))
        says = f"openai:judge@{tells.url}"
        rates, chooser = f"openai:judge@{server.url}", f"openai:judge@{chooses.url}"

        def judged(folder: Path) -> None:
            write_work(folder)
            others = [*duel[:-1], "other.db", "--judge", rates]
            assert commands.run(others, folder).code == 0

        yield {
            "generation": lambda: Job(argv=[*tiny, "--engine", "batch_size=2"], files=write_work),
            "served": lambda: Job(
                argv=["--model", rates, *tiny[2:], "--engine", f"num_concurrent={AT_ONCE}"],
                files=write_work,
                server=server,
            ),
            "rating": lambda: Job(
                argv=[*tiny, *by], files=write_work, server=server, protocol="rubric"
            ),
            "duel": lambda: Job(
                argv=[*duel, *by], files=write_work, server=chooses, protocol="pairwise"
            ),
            "batch": lambda: Job(
                argv=[*duel, "--judge", chooser, "--batch"], files=write_work, submits=batches
            ),
            "training": lambda: Job(
                argv=[
                    "train",
                    "mipo",
                    "--model",
                    str(tiny_model),
                    *kept,
                    *_TRAIN.split(),
                    f"sampling.model={says}",
                ],
                files=write_work,
                server=tells,
                at_once=2 * N,  # all that it asks
                made="out/*.safetensors",
            ),
            "import": lambda: Job(
                argv=["import", "annotations.json", "--store", "s.db"], files=_alpaca
            ),
            "merge": lambda: Job(argv=["store", "merge", "s.db", "other.db"], files=judged),
            "data": lambda: Job(
                argv=[*_PREPARE.split(), "--extractor", "judge.yaml"],
                files=_published,
                server=extracts,
                protocol="rubric",
            ),
        }[request.param]()


def _made(folder: Path, pattern: str) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.glob(pattern))}


@pytest.fixture(scope="module")
def straight(
    job: Job, commands: Commands, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, int, int]:
    """A folder where the command ran undisturbed, its moments, and what it asked."""
    folder = _folder(job, tmp_path_factory.mktemp("straight") / "work")
    done = commands.run(job.argv, folder)
    assert done.code == 0, done.told
    return folder, done.moments, _asked(job)


def _folder(job: Job, folder: Path) -> Path:
    folder.mkdir()
    job.files(folder)
    if job.server and job.protocol:
        write_preset(folder, job.server.url, protocol=job.protocol, concurrency=AT_ONCE)
    return folder


def _check(job: Job, folder: Path, straight: Path) -> None:
    assert not differences(folder, straight)
    assert _made(folder, job.made) == _made(straight, job.made)


def test_what_is_killed_is_given_again(
    job: Job, commands: Commands, straight: tuple[Path, int, int], tmp_path: Path, moments: int
) -> None:
    """Killed twice, the second time while it goes on."""
    wanted, last, _ = straight
    random.seed(0)
    for _ in range(moments):
        at = random.randrange(1, last), random.randrange(1, last)
        folder = _folder(job, tmp_path / f"killed-{at[0]}-{at[1]}")
        ended = list[int]()
        for moment in at:
            ended.append(commands.run(job.argv, folder, at=moment).code)
            release(str(folder / "s.db"))
        again = commands.run(job.argv, folder)
        assert (again.code, {*ended} - {-9, 0}) == (0, set()), (at, again.told)
        _check(job, folder, wanted)
        shutil.rmtree(folder)


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "term"])
def test_what_is_stopped_says_so_and_goes_on(
    job: Job,
    commands: Commands,
    straight: tuple[Path, int, int],
    tmp_path: Path,
    sign: signal.Signals,
) -> None:
    """Also a scheduler's SIGTERM; what was under way is asked again, the rest is not."""
    wanted, last, asked = straight
    random.seed(sign)
    moment = random.randrange(last // 3, last - last // 4)
    folder = _folder(job, tmp_path / "stopped")
    before = _asked(job)
    stopped = commands.run(job.argv, folder, at=moment, by=sign)
    assert stopped.code == 130, (moment, stopped.told)
    assert stopped.told.count("stopped. What was finished is stored") == 1
    assert "Traceback" not in stopped.told
    again = commands.run(job.argv, folder)
    assert again.code == 0, (moment, again.told)
    _check(job, folder, wanted)
    assert _asked(job) - before <= asked + job.at_once, moment


def test_a_disk_that_is_full_costs_what_did_not_fit(
    job: Job, commands: Commands, straight: tuple[Path, int, int], tmp_path: Path
) -> None:
    """No file grows beyond half of what the command needs; later there is room again."""
    wanted, *_ = straight
    made = [wanted / "s.db", *wanted.glob(job.made)]
    room = max(path.stat().st_size for path in made) // 2
    folder = _folder(job, tmp_path / "full")
    full = commands.run(job.argv, folder, limits={"FSIZE": room})
    assert (full.code, "Traceback" in full.told) == (2, False), full.told
    release(str(folder / "s.db"))
    again = commands.run(job.argv, folder)
    assert again.code == 0, again.told
    _check(job, folder, wanted)


def _asked(job: Job) -> int:
    if job.submits is not None:
        return len(job.submits.batches)
    return job.server.chats if job.server else 0


@pytest.mark.parametrize("restarts", [False, True])
def test_a_database_that_goes_away_loses_nothing(
    restarts: bool,
    job: Job,
    commands: Commands,
    straight: tuple[Path, int, int],
    tmp_path: Path,
    postgres_url: str,
    postgres_server: Server,
    moments: int,
) -> None:
    """PostgreSQL ends all connections between two statements, or is restarted: the work goes on."""
    wanted, last, asked = straight
    random.seed(moments)
    moment = random.randrange(last // 3, last)
    folder, before = _folder(job, tmp_path / "cut"), _asked(job)
    argv = [postgres_url if word == "s.db" else word for word in job.argv]
    how: dict[str, Any] = {"stops": postgres_server} if restarts else {"sever": postgres_url}
    cut = commands.run(argv, folder, at=moment, **how)
    assert cut.code == 0, (moment, cut.told)
    assert not differences(postgres_url, wanted)
    assert _made(folder, job.made) == _made(wanted, job.made)
    assert _asked(job) - before <= asked


@pytest.mark.parametrize("awaits", [True, False])
def test_an_interrupt_as_the_work_ends_is_not_lost(*, awaits: bool) -> None:
    """After its last wait, too: nothing of the event loop may take it for the end of a task."""

    async def work() -> None:
        signal.raise_signal(signal.SIGINT)
        if awaits:
            await asyncio.sleep(0)

    with pytest.raises(KeyboardInterrupt):
        run_shown(work(), Bars(), Stage("work", 1))
