"""Plots of intervals: what their rows say, no legend says again."""

import pandas as pd
import pytest

from mipo_eval.dashboards.markup import PAPER
from mipo_eval.dashboards.plots import interval_plot
from mipo_eval.dashboards.tables import comparison
from mipo_eval.dashboards.tables.forest import number_rows
from mipo_eval.reports.labels import decimals, metric_title


def _table(rows: list[tuple[str, str]]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["row", "method"])
    return table.assign(value=1.0, low=0.5, high=1.5, source="measured")


@pytest.mark.parametrize(
    ("rows", "legend"),
    [
        ([("m \u00b7 SFT", "SFT"), ("m \u00b7 MIPO", "MIPO")], False),
        ([("judge", "strict"), ("judge", "tie-tolerant")], True),
        ([("one", "same"), ("two", "same")], False),
    ],
)
def test_a_legend_says_what_the_rows_do_not(rows: list[tuple[str, str]], legend: bool) -> None:
    plot = interval_plot(_table(rows), axis="x (%)").to_dict()
    drawn = [layer["encoding"]["color"]["legend"] for layer in plot["layer"]]
    assert all((one is not None) is legend for one in drawn)
    assert not legend or drawn[0]["symbolOpacity"] == 1  # not as faint as what it stands for


def test_long_names_of_rows_stand_in_two_lines() -> None:
    two, one = (
        interval_plot(_table([(name, "a"), (name * 2, "a")]), axis="x (%)").to_dict()
        for name in ("model \u00b7 a", "a")
    )
    axes = [plot["layer"][0]["encoding"]["y"]["axis"] for plot in (two, one)]
    assert [axis["labelOffset"] for axis in axes] == [-6, 0]
    assert two["height"] > one["height"]


@pytest.mark.parametrize(
    ("metric", "title", "places"),
    [
        ("accuracy", "accuracy (%)", 1),
        ("rating_mean", "mean rating (1-5)", 2),
        ("exact_match", "exact match", 3),
    ],
)
def test_metrics_have_names_units_and_decimals(metric: str, title: str, places: int) -> None:
    assert (metric_title(metric), decimals(metric)) == (title, places)
    assert metric_title(metric, "echo") == f"echo: {title}"


@pytest.mark.parametrize("value", [1 / 3, 100 / 3, 0.0, -7.123456789012345, 1e6 / 7])
def test_equal_values_have_an_axis_of_short_numbers(value: float) -> None:
    table = _table([("a", "x"), ("b", "y")]).assign(value=value, low=value, high=value)
    layer = interval_plot(table, axis="x (%)").to_dict()["layer"][1]
    across = layer["encoding"]["x"]
    low, high = across["scale"]["domain"]
    assert low < value < high
    assert high - low >= 0.1 * abs(value)
    assert (across["axis"]["format"], across["axis"]["tickCount"]) == ("~r", 6)


def test_an_axis_does_not_go_beyond_what_values_can_be() -> None:
    table = _table([("a", "x"), ("b", "y")]).assign(value=[0.2, 99.9], low=0.0, high=100.0)
    layer = interval_plot(table, axis="x (%)", ends=(0.0, 100.0)).to_dict()["layer"][1]
    assert layer["encoding"]["x"]["scale"]["domain"] == [0.0, 100.0]


def test_numbers_that_differ_in_their_seeds_are_one_row_of_dots() -> None:
    table = _table([("a", "x"), ("a", "x"), ("b", "y"), ("b", "y")])
    table = table.assign(value=[1.0, 2.0, 3.0, 4.0], seed=[0, 1, 0, 0], n=80)
    one, *others = number_rows(table)
    assert (one.value, one.about, one.ci95, one.n) == (1.5, "2 seeds", None, "80")
    assert [value for value, _ in one.dots] == [1.0, 2.0]
    assert [(row.value, row.ci95, row.dots) for row in others] == [
        (value, (0.5, 1.5), ()) for value in (3.0, 4.0)
    ]
    assert all(row.published for row in number_rows(table.assign(source=PAPER)))


def test_plots_say_what_they_show() -> None:
    lines = [("one", "a", 3.0), ("one", "b", 1.0), ("two", "a", 1.0), ("two", "b", 2.0)]
    said = comparison.judges_finding(pd.DataFrame(lines, columns=["judge", "row", "value"]))
    assert sorted(said.split("; ")) == [
        "one: a highest, b lowest",
        "two: b highest, a lowest",
    ]
    table = pd.DataFrame({"row": list("abc"), "tokens": [10, 20, 30], "value": [3.0, 2.0, 1.0]})
    assert comparison.length_finding(table).endswith("rank correlation \u22121.00")
    assert "correlation" not in comparison.length_finding(table.assign(value=1.0))
