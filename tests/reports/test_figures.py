"""Figures 2 to 5: values known from what was stored, and pictures that are pictures."""

import csv
import json
from datetime import UTC, datetime
from math import log
from pathlib import Path
from typing import Any

import pytest

from mipo_eval.cli import main
from mipo_eval.evaluation.outcomes import measured
from mipo_eval.keys import digest
from mipo_eval.records import Item, Response, Run, Score, text_key
from mipo_eval.signature import join
from mipo_eval.store import Store
from mipo_eval.store.items import put_list
from mipo_eval.store.judges import put_judge
from mipo_eval.store.responses import put_generation, put_responses
from mipo_eval.store.runs import list_runs, put_run, put_scores
from mipo_eval.store.trainings import CurvePoint, Training, put_curve, put_training
from mipo_eval.store.verdicts import put_choices
from mipo_eval.verdict import Choice

DAY = datetime(2026, 1, 1, tzinfo=UTC)
N = 8
HALF, SURE = (log(0.5), log(0.5)), (0.0, float("-inf"))


def _run(store: Store, model: str, suite: str, items: list[Item], metric: str) -> Run:
    list_key, n = put_list(store, [(suite, items)])
    spec = {"model": model, "suite": suite}
    put_generation(store, digest(spec), spec)
    run = Run(
        run_id=digest(spec),
        model=model,
        suite=suite,
        prompting="" if suite == "arc" else "personalized",
        seed=0,
        list_key=list_key,
        n_items=n,
        generation_key=digest(spec),
        environment={},
        created_at=DAY,
        updated_at=DAY,
    )
    put_run(store, run)
    signature = join(suite=f"{suite}@1")
    put_scores(
        store, run.run_id, [Score(task=suite, metric=metric, value=1.0, n=n, signature=signature)]
    )
    return run


def _answer(store: Store, run: Run, items: list[Item], texts: list[str], **more: Any) -> None:
    made = [
        Response(item_key=item.key, text=text, prompt_hash="p", **more)
        for item, text in zip(items, texts, strict=True)
    ]
    put_responses(store, run.generation_key, made)


def _trained(store: Store) -> None:
    training = Training(
        training_id="t" * 32,
        method="mipo",
        model="org/base",
        suite="mb",
        seed=4,
        checkpoint=str(Path("mipo").absolute()),
        recipe={"negatives": "random", "n_negatives": 10, "batch_of": "pairs"},
        pair_report=None,
        environment={},
        status="done",
        reason=None,
        created_at=DAY,
        updated_at=DAY,
    )
    put_training(store, training)
    points = [CurvePoint("ranking_accuracy", step, 0.5 + step / 400) for step in (0, 100, 200)]
    put_curve(store, training.training_id, [*points, CurvePoint("loss", 0, 0.7)])


def _chosen(store: Store) -> None:
    """The trained model wins 4 of 8 in both orders, 2 in one only, loses 1; 1 text is the same."""
    items = [Item(item_id=f"q{n}", prompt=f"Why {n}?", preferences=("Short.",)) for n in range(N)]
    base = _run(store, "org/base", "mb", items, "self_bleu_4")
    ours = _run(store, "mipo", "mb", items, "self_bleu_4")
    theirs = [f"base {n}" for n in range(N)]
    _answer(store, base, items, theirs)
    mine = [*(f"mipo {n}" for n in range(N - 1)), theirs[-1]]
    _answer(store, ours, items, mine)
    key = digest("pairs")
    put_judge(store, key, "pairs", {"protocol": "pairwise"})
    made = []
    for n, item in enumerate(items[:-1]):
        first = "a" if n < 6 else "b"
        second = "a" if n < 4 else "b"
        both = (text_key(mine[n]), text_key(theirs[n]))
        # Half of them were asked with the sides exchanged.
        turned = n % 2 == 1
        flip = {"a": "b", "b": "a"} if turned else {"a": "a", "b": "b"}
        one, other = both[::-1] if turned else both
        for shown, winner in (("a", first), ("b", second)):
            made.append(
                Choice(
                    judge_key=key,
                    item_key=item.key,
                    text_key_a=one,
                    text_key_b=other,
                    shown_first=shown,  # type: ignore[arg-type]
                    winner=flip[winner],  # type: ignore[arg-type]
                )
            )
    with store.write() as connection:
        put_choices(store, connection, made)


def _asked(store: Store) -> None:
    items = [
        Item(
            item_id=f"a{n}",
            prompt=f"Which {n}?",
            reference="A" if n < 6 else "B",
            meta={"kind": "choice", "choices": ["x", "y"]},
        )
        for n in range(N)
    ]
    run = _run(store, "org/base", "arc", items, "answer_entropy_correct")
    wrong = Score(
        task="arc", metric="answer_entropy_wrong", value=0, n=2, signature=join(suite="arc@1")
    )
    put_scores(store, run.run_id, [wrong])
    for n, item in enumerate(items):
        _answer(store, run, [item], ["A"], choice_logprobs=HALF if n % 2 else SURE)


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    path = tmp_path / "figures.db"
    with Store.open(str(path)) as store:
        _trained(store)
        _chosen(store)
        _asked(store)
    return path


def _rows(capsys: pytest.CaptureFixture[str], path: Path, number: int, *more: str) -> Any:
    capsys.readouterr()
    argv = ["leaderboard", "--figure", str(number), "--store", str(path), *more, "--json"]
    assert main(argv) == 0
    return json.loads(capsys.readouterr().out)["rows"]


def test_a_question_by_likelihood_is_right_or_wrong(filled: Path) -> None:
    with Store.open(str(filled)) as store:
        (run,) = (run for run in list_runs(store) if run.suite == "arc")
        assert measured(store, run, "accuracy").values.tolist() == [100.0] * 6 + [0.0] * 2


def test_figures_are_data(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    curve = _rows(capsys, filled, 2)
    assert [(row["step"], row["value"]) for row in curve] == [(0, 50), (100, 75), (200, 100)]
    assert {
        (row["model"], row["method"], row["negatives"], row["n_negatives"]) for row in curve
    } == {("base", "MIPO", "random", 10)}
    (won,) = _rows(capsys, filled, 3)
    assert (won["model"], won["method"], won["judge"].split()[0]) == ("base", "MIPO", "pairs")
    # 4 wins, 2 whose orders disagree, 1 loss, 1 equal text.
    assert won["value"] == pytest.approx(100 * (4 + 0.5 * 3) / N)
    assert (won["n"], won["unscored"], won["tie_rate"]) == (N, 0, 37.5)
    assert won["ci95"][0] < won["value"] < won["ci95"][1]
    assert _rows(capsys, filled, 3, "--judge", "pairs") == [won]
    right, wrong = _rows(capsys, filled, 4), _rows(capsys, filled, 5)
    assert sorted(row["value"] for row in right) == pytest.approx([0, 0, 0, *[log(2)] * 3])
    assert sorted(row["value"] for row in wrong) == pytest.approx([0, log(2)])


@pytest.mark.parametrize("number", [2, 3, 4, 5])
def test_figures_are_drawn(
    filled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    beginnings = {".png": b"\x89PNG", ".svg": b"<svg", ".vl.json": b"{", ".json": b"{"}
    for ending, begin in beginnings.items():
        file = tmp_path / f"figure{ending}"
        rows = _rows(capsys, filled, number, "-o", str(file))
        assert file.read_bytes().startswith(begin), ending
    assert json.loads((tmp_path / "figure.json").read_text())["rows"] == rows
    drawn = json.loads((tmp_path / "figure.vl.json").read_text())
    assert drawn["$schema"].startswith("https://vega.github.io/schema/vega-lite/")
    assert "MIPO" in (tmp_path / "figure.svg").read_text() or number in {4, 5}
    _rows(capsys, filled, number, "-o", str(tmp_path / "figure.csv"))
    with (tmp_path / "figure.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(rows)


def test_what_cannot_be_drawn_is_said(
    filled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Store.open("empty.db"):
        pass
    for argv, message in (
        (["--figure", "2", "-o", "x.gif"], "must end in .vl.json, .json, .csv, .svg, .png"),
        (["--figure", "2", "-o", "missing/x.png"], "the folder missing is not there"),
        (["--figure", "2", "--store", "empty.db", "-o", "x.png"], "has nothing for figure 2"),
        (["-o", "x.png"], "add --figure 2 to 5 or --table 1 to 7"),
        (["--figure", "3", "--judge", "nobody"], "no judge 'nobody'"),
    ):
        where = [] if "--store" in argv else ["--store", str(filled)]
        assert main(["leaderboard", *argv, *where]) == 2
        assert message in " ".join(capsys.readouterr().err.split())
    assert main(["leaderboard", "--figure", "4", "--store", "empty.db"]) == 0
    assert "The store has nothing for this figure yet" in capsys.readouterr().out
    assert main(["leaderboard", "--figure", "3", "--store", str(filled)]) == 0
    assert "base, MIPO (random x 10), pairs" in " ".join(capsys.readouterr().out.split())
