"""Judges: validation (Table 7), place and length bias, ratings, attacks, controls, cost."""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import pandas as pd
import sqlalchemy as sa

from mipo_eval.backends.addresses import is_private
from mipo_eval.backends.prices import load_prices
from mipo_eval.controls import control_of
from mipo_eval.dashboards.plots import colour_by
from mipo_eval.dashboards.scored import MEASURED, PAPER
from mipo_eval.reports.catalog import list_judges, row_name, stored_scores
from mipo_eval.reports.paper import TASKS, published
from mipo_eval.reports.trained import trained_rules
from mipo_eval.signature import split
from mipo_eval.store import Store
from mipo_eval.store.tables import calls, choices, responses, runs, verdicts
from mipo_eval.store.trainings import list_trainings
from mipo_eval.store.validations import Validation, list_validations

ACCURACIES = {"strict": "strict", "tie_tolerant": "tie-tolerant"}
"""Name among a validation's figures to the paper's."""
_SAMPLE = 20_000
"""Responses (or calls) that a bias or a latency is measured on, at most about."""
_HEX = 16**4


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
    return frame.sort_values(["judge", "rating"], ignore_index=True)


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
    one, other = choices.alias(), choices.alias()
    same = sa.func.sum(sa.case((one.c.winner == other.c.winner, 1), else_=0))
    named = one.c.winner.in_(["a", "b"]) & other.c.winner.in_(["a", "b"])
    flipped = sa.func.sum(sa.case((named & (one.c.winner != other.c.winner), 1), else_=0))
    matched = [
        one.c[name] == other.c[name]
        for name in ("judge_key", "item_key", "text_key_a", "text_key_b")
    ]
    query = (
        sa.select(one.c.judge_key, sa.func.count(), same, flipped)
        .join(other, sa.and_(*matched, other.c.shown_first == "b"))
        .where(one.c.shown_first == "a", one.c.winner.is_not(None), other.c.winner.is_not(None))
        .group_by(one.c.judge_key)
    )
    with store.read() as connection:
        return {
            key: {"pairs": n, "same": 100 * int(s) / n, "flipped": 100 * int(f) / n}
            for key, n, s, f in connection.execute(query)
        }


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
    """Return judge_key, characters and mean rating of responses to a sample of the items."""
    with store.read() as connection:
        total = connection.execute(sa.select(sa.func.sum(runs.c.n_items))).scalar() or 0
        drawn = _drawn(total)
        query = (
            sa.select(
                verdicts.c.judge_key,
                sa.func.min(sa.func.length(responses.c.text)),
                sa.func.avg(verdicts.c.rating),
            )
            .select_from(responses)
            .join(
                verdicts,
                (verdicts.c.item_key == responses.c.item_key)
                & (verdicts.c.text_key == responses.c.text_key),
            )
            .where(
                responses.c.text.is_not(None),
                verdicts.c.rating.is_not(None),
                verdicts.c.judge_key.in_(sa.select(verdicts.c.judge_key).distinct()),
                *([] if drawn is None else [responses.c.item_key < drawn]),
            )
            .group_by(verdicts.c.judge_key, verdicts.c.item_key, verdicts.c.text_key)
        )
        rows = [(key, int(n), float(mean)) for key, n, mean in connection.execute(query)]
    return pd.DataFrame(rows, columns=["judge_key", "characters", "rating"])


def _drawn(total: int) -> str | None:
    """Return the key below which a sample of about `_SAMPLE` of `total` rows lies; None: all."""
    if total <= _SAMPLE:
        return None
    return f"{max(1, _HEX * _SAMPLE // total):04x}"


def control_table(store: Store) -> pd.DataFrame:
    """Return win rates of control entrants beside the model's own: they must be far below.

    Columns: row, task, judge, entrant ("model", "echo", ...), metric, value, low, high, n, source,
    run_id.
    """
    rules = trained_rules(list_trainings(store))
    found, controlled = [], set()
    for run, score in stored_scores(store):
        control, metric = control_of(score.metric)
        if metric not in {"win_rate_tie_inclusive", "rating_mean"} or score.value is None:
            continue
        name, _ = row_name(run, rules)
        judge = split(score.signature).get("judge", "")
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
        about = _backend(backend)
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
                "dollars": _dollars(about, prompt, completion),
                "seconds_median": own.median() if len(own) else None,
                "seconds_95": own.quantile(0.95) if len(own) else None,
            }
        )
    return pd.DataFrame(lines).sort_values("calls", ascending=False) if lines else pd.DataFrame()


def _backend(written: str) -> dict[str, str]:
    import json

    read = json.loads(written)
    return {name: str(value) for name, value in read.items()} if isinstance(read, dict) else {}


def _dollars(about: Mapping[str, str], prompt: int | None, completion: int | None) -> float | None:
    """Return what tokens cost one by one; None where price or tokens are not known."""
    urls = [url for url in about.get("url", "").split(",") if url]
    if about.get("backend") not in {"openai", "gemini"} or (urls and all(map(is_private, urls))):
        return 0.0
    price = load_prices().find(about.get("model", ""))
    if price is None or prompt is None or completion is None:
        return None
    return price.cost(int(prompt), int(completion))


def _latencies(store: Store, total: int) -> pd.DataFrame:
    drawn = _drawn(total)
    query = sa.select(sa.cast(calls.c.backend, sa.Text), calls.c.seconds).where(
        calls.c.seconds.is_not(None), *([] if drawn is None else [calls.c.call_key < drawn])
    )
    with store.read() as connection:
        rows: Sequence[Any] = connection.execute(query).fetchall()
    return pd.DataFrame(rows, columns=["backend", "seconds"])


def rating_plot(frame: pd.DataFrame) -> alt.Chart:
    """Return the share of each rating by judge."""
    shown = frame[frame["rating"].notna()]
    plot: alt.Chart = (
        alt.Chart(shown)
        .mark_bar()
        .encode(
            x=alt.X("rating:O", title="rating (1-5)", axis=alt.Axis(labelAngle=0)),
            xOffset=alt.XOffset("judge:N"),
            y=alt.Y("share:Q", title="share of verdicts (0-1)"),
            color=colour_by(shown, "judge"),
            tooltip=["judge:N", "rating:O", "verdicts:Q", alt.Tooltip("share:Q", format=".3f")],
        )
        .properties(height=260)
    )
    return plot


def length_plot(frame: pd.DataFrame) -> alt.LayerChart:
    """Return mean ratings by the length of responses, a line a judge, with 95 % intervals."""
    base = alt.Chart(frame).encode(
        x=alt.X("characters:Q", title="length of the response (characters)"),
        color=colour_by(frame, "judge"),
    )
    scale = alt.Scale(zero=False)
    bars = base.mark_rule(opacity=0.6).encode(
        y=alt.Y("low:Q", title="mean rating (1-5)", scale=scale), y2="high:Q"
    )
    y = alt.Y("rating:Q", title="mean rating (1-5)", scale=scale)
    lines = base.mark_line().encode(y=y)
    dots = base.mark_point(filled=True, size=60, opacity=1).encode(
        y=y,
        tooltip=[
            "judge:N",
            alt.Tooltip("start:Q", title="from (characters)"),
            alt.Tooltip("end:Q", title="to (characters)"),
            alt.Tooltip("rating:Q", format=".2f"),
            "responses:Q",
        ],
    )
    return alt.LayerChart(layer=[bars, lines, dots]).properties(height=260)
