"""The main job: what was asked on the command line, turned into an evaluation and shown."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from mipo_eval.errors import BackendError, MipoEvalError
from mipo_eval.evaluation.asked import EvaluationOptions
from mipo_eval.keys import masked

if TYPE_CHECKING:
    from mipo_eval.cli.render import Output
    from mipo_eval.evaluation.generate import Evaluation
    from mipo_eval.evaluation.run import Result
    from mipo_eval.judges.judge import Judge
    from mipo_eval.models.base import Purse
    from mipo_eval.records import Run, Score
    from mipo_eval.store.engine import Store


def run_evaluation(
    asked: EvaluationOptions, models: Sequence[str], store_url: str, *, as_json: bool
) -> None:
    """Do the main job for one model after the other and print their scores.

    `--max-cost` is for all of them. Where one cannot be evaluated the others are all the same.

    Raises:
        MipoEvalError: one was not evaluated; what is said of several names each.
    """
    from mipo_eval.cli.render import Output
    from mipo_eval.evaluation.asked import purse_of
    from mipo_eval.store.engine import Store

    output = Output(as_json=as_json)
    purse, documents, failed = purse_of(asked), [], {}
    with Store.open(store_url) as store:
        for model in dict.fromkeys(models):
            try:
                found = _evaluated(store, replace(asked, model=model), purse, output)
            except MipoEvalError as error:
                failed[model] = error
                continue
            documents.append(found.document)
            try:
                conclude(output, found.judges, found.unanswered)
            except BackendError as error:
                failed[model] = error
    if len(models) > 1:
        why = [{"model": model, "error": masked(str(error))} for model, error in failed.items()]
        output.document({"runs": documents, "failed": why})
    else:
        for document in documents:
            output.document(document)
    if failed and len(models) == 1:
        raise failed[models[0]]
    if failed:
        raise BackendError("; ".join(f"{model}: {error}" for model, error in failed.items()))


class _Evaluated(NamedTuple):
    document: dict[str, object]
    judges: "Sequence[Judge]"
    unanswered: list[str]


def _evaluated(
    store: "Store", asked: EvaluationOptions, purse: "Purse | None", output: "Output"
) -> _Evaluated:
    """Evaluate one model and show its scores."""
    from mipo_eval.cli.render import score_tables
    from mipo_eval.evaluation.asked import build_evaluation
    from mipo_eval.evaluation.run import evaluate
    from mipo_eval.reports.names import stored_rules
    from mipo_eval.store.judges import failing_by_short_key

    evaluation = build_evaluation(asked, purse)
    result = evaluate(store, evaluation, output)
    unanswered = tell_of_model(store, evaluation, result, output)
    failing = failing_by_short_key(store)
    unanswered += complaints(_failed(result))
    rules = stored_rules(store)
    output.show(*score_tables(result.scores, result.run, failing, rules))
    if any("system_role" in score.signature.parts for score in result.scores):
        output.note(
            f"{asked.model} has no system role: the system prompt was put before the first user "
            "turn"
        )
    output.suggest("See responses and verdicts", "show", result.run.run_id[:8])
    document = result_json(result, failing) | {"unanswered": unanswered}
    return _Evaluated(document, result.judges, unanswered)


def evaluate_asked(asked: EvaluationOptions, store: "Store", output: "Output") -> "Result":
    """Do the main job on an open store."""
    from mipo_eval.evaluation.asked import build_evaluation
    from mipo_eval.evaluation.run import evaluate

    evaluation = build_evaluation(asked)
    result = evaluate(store, evaluation, output)
    for line in tell_of_model(store, evaluation, result, output):
        output.warn(line)
    return result


def tell_of_model(
    store: "Store", evaluation: "Evaluation", result: "Result", output: "Output"
) -> list[str]:
    """Say what a model cost, what it did not answer and how; return where that was most of it."""
    backend = evaluation.options.backend
    failed, unanswered = unanswered_lines(store, result.run, backend)
    cut = cut_lines(store, result, evaluation.decoding.max_tokens)
    for line in (*failed, *cut, *word_lines(result.scores)):
        output.warn(line)
    for line in expenses([(result.run.model, backend)]):
        output.note(line)
    return unanswered


def word_lines(scores: "Iterable[Score]") -> list[str]:
    """Return a line for each task whose texts are no words with spaces between them."""
    found = {score.task: tok for score in scores if (tok := score.signature.parts.get("tok"))}
    lines = {
        "zh": "takes every Chinese character for a word",
        "ja-mecab": "finds Japanese words",
        "char": "takes every character for a word (for Japanese words: "
        "pip install 'sacrebleu[ja]')",
    }
    return [
        f"{task} is written without spaces, so sacreBLEU's {tok} {lines[tok]}: do not compare its "
        "diversity with numbers that were made with 13a"
        for task, tok in found.items()
        if tok in lines
    ]


def cut_lines(store: "Store", result: "Result", max_tokens: int) -> list[str]:
    """Return what to do where responses, or judges' replies, were cut inside their thinking."""
    from mipo_eval.judges.judge import CUT_JUDGE
    from mipo_eval.models.thinking import CUT
    from mipo_eval.store.responses import unanswered

    run, lines = result.run, []
    if cut := sum(one.items for one in unanswered(store, run) if one.reason == CUT):
        lines.append(
            f"{cut} of {run.n_items} responses of {run.model} were {CUT}, so they are missing: "
            f"give the model more than {max_tokens} tokens with --decoding max_tokens=N, or let "
            "it think less with --engine enable_thinking=false or thinking_budget=N"
        )
    for judge in result.judges:
        of_judge = [one for one in result.scores if one.judge == judge.name and not one.control]
        if cut := max((_counted(one, CUT_JUDGE) for one in of_judge), default=0):
            lines.append(judge_cut_line(judge, cut))
    return lines


def _counted(score: "Score", reason: str) -> int:
    """Return how many items have no value for a reason, on the response's or reference's side."""
    return sum(n for why, n in score.unscored_reasons.items() if reason in why)


def judge_cut_line(judge: "Judge", items: int) -> str:
    """Return what to do where a judge was cut inside its thinking."""
    return (
        f"{judge.name} was cut inside its thinking on {items} items, which have no verdict: write "
        f"a preset (YAML) for it with more than max_tokens: {judge.sampling.max_tokens}, or with "
        "enable_thinking: false"
    )


def run_json(run: "Run") -> dict[str, object]:
    """Return what `--json` says of a run anywhere."""
    names = ("run_id", "model", "suite", "prompting", "seed", "n_items")
    return {name: getattr(run, name) for name in names}


def result_json(
    result: "Result", failing: Mapping[str, Sequence[str]] = MappingProxyType({})
) -> dict[str, object]:
    """Return a run as `--json` shows it, with judges not to be believed: failed, or broken here."""
    from mipo_eval.evaluation.controls import winners

    keys = dict.fromkeys(score.judge_key or "" for score in result.scores)
    return run_json(result.run) | {
        "scores": [score.to_json() for score in result.scores],
        "judge_failings": {key: list(failing[key]) for key in keys if key in failing},
        "broken": [winner._asdict() | {"why": str(winner)} for winner in winners(result.scores)],
    }


def expenses(asked: "Iterable[tuple[str, object]]") -> list[str]:
    """Return a line for each name of a model or judge that counts what it was asked now."""
    from mipo_eval.models.prices import HOW_TO_PRICE, Metered

    lines: list[str] = []
    for name, backend in asked:
        usage = backend.usage if isinstance(backend, Metered) else None
        if usage is not None and usage.tries:
            unknown = f"; its price is not known: {HOW_TO_PRICE}"
            cost = unknown if usage.cost is None else f", ${usage.cost:.4f}"
            tokens = usage.prompt_tokens + usage.completion_tokens
            lines.append(f"{name}: {usage.tries:,} calls, {tokens:,} tokens{cost}")
    return lines


def unanswered_lines(store: "Store", run: "Run", backend: object) -> tuple[list[str], list[str]]:
    """Return what to say of a model's calls that failed: by the way, and where most of them did."""
    from mipo_eval.models.base import CALL_FAILED
    from mipo_eval.models.prices import Metered
    from mipo_eval.store.responses import unanswered

    absent = [one for one in unanswered(store, run) if one.reason.startswith(CALL_FAILED)]
    if not (failed := sum(one.items for one in absent)):
        return [], []
    why = backend.usage.complaint if isinstance(backend, Metered) else None
    why = why or ", ".join(one.reason for one in absent)
    line = f"{run.model}: calls for {failed:,} of {run.n_items:,} items failed: {why}"
    few = f"{line}; repeat the command to ask again"
    return ([], [line]) if 2 * failed > run.n_items else ([few], [])


def complaints(counted: "Iterable[tuple[Judge, int, int]]") -> list[str]:
    """Return a line for each judge whose calls failed for most of what it judges.

    It ends with the server's own words, where it said some. `counted` are judges, each with the
    number that failed and with that of all.
    """
    from mipo_eval.models.prices import Metered

    found: dict[str, str] = {}
    for judge, failed, total in counted:
        if 2 * failed > total:
            backend = judge.backend
            why = backend.usage.complaint if isinstance(backend, Metered) else None
            told = f"{judge.name}: calls for {failed:,} of {total:,} failed"
            found[judge.key] = f"{told}: {why}" if why else told
    return list(found.values())


def failed_of(score: "Score") -> tuple[int, int]:
    """Return for how many items of a score a call to its judge failed, and of how many."""
    from mipo_eval.models.base import CALL_FAILED
    from mipo_eval.verdict import NOT_NEEDED

    reasons = score.unscored_reasons
    failed = sum(n for why, n in reasons.items() if why.startswith(CALL_FAILED))
    return failed, (score.n or 0) + score.unscored - reasons.get(NOT_NEEDED, 0)


def _failed(result: "Result") -> "Iterator[tuple[Judge, int, int]]":
    """Yield each judge with what failed of its judging the model under evaluation."""
    from mipo_eval.signature import short

    for judge in result.judges:
        for score in result.scores:
            if score.judge_key == short(judge.key) and score.control is None:
                yield judge, *failed_of(score)


def conclude(output: "Output", judges: "Sequence[Judge]", unanswered: "Sequence[str]") -> None:
    """Show what judges cost, and why they failed, where the numbers above stand for little.

    Raises:
        BackendError: the calls to a judge failed for most of what it judges.
    """
    from mipo_eval.cli.render import inert

    output.show(*(inert(line, "bold red") for line in unanswered))
    for line in expenses((judge.name, judge.backend) for judge in judges):
        output.note(line)
    if unanswered:
        raise BackendError(f"{'; '.join(unanswered)}; repeat the command to ask again")
