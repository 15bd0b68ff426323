"""What the YAML files of the verifiable tasks call: questions in, accuracy and calibration out.

The YAML files name these by dotted path (`!function mipo_eval.tasks.verifiable.f`); the short
form would load a second copy of the module. Rates are 0-100.
"""

import re
from functools import cache
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mipo_eval.errors import ConfigError, DataError
from mipo_eval.metrics.calibration import ChoiceOutcome, choice_outcome, expected_calibration_error
from mipo_eval.records import Item
from mipo_eval.tasks.grading import grade
from mipo_eval.tasks.questions import LETTERS
from mipo_eval.tasks.sources import load_source

Document = dict[str, Any]
Form = Literal["solution", "letter", "letter_likelihood", "text_likelihood"]


def load_documents(
    source: str,
    *,
    form: Form,
    data_dir: str | None = None,
    limit: int | None = None,
    **_metadata: object,
) -> dict[str, Any]:
    """Return the questions of a source as lm-eval wants them: {"test": Dataset}.

    Args:
        source: a set of questions in `tasks.sources.SOURCES`.
        form: how a question is asked: for a worked solution, for the letter of a choice, or not
            at all, by the likelihood of each letter or of each choice's text.
        data_dir: where local files are; default `settings.data_dir()`. Without them the hub.
        limit: only the first so many questions.
        _metadata: lm-eval passes all of a task's metadata; the rest is not for us.

    Raises:
        ConfigError: the form does not fit the questions.
        DataError: the questions cannot be read.
    """
    import datasets

    items = load_source(source, Path(data_dir) if data_dir else None, "test")
    return {"test": datasets.Dataset.from_list([document(i, form) for i in islice(items, limit)])}


def document(item: Item, form: Form) -> Document:
    """Return the lm-eval document of a question.

    Its fields: "query" (the prompt), "target" (the answer as text), and for choices "options"
    (what can be continued with) and "gold" (index of the right one).
    """
    kind = item.meta.get("kind")
    if kind != ("number" if form == "solution" else "choice"):
        raise ConfigError(
            f"{item.item_id} cannot be asked for in the form {form!r}: its answer is a {kind}"
        )
    common = {"item_key": item.key, "item": item.model_dump_json(), "target": item.reference or ""}
    if form == "solution":
        return {**common, "query": f"Q: {item.prompt}\nA:"}
    letters = list(LETTERS[: len(item.meta["choices"])])
    by_text = form == "text_likelihood"
    queries = {
        "letter": f"{item.prompt}\n\n{_template('letter')}",
        "letter_likelihood": f"{item.prompt}\nAnswer:",
        "text_likelihood": f"Question: {item.meta['question']}\nAnswer:",
    }
    return {
        **common,
        "query": queries[form],
        "options": item.meta["choices"] if by_text else letters,
        "gold": letters.index(common["target"]),
    }


@cache
def _template(name: str) -> str:
    path = resources.files(__package__) / "prompts" / f"verifiable_{name}.txt"
    return path.read_text(encoding="utf-8").strip()


def score_reply(doc: Document, results: list[str]) -> dict[str, float]:
    """Return accuracy and the rate of replies without a readable answer, for one question."""
    grading = grade(Item.model_validate_json(doc["item"]), results[0])
    return {
        "accuracy": 100.0 * (grading == "right"),
        "unextracted_rate": 100.0 * (grading == "unextracted"),
    }


def score_likelihoods(doc: Document, results: list[tuple[float, bool]]) -> dict[str, Any]:
    """Return what each metric needs of one question, from one log-probability per option.

    `accuracy_norm` divides a text's log-probability by its length in bytes first, so that short
    choices are not preferred; probabilities, and so entropy and calibration, do not.
    """
    logprobs = np.array([logprob for logprob, _greedy in results])
    outcome = choice_outcome(logprobs, doc["gold"])
    lengths = np.array([len(option.encode()) for option in doc["options"]])
    by_length = int(np.argmax(logprobs / np.maximum(lengths, 1)))
    conditional = "answer_entropy_correct" if outcome.correct else "answer_entropy_wrong"
    return {
        "accuracy": 100.0 * outcome.correct,
        "accuracy_norm": 100.0 * (by_length == doc["gold"]),
        "answer_entropy": outcome.entropy,
        conditional: outcome.entropy,
        "brier": outcome.brier,
        "ece": outcome,
    }


def ece(outcomes: list[ChoiceOutcome]) -> float:
    """Return the expected calibration error, 0-1, of all questions."""
    return expected_calibration_error(outcomes)


def eight_shots() -> list[dict[str, str]]:
    """Return the eight usual worked examples (Wei et al., 2022), as the installed lm-eval has them.

    Their final sentence becomes the line `#### 6` that the paper's answers end with.

    Raises:
        DataError: the installed lm-eval does not have the examples where they were.
    """
    return [
        {"query": f"Q: {question}\nA:", "target": f"{reasoning}\n#### {answer}"}
        for question, reasoning, answer in lm_eval_shots()
    ]


def lm_eval_shots() -> list[tuple[str, str, str]]:
    """Return (question, reasoning, answer) of the examples in lm-eval's task `gsm8k_cot`."""
    import yaml

    path = resources.files("lm_eval") / "tasks" / "gsm8k" / "gsm8k-cot.yaml"
    try:
        samples = yaml.safe_load(path.read_text(encoding="utf-8"))["fewshot_config"]["samples"]
        parsed = [
            (sample["question"], *_split_answer(" ".join(sample["target"].split())))
            for sample in samples
        ]
    except (OSError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        raise DataError(
            f"{path}: the worked examples are not as lm-eval 0.4.13 has them ({error}); "
            "install the lm-eval version mipo-eval asks for"
        ) from error
    if len(parsed) != 8:
        raise DataError(f"{path}: holds {len(parsed)} worked examples instead of 8")
    return parsed


def _split_answer(target: str) -> tuple[str, str]:
    match = re.fullmatch(r"(?P<reasoning>.+) The answer is (?P<answer>[\d,.]*\d)\.", target)
    if match is None:
        raise ValueError(f"{target!r} does not end in 'The answer is N.'")
    return match["reasoning"], match["answer"]
