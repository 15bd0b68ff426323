"""The numbers of made methods, from responses to the leaderboard and the board."""

from collections.abc import Callable, Collection

import pytest

import mipo_eval
from mipo_eval.cli import main
from mipo_eval.evaluation.wishes import DIMENSIONS
from mipo_eval.everyday.answers import answer
from mipo_eval.everyday.tables import FACTS_LEFT_OUT, PLAIN
from mipo_eval.keys import item_rng
from mipo_eval.models.callable import CallableBackend
from mipo_eval.records import Item
from mipo_eval.reports.leaderboard import LeaderboardQuery, leaderboard
from mipo_eval.results import EvaluationResult
from mipo_eval.settings import store_url
from mipo_eval.store import Store
from mipo_eval.store.judges import find_judge
from mipo_eval.store.runs import list_runs
from mipo_eval.tasks.sources import load_source
from tests.reports.sheets import assert_like_stored

LIMIT = 80
ITEMS = list(load_source("everyday"))[:LIMIT]
Follow = Callable[[Item], Collection[str]]


def without(*names: str) -> Follow:
    return lambda item: [name for name in item.meta["wishes"] if name not in names]


METHODS: dict[str, Follow] = {
    "follows nothing": lambda item: [FACTS_LEFT_OUT, PLAIN],
    "follows wishes": without(),
    "drags everything in": without(FACTS_LEFT_OUT, PLAIN),
    "follows every second": lambda item: [
        *item.meta["wishes"][: len(item.meta["wishes"]) // 2],
        FACTS_LEFT_OUT,
        PLAIN,
    ],
}
HEAP = "- **Rice** is for example 5 €.\n\n| a | b |\n| --- | --- |\n🙂 In short, be careful, Nora!"


def evaluated(name: str, write: Callable[[Item], str]) -> EvaluationResult:
    """The result of a method that is a function of the item."""

    def respond(chats: list[list[dict[str, str]]]) -> list[str]:
        told = ["\n".join(turn["content"] for turn in chat) for chat in chats]
        return [
            next(write(item) for item in ITEMS if item.prompt in text and item.context in text)
            for text in told
        ]

    return mipo_eval.evaluate(CallableBackend(respond, name), "everyday", limit=LIMIT)


@pytest.fixture
def results() -> dict[str, EvaluationResult]:
    def method(follow: Follow) -> Callable[[Item], str]:
        return lambda item: answer(item, follow(item), item_rng(0, item.item_id))

    made = {name: evaluated(name, method(follow)) for name, follow in METHODS.items()}
    return made | {"heaps all marks": evaluated("heaps all marks", lambda _: HEAP)}


def numbers(result: EvaluationResult) -> dict[str, float]:
    return {score.name: score.value or 0.0 for score in result.scores}


def test_who_personalizes_everything_does_not_look_best(
    results: dict[str, EvaluationResult], capsys: pytest.CaptureFixture[str]
) -> None:
    found = {name: numbers(result) for name, result in results.items()}
    best = found["follows wishes"]
    assert (best["satisfied"], best["restraint"], best["rating_mean"]) == (100, 100, 5)
    assert all(best[f"satisfied_{dimension}"] == 100 for dimension in DIMENSIONS)
    assert found["follows nothing"]["satisfied"] < 20
    assert found["follows nothing"]["restraint"] == 100
    assert 30 < found["follows every second"]["satisfied"] < 80
    for worst in ("drags everything in", "heaps all marks"):
        assert max(found[worst]["satisfied"], found[worst]["restraint"]) < 2, worst
    assert found["drags everything in"]["followed"] > 50  # told apart from who follows nothing, too
    assert found["heaps all marks"]["followed"] < 2
    for name in METHODS.keys() - {"drags everything in"}:
        assert found[name]["followed"] == pytest.approx(found[name]["satisfied"]), name
    (score,) = [one for one in results["follows nothing"].scores if one.name == "satisfied"]
    assert (score.n, dict(score.unscored_reasons)) == (60, {})
    assert score.ci95 is not None
    assert score.ci95[0] < (score.value or 0) < score.ci95[1]

    with Store.open(store_url()) as store:
        sections = leaderboard(store, LeaderboardQuery())
        key = find_judge(store, "checker").key
        for metric in ("satisfied", "restraint", "followed", "satisfied_form"):
            assert_like_stored(store, list_runs(store), metric, key)
    (section,) = [section for section in sections if section.judge]
    assert section.metric == "satisfied"
    assert [row.name.model for row in section.rows][:2] == [
        "follows wishes",
        "follows every second",
    ]
    runs = [results[name].run.run_id for name in ("follows wishes", "follows nothing")]
    assert main(["compare", *runs]) == 0
    assert "everyday: satisfied" in capsys.readouterr().out
