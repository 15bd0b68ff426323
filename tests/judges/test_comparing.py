"""Judge against judge, by hand."""

import pytest

from mipo_eval.errors import DataError
from mipo_eval.judges.panel import (
    FamilyRatings,
    agreement_matrix,
    family_preference,
)


def test_agreement_matrix() -> None:
    found = agreement_matrix(
        {"one": ["a", "b", "a", None], "two": ["a", "b", "b", "a"], "none": [None] * 4}
    )
    share = found["one", "two"]
    assert share.n == 3
    assert share.share == pytest.approx(200 / 3)
    assert share.kappa == pytest.approx((3 * 2 - (2 * 1 + 1 * 2)) / (9 - 4))
    assert found["one", "none"] == (0, None, None)
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
