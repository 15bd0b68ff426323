"""Stores of earlier versions open: each step is done once, from the first schema on."""

import json
from pathlib import Path

import pytest
import sqlalchemy as sa

from mipo_eval.errors import StoreError
from mipo_eval.keys import digest
from mipo_eval.signature import join
from mipo_eval.store import Store
from mipo_eval.store.migrations import LATEST, MIGRATIONS, schema_version
from mipo_eval.store.runs import get_scores
from mipo_eval.store.tables import metadata

_SCHEMA_1 = (
    "create table schema_info (name varchar(32) primary key, value text not null)",
    """create table judges (
        judge_key varchar(32) primary key, name text not null, spec json not null)""",
    """create table scores (
        run_id varchar(32) not null, task varchar(64) not null, metric varchar(64) not null,
        signature_key varchar(32) not null, value float, n integer not null,
        unscored_reasons json not null, ci_low float, ci_high float, signature text not null,
        created_at timestamp not null,
        primary key (run_id, task, metric, signature_key))""",
)
"""The tables of the first version that a later step changes, as they were made then."""

_ABOUT = "suite:tea@1|items:1a2b3c4d|seed:0"
_BY = "judge:keen|judge_key:a37789df|protocol:rubric|prompt:d80c654c|parser:1"
_OLD = (
    ("win_rate_strict", f"{_ABOUT}|{_BY}|ties:loss|version:0.1.0"),
    ("control_echo_win_rate_strict", f"{_ABOUT}|{_BY}|ties:loss|version:0.1.0"),
    ("self_bleu_4", f"{_ABOUT}|tok:13a|version:0.1.0"),
    ("win_rate", "suite:alpaca_eval vs base|source:alpaca_eval|judge:j|orders:one|version:0.1.0"),
    ("accuracy", ""),
)


def first_store(url: str) -> None:
    """Make what the first version made, with a score of every kind."""
    engine = sa.create_engine(url if "://" in url else f"sqlite:///{url}")
    with engine.begin() as connection:
        for statement in _SCHEMA_1:
            connection.exec_driver_sql(statement)
        connection.execute(sa.text("insert into schema_info values ('schema_version', '1')"))
        spec = json.dumps({"imported": "alpaca_eval", "name": "j"})
        connection.execute(
            sa.text("insert into judges values ('43ed3009ff', 'j', :spec)"), {"spec": spec}
        )
        for place, (metric, signature) in enumerate(_OLD):
            connection.execute(
                sa.text(
                    "insert into scores values ('run', 'tea', :metric, :key, :value, 4, '{}', "
                    "null, null, :signature, '2026-11-01 00:00:00')"
                ),
                {
                    "metric": metric,
                    "key": digest(signature),
                    "value": float(place),
                    "signature": signature,
                },
            )
    engine.dispose()


@pytest.mark.parametrize("where", ["sqlite", "postgresql"])
@pytest.mark.parametrize("mode", ["read", "write"])
def test_a_store_of_the_first_version_opens(
    where: str, mode: str, request: pytest.FixtureRequest
) -> None:
    url = "old.db" if where == "sqlite" else request.getfixturevalue("postgres_url")
    first_store(url)
    with Store.open(url, mode=mode) as store:  # type: ignore[arg-type]
        found = {score.name: score for score in get_scores(store, "run")}
        with store.read() as connection:
            (n,) = (c for c in sa.inspect(connection).get_columns("scores") if c["name"] == "n")
            assert n["nullable"]  # other tools do not always say over how many items
            assert schema_version(connection) == LATEST
            tables = set(sa.inspect(connection).get_table_names())
    assert tables >= set(metadata.tables)
    assert {name: score.value for name, score in found.items()} == {
        metric: float(place) for place, (metric, _) in enumerate(_OLD)
    }
    own, control = found["win_rate_strict"], found["control_echo_win_rate_strict"]
    assert own.signature == _OLD[0][1]
    assert (own.judge, own.judge_key, own.control) == ("keen", "a37789df", None)
    assert (control.metric, control.control) == ("win_rate_strict", "echo")
    # As the main job writes it now: the same number made again replaces it.
    by = join(judge="keen", judge_key="a37789df", protocol="rubric", prompt="d80c654c", parser="1")
    rest = join(control="echo").followed_by(join(ties="loss", version="0.1.0"))
    about = join(suite="tea@1", items="1a2b3c4d", seed=0)
    assert control.signature == about.followed_by(by, rest)
    imported = found["win_rate"]
    assert (imported.is_imported, imported.judge_key) == (True, "43ed3009")
    assert found["accuracy"].signature == ""


def test_steps_are_numbered_without_a_gap_and_done_once() -> None:
    assert list(MIGRATIONS) == list(range(2, LATEST + 1))
    first_store("old.db")
    for _ in range(2):
        with Store.open("old.db") as store:
            again = get_scores(store, "run")
    assert len(again) == len(_OLD)


def test_an_old_store_that_cannot_be_written_says_so() -> None:
    first_store("old.db")
    Path("old.db").chmod(0o444)
    folder = Path.cwd()
    folder.chmod(0o555)
    try:
        try:
            Path("probe").touch()
        except OSError:
            with pytest.raises(StoreError, match=r"earlier mipo-eval \(schema 1\)"):
                Store.open("old.db", mode="read")
        else:
            Path("probe").unlink()
            pytest.skip("this user may write everywhere")
    finally:
        folder.chmod(0o755)
