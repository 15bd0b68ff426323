"""What verdicts come to: counts by hand, honest intervals, panels, judge against judge."""

from dataclasses import replace
from fractions import Fraction

import pytest

from mipo_eval.errors import DataError
from mipo_eval.judges.panel import (
    NO_PANEL,
    FamilyRatings,
    agreement_matrix,
    balance,
    family_preference,
    panel_outcomes,
)
from mipo_eval.verdict import PairVerdict

WON, TIED, LOST = (
    PairVerdict(winner="a", flipped=False),
    PairVerdict(winner="tie", flipped=True),
    PairVerdict(winner="b"),
)
NONE = PairVerdict(winner=None, reason="call failed: timeout")


def groups(count: int) -> list[str]:
    return [f"prompt-{n}" for n in range(count)]


def test_wins_ties_and_losses_by_hand() -> None:
    outcomes = [*[WON] * 5, *[TIED] * 2, *[replace(LOST, flipped=False)] * 3, NONE]
    found = balance(outcomes, groups=groups(11))
    assert (found.win.value, found.tie.value, found.loss.value, found.half.value) == (
        pytest.approx(50),
        pytest.approx(20),
        pytest.approx(30),
        pytest.approx(60),
    )
    assert (found.win.n, found.win.unscored_reasons) == (10, {"call failed: timeout": 1})
    assert found.net is not None
    assert found.net.difference == pytest.approx(20)
    assert (found.net.wins, found.net.ties, found.net.losses) == (5, 2, 3)
    assert (found.flips, found.flip_rate, found.identical) == (2, pytest.approx(20), 0)
    assert found.rating is None


def test_the_exchange_of_the_entrants_mirrors_everything() -> None:
    turned = {"a": "b", "b": "a", "tie": "tie"}
    outcomes = [*[WON] * 7, *[TIED] * 4, *[LOST] * 2]
    mirrored = [replace(o, winner=turned[str(o.winner)]) for o in outcomes]  # type: ignore[arg-type]
    one, other = (balance(o, groups=groups(13)) for o in (outcomes, mirrored))
    assert one.win.value == pytest.approx(other.loss.value)
    assert one.loss.value == pytest.approx(other.win.value)
    assert one.win.ci95 == pytest.approx(other.loss.ci95)
    assert one.net is not None
    assert other.net is not None
    assert one.net.difference == -other.net.difference
    assert one.net.p == pytest.approx(other.net.p)


def test_identical_responses_are_ties_that_nobody_flipped() -> None:
    found = balance([PairVerdict(winner="tie", identical=True)] * 3 + [TIED], groups=groups(4))
    assert (found.tie.value, found.identical) == (100, 3)
    assert (found.flips, found.flip_rate) == (1, 100)


def test_winning_everything_is_not_certainty() -> None:
    found = balance([WON] * 20, groups=groups(20))
    assert found.net is not None
    assert found.net.difference == 100
    assert found.net.ci95 is not None
    low, high = found.net.ci95
    assert low < 90
    assert high == pytest.approx(100)


def test_without_any_verdict_there_is_no_number() -> None:
    found = balance([NONE, replace(NONE, reason="unparsable reply")], groups=groups(2))
    assert found.win.value is None
    assert (found.win.n, found.win.unscored) == (0, 2)
    assert found.net is None
    assert found.flip_rate is None
    with pytest.raises(DataError, match="no items"):
        balance([], groups=[])


def test_margins_are_paired_in_points_of_the_scale() -> None:
    margins = [Fraction(3, 2), Fraction(-1, 2), Fraction(0), None]
    outcomes = [PairVerdict(winner="a", margin=m) if m is not None else NONE for m in margins]
    found = balance(outcomes, groups=groups(4))
    assert found.rating is not None
    assert found.rating.difference == pytest.approx(1 / 3)
    assert found.rating.n == 3
    assert found.flips is None  # a judge that rates sees no places


@pytest.mark.parametrize(
    ("said", "majority", "mean"),
    [
        ((WON, WON, LOST), "a", "a"),
        ((WON, LOST, TIED), "tie", "tie"),
        ((WON, TIED, TIED), "tie", "a"),
        ((LOST, LOST, LOST), "b", "b"),
        ((WON, NONE, NONE), "a", None),
        ((NONE, NONE, NONE), None, None),
        ((WON, LOST), "tie", "tie"),
    ],
)
def test_panels(said: tuple[PairVerdict, ...], majority: str | None, mean: str | None) -> None:
    rows = [[outcome] for outcome in said]
    assert panel_outcomes(rows, "majority")[0].winner == majority
    [found] = panel_outcomes(rows, "mean")
    assert found.winner == mean
    if mean is None:
        assert found.reason == "call failed: timeout"


def test_a_panel_of_raters_adds_up_margins_not_votes() -> None:
    rows = [
        [PairVerdict(winner="a", margin=Fraction(4))],
        [PairVerdict(winner="b", margin=Fraction(-1))],
    ]
    [found] = panel_outcomes(rows, "mean")
    assert (found.winner, found.margin) == ("a", Fraction(3, 2))
    [mixed] = panel_outcomes([rows[0], [LOST]], "mean")
    assert (mixed.winner, mixed.margin) == ("tie", None)
    assert NO_PANEL


def test_a_panel_has_judges_of_the_same_items() -> None:
    with pytest.raises(DataError, match="at least one judge"):
        panel_outcomes([], "mean")
    with pytest.raises(DataError, match="judge 2"):
        panel_outcomes([[WON], []], "majority")


def test_agreement_matrix() -> None:
    found = agreement_matrix(
        {"one": ["a", "b", "a", None], "two": ["a", "b", "b", "a"], "none": [None] * 4}
    )
    share = found["one", "two"]
    assert share.n == 3
    assert share.share == pytest.approx(200 / 3)
    assert share.kappa == pytest.approx((3 * 2 - (2 * 1 + 1 * 2)) / (9 - 4))
    assert found["one", "none"][:3] == (0, None, None)
    with pytest.raises(DataError, match="two"):
        agreement_matrix({"one": ["a"], "two": []})


def family(*, generous: float = 0, own: float = 0, better: float = 0) -> FamilyRatings:
    """Ratings of 40 items by two judges: one more generous, both for their own, one better."""
    noise = [(n % 7) / 10 for n in range(40)]
    return FamilyRatings(
        own_of_own=[3 + better + own + x for x in noise],
        own_of_other=[3 + x for x in noise],
        other_of_own=[3 + better + generous + x for x in noise],
        other_of_other=[3 + generous + own + x for x in noise],
    )


def test_favouring_the_own_family_is_told_from_being_strict_and_being_better() -> None:
    fair = family_preference(family(generous=1.0, better=0.7))
    assert fair.value == pytest.approx(0)
    biased = family_preference(family(generous=1.0, better=0.7, own=0.25))
    assert biased.value == pytest.approx(0.5)
    assert (biased.n, biased.unscored) == (40, 0)


def test_an_item_without_all_four_ratings_is_left_out() -> None:
    ratings = family(own=0.25)
    holed = ratings._replace(other_of_own=[None, *ratings.other_of_own[1:]])
    score = family_preference(holed)
    assert (score.n, score.unscored_reasons) == (39, {"a rating is missing": 1})
    with pytest.raises(DataError, match="own_of_other"):
        family_preference(ratings._replace(own_of_other=[1.0]))
