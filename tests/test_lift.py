"""Context lift of a run: equal to two forward passes, stored, and refused without users."""

import json
from pathlib import Path

import pytest

from mipo_eval.cli import main
from mipo_eval.records import Item
from mipo_eval.tasks.items import write_items
from mipo_eval.tasks.likelihood import ScoringModel, TokenPair
from mipo_eval.tasks.prompt import render_query


def _items(contexts: int) -> list[Item]:
    return [
        Item(item_id=str(n), prompt="What is tea?", context=f"I am number {n % contexts}.")
        for n in range(6)
    ]


def test_lift_is_the_difference_of_two_passes(
    tiny_model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    items = _items(6)
    write_items(Path("tea.jsonl"), items)
    argv = ["--model", str(tiny_model), "--suite", "tea.jsonl", "--decoding", "max_tokens=8"]
    argv += ["--engine", f"scoring_model={tiny_model}", "--json"]
    assert main(argv) == 0
    document = json.loads(capsys.readouterr().out)
    found = {score["metric"]: score for score in document["scores"]}
    assert main(["show", document["run_id"], "--samples", "6", "--json"]) == 0
    samples = json.loads(capsys.readouterr().out)["samples"]
    model = ScoringModel.load(str(tiny_model))
    lifts = []
    for item, sample in zip(items, samples, strict=True):
        response = model.response_ids(sample["response"])
        passes = [
            model.logprobs([TokenPair(model.prompt_ids(render_query(item, how)), response)])[0]
            for how in ("personalized", "default")
        ]
        lifts.append(passes[0] - passes[1])
    assert found["context_lift"]["value"] == pytest.approx(sum(lifts) / 6, abs=1e-3)
    assert found["context_retrieval"]["n"] == 6
    assert "contexts:6" in found["infonce_bound"]["signature"]
    # What is stored is not measured again: the model is not even loaded.
    monkeypatch.setattr(ScoringModel, "load", lambda *_, **__: pytest.fail("measured again"))
    assert main(argv) == 0
    assert json.loads(capsys.readouterr().out) == document


@pytest.mark.parametrize(
    ("contexts", "scorer", "message"),
    [
        (1, None, "1 different contexts in 6 items"),
        (6, "./nowhere", "there is no checkpoint at ./nowhere"),
    ],
)
def test_what_cannot_be_measured_is_one_clear_line(
    tiny_model: Path,
    capsys: pytest.CaptureFixture[str],
    contexts: int,
    scorer: str | None,
    message: str,
) -> None:
    write_items(Path("tea.jsonl"), _items(contexts))
    argv = ["--model", str(tiny_model), "--suite", "tea.jsonl", "--decoding", "max_tokens=8"]
    assert main([*argv, "--engine", f"scoring_model={scorer or tiny_model}"]) == 2
    assert message in capsys.readouterr().err
