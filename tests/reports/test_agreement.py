"""Judge against judge on stored runs, by hand."""

from pathlib import Path

import pytest

from mipo_eval.errors import ConfigError, DataError
from mipo_eval.reports.agreement import Families, agreements, family_tests, judges_named
from mipo_eval.store.responses import paired_texts
from mipo_eval.store.verdicts import pair_verdicts, verdicts_on
from tests.reports.judged import ITEMS, add_chooser, add_rater, add_run, open_store

MODELS = ["qwen-1b", "llama-1b"]


def kind(model: str, number: int, aspect: int) -> int:
    """3 for a reference, 4 for every response to an even item, 2 to an odd one."""
    return 3 if model == "reference" else 4 if number % 2 == 0 else 2


def test_ratings_and_verdicts_of_two_judges(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        run = add_run(store, "qwen-1b")
        add_rater(store, "one", ["qwen-1b"], kind)
        # Differs from the first in the first six items' first preference: 12 sums stay ahead.
        add_rater(
            store, "two", ["qwen-1b"], lambda m, n, a: 5 if n < 6 and not a else kind(m, n, a)
        )
        (found,) = agreements(store, [run], judges_named(store, [])).pairs
    assert (found.ratings.n, found.ratings.share) == (48, pytest.approx(100 * 42 / 48))
    assert found.ratings.kappa_ci95 is not None
    assert found.verdicts.n == 24
    # The reference of those items got a 5 too: odd ones, rated 5 + 2 against 5 + 3, still lose.
    assert found.verdicts.share == 100
    assert found.verdicts.kappa == 1
    assert found.order is None


def test_people_and_judges_that_choose_are_compared_by_verdict(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        run = add_run(store, "qwen-1b")
        add_rater(store, "one", ["qwen-1b"], kind)
        both = {0: ("a", "a"), 1: ("a", "a"), 2: ("a", "b"), 3: ("b",)}
        chooser = add_chooser(store, "two", both, model="qwen-1b")
        add_chooser(store, "ann", {0: ("a",), 1: ("b",)}, model="qwen-1b", human=True)
        said = verdicts_on(store, paired_texts(store, run), chooser)
        # The last pair was asked about in one order only.
        assert [one.winner for _, one in said[:4]] == ["a", "a", "tie", None]
        found = {
            (one.first.name, one.second.name): one
            for one in agreements(store, [run], judges_named(store, [])).pairs
        }
    assert found["one", "two"].ratings.n == 0
    assert found["one", "two"].verdicts.n == 3
    assert found["one", "two"].verdicts.share == pytest.approx(100 / 3)
    assert found["ann", "one"].verdicts.share == 100
    assert found["ann", "two"].verdicts.share == 50


def test_a_pair_stored_the_other_way_round_is_the_same_pair(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        one, other = add_run(store, "qwen-1b"), add_run(store, "llama-1b")
        straight = [row.pair for row in paired_texts(store, one, other)]
        turned = [row.pair for row in paired_texts(store, other, one)]
        assert straight == [pair and pair.turned() for pair in turned]
        assert len(straight) == len(ITEMS)
        # A model against the references, asked about with the reference as the run's own.
        key = add_chooser(store, "two", {0: ("a", "a")}, model="qwen-1b")
        pairs = [row.pair for row in paired_texts(store, one) if row.pair]
        winners = [one.winner for one in pair_verdicts(store, key, pairs)]
        reverse = [one.winner for one in pair_verdicts(store, key, [p.turned() for p in pairs])]
        assert (winners[0], reverse[0]) == ("a", "b")
        assert not any(winners[1:])


def test_the_order_of_runs(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        runs = [add_run(store, f"m{n}") for n in range(4)]
        names = [run.model for run in runs]
        add_rater(store, "one", names, lambda m, n, a: 1 if m == "reference" else 1 + int(m[1]))
        add_rater(store, "two", names, lambda m, n, a: 1 if m == "reference" else 5 - int(m[1]))
        (found,) = agreements(store, runs, judges_named(store, [])).pairs
    assert found.order == -1


def test_agreement_needs_two_judges_with_something_in_common(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        run = add_run(store, "qwen-1b")
        add_rater(store, "one", ["qwen-1b"], kind)
        with pytest.raises(ConfigError, match="needs two judges: judge the same runs"):
            agreements(store, [run], judges_named(store, ["one"]))
        add_rater(store, "two", ["llama-1b"], kind)
        add_chooser(store, "ann", {}, model="qwen-1b", human=True)
        with pytest.raises(DataError, match="no two of these judges judged the same response"):
            agreements(store, [run], judges_named(store, ["one", "ann"]))


def rule(own: str, *, bonus: int, strict: int) -> object:
    """A judge that adds a bonus for its family; one of the two is stricter on everything."""

    def rate(model: str, number: int, aspect: int) -> int:
        return 3 + number % 2 - strict + (bonus if own in model else 0)

    return rate


def test_judges_that_favour_their_own_family(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        runs = [add_run(store, model) for model in MODELS]
        add_rater(store, "qwen-judge", MODELS, rule("qwen", bonus=1, strict=0))  # type: ignore[arg-type]
        add_rater(store, "llama-judge", MODELS, rule("llama", bonus=0, strict=1))  # type: ignore[arg-type]
        (found,) = family_tests(store, runs, judges_named(store, []), Families({}))
    assert (found.first.name, found.first_family, found.second_family) == (
        "llama-judge",
        "llama",
        "qwen",
    )
    assert found.means == (2.5, 2.5, 3.5, 4.5)
    assert (found.preference.value, found.preference.n) == (1, 24)


def test_a_family_that_a_name_does_not_tell_is_given(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        runs = [add_run(store, "out/mine"), add_run(store, "llama-1b")]
        names = [run.model for run in runs]
        add_rater(store, "j1", names, rule("mine", bonus=1, strict=0))  # type: ignore[arg-type]
        add_rater(store, "j2", names, rule("llama", bonus=1, strict=0))  # type: ignore[arg-type]
        judges = judges_named(store, [])
        with pytest.raises(DataError, match=r"judges: j1 .*not known.*runs: llama x 1.*--family"):
            family_tests(store, runs, judges, Families({}))
        families = Families({"j1": "own", "j2": "llama", "out/mine": "own"})
        (found,) = family_tests(store, runs, judges, families)
        assert found.preference.value == 2


def test_all_judges_together_whoever_judged_what(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        run = add_run(store, "qwen-1b")
        add_rater(store, "one", ["qwen-1b"], kind)
        add_chooser(store, "two", {n: ("a", "a") for n in range(6)}, model="qwen-1b")
        add_chooser(store, "ann", {8: ("a",), 9: ("b",)}, model="qwen-1b", human=True)
        found = agreements(store, [run], judges_named(store, []))
    assert found.ratings.n == 0  # one judge alone rated
    # Even items win with the first judge, odd ones lose; of those with two verdicts 3 differ.
    assert (found.verdicts.n, found.verdicts.share) == (8, pytest.approx(100 * 5 / 8))
    # 16 labels, 11 wins and 5 losses: 1 - (6 / 16) / (2 * 11 * 5 / (16 * 15)).
    assert found.verdicts.alpha == pytest.approx(1 - (6 / 16) / (110 / 240))
