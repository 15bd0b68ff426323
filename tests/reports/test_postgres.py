"""Reports say the same over PostgreSQL as over SQLite."""

import json
from pathlib import Path
from typing import Any

import pytest

from mipo_eval.cli import main
from mipo_eval.tasks.items import write_items
from tests.reports.stores import items, judge, model
from tests.servers.openai_server import OpenAIServer, Policy


def _json(capsys: pytest.CaptureFixture[str], *argv: str) -> Any:
    capsys.readouterr()
    assert main([*argv, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_both_databases_give_the_same_reports(
    postgres_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_items(Path("tea.jsonl"), items(12))
    names = ("mipo-seed0", "mipo-seed1", "base")
    reports: list[list[Any]] = []
    with (
        OpenAIServer(model, policy=Policy(models=names)) as models,
        OpenAIServer(judge) as judges,
    ):
        by = ["--judge", f"openai:judge@{judges.url}", "--suite", "tea.jsonl"]
        for store in ("lite.db", postgres_url):
            there = ["--store", store]
            runs = [
                _json(capsys, "--model", f"openai:{name}@{models.url}", *by, *there)["run_id"]
                for name in names
            ]
            plan = _json(capsys, "plan", "--model", f"openai:base@{models.url}", *by, *there)
            del plan["minutes"]  # of how long the calls took
            reports.append(
                [
                    _json(capsys, "compare", *runs, *there),
                    _json(capsys, "leaderboard", *there),
                    _json(capsys, "leaderboard", "--table", "4", *there),
                    plan,
                ]
            )
    assert reports[0] == reports[1]
