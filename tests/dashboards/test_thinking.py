"""What models and judges thought, on the board: folded, beside what they said."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from mipo_eval.dashboards.links import run_name
from mipo_eval.dashboards.tables import pairs
from mipo_eval.models.thinking import CUT
from mipo_eval.store import Store
from mipo_eval.store.runs import list_runs
from mipo_eval.store.tables import calls, responses
from tests.dashboards.opening import open_page, texts
from tests.dashboards.scripted import make_store

_SECRET = "<script>alert('a thought')</script>"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store in which one response was thought about, and the next was cut while it was."""
    path = make_store(tmp_path / "s.db")
    with Store.open(str(path)) as store, store.write() as connection:
        run = _run(store)
        keys = connection.execute(
            sa.select(responses.c.item_key)
            .where(responses.c.generation_key == run.generation_key)
            .order_by(responses.c.item_key)
        ).scalars()
        first, second, *_ = keys
        of = responses.c.generation_key == run.generation_key
        thought = {"thinking": _SECRET, "thinking_tokens": 1_234}
        update = sa.update(responses).where(of)
        connection.execute(update.where(responses.c.item_key == first).values(thought))
        cut = {"text": None, "text_key": None, "reason": CUT, "finish_reason": "length"}
        connection.execute(update.where(responses.c.item_key == second).values(thought | cut))
        connection.execute(sa.update(calls).values(thinking="the judge's thought"))
    return path


def _run(store: Store):  # type: ignore[no-untyped-def]
    return next(run for run in list_runs(store) if run.suite == "tea")


def test_thinking_stands_folded_below_the_response(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store.open(str(path), mode="read") as store:
        run = _run(store)
        found = {
            place: one
            for place in range(40)
            if (one := pairs.detail(store, run.run_id, None, place)) and one.first.thinking
        }
    (thought, cut) = sorted(found.items(), key=lambda pair: pair[1].first.text is None)
    assert "1,234 tokens of thinking" in thought[1].first.note
    assert cut[1].first.reason == CUT
    for place, _ in (thought, cut):
        test = open_page(monkeypatch, path, "pairs", a=run_name(run), item=str(place))
        (fold,) = [one for one in test.expander if one.label == "Thinking"]
        assert "a thought" in "".join(element.body for element in fold.html)
        assert "<script>" not in texts(test)
    assert f"no text: {CUT}" in texts(test)
