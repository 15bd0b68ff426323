"""Win rates and tie rate: every rule from the same ratings, nothing silently decided."""

import csv
import json
import math
import random
from pathlib import Path
from typing import get_args

import pytest

from mipo_eval.errors import ConfigError, DataError
from mipo_eval.metrics import win_rate
from mipo_eval.metrics.win_rate import Ties, outcome_rates, win_rates


@pytest.mark.parametrize(
    ("scores", "references", "win", "half", "loss", "tie"),
    [
        ([3, 3, 3, 3], [3, 3, 3, 3], 100, 50, 0, 100),  # a judge that always ties
        ([5, 3, 1, 3], [1, 3, 5, 4], 50, 37.5, 25, 25),
        ([5], [1], 100, 100, 100, 0),
        ([1.5], [2.5], 0, 0, 0, 0),
        ([5, None, 2, 4], [1, 1, None, 4], 100, 75, 50, 50),  # two items scored
    ],
)
def test_rules_from_the_same_ratings(scores, references, win, half, loss, tie) -> None:
    assert win_rate(scores, references).value == win
    assert win_rate(scores, references, ties="half").value == half
    assert win_rate(scores, references, ties="loss").value == loss
    assert [score.value for score in win_rates(scores, references)] == [win, half, loss, tie]


def test_names_and_signatures() -> None:
    assert [(score.metric, score.signature) for score in win_rates([1, 2], [1, 1])] == [
        ("win_rate_tie_inclusive", "ties:win"),
        ("win_rate_half_ties", "ties:half"),
        ("win_rate_strict", "ties:loss"),
        ("tie_rate", "ties:counted"),
    ]


def test_missing_ratings_are_counted_with_their_reason() -> None:
    score = win_rate([None, 1, None, 2], [1, None, None, 1])
    assert (score.n, score.unscored) == (1, 3)
    assert score.unscored_reasons == {"no score": 2, "no reference score": 1}
    told = win_rate(
        [None, 1, None, 2], [1, None, None, 1], reasons=["empty response", None, "timeout", "n/a"]
    )
    assert told.unscored_reasons == {
        "empty response": 1,
        "no reference score": 1,
        "timeout": 1,
    }


@pytest.mark.parametrize("ties", get_args(Ties))
def test_swapping_the_sides_mirrors_the_rate(ties: Ties) -> None:
    draw = random.Random(3)
    ours, theirs = ([draw.randint(1, 5) for _ in range(200)] for _ in range(2))
    mirrored: dict[Ties, Ties] = {"win": "loss", "half": "half", "loss": "win"}
    forward = win_rate(ours, theirs, ties=ties).value
    assert forward + win_rate(theirs, ours, ties=mirrored[ties]).value == pytest.approx(100)


def test_interval_is_over_groups() -> None:
    ours, theirs = [5, 5, 1, 1] * 25, [3] * 100
    items = win_rate(ours, theirs)
    pairs = win_rate(ours, theirs, groups=[i // 2 for i in range(100)])
    assert items.ci95 is not None
    assert pairs.ci95 is not None
    # Both items of a group agree, so 50 groups know as much as 50 items: sqrt(2) wider.
    widths = [high - low for low, high in (items.ci95, pairs.ci95)]
    assert widths[1] / widths[0] == pytest.approx(math.sqrt(2), rel=0.1)
    assert win_rate(ours, theirs, groups=["one"] * 100).ci95 is None


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: win_rate([1], [1], ties="draw"), ConfigError, "known: win, half, loss"),  # type: ignore[arg-type]
        (lambda: win_rate([None], [1]), DataError, "none of 1 items has a value"),
        (lambda: win_rate([], []), DataError, "no items"),
        (lambda: win_rate([1, 2], [1]), DataError, "2 entries but reference_scores has 1"),
        (lambda: win_rate([1], [1], groups=[]), DataError, "groups has 0"),
        (lambda: win_rate([1], [1], reasons=[]), DataError, "reasons has 0"),
        (lambda: win_rate([math.nan], [1]), DataError, r"scores\[0\] is nan; use None"),
        (lambda: win_rate([1], [math.nan]), DataError, r"reference_scores\[0\] is nan"),
    ],
)
def test_errors_say_what_is_wrong(call, error, message) -> None:
    with pytest.raises(error, match=message):
        call()


def test_a_perfect_record_is_not_certain() -> None:
    assert win_rate([5] * 20, [1] * 20).ci95 == pytest.approx((83.157, 100), abs=1e-3)
    assert win_rate([1] * 20, [5] * 20).ci95 == pytest.approx((0, 16.843), abs=1e-3)
    always = win_rates([3] * 20, [3] * 20)
    assert [s.ci95 for s in always[:2]] == [
        pytest.approx((83.157, 100), abs=1e-3),
        pytest.approx((41.578, 58.422), abs=1e-3),  # a tie unseen could be a win or a loss
    ]


@pytest.mark.parametrize("ties", get_args(Ties))
def test_verdicts_and_ratings_of_the_same_order_agree(ties: Ties) -> None:
    outcomes = [1, 0.5, 0, None, 1, 0.5]
    ratings = [5, 3, 1, None, 4, 2], [1, 3, 2, 2, 1, 2]
    by_verdict = {score.metric: score for score in outcome_rates(outcomes)}
    by_rating = win_rate(*ratings, ties=ties)
    verdict = by_verdict[by_rating.metric]
    assert (verdict.value, verdict.ci95, verdict.n) == (
        by_rating.value,
        by_rating.ci95,
        by_rating.n,
    )
    assert verdict.unscored_reasons == {"no verdict": 1}


def test_outcomes_are_between_zero_and_one() -> None:
    with pytest.raises(DataError, match=r"outcomes\[1\] is 2; 1 is a win, 0.5 a tie"):
        outcome_rates([1, 2])
    with pytest.raises(DataError, match="none of 1 items"):
        outcome_rates([None])


BOARDS = {
    "slim_weighted_gpt4_turbo.jsonl": "weighted_alpaca_eval_gpt4_turbo",
    "slim_alpaca_eval_gpt4.jsonl": "alpaca_eval_gpt4",
}


@pytest.mark.parametrize("name", BOARDS)
def test_published_figures_of_alpaca_eval(shared_data: Path, name: str) -> None:
    truth = json.loads((shared_data / "alpaca_eval" / "GROUND_TRUTH.json").read_text())
    lines = (shared_data / "alpaca_eval" / name).read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) >= 18
    for row in rows:
        own = truth[BOARDS[name]][row["model"]]["published"]
        # 1 to 2; alpaca_eval writes 0 for a tie of identical answers.
        outcomes = [None if p is None else 0.5 if p == 0 else p - 1 for p in row["preference"]]
        _, half_ties, wins, ties = outcome_rates(outcomes)
        assert half_ties.value == pytest.approx(own["discrete_win_rate"], abs=1e-6)
        assert half_ties.n == own["n_total"]
        for share, key in ((wins, "n_wins"), (ties, "n_draws")):
            assert share.value == pytest.approx(100 * own[key] / own["n_total"])


def test_single_run_cells_of_table_1_are_whole_counts(shared_data: Path) -> None:
    """Only "a tie is a win" makes them so; with half-ties half of them would end in .5."""
    table = shared_data.parent / "paper" / "table1_personalization_win_rate.csv"
    with table.open(encoding="utf-8") as lines:
        cells = [row for row in csv.DictReader(lines) if row["n_seeds"] == "1"]
    assert len(cells) == 54
    for cell in cells:
        n, printed = int(cell["n_test"]), cell["win_rate_pct"]
        wins = round(float(printed) * n / 100)
        # As far from a whole count as the printed digits allow (some were rounded twice).
        digits = max(1, len(printed.partition(".")[2]))
        ours = win_rate([2] * (wins // 2) + [1] * (wins - wins // 2) + [0] * (n - wins), [1] * n)
        assert ours.value == pytest.approx(float(printed), abs=0.55 * 10**-digits)
