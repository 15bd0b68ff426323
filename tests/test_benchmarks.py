"""The benchmarks run, and the page tells of each of them."""

from pathlib import Path

import pytest

from benchmarks.page import BENCHMARKS, PAGE, parts_of, with_part
from benchmarks.results import Result, compared, exponent
from tests.training.test_resuming import run_python

ROOT = Path(__file__).parents[1]


def test_every_benchmark_is_in_the_list_and_on_the_page() -> None:
    files = {path.stem.removeprefix("bench_") for path in (ROOT / "benchmarks").glob("bench_*.py")}
    assert files - {"coverage"} == set(BENCHMARKS)  # that one is about how often, not how fast
    assert list(parts_of(PAGE.read_text(encoding="utf-8"))) == list(BENCHMARKS.values())


@pytest.mark.parametrize("name", ["self_bleu", "bootstrap", "processes"])
def test_a_benchmark_runs_at_a_tiny_size(name: str) -> None:
    page = PAGE.read_text(encoding="utf-8")
    done = run_python("-m", "benchmarks", name, "--quick")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) > 2
    assert PAGE.read_text(encoding="utf-8") == page


def test_a_goal_is_of_the_ratio_where_there_is_one() -> None:
    assert Result(name="a", ours=3.0, wanted="<= 2").met is False
    assert Result(name="a", ours=3.0, ratio=1.5, wanted="<= 2").met is True
    assert Result(name="a", ours=3.0, ratio=1.5, wanted=">= 1.6").met is False
    assert Result(name="a", ours=3.0).met is None
    assert Result(name="a", ours=None, wanted=">= 1").met is None


def test_what_cannot_be_compared_says_why() -> None:
    def absent() -> float:
        raise RuntimeError("not installed")

    row = compared(absent, name="a", size="", ours=1.0, wanted=">= 2")
    assert (row.ratio, row.met, row.note) == (None, None, "not compared: not installed")
    assert compared(lambda: 6.0, name="a", size="", ours=2.0).ratio == 3.0


def test_the_exponent_of_what_grows_with_the_square_is_two() -> None:
    assert exponent([10, 100, 1000], [3.0, 300.0, 30_000.0]) == pytest.approx(2.0)


def test_a_part_of_the_page_is_replaced_alone() -> None:
    page = with_part(with_part("", "judging", "old\n"), "self_bleu", "one\n")
    found = parts_of(with_part(page, "judging", "new\n"))
    assert list(found) == list(BENCHMARKS.values())
    said = {name: found[title].strip() for name, title in BENCHMARKS.items()}
    assert (said["judging"], said["self_bleu"]) == ("new", "one")
    assert said["demo"] == "Not measured yet: `python -m benchmarks demo`."
