"""What a user calls a suite, a data set or a model is never taken for a name of ours."""

from pathlib import Path

import pytest

from mipo_eval.signature import short
from mipo_eval.store import Store
from mipo_eval.store.items import put_list
from mipo_eval.store.judges import put_judge
from tests.dashboards.opening import open_page, texts
from tests.dashboards.scripted import RATER, items, run_of

NAMES = (
    *("items", "method", "model", "source", "group", "row", "run", "value", "task", "metric"),
    *("mean", "none", "all", "0", "0.n", "index", "tea \u00b7 95 %", "a" * 200),
    *("a/b\\c\n[x](y) | <b>", "\u202eevil\u202c", "=1+1"),
)
"""Columns, options and keys of the board, and what a file may be called."""


def _store(path: Path, names: tuple[str, ...]) -> Path:
    of = items(12)
    with Store.open(str(path)) as store:
        put_judge(store, RATER, "rater", {"judge_key": short(RATER), "protocol": "rubric"})
        for name in names:
            list_key, _ = put_list(store, [(name, of)])
            for place, model in enumerate(("method", "items")):
                texts_of = [f"{model} {n} {'word ' * place}" for n in range(len(of))]
                about = (model, "personalized", name)
                run_of(store, about, (list_key, of, texts_of), place)
    return path


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _store(tmp_path_factory.mktemp("named") / "s.db", NAMES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("page", ["leaderboard", "comparison"])
def test_data_sets_may_be_called_anything(
    page: str, name: str, named: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mipo_eval.dashboards.markup import label

    drawn = open_page(monkeypatch, named, page, suite=label(name))
    assert drawn.selectbox(key="suite").value == name
    assert drawn.dataframe
    assert "cannot show" not in texts(drawn)
