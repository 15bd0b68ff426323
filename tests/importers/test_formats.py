"""Small files of every format: what is taken, what is left out, what is refused."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from mipo_eval.errors import ConfigError, DataError
from mipo_eval.importers import FORMATS, read_path, store_runs
from mipo_eval.models.thinking import CUT
from mipo_eval.reports.exported_run import ExportedRun, load_run
from mipo_eval.store import Store
from mipo_eval.store.check import check
from mipo_eval.store.responses import answered
from mipo_eval.store.runs import find_run, list_runs


def _write(name: str, value: Any) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = path.suffix == ".jsonl"
    text = "".join(json.dumps(row) + "\n" for row in value) if lines else json.dumps(value)
    path.write_text(text)
    return path


ALPACA = {
    "instruction": "Say tea.",
    "output_1": "Coffee.",
    "generator_1": "base",
    "output_2": "Tea.",
    "generator_2": "model",
    "annotator": "judge",
    "preference": 2,
}
ARENA = {
    "question_id": "q1",
    "model": "model",
    "judge": "judge",
    "games": [{"judgment": "First. [[A>>B]]", "score": "A>>B"}, {"judgment": "?", "score": "A>B"}],
}
MT_PAIR = {
    "question_id": 81,
    "model_1": "model",
    "model_2": "base",
    "g1_winner": "model_1",
    "g2_winner": "model_1",
    "judge": ["judge", "pair-v2"],
    "g1_judgment": "[[A]]",
    "g2_judgment": "[[B]]",
    "turn": 1,
}
MT_SINGLE = {
    "question_id": 81,
    "model": "model",
    "judge": ["judge", "single-v1"],
    "user_prompt": "Rate it.",
    "judgment": "[[8.5]]",
    "score": 8.5,
    "turn": 1,
}
LLMBAR = {
    "input": "Say tea.",
    "output_1": "Tea.",
    "output_2": "Coffee.",
    "label": 1,
    "results": [
        {
            "swap = False": {"completion": ["Output (a)", "stop"], "winner": "1"},
            "swap = True": {"completion": ["Output (a)", "stop"], "winner": "2"},
        }
    ],
}
LM_SAMPLE = {
    "doc_id": 0,
    "doc": {"question": "2+2?"},
    "target": "4",
    "arguments": {"gen_args_0": {"arg_0": "What is 2+2?", "arg_1": {"until": ["\n"]}}},
    "resps": [["It is 4"]],
    "filtered_resps": ["4"],
    "filter": "strict",
    "metrics": ["exact_match"],
    "exact_match": 1.0,
}
LM_RESULTS = {
    "results": {
        "gsm8k": {"alias": "gsm8k", "exact_match,strict": 1.0, "exact_match_stderr,strict": 0.1}
    },
    "configs": {"gsm8k": {}},
    "n-samples": {"gsm8k": {"original": 9, "effective": 1}},
    "model_name": "tiny",
}
INSPECT = {
    "version": 2,
    "status": "success",
    "eval": {"task": "theory", "model": "mock/model"},
    "samples": [
        {
            "id": 1,
            "epoch": epoch,
            "input": [{"role": "user", "content": [{"type": "text", "text": "Why?"}]}],
            "target": "because",
            "output": {"completion": f"Because {epoch}."},
            "scores": {"match": {"value": value}},
        }
        for epoch, value in ((1, "C"), (2, "I"), (3, "P"))
    ]
    + [{"id": 2, "epoch": 1, "input": "Boom", "error": {"message": "out of memory"}}],
}


def _single(path: Path) -> ExportedRun:
    """Import a file and return the only run, as the store holds it; the store is whole."""
    with Store.open("one.db") as store:
        store_runs(store, read_path(path).runs)
        (run,) = list_runs(store)
        assert not [f for f in check(store) if f.broken and f.found]
        return load_run(store, run)


def _value(record: ExportedRun, metric: str) -> float | None:
    (value,) = {score.value for score in record.scores if score.metric == metric}
    return value


@pytest.mark.parametrize(
    ("preference", "win_rate", "ties"),
    [(2, 100.0, 0.0), (1, 0.0, 0.0), (0, 50.0, 100.0), (1.5, 50.0, 100.0), (1.75, 75.0, 0.0)],
)
def test_alpaca_eval_preferences(preference: float, win_rate: float, ties: float) -> None:
    record = _single(_write("a.json", [ALPACA | {"preference": preference}]))
    assert _value(record, "win_rate") == win_rate
    assert _value(record, "tie_rate") == ties
    assert (record.model, record.suite) == ("model", "alpaca_eval vs base")
    assert record.scores[0].judge == "judge"


def test_an_annotation_without_a_preference_is_unscored() -> None:
    rows = [ALPACA, ALPACA | {"instruction": "Say cup.", "preference": None}]
    scores = {score.metric: score for score in _single(_write("a.json", rows)).scores}
    assert (scores["win_rate"].value, scores["win_rate"].n) == (100.0, 1)
    assert scores["win_rate"].unscored_reasons == {"the annotator's reply could not be read": 1}


def test_arena_hard_knows_who_was_shown_first() -> None:
    # First game: A is the baseline and wins. Second: A is the model and wins. So: a tie.
    record = _single(_write("a.jsonl", [ARENA]))
    ((verdict,),) = (made.verdicts.values() for made in record.items)
    assert {c.shown_first: c.winner for c in verdict.choices} == {"b": "b", "a": "a"}
    assert _value(record, "tie_rate") == 100.0


def test_an_arena_hard_game_without_verdict_is_unscored() -> None:
    lost = ARENA | {"question_id": "q2", "games": [{"score": None}, {"score": "A>B"}]}
    record = _single(_write("a.jsonl", [ARENA, lost]))
    scores = {score.metric: score for score in record.scores}
    assert scores["tie_rate"].n == 1
    assert scores["tie_rate"].unscored_reasons == {"no verdict in the judge's reply": 1}


@pytest.mark.parametrize(
    ("first", "second", "strict", "ties"),
    [
        ("model_1", "model_1", 100.0, 0.0),
        ("model_2", "model_2", 0.0, 0.0),
        ("model_1", "model_2", 0.0, 100.0),
        ("tie", "model_1", 0.0, 100.0),
    ],
)
def test_mt_bench_pairs(first: str, second: str, strict: float, ties: float) -> None:
    row = MT_PAIR | {"g1_winner": first, "g2_winner": second}
    record = _single(_write("m.jsonl", [row]))
    assert (_value(record, "win_rate_strict"), _value(record, "tie_rate")) == (strict, ties)


def test_mt_bench_minus_one_is_no_grade_and_a_second_judgment_is_left_out() -> None:
    rows = [MT_SINGLE, MT_SINGLE | {"question_id": 82, "score": -1}, MT_SINGLE | {"score": 1}]
    path = _write("m.jsonl", rows)
    assert read_path(path).left_out == {"an answer judged again by the same judge": 1}
    (score,) = _single(path).scores
    assert (score.value, score.n) == (8.5, 1)
    assert score.unscored_reasons == {"no grade in the judge's reply": 1}


def test_llmbar_disagreeing_orders_are_half_right_and_a_tie() -> None:
    path = _write("LLMBar/Natural/evaluators/GPT-4/CoT/result.json", [LLMBAR])
    record = _single(path)
    assert record.suite == "llmbar/Natural"
    assert _value(record, "judge_accuracy_average") == 50.0
    assert _value(record, "judge_accuracy_both") == 0.0
    mine = [s for s in record.scores if s.judge == "GPT-4/CoT"]
    assert {s.metric: s.value for s in mine}["tie_rate"] == 100.0


def test_lm_eval_results_with_samples_are_read_once() -> None:
    _write("out/results_2026-01-02T03-04-05.json", LM_RESULTS)
    _write("out/samples_gsm8k_2026-01-02T03-04-05.jsonl", [LM_SAMPLE])
    assert len(read_path(Path("out")).runs) == 1
    record = _single(Path("out"))
    (score,) = record.scores
    assert (score.metric, score.value, score.n) == ("exact_match", 1.0, 1)
    assert score.ci95 == pytest.approx((0.804, 1.196))
    assert record.model == "tiny"
    (made,) = record.items
    assert (made.item.prompt, made.text, made.task) == ("2+2?", "It is 4", "gsm8k")
    assert [grade.value for grade in made.grades.values()] == [1.0]


@pytest.mark.parametrize("archive", [False, True])
def test_inspect_logs(archive: bool) -> None:
    path = Path("log.eval")
    if archive:
        samples = INSPECT["samples"]
        assert isinstance(samples, list)
        with zipfile.ZipFile(path, "w") as made:
            made.writestr(
                "header.json", json.dumps({k: v for k, v in INSPECT.items() if k != "samples"})
            )
            for number, sample in enumerate(samples):
                made.writestr(f"samples/{number}.json", json.dumps(sample))
    else:
        path = _write("log.json", INSPECT)
    reading = read_path(path)
    assert (reading.rows, reading.taken) == (4, 3)
    assert reading.left_out == {"a sample that ended in an error": 1}
    record = _single(path)
    (score,) = record.scores
    assert (score.value, score.n, score.ci95) == (0.5, 3, None)  # one question, thrice
    assert [made.item.prompt for made in record.items] == ["Why?"] * 3


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"a": 1}\n{"b": \n', r"a\.jsonl, line 2: is not JSON"),
        ("a.json", '[{"a": 1},\n\n{]', r"a\.json, line 3: is not JSON"),
        ("a.json", "[1]", r"a\.json, row 1: is 1, not a JSON object"),
        ("a.json", "[]", r"a\.json contains no rows"),
        ("a.json", json.dumps([ALPACA, ALPACA | {"preference": 3}]), r"row 2: preference is 3\.0"),
        ("a.json", json.dumps([ALPACA, ALPACA | {"preference": "x"}]), 'row 2: preference is "x"'),
        ("a.json", json.dumps([ALPACA, {"instruction": "x"}]), "row 2: is not like the rows"),
        ("a.json", json.dumps([ALPACA | {"instruction": 7}]), "instruction is 7, not a text"),
        ("a.jsonl", json.dumps(MT_SINGLE | {"score": 11}), "line 1: score is 11"),
        ("a.jsonl", json.dumps(MT_PAIR | {"g1_winner": "x"}), "line 1: g1_winner is 'x'"),
        ("a.jsonl", json.dumps(MT_SINGLE | {"judge": []}), "judge names no model"),
        ("a.json", json.dumps([LLMBAR | {"label": 3}]), "label is 3; it is 1 or 2"),
        ("a.jsonl", json.dumps({"idx": 0, "pandalm_result": 1}), "put testset-v1.json beside it"),
        ("a.json", json.dumps(INSPECT | {"samples": None}), "holds no samples"),
        ("a.eval", "not a zip", "is not an archive that can be read"),
        ("a.json", f"[{'9' * 4400}]", r"a\.json: holds a number of too many digits"),
        (
            "a.jsonl",
            json.dumps(MT_SINGLE | {"score": 10**400}),
            "score is inf, not a finite number",
        ),
    ],
)
def test_a_malformed_file_is_named_with_its_line(name: str, content: str, message: str) -> None:
    Path(name).write_text(content)
    with pytest.raises(DataError, match=message):
        read_path(Path(name))


def test_bytes_that_are_no_text_are_refused() -> None:
    Path("a.jsonl").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(DataError, match=r"a\.jsonl, line 1: is not UTF-8 text"):
        read_path(Path("a.jsonl"))


def test_unknown_formats_are_an_error_for_a_file_and_counted_in_a_folder() -> None:
    _write("in/other.json", {"hello": 1})
    with pytest.raises(ConfigError, match="does not look like one of lm_eval"):
        read_path(Path("in/other.json"))
    with pytest.raises(ConfigError, match="does not look like mt_bench files"):
        read_path(_write("a.json", [ALPACA]), "mt_bench")
    with pytest.raises(ConfigError, match="in contains no file in a known format"):
        read_path(Path("in"))
    _write("in/a.json", [ALPACA])
    reading = read_path(Path("in"))
    assert (reading.taken, reading.left_out) == (1, {"files of no known format": 1})


@pytest.mark.parametrize(
    ("wanted", "value"),
    [
        ("alpaca_eval", ALPACA),
        ("arena_hard", ARENA),
        ("mt_bench", MT_SINGLE),
        ("mt_bench", MT_PAIR),
        ("judge_replies", LLMBAR),
        ("lm_eval", LM_SAMPLE),
        ("inspect", INSPECT),
    ],
)
def test_every_format_is_told_from_the_others(wanted: str, value: dict[str, Any]) -> None:
    path = _write("x.jsonl", [value])
    from mipo_eval.rows import read_rows

    (row,) = read_rows(path)
    assert [name for name, reader in FORMATS.items() if reader.is_ours(row)] == [wanted]


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_an_import_can_be_repeated(database: str, request: pytest.FixtureRequest) -> None:
    sqlite = database == "sqlite"
    url = "again.db" if sqlite else request.getfixturevalue("postgres_url")
    nasty = ALPACA | {"output_2": "nul \x00 and \ud800", "generator_2": "a|b\nc"}
    path = _write("a.json", [ALPACA | {"annotator": "one|two"}, nasty])
    with Store.open(url) as store:
        first = store_runs(store, read_path(path).runs)
        before = [load_run(store, run) for run in list_runs(store)]
        assert store_runs(store, read_path(path).runs) == first
        assert [load_run(store, run) for run in list_runs(store)] == before
        assert len(before) == 2
        assert not any(f.found for f in check(store) if f.broken)


def test_a_name_that_not_every_database_holds_is_refused() -> None:
    Path("out").mkdir()
    path = _write("out/samples_x.jsonl", [LM_SAMPLE | {"metrics": ["m" * 65], "m" * 65: 1.0}])
    with Store.open("long.db") as store:
        with pytest.raises(DataError, match="is longer than 64 characters"):
            store_runs(store, read_path(path).runs)
        assert list_runs(store) == []


def test_a_failure_while_storing_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    records = read_path(_write("a.json", [ALPACA, ALPACA | {"generator_2": "other"}])).runs
    from mipo_eval import importers

    real, calls = importers.score_rows, 0

    def fail_second(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(importers, "score_rows", fail_second)
    with Store.open("half.db") as store:
        with pytest.raises(KeyboardInterrupt):
            store_runs(store, records)
        assert list_runs(store) == []


def _facts(record: ExportedRun) -> dict[str, Any]:
    """Return the counts of a run's only judge as the store reads them."""
    (judge,) = record.judges
    said = [made.verdicts[judge] for made in record.items if judge in made.verdicts]
    credits = [one.credit for one in said if one.credit is not None]
    n = len(credits)
    return {
        "n": n,
        "unscored": len(record.items) - n,
        "win_rate_half_ties": 100 * sum(one.winner == "a" for one in said) / n
        + 50 * sum(one.winner == "tie" for one in said) / n,
        "tie_rate": 100 * sum(one.winner == "tie" for one in said) / n,
    }


def _games(question: str, *scores: str | None) -> dict[str, Any]:
    return ARENA | {"question_id": question, "games": [{"score": score} for score in scores]}


AWKWARD: dict[str, tuple[list[dict[str, Any]], dict[str, float]]] = {
    "arena_hard, one game": (
        [_games("q1", "B>A", "A>B"), _games("q2", "B>A"), _games("q3")],
        {"n": 1, "unscored": 2, "win_rate_half_ties": 100.0, "tie_rate": 0.0},
    ),
    "arena_hard, one game unread": (
        [_games("q1", "A>B", "A>B"), _games("q2", "B>A", None)],
        {"n": 1, "unscored": 1, "win_rate_half_ties": 50.0, "tie_rate": 100.0},
    ),
    "mt_bench, one game in error": (
        [MT_PAIR, MT_PAIR | {"question_id": 82, "g2_winner": "error"}],
        {"n": 1, "unscored": 1, "win_rate_half_ties": 100.0, "tie_rate": 0.0},
    ),
    "alpaca_eval, equal texts": (
        [ALPACA, ALPACA | {"instruction": "Say cup.", "output_1": "Cup.", "output_2": "Cup."}],
        {"n": 2, "unscored": 0, "win_rate_half_ties": 75.0, "tie_rate": 50.0},
    ),
}


@pytest.mark.parametrize("state", AWKWARD)
def test_imported_scores_are_what_the_store_reads(state: str) -> None:
    rows, wanted = AWKWARD[state]
    record = _single(_write("a.jsonl", rows))
    assert _facts(record) == wanted
    scores = {score.metric: score for score in record.scores}
    for metric in ("win_rate_half_ties", "tie_rate"):
        score = scores[metric]
        assert (score.value, score.n, score.unscored) == (
            wanted[metric],
            wanted["n"],
            wanted["unscored"],
        )


def test_a_later_file_takes_nothing_from_an_earlier_one() -> None:
    first = [ALPACA, ALPACA | {"instruction": "Say cup."}]
    later = [ALPACA | {"preference": 1}, ALPACA | {"instruction": "Say cup.", "preference": None}]
    with Store.open("one.db") as store:
        for rows in (first, later, first):
            store_runs(store, read_path(_write("a.json", rows)).runs)
        found = [load_run(store, run) for run in list_runs(store)]
        assert not [f for f in check(store) if f.broken and f.found]
    assert sorted((_facts(r)["n"], _value(r, "win_rate_half_ties")) for r in found) == [
        (1, 0.0),
        (2, 100.0),
    ]
    for record in found:
        assert _facts(record)["win_rate_half_ties"] == _value(record, "win_rate_half_ties")


def test_what_a_model_thought_is_kept_apart() -> None:
    rows = [
        ALPACA | {"output_2": "<think>Tea or coffee?</think>\n\nTea."},
        ALPACA | {"instruction": "Say cup.", "output_2": "<think>Cup"},
    ]
    record = read_path(_write("a.json", rows)).runs[0]
    with Store.open("s.db") as store:
        (run_id,) = store_runs(store, [record])
        run = find_run(store, run_id)
        made = [entry.response for entry in answered(store, run.list_key, run.generation_key)]
    found = [(one.text, one.reason, one.thinking) for one in made if one]
    assert found == [("Tea.", None, "Tea or coffee?"), (None, CUT, "Cup")]
    # The other tool judged both: its verdicts are on them whatever we make of the replies.
    assert {score.metric: score.n for score in record.scores}["win_rate"] == 2
