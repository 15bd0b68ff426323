"""Rounds of a training on the board: what each reached."""

from dataclasses import replace
from pathlib import Path

import pytest

from mipo_eval.dashboards.tables.rounds import rounds_table
from mipo_eval.evaluation.score import Snapshot
from mipo_eval.store import Store
from mipo_eval.store.trainings import CurvePoint, list_trainings, put_curve, put_training
from tests.dashboards.opening import open_page


def _with_a_second_round(store: Store) -> None:
    """The first is a training that was evaluated, the second has the checkpoint of another."""
    known = {one.method: one for one in list_trainings(store)}
    first, other = known["mipo-missing"], known["mipo-random"]
    second = replace(
        first,
        training_id="ab" * 16,
        checkpoint=other.checkpoint,
        recipe={**first.recipe, "rounds": {"number": 2, "reference": "last"}},
        parent=first.training_id,
    )
    put_training(store, second)
    put_curve(store, second.training_id, [CurvePoint("ranking_accuracy", 1, 0.75)])


def test_a_line_is_a_number_of_a_round(rich: Store) -> None:
    assert rounds_table(Snapshot(rich)).empty
    _with_a_second_round(rich)
    table = rounds_table(Snapshot(rich))
    assert set(table["rounds"]) == {"MIPO, missing, round 2, base, seed 0 (ababab)"}
    curves = table[table["run_id"].isna() & (table["measure"].str.startswith("chosen ranked"))]
    assert list(curves["round"]) == [1, 2]
    assert curves["value"].iloc[1] == 0.75
    scores = table[table["run_id"].notna()]
    assert set(scores["round"]) == {0, 1, 2}, "round 0 is the base model"
    for _, own in scores[scores["round"] > 0].groupby("round"):
        assert {"rater"} <= set(own["judge"])
        assert own["n"].notna().all()
    assert scores["measure"].str.contains("Self-BLEU").any()


def test_the_page_shows_rounds_where_there_are_some(
    monkeypatch: pytest.MonkeyPatch, rich: Store, tmp_path: Path
) -> None:
    _with_a_second_round(rich)
    test = open_page(monkeypatch, tmp_path / "copy.db", "training")
    assert "Round by round" in [element.value for element in test.header]
    assert not test.exception
