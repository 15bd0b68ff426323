"""A duel as `mipo-eval judge --json` shows it; docs/judge.md describes the document."""

from collections.abc import Mapping, Sequence
from typing import Any

from mipo_eval.duels.apart import Example, Gap, Said
from mipo_eval.duels.duel import Match
from mipo_eval.duels.entrants import Entrant, Field
from mipo_eval.judges.judge import Judge
from mipo_eval.models.prices import Metered
from mipo_eval.records import Score
from mipo_eval.stats import Comparison

Failing = Mapping[str, Sequence[str]]


def duel_json(
    field: Field,
    entrants: Sequence[Entrant],
    judges: Sequence[Judge],
    matches: Sequence[Match],
    *,
    failing: Failing,
) -> dict[str, Any]:
    """Return who duelled, who judged and how it came out; without where they differ most."""
    return {
        "suite": field.suite,
        "n_items": len(field.entries),
        "entrants": [
            {
                "label": entrant.label,
                "name": entrant.name,
                "run_id": entrant.run.run_id if entrant.run else None,
                "model": entrant.run.model if entrant.run else None,
                "prompting": entrant.run.prompting if entrant.run else None,
            }
            for entrant in entrants
        ],
        "judges": [_judge(judge, failing.get(judge.key, ())) for judge in judges],
        "matches": [match_json(match) for match in matches],
    }


def _judge(judge: Judge, failings: Sequence[str]) -> dict[str, Any]:
    usage = judge.backend.usage if isinstance(judge.backend, Metered) else None
    return {
        "judge": judge.name,
        "judge_key": judge.key,
        "spec": judge.spec,
        "protocol": judge.protocol,
        "calls": usage and usage.tries,
        "prompt_tokens": usage and usage.prompt_tokens,
        "completion_tokens": usage and usage.completion_tokens,
        "cost": usage and usage.cost,
        "fails_validation": list(failings),
    }


def match_json(match: Match) -> dict[str, Any]:
    """Return how two entrants came out, as one judge or the panel sees them."""
    found = match.balance
    net, rating = found.net, found.rating
    return {
        "task": match.task,
        "first": match.first.label,
        "second": match.second.label,
        "judge": match.judge,
        "judge_key": match.judge_key,
        "protocol": match.protocol,
        "n": found.win.n,
        "unscored": found.win.unscored,
        "unscored_reasons": dict(found.win.unscored_reasons),
        "wins": net.wins if net else 0,
        "ties": net.ties if net else 0,
        "losses": net.losses if net else 0,
        "win_rate": _rate(found.win),
        "tie_rate": _rate(found.tie),
        "loss_rate": _rate(found.loss),
        "win_rate_half_ties": _rate(found.half),
        "net": net and _comparison(net),
        "rating_difference": rating and _comparison(rating),
        "position_flips": found.flips,
        "position_flip_rate": found.flip_rate,
        "identical": found.identical,
        "signature": match.signature,
    }


def _rate(score: Score) -> dict[str, Any]:
    return {"value": score.value, "ci95": list(score.ci95) if score.ci95 else None}


def _comparison(found: Comparison) -> dict[str, Any]:
    return {
        "value": found.difference,
        "ci95": list(found.ci95) if found.ci95 else None,
        "p_sign": found.p_sign,
        "p_permutation": found.p_permutation,
        "p_adjusted": found.p_adjusted,
        "significant": found.significant(),
        "detectable": found.detectable,
        "below_resolution": found.below_resolution,
    }


def example_json(match: Match, found: Example) -> dict[str, Any]:
    """Return one item that tells two entrants apart, with what each judge said."""
    letters = {"a": match.first.label, "b": match.second.label, "tie": "tie", None: None}
    return {
        "task": match.task,
        "first": match.first.label,
        "second": match.second.label,
        "item_id": found.item.item_id,
        "prompt": found.item.prompt,
        "winner": letters[found.winner],
        "responses": {letters["a"]: found.first, letters["b"]: found.second},
        "said": [_said(said, letters) for said in found.said],
    }


def _said(said: Said, letters: Mapping[str | None, str | None]) -> dict[str, Any]:
    return {
        "judge": said.judge,
        "winner": letters[said.winner],
        "replies": [
            {
                "shown_first": letters[placed.shown_first],
                "winner": letters[placed.winner],
                "reply": placed.reply,
            }
            for placed in said.placed
        ],
        "ratings": [
            {
                "preference": rated.preference,
                str(letters["a"]): rated.first,
                str(letters["b"]): rated.second,
            }
            for rated in said.rated
        ],
    }


def gap_json(match: Match, gap: Gap) -> dict[str, Any]:
    """Return a preference that a judge's ratings differ on."""
    return {
        "task": match.task,
        "first": match.first.label,
        "second": match.second.label,
        "judge": gap.judge,
        "preference": gap.preference,
        "n": gap.n,
        str(match.first.label): gap.first,
        str(match.second.label): gap.second,
        "difference": gap.difference,
    }
