"""`mipo-eval import` and `mipo-eval export` from the outside."""

import json
from pathlib import Path

import pytest

from mipo_eval.cli import main
from mipo_eval.cli.exchange import EXPORTS, IMPORTS
from mipo_eval.importers import FORMATS
from mipo_eval.reports.export import NAMES

ROWS = [
    {
        "instruction": f"Say {word}.",
        "output_1": "No.",
        "generator_1": "base",
        "output_2": f"{word}!",
        "generator_2": "model",
        "annotator": "judge",
        "preference": preference,
    }
    for word, preference in (("tea", 2), ("cup", 1), ("pot", None))
]


def _import(capsys: pytest.CaptureFixture[str]) -> str:
    Path("a.json").write_text(json.dumps(ROWS))
    assert main(["import", "a.json", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["rows"], document["taken"], document["left_out"]) == (3, 3, {})
    run_id: str = document["runs"][0]["run_id"]
    return run_id


def test_the_commands_know_every_format() -> None:
    assert set(EXPORTS) == set(NAMES)
    assert set(IMPORTS) == set(FORMATS)


def test_an_imported_run_is_listed_shown_and_exported(capsys: pytest.CaptureFixture[str]) -> None:
    run_id = _import(capsys)
    assert main(["show", run_id]) == 0
    shown = capsys.readouterr().out
    assert "win rate, weighted by probability" in shown
    assert "1 x the annotator's reply could not be read" in shown
    for wanted in set(EXPORTS) - {"lm_eval"}:
        assert main(["export", run_id, "--format", wanted, "-o", f"out.{wanted}"]) == 0
        assert Path(f"out.{wanted}").stat().st_size > 100
    assert main(["export", run_id, "--format", "lm_eval", "-o", "results_1.json"]) == 0
    assert Path("samples_alpaca_eval_1.jsonl").is_file()


def test_a_folder_shows_how_far_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    Path("in").mkdir()
    for name in ("a", "b"):
        rows = [row | {"generator_2": name} for row in ROWS]
        Path("in", f"{name}.json").write_text(json.dumps(rows))
    assert main(["import", "in"]) == 0
    read, stored = capsys.readouterr().err.splitlines()
    assert read.startswith("files read: 2/2 (")
    assert stored.startswith("answers stored: 6/6 (")


def test_a_malformed_file_is_one_line_and_leaves_no_store(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("bad.jsonl").write_text('{"a": 1}\n{"a":\n')
    assert main(["import", "bad.jsonl"]) == 2
    error = capsys.readouterr().err
    assert error == "mipo-eval: bad.jsonl, line 2: is not JSON (Expecting value, column 1)\n"
    assert not Path("store.db").exists()


def test_an_unknown_run_cannot_be_exported(capsys: pytest.CaptureFixture[str]) -> None:
    _import(capsys)
    assert main(["export", "zzz", "--format", "csv", "-o", "x.csv"]) == 2
    assert "no run 'zzz'" in capsys.readouterr().err
    assert not Path("x.csv").exists()
