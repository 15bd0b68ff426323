"""Who can enter: families of models, of stored runs, of files."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest

from mipo_eval.compare.entrants import (
    Entrant,
    Field,
    find_entrant,
    is_stored_run,
    responses_of,
    same_family,
)
from mipo_eval.environment import KIND
from mipo_eval.errors import ConfigError
from mipo_eval.judges.presets import family_of
from mipo_eval.records import Item, Run
from mipo_eval.reports.labels import LABELS
from mipo_eval.store import Store
from mipo_eval.store.engine import now
from mipo_eval.store.items import put_list
from mipo_eval.store.responses import texts_of
from mipo_eval.store.runs import find_run, get_scores, put_run

ITEMS = [Item(item_id=str(n), prompt=f"What is {n}?") for n in range(3)]
ENTRIES = [("tea", item) for item in ITEMS]


def never(name: str) -> NoReturn:
    pytest.fail(f"{name} is no model")


def a_run(model: str, environment: Mapping[str, str] | None = None) -> Run:
    return Run(
        run_id="abcd" * 8,
        model=model,
        suite="tea",
        prompting="",
        seed=0,
        list_key="list",
        n_items=3,
        generation_key=f"made by {model}"[:32],
        environment=environment or {},
        created_at=now(),
        updated_at=now(),
    )


def entrant(store: Store, run: Run) -> Entrant:
    put_run(store, run)
    field = Field(suite="tea", list_key="list", entries=ENTRIES)
    return find_entrant(store, "A", run.run_id[:8], field, respond=never)


def test_a_stored_runs_family_is_what_it_was_made_with_or_what_is_there_or_its_name(
    tiny_model: Path,
) -> None:
    with Store.open("s.db") as store:
        assert entrant(store, a_run("x", {KIND: "llama"})).kind == "llama"
    with Store.open("t.db") as store:
        assert entrant(store, a_run(str(tiny_model))).kind == "qwen2"
    with Store.open("u.db") as store:
        assert (
            entrant(store, a_run("openai:Qwen/x@http://h/v1")).kind == "openai:Qwen/x@http://h/v1"
        )


def test_the_family_is_one_or_an_error(tmp_path: Path) -> None:
    with Store.open("s.db") as store:
        qwen = entrant(store, a_run("x", {KIND: "qwen2"}))
    reference = Entrant(label="B", name="reference", about="", run=None, kind=None)
    served = replace(qwen, label="C", kind="Qwen2.5-7B-Instruct")
    assert same_family([qwen, reference, served], family_of) == "qwen2"
    llama = replace(qwen, label="D", kind="llama")
    with pytest.raises(ConfigError, match=r"one family, but A is qwen2, D is llama"):
        same_family([qwen, llama], family_of)


def test_a_name_is_a_run_only_where_nothing_on_disk_has_it() -> None:
    assert is_stored_run("3f2a91c4")
    assert not is_stored_run("demo")
    assert not is_stored_run("3f")
    Path("face").mkdir()
    assert not is_stored_run("face")


def test_a_file_becomes_a_run_that_can_enter_again() -> None:
    rows = [{"item_id": "0", "response": "Zero."}, {"item_id": "1", "response": None}]
    rows.append({"item_id": "2", "response": "Two."})
    Path("mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("less.jsonl").write_text(json.dumps(rows[2]) + "\n")
    with Store.open("s.db") as store:
        list_key, _ = put_list(store, [("tea", ITEMS)])
        field = Field(suite="tea", list_key=list_key, entries=ENTRIES)
        found = find_entrant(store, "A", "mine.jsonl", field, respond=never)
        assert found.run is not None
        assert responses_of(store, found, ITEMS) == [
            ("Zero.", None),
            (None, "no response in mine.jsonl"),
            ("Two.", None),
        ]
        run = find_run(store, found.run.run_id)
        assert (run.model, run.suite, run.n_items) == ("mine.jsonl", "tea", 3)
        assert texts_of(store, run.generation_key)[ITEMS[0].key] == ("Zero.", None)
        scores = get_scores(store, run.run_id)
        assert "self_bleu_4" in {score.metric for score in scores} <= set(LABELS)
        assert all("responses:" in score.signature for score in scores)
        again = find_entrant(store, "B", run.run_id[:10], field, respond=never)
        assert again.key == found.key
        less = find_entrant(store, "B", "less.jsonl", field, respond=never)
        assert responses_of(store, less, ITEMS)[:2] == [(None, "not in less.jsonl")] * 2
        assert len(texts_of(store, less.key)) == 3, "what the file lacks is a state, too"


def test_an_entrant_without_a_single_response_is_an_error() -> None:
    with Store.open("s.db") as store:
        nothing = entrant(store, a_run("x"))
        with pytest.raises(ConfigError, match=r"to any of the 3 items \(not generated\)"):
            responses_of(store, nothing, ITEMS)
        reference = Entrant(label="B", name="reference", about="", run=None, kind=None)
        with pytest.raises(ConfigError, match="item has no reference"):
            responses_of(store, reference, ITEMS)
