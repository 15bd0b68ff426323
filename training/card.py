"""What a training tells of itself: a report of its pairs before, and a model card after it.

The card is the README.md of the checkpoint, with everything needed to repeat the training.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import resources
from statistics import fmean
from typing import TYPE_CHECKING, Any

import yaml

from mipo_eval.keys import digest, masked
from mipo_eval.models.spec import ModelSpec
from mipo_eval.progress import Progress, shown
from mipo_eval.store.trainings import CurvePoint, Training
from mipo_eval.tasks.suites import Suite
from mipo_eval.training.recipes import Recipe
from mipo_eval.training.trainer import Messages, TrainingExample, TrainingExamples

if TYPE_CHECKING:
    from mipo_eval.tasks.likelihood import ScoringModel

MEASURED = 128
"""Examples whose likelihoods are measured: enough for a mean, whatever the training set's size."""

_SHOWN = 3
_FALLEN_AWAY = 0.2
"""Share of the pairs whose loss is worth a warning."""


def fallen_away(made: TrainingExamples, recipe: Recipe, suite: Suite) -> str | None:
    """Return what to say where more than a fifth of what should be learned from is missing."""
    what, wanted, found = "examples", made.items, len(made.examples)
    if recipe.pairs and recipe.learns_from == "pairs":
        what, wanted = "pairs", wanted * recipe.pairs.n_negatives
        found = sum(len(example.rejected) for example in made.examples)
    if found >= (1 - _FALLEN_AWAY) * wanted:
        return None
    reasons = Counter(made.dropped) + Counter(made.dropped_negatives)
    told = ", ".join(f"{n} x {why}" for why, n in reasons.most_common())
    advice = {
        "cut at the length limit": "raise sampling.max_tokens (now "
        f"{recipe.sampling.max_tokens or suite.max_tokens}) or ask for shorter answers (--query)",
        "equal to the chosen response": "raise sampling.temperature (now "
        f"{recipe.sampling.temperature:g})",
    }
    fitting = [what for why, what in advice.items() if any(one.endswith(why) for one in reasons)]
    todo = "; ".join(fitting) or "look at the responses"
    return f"only {found:,} of {wanted:,} {what} can be learned from ({told}): {todo}"


def pair_report(
    made: TrainingExamples,
    scoring: "ScoringModel | None",
    *,
    seed: int,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Return counts, lengths, likelihoods under the reference model, and some examples.

    `ranked_correctly` is the share of (chosen, rejected) pairs whose chosen response the reference
    model finds likelier given the full prompt. `pmi_chosen` and `pmi_rejected` are means of
    log pi(y|x,c) - log pi(y|x) in nats over a drawn part of the examples: at MIPO's optimum that
    is the reward (PAPER.md, "Method"), so their distance is what there is to learn.

    Without a `scoring` model its figures are left out; the seed draws what is measured and shown.
    """
    examples = made.examples
    report: dict[str, Any] = {
        "items": made.items,
        "examples": len(examples),
        "pairs": sum(len(example.rejected) for example in examples),
        "dropped": dict(made.dropped),
        "dropped_negatives": dict(made.dropped_negatives),
        "chosen_characters": _mean([len(e.chosen) for e in examples if e.chosen]),
        "rejected_characters": _mean([len(text) for e in examples for text in e.rejected]),
    }
    order = sorted(examples, key=lambda example: digest([seed, example.item.key]))
    if scoring is not None:
        report |= likelihood_figures([e for e in order if e.chosen][:MEASURED], scoring, progress)
    report["shown"] = [
        {
            "item_id": example.item.item_id,
            "prompt": example.prompt[-1]["content"],
            "chosen": example.chosen,
            "rejected": list(example.rejected[:1]),
        }
        for example in order[:_SHOWN]
    ]
    return report


def likelihood_figures(
    examples: Sequence[TrainingExample],
    scoring: "ScoringModel",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Return `ranked_correctly`, `pmi_chosen`, `pmi_rejected` and how many examples they are over.

    Examples that are longer than the model takes are left out.
    """
    from mipo_eval.tasks.likelihood import TokenPair
    from mipo_eval.training.logprobs import Codec

    codec = Codec.of(scoring.tokenizer)
    limit = scoring.max_length or float("inf")
    asked: dict[tuple[str, str], TokenPair] = {}

    def want(prompt: Messages, text: str) -> tuple[str, str]:  # what comes twice is read once
        name = (digest(prompt), text)
        if name not in asked:
            asked[name] = TokenPair(codec.prompt(prompt), codec.response(text))
        return name

    wanted = [
        [
            (want(e.prompt, text), want(e.bare_prompt, text))
            for text in (e.chosen or "", *e.rejected)
        ]
        for e in examples
    ]
    fitting = {
        name: pair for name, pair in asked.items() if len(pair.prompt) + len(pair.response) <= limit
    }
    with shown(progress, "reading the pairs with the base model", len(fitting)) as told:
        read = scoring.logprobs(list(fitting.values()), told=told)
    sums = dict(zip(fitting, read, strict=True))
    measured = [rows for rows in wanted if all(a in sums and b in sums for a, b in rows)]
    within = [[sums[name] for name, _ in rows] for rows in measured]
    gains = [[sums[name] - sums[bare] for name, bare in rows] for rows in measured]
    has_context = any(example.prompt != example.bare_prompt for example in examples)
    return {
        "measured": len(measured),
        "ranked_correctly": _mean([float(row[0] > other) for row in within for other in row[1:]]),
        "pmi_chosen": _mean([row[0] for row in gains]) if has_context else None,
        "pmi_rejected": _mean([x for row in gains for x in row[1:]]) if has_context else None,
    }


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def model_card(training: Training, curve: Sequence[CurvePoint], *, base: ModelSpec) -> str:
    """Return the README.md of a checkpoint that was trained from `base`, in one or more rounds."""
    from jinja2 import Environment

    head = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        **({"base_model": base.name} if base.name.count("/") == 1 else {}),
        "tags": ["mipo-eval", training.method],
    }
    recipe = yaml.safe_dump(dict(training.recipe), sort_keys=False, allow_unicode=True)
    template = (resources.files(__package__) / "model_card.md.jinja").read_text(encoding="utf-8")
    pages = Environment(trim_blocks=True, keep_trailing_newline=True, autoescape=False)
    pages.filters["cell"] = _cell
    card = pages.from_string(template).render(
        head=yaml.safe_dump(head, sort_keys=False).strip(),
        training=training,
        base=base,
        identity=dict(base.identity),
        recipe=recipe.strip(),
        tables={
            "Training data": _figures(training.pair_report or {}),
            "Last values of the learning curve": {
                point.metric: point.value for point in sorted(curve, key=lambda point: point.step)
            },
            "Made with": training.environment,
        },
    )
    return masked(card)


def _figures(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of a pair report that fit in a table."""
    figures: dict[str, Any] = {}
    for name, value in report.items():
        if isinstance(value, Mapping):
            figures |= {f"{name}: {key}": found for key, found in value.items()}
        elif not isinstance(value, list | tuple):
            figures[name] = value
    return figures


def _cell(value: object) -> str:
    shown = f"{value:.6g}" if isinstance(value, float) else str(value)
    return shown.replace("|", "\\|")
