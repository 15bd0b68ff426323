"""The verifiable lm-eval tasks: every YAML file loads, shots, documents, a real model."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from mipo_eval.errors import ConfigError
from mipo_eval.records import Item
from mipo_eval.tasks.answers import extract_choice
from mipo_eval.tasks.hooks import (
    eight_shots,
    question_document,
    score_likelihoods,
    score_reply,
)
from mipo_eval.tasks.questions import QUESTION_SETS
from mipo_eval.tasks.sources import SOURCES
from mipo_eval.tasks.suites import SUITES
from mipo_eval.tasks.wordings import read_wording

TASKS = Path(__file__).parents[2] / "tasks"
YAMLS = sorted(path.name for path in TASKS.glob("*.yaml") if not path.name.startswith("_"))
CHOICE = Item(
    item_id="q",
    prompt="What is wet?\nA. fire\nB. water\nC. sand",
    reference="B",
    meta={"kind": "choice", "question": "What is wet?", "choices": ["fire", "water", "sand"]},
)
NUMBER = Item(item_id="n", prompt="2+3?", reference="5", meta={"kind": "number"})


@pytest.mark.parametrize("name", YAMLS)
def test_every_yaml_file_is_read_by_lm_eval(name: str) -> None:
    """lm-eval skips a broken file at debug level, so each is loaded with its functions here."""
    from lm_eval.tasks import TaskManager
    from lm_eval.tasks._yaml_loader import load_yaml

    config = load_yaml(TASKS / name)
    manager = TaskManager(include_path=str(TASKS), include_defaults=False)
    assert config.get("task") in manager.all_tasks or config.get("group") in manager.all_groups
    for function in (config.get("custom_dataset"), config.get("process_results")):
        assert function is None or callable(function)
        assert function is None or function.__module__.startswith("mipo_eval.tasks.")
    if "task" in config and "group" not in config:
        assert config["task"] == name.removesuffix(".yaml")
        assert config["metadata"]["source"] in {*SOURCES, "items.jsonl"}


def test_the_shots_are_the_usual_eight(shared_data: Path) -> None:
    theirs = json.loads((shared_data / "fewshot/OLMES_STD_GSM8k.json").read_text())["shots"]
    assert eight_shots() == [
        {
            "query": f"Q: {shot['question']}\nA:",
            "target": shot["answer"].removesuffix(f" So the answer is {shot['short_answer']}.")
            + f"\n#### {shot['short_answer']}",
        }
        for shot in theirs
    ]


def test_documents() -> None:
    assert question_document(NUMBER, "solution")["query"] == "Q: 2+3?\nA:"
    reasoned, bare = (read_wording(name, "choice") for name in ("reasoned", "letter"))
    letter = question_document(CHOICE, "letter", bare)
    assert letter["query"].startswith("What is wet?\nA. fire\nB. water\nC. sand\n\nReply with")
    assert (letter["target"], letter["gold"]) == ("B", 1)
    likely = question_document(CHOICE, "letter_likelihood", bare)
    assert (likely["query"], likely["options"]) == (letter["query"], ["A", "B", "C"])
    assert question_document(CHOICE, "letter") == question_document(CHOICE, "letter", reasoned)


def test_entropy_is_read_under_the_wording_of_accuracy() -> None:
    """The same query, and each letter as the line with which a reasoned reply ends."""
    asked = question_document(CHOICE, "letter")
    likely = question_document(CHOICE, "letter_likelihood")
    assert likely["query"] == asked["query"]
    assert "step by step" in asked["query"]
    assert likely["options"] == [f"The answer is {letter}" for letter in "ABC"]
    for option, letter in zip(likely["options"], "ABC", strict=True):
        assert extract_choice(f"Fire burns. {option}.", "ABC") == letter


def test_other_forms_of_questions() -> None:
    texts = question_document(CHOICE, "text_likelihood")
    assert texts["options"] == ["fire", "water", "sand"]
    assert texts["query"] == "Question: What is wet?\nAnswer:"
    with pytest.raises(ConfigError, match="its answer is a choice"):
        question_document(CHOICE, "solution")
    with pytest.raises(ConfigError, match="its answer is a number"):
        question_document(NUMBER, "letter")


@pytest.mark.parametrize(
    ("reply", "accuracy", "unextracted"), [("B", 1, 0), ("C", 0, 0), ("wet things", 0, 1)]
)
def test_score_reply(reply: str, accuracy: float, unextracted: float) -> None:
    scores = score_reply(question_document(CHOICE, "letter"), [reply])
    assert scores == {"accuracy": accuracy, "unextracted_rate": unextracted}


def test_score_likelihoods() -> None:
    doc = question_document(CHOICE, "text_likelihood")
    even = score_likelihoods(doc, [(-2.0, False)] * 3)
    assert even["answer_entropy"] == even["answer_entropy_wrong"] == pytest.approx(math.log(3))
    assert even["accuracy"] == 0  # the first of equal choices is taken, and it is wrong
    sure = score_likelihoods(doc, [(-50.0, False), (-1.0, True), (-50.0, False)])
    assert sure["accuracy"] == 1
    assert sure["answer_entropy_correct"] < 1e-9
    assert "answer_entropy_wrong" not in sure
    long = score_likelihoods(doc, [(-4.0, False), (-4.5, False), (-9.0, False)])
    assert (long["accuracy"], long["accuracy_norm"]) == (0, 1)  # -4.5/5 > -4/4


@pytest.fixture(scope="module")
def results(shared_data: Path) -> dict[str, Any]:
    """Every verifiable task on a few real questions with a real pretrained model."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    metadata: dict[str, Any] = {"data_dir": str(shared_data), "limit": 5}
    manager = TaskManager(include_path=str(TASKS), include_defaults=False, metadata=metadata)
    evaluated: dict[str, Any] = simple_evaluate(
        model="hf",
        model_args={"pretrained": str(shared_data / "stories260k" / "hf"), "dtype": "float32"},
        tasks=["verifiable", "mcq_likelihood"],
        task_manager=manager,
        gen_kwargs={"max_gen_toks": 16},
        bootstrap_iters=0,
        device="cpu",
        batch_size=5,
    )
    return evaluated


GENERATED = ["mipo_gsm8k", "mipo_svamp", "mipo_arc_easy", "mipo_arc_challenge", "mipo_mmlu"]
LIKELIHOOD = [
    f"mipo_{name}_{form}"
    for name in QUESTION_SETS
    if name not in {"gsm8k", "svamp"}
    for form in ("letters", "texts")
]


@pytest.mark.parametrize("task", GENERATED)
def test_generated_answers_of_a_real_model(results: dict[str, Any], task: str) -> None:
    scores = results["results"][task]
    samples = results["samples"][task]
    assert len(samples) == 5
    for sample in samples:
        item = Item.model_validate_json(sample["doc"]["item"])
        assert sample["doc"]["item_key"] == item.key
        assert sample["arguments"][0][0].count("####") == (
            9 if "8k" in task or "svamp" in task else 0
        )
        assert sample["accuracy"] + sample["unextracted_rate"] <= 100
    assert scores["accuracy,none"] == pytest.approx(
        sum(sample["accuracy"] for sample in samples) / 5
    )


@pytest.mark.parametrize("task", LIKELIHOOD)
def test_likelihoods_of_a_real_model(results: dict[str, Any], task: str) -> None:
    scores = results["results"][task]
    for sample in results["samples"][task]:
        choices = len(Item.model_validate_json(sample["doc"]["item"]).meta["choices"])
        assert len(sample["resps"]) == choices
        assert 0 <= sample["answer_entropy"] <= math.log(choices)
        assert 0 <= sample["brier"] <= 2
    parts = [
        scores[key]
        for key in ("answer_entropy_correct,none", "answer_entropy_wrong,none")
        if key in scores
    ]
    assert min(parts) <= scores["answer_entropy,none"] <= max(parts)
    assert 0 <= scores["ece,none"] <= 1


def test_groups_hold_their_tasks(results: dict[str, Any]) -> None:
    assert set(results["results"]) >= {*GENERATED, *LIKELIHOOD, "math", "mcq"}
    assert "accuracy,none" in results["results"]["math"]


def test_the_verifiable_suite_is_math_and_mcq() -> None:
    """As the lm-eval group of that name is."""
    from mipo_eval.tasks.suites import SUITES

    tasks = {name: set(SUITES[name].tasks) for name in ("verifiable", "math", "mcq")}
    assert tasks["verifiable"] == tasks["math"] | tasks["mcq"]
    assert len(SUITES["verifiable"].tasks) == 5


@pytest.mark.parametrize("choices", [None, "letters"])
def test_a_task_without_any_reply_says_why(choices: str | None) -> None:
    from mipo_eval.evaluation.score import answer_scores, likelihood_scores
    from mipo_eval.records import Item, Response
    from mipo_eval.store.responses import Answered

    items = [Item(item_id=str(n), prompt=f"{n}?", reference="A") for n in range(3)]
    long = [Response(item_key=i.key, text=None, reason="too long", prompt_hash="") for i in items]
    entries = [Answered(0, "t", i, r) for i, r in zip(items, [*long[:2], None], strict=True)]
    (score,) = (
        likelihood_scores(entries, choices=choices, seed=0) if choices else answer_scores(entries)
    )
    assert (score.metric, score.value, score.n) == ("accuracy", None, 0)
    assert score.unscored_reasons == {"too long": 2, "not generated": 1}


@pytest.mark.parametrize("name", ["math", "gsm8k_full", "mcq", "verifiable", "mcq_letters"])
def test_suites_know_which_tasks_open_with_instructions(name: str) -> None:
    from lm_eval.tasks._yaml_loader import load_yaml

    suite = SUITES[name]
    files = [load_yaml(TASKS / f"{task.lm_eval_task}.yaml") for task in suite.tasks]
    assert suite.has_instructions is any("description" in file for file in files)
