"""Stored replies read again by another parser, without a call; what a call is keyed on."""

import asyncio
from pathlib import Path

import pytest
import sqlalchemy as sa

from mipo_eval.errors import DataError
from mipo_eval.judges import Judge, load_judge
from mipo_eval.judges import judge as judge_module
from mipo_eval.judges.explaining import explain_call
from mipo_eval.judges.judging import rate
from mipo_eval.judges.reparsing import older_judges, reparse
from mipo_eval.models import Failure, Request
from mipo_eval.models.base import ScriptedBackend, ScriptedReply
from mipo_eval.records import Item, text_key
from mipo_eval.store import Store
from mipo_eval.store.tables import calls
from mipo_eval.store.verdicts import ratings_of

ITEMS = [
    Item(item_id=str(n), prompt=f"question {n}", preferences=("Be brief.", "Be kind."))
    for n in range(6)
]


def reply(request: Request) -> ScriptedReply:
    if request.slots["query"] == "question 0":
        return Failure(kind="timeout", detail="slow")
    return "Rating: 4" if "brief" in request.slots["preference"] else "no number"


def make_judge() -> Judge:
    prompt = load_judge("openai:m@http://localhost:1").prompt
    return Judge(name="s", spec="scripted", backend=ScriptedBackend(reply), prompt=prompt)


def store_ratings(path: Path) -> Store:
    store = Store.open(str(path))
    asyncio.run(rate(store, make_judge(), [(item, "text") for item in ITEMS]))
    return store


def test_replies_are_read_again_under_a_new_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store_ratings(tmp_path / "store.db") as store:
        old = make_judge()
        assert older_judges(store, old) == ()
        # The next parser reads "no number" as a 1.
        monkeypatch.setattr(judge_module, "PARSER_VERSION", "next")
        monkeypatch.setattr(
            "mipo_eval.judges.rubric.parse_rating", lambda text, *_: 4 if "4" in text else 1
        )
        new = make_judge()
        assert new.key != old.key
        assert older_judges(store, new) == (old.key,)
        done = reparse(store, new, older_judges(store, new))
        assert done == (12, 5, 2)
        assert len(new.backend.asked) == 0  # type: ignore[attr-defined]
        found = ratings_of(store, ITEMS[1].key, text_key("text"))
        expected = [("s", 0, 4, None)] * 2 + [("s", 1, 1, None), ("s", 1, None, "unparsable reply")]
        assert sorted(found, key=str) == sorted(expected, key=str)


def test_reading_again_with_the_same_parser_changes_nothing(tmp_path: Path) -> None:
    with store_ratings(tmp_path / "store.db") as store:
        judge = make_judge()
        assert reparse(store, judge, [judge.key]) == (12, 0, 7)


def test_a_judge_that_asked_otherwise_is_not_older(tmp_path: Path) -> None:
    with store_ratings(tmp_path / "store.db") as store:
        other = Judge(
            name="s",
            spec="scripted",
            backend=ScriptedBackend(reply, name="another"),
            prompt=make_judge().prompt,
        )
        assert older_judges(store, other) == ()


def test_a_call_tells_what_it_was_keyed_on(tmp_path: Path) -> None:
    with store_ratings(tmp_path / "store.db") as store:
        with store.read() as connection:
            key = connection.execute(
                sa.select(calls.c.call_key).where(calls.c.status == "ok").limit(1)
            ).scalar_one()
        call = explain_call(store, key[:10])
        assert (call.key, call.status) == (key, "ok")
        assert call.backend == {"backend": "scripted", "model": "scripted"}
        assert call.request["sampling"]["temperature"] == 0
        assert "Be " in call.request["messages"][0]["content"]
        with pytest.raises(DataError, match="no call begins with 'zzz'"):
            explain_call(store, "zzz")
        with pytest.raises(DataError, match="several calls begin with ''"):
            explain_call(store, "")
        with store.write() as connection:
            connection.execute(
                calls.update().where(calls.c.call_key == key).values(backend={"backend": "x"})
            )
        with pytest.raises(DataError, match="is damaged"):
            explain_call(store, key)
