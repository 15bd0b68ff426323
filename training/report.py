"""The pair report: what a training set looks like, before it is learned from."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from mipo_eval.keys import digest
from mipo_eval.training.examples import Examples, Messages
from mipo_eval.training.job import Example

if TYPE_CHECKING:
    from mipo_eval.tasks.likelihood import ScoringModel

MEASURED = 128
"""Examples whose likelihoods are measured: enough for a mean, whatever the training set's size."""

_SHOWN = 3


def pair_report(made: Examples, scoring: "ScoringModel | None", *, seed: int) -> dict[str, Any]:
    """Return counts, lengths, likelihoods under the reference model, and some examples.

    `ranked_correctly` is the share of (chosen, rejected) pairs whose chosen response the reference
    model finds likelier given the full prompt. `pmi_chosen` and `pmi_rejected` are means of
    log pi(y|x,c) - log pi(y|x) in nats over a drawn part of the examples: at MIPO's optimum that
    is the reward (PAPER.md, "Method"), so their distance is what there is to learn.

    Args:
        made: the examples, with what was left out of them.
        scoring: the reference model; None leaves its figures out.
        seed: of the draw of measured and shown examples.
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
        report |= likelihood_figures([e for e in order if e.chosen][:MEASURED], scoring)
    report["shown"] = [_shown(example) for example in order[:_SHOWN]]
    return report


def likelihood_figures(examples: Sequence[Example], scoring: "ScoringModel") -> dict[str, Any]:
    """Return `ranked_correctly`, `pmi_chosen`, `pmi_rejected` and how many examples they are over.

    Examples that are longer than the model takes are left out.
    """
    from mipo_eval.tasks.likelihood import TokenPair
    from mipo_eval.training.likelihood import Codec

    codec = Codec.of(scoring.tokenizer)
    limit = scoring.max_length or float("inf")
    asked: dict[tuple[str, str], TokenPair] = {}

    def want(prompt: Messages, text: str) -> tuple[str, str]:
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
    sums = dict(zip(fitting, scoring.logprobs(list(fitting.values())), strict=True))
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


def _shown(example: Example) -> Mapping[str, Any]:
    return {
        "item_id": example.item.item_id,
        "prompt": example.prompt[-1]["content"],
        "chosen": example.chosen,
        "rejected": list(example.rejected[:1]),
    }
