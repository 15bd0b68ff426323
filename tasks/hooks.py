"""What the YAML files of the tasks call: items in as documents, metrics out. Rates are 0-100.

The YAML files name these by dotted path (`!function mipo_eval.tasks.hooks.f`); the short form
would load a second copy of the module. Under the plain `lm_eval` command the metrics of the
personalization tasks are judge-free unless MIPO_EVAL_JUDGE names a judge; `mipo-eval` itself only
takes the responses.
"""

import asyncio
import os
import re
from functools import partial
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mipo_eval import settings
from mipo_eval.errors import ConfigError, DataError
from mipo_eval.metrics.calibration import choice_outcome
from mipo_eval.metrics.win_rate import METRIC_NAMES
from mipo_eval.models.thinking import response_of
from mipo_eval.records import Item, Score, text_key
from mipo_eval.stats.bootstrap import Crossed
from mipo_eval.store.engine import Store
from mipo_eval.store.items import put_list
from mipo_eval.store.verdicts import totals
from mipo_eval.tasks.answers import LETTERS, grade
from mipo_eval.tasks.prompt import Prompting, render_query, render_system
from mipo_eval.tasks.sources import load_source
from mipo_eval.tasks.wordings import Asks, Wording, read_wording, usual
from mipo_eval.verdict import from_totals

Document = dict[str, Any]
QuestionForm = Literal["solution", "letter", "letter_likelihood", "text_likelihood"]
"""How a question is asked: for a worked solution, for the letter of a choice, or not at all, by the
likelihood of each letter or of each choice's text."""


def documents(
    source: str,
    *,
    form: QuestionForm | None = None,
    prompting: Prompting = "personalized",
    data_dir: str | None = None,
    limit: int | None = None,
    **metadata: object,
) -> dict[str, Any]:
    """Return the test documents of a source as lm-eval wants them: {"test": Dataset}.

    lm-eval passes all of a task's metadata, of which `query` names a wording or its file, and the
    rest is not for us. Without a `form` the items are users' prompts, not questions; `prompting`
    is for those.

    Raises:
        ConfigError: there is no such source, or the form does not fit its questions.
        DataError: the items cannot be read.
    """
    import datasets

    asks = _asks(form)
    wording = read_wording(str(metadata.get("query") or usual(asks, source)), asks)

    def document(item: Item) -> Document:
        if form:
            return question_document(item, form, wording)
        return {
            "item_key": item.key,
            "query": render_query(item, prompting, wording),
            "system": render_system(item, prompting, wording),
            "prompt": item.prompt,
            "reference": item.reference or "",
            "prefill": item.prefill,
            "item": item.model_dump_json(),
        }

    items = islice(load_source(source, Path(data_dir) if data_dir else None, "test"), limit)
    made = [document(item) for item in items]
    return {"test": datasets.Dataset.from_list(made)}


def _asks(form: QuestionForm | None) -> Asks:
    return "query" if form is None else "number" if form == "solution" else "choice"


def score_response(document: Document, results: list[str]) -> dict[str, Any]:
    """Return what each metric needs of one response; the aggregations below do the rest."""
    response = response_of(results[0])
    values: dict[str, Any] = {"self_bleu_4": response, "empty_rate": float(not response.strip())}
    if os.environ.get(settings.JUDGE):
        values |= dict.fromkeys(JUDGED_METRICS, (document["item"], response))
    return values


def self_bleu_4(responses: list[str]) -> float:
    """Self-BLEU-4 of all responses, 0-1; lower is more diverse (Tables 3 and 4)."""
    from mipo_eval.metrics.self_bleu import self_bleu
    from mipo_eval.metrics.words import tokenizer_for

    texts = [text for text in responses if text.strip()]
    return self_bleu(texts, tokenize=tokenizer_for(texts)).mean


JUDGED_METRICS = (*METRIC_NAMES.values(), "tie_rate", "rating_mean")


def _judged(metric: str, judged: list[tuple[str, str]]) -> float:
    """Judge items and their responses, and return a rubric score; NaN where there is none.

    Ratings and calls go to the store, so every metric after the first costs nothing.

    Raises:
        ConfigError: no such judge.
        BackendError: the judge cannot be asked.
        DataError: there is nothing to judge.
    """
    from mipo_eval.judges.presets import load_judge
    from mipo_eval.judges.run import rate, with_references
    from mipo_eval.metrics.aggregate import mean_score
    from mipo_eval.metrics.win_rate import outcome_rates

    pairs = [(Item.model_validate_json(item), text) for item, text in judged]
    if not pairs:
        raise DataError("there is no response to judge")
    judge = load_judge(os.environ[settings.JUDGE])
    with Store.open(settings.store_url()) as store:
        list_key, _ = put_list(store, [("judged", (item for item, _ in pairs))])
        asyncio.run(rate(store, judge, with_references(pairs)))
        known = totals(store, judge.key, list_key)
    verdicts, means = [], []
    for item, text in pairs:
        total = known.get((item.key, text_key(text))) if text.strip() else None
        other = known.get((item.key, text_key(item.reference))) if item.reference else None
        verdicts.append(from_totals(total, other, len(item.preferences)))
        whole = total is not None and 0 < len(item.preferences) == total.rated
        means.append(total.points / total.rated if total and whole else None)
    found: list[Score] = []
    groups = [Crossed(item.group, item.user_id) for item, _ in pairs]
    if any(verdict.winner for verdict in verdicts):
        found += outcome_rates([verdict.credit for verdict in verdicts], groups=groups)
    if any(mean is not None for mean in means):
        found.append(mean_score("rating_mean", means, groups=groups))
    values = {score.metric: score.value for score in found}
    return float("nan") if (value := values.get(metric)) is None else value


# YAML can only name a function: one for each metric, from the items and responses of a task.
win_rate_tie_inclusive, win_rate_half_ties, win_rate_strict, tie_rate, rating_mean = (
    partial(_judged, metric) for metric in JUDGED_METRICS
)


def question_document(item: Item, form: QuestionForm, wording: Wording | None = None) -> Document:
    """Return the lm-eval document of a question, in the usual wording if none is given.

    The likelihood of letters is read behind the same query as a reply that is generated, as the
    line with which that reply ends: so entropy and accuracy are of one wording.

    Its fields: "query" (the prompt), "target" (the answer as text), and for choices "options"
    (what can be continued with) and "gold" (index of the right one).
    """
    kind = item.meta.get("kind")
    if kind != ("number" if form == "solution" else "choice"):
        raise ConfigError(
            f"{item.item_id} cannot be asked for in the form {form!r}: its answer is a {kind}"
        )
    wording = wording or read_wording(usual(_asks(form)), _asks(form))
    common = {"item_key": item.key, "item": item.model_dump_json(), "target": item.reference or ""}
    if form == "solution":
        return {**common, "query": wording.user.format(prompt=item.prompt)}
    letters = LETTERS[: len(item.meta["choices"])]
    asked = {"query": wording.user.format(prompt=item.prompt), "options": list(letters)}
    if form == "letter_likelihood":
        asked["options"] = wording.replies(letters)
    elif form == "text_likelihood":
        question = f"Question: {item.meta['question']}\nAnswer:"
        asked = {"query": question, "options": item.meta["choices"]}
    return {**common, **asked, "gold": letters.index(common["target"])}


def score_reply(doc: Document, results: list[str]) -> dict[str, float]:
    """Return accuracy and the rate of replies without a readable answer, for one question, 0-1.

    So lm-eval shows them as it shows its own; in the store and on the board they are percent.
    """
    grading = grade(Item.model_validate_json(doc["item"]), results[0])
    return {
        "accuracy": float(grading == "right"),
        "unextracted_rate": float(grading == "unextracted"),
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
        "accuracy": float(outcome.correct),
        "accuracy_norm": float(by_length == doc["gold"]),
        "answer_entropy": outcome.entropy,
        conditional: outcome.entropy,
        "brier": outcome.brier,
        "ece": outcome,
    }


def eight_shots() -> list[dict[str, str]]:
    """Return the eight usual worked examples (Wei et al., 2022), as the installed lm-eval has them.

    Their final sentence becomes the line `#### 6` that the paper's answers end with.

    Raises:
        DataError: the installed lm-eval does not have the examples where they were.
    """
    import yaml

    path = resources.files("lm_eval") / "tasks" / "gsm8k" / "gsm8k-cot.yaml"
    final = re.compile(r"(?<=.) The answer is ([\d,.]*\d)\.$")
    shots = []
    try:
        for sample in yaml.safe_load(path.read_text("utf-8"))["fewshot_config"]["samples"]:
            target, ends = final.subn(r"\n#### \1", " ".join(sample["target"].split()))
            if ends:
                shots.append({"query": f"Q: {sample['question']}\nA:", "target": target})
    except (OSError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        raise DataError(
            f"{path}: the worked examples are not as lm-eval 0.4.13 has them ({error}); "
            "install the lm-eval version mipo-eval asks for"
        ) from error
    if len(shots) != 8:
        raise DataError(
            f"{path}: holds {len(shots)} worked examples that end in 'The answer is N.' instead of "
            "8; install the lm-eval version mipo-eval asks for"
        )
    return shots
