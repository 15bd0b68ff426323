"""One reply of a judge can be dropped, and is asked for again; nothing else is."""

import asyncio
import json

import pytest
import sqlalchemy as sa

from mipo_eval import settings
from mipo_eval.cli import main
from mipo_eval.judges.judge import Judge
from mipo_eval.judges.presets import load_judge
from mipo_eval.judges.run import rate
from mipo_eval.models.base import ScriptedBackend
from mipo_eval.records import Item
from mipo_eval.store import Store
from mipo_eval.store.tables import calls, verdicts

ITEM = Item(item_id="i", prompt="Tea?", preferences=("Short.", "Kind."))


def _rate(*replies: str) -> int:
    like = load_judge("openai:m@http://localhost:1")
    backend = ScriptedBackend(list(replies))
    judge = Judge(name="scripted", spec="scripted:x", backend=backend, prompt=like.prompt)
    with Store.open(settings.store_url()) as store:
        asyncio.run(rate(store, judge, [(ITEM, "Yes.")]))
    return len(backend.asked)


def _rows() -> list[tuple[str, int | None]]:
    query = (
        sa.select(calls.c.call_key, verdicts.c.rating)
        .join(verdicts, verdicts.c.call_key == calls.c.call_key)
        .order_by(verdicts.c.aspect)
    )
    with Store.open(settings.store_url(), mode="read") as store, store.read() as connection:
        return [(key, rating) for key, rating in connection.execute(query)]


def test_one_call_can_be_dropped_and_is_asked_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert _rate("4", "no idea") == 2
    assert _rate() == 0  # an unreadable reply is read again, not asked again
    [(kept, _), (odd, rating)] = _rows()
    assert rating is None
    assert main(["store", "forget", odd[:10], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["forgotten"] == [odd]
    assert [key for key, _ in _rows()] == [kept]
    assert _rate("2") == 1
    assert [rating for _, rating in _rows()] == [4, 2]


@pytest.mark.parametrize("name", ["", "zz", "%"])
def test_what_names_no_single_call_is_refused(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _rate("4", "5")
    assert main(["store", "forget", name]) == 2
    assert "give the whole key" in capsys.readouterr().err
    assert len(_rows()) == 2
