"""The main job: what was asked on the command line, turned into an evaluation and shown."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from mipo_eval import settings
from mipo_eval.cli.options import EvaluationOptions
from mipo_eval.errors import BackendError, ConfigError

if TYPE_CHECKING:
    from mipo_eval.cli.render import Output
    from mipo_eval.evaluation.run import Evaluation, Result
    from mipo_eval.judges.judge import Judge
    from mipo_eval.models.base import Purse
    from mipo_eval.models.lm_eval import ModelOptions
    from mipo_eval.records import Run, Score
    from mipo_eval.store.engine import Store

_MOST = 10**9
"""Of a setting; none comes near it."""

_DECODING: Mapping[str, type] = {
    "max_tokens": int,
    "temperature": float,
    "top_p": float,
    "top_k": int,
    "min_p": float,
    "repetition_penalty": float,
    "generation_config": str,
}
_BESIDE_THE_MODEL: Mapping[str, type] = {"scoring_model": str}
"""What `--engine` takes whatever the kind of model: another checkpoint that measures lift."""


def run_evaluation(asked: EvaluationOptions, store_url: str, *, as_json: bool) -> None:
    """Do the main job and print its scores."""
    from mipo_eval.cli.render import Output, score_tables
    from mipo_eval.evaluation.run import evaluate
    from mipo_eval.store.engine import Store
    from mipo_eval.store.judges import failing_by_short_key

    output = Output(as_json=as_json)
    with Store.open(store_url) as store:
        evaluation = build_evaluation(asked)
        result = evaluate(store, evaluation, output)
        unanswered = tell_of_model(store, evaluation, result, output)
        failing = failing_by_short_key(store)
    unanswered += complaints(_failed(result))
    output.document(result_json(result, failing) | {"unanswered": unanswered})
    output.show(*score_tables(result.scores, result.run, failing))
    if any("system_role" in score.signature.parts for score in result.scores):
        output.note(
            f"{asked.model} has no system role: the system prompt stood before the first user turn"
        )
    output.note(f"Responses and verdicts: mipo-eval show {result.run.run_id[:12]}")
    conclude(output, result.judges, unanswered)


def evaluate_asked(asked: EvaluationOptions, store: "Store", output: "Output") -> "Result":
    """Do the main job on an open store."""
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
        f"{task}: written without spaces, so sacreBLEU's {tok} {lines[tok]} where it is about "
        "diversity; do not compare that with numbers by 13a"
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
            f"{cut} of {run.n_items} responses of {run.model} were {CUT} and are none: give it "
            f"more than {max_tokens} tokens with --decoding max_tokens=N, or let it think less "
            "with --engine enable_thinking=false or thinking_budget=N"
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
        "failing_judges": {key: list(failing[key]) for key in keys if key in failing},
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
    line = f"{run.model}: calls for {failed:,} of {run.n_items:,} failed: {why}"
    return ([], [line]) if 2 * failed > run.n_items else ([f"{line}; repeat to ask again"], [])


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
            found[judge.key] = f"{judge.name}: calls for {failed:,} of {total:,} failed: {why}"
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
        raise BackendError(f"{'; '.join(unanswered)}; the same command asks again what failed")


def build_evaluation(asked: EvaluationOptions, purse: "Purse | None" = None) -> "Evaluation":
    """Return what the options ask for; nothing is loaded yet.

    `purse` is money that others share; None: the model and its judges have `--max-cost` together.
    """
    from mipo_eval.evaluation.run import Evaluation
    from mipo_eval.models.effort import check_room, parse_effort
    from mipo_eval.models.lm_eval import ENGINE_SETTINGS, decoding_for
    from mipo_eval.models.lm_eval_served import serving
    from mipo_eval.models.spec import checkpoint_name, parse_model
    from mipo_eval.tasks.suites import find_suite, with_query

    suite = with_query(find_suite(asked.suite), asked.query)
    specs = asked.judges or ((suite.judge,) if suite.judge else ())
    purse = purse or purse_of(asked)
    load = judge_loader(purse, batch=asked.batch)
    # What can be wrong is found before a model is looked at, which may take minutes.
    known = {spec: load(spec, None) for spec in specs if not is_family(spec)}
    decoding = _parse_decoding(asked.decoding)
    model = parse_model(asked.model)
    known |= {spec: load(spec, model.kind) for spec in specs if is_family(spec)}
    effort, rest = parse_effort(asked.engine, model.engine, flag="--engine")
    engine = _parse_settings(
        "--engine", rest, {**ENGINE_SETTINGS[model.engine], **_BESIDE_THE_MODEL}
    )
    scorer = engine.pop("scoring_model", None)
    if length := engine.get("max_length") or engine.get("max_model_len"):
        model = replace(model, max_length=int(length))
    how = decoding_for(model, decoding, seed=asked.seed, max_tokens=suite.max_tokens)
    check_room(effort, how.max_tokens, where="--engine and --decoding")
    backend = serving(model, engine, purse=purse, batch=asked.batch)
    return Evaluation(
        model=model,
        options=replace(_model_options(engine, asked.system), effort=effort, backend=backend),
        suite=suite,
        prompting=asked.prompting,
        decoding=how,
        judges=[_rates(known[spec]) for spec in dict.fromkeys(specs)],
        data_dir=asked.data_dir or settings.data_dir(),
        limit=asked.limit,
        controls=asked.controls,
        scoring_model=checkpoint_name(str(scorer)) if scorer else None,
    )


def purse_of(asked: EvaluationOptions) -> "Purse | None":
    """Return the money that a command may spend; None is no limit."""
    from mipo_eval.models.base import Purse

    return None if asked.max_cost is None else Purse(asked.max_cost)


def judge_loader(purse: "Purse | None", *, batch: bool) -> "Callable[..., Judge]":
    """Return what loads the judges of one command, which share its money.

    It takes a judge's spec, what tells the family of the model under evaluation, and a protocol.
    """
    from mipo_eval.judges.judge import Protocol
    from mipo_eval.judges.presets import load_judge

    def load(spec: str, judged_model: str | None, protocol: "Protocol | None" = None) -> "Judge":
        return load_judge(
            spec, protocol=protocol, limits=purse, judged_model=judged_model, batch=batch
        )

    return load


def own_judge(suite: str) -> str:
    """Return the judge that a suite names where the user names none.

    Raises:
        ConfigError: it names none.
    """
    from mipo_eval.tasks.suites import SUITES

    judge = SUITES[suite].judge if suite in SUITES else None
    if judge is None:
        raise ConfigError(f"suite {suite} has no judge of its own: name one with --judge")
    return judge


def is_family(spec: str) -> bool:
    """Whether a judge is chosen by the family of the model under evaluation."""
    from mipo_eval.judges.presets import FAMILY
    from mipo_eval.models.spec import read_name

    return read_name(spec).name == FAMILY


def _rates(judge: "Judge") -> "Judge":
    """Return a judge of the main job, which compares ratings with those of the reference.

    Raises:
        ConfigError: its preset chooses between two responses.
    """
    if judge.protocol == "rubric":
        return judge
    raise ConfigError(
        f"the judge {judge.name} chooses between two responses ({judge.protocol}), and the main "
        f"job rates each: mipo-eval judge MODEL reference --suite S --judge {judge.spec}"
    )


def _model_options(settings: dict[str, str | int | float], system: str) -> "ModelOptions":
    from mipo_eval.models.chat import read_chat_template
    from mipo_eval.models.lm_eval import ModelOptions
    from mipo_eval.tasks.prompt import read_system

    batch_size, device, template = (
        settings.pop(name, None) for name in ("batch_size", "device", "chat_template")
    )
    return ModelOptions(
        batch_size=int(batch_size) if batch_size is not None else None,
        device=str(device) if device is not None else None,
        arguments=settings,
        system=read_system(system) if system else "",
        chat_template=read_chat_template(Path(str(template))) if template else None,
    )


def _parse_decoding(text: str) -> dict[str, str | int | float]:
    """Return the settings of `--decoding key=value,...`.

    Raises:
        ConfigError: an unknown key, or a value that is not a number in its range.
    """
    found = _parse_settings("--decoding", text, _DECODING)
    numbers = {key: value for key, value in found.items() if not isinstance(value, str)}
    if numbers.get("max_tokens", 1) < 1 or numbers.get("temperature", 0) < 0:
        raise ConfigError(f"--decoding {text!r}: max_tokens is at least 1, temperature at least 0")
    if not 0 < numbers.get("top_p", 1) <= 1 or not 0 <= numbers.get("min_p", 0) < 1:
        raise ConfigError(f"--decoding {text!r}: top_p lies in (0, 1], min_p in [0, 1)")
    if numbers.get("top_k", 0) < 0 or not numbers.get("repetition_penalty", 1) > 0:
        raise ConfigError(f"--decoding {text!r}: top_k is 0 or more, repetition_penalty above 0")
    return found


def _parse_settings(
    flag: str, text: str, known: Mapping[str, type]
) -> dict[str, str | int | float]:
    """Return the settings of a `key=value,...` option.

    Raises:
        ConfigError: an unknown key, or a value of the wrong kind.
    """
    found: dict[str, str | int | float] = {}
    for part in text.split(",") if text else ():
        key, _, value = part.strip().partition("=")
        if key not in known:
            names = ", ".join(known) or "none for this kind of model"
            raise ConfigError(f"{flag} {part!r}: known are {names}, as key=value")
        if known[key] is bool:
            if value.lower() not in {"true", "false"}:
                raise ConfigError(f"{flag} {part!r}: {value!r} is neither true nor false")
            found[key] = value.lower() == "true"
            continue
        try:
            found[key] = known[key](value)
        except ValueError:
            raise ConfigError(f"{flag} {part!r}: {value!r} is not a number") from None
        number = found[key]
        if not isinstance(number, str) and not abs(number) <= _MOST:
            raise ConfigError(f"{flag} {key}: write a number up to {_MOST:,}")
    return found
