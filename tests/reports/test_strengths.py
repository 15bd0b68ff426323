"""Strengths of methods head to head: from ratings, from choices in both orders, or none."""

import json
from pathlib import Path
from typing import Any

import pytest

from mipo_eval.cli import main
from mipo_eval.records import text_key
from mipo_eval.stats import Game, bradley_terry
from mipo_eval.store import Store
from mipo_eval.store.judges import put_judge
from mipo_eval.store.verdicts import put_choices
from mipo_eval.verdict import Choice, Shown
from tests.reports.judged import ITEMS, add_rater, add_run, open_store, text_of

MODELS = ["one-1b", "two-1b", "three-1b"]
NAMES = {model: f"{model} Personalized prompting" for model in MODELS}


def rating(model: str, number: int, aspect: int) -> int:
    """Each is the best of every third item, and "three" on odd ones, too; never a tie with it."""
    return 5 if MODELS.index(model) == number % 3 else 4 if "three" in model and number % 2 else 2


def _strengths(capsys: pytest.CaptureFixture[str], store: Path, *argv: str) -> Any:
    capsys.readouterr()
    assert main(["leaderboard", "--strengths", "--json", "--store", str(store), *argv]) == 0
    return json.loads(capsys.readouterr().out)["strengths"]


def test_ratings_of_a_judge_are_games(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open_store(tmp_path) as store:
        for model in MODELS:
            add_run(store, model)
        add_rater(
            store, "judge", MODELS, lambda m, n, a: 3 if m == "reference" else rating(m, n, a)
        )
    games = []
    for first, second in [("one-1b", "two-1b"), ("one-1b", "three-1b"), ("two-1b", "three-1b")]:
        for number, item in enumerate(ITEMS):
            ahead = rating(first, number, 0) - rating(second, number, 0)
            credit = 1.0 if ahead > 0 else 0.5 if ahead == 0 else 0.0
            games.append(Game(NAMES[first], NAMES[second], credit, item.group))
    (found,) = _strengths(capsys, tmp_path / "judged.db")
    assert (found["suite"], found["games"], found["reason"]) == ("tea", 72, None)
    expected = {one.name: one for one in bradley_terry(games)}
    assert found["methods"][0]["name"] == NAMES["three-1b"]
    for one in found["methods"]:
        own = expected[one["name"]]
        assert one["elo"] == pytest.approx(own.elo)
        assert one["elo_ci95"] == pytest.approx(list(own.elo_ci95))
        assert one["games"] == 48
    assert main(["leaderboard", "--strengths", "--store", str(tmp_path / "judged.db")]) == 0
    assert "strengths head to head, judged by judge" in capsys.readouterr().out


def choose(store: Store, model: str, other: str, winners: list[tuple[str, ...]]) -> None:
    """Store a pairwise judge's choices, in both orders or in one."""
    put_judge(store, "chooser".ljust(32, "0"), "chooser", {"protocol": "pairwise"})
    orders: tuple[Shown, Shown] = ("a", "b")
    choices = [
        Choice(
            judge_key="chooser".ljust(32, "0"),
            item_key=ITEMS[number].key,
            text_key_a=text_key(text_of(model, number)),
            text_key_b=text_key(text_of(other, number)),
            shown_first=shown,
            winner=winner,  # type: ignore[arg-type]
        )
        for number, both in enumerate(winners)
        for shown, winner in zip(orders, both, strict=False)
    ]
    with store.write() as connection:
        put_choices(store, connection, choices)


def test_choices_in_both_orders_are_games(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_store(tmp_path) as store:
        for model in MODELS[:2]:
            add_run(store, model)
        choose(store, *MODELS[:2], [("a", "a")] * 12 + [("b", "b")] * 4 + [("a", "b")] * 8)
    (found,) = _strengths(capsys, tmp_path / "judged.db")
    first, second = found["methods"]
    assert (first["name"], first["games"]) == (NAMES["one-1b"], 24)
    # 12 won, 4 lost, 8 flipped and so tied: (12 + 4) to (4 + 4), log-odds log 2.
    assert first["elo"] - second["elo"] == pytest.approx(400 * 0.30102999566)


def test_a_method_that_always_wins_has_no_strength(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "judged.db"
    with open_store(tmp_path) as store:
        for model in MODELS[:2]:
            add_run(store, model)
    assert _strengths(capsys, path) == []
    with open_store(tmp_path) as store:
        choose(store, *MODELS[:2], [("a", "a")] * 24)
    (found,) = _strengths(capsys, path)
    assert found["methods"] == []
    assert "no finite solution" in found["reason"]
    assert _strengths(capsys, path, "--suite", "coffee") == []


def test_one_order_is_no_game_and_equal_responses_are_a_tie(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `judge A B` counts them; where nobody judged anything there are no games at all."""
    path = tmp_path / "judged.db"
    with open_store(tmp_path) as store:
        for model in MODELS[:2]:
            add_run(store, model, same=range(20, 24))
    assert _strengths(capsys, path) == []
    with open_store(tmp_path) as store:
        choose(store, *MODELS[:2], [("a", "a")] * 9 + [("b", "b")] * 3 + [("a",)] * 8)
    (found,) = _strengths(capsys, path)
    assert found["games"] == 16
