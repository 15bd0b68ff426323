"""Everything a store knows of one run: how it was made and repeated, its cost, its failures."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pandas as pd

from mipo_eval.dashboards.markup import label
from mipo_eval.errors import ConfigError
from mipo_eval.evaluation.score import Numbers, Snapshot
from mipo_eval.metrics.aggregate import direction
from mipo_eval.models.prices import load_prices
from mipo_eval.models.spec import KINDS, is_private
from mipo_eval.records import Run
from mipo_eval.reports.reproduction import recipe
from mipo_eval.signature import short
from mipo_eval.store.calls import Spending
from mipo_eval.store.engine import Store
from mipo_eval.store.judges import list_judges
from mipo_eval.store.responses import response_tokens, unanswered
from mipo_eval.store.runs import find_run, generation_spec, get_scores, list_runs
from mipo_eval.store.tallies import judge_spent, judging_spent, unrated


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """How a run was made."""

    run: Run
    configuration: str
    """Identity of model, prompting and decoding, as JSON."""
    environment: Mapping[str, str]
    judges: tuple[str, ...]
    """Each judge's specification, as JSON."""
    command: str | None
    """What repeats it; None where nothing can."""
    why_not: str | None
    """Why nothing can."""
    recorded: str
    """The command line of the first time."""


def facts(store: Store, run_id: str) -> Facts:
    """Return how a run was made."""
    run = find_run(store, run_id)
    try:
        command, why_not = recipe(store, run.run_id).command, None
    except ConfigError as error:
        command, why_not = None, str(error)
    scores = get_scores(store, run.run_id)
    keys = {score.judge_key for score in scores}
    specs = [judge.spec for judge in list_judges(store) if short(judge.key) in keys]
    given = str(run.environment.get("command", ""))
    return Facts(
        run=run,
        configuration=_pretty(generation_spec(store, run.generation_key)),
        environment={k: str(v) for k, v in run.environment.items() if k != "command"},
        judges=tuple(_pretty(spec) for spec in specs),
        command=command,
        why_not=why_not,
        recorded=f"mipo-eval {given}" if given else "",
    )


def _pretty(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True)


def score_lines(store: Store, run_id: str) -> pd.DataFrame:
    """Return every number of a run, a line each; of one in flight, those of what is judged so far.

    Columns ci_low and ci_high are the 95 % interval, `better` is which way is better, if any.
    """
    run, numbers = find_run(store, run_id), Numbers(store)
    lines = [
        {
            "task": label(score.task),
            "metric": label(score.metric),
            "control": label(score.control or ""),
            "judge": label(score.judge or ""),
            "value": score.value,
            "ci_low": score.ci95[0] if score.ci95 else None,
            "ci_high": score.ci95[1] if score.ci95 else None,
            "n": score.n,
            "unscored": score.unscored,
            "better": direction(score.metric) or "",
            "signature": score.signature,
        }
        for score in numbers.of_run(run) or numbers.so_far(run)
    ]
    columns = ["task", "metric", "control", "judge", "value", "ci_low", "ci_high", "n", "unscored"]
    return pd.DataFrame(lines, columns=[*columns, "better", "signature"])


def failures(store: Store, run_id: str) -> pd.DataFrame:
    """Return what has no value and why: stage, reason, items, and the first item's position.

    Stages are the response, each judge's verdicts on it, and each judge's on the references.
    """
    run = find_run(store, run_id)
    found = [("response", unanswered(store, run))]
    for judge in list_judges(store):
        stage = f"verdict of {judge.name}"
        found.append((stage, unrated(store, run, judge.key)))
        found.append((f"{stage} on a reference", unrated(store, run, judge.key, references=True)))
    lines = [
        (label(stage), label(why.reason, 200), why.items, why.first)
        for stage, reasons in found
        for why in reasons
    ]
    return pd.DataFrame(lines, columns=["stage", "reason", "items", "first"])


def costs(store: Store, run_id: str) -> pd.DataFrame:
    """Return what a run took: one row for its responses, one for each judge's backend.

    Columns: what, model, calls, prompt_tokens, completion_tokens, seconds (added up; calls ran
    side by side), dollars (absent without a price). A call that served several runs is counted
    in each.
    """
    run = find_run(store, run_id)
    lines: list[tuple[object, ...]] = [
        ("responses", label(run.model), *response_tokens(store, run), None, None)
    ]
    for judge in list_judges(store):
        for own in judging_spent(store, run, judge.key):
            about = (f"verdicts of {label(judge.name)}", label(own.backend.get("model", "")))
            took = (own.calls, own.prompt_tokens, own.completion_tokens, own.seconds)
            lines.append((*about, *took, dollars_for(own)))
    columns = ["what", "model", "calls", "prompt_tokens", "completion_tokens", "seconds", "dollars"]
    return pd.DataFrame(lines, columns=columns)


def dollars_for(spent: Spending) -> float | None:
    """Return what tokens cost one by one; None where price or tokens are not known."""
    backend, prompt, completion = spent.backend, spent.prompt_tokens, spent.completion_tokens
    urls = [url for url in backend.get("url", "").split(",") if url]
    kind = KINDS.get(backend.get("backend", ""))
    if kind is None or not kind.served or (urls and all(map(is_private, urls))):
        return 0.0
    url = next(iter(urls), "")
    price = load_prices().find(backend.get("model", ""), url=url, provider=backend.get("provider"))
    if price is None or prompt is None or completion is None:
        return None
    return price.cost(prompt, completion)


def judging(now: Snapshot, judge: str, lists: tuple[str, ...]) -> dict[str, str]:
    """Return what a judge's verdicts on the items of some lists cost and took, as a reader says it.

    Args:
        now: the store.
        judge: its key.
        lists: keys of the item lists.
    """
    found = judge_spent(now.store, judge, lists)
    money = [dollars_for(own) for own in found]
    seconds = [own.seconds for own in found]
    known = [price for price in money if price is not None]
    told = f"${sum(known):,.2f}" if known and len(known) == len(money) else "no price known"
    measured = [took for took in seconds if took is not None]
    took = "not measured" if not measured else f"{timedelta(seconds=round(sum(measured)))}"
    return {"judging cost": told, "judging time, calls added up": took} if found else {}


def siblings(store: Store, run_id: str) -> list[Run]:
    """Return the other runs over the same items, latest first: what it can be compared with."""
    run = find_run(store, run_id)
    same = [one for one in list_runs(store) if one.list_key == run.list_key]
    return [one for one in same if one.run_id != run.run_id]


def quoted(command: str) -> str:
    """Return a command line broken before each option, to be read and copied."""
    words = shlex.split(command)
    lines: list[list[str]] = [[]]
    for word in words:
        if word.startswith("--") and lines[-1]:
            lines.append([])
        lines[-1].append(shlex.quote(word))
    return " \\\n  ".join(" ".join(line) for line in lines)
