"""Everything a store knows of one run: how it was made and repeated, its cost, its failures."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import sqlalchemy as sa

from mipo_eval.dashboards.inert import label
from mipo_eval.dashboards.spending import backend_of, dollars_for
from mipo_eval.errors import ConfigError
from mipo_eval.evaluation.score import Numbers
from mipo_eval.metrics.aggregate import direction
from mipo_eval.reports.reproduction import recipe
from mipo_eval.signature import short
from mipo_eval.store import Store
from mipo_eval.store.judges import list_judges
from mipo_eval.store.runs import Run, find_run, generation_spec, get_scores
from mipo_eval.store.tables import calls, item_lists, items, responses, runs, verdicts


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
    """Return every number of a run, a line each.

    Columns ci_low and ci_high are the 95 % interval, `better` is which way is better, if any.
    """
    rows = [
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
        for score in Numbers(store).of_run(find_run(store, run_id))
    ]
    columns = [
        "task",
        "metric",
        "control",
        "judge",
        "value",
        "ci_low",
        "ci_high",
        "n",
        "unscored",
        "better",
    ]
    return pd.DataFrame(rows, columns=[*columns, "signature"])


def failures(store: Store, run_id: str) -> pd.DataFrame:
    """Return what has no value and why: stage, reason, items, and the first item's position.

    Stages are the response, each judge's verdicts on it, and each judge's on the references.
    """
    run = find_run(store, run_id)
    rows = _unanswered(store, run)
    for judge in list_judges(store):
        rows += _unrated(store, run, judge.key, f"verdict of {judge.name}", reference=False)
        rows += _unrated(store, run, judge.key, f"verdict of {judge.name} on a reference")
    return pd.DataFrame(rows, columns=["stage", "reason", "items", "first"])


def _unanswered(store: Store, run: Run) -> list[dict[str, Any]]:
    reason = sa.case(
        (responses.c.item_key.is_(None), "not generated"),
        (responses.c.text.is_(None), sa.func.coalesce(responses.c.reason, "no text")),
        else_="empty response",
    )
    query = (
        sa.select(reason, sa.func.count(), sa.func.min(item_lists.c.position))
        .select_from(item_lists)
        .outerjoin(
            responses,
            (responses.c.item_key == item_lists.c.item_key)
            & (responses.c.generation_key == run.generation_key),
        )
        .where(
            item_lists.c.list_key == run.list_key,
            responses.c.text.is_(None) | (responses.c.text == ""),
        )
        .group_by(reason)
    )
    return _reasons(store, query, "response")


def _unrated(
    store: Store, run: Run, judge: str, stage: str, *, reference: bool = True
) -> list[dict[str, Any]]:
    listed = sa.select(item_lists.c.position, items.c.item_key).join(
        items, items.c.item_key == item_lists.c.item_key
    )
    if reference:
        listed = listed.add_columns(items.c.reference_key.label("text_key"))
    else:
        listed = listed.join(
            responses,
            (responses.c.item_key == items.c.item_key)
            & (responses.c.generation_key == run.generation_key),
        ).add_columns(responses.c.text_key)
    texts = listed.where(item_lists.c.list_key == run.list_key).subquery()
    query = (
        sa.select(
            verdicts.c.reason,
            sa.func.count(sa.distinct(texts.c.item_key)),
            sa.func.min(texts.c.position),
        )
        .select_from(texts)
        .join(
            verdicts,
            (verdicts.c.judge_key == judge)
            & (verdicts.c.item_key == texts.c.item_key)
            & (verdicts.c.text_key == texts.c.text_key),
        )
        .where(verdicts.c.rating.is_(None))
        .group_by(verdicts.c.reason)
    )
    return _reasons(store, query, stage)


def _reasons(store: Store, query: sa.Select[Any], stage: str) -> list[dict[str, Any]]:
    with store.read() as connection:
        found = connection.execute(query).fetchall()
    return [
        {"stage": label(stage), "reason": label(str(why), 200), "items": n, "first": first}
        for why, n, first in found
    ]


def costs(store: Store, run_id: str) -> pd.DataFrame:
    """Return what a run took: one row for its responses, one for each judge's backend.

    Columns: what, model, calls, prompt_tokens, completion_tokens, seconds (added up; calls ran
    side by side), dollars (absent without a price). A call that served several runs is counted
    in each.
    """
    run = find_run(store, run_id)
    rows = [_response_cost(store, run)]
    for judge in list_judges(store):
        rows += _judge_cost(store, run, judge.key, judge.name)
    columns = ["what", "model", "calls", "prompt_tokens", "completion_tokens", "seconds", "dollars"]
    return pd.DataFrame(rows, columns=columns)


def _response_cost(store: Store, run: Run) -> dict[str, Any]:
    query = (
        sa.select(
            sa.func.count(),
            sa.func.sum(responses.c.prompt_tokens),
            sa.func.sum(responses.c.response_tokens),
        )
        .join(item_lists, item_lists.c.item_key == responses.c.item_key)
        .where(
            item_lists.c.list_key == run.list_key,
            responses.c.generation_key == run.generation_key,
        )
    )
    with store.read() as connection:
        made, prompt, completion = connection.execute(query).one()
    return {
        "what": "responses",
        "model": label(run.model),
        "calls": made,
        "prompt_tokens": _whole(prompt),
        "completion_tokens": _whole(completion),
        "seconds": None,
        "dollars": None,
    }


def _judge_cost(store: Store, run: Run, judge: str, name: str) -> list[dict[str, Any]]:
    own = (
        sa.select(verdicts.c.call_key)
        .select_from(item_lists)
        .join(
            responses,
            (responses.c.item_key == item_lists.c.item_key)
            & (responses.c.generation_key == run.generation_key),
        )
        .join(
            verdicts,
            (verdicts.c.judge_key == judge)
            & (verdicts.c.item_key == responses.c.item_key)
            & (verdicts.c.text_key == responses.c.text_key),
        )
        .where(item_lists.c.list_key == run.list_key)
        .distinct()
        .subquery()
    )
    backend = sa.cast(calls.c.backend, sa.Text)
    query = (
        sa.select(
            backend,
            sa.func.count(),
            sa.func.sum(calls.c.prompt_tokens),
            sa.func.sum(calls.c.completion_tokens),
            sa.func.sum(calls.c.seconds),
        )
        .join(own, own.c.call_key == calls.c.call_key)
        .group_by(backend)
    )
    with store.read() as connection:
        found = connection.execute(query).fetchall()
    return [
        {
            "what": f"verdicts of {label(name)}",
            "model": label(backend_of(written).get("model", "")),
            "calls": n,
            "prompt_tokens": _whole(prompt),
            "completion_tokens": _whole(completion),
            "seconds": seconds,
            "dollars": dollars_for(backend_of(written), _whole(prompt), _whole(completion)),
        }
        for written, n, prompt, completion, seconds in found
    ]


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)


def siblings(store: Store, run_id: str) -> list[Run]:
    """Return the other runs over the same items, latest first: what it can be compared with."""
    run = find_run(store, run_id)
    query = (
        sa.select(runs)
        .where(runs.c.list_key == run.list_key, runs.c.run_id != run.run_id)
        .order_by(runs.c.updated_at.desc())
    )
    with store.read() as connection:
        return [Run(**row._mapping) for row in connection.execute(query)]


def quoted(command: str) -> str:
    """Return a command line broken before each option, to be read and copied."""
    words = shlex.split(command)
    lines: list[list[str]] = [[]]
    for word in words:
        if word.startswith("--") and lines[-1]:
            lines.append([])
        lines[-1].append(shlex.quote(word))
    return " \\\n  ".join(" ".join(line) for line in lines)
