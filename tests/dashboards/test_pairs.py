"""Pairs of responses: who won, what was said, and what the filters and the search leave."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pandas as pd
import pytest

from mipo_eval.dashboards.tables import comparison, pairs
from mipo_eval.dashboards.tables.pairs import PairFilter, Pairing
from mipo_eval.dashboards.tables.run import costs, facts, failures, quoted, score_lines, siblings
from mipo_eval.evaluation.score import Snapshot
from mipo_eval.records import Run
from mipo_eval.store import Store
from mipo_eval.store.merge import merge
from mipo_eval.store.responses import answered
from mipo_eval.store.runs import get_scores, list_runs
from mipo_eval.verdict import PairVerdict, Verdict
from tests.dashboards.scripted import CHOOSER, MODELS, N_ITEMS, RATER, make_store
from tests.reports.stores import N_ITEMS as N_SERVED
from tests.reports.stores import Served


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("pairs") / "s.db")


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store.open(str(path), mode="read") as opened:
        yield opened


def _runs(store: Store) -> list[Run]:
    """The suite's runs in the order of `MODELS`."""
    named = {(run.model, run.prompting): run for run in list_runs(store) if run.suite == "tea"}
    return [named[model, prompting] for model, prompting, _ in MODELS]


def test_outcomes_add_up_to_the_stored_rates(store: Store) -> None:
    for run in _runs(store):
        found = pairs.pairings(store, run.run_id, None)
        assert len(found) == N_ITEMS
        outcomes = [pairing.verdicts[RATER].winner for pairing in found]
        rates = {score.metric: score.value for score in get_scores(store, run.run_id)}
        won = 100 * outcomes.count("a") / N_ITEMS
        tied = 100 * outcomes.count("tie") / N_ITEMS
        assert won == pytest.approx(rates["win_rate_strict"])
        assert tied == pytest.approx(rates["tie_rate"])


def test_two_runs_are_mirror_images(store: Store) -> None:
    first, second = _runs(store)[1:3]
    one = pairs.pairings(store, first.run_id, second.run_id)
    other = pairs.pairings(store, second.run_id, first.run_id)
    turned = {"a": "b", "b": "a", "tie": "tie", None: None}
    for left, right in zip(one, other, strict=True):
        assert left.verdicts.keys() == right.verdicts.keys() == {RATER, CHOOSER}
        for judge, verdict in left.verdicts.items():
            assert right.verdicts[judge].winner == turned[verdict.winner]
            assert right.verdicts[judge].flipped == verdict.flipped
        gap = left.verdicts[RATER].margin
        assert gap is not None
        assert right.verdicts[RATER].margin == -gap


def test_an_order_that_decides_is_a_flip_and_a_tie(store: Store) -> None:
    first, second = _runs(store)[1:3]
    found = [p.verdicts[CHOOSER] for p in pairs.pairings(store, second.run_id, first.run_id)]
    flipped = [verdict for verdict in found if verdict.flipped]
    assert 0 < len(flipped) < len(found)
    assert {verdict.winner for verdict in flipped} == {"tie"}
    assert "tie" not in {verdict.winner for verdict in found if not verdict.flipped}


def _pairing(position: int, **verdicts: PairVerdict) -> Pairing:
    return Pairing(position=position, task="t", item_id=f"i{position}", verdicts=verdicts)


def _verdict(winner: Verdict | None, margin: float | None = None, **also: bool) -> PairVerdict:
    return PairVerdict(winner=winner, margin=margin and Fraction(margin), **also)


FOUND = [
    _pairing(0, a=_verdict("a", 2.0), b=_verdict("b", -0.5)),
    _pairing(1, a=_verdict("tie", 0.0), b=_verdict("tie", flipped=True)),
    _pairing(2, a=_verdict(None)),
    _pairing(3),
]


@pytest.mark.parametrize(
    ("wanted", "left"),
    [
        (PairFilter(), [0, 1, 2, 3]),
        (PairFilter(outcomes=("A wins",)), [0]),
        (PairFilter(outcomes=("A wins",), judge="b"), []),
        (PairFilter(outcomes=("B wins", "tie"), judge="b"), [0, 1]),
        (PairFilter(outcomes=("unscored",)), [2, 3]),
        (PairFilter(outcomes=("unscored",), judge="b"), [2, 3]),
        (PairFilter(outcomes=("unscored",), flipped=True), []),
        (PairFilter(flipped=True), [1]),
        (PairFilter(flipped=True, judge="a"), []),
        (PairFilter(disputed=True), [0]),
        (PairFilter(tasks=("t", "u")), [0, 1, 2, 3]),
        (PairFilter(tasks=("u",)), []),
        (PairFilter(gap=1.0), [0]),
        (PairFilter(gap=1.0, judge="b"), []),
        (PairFilter(gap=0.5, judge="b"), [0]),
    ],
)
def test_filters(wanted: PairFilter, left: list[int]) -> None:
    assert pairs.matching(FOUND, wanted, None) == left
    assert pairs.matching(FOUND, wanted, frozenset({1, 2})) == [n for n in left if n in {1, 2}]


def test_search_reads_every_text_of_an_item(store: Store) -> None:
    first, second = _runs(store)[1:3]
    run, other = first.run_id, second.run_id
    assert pairs.search(store, run, None, "TEA NUMBER 7?") == {14, 15}
    assert pairs.search(store, run, None, "reference 9:") == {9}
    assert pairs.search(store, run, None, "i am nine") == set(range(1, N_ITEMS, 2))
    assert pairs.search(store, run, None, "easy words") == set(range(N_ITEMS))
    text = next(
        entry.response.text
        for entry in answered(store, second.list_key, second.generation_key)
        if entry.position == 5 and entry.response
    )
    assert text is not None
    assert pairs.search(store, run, None, text) == set()
    assert pairs.search(store, run, other, text) == {5}
    assert pairs.search(store, run, None, "100%") == set()


def test_detail_has_both_texts_and_all_that_was_said(store: Store) -> None:
    first, second = _runs(store)[1:3]
    found = pairs.detail(store, second.run_id, first.run_id, 5)
    assert found is not None
    assert found.item.item_id == "tea-5"
    assert (found.first.text or "").startswith("out/mipo-missing: ")
    assert (found.second.text or "").startswith("base: ")
    assert list(found.ratings["preference"]) == ["1. Easy words.", "2. Short."]
    assert found.ratings[["first", "second"]].notna().all(axis=None)
    orders = {said.about for said in found.said if said.judge == "chooser"}
    assert orders == {"choice, first text shown first", "choice, second text shown first"}
    turned = pairs.detail(store, first.run_id, second.run_id, 5)
    assert turned is not None
    results = [{s.about: s.result for s in f.said if s.judge == "chooser"} for f in (found, turned)]
    for about, result in results[0].items():
        swap = {"first": "second", "second": "first"}
        key = " ".join(swap.get(word, word) for word in about.split(" "))
        key = key.replace("shown second", "shown first")
        assert results[1][key] == " ".join(swap.get(word, word) for word in result.split(" "))
    assert pairs.detail(store, first.run_id, None, N_ITEMS) is None


def test_detail_of_a_run_shows_raw_replies_and_requests(served: Served) -> None:
    with Store.open(str(served.path), mode="read") as store:
        run = served.runs["base", "personalized"]
        found = pairs.detail(store, run.run_id, None, 5)
        assert found is not None
        own = [said for said in found.said if said.about.startswith("first")]
        assert [said.reply for said in own] == ["hard to say"] * 2
        assert all(said.result.startswith("no rating: ") for said in own)
        assert [said.reply for said in found.said if said.about.startswith("second")] == ["3"] * 2
        key = own[0].call_key
        assert key is not None
        request = pairs.request_of(store, key)
        assert request is not None
        assert "base on 5" in request
        assert "[user]" in request
        assert pairs.request_of(store, "no such call") is None


def test_failures_are_counted_with_their_reasons(served: Served) -> None:
    with Store.open(str(served.path), mode="read") as store:
        base = failures(store, served.id("base"))
        assert list(base["stage"]) == ["verdict of judge"]
        assert list(base["items"]) == [1]
        assert list(base["first"]) == [5]
        assert failures(store, served.id("mipo-seed0")).empty


def test_cost_counts_every_call_once(served: Served) -> None:
    with Store.open(str(served.path), mode="read") as store:
        table = costs(store, served.id("mipo-seed0")).set_index("what")
        assert table.loc["responses", "calls"] == N_SERVED
        assert table.loc["verdicts of judge", "calls"] == 2 * N_SERVED
        assert table.loc["verdicts of judge", "dollars"] == 0.0


def test_facts_name_the_command_that_repeats_a_run(store: Store) -> None:
    run = _runs(store)[1]
    found = facts(store, run.run_id)
    assert found.why_not is None
    assert found.command is not None
    assert found.command.startswith("mipo-eval --model base --suite tea --decoding max_tokens=256")
    assert '"max_tokens": 256' in found.configuration
    assert found.recorded == "mipo-eval --model base --suite tea"
    assert len(found.judges) == 1
    others = {(other.model, other.prompting) for other in siblings(store, run.run_id)}
    assert others == {(m, p) for m, p, _ in MODELS} - {("base", "personalized")}


def test_a_run_that_nothing_repeats_says_why(served: Served) -> None:
    with Store.open(str(served.path), mode="read") as store:
        found = facts(store, served.id("base"))
    assert found.command is None
    assert "tea.jsonl" in (found.why_not or "")


def test_a_command_is_broken_before_its_options() -> None:
    made = quoted("mipo-eval --model 'a b' --suite demo")
    assert made == "mipo-eval \\\n  --model 'a b' \\\n  --suite demo"


def test_numbers_of_a_run_keep_their_intervals(store: Store) -> None:
    run = _runs(store)[2]
    table = score_lines(store, run.run_id)
    row = table[table["metric"] == "win_rate_tie_inclusive"].iloc[0]
    assert row["ci_low"] < row["value"] < row["ci_high"]
    assert (row["n"], row["judge"], row["better"]) == (N_ITEMS, "rater", "higher")


def test_the_same_comes_from_postgresql(path: Path, postgres_url: str) -> None:
    with (
        Store.open(str(path), mode="read") as store,
        Store.open(postgres_url) as other,
    ):
        merge(other, store)
        first, second = _runs(store)[1:3]
        for here in (None, second.run_id):
            assert pairs.pairings(other, first.run_id, here) == pairs.pairings(
                store, first.run_id, here
            )
        assert pairs.search(other, first.run_id, None, "reference 9:") == {9}
        here, there = (pairs.detail(s, second.run_id, first.run_id, 5) for s in (store, other))
        assert here is not None
        assert there is not None
        assert here.ratings.equals(there.ratings)
        assert {said.about for said in here.said} == {said.about for said in there.said}
        for table in (failures, costs, score_lines):
            assert table(other, first.run_id).equals(table(store, first.run_id))
        told = [facts(s, first.run_id) for s in (store, other)]
        assert told[0].command == told[1].command is not None
        assert told[0].configuration == told[1].configuration
        one, two = (comparison.agreement_table(Snapshot(s), "tea") for s in (store, other))
        assert one.equals(two)


def test_an_item_without_a_second_text_says_what_its_ratings_are() -> None:
    lines = [(5, None, "a", "rules"), (2, None, "b", "rules"), (None, None, "a", "silent")]
    table = pd.DataFrame(lines, columns=["first", "second", "preference", "judge"])
    said = pairs.rated_text(table)
    assert said == "Rated 3.50 on average by rules; there is nothing to compare it with"
    assert pairs.rated_text(table[table["judge"] == "silent"]) == "Not judged"
    assert pairs.rated_text(table.iloc[:0]) == "Not judged"
