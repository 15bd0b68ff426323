"""Secrets are planted wherever a user can write one, and searched for in all that is kept.

Everything that the program writes is read as bytes: stores with their logs, what it prints, its
exports, the card of a checkpoint, the board's facts of a run, and what earlier versions stored.
"""

import json
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from mipo_eval.cli import main
from mipo_eval.dashboards.tables.run import facts
from mipo_eval.demo.model import base_model
from mipo_eval.models.spec import parse_model
from mipo_eval.store import Store
from mipo_eval.store.migrations import LATEST, schema_version
from mipo_eval.store.trainings import Training
from mipo_eval.training.card import model_card
from tests.servers.openai_server import OpenAIServer, Policy, ok

PASSWORD, TOKEN, KEY = "hunter2-of-the-store", "tok-of-a-model", "sk-planted-0123456789abcdef0123"
SECRETS = (PASSWORD, TOKEN, KEY)


def _holding(folder: Path) -> list[tuple[str, str]]:
    return [
        (str(path.relative_to(folder)), secret)
        for path in folder.rglob("*")
        if path.is_file()
        for secret in SECRETS
        if secret.encode() in path.read_bytes()
    ]


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Any:
    def run(*words: str) -> int:
        monkeypatch.setattr("sys.argv", ["mipo-eval", *words])
        return main(list(words))

    return run


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    file = tmp_path / "tea.jsonl"
    rows = [
        {"item_id": str(n), "prompt": f"Tea {n}?", "preferences": ["Short."], "reference": "Yes."}
        for n in range(2)
    ]
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return file


def test_nothing_that_is_kept_of_a_command_holds_a_secret(
    typed: Any,
    suite: Path,
    tmp_path: Path,
    postgres_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    head, _, rest = postgres_url.partition("@")
    team = f"{head}:{PASSWORD}@{rest}"
    with OpenAIServer(ok("4"), policy=Policy(key=KEY)) as server:
        host = server.address.rpartition(":")[2]
        monkeypatch.setenv(f"MIPO_EVAL_KEY_127_0_0_1_{host}", KEY)
        model = f"lm-eval:hf:pretrained={base_model()},token={TOKEN}"
        judge = f"openai:judge@{server.url}"
        asked = ("--model", model, "--suite", str(suite), "--judge", judge, "--store", team)
        assert typed(*asked) == 0
        said = capsys.readouterr()
        assert typed("runs", "--store", team, "--json") == 0
        runs = json.loads(capsys.readouterr().out)["runs"]
        assert runs, said.err
        for words in (
            ("show", runs[0]["run_id"]),
            ("reproduce", runs[0]["run_id"]),
            ("leaderboard",),
        ):
            for form in ((), ("--json",)):
                typed(*words, "--store", team, *form)
        typed("store", "merge", "mine.db", team)
        for form in ("html", "md", "csv", "latex", "json", "parquet", "lm_eval"):
            out = "results_1.json" if form == "lm_eval" else f"out.{form}"
            asked = ("--format", form, "--store", "mine.db", "--output", out)
            assert typed("export", runs[0]["run_id"], *asked) == 0
        with Store.open("mine.db", mode="read") as store:
            shown = repr(facts(store, runs[0]["run_id"]))
        told = capsys.readouterr()
    for secret in SECRETS:
        assert secret not in said.out + said.err + told.out + told.err + shown
    assert _holding(tmp_path) == []
    with Store.open(team) as store, store.read() as connection:
        for table in sa.inspect(connection).get_table_names():
            rows = connection.exec_driver_sql(f"select * from {table}").all()
            assert not [s for s in SECRETS if s in repr(rows)], table


def test_the_card_of_a_checkpoint_holds_no_secret() -> None:
    """It is the README of a folder that people push to a hub."""
    at = datetime(2026, 11, 1, tzinfo=UTC)
    training = Training(
        training_id="t",
        method="sft",
        model=f"lm-eval:hf:auth_token={TOKEN}",
        suite="demo",
        seed=0,
        checkpoint="out",
        recipe={"about": "about", "settings": {"judge": f"openai:m@http://u:{PASSWORD}@h"}},
        pair_report=None,
        environment=_OLD_ENVIRONMENT,
        status="done",
        reason=None,
        created_at=at,
        updated_at=at,
    )
    card = model_card(training, [], base=parse_model("demo"))
    assert not [secret for secret in SECRETS if secret in card]
    assert "--store postgresql://ann:<key>@db/x" in card


def test_errors_do_not_repeat_secrets(typed: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (
        ("runs", "--store", f"postgresql://u:{PASSWORD}@127.0.0.1:bad/x"),
        ("runs", "--store", f"postgresql://u:{PASSWORD}@127.0.0.1:1/x"),
        ("runs", "--store", f"mysql://u:{PASSWORD}@127.0.0.1/x"),
        ("--model", f"openai:m@http://u:{PASSWORD}@h", "--suite", "demo"),
        ("--model", f"lm-eval:nonsense:auth_token={TOKEN}", "--suite", "demo"),
        ("--model", f"lm-eval:hf:auth_token={TOKEN},x", "--suite", "demo"),
        ("judge", "a", "b", "--suite", "demo", "--judge", f"openai:m@http://u:{PASSWORD}@h"),
        (f"--api-key={KEY}",),
    ):
        assert typed(*words) == 2, words
        told = capsys.readouterr()
        assert not [s for s in SECRETS if s in told.out + told.err], told.err


_OLD_ENVIRONMENT = {
    "command": f"--model m --store postgresql://ann:{PASSWORD}@db/x --set api_key={KEY}",
    "python": "3.11",
}


@pytest.mark.parametrize("where", ["sqlite", "postgresql"])
def test_what_earlier_versions_stored_is_masked(
    where: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = "old.db" if where == "sqlite" else request.getfixturevalue("postgres_url")
    model = f"lm-eval:hf:pretrained=m,auth_token={TOKEN}"
    spec = {"model": {"engine": "lm-eval:hf", "auth_token": TOKEN}, "system": "password: tea"}
    at = "2026-11-01 00:00:00"
    with Store.open(url) as store, store.write() as connection:
        for statement, values in (
            (
                "insert into runs values ('r', :model, 's', '', 0, 'l', 1, 'g', :doc, :at, :at)",
                {"model": model, "doc": json.dumps(_OLD_ENVIRONMENT)},
            ),
            ("insert into generations values ('g', :doc)", {"doc": json.dumps(spec)}),
            (
                "insert into judges values ('j', 'keen', :doc)",
                {"doc": json.dumps({"spec": f"lm:{TOKEN},token={TOKEN}"[3:]})},
            ),
            (
                "insert into trainings (training_id, method, model, suite, seed, recipe, "
                "environment, status, created_at, updated_at) values "
                "('t', 'sft', 'm', 's', 0, '{}', :doc, 'done', :at, :at)",
                {"doc": json.dumps(_OLD_ENVIRONMENT)},
            ),
            ("alter table trainings drop column parent", {}),  # came with schema 7
            ("update schema_info set value = '4' where name = 'schema_version'", {}),
        ):
            named = {name: v for name, v in {**values, "at": at}.items() if f":{name}" in statement}
            connection.execute(sa.text(statement), named)
    with Store.open(url, mode="read") as store, store.read() as connection:
        assert schema_version(connection) == LATEST
        every = repr(
            [
                connection.exec_driver_sql(f"select * from {name}").all()
                for name in ("runs", "generations", "trainings")
            ]
        )
    assert not [secret for secret in SECRETS if secret in every]
    assert "postgresql://ann:<key>@db/x" in every
    assert "password: tea" in every  # what a model is told stays as it is
    if where == "sqlite":
        assert [found for found in _holding(tmp_path) if found[1] != TOKEN] == []


def test_a_store_is_for_its_owner_alone(tmp_path: Path) -> None:
    with Store.open("new.db") as store, store.write() as connection:
        connection.execute(sa.text("select 1"))
        for file in tmp_path.glob("new.db*"):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
