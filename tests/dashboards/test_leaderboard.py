"""Rows of the leaderboard, the runs behind them, their differences, and the tables of both."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from shutil import copy

import numpy as np
import pytest

from mipo_eval.dashboards import plots
from mipo_eval.dashboards.tables import comparison, doubts, leaderboard, lengths
from mipo_eval.dashboards.tables.leaderboard import Filters
from mipo_eval.evaluation.score import Snapshot
from mipo_eval.records import Rating, Score
from mipo_eval.reports.leaderboard import LeaderboardQuery, Section, over_seeds
from mipo_eval.reports.names import RowRule
from mipo_eval.signature import join, short
from mipo_eval.store import Store
from mipo_eval.store.items import get_items
from mipo_eval.store.judges import Validation, put_judge, put_validation
from mipo_eval.store.runs import get_scores, put_run, put_scores
from mipo_eval.store.trainings import Training, put_training
from mipo_eval.store.verdicts import put_ratings, rated
from tests.reports.stores import N_ITEMS, Served

HOW = ("Personalized", "Default")
WIN = "win_rate_tie_inclusive"


@pytest.fixture
def now(served: Served) -> Iterator[Snapshot]:
    with Store.open(str(served.path), mode="read") as store:
        yield Snapshot(store)


def view(now: Snapshot, metric: str = WIN, rules: tuple[RowRule, ...] = ()) -> LeaderboardQuery:
    return LeaderboardQuery(suite="tea", judge=now.judges[0].key, metric=metric, rules=rules)


def standing(now: Snapshot, metric: str = WIN) -> Section:
    found = leaderboard.section(now, view(now, metric))
    assert found is not None
    return found


def test_topics_are_suites_by_judge(now: Snapshot) -> None:
    judged, free = leaderboard.topics(now)
    assert (judged.suite, judged.judge) == ("tea", now.judges[0])
    assert WIN in judged.metrics
    assert free.judge is None
    assert "response_tokens" in free.metrics
    assert not {m for topic in (judged, free) for m in topic.metrics if m.startswith("control")}


def test_every_row_knows_its_runs(now: Snapshot, served: Served) -> None:
    rows = standing(now).rows
    behind = {
        name: {run.run_id[:12] for run in leaderboard.runs_of(row)}
        for name, row in zip(leaderboard.labels(rows), rows, strict=True)
    }
    assert behind == {
        "mipo \u00b7 Personalized prompting": {served.id("mipo-seed0"), served.id("mipo-seed1")},
        "sft \u00b7 Personalized prompting": {served.id("sft-seed0"), served.id("sft-seed1")},
        "base \u00b7 Personalized prompting": {served.id("base")},
        "base \u00b7 Default prompting": {served.id("base", "default")},
    }


def test_a_row_that_is_the_best_variant_names_the_runs_of_that_variant(
    now: Snapshot, served: Served
) -> None:
    rules = (
        RowRule(name="*mipo-seed0*", model="b", method="MIPO", variant="missing"),
        RowRule(name="*mipo-seed1*", model="b", method="MIPO", variant="random"),
    )
    found = leaderboard.section(now, view(now, rules=rules))
    assert found is not None
    (mipo,) = (row for row in found.rows if row.name.method == "MIPO")
    assert [run.run_id[:12] for run in leaderboard.runs_of(mipo)] == [served.id("mipo-seed1")]
    assert "best of 2 (random)" in (mipo.cells["tea"].best_of_text or "")
    table = leaderboard.number_table(found, found.rows, {})
    wide = leaderboard.wide(table, found.tasks, [], leaderboard.signatures(found.rows))
    assert "MIPO *" in set(wide.table["method"])
    assert leaderboard.notes(table, wide, None)[0].startswith(
        "* b MIPO on tea: best of 2 (random), "
    )


@pytest.mark.parametrize("metric", ["win_rate_excluding_ties", "net_win_rate", "rating_mean"])
def test_other_numbers_have_the_same_runs_behind_them(now: Snapshot, metric: str) -> None:
    assert sum(len(leaderboard.runs_of(row)) for row in standing(now, metric).rows) == 6


def test_a_number_that_is_not_there_is_no_leaderboard(now: Snapshot) -> None:
    assert leaderboard.section(now, view(now, "accuracy")) is None


@pytest.mark.parametrize(
    ("filters", "left"),
    [
        (Filters(), 4),
        (Filters(models=("base",)), 2),
        (Filters(promptings=("default",)), 1),
        (Filters(models=("sft",), promptings=("default",)), 0),
        (Filters(since=date(2999, 1, 1)), 0),
        (Filters(since=date(2000, 1, 1)), 4),
        (Filters(signature=join(judge="other")), 0),
    ],
)
def test_filters_keep_what_they_say(now: Snapshot, filters: Filters, left: int) -> None:
    assert len(leaderboard.filtered(standing(now).rows, filters)) == left


def test_the_filter_by_signature_keeps_its_rows(now: Snapshot) -> None:
    found = standing(now)
    (signature,) = leaderboard.facets(found.rows).signatures
    assert len(leaderboard.filtered(found.rows, Filters(signature=signature))) == 4


def _remade(served: Served) -> None:
    """Add a run whose numbers were made another way: with more tokens."""
    with Store.open(str(served.path)) as store:
        run = served.runs["base", "personalized"]
        other = replace(run, run_id="f" * 32, model="openai:longer@http://x")
        put_run(store, other)
        made = [
            replace(score, signature=score.signature.followed_by(join(decoding="greedy-512")))
            for score in get_scores(store, run.run_id)
        ]
        assert made[0].signature != get_scores(store, run.run_id)[0].signature
        put_scores(store, other.run_id, made)


def test_numbers_made_differently_never_share_a_column(served: Served) -> None:
    _remade(served)
    with Store.open(str(served.path), mode="read") as store:
        now = Snapshot(store)
        found = standing(now)
        table = leaderboard.number_table(found, found.rows, {})
        wide = leaderboard.wide(table, found.tasks, ["n"], leaderboard.signatures(found.rows))
    assert [wide.titles[key] for key in wide.values] == ["tea", "tea [1]"]
    assert wide.apart == {"tea [1]": "decoding greedy-512 (not greedy-256)"}
    both = wide.table[list(wide.values)].notna().sum(axis=1)
    assert (both == 1).all()
    assert wide.table[wide.values[1]].notna().sum() == 1
    signatures = table.groupby("task")["signature"].nunique()
    assert signatures["tea"] == 2


def test_rows_of_one_name_are_told_apart(served: Served) -> None:
    with Store.open(str(served.path)) as store:
        run = served.runs["base", "personalized"]
        put_run(store, replace(run, run_id="e" * 32))
        made = [
            replace(score, signature=score.signature.followed_by(join(decoding="greedy-512")))
            for score in get_scores(store, run.run_id)
        ]
        put_scores(store, "e" * 32, made)
        names = leaderboard.labels(standing(Snapshot(store)).rows)
    assert len(set(names)) == len(names) == 5


def test_the_wide_table_is_ordered_best_first(now: Snapshot) -> None:
    found = standing(now)
    table = leaderboard.number_table(found, found.rows, {})
    wide = leaderboard.wide(
        table, found.tasks, leaderboard.SHOWN, leaderboard.signatures(found.rows)
    )
    best = leaderboard.ordered(wide, "mean", lower=False)
    assert list(best["model"]) == ["mipo", "sft", "base", "base"]
    assert list(leaderboard.ordered(wide, "0", lower=True)["model"])[-1] == "mipo"
    assert leaderboard.ordered(wide, "model", lower=False)["model"].iloc[0] == "base"
    assert best["0"].iloc[0] == pytest.approx(100 * 21 / N_ITEMS)


def test_links_lead_to_the_items_behind_a_row(now: Snapshot, served: Served) -> None:
    found = standing(now)
    wide = leaderboard.wide(
        leaderboard.number_table(found, found.rows, {}),
        found.tasks,
        [],
        leaderboard.signatures(found.rows),
    )
    links = leaderboard.linked(wide.table, found.rows)["items"]
    assert all(link.startswith("pairs?a=") for link in links)
    assert (
        served.id("base", "default")[:8]
        in links.iloc[list(wide.table["method"]).index("Default prompting")]
    )


def test_published_rows_stand_beside_measured_ones(now: Snapshot) -> None:
    found = standing(now)
    section = replace(found, tasks=("ca", "prism"))
    paper = leaderboard.paper_numbers(section)
    assert set(paper["source"]) == {"paper"}
    assert set(paper["task"]) == {"ca", "prism"}
    (one,) = paper[
        (paper["model"] == "Llama-3.2-1B-Instruct")
        & (paper["method"] == "MIPO")
        & (paper["task"] == "ca")
    ].to_dict("records")
    assert 50 < one["value"] <= 100
    some = leaderboard.paper_numbers(section, ["Qwen2.5-7B-Instruct"])
    assert set(some["model"]) == {"Qwen2.5-7B-Instruct"}
    wide = leaderboard.wide(
        paper, section.tasks, ["interval", "n"], leaderboard.signatures(found.rows)
    )
    assert len(wide.table) == len(paper) / 2
    assert leaderboard.paper_numbers(found).empty


def test_differences_are_those_of_the_command_line(now: Snapshot, served: Served) -> None:
    from mipo_eval.reports.comparison import ComparisonQuery, compare_runs

    found = standing(now)
    names = leaderboard.labels(found.rows)
    baseline = names.index("base \u00b7 Personalized prompting")
    default = names.index("base \u00b7 Default prompting")
    usual = comparison.default_baseline(found.rows)
    assert usual is not None
    assert found.rows[usual].name.method == "Personalized prompting"
    made = comparison.against(now, found, now.judges[0].key, baseline)
    assert {row for row, _ in made} == set(range(4)) - {baseline}
    ids = [served.id("base"), served.id("base", "default")]
    (task,) = compare_runs(now.store, ids, ComparisonQuery(baseline=ids[0], metric=WIN))
    (pair,) = task.comparisons
    own = made[default, "tea"]
    assert (own.difference, own.n, own.wins) == (pair.difference, pair.n, pair.wins)
    table = comparison.forest_table(found, made, baseline)
    assert len(table) == 3
    assert table["items"].str.contains("&b=").all()
    assert "margin" not in table


def test_margins_lengths_and_strengths_are_those_of_the_command_line(
    now: Snapshot, served: Served
) -> None:
    from mipo_eval.reports.comparison import ComparisonQuery, compare_runs
    from mipo_eval.reports.leaderboard import LeaderboardQuery
    from mipo_eval.reports.margins import margin_text
    from mipo_eval.reports.strengths import suite_strengths

    found, key = standing(now), now.judges[0].key
    names = leaderboard.labels(found.rows)
    baseline, other = (names.index(f"base \u00b7 {how} prompting") for how in HOW)
    ids = [served.id("base", "default"), served.id("base")]
    asked = ComparisonQuery(metric=WIN, baseline=ids[1], margin=30, control_length=True)
    (task,) = compare_runs(now.store, ids, asked)
    made = comparison.against(now, found, key, baseline, [baseline, other])
    (line,) = comparison.forest_table(found, made, baseline, 30.0).to_dict("records")
    (margin,), (equal,) = task.margins, task.at_equal_length
    assert margin is not None
    assert line["margin_p"] == margin.p
    assert line["margin"] == margin_text(margin, ("it is", "the baseline is"), WIN)
    own = lengths.difference_table(now, found, key, baseline, "tea").set_index("row")
    at_equal = own.loc[names[other]]
    assert at_equal["at_equal_length"] == pytest.approx(equal.difference)
    assert (at_equal["unit"], at_equal["n"]) == (equal.unit, equal.found.n)
    table, reasons = comparison.strengths_table(now, LeaderboardQuery(suite="tea", judge=key))
    (strengths,) = suite_strengths(now, LeaderboardQuery(suite="tea", judge=key))
    assert table["method"].tolist() == [one.name for one in strengths.strengths]
    assert reasons == ([] if strengths.reason is None else [f"{strengths.judge}: ..."])


def test_rows_without_items_in_common_are_left_out(now: Snapshot) -> None:
    found = standing(now)
    first = found.rows[0]
    lone = replace(first, cells={"tea": replace(first.cells["tea"], runs=())})
    other = replace(found, rows=(lone, *found.rows[1:]))
    made = comparison.against(now, other, now.judges[0].key, 1)
    assert (0, "tea") not in made
    assert comparison.against(now, other, now.judges[0].key, 0) == {}


def test_who_beats_whom_adds_up(now: Snapshot) -> None:
    found = standing(now)
    metric, table = comparison.wins(now, found, now.judges[0].key, "tea")
    assert metric == "rating_mean"
    rates = {(row.first, row.second): row.rate for row in table.itertuples()}
    assert len(rates) == 12
    for (a, b), rate in rates.items():
        assert rate + rates[b, a] == pytest.approx(100)
    assert rates["mipo \u00b7 Personalized prompting", "base \u00b7 Default prompting"] > 50


def test_a_mean_over_seeds_skips_absent_values() -> None:
    values = np.array([[1.0, 3.0], [np.nan, 2.0], [np.nan, np.nan]])
    np.testing.assert_array_equal(over_seeds(values), [2.0, 2.0, np.nan])


def test_one_judge_agrees_with_nobody(now: Snapshot) -> None:
    assert comparison.agreement_table(now, "tea").empty
    assert comparison.agreement_table(now, "another").empty


def test_length_stands_beside_the_result(now: Snapshot) -> None:
    found = standing(now)
    table = comparison.length_table(now, found, now.judges[0].key)
    assert len(table) == len(found.rows)
    assert set(table["task"]) == {"tea"}
    assert (table["tokens"] > 0).all()
    assert plots.length_plot(table, "win rate (%)").to_dict()["mark"]["type"] == "point"


def test_broken_judges_and_winning_controls_are_flagged(served: Served) -> None:
    with Store.open(str(served.path)) as store:
        now = Snapshot(store)
        judge = now.judges[0].key
        assert doubts.failings(now, judge) == []
        assert doubts.validation(now, judge) == "not done: mipo-eval validate"
        assert doubts.winning_controls(now, "tea", judge) == []
        run = served.runs["base", "personalized"]
        put_validation(
            store,
            Validation(
                judge_key=judge,
                data="prism",
                data_key="d",
                figures={},
                failings=["no better than a coin"],
                created_at=run.created_at,
            ),
        )
        own = next(s for s in get_scores(store, run.run_id) if s.metric == "rating_mean")
        echo = Score(
            task="tea",
            metric="rating_mean",
            value=4.9,
            n=24,
            signature=own.signature.followed_by(join(control="echo")),
            outcomes_key=own.outcomes_key,
        )
        put_scores(store, run.run_id, [echo])
        now = Snapshot(store)
        (line,) = doubts.failings(now, judge)
        assert line.endswith("prism: no better than a coin")
        assert doubts.reasons(now, judge) == ("prism: no better than a coin",)
        assert doubts.validation(now, judge) == "fails"
        (control,) = doubts.winning_controls(now, "tea", judge)
        assert "control echo does as well as the model in tea" in control
        assert doubts.winning_controls(now, "other", judge) == []


def test_a_judge_that_tells_nothing_apart_is_not_shown_first(
    served: Served, tmp_path: Path
) -> None:
    own = Path(copy(served.path, tmp_path / "s.db"))
    with Store.open(str(own)) as store:
        known = Snapshot(store)
        judge = known.judges[0]
        items = {item.key for _, item in get_items(store, known.scores[0][0].list_key)}
        put_ratings(
            store,
            [
                Rating(
                    judge=judge.key,
                    item_key=item,
                    text_key=text,
                    aspect=aspect,
                    rating=3,
                    reason=None,
                    call_key="c" * 32,
                )
                for item, text, aspect in rated(store, judge.key, items)
            ],
        )
        first, judged = leaderboard.topics(Snapshot(store))
        assert (first.judge, judged.judge) == (None, judge)


def test_the_first_suite_is_the_one_judged_most_and_not_the_latest(served: Served) -> None:
    from datetime import timedelta

    with Store.open(str(served.path)) as store:
        run = served.runs["base", "personalized"]
        later = run.created_at + timedelta(days=1)
        put_run(store, replace(run, run_id="d" * 32, suite="later", created_at=later))
        put_scores(store, "d" * 32, get_scores(store, run.run_id))
        suites = [topic.suite for topic in leaderboard.topics(Snapshot(store))]
    assert suites == ["tea", "tea", "later", "later"]


def test_a_judge_that_fails_comes_after_one_that_does_not(served: Served) -> None:
    with Store.open(str(served.path)) as store:
        run = served.runs["base", "personalized"]
        good = "9" * 32
        put_judge(store, good, "good", {"protocol": "rubric"})
        own = next(s for s in get_scores(store, run.run_id) if s.metric == WIN)
        by = join(judge="good", judge_key=short(good))
        mine = own.signature.less("judge", "judge_key").followed_by(by)
        put_scores(store, run.run_id, [replace(own, signature=mine)])
        judge = next(one.key for one in Snapshot(store).judges if one.key != good)
        first, *_ = leaderboard.topics(Snapshot(store))
        assert first.judge is not None
        assert first.judge.key == judge, "it judged more runs"
        about = {"data": "prism", "data_key": "d", "figures": {}, "created_at": run.created_at}
        put_validation(store, Validation(judge_key=judge, failings=["a coin"], **about))
        first, *_ = leaderboard.topics(Snapshot(store))
        assert first.judge is not None
        assert first.judge.key == good


def test_the_usual_baseline_is_the_base_model_and_never_the_winner(now: Snapshot) -> None:
    rows = standing(now).rows  # mipo, sft, base: all of them look like prompted models
    usual = comparison.default_baseline(rows)
    assert usual is not None
    assert rows[usual].name.model == "base"
    others = [row for row in rows if row.name.model != "base"]
    assert comparison.default_baseline(others) == len(others) - 1


def test_checkpoints_trained_here_are_rows_of_their_own(served: Served) -> None:
    with Store.open(str(served.path)) as store:
        for place, negatives in enumerate(("missing", "random")):
            model = served.runs[f"mipo-seed{place}", "personalized"].model
            put_training(
                store,
                Training(
                    training_id=negatives,
                    method="mipo",
                    model="base",
                    suite="tea",
                    seed=0,
                    checkpoint=model,
                    recipe={"pairs": {"negatives": negatives, "n_negatives": 1}},
                    pair_report=None,
                    environment={},
                    status="done",
                    reason=None,
                    created_at=served.runs["base", "personalized"].created_at,
                    updated_at=served.runs["base", "personalized"].created_at,
                ),
            )
        found = standing(Snapshot(store))
    names = [name for name in leaderboard.labels(found.rows) if "MIPO" in name]
    assert names == ["base \u00b7 MIPO (random)", "base \u00b7 MIPO (missing)"]
    assert not any(cell.best_of for row in found.rows for cell in row.cells.values())
