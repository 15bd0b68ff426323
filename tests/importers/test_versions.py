"""Versions and states of other tools' files: what each gives, what is lost, what is refused."""

import gzip
import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from mipo_eval.errors import DataError
from mipo_eval.importers import Imported, read_path, store_runs
from mipo_eval.reports.exported_run import ExportedRun, load_run
from mipo_eval.store import Store
from mipo_eval.store.runs import list_runs
from tests.importers.test_formats import ALPACA, ARENA, INSPECT, LM_RESULTS, LM_SAMPLE, MT_SINGLE

Numbers = dict[tuple[str, str], tuple[float | None, int | None]]


def write(name: str, value: Any) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = value if name.endswith(".jsonl") else [value]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def numbers(reading: Imported) -> Numbers:
    """Return the numbers of the only run: task and metric to value and n."""
    (run,) = reading.runs
    return {(score.task, score.metric): (score.value, score.n) for score in run.scores}


def read(value: Any, name: str = "x.json") -> Imported:
    return read_path(write(name, value))


# lm-eval


def results(**changes: Any) -> dict[str, Any]:
    numbers = {"alias": "sum", "acc,none": 0.5, "acc_stderr,none": 0.1}
    return {"results": {"sum": numbers}, "versions": {"sum": 1}, "configs": {}} | changes


@pytest.mark.parametrize(
    ("config", "model"),
    [
        ({"model_args": "pretrained=org/m"}, "org/m"),
        ({"model_args": "pretrained=org/m,revision=main,peft=None"}, "org/m"),
        ({"model_args": "pretrained=org/m,revision=step1"}, "org/m@step1"),
        ({"model_args": {"pretrained": "org/m", "peft": "out/a"}}, "org/m+out/a"),
        ({"model_args": '{"pretrained": "org/m", "delta": "out/d"}'}, "org/m+out/d"),
        ({"model_args": "model=gpt-4o,base_url=http://x/v1"}, "gpt-4o"),
    ],
)
def test_an_lm_eval_model_is_named_by_its_arguments(config: dict[str, Any], model: str) -> None:
    (run,) = read(results(config=config)).runs
    assert run.model == model
    assert run.about["model_args"] == config["model_args"]


@pytest.mark.parametrize(
    "changes",
    [
        {"n-shot": {"sum": 5}},
        {"date": 1.5},
        {"config": {"model_args": "pretrained=org/m,dtype=float16"}},
        {"config": {"limit": 10}},
        {"chat_template_sha": "ab"},
        {"results": {"sum": {"acc,none": 0.5}}},
    ],
)
def test_whatever_an_lm_eval_file_tells_otherwise_is_another_run(changes: dict[str, Any]) -> None:
    first, other = (read(results(**told)).runs[0] for told in ({}, changes))
    assert first.run_id != other.run_id
    assert first.run_id == read(results()).runs[0].run_id


@pytest.mark.parametrize(
    ("changes", "n"),
    [
        ({}, None),
        ({"n-samples": {"sum": {"original": 9, "effective": 4}}}, 4),
        ({"results": {"sum": {"acc,none": 0.5, "sample_len": 7}}}, 7),
        ({"results": {"sum": {"acc,none": 0.5, "sample_count": {"acc,none": 3}}}}, 3),
        (
            {
                "results": {"sum": {"acc,none": 0.5}, "a": {}, "b": {}},
                "group_subtasks": {"sum": ["a", "b"]},
                "n-samples": {"a": {"effective": 2}, "b": {"effective": 5}},
            },
            7,
        ),
        (
            {
                "results": {"sum": {"acc,none": 0.5}, "a": {}, "b": {}},
                "group_subtasks": {"sum": ["a", "b"]},
                "n-samples": {"a": {"effective": 2}},
            },
            None,
        ),
    ],
)
def test_n_is_told_added_up_or_unknown(changes: dict[str, Any], n: int | None) -> None:
    assert numbers(read(results(**changes))) == {("sum", "acc"): (0.5, n)}


def test_a_number_that_is_none_is_no_number_of_something() -> None:
    told = {"sum": {"acc,none": float("nan"), "f1,none": 0.5, "f1_stderr,none": "N/A"}}
    reading = read(results(results=told))
    assert numbers(reading) == {("sum", "acc"): (None, 0), ("sum", "f1"): (0.5, None)}


def test_a_document_without_a_score_is_refused_and_counted_in_a_folder() -> None:
    nothing = results(results={"sum": {"alias": "sum"}})
    with pytest.raises(DataError, match=r"no row could be imported \(1 x a results document wi"):
        read(nothing, "in/a.json")
    write("in/b.json", results())
    reading = read_path(Path("in"))
    assert (reading.taken, reading.rows, len(reading.runs)) == (1, 2, 1)


def test_samples_without_a_number_are_counted() -> None:
    odd = LM_SAMPLE | {"doc_id": 1, "exact_match": [0.5, 3]}
    reading = read([LM_SAMPLE, odd], "samples_sum_2026-01-02T03-04-05.jsonl")
    assert (reading.taken, reading.rows) == (1, 2)
    assert reading.left_out == {"a sample without a score": 1}
    assert numbers(reading) == {("sum", "exact_match"): (1.0, 1)}


def test_gzipped_samples_belong_to_the_document_beside_them() -> None:
    write("out/results_2026-01-02T03-04-05.json", LM_RESULTS)
    samples = json.dumps(LM_SAMPLE).encode()
    Path("out/samples_gsm8k_2026-01-02T03-04-05.jsonl.gz").write_bytes(gzip.compress(samples))
    (run,) = read_path(Path("out")).runs
    assert [made.text for made in run.entries] == ["It is 4"]
    assert [grade.value for grade in run.grades] == [1.0]


# lighteval


@pytest.mark.parametrize("config", ["lighteval|gsm8k|0", "lighteval|gsm8k", "gsm8k"])
def test_lighteval_has_its_own_form(config: str) -> None:
    document = {
        "config_general": {"model_name": "org/m", "model_sha": "ab", "max_samples": 4},
        "results": {
            "lighteval|gsm8k|0": {"em": 0.25, "em_stderr": 0.1},
            "all": {"em": 0.25, "em_stderr": 0.1},
        },
        "versions": {"lighteval|gsm8k|0": 0},
        "config_tasks": {config: {"name": "gsm8k", "effective_num_docs": 4}},
    }
    if config == "gsm8k":
        document["results"] = {"gsm8k|0": {"em": 0.25, "em_stderr": 0.1}, "all": {"em": 0.25}}
    reading = read(document)
    (run,) = reading.runs
    assert (run.source, run.model) == ("lighteval", "org/m")
    found = numbers(reading)
    assert sorted(found.values(), key=str) == [(0.25, 4), (0.25, None)]
    assert found["all", "em"] == (0.25, None)
    assert run.scores[0].ci95 == pytest.approx((0.054, 0.446))


# Inspect


def log(**changes: Any) -> dict[str, Any]:
    return INSPECT | changes


def scored(*values: Any) -> dict[str, Any]:
    samples = [
        {"id": n, "input": "Why?", "target": "", "scores": {"s": {"value": value}}}
        for n, value in enumerate(values)
    ]
    return log(samples=samples)


@pytest.mark.parametrize(
    ("value", "number"),
    [
        *[("C", 1.0), ("P", 0.5), ("I", 0.0), ("N", 0.0)],
        *[("yes", 1.0), ("Yes", 1.0), ("TRUE", 1.0), ("no", 0.0), ("False", 0.0)],
        *[("0.25", 0.25), (" 3 ", 3.0), ("-1", -1.0), (0.5, 0.5), (True, 1.0), (7, 7.0)],
        *[("maybe", None), ("c", None), ("", None), ("nan", None), ("inf", None), (None, None)],
        *[({}, None), ([], None), (float("nan"), None)],
    ],
)
def test_values_are_counted_as_inspect_does(value: Any, number: float | None) -> None:
    reading = read(scored("C", value))
    grades = [grade.value for grade in reading.runs[0].grades]
    assert grades == [1.0, number]
    lost = {"a sample without a score": 1} if number is None else {}
    assert reading.left_out == lost


def test_values_of_several_parts_are_each_a_judge() -> None:
    (run,) = read(scored({"tone": "C", "facts": "I"}, [1, "yes"])).runs
    means = {score.judge: score.value for score in run.scores}
    assert means == {"s/tone": 1.0, "s/facts": 0.0, "s/0": 1.0, "s/1": 1.0}


def test_the_first_version_had_one_scorer() -> None:
    sample = {"id": 1, "input": "Why?", "target": "", "score": {"value": "C"}}
    assert numbers(read(log(version=1, samples=[sample]))) == {("theory", "grade_mean"): (1.0, 1)}


def test_a_version_that_is_not_known_is_refused_by_name() -> None:
    with pytest.raises(DataError, match="is a log of version 9; 1 and 2 are known"):
        read(log(version=9))


RESULTS = {
    "total_samples": 10,
    "completed_samples": 8,
    "scores": [
        {
            "name": "match",
            "scorer": "match",
            "scored_samples": 7,
            "metrics": {
                "accuracy": {"name": "accuracy", "value": 0.75},
                "stderr": {"name": "stderr", "value": 0.1},
            },
        }
    ],
}


@pytest.mark.parametrize("scored_samples", [7, None])
def test_a_header_alone_gives_what_inspect_made(scored_samples: int | None) -> None:
    results = json.loads(json.dumps(RESULTS))
    results["scores"][0]["scored_samples"] = scored_samples
    reading = read(log(samples=None, results=results))
    assert numbers(reading) == {("theory", "accuracy"): (75.0, scored_samples or 8)}
    (run,) = reading.runs
    assert run.scores[0].ci95 == pytest.approx((55.4, 94.6))
    assert run.scores[0].judge == "match"


def test_a_header_stands_beside_the_means_of_its_samples() -> None:
    reading = read(log(results=RESULTS | {"total_samples": 4}))
    assert numbers(reading) == {
        ("theory", "grade_mean"): (0.5, 3),
        ("theory", "accuracy"): (75.0, 7),
    }


def test_each_way_to_reduce_epochs_is_a_number_of_its_own() -> None:
    own = RESULTS["scores"][0]  # type: ignore[index]
    ways = [
        {**own, "reducer": way, "metrics": {"accuracy": {"value": value}}}
        for way, value in (("mean", 0.5), ("pass_at_2", 0.75))
    ]
    with Store.open("ways.db") as store:
        store_runs(store, read(log(samples=None, results=RESULTS | {"scores": ways})).runs)
        (run,) = list_runs(store)
        assert sorted(score.value or 0.0 for score in load_run(store, run).scores) == [50.0, 75.0]


@pytest.mark.parametrize(
    ("about", "missing"),
    [
        ({"dataset": {"samples": 10}}, 6),
        ({"dataset": {"samples": 10}, "config": {"epochs": 2}}, 16),
        ({"dataset": {"samples": 10}, "config": {"limit": 5}}, 1),
        ({"dataset": {"samples": 10, "sample_ids": [1, 2, 3, 4, 5]}}, 1),
        ({"dataset": {}}, 0),
    ],
)
@pytest.mark.parametrize("status", ["cancelled", "error", "started"])
def test_samples_that_were_not_run_are_counted(
    about: dict[str, Any], missing: int, status: str
) -> None:
    reading = read(log(status=status, eval=INSPECT["eval"] | about))  # type: ignore[operator]
    reason = f"a sample that was not run (the evaluation is {status})"
    assert reading.left_out.get(reason, 0) == missing
    assert (reading.rows, reading.taken) == (4 + missing, 3)
    (score,) = reading.runs[0].scores
    assert score.unscored == missing


def test_an_archive_that_was_cut_off_is_read_as_far_as_it_goes() -> None:
    start = {name: INSPECT[name] for name in ("version", "eval")}
    with zipfile.ZipFile("log.eval", "w") as made:
        made.writestr("_journal/start.json", json.dumps(start))
        made.writestr("samples/1_epoch_1.json", json.dumps(INSPECT["samples"][0]))  # type: ignore[index]
    (run,) = read_path(Path("log.eval")).runs
    assert run.about["status"] == "started"
    assert [score.value for score in run.scores] == [1.0]
    with zipfile.ZipFile("none.eval", "w") as made:
        made.writestr("other.json", "{}")
    with pytest.raises(DataError, match=r"has no header\.json"):
        read_path(Path("none.eval"))


def _zstandard(path: str, members: dict[str, Any], *, damaged: bool = False) -> None:
    """Write an archive as today's Inspect does, with what this Python's zipfile cannot write."""
    with zipfile.ZipFile(path, "w") as made:
        for name, value in members.items():
            content = json.dumps(value).encode()
            half = len(content) // 2  # more than one frame, as of large samples
            frames = [
                pa.compress(c, codec="zstd", asbytes=True) for c in (content[:half], content[half:])
            ]
            made.writestr(name, b"".join(frames))
            info = made.getinfo(name)
            info.compress_type, info.file_size = 93, len(content)
            info.CRC = zlib.crc32(content) + damaged


def test_an_archive_packed_with_zstandard_is_read() -> None:
    members = {
        "header.json": {name: value for name, value in INSPECT.items() if name != "samples"},
        "samples/1_epoch_1.json": INSPECT["samples"][0],  # type: ignore[index]
        "samples/1_epoch_2.json": INSPECT["samples"][1],  # type: ignore[index]
    }
    _zstandard("log.eval", members)
    reading = read_path(Path("log.eval"))
    assert numbers(reading) == {("theory", "grade_mean"): (0.5, 2)}
    _zstandard("bad.eval", members, damaged=True)
    with pytest.raises(DataError, match=r"bad\.eval is not .* \(header\.json is damaged\)"):
        read_path(Path("bad.eval"))


def test_attachments_are_found_inside_messages() -> None:
    sample = {
        "id": 1,
        "input": [{"role": "user", "content": "Read this: attachment://ab12, please."}],
        "output": {"completion": "attachment://cd34"},
        "attachments": {"ab12": "a long text", "cd34": "a long answer"},
        "scores": {"s": {"value": "C"}},
    }
    (run,) = read(log(samples=[sample])).runs
    ((prompt, text),) = [(made.item.prompt, made.text) for made in run.entries]
    assert (prompt, text) == ("Read this: a long text, please.", "a long answer")


# Arena-Hard


def test_arena_hard_2_has_categories_and_several_judges() -> None:
    games = [{"score": "B>A", "judgment": {"answer": "[[B>A]]"}}, {"score": "A>B"}]
    rows = [
        {
            "uid": f"u{n}",
            "category": "hard_prompt" if n < 500 else "creative_writing",
            "model": "m",
            "judge": judge,
            "baseline": "o3-mini" if n < 500 else "gemini",
            "games": games if n else [None, None],
        }
        for n in range(750)
        for judge in ("gpt-4.1", "gemini-2.5")
    ]
    reading = read(rows, "arena.jsonl")
    assert (reading.rows, reading.taken, len(reading.runs)) == (1500, 1500, 2)
    assert reading.without_value == {"no verdict in the judge's reply": 4}
    found = {
        (score.judge, score.task): (score.value, score.n, score.unscored)
        for run in reading.runs
        for score in run.scores
        if score.metric == "win_rate_strict"
    }
    assert found == {
        (judge, task): (100.0, n, unscored)
        for judge in ("gpt-4.1", "gemini-2.5")
        for task, n, unscored in (("hard_prompt", 499, 1), ("creative_writing", 250, 0))
    }


@pytest.mark.parametrize(
    ("name", "more", "n"),
    [
        ("arena_hard_leaderboard_20240731.jsonl", {}, 500),
        ("arena-hard-v2.0.jsonl", {}, None),
        ("board.jsonl", {"category": "creative_writing"}, None),
        ("board.jsonl", {"judge": "gpt-4.1"}, None),
        ("board.jsonl", {"num_questions": 750}, 750),
    ],
)
def test_a_published_score_is_over_as_many_as_its_version_has(
    name: str, more: dict[str, Any], n: int | None
) -> None:
    row = {"model": "m", "score": 50.0, "rating_q025": 48.0, "rating_q975": 52.0}
    (run,) = read([row | more], name).runs
    assert [score.n for score in run.scores] == [n]
    assert run.scores[0].judge == more.get("judge")


# What is told twice


def stored(*files: Any) -> list[ExportedRun]:
    """Import rows one file after another and return every run, the first one first."""
    with Store.open("told.db") as store:
        for number, rows in enumerate(files):
            store_runs(store, read(rows, f"{number}.jsonl").runs)
        return [
            load_run(store, run) for run in sorted(list_runs(store), key=lambda r: r.created_at)
        ]


def test_an_equal_answer_of_two_models_keeps_what_was_said_of_each() -> None:
    first = [ALPACA, ALPACA | {"instruction": "Say cup.", "output_2": "Cup."}]
    second = [row | {"generator_2": "other", "preference": 1} for row in first]
    for order in ((first, second), (second, first)):
        runs = stored(*order, *order)
        assert len(runs) == 2
        for run in runs:
            (judge,) = run.judges
            said = {made.verdicts[judge].winner for made in run.items}
            assert said == ({"a"} if run.model == "model" else {"b"})
            (rate,) = (s.value for s in run.scores if s.metric == "win_rate")
            assert rate == (100.0 if run.model == "model" else 0.0)
        assert [made.item.key for made in runs[0].items] == [m.item.key for m in runs[1].items]


@pytest.mark.parametrize(
    "rows",
    [
        [MT_SINGLE],
        [ARENA],
        [ALPACA],
        [LM_SAMPLE],
    ],
)
def test_a_row_more_is_another_run(rows: list[dict[str, Any]]) -> None:
    name = next(n for n in ("question_id", "instruction", "doc_id") if n in rows[0])
    more = [*rows, rows[0] | {name: 7 if name == "doc_id" else "q7"}]
    first, second = stored(rows, more)
    assert (len(first.items), len(second.items)) == (1, 2)


def test_results_come_in_every_form_of_rows() -> None:
    rows = [ALPACA, ALPACA | {"instruction": "Say cup.", "preference": None}]
    write("a.jsonl", rows)
    Path("a.jsonl.gz").write_bytes(gzip.compress(Path("a.jsonl").read_bytes()))
    parquet.write_table(pa.Table.from_pylist(rows), "a.parquet")
    ids = {read_path(name).runs[0].run_id for name in ("a.jsonl", "a.jsonl.gz", "a.parquet")}
    assert len(ids) == 1
    Path("in").mkdir()
    Path("a.parquet").rename("in/a.parquet")
    Path("a.jsonl.gz").rename("in/a.jsonl.gz")
    Path("in/empty.jsonl").write_bytes(b"")
    reading = read_path(Path("in"))
    assert (len(reading.runs), reading.left_out) == (2, {"files that are empty": 1})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (log(eval={"task": "t", "model": "m", "dataset": "x", "config": "y"}), None),
        (log(samples="x"), 'samples is "x", not a list'),
        (log(results={"scores": ["x", {"metrics": {"a": 5}}]}), None),
        (scored("C") | {"results": 5}, None),
        (results(config={"model_args": 5}, **{"n-samples": {"sum": 7}}), None),
        (results(group_subtasks={"sum": ["b"], "b": ["sum"]}), None),
        (results(results={"sum": 5}), "results of sum are not an object"),
        (ARENA | {"games": {"a": 1}}, 'games is {"a": 1}, not a list'),
        (ARENA | {"games": [{"score": ["A>B"], "judgment": 5}]}, None),
        (MT_SINGLE | {"tstamp": 1e300}, None),
        (MT_SINGLE | {"tstamp": "now"}, 'tstamp is "now", not a number'),
        ({"config_general": {"model_name": 5}, "results": {"t|0": {"em": 1}}}, None),
        ({"config_general": {}, "results": {"t|0": 5}}, r"results of t\|0 are not an object"),
    ],
)
def test_something_else_in_a_place_is_passed_over_or_one_line(
    value: dict[str, Any], message: str | None
) -> None:
    if message is None:
        assert len(read(value).runs) == 1
        return
    with pytest.raises(DataError, match=message) as caught:
        read(value)
    assert str(caught.value).startswith("x.json")
    assert "\n" not in str(caught.value)


def test_a_grade_without_its_reply_has_none() -> None:
    (run,) = read(MT_SINGLE | {"judgment": None}).runs
    assert run.replies == []
    assert [grade.value for grade in run.grades] == [8.5]
