"""Runs of other tools against each other, item by item: their own scores, paired."""

import json
from pathlib import Path
from typing import Any

import pytest

from mipo_eval.cli import main
from mipo_eval.settings import store_url
from mipo_eval.store import Store
from mipo_eval.store.runs import get_scores

TEMPLATES = {"plain": "{}\nAnswer:", "llama": "<|user|>{}<|eot|>", "qwen": "<|im_start|>{}"}
"""The same question as three models see it."""
RIGHT = {"plain": range(20), "llama": range(10, 40), "qwen": range(0, 40, 2)}


def lm_eval_log(model: str, *, samples: bool = True) -> None:
    """Write what lm-eval writes for forty questions: two metrics, and one that is added up."""
    rows = []
    for n in range(40):
        right = float(n in RIGHT[model])
        rows.append(
            {
                "doc_id": n,
                "doc": {
                    "question": f"What is {n} + {n}?",
                    "choices": {"text": [f"{2 * n}", "none"], "label": ["A", "B"]},
                },
                "doc_hash": f"hash {n}",
                "target": "0",
                "arguments": {"gen_args_0": {"arg_0": TEMPLATES[model].format(n)}},
                "resps": [[["-1.5", "False"]], [["-2.5", "False"]]],
                "filtered_resps": [["-1.5", "False"], ["-2.5", "False"]],
                "filter": "none",
                "metrics": ["acc", "acc_norm", "word_perplexity"],
                "acc": right,
                "acc_norm": 1.0 - right,
                "word_perplexity": [-3.5, 4],
            }
        )
    folder = Path(model)
    folder.mkdir()
    time = "2026-01-02T03-04-05"
    acc = len(RIGHT[model]) / 40
    numbers = {"acc,none": acc, "acc_stderr,none": 0.1, "acc_norm,none": 1 - acc}
    results = {"results": {"sums": numbers}, "configs": {}, "model_name": model}
    (folder / f"results_{time}.json").write_text(json.dumps(results))
    if samples:
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"samples_sums_{time}.jsonl").write_text(lines)


def imported(capsys: pytest.CaptureFixture[str], *paths: str) -> list[str]:
    """The ids of the runs that an import made, in the order of the paths."""
    runs = []
    for path in paths:
        assert main(["import", path, "--json"]) == 0
        runs += [run["run_id"] for run in json.loads(capsys.readouterr().out)["runs"]]
    return runs


def compared(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, Any]:
    assert main(["compare", *argv, "--json"]) == 0
    (task,) = json.loads(capsys.readouterr().out)["tasks"]
    return dict(task)


def test_logs_of_lm_eval_are_paired_by_question_whatever_the_template(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for model in RIGHT:
        lm_eval_log(model)
    runs = imported(capsys, *RIGHT)
    found = compared(capsys, *runs)
    assert (found["metric"], found["judge"]) == ("acc", None)
    assert [run["value"] for run in found["runs"]] == [0.5, 0.75, 0.5]
    first = found["comparisons"][0]
    assert (first["difference"], first["n"], first["only_first"]) == (-0.25, 40, 0)
    assert (first["wins"], first["ties"], first["losses"]) == (10, 10, 20)
    other = compared(capsys, *runs[:2], "--metric", "acc_norm")
    assert [run["value"] for run in other["runs"]] == [0.5, 0.25]
    assert compared(capsys, *runs, "--judge", "acc_norm,none")["metric"] == "acc_norm"

    assert main(["leaderboard", "--json"]) == 0
    (section,) = json.loads(capsys.readouterr().out)["sections"]
    assert section["metric"] == "acc"
    cells = {row["model"]: row["cells"]["sums"] for row in section["rows"]}
    assert {name: (cell["value"], cell["n"]) for name, cell in cells.items()} == {
        "llama": (0.75, 40),
        "plain": (0.5, 40),
        "qwen": (0.5, 40),
    }
    assert all(cell["letters"] for cell in cells.values())
    assert cells["llama"]["ci95"] == pytest.approx((0.598, 0.858), abs=0.01)  # about Wilson's
    assert cells["llama"]["rank"] == 1


def test_what_is_no_number_of_a_sample_is_no_missing_value(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lm_eval_log("plain")
    assert main(["import", "plain"]) == 0
    out = capsys.readouterr().out
    assert "40 of 40 rows imported" in out
    assert "Without a value" not in out


def test_what_cannot_be_compared_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    lm_eval_log("plain")
    lm_eval_log("llama")
    runs = imported(capsys, "plain", "llama")
    assert main(["compare", *runs, "--metric", "accuracy"]) == 2
    assert "no item in common" in capsys.readouterr().err
    assert main(["compare", *runs, "--metric", "bleu"]) == 2
    assert "'bleu' has no value for each item of these runs; acc, acc_norm" in (
        capsys.readouterr().err
    )


def test_numbers_without_samples_say_how_to_get_them(capsys: pytest.CaptureFixture[str]) -> None:
    for model in ("plain", "llama"):
        lm_eval_log(model, samples=False)
    runs = imported(capsys, "plain", "llama")
    assert main(["compare", *runs]) == 2
    assert "lm-eval writes them with --log_samples" in capsys.readouterr().err


def inspect_log(model: str, right: range) -> Path:
    samples = [
        {
            "id": n,
            "epoch": 1,
            "input": f"What is {n} + {n}?",
            "target": str(2 * n),
            "output": {"completion": "" if n == 39 else str(n)},
            "scores": {"match": {"value": "C" if n in right else "I"}},
        }
        for n in range(40)
    ]
    accuracy = {"accuracy": {"name": "accuracy", "value": len(right) / 40}}
    log = {
        "version": 2,
        "status": "success",
        "eval": {"task": "sums", "model": model, "created": "2026-01-02T03:04:05+00:00"},
        "results": {
            "completed_samples": 40,
            "scores": [{"name": "match", "scorer": "match", "metrics": accuracy}],
        },
        "samples": samples,
    }
    path = Path(f"{model}.json")
    path.write_text(json.dumps(log))
    return path


def test_logs_of_inspect_are_paired_too(capsys: pytest.CaptureFixture[str]) -> None:
    paths = [inspect_log("a", range(40)), inspect_log("b", range(20))]
    runs = imported(capsys, *map(str, paths))
    found = compared(capsys, *runs)
    assert (found["metric"], found["judge"].split()[0]) == ("accuracy", "match")
    assert [(run["value"], run["n"]) for run in found["runs"]] == [(100, 40), (50, 40)]
    with Store.open(store_url()) as store:
        scores = {(s.metric, s.value): s.ci95 for run in runs for s in get_scores(store, run)}
    assert scores["accuracy", 100.0] == pytest.approx((91.2, 100), abs=0.1)  # not 100 to 100
    assert scores["grade_mean", 1.0] == pytest.approx((0.912, 1), abs=0.001)
    (pair,) = found["comparisons"]
    assert (pair["difference"], pair["significant"]) == (50, True)
    means = compared(capsys, *runs, "--metric", "grade_mean")
    assert [run["value"] for run in means["runs"]] == [1.0, 0.5]
    assert main(["leaderboard", "--json"]) == 0
    (section,) = json.loads(capsys.readouterr().out)["sections"]
    assert [(row["model"], row["cells"]["sums"]["letters"]) for row in section["rows"]] == [
        ("a", "a"),
        ("b", "b"),
    ]


def test_the_grade_of_two_turns_is_compared_over_both(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {
            "question_id": question,
            "model": model,
            "judge": ["gpt-4", "single-v1"],
            "user_prompt": f"Rate {question}.",
            "judgment": "Fine. Rating: [[8]]",
            "score": score + (question % 2),
            "turn": turn,
        }
        for model, score in (("a", 8), ("b", 5))
        for question in range(12)
        for turn in (1, 2)
    ]
    Path("judged.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    imported(capsys, "judged.jsonl")
    assert main(["leaderboard", "--json"]) == 0
    (section,) = json.loads(capsys.readouterr().out)["sections"]
    assert section["metric"] == "grade_mean"
    for task, n in (("average", 24), ("turn 1", 12), ("turn 2", 12)):
        cells = [row["cells"][task] for row in section["rows"]]
        assert [(cell["value"], cell["n"], cell["letters"]) for cell in cells] == [
            (8.5, n, "a"),
            (5.5, n, "b"),
        ], task


def test_numbers_below_zero_have_intervals_below_zero_over_seeds(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What another tool measured can be anything, such as a log-probability."""
    for seed, model in enumerate(("plain", "llama")):
        lm_eval_log(model)
        for path in Path(model).iterdir():
            text = path.read_text()
            mean = json.dumps(1 - len(RIGHT[model]) / 40)
            for old, new in (
                ('"acc_norm": 1.0', '"acc_norm": -3.0'),
                ('"acc_norm": 0.0', '"acc_norm": -4.0'),
                (f'"acc_norm,none": {mean}', f'"acc_norm,none": {float(mean) - 4}'),
                (f'"model_name": "{model}"', f'"model_name": "m-seed{seed}"'),
            ):
                text = text.replace(old, new)
            path.write_text(text)
    imported(capsys, "plain", "llama")
    for metric in ([], ["--metric", "acc_norm"]):
        assert main(["leaderboard", "--suite", "sums", *metric]) == 2
        assert "no scores on the suite 'sums'; it has lm_eval/sums" in capsys.readouterr().err
    assert main(["leaderboard", "--suite", "lm_eval/sums", "--metric", "acc_norm", "--json"]) == 0
    ((row,),) = [one["rows"] for one in json.loads(capsys.readouterr().out)["sections"]]
    (cell,) = row["cells"].values()
    assert cell["seeds"] == 2
    assert cell["ci95"][0] < cell["value"] < cell["ci95"][1]
    assert cell["value"] == pytest.approx(-3.625)
