"""Every table of the board's later pages is made on PostgreSQL as on SQLite."""

from collections.abc import Callable

import pandas as pd

from mipo_eval.dashboards.tables.answers import accuracy_table, entropy_table, question_table
from mipo_eval.dashboards.tables.answers import runs_by_likelihood as by_likelihood
from mipo_eval.dashboards.tables.diversity import change_table, diversity_table, within_table
from mipo_eval.dashboards.tables.judges import accuracy_table as judge_accuracy
from mipo_eval.dashboards.tables.judges import (
    attack_table,
    control_table,
    expense_table,
    length_table,
    place_table,
    rating_table,
    validation_table,
)
from mipo_eval.dashboards.tables.label import agreement_table, put_label, stack
from mipo_eval.dashboards.tables.training import count_table, negatives_table, training_table
from mipo_eval.evaluation.score import Snapshot
from mipo_eval.store import Store
from mipo_eval.store.runs import list_runs
from mipo_eval.store.trainings import list_trainings
from tests.dashboards.scripted import fill_store

_TABLES: tuple[Callable[[Store], pd.DataFrame], ...] = (
    lambda store: accuracy_table(Snapshot(store)),
    lambda store: entropy_table(Snapshot(store)),
    judge_accuracy,
    validation_table,
    attack_table,
    lambda store: control_table(Snapshot(store)),
    rating_table,
    place_table,
    length_table,
    expense_table,
    lambda store: negatives_table(Snapshot(store)),
    lambda store: count_table(Snapshot(store)),
    agreement_table,
    lambda store: training_table(store, list_trainings(store)),
    lambda store: diversity_table(Snapshot(store), "self_bleu_4"),
    lambda store: within_table(store, _tea(store)[:2]),
    lambda store: change_table(store, *_tea(store)[:2]),
    lambda store: question_table(store, by_likelihood(Snapshot(store))[0]),
)


def _tea(store: Store) -> list:  # type: ignore[type-arg]
    return [run for run in list_runs(store) if run.suite == "tea"]


def _label(store: Store) -> None:
    pairs = stack(store, *_tea(store)[:2]).pairs
    for pair in pairs[:4]:
        put_label(store, "Ann", pair, "first")
        put_label(store, "Bob", pair, "tie")


def test_tables_are_the_same_on_both_databases(rich: Store, postgres_url: str) -> None:
    with Store.open(postgres_url) as other:
        fill_store(other)
        for store in (rich, other):
            _label(store)
        for number, table in enumerate(_TABLES):
            found, wanted = table(other), table(rich)
            order = list(wanted.columns[:4])
            pd.testing.assert_frame_equal(
                found.sort_values(order, ignore_index=True),
                wanted.sort_values(order, ignore_index=True),
                check_dtype=False,
                obj=f"table {number}",
            )
