"""The sentence that answers first, in every situation; and the picture below it."""

from dataclasses import replace

import pytest

from mipo_eval.dashboards.forest import ForestRow, Scale, forest, shares
from mipo_eval.dashboards.tables.headline import headline, of_two, short_names
from mipo_eval.dashboards.tables.leaderboard import Comparisons
from mipo_eval.reports.leaderboard import Cell, Row, Section
from mipo_eval.reports.names import RowName
from mipo_eval.signature import NOTHING
from mipo_eval.stats.paired import compare_all

WIN = "win_rate_tie_inclusive"


def row(method: str, value: float | None, letters: str = "a", **more: object) -> Row:
    cell = Cell(
        value=value,
        seeds=1,
        n=60,
        unscored=0,
        rank=1,
        letters=letters,
        differs={},
        runs=(),
        signature=NOTHING,
    )
    name = RowName(model="Llama-1B", method=method)
    return Row(name=name, cells={"tea": replace(cell, **more)})  # type: ignore[arg-type]


def section(*rows: Row, metric: str = WIN) -> Section:
    return Section(suite="tea", metric=metric, judge="j", tasks=("tea",), rows=rows, signatures={})


def against(*wins: int) -> Comparisons:
    """Compare methods that win so many of 60 items with the last of them."""
    table = [[100.0 * (item < won) for won in wins] for item in range(60)]
    names = [str(place) for place in range(len(wins))]
    groups = [str(item) for item in range(60)]
    pairs = compare_all(table, names, groups, baseline=names[-1])
    return {(int(pair.first), "tea"): pair for pair in pairs}


def test_a_clear_winner() -> None:
    found = section(row("MIPO", 71.7), row("SFT", 61.7, "ab"), row("prompting", 21.7, "b"))
    said = headline(found, "tea", against(43, 37, 13), "prompting")
    assert said.startswith("MIPO leads with 71.7 %: +50.0 points over prompting [+")
    assert said.endswith("], p < 0.001; not distinguishable from SFT.")
    alone = section(row("MIPO", 71.7), row("prompting", 21.7, "b"))
    said = headline(alone, "tea", against(43, 13), "prompting")
    assert said.endswith("; told apart from every other method.")


def test_no_winner() -> None:
    found = section(row("MIPO", 50.0), row("prompting", 48.3))
    said = headline(found, "tea", against(30, 29), "prompting")
    assert said.startswith("No method is shown to beat prompting; these 60 items could show ")
    assert said.endswith(" points.")


def test_items_that_could_show_nothing_are_not_said_to_show_500_points() -> None:
    pair = replace(against(30, 29)[0, "tea"], detectable=500.0)
    found = section(row("MIPO", 50.0), row("prompting", 48.3))
    said = headline(found, "tea", {(0, "tea"): pair}, "prompting")
    assert said.endswith("these 60 items are too few, or of too few prompts or users, to show any.")


def test_the_highest_is_not_always_the_one_that_is_shown_to_win() -> None:
    found = section(row("few items", 90.0), row("MIPO", 71.7), row("prompting", 21.7, "b"))
    pairs = {key: pair for key, pair in against(54, 43, 13).items() if key[0] != 0}
    said = headline(found, "tea", pairs, "prompting")
    assert said.startswith("few items leads with 90.0 %; MIPO is shown to beat prompting: +50.0")


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        (
            "tells nothing apart: 100 % of its verdicts are ties",
            "No ranking: this judge always ties (100 % of its verdicts are ties).",
        ),
        (
            "tells nothing apart: 98 % of its ratings are 3",
            "No ranking: this judge tells nothing apart (98 % of its ratings are 3).",
        ),
        ("llmbar: a coin", "This judge fails its validation. If it is believed: MIPO leads with"),
    ],
)
def test_a_failing_judge(reason: str, said: str) -> None:
    found = section(row("MIPO", 100.0), row("prompting", 10.0, "b"))
    assert headline(found, "tea", against(60, 6), "prompting", [reason]).startswith(said)


def test_one_method() -> None:
    said = headline(section(row("MIPO", 71.7)), "tea", {}, None)
    assert said == "MIPO has 71.7 %; there is no other method to compare it with yet."
    assert headline(section(row("MIPO", None)), "tea", {}, None) == "Nothing is measured yet."


def test_seeds_are_told() -> None:
    found = section(row("MIPO", 71.7, seeds=3), row("prompting", 21.7, "b"))
    said = headline(found, "tea", against(43, 13), "prompting")
    assert said.startswith("MIPO leads with 71.7 % (mean of 3 seeds): +50.0 points over prompting")


def test_imports_without_items() -> None:
    rows = [row(name, value, "", rank=None) for name, value in (("gpt", 50.0), ("alpaca", 20.0))]
    said = headline(section(*rows), "tea", {}, "alpaca")
    assert said == (
        "gpt leads with 50.0 %; these numbers have no values item by item, so nothing can be "
        "tested."
    )


def test_lower_is_better_and_has_no_points() -> None:
    found = section(row("MIPO", 0.2), row("prompting", 0.8, "b"), metric="self_bleu_4")
    said = headline(found, "tea", {}, None)
    assert said == "MIPO leads with 0.200; told apart from every other method."


def test_two_methods_are_compared_in_one_sentence() -> None:
    clear, near = (against(won, 13)[0, "tea"] for won in (43, 14))
    said = of_two(WIN, clear, ("MIPO", "prompting"))
    assert said.startswith("MIPO beats prompting: +50.0 points [+")
    assert said.endswith("], p < 0.001.")
    assert "p < 0.001, corrected for 3 comparisons." in of_two(WIN, clear, ("a", "b"), (), 3)
    assert of_two("self_bleu_4", clear, ("a", "b")).startswith("a is beaten by b: +50.000 [")
    assert of_two("response_tokens", clear, ("a", "b")).startswith("a is above b: +50.0 [")
    said = of_two(WIN, near, ("MIPO", "prompting"))
    assert said.startswith("Neither MIPO nor prompting is shown to be better: +1.7 points [")
    assert "; these 60 items could show " in said
    assert of_two(WIN, None, ("a", "b")).startswith("a and b cannot be compared")


def test_two_methods_under_a_failing_judge() -> None:
    pair = against(43, 13)[0, "tea"]
    said = of_two(WIN, pair, ("MIPO", "prompting"), ["llmbar: a coin"])
    assert said.startswith("This judge fails its validation. If it is believed: MIPO beats")
    nothing = ["tells nothing apart: 100 % of its verdicts are ties"]
    assert of_two(WIN, pair, ("MIPO", "prompting"), nothing).startswith("No ranking: this judge")


def test_names_of_data_stay_as_they_are() -> None:
    found = section(row("{0} \x00 <b>", 50.0), row("prompting", 48.3))
    assert short_names(found.rows)[0] == "{0} \x00 <b>"
    said = headline(found, "tea", against(30, 29), "%s {x}")
    assert said.startswith("No method is shown to beat %s {x}; ")


@pytest.mark.parametrize(
    ("metric", "value", "wins"),
    [
        (WIN, 70.0, 50.0),
        ("win_rate_half_ties", 60.0, 50.0),
        ("win_rate_strict", 50.0, 50.0),
        ("win_rate_excluding_ties", 62.5, 50.0),
        ("net_win_rate", 20.0, 50.0),
    ],
)
def test_every_rule_for_ties_gives_the_same_shares(metric: str, value: float, wins: float) -> None:
    cell = row("MIPO", value, tie_rate=20.0).cells["tea"]
    assert shares(metric, cell) == pytest.approx((wins, 20.0, 100 - wins - 20.0))
    assert shares("rating_mean", cell) is None


def test_the_picture_holds_every_row_inert_and_within_its_ends() -> None:
    rows = [
        ForestRow(name="<script>x</script>", about="&", value=100.0, ci95=(95.0, 104.0)),
        ForestRow(name="paper", about="", value=100.0, published=True),
    ]
    scale = Scale(title="win rate (%)", places=1, line=100.0, ends=(0.0, 100.0))
    drawn = forest(rows, scale, "<b>one</b> leads")
    assert "<caption>&lt;b&gt;one&lt;/b&gt; leads Highest: &lt;script" in drawn
    assert "n (unscored)" not in drawn  # no row has anything for that column
    assert "<script" not in drawn
    assert drawn.count("<tr") == 3
    assert 'class="hollow"' in drawn
    assert "left: 100.00%" in drawn
    assert "right: calc(100% - 100.00%)" in drawn
    equal = forest(rows[1:], Scale(title="x", places=1))
    assert ">100</span>" in equal


def test_a_number_that_is_neither_good_nor_bad_has_no_leader() -> None:
    found = section(row("MIPO", 76.7), row("prompting", 126.3), metric="response_tokens")
    said = headline(found, "tea", {}, "prompting")
    assert said == (
        "The lowest is MIPO with 76.7, the highest prompting with 126.3; neither is better for it."
    )
