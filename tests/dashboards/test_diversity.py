"""Diversity tables: what is compared, before and after, and where numbers come from."""

from pathlib import Path

import pytest

from mipo_eval.dashboards.tables.diversity import (
    MEASURES,
    change_table,
    diversity_table,
    first_untrained,
    within_table,
)
from mipo_eval.evaluation.score import Snapshot
from mipo_eval.records import Run
from mipo_eval.store import Store
from mipo_eval.store.runs import list_runs
from tests.dashboards.scripted import MODELS, N_ITEMS


@pytest.fixture
def runs(rich: Store) -> dict[tuple[str, str], Run]:
    return {(run.model, run.prompting): run for run in list_runs(rich) if run.suite == "tea"}


def test_every_stored_measure_is_a_table_of_named_rows(rich: Store) -> None:
    for measure in MEASURES:
        table = diversity_table(Snapshot(rich), measure)
        assert set(table["metric"]) == {measure}
        assert list(table["method"]) == [
            "Default prompting",
            "Personalized prompting",
            "MIPO",
            "MIPO",
        ]
        assert list(table["variant"])[2:] == ["missing", "random"]
        assert table["value"].between(0, 1).all()
        assert (table["low"] <= table["value"] + 1e-9).all()


def test_the_paper_stands_beside_runs_of_its_own_tasks_only(rich: Store) -> None:
    assert set(diversity_table(Snapshot(rich), "self_bleu_4")["source"]) == {"measured"}
    with rich.write() as connection:
        connection.exec_driver_sql("update scores set task = 'mb' where task = 'tea'")
    table = diversity_table(Snapshot(rich), "self_bleu_4")
    paper = table[table["source"] == "paper"]
    assert set(paper["task"]) == {"mb"}
    assert len(paper) == 15
    assert set(diversity_table(Snapshot(rich), "self_bleu_4_fixed")["source"]) == {"measured"}


def test_without_a_context_all_users_of_a_prompt_get_one_text(
    rich: Store, runs: dict[tuple[str, str], Run]
) -> None:
    table = within_table(rich, [runs["base", "default"], runs["base", "personalized"]])
    assert list(table["value"]) == [pytest.approx(1.0), pytest.approx(table["value"].iloc[1])]
    assert table["value"].iloc[1] < 0.6
    assert list(table["n"]) == [N_ITEMS, N_ITEMS]


def test_a_change_is_the_mean_of_paired_differences(
    rich: Store, runs: dict[tuple[str, str], Run]
) -> None:
    before, after = runs["base", "default"], runs["base", "personalized"]
    table = change_table(rich, before, after)
    assert list(table["compared with"]) == ["all texts", "texts of the same prompt"]
    assert list(table["n"]) == [N_ITEMS, N_ITEMS]
    for line in table.to_dict("records"):
        assert line["difference"] == pytest.approx(line["after"] - line["before"])
        assert line["low"] <= line["difference"] <= line["high"] < 0
    stored = diversity_table(Snapshot(rich), "self_bleu_4").set_index("run_id")["value"]
    assert table["after"].iloc[0] == pytest.approx(stored[after.run_id])


def test_one_response_cannot_be_compared(tmp_path: Path) -> None:
    with Store.open(str(tmp_path / "empty.db")) as store:
        assert diversity_table(Snapshot(store), "self_bleu_4").empty
        assert within_table(store, []).empty


def test_what_training_starts_from_is_found(rich: Store) -> None:
    run = list_runs(rich)[first_untrained(rich)]
    assert (run.model, run.prompting) == MODELS[1][:2]
