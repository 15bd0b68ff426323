"""What the page about judges shows: labels, ratings, places, lengths, attacks, cost."""

import pandas as pd
import pytest

from mipo_eval.dashboards.plots import rating_by_length_plot, rating_plot
from mipo_eval.dashboards.tables.judges import (
    accuracy_table,
    attack_table,
    control_table,
    expense_table,
    judge_names,
    length_table,
    place_table,
    rating_table,
    validation_table,
)
from mipo_eval.evaluation.score import Snapshot
from mipo_eval.store import Store
from mipo_eval.store.engine import sample_below
from mipo_eval.store.judges import put_judge
from mipo_eval.store.tables import responses
from mipo_eval.store.verdicts import put_choices
from mipo_eval.verdict import Choice
from tests.dashboards.scripted import CHOOSER, RATER


def test_judges_of_one_name_are_told_apart(rich: Store) -> None:
    assert judge_names(rich) == {RATER: "rater", CHOOSER: "chooser"}
    put_judge(rich, "ff" * 16, "rater", {})
    names = judge_names(rich)
    assert len({names[RATER], names["ff" * 16], names[CHOOSER]}) == 3


def test_accuracies_stand_beside_table_7(rich: Store) -> None:
    table = accuracy_table(rich)
    own = table[table["source"] == "measured"].set_index("accuracy")
    assert own.loc["strict", ["value", "low", "high", "n"]].tolist() == [71.0, 66.0, 75.0, 100]
    assert own.loc["tie-tolerant", "value"] == 84.0
    paper = table[(table["source"] == "paper") & (table["data"] == "prism")]
    small = paper[paper["judge"] == "Llama-3.2-1B-Instruct"].set_index("accuracy")
    assert small["value"].to_dict() == {"strict": 36.5, "tie-tolerant": 76.5}


def test_a_validation_is_a_line_with_what_it_must_beat(rich: Store) -> None:
    (line,) = validation_table(rich).to_dict("records")
    assert line["over longest (points)"] == 17.5
    assert line["excess for longer (points)"] == 9.0
    assert line["failings"] == "no better than choosing the longer response"
    assert pd.isna(line["named the first place (%)"])


def test_ratings_are_counted_with_those_that_are_missing(rich: Store) -> None:
    with rich.write() as connection:
        connection.exec_driver_sql("update verdicts set rating = null where rating = 1")
    table = rating_table(rich)
    assert table["rating"].tolist()[:4] == [2, 3, 4, 5]
    assert pd.isna(table["rating"].iloc[4])
    with rich.read() as connection:
        total = connection.exec_driver_sql("select count(*) from verdicts").scalar_one()
    assert table["verdicts"].sum() == total
    assert table["share"].sum() == pytest.approx(1)
    assert len(rating_plot(table).to_dict()["datasets"].popitem()[1]) == 4


def _choice(shown: str, winner: str | None, item: str = "i") -> Choice:
    return Choice(
        judge_key=CHOOSER,
        item_key=item,
        text_key_a="a",
        text_key_b="b",
        shown_first=shown,  # type: ignore[arg-type]
        winner=winner,  # type: ignore[arg-type]
    )


def test_places_are_counted_over_both_orders(rich: Store) -> None:
    with rich.write() as connection:
        connection.exec_driver_sql("delete from choices")
        said = [
            *(_choice("a", "a", "1"), _choice("b", "b", "1")),  # always the first
            *(_choice("a", "a", "2"), _choice("b", "a", "2")),  # whatever the place
            *(_choice("a", "tie", "3"), _choice("b", None, "3")),
            _choice("?", "a", "4"),
        ]
        put_choices(rich, connection, said)
    (line,) = place_table(rich).to_dict("records")
    assert (line["choices"], line["first"]) == (4, 75.0)
    assert (line["ties"], line["unread"]) == (1, 1)
    assert (line["pairs"], line["same"], line["flipped"]) == (2, 50.0, 50.0)


def test_a_judge_without_two_orders_has_no_flips(rich: Store) -> None:
    with rich.write() as connection:
        connection.exec_driver_sql("delete from choices where shown_first = 'b'")
    (line,) = place_table(rich).to_dict("records")
    assert line["pairs"] == 0
    assert line["same"] is None


def test_lengths_are_those_of_the_rated_responses(rich: Store) -> None:
    table = length_table(rich)
    assert set(table["judge"]) == {"rater"}
    assert table["characters"].is_monotonic_increasing
    with rich.read() as connection:
        texts = connection.execute(responses.select()).mappings()
        different = {(r["item_key"], r["text"]) for r in texts if r["choice_logprobs"] is None}
    counted = table["responses"].sum()
    assert counted == len(different)
    assert table["rating"].between(1, 5).all()
    assert (
        rating_by_length_plot(table).to_dict()["layer"][0]["encoding"]["y"]["title"]
        == "mean rating (1-5)"
    )


def test_attacks_and_controls_are_shown_beside_the_model(rich: Store) -> None:
    attacks = attack_table(rich)
    assert dict(zip(attacks["kind"], attacks["value"], strict=True)) == {
        "instruction": 12.0,
        "all kinds": 9.0,
    }
    controls = control_table(Snapshot(rich))
    assert set(controls["entrant"]) == {"model", "echo"}
    assert set(controls["metric"]) == {"win_rate_tie_inclusive"}
    assert len(controls) == 8


def test_calls_are_added_up_by_who_was_asked(rich: Store) -> None:
    table = expense_table(rich).set_index("backend")
    paid = table.loc["openai"]
    assert (paid["calls"], paid["failed"]) == (50, 1)
    assert (paid["prompt_tokens"], paid["completion_tokens"]) == (20_000, 50)
    # gpt-4.1: 2 dollars a million tokens in, 8 out.
    assert paid["dollars"] == pytest.approx(20_000 * 2e-6 + 50 * 8e-6)
    assert 0.5 < paid["seconds_median"] < paid["seconds_95"]
    assert table.loc["checker", "dollars"] == 0
    assert pd.isna(table.loc["checker", "seconds_median"])


@pytest.mark.parametrize(
    ("total", "below"), [(10, None), (20_000, None), (40_000, "8000"), (10**9, "0001")]
)
def test_a_sample_is_drawn_by_key(total: int, below: str | None) -> None:
    assert sample_below(total) == below


def test_an_empty_store_has_empty_tables(rich: Store) -> None:
    with rich.write() as connection:
        for table in ("verdicts", "choices", "calls", "validations", "scores", "responses"):
            connection.exec_driver_sql(f"delete from {table}")
    for function in (rating_table, place_table, length_table, expense_table, attack_table):
        assert function(rich).empty, function.__name__
    assert control_table(Snapshot(rich)).empty
    assert validation_table(rich).empty
