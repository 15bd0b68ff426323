"""Blind labels: the order is drawn, answers are kept by side, and people are compared."""

from collections import Counter

import pytest

from mipo_eval.dashboards.tables.label import (
    SKIPPED,
    Stack,
    agreement_table,
    labels,
    next_pair,
    person_name,
    person_spec,
    progress_table,
    put_label,
    show_pair,
    shown_first,
    stack,
)
from mipo_eval.errors import ConfigError, DataError
from mipo_eval.judges.people import people_pairs
from mipo_eval.keys import digest
from mipo_eval.records import Run
from mipo_eval.store import Store
from mipo_eval.store.runs import list_runs
from mipo_eval.store.tables import choices
from mipo_eval.verdict import Pair
from tests.dashboards.scripted import N_ITEMS


@pytest.fixture
def runs(rich: Store) -> list[Run]:
    """The two trained checkpoints, then the base model with and without contexts."""
    return [run for run in list_runs(rich) if run.suite == "tea"]


@pytest.fixture
def pairs(rich: Store, runs: list[Run]) -> Stack:
    return stack(rich, runs[0], runs[1])


def test_everybody_gets_all_pairs_in_one_drawn_order(
    rich: Store, runs: list[Run], pairs: Stack
) -> None:
    assert len(pairs.pairs) == len(set(pairs.pairs)) == N_ITEMS
    assert pairs == stack(rich, runs[0], runs[1])
    keys = [pair.item_key for pair in pairs.pairs]
    assert keys != sorted(keys)
    assert keys != [pair.item_key for pair in stack(rich, runs[0], None).pairs]


def test_equal_and_absent_texts_are_counted_and_left_out(rich: Store, runs: list[Run]) -> None:
    assert stack(rich, runs[0], runs[0]) == Stack(pairs=(), equal=N_ITEMS, absent=0)
    with rich.write() as connection:
        connection.exec_driver_sql(
            "update responses set text = null, text_key = null where generation_key = ?",
            (runs[1].generation_key,),
        )
    assert stack(rich, runs[0], runs[1]) == Stack(pairs=(), equal=0, absent=N_ITEMS)


def test_places_are_drawn_per_person_and_pair_and_never_change(pairs: Stack) -> None:
    ann = [shown_first("Ann", pair) for pair in pairs.pairs]
    assert ann == [shown_first("Ann", pair) for pair in pairs.pairs]
    assert ann != [shown_first("Bob", pair) for pair in pairs.pairs]
    # 96 fair draws: outside of 30 to 66 in one of 10,000 cases.
    assert 30 <= Counter(ann)["a"] <= 66


def test_a_label_is_kept_by_side_whatever_place_it_was_given_at(rich: Store, pairs: Stack) -> None:
    for pair in pairs.pairs[:20]:
        shown = show_pair(rich, "Ann", pair)
        assert {shown.first, shown.second} == {
            show_pair(rich, "Bob", pair).first,
            show_pair(rich, "Bob", pair).second,
        }
        # Ann likes the checkpoint that learned from missing contexts, wherever it stands.
        put_label(rich, "Ann", pair, "first" if "missing" in shown.first else "second")
    said = labels(rich, "Ann")
    assert len(said) == 20
    assert len(set(said.values())) == 1
    with rich.read() as connection:
        rows = connection.execute(choices.select()).mappings().all()
    places = {row["shown_first"] for row in rows if row["judge_key"] == digest(person_spec("Ann"))}
    assert places == {"a", "b"}, "or nothing was turned around"


def test_validate_reads_what_was_labelled(rich: Store, pairs: Stack) -> None:
    for pair in pairs.pairs[:3]:
        put_label(rich, "Ann", pair, "tie")
    found = people_pairs(rich, ["people"])
    assert [pair.label for pair in found] == ["tie"] * 3
    assert {pair.prompt for pair in found} == {
        show_pair(rich, "Ann", pair).item.prompt for pair in pairs.pairs[:3]
    }


def test_a_person_may_change_their_mind_and_skip(rich: Store, pairs: Stack) -> None:
    first, second = pairs.pairs[:2]
    put_label(rich, "Ann", first, None)
    assert labels(rich, "Ann") == {first: None}
    with rich.read() as connection:
        reasons = set(connection.execute(choices.select()).mappings())
    assert SKIPPED in {row["reason"] for row in reasons}
    put_label(rich, "Ann", first, "tie")
    put_label(rich, "Ann", first, "first")
    assert labels(rich, "Ann") == {first: shown_first("Ann", first)}
    assert next_pair(pairs.pairs, labels(rich, "Ann")) == second
    assert next_pair(pairs.pairs, pairs.pairs) is None


def test_agreement_is_over_pairs_that_both_labelled(rich: Store, pairs: Stack) -> None:
    assert agreement_table(rich).empty
    # Ann: a a b b tie; Bob: a b b b -, in terms of the sides.
    for pair, ann, bob in zip(pairs.pairs, "aabbt", "abbb-", strict=False):
        _say(rich, "Ann", pair, ann)
        _say(rich, "Bob", pair, bob)
    (line,) = agreement_table(rich).to_dict("records")
    assert (line["first"], line["second"], line["pairs"]) == ("Ann", "Bob", 4)
    assert line["agreement"] == 75.0
    # Observed 3/4, expected (2*1 + 2*3)/16 = 1/2.
    assert line["kappa"] == pytest.approx(0.5)
    table = progress_table(rich, pairs.pairs).set_index("person")
    assert table.loc["Ann"].tolist() == [5, 0, N_ITEMS - 5]
    assert table.loc["Bob"].tolist() == [4, 1, N_ITEMS - 5]


def _say(store: Store, person: str, pair: Pair, side: str) -> None:
    if side in "ab":
        put_label(store, person, pair, "first" if shown_first(person, pair) == side else "second")
    else:
        put_label(store, person, pair, "tie" if side == "t" else None)


@pytest.mark.parametrize(
    ("written", "name"), [("  Ann\tB. ", "Ann B."), ("a\x00b", "a\ufffdb"), ("x" * 60, "x" * 60)]
)
def test_names_are_one_clean_line(written: str, name: str) -> None:
    assert person_name(written) == name


@pytest.mark.parametrize("written", ["", "  ", "x" * 61])
def test_a_name_that_is_none_is_refused(written: str) -> None:
    with pytest.raises(ConfigError, match="a name has 1 to 60 characters"):
        person_name(written)


def test_a_text_that_is_gone_is_said(rich: Store, pairs: Stack) -> None:
    gone = pairs.pairs[0]._replace(first="00" * 16)
    with pytest.raises(DataError, match="does not hold both texts for item tea-"):
        show_pair(rich, "Ann", gone)
