"""Judges against people, hostile texts and control entrants: whether one can be believed.

What judges lean to: how they use their scale, the place a response stands at, its length.

What asking judges took: calls, tokens, dollars and seconds, from the ledger.

Addresses of the items behind numbers: pages show them as links beside each line.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import sqlalchemy as sa

from mipo_eval.dashboards.links import address, run_name
from mipo_eval.dashboards.tables.scores import MEASURED, PAPER
from mipo_eval.models.prices import load_prices
from mipo_eval.models.spec import is_private
from mipo_eval.reports.catalog import row_name, stored_scores
from mipo_eval.reports.paper import TASKS, published
from mipo_eval.reports.trained import trained_rules
from mipo_eval.store import Store
from mipo_eval.store.judges import StoredJudge, choosers, list_judges
from mipo_eval.store.runs import Run, list_runs
from mipo_eval.store.tables import (
    calls,
    choices,
    generations,
    item_lists,
    judges,
    responses,
    runs,
    verdicts,
)
from mipo_eval.store.trainings import list_trainings
from mipo_eval.store.validations import Validation, list_validations
from mipo_eval.store.verdicts import chosen_pairs, pair_verdicts

ACCURACIES = {"strict": "strict", "tie_tolerant": "tie-tolerant"}
"""Name among a validation's figures to the paper's."""


def judge_names(store: Store) -> dict[str, str]:
    """Return what judges are called, by key; those of equal name with the key's beginning."""
    known = list_judges(store)
    names = [judge.name for judge in known]
    return {
        judge.key: judge.name if names.count(judge.name) == 1 else judge.label for judge in known
    }


def accuracy_table(store: Store) -> pd.DataFrame:
    """Return how judges meet human labels, with Table 7 below.

    Columns: judge, judge_key, data, accuracy ("strict" or "tie-tolerant"), value, low, high
    (percent), n, source. The constant judge, which always ties, has 0 and 100.
    """
    names = judge_names(store)
    lines: list[dict[str, Any]] = []
    for one in list_validations(store):
        for figure, accuracy in ACCURACIES.items():
            found = _figure(one.figures, "judge", figure)
            if found:
                low, high = found.get("ci95") or (None, None)
                lines.append(
                    {
                        "judge": names.get(one.judge_key, one.judge_key[:8]),
                        "judge_key": one.judge_key,
                        "data": one.data,
                        "accuracy": accuracy,
                        "value": found.get("value"),
                        "low": low,
                        "high": high,
                        "n": found.get("n"),
                        "source": MEASURED,
                    }
                )
    lines += [
        {
            "judge": number.model,
            "data": TASKS.get(number.dataset, number.dataset),
            "accuracy": number.method,
            "value": number.value,
            "source": PAPER,
        }
        for number in published(7)
    ]
    columns = ["judge", "judge_key", "data", "accuracy", "value", "low", "high", "n", "source"]
    frame = pd.DataFrame(lines, columns=columns)
    for name in ("value", "low", "high"):
        frame[name] = frame[name].astype(float)
    return frame


def _figure(figures: Mapping[str, Any], *path: str) -> Mapping[str, Any] | None:
    found: Any = figures
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else None


def validation_table(store: Store) -> pd.DataFrame:
    """Return one line per judge and data: accuracies, ties, what it must beat, biases, failings."""
    names = judge_names(store)
    found = [one for one in list_validations(store) if "judge" in one.figures]
    return pd.DataFrame(
        [
            {
                "judge": names.get(one.judge_key, one.judge_key[:8]),
                "data": one.data,
                "pairs": one.figures.get("pairs"),
                "judged": one.figures.get("judged"),
                **{
                    title: _value(one, *path)
                    for title, path in {
                        "strict (%)": ("judge", "strict"),
                        "tie-tolerant (%)": ("judge", "tie_tolerant"),
                        "tie rate (%)": ("judge", "tie_rate"),
                        "ties half (%)": ("judge", "half_ties"),
                        "longest, ties half (%)": ("longest", "half_ties"),
                        "over longest (points)": ("over_longest",),
                        "named the first place (%)": ("first_place_rate",),
                        "same verdict in both orders (%)": ("same_verdict_rate",),
                    }.items()
                },
                "kappa": (_figure(one.figures, "judge") or {}).get("kappa"),
                "excess for longer (points)": (_figure(one.figures, "length") or {}).get("excess"),
                "unparsed (%)": one.figures.get("unparsed_rate"),
                "failings": "; ".join(one.failings),
            }
            for one in found
        ]
    )


def _value(one: Validation, *path: str) -> float | None:
    found = (_figure(one.figures, *path) or {}).get("value")
    return None if found is None else float(found)


def attack_table(store: Store) -> pd.DataFrame:
    """Return how often hostile responses win, by judge and kind of attack; a tie is half a win.

    Columns: judge, judge_key, kind, value, low, high (percent), n, source, row.
    """
    names = judge_names(store)
    lines = []
    for one in list_validations(store):
        attacks = _figure(one.figures, "attacks") or {}
        over_all = attacks.get("hostile_win_rate")
        for kind in [*attacks.get("by_kind", ()), *([over_all] if over_all else ())]:
            low, high = kind.get("ci95") or (None, None)
            judge = names.get(one.judge_key, one.judge_key[:8])
            name = kind["kind"] or "all kinds"
            about = (judge, one.judge_key, name, kind["value"], low, high, kind["n"], MEASURED)
            lines.append((*about, f"{judge} · {name}"))
    columns = ["judge", "judge_key", "kind", "value", "low", "high", "n", "source", "row"]
    return pd.DataFrame(lines, columns=columns)


def control_table(store: Store) -> pd.DataFrame:
    """Return win rates of control entrants beside the model's own: they must be far below.

    Columns: row, task, judge, entrant ("model", "echo", ...), metric, value, low, high, n, source,
    run_id.
    """
    rules = trained_rules(list_trainings(store))
    found, controlled = [], set()
    numbers = Numbers(store)
    for run, stored in stored_scores(store, controls=True):
        control, metric = stored.control, stored.metric
        if metric not in {"win_rate_tie_inclusive", "rating_mean"}:
            continue
        score = numbers.current(run, stored)
        if score.value is None:
            continue
        name, _ = row_name(run, rules)
        judge = score.judge or ""
        key = (run.run_id, score.task, judge, metric)
        if control is not None:
            controlled.add(key)
        low, high = score.ci95 or (None, None)
        found.append(
            (
                key,
                {
                    "row": f"{name.model} · {name.method}",
                    "task": score.task,
                    "judge": judge,
                    "entrant": control or "model",
                    "metric": metric,
                    "value": score.value,
                    "low": low,
                    "high": high,
                    "n": score.n,
                    "source": MEASURED,
                    "run_id": run.run_id,
                },
            )
        )
    return pd.DataFrame([line for key, line in found if key in controlled])


def rating_table(store: Store) -> pd.DataFrame:
    """Return how judges use their scale: judge, judge_key, rating, verdicts, share (0-1).

    Verdicts without a rating are a line of their own whose rating is absent.
    """
    number = sa.func.count().label("verdicts")
    query = sa.select(verdicts.c.judge_key, verdicts.c.rating, number).group_by(
        verdicts.c.judge_key, verdicts.c.rating
    )
    columns = ["judge_key", "rating", "verdicts"]
    with store.read() as connection:
        frame = pd.DataFrame(connection.execute(query).fetchall(), columns=columns)
    names = judge_names(store)
    frame["judge"] = frame["judge_key"].map(names)
    frame["rating"] = frame["rating"].astype("Int64")
    frame["share"] = frame["verdicts"] / frame.groupby("judge_key")["verdicts"].transform("sum")
    columns = ["judge", "judge_key", "rating", "verdicts", "share"]
    return frame[columns].sort_values(["judge", "rating"], ignore_index=True)


def place_table(store: Store) -> pd.DataFrame:
    """Return how choices depend on the places, one line per judge that chooses.

    Columns: judge, judge_key, choices (named a response that is known to have stood first or
    second), first (%, of those, named the one that stood first; 50 is no bias), ties, unread,
    pairs (asked and read in both orders), same (%), flipped (%; named the other response when the
    places were exchanged).
    """
    names = judge_names(store)
    lines = _first_places(store)
    both = _both_orders(store)
    return pd.DataFrame(
        [
            {"judge": names.get(key, key[:8]), "judge_key": key, **line, **both.get(key, _NO_PAIRS)}
            for key, line in sorted(lines.items(), key=lambda pair: names.get(pair[0], ""))
        ]
    )


_NO_PAIRS: dict[str, Any] = {"pairs": 0, "same": None, "flipped": None}


def _first_places(store: Store) -> dict[str, dict[str, Any]]:
    query = sa.select(
        choices.c.judge_key, choices.c.shown_first, choices.c.winner, sa.func.count()
    ).group_by(choices.c.judge_key, choices.c.shown_first, choices.c.winner)
    found: dict[str, dict[str, int]] = {}
    with store.read() as connection:
        for key, shown, winner, count in connection.execute(query):
            line = found.setdefault(key, {"named": 0, "first": 0, "ties": 0, "unread": 0})
            if winner in {"a", "b"} and shown in {"a", "b"}:
                line["named"] += count
                line["first"] += count * (winner == shown)
            line["ties"] += count * (winner == "tie")
            line["unread"] += count * (winner is None)
    return {
        key: {
            "choices": line["named"],
            "first": 100 * line["first"] / line["named"] if line["named"] else None,
            "ties": line["ties"],
            "unread": line["unread"],
        }
        for key, line in found.items()
    }


def _both_orders(store: Store) -> dict[str, dict[str, Any]]:
    found = {}
    for judge in choosers(store):
        said = pair_verdicts(store, judge.key, chosen_pairs(store, [judge.key]))
        both = [one for one in said if one.winner and len(one.choices) == 2]
        if both:
            same = sum(one.choices[0].winner == one.choices[1].winner for one in both)
            flipped = sum(bool(one.flipped) for one in both)
            rates = {"same": 100 * same / len(both), "flipped": 100 * flipped / len(both)}
            found[judge.key] = {"pairs": len(both), **rates}
    return found


def length_table(store: Store) -> pd.DataFrame:
    """Return ratings against the length of responses, by judge and length.

    Columns: judge, judge_key, characters (middle of the bin), start, end, rating (mean, 1-5), low,
    high (95 %, normal), responses. Over a sample of items drawn by their keys, so that every run
    is in it alike; bins hold equally many responses.
    """
    frame = _rated_lengths(store)
    columns = ["judge", "judge_key", "characters", "start", "end", "rating", "low", "high"]
    if frame.empty:
        return pd.DataFrame(columns=[*columns, "responses"])
    names = judge_names(store)
    lines = []
    for key, own in frame.groupby("judge_key"):
        bins = pd.qcut(own["characters"], 8, duplicates="drop") if len(own) > 8 else None
        groups = [("", own)] if bins is None else own.groupby(bins, observed=True)
        for _, part in groups:
            mean, n = part["rating"].mean(), len(part)
            half = 1.96 * part["rating"].std() / n**0.5 if n > 1 else None
            lines.append(
                {
                    "judge": names.get(str(key), str(key)[:8]),
                    "judge_key": key,
                    "characters": part["characters"].mean(),
                    "start": part["characters"].min(),
                    "end": part["characters"].max(),
                    "rating": mean,
                    "low": None if half is None else mean - half,
                    "high": None if half is None else mean + half,
                    "responses": n,
                }
            )
    return pd.DataFrame(lines)


def _rated_lengths(store: Store) -> pd.DataFrame:
    """Return judge_key, characters and mean rating of responses to a sample of the items.

    Both tables are read as ranges of their keys and joined here: over a million verdicts the
    database's own join takes minutes.
    """
    with store.read() as connection:
        total = connection.execute(sa.select(sa.func.sum(runs.c.n_items))).scalar() or 0
        below = drawn_below(int(total))
        texts = sa.select(
            responses.c.item_key, responses.c.text_key, sa.func.length(responses.c.text)
        ).where(
            responses.c.generation_key.in_(sa.select(generations.c.generation_key)),
            responses.c.text.is_not(None),
            *([] if below is None else [responses.c.item_key < below]),
        )
        lengths = pd.DataFrame(
            connection.execute(texts).fetchall(), columns=["item_key", "text_key", "characters"]
        ).drop_duplicates()
        keys = connection.execute(sa.select(judges.c.judge_key)).scalars().all()
        parts = [
            _mean_ratings(connection, key, below).merge(lengths, on=["item_key", "text_key"])
            for key in keys
        ]
    columns = ["judge_key", "characters", "rating"]
    found = [part[columns] for part in parts if len(part)]
    return pd.concat(found) if found else pd.DataFrame(columns=columns)


def _mean_ratings(connection: sa.Connection, judge_key: str, below: str | None) -> pd.DataFrame:
    query = (
        sa.select(verdicts.c.item_key, verdicts.c.text_key, sa.func.avg(verdicts.c.rating))
        .where(
            verdicts.c.judge_key == judge_key,
            verdicts.c.rating.is_not(None),
            *([] if below is None else [verdicts.c.item_key < below]),
        )
        .group_by(verdicts.c.item_key, verdicts.c.text_key)
    )
    rows = [(judge_key, item, text, float(mean)) for item, text, mean in connection.execute(query)]
    return pd.DataFrame(rows, columns=["judge_key", "item_key", "text_key", "rating"])


_SAMPLE = 20_000
"""Rows that a latency or a bias is measured on, at most about."""
_HEX = 16**4


def expense_table(store: Store) -> pd.DataFrame:
    """Return what was asked of every backend and what it took.

    Columns: backend, model, url, calls, failed, prompt_tokens, completion_tokens (as the replies
    told), dollars (by the dated price table; 0 for rules and servers of one's own, absent without
    a price), seconds_median, seconds_95 (over a sample of the calls; absent where nobody measured).
    """
    key = sa.cast(calls.c.backend, sa.Text)
    query = sa.select(
        key,
        sa.func.count(),
        sa.func.sum(sa.case((calls.c.status != "ok", 1), else_=0)),
        sa.func.sum(calls.c.prompt_tokens),
        sa.func.sum(calls.c.completion_tokens),
    ).group_by(key)
    with store.read() as connection:
        rows = connection.execute(query).fetchall()
    seconds = _latencies(store, sum(row[1] for row in rows))
    lines = []
    for backend, count, failed, prompt, completion in rows:
        about = backend_of(backend)
        own = seconds[seconds["backend"] == backend]["seconds"]
        lines.append(
            {
                "backend": about.get("backend", ""),
                "model": about.get("model") or about.get("name") or "",
                "url": about.get("url", ""),
                "calls": count,
                "failed": int(failed),
                "prompt_tokens": None if prompt is None else int(prompt),
                "completion_tokens": None if completion is None else int(completion),
                "dollars": dollars_for(about, prompt, completion),
                "seconds_median": own.median() if len(own) else None,
                "seconds_95": own.quantile(0.95) if len(own) else None,
            }
        )
    return pd.DataFrame(lines).sort_values("calls", ascending=False) if lines else pd.DataFrame()


def backend_of(written: str) -> dict[str, str]:
    """Return a backend as the ledger names it: its kind, model and URL."""
    read = json.loads(written)
    return {name: str(value) for name, value in read.items()} if isinstance(read, dict) else {}


def dollars_for(
    about: Mapping[str, str], prompt: int | None, completion: int | None
) -> float | None:
    """Return what tokens cost one by one; None where price or tokens are not known."""
    urls = [url for url in about.get("url", "").split(",") if url]
    if about.get("backend") not in {"openai", "gemini"} or (urls and all(map(is_private, urls))):
        return 0.0
    price = load_prices().find(about.get("model", ""))
    if price is None or prompt is None or completion is None:
        return None
    return price.cost(int(prompt), int(completion))


def _latencies(store: Store, total: int) -> pd.DataFrame:
    drawn = drawn_below(total)
    query = sa.select(sa.cast(calls.c.backend, sa.Text), calls.c.seconds).where(
        calls.c.seconds.is_not(None), *([] if drawn is None else [calls.c.call_key < drawn])
    )
    with store.read() as connection:
        rows: Sequence[Any] = connection.execute(query).fetchall()
    return pd.DataFrame(rows, columns=["backend", "seconds"])


def drawn_below(total: int) -> str | None:
    """Return the key below which a sample of about `_SAMPLE` of `total` rows lies; None: all."""
    if total <= _SAMPLE:
        return None
    return f"{max(1, _HEX * _SAMPLE // total):04x}"


def of_ratings(store: Store) -> dict[str, str]:
    """Return, by judge key, where to read ratings of a judge: in the latest run it has rated.

    A judge that rated no response of a run is not there.
    """
    known = {run.run_id: run for run in list_runs(store)}
    found = {}
    with store.read() as connection:
        for judge in list_judges(store):
            run_id = connection.execute(_latest_rated(judge.key)).scalar()
            if run_id is not None:
                found[judge.key] = address("pairs", a=run_name(known[run_id]), by=judge.label)
    return found


def _latest_rated(judge: str) -> sa.Select[Any]:
    # The join begins with the run's items, so that each look-up is one by key.
    rated = (
        sa.select(sa.literal(1))
        .select_from(item_lists)
        .join(
            responses,
            (responses.c.generation_key == runs.c.generation_key)
            & (responses.c.item_key == item_lists.c.item_key),
        )
        .join(
            verdicts,
            (verdicts.c.judge_key == judge)
            & (verdicts.c.item_key == responses.c.item_key)
            & (verdicts.c.text_key == responses.c.text_key),
        )
        .where(item_lists.c.list_key == runs.c.list_key)
        .correlate(runs)
    )
    latest = sa.select(runs.c.run_id).where(rated.exists())
    return latest.order_by(runs.c.created_at.desc(), runs.c.run_id).limit(1)


def of_choices(store: Store) -> dict[str, str]:
    """Return, by judge key, where to read choices of a judge: between the runs of one of them.

    A judge that chose between no run's responses is not there.
    """
    known = list_runs(store)
    found = {}
    for judge in list_judges(store):
        pair = _compared(store, judge, known)
        if pair is not None:
            first, second = pair
            found[judge.key] = address(
                "pairs",
                a=run_name(first),
                b=run_name(second) if second else None,
                by=judge.label,
            )
    return found


def _compared(
    store: Store, judge: StoredJudge, known: Sequence[Run]
) -> tuple[Run, Run | None] | None:
    """Return the latest runs with the texts of a choice; None for a side that is no run's."""
    query = sa.select(choices.c.item_key, choices.c.text_key_a, choices.c.text_key_b)
    with store.read() as connection:
        row = connection.execute(query.where(choices.c.judge_key == judge.key).limit(1)).first()
        if row is None:
            return None
        said = sa.select(responses.c.generation_key, responses.c.text_key).where(
            responses.c.generation_key.in_({run.generation_key for run in known}),
            responses.c.item_key == row.item_key,
        )
        texts = {generation: text for generation, text in connection.execute(said)}
    sides = [
        next((run for run in known if texts.get(run.generation_key) == text), None)
        for text in (row.text_key_a, row.text_key_b)
    ]
    first, second = sides if sides[0] else sides[::-1]
    return None if first is None else (first, second)
