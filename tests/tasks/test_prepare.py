"""Whole preparations: files, report, resuming, and what goes wrong, in one clear line."""

import asyncio
import csv
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mipo_eval.errors import BackendError, ConfigError, DataError
from mipo_eval.models.base import Backend, Request, ScriptedBackend
from mipo_eval.models.openai import OpenAIBackend
from mipo_eval.records import Item
from mipo_eval.store.engine import Store
from mipo_eval.tasks.items import read_items
from mipo_eval.tasks.prepare import (
    RAW_SETS,
    Models,
    Preparation,
    Prepared,
    prepare,
    raw_rows,
    report_lines,
)
from mipo_eval.tasks.sources import load_source
from tests.servers.http import Act, Call
from tests.servers.openai_server import OpenAIServer, ok
from tests.tasks.rows import (
    ca_row,
    failing_first,
    mb_row,
    preferences,
    prism_rows,
    statements,
)

Rows = list[dict[str, Any]]


def run(
    name: str,
    rows: Rows,
    extractor: Backend,
    data: Path,
    sizes: tuple[int, int] = (30, 8),
    *,
    reference: Backend | None = None,
    languages: tuple[str, ...] = ("en",),
) -> Prepared:
    plan = Preparation(
        name=name, source="rows", n_train=sizes[0], n_test=sizes[1], languages=languages
    )
    with Store.open(str(data / "store.db")) as store:
        models = Models(store=store, extractor=extractor, reference=reference)
        return asyncio.run(prepare(plan, rows, models, data))


def parts(prepared: Prepared) -> tuple[list[Item], list[Item]]:
    return list(read_items(prepared.train)), list(read_items(prepared.test))


def test_prism(tmp_path: Path) -> None:
    prepared = run("prism", list(prism_rows()), ScriptedBackend(preferences), tmp_path)
    train, test = parts(prepared)
    assert (len(train), len(test)) == (30, 8)
    assert not {item.user_id for item in train} & {item.user_id for item in test}
    item = test[0]
    assert item.preferences[0] == "Come to the point."
    assert item.context == "\n".join(item.preferences)
    assert item.reference
    assert item.reference.startswith("Answer 1 of")  # the chosen response
    assert str(item.meta["rejected"]).startswith("Answer 2 of")
    assert item.meta["keys"][:2] == ["directness", "examples"]
    assert list(load_source("prism", tmp_path)) == test
    assert list(load_source("prism", tmp_path, "train")) == train


def test_the_report(tmp_path: Path) -> None:
    rows = [ca_row(n, n % 15) for n in range(60)]
    rows += [ca_row(100, 1, assigned_lang="fr"), ca_row(101, 2, first_turn_preferred_response="")]
    rows += [ca_row(102, 3, first_turn_prompt="Tell me about bread 0 first")]
    prepared = run("ca", rows, ScriptedBackend(preferences), tmp_path)
    report = json.loads(prepared.report_file.read_text())
    assert report["parts"]["train"]["items"] == 30
    assert report["parts"]["test"]["languages"] == {"en": 8}
    assert report["parts"]["test"]["preferences_per_item"] == 3
    assert report["parts"]["test"]["words"]["context"]["median"] == 13
    assert report["dropped"]["language fr"] == 1
    assert report["dropped"]["no preferred response"] == 1
    assert report["rows"] == 61
    assert (report["shared_users"], report["shared_prompts"]) == (0, 0)
    assert len(report["samples"]) == 3
    assert report["extractor"] == "scripted scripted"
    text = "\n".join(report_lines(prepared.report))
    assert "test: 8 items" in text
    assert "in both parts: 0 users, 0 prompts" in text


@pytest.mark.parametrize(
    ("languages", "kept", "dropped"),
    [
        (("en",), {"en"}, {"language fr": 20, "language unknown": 1}),
        (("fr",), {"fr"}, {"language en": 40, "language unknown": 1}),
        (("en", "fr"), {"en", "fr"}, {"language unknown": 1}),
        (("all",), {"en", "fr", "unknown"}, {}),
    ],
)
def test_community_alignment_in_other_languages(
    tmp_path: Path, languages: tuple[str, ...], kept: set[str], dropped: dict[str, int]
) -> None:
    rows = [ca_row(n, n, assigned_lang="FR" if n % 3 == 0 else "en") for n in range(1, 61)]
    rows.append(ca_row(100, 100, assigned_lang=""))
    sizes = (61 - sum(dropped.values()) - 5, 5)
    extractor = ScriptedBackend(preferences)
    prepared = run("ca", rows, extractor, tmp_path, sizes, languages=languages)
    train, test = parts(prepared)
    assert {item.meta["language"] for item in (*train, *test)} == kept
    assert prepared.report["languages"] == list(languages)
    assert {k: n for k, n in prepared.report["dropped"].items() if "language" in k} == dropped
    told = "\n".join(report_lines(prepared.report))
    counts = Counter(item.meta["language"] for item in (*train, *test))
    assert all(f"{language} {count}" in told for language, count in counts.items())


@pytest.mark.parametrize("name", ["prism", "mb"])
def test_only_community_alignment_has_other_languages(name: str) -> None:
    with pytest.raises(ConfigError, match="leave --language out"):
        Preparation(name=name, source="x", n_train=4, n_test=4, languages=("fr",))


def test_multifaceted_bench(tmp_path: Path) -> None:
    rows = [mb_row(n) for n in range(12)]
    prepared = run("mb", rows, ScriptedBackend(statements), tmp_path, (32, 8))
    train, test = parts(prepared)
    assert (len(train), len(test)) == (32, 8)
    assert len({item.prompt for item in test}) == 2  # two instructions of four items
    assert not {item.prompt for item in train} & {item.prompt for item in test}
    for item in test:
        [preference] = item.preferences
        assert item.context == preference
        assert item.rubric is not None
        assert len(item.rubric[0].scores) == 5  # type: ignore[union-attr]
        assert item.reference
        assert item.reference.startswith("Once there was")
    by_dimension = {str(item.meta["dimension"]): item for item in test}
    assert by_dimension["harmlessness"].preferences == ("Please be gentle with me.",)
    assert "gentle" in by_dimension["harmlessness"].rubric[0].criterion  # type: ignore[index,union-attr]


def test_the_real_instruction_with_a_reference_model(shared_data: Path, tmp_path: Path) -> None:
    real = json.loads((shared_data / "multifaceted_bench/one_real_instance.json").read_text())
    writer = ScriptedBackend(
        lambda request: f"{request.sampling.max_tokens}: {request.messages[0].content}", name="w"
    )
    prepared = run(
        "mb", [*real, mb_row(1)], ScriptedBackend(statements), tmp_path, (4, 4), reference=writer
    )
    train, test = parts(prepared)
    items = [item for item in (*train, *test) if item.prompt.startswith("A past and future")]
    assert len(items) == 4
    for item, raw in zip(items, real[0]["rubric"], strict=True):
        assert item.rubric is not None
        assert item.rubric[0].criterion == raw["criteria"]  # type: ignore[union-attr]
        assert item.reference is not None
        # Each is written for its own wish, asked as the paper asks: at length, the wish first.
        assert item.reference == f"1024: {item.context}\n\n{item.prompt}"
        assert item.meta["system"] == real[0]["system"]
        assert item.meta["reference_by"] == "scripted w"


def test_equal_input_gives_equal_files(tmp_path: Path) -> None:
    made = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        rows = list(prism_rows())
        prepared = run("prism", rows, ScriptedBackend(preferences), tmp_path / name)
        made.append((prepared.train.read_bytes(), prepared.test.read_bytes()))
    assert made[0] == made[1]


def test_bad_replies_are_replaced_from_the_reserve(tmp_path: Path) -> None:
    def script(request: Request) -> str:
        return "no" if "bread" in request.messages[0].content else preferences(request)

    prepared = run("prism", list(prism_rows(80)), ScriptedBackend(script), tmp_path)
    train, test = parts(prepared)
    assert (len(train), len(test)) == (30, 8)
    assert "bread" not in "".join(item.prompt for item in (*train, *test))
    assert prepared.report["dropped"]["bad reply"] > 0


def test_a_model_that_learns_from_correction(tmp_path: Path) -> None:
    script = failing_first(preferences, "Sure! I think they like it short.", 2)
    backend = ScriptedBackend(script)
    prepared = run("prism", list(prism_rows()), backend, tmp_path)
    assert prepared.report["dropped"] == {}
    assert len(backend.asked) == 3 * 38


def test_an_extractor_that_never_writes_json_is_stopped(tmp_path: Path) -> None:
    backend = ScriptedBackend(lambda _: "I cannot.")
    with pytest.raises(DataError) as caught:
        run("prism", list(prism_rows(400, 100)), backend, tmp_path, (200, 100))
    assert str(caught.value) == (
        "prism: only 0 of 100 test items could be made (bad reply: 50; the last one: "
        "it holds no valid JSON object): use another extractor or ask for fewer "
        "items; the replies so far are kept and not paid for again"
    )
    assert len(backend.asked) <= 300  # not three times 500


def test_a_stopped_preparation_continues(tmp_path: Path) -> None:
    answered = 0

    def failing(request: Request) -> str:
        nonlocal answered
        answered += 1
        if answered > 20:
            raise BackendError("the server went away")
        return preferences(request)

    rows = list(prism_rows())
    with pytest.raises(BackendError, match="went away"):
        run("prism", rows, ScriptedBackend(failing), tmp_path)
    assert (tmp_path / "prism-test.jsonl").exists()  # the finished part is kept
    assert not (tmp_path / "prism-train.jsonl").exists()
    backend = ScriptedBackend(preferences)
    run("prism", rows, backend, tmp_path)
    assert len(backend.asked) == 38 - 20


def test_a_served_extractor(tmp_path: Path) -> None:
    def reply(call: Call) -> Act:
        assert "Write one JSON object" in str(call.body)
        return ok('{"tone": "Be warm."}')

    with OpenAIServer(reply) as server:
        prepared = run("prism", list(prism_rows()), OpenAIBackend("judge", server.url), tmp_path)
    assert len(parts(prepared)[0]) == 30


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((100, 50), "60 usable rows for 100 training and 50 test items: give more rows"),
        ((0, 8), "0 training and 8 test items are asked for; both must be at least 1"),
    ],
)
def test_sizes_that_cannot_be(tmp_path: Path, sizes: tuple[int, int], message: str) -> None:
    with pytest.raises((DataError, ConfigError), match=message):
        run("prism", list(prism_rows()), ScriptedBackend(preferences), tmp_path, sizes)


def test_plans() -> None:
    sizes = {name: spec.paper_sizes for name, spec in RAW_SETS.items()}
    assert sizes == {"ca": (6564, 200), "prism": (7294, 194), "mb": (3600, 84)}
    with pytest.raises(ConfigError, match=r"mb: 10 training and 4 test items .* multiples of 4"):
        Preparation(name="mb", source="x", n_train=10, n_test=4)
    with pytest.raises(ConfigError, match="cannot prepare 'xx'; known: ca, prism, mb"):
        Preparation(name="xx", source="x", n_train=1, n_test=1)


def write_csv(path: Path, rows: Rows) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def write_jsonl(path: Path, rows: Rows) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize(
    ("name", "file", "write", "rows"),
    [
        ("ca", "community_alignment.csv", write_csv, [ca_row(1, 2)]),
        ("prism", "utterances.jsonl", write_jsonl, list(prism_rows(1))),
        ("mb", "multifaceted_bench.jsonl", write_jsonl, [mb_row(1)]),
    ],
)
def test_local_files(
    tmp_path: Path, name: str, file: str, write: Callable[[Path, Rows], None], rows: Rows
) -> None:
    path = tmp_path / file
    write(path, rows)
    for source in (path, tmp_path):
        found, origin = raw_rows(name, str(source))
        assert list(found) == rows
        assert origin == str(path)


def test_missing_files_say_what_to_download(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        raw_rows("prism", str(tmp_path))
    assert str(caught.value) == (
        f"prism: no utterances.jsonl or utterances*.parquet at {tmp_path}; download it from "
        "https://huggingface.co/datasets/HannahRoseKirk/prism-alignment, or use --source hub"
    )
    with pytest.raises(ConfigError, match="cannot prepare 'psoups'"):
        raw_rows("psoups", "hub")
