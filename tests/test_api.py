"""The Python API: what it takes, what it returns, and where it can be called."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import mipo_eval
from mipo_eval.errors import BackendError, ConfigError, MipoEvalError
from mipo_eval.models.callable import CallableBackend
from mipo_eval.records import Item
from mipo_eval.results import EvaluationResult
from mipo_eval.store import Store
from mipo_eval.store.runs import list_runs

Chats = list[list[dict[str, str]]]
ITEMS = [
    {
        "item_id": f"tea-{n}",
        "prompt": f"Tea {n}?",
        "context": "I am nine.",
        "preferences": ["Be short."],
        "reference": "Tea is a drink.",
    }
    for n in range(3)
]


def echo(chats: Chats) -> list[str]:
    """Answer with the last line that was said."""
    return [f"You said: {chat[-1]['content'].splitlines()[-1]}" for chat in chats]


def four(chats: Chats) -> list[str]:
    """Rate everything 4."""
    return ["4"] * len(chats)


def value(result: EvaluationResult, metric: str) -> float | None:
    (score,) = [score for score in result.scores if score.name == metric]
    return score.value


def test_importing_the_package_loads_nothing_else() -> None:
    code = (
        "import sys, mipo_eval; assert set(mipo_eval.__all__) >= {'evaluate', 'judge', 'compare'}; "
        "print([name for name in sys.modules if name.startswith('mipo_eval')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['mipo_eval']"


def test_compare_is_the_function_also_beside_the_subpackage() -> None:
    code = (
        "import mipo_eval.compare.entrants; from mipo_eval import compare; "
        "from mipo_eval.compare.head_to_head import Match; print(compare.__module__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "mipo_eval.api"
    with pytest.raises(AttributeError, match="nothing_such"):
        _ = mipo_eval.nothing_such


def test_a_named_model_is_evaluated_as_by_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    from mipo_eval.cli import main

    result = mipo_eval.evaluate("demo", "demo", "checker", limit=3, decoding={"max_tokens": 8})
    told = ["--model", "demo", "--suite", "demo", "--judge", "checker", "--limit", "3"]
    assert main([*told, "--decoding", "max_tokens=8", "--json"]) == 0
    assert f'"run_id": "{result.run.run_id}"' in capsys.readouterr().out
    frame = result.to_pandas()
    assert list(frame["metric"]) == [score.name for score in result.scores]
    assert len(result.samples()) == 3
    assert "value [95 %]" in result._repr_html_()
    assert result.plot("rating_mean").to_dict()["layer"]
    with pytest.raises(ConfigError, match="no metric 'beauty' here: "):
        result.plot("beauty")


def test_a_function_is_a_model_and_another_one_a_judge() -> None:
    result = mipo_eval.evaluate(CallableBackend(echo, "echo v1"), ITEMS, four)
    assert (value(result, "rating_mean"), result.run.model) == (4.0, "echo v1")
    assert all((made.text or "").startswith("You said: ") for made in result.samples())
    assert result.scores[0].signature.parts["decoding"] == "own"


def test_a_function_with_a_name_is_found_again_and_one_without_is_not() -> None:
    asked: list[int] = []

    def counting(chats: Chats) -> list[str]:
        asked.append(len(chats))
        return echo(chats)

    named = CallableBackend(counting, "counting v1")
    first, again = (mipo_eval.evaluate(named, ITEMS) for _ in range(2))
    assert first.run.run_id == again.run.run_id
    assert asked == [3]
    one, other = (mipo_eval.evaluate(counting, ITEMS) for _ in range(2))
    assert one.run.run_id != other.run.run_id
    assert asked == [3, 3, 3]


@pytest.mark.parametrize("form", ["items", "frame", "dataset"])
def test_a_suite_may_be_rows_of_any_kind(form: str) -> None:
    suite: Any = [Item.model_validate(row) for row in ITEMS]
    if form == "frame":
        suite = pd.DataFrame([*ITEMS, {**ITEMS[0], "item_id": "bare", "reference": None}])[:3]
    if form == "dataset":
        from datasets import Dataset

        suite = Dataset.from_list(ITEMS)
    made = mipo_eval.evaluate(CallableBackend(echo, "echo"), suite).samples()
    assert [one.item.model_dump() for one in made] == [
        Item.model_validate(row).model_dump() for row in ITEMS
    ]


def test_a_loaded_model_is_what_its_folder_is(tiny_model: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    loaded = AutoModelForCausalLM.from_pretrained(tiny_model)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    short = {"max_tokens": 4}
    given = mipo_eval.evaluate((loaded, tokenizer), ITEMS, decoding=short)
    named = mipo_eval.evaluate(tiny_model, ITEMS, decoding=short)
    assert [made.text for made in given.samples()] == [made.text for made in named.samples()]
    assert given.run.model == tiny_model.name


def test_all_of_it_works_inside_a_running_loop() -> None:
    async def notebook() -> EvaluationResult:
        return mipo_eval.evaluate(CallableBackend(echo, "echo"), ITEMS, four)

    assert value(asyncio.run(notebook()), "rating_mean") == 4.0


def test_an_interrupt_inside_a_loop_stops_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    from concurrent.futures import Future

    entered, asked = threading.Event(), list[int]()

    def slow(chats: Chats) -> list[str]:
        asked.append(len(chats))
        entered.set()
        return echo(chats)

    def interrupted(self: Any, timeout: float | None = None) -> None:
        entered.wait(60)
        raise KeyboardInterrupt

    many = [{**ITEMS[0], "item_id": str(n)} for n in range(200)]

    async def notebook() -> None:
        monkeypatch.setattr(Future, "result", interrupted)
        mipo_eval.evaluate(CallableBackend(slow, "slow", batch_size=1), many)

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(notebook())
    assert 1 <= len(asked) < len(many)


def test_entrants_of_any_kind_are_judged() -> None:
    found = mipo_eval.judge(
        CallableBackend(echo, "echo"), "reference", suite=ITEMS, judge=four, protocol="rubric"
    )
    (match,) = found.matches
    assert match.balance.tie.value == 100.0
    assert len(found.samples()) == 3
    frame = found.to_pandas()
    assert frame.loc[frame["metric"] == "tie_rate", "value"].tolist() == [100.0]


def test_runs_are_compared_and_ranked() -> None:
    with mipo_eval.open_store("own.db") as store:
        judge = CallableBackend(four, "four")
        one = mipo_eval.evaluate(CallableBackend(echo, "one"), ITEMS, judge, store=store)
        two = mipo_eval.evaluate(CallableBackend(echo, "two"), ITEMS, judge, store=store)
        assert len(list_runs(store)) == 2
        found = mipo_eval.compare(one, two)
        duel = mipo_eval.judge(one, two, judge=judge, protocol="rubric")
        board = mipo_eval.leaderboard(store=store)
    (line,) = found.to_pandas().to_dict("records")
    assert (line["value"], line["n"]) == (0.0, 3)
    assert set(duel.to_pandas()["first"]) == {f"{one.run.run_id[:8]} one"}
    assert "loss_rate" in repr(duel)
    assert "one" in str(board.plot().to_dict())
    assert set(board.to_pandas()["model"]) == {"one", "two"}
    assert len(mipo_eval.leaderboard(store="own.db").to_pandas()) == 2


def test_what_one_function_judged_is_compared() -> None:
    """It has no name, and is one judge all the same."""
    results = [mipo_eval.evaluate(CallableBackend(echo, name), ITEMS, four) for name in "ab"]
    keys = {score.judge_key for one in results for score in one.scores if score.judge_key}
    assert len(keys) == 1
    assert "win_rate" in str(results[0])  # printed, it is the table
    assert "win_rate" not in repr(results[0])
    by_list, by_name = mipo_eval.compare(results), mipo_eval.compare(*results)
    assert by_list.to_pandas().equals(by_name.to_pandas())
    assert len(by_list.to_pandas()) == 1

    def other(chats: list[list[dict[str, str]]]) -> list[str]:
        return four(chats)

    third = mipo_eval.evaluate(CallableBackend(echo, "c"), ITEMS, other)
    with pytest.raises(MipoEvalError, match="no judge rated two of these runs"):
        mipo_eval.compare(results[0], third)


def test_a_judge_is_validated() -> None:
    line = '{"prompt": "Tea %d?", "chosen": "A long good drink", "rejected": "No"}\n'
    Path("pairs.jsonl").write_text("".join(line % n for n in range(6)))
    found = mipo_eval.validate(four, "pairs.jsonl", protocol="rubric")
    assert found.failings
    rates = found.to_pandas().set_index("metric")["value"]
    assert (rates["strict"], rates["tie_rate"]) == (0.0, 100.0)


def test_a_checkpoint_is_trained_and_evaluated() -> None:
    done = mipo_eval.train("mipo", "demo", "demo", "out", lr=1e-3, items={"limit": 4}, seed=3)
    assert (done.training.status, done.training.seed, done.checkpoint) == ("done", 3, "out")
    assert done.training.recipe["optimization"]["learning_rate"] == 1e-3
    assert "loss" in set(done.to_pandas()["metric"])
    assert done.plot("loss").to_dict()["layer"]


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (3, "a model is a name, a function, or \\(model, tokenizer\\), not int"),
        ((echo, four), "takes a loaded model of transformers"),
    ],
)
def test_what_is_no_model_is_told(model: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        mipo_eval.evaluate(model, ITEMS)


@pytest.mark.parametrize(
    ("suite", "told"),
    [({"item_id": "a"}, "not dict"), (["a"], "a row of a suite is"), (3, "not int")],
)
def test_what_is_no_suite_is_told(suite: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        mipo_eval.evaluate(echo, suite)


def test_an_unknown_option_is_told() -> None:
    with pytest.raises(ConfigError, match="unknown limits; known: prompting, "):
        mipo_eval.evaluate(echo, ITEMS, limits=3)
    with pytest.raises(ConfigError, match="unknown beauty; known: metric, "):
        mipo_eval.compare("abcd", store="none.db", beauty=1)
    with pytest.raises(ConfigError, match="does not support it"):
        mipo_eval.evaluate(echo, ITEMS, decoding={"temperature": 1})


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        (["a"], "f-.* returned 1 texts for 3 prompts"),
        ("abc", "returned 'abc', not a list of texts"),
        ([1, 2, 3], "not a list of texts"),
        (None, "ZeroDivisionError: division by zero \\(test_api.py, line"),
    ],
)
def test_a_function_that_answers_wrongly_is_told(answers: Sequence[Any] | None, told: str) -> None:
    def f(chats: Chats) -> Any:
        return 1 / 0 if answers is None else answers

    with pytest.raises(BackendError, match=told):
        mipo_eval.evaluate(f, ITEMS)
    with Store.open("store.db", mode="read") as store:
        assert list_runs(store)
