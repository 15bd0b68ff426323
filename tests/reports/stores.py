"""A store of real runs for the tests of reports: served models, a served judge, the main job."""

import shutil
from collections.abc import Iterator
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mipo_eval import settings
from mipo_eval.records import Item
from tests.servers.http import Act, Call
from tests.servers.openai_server import OpenAIServer, Policy, ok

if TYPE_CHECKING:  # this module is read before any test: what a fixture needs it imports itself
    from mipo_eval.records import Run

N_ITEMS = 24
QUALITY = {"mipo-seed0": 4, "mipo-seed1": 5, "sft-seed0": 3, "sft-seed1": 3, "base": 2}
"""Model name to the rating of its good answers."""
_ABOUT = {"mipo-seed0": 20, "mipo-seed1": 22, "sft-seed0": 14, "sft-seed1": 12, "base": 6}
"""How many of the items a model answers well; the others are answered as badly as can be."""


def items(count: int = N_ITEMS) -> list[Item]:
    """Two users per question, two preferences each."""
    return [
        Item(
            item_id=f"item-{n}",
            prompt=f"What is tea number {n // 2}?",
            context="I like it short." if n % 2 else "I am six years old.",
            preferences=("Keep it short.", "Use easy words."),
            reference=f"Reference {n}: tea is a drink.",
            group_id=f"tea-{n // 2}",
            user_id=f"user-{n % 2}",
        )
        for n in range(count)
    ]


def model(call: Call) -> Act:
    """Answer as the model of that name does: `quality 4: ...` on the questions it is good at."""
    name = call.body["model"]
    text = call.body["messages"][-1]["content"]
    number = 2 * int(text.partition("tea number ")[2].partition("?")[0])
    number += "short" in text
    good = "short" in text or "six" in text  # without its user's context no model does well
    quality = QUALITY[name] if good and number < _ABOUT[name] else 1
    return ok(f"quality {quality}: {name} on {number}", model=name)


def judge(call: Call) -> Act:
    """Rate a reference 3, an answer by the quality it says; one answer is not rated at all."""
    text = call.body["messages"][-1]["content"]
    if "base on 5" in text:
        return ok("hard to say")
    if "quality " in text:
        return ok(text.partition("quality ")[2][0])
    return ok("3")


@dataclass(frozen=True)
class Served:
    """Where the store is, and the runs in it by model and prompting."""

    path: Path
    judge: str
    model: str
    """The model server's URL."""
    runs: "dict[tuple[str, str], Run]"

    def id(self, name: str, prompting: str = "personalized") -> str:
        """The beginning of a run's id."""
        return self.runs[name, prompting].run_id[:12]


def _evaluate(*argv: str) -> None:
    from mipo_eval.cli import main

    with redirect_stdout(StringIO()), redirect_stderr(StringIO()) as errors:
        assert main(list(argv)) == 0, errors.getvalue()


@pytest.fixture(scope="session")
def _served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    from mipo_eval.store import Store
    from mipo_eval.store.runs import list_runs
    from mipo_eval.tasks.items import write_items

    folder = tmp_path_factory.mktemp("served")
    policy = Policy(models=tuple(QUALITY))
    served = OpenAIServer(model, policy=policy)
    with served as models, OpenAIServer(judge) as judges:
        with chdir(folder):
            write_items(Path("tea.jsonl"), items())
            by = f"openai:judge@{judges.url}"
            wanted = [(name, "personalized") for name in QUALITY] + [("base", "default")]
            for name, prompting in wanted:
                argv = ["--model", f"openai:{name}@{models.url}", "--suite", "tea.jsonl"]
                argv += ["--judge", by, "--prompting", prompting, "--store", "served.db"]
                _evaluate(*argv)
            with Store.open("served.db", mode="read") as opened:
                runs = list_runs(opened)
        named = {(r.model.split(":")[1].split("@")[0], r.prompting): r for r in runs}
        yield Served(folder / "served.db", by, models.url, named)


@pytest.fixture
def served(_served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Served:
    """A copy of a store with six judged runs of one suite, as the test's own store."""
    for file in _served.path.parent.iterdir():
        shutil.copy(file, tmp_path)
    own = tmp_path / "served.db"
    monkeypatch.setenv(settings.STORE, str(own))
    return Served(own, _served.judge, _served.model, _served.runs)
