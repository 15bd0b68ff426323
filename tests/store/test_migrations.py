"""Stores of earlier versions open: each step is done once, from the first schema on."""

import json
from pathlib import Path

import pytest
import sqlalchemy as sa

from mipo_eval.errors import StoreError
from mipo_eval.keys import digest
from mipo_eval.models.thinking import CUT
from mipo_eval.records import text_key
from mipo_eval.signature import join
from mipo_eval.store import Store
from mipo_eval.store.migrations import LATEST, MIGRATIONS, schema_version
from mipo_eval.store.runs import get_scores
from mipo_eval.store.tables import metadata
from mipo_eval.store.trainings import list_trainings

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
    """create table responses (
        generation_key varchar(32) not null, item_key varchar(32) not null, text text,
        text_key varchar(32), reason text, final boolean not null, finish_reason varchar(16),
        prompt_hash varchar(32) not null, prompt_tokens integer, response_tokens integer,
        choice_logprobs json, created_at timestamp not null,
        primary key (generation_key, item_key))""",
    """create table calls (
        call_key varchar(32) primary key, backend json not null, request bytea not null,
        status varchar(32) not null, detail text, reply text, model text,
        finish_reason varchar(32), prompt_tokens integer, completion_tokens integer,
        seconds float, logprobs json, created_at timestamp not null)""",
    """create table trainings (
        training_id varchar(32) primary key, method varchar(64) not null, model text not null,
        suite text not null, seed integer not null, checkpoint text, recipe json not null,
        pair_report json, environment json not null, status varchar(16) not null, reason text,
        created_at timestamp not null, updated_at timestamp not null)""",
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
_ANSWERED = {
    "plain": ("Tea is a drink.", "Tea is a drink.", None, None),
    "thought": ("<think>hot or cold?</think>\n\nHot.", "Hot.", None, "hot or cold?"),
    "cut": ("<think>hot or", None, CUT, "hot or"),
    "spoken": ("The </think> tag ends it.", "The </think> tag ends it.", None, None),
}
"""Item to the text that was stored; and the response, reason and thinking that are to be found."""


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
        for method in ("sft-gt", "rlaif-gt"):
            connection.execute(
                sa.text(
                    "insert into trainings values (:method, :method, 'm', 'math', 0, null, "
                    ":recipe, null, '{}', 'done', null, '2026-11-01 00:00:00', "
                    "'2026-11-01 00:00:00')"
                ),
                {"method": method, "recipe": json.dumps({"name": method})},
            )
        for item, (text, *_) in _ANSWERED.items():
            row = {"item": item, "text": text, "key": text_key(text)}
            connection.execute(
                sa.text(
                    "insert into responses values ('g', :item, :text, :key, null, true, 'stop', "
                    "'p', 9, 7, null, '2026-11-01 00:00:00')"
                ),
                row,
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


@pytest.mark.parametrize("where", ["sqlite", "postgresql"])
def test_thinking_that_was_stored_as_a_response_is_taken_off(
    where: str, request: pytest.FixtureRequest
) -> None:
    url = "old.db" if where == "sqlite" else request.getfixturevalue("postgres_url")
    first_store(url)
    query = sa.select(metadata.tables["responses"])
    with Store.open(url) as store, store.read() as connection:
        rows = {row.item_key: row for row in connection.execute(query)}
    for item, (_, text, reason, thinking) in _ANSWERED.items():
        row = rows[item]
        assert (row.text, row.reason, row.thinking) == (text, reason, thinking)
        assert row.text_key == (None if text is None else text_key(text))
        assert row.response_tokens == (7 if thinking is None else None)
        assert row.final


@pytest.mark.parametrize("where", ["sqlite", "postgresql"])
def test_what_learned_solutions_is_called_so(where: str, request: pytest.FixtureRequest) -> None:
    """The name that it had is the paper's row now."""
    url = "old.db" if where == "sqlite" else request.getfixturevalue("postgres_url")
    first_store(url)
    with Store.open(url) as store:
        trainings = list_trainings(store)
    found = {one.training_id: (one.method, one.recipe["name"]) for one in trainings}
    assert {(one.parent, one.round) for one in trainings} == {(None, 1)}
    assert found == {"sft-gt": ("sft-solutions",) * 2, "rlaif-gt": ("rlaif-gt",) * 2}


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
            with pytest.raises(StoreError, match=r"older mipo-eval \(schema 1\)"):
                Store.open("old.db", mode="read")
        else:
            Path("probe").unlink()
            pytest.skip("this user may write everywhere")
    finally:
        folder.chmod(0o755)
