"""What is asked for in words, as on the command line, turned into an evaluation.

Nothing here prints; the command line and the Python API both call it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mipo_eval import settings
from mipo_eval.errors import ConfigError

if TYPE_CHECKING:
    from mipo_eval.evaluation.generate import Evaluation
    from mipo_eval.judges.judge import Judge
    from mipo_eval.models.base import Purse
    from mipo_eval.models.lm_eval import ModelOptions

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


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationOptions:
    """The main job's options, as given."""

    model: str = ""
    suite: str = ""
    judges: tuple[str, ...] = ()
    prompting: Literal["personalized", "default"] = "personalized"
    system: str = ""
    """A system prompt, or the file that holds it."""
    query: str = ""
    """A wording of the queries, by name or as a file."""
    decoding: str = ""
    seed: int = 0
    limit: int | None = None
    data_dir: Path | None = None
    engine: str = ""
    controls: bool = False
    max_cost: float | None = None
    """US dollars for a served model and all judges together; None is no limit."""
    batch: bool = False
    shown: str = ""
    """What tables call the model, where that is not its name."""


def build_evaluation(asked: EvaluationOptions, purse: "Purse | None" = None) -> "Evaluation":
    """Return what the options ask for; nothing is loaded yet.

    `purse` is money that others share; None: the model and its judges have `--max-cost` together.
    """
    from mipo_eval.evaluation.generate import Evaluation
    from mipo_eval.judges.presets import is_family
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
    if asked.shown:
        model = replace(model, name=asked.shown)
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


def _rates(judge: "Judge") -> "Judge":
    """Return a judge of the main job, which compares ratings with those of the reference.

    Raises:
        ConfigError: its preset chooses between two responses.
    """
    if judge.protocol == "rubric":
        return judge
    raise ConfigError(
        f"the judge {judge.name} chooses between two responses ({judge.protocol}), but an "
        "evaluation needs ratings: use mipo-eval judge MODEL reference --suite SUITE --judge "
        f"{judge.spec}"
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
        raise ConfigError(
            f"--decoding {text!r}: max_tokens must be at least 1, temperature at least 0"
        )
    if not 0 < numbers.get("top_p", 1) <= 1 or not 0 <= numbers.get("min_p", 0) < 1:
        raise ConfigError(f"--decoding {text!r}: top_p must be in (0, 1], min_p in [0, 1)")
    if numbers.get("top_k", 0) < 0 or not numbers.get("repetition_penalty", 1) > 0:
        raise ConfigError(
            f"--decoding {text!r}: top_k must be 0 or more, repetition_penalty above 0"
        )
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
            raise ConfigError(f"{flag} {part!r}: write key=value; the keys are {names}")
        if known[key] is bool:
            if value.lower() not in {"true", "false"}:
                raise ConfigError(f"{flag} {part!r}: {value!r} is not true or false")
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
