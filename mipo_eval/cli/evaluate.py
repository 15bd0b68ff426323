"""The main job: what was asked on the command line, turned into an evaluation and shown."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mipo_eval import settings
from mipo_eval.errors import ConfigError

if TYPE_CHECKING:
    from mipo_eval.cli.output import Output
    from mipo_eval.generation.engine import ModelOptions
    from mipo_eval.generation.models import ModelSpec
    from mipo_eval.pipeline import Evaluation, Result
    from mipo_eval.store import Store

_DECODING: Mapping[str, type] = {"max_tokens": int, "temperature": float, "top_p": float}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The main job's options, as given."""

    model: str
    suite: str
    judges: tuple[str, ...] = ()
    prompting: Literal["personalized", "default"] = "personalized"
    decoding: str = ""
    seed: int = 0
    limit: int | None = None
    data_dir: Path | None = None
    chat_template: Path | None = None
    engine: str = ""
    scoring_model: str | None = None
    controls: bool = False


def run_evaluation(asked: Asked, store_url: str, *, as_json: bool) -> None:
    """Do the main job and print its scores."""
    from mipo_eval.cli.output import Output
    from mipo_eval.store import Store

    output = Output(as_json=as_json)
    with Store.open(store_url) as store:
        result = evaluate_asked(asked, store, output)
        if as_json:
            output.document(result_json(result))
        else:
            from mipo_eval.cli.tables import score_tables

            output.show(*score_tables(result.scores, result.run))
            output.note(f"Responses and verdicts: mipo-eval show {result.run.run_id[:12]}")


def evaluate_asked(asked: Asked, store: "Store", output: "Output") -> "Result":
    """Do the main job on an open store."""
    from mipo_eval.pipeline import evaluate

    return evaluate(store, build_evaluation(asked, output), output)


def result_json(result: "Result") -> dict[str, object]:
    """Return a run as `--json` shows it."""
    run = result.run
    return {
        "run_id": run.run_id,
        "model": run.model,
        "suite": run.suite,
        "prompting": run.prompting,
        "seed": run.seed,
        "n_items": run.n_items,
        "scores": [score.to_json() for score in result.scores],
    }


def build_evaluation(asked: Asked, output: "Output") -> "Evaluation":
    """Return what the options ask for; nothing is loaded yet."""
    from mipo_eval.generation.engine import decoding_for, read_chat_template
    from mipo_eval.generation.models import parse_model
    from mipo_eval.judges import load_judge
    from mipo_eval.pipeline import Evaluation
    from mipo_eval.suites import find_suite

    suite = find_suite(asked.suite)
    judges = asked.judges or ((suite.judge,) if suite.judge else ())
    loaded = [load_judge(judge) for judge in dict.fromkeys(judges)]
    template = read_chat_template(asked.chat_template) if asked.chat_template else None
    decoding = _parse_decoding(asked.decoding)
    model = parse_model(asked.model, demo_model=lambda: demo_model(output))
    return Evaluation(
        model=model,
        options=_model_options(model, asked.engine, template),
        suite=suite,
        prompting=asked.prompting,
        decoding=decoding_for(model, decoding, seed=asked.seed, max_tokens=suite.max_tokens),
        judges=loaded,
        data_dir=asked.data_dir or settings.data_dir(),
        limit=asked.limit,
        controls=asked.controls,
        scoring_model=asked.scoring_model and demo_or(asked.scoring_model, output),
    )


def demo_or(checkpoint: str, output: "Output") -> str:
    """Return a checkpoint's name, with `demo` standing for the demo world's base model."""
    return str(demo_model(output)) if checkpoint == "demo" else checkpoint


def _model_options(model: "ModelSpec", engine: str, template: str | None) -> "ModelOptions":
    from mipo_eval.generation.engine import ENGINE_SETTINGS, ModelOptions

    settings = _parse_settings("--engine", engine, ENGINE_SETTINGS[model.engine])
    batch_size, device = settings.pop("batch_size", None), settings.pop("device", None)
    return ModelOptions(
        batch_size=int(batch_size) if batch_size is not None else None,
        device=str(device) if device is not None else None,
        arguments=settings,
        chat_template=template,
    )


def _parse_decoding(text: str) -> dict[str, float]:
    """Return the settings of `--decoding key=value,...`.

    Raises:
        ConfigError: an unknown key, or a value that is not a number in its range.
    """
    parsed = _parse_settings("--decoding", text, _DECODING)
    found = {key: float(value) for key, value in parsed.items()}
    if found.get("max_tokens", 1) < 1 or found.get("temperature", 0) < 0:
        raise ConfigError(f"--decoding {text!r}: max_tokens is at least 1, temperature at least 0")
    if not 0 < found.get("top_p", 1) <= 1:
        raise ConfigError(f"--decoding {text!r}: top_p lies in (0, 1]")
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
        try:
            found[key] = known[key](value)
        except ValueError:
            raise ConfigError(f"{flag} {part!r}: {value!r} is not a number") from None
    return found


def demo_model(output: "Output") -> Path:
    """Return the demo world's base model, building it once with a progress bar."""
    from functools import partial

    from mipo_eval.demo.model import build_base_model
    from mipo_eval.tasks.query import render_query

    return build_base_model(
        partial(render_query, prompting="personalized"),
        progress=output.steps("base model of the demo world (built once)"),
    )
