"""`mipo-eval judges noise` and `drift`: real stores, a local judge that changes its mind."""

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from mipo_eval.cli import main
from mipo_eval.records import Item
from mipo_eval.store import Store
from mipo_eval.store.tables import calls, choices, verdicts
from mipo_eval.tasks.items import write_items
from tests.servers.http import Act, Call
from tests.servers.openai_server import OpenAIServer, broken, ok

N = 20


def run(capsys: pytest.CaptureFixture[str], *argv: str, code: int = 0) -> Any:
    capsys.readouterr()
    assert main([*argv, "--json"]) == code
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def runs() -> tuple[str, str]:
    """Two stored runs over twenty items of ten prompts: files that nothing judged yet."""
    items = [
        Item(
            item_id=f"item-{n}",
            prompt=f"What is tea number {n}?",
            preferences=("Keep it short.",),
            reference=f"Tea number {n} is a drink.",
            group_id=f"tea-{n // 2}",
        )
        for n in range(N)
    ]
    write_items(Path("tea.jsonl"), items)
    for name in ("good", "bad"):
        rows = [{"item_id": f"item-{n}", "response": f"A {name} answer {n}."} for n in range(N)]
        Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return "good.jsonl", "bad.jsonl"


def text_of(call: Call) -> str:
    return str(call.body["messages"][-1]["content"])


def likes_good(call: Call) -> Act:
    """Rate a good answer 4 and all else 3; of two, name the place of the good one."""
    text = text_of(call)
    if "response_a" not in text:
        return ok("4" if "A good answer" in text else "3")
    return ok("response_a" if text.index("A good") < text.index("A bad") else "response_b")


class Fickle:
    """Answers as `likes_good` the first time it is asked something, then the other way."""

    def __init__(self, unlike: int = 1_000) -> None:
        self.seen: Counter[str] = Counter()
        self.seeds: set[int] = set()
        self.unlike = unlike
        """How many repeated questions are answered the other way."""

    def __call__(self, call: Call) -> Act:
        text = text_of(call)
        self.seen[text] += 1
        self.seeds.add(call.body["seed"])
        if self.seen[text] == 1 or self.unlike <= 0:
            return likes_good(call)
        self.unlike -= 1
        if "response_a" not in text:
            return ok("1" if "A good answer" in text else "3")
        return ok("response_b" if text.index("A good") < text.index("A bad") else "response_a")


def judged(
    capsys: pytest.CaptureFixture[str], server: OpenAIServer, runs: tuple[str, str], protocol: str
) -> tuple[str, ...]:
    """Judge the runs against each other; return what asks again about them."""
    judge = ("--judge", f"openai:judge@{server.url}")
    argv = ("judge", *runs, "--suite", "tea.jsonl", *judge, "--protocol", protocol)
    first, second = (one["run_id"] for one in run(capsys, *argv)["entrants"])
    return (first, "--against", second, *judge)


def stored() -> list[Any]:
    with Store.open("store.db", mode="read") as store, store.read() as connection:
        return [
            connection.execute(sa.select(table).order_by(*table.primary_key)).all()
            for table in (verdicts, choices)
        ]


@pytest.mark.parametrize("protocol", ["rubric", "pairwise"])
def test_a_judge_that_always_says_the_same_has_no_noise(
    runs: tuple[str, str], capsys: pytest.CaptureFixture[str], protocol: str
) -> None:
    with OpenAIServer(likes_good) as server:
        about = judged(capsys, server, runs, protocol)
        before, asked = stored(), server.chats
        document = run(capsys, "judges", "noise", *about, "--repeat", "3")
        # A fifth of 20 items, each with two questions, three times over.
        assert server.chats == asked + 4 * 2 * 3
        again = run(capsys, "judges", "noise", *about, "--repeat", "3")
        assert server.chats == asked + 4 * 2 * 3  # nothing is paid for twice
        assert again["noise"] == document["noise"]
        assert stored() == before
    (found,) = document["noise"]
    assert (found["task"], found["asked"], found["missing"]) == ("tea", 4, {})
    assert found["win_rate"]["value"] == 100
    assert found["win_rate"]["sd_between_askings"]["value"] == 0
    assert found["verdicts"]["share"] == 100
    assert (found["rating_difference"] is None) is (protocol == "pairwise")


def test_noise_is_part_of_the_interval(
    runs: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    fickle = Fickle()
    with OpenAIServer(fickle) as server:
        about = judged(capsys, server, runs, "rubric")
        (found,) = run(capsys, "judges", "noise", *about, "--repeat", "1", "--share", "0.5")[
            "noise"
        ]
        # First good is ahead by a point, then behind by two: sd 3 / sqrt(2), and of wins 100 / it.
        assert found["asked"] == 10
        assert found["rating_difference"]["sd_between_askings"]["value"] == pytest.approx(4.5**0.5)
        assert found["win_rate"]["sd_between_askings"]["value"] == pytest.approx(5000**0.5)
        assert found["win_rate"]["error_of_noise"] == pytest.approx((5000 / N) ** 0.5)
        assert (found["verdicts"]["n"], found["verdicts"]["share"]) == (10, 0)
        assert (found["replies"]["n"], found["replies"]["share"]) == (20, 50)
        assert fickle.seeds == {0, 1}  # with a temperature it is another draw
        capsys.readouterr()
        assert main(["judges", "noise", *about, "--repeat", "1", "--share", "0.5"]) == 0
        shown = capsys.readouterr().out
    assert "judge asked once more about 10 of 20 items" in shown
    assert "verdicts 0.0 %" in shown


def test_a_larger_share_asks_only_for_what_is_new_and_what_failed_is_asked_again(
    runs: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    down = False

    def answer(call: Call) -> Act:
        return broken(400) if down else likes_good(call)

    with OpenAIServer(answer) as server:
        about = ("judges", "noise", *judged(capsys, server, runs, "pairwise"), "--repeat", "1")
        asked = server.chats
        run(capsys, *about, "--share", "0.1")
        assert server.chats == asked + 2 * 2
        run(capsys, *about, "--share", "0.2")
        assert server.chats == asked + 4 * 2
        down = True
        document = run(capsys, *about, "--share", "0.5", code=2)
        (found,) = document["noise"]
        assert found["missing"] == {"call failed: bad_request": 6}
        assert found["verdicts"]["n"] == 4
        down = False
        (found,) = run(capsys, *about, "--share", "0.5")["noise"]
        assert (found["missing"], found["verdicts"]["n"]) == ({}, 10)


def test_drift_is_kept_by_day_and_verdicts_stay(
    runs: tuple[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def on(day: int) -> None:
        from mipo_eval.store import engine

        monkeypatch.setattr(engine, "now", lambda: datetime(2026, 3, day, tzinfo=UTC))

    fickle = Fickle(unlike=0)
    with OpenAIServer(fickle) as server:
        about = ("judges", "drift", *judged(capsys, server, runs, "pairwise"), "--share", "0.5")
        before, asked = stored(), server.chats
        on(1)
        (found,) = run(capsys, *about)["drift"]
        assert server.chats == asked + 10 * 2
        assert fickle.seeds == {0}
        assert (found["day"], found["changed"]["value"], found["kept"]) == ("2026-03-01", 0, True)
        assert found["changed"]["ci95"][1] > 20  # ten items cannot show that nothing changed
        run(capsys, *about)
        assert server.chats == asked + 10 * 2  # the same day is the same asking
        on(9)
        fickle.unlike = 4
        (found,) = run(capsys, *about)["drift"]
        assert server.chats == asked + 2 * 10 * 2
        assert found["changed"]["value"] == pytest.approx(100 * sum(found["changes"].values()) / 10)
        assert 20 <= found["changed"]["value"] <= 40
        assert found["win_rate_difference"]["value"] <= -10
        assert [past["day"] for past in found["earlier"]] == ["2026-03-01"]
        assert stored() == before
        capsys.readouterr()
        assert main([*about]) == 0
        assert "On 2026-03-01: 0.0 [0.0," in capsys.readouterr().out
    with Store.open("store.db", mode="read") as store, store.read() as connection:
        made = connection.execute(sa.select(sa.func.count()).select_from(calls)).scalar_one()
    assert made == 2 * N + 2 * 10 * 2


def test_who_cannot_be_asked_again(
    runs: tuple[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*argv: str) -> str:
        capsys.readouterr()
        assert main(argv) == 2
        return capsys.readouterr().err

    with OpenAIServer(likes_good) as server:
        about = judged(capsys, server, runs, "pairwise")
        first, _, _, *judge = about
        assert "has no verdict on run" in refused("judges", "noise", first, *judge)
        own = ("--against", first)
        assert "names the same run as RUN" in refused("judges", "noise", first, *own, *judge)
        assert "none.db" in refused("judges", "drift", first, *judge, "--store", "none.db")
        assert not Path("none.db").exists()
        assert "no judge 'x'" in refused("judges", "noise", first, "--judge", "x")
        monkeypatch.setattr("mipo_eval.judges.judge.PARSER_VERSION", "999")
        assert "has changed since it judged" in refused("judges", "drift", *about)
